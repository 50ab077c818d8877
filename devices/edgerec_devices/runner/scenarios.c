#include "scenarios.h"

#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "common.h"

enum { PASSES = 100, VALUES = 1 << 18, LOOK_NS = 100000000, COUNTED_CALLS = 20 };

/* Checked ten times a second, between calls. */
static struct {
    bool host;
    int64_t looked, samples;
    double watts;
} watch;

void watch_host(void) { watch.host = true; }

static void look(void) {
    double watts;
    if (now_ns() - watch.looked < LOOK_NS) return;
    watch.looked = now_ns();
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    char byte;
    if (watch.host && poll(&input, 1, 0) > 0 && read(STDIN_FILENO, &byte, 1) <= 0) fail("the host is gone");
    if (!battery_watts(&watts)) return;
    watch.watts += watts;
    watch.samples++;
}

int64_t timed_call(const Scenario *scenario, Question *question) {
    look();
    draw_question(scenario->generator, question);
    int64_t start = now_ns();
    model_run(scenario->model, scenario->graph, question, NULL);
    return now_ns() - start;
}

/* Return the energy per call from the battery's mean power, if the calls lasted at least a second; else -1. */
static double joules_a_call(double passed_ns, size_t calls) {
    bool known = watch.samples > 0 && passed_ns >= SECOND_NS;
    return known ? watch.watts / (double)watch.samples * passed_ns / SECOND_NS / (double)calls : -1;
}

Measurement take(const Scenario *scenario, Limits limits) {
    Measurement measurement = {.scenario = *scenario, .instructions = -1};
    Question question = question_allocate(scenario->generator, 1, scenario->listed);
    model_session(scenario->model, scenario->graph);
    watch.samples = 0;
    watch.watts = 0;
    measurement.before = page_faults();
    measurement.first_ns = timed_call(scenario, &question);
    size_t capacity = 0;
    int64_t started = now_ns(), worked = worked_ns();
    while ((int64_t)measurement.count < 2 * limits.calls || (double)(now_ns() - started) < limits.seconds * SECOND_NS) {
        if (measurement.count == capacity) {
            capacity = capacity ? 2 * capacity : 256;
            measurement.times_ns = grow(measurement.times_ns, capacity, sizeof(int64_t));
        }
        measurement.times_ns[measurement.count++] = timed_call(scenario, &question);
    }
    double passed = (double)(now_ns() - started);
    measurement.cpu_share = (double)(worked_ns() - worked) / passed;
    measurement.joules = joules_a_call(passed, measurement.count);
    measurement.after = page_faults();
    question_free(&question);
    return measurement;
}

void count_instructions(Measurement *measurement, Instructions *counter) {
    const Scenario *scenario = &measurement->scenario;
    Question questions[COUNTED_CALLS];
    for (int number = 0; number < COUNTED_CALLS; number++) {
        questions[number] = question_allocate(scenario->generator, 1, scenario->listed);
        draw_question(scenario->generator, &questions[number]);
    }
    instructions_begin(counter);
    for (int number = 0; number < COUNTED_CALLS; number++)
        model_run(scenario->model, scenario->graph, &questions[number], NULL);
    int64_t counted = instructions_end(counter);
    if (counted >= 0) measurement->instructions = (double)counted / COUNTED_CALLS;
    for (int number = 0; number < COUNTED_CALLS; number++) question_free(&questions[number]);
}

static void write_figures(FILE *out, const Measurement *measurement) {
    fprintf(out, "\"%s\": {\"first_ns\": %" PRId64 ", \"cpu_share\": %.4f, \"times_ns\": [", measurement->scenario.name,
            measurement->first_ns, measurement->cpu_share);
    for (size_t number = 0; number < measurement->count; number++)
        fprintf(out, "%s%" PRId64, number ? ", " : "", measurement->times_ns[number]);
    fputs("]}", out);
}

static void write_cost(FILE *out, const Measurement *measurement) {
    fprintf(out, "\"%s\": {", measurement->scenario.name);
    if (measurement->instructions >= 0) fprintf(out, "\"instructions\": %.1f", measurement->instructions);
    const char *between = measurement->instructions >= 0 ? ", " : "";
    if (measurement->joules >= 0) fprintf(out, "%s\"joules\": %.9g", between, measurement->joules);
    fputc('}', out);
}

void write_measurements(FILE *out, Measurement *measurements, size_t count, Faults load) {
    fputs("\"scenarios\": {", out);
    for (size_t number = 0; number < count; number++) {
        if (number) fputs(", ", out);
        write_figures(out, &measurements[number]);
        free(measurements[number].times_ns);
    }
    fprintf(out, "}, \"faults\": {\"load\": {\"minor\": %ld, \"major\": %ld}", load.minor, load.major);
    for (size_t number = 0; number < count; number++) {
        Faults before = measurements[number].before, after = measurements[number].after;
        fprintf(out, ", \"%s\": {\"minor\": %ld, \"major\": %ld}", measurements[number].scenario.name,
                after.minor - before.minor, after.major - before.major);
    }
    fputs("}, \"cost\": {", out);
    const char *between = "";
    for (size_t number = 0; number < count; number++) {
        if (measurements[number].instructions < 0 && measurements[number].joules < 0) continue;
        fputs(between, out);
        write_cost(out, &measurements[number]);
        between = ", ";
    }
    fputc('}', out);
}

static int ascending(const void *a, const void *b) {
    int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
    return (left > right) - (left < right);
}

int64_t median(int64_t *values, size_t count) {
    qsort(values, count, sizeof *values, ascending);
    return values[count / 2];
}

int64_t yardstick_ns(void) {
    static volatile float sink; /* keeps the compiler from removing the work */
    float *values = allocate(VALUES, sizeof *values), *squares = allocate(VALUES, sizeof *squares);
    int64_t times[PASSES];
    for (int number = 0; number < VALUES; number++) values[number] = (float)number / VALUES;
    for (int pass = 0; pass < PASSES; pass++) {
        float sum = 0;
        int64_t start = now_ns();
        for (int number = 0; number < VALUES; number++) squares[number] = values[number] * values[number];
        for (int number = 0; number < VALUES; number++) sum += squares[number];
        times[pass] = now_ns() - start;
        sink = sum;
    }
    (void)sink;
    free(values);
    free(squares);
    return median(times, PASSES);
}
