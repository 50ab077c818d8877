/* A strict reader of JSON, as RFC 8259 has it: for manifests and requests. */
#ifndef EDGEREC_JSON_H
#define EDGEREC_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum { JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT } JsonKind;

typedef struct Json {
    JsonKind kind;
    char *key;          /* of a member of an object, else NULL */
    char *text;         /* of a string, decoded to UTF-8; of a number, as it was written; else NULL */
    size_t count;       /* values in an array or object */
    struct Json *first; /* the first of them, in their order; they are linked by `next` */
    struct Json *next;
} Json;

/* The value that the whole text is. `name` tells what it is in the error that ends the process where it is none. */
Json *json_parse(const char *name, const char *text, size_t length);
void json_free(Json *value);

/* The member of an object; NULL where there is none, or no object. */
const Json *json_find(const Json *object, const char *key);

/* The member of an object of that kind. The process fails where there is none: `name` is the file's, or the request's. */
const Json *json_member(const char *name, const Json *object, const char *key, JsonKind kind);

/* A whole number within these limits, inclusive; the process fails where it is none. `what` is named in the error. */
int64_t json_integer(const char *what, const Json *value, int64_t low, int64_t high);

/* A number; the process fails where it is none. */
double json_number(const char *what, const Json *value);

#endif
