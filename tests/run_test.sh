#!/bin/bash
# SPDX-License-Identifier: MIT
# `ouro run`: the program is reached, stays itself, and what cannot be reached is refused.
set -u
cd "$(dirname "$0")/.." || exit 2
. tests/tap.sh

ouro=$build/ouro
unset OURO_ENGINE OURO_STATS_FILE LD_PRELOAD

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
tap_like='/libouro-posixaio.so:.*/libouro-libaio.so$'
check "both drop-ins are preloaded" preloaded
tap_like='/libouro-libaio.so:/lib/other.so$'
check "what is preloaded already stays" env LD_PRELOAD=/lib/other.so bash -c \
    "'$ouro' run env 2>/dev/null | grep '^LD_PRELOAD=' | grep -q '$tap_like'"
check "options behind the program are its own" status 0 \
    sh -c "$ouro run echo --engine=none | grep -qx -- --engine=none"
check "the engine is chosen" sh -c "$ouro run --engine=epoll env | grep -qx OURO_ENGINE=epoll"
check "an engine that nobody knows, in the environment, stops no request" \
    env OURO_ENGINE=none LD_PRELOAD="$build/libouro-posixaio.so" \
    "$build/tests/aio_test" p7_errors_and_the_end_come_by_aio_error
check "an engine that cannot be had is refused, and why" says "io_uring_setup failed with EPERM" 1 \
    tests/blocked 1 "$ouro" run --engine=uring true
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

# runs PROGRAM ENGINE TEST...: each passes, on that engine. Files of libaio's requests are held by a
# thread with descriptors of its own, where posixaio's would be the C library's threads': it is on
# threads there.
runs()
{
    tap_program=$1 tap_engine=$2 tap_seen=$2
    [ "$1 $2" != "libaio_test posixaio" ] || tap_seen=threads
    shift 2
    for tap_name; do
        rm -f "$tmp/trace"
        OURO_TRACE=$tmp/trace "$ouro" run --engine="$tap_engine" "$build/tests/$tap_program" \
            "$tap_name" || return
        grep -q " $tap_seen begin " "$tmp/trace" || { echo "not by $tap_seen"; return 1; }
    done
}

# runs_on PROGRAM ENGINE TEST...: where there is such an engine.
runs_on()
{
    if can_have "$2"; then
        check "$1: the drop-in runs on $2" runs "$@"
    else
        skip "$1: the drop-in runs on $2" "there is no $2 here"
    fi
}

# Without libaio's header its tests are a program that passes whatever it is asked for.
has_libaio_test()
{
    ! "$build/tests/libaio_test" none | grep -q SKIP
}

for engine in kaio posixaio epoll; do
    runs_on aio_test $engine \
        p15_requests_on_one_file_run_beside_each_other p16_appends_come_in_order \
        p17_a_stream_reads_in_order_beside_its_writes p18_a_sync_waits_for_what_was_before_it \
        p31_cancelled_requests_are_over_when_cancel_returns p40_lists_are_long \
        p46_a_child_has_requests_of_its_own p52_many_threads_at_once
    if has_libaio_test; then
        runs_on libaio_test $engine l15_a_read_of_a_pipe_is_waited_for_behind_io_submit \
            l15_what_waits_holds_up_nothing l16_appended_writes_keep_their_order \
            l16_writes_into_a_stream_keep_their_order l35_writes_and_syncs_are_all_done \
            l24_a_pipe_that_is_waited_for_tells_by_eventfd \
            l31_what_waits_for_a_pipe_is_the_parents l32_what_waits_for_a_pipe_survives_its_thread
    else
        skip "libaio_test: the drop-in runs on $engine" "libaio.h is not installed"
    fi
done

# Both in one process, which have a loop each.
both()
{
    timeout 60 "$ouro" run "$@" "$build/tests/both_test"
}
if has_libaio_test; then
    check "POSIX AIO and libaio work together" both
    for engine in kaio posixaio epoll threads; do
        if can_have $engine; then
            check "together on $engine" both --engine=$engine
        else
            skip "together on $engine" "there is no $engine here"
        fi
    done
