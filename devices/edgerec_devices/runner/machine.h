/* What the kernel says of this machine now, and of this process. */
#ifndef EDGEREC_MACHINE_H
#define EDGEREC_MACHINE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* Page faults of this process so far: without the disk, and from it. */
typedef struct {
    long minor, major;
} Faults;

Faults page_faults(void);

/* Write '{"minor": n, "major": n}', those since `before`. */
void write_faults(FILE *out, Faults before);

/* Write {"VmHWM": KiB, ...}: the kernel's own names; empty where there is no /proc. */
void write_memory(FILE *out);

/* Kilohertz of the core that this runs on; millidegrees of the hottest thermal zone. False where they cannot be read. */
bool clock_khz(int64_t *khz);
bool hottest(int64_t *millidegrees);

/* What the whole device takes from its battery; false while it charges, and where that cannot be read. */
bool battery_watts(double *watts);

/* Cores that this process may run on. */
int usable_cores(void);

/* A counter of this process's instructions outside the kernel, and of those of threads that it starts later. */
typedef struct {
    int handle; /* -1 where none may be had */
    int64_t before[3];
} Instructions;

Instructions instructions_open(void);
void instructions_close(Instructions *counter);

/* Begin to count; and how many there were since, or -1 where they were not counted all the time. */
void instructions_begin(Instructions *counter);
int64_t instructions_end(Instructions *counter);

#endif
