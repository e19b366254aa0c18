/* SPDX-License-Identifier: MIT */
/* Reads a command line by getopt_long from the command's one option table, and prints from the same
 * table --help and the man page's synopsis. Values land in the variables that the table points to.
 * */
#include "cli.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OPTIONS_MAX = 48 }; /* options of one command, the common ones included */

static bool opt_help, opt_json, opt_quiet;
static const char *opt_engine, *opt_color = "auto", *opt_progress = "auto";

static const struct cli_option common_options[] = {
    { .name = "help", .kind = CLI_FLAG, .into = &opt_help, .help = "show this help" },
    { .name = "json", .kind = CLI_FLAG, .into = &opt_json, .help = "print one JSON document" },
    { .name = "quiet", .kind = CLI_FLAG, .into = &opt_quiet, .help = "no notes and no progress" },
    { .name = "engine",
      .kind = CLI_TEXT,
      .into = &opt_engine,
      .value = "NAME",
      .words = "@engine",
      .help = "use this engine only" },
    { .name = "color",
      .kind = CLI_TEXT,
      .into = &opt_color,
      .value = "WHEN",
      .words = "auto always never",
      .help = "colours: auto (default), always, never; NO_COLOR counts for auto" },
    { .name = "progress",
      .kind = CLI_TEXT,
      .into = &opt_progress,
      .value = "HOW",
      .words = "auto plain none",
      .help = "auto (default, only on a terminal), plain (lines, for logs), none" },
    { 0 },
};

const struct cli_option *cli_common_options(void)
{
    return common_options;
}

int cli_parse_size(const char *text, uint64_t *ret_size)
{
    static const char suffixes[] = "kmg";
    char *end;
    unsigned long long number;
    unsigned shift = 0;

    /* strtoull takes a sign and leading blanks, which are not a size. */
    if (*text < '0' || *text > '9')
        return -EINVAL;
    errno = 0;
    number = strtoull(text, &end, 10);
    if (errno)
        return -EINVAL;
    if (*end) {
        const char *found = strchr(suffixes, *end | 0x20);
        if (!found || !*found || (end[1] && strcmp(end + 1, "iB") != 0))
            return -EINVAL;
        shift = 10 * (unsigned)(found - suffixes + 1);
    }
    if (number > ((unsigned long long)INT64_MAX >> shift))
        return -EINVAL;
    *ret_size = (uint64_t)number << shift;
    return 0;
}

int cli_parse_seconds(const char *text, double *ret_seconds)
{
    char *end;
    double seconds = strtod(text, &end);

    if (end == text || (*end && strcmp(end, "s") != 0) || !isfinite(seconds) || seconds < 0)
        return -EINVAL;
    *ret_seconds = seconds;
    return 0;
}

static int check_range(const struct cli_option *option, uint64_t number)
{
    uint64_t max = option->max;

    if (option->kind == CLI_COUNT && (max == 0 || max > UINT_MAX))
        max = UINT_MAX;
    if (number < option->min)
        return cli_usage_error("--%s must be at least %llu", option->name,
                               (unsigned long long)option->min);
    if (max && number > max)
        return cli_usage_error("--%s must be at most %llu", option->name, (unsigned long long)max);
    return CLI_OK;
}

static int store_number(const struct cli_option *option, const char *value)
{
    uint64_t number;
    bool suffixed = *value && (value[strlen(value) - 1] < '0' || value[strlen(value) - 1] > '9');
    int r = cli_parse_size(value, &number);

    if (r < 0 || (suffixed && option->kind == CLI_COUNT))
        return cli_usage_error("--%s=%s is not a %s", option->name, value,
                               option->kind == CLI_COUNT ? "number" : "size (4096, 64k, 1M, 2G)");
    r = check_range(option, number);
    if (r)
        return r;
    if (option->kind == CLI_COUNT)
        *(unsigned *)option->into = (unsigned)number;
    else
        *(uint64_t *)option->into = number;
    return CLI_OK;
}

static int store_value(const struct cli_option *option, const char *value)
{
    switch (option->kind) {
    case CLI_FLAG: *(bool *)option->into = true; return CLI_OK;
    case CLI_TEXT: *(const char **)option->into = value ? value : option->absent; return CLI_OK;
    case CLI_SECONDS:
        if (cli_parse_seconds(value, option->into) < 0)
            return cli_usage_error("--%s=%s is not a number of seconds", option->name, value);
        return CLI_OK;
    case CLI_COUNT:
    case CLI_SIZE: return store_number(option, value);
    }
    return CLI_USAGE;
}

static bool word_in(const char *words, const char *word)
{
    size_t length = strlen(word);

    for (const char *at = words; length && (at = strstr(at, word)); at += length)
        if ((at == words || at[-1] == ' ') && (at[length] == ' ' || !at[length]))
            return true;
    return false;
}

static int settle_common(struct cli_settings *ret_set)
{
    const char *no_color = getenv("NO_COLOR");

    if (!word_in("auto always never", opt_color))
        return cli_usage_error("--color=%s: choose auto, always or never", opt_color);
    if (!word_in("auto plain none", opt_progress))
        return cli_usage_error("--progress=%s: choose auto, plain or none", opt_progress);
    cli_talk_setup(NULL, opt_quiet, opt_progress);
    ret_set->json = opt_json;
    ret_set->quiet = opt_quiet;
    ret_set->engine = opt_engine;
    ret_set->color =
        strcmp(opt_color, "always") == 0 ||
        (strcmp(opt_color, "auto") == 0 && isatty(STDOUT_FILENO) && !(no_color && *no_color));
    return CLI_OK;
}

