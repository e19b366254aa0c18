# SPDX-License-Identifier: MIT
# shellcheck shell=sh
# For tests with programs of others: source it in the tree's root, set $interface, and call `used`.
# $files is a directory of the script's own, on a disk; $seconds is how long what runs for a while
# runs (CONSUMER_SECONDS).
. tests/tap.sh

ouro=$build/ouro
seconds=${CONSUMER_SECONDS:-10}
files=$(mktemp -d "${FILES:-/var/tmp}/ouro-consumers-XXXXXX") || exit 2
finish()
{
    rm -rf "$tmp" "$files"
}
trap finish EXIT

# used LEAST COMMAND...: it succeeds within some minutes, and has made so many requests at least.
used()
{
    tap_least=$1
    shift
    if ! timeout --kill-after=5 "$((seconds + 120))" \
        "$ouro" run --stats=json "$@" >"$tmp/out" 2>"$tmp/err"; then
        tail -n 20 "$tmp/out"
        sed '/^{$/,$d' "$tmp/err" # without the numbers
        return 1
    fi
    counted "$tap_least" "$tmp/err"
}

# counted LEAST FILE: what `ouro run --stats=json` has written there says so; what it says is shown.
counted()
{
    python3 - "$1" "$2" "${interface?}" <<'END'
import json, sys
least, path, name = sys.argv[1:]
text = open(path).read()
interfaces = json.loads(text[text.index('{\n  "schema"'):])["interfaces"]
stats = next(each for each in interfaces if each["name"] == name)
requests, results = stats["requests"], stats["results"]
print(requests, results, stats["engines"], "depth", stats["depth_max"])
made = sum(requests.get(kind, 0) for kind in ("read", "write", "fsync", "left_to_kernel"))
sys.exit(made < int(least) or results["refused"] > 0)
END
}

# checked ABOUT COMMAND...: as check, and what the command says is shown also if it succeeded.
checked()
{
    check "$@"
    tail -n 3 "$tmp/tap.out" | cut -c -200 | sed 's/^/#   /'
}

# verified ENGINE OPTION...: fio reads every block again that it has written, and ends with the
# first that is wrong.
verified()
{
    tap_engine=$1
    shift
    used 1000 fio --name=verified --directory="$files" --ioengine="$tap_engine" --rw=randrw \
        --bs=4k --size=16m --numjobs=4 --iodepth=16 --verify=crc32c --verify_fatal=1 \
        --verify_state_save=0 --fsync=200 "$@" --time_based --runtime="$seconds" \
        --group_reporting &&
        grep -q 'err= 0' "$tmp/out"
}
