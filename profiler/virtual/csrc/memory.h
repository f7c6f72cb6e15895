/* Address space standing for device memory, and what was handed out of it. */
#ifndef PEAKVRAM_MEMORY_H
#define PEAKVRAM_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#define VGPU_PAGE_BYTES (2ull << 20) /* the granularity of device memory: cudaMalloc sizes are rounded up to it */

enum { VGPU_NOT_OURS, VGPU_DEVICE, VGPU_MANAGED, VGPU_PINNED };

/* Device memory: reserved address space that reads as zeros. NULL when the card is full. */
void *vgpu_allocate(int device, size_t bytes);
/* Host memory the host really writes (managed, pinned), counted apart from the card's. */
void *vgpu_allocate_host(int kind, size_t bytes);
/* 0, or -1 if the pointer was not handed out here. NULL is fine. */
int vgpu_release(void *pointer);
/* What a pointer is; base, size and device are filled in when they are not NULL and the pointer is ours. */
int vgpu_lookup(const void *pointer, void **base, size_t *bytes, int *device);

/* Virtual-memory management: address ranges, physical handles and the mappings between them. */
void *vgpu_reserve_range(size_t bytes, size_t alignment);
int vgpu_free_range(void *pointer, size_t bytes);
void *vgpu_create_handle(int device, size_t bytes); /* NULL when the card is full */
int vgpu_release_handle(void *handle);
int vgpu_map_handle(void *pointer, size_t bytes, void *handle);
int vgpu_unmap_range(void *pointer, size_t bytes);
void *vgpu_handle_at(const void *pointer);
int vgpu_handle_device(const void *handle);

/* Copies between host and device. Writes to device memory are dropped: what a device holds is written by
 * vgpu_open's callers alone, so everything else reads as zeros whatever was there before. */
void vgpu_copy(void *destination, const void *source, size_t bytes);
/* Makes a range of device memory writable by the host, for values that are known. 0 on success. */
int vgpu_open(void *pointer, size_t bytes);
/* Makes a range read as zeros again; nothing happens where no value was ever written. */
void vgpu_wipe(void *pointer, size_t bytes);
/* Writes this thread's last copy from the host to device memory after all, if it was this one and small.
 * The range must be open. 0 on success. */
int vgpu_recall(void *pointer, size_t bytes);
/* Answers this thread's next reads of device memory, in order, with these integers instead, each in as many bytes as
 * are read. They must stay until vgpu_unplant, which ends it: 0 if each was read, and nothing else was. */
void vgpu_plant(const int64_t *answers, size_t count);
int vgpu_unplant(void);

#endif
