#include "isolated.h"

#include <stdlib.h>

#include "common.h"

enum { MOST_SCORES = 1 << 24, FEWEST_CALLS = 3 };

void write_cold(FILE *out, const Runtime *runtime, const char *folder, int threads, Generator *generator) {
    if (!bundle_forget(folder)) {
        fputs("\"warm_because\": \"pages stayed in the page cache; another program may use them\"", out);
        return;
    }
    Faults before = page_faults();
    int64_t start = now_ns();
    Bundle *bundle = bundle_open(folder);
    Model model = model_open(runtime, bundle, threads);
    model_session(&model, RECOMMEND);
    int64_t loaded = now_ns();
    Question question = question_allocate(generator, 1, generator->exclude);
    int64_t first = timed_call(&(Scenario){.model = &model, .graph = RECOMMEND, .generator = generator}, &question);
    fprintf(out, "\"cold\": {\"load_ms\": %.6f, \"first_ms\": %.6f, \"faults\": ", (double)(loaded - start) / 1e6,
            (double)first / 1e6);
    write_faults(out, before);
    fputc('}', out);
    question_free(&question);
    model_close(&model);
    bundle_close(bundle);
}

static void write_window(FILE *out, double at_s, int64_t *times, size_t count) {
    int64_t khz, millidegrees;
    fprintf(out, "{\"at_s\": %.6f, \"count\": %zu, \"p50_ms\": %.6f", at_s, count, (double)median(times, count) / 1e6);
    if (clock_khz(&khz)) fprintf(out, ", \"mhz\": %.3f", (double)khz / 1e3);
    if (hottest(&millidegrees)) fprintf(out, ", \"temperature_c\": %.3f", (double)millidegrees / 1e3);
    fputc('}', out);
}

void write_sustained(FILE *out, const Scenario *recommend, double seconds) {
    Question question = question_allocate(recommend->generator, 1, recommend->listed);
    size_t capacity = 0;
    int64_t *times = NULL, started = now_ns(), began;
    const char *between = "\"sustained\": [";
    while ((double)((began = now_ns()) - started) < seconds * SECOND_NS) {
        size_t count = 0;
        do {
            if (count == capacity) {
                capacity = capacity ? 2 * capacity : 256;
                times = grow(times, capacity, sizeof *times);
            }
            times[count++] = timed_call(recommend, &question);
        } while (now_ns() - began < SECOND_NS);
        fputs(between, out);
        write_window(out, (double)(began - started) / SECOND_NS, times, count);
        between = ", ";
    }
    fputc(']', out);
    free(times);
    question_free(&question);
}

static void write_point(FILE *out, const Scenario *recommend, size_t batch, double seconds) {
    Question question = question_allocate(recommend->generator, batch, recommend->listed);
    int64_t calls = 0, spent = 0;
    timed_call(recommend, &question);
    while (calls < FEWEST_CALLS || (double)spent < seconds * SECOND_NS) {
        spent += timed_call(recommend, &question);
        calls++;
    }
    fprintf(out, "{\"threads\": %d, \"batch\": %zu, \"calls\": %lld, \"users_per_second\": %.6g}",
            recommend->model->threads, batch, (long long)calls, (double)batch * (double)calls * SECOND_NS / (double)spent);
    question_free(&question);
}

void write_offline(FILE *out, const Runtime *runtime, const Bundle *bundle, Generator *generator, double seconds) {
    static const size_t batches[] = {1, 16, 256};
    const char *between = "\"offline\": [";
    int cores = usable_cores(), threads = 1;
    for (;;) {
        Model model = model_open(runtime, bundle, threads);
        Scenario recommend = {.model = &model, .graph = RECOMMEND, .generator = generator};
        recommend.listed = generator->exclude;
        for (size_t number = 0; number < sizeof batches / sizeof *batches; number++) {
            if (batches[number] > 1 && (int64_t)batches[number] * bundle->items > MOST_SCORES) break;
            fputs(between, out);
            write_point(out, &recommend, batches[number], seconds);
            between = ", ";
        }
        model_close(&model);
        if (threads >= cores) break;
        threads = 2 * threads < cores ? 2 * threads : cores;
    }
    fputc(']', out);
}
