/* The UUIDs of cards and of their slices. */
#ifndef PEAKVRAM_UUID_H
#define PEAKVRAM_UUID_H

#include "state.h"

/* A card's UUID as NVML tells it: of the whole card, or of its slice where cards are split. */
void vgpu_uuid(const vgpu_device *device, int is_split, int is_slice, char *uuid, unsigned length);

#endif
