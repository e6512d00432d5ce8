// Locality-sensitive hashing on the cpu: codes, and lists sorted by code.
//
// Both families project a row on random directions. *Signs* (Charikar, "Similarity estimation
// techniques from rounding algorithms", 2002) keep the side of each hyperplane, one bit each,
// so that two rows at an angle $\theta$ agree in a bit with probability $1 - \theta/\pi$.
// *Rotations* (Andoni et al., "Practical and optimal LSH for angular distance", 2015, the
// cross-polytope hash) keep which of the directions $\pm e_1, \pm e_2, \dots$ is nearest. The
// projections of a slice of rows on all functions of its head are one matrix product.
//
// Codes are sorted by counting, which is stable and needs no comparison.

#include <string.h>

#include "tensor/cpu.h"
#include "tensor/gemm.h"

enum { SLICE = 128 };

typedef struct hash_context {
    const mra_hash_form *form;
    size_t slices;
    const float *x, *directions;
    const int32_t *widths; // of the examples, or NULL
    const uint8_t *mask;
    int32_t *codes;
    float *scratch; // SLICE * hashes * width per thread
    bool rotations;
} hash_context;

static int32_t sign_code(int width, const float *p)
{
    int32_t code = 0;
    for (int b = 0; b < width; b++) code |= (int32_t)(p[b] > 0.0f) << b;
    return code;
}

static int32_t axis_code(int width, const float *p)
{
    int up = 0, down = 0;
    for (int b = 1; b < width; b++) {
        if (p[b] > p[up]) up = b;
        if (p[b] < p[down]) down = b;
    }
    return -p[down] > p[up] ? width + down : up;
}

static void hash_item(void *context, size_t item, int thread)
{
    const hash_context *c = context;
    const mra_hash_form *form = c->form;
    const size_t matrix = item / c->slices, n = (size_t)form->n, d = (size_t)form->d;
    const size_t heads = (size_t)form->heads, all = (size_t)(form->hashes * form->width);
    const size_t head = matrix % heads;
    const int width = c->widths ? c->widths[matrix / heads] : form->width;
    const mra_range range = mra_range_of(item % c->slices, SLICE, n);
    float *p = c->scratch + (size_t)thread * SLICE * all;
    mra_gemm(false, true, (int)(range.end - range.begin), (int)all, form->d, 1.0f,
             c->x + (matrix * n + range.begin) * d, form->d, c->directions + head * all * d,
             form->d, 0.0f, p, (int)all);
    for (size_t i = range.begin; i < range.end; i++, p += all) {
        const bool out = c->mask && !c->mask[matrix / heads * n + i];
        int32_t *code = c->codes + matrix * (size_t)form->hashes * n + i;
        for (int h = 0; h < form->hashes; h++, code += n) {
            const float *own = p + h * form->width;
            *code = out            ? -1
                    : c->rotations ? 2 * form->width * h + axis_code(width, own)
                                   : sign_code(form->width, own);
        }
    }
}

static mra_status run(mra_device *device, hash_context *context, mra_error *err)
{
    const mra_hash_form *form = context->form;
    const size_t all = (size_t)(form->hashes * form->width);
    context->slices = mra_items((size_t)form->n, SLICE);
    context->scratch = mra_cpu_scratch(device, (size_t)device->threads * SLICE * all,
                                       sizeof(float), "hashing", err);
    if (!context->scratch) return MRA_NO_MEMORY;
    mra_cpu_loop(device, form->batch * (size_t)form->heads * context->slices, hash_item,
                 context);
    return MRA_OK;
}

mra_status mra_cpu_hash_signs(mra_device *device, const mra_hash_form *form, const float *x,
                              const float *planes, const uint8_t *mask, int32_t *codes,
                              mra_error *err)
{
    hash_context context = {
        .form = form, .x = x, .directions = planes, .mask = mask, .codes = codes};
    return run(device, &context, err);
}

mra_status mra_cpu_hash_rotations(mra_device *device, const mra_hash_form *form, const float *x,
                                  const float *rotations, const int32_t *widths,
                                  const uint8_t *mask, int32_t *codes, mra_error *err)
{
    hash_context context = {.form = form,
                            .x = x,
                            .directions = rotations,
                            .widths = widths,
                            .mask = mask,
                            .codes = codes,
                            .rotations = true};
    return run(device, &context, err);
}

// ---- Sorting --------------------------------------------------------------------------------

void mra_cpu_sort_list(int length, int range, const int32_t *codes, int32_t *order,
                       int32_t *start)
{
    memset(start, 0, (size_t)(range + 1) * sizeof *start);
    for (int i = 0; i < length; i++)
        if (codes[i] >= 0) start[codes[i] + 1]++;
    for (int c = 0; c < range; c++) start[c + 1] += start[c];
    for (int i = 0; i < length; i++)
        if (codes[i] >= 0) order[start[codes[i]]++] = i;
    memmove(start + 1, start, (size_t)range * sizeof *start);
    start[0] = 0;
}

typedef struct sort_context {
    int length, range;
    const int32_t *codes;
    int32_t *order, *start;
} sort_context;

static void sort_item(void *context, size_t item, int thread)
{
    (void)thread;
    const sort_context *c = context;
    const size_t at = item * (size_t)c->length;
    mra_cpu_sort_list(c->length, c->range, c->codes + at, c->order + at,
                      c->start + item * (size_t)(c->range + 1));
}

mra_status mra_cpu_sort_by_code(mra_device *device, size_t lists, int length, int range,
                                const int32_t *codes, int32_t *order, int32_t *start,
                                mra_error *err)
{
    (void)err;
    sort_context context = {length, range, codes, order, start};
    mra_cpu_loop(device, lists, sort_item, &context);
    return MRA_OK;
}
