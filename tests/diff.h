/* SPDX-License-Identifier: MIT */
/* diff.h: random programs of an interface, run on two implementations of it and compared.
 *
 * A program is made of a seed alone, so that who runs it and who prints it make the same. Its steps
 * are random; who runs it keeps a model of what is in flight, and does first what makes the next
 * step's outcome a matter of the implementation and not of time. Because of that steps may be left
 * out, and the rest is still a program: so it is made small. */
#ifndef OURO_TESTS_DIFF_H
#define OURO_TESTS_DIFF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { TRACE = 1 << 16 }; /* bytes of a program's trace */

/* Where programs may see another thing: each is counted, so that nothing hides behind it. */
struct diff_allowed {
    const char *statement, *about;
    unsigned long seen;
};

/* An interface. Of its programs there is one at a time; `without` has a bit for each step that is
 * left out. */
struct diff {
    const char *name, *reference; /* the command; what it is compared with */
    unsigned at_once;             /* programs that run beside each other */

    void (*make)(uint64_t seed);
    unsigned (*steps)(void);
    void (*print)(FILE *out, uint32_t without); /* C-like */

    /* Runs it in this process, which is of no other use afterwards, and writes a line per fact that
     * was seen. is_reference: it is the implementation that the other is compared with. */
    void (*run)(uint32_t without, bool is_reference, const char *dir, char *ret_trace);

    /* Of two lines that differ: which of the allowed differences it is, or -1. */
    int (*allowed_as)(uint32_t without, const char *reference, const char *tested);
    struct diff_allowed *allowed;
    unsigned allowed_count;
};

int diff_main(int argc, char **argv, const struct diff *diff);

static inline bool begins(const char *line, const char *with)
{
    return strncmp(line, with, strlen(with)) == 0;
}

/* The numbers of which a program is made. */
void random_begin(uint64_t seed);
uint64_t random_word(void);
unsigned below(unsigned count);
bool once_in(unsigned count);

#endif
