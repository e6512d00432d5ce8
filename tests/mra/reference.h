// Two-scale MRA attention by definition, in float64 and without any shortcut: J by sorting
// scores, A-hat entry by entry, the gradients from the dense matrix. What the fused path is
// held against; shares no code with it.
#ifndef MRA_TESTS_REFERENCE_H
#define MRA_TESTS_REFERENCE_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mra/mra.h"

// One head of n tokens of width d; R = {s, 1}.
typedef struct reference {
    int n, d, s, blocks;
    double logit_scale;
    bool sparse;
    const uint8_t *mask;      // [n] or NULL
    bool *refined;            // [blocks, blocks]
    double *weight;           // [n, n]: D^-1 A-hat
    double *z, *dq, *dk, *dv; // [n, d]
    double gap;               // score of the worst box taken less that of the best box left
} reference;

static inline void *reference_alloc(size_t count, size_t size)
{
    void *memory = calloc(count ? count : 1, size);
    assert_non_null(memory);
    return memory;
}

static inline bool reference_present(const reference *r, int i)
{
    return r->mask == NULL || r->mask[i] != 0;
}

static inline int reference_count(const reference *r, int x)
{
    int count = 0;
    for (int i = x * r->s; i < r->n && i < (x + 1) * r->s; i++)
        count += reference_present(r, i);
    return count;
}

// Mean over the present rows of block x.
static inline void reference_mean(const reference *r, const double *rows, int x, double *mean)
{
    int count = reference_count(r, x);
    memset(mean, 0, (size_t)r->d * sizeof *mean);
    for (int i = x * r->s; i < r->n && i < (x + 1) * r->s; i++)
        for (int c = 0; c < r->d && reference_present(r, i); c++)
            mean[c] += rows[(size_t)i * r->d + c] / count;
}

static inline double reference_dot(const double *a, const double *b, int d)
{
    double sum = 0;
    for (int c = 0; c < d; c++) sum += a[c] * b[c];
    return sum;
}

// Coarse logits [blocks, blocks] from rounded inputs.
static inline double *reference_coarse(const reference *r, const double *q, const double *k)
{
    int b = r->blocks, d = r->d;
    double *mean = reference_alloc((size_t)2 * b * d, sizeof *mean);
    double *logit = reference_alloc((size_t)b * b, sizeof *logit);
    for (int x = 0; x < b; x++) {
        reference_mean(r, q, x, mean + (size_t)x * d);
        reference_mean(r, k, x, mean + (size_t)(b + x) * d);
    }
    for (int x = 0; x < b; x++)
        for (int y = 0; y < b; y++)
            logit[x * b + y] = r->logit_scale * reference_dot(mean + (size_t)x * d,
                                                              mean + (size_t)(b + y) * d, d);
    free(mean);
    return logit;
}

typedef struct reference_box {
    int index, named; // named: by a prior
    double score;
} reference_box;

static inline int reference_compare(const void *left, const void *right)
{
    const reference_box *a = left, *b = right;
    if (a->named != b->named) return b->named - a->named;
    if (a->score != b->score) return a->score < b->score ? 1 : -1;
    return a->index - b->index;
}

// For the ranking by spread: the variance of the logits of box (x, y), from the variances of each
// coordinate in the two blocks, and the logarithm of the mean of exp(l * deviation).
static inline double reference_variance(const reference *r, const double *q, const double *k,
                                        int x, int y)
{
    double sum = 0;
    for (int c = 0; c < r->d; c++) {
        double mean[2] = {0, 0}, variance[2] = {0, 0};
        for (int a = 0; a < 2; a++) {
            const double *rows = a ? k : q;
            const int block = a ? y : x, count = reference_count(r, block);
            for (int pass = 0; pass < 2; pass++)
                for (int i = block * r->s; i < r->n && i < (block + 1) * r->s; i++) {
                    if (!reference_present(r, i)) continue;
                    const double value = rows[(size_t)i * r->d + c];
                    if (pass == 0) mean[a] += value / count;
                    if (pass == 1) variance[a] += pow(value - mean[a], 2) / count;
                }
        }
        sum +=
            variance[0] * (mean[1] * mean[1] + variance[1]) + mean[0] * mean[0] * variance[1];
    }
    return sum * r->logit_scale * r->logit_scale;
}

