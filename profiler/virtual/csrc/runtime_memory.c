/* Allocation and copies. */
#include "copies.h"
#include "runtime.h"

#include <sys/mman.h>
#include <unistd.h>

#define BIT(kind) (1u << (kind))

/* Of no bytes there is no memory, and no error. */
runtime_error cudaMalloc(void **pointer, size_t bytes)
{
    if (!pointer)
        return vgpu_fail(INVALID_VALUE);
    *pointer = bytes ? vgpu_allocate(vgpu_current_device, bytes) : NULL;
    return *pointer || !bytes ? OK : vgpu_fail(OUT_OF_MEMORY);
}

runtime_error cudaFree(void *pointer)
{
    if (!pointer)
        return cudaDeviceSynchronize(); /* cudaFree(0) is how programs ask for the context */
    return vgpu_release(pointer, BIT(VGPU_DEVICE) | BIT(VGPU_MANAGED)) ? vgpu_fail(INVALID_VALUE) : OK;
}

runtime_error cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    vgpu_device *d = vgpu_device_at(vgpu_current_device);
    if (!d)
        return vgpu_fail(NO_DEVICE);
    if (!free_bytes || !total_bytes)
        return vgpu_fail(INVALID_VALUE);
    if (vgpu_enter(vgpu_current_device))
        return vgpu_fail(OUT_OF_MEMORY);
    *total_bytes = d->total_bytes;
    *free_bytes = vgpu_free_bytes(vgpu_current_device);
    return OK;
}

static runtime_error host_memory(void **pointer, int kind, size_t bytes)
{
    if (!pointer || (kind == VGPU_MANAGED && !bytes))
        return vgpu_fail(INVALID_VALUE);
    *pointer = bytes ? vgpu_allocate_host(kind, bytes) : NULL;
    return *pointer || !bytes ? OK : vgpu_fail(OUT_OF_MEMORY);
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

runtime_error cudaFreeHost(void *pointer)
{
    return pointer && vgpu_release(pointer, BIT(VGPU_PINNED)) ? vgpu_fail(INVALID_VALUE) : OK;
}

/* Whether all of a range is mapped: this call changes nothing, and fails where a page is not there. */
static int is_memory(const void *pointer, size_t bytes)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), start = (uintptr_t)pointer & ~(page - 1);
    return (uintptr_t)pointer + bytes > start && !msync((void *)start, (uintptr_t)pointer + bytes - start, MS_ASYNC);
}

runtime_error cudaHostRegister(void *pointer, size_t bytes, unsigned flags)
{
    (void)flags;
    if (!pointer || !bytes || bytes > SIZE_MAX - (uintptr_t)pointer || !is_memory(pointer, bytes))
        return vgpu_fail(INVALID_VALUE);
    int kind = vgpu_reach(pointer, bytes);
    if (kind == VGPU_DEVICE || kind == VGPU_UNREACHABLE)
        return vgpu_fail(INVALID_VALUE);
    return vgpu_note_host(VGPU_REGISTERED, pointer, bytes) ? vgpu_fail(ALREADY_REGISTERED) : OK;
}

runtime_error cudaHostUnregister(void *pointer)
{
    if (!pointer)
        return vgpu_fail(INVALID_VALUE);
    return vgpu_release(pointer, BIT(VGPU_REGISTERED)) ? vgpu_fail(NOT_REGISTERED) : OK;
}

runtime_error cudaHostGetDevicePointer(void **device, void *host, unsigned flags)
{
    (void)flags;
    int kind = vgpu_lookup(host, NULL, NULL, NULL);
    if (!device || (kind != VGPU_PINNED && kind != VGPU_REGISTERED && kind != VGPU_MANAGED))
        return vgpu_fail(INVALID_VALUE);
    *device = host;
    return OK;
}

static runtime_error check_managed(const void *pointer, size_t bytes)
{
    return bytes && vgpu_reach(pointer, bytes) == VGPU_MANAGED ? OK : vgpu_fail(INVALID_VALUE);
}

runtime_error cudaMemPrefetchAsync(const void *pointer, size_t bytes) { return check_managed(pointer, bytes); }
runtime_error cudaMemAdvise(const void *pointer, size_t bytes) { return check_managed(pointer, bytes); }

enum { HOST_TO_HOST, HOST_TO_DEVICE, DEVICE_TO_HOST, DEVICE_TO_DEVICE, BY_ADDRESS };

