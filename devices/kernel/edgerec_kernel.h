/* A reader of EdgeRec bundles (docs/reference/bundle.md) in C99, without ONNX Runtime.

   It needs nothing but memory that the caller gives: no files, no allocation, no threads, no locale. Tables are read
   where they lie, in a mapped file, in flash or in the memory of WebAssembly. A model is only read once it is open, so
   that threads may share it, each with its own `work`. Requests name items by bundle row, 0 to items - 1; er_item_row
   and its siblings translate raw ids. CPUs are little-endian.

       er_source source = {.tables = {file, size}};                // one file, in memory at a multiple of 8
       size_t need = 0;
       const er_model *model;
       while (er_open(&source, arena, need, &need, &model) == ER_MEMORY) arena = realloc(arena, need);
       er_request request = {.history = rows, .n_history = 3, .user = -1};
       er_recommend(model, &request, 10, items, scores, &found, work, er_work_size(model));
*/
#ifndef EDGEREC_KERNEL_H
#define EDGEREC_KERNEL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* sha256 of files and ed25519 signatures, in or out: -DER_SHA256=0, -DER_SIGNATURES=0. Without them er_open answers
   ER_NO_SHA256 or ER_NO_SIGNATURES where they are requested. */
#ifndef ER_SHA256
#define ER_SHA256 1
#endif
#ifndef ER_SIGNATURES
#define ER_SIGNATURES ER_SHA256
#endif

/* Bundles in one file, in or out: -DER_ONE_FILE=0, for callers that unpack the head themselves. Without it er_open answers
   ER_HEAD to them. -DER_MESSAGES=0 leaves the texts of er_message out: each is then empty. */
#ifndef ER_ONE_FILE
#define ER_ONE_FILE 1
#endif
#ifndef ER_MESSAGES
#define ER_MESSAGES 1
#endif

/* What a call found. er_message has a line of text for each; er_kind says whom it concerns. */
typedef enum er_status {
    ER_OK = 0,
    ER_MEMORY,        /* arena or work are too small */
    ER_ALIGNMENT,     /* tables, arena or work do not lie at a multiple of 8 */
    ER_NO_SHA256,     /* this build has no sha256 */
    ER_NO_SIGNATURES, /* this build has no signatures */

    ER_REQUEST = 32,  /* one of user, history and vector, of the kind that this bundle takes, is missing */
    ER_ROW,           /* a row that is not in the bundle */
    ER_K,             /* k is not in 1..items */
    ER_VECTOR,        /* a value is not finite */
    ER_SCORES,        /* the vector's scores are beyond float32 */
    ER_EMPTY,         /* the history is empty, and the bundle does not say which items are popular */
    ER_NO_POPULAR,    /* the bundle does not say which items are popular */
    ER_NO_SIMILAR,    /* the bundle was exported without similar items */
    ER_NO_ENCODE,     /* the bundle has no vectors of histories */
    ER_ID,            /* ids of this bundle are of another kind */
    ER_ATTRIBUTE,     /* the number of an attribute that the bundle has not */
    ER_RARITY,        /* rarity is not in -2..2, or the bundle does not say which items are rare */

    ER_BUNDLE = 64,   /* no bundle */
    ER_VERSION,       /* a newer major version than 2 */
    ER_FEATURE,       /* the bundle requires a feature that this reader does not know */
    ER_HEAD,          /* the head of the one file is damaged */
    ER_JSON,          /* the manifest is no JSON object, or beyond the limits */
    ER_MANIFEST,      /* a value of the manifest is missing or of another kind */
    ER_SECTION,       /* a section is missing, leaves the tables, or has another type or shape than promised */
    ER_SIZE,          /* a file has another size than the manifest says */
    ER_FILE,          /* a file of a signed bundle was not given */
    ER_SCALES,        /* integers of version 1.0, whose scales only its graphs hold */
    ER_TABLES,        /* values of the tables are damaged */
    ER_IDS,           /* the ids, titles or attributes are damaged */
    ER_UNSUPPORTED,   /* more than 65,536 dimensions, 2^31 - 1 rows, or a scorer of more than 16 layers */
    ER_ALTERED,       /* the sha256 of a file differs */

    ER_UNSIGNED = 96, /* not signed by a trusted key */
    ER_SIGNATURE,     /* the manifest was changed after it was signed */
    ER_ROLLBACK       /* the rollback index is smaller than the least that is accepted */
} er_status;

/* One line of English without a full stop; never NULL. */
const char *er_message(er_status status);

/* Group of a status: ER_OK, ER_MEMORY (the caller's), ER_REQUEST, ER_BUNDLE or ER_SIGNATURE. */
er_status er_kind(er_status status);

typedef struct er_bytes {
    const void *data;
    size_t size;
} er_bytes;

/* A file of a folder besides the manifest and the tables. */
typedef struct er_file {
    const char *name; /* as in the manifest, ending in a zero byte */
    er_bytes bytes;
} er_file;

typedef struct er_source {
    er_bytes manifest;    /* of a folder; empty for a bundle in one file */
    er_bytes tables;      /* of a folder; or the one file. At a multiple of 8; stays until the model is closed */
    const er_file *files; /* of a folder, where keys are given: all others, of which the sha256 is compared */
    size_t n_files;
    int verify;                       /* compare the sha256 of the tables, which reads them once */
    const unsigned char (*trusted)[32]; /* ed25519 public keys, one of which signed the bundle; or NULL */
    size_t n_trusted;
    uint64_t min_rollback_index;
} er_source;