static inline double reference_log_mean(double l, double variance, double entries)
{
    const double scaled = l * sqrt(variance), edge = sqrt(2 * log(entries));
    return scaled <= edge ? scaled * scaled / 2 : scaled * edge - log(entries);
}

// J: the m best of all boxes that have a query and a key.
static inline void reference_select(reference *r, const mra_options *options,
                                    const double *logit, const double *q, const double *k)
{
    int b = r->blocks, count = 0, rows = 0;
    for (int x = 0; x < b; x++) rows += options->count_padding || reference_count(r, x) > 0;
    reference_box *list = reference_alloc((size_t)b * b, sizeof *list);
    for (int x = 0; x < b; x++) {
        double largest = -INFINITY;
        for (int y = 0; y < b; y++) {
            if (reference_count(r, x) == 0 || reference_count(r, y) == 0) continue;
            double raise = 0;
            if (options->ranking == MRA_RANK_SPREAD)
                raise = reference_log_mean(1, reference_variance(r, q, k, x, y),
                                           reference_count(r, x) * reference_count(r, y));
            largest = fmax(largest, logit[x * b + y] + raise);
        }
        for (int y = 0; y < b; y++) {
            if (reference_count(r, x) == 0 || reference_count(r, y) == 0) continue;
            reference_box box = {.index = x * b + y, .score = logit[x * b + y]};
            if (options->ranking == MRA_RANK_ROW) box.score -= largest;
            if (options->ranking == MRA_RANK_SPREAD) {
                const double variance = reference_variance(r, q, k, x, y);
                const double entries = reference_count(r, x) * reference_count(r, y);
                box.score = 2 * (box.score - largest) +
                            reference_log_mean(2, variance, entries) +
                            log(variance / (1 + variance) + 1e-38) + log(entries);
            }
            box.named = x < options->first || y < options->first ||
                        (options->diagonal > 0 && abs(x - y) <= (options->diagonal - 1) / 2);
            list[count++] = box;
        }
    }
    qsort(list, (size_t)count, sizeof *list, reference_compare);
    int m = options->scales == 1 ? count : (int)floor(options->blocks[1] * rows + 0.5);
    r->gap = INFINITY;
    if (m > 0 && m < count && list[m - 1].named == list[m].named && list[m].score != 0)
        r->gap = list[m - 1].score - list[m].score;
    for (int i = 0; i < m && i < count; i++) r->refined[list[i].index] = true;
    free(list);
}

// The weights D^-1 A-hat.
static inline void reference_weights(reference *r, const double *q, const double *k,
                                     const double *coarse)
{
    int n = r->n, d = r->d;
    for (int i = 0; i < n; i++) {
        double *row = r->weight + (size_t)i * n, largest = -INFINITY, sum = 0;
        for (int j = 0; j < n; j++) {
            int box = i / r->s * r->blocks + j / r->s;
            row[j] = -INFINITY;
            if (!reference_present(r, i) || !reference_present(r, j)) continue;
            if (r->refined[box])
                row[j] =
                    r->logit_scale * reference_dot(q + (size_t)i * d, k + (size_t)j * d, d);
            else if (!r->sparse)
                row[j] = coarse[box];
            largest = fmax(largest, row[j]);
        }
        for (int j = 0; j < n; j++) {
            row[j] = largest == -INFINITY ? 0 : exp(row[j] - largest);
            sum += row[j];
        }
        for (int j = 0; j < n && sum > 0; j++) row[j] /= sum;
    }
}

static inline void reference_output(reference *r, const double *v)
{
    for (int i = 0; i < r->n; i++)
        for (int j = 0; j < r->n; j++) {
            double weight = r->weight[(size_t)i * r->n + j];
            for (int c = 0; c < r->d && weight != 0; c++)
                r->z[(size_t)i * r->d + c] += weight * v[(size_t)j * r->d + c];
        }
}

