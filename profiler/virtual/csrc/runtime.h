/* The CUDA runtime stand-in: the part of libcudart that torch and bitsandbytes call.
 *
 * Launches do nothing, events and streams are always complete, memory is address space. What is not in the
 * runtime_*.c files is in the generated file of unknown functions, each of which answers an error that carries
 * its name. CUDA 12 wheels ask for cudaGetDeviceProperties_v2 and CUDA 13 wheels for cudaGetDeviceProperties,
 * with different structs; everything else has one layout in both.
 */
#ifndef PEAKVRAM_RUNTIME_H
#define PEAKVRAM_RUNTIME_H

#include "accounts.h"
#include "device.h"
#include "errors.h"
#include "handles.h"
#include "memory.h"

#include <string.h>

typedef int runtime_error; /* cudaError_t */

runtime_error cudaDeviceSynchronize(void);

/* Remembers the error for cudaGetLastError and returns it. */
runtime_error vgpu_fail(runtime_error error);
/* Succeeds for a stream; fails for what is none. */
runtime_error vgpu_check_stream(const void *stream);

#endif
