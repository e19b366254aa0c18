#!/bin/bash
# SPDX-License-Identifier: MIT
# The ouro command from outside: exit statuses, help, completion, JSON, the page, and that no
# temporary file survives whatever ends a run. The figures themselves are not judged here.
set -u
cd "$(dirname "$0")/.." || exit 2
. tests/tap.sh

ouro=$build/ouro
work=$tmp/work
mkdir "$work"
fast=(--contenders blocking --rounds 3 --seconds 0.03 --dir "$work")
small=(files "${fast[@]}" --count 20)

# status WANTED COMMAND...: that exit status, and something said on stderr unless it is 0.
status()
{
    local wanted=$1 got
    shift
    "$@" >"$tmp/out" 2>"$tmp/err"
    got=$?
    cat "$tmp/err"
    [ "$got" -eq "$wanted" ] || { echo "exit status $got, wanted $wanted"; return 1; }
    [ "$wanted" -eq 0 ] || [ -s "$tmp/err" ] || { echo "nothing on stderr"; return 1; }
}

says()
{
    local text=$1
    shift
    "$@" && grep -qF -- "$text" "$tmp/err" "$tmp/out"
}

check 'done is 0' status 0 "$ouro" bench "${small[@]}"
check 'no command is wrong usage' status 2 "$ouro"
check 'an unknown command is wrong usage' status 2 "$ouro" nonsense
check 'an unknown option is wrong usage' says --nonsense status 2 "$ouro" bench nop --nonsense
check 'a missing value is wrong usage' status 2 "$ouro" bench nop --rounds
check 'a value too many is wrong usage' status 2 "$ouro" bench nop --json=yes
check 'a missing suite is wrong usage' says SUITE status 2 "$ouro" bench
check 'an unknown suite is wrong usage' says nonsense status 2 "$ouro" bench nonsense
check 'two suites are wrong usage' status 2 "$ouro" bench nop files
check 'an unknown contender is wrong usage, and the known ones are named' \
    says blocking status 2 "$ouro" bench nop --contenders nonsense
check 'a contender twice is wrong usage' \
    status 2 "$ouro" bench nop --contenders blocking,blocking
check 'an empty list of contenders is wrong usage' status 2 "$ouro" bench nop --contenders ''
check 'a contender that cannot do the suite is wrong usage' \
    says glibc-aio status 2 "$ouro" bench nop --contenders glibc-aio
check 'an unknown engine is wrong usage' status 2 "$ouro" bench nop --engine=nonsense
for bad in --depth=0 --depth=x "--depth=1,," --depth=999999 --rounds=1 --rounds=1k --seconds=x \
    --count=0 --size=0 --size=-1 --size=1x --bs=1000 --color=blue --progress=loud; do
    check "$bad is wrong usage" status 2 "$ouro" bench random "$bad" "${fast[@]}"
done
check '--engine and --contenders exclude each other' \
    status 2 "$ouro" bench nop --engine=threads --contenders blocking
check '--warm and --cold exclude each other' status 2 "$ouro" bench files --warm --cold
check '--direct and --buffered exclude each other' \
    status 2 "$ouro" bench random --direct --buffered
check 'a directory that is not there fails' says "$work/none" \
    status 1 "$ouro" bench "${small[@]}" --dir "$work/none"
check 'a file in place of a directory fails' status 1 "$ouro" bench "${small[@]}" --dir "$ouro"
check 'a file that is not there fails' \
    status 1 "$ouro" bench random "${fast[@]}" --file "$work/none"
check 'a file smaller than a block fails' \
    status 1 "$ouro" bench random "${fast[@]}" --file tests/tap.sh --bs 1M
check 'a page that cannot be written fails' \
    status 1 "$ouro" bench "${small[@]}" --html "$work/none/page.html"
check 'output that cannot be written fails' \
    status 1 bash -c "'$ouro' bench ${small[*]} >/dev/full"

# A limit on the size of files stands for a full disk: both end a write with an error.
no_space()
{
    status 1 bash -c "ulimit -f 100; '$ouro' bench random ${fast[*]} --file-size 4M" || return
    grep -q 'too large' "$tmp/err"
}
check 'a write that fails is told, and fails' no_space

