/* JSON without a tree: the text is checked once, byte by byte, and then values are found in it. */
#include "kernel.h"

static const char *space(const char *at, const char *end) {
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r')) at++;
    return at;
}

bool er_utf8(const char *text, size_t size) {
#if ER_UTF8
    const uint8_t *at = (const uint8_t *)text, *end = at + size;
    while (at < end) {
        uint32_t byte = *at++, more, least;
        if (byte < 0x80) continue;
        if (byte >= 0xc2 && byte < 0xe0) more = 1, least = 0x80, byte &= 31;
        else if (byte >= 0xe0 && byte < 0xf0) more = 2, least = 0x800, byte &= 15;
        else if (byte >= 0xf0 && byte < 0xf5) more = 3, least = 0x10000, byte &= 7;
        else return false;
        while (more--) {
            if (at == end || (*at & 0xc0) != 0x80) return false;
            byte = byte << 6 | (*at++ & 63);
        }
        if (byte < least || byte > 0x10ffff || (byte >= 0xd800 && byte < 0xe000)) return false;
    }
#else
    (void)text, (void)size;
#endif
    return true;
}

static int digit_of(char byte) {
    if (byte >= '0' && byte <= '9') return byte - '0';
    if (byte >= 'a' && byte <= 'f') return byte - 'a' + 10;
    return byte >= 'A' && byte <= 'F' ? byte - 'A' + 10 : -1;
}

/* End of a text that begins at its quotation mark; NULL if it is none. */
static const char *string(const char *at, const char *end) {
    for (at++; at < end && *at != '"'; at++) {
        if ((uint8_t)*at < 0x20) return NULL;
        if (*at != '\\') continue;
        if (++at == end) return NULL;
        if (*at == 'u') {
            for (int digit = 0; digit < 4; digit++)
                if (++at == end || digit_of(*at) < 0) return NULL;
        } else {
            static const char known[] = "\"\\/bfnrt";
            const char *one = known;
            while (*one && *one != *at) one++;
            if (!*one) return NULL;
        }
    }
    return at < end ? at + 1 : NULL;
}

static const char *digits(const char *at, const char *end) {
    const char *start = at;
    while (at < end && *at >= '0' && *at <= '9') at++;
    return at > start ? at : NULL;
}

static const char *number(const char *at, const char *end) {
    if (*at == '-') at++;
    if (at < end && *at == '0') at++;
    else if ((at = digits(at, end)) == NULL) return NULL;
    if (at < end && *at == '.' && (at = digits(at + 1, end)) == NULL) return NULL;
    if (at < end && (*at == 'e' || *at == 'E')) {
        at++;
        if (at < end && (*at == '+' || *at == '-')) at++;
        at = digits(at, end);
    }
    return at;
}

static const char *word(const char *at, const char *end) {
    static const char *const known[] = {"true", "false", "null"};
    for (int one = 0; one < 3; one++) {
        const char *letter = known[one], *here = at;
        while (*letter && here < end && *here == *letter) letter++, here++;
        if (!*letter) return here;
    }
    return NULL;
}

static const char *scalar(const char *at, const char *end) {
    if (*at == '"') return string(at, end);
    return *at == '-' || (*at >= '0' && *at <= '9') ? number(at, end) : word(at, end);
}

