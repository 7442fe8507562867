# Steps of .ci/run: named, timed, and some beside others. Source it; `finish` prints the times, also of what failed.

# A process keeps the names and the beginnings of its own steps: the script's, and each one's in the background.
names=()
starts=()
declare -A pids=()
kept=$(mktemp -d)

say() {  # say NAME: here begins a step
    names+=("$*")
    starts+=("$SECONDS")
    printf '\n== %s\n' "$*"
}

times() {  # the seconds of each step of this process, the present one included
    local i
    starts+=("$SECONDS")
    for ((i = 0; i < ${#names[@]}; i++)); do
        printf '%6d  %s\n' "$((starts[i + 1] - starts[i]))" "${names[i]}"
    done
}

beside() {  # beside FUNCTION: run it in the background; its words are kept until `join`
    local name=$1
    : >"$kept/$name.log"
    set -m  # in a process group of its own, for `finish`
    (
        set +m
        names=()
        starts=()
        trap 'times >"$kept/$name.times"' EXIT
        "$name"
    ) >"$kept/$name.log" 2>&1 </dev/null &
    pids[$name]=$!
    set +m
}

join() {  # join FUNCTION...: wait for them, print their words, and fail if one of them failed
    local name failed=""
    for name in "$@"; do
        wait "${pids[$name]}" || failed+=" $name"
        unset "pids[$name]"
        cat "$kept/$name.log"
    done
    [ -z "$failed" ] || printf '\n== failed:%s\n' "$failed"
    [ -z "$failed" ]
}

finish() {  # end what is still in the background, and print the seconds of every step
    local name
    set +e
    for name in "${!pids[@]}"; do
        kill -- "-${pids[$name]}" 2>/dev/null
        wait "${pids[$name]}" 2>/dev/null
        printf '\n== ended before its time: %s; its last words:\n' "$name"
        tail -n 20 "$kept/$name.log"
    done
    printf '\n== seconds by step\n'
    times
    for name in "$kept"/*.times; do
        [ -e "$name" ] || continue
        printf '        beside others, %s:\n' "$(basename "$name" .times)"
        cat "$name"
    done
    printf '%6d  all\n' "$SECONDS"
    rm -rf "$kept"
}
