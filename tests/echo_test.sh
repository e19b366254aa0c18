#!/bin/bash
# SPDX-License-Identifier: MIT
# `ouro echo` and the suite `echo` of `ouro bench` from outside: every engine serves TCP and unix
# sockets, the load generator sees each wrong byte, a signal leaves nothing behind. Everything stays
# on the loopback; the figures themselves are not judged.
set -u
cd "$(dirname "$0")/.." || exit 2
. tests/tap.sh

ouro=$build/ouro
server=''
# Whatever ends this script ends the server.
trap 'stop_server KILL >/dev/null 2>&1; rm -rf "$tmp"' EXIT

# start_server OPTION...: in the background, until it listens; sets $server and $port. Where
# $nofile is set it can have no more descriptors than that. A shell starts its background commands
# with SIGINT ignored, hence env.
nofile=''
start_server()
{
    local tries
    stop_server KILL >/dev/null 2>&1 # of a test that has failed
    rm -f "$tmp/serve.err"
    env --default-signal=INT ${nofile:+prlimit --nofile="$nofile:$nofile"} \
        "$ouro" echo serve "$@" >"$tmp/served" 2>"$tmp/serve.err" &
    server=$!
    for ((tries = 0; tries < 200; tries++)); do
        if grep -qs 'listening' "$tmp/serve.err"; then
            port=$(sed -n 's/.*listening on 127.0.0.1:\([0-9]*\),.*/\1/p' "$tmp/serve.err")
            return 0
        fi
        kill -0 "$server" 2>/dev/null || break
        sleep 0.05
    done
    cat "$tmp/serve.err"
    return 1
}

# stop_server SIGNAL: it ends within 10 seconds; its exit status.
stop_server()
{
    local pid=$server tries
    [ -n "$pid" ] || return 0
    server=''
    kill -s "$1" "$pid"
    for ((tries = 0; tries < 200; tries++)); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.05
    done
    kill -KILL "$pid" 2>/dev/null && echo 'the server did not end'
    wait "$pid"
}

# load_json OPTION...: a load without errors that did something.
load_json()
{
    timeout 60 "$ouro" echo load --json "$@" >"$tmp/load" 2>"$tmp/load.err" || {
        cat "$tmp/load" "$tmp/load.err"
        return 1
    }
    python3 - "$tmp/load" <<'END'
import json, sys
doc = json.load(open(sys.argv[1]))
assert doc['schema'] == 1 and doc['errors'] == 0, doc
assert doc['requests'] >= doc['connections'] and doc['requests_per_second'] > 0, doc
assert 0 < doc['latency_ns_p50'] <= doc['latency_ns_p99'] <= doc['latency_ns_p999'], doc
assert doc['errors_wrong_data'] == doc['errors_broken'] == doc['errors_unanswered'] == 0, doc
END
}

# What the server says in the end is what the load sent.
sums_agree()
{
    python3 - "$tmp/served" "$tmp/load" "$1" <<'END'
import json, sys
served, load = (json.load(open(name)) for name in sys.argv[1:3])
assert served['schema'] == 1 and served['connections'] == load['connections'], served
assert served['bytes'] == load['requests'] * load['size_bytes'], (served, load)
assert served['connections_failed'] == 0 and served['engine'] == sys.argv[3], served
END
}

over_tcp()
{
    local engine=$1 connections=$2 size=$3
    start_server --port 0 --engine "$engine" --json || return
    load_json --port "$port" --connections "$connections" --size "$size" --seconds 0.3 || return
    stop_server INT || { echo "exit status $?"; return 1; }
    sums_agree "$engine"
}

over_unix()
{
    local engine=$1
    start_server --unix "$tmp/socket" --engine "$engine" --threads 2 --json || return
    load_json --unix "$tmp/socket" --connections 20 --size 3000 --seconds 0.3 || return
    stop_server TERM || { echo "exit status $?"; return 1; }
    [ ! -e "$tmp/socket" ] || { echo 'the socket is still there'; return 1; }
    sums_agree "$engine"
}

