/* SPDX-License-Identifier: MIT */
/* Addresses and sockets of `ouro echo`: TCP and unix, listening and connecting. */
#include "echo.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

int echo_address_tcp(struct echo_address *ret, const char *host, unsigned port, char *why)
{
    struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM }, *found;
    char service[16];
    int r;

    snprintf(service, sizeof(service), "%u", port);
    r = getaddrinfo(host, service, &hints, &found);
    if (r != 0) {
        snprintf(why, WHY_SIZE, "%s: %s", host, gai_strerror(r));
        return -EINVAL;
    }
    *ret = (struct echo_address){ .size = found->ai_addrlen };
    memcpy(&ret->addr, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    return 0;
}

int echo_address_unix(struct echo_address *ret, const char *path, char *why)
{
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    size_t length = strlen(path);

    if (length == 0 || length >= sizeof(un.sun_path)) {
        snprintf(why, WHY_SIZE, "the path of a unix socket has 1 to %zu bytes",
                 sizeof(un.sun_path) - 1);
        return -EINVAL;
    }
    memcpy(un.sun_path, path, length);
    *ret = (struct echo_address){ .size = sizeof(un) };
    memcpy(&ret->addr, &un, sizeof(un));
    return 0;
}

void echo_address_text(const struct echo_address *address, char *ret, size_t size)
{
    char host[64], port[16];

    if (address->addr.ss_family == AF_UNIX)
        snprintf(ret, size, "%s", ((const struct sockaddr_un *)&address->addr)->sun_path);
    else if (getnameinfo((const struct sockaddr *)&address->addr, address->size, host, sizeof(host),
                         port, sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV) == 0)
        snprintf(ret, size, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
    else
        snprintf(ret, size, "?");
}

static int make_socket(const struct echo_address *address)
{
    int one = 1, fd = socket(address->addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -errno;
    if (address->addr.ss_family != AF_UNIX)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return fd;
}

/* A socket's file whose server has died without removing it. */
static bool is_abandoned(const struct echo_address *address)
{
    struct stat st;
    int fd;

    if (address->addr.ss_family != AF_UNIX ||
        lstat(((const struct sockaddr_un *)&address->addr)->sun_path, &st) < 0 ||
        !S_ISSOCK(st.st_mode))
        return false;
    fd = echo_connect(address);
    if (fd >= 0)
        close(fd);
    return fd == -ECONNREFUSED;
}

static int bind_socket(int fd, const struct echo_address *address)
{
    const struct sockaddr *addr = (const struct sockaddr *)&address->addr;

    if (bind(fd, addr, address->size) == 0)
        return 0;
    if (errno != EADDRINUSE || !is_abandoned(address))
        return -errno;
    unlink(((const struct sockaddr_un *)&address->addr)->sun_path);
    return bind(fd, addr, address->size) < 0 ? -errno : 0;
}

int echo_listen(struct echo_address *address, bool shared)
{
    int one = 1, r, fd = make_socket(address);

    if (fd < 0)
        return fd;
    if (address->addr.ss_family != AF_UNIX) {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
        if (shared)
            setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
    }
    r = bind_socket(fd, address);
    if (r == 0 && listen(fd, ECHO_BACKLOG) < 0)
        r = -errno;
    if (r == 0 && address->addr.ss_family != AF_UNIX &&
        getsockname(fd, (struct sockaddr *)&address->addr, &address->size) < 0)
        r = -errno;
    if (r < 0) {
        close(fd);
        return r;
    }
    return fd;
}

int echo_connect(const struct echo_address *address)
{
    int r, fd = make_socket(address);

    if (fd < 0)
        return fd;
    if (connect(fd, (const struct sockaddr *)&address->addr, address->size) < 0) {
        r = -errno;
        close(fd);
        return r;
    }
    return fd;
}

void echo_raise_nofile(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}
