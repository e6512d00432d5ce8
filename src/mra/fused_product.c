// ## Products of a tile, and what comes after them
//
// A row of blocks visits key blocks that lie anywhere. As long as the keys and values of a head
// fit a cache, that costs nothing. Beyond, every block comes from main memory in an order that
// the processor cannot foresee, and waiting for it would take as long as computing with it. But
// the list of boxes says what comes next. So each product of a tile is carried out in four
// pieces, and before each piece some cache lines of the next tile's blocks are asked for: never
// more at once than the processor can have under way (a few dozen), else asking itself would
// have to wait. (At $n=65536$, $d=64$, 8 blocks a row, on one core of the machine of the table
// in tensor/gemm.c, the backward pass of a head takes 138 ms without this, 86 ms with it.) The
// pieces share no sum, so the result stays the same. Where a head fits a cache, the products
// are whole, and what is asked for meanwhile is the beginning of the next row.

#include "mra/fused.h"

enum {
    PIECES = 4,
    CACHE_BYTES = 4 << 20, // keys and values of a head that may be expected to stay in a cache
    LINE = 16              // floats in a cache line
};

bool mra_fused_scattered(int n, int d)
{
    return (size_t)n * (size_t)d * 2 * sizeof(float) > CACHE_BYTES;
}

void mra_fused_products_prepare(mra_fused_plan *plan)
{
    int s = plan->scale, d = plan->d, lanes = plan->lanes;
    int pieces = plan->scattered && s % PIECES == 0 ? PIECES : 1, rows = s / pieces;
    size_t share = (size_t)rows;
    plan->inner =
        (mra_fused_product){mra_small_gemm_prepare(rows, lanes, d, d, lanes, lanes, 0), pieces,
                            share * d, share * lanes};
    plan->to_row =
        (mra_fused_product){mra_small_gemm_prepare_transposed(rows, d, s, lanes, d, d, 1),
                            pieces, share, share * d};
    plan->to_key = (mra_fused_product){mra_small_gemm_prepare(rows, d, s, lanes, d, d, 1),
                                       pieces, share * lanes, share * d};
}

// Asks for the next lines of the blocks ahead.
static inline void fetch(mra_fused_ahead *ahead)
{
    for (int left = ahead->share; left > 0 && ahead->block < ahead->blocks; left--) {
        __builtin_prefetch(ahead->rows[ahead->block] + ahead->next, 0, 2);
        ahead->next += LINE;
        if (ahead->next < ahead->size) continue;
        ahead->next = 0;
        ahead->block++;
    }
}

mra_fused_ahead mra_fused_look_ahead(const mra_fused_plan *plan, int products, int blocks,
                                     const float *const *rows)
{
    mra_fused_ahead ahead = {.size = (size_t)plan->scale * plan->d};
    if (products == 0) return ahead;
    for (int i = 0; i < blocks; i++) ahead.rows[i] = rows[i];
    ahead.blocks = blocks;
    size_t lines = (size_t)blocks * ((ahead.size + LINE - 1) / LINE);
    int pieces = products * plan->inner.pieces;
    ahead.share = ((int)lines + pieces - 1) / pieces;
    return ahead;
}

void mra_fused_multiply(const mra_fused_product *product, const float *a, const float *b,
                        float *c, mra_fused_ahead *ahead)
{
    for (int p = 0; p < product->pieces; p++) {
        fetch(ahead);
        mra_small_gemm_run(&product->gemm, a + (size_t)p * product->a_step, b,
                           c + (size_t)p * product->c_step);
    }
}
