/* SPDX-License-Identifier: MIT */
/* `ouro run`: starts a program with the drop-ins preloaded. It becomes the program, so signals and
 * the exit status are the program's own; with --stats it waits for the program, and passes them on.
 * What preloading cannot help is refused. */
#include "run.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "ouro.h"

static const char *opt_stats;

static const struct cli_option options[] = {
    { .name = "stats",
      .kind = CLI_TEXT,
      .into = &opt_stats,
      .value = "json",
      .words = "json",
      .absent = "table",
      .help = "in the end, say on standard error what the program did" },
    { 0 },
};

/* ---- The drop-ins --------------------------------------------------------------------------- */

/* Before what is preloaded already; 0, or -1 with errno. */
static int preload(const char *path)
{
    const char *old = getenv("LD_PRELOAD");
    char *list;
    int r;

    if (!old || !*old)
        return setenv("LD_PRELOAD", path, 1);
    if (asprintf(&list, "%s:%s", path, old) < 0)
        return -1;
    r = setenv("LD_PRELOAD", list, 1);
    free(list);
    return r;
}

/* syscall() is only for contexts that are not the kernel's. */
static int preload_all(void)
{
    const char *pure = getenv("OURO_AIO_PURE");
    bool wants_pure = pure && *pure && strcmp(pure, "0") != 0;
    const char *const names[] = { wants_pure ? CLI_SYSCALL : NULL, CLI_LIBAIO, CLI_POSIXAIO };

    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        char path[PATH_MAX];

        if (!names[i])
            continue;
        if (!cli_find_dropin(names[i], path, sizeof(path))) {
            cli_error("%s is neither beside this command nor installed with it", names[i]);
            return CLI_FAILED;
        }
        if (preload(path) < 0) {
            cli_error("the environment takes no more: %s", strerror(errno));
            return CLI_FAILED;
        }
    }
    return CLI_OK;
}

/* ---- The program ---------------------------------------------------------------------------- */

/* As execvp would: the file that the name stands for. 0, ENOENT or EACCES. */
static int find_program(const char *name, char *ret, size_t room)
{
    const char *path = getenv("PATH");
    int found = ENOENT;

    if (strchr(name, '/')) {
        snprintf(ret, room, "%s", name);
        return access(name, X_OK) == 0 ? 0 : errno;
    }
    for (path = path ? path : "/usr/local/bin:/usr/bin:/bin"; *path;) {
        size_t length = strcspn(path, ":");
        struct stat info;

        if (snprintf(ret, room, "%.*s/%s", length ? (int)length : 1, length ? path : ".", name) <
                (int)room &&
            stat(ret, &info) == 0 && S_ISREG(info.st_mode)) {
            if (access(ret, X_OK) == 0)
                return 0;
            found = EACCES;
        }
        path += length + (path[length] == ':');
    }
    return found;
}

static bool has_interpreter(int fd, const Elf64_Ehdr *head)
{
    for (unsigned i = 0; i < head->e_phnum; i++) {
        Elf64_Phdr part;

        if (pread(fd, &part, sizeof(part), (off_t)(head->e_phoff + i * sizeof(part))) !=
            sizeof(part))
            return true; /* the system will say what is wrong */
        if (part.p_type == PT_INTERP)
            return true;
    }
    return false;
}

/* NULL: preloading reaches it, or it is a script, whose interpreter inherits what is preloaded. */
static const char *out_of_reach(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    Elf64_Ehdr head;
    struct stat info;
    const char *why = NULL;

    if (fd < 0)
        return NULL; /* it may be executed, and not read */
    if (fstat(fd, &info) == 0 && (((info.st_mode & S_ISUID) && info.st_uid != geteuid()) ||
                                  ((info.st_mode & S_ISGID) && info.st_gid != getegid())))
        why = "it runs with another user's rights, and the system preloads nothing there";
    else if (pread(fd, &head, sizeof(head), 0) != sizeof(head) ||
             memcmp(head.e_ident, ELFMAG, SELFMAG) != 0)
        why = NULL;
    else if (head.e_ident[EI_CLASS] != ELFCLASS64)
        why = "it is a 32-bit program, and the drop-ins are not";
    else if (!has_interpreter(fd, &head))
        why = "it is statically linked: it has its own copy of the library, which nothing can "
              "replace";
    close(fd);
    return why;
}

static double now_seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int run_counted(const char *program, char **argv, bool as_json)
{
    const struct stats_file *file = run_stats_open();
    double begun = now_seconds();
    int status;

    if (!file) {
        cli_error("there is no memory to count in: %s", strerror(errno));
        return CLI_FAILED;
    }
    status = run_child(program, argv);
    if (status < 0) {
        cli_error("%s: %s", program, strerror(-status));
        return CLI_FAILED;
    }
    if (as_json)
        run_stats_print_json(file, argv, status, now_seconds() - begun);
    else
        run_stats_print(file);
    fflush(stderr);
    return run_end_as(status);
}

/* One that was asked for by name: the program itself could only fail. */
static int check_engine(const struct cli_settings *set)
{
    char why[512] = "";
    int r = cli_check_engine(set);

    if (r != CLI_OK || !set->engine)
        return r;
    r = ouro_probe(set->engine, why, sizeof(why), NULL);
    if (r == 0)
        return CLI_OK;
    cli_error("%s", why[0] ? why : strerror(-r));
    return CLI_FAILED;
}

static int run(const struct cli_settings *set, int argc, char **argv)
{
    char program[PATH_MAX];
    const char *why;
    int r;

    (void)argc;
    r = check_engine(set);
    if (r != CLI_OK)
        return r;
    if (opt_stats && strcmp(opt_stats, "json") != 0 && strcmp(opt_stats, "table") != 0)
        return cli_usage_error("--stats=%s: choose json, or no value for a table", opt_stats);
    r = find_program(argv[0], program, sizeof(program));
    if (r) {
        cli_error("%s: %s", argv[0], r == ENOENT ? "there is no such program" : strerror(r));
        return r == ENOENT ? RUN_NOT_FOUND : RUN_NOT_EXECUTABLE;
    }
    why = out_of_reach(program);
    if (why) {
        cli_error("%s cannot be helped: %s", program, why);
        return CLI_FAILED;
    }
    r = preload_all();
    if (r != CLI_OK)
        return r;
    if (set->engine && setenv("OURO_ENGINE", set->engine, 1) < 0) {
        cli_error("the environment takes no more: %s", strerror(errno));
        return CLI_FAILED;
    }
    if (opt_stats)
        return run_counted(program, argv, set->json || strcmp(opt_stats, "json") == 0);
    execv(program, argv);
    cli_error("%s: %s", program, strerror(errno));
    return RUN_NOT_EXECUTABLE;
}

const struct cli_command cli_run = {
    .name = "run",
    .summary = "Run a program whose POSIX AIO and libaio go through ouro.",
    .operands = "PROGRAM [ARGUMENT]...",
    .operand_words = "@file",
    .operands_min = 1,
    .operands_max = UINT_MAX,
    .first_operand_ends = true,
    .options = options,
    .run = run,
    .details = "The program's own exit status and signals are what the caller sees. 127: there\n"
               "is no such program; 126: it cannot be executed.\n",
};
