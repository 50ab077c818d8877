/* What the files of the kernel share. Nothing here is for callers: edgerec_kernel.h is. */
#ifndef ER_KERNEL_H
#define ER_KERNEL_H

#include <stdbool.h>

#include "../edgerec_kernel.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "bundles are read where they lie, which takes a little-endian CPU"
#endif

void *memcpy(void *restrict to, const void *restrict from, size_t size);
void *memset(void *to, int byte, size_t size);
int memcmp(const void *one, const void *other, size_t size);

/* Rows that are scored together: their scores are in `work`. A build for speed reads stretches of columns of two pages
   and more, within which CPUs fetch ahead. Layouts by row need none, and their scores stay in the first cache. */
#ifndef ER_TILE
#ifdef __OPTIMIZE_SIZE__
#define ER_TILE 128
#else
#define ER_TILE 8192
#endif
#endif
#if !defined(__OPTIMIZE_SIZE__) && ER_TILE > 1024
#define ER_TILE_OF_ROWS 1024
#else
#define ER_TILE_OF_ROWS ER_TILE
#endif

/* 0: the caller decodes texts and the manifest itself, and refuses what is not UTF-8. */
#ifndef ER_UTF8
#define ER_UTF8 1
#endif

/* Cells behind a tile that simd128.h writes to. */
#ifdef __wasm_simd128__
#define ER_BEHIND 16
#else
#define ER_BEHIND 0
#endif

/* Blocks of a large catalogue that are not read; a small machine has none. */
#ifndef ER_BOUNDS
#if defined(__OPTIMIZE_SIZE__) && !defined(__wasm__)
#define ER_BOUNDS 0
#else
#define ER_BOUNDS 1
#endif
#endif

/* Products by AVX2 and by NEON's dot product, where a CPU has them: builds for speed, by GCC and clang. */
#ifndef ER_WIDE
#if defined(__OPTIMIZE_SIZE__) || !defined(__GNUC__)
#define ER_WIDE 0
#elif defined(__x86_64__) || (defined(__aarch64__) && (defined(__ARM_FEATURE_DOTPROD) || defined(__linux__)))
#define ER_WIDE 1
#else
#define ER_WIDE 0
#endif
#endif

#ifndef ER_LARGE
#define ER_LARGE 65536 /* rows from which a catalogue is large */
#endif

enum { ER_STRETCH = 1 << 16, ER_RUN = 256, ER_LAYERS = 16, ER_DIMENSIONS = 1 << 16, ER_SORTED = 1024 };

/* Limits of edgerec/runtime/bundle-spec.json; tests/devices/kernel compares them. */
enum {
    ER_MAX_MAJOR = 2,
    ER_MAX_MANIFEST_BYTES = 4194304,
    ER_MAX_JSON_VALUES = 262144,
    ER_MAX_JSON_LEVELS = 32,
    ER_MAX_JSON_MEMBERS = 4096,
    ER_MAX_FILES = 32,
    ER_MAX_GRAPHS = 16,
    ER_MAX_SECTIONS = 256,
    ER_MAX_TENSORS = 4096,
    ER_MAX_AXES = 4,
    ER_MAX_ATTRIBUTES = 64,
    ER_MAX_GRAPH_BYTES = 1048576,
    ER_MAX_HEAD_BYTES = 8388608
};

#define ER_TRY(call)                                                                                                   \
    do {                                                                                                               \
        er_status er_tried = (call);                                                                                   \
        if (er_tried != ER_OK) return er_tried;                                                                        \
    } while (0)

/* json.c: values of a JSON text, which er_json_object checks as a whole before; nothing is built in memory. */
typedef struct er_json {
    const char *at; /* the first byte of the value, in a text that was checked; NULL for no value */
} er_json;

er_status er_json_object(const char *text, size_t size, er_json *object);
/* Member of an object; at is NULL if it is missing, if it is there twice, or if the value is no object. */
er_json er_json_get(er_json object, const char *key);
/* Walk over an object or a list: `*at` begins as er_json_first; false after the last value. `key` may be NULL. */
er_json er_json_first(er_json value, char opening);
bool er_json_next(er_json *at, er_json *key, er_json *value);
size_t er_json_count(er_json value, char opening);
bool er_json_is(er_json value, const char *text);
bool er_json_null(er_json value);
bool er_json_true(er_json value);
bool er_json_whole(er_json value, uint64_t most, uint64_t *number);
bool er_json_number(er_json value, float *number);
/* Text of at most size - 1 bytes, and a zero; SIZE_MAX for any other value, and for one with a zero or half a character
   inside. */
