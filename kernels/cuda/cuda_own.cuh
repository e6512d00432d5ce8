// What the files of the device `cuda` share.
#ifndef MRA_KERNELS_CUDA_OWN_CUH
#define MRA_KERNELS_CUDA_OWN_CUH

#include <cublasLt.h>

#include "primitives.cuh"

enum { CUDA_PRODUCT_WORKSPACE = 32 * 1024 * 1024, CUDA_PLANS = 256 };

namespace MRA_BACKEND
{

// How cuBLASLt multiplies one shape: found once, kept.
struct product_plan {
    mra_product product;
    mra_precision precision;
    bool bias, add;
    uint32_t alignment;
    cublasLtMatmulAlgo_t algorithm;
};

// The functions of cuBLASLt that are called.
struct product_library {
    void *library;
    decltype(&cublasLtCreate) create;
    decltype(&cublasLtDestroy) destroy;
    decltype(&cublasLtGetStatusString) text;
    decltype(&cublasLtMatmul) multiply;
    decltype(&cublasLtMatmulAlgoGetHeuristic) choose;
    cublasStatus_t (*make_operation)(cublasLtMatmulDesc_t *, cublasComputeType_t,
                                     cudaDataType_t);
    cublasStatus_t (*drop_operation)(cublasLtMatmulDesc_t);
    cublasStatus_t (*set_operation)(cublasLtMatmulDesc_t, cublasLtMatmulDescAttributes_t,
                                    const void *, size_t);
    cublasStatus_t (*make_layout)(cublasLtMatrixLayout_t *, cudaDataType, uint64_t, uint64_t,
                                  int64_t);
    cublasStatus_t (*drop_layout)(cublasLtMatrixLayout_t);
    cublasStatus_t (*set_layout)(cublasLtMatrixLayout_t, cublasLtMatrixLayoutAttribute_t,
                                 const void *, size_t);
    cublasStatus_t (*make_preference)(cublasLtMatmulPreference_t *);
    cublasStatus_t (*drop_preference)(cublasLtMatmulPreference_t);
    cublasStatus_t (*set_preference)(cublasLtMatmulPreference_t,
                                     cublasLtMatmulPreferenceAttributes_t, const void *,
                                     size_t);
};
// MRA_ABSENT: the library is not there, or lacks one of them.
mra_status load_products(product_library *to, mra_error *err);
void unload_products(product_library *from);

struct own_state {
    cudaMemPool_t pool;
    product_library lt;
    cublasLtHandle_t products;
    void *workspace; // of cuBLASLt, CUDA_PRODUCT_WORKSPACE bytes
    product_plan plan[CUDA_PLANS];
    int plans;
};

// MRA_OK, or what the CUDA runtime says about `what`.
mra_status cuda_status(cudaError_t error, const char *what, mra_error *err);

} // namespace MRA_BACKEND
#endif
