#include "questions.h"

#include <stdlib.h>
#include <string.h>

#include "common.h"

enum { MOST_INPUTS = 3 };
static const char REQUEST[] = "the request";

/* The inputs of one call, by name. */
typedef struct {
    const Runtime *runtime;
    const char *names[MOST_INPUTS];
    OrtValue *values[MOST_INPUTS];
    size_t count;
    int64_t shapes[MOST_INPUTS][2];
} Feed;

Model model_open(const Runtime *runtime, const Bundle *bundle, int threads) {
    return (Model){.runtime = runtime, .bundle = bundle, .threads = threads};
}

void model_close(Model *model) {
    session_close(model->recommend);
    session_close(model->score);
    session_close(model->similar);
    session_close(model->encode);
}

Session *model_session(Model *model, Graph graph) {
    static const char *const names[] = {"recommend", "score", "similar", "encode"};
    Session **places[] = {&model->recommend, &model->score, &model->similar, &model->encode};
    if (*places[graph] == NULL)
        *places[graph] = session_open(model->runtime, model->bundle, names[graph], model->threads);
    return *places[graph];
}

/* Add an input: a number (rank 0), one value per question (rank 1), or `width` values per question (rank 2). */
static void feed(Feed *to, const char *name, const void *values, size_t batch, size_t width, size_t rank, int type) {
    size_t size = type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT ? sizeof(float) : sizeof(int64_t);
    int64_t *shape = to->shapes[to->count];
    shape[0] = (int64_t)batch;
    shape[1] = (int64_t)width;
    to->names[to->count] = name;
    to->values[to->count++] = tensor(to->runtime, values, batch * width * size, shape, rank, type);
}

static void feed_rows(Feed *to, const char *name, const int64_t *rows, size_t batch, size_t width) {
    feed(to, name, rows, batch, width, 2, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64);
}

static void feed_free(Feed *feed) {
    for (size_t number = 0; number < feed->count; number++) feed->runtime->api->ReleaseValue(feed->values[number]);
}

static void *contents(const Runtime *runtime, OrtValue *value, size_t *count) {
    OrtTensorTypeAndShapeInfo *info;
    void *found;
    runtime_check(runtime, runtime->api->GetTensorTypeAndShape(value, &info), "an answer");
    runtime_check(runtime, runtime->api->GetTensorShapeElementCount(info, count), "an answer");
    runtime->api->ReleaseTensorTypeAndShapeInfo(info);
    runtime_check(runtime, runtime->api->GetTensorMutableData(value, &found), "an answer");
    return found;
}

static void *copied(const Runtime *runtime, OrtValue *value, size_t size, size_t *count) {
    const void *found = contents(runtime, value, count);
    void *copy = allocate(*count, size);
    if (*count) memcpy(copy, found, *count * size);
    return copy;
}

static OrtValue *encoded(Model *model, const Question *question) {
    static const char *const outputs[] = {"vector"};
    Feed history = {.runtime = model->runtime};
    feed_rows(&history, "history", question->history, question->batch, question->n_history);
    OrtValue *vector;
    session_run(model_session(model, ENCODE), history.names, (const OrtValue *const *)history.values, history.count,
                outputs, &vector, 1);
    feed_free(&history);
    return vector;
}

/* Join the excluded items and those of the history: a graph that gets only the history's vector cannot exclude them. */
static int64_t *with_history(const Question *question) {
    size_t width = question->n_listed + question->n_history;
    int64_t *both = allocate(question->batch * width, sizeof *both), *at = both;
    for (size_t number = 0; number < question->batch; number++, at += width) {
        const int64_t *listed = question->listed + number * question->n_listed;
        memcpy(at, listed, question->n_listed * sizeof *at);
        memcpy(at + question->n_listed, question->history + number * question->n_history,
               question->n_history * sizeof *at);
    }
    return both;
}

/* Add the question's subject and its list as the graph takes them. The caller frees the result after the call. */
static int64_t *feed_question(Model *model, Graph graph, const Question *question, Feed *to) {
    const char *list = graph == RECOMMEND ? "exclude" : "candidates";
    size_t batch = question->batch, d = (size_t)model->bundle->d;
    int64_t *both = NULL;
    if (question->users) {
        feed(to, "user", question->users, batch, 1, 1, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64);
    } else if (question->vector) {
        feed(to, "vector", question->vector, batch, d, 2, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT);
    } else if (bundle_graph(model->bundle, "encode") == NULL) {
        feed_rows(to, "history", question->history, batch, question->n_history);
    } else {
        to->names[to->count] = "vector";
        to->values[to->count++] = encoded(model, question);
        if (graph == RECOMMEND) both = with_history(question);
    }
    feed_rows(to, list, both ? both : question->listed, batch, question->n_listed + (both ? question->n_history : 0));
    return both;
}

