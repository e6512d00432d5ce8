// A stand-in for OpenBLAS in the browser: the calls that src/ and experiments/ make, row-major,
// as plain loops. Nothing but the page with the sliders is built with it; there is no BLAS for
// WebAssembly among Debian's packages, and for one head of 512 tokens none is needed.
#ifndef MRA_PAPER_STANDIN_CBLAS_H
#define MRA_PAPER_STANDIN_CBLAS_H

#include <stddef.h>

enum CBLAS_ORDER { CblasRowMajor = 101 };
enum CBLAS_TRANSPOSE { CblasNoTrans = 111, CblasTrans = 112 };

// C[m,n] = alpha op(A) op(B) + beta C; with beta 0 the old C is not read.
void cblas_sgemm(enum CBLAS_ORDER order, enum CBLAS_TRANSPOSE transpose_a,
                 enum CBLAS_TRANSPOSE transpose_b, int m, int n, int k, float alpha,
                 const float *a, int lda, const float *b, int ldb, float beta, float *c,
                 int ldc);
void cblas_dgemm(enum CBLAS_ORDER order, enum CBLAS_TRANSPOSE transpose_a,
                 enum CBLAS_TRANSPOSE transpose_b, int m, int n, int k, double alpha,
                 const double *a, int lda, const double *b, int ldb, double beta, double *c,
                 int ldc);
// There is one thread.
static inline void openblas_set_num_threads(int threads)
{
    (void)threads;
}

#endif