else
    skip "POSIX AIO and libaio work together" "libaio.h is not installed"
fi

# OURO_DISABLE=1 is all of it: the oldest lio_listio is another function, glibc starts a thread for
# each call, and nothing of ours is opened.
disabled()
{
    rm -f "$tmp/trace"
    OURO_DISABLE=1 OURO_TRACE=$tmp/trace "$ouro" run "$build/tests/$1" --original "$2" &&
        [ ! -e "$tmp/trace" ]
}
for test in p13_short_transfers_are_told_as_they_are \
    p18_a_sync_waits_for_what_was_before_it p30_cancel_of_what_is_not_there \
    p41_one_that_fails_stops_no_other p44_the_oldest_lio_listio_tells_of_no_single_request \
    p51_a_hint_is_taken p56_a_thread_that_is_there_is_called_without_allocating; do
    check "with OURO_DISABLE=1 it is glibc: $test" disabled aio_test $test
done
# Those that are better wait in the kernel's io_submit, and are ended after 2 seconds each.
for test in l01_the_old_prototypes_work l09_up_to_the_first_that_is_bad \
    l14_a_pipe_is_not_waited_for l23_errno_is_never_changed l28_io_queue_run_calls_back \
    l31_a_child_has_no_contexts_but_its_own; do
    if has_libaio_test; then
        check "with OURO_DISABLE=1 it is the kernel: $test" disabled libaio_test $test
    else
        skip "with OURO_DISABLE=1 it is the kernel: $test" "libaio.h is not installed"
    fi
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
check "nor for an engine that nobody knows" silent env OURO_ENGINE=none "$build/tests/aio_test" \
    p52_many_threads_at_once
if has_libaio_test; then
    libaio=l15_a_read_of_a_pipe_is_waited_for_behind_io_submit
    check "libaio: nothing is printed" silent "$build/tests/libaio_test" $libaio
    check "libaio: nor where io_uring is refused" silent "$build/tests/libaio_test" --blocked \
        $libaio
    check "libaio: nor for an engine that nobody knows" silent env OURO_ENGINE=none \
        "$build/tests/libaio_test" $libaio
else
    skip "libaio: nothing is printed" "libaio.h is not installed"
fi

# One process (no pipe, no subshell): its descriptors and threads, as it starts.
# shellcheck disable=SC2016
look='set -- /proc/self/fd/* /proc/self/task/*; echo $#'
untouched()
{
    [ "$("$ouro" run bash -c "$look")" = "$(bash -c "$look")" ]
}
check "who never asks gets no descriptor and no thread" untouched

# --stats: a program whose numbers are known.
cat >"$tmp/known.c" <<'END'
#include <aio.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static char data[16][8192];
static int called;

static struct aiocb make(int i, int fd, size_t bytes, off_t offset)
{
    struct aiocb block;

    memset(&block, 0, sizeof(block));
    block.aio_fildes = fd;
    block.aio_buf = data[i];
    block.aio_nbytes = bytes;
    block.aio_offset = offset;
    block.aio_sigevent.sigev_notify = SIGEV_NONE;
    block.aio_lio_opcode = LIO_READ;
    return block;
}

static void need(int holds)
{
    if (!holds)
        _exit(99);
}

static int wait_for(struct aiocb *block)
{
    const struct aiocb *list[1] = { block };

    while (aio_error(block) == EINPROGRESS)
        aio_suspend(list, 1, NULL);
    return aio_error(block);
}

static void call(union sigval value)
{
    __atomic_store_n((int *)value.sival_ptr, 1, __ATOMIC_RELEASE);
}

/* 7 reads of a pipe, of which one is cancelled. */
static void streams(void)
{
    struct aiocb block[7];
    int fd[2];

    need(pipe(fd) == 0);
    for (int i = 0; i < 7; i++) {
        block[i] = make(i, fd[0], 100, 0);
        need(aio_read(&block[i]) == 0);
    }
    need(aio_cancel(fd[0], &block[6]) == AIO_CANCELED);
    need(write(fd[1], data, 600) == 600);
    for (int i = 0; i < 6; i++)
        need(wait_for(&block[i]) == 0);
}

