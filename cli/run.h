/* SPDX-License-Identifier: MIT */
/* What the files of `ouro run` share: a program that runs as a child, and what it is counted in. */
#ifndef OURO_CLI_RUN_H
#define OURO_CLI_RUN_H

#include "cli.h"

enum { RUN_NOT_EXECUTABLE = 126, RUN_NOT_FOUND = 127 }; /* as shells have it */

/* ---- run_child.c ---- */

/* Runs the program in a child and waits for it; signals go on to it. Its status as of waitpid(2),
 * or -errno. */
int run_child(const char *program, char **argv);

/* Ends as the program did: by the same signal, or the result is its exit status. */
int run_end_as(int status);

/* ---- run_stats.c ---- */

struct stats_file;

/* Memory in which drop-ins count, and its name in the environment. NULL with errno. */
struct stats_file *run_stats_open(void);

/* On stderr: what was counted. */
void run_stats_print(const struct stats_file *file);
/* status: of waitpid(2). */
void run_stats_print_json(const struct stats_file *file, char **argv, int status, double seconds);

#endif
