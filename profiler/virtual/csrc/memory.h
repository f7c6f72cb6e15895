/* Address space standing for device memory, and what was handed out of it. */
#ifndef PEAKVRAM_MEMORY_H
#define PEAKVRAM_MEMORY_H

#include <stddef.h>
#include <stdint.h>

/* What lies at an address. A symbol is a variable of a program's that stands for its twin on the card. */
enum { VGPU_NOT_OURS, VGPU_DEVICE, VGPU_MANAGED, VGPU_PINNED, VGPU_REGISTERED, VGPU_SYMBOL };
#define VGPU_UNREACHABLE (-1)

/* Device memory: reserved address space that reads as zeros. NULL when the card is full. */
void *vgpu_allocate(int device, size_t bytes);
/* Host memory the host really writes (managed, pinned), counted apart from the card's. */
void *vgpu_allocate_host(int kind, size_t bytes);
/* Notes host memory that is not ours as registered, or as a symbol. 0, or -1 where some of it is noted already. */
int vgpu_note_host(int kind, void *pointer, size_t bytes);
/* Takes back what begins at a pointer, if it is of one of these kinds (as bits, 1 << kind). 0, or -1. */
int vgpu_release(void *pointer, unsigned kinds);
/* What a pointer is; base, size and device are filled in when they are not NULL and the pointer is ours. */
int vgpu_lookup(const void *pointer, void **base, size_t *bytes, int *device);
/* What a range is, all of it; VGPU_UNREACHABLE where it runs over the end of what is ours, or lies in address space for
 * device memory that has none. */
int vgpu_reach(const void *pointer, size_t bytes);

/* Makes a range of device memory writable by the host, for values that are known. 0 on success. */
int vgpu_open(void *pointer, size_t bytes);
/* Makes a range read as zeros again; nothing happens where no value was ever written. */
void vgpu_wipe(void *pointer, size_t bytes);
/* Writes to a range that is open. 0, or -1 where it is not. */
int vgpu_write(void *pointer, const void *data, size_t bytes);

#endif
