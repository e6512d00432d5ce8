// Matrix products on the host. All matrices are row-major; every call runs on the calling
// thread alone, so that parallel loops stay deterministic (core/parallel.h).
//
// Two libraries share the work: OpenBLAS for products of any size, and LIBXSMM, where the build
// found it and the processor has what it needs, for the many small products of fixed shape in
// block attention: it generates machine code for exactly that shape, and a call costs no
// packing and no dispatch.
#ifndef MRA_TENSOR_GEMM_H
#define MRA_TENSOR_GEMM_H

#include <stdbool.h>

// C[m,n] = alpha op(A) op(B) + beta C, with op(A) m x k and op(B) k x n; lda, ldb, ldc are the
// distances in floats between rows as stored.
void mra_gemm(bool transpose_a, bool transpose_b, int m, int n, int k, float alpha,
              const float *a, int lda, const float *b, int ldb, float beta, float *c, int ldc);

// A product of one fixed shape, C = A B + beta C or C = A^T B + beta C, with beta 0 or 1.
// Prepare it once (about 0.1 ms for a shape that was never seen, then a table look-up) and call
// it many times; it holds no memory of its own and may be shared by threads. With beta 0 the
// old C is not read. It is fastest when n is a multiple of 16.
typedef struct mra_small_gemm {
    bool transpose_a;
    int m, n, k, lda, ldb, ldc;
    float beta;
    void (*generated)(void); // machine code from LIBXSMM, or NULL: OpenBLAS
} mra_small_gemm;

// A as stored: m x k.
mra_small_gemm mra_small_gemm_prepare(int m, int n, int k, int lda, int ldb, int ldc,
                                      float beta);
// A as stored: k x m.
mra_small_gemm mra_small_gemm_prepare_transposed(int m, int n, int k, int lda, int ldb, int ldc,
                                                 float beta);
void mra_small_gemm_run(const mra_small_gemm *gemm, const float *a, const float *b, float *c);
// Whether small products run on LIBXSMM here ("libxsmm 1.17"), or on OpenBLAS ("openblas"), for
// reports.
const char *mra_small_gemm_backend(void);

// Sets OpenBLAS's own number of threads to one, for programs (the library never changes it by
// itself).
void mra_blas_single_thread(void);
// Billions of floating-point operations a second of a large square product on `threads`
// threads, each doing its share of the rows; median of several runs: the yardstick that
// benchmarks print beside their own rate. Call mra_blas_single_thread() first. 0 when there is
// no memory for three matrices.
double mra_sgemm_rate(int size, int threads);

#endif
