/* Raw ids to rows and back. Version 2 stores counts of buckets or groups, which are added up once, a sum every few. */
#include "kernel.h"

static uint64_t little(const uint8_t *at, uint32_t size) {
    uint64_t number = 0;
    for (uint32_t byte = 0; byte < size; byte++) number |= (uint64_t)at[byte] << 8 * byte;
    return number;
}

static uint32_t bits_of(const uint8_t *map, uint32_t below) {
    uint32_t count = 0;
    for (uint32_t bit = 0; bit < below; bit++) count += map[bit >> 3] >> (bit & 7) & 1;
    return count;
}

/* Rows and bytes of a bucket or a group, which begins at byte `at` of what is counted. */
static void sizes(const er_ids *ids, const er_id_block *block, uint32_t number, uint32_t *rows, uint32_t *bytes) {
    const uint8_t *section = ids->ids.data;
    if (ids->form == ER_IDS_TEXT) {
        *rows = section[block->counts + number];
        *bytes = (uint32_t)little(section + block->counts + block->count + 4 * (size_t)number, 4);
    } else {
        *rows = (uint32_t)little(section + block->counts + 2 * (size_t)number, 2);
        *bytes = ids->low == 1 && *rows >= 32 ? 32 : *rows * ids->low;
    }
}

/* Read the heads of all blocks, and with `marks` the sums; *n_marks is counted either way. */
static er_status walk(er_ids *ids, uint32_t *n_marks) {
    const uint8_t *section = ids->ids.data;
    bool is_text = ids->form == ER_IDS_TEXT;
    uint64_t at = is_text ? 0 : 1, end = ids->ids.shape[0], head = is_text ? 4 : 12, a_count = is_text ? 5 : 2;
    *n_marks = 0;
    for (uint32_t one = 0; one < ids->n_blocks; one++) {
        if (end - at < head) return ER_IDS;
        er_id_block block = {.mark = *n_marks};
        if (!is_text) block.first = (int64_t)little(section + at, 8);
        block.count = (uint32_t)little(section + at + head - 4, 4);
        at += head;
        if (a_count * block.count > end - at) return ER_IDS;
        block.counts = (size_t)at, block.data = (size_t)(at + a_count * block.count);
        uint64_t rows = 0, bytes = 0, left = end - block.data;
        for (uint32_t number = 0; number < block.count; number++) {
            uint32_t more, size;
            if (number % ids->each == 0) {
                if (ids->marks) ids->marks[*n_marks] = (er_mark){(uint32_t)rows, (uint32_t)bytes};
                ++*n_marks;
            }
            sizes(ids, &block, number, &more, &size);
            if (size > left - bytes || bytes + size > UINT32_MAX || (is_text && more == 0)) return ER_IDS;
            if (!is_text && ids->low == 1 && more >= 32 && bits_of(section + block.data + bytes, 256) != more)
                return ER_IDS;
            rows += more, bytes += size;
            if (rows > ids->rows_of[one].rows) return ER_IDS;
        }
        if (rows != ids->rows_of[one].rows) return ER_IDS;
        at = block.data + bytes;
        if (ids->blocks) ids->blocks[one] = block;
    }
    return at == end ? ER_OK : ER_IDS;
}

/* Number `at` of a section of ER_U8, ER_U16, ER_U32 or ER_I64. */
static uint64_t number_at(const er_section *from, uint64_t at) {
    uint32_t size = from->type == ER_I64 ? 8 : (uint32_t)from->type;
    return little((const uint8_t *)from->data + (size_t)at * size, size);
}

static er_status check_offsets(const er_section *offsets, uint64_t end) {
    uint64_t before = 0;
    for (uint64_t at = 0; at < offsets->shape[0]; at++) {
        uint64_t found = number_at(offsets, at);
        if (found < before || (at == 0 && found) || found > end) return ER_IDS;
        before = found;
    }
    return before == end && offsets->shape[0] ? ER_OK : ER_IDS;
}

