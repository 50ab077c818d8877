/* The arrays of a table: every shape follows from the blocks, and every number that is an index is looked at once. */
#include "kernel.h"

static const struct {
    const char *name;
    er_layout layout;
} LAYOUTS[] = {{"dense", ER_BLOCKED}, {"mixed", ER_BLOCKED}, {"ell", ER_ELL},
               {"csr", ER_CSR},       {"csc", ER_CSC},       {"bitmask", ER_BITMASK}};

static uint32_t bits_named(er_json precision) {
    static const char *const known[] = {"int2", "int4", "int8", "fp16", "fp32"};
    for (uint32_t one = 0; one < 5; one++)
        if (er_json_is(precision, known[one])) return 2u << one;
    return 0;
}

static er_status blocks_of(er_json side, uint32_t bits, er_table *table, er_arena *arena) {
    er_json list = er_json_get(side, "blocks"), widths = er_json_get(side, "bits"), at, of_bits, pair, number;
    uint64_t rows, found[2], first = 0;
    size_t count = er_json_count(list, '[');
    if (!er_json_whole(er_json_get(side, "rows"), INT32_MAX, &rows) || count == 0) return ER_MANIFEST;
    if (widths.at && (*widths.at != '[' || er_json_count(widths, '[') != count)) return ER_MANIFEST;
    table->rows = (uint32_t)rows, table->n_blocks = (uint32_t)count;
    table->blocks = er_take(arena, count * sizeof(er_block));
    at = er_json_first(list, '['), of_bits = er_json_first(widths, '[');
    for (size_t one = 0; one < count; one++) {
        if (!er_json_next(&at, NULL, &pair)) return ER_MANIFEST;
        er_json inner = er_json_first(pair, '[');
        for (int part = 0; part < 2; part++)
            if (!er_json_next(&inner, NULL, &number) || !er_json_whole(number, INT32_MAX, &found[part]) || !found[part])
                return ER_MANIFEST;
        if (er_json_next(&inner, NULL, &number)) return ER_MANIFEST;
        uint64_t own = bits;
        if (widths.at && (!er_json_next(&of_bits, NULL, &number) || !er_json_whole(number, 32, &own)))
            return ER_MANIFEST;
        if (table->blocks)
            table->blocks[one] = (er_block){.width = (uint32_t)found[0],
                                            .rows = (uint32_t)found[1],
                                            .first = (uint32_t)first,
                                            .bits = (uint32_t)own};
        first += found[1];
        if (first > rows) return ER_MANIFEST;
    }
    return first == rows ? ER_OK : ER_MANIFEST;
}

/* Place of each block in the values; *entries is their number, without the last one that reads as zero. */
static er_status place_blocks(er_table *table, er_type type, uint32_t major, uint64_t n_values, uint64_t *entries) {
    uint64_t values = 0;
    *entries = 0;
    for (uint32_t one = 0; one < table->n_blocks; one++) {
        er_block *block = &table->blocks[one];
        uint32_t bits = block->bits, shared = bits && bits < 8 ? 8 / bits : 1;
        if (bits != 32 && bits != 16 && bits != 8 && bits != 4 && bits != 2) return ER_MANIFEST;
        if (type != (bits == 32 ? ER_F32 : bits == 16 ? ER_F16 : ER_U8)) return ER_SECTION;
        if (bits == 2 && (table->layout != ER_BLOCKED || major < 2)) return ER_MANIFEST;
        if (block->width > table->d) return ER_MANIFEST;
        uint64_t own = table->layout == ER_CSR ? n_values : (uint64_t)block->width * block->rows;
        uint64_t stored = table->by_column ? (uint64_t)((block->width + shared - 1) / shared) * block->rows
                                           : (own + shared - 1) / shared;
        block->start = (size_t)*entries, block->stored = (size_t)stored, block->columns = (size_t)values;
        *entries += stored, values += own;
        if (*entries > SIZE_MAX / 8 || values > SIZE_MAX / 8) return ER_SECTION;
    }
    return ER_OK;
}

static er_status check_columns(const er_table *table, uint64_t count) {
    uint32_t most = 0;
    for (uint64_t at = 0; at < count; at++) {
        uint32_t found =
            table->wide_columns ? ((const uint16_t *)table->columns)[at] : ((const uint8_t *)table->columns)[at];
        most = found > most ? found : most;
    }
    return count == 0 || most < table->d ? ER_OK : ER_TABLES;
}

