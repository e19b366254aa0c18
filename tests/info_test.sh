#!/bin/bash
# SPDX-License-Identifier: MIT
# `ouro info`: tells the truth about engines, the choice and limits, also where io_uring is refused,
# and needs no rights. What the machine offers differs, so figures are compared with other sources.
set -u
cd "$(dirname "$0")/.." || exit 2
. tests/tap.sh

ouro=$build/ouro
unset OURO_ENGINE NO_COLOR

# The document's form, and what must hold between its parts wherever it was made.
cat >"$tmp/form.py" <<'END'
import json, os, platform, resource, sys
doc = json.load(sys.stdin)
assert doc['schema'] == 1, doc
assert list(doc) == ['schema', 'version', 'kernel', 'cpus', 'engines', 'chosen', 'limits',
                     'environment'], list(doc)
assert doc['kernel']['release'] == platform.release(), doc['kernel']
assert doc['cpus'] == os.cpu_count()
engines = {e['name']: e for e in doc['engines']}
assert [e['name'] for e in doc['engines']] == ['uring', 'kaio', 'epoll', 'threads', 'posixaio']
for e in doc['engines']:
    assert e['available'] == (e['errno'] == 0) == (e['why'] is None), e
    assert not set(e['features']) & set(e['features_on_request']), e
    assert e['available'] or (len(e['why']) > 20 and not e['features']), e
chosen = doc['chosen']
if chosen['source'] == 'automatic':
    assert chosen['engine'] == next(e['name'] for e in doc['engines'] if e['available']), chosen
    assert bool(chosen['why']) == (chosen['engine'] != 'uring'), chosen
if chosen['engine']:
    assert engines[chosen['engine']]['available'] and chosen['errno'] == 0
    assert set(chosen['operations'].values()) <= {'native', 'emulated', 'worker', 'no'}, chosen
    assert len(chosen['operations']) == 43 and chosen['operations']['work'] != 'no'
    ways = [chosen['files']['cached'], chosen['files']['uncached'], chosen['direct_files']['how'],
            chosen['sockets']['poll']]
    assert set(ways) <= {'inline', 'native', 'worker', None} and ways[1] and ways[3], ways
    assert ways[1] == ('native' if chosen['engine'] in ('uring', 'posixaio') else 'worker'), ways
else:
    assert chosen['errno'] > 0, chosen
def limit(which):
    return [None if value < 0 else value for value in resource.getrlimit(which)]
free = json.load(open(sys.argv[1])) if os.path.exists(sys.argv[1]) else None
for expression in sys.argv[2:]:
    assert eval(expression), expression + ' is not so in ' + json.dumps(doc, indent=1)
END
# says_json EXPRESSION... -- COMMAND...: exit status 0, the form holds, and these are true of it.
says_json()
{
    local truths=()
    while [ "$1" != -- ]; do
        truths+=("$1")
        shift
    done
    shift
    "$@" >"$tmp/json" 2>"$tmp/err" || { echo "exit status $?"; cat "$tmp/err"; return 1; }
    [ ! -s "$tmp/err" ] || { cat "$tmp/err"; return 1; }
    python3 "$tmp/form.py" "$tmp/free.json" "${truths[@]}" <"$tmp/json"
}

refused='not engines["uring"]["available"]'
fallen='chosen["engine"] == "kaio" and chosen["files"]["uncached"] == "worker"'
threads='chosen["engine"] == "threads" and chosen["files"]["uncached"] == "worker"'
reason='engines["uring"]["why"]'

check 'the document has its form' says_json 'doc["environment"] == {"OURO_ENGINE": None}' \
    -- "$ouro" info --json
check 'limits are those of the process' says_json \
    'doc["limits"]["nofile_soft"] == limit(resource.RLIMIT_NOFILE)[0]' \
    'doc["limits"]["nofile_hard"] == limit(resource.RLIMIT_NOFILE)[1]' \
    'doc["limits"]["memlock_soft_bytes"] == limit(resource.RLIMIT_MEMLOCK)[0]' \
    'doc["limits"]["memlock_hard_bytes"] == limit(resource.RLIMIT_MEMLOCK)[1]' \
    'doc["limits"]["aio_max_nr"] == int(open("/proc/sys/fs/aio-max-nr").read())' \
    -- "$ouro" info --json
check 'blocked with EPERM: status 0, kaio is chosen, the filter is named' \
    says_json "$refused" "$fallen" "'seccomp' in $reason and 'EPERM' in $reason" \
    'doc["limits"]["seccomp_mode"] == 2' -- tests/blocked 1 "$ouro" info --json
