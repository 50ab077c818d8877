/* Sections of the tables file, and the caller's memory. */
#include "kernel.h"

static const struct {
    const char *name;
    uint32_t size;
    er_type type;
} TYPES[] = {
    {"uint8", 1, ER_U8},   {"uint16", 2, ER_U16},  {"uint32", 4, ER_U32},   {"int32", 4, ER_I32},
    {"int64", 8, ER_I64},  {"float16", 2, ER_F16}, {"float32", 4, ER_F32},  {"float64", 8, ER_OTHER},
    {"int8", 1, ER_OTHER}, {"int16", 2, ER_OTHER}, {"uint64", 8, ER_OTHER},
};

er_status er_parse_section(const er_tables *tables, er_json place, er_section *found) {
    er_json at = er_json_first(place, '['), part[3], rest, length;
    uint64_t offset, size = 0;
    for (int one = 0; one < 3; one++)
        if (!er_json_next(&at, NULL, &part[one])) return ER_SECTION;
    if (er_json_next(&at, NULL, &rest) || !er_json_whole(part[0], tables->size, &offset)) return ER_SECTION;
    for (size_t one = 0; one < sizeof TYPES / sizeof *TYPES; one++)
        if (er_json_is(part[1], TYPES[one].name)) found->type = TYPES[one].type, size = TYPES[one].size;
    if (size == 0 || offset % size || part[2].at == NULL || *part[2].at != '[') return ER_SECTION;
    found->axes = 0;
    uint64_t left = tables->size - offset, bytes = size;
    bool empty = false;
    for (at = er_json_first(part[2], '['); er_json_next(&at, NULL, &length); found->axes++) {
        uint64_t rows;
        if (found->axes == ER_MAX_AXES || !er_json_whole(length, UINT64_MAX, &rows)) return ER_SECTION;
        found->shape[found->axes] = rows;
        empty |= rows == 0;
        bytes = rows && bytes > left / rows ? left + 1 : bytes * rows; /* no product leaves 64 bits */
        if (rows && bytes > left && bytes != left + 1) bytes = left + 1;
    }
    if (!empty && bytes > left) return ER_SECTION;
    found->data = tables->data ? tables->data + (size_t)offset : NULL;
    return ER_OK;
}

/* "stem" and "suffix" joined; names of sections that readers know have fewer than 32 bytes. */
static void join(char name[32], const char *stem, const char *suffix) {
    size_t at = 0;
    while (*stem && at < 31) name[at++] = *stem++;
    while (*suffix && at < 31) name[at++] = *suffix++;
    name[at] = 0;
}

size_t er_put_number(char *name, size_t at, uint32_t number) {
    if (number >= 10) name[at++] = (char)('0' + number / 10);
    name[at++] = (char)('0' + number % 10);
    return at;
}

bool er_has(const er_tables *tables, const char *name) { return er_json_get(tables->sections, name).at != NULL; }

er_status er_find(const er_tables *tables, const char *stem, const char *suffix, int types, uint32_t axes,
                  const uint64_t *shape, er_section *found) {
    char name[32];
    join(name, stem, suffix);
    er_json place = er_json_get(tables->sections, name);
    if (place.at == NULL) return ER_SECTION;
    ER_TRY(er_parse_section(tables, place, found));
    if (!(found->type & types) || found->axes != axes) return ER_SECTION;
    for (uint32_t axis = 0; axis < axes; axis++)
        if (shape[axis] != UINT64_MAX && shape[axis] != found->shape[axis]) return ER_SECTION;
    return ER_OK;
}

er_status er_find_vector(const er_tables *tables, const char *stem, const char *suffix, int types, uint64_t length,
                         er_section *found) {
    return er_find(tables, stem, suffix, types, 1, &length, found);
}

void *er_take(er_arena *arena, uint64_t size) {
    size_t before = arena->used;
    size = (size + 7) & ~(uint64_t)7;
    if (size > SIZE_MAX / 2 - before) {
        arena->used = SIZE_MAX / 2;
        return NULL;
    }
    arena->used += (size_t)size;
    return arena->used <= arena->size ? arena->memory + before : NULL;
}
