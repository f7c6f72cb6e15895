/* cuSOLVER stand-in: what torch asks of the dense library succeeds without effect, with a workspace of zero.
 *
 * cuSOLVER carries a CUDA runtime of its own inside, which asks the driver for undocumented tables: the real library
 * cannot start here, and with it cannot be asked how much workspace a decomposition takes. torch would take that out
 * of its own allocator. Every decomposition is counted, so that a result can say that the workspace is left out.
 *
 * What a decomposition tells of itself (`info`) it writes on the card, where all that nobody wrote is zero: success.
 * Functions that torch does not use answer "not supported" by name (build.py).
 */
#include "device.h"
#include "handles.h"

#include <string.h>

/* Parameters are spelled out up to the one that is written; which they are is in NVIDIA's documentation. */
#pragma GCC diagnostic ignored "-Wunused-parameter"

typedef int solver_status;
typedef intptr_t word; /* a pointer or a number, passed on unread */

enum { OK = 0, NOT_INITIALIZED = 1, ALLOC_FAILED = 2, INVALID_VALUE = 3 };

static solver_status check(word handle) { return vgpu_is_handle(VGPU_SOLVER, (const void *)handle) ? OK : NOT_INITIALIZED; }
static solver_status new_handle(vgpu_kind kind, void **handle) { return vgpu_give_handle(kind, handle, INVALID_VALUE, ALLOC_FAILED); }
static solver_status drop_info(const void *info) { return vgpu_drop_handle(VGPU_SOLVER_INFO, info) ? INVALID_VALUE : OK; }
static solver_status check_info(const void *info) { return vgpu_is_handle(VGPU_SOLVER_INFO, info) ? OK : INVALID_VALUE; }

static solver_status no_workspace(word handle, int *elements)
{
    if (!elements)
        return INVALID_VALUE;
    *elements = 0;
    return check(handle);
}

static solver_status no_workspaces(word handle, size_t *device_bytes, size_t *host_bytes)
{
    if (!device_bytes || !host_bytes)
        return INVALID_VALUE;
    *device_bytes = *host_bytes = 0;
    return check(handle);
}

static solver_status decomposed(word handle)
{
    vgpu_state *state = vgpu_get();
    if (check(handle))
        return NOT_INITIALIZED;
    if (state)
        __atomic_add_fetch(&state->cusolver_calls, 1, __ATOMIC_RELAXED);
    vgpu_count_launch();
    return OK;
}

solver_status cusolverDnCreate(void **handle) { return new_handle(VGPU_SOLVER, handle); }
solver_status cusolverDnDestroy(void *handle) { return vgpu_drop_handle(VGPU_SOLVER, handle) ? NOT_INITIALIZED : OK; }
solver_status cusolverDnSetStream(word handle, void *stream) { return vgpu_is_stream(stream) ? check(handle) : INVALID_VALUE; }

solver_status cusolverDnCreateParams(void **params) { return new_handle(VGPU_SOLVER_INFO, params); }
solver_status cusolverDnDestroyParams(void *params) { return drop_info(params); }
solver_status cusolverDnCreateGesvdjInfo(void **info) { return new_handle(VGPU_SOLVER_INFO, info); }
solver_status cusolverDnDestroyGesvdjInfo(void *info) { return drop_info(info); }
solver_status cusolverDnXgesvdjSetTolerance(void *info) { return check_info(info); }
solver_status cusolverDnXgesvdjSetMaxSweeps(void *info) { return check_info(info); }
solver_status cusolverDnXgesvdjSetSortEig(void *info) { return check_info(info); }
solver_status cusolverDnCreateSyevjInfo(void **info) { return new_handle(VGPU_SOLVER_INFO, info); }
solver_status cusolverDnDestroySyevjInfo(void *info) { return drop_info(info); }
solver_status cusolverDnXsyevjSetSortEig(void *info) { return check_info(info); }

/* ---- functions of one type: their workspace is counted in elements ---- */

