/* What every part of the runner uses: errors of one line, memory, the clock. */
#ifndef EDGEREC_COMMON_H
#define EDGEREC_COMMON_H

#include <stddef.h>
#include <stdint.h>

/* Say what is wrong in one line on standard error and end the process with status 1. */
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* `count` elements of `size` bytes, zeroed; the process fails where there is no memory. */
void *allocate(size_t count, size_t size);

/* The same elements with room for `count`; what is new is not zeroed. */
void *grow(void *old, size_t count, size_t size);

/* Nanoseconds of a clock that only goes forward, and of the processor time of this process. */
int64_t now_ns(void);
int64_t worked_ns(void);

/* A whole file, with a zero byte behind it. The process fails where it cannot be read, or is longer than `limit`. */
char *read_file(const char *path, size_t limit, size_t *length);

/* The same of a file of /proc or /sys; NULL in place of the failures. */
char *read_small(const char *path, size_t limit);

#endif