/* 2 writes, 7 reads of which one is short and one fails, 1 fsync; 3 in a list; told of 2. */
static void files(void)
{
    char path[] = "known-XXXXXX";
    int fd = mkstemp(path);
    struct aiocb block[16], *list[3];
    sigset_t set;

    need(fd >= 0 && unlink(path) == 0);
    for (int i = 0; i < 2; i++) {
        block[i] = make(i, fd, 4096, i * 4096);
        need(aio_write(&block[i]) == 0 && wait_for(&block[i]) == 0);
    }
    block[2] = make(2, fd, 8192, 4096);
    need(aio_read(&block[2]) == 0 && wait_for(&block[2]) == 0);
    block[3] = make(3, 999, 1, 0);
    need(aio_read(&block[3]) == 0 && wait_for(&block[3]) == EBADF);
    block[4] = make(4, fd, 0, 0);
    need(aio_fsync(O_SYNC, &block[4]) == 0 && wait_for(&block[4]) == 0);
    for (int i = 0; i < 3; i++) {
        block[5 + i] = make(5 + i, fd, 1, i);
        list[i] = &block[5 + i];
    }
    need(lio_listio(LIO_WAIT, list, 3, NULL) == 0);
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &set, NULL);
    block[8] = make(8, fd, 1, 0);
    block[8].aio_sigevent.sigev_notify = SIGEV_SIGNAL;
    block[8].aio_sigevent.sigev_signo = SIGRTMIN;
    need(aio_read(&block[8]) == 0 && sigwaitinfo(&set, NULL) == SIGRTMIN);
    block[9] = make(9, fd, 1, 0);
    block[9].aio_sigevent.sigev_notify = SIGEV_THREAD;
    block[9].aio_sigevent.sigev_notify_function = call;
    block[9].aio_sigevent.sigev_value.sival_ptr = &called;
    need(aio_read(&block[9]) == 0);
    while (!__atomic_load_n(&called, __ATOMIC_ACQUIRE))
        usleep(1000);
}

/* One read in the child and one in the parent; neither ends by exit. */
static void processes(void)
{
    struct aiocb block = make(0, open("/dev/zero", O_RDONLY), 10, 0);
    pid_t child = fork();
    int status;

    need(aio_read(&block) == 0 && wait_for(&block) == 0);
    if (!child)
        _exit(0);
    need(waitpid(child, &status, 0) == child && status == 0);
    kill(getpid(), SIGKILL);
}

/* Threads of ours: the one that drives, and one for each notification that takes time. */
static int threads(void)
{
    FILE *list = popen("grep -sxhE 'ouro-(aio|call)' /proc/$PPID/task/*/comm | wc -l", "r");
    int count = 0;

    need(list && fscanf(list, "%d", &count) == 1);
    pclose(list);
    return count;
}

/* A signal for which there never is room. */
static int dropped(void)
{
    struct aiocb block = make(0, open("/dev/zero", O_RDONLY), 10, 0);
    struct rlimit none = { 0, 0 };
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &set, NULL);
    setrlimit(RLIMIT_SIGPENDING, &none);
    block.aio_sigevent.sigev_notify = SIGEV_SIGNAL;
    block.aio_sigevent.sigev_signo = SIGRTMIN;
    need(aio_read(&block) == 0 && wait_for(&block) == 0);
    while (threads() < 2)
        usleep(1000);
    while (threads() > 1)
        usleep(100 * 1000);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "dropped") == 0)
        return dropped();
    if (argc > 1)
        processes();
    streams();
    files();
    need(write(1, "done\n", 5) == 5);
    return 3;
}
END
cc -D_GNU_SOURCE -o "$tmp/known" "$tmp/known.c" -lpthread || exit 2

