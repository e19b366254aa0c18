/* SPDX-License-Identifier: MIT */
/* Where the drop-ins are that `ouro run` preloads. */
#include "cli.h"

#include <limits.h>
#include <string.h>
#include <unistd.h>

static bool is_there(const char *path)
{
    return access(path, R_OK) == 0;
}

/* Beside the command, as in a build tree, or where both are installed. */
bool cli_find_dropin(const char *name, char *ret, size_t room)
{
    char self[PATH_MAX];
    ssize_t size = readlink("/proc/self/exe", self, sizeof(self) - 1);
    char *slash;

    if (size > 0) {
        self[size] = 0;
        slash = strrchr(self, '/');
        *slash = 0;
        if (snprintf(ret, room, "%s/%s", self, name) < (int)room && is_there(ret))
            return true;
        slash = strrchr(self, '/');
        if (slash)
            *slash = 0;
        if (snprintf(ret, room, "%s/%s/%s", self, OURO_LIBDIR, name) < (int)room && is_there(ret))
            return true;
    }
    return false;
}
