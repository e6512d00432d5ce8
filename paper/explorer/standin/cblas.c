// Matrix products as loops; see cblas.h. One entry of op(A) scales one row of op(B), which the
// compiler turns into vector code where B's rows are contiguous.
#include "cblas.h"

void cblas_sgemm(enum CBLAS_ORDER order, enum CBLAS_TRANSPOSE transpose_a,
                 enum CBLAS_TRANSPOSE transpose_b, int m, int n, int k, float alpha,
                 const float *a, int lda, const float *b, int ldb, float beta, float *c,
                 int ldc)
{
    (void)order;
    for (int i = 0; i < m; i++) {
        float *row = c + (size_t)i * (size_t)ldc;
        for (int j = 0; j < n; j++) row[j] = beta == 0 ? 0 : beta * row[j];
        for (int l = 0; l < k; l++) {
            size_t at = transpose_a == CblasTrans ? (size_t)l * (size_t)lda + (size_t)i
                                                  : (size_t)i * (size_t)lda + (size_t)l;
            float factor = alpha * a[at];
            size_t step = transpose_b == CblasTrans ? (size_t)ldb : 1;
            const float *from =
                b + (transpose_b == CblasTrans ? (size_t)l : (size_t)l * (size_t)ldb);
            for (int j = 0; j < n; j++) row[j] += factor * from[(size_t)j * step];
        }
    }
}

void cblas_dgemm(enum CBLAS_ORDER order, enum CBLAS_TRANSPOSE transpose_a,
                 enum CBLAS_TRANSPOSE transpose_b, int m, int n, int k, double alpha,
                 const double *a, int lda, const double *b, int ldb, double beta, double *c,
                 int ldc)
{
    (void)order;
    for (int i = 0; i < m; i++) {
        double *row = c + (size_t)i * (size_t)ldc;
        for (int j = 0; j < n; j++) row[j] = beta == 0 ? 0 : beta * row[j];
        for (int l = 0; l < k; l++) {
            size_t at = transpose_a == CblasTrans ? (size_t)l * (size_t)lda + (size_t)i
                                                  : (size_t)i * (size_t)lda + (size_t)l;
            double factor = alpha * a[at];
            size_t step = transpose_b == CblasTrans ? (size_t)ldb : 1;
            const double *from =
                b + (transpose_b == CblasTrans ? (size_t)l : (size_t)l * (size_t)ldb);
            for (int j = 0; j < n; j++) row[j] += factor * from[(size_t)j * step];
        }
    }
}
