/* The CUDA driver stand-in: what torch, bitsandbytes and Triton ask of libcuda.so.1.
 *
 * The interesting part is virtual memory management, on which expandable segments rest. Modules load and
 * kernels launch without effect. There is no export table and no undocumented interface: the runtime is
 * replaced above, so nobody asks for one.
 */
#include "accounts.h"
#include "device.h"
#include "memory.h"
#include "visible.h"

#include <stdio.h>
#include <string.h>

typedef int driver_error; /* CUresult */
enum {
    OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_DEVICE = 101, NOT_FOUND = 500, NOT_SUPPORTED = 801,
};

static driver_error initialise(void)
{
    return vgpu_num_devices() ? OK : NO_DEVICE;
}

driver_error cuInit(unsigned flags) { (void)flags; return initialise(); }

driver_error cuDriverGetVersion(int *version)
{
    vgpu_state *state = vgpu_get();
    *version = state ? state->driver_version : 0;
    return OK;
}

driver_error cuGetErrorString(driver_error error, const char **text)
{
    static __thread char buffer[160];
    snprintf(buffer, sizeof buffer, error == NOT_SUPPORTED && vgpu_last_unknown() ? "the virtual GPU does not implement %s" : "%s",
             error == NOT_SUPPORTED && vgpu_last_unknown() ? vgpu_last_unknown()
             : error == OK ? "no error" : error == OUT_OF_MEMORY ? "out of memory" : error == NO_DEVICE ? "no CUDA-capable device is detected"
             : error == INVALID_VALUE ? "invalid argument" : "error of the virtual GPU");
    *text = buffer;
    return OK;
}

driver_error cuGetErrorName(driver_error error, const char **text)
{
    *text = error == OK ? "CUDA_SUCCESS" : error == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_UNKNOWN";
    return OK;
}

/* ---- devices and contexts: one primary context a device ---- */

driver_error cuDeviceGetCount(int *count) { *count = vgpu_num_devices(); return OK; }

driver_error cuDeviceGet(int *device, int ordinal)
{
    *device = ordinal;
    return vgpu_device_at(ordinal) ? OK : INVALID_DEVICE;
}

driver_error cuDeviceGetName(char *name, int length, int device)
{
    vgpu_device *d = vgpu_device_at(device);
    snprintf(name, (size_t)length, "%s", d ? d->name : "");
    return d ? OK : INVALID_DEVICE;
}

driver_error cuDeviceGetAttribute(int *value, int attribute, int device)
{
    return vgpu_attribute(attribute, device, value) ? INVALID_DEVICE : OK;
}

driver_error cuDeviceTotalMem_v2(size_t *bytes, int device)
{
    vgpu_device *d = vgpu_device_at(device);
    *bytes = d ? d->total_bytes : 0;
    return d ? OK : INVALID_DEVICE;
}

driver_error cuDeviceGetPCIBusId(char *text, int length, int device) { vgpu_bus_id(device, text, length); return OK; }

static char context_of[VGPU_MAX_DEVICES]; /* its elements' addresses are the context handles */

static int device_of(const void *context)
{
    const char *c = context;
    return c >= context_of && c < context_of + VGPU_MAX_DEVICES ? (int)(c - context_of) : vgpu_current_device;
}

driver_error cuDevicePrimaryCtxRetain(void **context, int device)
{
    if (!vgpu_device_at(device))
        return INVALID_DEVICE;
    *context = &context_of[device];
    return vgpu_enter(device) ? OUT_OF_MEMORY : OK;
}

driver_error cuDevicePrimaryCtxRelease_v2(int device) { (void)device; return OK; }

driver_error cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active)
{
    *flags = 0;
    *active = vgpu_has_context(device);
    return OK;
}

driver_error cuCtxGetCurrent(void **context)
{
    *context = vgpu_has_context(vgpu_current_device) ? &context_of[vgpu_current_device] : NULL;
    return OK;
}

