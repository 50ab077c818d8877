#include "bundle.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common.h"
#include "onnxruntime_c_api.h"
#include "spec.h"

static const char MANIFEST[] = "manifest.json";
static const int64_t NEWEST_MAJOR = SPEC_MAJOR;

static const struct {
    const char *name;
    ONNXTensorElementDataType type;
    size_t size;
} DTYPES[] = {
    {"float32", ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, 4},   {"float16", ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16, 2},
    {"uint8", ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, 1},     {"uint16", ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16, 2},
    {"int32", ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32, 4},     {"int64", ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64, 8},
    {"int8", ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8, 1},       {"int16", ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16, 2},
    {"uint32", ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32, 4},   {"uint64", ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64, 8},
    {"float64", ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE, 8},
};

static char *joined(const char *folder, const char *name) {
    size_t capacity = strlen(folder) + strlen(name) + 2;
    char *path = allocate(capacity, 1);
    snprintf(path, capacity, "%s/%s", folder, name);
    return path;
}

/* Return the size of a file; the process fails if it is no regular file. */
static size_t file_size(const char *path, int handle) {
    struct stat found;
    if (fstat(handle, &found) != 0) fail("cannot read %s: %s", path, strerror(errno));
    if (!S_ISREG(found.st_mode)) fail("%s is no file", path);
    if ((uint64_t)found.st_size > SIZE_MAX) fail("%s is too large for this processor", path);
    return (size_t)found.st_size;
}

static int open_file(const char *path) {
    int handle = open(path, O_RDONLY | O_CLOEXEC);
    if (handle < 0) fail("cannot read %s: %s", path, strerror(errno));
    return handle;
}

