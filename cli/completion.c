/* SPDX-License-Identifier: MIT */
/* `ouro completion SHELL` prints a completion script for bash, zsh or fish, made from the option
 * tables of all commands; packages install its output. */
#include "cli.h"

#include "ouro.h"

#include <string.h>

static const struct cli_option no_options[] = { { 0 } };

/* The words that complete a value or an operand, with the '@' classes that are known when the
 * script is made already spelled out; files and directories are the shell's own business. */
static void print_words(const char *words, FILE *out)
{
    const char *name;

    if (strcmp(words, "@contender") == 0) {
        fputs("blocking glibc-aio posixaio-dropin libaio libaio-dropin liburing epoll libuv "
              "libevent",
              out);
        for (unsigned i = 0; (name = ouro_engine_list(i)); i++)
            fprintf(out, " ouro:%s", name);
    } else if (strcmp(words, "@engine") == 0) {
        for (unsigned i = 0; (name = ouro_engine_list(i)); i++)
            fprintf(out, "%s%s", i ? " " : "", name);
    } else if (strcmp(words, "@command") == 0) {
        for (size_t i = 0; cli_commands[i]; i++)
            fprintf(out, "%s%s", i ? " " : "", cli_commands[i]->name);
    } else if (words[0] != '@') {
        fputs(words, out);
    }
}

static bool is_path(const char *words)
{
    return words && (strcmp(words, "@file") == 0 || strcmp(words, "@dir") == 0);
}

/* Both tables of a command, for the loops below. */
static void get_tables(const struct cli_command *command, const struct cli_option *ret_tables[2])
{
    ret_tables[0] = command->options ? command->options : no_options;
    ret_tables[1] = cli_common_options();
}

static void print_bash_command(const struct cli_command *command, FILE *out)
{
    const struct cli_option *tables[2];

    get_tables(command, tables);
    fprintf(out, "    %s)\n        case \"$name\" in\n", command->name);
    for (size_t t = 0; t < 2; t++) {
        for (const struct cli_option *o = tables[t]; o->name; o++) {
            if (o->hidden || o->kind == CLI_FLAG)
                continue;
            fprintf(out, "        --%s) ", o->name);
            if (is_path(o->words)) {
                fprintf(out,
                        "compopt -o filenames; mapfile -t COMPREPLY < <(compgen -%c -- \"$cur\")",
                        o->words[1]);
            } else {
                fputs("words=\"", out);
                print_words(o->words ? o->words : "", out);
                fputs("\"; mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")", out);
            }
            fputs("; return ;;\n", out);
        }
    }
    fputs("        esac\n        words=\"", out);
    for (size_t t = 0; t < 2; t++)
        for (const struct cli_option *o = tables[t]; o->name; o++)
            if (!o->hidden)
                fprintf(out, o->absent ? "--%s --%s= " : "--%s%s ", o->name,
                        o->absent             ? o->name
                        : o->kind == CLI_FLAG ? ""
                                              : "=");
    fputs("\"\n        operands=\"", out);
    print_words(command->operand_words ? command->operand_words : "", out);
    fputs("\"\n        ;;\n", out);
}

static void print_bash(FILE *out)
{
    fputs("# bash completion for ouro\n"
          "_ouro() {\n"
          "    local cur name words operands\n"
          "    COMPREPLY=()\n"
          "    cur=${COMP_WORDS[COMP_CWORD]}\n"
          "    name=${COMP_WORDS[COMP_CWORD-1]}\n"
          "    # '=' is a word of its own unless it was taken out of COMP_WORDBREAKS.\n"
          "    if [ \"$cur\" = = ]; then\n"
          "        cur=\n"
          "    elif [ \"$name\" = = ] && [ \"$COMP_CWORD\" -ge 2 ]; then\n"
          "        name=${COMP_WORDS[COMP_CWORD-2]}\n"
          "    fi\n"
          "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
          "        mapfile -t COMPREPLY < <(compgen -W \"",
          out);
    print_words("@command", out);
    fputs(" --help --version\" -- \"$cur\")\n"
          "        return\n"
          "    fi\n"
          "    case \"${COMP_WORDS[1]}\" in\n",
          out);
    for (size_t i = 0; cli_commands[i]; i++)
        print_bash_command(cli_commands[i], out);
    fputs("    *) return ;;\n"
          "    esac\n"
          "    case \"$cur\" in\n"
          "    -*) mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\") ;;\n"
          "    *) mapfile -t COMPREPLY < <(compgen -W \"$operands\" -- \"$cur\") ;;\n"
          "    esac\n"
          "    if [ ${#COMPREPLY[@]} -eq 1 ] && [ \"${COMPREPLY[0]: -1}\" = = ]; then\n"
          "        compopt -o nospace\n"
          "    fi\n"
          "}\n"
          "complete -F _ouro ouro\n",
          out);
}

