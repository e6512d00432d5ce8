// Matrix products: which library multiplies what, and why there are two.
//
// Both libraries think in columns, the suite in rows. A row-major matrix is the transpose of
// the column-major matrix in the same memory, and $(AB)^\top = B^\top A^\top$, so a row-major
// product is the column-major one with the operands exchanged. cblas does this by itself; for
// LIBXSMM it is done here: its m is our n, its a is our b.
//
// OpenBLAS copies ("packs") panels of its operands into its own order before it multiplies.
// That is free for large matrices and costs about as much as the arithmetic for a block of 32
// tokens. LIBXSMM packs nothing: it writes machine code for one shape, which then costs a call.
// What it cannot do (version 1.17, float32) is multiply by a transposed right-hand side,
// because the vector register would have to be gathered from a column; a transposed left-hand
// side is only read one number at a time, and runs at full speed. Callers therefore arrange
// their products as A B or A^T B.
//
// Rates in Gflop/s on one core of an AMD EPYC of family 26 (Zen 5, 512-bit registers), median
// of 15; OpenBLAS 0.3.21 running its Haswell kernels (OPENBLAS_CORETYPE=Haswell), which use
// half of a register:
//
//     m x n x k       LIBXSMM A B   LIBXSMM A^T B   OpenBLAS A B   OpenBLAS A B^T
//     16 x 16 x 64        266            265              83              69
//     32 x 32 x 64        273            276             102              91
//     32 x 64 x 32        277            279             107              92
//     64 x 32 x 32        271            273             106              97
//     31 x 33 x 65        187            187              77              69
//     128 x 128 x 64      273            275             123             121
//     256 x 256 x 64      273            265             128             125
//     2048 cubed            -              -             134               -
//
// With OPENBLAS_CORETYPE=SkylakeX the last row reads 255, so LIBXSMM is at the processor's rate
// for every shape whose n is a multiple of 16, a register; for the others it falls to two
// thirds.

#include "tensor/gemm.h"

#include <cblas.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "core/parallel.h"

#if MRA_HAVE_LIBXSMM
#include <libxsmm.h>
#endif

static void blas_product(bool transpose_a, bool transpose_b, int m, int n, int k, float alpha,
                         const float *a, int lda, const float *b, int ldb, float beta, float *c,
                         int ldc)
{
    cblas_sgemm(CblasRowMajor, transpose_a ? CblasTrans : CblasNoTrans,
                transpose_b ? CblasTrans : CblasNoTrans, m, n, k, alpha, a, lda, b, ldb, beta,
                c, ldc);
}

void mra_gemm(bool transpose_a, bool transpose_b, int m, int n, int k, float alpha,
              const float *a, int lda, const float *b, int ldb, float beta, float *c, int ldc)
{
    if (m < 1 || n < 1) return;
    blas_product(transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

#if MRA_HAVE_LIBXSMM
// Machine code for the shape, or NULL where LIBXSMM has none (an older processor, an odd
// stride).
static void (*generate(const mra_small_gemm *gemm))(void)
{
    const float alpha = 1.0f;
    const int flags = gemm->transpose_a ? LIBXSMM_GEMM_FLAG_TRANS_B : LIBXSMM_GEMM_FLAG_NONE;
    const int prefetch = LIBXSMM_PREFETCH_NONE;
    const libxsmm_blasint lda = gemm->ldb, ldb = gemm->lda, ldc = gemm->ldc;
    return (void (*)(void))libxsmm_smmdispatch(gemm->n, gemm->m, gemm->k, &lda, &ldb, &ldc,
                                               &alpha, &gemm->beta, &flags, &prefetch);
}
#else
static void (*generate(const mra_small_gemm *gemm))(void)
{
    (void)gemm;
    return NULL;
}
#endif

static mra_small_gemm prepare(bool transpose_a, int m, int n, int k, int lda, int ldb, int ldc,
                              float beta)
{
    mra_small_gemm gemm = {.transpose_a = transpose_a,
                           .m = m,
                           .n = n,
                           .k = k,
                           .lda = lda,
                           .ldb = ldb,
                           .ldc = ldc,
                           .beta = beta};
    if (m > 0 && n > 0 && k > 0) gemm.generated = generate(&gemm);
    return gemm;
}

mra_small_gemm mra_small_gemm_prepare(int m, int n, int k, int lda, int ldb, int ldc,
                                      float beta)
{
    return prepare(false, m, n, k, lda, ldb, ldc, beta);
}

mra_small_gemm mra_small_gemm_prepare_transposed(int m, int n, int k, int lda, int ldb, int ldc,
                                                 float beta)
{
    return prepare(true, m, n, k, lda, ldb, ldc, beta);
}

void mra_small_gemm_run(const mra_small_gemm *gemm, const float *a, const float *b, float *c)
{
#if MRA_HAVE_LIBXSMM
    if (gemm->generated) {
        ((libxsmm_smmfunction)gemm->generated)(b, a, c);
        return;
    }
#endif
    mra_gemm(gemm->transpose_a, false, gemm->m, gemm->n, gemm->k, 1.0f, a, gemm->lda, b,
             gemm->ldb, gemm->beta, c, gemm->ldc);
}

const char *mra_small_gemm_backend(void)
{
#if MRA_HAVE_LIBXSMM
    mra_small_gemm probe = mra_small_gemm_prepare(32, 32, 64, 64, 32, 32, 0.0f);
    if (probe.generated) return "libxsmm " LIBXSMM_VERSION;
#endif
    return "openblas";
}

void mra_blas_single_thread(void)
{
    openblas_set_num_threads(1);
}

// ---- The yardstick
// ------------------------------------------------------------------------------

typedef struct rate_run {
    int size, threads;
    const float *a, *b;
    float *c;
} rate_run;

// Thread `item` multiplies its rows of A by the whole of B.
static void rate_share(void *context, size_t item, int thread)
{
    (void)thread;
    const rate_run *run = context;
    const int begin = (int)(item * (size_t)run->size / (size_t)run->threads);
    const int end = (int)((item + 1) * (size_t)run->size / (size_t)run->threads);
    const size_t start = (size_t)begin * (size_t)run->size;
    mra_gemm(false, false, end - begin, run->size, run->size, 1.0f, run->a + start, run->size,
             run->b, run->size, 0.0f, run->c + start, run->size);
}

static int ascending(const void *left, const void *right)
{
    const double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

double mra_sgemm_rate(int size, int threads)
{
    enum { RUNS = 7 };
    if (size < 1) return 0.0;
    if (threads < 1) threads = mra_default_threads();
    const size_t entries = (size_t)size * (size_t)size;
    float *memory = mra_aligned_calloc(3 * entries, sizeof(float));
    if (!memory) return 0.0;
    for (size_t i = 0; i < 2 * entries; i++) memory[i] = (float)(i % 17) - 8.0f;
    rate_run run = {size, threads, memory, memory + entries, memory + 2 * entries};
    const double operations = 2.0 * (double)entries * (double)size;
    double rate[RUNS];
    mra_parallel_for(threads, (size_t)threads, rate_share,
                     &run); // wakes threads, touches memory
    for (int i = 0; i < RUNS; i++) {
        const double start = omp_get_wtime();
        mra_parallel_for(threads, (size_t)threads, rate_share, &run);
        rate[i] = operations / (omp_get_wtime() - start) * 1e-9;
    }
    mra_aligned_free(memory);
    qsort(rate, RUNS, sizeof rate[0], ascending);
    return rate[RUNS / 2];
}