empty()
{
    local left
    left=$(ls -A "$work")
    [ -z "$left" ] || { echo "left behind: $left"; return 1; }
}
check 'nothing is left behind by all these' empty

# interrupted SIGNAL ARGUMENT...: the run is under way in $work, then the signal comes.
# A shell starts its background commands with SIGINT ignored, hence env.
interrupted()
{
    local signal=$1 pid got tries
    shift
    env --default-signal=INT "$ouro" bench "$@" --dir "$work" --quiet >"$tmp/out" 2>"$tmp/err" &
    pid=$!
    for ((tries = 0; tries < 100; tries++)); do
        [ -z "$(find "$work" -name 'f00*' -print -quit)" ] || break
        sleep 0.05
    done
    [ "$tries" -lt 100 ] || { echo 'no files were made'; kill -KILL "$pid"; return 1; }
    sleep "${LATER:-0.3}"
    kill -s "$signal" "$pid"
    wait "$pid"
    got=$?
    [ "$got" -eq 130 ] || { echo "exit status $got"; cat "$tmp/err"; return 1; }
    [ ! -s "$tmp/out" ] || { echo 'a report of half a run'; return 1; }
    empty
}
check 'Ctrl-C between rounds removes the files' \
    interrupted INT files --contenders blocking --seconds 60 --count 20
check 'Ctrl-C in a long round removes the file' \
    interrupted INT random --contenders blocking --seconds 600 --file-size 1M --rounds 3
check 'Ctrl-C while a large file is made removes it' \
    env LATER=0 bash -c "$(declare -f interrupted empty); work='$work'; tmp='$tmp'; ouro='$ouro'
        interrupted INT random --contenders blocking --seconds 60 --file-size 16G"
check 'SIGTERM removes the files' \
    interrupted TERM files --contenders blocking --seconds 60 --count 20
for contender in glibc-aio posixaio-dropin libaio liburing ouro:uring ouro:kaio ouro:epoll \
    ouro:threads ouro:posixaio; do
    "$ouro" bench files --contenders $contender "${fast[@]:2}" --count 5 >"$tmp/out" 2>&1 || {
        echo "# $contender does not run here: $(tail -1 "$tmp/out")"
        continue
    }
    check "Ctrl-C stops $contender" \
        interrupted INT random --contenders $contender --seconds 600 --file-size 1M --rounds 3
done

# Data that is not what was written must fail the run: the file is changed under it.
wrong_data()
{
    local pid got
    "$ouro" bench random --contenders blocking --seconds 20 --buffered --warm --file-size 1M \
        --dir "$work" --quiet >"$tmp/out" 2>"$tmp/err" &
    pid=$!
    sleep 1
    dd if=/dev/zero of="$(find "$work" -name f0000000)" bs=64k count=16 conv=notrunc status=none
    wait "$pid"
    got=$?
    [ "$got" -eq 1 ] || { echo "exit status $got"; return 1; }
    grep -q 'wrong data' "$tmp/err" && [ ! -s "$tmp/out" ] && empty
}
check 'wrong data fails the run' wrong_data

cat >"$tmp/check.py" <<'END'
import json, statistics, sys
suite, rounds = sys.argv[1], int(sys.argv[2])
depths = [int(d) for d in sys.argv[3].split(',')]
doc = json.load(sys.stdin)
assert doc['schema'] == 1 and doc['suite'] == suite, doc
assert doc['machine']['cpus'] >= 1 and doc['machine']['kernel']
assert doc['options']['rounds'] == rounds
rows = doc['rows']
assert rows and sorted({r['depth'] for r in rows}) == depths, rows
for row in rows:
    assert len(row['rounds']) == rounds and min(row['rounds']) > 0, row
    assert abs(row['ops_per_second'] / statistics.median(row['rounds']) - 1) < 1e-6, row
    assert 0 < row['latency_ns_p50'] <= row['latency_ns_p99'] <= row['latency_ns_p999'], row
    assert row['cpu_seconds'] > 0 and row['operations'] > 0, row
    base = next(r for r in rows if r['contender'] == 'blocking' and r['depth'] == row['depth'])
    ratio = row['ratio_to_blocking']
    pairs = [a / b for a, b in zip(row['rounds'], base['rounds'])]
    assert abs(ratio['ratio'] / statistics.median(pairs) - 1) < 1e-6, row
    assert ratio['low'] <= ratio['ratio'] <= ratio['high'], row
    assert min(pairs) * 0.999999 <= ratio['low'] and ratio['high'] <= max(pairs) * 1.000001, row