/* `length` of the offsets, UINT64_MAX for any. */
static er_status find_texts(const er_tables *tables, const char *stem, uint64_t length, er_section *texts,
                            er_section *offsets) {
    ER_TRY(er_find_vector(tables, stem, "s", ER_U8, UINT64_MAX, texts));
    ER_TRY(er_find_vector(tables, stem, "_offsets", ER_U32 | ER_I64, length, offsets));
    return check_offsets(offsets, texts->shape[0]);
}

er_status er_open_titles(const er_tables *tables, uint32_t rows, er_section *texts, er_section *offsets) {
    return find_texts(tables, "item_title", (uint64_t)rows + 1, texts, offsets);
}

/* Without memory all but the names is checked. */
er_status er_open_attributes(const er_tables *tables, er_json names, er_model *model, er_arena *arena) {
    er_json at = er_json_first(names, '['), name;
    size_t count = er_json_count(names, '[');
    if (names.at == NULL) return ER_OK;
    if (count == 0 || count > ER_MAX_ATTRIBUTES) return ER_MANIFEST;
    er_named_texts *all = er_take(arena, count * (uint64_t)sizeof *all), nothing;
    for (uint32_t n = 0; er_json_next(&at, NULL, &name); n++) {
        er_named_texts *one = all ? &all[n] : &nothing;
        char stem[18] = "attribute_";
        size_t end = er_put_number(stem, 10, n);
        ER_TRY(er_find_vector(tables, stem, "", ER_U8 | ER_U16 | ER_U32, model->facts.items, &one->numbers));
        memcpy(stem + end, "_text", 5);
        ER_TRY(find_texts(tables, stem, UINT64_MAX, &one->texts, &one->offsets));
        size_t size = (size_t)(at.at - name.at); /* escapes are longer than what they stand for */
        char *text = er_take(arena, size);
        if (text == NULL) continue;
        one->name = text, one->length = er_json_text(name, text, size);
        if (one->length == 0 || one->length == SIZE_MAX) return ER_MANIFEST;
        for (uint32_t before = 0; before < n; before++)
            if (all[before].length == one->length && memcmp(all[before].name, text, one->length) == 0)
                return ER_MANIFEST;
    }
    model->attributes = all, model->facts.n_attributes = (uint32_t)count;
    return ER_OK;
}

er_status er_open_ids(const er_tables *tables, er_side side, uint32_t major, er_ids *ids, er_arena *arena) {
    const char *stem = side == ER_ITEM ? "item_id" : "user_id";
    uint32_t n_marks;
    ids->coded = major > 1;
    ids->each = ids->form == ER_IDS_TEXT ? ER_MARK_TEXT : ER_MARK_INT;
    if (ids->form == ER_IDS_ROWS) return ER_OK;
    if (!ids->coded && ids->form == ER_IDS_TEXT)
        return find_texts(tables, stem, (uint64_t)ids->rows + 1, &ids->ids, &ids->offsets);
    if (!ids->coded) return er_find_vector(tables, stem, "s", ER_U8 | ER_U16 | ER_U32 | ER_I64, ids->rows, &ids->ids);
    ER_TRY(er_find_vector(tables, stem, "s", ER_U8, UINT64_MAX, &ids->ids));
    if (ids->form != ER_IDS_TEXT) {
        ids->low = ids->ids.shape[0] ? *(const uint8_t *)ids->ids.data : 0;
        if (ids->low < 1 || ids->low > 7) return ER_IDS;
    }
    ER_TRY(walk(ids, &n_marks)); /* as a whole, before memory is taken */
    er_id_block *blocks = er_take(arena, ids->n_blocks * (uint64_t)sizeof *blocks);
    er_mark *marks = er_take(arena, n_marks * (uint64_t)sizeof *marks);
    if (blocks == NULL || marks == NULL) return ER_MEMORY;
    ids->blocks = blocks, ids->marks = marks;
    return walk(ids, &n_marks);
}

/* A bucket or a group of a block: its number, the rows and bytes before it, and its own. */
typedef struct {
    uint32_t number, before, bytes, rows, size;
} place;

static uint32_t marks_of(const er_ids *ids, const er_id_block *block) {
    return (block->count + ids->each - 1) / ids->each;
}

static place at_mark(const er_ids *ids, const er_id_block *block, uint32_t mark) {
    er_mark sum = ids->marks[block->mark + mark];
    place found = {.number = mark * ids->each, .before = sum.rows, .bytes = sum.bytes};
    sizes(ids, block, found.number, &found.rows, &found.size);
    return found;
}

