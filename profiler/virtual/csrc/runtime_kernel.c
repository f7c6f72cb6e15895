/* Kernels: registered and launched without effect; their attributes; the way to the driver. */
#include "runtime.h"

typedef struct { unsigned x, y, z; } dim3_;

void **__cudaRegisterFatBinary(void *binary)
{
    static void *handle[4];
    (void)binary;
    return handle;
}

void __cudaRegisterFatBinaryEnd(void **handle) { (void)handle; }
void __cudaUnregisterFatBinary(void **handle) { (void)handle; }
void __cudaRegisterFunction(void) {}

/* A variable that stands for its twin on the card: copies to it and from it are those of the program's own. */
void __cudaRegisterVar(void **handle, void *variable, void *address, const char *name, int is_external, size_t bytes)
{
    (void)handle, (void)address, (void)name, (void)is_external;
    if (variable && bytes)
        vgpu_note_host(VGPU_SYMBOL, variable, bytes);
}

void __cudaRegisterManagedVar(void) {}
char __cudaInitModule(void **handle) { (void)handle; return 0; }

runtime_error __cudaGetKernel(void **kernel, const void *function)
{
    if (!kernel)
        return vgpu_fail(INVALID_VALUE);
    *kernel = (void *)(uintptr_t)function;
    return function ? OK : vgpu_fail(INVALID_FUNCTION);
}

static __thread struct { dim3_ grid, block; size_t shared; void *stream; } pushed[16];
static __thread unsigned num_pushed;

unsigned __cudaPushCallConfiguration(dim3_ grid, dim3_ block, size_t shared, void *stream)
{
    if (num_pushed == sizeof pushed / sizeof *pushed)
        return 1;
    pushed[num_pushed].grid = grid;
    pushed[num_pushed].block = block;
    pushed[num_pushed].shared = shared;
    pushed[num_pushed++].stream = stream;
    return 0;
}

runtime_error __cudaPopCallConfiguration(dim3_ *grid, dim3_ *block, size_t *shared, void **stream)
{
    if (!num_pushed || !grid || !block || !shared || !stream)
        return vgpu_fail(INVALID_VALUE);
    num_pushed--;
    *grid = pushed[num_pushed].grid;
    *block = pushed[num_pushed].block;
    *shared = pushed[num_pushed].shared;
    *stream = pushed[num_pushed].stream;
    return OK;
}

static runtime_error launch(const void *function, const void *stream)
{
    if (!function)
        return vgpu_fail(INVALID_FUNCTION);
    runtime_error failed = vgpu_check_stream(stream);
    if (!failed)
        vgpu_count_launch();
    return failed;
}

#define LAUNCH(name) \
    runtime_error name(const void *function, dim3_ grid, dim3_ block, void **arguments, size_t shared, void *stream) \
    { \
        (void)grid, (void)block, (void)arguments, (void)shared; \
        return launch(function, stream); \
    }
LAUNCH(cudaLaunchKernel)
LAUNCH(__cudaLaunchKernel)
LAUNCH(cudaLaunchCooperativeKernel)

typedef struct { dim3_ grid, block; size_t shared; void *stream; } launch_configuration; /* its beginning */

runtime_error cudaLaunchKernelExC(const launch_configuration *configuration, const void *function)
{
    return configuration ? launch(function, configuration->stream) : vgpu_fail(INVALID_VALUE);
}

/* The same fields at the same offsets in CUDA 12 and 13; 144 bytes. */
typedef struct {
    size_t shared, constant, local;
    int max_threads, num_registers, ptx_version, binary_version, cache_mode, max_dynamic_shared, carveout;
    int rest[22];
} function_attributes;

runtime_error cudaFuncGetAttributes(function_attributes *out, const void *function)
{
    vgpu_device *d = vgpu_device_at(vgpu_current_device);
    if (!d)
        return vgpu_fail(NO_DEVICE);
    if (!out)
        return vgpu_fail(INVALID_VALUE);
    if (!function)
        return vgpu_fail(INVALID_FUNCTION);
    memset(out, 0, sizeof *out);
    out->max_threads = 1024;
    out->num_registers = 32; /* not known; CUB asks only for the versions */
    out->ptx_version = out->binary_version = d->ptx_version;
    out->max_dynamic_shared = (int)d->shared_memory_per_block_optin_bytes;
    return OK;
}

static runtime_error check_function(const void *function)
{
    return function ? OK : vgpu_fail(INVALID_FUNCTION);
}

runtime_error cudaFuncSetAttribute(const void *function) { return check_function(function); }
runtime_error cudaFuncSetCacheConfig(const void *function) { return check_function(function); }
runtime_error cudaKernelSetAttributeForDevice(const void *kernel) { return kernel ? OK : vgpu_fail(INVALID_HANDLE); }

runtime_error cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *function, int block_size, size_t shared,
                                                                unsigned flags)
{
    (void)flags;
    if (!blocks)
        return vgpu_fail(INVALID_VALUE);
    if (!function)
        return vgpu_fail(INVALID_FUNCTION);
    *blocks = vgpu_occupancy(vgpu_current_device, block_size, shared);
    return OK;
}

runtime_error cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *function, int block_size, size_t shared)
{
    return cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, function, block_size, shared, 0);
}

/* ---- the way to the driver ---- */

void *vgpu_driver_entry(const char *name); /* driver.c */

runtime_error cudaGetDriverEntryPoint(const char *name, void **function, unsigned long long flags, int *status)
{
    (void)flags;
    if (!name || !function)
        return vgpu_fail(INVALID_VALUE);
    *function = vgpu_driver_entry(name);
    if (status)
        *status = *function ? 0 : 1; /* success, or symbol not found: callers treat the function as absent */
    return *function || status ? OK : vgpu_fail(NOT_FOUND);
}

runtime_error cudaGetDriverEntryPointByVersion(const char *name, void **function, unsigned version, unsigned long long flags, int *status)
{
    (void)version;
    return cudaGetDriverEntryPoint(name, function, flags, status);
}
