/* Mutants of bundles, opened and queried in this process, which is built with sanitizers.

   usage: fuzz SEED FIRST COUNT BUNDLE...

   Each BUNDLE is a folder, or one file. Mutant i of a seed is always the same. Every byte sequence is copied to memory
   of exactly its size, so that a byte beyond it is seen. Ends with a line of counts: those refused by each status, and
   those that answered; a mutant that is stopped by a sanitizer, or takes longer than 20 s, ends the process. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../src/kernel.h"

enum { MOST_BUNDLES = 256, SECONDS = 20, STATUSES = 128, ROWS = 12 };

typedef struct {
    uint8_t *data;
    size_t size;
} content;

typedef struct {
    content manifest, tables; /* manifest.data is NULL for one file */
} stored;

static uint64_t state;

static uint64_t drawn(uint64_t below) { /* splitmix64 */
    uint64_t mixed = state += 0x9e3779b97f4a7c15u;
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebu;
    return (mixed ^ mixed >> 31) % below;
}

static void *allocate(size_t size) {
    void *found = malloc(size ? size : 1);
    if (found == NULL) exit(3);
    return found;
}

static content read_file(const char *path) {
    content found = {NULL, 0};
    FILE *stream = fopen(path, "rb");
    if (stream == NULL) return found;
    fseek(stream, 0, SEEK_END);
    long size = ftell(stream);
    rewind(stream);
    if (size >= 0 && size < 1 << 24) {
        found.data = allocate((size_t)size);
        found.size = fread(found.data, 1, (size_t)size, stream);
    }
    fclose(stream);
    return found;
}

static stored read_bundle(const char *path) {
    char name[256], full[4096];
    uint64_t size;
    stored found;
    snprintf(full, sizeof full, "%s/manifest.json", path);
    found.manifest = read_file(full);
    if (found.manifest.data == NULL) {
        found.tables = read_file(path);
        return found;
    }
    if (er_manifest_file((er_bytes){found.manifest.data, found.manifest.size}, 0, name, &size) != ER_OK) exit(2);
    snprintf(full, sizeof full, "%s/%s", path, name);
    found.tables = read_file(full);
    return found;
}

static content copied(content from) {
    content to = {allocate(from.size), from.size};
    if (from.size) memcpy(to.data, from.data, from.size);
    return to;
}

static void put(content *to, size_t at, size_t without, const char *text, size_t length) {
    content whole = {allocate(to->size - without + length), to->size - without + length};
    memcpy(whole.data, to->data, at);
    memcpy(whole.data + at, text, length);
    memcpy(whole.data + at + length, to->data + at + without, to->size - at - without);
    free(to->data);
    *to = whole;
}

/* Bytes of a file: flipped, cut off, overwritten, or moved. */
static void damage(content *file) {
    if (file->size == 0) return;
    size_t at = drawn(file->size), some = 1 + drawn(drawn(8) ? 16 : file->size);
    if (some > file->size - at) some = file->size - at;
    switch (drawn(6)) {
    case 0: file->data[at] ^= (uint8_t)(1 << drawn(8)); break;
    case 1:
        for (size_t one = 0; one < some; one++) file->data[at + one] = (uint8_t)drawn(256);
        break;
    case 2: memset(file->data + at, drawn(2) ? 255 : 0, some); break;
    case 3: memmove(file->data + at, file->data + drawn(file->size - some + 1), some); break;
    case 4: put(file, at, some, "", 0); break;
    default: put(file, at, 0, (const char *)file->data, some);
    }
}