static bool step(const er_ids *ids, const er_id_block *block, place *at) {
    if (at->number + 1 >= block->count) return false;
    at->before += at->rows, at->bytes += at->size, at->number++;
    sizes(ids, block, at->number, &at->rows, &at->size);
    return true;
}

/* The last mark whose first row is at most `inside`, and from there on the one with this row. */
static place with_row(const er_ids *ids, const er_id_block *block, uint32_t inside) {
    uint32_t low = 0, high = marks_of(ids, block);
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (ids->marks[block->mark + middle].rows <= inside) low = middle;
        else high = middle;
    }
    place at = at_mark(ids, block, low);
    while (at.before + at.rows <= inside && step(ids, block, &at)) continue;
    return at;
}

static int32_t find_number(const er_ids *ids, uint32_t one, int64_t id) {
    const er_id_block *block = &ids->blocks[one];
    uint64_t distance = (uint64_t)id - (uint64_t)block->first, bucket = distance >> 8 * ids->low;
    uint64_t low = distance & (((uint64_t)1 << 8 * ids->low) - 1);
    if (bucket >= block->count) return -1;
    place at = at_mark(ids, block, (uint32_t)bucket / ids->each);
    while (at.number < bucket && step(ids, block, &at)) continue;
    const uint8_t *data = (const uint8_t *)ids->ids.data + block->data + at.bytes;
    if (ids->low == 1 && at.rows >= 32)
        return data[low >> 3] >> (low & 7) & 1 ? (int32_t)(at.before + bits_of(data, (uint32_t)low)) : -1;
    uint32_t first = 0, end = at.rows;
    while (first < end) {
        uint32_t middle = first + (end - first) / 2;
        if (little(data + (size_t)middle * ids->low, ids->low) < low) first = middle + 1;
        else end = middle;
    }
    if (first == at.rows || little(data + (size_t)first * ids->low, ids->low) != low) return -1;
    return (int32_t)(at.before + first);
}

static int64_t number_of(const er_ids *ids, uint32_t one, uint32_t inside) {
    const er_id_block *block = &ids->blocks[one];
    place at = with_row(ids, block, inside);
    const uint8_t *data = (const uint8_t *)ids->ids.data + block->data + at.bytes;
    uint32_t rank = inside - at.before;
    uint64_t low = 0;
    if (ids->low == 1 && at.rows >= 32)
        while (low < 255 && (!(data[low >> 3] >> (low & 7) & 1) || rank--)) low++;
    else low = little(data + (size_t)rank * ids->low, ids->low);
    return (int64_t)((uint64_t)block->first + ((uint64_t)at.number << 8 * ids->low) + low);
}

static const uint8_t *plain_text(const er_section *texts, const er_section *offsets, uint32_t row, size_t *length) {
    uint64_t start = number_at(offsets, row);
    *length = (size_t)(number_at(offsets, (uint64_t)row + 1) - start);
    return (const uint8_t *)texts->data + start;
}

static int compare(const uint8_t *one, size_t length, const uint8_t *other, size_t size) {
    int order = memcmp(one, other, length < size ? length : size);
    return order ? order : length < size ? -1 : length > size;
}

/* Row among first .. end - 1 of version 1, by a binary search. */
static int32_t find_plain(const er_ids *ids, uint32_t first, uint32_t end, int64_t id, const uint8_t *text,
                          size_t size) {
    uint32_t low = first, high = end;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order;
        if (text) {
            size_t length;
            const uint8_t *own = plain_text(&ids->ids, &ids->offsets, middle, &length);
            order = compare(own, length, text, size);
        } else {
            int64_t own = (int64_t)number_at(&ids->ids, middle);
            order = own < id ? -1 : own > id;
        }
        if (order == 0) return (int32_t)middle;
        if (order < 0) low = middle + 1;
        else high = middle;
    }
    return -1;
}

/* An entry of a group: how many bytes it shares with the text before, and its own; false if it is damaged. */
typedef struct {
    const uint8_t *at, *end;
    size_t shared, own, length; /* length: of the text so far */
} entry;