static er_status open_runs(const er_tables *tables, const char *name, er_section *values, er_table *table) {
    er_section found;
    uint32_t bits = table->blocks[0].bits, entries = bits == 4 ? ER_RUN / 2 : ER_RUN;
    if (table->n_blocks != 1 || values->type != (bits == 32 ? ER_F32 : bits == 16 ? ER_F16 : ER_U8)) return ER_SECTION;
    if (bits == 2 || values->shape[0] % entries || values->shape[0] / entries > INT32_MAX) return ER_SECTION;
    table->n_runs = (uint32_t)(values->shape[0] / entries);
    uint64_t shape[] = {table->n_runs, ER_RUN};
    ER_TRY(er_find(tables, name, "r", ER_U16, 2, shape, &found));
    table->run_rows = found.data;
    ER_TRY(er_find_vector(tables, name, "c", table->wide_columns ? ER_U16 : ER_U8, table->n_runs, &found));
    table->columns = found.data;
    ER_TRY(check_columns(table, table->n_runs));
    ER_TRY(er_find_vector(tables, name, "k", ER_U16, table->n_runs, &found));
    table->run_stretch = found.data;
    for (uint32_t run = 0; run < table->n_runs; run++) {
        uint64_t first = (uint64_t)table->run_stretch[run] * ER_STRETCH;
        const uint16_t *row = table->run_rows + (size_t)run * ER_RUN;
        uint32_t most = 0;
        for (int one = 0; one < ER_RUN; one++) most = row[one] > most ? row[one] : most;
        if (first + most >= table->rows) return ER_TABLES;
    }
    return ER_OK;
}

static er_status open_pointers(const er_tables *tables, const char *name, uint64_t n_values, er_table *table) {
    er_section found;
    ER_TRY(er_find_vector(tables, name, "p", ER_I32, (uint64_t)table->rows + 1, &found));
    table->pointers = found.data;
    for (uint32_t row = 0; row < table->rows; row++)
        if (table->pointers[row + 1] < table->pointers[row]) return ER_TABLES;
    return table->pointers[0] == 0 && (uint64_t)table->pointers[table->rows] == n_values ? ER_OK : ER_TABLES;
}

static er_status open_scales(const er_tables *tables, const char *name, uint32_t major, er_table *table) {
    er_section found;
    if (major < 2) return ER_SCALES;
    char rows[3] = {name[0], 's', 0};
    if (er_has(tables, rows)) {
        ER_TRY(er_find_vector(tables, name, "s", ER_U8 | ER_F16, table->rows, &found));
        table->row_scales = found.data, table->byte_scales = found.type == ER_U8;
        ER_TRY(er_find_vector(tables, name, "f", ER_F32, 1, &found));
        table->n_factors = 1;
    } else {
        ER_TRY(er_find_vector(tables, name, "f", ER_F32, UINT64_MAX, &found));
        if (found.shape[0] != 1 && found.shape[0] != table->n_blocks) return ER_SECTION;
        table->n_factors = (uint32_t)found.shape[0];
    }
    table->factors = found.data;
    return ER_OK;
}

er_status er_open_table(const er_tables *tables, const char *name, er_json side, er_json precision, bool is_csc,
                        uint32_t d, bool by_column, uint32_t major, er_table *table, er_arena *arena) {
    er_section values, found;
    uint64_t entries, n_values = 0;
    size_t known = 0, last = sizeof LAYOUTS / sizeof *LAYOUTS;
    er_json named = er_json_get(side, "layout");
    while (known < last && !er_json_is(named, LAYOUTS[known].name)) known++;
    if (known == last) return ER_MANIFEST;
    table->layout = is_csc ? ER_CSC : LAYOUTS[known].layout, table->d = d, table->wide_columns = d > 256;
    table->by_column = by_column && table->layout == ER_BLOCKED;
    ER_TRY(blocks_of(side, bits_named(precision), table, arena));
    if (table->rows > 4 * tables->size) return ER_MANIFEST; /* a row takes at least a quarter of a byte */
    if (table->blocks == NULL) return ER_MEMORY;
    if (is_csc) { /* csc with a second copy, whose blocks the manifest describes */
        table->n_blocks = 1;
        table->blocks[0] = (er_block){.width = d, .rows = table->rows, .bits = bits_named(precision)};
    }
    ER_TRY(er_find_vector(tables, name, "", ER_F32 | ER_F16 | ER_U8, UINT64_MAX, &values));
    table->values = values.data, table->integer = values.type == ER_U8;
    if (table->integer) ER_TRY(open_scales(tables, name, major, table));
    if (table->layout == ER_CSC) return table->row_scales ? ER_SECTION : open_runs(tables, name, &values, table);
    if (table->layout == ER_CSR || table->layout == ER_ELL) {
        ER_TRY(er_find_vector(tables, name, "c", table->wide_columns ? ER_U16 : ER_U8, UINT64_MAX, &found));
        table->columns = found.data, n_values = found.shape[0];
        ER_TRY(check_columns(table, n_values));
    }
    if (table->layout == ER_CSR && table->n_blocks != 1) return ER_MANIFEST;
    ER_TRY(place_blocks(table, values.type, major, n_values, &entries));
    if (values.shape[0] != entries + 1) return ER_SECTION;
    const er_block *end = &table->blocks[table->n_blocks - 1];
    if (table->layout == ER_ELL && (uint64_t)end->columns + (uint64_t)end->width * end->rows != n_values)
        return ER_SECTION;
    if (table->layout == ER_CSR) return open_pointers(tables, name, n_values, table);
    if (table->layout == ER_BITMASK) {
        uint64_t shape[] = {table->rows, (d + 7) / 8};
        ER_TRY(er_find(tables, name, "m", ER_U8, 2, shape, &found));
        table->mask = found.data;
    }
    return ER_OK;
}
