/* The vector of a history. Rows are decoded again in each step, so that no memory depends on the history's length. */
#include "kernel.h"

static float inner(const float *one, const float *other, uint32_t d) {
    float sum = 0;
    for (uint32_t at = 0; at < d; at++) sum += one[at] * other[at];
    return sum;
}

/* base^power of a number that is 1 or more, to about 1e-13: no library is needed for it. */
static double power_of(double base, double power) {
    int exponent = 0;
    while (base > 1.5) base /= 2, exponent++;
    double ratio = (base - 1) / (base + 1), square = ratio * ratio, log = 0;
    for (int term = 33; term >= 1; term -= 2) log = log * square + 1.0 / term;
    double wanted = power * (2 * ratio * log + exponent * 0.69314718055994530942), found = 1;
    bool negative = wanted < 0;
    int halved = 0;
    if (negative) wanted = -wanted;
    while (wanted > 0.5) wanted /= 2, halved++;
    for (int term = 16; term >= 1; term--) found = 1 + found * wanted / term;
    while (halved--) found *= found;
    return negative ? 1 / found : found;
}

/* What an item counts in a history. */
static float weight_of(const er_model *model, uint32_t row) {
    if (!model->weights_in_bytes) return ((const float *)model->weights)[row];
    float root = ((const uint8_t *)model->weights)[row], square = root * root;
    return square * square * (model->weight_top / 4294967296.0f);
}

void er_find_weights(er_model *model) {
    float least = 3.40282347e38f, most = 0;
    for (uint32_t row = 0; row < model->facts.items; row++) {
        float weight = weight_of(model, row);
        if (!(weight > 0 && weight <= 3.40282347e38f)) return;
        if (weight < least) least = weight;
        if (weight > most) most = weight;
    }
    model->least_weight = least, model->most_weight = most;
}

float er_rarity(const er_model *model, uint32_t row, float rarity) {
    float least = model->least_weight, most = weight_of(model, row);
    if (rarity > 0) least = most, most = model->most_weight, rarity = -rarity;
    return (float)power_of((double)most / least, rarity);
}

static void linear(const er_model *model, const uint8_t *history, uint32_t n, float *row, float *sums, float *vector) {
    uint32_t d = model->facts.d;
    memset(sums, 0, d * sizeof *sums);
    for (uint32_t one = 0; er_next(history, model->facts.items, &one); one++) {
        er_scaled_row(&model->lookup, one, row);
        er_add(sums, row, weight_of(model, one), d);
    }
    if (model->power != 0 && n > 1) {
        float share = (float)power_of((double)n, model->power);
        for (uint32_t at = 0; at < d; at++) sums[at] /= share;
    }
    if (model->matrix == NULL) {
        memcpy(vector, sums, d * sizeof *sums);
    } else {
        memset(vector, 0, d * sizeof *vector);
        for (uint32_t in = 0; in < d; in++) {
            size_t first = (size_t)in * d;
            const uint8_t *codes = (const uint8_t *)model->matrix + first;
            for (uint32_t at = 0; model->matrix_in_bytes && at < d; at++) row[at] = (float)(codes[at] - 128);
            if (model->matrix_in_bytes) er_add(vector, row, sums[in] * model->matrix_scale, d);
            else er_add(vector, (const float *)model->matrix + first, sums[in], d);
        }
    }
    if (model->bias) er_add(vector, model->bias, 1, d);
}

static void through_root(const er_model *model, const float *in, float *out) {
    uint32_t d = model->facts.d;
    memset(out, 0, d * sizeof *out);
    for (uint32_t one = 0; one < d; one++) er_add(out, model->root + (size_t)one * d, in[one], d);
}

/* (I + R X'X R) z = (1 + alpha) / alpha R X' 1 by conjugate gradient, and u = R z. */
static void least_squares(const er_model *model, const uint8_t *history, float *row, float *spare, float *vector) {
    uint32_t d = model->facts.d;
    float *left = spare, *direction = left + d, *image = direction + d, *sums = image + d, *turned = sums + d;
    const float tiny = 1.17549435e-38f;
    memset(sums, 0, d * sizeof *sums);
    memset(vector, 0, d * sizeof *vector);
    for (uint32_t one = 0; er_next(history, model->facts.items, &one); one++) {
        er_scaled_row(&model->lookup, one, row);
        er_add(sums, row, 1, d);
    }
    through_root(model, sums, left);
    memcpy(direction, left, d * sizeof *left);
    float error = inner(left, left, d);
    for (uint32_t step = 0; step < model->steps; step++) {
        through_root(model, direction, turned);
        memset(sums, 0, d * sizeof *sums);
        for (uint32_t one = 0; er_next(history, model->facts.items, &one); one++) {
            er_scaled_row(&model->lookup, one, row);
            er_add(sums, row, inner(row, turned, d), d);
        }
        through_root(model, sums, image);
        er_add(image, direction, 1, d);
        float whole = inner(direction, image, d), length = error / (whole > tiny ? whole : tiny), before = error;
        er_add(vector, direction, length, d);
        er_add(left, image, -length, d);
        error = inner(left, left, d);
        float share = error / (before > tiny ? before : tiny);
        for (uint32_t at = 0; at < d; at++) direction[at] = left[at] + share * direction[at];
    }
    for (uint32_t at = 0; at < d; at++) sums[at] = vector[at] * (1 + model->alpha) / model->alpha;
    through_root(model, sums, vector);
}

size_t er_spare(const er_model *model) {
    size_t of_encoder =
        model->encoder == ER_NO_ENCODER ? 0 : (model->encoder == ER_IALS ? 5 : 1) * (size_t)model->facts.d;
    size_t of_scorer = 3 * (size_t)model->widest;
    return of_encoder > of_scorer ? of_encoder : of_scorer;
}

/* Move `*row` to the first set bit from there on; false if there is none below n. */
bool er_next(const uint8_t *bits, uint32_t n, uint32_t *row) {
    for (; *row < n; ++*row) {
        if (bits[*row >> 3] == 0) *row |= 7;
        else if (bits[*row >> 3] >> (*row & 7) & 1) return true;
    }
    return false;
}

er_status er_encoded(const er_model *model, er_work *work, uint32_t n, float *vector) {
    uint32_t d = model->facts.d;
    if (n == 0) memset(vector, 0, d * sizeof *vector);
    else if (model->encoder == ER_LINEAR) linear(model, work->out, n, work->row, work->spare, vector);
    else least_squares(model, work->out, work->row, work->spare, vector);
    for (uint32_t at = 0; at < d; at++)
        if (!(vector[at] - vector[at] == 0)) return ER_TABLES;
    return ER_OK;
}
