/* cuBLAS and cuBLASLt stand-ins: products happen without effect.
 *
 * torch gives cuBLAS its workspace out of its own allocator, so nothing here allocates. Only functions that
 * write an answer the host reads are written out; the rest is generated (build.py): setting handles up and
 * products that run on the card succeed, and any other name answers "not supported".
 */
#include "handles.h"
#include "state.h"

#include <stddef.h>
#include <string.h>

typedef int blas_status;
enum { OK = 0, NOT_INITIALIZED = 1, ALLOC_FAILED = 3, INVALID_VALUE = 7 };

/* A handle of cuBLAS is one of cuBLASLt too. */
static blas_status check(vgpu_kind kind, const void *handle)
{
    int is_handle = vgpu_is_handle(kind, handle) || (kind == VGPU_BLAS_LT && vgpu_is_handle(VGPU_BLAS, handle));
    return is_handle ? OK : NOT_INITIALIZED;
}

static blas_status drop(vgpu_kind kind, const void *handle) { return vgpu_drop_handle(kind, handle) ? NOT_INITIALIZED : OK; }
static blas_status new_handle(vgpu_kind kind, void **handle) { return vgpu_give_handle(kind, handle, INVALID_VALUE, ALLOC_FAILED); }

/* What generated products and settings do with their handle (build.py). */
blas_status vgpu_check_blas(const void *handle) { return check(VGPU_BLAS, handle); }
blas_status vgpu_check_blas_lt(const void *handle) { return check(VGPU_BLAS_LT, handle); }
/* Descriptions that a program makes itself, with cublasLt...Init, are not among our handles. */
blas_status vgpu_check_blas_description(const void *description) { return description ? OK : INVALID_VALUE; }

/* Distinct ones: torch keys its workspaces by handle. */
blas_status cublasCreate_v2(void **handle) { return new_handle(VGPU_BLAS, handle); }
blas_status cublasDestroy_v2(void *handle) { return drop(VGPU_BLAS, handle); }

static blas_status give_number(const void *handle, int *number, int value)
{
    if (check(VGPU_BLAS, handle))
        return NOT_INITIALIZED;
    if (!number)
        return INVALID_VALUE;
    *number = value;
    return OK;
}

static int version(void)
{
    vgpu_state *state = vgpu_get();
    return state ? state->cuda_version / 1000 * 10000 : 0;
}

blas_status cublasGetMathMode(void *handle, int *mode) { return give_number(handle, mode, 0); }
blas_status cublasGetPointerMode_v2(void *handle, int *mode) { return give_number(handle, mode, 0); }

/* Without a handle too. */
blas_status cublasGetVersion_v2(void *handle, int *number)
{
    if (handle)
        return give_number(handle, number, version());
    if (!number)
        return INVALID_VALUE;
    *number = version();
    return OK;
}

blas_status cublasGetStream_v2(void *handle, void **stream)
{
    if (check(VGPU_BLAS, handle))
        return NOT_INITIALIZED;
    if (!stream)
        return INVALID_VALUE;
    *stream = NULL;
    return OK;
}

const char *cublasGetStatusString(blas_status status)
{
    switch (status) {
    case OK: return "success";
    case NOT_INITIALIZED: return "the library was not initialized";
    case INVALID_VALUE: return "an unsupported value or parameter was passed to the function";
    default: return "not supported by the virtual GPU";
    }
}

const char *cublasGetStatusName(blas_status status)
{
    switch (status) {
    case OK: return "CUBLAS_STATUS_SUCCESS";
    case NOT_INITIALIZED: return "CUBLAS_STATUS_NOT_INITIALIZED";
    case INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
    default: return "CUBLAS_STATUS_NOT_SUPPORTED";
    }
}

/* Of many small matrices at once, these tell the host whether their arguments were right. */
typedef const void *input;
#define FACTORS(name) \
    blas_status name(void *h, int m, int n, input a, int lda, input tau, int *info, int batch) \
    { \
        (void)m, (void)n, (void)a, (void)lda, (void)tau, (void)batch; \
        return give_number(h, info, 0); \
    }
