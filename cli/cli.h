/* SPDX-License-Identifier: MIT */
/* What the files of the `ouro` command share: a command is one `struct cli_command` with ONE option
 * table, from which main.c and options.c make the parser, --help, the man page's synopsis and the
 * shell completion. To add a command: write the struct in a file of its own, declare it at the end
 * of this header, and name it in the table in main.c.
 *
 *     static bool opt_all;
 *     static const struct cli_option options[] = {
 *         {.name = "all", .kind = CLI_FLAG, .into = &opt_all, .help = "show refused engines too"},
 *         {0},
 *     };
 *     static int run(const struct cli_settings *set, int argc, char **argv) { ... return CLI_OK; }
 *     const struct cli_command cli_info = {
 *         .name = "info", .summary = "show engines", .options = options, .run = run,
 *     };
 *
 * `run` gets only the operands (argv[0] is the first of them). Data goes to stdout, everything said
 * to a person goes to stderr by cli_error and cli_note. */
#ifndef OURO_CLI_H
#define OURO_CLI_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#if defined(__GNUC__)
#define CLI_PRINTF(text, first) __attribute__((format(printf, text, first)))
#else
#define CLI_PRINTF(text, first)
#endif

/* Exit statuses of every command. */
enum {
    CLI_OK = 0,
    CLI_FAILED = 1,
    CLI_USAGE = 2,
    CLI_INTERRUPTED = 130, /* ended by SIGINT or SIGTERM, after cleaning up */
};

/* ---- options (options.c) ---- */

/* The type of an option's value, and of the static variable that `into` points to. */
enum cli_kind {
    CLI_FLAG,    /* bool: no value, sets true */
    CLI_TEXT,    /* const char *: any text */
    CLI_COUNT,   /* unsigned: a whole number */
    CLI_SIZE,    /* uint64_t: bytes, with an optional suffix k, M or G (powers of 1024) */
    CLI_SECONDS, /* double: seconds, 0.25 and the like */
};

/* One option; a table of them ends with an entry without a name. */
struct cli_option {
    const char *name; /* long name without dashes */
    enum cli_kind kind;
    bool hidden;        /* for tests and packaging: not in help or completion */
    void *into;         /* where the value goes; holds the default before */
    const char *value;  /* name of the value in help; NULL for a flag */
    const char *help;   /* one line, without a full stop */
    const char *words;  /* completion: words divided by spaces, or a class: "@file", "@dir",
                       * "@engine", "@contender", "@command" */
    const char *absent; /* of TEXT: what the name alone stands for; NULL: it wants a value */
    uint64_t min, max;  /* range of COUNT and SIZE; max 0 = no limit */
};

/* What the options that every command has were set to. */
struct cli_settings {
    bool json;          /* print one JSON document on stdout instead of text */
    bool quiet;         /* no notes, no progress */
    bool color;         /* stdout may be coloured (--color, NO_COLOR and isatty are settled) */
    const char *engine; /* --engine=NAME, or NULL */
};

struct cli_command {
    const char *name;
    const char *summary;       /* one line for the list of commands */
    const char *operands;      /* as in a synopsis, "SUITE"; NULL: takes none */
    const char *operand_words; /* completion of the operands, as in struct cli_option */
    unsigned operands_min, operands_max;
    bool first_operand_ends; /* what follows the first operand is no option of ours */
    const char *details;     /* further help: paragraphs of at most 79 columns; may be NULL */
    const struct cli_option *options;
    int (*run)(const struct cli_settings *set, int argc, char **argv);
    bool hidden;
};

/* Reads the command line of `command` (argv[0] is the command's name). Returns -1 when run() is to
 * be called with the operands from argv[*ret_first]; else the exit status. */
int cli_parse(const struct cli_command *command, int argc, char **argv,
              struct cli_settings *ret_set, int *ret_first);
void cli_print_help(const struct cli_command *command, FILE *out);
void cli_print_man_synopsis(const struct cli_command *command, FILE *out);
/* The options that every command has, for completion; ends with an entry without a name. */
const struct cli_option *cli_common_options(void);
/* Reads a size ("4096", "64k", "1M"); 0 or -EINVAL. */
int cli_parse_size(const char *text, uint64_t *ret_size);
int cli_parse_seconds(const char *text, double *ret_seconds);