/* A number or a text of the manifest becomes another. */
static void edit(content *manifest) {
    static const char *const texts[] = {
        "0",
        "1",
        "-1",
        "2",
        "3",
        "7",
        "8",
        "63",
        "64",
        "255",
        "256",
        "65535",
        "65536",
        "2147483647",
        "2147483648",
        "4294967295",
        "4294967296",
        "9007199254740991",
        "18446744073709551615",
        "99999999999999999999",
        "1e3",
        "1e400",
        "0.5",
        "null",
        "true",
        "\"\"",
        "\"int\"",
        "\"str\"",
        "\"none\"",
        "\"hash64\"",
        "\"csc\"",
        "\"csr\"",
        "\"ell\"",
        "\"bitmask\"",
        "\"mixed\"",
        "\"dense\"",
        "\"uint8\"",
        "\"uint16\"",
        "\"int32\"",
        "\"int64\"",
        "\"float16\"",
        "\"float32\"",
        "\"1.0\"",
        "\"2.0\"",
        "\"fp16\"",
        "\"int4\"",
        "\"int2\"",
        "[]",
        "{}",
        "[[1,1]]",
        "[1]",
        "\"ials\"",
        "\"linear\"",
        "\"popular_items\"",
        "\"item_ids\"",
        "4",
        "16",
        "32",
    };
    size_t start = 0, end = 0, seen = 0;
    for (size_t at = 0; at < manifest->size;) { /* one of all texts and numbers */
        size_t from = at++;
        bool is_text = manifest->data[from] == '"';
        if (!is_text && (manifest->data[from] < '0' || manifest->data[from] > '9')) continue;
        while (at < manifest->size &&
               (is_text ? manifest->data[at] != '"' : strchr("0123456789.", manifest->data[at]) != NULL))
            at++;
        at += is_text && at < manifest->size;
        if (drawn(++seen) == 0) start = from, end = at;
    }
    if (seen == 0) return;
    if (drawn(4) == 0 && manifest->data[start] != '"') { /* a neighbour of the number */
        char text[32];
        snprintf(text, sizeof text, "%llu", strtoull((const char *)manifest->data + start, NULL, 10) + drawn(5) - 2);
        put(manifest, start, end - start, text, strlen(text));
        return;
    }
    const char *text = texts[drawn(sizeof texts / sizeof *texts)];
    if (end < manifest->size && manifest->data[end] == ':' && *text != '"') return; /* a name stays a text */
    put(manifest, start, end - start, text, strlen(text));
}

/* The tables' size in the manifest becomes what it is, so that other checks must find the damage. */
static void fit(stored *mutant) {
    static const char key[] = "\"bytes\":";
    uint8_t *tables = mutant->manifest.data;
    for (size_t at = 0; at + 16 < mutant->manifest.size; at++) {
        if (memcmp(tables + at, "\"tables\"", 8) != 0) continue;
        for (; at + 16 < mutant->manifest.size; at++) {
            if (memcmp(tables + at, key, 8) != 0) continue;
            size_t end = at += 8;
            char text[24];
            while (end < mutant->manifest.size && tables[end] >= '0' && tables[end] <= '9') end++;
            snprintf(text, sizeof text, "%zu", mutant->tables.size);
            put(&mutant->manifest, at, end - at, text, strlen(text));
            return;
        }
    }
}

static void ask_ids(const er_model *model, er_side side, int32_t rows, char *text) {
    for (int one = 0; one < ROWS; one++) {
        int32_t row = one < 2 ? (one ? rows - 1 : 0) : (int32_t)drawn((uint64_t)rows);
        int64_t id;
        size_t length;
        if (er_int_of_row(model, side, row, &id) == ER_OK) er_row_of_int(model, side, id);
        if (er_text_of_row(model, side, row, text, 64, &length) == ER_OK) er_row_of_text(model, side, text, length);
        er_row_of_int(model, side, (int64_t)drawn(UINT64_MAX));
        const char *title;
        if (side == ER_ITEM && er_title(model, row, &title, &length) == ER_OK && length) er_utf8(title, length);
        for (uint32_t n = 0; side == ER_ITEM && n <= er_facts_of(model).n_attributes; n++) {
            if (er_attribute(model, row, n, &title, &length) == ER_OK) er_utf8(title, length);
            if (er_attribute_name(model, n, &title, &length) == ER_OK) er_utf8(title, length);
        }
    }
}

