/* SPDX-License-Identifier: MIT */
/* aio_size.c: what a request takes, for the report of `ouro bench`; no part of the drop-in. */
#include "posix_aio.h"

const unsigned aio_request_bytes = sizeof(struct request);
