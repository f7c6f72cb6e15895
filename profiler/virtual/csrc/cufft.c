/* cuFFT stand-in: plans are made and run without effect, with a workspace of zero.
 *
 * As cuSOLVER, the real library carries a CUDA runtime of its own and cannot start here. How much workspace it would
 * take, which torch gives it out of its own allocator, follows from the algorithm it chooses for a length. Every
 * transform is counted, so that a result can say that the workspace is left out.
 */
#include "device.h"
#include "handles.h"

typedef int fft_status;
enum { OK = 0, INVALID_PLAN = 1, ALLOC_FAILED = 2, INVALID_VALUE = 4 };

static fft_status check(int plan) { return vgpu_is_handle(VGPU_FFT_PLAN, (const void *)(intptr_t)plan) ? OK : INVALID_PLAN; }

fft_status cufftCreate(int *plan)
{
    static int num_plans;
    if (!plan)
        return INVALID_VALUE;
    *plan = __atomic_add_fetch(&num_plans, 1, __ATOMIC_RELAXED);
    return vgpu_adopt_handle(VGPU_FFT_PLAN, (const void *)(intptr_t)*plan) ? ALLOC_FAILED : OK;
}

fft_status cufftDestroy(int plan) { return vgpu_drop_handle(VGPU_FFT_PLAN, (const void *)(intptr_t)plan) ? INVALID_PLAN : OK; }
fft_status cufftSetStream(int plan, void *stream) { return vgpu_is_stream(stream) ? check(plan) : INVALID_VALUE; }
fft_status cufftSetAutoAllocation(int plan) { return check(plan); }
fft_status cufftSetWorkArea(int plan) { return check(plan); }

fft_status cufftXtMakePlanMany(int plan, int rank, int64_t *lengths,
                               int64_t *in_embed, int64_t in_stride, int64_t in_distance, int in_type,
                               int64_t *out_embed, int64_t out_stride, int64_t out_distance, int out_type,
                               int64_t batch, size_t *workspace_bytes, int type)
{
    (void)rank, (void)lengths, (void)batch, (void)type;
    (void)in_embed, (void)in_stride, (void)in_distance, (void)in_type;
    (void)out_embed, (void)out_stride, (void)out_distance, (void)out_type;
    if (!workspace_bytes)
        return INVALID_VALUE;
    *workspace_bytes = 0;
    return check(plan);
}

fft_status cufftXtExec(int plan)
{
    vgpu_state *state = vgpu_get();
    if (check(plan))
        return INVALID_PLAN;
    if (state)
        __atomic_add_fetch(&state->cufft_calls, 1, __ATOMIC_RELAXED);
    vgpu_count_launch();
    return OK;
}
