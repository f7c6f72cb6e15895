/* Copies between host and device, and what is answered in their place. */
#ifndef PEAKVRAM_COPIES_H
#define PEAKVRAM_COPIES_H

#include <stddef.h>
#include <stdint.h>

/* Writes to device memory are dropped: what a device holds is written by vgpu_open's callers (memory.h) alone, so
 * everything else reads as zeros whatever was there before. -1 where a side that must be the card's is not, or a range
 * is not all of one thing. */
int vgpu_copy(void *to, const void *from, size_t bytes, int is_to_device, int is_from_device);
/* Writes this thread's last copy from the host to device memory after all, if it was this one and small.
 * The range must be open. 0 on success. */
int vgpu_recall(void *pointer, size_t bytes);
/* Answers this thread's next reads of device memory, in order, with these integers instead, each in as many bytes as
 * are read. They must stay until vgpu_unplant, which ends it: 0 if each was read, and nothing else was. */
void vgpu_plant(const int64_t *answers, size_t count);
int vgpu_unplant(void);

#endif