driver_error cuCtxSetCurrent(void *context) { vgpu_current_device = device_of(context); return OK; }
driver_error cuCtxPushCurrent_v2(void *context) { return cuCtxSetCurrent(context); }
driver_error cuCtxPopCurrent_v2(void **context) { return cuCtxGetCurrent(context); }
driver_error cuCtxGetDevice(int *device) { *device = vgpu_current_device; return OK; }
driver_error cuCtxSynchronize(void) { return OK; }
driver_error cuCtxGetLimit(size_t *value, int limit) { (void)limit; *value = 1 << 20; return OK; }
driver_error cuCtxSetLimit(int limit, size_t value) { (void)limit, (void)value; return OK; }

/* ---- memory ---- */

driver_error cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes)
{
    vgpu_device *d = vgpu_device_at(vgpu_current_device);
    if (!d)
        return NO_DEVICE;
    *total_bytes = d->total_bytes;
    *free_bytes = vgpu_free_bytes(vgpu_current_device);
    return OK;
}

driver_error cuMemAlloc_v2(uint64_t *pointer, size_t bytes)
{
    *pointer = (uint64_t)(uintptr_t)vgpu_allocate(vgpu_current_device, bytes);
    return *pointer ? OK : OUT_OF_MEMORY;
}

driver_error cuMemFree_v2(uint64_t pointer) { return vgpu_release((void *)(uintptr_t)pointer) ? INVALID_VALUE : OK; }

driver_error cuMemGetAddressRange_v2(uint64_t *base, size_t *bytes, uint64_t pointer)
{
    void *start = NULL;
    size_t length = 0;
    if (!vgpu_lookup((void *)(uintptr_t)pointer, &start, &length, NULL))
        return INVALID_VALUE;
    if (base) *base = (uint64_t)(uintptr_t)start;
    if (bytes) *bytes = length;
    return OK;
}

driver_error cuMemsetD32Async(void) { return OK; }
driver_error cuStreamWriteValue32_v2(void) { return OK; }

driver_error cuPointerGetAttribute(void *data, int attribute, uint64_t pointer)
{
    int device = 0;
    int kind = vgpu_lookup((void *)(uintptr_t)pointer, NULL, NULL, &device);
    if (!kind)
        return INVALID_VALUE;
    switch (attribute) {
    case 1: *(void **)data = &context_of[device]; return OK;           /* context */
    case 2: *(int *)data = kind == VGPU_DEVICE ? 2 : 1; return OK;     /* memory type: device, host */
    case 3: *(uint64_t *)data = pointer; return OK;                    /* device pointer */
    case 9: *(int *)data = device; return OK;                          /* device ordinal */
    default: vgpu_note_unknown("cuPointerGetAttribute (this attribute)"); return NOT_SUPPORTED;
    }
}

/* ---- virtual memory management ---- */

typedef struct { int type, handle_types, location_type, location_id; void *windows; unsigned char flags[8]; } allocation_properties;

driver_error cuMemGetAllocationGranularity(size_t *granularity, const allocation_properties *p, int option)
{
    (void)p, (void)option;
    *granularity = VGPU_PAGE_BYTES;
    return OK;
}

driver_error cuMemAddressReserve(uint64_t *pointer, size_t bytes, size_t alignment, uint64_t hint, unsigned long long flags)
{
    (void)hint, (void)flags;
    *pointer = (uint64_t)(uintptr_t)vgpu_reserve_range(bytes, alignment);
    return *pointer ? OK : OUT_OF_MEMORY;
}

driver_error cuMemAddressFree(uint64_t pointer, size_t bytes) { return vgpu_free_range((void *)(uintptr_t)pointer, bytes) ? INVALID_VALUE : OK; }

driver_error cuMemCreate(uint64_t *handle, size_t bytes, const allocation_properties *p, unsigned long long flags)
{
    (void)flags;
    *handle = (uint64_t)(uintptr_t)vgpu_create_handle(p->location_id, bytes);
    return *handle ? OK : OUT_OF_MEMORY;
}

driver_error cuMemRelease(uint64_t handle) { return vgpu_release_handle((void *)(uintptr_t)handle); }

driver_error cuMemMap(uint64_t pointer, size_t bytes, size_t offset, uint64_t handle, unsigned long long flags)
{
    (void)offset, (void)flags;
    return vgpu_map_handle((void *)(uintptr_t)pointer, bytes, (void *)(uintptr_t)handle) ? OUT_OF_MEMORY : OK;
}

