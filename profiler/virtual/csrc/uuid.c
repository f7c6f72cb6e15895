/* The UUIDs of cards and of their slices. */
#include "uuid.h"

#include <stdio.h>
#include <string.h>

/* CUDA reports the slice's identity as the device's, so the state's is the slice's; the whole card's is made
 * from it, digit by digit, so that no two cards can get the same one. */
void vgpu_uuid(const vgpu_device *device, int is_split, int is_slice, char *uuid, unsigned length)
{
    const char *digits = strchr(device->uuid, '-') ? strchr(device->uuid, '-') + 1 : device->uuid;
    snprintf(uuid, length, "%s-%s", is_slice ? "MIG" : "GPU", digits);
    for (char *c = uuid + 4; is_split && !is_slice && *c; c++) {
        const char *hexadecimal = "0123456789abcdef", *digit = strchr(hexadecimal, *c);
        if (digit)
            *c = hexadecimal[15 - (digit - hexadecimal)];
    }
}
