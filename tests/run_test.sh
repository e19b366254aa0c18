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

# What is installed finds what is installed with it.
install_tree
check "the installed command finds the installed drop-in" \
    sh -c "$tmp/root$prefix/bin/ouro run env |
        grep -q '^LD_PRELOAD=$tmp/root$prefix/.*/libouro-posixaio.so'"
done_
