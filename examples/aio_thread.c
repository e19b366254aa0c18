/* SPDX-License-Identifier: MIT */
/* aio_thread: counts the lines of files by POSIX AIO, all files at once, and is told by a function
 * that is called on a thread when a request is over. The function begins the next request of its
 * file. Plain <aio.h>; `ouro run aio_thread FILE...` runs it on ouro. */
#define _POSIX_C_SOURCE 200809L
#include <aio.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct file {
    struct aiocb request;
    const char *path;
    unsigned long lines;
    int error;
    char data[16 * 1024];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t less = PTHREAD_COND_INITIALIZER;
static int left; /* files that are not over */

static void over(struct file *file, int error)
{
    file->error = error;
    pthread_mutex_lock(&lock);
    left--;
    pthread_cond_signal(&less);
    pthread_mutex_unlock(&lock);
}

/* On a thread of the library's: as slow as it likes, it delays no other. */
static void on_read(union sigval value)
{
    struct file *file = value.sival_ptr;
    int error = aio_error(&file->request);
    ssize_t got = aio_return(&file->request);

    for (ssize_t i = 0; i < got; i++)
        file->lines += file->data[i] == '\n';
    file->request.aio_offset += got > 0 ? got : 0;
    if (got <= 0)
        over(file, error);
    else if (aio_read(&file->request) < 0)
        over(file, errno);
}

static void begin(struct file *file, const char *path)
{
    struct aiocb *request = &file->request;
    int fd = open(path, O_RDONLY);

    file->path = path;
    request->aio_fildes = fd;
    request->aio_buf = file->data;
    request->aio_nbytes = sizeof(file->data);
    request->aio_sigevent.sigev_notify = SIGEV_THREAD;
    request->aio_sigevent.sigev_notify_function = on_read;
    request->aio_sigevent.sigev_value.sival_ptr = file;
    if (fd < 0 || aio_read(request) < 0)
        over(file, errno);
}

int main(int argc, char **argv)
{
    int count = argc - 1, failed = 0;
    struct file *files = calloc((size_t)count + 1, sizeof(*files));

    if (!files)
        return 1;
    left = count;
    for (int i = 0; i < count; i++)
        begin(&files[i], argv[i + 1]);
    pthread_mutex_lock(&lock);
    while (left)
        pthread_cond_wait(&less, &lock);
    pthread_mutex_unlock(&lock);
    for (int i = 0; i < count; i++) {
        if (files[i].error)
            fprintf(stderr, "%s: %s\n", files[i].path, strerror(files[i].error));
        else
            printf("%lu %s\n", files[i].lines, files[i].path);
        failed |= files[i].error != 0;
    }
    free(files);
    return failed;
}
