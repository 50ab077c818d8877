#include "json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "spec.h"

typedef struct {
    const char *name, *start, *at, *end;
} Reader;

static Json *value(Reader *reader, int depth);

static _Noreturn void damaged(const Reader *reader, const char *what) {
    fail("%s is damaged: %s at byte %zu", reader->name, what, (size_t)(reader->at - reader->start));
}

static void space(Reader *reader) {
    while (reader->at < reader->end && strchr(" \t\n\r", *reader->at) && *reader->at) reader->at++;
}

/* Return the next byte without consuming it; 0 at the end. */
static char peek(const Reader *reader) { return reader->at < reader->end ? *reader->at : '\0'; }

static bool take(Reader *reader, char wanted) {
    if (peek(reader) != wanted || reader->at == reader->end) return false;
    reader->at++;
    return true;
}

static void demand(Reader *reader, const char *wanted) {
    size_t length = strlen(wanted);
    if ((size_t)(reader->end - reader->at) < length || memcmp(reader->at, wanted, length) != 0)
        damaged(reader, "no JSON value");
    reader->at += length;
}

static unsigned hexadecimal(Reader *reader) {
    unsigned number = 0;
    for (int digit = 0; digit < 4; digit++) {
        char byte = peek(reader);
        unsigned part;
        if (byte >= '0' && byte <= '9') part = (unsigned)(byte - '0');
        else if (byte >= 'a' && byte <= 'f') part = (unsigned)(byte - 'a' + 10);
        else if (byte >= 'A' && byte <= 'F') part = (unsigned)(byte - 'A' + 10);
        else damaged(reader, "a \\u without four digits");
        number = number * 16 + part;
        reader->at++;
    }
    return number;
}

/* Decode what follows \u to UTF-8. Characters beyond 16 bits are written as two escapes. A zero byte would end the C
   string early, and is refused. */
static char *escaped(Reader *reader, char *out) {
    unsigned point = hexadecimal(reader);
    if (point >= 0xd800 && point < 0xdc00) {
        if (!take(reader, '\\') || !take(reader, 'u')) damaged(reader, "half a character");
        unsigned low = hexadecimal(reader);
        if (low < 0xdc00 || low > 0xdfff) damaged(reader, "half a character");
        point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00);
    } else if ((point >= 0xdc00 && point < 0xe000) || point == 0) {
        damaged(reader, "no character");
    }
    if (point < 0x80) {
        *out++ = (char)point;
        return out;
    }
    int more = point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
    *out++ = (char)((0xff00u >> (more + 1) & 0xffu) | point >> (6 * more)); /* 110xxxxx, 1110xxxx, 11110xxx */
    while (more--) *out++ = (char)(0x80 | (point >> (6 * more) & 0x3f));
    return out;
}

