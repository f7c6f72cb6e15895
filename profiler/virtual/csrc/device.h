/* What a device says of itself, shared by the runtime and the driver stand-ins. */
#ifndef PEAKVRAM_DEVICE_H
#define PEAKVRAM_DEVICE_H

#include "state.h"

#include <stddef.h>

/* The calling thread's current device, as cudaSetDevice and cuCtxSetCurrent leave it. */
extern __thread int vgpu_current_device;

/* The device's record, or NULL if there is no such device. */
vgpu_device *vgpu_device_at(int device);
/* A device attribute by its number; the runtime's and the driver's numbers are the same. -1 if there is no such device. */
int vgpu_attribute(int attribute, int device, int *value);
/* Blocks of a kernel that fit one multiprocessor. Register use is not known: threads and shared memory decide. */
int vgpu_occupancy(int device, int block_size, size_t shared_bytes);
void vgpu_bus_id(int device, char *text, int length);
void vgpu_count_launch(void);

#endif