check 'hidden with ENOSYS: the filter is named, not the kernel' \
    says_json "$refused" "$fallen" "'seccomp' in $reason and 'ENOSYS' in $reason" \
    -- tests/blocked 38 "$ouro" info --json
check 'killed for io_uring: status 0, and the reason says so' \
    says_json "$refused" "$fallen" "'kills' in $reason" -- tests/blocked kill "$ouro" info --json
check 'OURO_ENGINE=threads is seen and obeyed' \
    says_json 'chosen["source"] == "OURO_ENGINE"' "$threads" \
    'doc["environment"]["OURO_ENGINE"] == "threads"' \
    -- env OURO_ENGINE=threads "$ouro" info --json
check 'an empty OURO_ENGINE is automatic' \
    says_json 'chosen["source"] == "automatic"' -- env OURO_ENGINE= "$ouro" info --json
check 'an OURO_ENGINE that nobody knows: status 0, none is chosen' \
    says_json 'chosen["engine"] is None and chosen["errno"] == 22' \
    -- env OURO_ENGINE=nonsense "$ouro" info --json
check 'an OURO_ENGINE that is refused: status 0, none is chosen' \
    says_json "$refused" 'chosen["engine"] is None and chosen["errno"] == 95' \
    -- env OURO_ENGINE=uring tests/blocked 1 "$ouro" info --json
check 'a preference list falls to its second' \
    says_json "$threads" -- env OURO_ENGINE=uring,threads \
    tests/blocked 1 "$ouro" info --json
check '--engine goes before the environment' \
    says_json 'chosen["source"] == "--engine"' "$threads" \
    -- env OURO_ENGINE=uring "$ouro" info --engine=threads --json

user=()
[ "$(id -u)" -ne 0 ] || user=(setpriv --reuid=65534 --regid=65534 --clear-groups)
# As somebody without rights, who may not look into our directories: the command stands in /tmp.
cp "$ouro" "$tmp/ouro" && chmod 755 "$tmp" "$tmp/ouro"
check 'without any rights the form is the same' \
    says_json 'not doc["limits"]["memlock_exempt"]' -- "${user[@]}" "$tmp/ouro" info --json

# A limit of nothing on locked memory: io_uring is refused exactly where rings count.
counted="free['limits']['memlock_counts_rings']"
no_memory()
{
    "${user[@]}" "$tmp/ouro" info --json >"$tmp/free.json" || return
    # shellcheck disable=SC2016
    says_json "(engines['uring']['available'], $counted) != (True, True)" \
        "(engines['uring']['available'], $counted) != (False, False)" \
        -- "${user[@]}" bash -c 'ulimit -l 0 && exec "$0" info --json' "$tmp/ouro"
}
check 'whether rings count as locked memory is told rightly' no_memory

status()
{
    local wanted=$1 got
    shift
    "$@" >"$tmp/out" 2>"$tmp/err"
    got=$?
    [ "$got" -eq "$wanted" ] || { echo "status $got, wanted $wanted"; cat "$tmp/err"; return 1; }
}
check 'an engine that cannot be had fails with --engine' \
    status 1 tests/blocked 1 "$ouro" info --engine=uring
check 'an unknown engine is wrong usage' status 2 "$ouro" info --engine=nonsense
check 'an operand is wrong usage' status 2 "$ouro" info more
check 'output that cannot be written fails' status 1 bash -c "'$ouro' info >/dev/full"

# The text says the same as the document, in lines that fit.
text()
{
    status 0 "$@" || return
    [ -z "$(awk 'length > 80' "$tmp/out")" ] || { echo 'a line is too long'; return 1; }
    [ "$(wc -l <"$tmp/out")" -le 50 ] || { echo 'too long to read'; return 1; }
    ! grep -q $'\033' "$tmp/out"
}
check 'the text fits' text "$ouro" info
check 'the text fits with --verbose' text "$ouro" info --verbose
check 'the text fits where io_uring is refused' text tests/blocked 1 "$ouro" info
# The lines are wrapped: read as one.
names_the_cause()
{
    tr -s ' \n' ' ' <"$tmp/out" | grep -q 'seccomp filter is in force.* run with a profile'
}
check 'it names the cause and what to do' names_the_cause
check 'without --verbose operations are not listed' \
    bash -c "! '$ouro' info | grep -q ftruncate && '$ouro' info --verbose | grep -q ftruncate"
synopsis()
{
    grep -qxF -- "$("$ouro" help --man-synopsis "$1")" "man/ouro-$1.1.scd"
}
check 'the synopsis in its man page is that of the option table' synopsis info
check 'so it is for ouro bench' synopsis bench
check 'colours when asked for' bash -c "'$ouro' info --color=always | grep -q $'\\033'"
done_