/* Prints help text inside single quotes; `special` are letters that want a backslash. */
static void print_quoted(const char *text, const char *special, FILE *out)
{
    for (; *text; text++) {
        if (*text == '\'')
            fputs("'\\''", out);
        else if (strchr(special, *text))
            fprintf(out, "\\%c", *text);
        else
            fputc(*text, out);
    }
}

static void print_zsh_command(const struct cli_command *command, FILE *out)
{
    const struct cli_option *tables[2];

    get_tables(command, tables);
    fprintf(out, "    %s)\n        _arguments", command->name);
    for (size_t t = 0; t < 2; t++) {
        for (const struct cli_option *o = tables[t]; o->name; o++) {
            if (o->hidden)
                continue;
            fprintf(out, " \\\n            '--%s%s[", o->name,
                    o->absent             ? "=-"
                    : o->kind == CLI_FLAG ? ""
                                          : "=");
            print_quoted(o->help, "[]:", out);
            fputc(']', out);
            if (o->kind != CLI_FLAG)
                fprintf(out, "%s:%s:", o->absent ? ":" : "", o->value);
            if (o->words && strcmp(o->words, "@file") == 0) {
                fputs("_files", out);
            } else if (o->words && strcmp(o->words, "@dir") == 0) {
                fputs("_files -/", out);
            } else if (o->words) {
                fputc('(', out);
                print_words(o->words, out);
                fputc(')', out);
            }
            fputc('\'', out);
        }
    }
    if (command->operand_words) {
        fprintf(out, " \\\n            '*:operand:(");
        print_words(command->operand_words, out);
        fputs(")'", out);
    }
    fputs("\n        ;;\n", out);
}

static void print_zsh(FILE *out)
{
    fputs("#compdef ouro\n"
          "_ouro() {\n"
          "    local -a commands\n"
          "    if (( CURRENT == 2 )); then\n"
          "        commands=(\n",
          out);
    for (size_t i = 0; cli_commands[i]; i++) {
        fprintf(out, "            '%s:", cli_commands[i]->name);
        print_quoted(cli_commands[i]->summary, ":", out);
        fputs("'\n", out);
    }
    fputs("        )\n"
          "        _describe command commands\n"
          "        return\n"
          "    fi\n"
          "    local command=${words[2]}\n"
          "    shift words\n"
          "    (( CURRENT-- ))\n"
          "    case $command in\n",
          out);
    for (size_t i = 0; cli_commands[i]; i++)
        print_zsh_command(cli_commands[i], out);
    fputs("    esac\n"
          "}\n"
          "compdef _ouro ouro\n",
          out);
}

static void print_fish_option(const char *command, const struct cli_option *o, FILE *out)
{
    fprintf(out, "complete -c ouro -n '__fish_seen_subcommand_from %s' -l %s", command, o->name);
    if (is_path(o->words)) {
        fputs(" -rF", out);
    } else if (o->kind != CLI_FLAG && !o->absent) { /* optional values stand behind a '=' */
        fputs(" -x", out);
        if (o->words) {
            fputs(" -a '", out);
            print_words(o->words, out);
            fputc('\'', out);
        }
    }
    fputs(" -d '", out);
    /* Inside single quotes fish knows \' and \\ only. */
    for (const char *s = o->help; *s; s++)
        fprintf(out, *s == '\'' || *s == '\\' ? "\\%c" : "%c", *s);
    fputs("'\n", out);
}

static void print_fish(FILE *out)
{
    const struct cli_option *tables[2];

    fputs("# fish completion for ouro\ncomplete -c ouro -f\n", out);
    for (size_t i = 0; cli_commands[i]; i++) {
        const struct cli_command *command = cli_commands[i];

        fprintf(out, "complete -c ouro -n __fish_use_subcommand -a %s -d '%s'\n", command->name,
                command->summary);
        get_tables(command, tables);
        for (size_t t = 0; t < 2; t++)
            for (const struct cli_option *o = tables[t]; o->name; o++)
                if (!o->hidden)
                    print_fish_option(command->name, o, out);
        if (command->operand_words) {
            fprintf(out, "complete -c ouro -n '__fish_seen_subcommand_from %s' -a '",
                    command->name);
            print_words(command->operand_words, out);
            fputs("'\n", out);
        }
    }
}

static int run(const struct cli_settings *set, int argc, char **argv)
{
    (void)set;
    (void)argc;
    if (strcmp(argv[0], "bash") == 0)
        print_bash(stdout);
    else if (strcmp(argv[0], "zsh") == 0)
        print_zsh(stdout);
    else if (strcmp(argv[0], "fish") == 0)
        print_fish(stdout);
    else
        return cli_usage_error("there is no completion for '%s': choose bash, zsh or fish",
                               argv[0]);
    return CLI_OK;
}

const struct cli_command cli_completion = {
    .name = "completion",
    .summary = "Print a completion script for a shell.",
    .operands = "bash|zsh|fish",
    .operand_words = "bash zsh fish",
    .operands_min = 1,
    .operands_max = 1,
    .run = run,
    .details = "To use it at once in bash: source <(ouro completion bash)\n",
};
