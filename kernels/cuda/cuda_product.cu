// # Products by cuBLASLt
//
// The library's matrices have their columns one after another, ours their rows. Read by columns, a
// row-major matrix is its transpose, so $C = \mathrm{op}(A)\,\mathrm{op}(B)$ is asked for as
// $C^\top = \mathrm{op}(B)^\top \mathrm{op}(A)^\top$ and no memory moves.
//
// Arrays are float32. The precision of the device says how they are multiplied: float32 as they are,
// TF32 and bf16 rounded on the way into the tensor cores, with float32 sums. The library is asked
// once per shape which of its kernels it would take; the same kernel for the same shape, so results
// are the same in every run.

#include <string.h>

#include "cuda_own.cuh"

namespace MRA_BACKEND
{

static mra_status lt_status(const own_state *own, cublasStatus_t status,
                            const mra_product *product, const char *what, mra_error *err)
{
    if (status == CUBLAS_STATUS_SUCCESS) return MRA_OK;
    return mra_fail(err, status == CUBLAS_STATUS_ALLOC_FAILED ? MRA_NO_MEMORY : MRA_INTERNAL,
                    "device 'cuda': product of %zu times [%d,%d] and [%d,%d]: %s: %s",
                    product->batch, product->m, product->k, product->k, product->n, what,
                    own->lt.text(status));
}

// Descriptions of one product; destroyed with the object.
struct product_request {
    const product_library &lt;
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t left, right, result; // by columns: b, a, c
    cublasLtMatmulPreference_t preference;
    explicit product_request(const product_library &lt_)
        : lt(lt_), operation(NULL), left(NULL), right(NULL), result(NULL), preference(NULL)
    {
    }
    ~product_request()
    {
        if (operation) lt.drop_operation(operation);
        if (left) lt.drop_layout(left);
        if (right) lt.drop_layout(right);
        if (result) lt.drop_layout(result);
        if (preference) lt.drop_preference(preference);
    }
};

static cublasStatus_t make_layout(const product_library &lt, cublasLtMatrixLayout_t *layout,
                                  int rows, int columns, const mra_product *p)
{
    cublasStatus_t status =
        lt.make_layout(layout, CUDA_R_32F, (uint64_t)rows, (uint64_t)columns, rows);
    const int32_t batch = (int32_t)p->batch;
    const int64_t stride = (int64_t)rows * columns;
    if (!status)
        status =
            lt.set_layout(*layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batch, sizeof batch);
    if (!status)
        status = lt.set_layout(*layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride,
                               sizeof stride);
    return status;
}

static cublasStatus_t describe(product_request *request, const mra_product *p,
                               mra_precision precision, const float *bias)
{
    const cublasComputeType_t compute = precision == MRA_BF16   ? CUBLAS_COMPUTE_32F_FAST_16BF
                                        : precision == MRA_TF32 ? CUBLAS_COMPUTE_32F_FAST_TF32
                                                                : CUBLAS_COMPUTE_32F;
    const cublasOperation_t left = p->transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasOperation_t right = p->transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasStatus_t status =
        request->lt.make_operation(&request->operation, compute, CUDA_R_32F);
    if (!status)
        status = request->lt.set_operation(request->operation, CUBLASLT_MATMUL_DESC_TRANSA,
                                           &left, sizeof left);
    if (!status)
        status = request->lt.set_operation(request->operation, CUBLASLT_MATMUL_DESC_TRANSB,
                                           &right, sizeof right);
    const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    if (!status && bias)
        status = request->lt.set_operation(request->operation, CUBLASLT_MATMUL_DESC_EPILOGUE,
                                           &epilogue, sizeof epilogue);
    if (!status && bias)
        status = request->lt.set_operation(
            request->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias);
    if (!status)
        status = make_layout(request->lt, &request->left, p->transpose_b ? p->k : p->n,
                             p->transpose_b ? p->n : p->k, p);
    if (!status)
        status = make_layout(request->lt, &request->right, p->transpose_a ? p->m : p->k,
                             p->transpose_a ? p->k : p->m, p);
    if (!status) status = make_layout(request->lt, &request->result, p->n, p->m, p);
    return status;
}

// The largest power of two, up to 256, that divides all addresses.
static uint32_t alignment_of(const float *a, const float *b, const float *c)
{
    const uintptr_t all = (uintptr_t)a | (uintptr_t)b | (uintptr_t)c | 256;
    return (uint32_t)(all & (~all + 1));
}

static bool same_product(const mra_product *a, const mra_product *b)
{
    return a->batch == b->batch && a->m == b->m && a->n == b->n && a->k == b->k &&
           a->transpose_a == b->transpose_a && a->transpose_b == b->transpose_b;
}

static mra_status find_algorithm(own_state *own, product_request *request, product_plan *plan,
                                 mra_error *err)
{
    for (int i = 0; i < own->plans; i++) {
        const product_plan *known = &own->plan[i];
        if (!same_product(&known->product, &plan->product) ||
            known->precision != plan->precision || known->bias != plan->bias ||
            known->add != plan->add || known->alignment != plan->alignment)
            continue;
        plan->algorithm = known->algorithm;
        return MRA_OK;
    }
    const size_t workspace = CUDA_PRODUCT_WORKSPACE;
    const cublasLtMatmulPreferenceAttributes_t alignments[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    cublasStatus_t status = own->lt.make_preference(&request->preference);
    if (!status)
        status = own->lt.set_preference(request->preference,
                                        CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
                                        sizeof workspace);
    for (int i = 0; i < 4 && !status; i++)
        status = own->lt.set_preference(request->preference, alignments[i], &plan->alignment,
                                        sizeof plan->alignment);
    cublasLtMatmulHeuristicResult_t found;
    int count = 0;
    if (!status)
        status = own->lt.choose(own->products, request->operation, request->left,
                                request->right, request->result, request->result,
                                request->preference, 1, &found, &count);
    if (!status && count == 0) status = CUBLAS_STATUS_NOT_SUPPORTED;
    if (status) return lt_status(own, status, &plan->product, "choosing an algorithm", err);
    plan->algorithm = found.algo;
    own->plan[own->plans % CUDA_PLANS] = *plan; // the table full: shapes that are new go unkept
    if (own->plans < CUDA_PLANS - 1) own->plans++;
    return MRA_OK;
}

mra_status own_product(mra_device *device, const mra_product *product, const float *a,
                       const float *b, const float *bias, float *c, bool add, mra_error *err)
{
    own_state *own = state_of(device)->own;
    product_request request(own->lt);
    cublasStatus_t status = describe(&request, product, device->precision, bias);
    if (status) return lt_status(own, status, product, "describing it", err);
    product_plan plan = {};
    plan.product = *product;
    plan.precision = device->precision;
    plan.bias = bias != NULL;
    plan.add = add;
    plan.alignment = alignment_of(a, b, c);
    mra_status found = find_algorithm(own, &request, &plan, err);
    if (found) return found;
    const float alpha = product->alpha, beta = add ? 1.0f : 0.0f;
    status = own->lt.multiply(own->products, request.operation, &alpha, b, request.left, a,
                              request.right, &beta, c, request.result, c, request.result,
                              &plan.algorithm, own->workspace, CUDA_PRODUCT_WORKSPACE,
                              stream_of(device));
    return lt_status(own, status, product, "multiplying", err);
}

} // namespace MRA_BACKEND
