#!/bin/bash
# SPDX-License-Identifier: MIT
# `ouro run`: the program is reached, stays itself, and what cannot be reached is refused.
set -u
cd "$(dirname "$0")/.." || exit 2
. tests/tap.sh

ouro=$build/ouro
unset OURO_ENGINE LD_PRELOAD

# status WANTED COMMAND...
status()
{
    tap_wanted=$1
    shift
    "$@"
    tap_got=$?
    [ "$tap_got" = "$tap_wanted" ] || { echo "status $tap_got"; return 1; }
}

# says TEXT STATUS COMMAND...: its errors hold the text.
says()
{
    tap_text=$1 tap_wanted=$2
    shift 2
    "$@" 2>"$tmp/err" >/dev/null
    tap_got=$?
    cat "$tmp/err"
    [ "$tap_got" = "$tap_wanted" ] && grep -q -- "$tap_text" "$tmp/err"
}

preloaded()
{
    "$ouro" run "$@" env | grep '^LD_PRELOAD=' | grep -q "$tap_like"
}

check "the program's exit status is the command's" status 42 "$ouro" run -- sh -c 'exit 42'
check "a signal that ends the program ends the command" status 143 \
    sh -c "$ouro run sh -c 'kill \$\$'"
tap_like='/libouro-posixaio.so$'
check "the drop-in is preloaded" preloaded
tap_like='/libouro-posixaio.so:/lib/other.so$'
check "what is preloaded already stays" env LD_PRELOAD=/lib/other.so bash -c \
    "'$ouro' run env 2>/dev/null | grep '^LD_PRELOAD=' | grep -q '$tap_like'"
check "options behind the program are its own" status 0 \
    sh -c "$ouro run echo --engine=none | grep -qx -- --engine=none"
check "the engine is chosen" sh -c "$ouro run --engine=epoll env | grep -qx OURO_ENGINE=epoll"
check "an unknown engine is refused" says "no engine 'none'" 2 "$ouro" run --engine=none true
check "a program is wanted" says PROGRAM 2 "$ouro" run
check "a program that is not there: 127" says "no such program" 127 "$ouro" run "$tmp/none"
check "nor in the path: 127" says "no such program" 127 "$ouro" run no-such-program-anywhere
echo text >"$tmp/text"
check "a file that is no program: 126" says "ermission denied" 126 "$ouro" run "$tmp/text"
printf '#!/bin/sh\nexit 7\n' >"$tmp/script"
chmod +x "$tmp/script"
check "scripts run" status 7 "$ouro" run "$tmp/script"
echo 'int main(void) { return 5; }' >"$tmp/static.c"
cc -static -o "$tmp/static" "$tmp/static.c" || exit 2
check "a static program is refused" says "statically linked" 1 "$ouro" run "$tmp/static"
cp /bin/true "$tmp/other"
chown nobody "$tmp/other"
chmod u+s "$tmp/other"
check "a setuid program is refused" says "another user's rights" 1 "$ouro" run "$tmp/other"

# A test that fails with glibc tells whose functions were called.
better=p5_offsets_count_where_there_is_a_position
check "POSIX AIO is ours" status 0 "$ouro" run "$build/tests/aio_test" $better
check "POSIX AIO is the system's without ouro run" status 1 "$build/tests/aio_test" $better
check "and with OURO_DISABLE=1" \
    status 1 env OURO_DISABLE=1 "$ouro" run "$build/tests/aio_test" $better

# Engines that are the system's own AIO underneath: posixaio is found in the C library itself, so it
# meets neither the drop-in nor itself. What is asked for tells whose engine it was.
can_have()
{
    "$ouro" info | grep -qE "^ +$1 +available"
}

# runs ENGINE TEST...: each passes, on that engine.
runs()
{
    tap_engine=$1
    shift
    for tap_name; do
        rm -f "$tmp/trace"
        OURO_TRACE=$tmp/trace "$ouro" run --engine="$tap_engine" "$build/tests/aio_test" \
            "$tap_name" || return
        grep -q " $tap_engine begin " "$tmp/trace" || { echo "not by $tap_engine"; return 1; }
    done
}

for engine in kaio posixaio epoll; do
    can_have $engine || { echo "# there is no $engine here"; continue; }
    check "the drop-in runs on $engine" runs $engine \
        p15_requests_on_one_file_run_beside_each_other p16_appends_come_in_order \
        p17_a_stream_reads_in_order_beside_its_writes p18_a_sync_waits_for_what_was_before_it \
        p31_cancelled_requests_are_over_when_cancel_returns p40_lists_are_long \
        p46_a_child_has_requests_of_its_own p52_many_threads_at_once
done

# OURO_DISABLE=1 is all of it: the oldest lio_listio is another function, glibc starts a thread for
# each call, and nothing of ours is opened.
disabled()
{
    rm -f "$tmp/trace"
    OURO_DISABLE=1 OURO_TRACE=$tmp/trace "$ouro" run "$build/tests/aio_test" --glibc "$1" &&
        [ ! -e "$tmp/trace" ]
}
for test in p9_a_block_may_change_once_it_is_submitted p13_short_transfers_are_told_as_they_are \
    p18_a_sync_waits_for_what_was_before_it p30_cancel_of_what_is_not_there \
    p41_one_that_fails_stops_no_other p44_the_oldest_lio_listio_tells_of_no_single_request \
    p51_a_hint_is_taken p56_a_thread_that_is_there_is_called_without_allocating; do
    check "with OURO_DISABLE=1 it is glibc: $test" disabled $test
done

# In somebody else's process.
silent()
{
    "$ouro" run "$@" >"$tmp/out" 2>"$tmp/err"
    ! grep -vE '^(ok 1 - |1\.\.1$)' "$tmp/out" && [ ! -s "$tmp/err" ]
}
check "nothing is printed" silent "$build/tests/aio_test" p52_many_threads_at_once
check "nor where io_uring is refused" silent "$build/tests/aio_test" --blocked \
    p52_many_threads_at_once

# One process (no pipe, no subshell): its descriptors and threads, as it starts.
# shellcheck disable=SC2016
look='set -- /proc/self/fd/* /proc/self/task/*; echo $#'
untouched()
{
    [ "$("$ouro" run bash -c "$look")" = "$(bash -c "$look")" ]
}
check "who never asks gets no descriptor and no thread" untouched

# What is installed finds what is installed with it.
install_tree
check "the installed command finds the installed drop-in" \
    sh -c "$tmp/root$prefix/bin/ouro run env |
        grep -q '^LD_PRELOAD=$tmp/root$prefix/.*/libouro-posixaio.so'"
done_
