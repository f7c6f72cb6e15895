/* Virtual-memory management: address ranges, physical handles and the mappings between them. */
#ifndef PEAKVRAM_RANGES_H
#define PEAKVRAM_RANGES_H

#include <stddef.h>
#include <stdint.h>

/* Sizes are multiples of a page (pages.h). Where a function answers an int: 0, or -1 for what no such call may name. */
void *vgpu_reserve_range(size_t bytes, size_t alignment); /* NULL where there is no such address space */
int vgpu_free_range(uintptr_t start, size_t bytes);
uintptr_t vgpu_create_handle(int device, size_t bytes); /* 0 when the card is full */
int vgpu_release_handle(uintptr_t handle);
int vgpu_map_handle(uintptr_t start, size_t bytes, uintptr_t handle);
/* Of one mapping, or several in a row, each as a whole. */
int vgpu_unmap_range(uintptr_t start, size_t bytes);
int vgpu_is_range_mapped(uintptr_t start, size_t bytes);
/* The handle mapped at an address, which must be released once more; 0 if there is none. */
uintptr_t vgpu_handle_at(uintptr_t address);
/* -1: no such handle. */
int vgpu_handle_device(uintptr_t handle);

/* ---- with the tables held (spans.h) ---- */

/* The mapping at an address. 0, or -1 if there is none. */
int vgpu_find_mapping(uintptr_t address, uintptr_t *start, size_t *bytes, int *device);
int vgpu_is_mapped(uintptr_t start, size_t bytes);
int vgpu_is_reserved(uintptr_t address);

#endif