er_status er_json_object(const char *text, size_t size, er_json *object) {
    const char *at = text, *end = text + size;
    uint32_t values = 0, level = 0, objects = 0; /* a bit of `objects` a level */
    uint16_t members[ER_MAX_JSON_LEVELS];
    if (size > ER_MAX_MANIFEST_BYTES || !er_utf8(text, size)) return ER_JSON;
    for (; at < end; at++) values += *at == ',' || *at == '[' || *at == '{';
    at = space(text, end);
    if (values > ER_MAX_JSON_VALUES || at == end || *at != '{') return ER_JSON;
    object->at = at;
    do { /* at a value */
        bool opened = *at == '{' || *at == '[';
        if (opened) {
            if (level == ER_MAX_JSON_LEVELS) return ER_JSON;
            objects = (objects & ~(1u << level)) | (uint32_t)(*at == '{') << level;
            members[level++] = 0;
            at = space(at + 1, end);
        } else if ((at = scalar(at, end)) == NULL) {
            return ER_JSON;
        }
        for (;;) { /* behind a value, or behind an opening bracket */
            if (level == 0) return space(at, end) == end ? ER_OK : ER_JSON;
            bool is_object = objects >> (level - 1) & 1;
            if (!opened) at = space(at, end);
            if (at >= end) return ER_JSON;
            if (*at == (is_object ? '}' : ']')) {
                at++, level--, opened = false;
                continue;
            }
            if (!opened) {
                if (*at != ',') return ER_JSON;
                at = space(at + 1, end);
            }
            if (at >= end) return ER_JSON;
            if (!is_object) break;
            if (members[level - 1]++ == ER_MAX_JSON_MEMBERS || *at != '"') return ER_JSON;
            if ((at = string(at, end)) == NULL) return ER_JSON;
            at = space(at, end);
            if (at >= end || *at != ':') return ER_JSON;
            at = space(at + 1, end);
            if (at >= end) return ER_JSON;
            break;
        }
    } while (true);
}

/* Checked texts are objects, inside which no value ends with the text. */
#define END ((const char *)UINTPTR_MAX)

/* End of a value of a checked text. */
static const char *skip(const char *at) {
    const char *end = END;
    uint32_t level = 0;
    do {
        if (*at == '"') at = string(at, end);
        else if (*at == '{' || *at == '[') level++, at++;
        else if (*at == '}' || *at == ']') level--, at++;
        else if (*at == ',' || *at == ':') at++;
        else at = scalar(at, end);
        if (level) at = space(at, end);
    } while (level);
    return at;
}

er_json er_json_first(er_json value, char opening) {
    er_json none = {NULL};
    if (value.at == NULL || *value.at != opening) return none;
    value.at = space(value.at + 1, END);
    return value;
}

bool er_json_next(er_json *at, er_json *key, er_json *value) {
    if (at->at == NULL || *at->at == '}' || *at->at == ']') return false;
    if (*at->at == ',') at->at = space(at->at + 1, END);
    if (key) {
        *key = *at;
        at->at = space(space(string(at->at, END), END) + 1, END);
    }
    *value = *at;
    at->at = space(skip(at->at), END);
    return true;
}

size_t er_json_count(er_json value, char opening) {
    size_t count = 0;
    er_json at = er_json_first(value, opening), key, one;
    while (er_json_next(&at, opening == '{' ? &key : NULL, &one)) count++;
    return count;
}

static uint32_t unit(const char *at) {
    uint32_t found = 0;
    for (int digit = 0; digit < 4; digit++) found = found << 4 | (uint32_t)digit_of(at[digit]);
    return found;
}

enum { ESCAPED = 256 };

/* Next byte of a text; of an escape beyond ASCII, its code point and ESCAPED. */
static const char *letter(const char *at, uint32_t *byte) {
    *byte = (uint8_t)*at++;
    if (*byte != '\\') return at;
    *byte = (uint8_t)*at++;
    if (*byte == 'u') {
        *byte = unit(at), at += 4;
        if (*byte >> 10 == 0xd800 >> 10 && at[0] == '\\' && at[1] == 'u' && unit(at + 2) >> 10 == 0xdc00 >> 10)
            *byte = 0x10000 + ((*byte & 1023) << 10 | (unit(at + 2) & 1023)), at += 6;
        if (*byte >= 0x80) *byte += ESCAPED;
    } else {
        for (const char *one = "b\bf\fn\nr\rt\t"; *one; one += 2)
            if (*byte == (uint8_t)one[0]) {
                *byte = (uint8_t)one[1];
                break;
            }
    }
    return at;
}

