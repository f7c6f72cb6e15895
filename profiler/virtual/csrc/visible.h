/* Which cards CUDA shows this process. */
#ifndef PEAKVRAM_VISIBLE_H
#define PEAKVRAM_VISIBLE_H

/* How many, and the place in the state of the one that is shown under a number (-1: none). */
int vgpu_num_devices(void);
int vgpu_card_of(int device);

#endif
