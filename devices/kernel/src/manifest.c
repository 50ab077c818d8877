/* Checks of the manifest: what Python's reader refuses is refused here, files and graphs that are not read included. */
#include "kernel.h"

/* A file of the manifest: a plain name, its bytes and 64 digits of a hash. */
bool er_parse_file(er_json entry, char name[256], uint64_t *size, char sha256[65]) {
    size_t length = er_json_text(er_json_get(entry, "file"), name, 256);
    if (length == SIZE_MAX || length == 0 || name[0] == '.') return false;
    for (size_t at = 0; at < length; at++) {
        char letter = name[at];
        bool plain =
            (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') || (letter >= '0' && letter <= '9');
        if (!plain && letter != '_' && letter != '-' && letter != '.') return false;
    }
    if (er_json_text(er_json_get(entry, "sha256"), sha256, 65) == SIZE_MAX) return false;
    return er_json_whole(er_json_get(entry, "bytes"), (uint64_t)1 << 53, size) && *size > 0;
}

/* File `index`: the tables, the graphs, the others; at is NULL after the last. */
er_json er_file_entry(er_json manifest, size_t index) {
    er_json none = {NULL}, at, key, value;
    if (index-- == 0) return er_json_get(manifest, "tables");
    for (at = er_json_first(er_json_get(manifest, "graphs"), '{'); er_json_next(&at, &key, &value);)
        if (index-- == 0) return value;
    for (at = er_json_first(er_json_get(manifest, "other_files"), '['); er_json_next(&at, NULL, &value);)
        if (index-- == 0) return value;
    return none;
}

er_status er_manifest_file(er_bytes document, size_t index, char name[256], uint64_t *size) {
    er_json manifest;
    char sha256[65];
    ER_TRY(er_json_object(document.data, document.size, &manifest));
    er_json entry = er_file_entry(manifest, index);
    if (entry.at == NULL) return index ? ER_FILE : ER_MANIFEST;
    return er_parse_file(entry, name, size, sha256) ? ER_OK : ER_MANIFEST;
}

int er_compare_names(const char *one, const char *other) {
    while (*one && *one == *other) one++, other++;
    return (int)(uint8_t)*one - (int)(uint8_t)*other;
}

/* Names are all different, sizes are those of a graph; *head is the sum of all sizes but the tables'. */
er_status er_check_files(er_json manifest, uint64_t *head) {
    char name[256], other[256], sha256[65];
    uint64_t size, ignored;
    size_t n_graphs = er_json_count(er_json_get(manifest, "graphs"), '{');
    size_t n_others = er_json_count(er_json_get(manifest, "other_files"), '[');
    if (n_graphs > ER_MAX_GRAPHS || n_others > ER_MAX_FILES || 1 + n_graphs + n_others > ER_MAX_FILES)
        return ER_MANIFEST;
    er_json others = er_json_get(manifest, "other_files");
    if (er_json_get(er_json_get(manifest, "graphs"), "recommend").at == NULL) return ER_MANIFEST;
    if (others.at == NULL || *others.at != '[') return ER_MANIFEST;
    *head = 0;
    for (size_t one = 0; one < 1 + n_graphs + n_others; one++) {
        if (!er_parse_file(er_file_entry(manifest, one), name, &size, sha256)) return ER_MANIFEST;
        if (er_compare_names(name, "manifest.json") == 0 || (one && one <= n_graphs && size > ER_MAX_GRAPH_BYTES))
            return ER_MANIFEST;
        if (one) *head += size;
        for (size_t before = 0; before < one; before++)
            if (!er_parse_file(er_file_entry(manifest, before), other, &ignored, sha256) ||
                er_compare_names(name, other) == 0)
                return ER_MANIFEST;
    }
    return ER_OK;
}

er_status er_check_sections(er_json list, const er_tables *tables, size_t most) {
    er_json at = er_json_first(list, '{'), key, place;
    er_section section;
    if (list.at == NULL || *list.at != '{' || er_json_count(list, '{') > most) return ER_MANIFEST;
    while (er_json_next(&at, &key, &place)) ER_TRY(er_parse_section(tables, place, &section));
    return ER_OK;
}

er_status er_check_about(er_json manifest) {
    static const char *const texts[] = {"data", "backbone", "method", "budget", "data_fingerprint"};
    er_json about = er_json_get(manifest, "about"), session = er_json_get(manifest, "session"), found;
    if (about.at == NULL || *about.at != '{' || session.at == NULL || *session.at != '{') return ER_MANIFEST;
    for (int one = 0; one < 5; one++)
        if ((found = er_json_get(about, texts[one])).at && *found.at != '"' && *found.at != 'n') return ER_MANIFEST;
    for (int one = 0; one < 2; one++)
        if ((found = er_json_get(about, one ? "metrics" : "split")).at && *found.at != '{') return ER_MANIFEST;
    return ER_OK;
}

er_status er_parse_version(er_json manifest, uint32_t *major, uint32_t *minor) {
    char text[20];
    if (!er_json_is(er_json_get(manifest, "format"), "edgerec.bundle")) return ER_BUNDLE;
    size_t length = er_json_text(er_json_get(manifest, "version"), text, sizeof text), at = 0;
    uint32_t *parts[] = {major, minor};
    if (length == SIZE_MAX) return ER_MANIFEST;
    for (int part = 0; part < 2; part++) {
        size_t start = at;
        for (*parts[part] = 0; at - start < 9 && text[at] >= '0' && text[at] <= '9'; at++)
            *parts[part] = 10 * *parts[part] + (uint32_t)(text[at] - '0');
        if (at == start || text[at] != (part ? 0 : '.')) return ER_MANIFEST;
        at++;
    }
    if (*major > ER_MAX_MAJOR) return ER_VERSION;
    if (*major == 0) return ER_MANIFEST;
    er_json requires = er_json_get(manifest, "requires");
    if (requires.at && *requires.at != '[') return ER_MANIFEST;
    return er_json_count(requires, '[') ? ER_FEATURE : ER_OK;
}
