/* NVML: the library itself, which cards there are, and how they are named.
 *
 * As far as pynvml and torch ask. Answers come from the shared state, so they agree with the CUDA stand-ins in
 * every process. The quirks make it answer as difficult cards do; each says what real ones were seen to do.
 */
#include "nvml.h"
#include "uuid.h"

#include <stdio.h>
#include <string.h>

/* A handle is the address of its card's element: one row for whole cards, one for their MIG slices. */
static char handles[2][VGPU_MAX_DEVICES];
static int num_initialized;

/* The lost card is the first one, so that a machine with several still has working ones. */
static int is_lost(const vgpu_state *state, int index)
{
    return index == 0 && has_quirk(state, VGPU_QUIRK_LOST);
}

int vgpu_nvml_state(vgpu_state **state)
{
    *state = vgpu_get();
    if (!*state || !__atomic_load_n(&num_initialized, __ATOMIC_ACQUIRE))
        return UNINITIALIZED;
    return SUCCESS;
}

int vgpu_nvml_card(nvml_device handle, card *found)
{
    int failed = vgpu_nvml_state(&found->state);
    if (failed)
        return failed;
    const char *first = &handles[0][0], *position = handle;
    if (!position || position < first || position >= first + sizeof handles)
        return INVALID_ARGUMENT;
    int offset = (int)(position - first);
    found->is_slice = offset / VGPU_MAX_DEVICES;
    found->index = offset % VGPU_MAX_DEVICES;
    if (found->index >= found->state->num_devices)
        return INVALID_ARGUMENT;
    if (found->is_slice && !has_quirk(found->state, VGPU_QUIRK_MIG))
        return INVALID_ARGUMENT;
    found->device = &found->state->devices[found->index];
    return is_lost(found->state, found->index) ? GPU_IS_LOST : SUCCESS;
}

static int copy_text(const char *text, char *to, unsigned length)
{
    if (!to)
        return INVALID_ARGUMENT;
    if (strlen(text) + 1 > length)
        return INSUFFICIENT_SIZE;
    strcpy(to, text);
    return SUCCESS;
}

int nvmlInitWithFlags(unsigned flags)
{
    (void)flags;
    if (!vgpu_get())
        return DRIVER_NOT_LOADED;
    __atomic_add_fetch(&num_initialized, 1, __ATOMIC_ACQ_REL);
    return SUCCESS;
}

int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

/* The first version set up every card at once, and failed if any was in a bad state. */
int nvmlInit(void)
{
    vgpu_state *state = vgpu_get();
    return state && has_quirk(state, VGPU_QUIRK_LOST) ? GPU_IS_LOST : nvmlInitWithFlags(0);
}

int nvmlShutdown(void)
{
    vgpu_state *state;
    int failed = vgpu_nvml_state(&state);
    if (!failed)
        __atomic_sub_fetch(&num_initialized, 1, __ATOMIC_ACQ_REL);
    return failed;
}

const char *nvmlErrorString(int error)
{
    switch (error) {
    case SUCCESS: return "Success";
    case UNINITIALIZED: return "Uninitialized";
    case INVALID_ARGUMENT: return "Invalid Argument";
    case NOT_SUPPORTED: return "Not Supported";
    case NO_PERMISSION: return "Insufficient Permissions";
    case NOT_FOUND: return "Not Found";
    case INSUFFICIENT_SIZE: return "Insufficient Size";
    case DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case FUNCTION_NOT_FOUND: return "Function Not Found";
    case GPU_IS_LOST: return "GPU is lost";
    case VERSION_MISMATCH: return "Argument version mismatch";
    default: return "Unknown Error";
    }
}

/* The newest CUDA of the driver; where it is to be too old and the state names a newer one, that of the major before. */
static int cuda_of_driver(const vgpu_state *state)
{
    int major = state->cuda_version / 1000;
    if (has_quirk(state, VGPU_QUIRK_DRIVER_TOO_OLD) && state->driver_version >= major * 1000)
        return (major - 1) * 1000 + 40;
    return state->driver_version;
}

/* Release 550 came with CUDA 12.4, release 470 with CUDA 11.4. */
static const char *driver_name(const vgpu_state *state)
{
    if (has_quirk(state, VGPU_QUIRK_DRIVER_TOO_OLD))
        return cuda_of_driver(state) >= 12000 ? "550.54.15" : "470.256.02";
    return state->driver_name;
}

int nvmlSystemGetDriverVersion(char *version, unsigned length)
{
    vgpu_state *state;
    int failed = vgpu_nvml_state(&state);
    return failed ? failed : copy_text(driver_name(state), version, length);
}

int nvmlSystemGetCudaDriverVersion_v2(int *version)
{
    vgpu_state *state;
    int failed = vgpu_nvml_state(&state);
    if (failed)
        return failed;
    if (!version)
        return INVALID_ARGUMENT;
    *version = cuda_of_driver(state);
    return SUCCESS;
}

int nvmlSystemGetCudaDriverVersion(int *version) { return nvmlSystemGetCudaDriverVersion_v2(version); }

