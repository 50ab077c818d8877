/* What onnxruntime's library for Android takes from bionic and glibc has not, or has otherwise. Built as libc.so. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <unistd.h>

int *__errno(void) { return __errno_location(); }
size_t __strlen_chk(const char *text, size_t room) { return strnlen(text, room); }
char *__strchr_chk(const char *text, int wanted, size_t room) { return (void)room, strchr(text, wanted); }
char *__gnu_strerror_r(int number, char *text, size_t room) { return strerror_r(number, text, room); }
void __FD_SET_chk(int handle, fd_set *set, size_t room) { (void)room, FD_SET(handle, set); }
int __FD_ISSET_chk(int handle, fd_set *set, size_t room) { return (void)room, FD_ISSET(handle, set); }

int __system_property_get(const char *name, char *value) { return (void)name, *value = '\0', 0; }
void android_set_abort_message(const char *message) { fprintf(stderr, "abort: %s\n", message); }

int __android_log_vprint(int priority, const char *tag, const char *format, va_list arguments) {
    fprintf(stderr, "[%d %s] ", priority, tag);
    return vfprintf(stderr, format, arguments) + fprintf(stderr, "\n");
}

int __android_log_print(int priority, const char *tag, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int written = __android_log_vprint(priority, tag, format, arguments);
    va_end(arguments);
    return written;
}

int __android_log_write(int priority, const char *tag, const char *text) {
    return fprintf(stderr, "[%d %s] %s\n", priority, tag, text);
}

/* bionic numbers them otherwise. */
long bysconf(int name) {
    switch (name) {
    case 0x06: return sysconf(_SC_CLK_TCK);
    case 0x27:
    case 0x28: return sysconf(_SC_PAGESIZE);
    case 0x60: return sysconf(_SC_NPROCESSORS_CONF);
    case 0x61: return sysconf(_SC_NPROCESSORS_ONLN);
    case 0x62: return sysconf(_SC_PHYS_PAGES);
    case 0x63: return sysconf(_SC_AVPHYS_PAGES);
    default: return -1;
    }
}

char *bealpath(const char *path, char *room) { return realpath(path, room); }

/* bionic's standard streams were an array of three structures of 152 bytes. */
char __sF[3 * 152];

static FILE *stream(void *given) {
    long place = (char *)given - __sF;
    if (place < 0 || place >= (long)sizeof __sF) return given;
    return place >= 2 * 152 ? stderr : place >= 152 ? stdout : stdin;
}

int bflush(void *to) { return fflush(to ? stream(to) : NULL); }
int vbprintf(void *to, const char *format, va_list arguments) { return vfprintf(stream(to), format, arguments); }
int bputc(int byte, void *to) { return fputc(byte, stream(to)); }
int bputs(const char *text, void *to) { return fputs(text, stream(to)); }
size_t bwrite(const void *from, size_t size, size_t count, void *to) { return fwrite(from, size, count, stream(to)); }

int bprintf(void *to, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int written = vbprintf(to, format, arguments);
    va_end(arguments);
    return written;
}