# counted STATUS EXPRESSION COMMAND...: the JSON on standard error holds it; p is POSIX AIO's part.
cat >"$tmp/holds.py" <<'END'
import json, sys
doc = json.load(sys.stdin)
assert doc['schema'] == 1 and doc['seconds'] >= 0 and doc['dropins_of_another_version'] == 0, doc
(p,) = [part for part in doc['interfaces'] if part['name'] == 'posix_aio']
kinds = p['requests']
requests = kinds['read'] + kinds['write'] + kinds['fsync']
latency = [p['latency_ns'][name] for name in ('p50', 'p90', 'p99', 'p999', 'max')]
assert sum(p['results'].values()) + kinds['not_ended'] == requests, p
assert sum(p['ended_by'].values()) == requests - kinds['not_ended'], p
assert sum(size['requests'] for size in p['sizes']) == kinds['read'] + kinds['write'], p
assert latency == sorted(latency), p
assert eval('(' + sys.argv[1] + ')'), (sys.argv[1], doc)
END
counted()
{
    tap_status=$1 tap_holds=$2
    shift 2
    (cd "$tmp" && timeout 30 "$@" 2>err >out)
    tap_got=$?
    cat "$tmp/err"
    [ "$tap_got" = "$tap_status" ] || { echo "status $tap_got"; return 1; }
    python3 "$tmp/holds.py" "$tap_holds" <"$tmp/err"
}

known="kinds == {'read': 14, 'write': 2, 'fsync': 1, 'in_lists': 3, 'left_to_kernel': 0,
    'not_ended': 0} and
p['results'] == {'ok': 14, 'short': 1, 'failed': 1, 'canceled': 1, 'refused': 0} and
p['bytes'] == {'read': 600 + 4096 + 3 + 2, 'written': 8192} and
[(s['up_to_bytes'], s['requests']) for s in p['sizes']] ==
    [(1, 6), (128, 7), (4096, 2), (8192, 1)] and
p['notifications'] == {'signals': 1, 'functions': 1, 'signals_dropped': 0} and
p['depth_max'] == 7 and p['processes'] == 1 and doc['exit_status'] == 3 and
doc['signal'] is None and doc['command'] == ['$tmp/known'] and latency[0] > 0"
for engine in uring epoll threads; do
    "$ouro" info "--engine=$engine" >/dev/null 2>&1 || continue
    check "--stats=json: the numbers of a known program on $engine" counted 3 \
        "$known and p['engines'] == [{'name': '$engine', 'processes': 1}] and
            p['system_calls']['sleeping'] > 0" \
        "$ouro" run --stats=json "--engine=$engine" "$tmp/known"
done
check "--stats --json is the same" counted 3 "$known" "$ouro" run --stats --json "$tmp/known"
check "what the program writes stays by itself" grep -qx 'done' "$tmp/out"
check "processes are summed, also those that end by _exit or SIGKILL" counted 137 \
    "p['processes'] == 2 and kinds['read'] == 2 and p['bytes']['read'] == 20 and
        p['results']['ok'] == 2 and doc['signal'] == 9 and doc['exit_status'] is None" \
    "$ouro" run --stats=json "$tmp/known" processes
check "a signal that is dropped is counted" counted 0 \
    "p['notifications'] == {'signals': 0, 'functions': 0, 'signals_dropped': 1} and
        requests == 1 and p['ended_by']['thread'] == 1" \
    "$ouro" run --stats=json "$tmp/known" dropped
check "an unused interface has its zeros" counted 7 \
    "p['processes'] == 0 and requests == 0 and p['engines'] == [] and p['sizes'] == []" \
    "$ouro" run --stats=json sh -c 'exit 7'

stats_table()
{
    (cd "$tmp" && "$ouro" run --stats "$tmp/known" 2>err >out)
    [ $? = 3 ] && cat "$tmp/err" && [ "$(cat "$tmp/out")" = 'done' ] || return
    tap_rows='requests +read 14 \(4\.6 KiB\), write 2 \(8 KiB\), fsync 1; in lists 3
results +ok 14, short 1, failed 1, cancelled 1
sizes +1 byte: 6, to 128 bytes: 7, to 4 KiB: 2, to 8 KiB: 1
depth reached +7
notifications +by signal 1, by function 1, signals dropped 0'
    grep -q '^ouro run: POSIX AIO, used by 1 process$' "$tmp/err" || return
    echo "$tap_rows" | while read -r tap_row; do
        grep -qxE "  $tap_row" "$tmp/err" || { echo "no row: $tap_row"; return 1; }
    done
}
check "--stats: the same as a table" stats_table
check "a program that makes no request is told from others" \
    says "POSIX AIO was not used" 0 "$ouro" run --stats true