// From the gradients of the logits of every pair: refined pairs give to their own query and
// key, coarse ones to all of the two blocks, in equal parts.
static inline void reference_gradients(reference *r, const double *q, const double *k,
                                       const double *v, const double *dz)
{
    int n = r->n, d = r->d, b = r->blocks;
    double *box = reference_alloc((size_t)b * b, sizeof *box);
    double *mean = reference_alloc((size_t)2 * d, sizeof *mean);
    for (int i = 0; i < n; i++) {
        const double *gi = dz + (size_t)i * d;
        double product = reference_dot(gi, r->z + (size_t)i * d, d);
        for (int j = 0; j < n; j++) {
            double p = r->weight[(size_t)i * n + j];
            if (p == 0) continue;
            double dlogit = p * (reference_dot(gi, v + (size_t)j * d, d) - product);
            for (int c = 0; c < d; c++) r->dv[(size_t)j * d + c] += p * gi[c];
            if (!r->refined[i / r->s * b + j / r->s]) {
                box[i / r->s * b + j / r->s] += dlogit;
                continue;
            }
            for (int c = 0; c < d; c++) {
                r->dq[(size_t)i * d + c] += r->logit_scale * dlogit * k[(size_t)j * d + c];
                r->dk[(size_t)j * d + c] += r->logit_scale * dlogit * q[(size_t)i * d + c];
            }
        }
    }
    for (int x = 0; x < b; x++)
        for (int y = 0; y < b; y++) {
            if (box[x * b + y] == 0) continue;
            reference_mean(r, q, x, mean);
            reference_mean(r, k, y, mean + d);
            double dx = r->logit_scale * box[x * b + y] / reference_count(r, x);
            double dy = r->logit_scale * box[x * b + y] / reference_count(r, y);
            for (int i = x * r->s; i < n && i < (x + 1) * r->s; i++)
                for (int c = 0; c < d && reference_present(r, i); c++)
                    r->dq[(size_t)i * d + c] += dx * mean[d + c];
            for (int j = y * r->s; j < n && j < (y + 1) * r->s; j++)
                for (int c = 0; c < d && reference_present(r, j); c++)
                    r->dk[(size_t)j * d + c] += dy * mean[c];
        }
    free(box);
    free(mean);
}

// Everything for one head. J is chosen here, or taken from `refined` [blocks, blocks] if that
// is not NULL. dz may be NULL.
static inline reference reference_make(const mra_options *options, int n, int d,
                                       const double *q, const double *k, const double *v,
                                       const uint8_t *mask, const double *dz,
                                       const bool *refined)
{
    reference r = {
        .n = n, .d = d, .s = options->scale[0], .sparse = options->sparse, .mask = mask};
    r.blocks = (n + r.s - 1) / r.s;
    r.logit_scale = options->logit_scale != 0 ? options->logit_scale : 1 / sqrt(d);
    size_t size = (size_t)n * d;
    r.refined = reference_alloc((size_t)r.blocks * r.blocks, sizeof *r.refined);
    r.weight = reference_alloc((size_t)n * n, sizeof *r.weight);
    r.z = reference_alloc(4 * size, sizeof *r.z);
    r.dq = r.z + size;
    r.dk = r.dq + size;
    r.dv = r.dk + size;
    double *coarse = reference_coarse(&r, q, k);
    if (refined)
        memcpy(r.refined, refined, (size_t)r.blocks * r.blocks * sizeof *refined);
    else
        reference_select(&r, options, coarse, q, k);
    reference_weights(&r, q, k, coarse);
    reference_output(&r, v);
    if (dz) reference_gradients(&r, q, k, v, dz);
    free(coarse);
    return r;
}

static inline void reference_free(reference *r)
{
    free(r->refined);
    free(r->weight);
    free(r->z);
}

// ||a - b|| / ||b||, or ||a - b|| if b is all zero.
static inline double reference_distance(const float *a, const double *b, size_t count)
{
    double difference = 0, norm = 0;
    for (size_t i = 0; i < count; i++) {
        difference += (a[i] - b[i]) * (a[i] - b[i]);
        norm += b[i] * b[i];
    }
    return sqrt(norm > 0 ? difference / norm : difference);
}

#endif
