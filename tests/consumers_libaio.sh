#!/bin/bash
# SPDX-License-Identifier: MIT
# Programs of others, unmodified, with their libaio on ouro: fio, QEMU, sysbench, stressapptest, LVM
# and the tools for thin volumes, tgt, and MariaDB. Each has to do its work without an error, and to
# have asked the drop-in for it. As root; CRASHES (20) is how often MariaDB is killed.
set -u
cd "$(dirname "$0")/.." || exit 2
. tests/consumers.sh

# shellcheck disable=SC2034
interface=libaio
crashes=${CRASHES:-20}
loop=
servers=

finish()
{
    for pid in $servers; do
        kill -9 "$pid" 2>/dev/null
    done
    [ -z "$loop" ] || losetup -d "$loop" 2>/dev/null
    rm -rf "$tmp" "$files"
}

# ---- fio: requests of its own, events by io_getevents and from the ring

for reap in '' --userspace_reap; do
    for how in --direct=0 --direct=1 --thread; do
        checked "fio${reap:+ reads the ring}, $how, verified" verified libaio $how $reap
    done
done
verified_on()
{
    OURO_ENGINE=$1 verified libaio
}
for engine in epoll threads; do
    checked "fio on $engine, verified" verified_on $engine
done

# ---- QEMU: reads the ring, and never calls for events

qemu_pattern()
{
    used 5 qemu-io -i native -t none -f "$1" "$2" \
        -c 'aio_write -P 0x11 0 4M' -c 'aio_write -P 0x22 4M 4M' -c 'aio_write -P 0x33 8M 64k' \
        -c 'aio_flush' -c 'flush' -c 'aio_read -P 0x11 0 4M' -c 'aio_read -P 0x22 4M 4M' \
        -c 'aio_flush' -c 'read -P 0x33 8M 64k' -c 'write -z 1M 1M' -c 'read -P 0 1M 1M' &&
        ! grep -qiE 'fail|error' "$tmp/out"
}
qemu_copy()
{
    qemu-img convert -f raw -O qcow2 "$files/raw" "$files/copy" &&
        used 20 qemu-img bench -n -t none -f qcow2 -c 2000 -d 16 -w --pattern=85 "$files/copy" &&
        qemu-img check -f qcow2 "$files/copy"
}
for format in raw qcow2; do
    check "an image of QEMU's: $format" qemu-img create -q -f $format "$files/$format" 64M
    checked "qemu-io on it writes and reads" qemu_pattern $format "$files/$format"
    for write in '' -w; do
        checked "qemu-img bench, $format${write:+, writing}" used 3000 \
            qemu-img bench -n -t none -f $format -c 20000 -d 32 $write "$files/$format"
    done
done
checked "a copy is written to, and whole" qemu_copy

# ---- sysbench

sysbench_files()
{
    (cd "$files" && sysbench fileio --file-total-size=64M --file-num=8 prepare >/dev/null &&
        used 500 sysbench fileio --file-total-size=64M --file-num=8 --file-test-mode=rndrw \
            --file-io-mode=async --threads=4 --time="$seconds" "$@" run &&
        sysbench fileio --file-total-size=64M --file-num=8 cleanup >/dev/null)
}
checked "sysbench, cached" sysbench_files
checked "sysbench, direct" sysbench_files --file-extra-flags=direct

# ---- What is for block devices

truncate -s 256M "$files/disk"
loop=$(losetup -f --show "$files/disk") || loop=
if [ -n "$loop" ]; then
    checked "stressapptest writes a device and reads it" used 100 \
        stressapptest -s "$seconds" -M 64 -m 1 -d "$loop" --destructive
    dd if=/dev/zero of="$loop" bs=1M count=8 2>/dev/null
    lvm_config="devices { use_devicesfile=0 filter=[\"a|^$loop\$|\", \"r|.*|\"] }
        activation { udev_sync=0 udev_rules=0 } global { event_activation=0 }"
    volumes()
    {
        used 1 lvm pvcreate -y --config "$lvm_config" --driverloaded n "$loop" &&
            used 1 lvm vgcreate --config "$lvm_config" --driverloaded n ouro_test "$loop" &&
            for i in 1 2 3 4; do
                used 1 lvm lvcreate -an -Zn -Wn -L 8M -n "v$i" --config "$lvm_config" \
                    --driverloaded n ouro_test || return
            done &&
            used 1 lvm vgck --config "$lvm_config" --driverloaded n ouro_test &&
            used 1 lvm pvck --config "$lvm_config" --driverloaded n "$loop" &&
            [ "$(lvm lvs --noheadings --config "$lvm_config" --driverloaded n ouro_test \
                2>/dev/null | wc -l)" = 4 ] &&
            used 1 lvm vgremove -f -y --config "$lvm_config" --driverloaded n ouro_test
    }
    checked "LVM makes a group and its volumes, and finds them again" volumes
else
    check "there are loop devices" false
fi

# Metadata of a pool, as the tools exchange it.
cat >"$tmp/thin.xml" <<'END'
<superblock uuid="" time="1" transaction="2" flags="0" version="2" data_block_size="128"
    nr_data_blocks="4096">
  <device dev_id="0" mapped_blocks="100" transaction="0" creation_time="0" snap_time="1">
    <range_mapping origin_begin="0" data_begin="0" length="100" time="0"/>
  </device>
  <device dev_id="1" mapped_blocks="1" transaction="1" creation_time="1" snap_time="1">
    <single_mapping origin_block="7" data_block="300" time="1"/>
  </device>