static char *string(Reader *reader) {
    reader->at++; /* the opening quotation mark */
    const char *end = reader->at;
    while (end < reader->end && *end != '"') end += *end == '\\' ? 2 : 1;
    if (end >= reader->end) damaged(reader, "a text without an end");
    char *text = allocate((size_t)(end - reader->at) + 1, 1), *out = text; /* decoded text is never longer */
    while (!take(reader, '"')) {
        char byte = *reader->at++;
        if ((unsigned char)byte < 0x20) damaged(reader, "a control character in a text");
        if (byte != '\\') {
            *out++ = byte;
            continue;
        }
        static const char names[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
        char name = *reader->at++;
        const char *known = name ? strchr(names, name) : NULL;
        if (known) *out++ = meant[known - names];
        else if (name == 'u') out = escaped(reader, out);
        else damaged(reader, "an unknown escape");
    }
    *out = '\0';
    return text;
}

static void digits(Reader *reader) {
    const char *start = reader->at;
    while (peek(reader) >= '0' && peek(reader) <= '9') reader->at++;
    if (reader->at == start) damaged(reader, "no JSON value");
}

static char *number(Reader *reader) {
    const char *start = reader->at;
    take(reader, '-');
    if (!take(reader, '0')) digits(reader);
    if (take(reader, '.')) digits(reader);
    if (take(reader, 'e') || take(reader, 'E')) {
        if (!take(reader, '-')) take(reader, '+');
        digits(reader);
    }
    size_t length = (size_t)(reader->at - start);
    char *text = allocate(length + 1, 1);
    memcpy(text, start, length);
    return text;
}

static void members(Reader *reader, Json *parent, char closing, int depth) {
    Json **last = &parent->first;
    reader->at++;
    space(reader);
    if (take(reader, closing)) return;
    do {
        char *key = NULL;
        space(reader);
        if (closing == '}') {
            if (peek(reader) != '"') damaged(reader, "a member without a name");
            key = string(reader);
            if (json_find(parent, key)) damaged(reader, "a name that is there twice");
            space(reader);
            if (!take(reader, ':')) damaged(reader, "a name without a value");
        }
        *last = value(reader, depth + 1);
        (*last)->key = key;
        last = &(*last)->next;
        parent->count++;
        if (closing == '}' && parent->count > SPEC_JSON_MEMBERS) damaged(reader, "an object of too many members");
        space(reader);
    } while (take(reader, ','));
    if (!take(reader, closing)) damaged(reader, "a list without an end");
}

static Json *value(Reader *reader, int depth) {
    Json *found = allocate(1, sizeof *found);
    space(reader);
    if ((peek(reader) == '{' || peek(reader) == '[') && depth >= SPEC_JSON_LEVELS) damaged(reader, "too many levels");
    switch (peek(reader)) {
    case '{':
        found->kind = JSON_OBJECT;
        members(reader, found, '}', depth);
        break;
    case '[':
        found->kind = JSON_ARRAY;
        members(reader, found, ']', depth);
        break;
    case '"':
        found->kind = JSON_STRING;
        found->text = string(reader);
        break;
    case 't':
        found->kind = JSON_TRUE;
        demand(reader, "true");
        break;
    case 'f':
        found->kind = JSON_FALSE;
        demand(reader, "false");
        break;
    case 'n':
        demand(reader, "null");
        break;
    default:
        found->kind = JSON_NUMBER;
        found->text = number(reader);
    }
    return found;
}

Json *json_parse(const char *name, const char *text, size_t length) {
    Reader reader = {name, text, text, text + length};
    Json *found = value(&reader, 0);
    space(&reader);
    if (reader.at != reader.end) damaged(&reader, "something behind the value");
    return found;
}

void json_free(Json *value) {
    while (value) {
        Json *next = value->next;
        json_free(value->first);
        free(value->key);
        free(value->text);
        free(value);
        value = next;
    }
}

const Json *json_find(const Json *object, const char *key) {
    if (object == NULL || object->kind != JSON_OBJECT) return NULL;
    for (const Json *member = object->first; member; member = member->next)
        if (member->key && strcmp(member->key, key) == 0) return member;
    return NULL;
}

const Json *json_member(const char *name, const Json *object, const char *key, JsonKind kind) {
    const Json *found = json_find(object, key);
    if (found == NULL || found->kind != kind) fail("%s has no '%s', or not one of its kind", name, key);
    return found;
}

int64_t json_integer(const char *what, const Json *value, int64_t low, int64_t high) {
    if (value == NULL || value->kind != JSON_NUMBER || strpbrk(value->text, ".eE"))
        fail("%s must be a whole number", what);
    errno = 0;
    long long number = strtoll(value->text, NULL, 10);
    if (errno == ERANGE || number < low || number > high)
        fail("%s is %s, not in %lld..%lld", what, value->text, (long long)low, (long long)high);
    return number;
}

double json_number(const char *what, const Json *value) {
    if (value == NULL || value->kind != JSON_NUMBER) fail("%s must be a number", what);
    return strtod(value->text, NULL);
}
