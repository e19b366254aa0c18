# SPDX-License-Identifier: MIT
# shellcheck shell=sh
# TAP for tests that are shell scripts: source it in the tree's root, call `check`, end with done_.
# $tmp is a directory of the script's own, removed at its end; $build is the build directory.

tap_count=0
tap_failed=0
build=$(cd "${OURO_BUILD:-build}" && pwd) || exit 2
tmp=$(mktemp -d "${TMPDIR:-/tmp}/ouro-test-XXXXXX") || exit 2
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM

# check DESCRIPTION COMMAND...: one result; what the command said is shown if it failed.
check()
{
    tap_about=$1
    shift
    tap_count=$((tap_count + 1))
    if "$@" >"$tmp/tap.out" 2>&1; then
        echo "ok $tap_count - $tap_about"
    else
        tap_status=$?
        tap_failed=$((tap_failed + 1))
        echo "not ok $tap_count - $tap_about"
        echo "# status $tap_status of: $*"
        sed 's/^/# /' "$tmp/tap.out"
    fi
}

# skip DESCRIPTION REASON: one result that says nothing here.
skip()
{
    tap_count=$((tap_count + 1))
    echo "ok $tap_count - $1 # SKIP $2"
}

done_()
{
    echo "1..$tap_count"
    [ "$tap_failed" -eq 0 ] || exit 1
    exit 0
}

# Installs the build under $tmp/root and points pkg-config and the dynamic linker to it; sets
# $prefix and $libdir for the script.
# shellcheck disable=SC2034
install_tree()
{
    DESTDIR=$tmp/root meson install --no-rebuild --quiet -C "$build" || return
    pc=$(find "$tmp/root" -name ouro.pc) || return
    libdir=$(dirname "$(dirname "$pc")")
    prefix=$(sed -n 's/^prefix=//p' "$pc")
    export PKG_CONFIG_SYSROOT_DIR="$tmp/root" PKG_CONFIG_LIBDIR="$libdir/pkgconfig"
    export LD_LIBRARY_PATH="$libdir"
}