</superblock>
END
thin()
{
    truncate -s 16M "$files/thin" "$files/thin2"
    used 1 thin_restore -i "$tmp/thin.xml" -o "$files/thin" &&
        used 1 thin_check "$files/thin" &&
        used 1 thin_dump -o "$tmp/dumped.xml" "$files/thin" &&
        diff <(tr -d ' \n' <"$tmp/thin.xml") <(tr -d ' \n' <"$tmp/dumped.xml") &&
        used 1 thin_repair -i "$files/thin" -o "$files/thin2" && used 1 thin_check "$files/thin2"
}
checked "the tools for thin volumes agree with themselves" thin

# ---- tgt: waits for as many events as the eventfd has counted

started()
{
    for _ in $(seq 100); do
        "$@" >/dev/null 2>&1 && return
        sleep 0.1
    done
    return 1
}
target()
{
    truncate -s 64M "$files/target"
    "$ouro" run --stats=json tgtd -f -d 0 --iscsi portal=127.0.0.1:3269 \
        >"$tmp/tgtd.out" 2>"$tmp/tgtd.err" &
    servers="$servers $!"
    tgt_name=iqn.2026-01.test:ouro
    tgt_url=iscsi://127.0.0.1:3269/$tgt_name/1
    started tgtadm --lld iscsi --mode system --op show &&
        tgtadm --lld iscsi --mode target --op new --tid 1 --targetname "$tgt_name" &&
        tgtadm --lld iscsi --mode logicalunit --op new --tid 1 --lun 1 --bstype aio \
            --backing-store "$files/target" &&
        tgtadm --lld iscsi --mode target --op bind --tid 1 --initiator-address ALL &&
        timeout 60 qemu-img bench -f raw -c 5000 -d 32 "$tgt_url" &&
        timeout 60 qemu-img bench -f raw -w --pattern=170 -c 2000 -d 32 "$tgt_url" &&
        timeout 60 qemu-io -f raw -c 'read -P 170 0 4M' -c 'aio_write -P 7 8M 8M' -c aio_flush \
            -c 'read -P 7 8M 8M' "$tgt_url" &&
        tgtadm --lld iscsi --mode target --op delete --force --tid 1 &&
        tgtadm --lld iscsi --mode system --op delete &&
        started sh -c "! kill -0 $! 2>/dev/null" && counted 5000 "$tmp/tgtd.err"
}
checked "tgt serves a disk by iSCSI" target

# ---- MariaDB: io_getevents as a system call of its own, and a crash in mid-flight

data=$files/mariadb
socket=$tmp/mariadb.sock
sql()
{
    mariadb --no-defaults --socket="$socket" --batch --skip-column-names "$@"
}

# serve FLUSH-METHOD: starts a server; $server is its process, or that of `ouro run`.
serve()
{
    rm -f "$data/pid"
    "$ouro" run --stats=json mariadbd --no-defaults --user=root --datadir="$data" \
        --socket="$socket" --pid-file="$data/pid" --skip-networking --innodb-use-native-aio=1 \
        --innodb-linux-aio=aio --innodb-flush-method="$1" --innodb-buffer-pool-size=16M \
        --innodb-log-file-size=8M --innodb-io-capacity=2000 --innodb-max-dirty-pages-pct=5 \
        >"$tmp/mariadb.out" 2>"$tmp/mariadb.err" &
    server=$!
    servers="$servers $server"
    for _ in $(seq 300); do
        sql -e 'select 1' >/dev/null 2>&1 && return
        kill -0 "$server" 2>/dev/null || break
        sleep 0.1
    done
    cat "$tmp/mariadb.err"
    return 1
}

# Every row tells of itself, and what was told of as committed has to be there.
load()
{
    for ((i = 0; ; i++)); do
        echo "start transaction;
            insert into t (v, pad) values ($i, repeat(md5($i), 60));
            update t set pad = repeat(md5(v), 60) where id = floor(1 + rand() * $i);
            set @last = (select max(id) from t);
            commit; select @last;"
    done | sql --unbuffered test 2>/dev/null >"$tmp/acknowledged.$1"
}
whole()
{
    sql test -e 'check table t extended' | grep -q 'OK$' &&
        [ "$(sql test -e 'select count(*) from t
            where binary pad <> binary repeat(md5(v), 60)')" = 0 ]
}
crash()
{
    last=0
    serve "$1" || return
    for i in 1 2 3 4; do
        load "$i" &
    done
    sleep "$(awk "BEGIN { srand($2); print 1 + rand() * 2 }")"
    kill -9 "$(cat "$data/pid")"
    wait "$server"
    wait
    for i in 1 2 3 4; do
        committed=$(tail -n 2 "$tmp/acknowledged.$i" | head -n 1)
        [ "${committed:-0}" -gt "$last" ] && last=$committed
    done
    serve "$1" && whole || return
    found=$(sql test -e 'select max(id) from t')
    sql -e shutdown && wait "$server" && counted 10 "$tmp/mariadb.err" || return
    grep -o 'Using Linux native AIO' "$tmp/mariadb.err"
    echo "committed up to row $last, found up to row $found"
    [ "$last" -gt 0 ] && [ "$found" -ge "$last" ]
}
install_database()
{
    mkdir "$data" && mariadb-install-db --no-defaults --user=root --datadir="$data" \
        --auth-root-authentication-method=normal --skip-test-db >/dev/null &&
        serve fsync && sql -e 'create database test; create table test.t (
            id int auto_increment primary key, v int, pad text, key (v)) engine=innodb' &&
        sql -e shutdown && wait "$server"
}
checked "MariaDB makes its tables" install_database
for ((crash = 1; crash <= crashes; crash++)); do
    method=fsync
    ((crash % 2)) || method=O_DIRECT
    checked "MariaDB, $method: all is there behind crash $crash" crash $method "$crash"
done

done_