twins = [r for r in rows if r['aa']]
assert len(twins) == (len(depths) if 'aa' in sys.argv else 0), twins
for row in twins:
    assert row['ratio_to_itself']['ratio'] > 0, row
END
json()
{
    local suite=$1 depths=$2
    shift 2
    "$ouro" bench "$suite" "${fast[@]}" --json --depth "$depths" "$@" 2>"$tmp/err" >"$tmp/json" ||
        { cat "$tmp/err"; return 1; }
    python3 "$tmp/check.py" "$suite" 3 "$depths" "${@//--/}" <"$tmp/json"
}
check 'JSON of nop' json nop 1,64 --aa
check 'JSON of files' json files 4 --count 20
check 'JSON of files, warm, odd size' json files 4 --count 20 --size 12345 --warm
check 'JSON of random' json random 1,2,8 --file-size 1M
check 'JSON of random with two contenders' \
    json random 4 --file-size 1M --contenders blocking,glibc-aio --aa

cat >"$tmp/notify.py" <<'END'
import json, statistics, sys
doc = json.load(sys.stdin)
assert doc['schema'] == 1 and doc['suite'] == 'notify', doc
points = {(r['contender'], r['depth'], r['way']) for r in doc['rows']}
names = {r['contender'] for r in doc['rows']}
assert {'glibc-aio', 'ouro:threads'} <= names, names
ways = ('none', 'signal', 'thread')
assert points == {(n, d, w) for n in names for d in (1, 3) for w in ways}, points
assert len(doc['rows']) == len(points)
for row in doc['rows']:
    assert len(row['rounds']) == 3 and min(row['rounds']) > 0, row
    assert abs(row['ops_per_second'] / statistics.median(row['rounds']) - 1) < 1e-6, row
    assert 0 < row['latency_ns_p50'] <= row['latency_ns_p99'] <= row['latency_ns_p999'], row
    assert row['cpu_seconds'] > 0 and row['operations'] >= 3 * row['depth'], row
    for base in ('glibc_aio', 'posixaio_dropin'):
        ratio = row['ratio_to_' + base]
        assert ratio is None or 0 < ratio['low'] <= ratio['ratio'] <= ratio['high'], row
END
cat >"$tmp/scale.py" <<'END'
import json, statistics, sys
doc = json.load(sys.stdin)
assert doc['schema'] == 1 and doc['suite'] == 'aio-scale', doc
assert doc['options']['rounds'] == 3 and doc['options']['count'] == 2000, doc
rows = {row['contender']: row for row in doc['rows']}
assert 'glibc-aio' in rows and len(rows) == len(doc['rows']), rows
times = ('submit_ns', 'first_tenth_ns_per_request', 'last_tenth_ns_per_request',
         'suspend_poll_ns', 'suspend_over_ns', 'suspend_wake_ns', 'small_stack_poll_ns',
         'small_stack_over_ns', 'small_stack_wake_ns', 'end_ns')
for name, row in rows.items():
    assert row['requests'] == 2000 and row['operations'] == 3 * 2000, row
    assert row['suspend_entries'] == 1999 and row['cpu_seconds'] > 0, row
    assert row['small_stack_entries'] == (1000 if name == 'glibc-aio' else 1999), row
    for key in times:
        rounds = row['rounds_' + key]
        assert len(rounds) == 3 and min(rounds) > 0, (key, row)
        assert abs(row[key] / statistics.median(rounds) - 1) < 1e-6, (key, row)
    for rate, ns in zip(row['rounds'], row['rounds_submit_ns']):
        assert abs(rate * ns / 2000e9 - 1) < 1e-6, row
    assert row['submit_ns'] >= row['first_tenth_ns_per_request'] * 100, row
    assert 16 <= row['rss_bytes_per_request'] < 4096, row
    assert (row['request_bytes'] is None) == (name == 'glibc-aio'), row
    assert row['ratio_to_glibc_aio']['ratio'] > 0, row
