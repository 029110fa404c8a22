# Parts of a suite, of which each is played whatever became of those before.

parts_failed=()

# Plays one and remembers whether it failed.
part() { # what it is, command...
    local what=$1
    shift
    say "$what"
    if ! "$@"; then
        parts_failed+=("$what")
        say "FAILED: $what"
    fi
}

# Names the parts that failed, and fails if there are any.
summary() {
    if [ ${#parts_failed[@]} -eq 0 ]; then
        say "every part passed"
        return
    fi
    say "these failed, see \"test result: FAILED\" and what stands above it; scripts/test plays a part alone"
    printf '   %s\n' "${parts_failed[@]}" >&2
    return 1
}
