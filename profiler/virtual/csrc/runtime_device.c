/* Errors and devices. */
#include "runtime.h"
#include "visible.h"

#include <stdio.h>

static __thread runtime_error last_error;

runtime_error vgpu_fail(runtime_error error)
{
    return last_error = error;
}

runtime_error vgpu_check_stream(const void *stream)
{
    return vgpu_is_stream(stream) ? OK : vgpu_fail(INVALID_HANDLE);
}

runtime_error cudaGetLastError(void)
{
    runtime_error error = last_error;
    last_error = OK;
    return error;
}

runtime_error cudaPeekAtLastError(void) { return last_error; }

const char *cudaGetErrorName(runtime_error error)
{
    const vgpu_error *known = vgpu_error_of(error);
    return known ? known->runtime : "unrecognized error code";
}

const char *cudaGetErrorString(runtime_error error)
{
    const char *text = vgpu_error_text(error);
    return text ? text : "unrecognized error code";
}

static int driver_too_old(void)
{
    vgpu_state *state = vgpu_get();
    return state && state->quirks & VGPU_QUIRK_DRIVER_TOO_OLD;
}

runtime_error cudaGetDeviceCount(int *count)
{
    if (!count)
        return vgpu_fail(INVALID_VALUE);
    *count = 0;
    if (driver_too_old())
        return vgpu_fail(INSUFFICIENT_DRIVER);
    *count = vgpu_num_devices();
    return *count ? OK : vgpu_fail(NO_DEVICE);
}

runtime_error cudaGetDevice(int *device)
{
    if (!vgpu_num_devices())
        return vgpu_fail(NO_DEVICE);
    if (!device)
        return vgpu_fail(INVALID_VALUE);
    *device = vgpu_current_device;
    return OK;
}

runtime_error cudaSetDevice(int device)
{
    if (!vgpu_device_at(device))
        return vgpu_fail(INVALID_DEVICE);
    vgpu_current_device = device;
    return vgpu_enter(device) ? vgpu_fail(OUT_OF_MEMORY) : OK; /* the context is made here, since CUDA 12 */
}

static runtime_error give_version(int *version, int known)
{
    if (!version)
        return vgpu_fail(INVALID_VALUE);
    *version = known;
    return OK;
}

runtime_error cudaDriverGetVersion(int *version)
{
    vgpu_state *state = vgpu_get();
    return give_version(version, state ? state->driver_version : 0);
}

runtime_error cudaRuntimeGetVersion(int *version)
{
    vgpu_state *state = vgpu_get();
    return give_version(version, state ? state->cuda_version : 0);
}

runtime_error cudaDeviceGetAttribute(int *value, int attribute, int device)
{
    if (!value)
        return vgpu_fail(INVALID_VALUE);
    return vgpu_attribute(attribute, device, value) ? vgpu_fail(INVALID_DEVICE) : OK;
}

/* Where a field of cudaDeviceProp lies: in CUDA 12 (1032 bytes) and in CUDA 13 (1008 bytes), read off the
 * public headers of 12.4 and 13.0; a test holds the second to the headers inside the installed wheel. */
static const struct { short attribute, at12, at13, wide; } property[] = {
    {8, 296, 296, 8}, {12, 304, 304, 4}, {10, 308, 308, 4}, {11, 312, 312, 8}, {1, 320, 320, 4},
    {2, 324, 324, 4}, {3, 328, 328, 4}, {4, 332, 332, 4}, {5, 336, 336, 4}, {6, 340, 340, 4}, {7, 344, 344, 4},
    {9, 352, 352, 8}, {75, 360, 360, 4}, {76, 364, 364, 4}, {14, 368, 368, 8}, {16, 388, 384, 4},
    {19, 400, 392, 4}, {31, 576, 560, 4}, {33, 584, 568, 4}, {40, 600, 584, 4}, {41, 604, 588, 4},
    {37, 612, 592, 4}, {38, 616, 596, 4}, {39, 624, 604, 4}, {78, 628, 608, 4}, {79, 632, 612, 4},
    {80, 636, 616, 4}, {81, 640, 624, 8}, {82, 648, 632, 4}, {83, 652, 636, 4}, {89, 676, 656, 4},
    {90, 680, 660, 4}, {91, 684, 664, 4}, {95, 688, 668, 4}, {97, 696, 672, 8}, {106, 712, 688, 4},
    {111, 720, 696, 8},
};

static unsigned char hex_digit(char c)
{
    return (unsigned char)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
}

static runtime_error device_properties(char *out, int device, int cuda_major)
{
    vgpu_device *d = vgpu_device_at(device);
    if (!out)
        return vgpu_fail(INVALID_VALUE);
    if (!d)
        return vgpu_fail(INVALID_DEVICE);
    memset(out, 0, cuda_major == 12 ? 1032 : 1008);
    memcpy(out, d->name, sizeof d->name);
    int digits = 0;
    for (const char *c = d->uuid + 4; *c && digits < 32; c++)
        if (*c != '-') {
            out[256 + digits / 2] = (char)((unsigned char)out[256 + digits / 2] << 4 | hex_digit(*c));
            digits++;
        }
    memcpy(out + 288, &d->total_bytes, 8);
    for (size_t i = 0; i < sizeof property / sizeof *property; i++) {
        int value = 0;
        vgpu_attribute(property[i].attribute, device, &value);
        uint64_t wide = (uint64_t)value;
        memcpy(out + (cuda_major == 12 ? property[i].at12 : property[i].at13), &wide, (size_t)property[i].wide);
    }
    return OK;
}

runtime_error cudaGetDeviceProperties_v2(void *out, int device) { return device_properties(out, device, 12); }
runtime_error cudaGetDeviceProperties(void *out, int device) { return device_properties(out, device, 13); }

runtime_error cudaDeviceGetPCIBusId(char *text, int length, int device)
{
    if (!text || length < 1)
        return vgpu_fail(INVALID_VALUE);
    if (!vgpu_device_at(device))
        return vgpu_fail(INVALID_DEVICE);
    vgpu_bus_id(device, text, length);
    return OK;
}

runtime_error cudaDeviceGetByPCIBusId(int *device, const char *text)
{
    char own[20];
    if (!device || !text)
        return vgpu_fail(INVALID_VALUE);
    for (*device = 0; *device < vgpu_num_devices(); ++*device) {
        vgpu_bus_id(*device, own, sizeof own);
        if (strcmp(own, text) == 0)
            return OK;
    }
    return vgpu_fail(INVALID_DEVICE);
}

runtime_error cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    if (least) *least = 0;
    if (greatest) *greatest = -5;
    return OK;
}

runtime_error cudaDeviceCanAccessPeer(int *can, int device, int peer)
{
    if (!can)
        return vgpu_fail(INVALID_VALUE);
    if (!vgpu_device_at(device) || !vgpu_device_at(peer))
        return vgpu_fail(INVALID_DEVICE);
    *can = 0;
    return OK;
}

runtime_error cudaDeviceSynchronize(void) { return vgpu_enter(vgpu_current_device) ? vgpu_fail(OUT_OF_MEMORY) : OK; }
runtime_error cudaDeviceReset(void) { return OK; }
runtime_error cudaDeviceSetLimit(int limit, size_t value) { (void)limit, (void)value; return OK; }
runtime_error cudaProfilerStart(void) { return OK; }
runtime_error cudaProfilerStop(void) { return OK; }
