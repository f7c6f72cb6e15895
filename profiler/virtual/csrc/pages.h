/* Address space that nothing stands behind, and the pages of it that hold values. */
#ifndef PEAKVRAM_PAGES_H
#define PEAKVRAM_PAGES_H

#include <stddef.h>
#include <stdint.h>

#define VGPU_PAGE_BYTES (2ull << 20) /* the granularity of device memory: cudaMalloc sizes are rounded up to it */

/* The next multiple of a unit, which is a power of two; 0 where no number is that large. */
static inline size_t vgpu_round_up(size_t bytes, size_t unit)
{
    return (bytes + (unit - 1)) & ~(unit - 1);
}

/* Address space that reads as zeros, in whole pages; NULL where there is none. */
char *vgpu_reserve_pages(size_t bytes, size_t alignment);
void vgpu_drop_pages(void *start, size_t bytes);

/* ---- with the tables held (spans.h) ---- */

/* Makes the pages around a range writable. 0, or -1. */
int vgpu_open_pages(uintptr_t start, size_t bytes);
int vgpu_are_pages_open(uintptr_t start, size_t bytes);
/* Zeros what the range has of writable pages. */
void vgpu_clear_pages(uintptr_t start, size_t bytes);
/* Makes the pages of a range, whole ones, read as zeros again. */
void vgpu_close_pages(uintptr_t start, size_t bytes);

#endif