END
scale_json()
{
    "$ouro" bench aio-scale --rounds 3 --count 2000 --json --html "$tmp/scale.html" 2>"$tmp/err" \
        >"$tmp/json" || { cat "$tmp/err"; return 1; }
    python3 "$tmp/scale.py" <"$tmp/json" && python3 "$tmp/page.py" "$tmp/scale.html"
}
notify=(notify --rounds 3 --seconds 0.03 --dir "$work" --file-size 1M)
notify_json()
{
    "$ouro" bench "${notify[@]}" --depth 1,3 --json --html "$tmp/notify.html" 2>"$tmp/err" \
        >"$tmp/json" || { cat "$tmp/err"; return 1; }
    python3 "$tmp/notify.py" <"$tmp/json" && python3 "$tmp/page.py" "$tmp/notify.html"
}
notify_table()
{
    "$ouro" bench "${notify[@]}" --contenders glibc-aio,ouro:threads --ways thread,signal "$@" \
        >"$tmp/out" || return
    [ "$(grep -c '^depth 3*[12], \(signal\|thread\)$' "$tmp/out")" -eq 4 ] || return
    [ "$(grep -c '^ouro:threads .* \[.*\]' "$tmp/out")" -eq 4 ] &&
        grep -q 'req/s.*p99.*CPU s' "$tmp/out"
}
check 'notify prints a table for each depth and way' notify_table
check 'notify reads past the page cache' notify_table --direct
for bad in --ways=x --ways= "--ways=none," --ways=none,none,none,none --count=5 --size=4096 \
    --connections=1 --contenders=blocking; do
    check "$bad is wrong usage of notify" status 2 "$ouro" bench "${notify[@]}" "$bad"
done
check '--ways belongs to notify' says ways status 2 "$ouro" bench random --ways none "${fast[@]}"
check 'Ctrl-C stops notify' interrupted INT notify --contenders glibc-aio --ways thread \
    --seconds 600 --file-size 1M --rounds 3

scale=(aio-scale --rounds 3)
scale_table()
{
    "$ouro" bench "${scale[@]}" --count 200 >"$tmp/out" || return
    grep -q '^200 requests$' "$tmp/out" && grep -q '^glibc-aio  *200 .* 199 ' "$tmp/out"
}
check 'aio-scale prints a table' scale_table
for bad in --count=9 --count=x --rounds=1 --seconds=1 --depth=1 --size=1 --file=README.md --bs=512 \
    --file-size=1M --direct --buffered --cold --warm --connections=1 --ways=none --dir=/tmp \
    --contenders=blocking --contenders=ouro:threads; do
    check "$bad is wrong usage of aio-scale" status 2 "$ouro" bench "${scale[@]}" "$bad"
done
# Processes of this bench: all that have its command line.
scale_processes()
{
    pgrep -f "^$ouro bench aio-scale" || true
}
scale_ends()
{
    local pid got tries
    env --default-signal=INT "$ouro" bench aio-scale --contenders glibc-aio --rounds 900 \
        >"$tmp/out" 2>"$tmp/err" &
    pid=$!
    for ((tries = 0; tries < 100; tries++)); do
        [ "$(scale_processes | wc -l)" -lt 2 ] || break
        sleep 0.05
    done
    kill -s "$1" "$pid"
    wait "$pid" 2>/dev/null
    got=$?
    [ "$got" -eq "$2" ] || { echo "exit status $got"; cat "$tmp/err"; return 1; }
    for ((tries = 0; tries < 100; tries++)); do
        [ -n "$(scale_processes)" ] || return 0
        sleep 0.05
    done
    scale_processes
    return 1
}
check 'aio-scale that is interrupted leaves no process' scale_ends INT 130
check 'aio-scale that is killed leaves no process' scale_ends KILL 137

check 'JSON of info' bash -c "'$ouro' info --json | python3 -m json.tool >/dev/null"

cat >"$tmp/page.py" <<'END'
import re, sys, xml.etree.ElementTree as tree
text = open(sys.argv[1], encoding='utf-8').read()
root = tree.fromstring(text)  # every element is closed
assert root.tag == 'html' and len(root.findall('.//svg')) >= 2, 'charts are missing'
assert 'prefers-color-scheme: dark' in text
for word in ('http:', 'https:', 'src=', 'href=', 'url(', '@import', '<script', '<link'):
    assert word not in text, word + ' makes the page depend on something else'
