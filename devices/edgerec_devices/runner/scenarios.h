/* Random questions to one graph, timed one call after the other. */
#ifndef EDGEREC_SCENARIOS_H
#define EDGEREC_SCENARIOS_H

#include <stdio.h>

#include "machine.h"
#include "questions.h"

enum { SECOND_NS = 1000000000 };

typedef struct {
    int64_t calls; /* warm ones, at least */
    double seconds;
} Limits;

/* What is asked: of one graph, with so many items listed in each question. */
typedef struct {
    char name[32];
    Model *model;
    Graph graph;
    Asker *asker;
    size_t listed;
} Scenario;

/* What a scenario showed; `joules` and `instructions` of a call, or -1 where they cannot be told. */
typedef struct {
    Scenario scenario;
    int64_t first_ns, *times_ns; /* the first call apart; the others, warm-up among them */
    size_t count;
    double cpu_share, joules, instructions;
    Faults before, after;
} Taken;

/* Nanoseconds of one call of a random question, made outside the clock. */
int64_t timed_call(const Scenario *scenario, Question *question);

/* Call until the limits are reached. Warm-up is found afterwards, by who reads the times: it is at most half of them, so
   twice the calls are made. */
Taken take(const Scenario *scenario, Limits limits);

/* Count the instructions of some more calls, apart from the timed ones. */
void count_instructions(Taken *taken, Instructions *counter);

/* Write '"scenarios": {...}, "faults": {...}, "cost": {...}', and free the times. */
void write_taken(FILE *out, Taken *taken, size_t count, Faults load);

/* The middle one, of `count` values that are then sorted. */
int64_t median(int64_t *values, size_t count);

/* A fixed piece of work: the median of 100 passes over 1 MiB of float32. */
int64_t yardstick_ns(void);

/* From now on, end the process between two calls where standard input has ended: whoever asked has gone. */
void watch_host(void);

#endif