/* ---- main.c ---- */

extern const struct cli_command *const cli_commands[]; /* ends with NULL */
const struct cli_command *cli_find_command(const char *name, size_t length);
/* CLI_OK if the engine of --engine is one of the library's, or none is named. */
int cli_check_engine(const struct cli_settings *set);

/* ---- dropin.c ---- */

#define CLI_POSIXAIO "libouro-posixaio.so"
#define CLI_LIBAIO "libouro-libaio.so"
#define CLI_SYSCALL "libouro-syscall.so"
/* The drop-in's path, in a build tree or where ouro is installed. False: it is not there. */
bool cli_find_dropin(const char *name, char *ret, size_t room);

/* ---- talk.c: what goes to stderr, and the signals that end a command early ---- */

/* "ouro bench: message" on stderr; the command's name is set by main.c. */
void cli_error(const char *format, ...) CLI_PRINTF(1, 2);
/* The same, followed by a pointer to --help; its value is CLI_USAGE. */
#define cli_usage_error(...) (cli_tell_usage(__VA_ARGS__), (int)CLI_USAGE)
void cli_tell_usage(const char *format, ...) CLI_PRINTF(1, 2);
/* Said only without --quiet. */
void cli_note(const char *format, ...) CLI_PRINTF(1, 2);
/* One line that says how far the command is: redrawn at most 10 times a second on a terminal,
 * nothing elsewhere; whole lines with --progress=plain. cli_progress_end wipes it. */
void cli_progress(const char *format, ...) CLI_PRINTF(1, 2);
void cli_progress_end(void);
void cli_talk_setup(const char *command, bool quiet, const char *progress);

/* The signal that asked the command to end, or 0; handlers are in place after cli_catch_signals.
 * A command looks at it between steps, cleans up and returns CLI_INTERRUPTED. */
extern volatile sig_atomic_t cli_signal;
void cli_catch_signals(void);
/* Flushes stdout; CLI_FAILED with a message when what was written did not get there. */
int cli_finish_output(int status);

/* ---- json.c: a writer that escapes and places commas; key is NULL inside an array ---- */

enum { JSON_DEPTH_MAX = 16 };

struct json {
    FILE *out;
    unsigned depth;
    bool used[JSON_DEPTH_MAX]; /* this level has a member already */
    char closer[JSON_DEPTH_MAX];
    bool compact[JSON_DEPTH_MAX]; /* this level stands on one line */
};

void json_init(struct json *json, FILE *out);
void json_object(struct json *json, const char *key);
void json_array(struct json *json, const char *key);
void json_array_compact(struct json *json, const char *key); /* on one line: lists of numbers */
void json_end(struct json *json); /* closes the innermost object or array; a newline at the last */
void json_string(struct json *json, const char *key, const char *value); /* NULL becomes null */
void json_int(struct json *json, const char *key, int64_t value);
void json_uint(struct json *json, const char *key, uint64_t value);
void json_double(struct json *json, const char *key, double value); /* NaN becomes null */
void json_bool(struct json *json, const char *key, bool value);
void json_null(struct json *json, const char *key);

/* ---- table.c: columns that line up; every cell is copied ---- */

enum { TABLE_CELL_SIZE = 256 }; /* longer text is cut */

struct table {
    unsigned columns;
    bool failed;        /* out of memory: printed as such */
    size_t count, room; /* cells, the titles first */
    char (*cells)[TABLE_CELL_SIZE];
    const char *align; /* one letter per column: 'l' or 'r' */
};

void table_init(struct table *table, unsigned columns, const char *align);
void table_cell(struct table *table, const char *format, ...) CLI_PRINTF(2, 3);
void table_print(const struct table *table, FILE *out, bool color);
void table_finish(struct table *table);

/* ---- the commands ---- */

extern const struct cli_command cli_bench, cli_completion, cli_echo, cli_help, cli_info, cli_run;

#endif