size_t er_json_text(er_json value, char *text, size_t size);
bool er_utf8(const char *text, size_t size);

/* inflate.c: the first `wanted` bytes of a zlib stream, of at least as many; false if it is damaged. With `whole`, it
   has no more bytes, and its checksum is compared. */
bool er_inflate(const uint8_t *stream, size_t size, uint8_t *out, size_t wanted, bool whole);

/* sections.c */
typedef enum er_type {
    ER_U8 = 1,
    ER_U16 = 2,
    ER_U32 = 4,
    ER_I32 = 8,
    ER_I64 = 16,
    ER_F16 = 32,
    ER_F32 = 64,
    ER_OTHER = 128
} er_type;

typedef struct er_section {
    const void *data;
    er_type type;
    uint32_t axes;
    uint64_t shape[ER_MAX_AXES];
} er_section;

typedef struct er_tables {
    const uint8_t *data;
    uint64_t size;
    er_json sections;
} er_tables;

er_status er_parse_section(const er_tables *tables, er_json place, er_section *found);
/* Write a number below 100 into a name, and return its end. */
size_t er_put_number(char *name, size_t at, uint32_t number);
bool er_has(const er_tables *tables, const char *name);
/* The section `stem` + `suffix` of one of `types` and of this shape; UINT64_MAX stands for any length. */
er_status er_find(const er_tables *tables, const char *stem, const char *suffix, int types, uint32_t axes,
                  const uint64_t *shape, er_section *found);
er_status er_find_vector(const er_tables *tables, const char *stem, const char *suffix, int types, uint64_t length,
                         er_section *found);

/* A table: blocks of rows, and arrays in the tables file. */
typedef enum er_layout { ER_BLOCKED, ER_ELL, ER_CSR, ER_CSC, ER_BITMASK } er_layout;

typedef struct er_block {
    uint32_t width, rows, first;
    uint32_t bits;  /* of a value: 32, 16, 8, 4 or 2 */
    size_t start;   /* its first entry in the values */
    size_t stored;  /* its entries */
    size_t columns; /* ell: its first column */
} er_block;

typedef struct er_table {
    er_layout layout;
    uint32_t rows, d, n_blocks, n_runs; /* n_runs: csc's blocks of 256 values */
    er_block *blocks;
    bool integer, by_column, wide_columns, byte_scales;
    const void *values, *columns;
    const int32_t *pointers;
    const uint8_t *mask;
    const uint16_t *run_rows, *run_stretch;
    const void *row_scales; /* NULL: factors alone */
    const float *factors;   /* integers: one, one a block, or the top of row scales */
    uint32_t n_factors;
} er_table;

typedef struct er_id_block {
    int64_t first;        /* int: the first id */
    size_t counts, data;  /* offsets in the section: of counts, and of what is counted */
    uint32_t count, mark; /* buckets or groups; the first mark */
} er_id_block;

typedef struct er_mark {
    uint32_t rows, bytes; /* of the block, before every ER_MARK-th bucket or group */
} er_mark;

enum { ER_MARK_INT = 64, ER_MARK_TEXT = 16 };

typedef struct er_ids {
    er_id_form form;
    bool coded;                         /* version 2 */
    uint32_t low, rows, n_blocks, each; /* each: buckets or groups a mark */
    const er_block *rows_of;
    er_id_block *blocks;
    er_mark *marks;
    er_section ids, offsets;
} er_ids;

typedef struct er_named_texts {
    er_section numbers, texts, offsets; /* numbers: of each item's text */
    const char *name;
    size_t length;
} er_named_texts;

typedef struct er_layer {
    const float *weights, *bias;
    uint32_t in, out;
} er_layer;

typedef enum er_encoder { ER_NO_ENCODER, ER_LINEAR, ER_IALS } er_encoder;

struct er_model {
    er_facts facts;
    er_table items, lookup, users; /* lookup: the items, of which rows are looked up */
    er_ids ids[2];
    er_section titles, title_offsets;
    er_named_texts *attributes;
    const void *popular; /* NULL: none */
    uint32_t n_popular;
    bool popular_wide;
    const uint16_t *norms; /* NULL: none */
    float norm_factor;
    const float *bounds; /* a number a block for products, and one for cosines; NULL: none */
    er_encoder encoder;
    const void *weights, *matrix;
    const float *bias, *root;
    bool weights_in_bytes, matrix_in_bytes;
    float power, weight_top, matrix_scale, alpha;
    float least_weight, most_weight; /* both 0 where one is not above 0 */
    uint32_t steps;
    bool has_scorer;
    bool wide; /* this CPU has what wide.h uses */
    uint32_t products, n_layers, widest;
    const float *product_weights;
    er_layer layers[ER_LAYERS];
};

