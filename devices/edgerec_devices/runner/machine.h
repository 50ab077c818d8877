/* Measurements of this machine and this process from the kernel: faults, memory, clocks, power, instructions. */
#ifndef EDGEREC_MACHINE_H
#define EDGEREC_MACHINE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* Page faults of this process since its start: minor ones need no disk access, major ones read from it. */
typedef struct {
    long minor, major;
} Faults;

Faults page_faults(void);

/* Write the faults since `before` as '{"minor": n, "major": n}'. */
void write_faults(FILE *out, Faults before);

/* Write {"VmHWM": KiB, ...} with the kernel's names; an empty object if there is no /proc. */
void write_memory(FILE *out);

/* Read kilohertz of the current core, or millidegrees of the hottest thermal zone. False if they cannot be read. */
bool clock_khz(int64_t *khz);
bool hottest(int64_t *millidegrees);

/* Read the power that the whole device draws from its battery; false while it charges, or if it cannot be read. */
bool battery_watts(double *watts);

/* Return the number of cores that this process may run on. */
int usable_cores(void);

/* A counter of the user-space instructions of this process and of threads that it starts later. */
typedef struct {
    int handle; /* -1 if the kernel provides no counter */
    int64_t before[3];
} Instructions;

Instructions instructions_open(void);
void instructions_close(Instructions *counter);

/* Start counting; stop and return the count, or -1 if the counter did not run all the time. */
void instructions_begin(Instructions *counter);
int64_t instructions_end(Instructions *counter);

#endif
