/* Device attributes, from the catalogue's figures in the shared state. */
#include "device.h"
#include "visible.h"

#include <stdio.h>

__thread int vgpu_current_device;

vgpu_device *vgpu_device_at(int device)
{
    int card = vgpu_card_of(device);
    return card < 0 ? NULL : &vgpu_get()->devices[card];
}

void vgpu_bus_id(int device, char *text, int length)
{
    snprintf(text, (size_t)length, "0000:%02x:00.0", vgpu_card_of(device) + 1);
}

void vgpu_count_launch(void)
{
    vgpu_device *d = vgpu_device_at(vgpu_current_device);
    if (d)
        __atomic_add_fetch(&d->num_launches, 1, __ATOMIC_RELAXED);
}

int vgpu_occupancy(int device, int block_size, size_t shared_bytes)
{
    vgpu_device *d = vgpu_device_at(device);
    if (!d || block_size < 1)
        return 1;
    int blocks = d->max_threads_per_sm / block_size;
    if (blocks > d->max_blocks_per_sm)
        blocks = d->max_blocks_per_sm;
    /* 1 KiB of every block's shared memory is the system's, from compute capability 8.0 on. */
    if (shared_bytes > d->shared_memory_per_sm_bytes)
        return 1;
    if (shared_bytes && (uint64_t)blocks > d->shared_memory_per_sm_bytes / (shared_bytes + 1024))
        blocks = (int)(d->shared_memory_per_sm_bytes / (shared_bytes + 1024));
    return blocks > 0 ? blocks : 1;
}

/* Numbers as in CUDA's device-attribute enumeration; figures that are the same on every card of compute
 * capability 7.5 to 12.0 come from the CUDA programming guide's table of technical specifications. */
int vgpu_attribute(int attribute, int device, int *value)
{
    vgpu_device *d = vgpu_device_at(device);
    if (!d || !value)
        return -1;
    switch (attribute) {
    case 1: case 2: case 3: *value = 1024; break;                       /* threads a block, block x, y */
    case 4: *value = 64; break;                                         /* block z */
    case 5: *value = 2147483647; break;                                 /* grid x */
    case 6: case 7: *value = 65535; break;                              /* grid y, z */
    case 8: *value = 49152; break;                                      /* shared memory a block */
    case 9: *value = 65536; break;                                      /* constant memory */
    case 10: *value = 32; break;                                        /* warp */
    case 11: *value = 2147483647; break;                                /* pitch */
    case 12: case 82: *value = 65536; break;                            /* registers a block, an SM */
    case 14: *value = 512; break;                                       /* texture alignment */
    case 16: *value = d->num_sms; break;
    case 33: *value = vgpu_card_of(device) + 1; break;                  /* PCI bus */
    case 37: *value = d->memory_bus_width_bits; break;
    case 38: *value = (int)d->l2_cache_bytes; break;
    case 39: *value = d->max_threads_per_sm; break;
    case 40: *value = 2; break;                                         /* copy engines */
    case 75: *value = d->cc_major; break;
    case 76: *value = d->cc_minor; break;
    case 81: *value = (int)d->shared_memory_per_sm_bytes; break;
    case 97: *value = (int)d->shared_memory_per_block_optin_bytes; break;
    case 102: *value = 1; break;                                        /* virtual memory management */
    case 106: *value = d->max_blocks_per_sm; break;
    case 111: *value = 1024; break;                                     /* shared memory the system reserves */
    case 120: *value = d->cc_major >= 9; break;                         /* thread-block clusters */
    /* maps host memory, concurrent kernels, unified addressing, stream priorities, L1 caches, managed memory,
     * native atomics, concurrent managed access, preemption, registered pointers, cooperative launch, flush, register */
    case 19: case 31: case 41: case 78: case 79: case 80: case 83: case 89: case 90: case 91: case 95: case 98: case 99:
        *value = 1;
        break;
    default: *value = 0; break;
    }
    return 0;
}
