/* Checks the kernel against the test vectors, as tests/vectors/check.py checks Python's runtime.

   usage: check VECTORS_FOLDER BUNDLE REQUESTS.json
          check VECTORS_FOLDER LIST

   BUNDLE is a folder or one file. LIST is a file with a line for each, BUNDLE and then REQUESTS.json. Prints
   a line for each wrong answer, and ends with status 1 where there is one. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../../devices/kernel/src/kernel.h"

enum { MOST = 1 << 16 };

typedef struct {
    char names[40][256];
    er_bytes contents[40];
    er_file files[40];
    size_t count; /* 0 the manifest or the one file, 1 the tables, then the others */
    bool is_folder;
} loaded;

static const er_model *model;
static void *work;
static size_t work_size;

static void *allocate(size_t size) {
    void *found = malloc(size ? size : 1);
    if (found == NULL) exit(3);
    return found;
}

static er_bytes read_file(const char *folder, const char *name) {
    char path[2048];
    snprintf(path, sizeof path, "%s%s%s", folder, *name ? "/" : "", name);
    FILE *stream = fopen(path, "rb");
    er_bytes found = {NULL, 0};
    if (stream == NULL) return found;
    fseek(stream, 0, SEEK_END);
    found.size = (size_t)ftell(stream);
    rewind(stream);
    void *data = allocate(found.size);
    if (fread(data, 1, found.size, stream) != found.size) exit(3);
    fclose(stream);
    found.data = data;
    return found;
}

static void load(const char *bundle, loaded *into) {
    memset(into, 0, sizeof *into);
    er_bytes manifest = read_file(bundle, "manifest.json");
    into->is_folder = manifest.data != NULL;
    into->count = 1;
    into->contents[0] = into->is_folder ? manifest : read_file(bundle, "");
    strcpy(into->names[0], "manifest.json");
    uint64_t size;
    while (into->is_folder && er_manifest_file(manifest, into->count - 1, into->names[into->count], &size) == ER_OK) {
        into->contents[into->count] = read_file(bundle, into->names[into->count]);
        into->files[into->count] = (er_file){into->names[into->count], into->contents[into->count]};
        into->count++;
    }
}

static void forget(loaded *files) {
    for (size_t one = 0; one < files->count; one++) free((void *)(uintptr_t)files->contents[one].data);
}

static er_status open_loaded(const loaded *files, const unsigned char (*trusted)[32], size_t n_trusted, void **arena,
                             const er_model **opened) {
    er_source source = {.manifest = files->is_folder ? files->contents[0] : (er_bytes){NULL, 0},
                        .tables = files->contents[files->is_folder],
                        .files = files->files + 2,
                        .n_files = files->count > 2 ? files->count - 2 : 0,
                        .verify = ER_SHA256,
                        .trusted = trusted,
                        .n_trusted = n_trusted};
    size_t need = 0, given = 0;
    er_status status;
    *arena = NULL;
    for (int calls = 1; (status = er_open(&source, *arena, given, &need, opened)) == ER_MEMORY; calls++) {
        if (calls == 4 || need <= given) {
            printf("er_open asks for %zu bytes after %zu, in call %d\n", need, given, calls);
            exit(1);
        }
        free(*arena);
        *arena = allocate(given = need);
    }
    return status;
}

/* UTF-8 of a text; half a character becomes bytes that no text has. */
static size_t unescaped(er_json value, char *out) {
    size_t length = 0;
    for (const char *at = value.at + 1; *at != '"'; at++) {
        if (*at != '\\') {
            out[length++] = *at;
            continue;
        }
        static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
        if (*++at != 'u') {
            const char *known = strchr(from, *at);
            out[length++] = known ? to[known - from] : *at;
            continue;
        }
        char digits[5] = {at[1], at[2], at[3], at[4], 0};
        uint32_t point = (uint32_t)strtoul(digits, NULL, 16);
        at += 4;
        if (point >= 0xd800 && point < 0xdc00 && at[1] == '\\' && at[2] == 'u') {
            memcpy(digits, at + 3, 4);
            uint32_t low = (uint32_t)strtoul(digits, NULL, 16);
            if (low >= 0xdc00 && low < 0xe000) point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00), at += 6;
        }
        int more = point < 0x80 ? 0 : point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
        out[length++] = (char)(more ? (0xff00u >> (more + 1) & 0xff) | point >> (6 * more) : point);
        while (more--) out[length++] = (char)(0x80 | (point >> (6 * more) & 63));
    }
    return length;
}

