/* NVML: a card's place on the bus, what it can run, and its fixed modes. */
#include "nvml.h"

#include <stdio.h>
#include <string.h>

int nvmlDeviceGetMinorNumber(nvml_device handle, unsigned *minor)
{
    card c;
    int failed = vgpu_nvml_card(handle, &c);
    if (failed)
        return failed;
    if (!minor || c.is_slice)
        return INVALID_ARGUMENT;
    *minor = (unsigned)c.index;
    return SUCCESS;
}

static int fill_pci_info(nvml_device handle, pci_info *info, int has_bus_id)
{
    card c;
    int failed = vgpu_nvml_card(handle, &c);
    if (failed)
        return failed;
    if (!info)
        return INVALID_ARGUMENT;
    memset(info, 0, sizeof *info);
    info->bus = (unsigned)c.index + 1;
    info->pci_device_id = 0x10de; /* the maker's half; which product is not known */
    snprintf(info->legacy_bus_id, sizeof info->legacy_bus_id, "0000:%02X:00.0", info->bus);
    if (has_bus_id)
        snprintf(info->bus_id, sizeof info->bus_id, "00000000:%02X:00.0", info->bus);
    return SUCCESS;
}

int nvmlDeviceGetPciInfo(nvml_device handle, pci_info *info) { return fill_pci_info(handle, info, 0); }
int nvmlDeviceGetPciInfo_v2(nvml_device handle, pci_info *info) { return fill_pci_info(handle, info, 0); }
int nvmlDeviceGetPciInfo_v3(nvml_device handle, pci_info *info) { return fill_pci_info(handle, info, 1); }

int nvmlDeviceGetPciInfoExt(nvml_device handle, pci_info_ext *info)
{
    pci_info plain;
    int failed = fill_pci_info(handle, &plain, 1);
    if (failed)
        return failed;
    if (!info)
        return INVALID_ARGUMENT;
    if (info->version != (1u << 24 | sizeof *info))
        return VERSION_MISMATCH;
    info->domain = plain.domain;
    info->bus = plain.bus;
    info->device = plain.device;
    info->pci_device_id = plain.pci_device_id;
    info->pci_subsystem_id = plain.pci_subsystem_id;
    info->base_class = 3; /* a display controller */
    info->sub_class = 2;  /* with no screen of its own */
    memcpy(info->bus_id, plain.bus_id, sizeof info->bus_id);
    return SUCCESS;
}

int nvmlDeviceGetCudaComputeCapability(nvml_device handle, int *major, int *minor)
{
    card c;
    int failed = vgpu_nvml_card(handle, &c);
    if (failed)
        return failed;
    if (!major || !minor)
        return INVALID_ARGUMENT;
    *major = c.device->cc_major;
    *minor = c.device->cc_minor;
    return SUCCESS;
}

/* A number that depends on the card alone. */
static int answer(nvml_device handle, unsigned *value, unsigned (*compute)(const vgpu_device *))
{
    card c;
    int failed = vgpu_nvml_card(handle, &c);
    if (failed)
        return failed;
    if (!value)
        return INVALID_ARGUMENT;
    *value = compute(c.device);
    return SUCCESS;
}

static unsigned architecture_of(const vgpu_device *device)
{
    switch (device->cc_major * 10 + device->cc_minor) {
    case 70: case 72: return 5;            /* Volta */
    case 75: return 6;                     /* Turing */
    case 80: case 86: case 87: return 7;   /* Ampere */
    case 89: return 8;                     /* Ada */
    case 90: return 9;                     /* Hopper */
    case 100: case 101: case 103: case 120: case 121: return 10; /* Blackwell */
    default: return 0xffffffffu;
    }
}

static unsigned brand_of(const vgpu_device *device)
{
    if (strstr(device->name, "GeForce"))
        return 5;
    return strstr(device->name, "RTX") ? 13 : 14;
}

static unsigned default_mode(const vgpu_device *device) { (void)device; return 0; }
static unsigned enabled(const vgpu_device *device) { (void)device; return 1; }

int nvmlDeviceGetArchitecture(nvml_device handle, unsigned *value) { return answer(handle, value, architecture_of); }
int nvmlDeviceGetBrand(nvml_device handle, unsigned *value) { return answer(handle, value, brand_of); }
int nvmlDeviceGetComputeMode(nvml_device handle, unsigned *value) { return answer(handle, value, default_mode); }
int nvmlDeviceGetPersistenceMode(nvml_device handle, unsigned *value) { return answer(handle, value, enabled); }
