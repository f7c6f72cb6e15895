/* The CUDA driver stand-in: what torch, bitsandbytes and Triton ask of libcuda.so.1.
 *
 * The interesting part is virtual memory management, on which expandable segments rest. Modules load and
 * kernels launch without effect. There is no export table and no undocumented interface: the runtime is
 * replaced above, so nobody asks for one.
 */
#include "accounts.h"
#include "device.h"
#include "errors.h"
#include "handles.h"
#include "memory.h"
#include "pages.h"
#include "ranges.h"
#include "visible.h"

#include <stdio.h>
#include <string.h>

typedef int driver_error; /* CUresult */

static driver_error initialise(void)
{
    return vgpu_num_devices() ? OK : NO_DEVICE;
}

driver_error cuInit(unsigned flags) { (void)flags; return initialise(); }

driver_error cuDriverGetVersion(int *version)
{
    vgpu_state *state = vgpu_get();
    if (!version)
        return INVALID_VALUE;
    *version = state ? state->driver_version : 0;
    return OK;
}

driver_error cuGetErrorString(driver_error error, const char **text)
{
    if (!text)
        return INVALID_VALUE;
    *text = vgpu_error_text(error);
    return *text ? OK : INVALID_VALUE;
}

driver_error cuGetErrorName(driver_error error, const char **text)
{
    const vgpu_error *known = vgpu_error_of(error);
    if (!text)
        return INVALID_VALUE;
    *text = known ? known->driver : NULL;
    return *text ? OK : INVALID_VALUE;
}

/* ---- devices and contexts: one primary context a device ---- */

driver_error cuDeviceGetCount(int *count)
{
    if (!count)
        return INVALID_VALUE;
    *count = vgpu_num_devices();
    return OK;
}

driver_error cuDeviceGet(int *device, int ordinal)
{
    if (!device)
        return INVALID_VALUE;
    *device = ordinal;
    return vgpu_device_at(ordinal) ? OK : INVALID_DEVICE;
}

driver_error cuDeviceGetName(char *name, int length, int device)
{
    vgpu_device *d = vgpu_device_at(device);
    if (!name || length < 1)
        return INVALID_VALUE;
    if (d)
        snprintf(name, (size_t)length, "%s", d->name);
    return d ? OK : INVALID_DEVICE;
}

driver_error cuDeviceGetAttribute(int *value, int attribute, int device)
{
    if (!value)
        return INVALID_VALUE;
    return vgpu_attribute(attribute, device, value) ? INVALID_DEVICE : OK;
}

driver_error cuDeviceTotalMem_v2(size_t *bytes, int device)
{
    vgpu_device *d = vgpu_device_at(device);
    if (!bytes)
        return INVALID_VALUE;
    *bytes = d ? d->total_bytes : 0;
    return d ? OK : INVALID_DEVICE;
}

driver_error cuDeviceGetPCIBusId(char *text, int length, int device)
{
    if (!text || length < 1)
        return INVALID_VALUE;
    if (!vgpu_device_at(device))
        return INVALID_DEVICE;
    vgpu_bus_id(device, text, length);
    return OK;
}

static char context_of[VGPU_MAX_DEVICES]; /* its elements' addresses are the context handles */

/* -1: not a context. */
static int device_of(const void *context)
{
    uintptr_t place = (uintptr_t)context - (uintptr_t)context_of;
    return place < VGPU_MAX_DEVICES && vgpu_device_at((int)place) ? (int)place : -1;
}

driver_error cuDevicePrimaryCtxRetain(void **context, int device)
{
    if (!context)
        return INVALID_VALUE;
    if (!vgpu_device_at(device))
        return INVALID_DEVICE;
    *context = &context_of[device];
    return vgpu_enter(device) ? OUT_OF_MEMORY : OK;
}

driver_error cuDevicePrimaryCtxRelease_v2(int device) { return vgpu_device_at(device) ? OK : INVALID_DEVICE; }

driver_error cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active)
{
    if (!flags || !active)
        return INVALID_VALUE;
    if (!vgpu_device_at(device))
        return INVALID_DEVICE;
    *flags = 0;
    *active = vgpu_has_context(device);
    return OK;
}

driver_error cuCtxGetCurrent(void **context)
{
    if (!context)
        return INVALID_VALUE;
    *context = vgpu_has_context(vgpu_current_device) ? &context_of[vgpu_current_device] : NULL;
    return OK;
}