static bool leb(entry *in, size_t *number) {
    uint64_t found = 0;
    for (int place = 0; place < 5 && in->at < in->end; place++) {
        uint8_t byte = *in->at++;
        found |= (uint64_t)(byte & 127) << 7 * place;
        if (byte < 128) {
            *number = (size_t)found;
            return found <= UINT32_MAX;
        }
    }
    return false;
}

static bool next_entry(entry *in) {
    in->at += in->own; /* of the entry before */
    if (!leb(in, &in->shared) || !leb(in, &in->own)) return false;
    if (in->shared > in->length || in->own > (size_t)(in->end - in->at)) return false;
    in->length = in->shared + in->own;
    return true;
}

static entry group(const er_ids *ids, const er_id_block *block, const place *at) {
    const uint8_t *data = (const uint8_t *)ids->ids.data;
    return (entry){.at = data + block->data + at->bytes, .end = data + ids->ids.shape[0]};
}

/* Order of the first text of a group; a damaged one stands behind all. */
static int first_order(const er_ids *ids, const er_id_block *block, const place *at, const uint8_t *text, size_t size) {
    entry in = group(ids, block, at);
    return next_entry(&in) ? compare(in.at, in.own, text, size) : 1;
}

static int32_t find_text(const er_ids *ids, uint32_t one, const uint8_t *text, size_t size) {
    const er_id_block *block = &ids->blocks[one];
    uint32_t low = 0, high = marks_of(ids, block);
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        place at = at_mark(ids, block, middle);
        if (first_order(ids, block, &at, text, size) <= 0) low = middle;
        else high = middle;
    }
    place at = at_mark(ids, block, low), next = at;
    if (first_order(ids, block, &at, text, size) > 0) return -1;
    while (step(ids, block, &next) && first_order(ids, block, &next, text, size) <= 0) at = next;
    entry in = group(ids, block, &at);
    size_t alike = 0; /* bytes at the beginning of the text before that are those of `text` */
    for (uint32_t row = 0; row < at.rows && next_entry(&in); row++) {
        if (in.shared <= alike) {
            alike = in.shared;
            for (size_t byte = 0; byte < in.own && alike < size && in.at[byte] == text[alike]; byte++) alike++;
        }
        if (alike == size && in.length == size) return (int32_t)(at.before + row);
    }
    return -1;
}

static int32_t find(const er_ids *ids, int64_t id, const uint8_t *text, size_t size) {
    for (uint32_t one = 0; one < ids->n_blocks; one++) {
        uint32_t first = ids->rows_of[one].first;
        int32_t row;
        if (!ids->coded) row = find_plain(ids, first, first + ids->rows_of[one].rows, id, text, size);
        else if ((row = text ? find_text(ids, one, text, size) : find_number(ids, one, id)) >= 0) row += (int32_t)first;
        if (row >= 0) return row;
    }
    return -1;
}

int32_t er_row_of_int(const er_model *model, er_side side, int64_t id) {
    const er_ids *ids = &model->ids[side == ER_USER];
    if (ids->form == ER_IDS_ROWS) return id >= 0 && id < ids->rows ? (int32_t)id : -1;
    return ids->form == ER_IDS_INT ? find(ids, id, NULL, 0) : -1;
}

int32_t er_row_of_text(const er_model *model, er_side side, const char *text, size_t length) {
    const er_ids *ids = &model->ids[side == ER_USER];
    if (ids->form == ER_IDS_TEXT) return find(ids, 0, (const uint8_t *)(length ? text : ""), length);
    if (ids->form != ER_IDS_HASH || !er_utf8(text, length)) return -1;
    uint64_t hash = 14695981039346656037u, digits = 0;
    bool is_hash = length == 16;
    for (size_t at = 0; at < length; at++) {
        hash = (hash ^ (uint8_t)text[at]) * 1099511628211u;
        bool is_digit = text[at] >= '0' && text[at] <= '9';
        is_hash = is_hash && (is_digit || (text[at] >= 'a' && text[at] <= 'f'));
        digits = digits << 4 | (uint64_t)(text[at] - (is_digit ? '0' : 'a' - 10));
    }
    int32_t row = find(ids, (int64_t)hash, NULL, 0);
    return row < 0 && is_hash ? find(ids, (int64_t)digits, NULL, 0) : row;
}

