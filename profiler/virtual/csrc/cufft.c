/* cuFFT stand-in: plans are made and run without effect, with a workspace of zero.
 *
 * As cuSOLVER, the real library carries a CUDA runtime of its own and cannot start here. How much workspace it would
 * take, which torch gives it out of its own allocator, follows from the algorithm it chooses for a length. Every
 * transform is counted, so that a result can say that the workspace is left out.
 */
#include "device.h"

typedef int fft_status;

fft_status cufftCreate(int *plan)
{
    static int num_plans;
    *plan = __atomic_add_fetch(&num_plans, 1, __ATOMIC_RELAXED);
    return 0;
}

fft_status cufftDestroy(void) { return 0; }
fft_status cufftSetStream(void) { return 0; }
fft_status cufftSetAutoAllocation(void) { return 0; }
fft_status cufftSetWorkArea(void) { return 0; }

fft_status cufftXtMakePlanMany(int plan, int rank, int64_t *lengths,
                               int64_t *in_embed, int64_t in_stride, int64_t in_distance, int in_type,
                               int64_t *out_embed, int64_t out_stride, int64_t out_distance, int out_type,
                               int64_t batch, size_t *workspace_bytes, int type)
{
    (void)plan, (void)rank, (void)lengths, (void)batch, (void)type;
    (void)in_embed, (void)in_stride, (void)in_distance, (void)in_type;
    (void)out_embed, (void)out_stride, (void)out_distance, (void)out_type;
    *workspace_bytes = 0;
    return 0;
}

fft_status cufftXtExec(void)
{
    vgpu_state *state = vgpu_get();
    if (state)
        __atomic_add_fetch(&state->cufft_calls, 1, __ATOMIC_RELAXED);
    vgpu_count_launch();
    return 0;
}