static bool whole(er_json value, int64_t *number) {
    uint64_t found;
    bool negative = value.at && *value.at == '-';
    if (negative) value.at++;
    if (!er_json_whole(value, (uint64_t)INT64_MAX + negative, &found)) return false;
    *number = negative ? (int64_t)(0 - found) : (int64_t)found;
    return true;
}

static int32_t row_of(er_side side, er_json id) {
    static char text[MOST];
    int64_t number;
    if (id.at && *id.at == '"') return er_row_of_text(model, side, text, unescaped(id, text));
    return whole(id, &number) ? er_row_of_int(model, side, number) : -1;
}

/* Rows of a list of ids; false for one that is unknown, or that is no list. */
static bool rows_of(er_json ids, bool skip, int32_t *rows, size_t *n) {
    er_json at = er_json_first(ids, '['), id;
    *n = 0;
    if (ids.at == NULL || *ids.at != '[') return false;
    while (er_json_next(&at, NULL, &id)) {
        int32_t row = row_of(ER_ITEM, id);
        if (row >= 0) rows[(*n)++] = row;
        else if (!skip) return false;
    }
    return true;
}

static bool same_id(int32_t row, er_json id) {
    static char own[MOST], text[MOST];
    int64_t number, wanted;
    size_t length;
    if (*id.at != '"')
        return er_int_of_row(model, ER_ITEM, row, &number) == ER_OK && whole(id, &wanted) && number == wanted;
    if (er_text_of_row(model, ER_ITEM, row, own, MOST, &length) != ER_OK) return false;
    char *exact = allocate(length); /* a text needs no more room than its own */
    bool same = er_text_of_row(model, ER_ITEM, row, exact, length, &length) == ER_OK && memcmp(own, exact, length) == 0;
    same = same && (length == 0 || er_text_of_row(model, ER_ITEM, row, exact, length - 1, &length) == ER_MEMORY);
    free(exact);
    return same && unescaped(id, text) == length && memcmp(own, text, length) == 0;
}

static double number_of(er_json value) { return strtod(value.at, NULL); }

static const char *ranking_failure(er_json request, uint32_t k, const int32_t *items, const float *scores,
                                   uint32_t found) {
    double tolerance = number_of(er_json_get(request, "tolerance"));
    er_json groups = er_json_get(request, "ranking"), at = er_json_first(groups, '['), group, entry;
    uint32_t done = 0, wanted = 0;
    while (er_json_next(&at, NULL, &group)) wanted += (uint32_t)er_json_count(group, '[');
    if (found != (wanted < k ? wanted : k)) return "another number of items";
    for (at = er_json_first(groups, '['); er_json_next(&at, NULL, &group);) {
        uint32_t size = (uint32_t)er_json_count(group, '['), end = done + size < found ? done + size : found;
        for (; done < end; done++) {
            er_json of = er_json_first(group, '['), inner, id, score;
            bool right = false;
            while (!right && er_json_next(&of, NULL, &entry)) {
                inner = er_json_first(entry, '[');
                if (!er_json_next(&inner, NULL, &id) || !er_json_next(&inner, NULL, &score)) return "a broken file";
                right = same_id(items[done], id) && fabs(scores[done] - number_of(score)) <= tolerance;
            }
            if (!right) return "an item that is not in its group, or its score";
            for (uint32_t before = 0; before < done; before++)
                if (items[before] == items[done]) return "an item twice";
        }
    }
    return NULL;
}

static const char *values_failure(er_json request, const char *key, const float *values, size_t n) {
    double tolerance = number_of(er_json_get(request, "tolerance"));
    er_json at = er_json_first(er_json_get(request, key), '['), value;
    for (size_t one = 0; one < n; one++)
        if (!er_json_next(&at, NULL, &value) || !(fabs(values[one] - number_of(value)) <= tolerance))
            return "another number";
    return er_json_next(&at, NULL, &value) ? "too few numbers" : NULL;
}

