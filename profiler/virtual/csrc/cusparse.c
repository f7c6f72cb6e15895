/* cuSPARSE stand-in: a handle, and no sparse matrices.
 *
 * MAGMA, which is part of torch and works on many small matrices at once, makes a handle with each of its queues and
 * has no further use for it. As cuSOLVER, the real library carries a CUDA runtime of its own and cannot start here.
 * Every function that works on a sparse matrix answers "not supported" by name (build.py).
 */
#include "handles.h"

typedef int sparse_status;
enum { OK = 0, NOT_INITIALIZED = 1, ALLOC_FAILED = 2, INVALID_VALUE = 3 };

sparse_status cusparseCreate(void **handle) { return vgpu_give_handle(VGPU_SPARSE, handle, INVALID_VALUE, ALLOC_FAILED); }
sparse_status cusparseDestroy(void *handle) { return vgpu_drop_handle(VGPU_SPARSE, handle) ? NOT_INITIALIZED : OK; }

sparse_status cusparseSetStream(void *handle, void *stream)
{
    if (!vgpu_is_handle(VGPU_SPARSE, handle))
        return NOT_INITIALIZED;
    return vgpu_is_stream(stream) ? OK : INVALID_VALUE;
}