/* Joins the command's table and the common one for getopt_long, which numbers them by position. */
static int join_tables(const struct cli_command *command, const struct cli_option **all,
                       struct option *longs)
{
    const struct cli_option *tables[] = { command->options, common_options };
    int count = 0;

    for (size_t t = 0; t < 2; t++) {
        for (const struct cli_option *o = tables[t]; o && o->name; o++) {
            if (count == OPTIONS_MAX)
                return -E2BIG;
            longs[count].name = o->name;
            longs[count].has_arg = o->kind == CLI_FLAG ? no_argument
                                   : o->absent         ? optional_argument
                                                       : required_argument;
            longs[count].flag = NULL;
            longs[count].val = 256 + count; /* above every character */
            all[count++] = o;
        }
    }
    longs[count] = (struct option){ 0 };
    return count;
}

static int check_operands(const struct cli_command *command, int count, char **operands)
{
    if ((unsigned)count > command->operands_max)
        return cli_usage_error("unexpected operand '%s'", operands[command->operands_max]);
    if ((unsigned)count < command->operands_min)
        return cli_usage_error("%s is missing", command->operands);
    return -1;
}

int cli_parse(const struct cli_command *command, int argc, char **argv,
              struct cli_settings *ret_set, int *ret_first)
{
    const struct cli_option *all[OPTIONS_MAX];
    struct option longs[OPTIONS_MAX + 1];
    /* The leading ':' makes a missing value distinguishable from an unknown option. */
    const char *shorts = command->first_operand_ends ? "+:h" : ":h";
    int count = join_tables(command, all, longs), c, r;

    if (count < 0) {
        cli_error("too many options in the table");
        return CLI_FAILED;
    }
    opterr = 0; /* getopt's own messages name argv[0], which is not how the user called us */
    optind = 0;
    while ((c = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
        if (c == 'h') {
            opt_help = true;
        } else if (c >= 256 && c < 256 + count) {
            r = store_value(all[c - 256], optarg);
            if (r)
                return r;
        } else if (c == ':') {
            return cli_usage_error("option '%s' needs a value", argv[optind - 1]);
        } else if (optopt >= 256) {
            return cli_usage_error("option '--%s' takes no value", all[optopt - 256]->name);
        } else {
            return cli_usage_error("unknown option '%s'", argv[optind - 1]);
        }
    }
    if (opt_help) {
        cli_print_help(command, stdout);
        return cli_finish_output(CLI_OK);
    }
    r = settle_common(ret_set);
    if (r)
        return r;
    *ret_first = optind;
    return check_operands(command, argc - optind, argv + optind);
}

enum { HELP_COLUMN = 26, HELP_WIDTH = 80 };

/* Prints text from HELP_COLUMN on, in as many lines as it needs. */
static void print_wrapped(const char *text, FILE *out)
{
    int column = HELP_COLUMN;

    for (const char *word = text; *word;) {
        size_t length = strcspn(word, " ");

        if (column + 1 + (int)length > HELP_WIDTH) {
            fprintf(out, "\n%*s", HELP_COLUMN, "");
            column = HELP_COLUMN;
        } else if (word != text) {
            fputc(' ', out);
            column++;
        }
        fprintf(out, "%.*s", (int)length, word);
        column += (int)length;
        word += length + (word[length] == ' ');
    }
    fputc('\n', out);
}

static void print_option_help(const struct cli_option *option, FILE *out)
{
    int width = option->absent  ? fprintf(out, "  --%s[=%s]", option->name, option->value)
                : option->value ? fprintf(out, "  --%s=%s", option->name, option->value)
                                : fprintf(out, "  --%s", option->name);

    if (width + 2 > HELP_COLUMN) {
        fputc('\n', out);
        width = 0;
    }
    fprintf(out, "%*s", HELP_COLUMN - width, "");
    print_wrapped(option->help, out);
}

void cli_print_help(const struct cli_command *command, FILE *out)
{
    const struct cli_option *tables[] = { command->options, common_options };
    static const char *const titles[] = { "Options:", "Options of every command:" };

    fprintf(out, "Usage: ouro %s [OPTION]...%s%s\n", command->name, command->operands ? " " : "",
            command->operands ? command->operands : "");
    fprintf(out, "%s\n", command->summary);
    for (size_t t = 0; t < 2; t++) {
        if (!tables[t] || !tables[t]->name)
            continue;
        fprintf(out, "\n%s\n", titles[t]);
        for (const struct cli_option *o = tables[t]; o->name; o++)
            if (!o->hidden)
                print_option_help(o, out);
    }
    if (command->details)
        fprintf(out, "\n%s", command->details);
    fputs("\nExit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted.\n", out);
}

void cli_print_man_synopsis(const struct cli_command *command, FILE *out)
{
    const struct cli_option *tables[] = { command->options, common_options };

    fprintf(out, "*ouro %s*", command->name);
    for (size_t t = 0; t < 2; t++) {
        for (const struct cli_option *o = tables[t]; o && o->name; o++) {
            if (o->hidden)
                continue;
            if (o->absent)
                fprintf(out, " [*--%s*[=_%s_]]", o->name, o->value);
            else if (o->value)
                fprintf(out, " [*--%s*=_%s_]", o->name, o->value);
            else
                fprintf(out, " [*--%s*]", o->name);
        }
    }
    if (command->operands)
        fprintf(out, " _%s_", command->operands);
    fputc('\n', out);
}