/* A memory of the caller's that is given out from its beginning; `used` counts on when it is too small. */
typedef struct er_arena {
    uint8_t *memory;
    size_t size, used;
} er_arena;

void *er_take(er_arena *arena, uint64_t size);

/* manifest.c: er_file_entry is the tables, then graphs, then others; at is NULL after the last */
bool er_parse_file(er_json entry, char name[256], uint64_t *size, char sha256[65]);
er_json er_file_entry(er_json manifest, size_t index);
int er_compare_names(const char *one, const char *other);
er_status er_check_files(er_json manifest, uint64_t *head);
er_status er_check_sections(er_json list, const er_tables *tables, size_t most);
er_status er_check_about(er_json manifest);
er_status er_parse_version(er_json manifest, uint32_t *major, uint32_t *minor);

/* table.c: `is_csc` is of items that have a second copy, whose layout and blocks the manifest describes */
er_status er_open_table(const er_tables *tables, const char *name, er_json side, er_json precision, bool is_csc,
                        uint32_t d, bool by_column, uint32_t major, er_table *table, er_arena *arena);

/* ids.c */
er_status er_open_ids(const er_tables *tables, er_side side, uint32_t major, er_ids *ids, er_arena *arena);
er_status er_open_titles(const er_tables *tables, uint32_t rows, er_section *texts, er_section *offsets);
er_status er_open_attributes(const er_tables *tables, er_json names, er_model *model, er_arena *arena);

/* rows.c */
float er_half(uint16_t half);
float er_value(const er_table *table, const er_block *block, size_t index);
const er_block *er_block_of(const er_table *table, uint32_t row);
void er_row(const er_table *table, uint32_t row, float *values);
float er_row_scale(const er_table *table, uint32_t row);
/* A row with its scale. */
void er_scaled_row(const er_table *table, uint32_t row, float *values);
/* Add `by` times n numbers to as many sums. */
void er_add(float *restrict sums, const float *restrict values, float by, uint32_t n);

/* What is multiplied with rows: codes where items are integers. */
typedef struct er_query {
    float *values; /* d, decoded */
    int8_t *codes; /* d, and zeros up to the next multiple of 8 */
    float scale;   /* of codes */
    int exponent;  /* scores are multiplied by two to the power of it */
    bool scored;   /* by the scorer, where there is one; else by inner products */
} er_query;

typedef union er_cell {
    float score;
    int32_t sum; /* before it is scaled */
} er_cell;

typedef struct er_work {
    uint8_t *out; /* a bit an item: it must not come back */
    er_query query;
    float *row;    /* d, decoded */
    float *spare;  /* of encoder and scorer */
    er_cell *tile; /* of as many rows as er_tile says */
} er_work;

/* encode.c: the vector of a history of n items, whose bits in work->out are set, and no others */
er_status er_encoded(const er_model *model, er_work *work, uint32_t n, float *vector);
bool er_next(const uint8_t *bits, uint32_t n, uint32_t *row);
size_t er_spare(const er_model *model);
/* Find least_weight and most_weight. */
void er_find_weights(er_model *model);
/* (w / m)^rarity of a row's weight, 1 at most; it takes a model with most_weight above least_weight. */
float er_rarity(const er_model *model, uint32_t row, float rarity);

/* scan.c */
uint32_t er_tile(const er_model *model);
/* Query from a row of a table, or from work->query.values; false if they are not finite. */
bool er_query_of_row(const er_model *model, er_work *work, const er_table *table, uint32_t row);
bool er_query_of_values(const er_model *model, er_work *work);
void er_begin_scorer(const er_model *model, er_work *work);
/* Scores of rows of the items into work->tile; `first` is a multiple of er_tile. */
void er_scan(const er_model *model, er_work *work, uint32_t first, uint32_t rows);
float er_scaled(float value, int exponent);
float er_score_row(const er_model *model, er_work *work, const er_table *table, uint32_t row);

#if ER_WIDE
/* wide.c */
bool er_has_wide(void);
#endif
#if ER_BOUNDS
/* bounds.c */
void er_find_bounds(const er_model *model, float *bounds);
void er_query_lengths(const er_model *model, const er_query *query, float *lengths);
#endif

#if ER_SHA256
/* hash.c */
void er_sha256(const void *data, size_t size, uint8_t digest[32]);
#endif
#if ER_SIGNATURES
/* ed25519.c */
bool er_ed25519(const uint8_t key[32], const void *data, size_t size, const uint8_t signature[64]);
#endif

#endif
