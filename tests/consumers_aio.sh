#!/bin/sh
# SPDX-License-Identifier: MIT
# Programs of others, unmodified, with their POSIX AIO on ouro: fio, stress-ng and MPI-IO. Each has
# to do its work without an error, and to have asked the drop-in for it.
set -u
cd "$(dirname "$0")/.." || exit 2
. tests/consumers.sh

# shellcheck disable=SC2034
interface=posix_aio

for engine in uring epoll threads; do
    OURO_ENGINE=$engine
    export OURO_ENGINE
    check "fio on $engine: 4 jobs, cached, verified" verified posixaio
    check "fio on $engine: 4 jobs, direct, verified" verified posixaio --direct=1
    check "fio on $engine: 4 jobs that are threads, verified" verified posixaio --thread
    check "stress-ng on $engine" used 100 \
        stress-ng --aio 2 --verify --timeout "$seconds" --temp-path "$files"
done
unset OURO_ENGINE

# Blocks of two processes by turns, without waiting, and read again by the other one.
cat >"$tmp/mpi.c" <<'END'
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 65536, BLOCKS = 64 };

static char data[BLOCKS][BLOCK];

static void transfer(MPI_File file, int rank, int ranks, int writes)
{
    MPI_Request requests[BLOCKS];

    for (int i = 0; i < BLOCKS; i++) {
        MPI_Offset at = ((MPI_Offset)i * ranks + rank) * BLOCK;

        if (writes)
            memset(data[i], 'a' + (i + rank) % 26, BLOCK);
        if (writes ? MPI_File_iwrite_at(file, at, data[i], BLOCK, MPI_BYTE, &requests[i])
                   : MPI_File_iread_at(file, at, data[i], BLOCK, MPI_BYTE, &requests[i]))
            MPI_Abort(MPI_COMM_WORLD, 1);
    }
    if (MPI_Waitall(BLOCKS, requests, MPI_STATUSES_IGNORE))
        MPI_Abort(MPI_COMM_WORLD, 2);
}

int main(int argc, char **argv)
{
    MPI_File file;
    int rank, ranks;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    if (MPI_File_open(MPI_COMM_WORLD, argv[1], MPI_MODE_CREATE | MPI_MODE_RDWR, MPI_INFO_NULL,
                      &file))
        MPI_Abort(MPI_COMM_WORLD, 3);
    transfer(file, rank, ranks, 1);
    MPI_File_sync(file);
    MPI_Barrier(MPI_COMM_WORLD);
    transfer(file, (rank + 1) % ranks, ranks, 0);
    for (int i = 0; i < BLOCKS; i++)
        for (int k = 0; k < BLOCK; k++)
            if (data[i][k] != 'a' + (i + (rank + 1) % ranks) % 26)
                MPI_Abort(MPI_COMM_WORLD, 4);
    MPI_File_close(&file);
    MPI_Finalize();
    return 0;
}
END
mpi()
{
    used 256 mpirun --allow-run-as-root --oversubscribe -n 2 -x LD_PRELOAD -x OURO_STATS_FILE \
        "$tmp/mpi" "$files/mpi"
}
check 'an MPI-IO program is built' mpicc -std=c11 -O2 -o "$tmp/mpi" "$tmp/mpi.c"
check 'MPI-IO: two processes write and read' mpi

done_
