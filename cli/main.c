/* SPDX-License-Identifier: MIT */
/* The `ouro` command: finds the subcommand in one table, has its options read, and runs it. */
#include "cli.h"

#include "ouro.h"

#include <string.h>

const struct cli_command *const cli_commands[] = {
    &cli_info, &cli_bench, &cli_run, &cli_echo, &cli_completion, &cli_help, NULL,
};

const struct cli_command *cli_find_command(const char *name, size_t length)
{
    for (size_t i = 0; cli_commands[i]; i++)
        if (strncmp(cli_commands[i]->name, name, length) == 0 && !cli_commands[i]->name[length])
            return cli_commands[i];
    return NULL;
}

int cli_check_engine(const struct cli_settings *set)
{
    const char *name;

    if (!set->engine)
        return CLI_OK;
    for (unsigned i = 0; (name = ouro_engine_list(i)); i++)
        if (strcmp(name, set->engine) == 0)
            return CLI_OK;
    return cli_usage_error("there is no engine '%s'", set->engine);
}

static void print_overview(FILE *out)
{
    fputs("Usage: ouro COMMAND [OPTION]...\n"
          "Asynchronous I/O on any engine of the system.\n\nCommands:\n",
          out);
    for (size_t i = 0; cli_commands[i]; i++)
        if (!cli_commands[i]->hidden)
            fprintf(out, "  %-14s%s\n", cli_commands[i]->name, cli_commands[i]->summary);
    fputs("\n'ouro COMMAND --help' shows the options of a command; 'ouro --version' the version.\n",
          out);
}

static bool opt_man_synopsis;

static const struct cli_option help_options[] = {
    { .name = "man-synopsis",
      .kind = CLI_FLAG,
      .into = &opt_man_synopsis,
      .help = "print the synopsis in scdoc's form",
      .hidden = true },
    { 0 },
};

static int help_run(const struct cli_settings *set, int argc, char **argv)
{
    const struct cli_command *command;

    (void)set;
    if (argc == 0) {
        print_overview(stdout);
        return CLI_OK;
    }
    command = cli_find_command(argv[0], strlen(argv[0]));
    if (!command)
        return cli_usage_error("there is no command '%s'", argv[0]);
    if (opt_man_synopsis)
        cli_print_man_synopsis(command, stdout);
    else
        cli_print_help(command, stdout);
    return CLI_OK;
}

const struct cli_command cli_help = {
    .name = "help",
    .summary = "Show the help of a command.",
    .operands = "[COMMAND]",
    .operand_words = "@command",
    .operands_max = 1,
    .options = help_options,
    .run = help_run,
};

int main(int argc, char **argv)
{
    const struct cli_command *command;
    struct cli_settings set = { 0 };
    int first = 0, status;

    cli_talk_setup(NULL, false, NULL);
    if (argc < 2) {
        print_overview(stderr);
        return CLI_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_overview(stdout);
        return cli_finish_output(CLI_OK);
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("ouro %d.%d.%d\n", OURO_VERSION_MAJOR, OURO_VERSION_MINOR, OURO_VERSION_PATCH);
        return cli_finish_output(CLI_OK);
    }
    command = cli_find_command(argv[1], strlen(argv[1]));
    if (!command)
        return cli_usage_error("there is no command '%s'", argv[1]);
    cli_talk_setup(command->name, false, NULL);
    status = cli_parse(command, argc - 1, argv + 1, &set, &first);
    if (status >= 0)
        return status;
    status = command->run(&set, argc - 1 - first, argv + 1 + first);
    cli_progress_end();
    return cli_finish_output(status);
}
