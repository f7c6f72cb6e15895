/* What the parts of the NVML stand-in share: its numbers, its structures, and what a handle stands for. */
#ifndef PEAKVRAM_NVML_H
#define PEAKVRAM_NVML_H

#include "state.h"

enum {
    SUCCESS = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NO_PERMISSION = 4,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9,
    FUNCTION_NOT_FOUND = 13,
    GPU_IS_LOST = 15,
    VERSION_MISMATCH = 25,
};

#define NOT_AVAILABLE 0xffffffffffffffffull /* a process's memory, where the driver does not manage it */
#define NO_INSTANCE 0xffffffffu             /* of a process that does not run on a MIG slice */
#define HOST_PID_OFFSET 0x400000            /* Linux's largest process id, so that none of ours is met by chance */

typedef void *nvml_device;

typedef struct {
    unsigned long long total, free, used;
} memory_v1;

typedef struct {
    unsigned version;
    unsigned long long total, reserved, free, used;
} memory_v2;

typedef struct {
    unsigned pid;
    unsigned long long used;
} process_v1;

typedef struct {
    unsigned pid;
    unsigned long long used;
    unsigned gpu_instance, compute_instance;
} process_v2;

typedef struct {
    char legacy_bus_id[16];
    unsigned domain, bus, device, pci_device_id, pci_subsystem_id;
    char bus_id[32]; /* in the older two versions four reserved numbers */
} pci_info;

typedef struct {
    unsigned version, domain, bus, device, pci_device_id, pci_subsystem_id, base_class, sub_class;
    char bus_id[32];
} pci_info_ext;

typedef struct {
    unsigned multiprocessors, copy_engines, decoders, encoders, jpegs, optical_flows, gpu_slices, compute_slices;
    unsigned long long memory_mib;
} attributes;

typedef struct {
    vgpu_state *state;
    vgpu_device *device;
    int index;    /* as CUDA counts */
    int is_slice; /* 1 for a MIG slice, 0 for a whole card */
} card;

/* The state, once NVML has been initialised. */
int vgpu_nvml_state(vgpu_state **state);
/* The card a handle stands for. */
int vgpu_nvml_card(nvml_device handle, card *found);
/* The handle of a card or of its MIG slice, unless the card is lost. */
int vgpu_nvml_handle(vgpu_state *state, int index, int is_slice, nvml_device *handle);

static inline int has_quirk(const vgpu_state *state, uint32_t quirk)
{
    return (state->quirks & quirk) != 0;
}

/* A card that is split, asked as a whole. */
static inline int is_mig_parent(const card *c)
{
    return !c->is_slice && has_quirk(c->state, VGPU_QUIRK_MIG);
}

#endif
