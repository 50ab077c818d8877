/* Measures a bundle with onnxruntime's own library on systems without Python: Android, and any Linux.

   usage: edgerec-runner LIBRARY [SECONDS] < REQUEST > ANSWER

   LIBRARY is the path of libonnxruntime.so. With SECONDS, the process is killed after that time, or as soon as standard
   input ends: the caller keeps it open. A request is one line of JSON:

     {"task": "info"}
     {"task": "bare", "threads": 1}
     {"task": "bundle", ...}
     {"task": "answer", "bundle": FOLDER, "threads": 1, "questions": [QUESTION, ...]}

   edgerec_devices/agent/protocol.schema.json describes requests and answers. The answer to a scenario has the
   nanoseconds of each call instead of percentiles; `ask` takes rows of users and the answer has `rows` of items. A
   question has a user, history or vector with `exclude` and `k`, or with `candidates`; an item with `k`; or a history
   alone, which is encoded. An error is one line on standard error, with status 1. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "isolated.h"
#include "common.h"
#include "scenarios.h"

enum { MOST_ROWS = 1 << 28, MOST_THREADS = 1024, MOST_CALLS = 1 << 28 };
static const char REQUEST[] = "the request";
static const char *const USUAL[] = {"recommend", "score", NULL};

static int64_t whole(const Json *request, const char *name, int64_t low, int64_t high) {
    return json_integer(name, json_find(request, name), low, high);
}

static double number(const Json *request, const char *name) { return json_number(name, json_find(request, name)); }

static int threads_of(const Json *request) { return (int)whole(request, "threads", 1, MOST_THREADS); }

/* Return the names of the requested scenarios, ended by NULL; the caller frees the list. */
static const char **scenarios_of(const Json *request) {
    const Json *list = json_find(request, "scenarios");
    const char **names = allocate(list ? list->count + 1 : 3, sizeof *names), **at = names;
    if (list == NULL) memcpy(names, USUAL, sizeof USUAL);
    for (const Json *name = list ? list->first : NULL; name; name = name->next) {
        if (name->kind != JSON_STRING) fail("a scenario's name is no text");
        *at++ = name->text;
    }
    return names;
}

static bool is_isolated(const char *name) {
    return strcmp(name, "load") == 0 || strcmp(name, "sustained") == 0 || strcmp(name, "offline") == 0;
}

static Generator generator_of(const Json *request, const Bundle *bundle) {
    return (Generator){.state = (uint64_t)whole(request, "seed", 0, INT64_MAX), .items = bundle->items,
                   .users = bundle->users, .k = whole(request, "k", 1, bundle->items),
                   .exclude = (size_t)whole(request, "exclude", 0, MOST_ROWS),
                   .history = (size_t)whole(request, "history", 1, MOST_ROWS)};
}

/* Open a bundle only to size its random questions, before it is opened for the measurement. */
static Generator generator_for(const Json *request, const char *folder) {
    Bundle *bundle = bundle_open(folder);
    Generator generator = generator_of(request, bundle);
    bundle_close(bundle);
    return generator;
}

static void write_isolated(FILE *out, const char *name, const Json *request, const Runtime *runtime, const char *folder) {
    Generator generator = generator_for(request, folder);
    int threads = threads_of(request);
    if (strcmp(name, "load") == 0) {
        write_cold(out, runtime, folder, threads, &generator);
        return;
    }
    Bundle *bundle = bundle_open(folder);
    if (strcmp(name, "sustained") == 0) {
        Model model = model_open(runtime, bundle, threads);
        Scenario recommend = {.model = &model, .graph = RECOMMEND, .generator = &generator};
        recommend.listed = generator.exclude;
        write_sustained(out, &recommend, number(request, "sustained_seconds"));
        model_close(&model);
    } else {
        write_offline(out, runtime, bundle, &generator, number(request, "seconds"));
    }
    bundle_close(bundle);
}