END
page()
{
    "$ouro" bench "${small[@]}" --depth 1,8 --html "$tmp/a page.html" || return
    python3 "$tmp/page.py" "$tmp/a page.html"
}
check 'the page is well-formed and self-contained' page
check 'JSON of notify, and its page' notify_json
check 'JSON of aio-scale, and its page' scale_json
failed_page()
{
    echo old >"$tmp/old.html"
    status 1 "$ouro" bench "${small[@]}" --dir "$work/none" --html "$tmp/old.html" || return
    [ "$(cat "$tmp/old.html")" = old ] && [ -z "$(find "$tmp" -name '*.partial')" ]
}
check 'a failed run leaves an earlier page alone' failed_page

no_talk()
{
    "$ouro" bench "${small[@]}" "$@" >"$tmp/out" 2>"$tmp/err" && [ ! -s "$tmp/err" ]
}
check 'nothing is said on stderr when it is no terminal' no_talk
check '--quiet says nothing' no_talk --quiet
plain()
{
    "$ouro" bench "${small[@]}" --progress=plain >"$tmp/out" 2>"$tmp/err" &&
        [ "$(wc -l <"$tmp/err")" -ge 3 ] && ! grep -q $'[\r\033]' "$tmp/err"
}
check '--progress=plain says lines' plain
colour()
{
    "$ouro" bench "${small[@]}" --color=always | grep -q $'\033' &&
        ! "$ouro" bench "${small[@]}" | grep -q $'\033' &&
        ! NO_COLOR=1 "$ouro" bench "${small[@]}" --color=never | grep -q $'\033'
}
check 'colours come only when asked for or on a terminal' colour

# The synopsis is printed from the same table that the parser uses.
help_is_whole()
{
    local command=$1 option count=0
    "$ouro" "$command" --help >"$tmp/help" || return
    for option in $("$ouro" help --man-synopsis "$command" | grep -o -- '--[a-z-]*'); do
        grep -q -- "^  $option\b" "$tmp/help" || { echo "$option is not in --help"; return 1; }
        grep -q -- "$option" "$tmp/complete.bash" || { echo "$option does not complete"; return 1; }
        grep -q -- " -l ${option#--} " "$tmp/complete.fish" || return 1
        grep -q -- "'$option" "$tmp/complete.zsh" || return 1
        count=$((count + 1))
    done
    [ "$count" -ge 6 ] || { echo "only $count options"; return 1; }
    [ -z "$(awk 'length > 80' "$tmp/help")" ] || { echo 'a line is too long'; return 1; }
}
for shell in bash zsh fish; do
    "$ouro" completion $shell >"$tmp/complete.$shell"
    check "completion for $shell is printed" grep -q bench "$tmp/complete.$shell"
done
for command in info bench run echo completion help; do
    check "$command --help lists each option" help_is_whole $command
done
check 'completion of an unknown shell is wrong usage' status 2 "$ouro" completion nonsense
check 'the completion for bash is valid' bash -n "$tmp/complete.bash"
for shell in zsh fish; do
    command -v $shell >/dev/null && check "the completion for $shell is valid" \
        $shell -n "$tmp/complete.$shell"
done
completes()
{
    local wanted=$1
    shift
    (
        # shellcheck disable=SC1091
        . "$tmp/complete.bash"
        COMP_WORDS=("$@")
        COMP_CWORD=$(($# - 1))
        compopt() { :; }
        _ouro
        printf '%s\n' "${COMPREPLY[@]}"
    ) | grep -qx -- "$wanted"
}
check 'a command completes' completes bench ouro be
check 'a suite completes' completes random ouro bench ra
check 'an action completes' completes serve ouro echo se
check 'an option completes' completes --rounds= ouro bench --rou
check 'a value completes' completes never ouro bench --color = ne
check 'an optional value completes' completes json ouro run --stats = j
check 'an option with one completes without' completes --stats ouro run --st
check 'an engine completes' completes threads ouro bench --engine = thr

check '--version prints a version' bash -c "'$ouro' --version | grep -qx 'ouro [0-9.]*'"
check 'nothing is left behind in the end' empty
done_