/* The last 32 bytes of a PEM file's one key. */
static void read_key(const char *folder, er_json name, unsigned char key[32]) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char path[512];
    path[unescaped(name, path)] = 0;
    er_bytes pem = read_file(folder, path);
    unsigned char bytes[128];
    size_t n = 0;
    uint32_t bits = 0, held = 0;
    const char *at = strchr((const char *)pem.data + 5, '\n');
    for (; at && *at != '-' && n < sizeof bytes; at++) {
        const char *letter = *at == '\n' || *at == '=' ? NULL : strchr(letters, *at);
        if (letter == NULL) continue;
        bits = bits << 6 | (uint32_t)(letter - letters), held += 6;
        if (held >= 8) bytes[n++] = (unsigned char)(bits >> (held -= 8));
    }
    memcpy(key, bytes + n - 32, 32);
    free((void *)(uintptr_t)pem.data);
}

static er_status ask_load(const char *folder, const char *bundle, er_json request) {
    unsigned char keys[4][32];
    size_t n_keys = 0;
    er_json trusted = er_json_get(request, "trusted"), at = er_json_first(trusted, '['), name,
            flip = er_json_get(request, "flip");
    loaded files;
    void *arena;
    const er_model *opened;
    while (er_json_next(&at, NULL, &name)) read_key(folder, name, keys[n_keys++]);
    load(bundle, &files);
    if (flip.at && !files.is_folder) { /* files of a folder alone are flipped by name */
        forget(&files);
        return ER_UNSUPPORTED;
    }
    if (flip.at) {
        char prefix[256];
        int64_t byte = 0;
        prefix[unescaped(er_json_get(flip, "file"), prefix)] = 0;
        whole(er_json_get(flip, "byte"), &byte);
        for (size_t one = 0; one < files.count; one++)
            if (strncmp(files.names[one], prefix, strlen(prefix)) == 0)
                ((unsigned char *)(uintptr_t)files.contents[one]
                     .data)[byte < 0 ? (int64_t)files.contents[one].size + byte : byte] ^= 1;
    }
    er_status status = open_loaded(&files, trusted.at ? keys : NULL, n_keys, &arena, &opened);
    if (status == ER_OK) er_close(opened);
    free(arena);
    forget(&files);
    return status;
}

static const char *ask(const char *folder, const char *bundle, er_json request, er_status *status) {
    static int32_t rows[4][MOST], items[MOST];
    static float scores[MOST], vector[MOST];
    er_request asked = {.user = -1};
    er_facts facts = er_facts_of(model);
    er_json call = er_json_get(request, "call"), user = er_json_get(request, "user"),
            given = er_json_get(request, "vector"), list;
    er_json unknown = er_json_get(request, "on_unknown");
    bool is_encode = er_json_is(call, "encode"), skip = er_json_is(unknown, "skip");
    uint64_t k = 0;
    uint32_t found = 0;
    *status = ER_REQUEST;
    if (er_json_is(call, "load")) {
        *status = ask_load(folder, bundle, request);
        return NULL;
    }
    if (unknown.at && !skip && !er_json_is(unknown, "error")) return NULL;
    if (er_json_is(call, "title")) {
        const char *text;
        static char wanted[MOST];
        size_t length;
        int32_t row = row_of(ER_ITEM, er_json_get(request, "item"));
        if (row < 0) return NULL;
        if ((*status = er_title(model, row, &text, &length)) != ER_OK) return NULL;
        list = er_json_get(request, "title");
        size_t size = er_json_null(list) ? 0 : unescaped(list, wanted);
        return size == length && memcmp(wanted, text, size) == 0 ? NULL : "another title";
    }
    if (user.at && (asked.user = row_of(ER_USER, user)) < 0) return NULL;
    if ((list = er_json_get(request, "history")).at && !er_json_null(list)) {
        if (!rows_of(list, skip, rows[0], &asked.n_history)) return NULL;
        asked.history = rows[0];
    }
    if (given.at && !is_encode) {
        er_json at = er_json_first(given, '['), value;
        size_t n = 0;
        for (; er_json_next(&at, NULL, &value); n++) {
            if (n == facts.d || *value.at == '[') return NULL;
            vector[n] = (float)number_of(value);
        }
        if (n != facts.d) return NULL;
        asked.vector = vector;
    }
    if ((list = er_json_get(request, "exclude")).at && !rows_of(list, skip, rows[1], &asked.n_exclude)) return NULL;
    asked.exclude = rows[1];
    if ((list = er_json_get(request, "allow")).at && !er_json_null(list)) {
        if (!rows_of(list, skip, rows[2], &asked.n_allow)) return NULL;
        asked.allow = rows[2];
    }
    if ((list = er_json_get(request, "rarity")).at) asked.rarity = (float)number_of(list);
    er_json_whole(er_json_get(request, "k"), UINT32_MAX, &k);
    if (er_json_is(call, "recommend")) {
        *status = er_recommend(model, &asked, (uint32_t)k, items, scores, &found, work, work_size);
    } else if (er_json_is(call, "popular")) {
        *status = er_popular(model, &asked, (uint32_t)k, items, scores, &found, work, work_size);
    } else if (er_json_is(call, "similar")) {
        int32_t item = row_of(ER_ITEM, er_json_get(request, "item"));
        if (item < 0) return NULL;
        *status = er_similar(model, item, &asked, (uint32_t)k, items, scores, &found, work, work_size);
    } else if (er_json_is(call, "score")) {
        size_t n;
        if (!rows_of(er_json_get(request, "items"), false, rows[3], &n)) return NULL;
        *status = er_score(model, &asked, rows[3], n, scores, work, work_size);
        return *status == ER_OK && !er_json_get(request, "error").at ? values_failure(request, "scores", scores, n)
                                                                     : NULL;
    } else {
        *status = er_encode(model, &asked, scores, work, work_size);
        return *status == ER_OK && !er_json_get(request, "error").at
                   ? values_failure(request, "vector", scores, facts.d)
                   : NULL;
    }
    return *status == ER_OK && !er_json_get(request, "error").at
               ? ranking_failure(request, (uint32_t)k, items, scores, found)
               : NULL;
}

