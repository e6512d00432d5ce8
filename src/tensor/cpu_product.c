// Matrix products of the cpu device.
//
// The rows of a linear layer (batch times tokens: tens of thousands) are cut into slices of
// 128, a product each. For the widths of a small encoder (64, 128, ...) such a product is
// generated code (tensor/gemm.h, mra_small_gemm) and its operands stay in the first two caches;
// the wide layers of larger models go to BLAS. Neither library multiplies quickly by a
// transposed right-hand side, so y = x W^T first turns W over: a few thousand numbers against
// millions.
//
// The gradient of the weight, dW = dy^T x, is a sum over all rows. It is cut into parts that
// depend on the shape alone; each part is summed on its own and the parts are added in their
// order.

#include <string.h>

#include "tensor/cpu.h"
#include "tensor/gemm.h"

enum {
    SLICE = 128,           // rows of one product
    ITEM_SLICES = 4,       // slices of one item
    SMALL = 256,           // widest layer whose products are generated code
    PART_ROWS = 4096,      // rows of one part of a weight's gradient, at least
    MOST_PARTS = 16,       // parts of a weight's gradient, at most
    PART_FLOATS = 1 << 22, // working memory for the parts, at most
    OUT_BLOCK = 256        // rows of dW that one item computes
};

static int smaller(int a, int b)
{
    return a < b ? a : b;
}

// C[m,n] (+)= A B or A^T B for a slice; ragged slices and wide layers go to BLAS.
typedef struct slice_product {
    bool transpose_a, add;
    int m, n, k, lda, ldb, ldc;
    mra_small_gemm small;
} slice_product;

static slice_product prepare_slice(bool transpose_a, int m, int n, int k, int lda, int ldb,
                                   int ldc, bool add)
{
    slice_product slice = {transpose_a, add, m, n, k, lda, ldb, ldc, {0}};
    if (m > SMALL || n > SMALL || k > SMALL) return slice;
    const float beta = add ? 1.0f : 0.0f;
    slice.small = transpose_a ? mra_small_gemm_prepare_transposed(m, n, k, lda, ldb, ldc, beta)
                              : mra_small_gemm_prepare(m, n, k, lda, ldb, ldc, beta);
    return slice;
}

// Multiplies `rows` rows of A (of A as stored when it is transposed: then k is ragged, not m).
static void run_slice(const slice_product *slice, int rows, const float *a, const float *b,
                      float *c)
{
    if (slice->small.generated && rows == (slice->transpose_a ? slice->k : slice->m)) {
        mra_small_gemm_run(&slice->small, a, b, c);
        return;
    }
    mra_gemm(slice->transpose_a, false, slice->transpose_a ? slice->m : rows, slice->n,
             slice->transpose_a ? rows : slice->k, 1.0f, a, slice->lda, b, slice->ldb,
             slice->add ? 1.0f : 0.0f, c, slice->ldc);
}

// ---- y = x B + bias, for B = W^T (forward) or W (backward) ----------------------------------

typedef struct rows_context {
    size_t rows;
    int in, out;
    const float *x, *matrix, *bias;
    float *y;
    bool add;
    slice_product product;
} rows_context;

static void rows_item(void *context, size_t item, int thread)
{
    (void)thread;
    const rows_context *c = context;
    const mra_range range = mra_range_of(item, SLICE * ITEM_SLICES, c->rows);
    const size_t in = (size_t)c->in, out = (size_t)c->out;
    for (size_t row = range.begin; row < range.end; row += SLICE) {
        const size_t rows = range.end - row < SLICE ? range.end - row : SLICE;
        float *y = c->y + row * out;
        for (size_t i = 0; c->bias && i < rows; i++)
            memcpy(y + i * out, c->bias, out * sizeof *y);
        run_slice(&c->product, (int)rows, c->x + row * in, c->matrix, y);
    }
}

static void multiply_rows(mra_device *device, rows_context *context)
{
    context->product = prepare_slice(false, SLICE, context->out, context->in, context->in,
                                     context->out, context->out, context->add || context->bias);
    mra_cpu_loop(device, mra_items(context->rows, SLICE * ITEM_SLICES), rows_item, context);
}

static void transpose(int rows, int columns, const float *from, float *to)
{
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++)
            to[(size_t)j * (size_t)rows + (size_t)i] =
                from[(size_t)i * (size_t)columns + (size_t)j];
}

mra_status mra_cpu_linear(mra_device *device, size_t rows, int in, int out, const float *x,
                          const float *w, const float *b, float *y, mra_error *err)
{
    float *turned =
        mra_cpu_scratch(device, (size_t)in * (size_t)out, sizeof *turned, "linear", err);
    if (!turned) return MRA_NO_MEMORY;
    transpose(out, in, w, turned);
    multiply_rows(
        device,
        &(rows_context){
            .rows = rows, .in = in, .out = out, .x = x, .matrix = turned, .bias = b, .y = y});
    return MRA_OK;
}

mra_status mra_cpu_linear_backward_input(mra_device *device, size_t rows, int in, int out,
                                         const float *dy, const float *w, float *dx, bool add,
                                         mra_error *err)
{
    (void)err;
    multiply_rows(
        device,
        &(rows_context){
            .rows = rows, .in = out, .out = in, .x = dy, .matrix = w, .y = dx, .add = add});
    return MRA_OK;
}

// ---- dW += dy^T x ---------------------------------------------------------------------------