static runtime_error copy(void *to, const void *from, size_t bytes, int direction)
{
    if (direction < HOST_TO_HOST || direction > BY_ADDRESS)
        return vgpu_fail(INVALID_DIRECTION);
    int is_to_device = direction == HOST_TO_DEVICE || direction == DEVICE_TO_DEVICE;
    int is_from_device = direction == DEVICE_TO_HOST || direction == DEVICE_TO_DEVICE;
    return vgpu_copy(to, from, bytes, is_to_device, is_from_device) ? vgpu_fail(INVALID_VALUE) : OK;
}

runtime_error cudaMemcpy(void *to, const void *from, size_t bytes, int direction) { return copy(to, from, bytes, direction); }

runtime_error cudaMemcpyAsync(void *to, const void *from, size_t bytes, int direction, void *stream)
{
    runtime_error failed = vgpu_check_stream(stream);
    return failed ? failed : copy(to, from, bytes, direction);
}

runtime_error cudaMemcpyPeerAsync(void *to, int to_device, const void *from, int from_device, size_t bytes, void *stream)
{
    if (!vgpu_device_at(to_device) || !vgpu_device_at(from_device))
        return vgpu_fail(INVALID_DEVICE);
    return cudaMemcpyAsync(to, from, bytes, DEVICE_TO_DEVICE, stream);
}

/* Whether the last row of a copy ends beyond all addresses. */
static int overflows(const void *pointer, size_t pitch, size_t width, size_t height)
{
    size_t bytes;
    return __builtin_mul_overflow(pitch, height - 1, &bytes) || __builtin_add_overflow(bytes, width, &bytes) ||
           bytes > SIZE_MAX - (uintptr_t)pointer;
}

runtime_error cudaMemcpy2DAsync(char *to, size_t to_pitch, const char *from, size_t from_pitch, size_t width, size_t height,
                                int direction, void *stream)
{
    runtime_error failed = vgpu_check_stream(stream);
    if (failed || !width || !height)
        return failed;
    if (to_pitch < width || from_pitch < width)
        return vgpu_fail(INVALID_PITCH);
    if (!to || !from || overflows(to, to_pitch, width, height) || overflows(from, from_pitch, width, height))
        return vgpu_fail(INVALID_VALUE);
    for (size_t row = 0; !failed && row < height; row++)
        failed = copy(to + row * to_pitch, from + row * from_pitch, width, direction);
    return failed;
}

runtime_error cudaMemset(void *pointer, int value, size_t bytes)
{
    int kind = bytes ? vgpu_reach(pointer, bytes) : VGPU_DEVICE;
    if (kind <= VGPU_NOT_OURS)
        return vgpu_fail(INVALID_VALUE);
    if (kind != VGPU_DEVICE)
        memset(pointer, value, bytes);
    return OK;
}

runtime_error cudaMemsetAsync(void *pointer, int value, size_t bytes, void *stream)
{
    runtime_error failed = vgpu_check_stream(stream);
    return failed ? failed : cudaMemset(pointer, value, bytes);
}

runtime_error cudaMemcpyToSymbol(const void *symbol, const void *from, size_t bytes, size_t offset, int direction)
{
    (void)from, (void)direction;
    if (vgpu_reach(symbol, 1) != VGPU_SYMBOL)
        return vgpu_fail(INVALID_SYMBOL);
    int is_within = offset + bytes >= bytes && vgpu_reach(symbol, offset + bytes) == VGPU_SYMBOL;
    return is_within ? OK : vgpu_fail(INVALID_VALUE);
}

runtime_error cudaGetSymbolAddress(void **pointer, const void *symbol)
{
    if (!pointer)
        return vgpu_fail(INVALID_VALUE);
    if (vgpu_reach(symbol, 1) != VGPU_SYMBOL)
        return vgpu_fail(INVALID_SYMBOL);
    *pointer = (void *)(uintptr_t)symbol;
    return OK;
}

/* Of the struct, both CUDA 12 (24 bytes) and CUDA 13 (88) begin with these four. */
typedef struct { int type, device; void *device_pointer, *host_pointer; } pointer_attributes;

runtime_error cudaPointerGetAttributes(pointer_attributes *out, const void *pointer)
{
    if (!out)
        return vgpu_fail(INVALID_VALUE);
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

/* Of textures, which there are none of, this alone is asked without a card. */
typedef struct { int x, y, z, w, kind; } channel_description;

channel_description cudaCreateChannelDesc(int x, int y, int z, int w, int kind)
{
    return (channel_description){x, y, z, w, kind};
}
