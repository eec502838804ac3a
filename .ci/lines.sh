#!/usr/bin/env bash
# Runs suites in lines beside each other: `.ci/lines.sh 2 lib dst , 2 faults / 3 admin cli`. A `/` begins another line, a `,` the
# next group of a line, which begins with how many tests of a suite run at once, 0 for as many as there are processors.
# All run, whatever fails; what failed is said again at the end. The first line is shown as it goes on, the others after it.
set -u
cd "$(dirname "$0")/.."

run() { # line
    local word threads=1 suites=() status=0
    for word in $1 ,; do
        case $word in
        ,)
            [ "$threads" = 0 ] && unset RUST_TEST_THREADS || export RUST_TEST_THREADS=$threads
            cargo test --workspace --no-fail-fast "${suites[@]}" || status=1
            suites=()
            ;;
        [0-9]*) threads=$word ;;
        lib | bins) suites+=("--$word") ;;
        *) suites+=(--test "$word") ;;
        esac
    done
    return $status
}

lines=() line=
for word in "$@" /; do
    if [ "$word" = / ]; then
        lines+=("$line")
        line=
    else
        line+=" $word"
    fi
done

export CARGO_TERM_COLOR=never
mkdir -p target/lines
rm -f target/lines/*.log
beside=() logs=()
# Each line is a group of processes, so that whoever interrupts this ends all of them.
trap 'for process in ${beside[@]+"${beside[@]}"}; do kill -- "-$process" 2>/dev/null; done' EXIT
trap 'exit 130' INT TERM
set -m
for ((number = 1; number < ${#lines[@]}; number++)); do
    run "${lines[$number]}" </dev/null >"target/lines/$number.log" 2>&1 &
    beside+=($!)
    logs+=("target/lines/$number.log")
done
set +m
run "${lines[0]}" 2>&1 | tee target/lines/0.log
status=${PIPESTATUS[0]}
for process in ${beside[@]+"${beside[@]}"}; do
    wait "$process" || status=1
done
for log in ${logs[@]+"${logs[@]}"}; do
    cat "$log"
done
if [ "$status" != 0 ]; then
    grep -ahE "^error" target/lines/*.log
    grep -ahE -A3 "^thread '.*' .*panicked at" target/lines/*.log
fi
exit "$status"