typedef struct weight_context {
    size_t rows, parts;
    int in, out, blocks; // blocks: items per part, each OUT_BLOCK rows of dW
    const float *dy, *x;
    float *part; // [parts, out, in]
    slice_product product;
} weight_context;

static void weight_item(void *context, size_t item, int thread)
{
    (void)thread;
    const weight_context *c = context;
    const size_t part = item / (size_t)c->blocks, first = item % (size_t)c->blocks * OUT_BLOCK;
    const size_t in = (size_t)c->in, out = (size_t)c->out;
    const size_t height = out - first < OUT_BLOCK ? out - first : OUT_BLOCK;
    const size_t per_part = mra_items(mra_items(c->rows, SLICE), c->parts) * SLICE;
    if (part * per_part >= c->rows) return;
    const mra_range range = mra_range_of(part, per_part, c->rows);
    float *dw = c->part + (part * out + first) * in;
    slice_product product = c->product;
    product.m = (int)height;
    if (height != (size_t)c->product.m) product.small.generated = NULL;
    for (size_t row = range.begin; row < range.end; row += SLICE) {
        const size_t rows = range.end - row < SLICE ? range.end - row : SLICE;
        run_slice(&product, (int)rows, c->dy + row * out + first, c->x + row * in, dw);
    }
}

static size_t weight_parts(size_t rows, int in, int out)
{
    const size_t size = (size_t)in * (size_t)out;
    size_t parts = mra_items(rows, PART_ROWS);
    if (parts > MOST_PARTS) parts = MOST_PARTS;
    while (parts > 1 && parts * size > PART_FLOATS) parts /= 2;
    return parts;
}

mra_status mra_cpu_linear_backward_weight(mra_device *device, size_t rows, int in, int out,
                                          const float *dy, const float *x, float *dw,
                                          mra_error *err)
{
    const size_t size = (size_t)in * (size_t)out, parts = weight_parts(rows, in, out);
    float *part = mra_cpu_scratch(device, parts * size, sizeof *part, "linear, backward", err);
    if (!part) return MRA_NO_MEMORY;
    memset(part, 0, parts * size * sizeof *part);
    weight_context context = {
        .rows = rows,
        .parts = parts,
        .in = in,
        .out = out,
        .blocks = (int)mra_items((size_t)out, OUT_BLOCK),
        .dy = dy,
        .x = x,
        .part = part,
        .product = prepare_slice(true, smaller(out, OUT_BLOCK), in, SLICE, out, in, in, true),
    };
    mra_cpu_loop(device, parts * (size_t)context.blocks, weight_item, &context);
    mra_cpu_add_parts(device, parts, size, part, dw);
    return MRA_OK;
}

// ---- Column sums: the gradient of a bias ----------------------------------------------------

typedef struct columns_context {
    size_t rows;
    int width;
    const float *x;
    float *part;
} columns_context;

enum { COLUMN_ROWS = 1024 }; // rows of a partial sum

static void columns_item(void *context, size_t item, int thread)
{
    (void)thread;
    const columns_context *c = context;
    const size_t width = (size_t)c->width;
    const mra_range range = mra_range_of(item, COLUMN_ROWS, c->rows);
    mra_cpu_sum_rows(range.end - range.begin, width, c->x + range.begin * width, width, NULL,
                     c->part + item * width);
}

mra_status mra_cpu_add_column_sums(mra_device *device, size_t rows, int width, const float *x,
                                   float *y, mra_error *err)
{
    const size_t parts = mra_items(rows, COLUMN_ROWS);
    float *part =
        mra_cpu_scratch(device, parts * (size_t)width, sizeof *part, "column sums", err);
    if (!part) return MRA_NO_MEMORY;
    columns_context context = {rows, width, x, part};
    mra_cpu_loop(device, parts, columns_item, &context);
    mra_cpu_add_parts(device, parts, (size_t)width, part, y);
    return MRA_OK;
}

// ---- Batched products -----------------------------------------------------------------------

enum { GEMM_ROWS = 256 }; // rows of C that one item computes

typedef struct gemm_context {
    const mra_product *product;
    size_t blocks; // items per product
    const float *a, *b;
    float *c;
    bool add;
} gemm_context;

static void gemm_item(void *context, size_t item, int thread)
{
    (void)thread;
    const gemm_context *c = context;
    const mra_product *p = c->product;
    const size_t m = (size_t)p->m, n = (size_t)p->n, k = (size_t)p->k;
    const size_t matrix = item / c->blocks, first = item % c->blocks * GEMM_ROWS;
    const float *a = c->a + matrix * m * k + (p->transpose_a ? first : first * k);
    const float *b = c->b + matrix * k * n;
    const int rows = smaller(p->m - (int)first, GEMM_ROWS);
    mra_gemm(p->transpose_a, p->transpose_b, rows, p->n, p->k, p->alpha, a,
             p->transpose_a ? p->m : p->k, b, p->transpose_b ? p->k : p->n,
             c->add ? 1.0f : 0.0f, c->c + matrix * m * n + first * n, p->n);
}

mra_status mra_cpu_gemm(mra_device *device, const mra_product *product, const float *a,
                        const float *b, float *c, bool add, mra_error *err)
{
    (void)err;
    gemm_context context = {product, mra_items((size_t)product->m, GEMM_ROWS), a, b, c, add};
    mra_cpu_loop(device, product->batch * context.blocks, gemm_item, &context);
    return MRA_OK;
}
