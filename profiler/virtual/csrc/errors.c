/* The errors of the CUDA runtime and the driver, which share their numbers. */
#include "errors.h"
#include "state.h"

#include <stddef.h>
#include <stdio.h>

static const vgpu_error errors[] = {
    {OK, "cudaSuccess", "CUDA_SUCCESS", "no error"},
    {INVALID_VALUE, "cudaErrorInvalidValue", "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {OUT_OF_MEMORY, "cudaErrorMemoryAllocation", "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {INVALID_PITCH, "cudaErrorInvalidPitchValue", NULL, "invalid pitch argument"},
    {INVALID_SYMBOL, "cudaErrorInvalidSymbol", NULL, "invalid device symbol"},
    {INVALID_DIRECTION, "cudaErrorInvalidMemcpyDirection", NULL, "invalid copy direction for memcpy"},
    {INSUFFICIENT_DRIVER, "cudaErrorInsufficientDriver", NULL, "CUDA driver version is insufficient for CUDA runtime version"},
    {INVALID_FUNCTION, "cudaErrorInvalidDeviceFunction", NULL, "invalid device function"},
    {NO_DEVICE, "cudaErrorNoDevice", "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {INVALID_DEVICE, "cudaErrorInvalidDevice", "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {INVALID_CONTEXT, "cudaErrorDeviceUninitialized", "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {INVALID_HANDLE, "cudaErrorInvalidResourceHandle", "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {NOT_FOUND, "cudaErrorSymbolNotFound", "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {ALREADY_REGISTERED, "cudaErrorHostMemoryAlreadyRegistered", "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED",
     "part or all of the requested memory range is already mapped"},
    {NOT_REGISTERED, "cudaErrorHostMemoryNotRegistered", "CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED",
     "pointer does not correspond to a registered memory region"},
    {NOT_SUPPORTED, "cudaErrorNotSupported", "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
};

const vgpu_error *vgpu_error_of(int number)
{
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (errors[i].number == number)
            return &errors[i];
    return NULL;
}

const char *vgpu_error_text(int number)
{
    static __thread char text[160];
    const vgpu_error *error = vgpu_error_of(number);
    if (number != NOT_SUPPORTED || !vgpu_last_unknown())
        return error ? error->text : NULL;
    snprintf(text, sizeof text, "%s: the virtual GPU does not implement %s", error->text, vgpu_last_unknown());
    return text;
}