/* List the scenarios of a name, one per number of candidates; none if the bundle has no such graph. */
static size_t scenarios_named(const char *name, const Json *request, Model *model, Generator *generator,
                              Scenario *found) {
    const Json *counts = json_find(request, "candidates");
    const Bundle *bundle = model->bundle;
    Scenario scenario = {.model = model, .generator = generator, .listed = generator->exclude};
    snprintf(scenario.name, sizeof scenario.name, "%s", name);
    size_t count = 0;
    if (strcmp(name, "recommend") == 0) {
        found[count++] = scenario;
    } else if (strcmp(name, "history") == 0 && bundle_graph(bundle, "encode")) {
        scenario.graph = ENCODE;
        found[count++] = scenario;
    } else if (strcmp(name, "lookup") == 0 && bundle_graph(bundle, "score")) {
        scenario.graph = SCORE;
        scenario.listed = 1;
        found[count++] = scenario;
    } else if (strcmp(name, "score") == 0 && bundle_graph(bundle, "score")) {
        scenario.graph = SCORE;
        for (const Json *one = counts ? counts->first : NULL; one; one = one->next) {
            scenario.listed = (size_t)json_integer("candidates", one, 1, MOST_ROWS);
            snprintf(scenario.name, sizeof scenario.name, "score %zu", scenario.listed);
            found[count++] = scenario;
        }
    }
    return count;
}

static void write_items(FILE *out, const Answer *answer) {
    fputc('[', out);
    for (size_t place = 0; place < answer->count && answer->items[place] >= 0; place++)
        fprintf(out, "%s%" PRId64, place ? ", " : "", answer->items[place]);
    fputc(']', out);
}

/* Write the values: only those of items if there are any, else all. Rows of -1 have a score of -infinity, which JSON
   cannot express. */
static void write_values(FILE *out, const Answer *answer) {
    fputc('[', out);
    for (size_t place = 0; place < answer->count && (!answer->items || answer->items[place] >= 0); place++)
        fprintf(out, "%s%.9g", place ? ", " : "", (double)answer->values[place]);
    fputc(']', out);
}

/* Write the rows of the k best items of each user in `ask`. */
static void write_best(FILE *out, const Json *request, Model *model, int64_t k) {
    const Json *users = json_find(request, "ask");
    fputs(", \"rows\": [", out);
    for (const Json *user = users ? users->first : NULL; user; user = user->next) {
        if (model->bundle->users == 0) fail("the bundle has no users to ask for");
        int64_t row = json_integer("a user", user, 0, model->bundle->users - 1);
        Answer best;
        model_run(model, RECOMMEND, &(Question){.batch = 1, .users = &row, .k = k}, &best);
        if (user != users->first) fputs(", ", out);
        write_items(out, &best);
        answer_free(&best);
    }
    fputc(']', out);
}

static void write_measured(FILE *out, const Json *request, const Runtime *runtime, const char *folder,
                           const char *const *names) {
    const Json *counts = json_find(request, "candidates");
    Limits limits = {whole(request, "calls", 1, MOST_CALLS), number(request, "seconds")};
    Instructions counter = instructions_open(); /* opened before the sessions, so that it counts their threads */
    Faults before = page_faults();
    int64_t start = now_ns();
    Bundle *bundle = bundle_open(folder);
    Model model = model_open(runtime, bundle, threads_of(request));
    model_session(&model, RECOMMEND);
    double load_ms = (double)(now_ns() - start) / 1e6;
    Faults load = page_faults();
    load.minor -= before.minor;
    load.major -= before.major;
    Generator generator = generator_of(request, bundle);
    Scenario *each = allocate((counts ? counts->count : 0) + 1, sizeof *each);
    Measurement *measurements = NULL;
    size_t done = 0;
    fprintf(out, "\"load_ms\": %.6f, \"verify_ms\": null, \"memory\": ", load_ms);
    if (names[0] == NULL) write_memory(out);
    for (size_t place = 0; names[place]; place++) {
        size_t count = is_isolated(names[place]) ? 0 : scenarios_named(names[place], request, &model, &generator, each);
        measurements = grow(measurements, done + count + 1, sizeof *measurements);
        for (size_t one = 0; one < count; one++) measurements[done++] = take(&each[one], limits);
        if (place == 0) write_memory(out); /* without the graphs that later scenarios open */
    }
    for (size_t one = 0; one < done; one++) count_instructions(&measurements[one], &counter);
    fprintf(out, ", \"yardstick_ms\": %.6f, ", (double)yardstick_ns() / 1e6);
    write_measurements(out, measurements, done, load);
    write_best(out, request, &model, generator.k);
    free(each);
    free(measurements);
    model_close(&model);
    bundle_close(bundle);
    instructions_close(&counter);
}