driver_error cuMemUnmap(uint64_t pointer, size_t bytes) { return vgpu_unmap_range((void *)(uintptr_t)pointer, bytes); }
driver_error cuMemSetAccess(uint64_t pointer, size_t bytes, const void *access, size_t count)
{
    (void)pointer, (void)bytes, (void)access, (void)count;
    return OK;
}

driver_error cuMemRetainAllocationHandle(uint64_t *handle, void *pointer)
{
    *handle = (uint64_t)(uintptr_t)vgpu_handle_at(pointer);
    return *handle ? OK : INVALID_VALUE;
}

driver_error cuMemGetAllocationPropertiesFromHandle(allocation_properties *p, uint64_t handle)
{
    *p = (allocation_properties){.type = 1, .location_type = 1, .location_id = vgpu_handle_device((void *)(uintptr_t)handle)};
    return OK;
}

/* torch insists on finding these two at start-up, though only memory shared between processes uses them. */
driver_error cuMemExportToShareableHandle(void) { vgpu_note_unknown("cuMemExportToShareableHandle"); return NOT_SUPPORTED; }
driver_error cuMemImportFromShareableHandle(void) { vgpu_note_unknown("cuMemImportFromShareableHandle"); return NOT_SUPPORTED; }

/* ---- modules and kernels ---- */

static driver_error new_handle(void **handle) { *handle = vgpu_new_handle(); return OK; }

driver_error cuModuleLoad(void **module, const char *name) { (void)name; return new_handle(module); }
driver_error cuModuleLoadData(void **module, const void *image) { (void)image; return new_handle(module); }
driver_error cuModuleLoadDataEx(void **module) { return new_handle(module); }
driver_error cuModuleUnload(void *module) { (void)module; return OK; }
driver_error cuModuleGetFunction(void **function, void *module, const char *name) { (void)module, (void)name; return new_handle(function); }
driver_error cuModuleGetLoadingMode(int *mode) { *mode = 2; return OK; } /* lazy */
driver_error cuLinkCreate_v2(unsigned n, int *options, void **values, void **state) { (void)n, (void)options, (void)values; return new_handle(state); }
driver_error cuLinkAddData_v2(void) { return OK; }
driver_error cuLinkComplete(void *state, void **image, size_t *bytes) { *image = state; *bytes = 0; return OK; }
driver_error cuLinkDestroy(void *state) { (void)state; return OK; }
driver_error cuFuncSetAttribute(void) { return OK; }
driver_error cuFuncSetCacheConfig(void) { return OK; }
driver_error cuFuncLoad(void *function) { (void)function; return OK; }

driver_error cuFuncGetAttribute(int *value, int attribute, void *function)
{
    (void)function;
    vgpu_device *d = vgpu_device_at(vgpu_current_device);
    switch (attribute) {
    case 0: *value = 1024; return OK;                       /* threads a block */
    case 4: *value = 32; return OK;                         /* registers: not known */
    case 5: case 6: *value = d ? d->ptx_version : 0; return OK;
    default: *value = 0; return OK;                         /* no spills, no static shared memory */
    }
}

driver_error cuLaunchKernel(void) { vgpu_count_launch(); return OK; }
driver_error cuLaunchKernelEx(void) { vgpu_count_launch(); return OK; }
driver_error cuLaunchCooperativeKernel(void) { vgpu_count_launch(); return OK; }

driver_error cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, void *function, int block_size, size_t shared)
{
    (void)function;
    *blocks = vgpu_occupancy(vgpu_current_device, block_size, shared);
    return OK;
}

driver_error cuOccupancyMaxActiveClusters(int *clusters, void *function, const void *config)
{
    (void)function, (void)config;
    *clusters = 1;
    return OK;
}

driver_error cuTensorMapEncodeTiled(void *map) { memset(map, 0, 128); return OK; }
driver_error cuTensorMapEncodeIm2col(void *map) { memset(map, 0, 128); return OK; }

/* ---- looking functions up by name ---- */