static int requests_asked, wrong_answers;

/* The status of the program for one bundle. */
static int check(const char *folder, const char *bundle, const char *requests) {
    loaded files;
    void *arena;
    er_bytes text = read_file(requests, "");
    er_json content, request;
    load(bundle, &files);
    er_status status = open_loaded(&files, NULL, 0, &arena, &model);
    if (status != ER_OK) {
        printf("%s: %d %s\n", bundle, status, er_message(status));
        free(arena);
        forget(&files);
        free((void *)(uintptr_t)text.data);
        return status == ER_SCALES ? 4 : 1;
    }
    if (er_json_object(text.data, text.size, &content) != ER_OK) return 3;
    work_size = er_work_size(model);
    work = allocate(work_size);
    int wrong = 0;
    er_json at = er_json_first(er_json_get(content, "requests"), '[');
    for (; er_json_next(&at, NULL, &request); requests_asked++) {
        const char *failure = ask(folder, bundle, request, &status);
        er_json error = er_json_get(request, "error");
        if (!files.is_folder && er_json_get(request, "flip").at) continue;
        er_status kind = er_kind(status), expected = !error.at                      ? ER_OK
                                                     : er_json_is(error, "request") ? ER_REQUEST
                                                     : er_json_is(error, "bundle")  ? ER_BUNDLE
                                                                                    : ER_SIGNATURE;
        if (failure == NULL && kind != expected) failure = er_message(status);
        const char *line = request.at, *end = memchr(line, '\n', (size_t)((const char *)text.data + text.size - line));
        if (failure)
            printf("%s: %.*s: %s\n", bundle, (int)(end && end - line < 300 ? end - line : 300), line, failure), wrong++;
    }
    wrong_answers += wrong;
    er_close(model);
    free(arena), free(work);
    forget(&files);
    free((void *)(uintptr_t)text.data);
    return wrong > 0;
}

int main(int count, char **arguments) {
    int worst = 0;
    if (count != 3 && count != 4) return 2;
    if (count == 4) {
        worst = check(arguments[1], arguments[2], arguments[3]);
    } else {
        static char list[MOST];
        er_bytes lines = read_file(arguments[2], "");
        if (lines.data == NULL || lines.size >= MOST) return 3;
        memcpy(list, lines.data, lines.size);
        free((void *)(uintptr_t)lines.data);
        for (char *bundle = strtok(list, "\n"), *requests; bundle; bundle = strtok(NULL, "\n")) {
            if ((requests = strtok(NULL, "\n")) == NULL) return 3;
            int status = check(arguments[1], bundle, requests);
            worst = status > worst ? status : worst;
        }
    }
    printf("%d requests, %d failures\n", requests_asked, wrong_answers);
    return worst;
}
