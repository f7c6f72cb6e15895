/* cuBLAS and cuBLASLt stand-ins: products happen without effect.
 *
 * torch gives cuBLAS its workspace out of its own allocator, so nothing here allocates. Only functions that
 * write an answer the host reads are written out; the rest is generated (build.py): setting handles up and
 * products that run on the card succeed, and any other name answers "not supported".
 */
#include "device.h"

#include <string.h>

typedef int blas_status;

blas_status cublasCreate_v2(void **handle)
{
    *handle = vgpu_new_handle(); /* distinct: torch keys its workspaces by handle */
    return 0;
}

blas_status cublasGetMathMode(void *handle, int *mode) { (void)handle; *mode = 0; return 0; }
blas_status cublasGetPointerMode_v2(void *handle, int *mode) { (void)handle; *mode = 0; return 0; }
blas_status cublasGetStream_v2(void *handle, void **stream) { (void)handle; *stream = NULL; return 0; }

blas_status cublasGetVersion_v2(void *handle, int *version)
{
    (void)handle;
    vgpu_state *state = vgpu_get();
    *version = state ? state->cuda_version / 1000 * 10000 : 0;
    return 0;
}

const char *cublasGetStatusString(blas_status status) { return status ? "not supported by the virtual GPU" : "success"; }
const char *cublasGetStatusName(blas_status status) { return status ? "CUBLAS_STATUS_NOT_SUPPORTED" : "CUBLAS_STATUS_SUCCESS"; }

/* Of many small matrices at once, these tell the host whether their arguments were right. */
typedef const void *input;
#define FACTORS(name) \
    blas_status name(void *h, int m, int n, input a, int lda, input tau, int *info, int batch) \
    { \
        (void)h, (void)m, (void)n, (void)a, (void)lda, (void)tau, (void)batch; \
        *info = 0; \
        return 0; \
    }
#define SOLVES(name) \
    blas_status name(void *h, int form, int m, int n, int num_sides, input a, int lda, input c, int ldc, int *info) \
    { \
        (void)h, (void)form, (void)m, (void)n, (void)num_sides, (void)a, (void)lda, (void)c, (void)ldc; \
        *info = 0; \
        return 0; \
    }
#define SOLVES_FACTORED(name) \
    blas_status name(void *h, int form, int n, int num_sides, input a, int lda, input pivots, input b, int ldb, int *info) \
    { \
        (void)h, (void)form, (void)n, (void)num_sides, (void)a, (void)lda, (void)pivots, (void)b, (void)ldb; \
        *info = 0; \
        return 0; \
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

static blas_status new_handle(void **handle) { *handle = vgpu_new_handle(); return 0; }

blas_status cublasLtCreate(void **handle) { return new_handle(handle); }
blas_status cublasLtMatmulDescCreate(void **description) { return new_handle(description); }
blas_status cublasLtMatrixLayoutCreate(void **layout) { return new_handle(layout); }
blas_status cublasLtMatmulPreferenceCreate(void **preference) { return new_handle(preference); }
blas_status cublasLtMatrixTransformDescCreate(void **description) { return new_handle(description); }

size_t cublasLtGetVersion(void)
{
    vgpu_state *state = vgpu_get();
    return state ? (size_t)state->cuda_version / 1000 * 10000 : 0;
}

/* cublasLtMatmulHeuristicResult_t: an opaque algorithm, the workspace it needs, a status, the waves it takes. */
typedef struct { uint64_t algorithm[8]; size_t workspace_bytes; int status; float waves; int reserved[4]; } heuristic;

blas_status cublasLtMatmulAlgoGetHeuristic(void *handle, void *description, void *a, void *b, void *c, void *d, void *preference,
                                           int wanted, heuristic *results, int *found)
{
    (void)handle, (void)description, (void)a, (void)b, (void)c, (void)d, (void)preference;
    memset(results, 0, sizeof *results * (size_t)wanted);
    *found = wanted < 1 ? wanted : 1;
    return 0;
}

blas_status cublasLtMatmulAlgoCheck(void *handle, void *description, void *a, void *b, void *c, void *d, void *algorithm, heuristic *result)
{
    (void)handle, (void)description, (void)a, (void)b, (void)c, (void)d, (void)algorithm;
    memset(result, 0, sizeof *result);
    return 0;
}
