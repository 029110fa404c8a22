# For what only takes time: runs beside tests that wait for servers, when these leave a processor idle.

aside_logs=$(mktemp -d)
aside_running=""
trap 'kill $aside_running 2>/dev/null || true; rm -rf "$aside_logs"' EXIT

# Begins a command at the lowest priority. Its output is kept until it is awaited.
aside() { # name, command...
    local name=$1 lowest=(nice -n 19)
    shift
    if chrt --idle 0 true 2>/dev/null; then lowest=(chrt --idle 0); fi
    "${lowest[@]}" "$@" >"$aside_logs/$name" 2>&1 &
    aside_running="$aside_running $!"
    printf -v "aside_$name" %s "$!"
}

# Waits for its end, shows what it wrote, and fails if it failed.
await() { # name
    local process=aside_$1 outcome=0
    wait "${!process}" || outcome=$?
    aside_running=${aside_running/ ${!process}/}
    cat "$aside_logs/$1" >&2
    return "$outcome"
}
