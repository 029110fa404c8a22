# For what only takes time: runs beside tests that wait for servers, when these leave a processor idle.

aside_logs=$(mktemp -d)
declare -A aside_runs
trap 'kill "${aside_runs[@]}" 2>/dev/null || true; rm -rf "$aside_logs"' EXIT

# Begins a command at the lowest priority. Its output is kept until it is awaited.
aside() { # name, command...
    local name=$1 lowest=(nice -n 19)
    shift
    if chrt --idle 0 true 2>/dev/null; then lowest=(chrt --idle 0); fi
    "${lowest[@]}" "$@" >"$aside_logs/$name" 2>&1 &
    aside_runs[$name]=$!
}

# Waits for its end, shows what it wrote, and fails if it failed.
await() { # name
    local outcome=0
    wait "${aside_runs[$1]}" || outcome=$?
    unset "aside_runs[$1]"
    cat "$aside_logs/$1" >&2
    return "$outcome"
}
