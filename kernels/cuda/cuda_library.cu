// # cuBLASLt, when it is needed
//
// The library is half a gigabyte, and a program that is linked with it pays for that at every start
// (measured here: a tenth of a second of processor time), GPU or not. So it is opened when the device
// is.

#include <dlfcn.h>

#include "cuda_own.cuh"

namespace MRA_BACKEND
{

#define NAME_OF(number) #number
#define LIBRARY(number) "libcublasLt.so." NAME_OF(number)

template <class F> static bool find(void *library, const char *name, F *function)
{
    *function = (F)dlsym(library, name);
    return *function != NULL;
}

mra_status load_products(product_library *to, mra_error *err)
{
    const char *name = LIBRARY(CUBLAS_VER_MAJOR);
    void *library = to->library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!library) return mra_fail(err, MRA_ABSENT, "device 'cuda': %s", dlerror());
    if (find(library, "cublasLtCreate", &to->create) &&
        find(library, "cublasLtDestroy", &to->destroy) &&
        find(library, "cublasLtGetStatusString", &to->text) &&
        find(library, "cublasLtMatmul", &to->multiply) &&
        find(library, "cublasLtMatmulAlgoGetHeuristic", &to->choose) &&
        find(library, "cublasLtMatmulDescCreate", &to->make_operation) &&
        find(library, "cublasLtMatmulDescDestroy", &to->drop_operation) &&
        find(library, "cublasLtMatmulDescSetAttribute", &to->set_operation) &&
        find(library, "cublasLtMatrixLayoutCreate", &to->make_layout) &&
        find(library, "cublasLtMatrixLayoutDestroy", &to->drop_layout) &&
        find(library, "cublasLtMatrixLayoutSetAttribute", &to->set_layout) &&
        find(library, "cublasLtMatmulPreferenceCreate", &to->make_preference) &&
        find(library, "cublasLtMatmulPreferenceDestroy", &to->drop_preference) &&
        find(library, "cublasLtMatmulPreferenceSetAttribute", &to->set_preference))
        return MRA_OK;
    return mra_fail(err, MRA_ABSENT, "device 'cuda': %s lacks a function: %s", name, dlerror());
}

void unload_products(product_library *from)
{
    if (from->library) dlclose(from->library);
}

} // namespace MRA_BACKEND
