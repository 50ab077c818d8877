#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

void fail(const char *format, ...) {
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    for (char *at = line; *at; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7f) *at = ' '; /* control characters could drive a terminal */
    fprintf(stderr, "%s\n", line);
    exit(1);
}

void *allocate(size_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size);
    if (memory == NULL) fail("not enough memory for %zu times %zu bytes", count, size);
    return memory;
}

void *grow(void *old, size_t count, size_t size) {
    void *memory = count > SIZE_MAX / size ? NULL : realloc(old, count * size);
    if (memory == NULL) fail("not enough memory for %zu times %zu bytes", count, size);
    return memory;
}

static int64_t read_clock(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

int64_t now_ns(void) { return read_clock(CLOCK_MONOTONIC); }

int64_t worked_ns(void) { return read_clock(CLOCK_PROCESS_CPUTIME_ID); }

/* Read until the end; return NULL on an error or after more than `limit` bytes. */
static char *read_all(int handle, size_t limit, size_t *length) {
    size_t capacity = 4096, used = 0;
    char *content = allocate(capacity, 1);
    for (;;) {
        ssize_t got = read(handle, content + used, capacity - used - 1);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0 || used > limit) {
            free(content);
            return NULL;
        }
        if (got == 0) break;
        used += (size_t)got;
        if (capacity - used < 2) content = grow(content, capacity *= 2, 1);
    }
    content[used] = '\0';
    *length = used;
    return content;
}

char *read_file(const char *path, size_t limit, size_t *length) {
    int handle = open(path, O_RDONLY | O_CLOEXEC);
    if (handle < 0) fail("cannot read %s: %s", path, strerror(errno));
    errno = 0;
    char *content = read_all(handle, limit, length);
    if (content == NULL && errno == 0) fail("%s has more than %zu bytes; copy the bundle again", path, limit);
    if (content == NULL) fail("cannot read %s: %s", path, strerror(errno));
    close(handle);
    return content;
}

char *read_small(const char *path, size_t limit) {
    size_t length;
    int handle = open(path, O_RDONLY | O_CLOEXEC);
    if (handle < 0) return NULL;
    char *content = read_all(handle, limit, &length);
    close(handle);
    return content;
}
