/* A strict JSON parser (RFC 8259) for manifests and requests. */
#ifndef EDGEREC_JSON_H
#define EDGEREC_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum { JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT } JsonKind;

typedef struct Json {
    JsonKind kind;
    char *key;          /* name of an object's member, else NULL */
    char *text;         /* a string decoded to UTF-8, or a number as it was written; else NULL */
    size_t count;       /* number of values in an array or object */
    struct Json *first; /* the first of them; the others follow by `next`, in order */
    struct Json *next;
} Json;

/* Parse a text that is one JSON value. The process fails if it is not; `name` names the text in the error. */
Json *json_parse(const char *name, const char *text, size_t length);
void json_free(Json *value);

/* Return the member of an object; NULL if there is none, or if the value is no object. */
const Json *json_find(const Json *object, const char *key);

/* Return the member of that kind. The process fails if there is none; `name` names the file or request in the error. */
const Json *json_member(const char *name, const Json *object, const char *key, JsonKind kind);

/* Return a whole number within inclusive limits; the process fails if it is none. `what` names it in the error. */
int64_t json_integer(const char *what, const Json *value, int64_t low, int64_t high);

/* Return a number; the process fails if the value is none. */
double json_number(const char *what, const Json *value);

#endif