static void measure_bundle(FILE *out, const Json *request, const Runtime *runtime) {
    const char *folder = json_member(REQUEST, request, "bundle", JSON_STRING)->text, *between = "{";
    const char **names = scenarios_of(request);
    bool others = names[0] == NULL;
    for (const char **name = names; *name; name++) {
        others = others || !is_isolated(*name);
        if (!is_isolated(*name)) continue;
        fputs(between, out);
        write_isolated(out, *name, request, runtime, folder);
        between = ", ";
    }
    if (others) {
        fputs(between, out);
        write_measured(out, request, runtime, folder, names);
    }
    fputs("}\n", out);
    free(names);
}

static void answer_questions(FILE *out, const Json *request, const Runtime *runtime) {
    Bundle *bundle = bundle_open(json_member(REQUEST, request, "bundle", JSON_STRING)->text);
    Model model = model_open(runtime, bundle, threads_of(request));
    const Json *questions = json_member(REQUEST, request, "questions", JSON_ARRAY);
    fputs("{\"answers\": [", out);
    for (const Json *question_json = questions->first; question_json; question_json = question_json->next) {
        Graph graph;
        Answer answer;
        Question question = question_of(bundle, question_json, &graph);
        model_run(&model, graph, &question, &answer);
        fputs(question_json == questions->first ? "{" : ", {", out);
        if (answer.items) {
            fputs("\"items\": ", out);
            write_items(out, &answer);
            fputs(", ", out);
        }
        fprintf(out, "\"%s\": ", graph == ENCODE ? "vector" : "scores");
        write_values(out, &answer);
        fputc('}', out);
        answer_free(&answer);
        question_free(&question);
    }
    fputs("]}\n", out);
    model_close(&model);
    bundle_close(bundle);
}

static void do_task(FILE *out, const Json *request, const Runtime *runtime) {
    const char *task = json_member(REQUEST, request, "task", JSON_STRING)->text;
    if (strcmp(task, "bundle") == 0) {
        measure_bundle(out, request, runtime);
    } else if (strcmp(task, "answer") == 0) {
        answer_questions(out, request, runtime);
    } else if (strcmp(task, "bare") == 0) {
        run_bare_session(runtime, threads_of(request));
        fputs("{\"memory\": ", out);
        write_memory(out);
        fputs("}\n", out);
    } else if (strcmp(task, "info") == 0) {
        struct timespec step;
        clock_getres(CLOCK_MONOTONIC, &step);
        fprintf(out, "{\"onnxruntime\": \"%s\", \"clock_ns\": %ld, \"usable_cores\": %d}\n", runtime->version,
                step.tv_nsec, usable_cores());
    } else {
        fail("the runner knows no task '%s'; it knows: info, bare, bundle, answer", task);
    }
}

int main(int count, char **arguments) {
    if (count < 2 || count > 3) fail("usage: %s LIBRARY [SECONDS] < REQUEST > ANSWER", arguments[0]);
    if (count == 3) {
        alarm((unsigned)strtoul(arguments[2], NULL, 10));
        watch_host();
    }
    char *line = NULL;
    size_t capacity = 0;
    ssize_t length = getline(&line, &capacity, stdin);
    if (length <= 0) fail("there is no request on standard input");
    Json *request = json_parse(REQUEST, line, (size_t)length);
    free(line);
    Runtime runtime = runtime_open(arguments[1]);
    do_task(stdout, request, &runtime);
    runtime_close(&runtime);
    json_free(request);
    if (fflush(stdout) != 0) fail("cannot write the answer");
    return 0;
}
