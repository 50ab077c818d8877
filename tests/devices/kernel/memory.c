/* Memory that a request takes: usage: memory BUNDLE.edgerec K ROW [ROW ...]. Prints "ARENA WORK STACK" in bytes.

   A request runs on a stack of its own that was painted before; what an empty thread takes of it is subtracted. It asks
   for user 0, or for a history of the rows. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../../devices/kernel/edgerec_kernel.h"

enum { STACK = 1 << 18, PAINT = 0x5a, MOST = 1 << 16 };

static _Alignas(4096) unsigned char stack[STACK];
static int32_t rows[MOST], items[MOST];
static float scores[MOST];
static const er_model *model;
static void *work;
static uint32_t k, n;

static void *nothing(void *given) { return given; }

static void *recommend(void *given) {
    er_request request = {.user = 0};
    uint32_t found;
    if (er_facts_of(model).users == 0) request = (er_request){.user = -1, .history = rows, .n_history = n};
    er_status status = er_recommend(model, &request, k, items, scores, &found, work, er_work_size(model));
    if (status != ER_OK) fprintf(stderr, "%s\n", er_message(status)), exit(1);
    return given;
}

static size_t stack_of(void *(*call)(void *)) {
    pthread_attr_t attributes;
    pthread_t thread;
    size_t untouched = 0;
    memset(stack, PAINT, STACK);
    pthread_attr_init(&attributes);
    if (pthread_attr_setstack(&attributes, stack, STACK) || pthread_create(&thread, &attributes, call, NULL)) exit(3);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attributes);
    while (stack[untouched] == PAINT) untouched++;
    return STACK - untouched;
}

int main(int count, char **arguments) {
    FILE *stream = count > 2 ? fopen(arguments[1], "rb") : NULL;
    if (stream == NULL) return 2;
    fseek(stream, 0, SEEK_END);
    size_t size = (size_t)ftell(stream), need = 0, given = 0;
    rewind(stream);
    void *file = malloc(size), *arena = NULL;
    if (fread(file, 1, size, stream) != size) return 2;
    fclose(stream);
    er_source source = {.tables = {file, size}};
    er_status status;
    while ((status = er_open(&source, arena, given, &need, &model)) == ER_MEMORY) {
        free(arena);
        arena = malloc(given = need);
    }
    if (status != ER_OK) return 1;
    work = malloc(er_work_size(model)), k = (uint32_t)atoi(arguments[2]);
    for (int at = 3; at < count; at++) rows[n++] = atoi(arguments[at]);
    size_t empty = stack_of(nothing), used = stack_of(recommend);
    printf("%zu %zu %zu\n", need, er_work_size(model), used > empty ? used - empty : 0);
    free(work), free(arena), free(file);
    return 0;
}
