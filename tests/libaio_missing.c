/* SPDX-License-Identifier: MIT */
/* libaio_missing.c: stands for the tests of libaio where its header is not there, and says so. */
#include <stdio.h>

int main(void)
{
    printf("1..0 # SKIP libaio.h is not installed\n");
    return 0;
}