check "another form is refused" says "choose json" 2 "$ouro" run --stats=xml true

check "where io_uring is refused, engine and reason are there" counted 3 \
    "$known and p['engines'][0]['name'] != 'uring' and 'uring refused: ' in p['engine_why']" \
    "$PWD/tests/blocked" 1 "$ouro" run --stats=json "$tmp/known"
blocked_table()
{
    blocked=$PWD/tests/blocked
    (cd "$tmp" && "$blocked" 1 "$ouro" run --stats "$tmp/known" 2>err >out)
    cat "$tmp/err"
    grep -q '^  uring refused: ' "$tmp/err"
}
check "in the table as well" blocked_table

not_asked()
{
    "$ouro" run env >"$tmp/env" && ! grep OURO_STATS_FILE "$tmp/env"
}
check "without --stats nothing is passed on" not_asked
no_file()
{
    mkdir -p "$tmp/empty" &&
        (cd "$tmp" && TMPDIR=$tmp/empty "$ouro" run --stats "$tmp/known" >/dev/null 2>&1)
    find /dev/shm -maxdepth 1 -name '*ouro*' | grep . && return 1
    [ -z "$(ls -A "$tmp/empty")" ]
}
check "no file is left behind" no_file

# A file that is not the command's, or another version's, changes nothing.
stranger()
{
    (cd "$tmp" && OURO_STATS_FILE=$1 timeout 30 "$ouro" run "$tmp/known" >out 2>err)
    [ $? = 3 ] && [ ! -s "$tmp/err" ]
}
head -c 100000 /dev/zero >"$tmp/zeros"
cp "$tmp/zeros" "$tmp/zeros.copy"
mkfifo "$tmp/fifo"
{ printf 'ourostat\377\377\377\377\100\0\0\0' && head -c 100000 /dev/zero; } >"$tmp/later"
for file in "$tmp/zeros" "$tmp/fifo" "$tmp/known" "$tmp" /dev/null /nowhere; do
    check "OURO_STATS_FILE=${file#"$tmp/"} changes nothing" stranger "$file"
done
check "and is not changed" cmp "$tmp/zeros" "$tmp/zeros.copy"
later()
{
    stranger "$tmp/later" && [ "$(od -An -tu8 -j16 -N8 "$tmp/later" | tr -d ' ')" = 1 ] &&
        [ "$(tail -c +25 "$tmp/later" | tr -d '\0' | wc -c)" = 0 ]
}
check "to the file of another version a drop-in says that it was there" later

# With --stats the program is a child.
check "the exit status with --stats" status 42 "$ouro" run --stats sh -c 'exit 42'
check "a signal that ends the program ends the command, with --stats" status 143 \
    sh -c "$ouro run --stats sh -c 'kill \$\$'"
ends_by_it()
{
    python3 -c 'import subprocess, sys
sys.exit(subprocess.run(sys.argv[1:]).returncode != -10)' \
        "$ouro" run --stats sh -c 'kill -USR1 $$'
}
check "by the same signal" ends_by_it
check "a program that is not there, with --stats: 127" \
    says "no such program" 127 "$ouro" run --stats "$tmp/none"
printf 'no program' >"$tmp/broken"
chmod +x "$tmp/broken"
check "one that cannot be executed, with --stats: 126" \
    says "xec format error" 126 "$ouro" run --stats "$tmp/broken"

cat >"$tmp/program.py" <<'END'
import os, signal, sys, time
def note(number, frame):
    print('got', number, flush=True)
    if number in (signal.SIGTERM, signal.SIGINT):
        sys.exit(9)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGRTMIN + 3):
    signal.signal(number, note)
print('ready', os.getpid(), flush=True)
while True:
    time.sleep(0.05)
