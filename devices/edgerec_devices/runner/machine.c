#include "machine.h"

#include <dirent.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common.h"

enum { SMALL = 1 << 16 };

Faults page_faults(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (Faults){used.ru_minflt, used.ru_majflt};
}

void write_faults(FILE *out, Faults before) {
    Faults now = page_faults();
    fprintf(out, "{\"minor\": %ld, \"major\": %ld}", now.minor - before.minor, now.major - before.major);
}

/* Write the lines 'NAME: KiB kB' of a file of /proc whose names are in `wanted`. */
static const char *write_lines(FILE *out, const char *path, const char *const *wanted, const char *between) {
    char *text = read_small(path, SMALL), *rest = NULL;
    for (char *line = text ? strtok_r(text, "\n", &rest) : NULL; line; line = strtok_r(NULL, "\n", &rest)) {
        char *colon = strchr(line, ':');
        if (colon == NULL) continue;
        *colon = '\0';
        for (const char *const *name = wanted; *name; name++) {
            if (strcmp(line, *name) != 0) continue;
            fprintf(out, "%s\"%s\": %lld", between, line, strtoll(colon + 1, NULL, 10));
            between = ", ";
        }
    }
    free(text);
    return between;
}

void write_memory(FILE *out) {
    static const char *const own[] = {"VmHWM", "VmRSS", "RssAnon", "RssFile", "RssShmem", "VmSwap", NULL};
    static const char *const shared[] = {"Pss", "Pss_Anon", "Pss_File", NULL};
    fputc('{', out);
    write_lines(out, "/proc/self/smaps_rollup", shared, write_lines(out, "/proc/self/status", own, ""));
    fputc('}', out);
}

/* Read a file that holds one whole number; false if it cannot be read. */
static bool read_number(const char *path, int64_t *number) {
    char *text = read_small(path, SMALL), *end = text;
    if (text) *number = strtoll(text, &end, 10);
    bool read = end != text;
    free(text);
    return read;
}

bool clock_khz(int64_t *khz) {
    char path[96];
    int core = sched_getcpu();
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/cpufreq/scaling_cur_freq", core);
    return core >= 0 && read_number(path, khz);
}

bool hottest(int64_t *millidegrees) {
    static const char folder[] = "/sys/class/thermal";
    DIR *zones = opendir(folder);
    *millidegrees = 0; /* a zone without a sensor behind it reads 0, or -273 degrees */
    for (struct dirent *zone; zones && (zone = readdir(zones));) {
        char path[sizeof folder + sizeof zone->d_name + 8];
        int64_t found;
        snprintf(path, sizeof path, "%s/%s/temp", folder, zone->d_name);
        if (strncmp(zone->d_name, "thermal_zone", 12) == 0 && read_number(path, &found) && found > *millidegrees)
            *millidegrees = found;
    }
    if (zones) closedir(zones);
    return *millidegrees > 0;
}

bool battery_watts(double *watts) {
    static const char battery[] = "/sys/class/power_supply/battery/";
    char path[96];
    int64_t microamperes, microvolts;
    snprintf(path, sizeof path, "%sstatus", battery);
    char *status = read_small(path, SMALL);
    bool discharging = status && strncmp(status, "Discharging", 11) == 0;
    free(status);
    snprintf(path, sizeof path, "%scurrent_now", battery);
    if (!discharging || !read_number(path, &microamperes)) return false;
    snprintf(path, sizeof path, "%svoltage_now", battery);
    if (!read_number(path, &microvolts)) return false;
    *watts = (microamperes < 0 ? -1e-12 : 1e-12) * (double)microamperes * (double)microvolts; /* makers differ in sign */
    return true;
}

int usable_cores(void) {
    cpu_set_t cores;
    return sched_getaffinity(0, sizeof cores, &cores) == 0 ? CPU_COUNT(&cores) : 1;
}

Instructions instructions_open(void) {
    struct perf_event_attr wanted = {
        .type = PERF_TYPE_HARDWARE, .size = PERF_ATTR_SIZE_VER0, .config = PERF_COUNT_HW_INSTRUCTIONS,
        .read_format = PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING, .disabled = 1, .inherit = 1,
        .exclude_kernel = 1, .exclude_hv = 1};
    return (Instructions){.handle = (int)syscall(SYS_perf_event_open, &wanted, 0, -1, -1, 0ul)};
}

void instructions_close(Instructions *counter) {
    if (counter->handle >= 0) close(counter->handle);
}

/* Read the count, the nanoseconds for which the counter was enabled, and those in which it ran: fewer if another
   program had the hardware counter. */
static bool read_counter(const Instructions *counter, int64_t found[3]) {
    const ssize_t size = 3 * sizeof(int64_t);
    return counter->handle >= 0 && read(counter->handle, found, (size_t)size) == size;
}

void instructions_begin(Instructions *counter) {
    if (!read_counter(counter, counter->before)) return;
    ioctl(counter->handle, PERF_EVENT_IOC_ENABLE, 0);
}

int64_t instructions_end(Instructions *counter) {
    int64_t after[3];
    if (counter->handle >= 0) ioctl(counter->handle, PERF_EVENT_IOC_DISABLE, 0);
    if (!read_counter(counter, after)) return -1;
    for (int number = 0; number < 3; number++) after[number] -= counter->before[number];
    return after[0] > 0 && after[1] == after[2] ? after[0] : -1;
}