static uint32_t block_with(const er_ids *ids, int32_t *row) {
    uint32_t one = 0;
    while (one + 1 < ids->n_blocks && (uint32_t)*row >= ids->rows_of[one + 1].first) one++;
    *row -= (int32_t)ids->rows_of[one].first;
    return one;
}

static int64_t raw_number(const er_ids *ids, int32_t row) {
    if (!ids->coded) return (int64_t)number_at(&ids->ids, (uint32_t)row);
    uint32_t one = block_with(ids, &row);
    return number_of(ids, one, (uint32_t)row);
}

er_status er_int_of_row(const er_model *model, er_side side, int32_t row, int64_t *id) {
    const er_ids *ids = &model->ids[side == ER_USER];
    if (row < 0 || (uint32_t)row >= ids->rows) return ER_ROW;
    if (ids->form != ER_IDS_INT && ids->form != ER_IDS_ROWS) return ER_ID;
    *id = ids->form == ER_IDS_ROWS ? row : raw_number(ids, row);
    return ER_OK;
}

er_status er_text_of_row(const er_model *model, er_side side, int32_t row, char *text, size_t size, size_t *length) {
    const er_ids *ids = &model->ids[side == ER_USER];
    if (row < 0 || (uint32_t)row >= ids->rows) return ER_ROW;
    if (ids->form == ER_IDS_HASH) {
        uint64_t hash = (uint64_t)raw_number(ids, row);
        *length = 16;
        for (int digit = 15; digit >= 0 && size >= 16; digit--, hash >>= 4) text[digit] = "0123456789abcdef"[hash & 15];
        return size >= 16 ? ER_OK : ER_MEMORY;
    }
    if (ids->form != ER_IDS_TEXT) return ER_ID;
    if (!ids->coded) {
        const uint8_t *own = plain_text(&ids->ids, &ids->offsets, (uint32_t)row, length);
        if (*length > size) return ER_MEMORY;
        memcpy(text, own, *length);
    } else {
        uint32_t one = block_with(ids, &row);
        const er_id_block *block = &ids->blocks[one];
        place at = with_row(ids, block, (uint32_t)row);
        entry in = group(ids, block, &at);
        for (uint32_t left = (uint32_t)row - at.before + 1; left; left--) {
            if (!next_entry(&in)) return ER_IDS;
            for (size_t byte = 0; byte < in.own && in.shared + byte < size; byte++)
                text[in.shared + byte] = (char)in.at[byte];
        }
        *length = in.length; /* bytes past `size` belong to longer texts before it */
        if (*length > size) return ER_MEMORY;
    }
    return er_utf8(text, *length) ? ER_OK : ER_IDS;
}

er_status er_title(const er_model *model, int32_t row, const char **text, size_t *length) {
    if (row < 0 || (uint32_t)row >= model->facts.items) return ER_ROW;
    *length = 0, *text = "";
    if (model->facts.has_titles)
        *text = (const char *)plain_text(&model->titles, &model->title_offsets, (uint32_t)row, length);
    return er_utf8(*text, *length) ? ER_OK : ER_IDS;
}

er_status er_attribute(const er_model *model, int32_t row, uint32_t n, const char **text, size_t *length) {
    if (row < 0 || (uint32_t)row >= model->facts.items) return ER_ROW;
    if (n >= model->facts.n_attributes) return ER_ATTRIBUTE;
    const er_named_texts *from = &model->attributes[n];
    uint32_t number = (uint32_t)number_at(&from->numbers, (uint32_t)row);
    if (number >= from->offsets.shape[0] - 1) return ER_IDS;
    *text = (const char *)plain_text(&from->texts, &from->offsets, number, length);
    return er_utf8(*text, *length) ? ER_OK : ER_IDS;
}

er_status er_attribute_name(const er_model *model, uint32_t n, const char **text, size_t *length) {
    if (n >= model->facts.n_attributes) return ER_ATTRIBUTE;
    *text = model->attributes[n].name, *length = model->attributes[n].length;
    return ER_OK;
}
