/* Allocation and copies. */
#include "runtime.h"

runtime_error cudaMalloc(void **pointer, size_t bytes)
{
    *pointer = vgpu_allocate(vgpu_current_device, bytes);
    return *pointer ? OK : vgpu_fail(OUT_OF_MEMORY);
}

runtime_error cudaFree(void *pointer)
{
    if (!pointer)
        return cudaDeviceSynchronize(); /* cudaFree(0) is how programs ask for the context */
    return vgpu_release(pointer) ? vgpu_fail(INVALID_VALUE) : OK;
}

runtime_error cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    vgpu_device *d = vgpu_device_at(vgpu_current_device);
    if (!d)
        return vgpu_fail(NO_DEVICE);
    if (vgpu_enter(vgpu_current_device))
        return vgpu_fail(OUT_OF_MEMORY);
    *total_bytes = d->total_bytes;
    *free_bytes = vgpu_free_bytes(vgpu_current_device);
    return OK;
}

static runtime_error host_memory(void **pointer, int kind, size_t bytes)
{
    *pointer = vgpu_allocate_host(kind, bytes);
    return *pointer ? OK : vgpu_fail(OUT_OF_MEMORY);
}

runtime_error cudaMallocManaged(void **pointer, size_t bytes, unsigned flags)
{
    (void)flags;
    return host_memory(pointer, VGPU_MANAGED, bytes);
}

runtime_error cudaHostAlloc(void **pointer, size_t bytes, unsigned flags)
{
    (void)flags;
    return host_memory(pointer, VGPU_PINNED, bytes);
}

runtime_error cudaMallocHost(void **pointer, size_t bytes) { return host_memory(pointer, VGPU_PINNED, bytes); }
runtime_error cudaFreeHost(void *pointer) { return vgpu_release(pointer) ? vgpu_fail(INVALID_VALUE) : OK; }
runtime_error cudaHostRegister(void *p, size_t bytes, unsigned flags) { (void)p, (void)bytes, (void)flags; return OK; }
runtime_error cudaHostUnregister(void *p) { (void)p; return OK; }

runtime_error cudaHostGetDevicePointer(void **device, void *host, unsigned flags)
{
    (void)flags;
    *device = host;
    return OK;
}

runtime_error cudaMemPrefetchAsync(void) { return OK; }
runtime_error cudaMemAdvise(void) { return OK; }

runtime_error cudaMemcpy(void *to, const void *from, size_t bytes, int kind)
{
    (void)kind;
    vgpu_copy(to, from, bytes);
    return OK;
}

runtime_error cudaMemcpyAsync(void *to, const void *from, size_t bytes, int kind, void *stream)
{
    (void)stream;
    return cudaMemcpy(to, from, bytes, kind);
}

runtime_error cudaMemcpyPeerAsync(void *to, int to_device, const void *from, int from_device, size_t bytes, void *stream)
{
    (void)to_device, (void)from_device, (void)stream;
    vgpu_copy(to, from, bytes);
    return OK;
}

runtime_error cudaMemcpy2DAsync(char *to, size_t to_pitch, const char *from, size_t from_pitch, size_t width, size_t height,
                           int kind, void *stream)
{
    (void)kind, (void)stream;
    for (size_t row = 0; row < height; row++)
        vgpu_copy(to + row * to_pitch, from + row * from_pitch, width);
    return OK;
}

runtime_error cudaMemset(void *p, int value, size_t bytes)
{
    int kind = vgpu_lookup(p, NULL, NULL, NULL);
    if (kind != VGPU_DEVICE)
        memset(p, value, bytes);
    return OK;
}

runtime_error cudaMemsetAsync(void *p, int value, size_t bytes, void *stream)
{
    (void)stream;
    return cudaMemset(p, value, bytes);
}

runtime_error cudaMemcpyToSymbol(void) { return OK; }

runtime_error cudaGetSymbolAddress(void **pointer, const void *symbol)
{
    *pointer = (void *)(uintptr_t)symbol; /* a host variable stands for its device twin: never dereferenced by us */
    return OK;
}

/* Of the struct, both CUDA 12 (24 bytes) and CUDA 13 (88) begin with these four. */
typedef struct { int type, device; void *device_pointer, *host_pointer; } pointer_attributes;

runtime_error cudaPointerGetAttributes(pointer_attributes *out, const void *pointer)
{
    int device = 0;
    int kind = vgpu_lookup(pointer, NULL, NULL, &device);
    *out = (pointer_attributes){.device = kind ? device : -2};
    if (kind) {
        out->type = kind == VGPU_DEVICE ? 2 : kind == VGPU_MANAGED ? 3 : 1;
        out->device_pointer = (void *)(uintptr_t)pointer;
        out->host_pointer = kind == VGPU_DEVICE ? NULL : (void *)(uintptr_t)pointer;
    }
    return OK;
}
