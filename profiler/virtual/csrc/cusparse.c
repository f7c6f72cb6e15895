/* cuSPARSE stand-in: a handle, and no sparse matrices.
 *
 * MAGMA, which is part of torch and works on many small matrices at once, makes a handle with each of its queues and
 * has no further use for it. As cuSOLVER, the real library carries a CUDA runtime of its own and cannot start here.
 * Every function that works on a sparse matrix answers "not supported" by name (build.py).
 */
#include "device.h"

typedef int sparse_status;

sparse_status cusparseCreate(void **handle) { *handle = vgpu_new_handle(); return 0; }
sparse_status cusparseDestroy(void) { return 0; }
sparse_status cusparseSetStream(void) { return 0; }