/* Every call, with rows and lists at random. */
static void ask(const er_model *model) {
    er_facts facts = er_facts_of(model);
    size_t size = er_work_size(model);
    if (size > 1 << 26) return;
    uint32_t k = facts.items < 40 ? facts.items : 40, found;
    void *work = allocate(size);
    int32_t *items = allocate(k * sizeof *items), rows[ROWS], lists[2][ROWS];
    float *scores = allocate((k > ROWS ? k : ROWS) * sizeof *scores), *vector = allocate(facts.d * sizeof *vector);
    char *text = allocate(64);
    for (int one = 0; one < ROWS; one++) {
        rows[one] = (int32_t)drawn(facts.items);
        lists[0][one] = (int32_t)drawn(facts.items), lists[1][one] = (int32_t)drawn(facts.items);
    }
    ask_ids(model, ER_ITEM, (int32_t)facts.items, text);
    if (facts.users) ask_ids(model, ER_USER, (int32_t)facts.users, text);
    for (int time = 0; time < 4; time++) {
        er_request request = {.user = facts.users ? (int32_t)drawn(facts.users) : -1,
                              .exclude = lists[0],
                              .n_exclude = time ? ROWS : 0,
                              .allow = time == 2 ? lists[1] : NULL,
                              .n_allow = ROWS};
        if (!facts.users) request.history = rows, request.n_history = time == 3 ? 0 : 3 * (size_t)time;
        er_recommend(model, &request, k, items, scores, &found, work, size);
        request.rarity = (float)time - 1.5f;
        er_recommend(model, &request, k, items, scores, &found, work, size);
        er_score(model, &request, rows, ROWS, scores, work, size);
        er_similar(model, rows[time], &request, k, items, scores, &found, work, size);
        er_popular(model, &request, k, items, scores, &found, work, size);
        if (er_encode(model, &request, vector, work, size) == ER_OK) {
            request.vector = vector, request.history = NULL;
            er_recommend(model, &request, k, items, scores, &found, work, size);
        }
    }
    free(work), free(items), free(scores), free(vector), free(text);
}

static er_status attempt(const stored *mutant, int verify) {
    er_source source = {.manifest = {mutant->manifest.data, mutant->manifest.size},
                        .tables = {mutant->tables.data, mutant->tables.size},
                        .verify = verify};
    const er_model *model;
    size_t need = 0, given = 0;
    void *arena = NULL;
    er_status status = ER_MEMORY;
    for (int call = 0; call < 4 && (status = er_open(&source, arena, given, &need, &model)) == ER_MEMORY; call++) {
        size_t most =
            (mutant->manifest.data ? mutant->manifest.size : (size_t)ER_MAX_HEAD_BYTES) * 20 + mutant->tables.size / 16;
        if (need <= given || need > most + (ER_DIMENSIONS * 4) + 4096) {
            printf("er_open asks for %zu bytes after %zu\n", need, given);
            exit(1);
        }
        free(arena);
        arena = allocate(given = need);
    }
    if (status == ER_OK) ask(model);
    free(arena);
    return status;
}

int main(int count, char **arguments) {
    static stored bundles[MOST_BUNDLES];
    uint64_t outcomes[STATUSES] = {0};
    int n = count - 4;
    if (n < 1 || n > MOST_BUNDLES) return 2;
    for (int one = 0; one < n; one++) bundles[one] = read_bundle(arguments[4 + one]);
    uint64_t seed = strtoull(arguments[1], NULL, 10), first = strtoull(arguments[2], NULL, 10);
    uint64_t end = first + strtoull(arguments[3], NULL, 10);
    for (uint64_t number = first; number < end; number++) {
        state = seed << 40 ^ number;
        drawn(2);
        alarm(SECONDS);
        const stored *from = &bundles[drawn((uint64_t)n)];
        stored mutant = {{NULL, 0}, copied(from->tables)};
        if (from->manifest.data) mutant.manifest = copied(from->manifest);
        for (uint64_t times = 1 + drawn(3); times; times--) {
            if (mutant.manifest.data == NULL) damage(&mutant.tables);
            else if (drawn(3) == 0) damage(&mutant.tables);
            else if (drawn(5) == 0) damage(&mutant.manifest);
            else edit(&mutant.manifest);
        }
        int verify = (int)(number & 1); /* in the other half hashes count as fitting */
        if (!verify && mutant.manifest.data) fit(&mutant);
        er_status status = attempt(&mutant, verify);
        if ((unsigned)status >= STATUSES || strcmp(er_message(status), "an unknown status") == 0) {
            printf("mutant %llu: status %d\n", (unsigned long long)number, status);
            return 1;
        }
        outcomes[status]++;
        free(mutant.manifest.data), free(mutant.tables.data);
    }
    for (int status = 0; status < STATUSES; status++)
        if (outcomes[status])
            printf("%llu %s\n", (unsigned long long)outcomes[status],
                   status ? er_message((er_status)status) : "answered");
    for (int one = 0; one < n; one++) free(bundles[one].manifest.data), free(bundles[one].tables.data);
    return 0;
}