/* NULL takes the thread's context away, where here the device's own stays. */
driver_error cuCtxSetCurrent(void *context)
{
    if (!context)
        return OK;
    int device = device_of(context);
    if (device < 0)
        return INVALID_CONTEXT;
    vgpu_current_device = device;
    return OK;
}

driver_error cuCtxPushCurrent_v2(void *context) { return context ? cuCtxSetCurrent(context) : INVALID_CONTEXT; }
driver_error cuCtxPopCurrent_v2(void **context) { return context ? cuCtxGetCurrent(context) : OK; }

driver_error cuCtxGetDevice(int *device)
{
    if (!device)
        return INVALID_VALUE;
    *device = vgpu_current_device;
    return OK;
}

driver_error cuCtxSynchronize(void) { return OK; }

driver_error cuCtxGetLimit(size_t *value, int limit)
{
    (void)limit;
    if (!value)
        return INVALID_VALUE;
    *value = 1 << 20;
    return OK;
}

driver_error cuCtxSetLimit(int limit, size_t value) { (void)limit, (void)value; return OK; }

/* ---- memory ---- */

driver_error cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes)
{
    vgpu_device *d = vgpu_device_at(vgpu_current_device);
    if (!d)
        return NO_DEVICE;
    if (!free_bytes || !total_bytes)
        return INVALID_VALUE;
    *total_bytes = d->total_bytes;
    *free_bytes = vgpu_free_bytes(vgpu_current_device);
    return OK;
}

driver_error cuMemAlloc_v2(uint64_t *pointer, size_t bytes)
{
    if (!pointer || !bytes)
        return INVALID_VALUE;
    *pointer = (uint64_t)(uintptr_t)vgpu_allocate(vgpu_current_device, bytes);
    return *pointer ? OK : OUT_OF_MEMORY;
}

driver_error cuMemFree_v2(uint64_t pointer)
{
    if (!pointer)
        return OK;
    return vgpu_release((void *)(uintptr_t)pointer, 1u << VGPU_DEVICE | 1u << VGPU_MANAGED) ? INVALID_VALUE : OK;
}

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

static driver_error check_stream(const void *stream)
{
    return vgpu_is_stream(stream) ? OK : INVALID_HANDLE;
}

static driver_error check_range(uint64_t pointer, size_t bytes)
{
    return vgpu_reach((const void *)(uintptr_t)pointer, bytes) > VGPU_NOT_OURS ? OK : INVALID_VALUE;
}

driver_error cuMemsetD32Async(uint64_t pointer, unsigned value, size_t count, void *stream)
{
    (void)value;
    if (count > SIZE_MAX / 4 || pointer % 4)
        return INVALID_VALUE;
    driver_error failed = check_stream(stream);
    return failed || !count ? failed : check_range(pointer, count * 4);
}

driver_error cuStreamWriteValue32_v2(void *stream, uint64_t pointer)
{
    driver_error failed = check_stream(stream);
    return failed ? failed : check_range(pointer, 4);
}

