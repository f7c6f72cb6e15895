/* NVML: cards that are split into MIG slices, the fabric they are not in, and what a virtual card cannot know.
 *
 * Clocks, power, temperature and utilisation answer "not supported", as they do on cards without the sensor.
 */
#include "nvml.h"

#include <string.h>

/* Cards that can be split at all: compute capability 8.0, 9.0 and 10.0. */
static int can_split(const card *c)
{
    return has_quirk(c->state, VGPU_QUIRK_MIG) || (c->device->cc_major >= 8 && c->device->cc_major <= 10 && !c->device->cc_minor);
}

int nvmlDeviceIsMigDeviceHandle(nvml_device handle, unsigned *is_slice)
{
    card c;
    int failed = vgpu_nvml_card(handle, &c);
    if (failed)
        return failed;
    if (!is_slice)
        return INVALID_ARGUMENT;
    *is_slice = (unsigned)c.is_slice;
    return SUCCESS;
}

int nvmlDeviceGetMigMode(nvml_device handle, unsigned *current, unsigned *pending)
{
    card c;
    int failed = vgpu_nvml_card(handle, &c);
    if (failed)
        return failed;
    if (!current || !pending || c.is_slice)
        return INVALID_ARGUMENT;
    if (!can_split(&c))
        return NOT_SUPPORTED;
    *current = *pending = (unsigned)has_quirk(c.state, VGPU_QUIRK_MIG);
    return SUCCESS;
}

int nvmlDeviceGetMaxMigDeviceCount(nvml_device handle, unsigned *count)
{
    card c;
    int failed = vgpu_nvml_card(handle, &c);
    if (failed)
        return failed;
    if (!count || c.is_slice)
        return INVALID_ARGUMENT;
    *count = is_mig_parent(&c) ? 7 : 0; /* seven slices are the most that any card has */
    return SUCCESS;
}

int nvmlDeviceGetMigDeviceHandleByIndex(nvml_device handle, unsigned index, nvml_device *slice)
{
    card c;
    int failed = vgpu_nvml_card(handle, &c);
    if (failed)
        return failed;
    if (!slice || c.is_slice)
        return INVALID_ARGUMENT;
    if (!is_mig_parent(&c))
        return NOT_SUPPORTED;
    return index ? NOT_FOUND : vgpu_nvml_handle(c.state, c.index, 1, slice);
}

int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvml_device slice, nvml_device *handle)
{
    card c;
    int failed = vgpu_nvml_card(slice, &c);
    if (failed)
        return failed;
    if (!handle || !c.is_slice)
        return INVALID_ARGUMENT;
    return vgpu_nvml_handle(c.state, c.index, 0, handle);
}

static int give_instance(nvml_device slice, unsigned *id, unsigned value)
{
    card c;
    int failed = vgpu_nvml_card(slice, &c);
    if (failed)
        return failed;
    if (!id || !c.is_slice)
        return INVALID_ARGUMENT;
    *id = value;
    return SUCCESS;
}

int nvmlDeviceGetGpuInstanceId(nvml_device slice, unsigned *id) { return give_instance(slice, id, 1); }
int nvmlDeviceGetComputeInstanceId(nvml_device slice, unsigned *id) { return give_instance(slice, id, 0); }

int nvmlDeviceGetAttributes_v2(nvml_device slice, attributes *to)
{
    card c;
    int failed = vgpu_nvml_card(slice, &c);
    if (failed)
        return failed;
    if (!to)
        return INVALID_ARGUMENT;
    if (!c.is_slice)
        return NOT_SUPPORTED;
    *to = (attributes){
        .multiprocessors = (unsigned)c.device->num_sms,
        .copy_engines = 1,
        .gpu_slices = 1,
        .compute_slices = 1,
        .memory_mib = c.device->nvml_total_bytes >> 20,
    };
    return SUCCESS;
}

int nvmlDeviceGetAttributes(nvml_device slice, attributes *to) { return nvmlDeviceGetAttributes_v2(slice, to); }

static int not_supported(nvml_device handle)
{
    card c;
    int failed = vgpu_nvml_card(handle, &c);
    return failed ? failed : NOT_SUPPORTED;
}

int nvmlDeviceGetUtilizationRates(nvml_device handle, void *rates)
{
    (void)rates;
    return not_supported(handle);
}

int nvmlDeviceGetTemperature(nvml_device handle, unsigned sensor, unsigned *degrees)
{
    (void)sensor, (void)degrees;
    return not_supported(handle);
}

int nvmlDeviceGetTemperatureV(nvml_device handle, void *temperature)
{
    (void)temperature;
    return not_supported(handle);
}

int nvmlDeviceGetPowerUsage(nvml_device handle, unsigned *milliwatts)
{
    (void)milliwatts;
    return not_supported(handle);
}

enum { FABRIC_V1_BYTES = 28, FABRIC_V2_BYTES = 36, FABRIC_V3_BYTES = 40 };

/* Of no NVLink fabric: a success, with state 0 (not supported), a cluster and a clique of zeros. So answers the
 * driver for a card that was never probed for one (subdeviceCtrlCmdGetGpuFabricProbeInfo in NVIDIA's open kernel
 * module). torch up to 2.13 takes an error for a failure of its own, and refuses expandable segments. */
static int in_no_fabric(nvml_device handle, unsigned char *info, size_t start, size_t end)
{
    card c;
    int failed = vgpu_nvml_card(handle, &c);
    if (!failed)
        memset(info + start, 0, end - start);
    return failed;
}

int nvmlDeviceGetGpuFabricInfo(nvml_device handle, void *info)
{
    return info ? in_no_fabric(handle, info, 0, FABRIC_V1_BYTES) : INVALID_ARGUMENT;
}

/* From the second version on the structure begins with its version. */
int nvmlDeviceGetGpuFabricInfoV(nvml_device handle, void *info)
{
    if (!info)
        return INVALID_ARGUMENT;
    unsigned version = *(unsigned *)info;
    if (version != (2u << 24 | FABRIC_V2_BYTES) && version != (3u << 24 | FABRIC_V3_BYTES))
        return VERSION_MISMATCH;
    return in_no_fabric(handle, info, sizeof version, version & 0xffffff);
}

int nvmlDeviceGetNvLinkRemoteDeviceType(nvml_device handle, unsigned link, unsigned *type)
{
    (void)link, (void)type;
    return not_supported(handle);
}

int nvmlDeviceGetNvLinkRemotePciInfo_v2(nvml_device handle, unsigned link, pci_info *info)
{
    (void)link, (void)info;
    return not_supported(handle);
}