bool er_json_is(er_json value, const char *text) {
    if (value.at == NULL || *value.at != '"') return false;
    const char *at = value.at + 1;
    while (*at != '"') {
        uint32_t byte;
        at = letter(at, &byte);
        if (byte == 0 || (uint8_t)*text++ != byte) return false;
    }
    return *text == 0;
}

size_t er_json_text(er_json value, char *text, size_t size) {
    size_t length = 0;
    if (value.at == NULL || *value.at != '"') return SIZE_MAX;
    for (const char *at = value.at + 1; *at != '"';) {
        uint32_t byte, more = 0;
        at = letter(at, &byte);
        if (byte >= ESCAPED) byte -= ESCAPED, more = byte < 0x800 ? 1 : byte < 0x10000 ? 2 : 3;
        if (byte == 0 || length + more + 1 >= size) return SIZE_MAX;
        text[length++] = (char)(more ? 0xff80 >> more | byte >> 6 * more : byte);
        while (more--) text[length++] = (char)(0x80 | (byte >> 6 * more & 63));
    }
    text[length] = 0;
    return er_utf8(text, length) ? length : SIZE_MAX;
}

er_json er_json_get(er_json object, const char *key) {
    er_json found = {NULL}, none = {NULL}, name, value, at = er_json_first(object, '{');
    while (er_json_next(&at, &name, &value)) {
        if (!er_json_is(name, key)) continue;
        if (found.at) return none; /* readers differ in which of two they take */
        found = value;
    }
    return found;
}

bool er_json_null(er_json value) { return value.at && *value.at == 'n'; }

bool er_json_true(er_json value) { return value.at && *value.at == 't'; }

bool er_json_whole(er_json value, uint64_t most, uint64_t *found) {
    const char *at = value.at;
    uint64_t sum = 0;
    if (at == NULL || *at < '0' || *at > '9') return false;
    for (; at < END && *at >= '0' && *at <= '9'; at++) {
        if (sum > (UINT64_MAX - 9) / 10) return false;
        sum = 10 * sum + (uint64_t)(*at - '0');
    }
    *found = sum;
    return sum <= most && !(at < END && (*at == '.' || *at == 'e' || *at == 'E'));
}

/* A finite float32: 19 digits and a power of ten, which is off by two units of the last place of a double at most. */
bool er_json_number(er_json value, float *found) {
    const char *at = value.at, *end = END;
    if (at == NULL || (*at != '-' && (*at < '0' || *at > '9'))) return false;
    bool negative = *at == '-', fraction = false;
    uint64_t mantissa = 0;
    int32_t power = 0, written = 0;
    for (at += negative; at < end && ((*at >= '0' && *at <= '9') || *at == '.'); at++) {
        if (*at == '.') {
            fraction = true;
            continue;
        }
        if (mantissa < 1000000000000000000u) mantissa = 10 * mantissa + (uint64_t)(*at - '0'), power -= fraction;
        else power += !fraction;
    }
    if (at < end && (*at == 'e' || *at == 'E')) {
        at++;
        bool down = *at == '-';
        if (*at == '-' || *at == '+') at++;
        for (; at < end && *at >= '0' && *at <= '9'; at++)
            written = written < 10000 ? 10 * written + (*at - '0') : written;
        power += down ? -written : written;
    }
    double number = (double)mantissa, factor = 10;
    if (power > 400) power = 400;
    if (power < -400) power = -400;
    for (uint32_t left = (uint32_t)(power < 0 ? -power : power); left; left >>= 1, factor *= factor)
        if (left & 1) number = power < 0 ? number / factor : number * factor;
    if (mantissa == 0) number = 0;
    if (!(number <= 3.4028234663852886e38)) return false;
    *found = (float)(negative ? -number : number);
    return true;
}