END
cat >"$tmp/signals.py" <<'END'
import os, pty, signal, subprocess, sys, time
ouro, name, program = sys.argv[1:]
command = [ouro, 'run', '--stats']

def line(stream):
    return stream.readline().decode().strip()

def start():
    child = subprocess.Popen(command + ['python3', program], stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL)
    return child, int(line(child.stdout).split()[1])

def passed_on():
    child, _ = start()
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGRTMIN + 3, signal.SIGTERM):
        child.send_signal(number)
        assert line(child.stdout) == f'got {int(number)}', number
    assert child.wait(10) == 9, child.returncode

def state(pid):
    try:
        with open(f'/proc/{pid}/stat') as file:
            return file.read().split()[2]
    except FileNotFoundError:
        return 'gone'

def killed():
    child, pid = start()
    child.kill()
    for _ in range(200):
        if state(pid) in ('gone', 'Z'):
            return
        time.sleep(0.05)
    raise AssertionError('the program lives on')

def terminal():
    """The foreground group of a terminal: the command leads it, as if a shell had started it."""
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(ouro, command + ['python3', program])
    stream = os.fdopen(fd, 'r+b', buffering=0)
    while not line(stream).startswith('ready'):
        pass
    os.kill(pid, signal.SIGSTOP)  # a group whose parent is of another session ignores ^Z
    os.waitpid(pid, os.WUNTRACED)
    os.killpg(pid, signal.SIGCONT)
    time.sleep(0.3)
    assert os.waitpid(pid, os.WNOHANG | os.WUNTRACED) == (0, 0)
    stream.write(b'\x03')
    text = ''
    while 'was not used' not in text:
        text += line(stream) + '\n'
    status = os.waitpid(pid, 0)[1]
    assert os.WEXITSTATUS(status) == 9 and text.count('got 2') == 1, (status, text)

def stops():
    child = subprocess.Popen(command + ['sh', '-c', 'kill -STOP $$; exit 4'],
                             stderr=subprocess.DEVNULL)
    while not os.WIFSTOPPED(os.waitpid(child.pid, os.WUNTRACED)[1]):
        pass
    child.send_signal(signal.SIGCONT)
    assert child.wait(10) == 4

def suspended():
    """^Z, by whom a shell sends it: the group stops, and goes on."""
    child = subprocess.Popen(command + ['python3', program], stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL, preexec_fn=lambda: os.setpgid(0, 0))
    pid = int(line(child.stdout).split()[1])
    for _ in range(20):
        os.killpg(child.pid, signal.SIGTSTP)
        while not os.WIFSTOPPED(os.waitpid(child.pid, os.WUNTRACED)[1]):
            pass
        while state(pid) != 'T':
            time.sleep(0.001)
        os.killpg(child.pid, signal.SIGCONT)
        for _ in range(100):
            if state(child.pid) != 'T' and state(pid) != 'T':
                break
            time.sleep(0.01)
    child.send_signal(signal.SIGTERM)
    assert line(child.stdout) == 'got 15' and child.wait(10) == 9

def nohup():
    text = 'import signal; assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN'
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert subprocess.run(command + ['python3', '-c', text]).returncode == 0

def ignored_children():
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    os.execv(ouro, command + ['sh', '-c', 'exit 6'])

globals()[name]()
END
signals()
{
    timeout 30 python3 "$tmp/signals.py" "$ouro" "$1" "$tmp/program.py"
}
check "signals to the command reach the program" signals passed_on
check "the terminal's reach it once" signals terminal
check "the command stops when the program does" signals stops
check "and with it, and both go on" signals suspended
check "SIGKILL takes the program along" signals killed
check "what nohup ignores stays ignored" signals nohup
check "an ignored SIGCHLD loses no status" status 6 signals ignored_children

# What is installed finds what is installed with it.
install_tree
check "the installed command finds the installed drop-in" \
    sh -c "$tmp/root$prefix/bin/ouro run env |
        grep -q '^LD_PRELOAD=$tmp/root$prefix/.*/libouro-posixaio.so'"
done_
