/* Timing of random questions to one graph, one call after the other. */
#ifndef EDGEREC_SCENARIOS_H
#define EDGEREC_SCENARIOS_H

#include <stdio.h>

#include "machine.h"
#include "questions.h"

enum { SECOND_NS = 1000000000 };

typedef struct {
    int64_t calls; /* minimum number of warm calls */
    double seconds;
} Limits;

/* The graph to call, and the number of items listed in each question. */
typedef struct {
    char name[32];
    Model *model;
    Graph graph;
    Generator *generator;
    size_t listed;
} Scenario;

/* The measurement of a scenario; `joules` and `instructions` are per call, or -1 if unknown. */
typedef struct {
    Scenario scenario;
    int64_t first_ns, *times_ns; /* the first call; all other calls, with the warm-up */
    size_t count;
    double cpu_share, joules, instructions;
    Faults before, after;
} Measurement;

/* Return the nanoseconds of one call with a random question; drawing the question is not timed. */
int64_t timed_call(const Scenario *scenario, Question *question);

/* Call until the limits are reached. The reader of the times finds the warm-up, which is at most half of the calls:
   twice the requested number is therefore timed. */
Measurement take(const Scenario *scenario, Limits limits);

/* Count the instructions of additional calls, which are not timed. */
void count_instructions(Measurement *measurement, Instructions *counter);

/* Write '"scenarios": {...}, "faults": {...}, "cost": {...}', and free the times. */
void write_measurements(FILE *out, Measurement *measurements, size_t count, Faults load);

/* Return the median of `count` values, and sort them. */
int64_t median(int64_t *values, size_t count);

/* Time a fixed piece of work: the median of 100 passes over 1 MiB of float32. */
int64_t yardstick_ns(void);

/* From now on, end the process between two calls if standard input has ended, because then the caller is gone. */
void watch_host(void);

#endif