int nvmlSystemGetNVMLVersion(char *version, unsigned length)
{
    vgpu_state *state;
    int failed = vgpu_nvml_state(&state);
    if (failed)
        return failed;
    char text[64];
    snprintf(text, sizeof text, "%d.%s", cuda_of_driver(state) / 1000, driver_name(state));
    return copy_text(text, version, length);
}

int nvmlDeviceGetCount_v2(unsigned *count)
{
    vgpu_state *state;
    int failed = vgpu_nvml_state(&state);
    if (failed)
        return failed;
    if (!count)
        return INVALID_ARGUMENT;
    *count = (unsigned)state->num_devices; /* a lost card is still counted */
    return SUCCESS;
}

int nvmlDeviceGetCount(unsigned *count) { return nvmlDeviceGetCount_v2(count); }

/* NVML's position of a card, from CUDA's and back. */
static int reorder(const vgpu_state *state, int index)
{
    return has_quirk(state, VGPU_QUIRK_NVML_REVERSED) ? state->num_devices - 1 - index : index;
}

int vgpu_nvml_handle(vgpu_state *state, int index, int is_slice, nvml_device *handle)
{
    if (is_lost(state, index))
        return GPU_IS_LOST;
    *handle = &handles[is_slice][index];
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, nvml_device *handle)
{
    vgpu_state *state;
    int failed = vgpu_nvml_state(&state);
    if (failed)
        return failed;
    if (!handle || index >= (unsigned)state->num_devices)
        return INVALID_ARGUMENT;
    return vgpu_nvml_handle(state, reorder(state, (int)index), 0, handle);
}

int nvmlDeviceGetHandleByIndex(unsigned index, nvml_device *handle)
{
    return nvmlDeviceGetHandleByIndex_v2(index, handle);
}

int nvmlDeviceGetHandleByUUID(const char *uuid, nvml_device *handle)
{
    vgpu_state *state;
    int failed = vgpu_nvml_state(&state);
    if (failed)
        return failed;
    if (!uuid || !handle)
        return INVALID_ARGUMENT;
    int is_split = has_quirk(state, VGPU_QUIRK_MIG);
    for (int i = 0; i < state->num_devices; i++) {
        char whole[64], slice[64], legacy[96];
        vgpu_uuid(&state->devices[i], is_split, 0, whole, sizeof whole);
        vgpu_uuid(&state->devices[i], is_split, 1, slice, sizeof slice);
        snprintf(legacy, sizeof legacy, "MIG-%s/1/0", whole); /* as drivers before release 470 named slices */
        if (!strcmp(uuid, whole))
            return vgpu_nvml_handle(state, i, 0, handle);
        if (is_split && (!strcmp(uuid, slice) || !strcmp(uuid, legacy)))
            return vgpu_nvml_handle(state, i, 1, handle);
    }
    return NOT_FOUND;
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, nvml_device *handle)
{
    vgpu_state *state;
    int failed = vgpu_nvml_state(&state);
    if (failed)
        return failed;
    unsigned domain, bus, device;
    if (!bus_id || !handle)
        return INVALID_ARGUMENT;
    if (sscanf(bus_id, "%x:%x:%x", &domain, &bus, &device) != 3) {
        domain = 0;
        if (sscanf(bus_id, "%x:%x", &bus, &device) != 2)
            return INVALID_ARGUMENT;
    }
    if (domain || device || bus < 1 || bus > (unsigned)state->num_devices)
        return NOT_FOUND;
    return vgpu_nvml_handle(state, (int)bus - 1, 0, handle);
}

int nvmlDeviceGetHandleByPciBusId(const char *bus_id, nvml_device *handle)
{
    return nvmlDeviceGetHandleByPciBusId_v2(bus_id, handle);
}

int nvmlDeviceGetName(nvml_device handle, char *name, unsigned length)
{
    card c;
    int failed = vgpu_nvml_card(handle, &c);
    if (failed)
        return failed;
    char text[128];
    snprintf(text, sizeof text, "%s", c.device->name);
    char *mig = strstr(text, " MIG ");
    if (mig && !c.is_slice)
        *mig = 0;
    if (!mig && c.is_slice)
        snprintf(text + strlen(text), sizeof text - strlen(text), " MIG 1g.%llugb",
                 (unsigned long long)(c.device->nvml_total_bytes + (1ull << 29)) >> 30);
    return copy_text(text, name, length);
}

int nvmlDeviceGetUUID(nvml_device handle, char *uuid, unsigned length)
{
    card c;
    int failed = vgpu_nvml_card(handle, &c);
    if (failed)
        return failed;
    char text[64];
    vgpu_uuid(c.device, has_quirk(c.state, VGPU_QUIRK_MIG), c.is_slice, text, sizeof text);
    return copy_text(text, uuid, length);
}

int nvmlDeviceGetIndex(nvml_device handle, unsigned *index)
{
    card c;
    int failed = vgpu_nvml_card(handle, &c);
    if (failed)
        return failed;
    if (!index)
        return INVALID_ARGUMENT;
    *index = c.is_slice ? 0u : (unsigned)reorder(c.state, c.index); /* a slice's index counts within its card */
    return SUCCESS;
}
