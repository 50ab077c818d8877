/* Helpers of every part of the runner: one-line errors, memory, files and the clock. */
#ifndef EDGEREC_COMMON_H
#define EDGEREC_COMMON_H

#include <stddef.h>
#include <stdint.h>

/* Write a one-line error to standard error and end the process with status 1. */
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Allocate `count` zeroed elements of `size` bytes; the process fails if there is not enough memory. */
void *allocate(size_t count, size_t size);

/* Reallocate to `count` elements; new ones are not zeroed. */
void *grow(void *old, size_t count, size_t size);

/* Nanoseconds of the monotonic clock, and of the processor time of this process. */
int64_t now_ns(void);
int64_t worked_ns(void);

/* Read a whole file and append a zero byte. The process fails if it cannot be read, or is longer than `limit`. */
char *read_file(const char *path, size_t limit, size_t *length);

/* Read a file of /proc or /sys in the same way, but return NULL on failure. */
char *read_small(const char *path, size_t limit);

#endif