#define ENTRY(name) {#name, (void (*)(void))name}
#define ENTRY_AS(name, function) {#name, (void (*)(void))function}
static const struct { const char *name; void (*function)(void); } entries[] = {
    ENTRY(cuInit), ENTRY(cuDriverGetVersion), ENTRY(cuGetErrorString), ENTRY(cuGetErrorName), ENTRY(cuDeviceGetCount),
    ENTRY(cuDeviceGet), ENTRY(cuDeviceGetName), ENTRY(cuDeviceGetAttribute), ENTRY_AS(cuDeviceTotalMem, cuDeviceTotalMem_v2),
    ENTRY(cuDevicePrimaryCtxRetain), ENTRY_AS(cuDevicePrimaryCtxRelease, cuDevicePrimaryCtxRelease_v2),
    ENTRY(cuDevicePrimaryCtxGetState), ENTRY(cuCtxGetCurrent), ENTRY(cuCtxSetCurrent), ENTRY_AS(cuCtxPushCurrent, cuCtxPushCurrent_v2),
    ENTRY_AS(cuCtxPopCurrent, cuCtxPopCurrent_v2), ENTRY(cuCtxGetDevice), ENTRY(cuCtxSynchronize),
    ENTRY_AS(cuMemGetInfo, cuMemGetInfo_v2), ENTRY_AS(cuMemAlloc, cuMemAlloc_v2), ENTRY_AS(cuMemFree, cuMemFree_v2),
    ENTRY_AS(cuMemGetAddressRange, cuMemGetAddressRange_v2), ENTRY(cuMemsetD32Async),
    ENTRY_AS(cuStreamWriteValue32, cuStreamWriteValue32_v2), ENTRY(cuPointerGetAttribute), ENTRY(cuMemGetAllocationGranularity),
    ENTRY(cuMemAddressReserve), ENTRY(cuMemAddressFree), ENTRY(cuMemCreate), ENTRY(cuMemRelease), ENTRY(cuMemMap), ENTRY(cuMemUnmap),
    ENTRY(cuMemSetAccess), ENTRY(cuMemRetainAllocationHandle), ENTRY(cuMemGetAllocationPropertiesFromHandle),
    ENTRY(cuMemExportToShareableHandle), ENTRY(cuMemImportFromShareableHandle), ENTRY(cuModuleLoad),
    ENTRY(cuModuleLoadData), ENTRY(cuModuleLoadDataEx), ENTRY(cuModuleUnload), ENTRY(cuModuleGetFunction), ENTRY(cuFuncSetAttribute),
    ENTRY(cuFuncGetAttribute), ENTRY(cuFuncSetCacheConfig), ENTRY(cuLaunchKernel), ENTRY(cuLaunchKernelEx),
    ENTRY(cuLaunchCooperativeKernel), ENTRY(cuOccupancyMaxActiveBlocksPerMultiprocessor), ENTRY(cuOccupancyMaxActiveClusters),
    ENTRY(cuTensorMapEncodeTiled), ENTRY(cuTensorMapEncodeIm2col),
};

void *vgpu_driver_entry(const char *name)
{
    for (size_t i = 0; i < sizeof entries / sizeof *entries; i++)
        if (strcmp(entries[i].name, name) == 0)
            return (void *)entries[i].function;
    return NULL;
}

/* nvRTC asks for such tables under this name, and goes on without. */
driver_error cuGetExportTable(void) { return NOT_SUPPORTED; }

driver_error cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *status)
{
    (void)version, (void)flags;
    *function = strcmp(name, "cuGetProcAddress") == 0 ? (void *)cuGetProcAddress_v2 : vgpu_driver_entry(name);
    /* Libraries that bring a CUDA runtime of their own cannot start without these tables. */
    if (!*function && strcmp(name, "cuGetExportTable") == 0)
        vgpu_note_unknown(name);
    if (status)
        *status = *function ? 0 : 1;
    return *function ? OK : NOT_FOUND;
}

driver_error cuGetProcAddress(const char *name, void **function, int version, uint64_t flags)
{
    return cuGetProcAddress_v2(name, function, version, flags, NULL);
}