driver_error cuPointerGetAttribute(void *data, int attribute, uint64_t pointer)
{
    int device = 0;
    int kind = vgpu_lookup((void *)(uintptr_t)pointer, NULL, NULL, &device);
    if (!kind || !data)
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

enum { PINNED = 1, ON_DEVICE = 1 };
typedef struct { int type, handle_types, location_type, location_id; void *windows; unsigned char flags[8]; } allocation_properties;
typedef struct { int location_type, location_id, flags; } access_description;

static int is_in_pages(uint64_t number)
{
    return number && number % VGPU_PAGE_BYTES == 0;
}

static driver_error check_properties(const allocation_properties *p)
{
    if (!p || p->type != PINNED || p->location_type != ON_DEVICE)
        return INVALID_VALUE;
    return vgpu_device_at(p->location_id) ? OK : INVALID_DEVICE;
}

driver_error cuMemGetAllocationGranularity(size_t *granularity, const allocation_properties *p, int option)
{
    if (!granularity || option < 0 || option > 1)
        return INVALID_VALUE;
    driver_error failed = check_properties(p);
    if (!failed)
        *granularity = VGPU_PAGE_BYTES;
    return failed;
}

driver_error cuMemAddressReserve(uint64_t *pointer, size_t bytes, size_t alignment, uint64_t hint, unsigned long long flags)
{
    (void)hint;
    if (!pointer || flags || !is_in_pages(bytes) || alignment & (alignment - 1))
        return INVALID_VALUE;
    *pointer = (uint64_t)(uintptr_t)vgpu_reserve_range(bytes, alignment);
    return *pointer ? OK : OUT_OF_MEMORY;
}

driver_error cuMemAddressFree(uint64_t pointer, size_t bytes) { return vgpu_free_range(pointer, bytes) ? INVALID_VALUE : OK; }

driver_error cuMemCreate(uint64_t *handle, size_t bytes, const allocation_properties *p, unsigned long long flags)
{
    if (!handle || flags || !is_in_pages(bytes))
        return INVALID_VALUE;
    driver_error failed = check_properties(p);
    if (failed)
        return failed;
    *handle = vgpu_create_handle(p->location_id, bytes);
    return *handle ? OK : OUT_OF_MEMORY;
}

driver_error cuMemRelease(uint64_t handle) { return vgpu_release_handle(handle) ? INVALID_VALUE : OK; }

driver_error cuMemMap(uint64_t pointer, size_t bytes, size_t offset, uint64_t handle, unsigned long long flags)
{
    if (offset || flags || !is_in_pages(pointer) || !is_in_pages(bytes))
        return INVALID_VALUE;
    return vgpu_map_handle(pointer, bytes, handle) ? INVALID_VALUE : OK;
}

driver_error cuMemUnmap(uint64_t pointer, size_t bytes)
{
    if (!is_in_pages(pointer) || !is_in_pages(bytes))
        return INVALID_VALUE;
    return vgpu_unmap_range(pointer, bytes) ? INVALID_VALUE : OK;
}

driver_error cuMemSetAccess(uint64_t pointer, size_t bytes, const access_description *access, size_t count)
{
    if (!access || !count || !is_in_pages(pointer) || !is_in_pages(bytes) || !vgpu_is_range_mapped(pointer, bytes))
        return INVALID_VALUE;
    for (size_t i = 0; i < count; i++)
        if (access[i].location_type == ON_DEVICE && !vgpu_device_at(access[i].location_id))
            return INVALID_DEVICE;
    return OK;
}

driver_error cuMemRetainAllocationHandle(uint64_t *handle, void *pointer)
{
    if (!handle)
        return INVALID_VALUE;
    *handle = vgpu_handle_at((uintptr_t)pointer);
    return *handle ? OK : INVALID_VALUE;
}

driver_error cuMemGetAllocationPropertiesFromHandle(allocation_properties *p, uint64_t handle)
{
    int device = vgpu_handle_device(handle);
    if (!p || device < 0)
        return INVALID_VALUE;
    *p = (allocation_properties){.type = PINNED, .location_type = ON_DEVICE, .location_id = device};
    return OK;
}

/* torch insists on finding these two at start-up, though only memory shared between processes uses them. */
driver_error cuMemExportToShareableHandle(void) { vgpu_note_unknown("cuMemExportToShareableHandle"); return NOT_SUPPORTED; }
driver_error cuMemImportFromShareableHandle(void) { vgpu_note_unknown("cuMemImportFromShareableHandle"); return NOT_SUPPORTED; }

/* ---- modules and kernels ---- */

static driver_error new_handle(vgpu_kind kind, void **handle) { return vgpu_give_handle(kind, handle, INVALID_VALUE, OUT_OF_MEMORY); }
static driver_error check(vgpu_kind kind, const void *handle) { return vgpu_is_handle(kind, handle) ? OK : INVALID_HANDLE; }
static driver_error drop(vgpu_kind kind, const void *handle) { return vgpu_drop_handle(kind, handle) ? INVALID_HANDLE : OK; }

driver_error cuModuleLoad(void **module, const char *name) { return name ? new_handle(VGPU_MODULE, module) : INVALID_VALUE; }
driver_error cuModuleLoadData(void **module, const void *image) { return image ? new_handle(VGPU_MODULE, module) : INVALID_VALUE; }
driver_error cuModuleLoadDataEx(void **module, const void *image) { return cuModuleLoadData(module, image); }
driver_error cuModuleUnload(void *module) { return drop(VGPU_MODULE, module); }

/* Functions outlive their module here: a launch by one of a module that was unloaded is not seen. */
driver_error cuModuleGetFunction(void **function, void *module, const char *name)
{
    if (!function || !name)
        return INVALID_VALUE;
    driver_error failed = check(VGPU_MODULE, module);
    return failed ? failed : new_handle(VGPU_FUNCTION, function);
}

/* Lazily. */
driver_error cuModuleGetLoadingMode(int *mode)
{
    if (!mode)
        return INVALID_VALUE;
    *mode = 2;
    return OK;
}

driver_error cuLinkCreate_v2(unsigned n, int *options, void **values, void **state)
{
    (void)n, (void)options, (void)values;
    return new_handle(VGPU_LINK, state);
}

driver_error cuLinkAddData_v2(void *state) { return check(VGPU_LINK, state); }

driver_error cuLinkComplete(void *state, void **image, size_t *bytes)
{
    driver_error failed = check(VGPU_LINK, state);
    if (failed)
        return failed;
    if (!image)
        return INVALID_VALUE;
    *image = state;
    if (bytes)
        *bytes = 0;
    return OK;
}

driver_error cuLinkDestroy(void *state) { return drop(VGPU_LINK, state); }
driver_error cuFuncSetAttribute(void *function) { return check(VGPU_FUNCTION, function); }
driver_error cuFuncSetCacheConfig(void *function) { return check(VGPU_FUNCTION, function); }
driver_error cuFuncLoad(void *function) { return check(VGPU_FUNCTION, function); }

driver_error cuFuncGetAttribute(int *value, int attribute, void *function)
{
    vgpu_device *d = vgpu_device_at(vgpu_current_device);
    if (!value)
        return INVALID_VALUE;
    switch (attribute) {
    case 0: *value = 1024; break;                       /* threads a block */
    case 4: *value = 32; break;                         /* registers: not known */
    case 5: case 6: *value = d ? d->ptx_version : 0; break;
    default: *value = 0; break;                         /* no spills, no static shared memory */
    }
    return check(VGPU_FUNCTION, function);
}

static driver_error launch(const void *function, const void *stream)
{
    driver_error failed = check(VGPU_FUNCTION, function);
    if (!failed && !(failed = check_stream(stream)))
        vgpu_count_launch();
    return failed;
}

#define SIZES unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared

driver_error cuLaunchKernel(void *function, SIZES, void *stream)
{
    (void)gx, (void)gy, (void)gz, (void)bx, (void)by, (void)bz, (void)shared;
    return launch(function, stream);
}

driver_error cuLaunchCooperativeKernel(void *function, SIZES, void *stream)
{
    (void)gx, (void)gy, (void)gz, (void)bx, (void)by, (void)bz, (void)shared;
    return launch(function, stream);
}

typedef struct { unsigned sizes[7]; void *stream; } launch_configuration; /* its beginning */

driver_error cuLaunchKernelEx(const launch_configuration *configuration, void *function)
{
    return configuration ? launch(function, configuration->stream) : INVALID_VALUE;
}

driver_error cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, void *function, int block_size, size_t shared)
{
    if (!blocks)
        return INVALID_VALUE;
    *blocks = vgpu_occupancy(vgpu_current_device, block_size, shared);
    return check(VGPU_FUNCTION, function);
}

driver_error cuOccupancyMaxActiveClusters(int *clusters, void *function, const void *config)
{
    if (!clusters || !config)
        return INVALID_VALUE;
    *clusters = 1;
    return check(VGPU_FUNCTION, function);
}

static driver_error clear_map(void *map)
{
    if (!map)
        return INVALID_VALUE;
    memset(map, 0, 128);
    return OK;
}

driver_error cuTensorMapEncodeTiled(void *map) { return clear_map(map); }
driver_error cuTensorMapEncodeIm2col(void *map) { return clear_map(map); }

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
    for (size_t i = 0; name && i < sizeof entries / sizeof *entries; i++)
        if (strcmp(entries[i].name, name) == 0)
            return (void *)entries[i].function;
    return NULL;
}

/* nvRTC asks for such tables under this name, and goes on without. */
driver_error cuGetExportTable(void) { return NOT_SUPPORTED; }

driver_error cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *status)
{
    (void)version, (void)flags;
    if (!name || !function)
        return INVALID_VALUE;
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