#define SOLVES(name) \
    blas_status name(void *h, int form, int m, int n, int num_sides, input a, int lda, input c, int ldc, int *info) \
    { \
        (void)form, (void)m, (void)n, (void)num_sides, (void)a, (void)lda, (void)c, (void)ldc; \
        return give_number(h, info, 0); \
    }
#define SOLVES_FACTORED(name) \
    blas_status name(void *h, int form, int n, int num_sides, input a, int lda, input pivots, input b, int ldb, int *info) \
    { \
        (void)form, (void)n, (void)num_sides, (void)a, (void)lda, (void)pivots, (void)b, (void)ldb; \
        return give_number(h, info, 0); \
    }
FACTORS(cublasSgeqrfBatched)
FACTORS(cublasDgeqrfBatched)
FACTORS(cublasCgeqrfBatched)
FACTORS(cublasZgeqrfBatched)
SOLVES(cublasSgelsBatched)
SOLVES(cublasDgelsBatched)
SOLVES(cublasCgelsBatched)
SOLVES(cublasZgelsBatched)
SOLVES_FACTORED(cublasSgetrsBatched)
SOLVES_FACTORED(cublasDgetrsBatched)
SOLVES_FACTORED(cublasCgetrsBatched)
SOLVES_FACTORED(cublasZgetrsBatched)

blas_status cublasLtCreate(void **handle) { return new_handle(VGPU_BLAS_LT, handle); }
blas_status cublasLtDestroy(void *handle) { return drop(VGPU_BLAS_LT, handle); }

#define DESCRIPTION(name) \
    blas_status cublasLt##name##Create(void **description) { return new_handle(VGPU_BLAS_DESCRIPTION, description); } \
    blas_status cublasLt##name##Destroy(void *description) \
    { \
        return vgpu_drop_handle(VGPU_BLAS_DESCRIPTION, description) ? INVALID_VALUE : OK; \
    }
DESCRIPTION(MatmulDesc)
DESCRIPTION(MatrixLayout)
DESCRIPTION(MatmulPreference)
DESCRIPTION(MatrixTransformDesc)

size_t cublasLtGetVersion(void) { return (size_t)version(); }
size_t cublasLtGetCudartVersion(void) { return (size_t)(vgpu_get() ? vgpu_get()->cuda_version : 0); }
const char *cublasLtGetStatusString(blas_status status) { return cublasGetStatusString(status); }
const char *cublasLtGetStatusName(blas_status status) { return cublasGetStatusName(status); }

/* cublasLtMatmulHeuristicResult_t: an opaque algorithm, the workspace it needs, a status, the waves it takes. */
typedef struct { uint64_t algorithm[8]; size_t workspace_bytes; int status; float waves; int reserved[4]; } heuristic;

blas_status cublasLtMatmulAlgoGetHeuristic(void *handle, void *description, void *a, void *b, void *c, void *d, void *preference,
                                           int wanted, heuristic *results, int *found)
{
    (void)description, (void)a, (void)b, (void)c, (void)d, (void)preference;
    if (check(VGPU_BLAS_LT, handle))
        return NOT_INITIALIZED;
    if (!results || !found || wanted < 1)
        return INVALID_VALUE;
    memset(results, 0, sizeof *results * (size_t)wanted);
    *found = 1;
    return OK;
}

blas_status cublasLtMatmulAlgoCheck(void *handle, void *description, void *a, void *b, void *c, void *d, void *algorithm, heuristic *result)
{
    (void)description, (void)a, (void)b, (void)c, (void)d, (void)algorithm;
    if (check(VGPU_BLAS_LT, handle))
        return NOT_INITIALIZED;
    if (!result)
        return INVALID_VALUE;
    memset(result, 0, sizeof *result);
    return 0;
}