void model_run(Model *model, Graph graph, const Question *question, Answer *answer) {
    static const char *const outputs[] = {"scores", "items"};
    const Runtime *runtime = model->runtime;
    OrtValue *answers[2] = {NULL, NULL};
    int64_t *both = NULL;
    Feed given = {.runtime = runtime};
    if (graph == ENCODE) {
        answers[0] = encoded(model, question);
    } else {
        if (graph == SIMILAR) feed(&given, "item", question->listed, 1, 1, 1, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64);
        else both = feed_question(model, graph, question, &given);
        if (graph != SCORE) feed(&given, "k", &question->k, 1, 1, 0, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64);
        session_run(model_session(model, graph), given.names, (const OrtValue *const *)given.values, given.count,
                    outputs, answers, graph == SCORE ? 1 : 2);
    }
    if (answer) {
        answer->values = copied(runtime, answers[0], sizeof(float), &answer->count);
        answer->items = answers[1] ? copied(runtime, answers[1], sizeof(int64_t), &answer->count) : NULL;
    }
    for (size_t number = 0; number < 2; number++)
        if (answers[number]) runtime->api->ReleaseValue(answers[number]);
    feed_free(&given);
    free(both);
}

void answer_free(Answer *answer) {
    free(answer->values);
    free(answer->items);
}

/* Draw from 0..below - 1 with splitmix64 (Steele, Lea and Flood, 2014); the modulo bias is below 2^-32. */
static int64_t draw(uint64_t *state, int64_t below) {
    uint64_t mixed = *state += 0x9e3779b97f4a7c15u;
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebu;
    return (int64_t)((mixed ^ mixed >> 31) % (uint64_t)below);
}

static void draw_all(Generator *generator, int64_t *rows, size_t count, int64_t below) {
    for (size_t number = 0; number < count; number++) rows[number] = draw(&generator->state, below);
}

Question question_allocate(const Generator *generator, size_t batch, size_t listed) {
    return (Question){.batch = batch, .n_listed = listed, .k = generator->k,
                      .n_history = generator->users ? 0 : generator->history,
                      .users = generator->users ? allocate(batch, sizeof(int64_t)) : NULL,
                      .history = generator->users ? NULL : allocate(batch * generator->history, sizeof(int64_t)),
                      .listed = allocate(batch * listed, sizeof(int64_t))};
}

void draw_question(Generator *generator, Question *question) {
    if (question->users) draw_all(generator, question->users, question->batch, generator->users);
    draw_all(generator, question->history, question->batch * question->n_history, generator->items);
    draw_all(generator, question->listed, question->batch * question->n_listed, generator->items);
}

/* Parse the rows of a member. If `padded`, an empty list becomes a single -1. */
static int64_t *rows_of(const Json *json, const char *name, int64_t below, bool padded, size_t *count) {
    const Json *list = json_member(REQUEST, json, name, JSON_ARRAY);
    int64_t *rows = allocate(list->count + 1, sizeof *rows), *at = rows;
    for (const Json *row = list->first; row; row = row->next) *at++ = json_integer(name, row, padded ? -1 : 0, below - 1);
    *count = list->count;
    if (padded && list->count == 0) {
        *rows = -1;
        *count = 1;
    }
    return rows;
}

static float *vector_of(const Json *json, int64_t d) {
    const Json *list = json_member(REQUEST, json, "vector", JSON_ARRAY);
    if (list->count != (size_t)d) fail("a vector has %zu values and the bundle %lld", list->count, (long long)d);
    float *values = allocate(list->count, sizeof *values), *at = values;
    for (const Json *value = list->first; value; value = value->next) *at++ = (float)json_number("a vector's value", value);
    return values;
}

Question question_of(const Bundle *bundle, const Json *json, Graph *graph) {
    Question question = {.batch = 1};
    bool encode = bundle_graph(bundle, "encode") != NULL;
    const Json *user = json_find(json, "user"), *item = json_find(json, "item"), *k = json_find(json, "k");
    if (user) {
        if (bundle->users == 0) fail("the bundle has no users; ask with a history");
        question.users = allocate(1, sizeof(int64_t));
        *question.users = json_integer("a user", user, 0, bundle->users - 1);
    } else if (json_find(json, "vector")) {
        if (!encode) fail("the bundle's graphs take no vector");
        question.vector = vector_of(json, bundle->d);
    } else if (item == NULL) {
        if (bundle->users) fail("the bundle has users; ask with a user");
        question.history = rows_of(json, "history", bundle->items, true, &question.n_history);
    }
    if (item) {
        *graph = SIMILAR;
        question.listed = allocate(1, sizeof(int64_t));
        question.listed[0] = json_integer("an item", item, 0, bundle->items - 1);
        question.n_listed = 1;
    } else if (json_find(json, "candidates")) {
        *graph = SCORE;
        question.listed = rows_of(json, "candidates", bundle->items, false, &question.n_listed);
    } else if (k) {
        *graph = RECOMMEND;
        question.listed = json_find(json, "exclude") ? rows_of(json, "exclude", bundle->items, false, &question.n_listed)
                                                      : allocate(1, sizeof(int64_t));
    } else {
        *graph = ENCODE;
        if (question.history == NULL) fail("a question has neither k nor candidates");
    }
    if (*graph == RECOMMEND || *graph == SIMILAR) question.k = json_integer("k", k, 1, bundle->items);
    return question;
}

void question_free(Question *question) {
    free(question->users);
    free(question->history);
    free(question->listed);
    free(question->vector);
}