#define WORDS_3 word a, word b, word c
#define WORDS_4 WORDS_3, word d
#define WORDS_5 WORDS_4, word e
#define WORDS_7 WORDS_5, word f, word g
#define WORDS_8 WORDS_7, word h
#define WORDS_10 WORDS_8, word i, word j
#define WORDS_11 WORDS_10, word k
#define WORDS_12 WORDS_11, word l
#define WORDS_16 WORDS_12, word m, word n, word o, word p
#define WORDS_17 WORDS_16, word q

/* A function, and the one that tells its workspace after so many other parameters. */
#define SIZED(name, before) \
    solver_status name##_bufferSize(WORDS_##before, int *elements) { return no_workspace(a, elements); } \
    solver_status name(word a) { return decomposed(a); }
#define SIZED_ALIKE(name, before) \
    SIZED(cusolverDnS##name, before) SIZED(cusolverDnD##name, before) \
    SIZED(cusolverDnC##name, before) SIZED(cusolverDnZ##name, before)
#define SIZED_APART(real, complex, before) \
    SIZED(cusolverDnS##real, before) SIZED(cusolverDnD##real, before) \
    SIZED(cusolverDnC##complex, before) SIZED(cusolverDnZ##complex, before)
#define UNSIZED(name) \
    solver_status cusolverDnS##name(word a) { return decomposed(a); } \
    solver_status cusolverDnD##name(word a) { return decomposed(a); } \
    solver_status cusolverDnC##name(word a) { return decomposed(a); } \
    solver_status cusolverDnZ##name(word a) { return decomposed(a); }

SIZED_ALIKE(getrf, 5)
SIZED_ALIKE(potrf, 5)
SIZED_ALIKE(geqrf, 5)
SIZED_ALIKE(sytrf, 4)
SIZED_ALIKE(gesvd, 3)
SIZED_ALIKE(gesvdj, 12)
SIZED_ALIKE(gesvdjBatched, 11)
SIZED_APART(orgqr, ungqr, 7)
SIZED_APART(ormqr, unmqr, 11)
SIZED_APART(syevd, heevd, 7)
SIZED_APART(syevj, heevj, 7)
SIZED_APART(syevjBatched, heevjBatched, 7)
UNSIZED(getrs)
UNSIZED(potrs)
UNSIZED(potrfBatched)
UNSIZED(potrsBatched)

/* The one that tells the host how exact its results are, a number for each matrix. */
#define APPROXIMATED(name) \
    solver_status name##_bufferSize(WORDS_16, int *elements) { return no_workspace(a, elements); } \
    solver_status name(WORDS_16, void *work, int elements, int *info, double *residuals, int batch) \
    { \
        if (!check(a) && residuals && batch > 0) \
            memset(residuals, 0, sizeof *residuals * (size_t)batch); \
        return decomposed(a); \
    }
APPROXIMATED(cusolverDnSgesvdaStridedBatched)
APPROXIMATED(cusolverDnDgesvdaStridedBatched)
APPROXIMATED(cusolverDnCgesvdaStridedBatched)
APPROXIMATED(cusolverDnZgesvdaStridedBatched)

/* ---- functions of any type: their workspaces, on the card and on the host, are counted in bytes ---- */

#define SIZED_TWICE(name, before) \
    solver_status cusolverDnX##name##_bufferSize(WORDS_##before, size_t *device_bytes, size_t *host_bytes) \
    { \
        return no_workspaces(a, device_bytes, host_bytes); \
    } \
    solver_status cusolverDnX##name(word a) { return decomposed(a); }

SIZED_TWICE(potrf, 8)
SIZED_TWICE(geqrf, 10)
SIZED_TWICE(syevd, 11)
SIZED_TWICE(syevBatched, 11)
SIZED_TWICE(sytrs, 11)
SIZED_TWICE(geev, 17)
solver_status cusolverDnXpotrs(word a) { return decomposed(a); }
