/* SPDX-License-Identifier: MIT */
/* dropin_alloc.c: allocation functions of the program's own, which count, call, and hand over to
 * the C library's. A sanitizer has its own instead: then nothing is counted, nor called. */
#include "dropin_test.h"

void call_nobody(void)
{
}

static atomic_bool counting;
static atomic_int allocations;
void (*_Atomic in_allocation)(void) = call_nobody;

#if !SANITIZED
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void __libc_free(void *old);

static void count_one(void)
{
    void (*call)(void) = in_allocation;

    if (counting)
        allocations++;
    call();
}

void *malloc(size_t size)
{
    count_one();
    return __libc_malloc(size);
}

void *calloc(size_t nmemb, size_t size)
{
    count_one();
    return __libc_calloc(nmemb, size);
}

void *realloc(void *ptr, size_t size)
{
    count_one();
    return __libc_realloc(ptr, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    count_one();
    return __libc_memalign(alignment, size);
}

int posix_memalign(void **memptr, size_t alignment, size_t size)
{
    count_one();
    *memptr = __libc_memalign(alignment, size);
    return *memptr ? 0 : ENOMEM;
}

void free(void *ptr)
{
    if (ptr)
        count_one();
    __libc_free(ptr);
}
#endif

void start_counting(void)
{
    allocations = 0;
    counting = true;
}

int counted(void)
{
    counting = false;
    return allocations;
}