char *bundle_file(const Bundle *bundle, const Json *entry, size_t *nbytes) {
    const char *name = json_member(MANIFEST, entry, "file", JSON_STRING)->text;
    if (!*name || strpbrk(name, "/\\") || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        fail("%s of %s is damaged: the file name '%s' leaves the bundle", MANIFEST, bundle->folder, name);
    int64_t wanted = json_integer("the bytes of a file", json_find(entry, "bytes"), 0, INT64_MAX);
    char *path = joined(bundle->folder, name);
    int handle = open_file(path);
    *nbytes = file_size(path, handle);
    close(handle);
    if ((uint64_t)wanted != *nbytes)
        fail("%s has %zu bytes where %s says %" PRId64 "; copy the bundle again", path, *nbytes, MANIFEST, wanted);
    return path;
}

Section bundle_section(const Bundle *bundle, const Json *entry) {
    const Json *offset = entry->first, *dtype = offset ? offset->next : NULL, *shape = dtype ? dtype->next : NULL;
    if (entry->kind != JSON_ARRAY || entry->count != 3 || dtype->kind != JSON_STRING || shape->kind != JSON_ARRAY)
        fail("%s is damaged: a section is no [offset, dtype, shape]", MANIFEST);
    if (shape->count > SPEC_AXES) fail("%s is damaged: a section of %zu dimensions", MANIFEST, shape->count);
    Section found = {.offset = (size_t)json_integer("a section's offset", offset, 0, (int64_t)bundle->nbytes)};
    size_t size = 0;
    for (size_t known = 0; known < sizeof DTYPES / sizeof *DTYPES; known++)
        if (strcmp(DTYPES[known].name, dtype->text) == 0) {
            found.type = (int)DTYPES[known].type;
            size = DTYPES[known].size;
        }
    if (size == 0) fail("%s is damaged: a section of type %s", MANIFEST, dtype->text);
    if (found.offset % size) fail("%s is damaged: a section of %s at byte %zu", MANIFEST, dtype->text, found.offset);
    found.nbytes = size;
    for (const Json *length = shape->first; length; length = length->next) {
        int64_t rows = json_integer("a section's shape", length, 0, INT64_MAX);
        if (__builtin_mul_overflow(found.nbytes, rows, &found.nbytes)) found.nbytes = SIZE_MAX;
        found.shape[found.rank++] = rows;
    }
    if (found.nbytes > bundle->nbytes - found.offset)
        fail("%s is damaged: a section at %zu of %zu bytes leaves the tables file", MANIFEST, found.offset, found.nbytes);
    return found;
}

static void map_tables(Bundle *bundle) {
    char *path = bundle_file(bundle, json_member(MANIFEST, bundle->manifest, "tables", JSON_OBJECT), &bundle->nbytes);
    if (bundle->nbytes) {
        int handle = open_file(path);
        if (file_size(path, handle) < bundle->nbytes) fail("%s was replaced meanwhile; try again", path);
        bundle->tables = mmap(NULL, bundle->nbytes, PROT_READ, MAP_SHARED, handle, 0);
        if (bundle->tables == MAP_FAILED) fail("cannot map %s: %s", path, strerror(errno));
        close(handle);
    }
    free(path);
}

static int64_t rows(const Json *side) {
    return json_integer("the rows of a side", json_find(side, "rows"), 1, INT32_MAX);
}

/* Read a manifest of no more bytes and values than the specification allows: parsed values take far more memory than
   their text. */
static Json *read_manifest(const char *path) {
    size_t length, values = 0;
    char *text = read_file(path, SPEC_MANIFEST_BYTES, &length);
    for (size_t at = 0; at < length; at++) values += text[at] == ',' || text[at] == '[' || text[at] == '{';
    if (values > SPEC_JSON_VALUES) fail("%s has more than %d values; copy the bundle again", path, SPEC_JSON_VALUES);
    Json *manifest = json_parse(path, text, length);
    free(text);
    return manifest;
}

/* End the process if there are more entries than the specification allows. */
static void few(const char *path, const Json *entries, const char *what, size_t most) {
    if (entries && entries->count > most) fail("%s has %zu %s where %zu are the most", path, entries->count, what, most);
}

static void check_counts(const char *path, const Json *manifest) {
    const Json *graphs = json_member(path, manifest, "graphs", JSON_OBJECT);
    few(path, graphs, "graphs", SPEC_GRAPHS);
    few(path, json_find(manifest, "sections"), "sections", SPEC_SECTIONS);
    few(path, json_find(manifest, "other_files"), "files", SPEC_FILES);
    for (const Json *graph = graphs->first; graph; graph = graph->next) {
        few(path, json_find(graph, "tensors"), "tensors", SPEC_TENSORS);
        json_integer("the bytes of a graph", json_find(graph, "bytes"), 1, SPEC_GRAPH_BYTES);
    }
}

/* End the process if a bundle requires any feature: the runner has none but those of its version. */
static void refuse_required(const char *path, const Json *manifest) {
    if (json_find(manifest, "requires") == NULL) return;
    const Json *name = json_member(path, manifest, "requires", JSON_ARRAY)->first;
    if (name == NULL) return;
    if (name->kind != JSON_STRING) fail("%s is damaged: a required feature is no text", path);
    fail("%s requires %s, which this runner does not know; upgrade EdgeRec", path, name->text);
}

Bundle *bundle_open(const char *folder) {
    struct stat found;
    if (stat(folder, &found) == 0 && S_ISREG(found.st_mode))
        fail("%s is a file, and the runner opens folders; unpack it with 'edgerec unpack'", folder);
    Bundle *bundle = allocate(1, sizeof *bundle);
    bundle->folder = strdup(folder);
    char *path = joined(folder, MANIFEST);
    bundle->manifest = read_manifest(path);
    const Json *format = json_member(path, bundle->manifest, "format", JSON_STRING);
    if (strcmp(format->text, "edgerec.bundle") != 0) fail("%s is not the manifest of an EdgeRec bundle", path);
    const char *version = json_member(path, bundle->manifest, "version", JSON_STRING)->text;
    if (strtoll(version, NULL, 10) > NEWEST_MAJOR)
        fail("%s has version %s, this runner reads up to %" PRId64 "; upgrade EdgeRec", path, version, NEWEST_MAJOR);
    refuse_required(path, bundle->manifest);
    bundle->d = json_integer("the manifest's d", json_find(bundle->manifest, "d"), 1, INT32_MAX);
    bundle->items = rows(json_member(path, bundle->manifest, "items", JSON_OBJECT));
    const Json *users = json_find(bundle->manifest, "users");
    if (users && users->kind != JSON_NULL) bundle->users = rows(users);
    check_counts(path, bundle->manifest);
    free(path);
    map_tables(bundle);
    return bundle;
}

void bundle_close(Bundle *bundle) {
    if (bundle->tables) munmap(bundle->tables, bundle->nbytes);
    json_free(bundle->manifest);
    free(bundle->folder);
    free(bundle);
}

const Json *bundle_graph(const Bundle *bundle, const char *name) {
    return json_find(json_find(bundle->manifest, "graphs"), name);
}

/* Evict a file from the page cache; true if none of its pages stay in it. */
static bool forgotten(const char *path) {
    int handle = open_file(path);
    size_t nbytes = file_size(path, handle), page = (size_t)sysconf(_SC_PAGESIZE), pages = (nbytes + page - 1) / page;
    fsync(handle); /* pages that are not yet on the disk would stay */
    bool gone = posix_fadvise(handle, 0, 0, POSIX_FADV_DONTNEED) == 0;
    if (gone && nbytes) {
        void *mapping = mmap(NULL, nbytes, PROT_READ, MAP_SHARED, handle, 0);
        unsigned char *resident = allocate(pages, 1);
        gone = mapping != MAP_FAILED && mincore(mapping, nbytes, (void *)resident) == 0;
        for (size_t number = 0; gone && number < pages; number++) gone = !(resident[number] & 1);
        if (mapping != MAP_FAILED) munmap(mapping, nbytes);
        free(resident);
    }
    close(handle);
    return gone;
}

bool bundle_forget(const char *folder) {
    Bundle *bundle = bundle_open(folder);
    const Json *graphs = json_find(bundle->manifest, "graphs");
    size_t count = graphs->count + 1, number = 0, nbytes;
    char **paths = allocate(count, sizeof *paths);
    paths[number++] = bundle_file(bundle, json_find(bundle->manifest, "tables"), &nbytes);
    for (const Json *graph = graphs->first; graph; graph = graph->next) paths[number++] = bundle_file(bundle, graph, &nbytes);
    bundle_close(bundle);
    bool gone = true;
    for (number = 0; number < count; number++) {
        gone = forgotten(paths[number]) && gone;
        free(paths[number]);
    }
    free(paths);
    return gone;
}