typedef struct er_model er_model;

/* Open a bundle. `arena` (at a multiple of 8) holds the model, and while it opens the head of one file; `*need` is set
   to the bytes it takes, or, with ER_MEMORY, to those that get at least one step further: it is called again with an
   arena of as many, from nothing in four calls at most. It takes at most 20 bytes for each of the manifest, a
   16th of the tables' and 4 for each dimension, whatever a hostile bundle says: no number of it is believed before its
   sections are compared with it. */
er_status er_open(const er_source *source, void *arena, size_t arena_size, size_t *need, const er_model **model);

/* Name (at most 255 bytes and a zero) and size of file `number` of a manifest: 0 the tables, then graphs, then others;
   ER_FILE after the last. For callers that open a folder. */
er_status er_manifest_file(er_bytes manifest, size_t number, char name[256], uint64_t *size);

/* Forget a model; its memory is the caller's again. */
void er_close(const er_model *model);

typedef enum er_id_form { ER_IDS_ROWS = 0, ER_IDS_INT, ER_IDS_TEXT, ER_IDS_HASH } er_id_form;

typedef struct er_facts {
    uint32_t major, minor;
    uint32_t items, users, d; /* rows, rows or 0, dimensions of a vector */
    er_id_form item_ids, user_ids;
    int takes_vectors; /* histories are encoded first: er_encode, and request.vector */
    int has_similar, has_popular, has_titles;
    uint32_t n_attributes; /* of items, besides titles */
    uint64_t rollback_index;
} er_facts;

er_facts er_facts_of(const er_model *model);

/* Bytes of `work` (at a multiple of 8) that the largest request takes. */
size_t er_work_size(const er_model *model);

/* Whom an answer is for, and which items it may name. One of user, history and vector is given. Rows may be repeated. */
typedef struct er_request {
    const int32_t *history; /* rows of items, of a bundle without users; NULL: none, an empty one is not NULL */
    size_t n_history;
    const float *vector;    /* d numbers, where er_facts.takes_vectors; NULL: none */
    int32_t user;           /* row of a bundle with users; -1: none */
    const int32_t *exclude; /* rows that must not come back; those of the history do not either */
    size_t n_exclude;
    const int32_t *allow;   /* the only rows that may come back; NULL: all, an empty list is not NULL */
    size_t n_allow;
    float rarity;           /* of er_recommend, -2..2: above 0 rare items come more often, below 0 popular ones; 0: as is */
} er_request;

/* Best items, best first, and their scores, of room for k each; *found of them, fewer than k if fewer are left. Equal
   scores come in the order of rows.

   With a rarity, a score above 0 is multiplied by (w / m)^rarity, and another one divided by it: w is the weight that the
   item has in a history, which is larger for rare items, and m the largest weight of all items, or the smallest for a
   rarity below 0. It takes a bundle of which all weights are above 0 and not all are equal; popular items, which answer
   an empty history, stay as they are. */
er_status er_recommend(const er_model *model, const er_request *request, uint32_t k, int32_t *items, float *scores,
                       uint32_t *found, void *work, size_t work_size);

/* The most similar items to one, by cosine, without itself; of `request`, exclude and allow alone are read. */
er_status er_similar(const er_model *model, int32_t item, const er_request *request, uint32_t k, int32_t *items,
                     float *scores, uint32_t *found, void *work, size_t work_size);

/* The items with the most interactions, all with score 0; of `request`, exclude and allow alone are read. */
er_status er_popular(const er_model *model, const er_request *request, uint32_t k, int32_t *items, float *scores,
                     uint32_t *found, void *work, size_t work_size);

/* Scores of n rows; zeros for an empty history. */
er_status er_score(const er_model *model, const er_request *request, const int32_t *rows, size_t n, float *scores,
                   void *work, size_t work_size);

/* The vector of a history, d numbers; zeros for an empty one. */
er_status er_encode(const er_model *model, const er_request *request, float *vector, void *work, size_t work_size);

typedef enum er_side { ER_ITEM = 0, ER_USER } er_side;

/* Row of a raw id; -1 if the bundle does not know it, or has ids of another kind. Rows are their own ids where a bundle
   has none (ER_IDS_ROWS). Hashed ids are found by their text, and by their 16 hexadecimal digits. */
int32_t er_row_of_int(const er_model *model, er_side side, int64_t id);
int32_t er_row_of_text(const er_model *model, er_side side, const char *text, size_t length);

/* Raw id of a row: a number of ER_IDS_INT and ER_IDS_ROWS; text of ER_IDS_TEXT and ER_IDS_HASH (16 digits), without a
   zero byte, of which *length bytes are needed (ER_MEMORY if `size` is less). */
er_status er_int_of_row(const er_model *model, er_side side, int32_t row, int64_t *id);
er_status er_text_of_row(const er_model *model, er_side side, int32_t row, char *text, size_t size, size_t *length);

/* Title of an item, in the tables, without a zero byte; *length is 0 without one. */
er_status er_title(const er_model *model, int32_t row, const char **text, size_t *length);

/* Text of attribute n of an item, as er_title; n is below er_facts.n_attributes. */
er_status er_attribute(const er_model *model, int32_t row, uint32_t n, const char **text, size_t *length);

/* Name of attribute n, in the arena, without a zero byte. */
er_status er_attribute_name(const er_model *model, uint32_t n, const char **text, size_t *length);

#ifdef __cplusplus
}
#endif

#endif