engines=$("$ouro" info --json | python3 -c 'import json, sys
for engine in json.load(sys.stdin)["engines"]:
    if engine["available"]:
        print(engine["name"])')
check 'there is an engine' test -n "$engines"
for engine in $engines; do
    check "$engine serves small requests over TCP" over_tcp "$engine" 50 64
    check "$engine serves single bytes over TCP" over_tcp "$engine" 3 1
    check "$engine serves requests larger than its buffers" over_tcp "$engine" 10 1000001
    check "$engine serves unix sockets" over_unix "$engine"
done

# Of 200 connections no thread is left without, unless the kernel does not spread them.
threads()
{
    start_server --port 0 --threads 4 --json || return
    load_json --port "$port" --connections 200 --seconds 0.3 || return
    stop_server TERM && sums_agree "$("$ouro" info --json |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["chosen"]["engine"])')" &&
        python3 - "$tmp/served" <<'END'
import json, sys
served = json.load(open(sys.argv[1]))
counts = served['connections_by_thread']
assert served['threads'] == len(counts) == 4 and min(counts) > 0 and sum(counts) == 200, served
END
}
check 'four threads share a port, and each gets connections' threads

interval()
{
    start_server --port 0 || return
    load_json --port "$port" --connections 20 --interval 0.5 --seconds 1 || return
    stop_server TERM || return
    python3 -c 'import json, sys
doc = json.load(open(sys.argv[1]))
assert 35 <= doc["requests"] + doc["late"] <= 45, doc' "$tmp/load"
}
check 'with an interval each connection sends that often' interval

# Each second has a line with what came in it: together all requests, and in the end none.
live_line()
{
    local tries
    start_server --port 0 --progress plain || return
    load_json --port "$port" --connections 20 --size 1024 --seconds 2.5 || return
    for ((tries = 0; tries < 200; tries++)); do
        ! grep -qx '0 connections, 0.00 requests/s, 0.00 bytes/s' "$tmp/serve.err" || break
        sleep 0.05
    done
    stop_server TERM && python3 - "$tmp/serve.err" "$tmp/load" <<'END'
import json, re, sys
units = {'': 1, ' k': 1e3, ' M': 1e6, ' G': 1e9}
number = r'([0-9.]+)( [kMG])?'
lines = [(int(match[1]), float(match[2]) * units[match[3] or ''],
          float(match[4]) * units[match[5] or ''])
         for match in re.finditer(rf'^(\d+) connections, {number} requests/s, {number} bytes/s$',
                                  open(sys.argv[1]).read(), re.MULTILINE)]
requests = json.load(open(sys.argv[2]))['requests']
assert any(line[0] == 20 and line[1] > 0 for line in lines) and lines[-1] == (0, 0, 0), lines
assert abs(sum(line[1] for line in lines) / requests - 1) < 0.01, (lines, requests)
assert abs(sum(line[2] for line in lines) / requests / 1024 - 1) < 0.01, (lines, requests)
END
}
check 'the line of each second tells what came in it' live_line

# For tests in Python: the server gets SIGTERM, and its end can be waited for even while nobody has
# asked for its status.
cat >"$tmp/stopping.py" <<'END'
import os, select, signal, time
class Stopping:
    def __init__(self, pid):
        self.pid, self.begin = pid, time.monotonic()
        self.end = select.poll()
        self.end.register(os.pidfd_open(pid), select.POLLIN)
        os.kill(pid, signal.SIGTERM)
        while self.pending():
            time.sleep(0.01)
    def pending(self):
        with open(f'/proc/{self.pid}/status') as file:
            fields = dict(line.split(':', 1) for line in file)
        return int(fields['ShdPnd'], 16) >> signal.SIGTERM - 1 & 1
    def seconds(self):
        assert self.end.poll(10000), 'the server did not end'
        return time.monotonic() - self.begin
END

# A peer that neither reads nor ends holds nobody up: a second to send, one to take what it is owed,
# then it is cut off.
idle_peer()
{
    start_server --unix "$tmp/socket" || return
    PYTHONPATH=$tmp python3 - "$tmp/socket" "$server" <<'END' || return
import socket, sys, time
from stopping import Stopping
peers = [socket.socket(socket.AF_UNIX) for _ in range(2)]
for peer in peers:
    peer.connect(sys.argv[1])
    peer.send(b'x')
    assert peer.recv(1) == b'x'
peers[1].setblocking(False)
last = time.monotonic()
while time.monotonic() < last + 0.2:  # until it takes no more
    try:
        peers[1].send(b'x' * 65536)  # and never reads what comes back
        last = time.monotonic()
    except BlockingIOError:
        time.sleep(0.01)
stopping = Stopping(int(sys.argv[2]))
peers[0].settimeout(10)
assert peers[0].recv(1) == b'', 'no end of file'
seconds = stopping.seconds()
assert 1.9 < seconds < 6, seconds
END
    stop_server TERM
}
check 'idle and stuck connections do not keep a server from ending' idle_peer

# Half of a request has been sent when the signal comes, the rest follows: all of it comes back.
under_way()
{
    local engine=$1
    start_server --port 0 --engine "$engine" --json || return
    PYTHONPATH=$tmp python3 - "$port" "$server" <<'END' || return
import socket, sys, threading, time
from stopping import Stopping
text = bytes(range(251)) * 20000
got = bytearray()
peer = socket.create_connection(('127.0.0.1', int(sys.argv[1])))
idle = socket.create_connection(('127.0.0.1', int(sys.argv[1])))
peer.settimeout(10)
idle.settimeout(10)
idle.send(b'i')
assert idle.recv(1) == b'i'
def receive():
    while data := peer.recv(65536):
        got.extend(data)
receiver = threading.Thread(target=receive)
receiver.start()
peer.sendall(text[:len(text) // 2])
stopping = Stopping(int(sys.argv[2]))
time.sleep(0.1)  # the signal has come; now it is known everywhere
peer.sendall(text[len(text) // 2:])
receiver.join()
assert got == text, (len(got), len(text))
assert idle.recv(1) == b'', 'no end of file'
assert stopping.seconds() < 6, stopping.seconds()
END
    stop_server TERM || { echo "exit status $?"; return 1; }
    python3 - "$tmp/served" <<'END'
import json, sys
served = json.load(open(sys.argv[1]))
assert served['connections'] == 2 and served['connections_failed'] == 0, served
assert served['bytes'] == 251 * 20000 + 1, served
END
}
for engine in $engines; do
    check "$engine: a request under way at the signal is answered in full" under_way "$engine"
done

# Peers that send and never read: the pool's buffers are for the others, and what these are owed is
# kept. 700 peers with two buffers each would be more than there are.
slow_readers()
{
    local engine=$1
    start_server --unix "$tmp/socket" --engine "$engine" || return
    python3 - "$tmp/socket" "$ouro" <<'END' || return
import socket, subprocess, sys, time
text = bytes(range(251)) * 300
peers = []
for _ in range(700):
    peers.append([socket.socket(socket.AF_UNIX), 0])
    peers[-1][0].connect(sys.argv[1])
    peers[-1][0].setblocking(False)
begin = last = time.time()
while time.time() < last + 0.2 and time.time() < begin + 20:  # until nobody takes any more
    for peer in peers:
        try:
            while True:
                peer[1] += peer[0].send(text[peer[1] % 251:][:65536])
                last = time.time()
        except BlockingIOError:
            pass
subprocess.run([sys.argv[2], 'echo', 'load', '--unix', sys.argv[1], '--connections', '20',
                '--seconds', '0.2'], check=True)
for peer, sent in peers[::100]:
    peer.settimeout(10)
    got = 0
    while got < sent:
        data = peer.recv(65536)
        assert data and data == text[got % 251:][:len(data)], (got, sent)
        got += len(data)
END
    stop_server TERM
}
for engine in $engines; do
    check "$engine: peers that read nothing starve nobody and lose nothing" slow_readers "$engine"
done

# errors FILE KIND COUNT: what a load that has ended in errors says: so many, all of that kind.
errors()
{
    python3 - "$1" "errors_$2" "$3" <<'END'
import json, sys
doc, kind, count = json.load(open(sys.argv[1])), sys.argv[2], int(sys.argv[3])
assert doc['errors'] == doc[kind] == count and doc['requests'] > 0, doc
END
}

# Each connection is answered once and never again. For that the load waits 10 seconds: it does so
# behind the tests that follow, and is looked at when they are over.
cat >"$tmp/silent.py" <<'END'
import socket
listener = socket.create_server(('127.0.0.1', 0))
print(listener.getsockname()[1], flush=True)
conns = [listener.accept()[0] for _ in range(5)]
for conn in conns:
    conn.sendall(conn.recv(100))
for conn in conns:
    while conn.recv(100):
        pass
END
{
    timeout 60 python3 "$tmp/silent.py" | {
        read -r quiet
        timeout 60 "$ouro" echo load --port "$quiet" --connections 5 --seconds 0.2 --json \
            >"$tmp/unanswered" 2>"$tmp/unanswered.err"
        echo $? >"$tmp/unanswered.status"
    }
} &
silent=$!
unanswered()
{
    wait "$silent"
    cat "$tmp/unanswered.err"
    [ "$(cat "$tmp/unanswered.status")" -eq 1 ] || { cat "$tmp/unanswered.status"; return 1; }
    grep -q '5 errors; the first: .*no answer in 10 seconds' "$tmp/unanswered.err" &&
        errors "$tmp/unanswered" unanswered 5
}

broken()
{
    local load status
    start_server --port 0 || return
    timeout 60 "$ouro" echo load --port "$port" --connections 20 --seconds 60 --json \
        >"$tmp/load" 2>"$tmp/load.err" &
    load=$!
    sleep 0.5
    stop_server KILL >/dev/null 2>&1
    wait "$load"
    status=$?
    cat "$tmp/load.err"
    [ "$status" -eq 1 ] || { echo "exit status $status"; return 1; }
    grep -q '20 errors; the first: connection' "$tmp/load.err" && errors "$tmp/load" broken 20
}
check 'a server that dies breaks each connection, which is counted and told' broken

# Flips one bit of one byte, 100,000 bytes into the stream of a connection.
cat >"$tmp/liar.py" <<'END'
import socket, sys, threading
listener = socket.create_server(('127.0.0.1', 0))
print(listener.getsockname()[1], flush=True)
def serve(conn):
    seen = 0
    while True:
        data = bytearray(conn.recv(65536))
        if not data:
            return
        if seen <= 100000 < seen + len(data):
            data[100000 - seen] ^= 1
        seen += len(data)
        conn.sendall(data)
threading.Timer(60, lambda: sys._exit(1)).start()
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
END
liar()
{
    local size=$1 got tries
    rm -f "$tmp/port"
    python3 "$tmp/liar.py" >"$tmp/port" 2>/dev/null &
    server=$!
    for ((tries = 0; tries < 200; tries++)); do
        [ ! -s "$tmp/port" ] || break
        sleep 0.05
    done
    timeout 60 "$ouro" echo load --port "$(cat "$tmp/port")" --connections 2 --size "$size" \
        --seconds 5 >"$tmp/load" 2>"$tmp/load.err"
    got=$?
    stop_server KILL >/dev/null 2>&1
    cat "$tmp/load.err"
    [ "$got" -eq 1 ] || { echo "exit status $got"; return 1; }
    grep -qx 'errors  *2' "$tmp/load" && grep -q 'not what was sent' "$tmp/load.err"
}
check 'one wrong bit is found in large requests' liar 30000
check 'one wrong bit is found in small requests' liar 10

# status WANTED COMMAND...: that exit status, and something said on stderr.
status()
{
    local wanted=$1 got
    shift
    timeout 60 "$@" >"$tmp/out" 2>"$tmp/err"
    got=$?
    cat "$tmp/err"
    [ "$got" -eq "$wanted" ] || { echo "exit status $got, wanted $wanted"; return 1; }
    [ -s "$tmp/err" ] || { echo "nothing on stderr"; return 1; }
}

says()
{
    local text=$1
    shift
    "$@" && grep -qF -- "$text" "$tmp/err"
}

in_use()
{
    start_server --port 0 || return
    says 'Address already in use' status 1 "$ouro" echo serve --port "$port" || return
    stop_server TERM
}
check 'a port in use is told' in_use

# The file of a server that was killed is replaced; that of one that lives is not.
unix_in_use()
{
    start_server --unix "$tmp/socket" || return
    says 'Address already in use' status 1 "$ouro" echo serve --unix "$tmp/socket" || return
    [ -S "$tmp/socket" ] || { echo 'the socket of another was removed'; return 1; }
    stop_server KILL 2>/dev/null
    [ -S "$tmp/socket" ] || { echo 'no socket was left'; return 1; }
    sleep 1 # io_uring lets go of what a killed process listened with a little later
    over_unix threads
}
check 'a unix socket in use is told, an abandoned one replaced' unix_in_use

# More connections than the descriptors allow, and on io_uring than slots and descriptors together:
# those that have one are served, the others wait until some end, and the server meanwhile rests but
# for a try in 100 ms.
few_descriptors()
{
    nofile=40 start_server --port 0 --engine "$1" --json || return
    python3 - "$port" "$server" >"$tmp/seconds" <<'END' || { cat "$tmp/seconds"; return 1; }
import os, select, socket, sys, time
def cpu():
    with open(f'/proc/{sys.argv[2]}/stat') as file:
        fields = file.read().rsplit(')', 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')
def ready(peers, seconds):
    got = select.select(peers, [], [], seconds)[0]
    for peer in got:
        answer = peer.recv(10)
        assert answer == b'x', (peers.index(peer), answer)
    return got
def answered(peers, seconds):  # until nothing has come for so long
    got = []
    while left := [peer for peer in peers if peer not in got]:
        more = ready(left, seconds)
        if not more:
            break
        got += more
    return got
begin = time.monotonic()
peers = [socket.create_connection(('127.0.0.1', int(sys.argv[1]))) for _ in range(100)]
for peer in peers:
    peer.send(b'x')
served = answered(peers, 0.5)
assert 20 <= len(served) < 100, len(served)
used, since = cpu(), time.monotonic()
time.sleep(1)
used, since = cpu() - used, time.monotonic() - since
assert used < since / 5, f'{used} s of CPU in {since} s'
for peer in served:
    peer.send(b'x')
assert len(answered(served, 10)) == len(served)
while served:
    for peer in served:
        peer.close()
        peers.remove(peer)
    served = peers and ready(peers, 10)
assert not peers, len(peers)
print(time.monotonic() - begin)
END
    stop_server TERM || { echo "exit status $?"; return 1; }
    grep -q 'no descriptors left' "$tmp/serve.err" || { cat "$tmp/serve.err"; return 1; }
    python3 - "$tmp/served" "$tmp/seconds" <<'END'
import json, sys
served, seconds = (json.load(open(name)) for name in sys.argv[1:])
assert served['connections'] == 100 and served['connections_failed'] == 0, served
assert 1 <= served['accept_pauses'] <= 10 * seconds + 1, (served, seconds)
END
}
for engine in $engines; do
    check "$engine: without descriptors accepting pauses, rests, goes on" few_descriptors "$engine"
done

check 'no server is told' says 'Connection refused' status 1 "$ouro" echo load --port 1
check 'an unknown engine is wrong usage' says nonsense \
    status 2 "$ouro" echo serve --engine nonsense
check 'an unknown action is wrong usage' says nonsense status 2 "$ouro" echo nonsense
check 'options of the other action are wrong usage' status 2 "$ouro" echo serve --size 5
check '--unix and --port exclude each other' \
    status 2 "$ouro" echo load --unix "$tmp/socket" --port 5
check 'a path that is too long is told' \
    says 'unix socket' status 1 "$ouro" echo serve --unix "/$(printf '%0200d' 1)"

check 'answers that do not come are counted and told' unanswered

cat >"$tmp/check.py" <<'END'
import json, statistics, sys
doc = json.load(open(sys.argv[1]))
assert doc['schema'] == 1 and doc['suite'] == 'echo', doc
rows = doc['rows']
points = {(row['connections'], row['size_bytes']) for row in rows}
assert points == {(1, 64), (1, 16384), (30, 64), (30, 16384)}, points
names = {row['contender'] for row in rows}
absent = {entry['contender'] for entry in doc['absent']}
# All that the build has found takes part, but where io_uring is refused.
with open(sys.argv[2]) as file:
    found = {dependency['name'].split('_')[0] for dependency in json.load(file)}
wanted = {'epoll'} | found & {'libuv', 'libevent', 'liburing'}
wanted |= {'ouro:' + engine for engine in sys.argv[3:]}
if 'ouro:uring' not in wanted:
    wanted -= {'liburing'}
assert names == wanted and not absent & wanted, (names, absent)
for row in rows:
    costs = row['rounds_server_cpu_seconds_per_million_requests']
    assert len(row['rounds']) == len(costs) == 3 and min(row['rounds']) > 0, row
    assert abs(row['requests_per_second'] / statistics.median(row['rounds']) - 1) < 1e-6, row
    cost = row['server_cpu_seconds_per_million_requests']
    assert cost > 0 and abs(cost / statistics.median(costs) - 1) < 1e-6, row
    assert 0 < row['latency_ns_p50'] <= row['latency_ns_p99'], row
    assert row['server_rss_bytes_per_connection'] >= 0 and row['errors'] == 0, row
    base = next(r for r in rows if r['contender'] == 'epoll' and not r['aa']
                and r['connections'] == row['connections'] and r['size_bytes'] == row['size_bytes'])
    pairs = [a / b for a, b in zip(costs, base['rounds_server_cpu_seconds_per_million_requests'])]
    ratio = row['cpu_ratio_to_epoll']
    assert abs(ratio['ratio'] / statistics.median(pairs) - 1) < 1e-6, row
    assert ratio['low'] <= ratio['ratio'] <= ratio['high'], row
    assert ('liburing' in names) == (row['cpu_ratio_to_liburing'] is not None), row
    if 'liburing' in names:
        ratio = row['cpu_ratio_to_liburing']
        assert 0 < ratio['low'] <= ratio['ratio'] <= ratio['high'], row
assert len([row for row in rows if row['aa']]) == 4, rows
END
# Processes of this bench: all that have its command line.
bench_processes()
{
    pgrep -f "^$ouro bench echo" || true
}
bench_json()
{
    timeout 300 "$ouro" bench echo --connections 1,30 --size 64,16k --rounds 3 --seconds 0.06 --aa \
        --json --html "$tmp/page.html" >"$tmp/json" 2>"$tmp/err" || { cat "$tmp/err"; return 1; }
    # shellcheck disable=SC2086
    python3 "$tmp/check.py" "$tmp/json" "$build/meson-info/intro-dependencies.json" $engines &&
        [ -s "$tmp/page.html" ] && [ -z "$(bench_processes)" ]
}
check 'the bench gives all fields, and a page' bench_json

bench_table()
{
    timeout 100 "$ouro" bench echo --contenders epoll --connections 2 --size 64 --rounds 3 \
        --seconds 0.06 >"$tmp/out" || return
    grep -q '^2 connections, 64 bytes$' "$tmp/out" && grep -q 'CPU/req' "$tmp/out"
}
check 'the bench prints a table' bench_table

# A bench of three processes that goes on for long; sets $pid.
start_bench()
{
    local tries
    env --default-signal=INT "$ouro" bench echo --contenders epoll --connections 5 --size 64 \
        --rounds 3 --seconds 600 >"$tmp/out" 2>"$tmp/err" &
    pid=$!
    for ((tries = 0; tries < 200; tries++)); do
        [ "$(bench_processes | wc -l)" -lt 3 ] || break
        sleep 0.05
    done
    [ "$(bench_processes | wc -l)" -eq 3 ] || { bench_processes; return 1; }
}

# Server and load are each on a core of its own, where there are two.
bench_pins()
{
    local pid tries cores child
    start_bench || return
    for ((tries = 0; tries < 100; tries++)); do
        cores=$(for child in $(pgrep -P "$pid"); do
            sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' "/proc/$child/status"
        done)
        [ "$(nproc)" -ge 2 ] || break
        [ "$(sort -u <<<"$cores" | grep -cx '[0-9]*')" -ne 2 ] || break
        sleep 0.05
    done
    kill -INT "$pid"
    wait "$pid" 2>/dev/null
    echo "$cores"
    [ "$tries" -lt 100 ]
}
check 'server and load of the bench run on different cores' bench_pins

# bench_ends SIGNAL STATUS: whatever ends the bench, its server and its load end with it.
bench_ends()
{
    local pid got tries
    start_bench || return
    kill -s "$1" "$pid"
    wait "$pid" 2>/dev/null
    got=$?
    [ "$got" -eq "$2" ] || { echo "exit status $got"; return 1; }
    for ((tries = 0; tries < 100; tries++)); do
        [ -n "$(bench_processes)" ] || return 0
        sleep 0.05
    done
    bench_processes
    return 1
}
check 'a bench that is interrupted leaves no process' bench_ends INT 130
check 'a bench that is killed leaves no process' bench_ends KILL 137

# `make hold` with few connections for a short time, of which the memory says nothing yet.
hold()
{
    local got
    timeout 60 scripts/hold "$build" 1 20 epoll >"$tmp/out" 2>&1
    got=$?
    cat "$tmp/out"
    [ "$got" -eq 0 ] && grep -q '^epoll .* 0 errors' "$tmp/out" &&
        grep -q '^not compared' "$tmp/out"
}
check 'connections are held for a while' hold

for bad in --connections=0 --connections=x --connections=1k --size=0 --size=1,x --depth=5; do
    check "$bad is wrong usage" status 2 "$ouro" bench echo "$bad" --contenders epoll
done
check 'a contender of another suite is wrong usage' \
    says epoll status 2 "$ouro" bench echo --contenders blocking
done_
