/* NVML: how much of a card's memory is used, and by which processes. */
#include "nvml.h"
#include "accounts.h"

/* Under the lock; what died processes held is given back first, as a driver does. */
static uint64_t used_bytes(const card *c)
{
    vgpu_lock(c->state);
    vgpu_reap(c->state);
    uint64_t used = c->device->used_bytes;
    vgpu_unlock(c->state);
    return used;
}

static uint64_t room(uint64_t total, uint64_t taken)
{
    return total > taken ? total - taken : 0;
}

/* A process that was given a slice may not ask about the whole card: seen in containers on A100 and H100. */
static int find_readable(nvml_device handle, card *c)
{
    int failed = vgpu_nvml_card(handle, c);
    return failed ? failed : is_mig_parent(c) ? NO_PERMISSION : SUCCESS;
}

int nvmlDeviceGetMemoryInfo(nvml_device handle, memory_v1 *info)
{
    card c;
    int failed = find_readable(handle, &c);
    if (failed)
        return failed;
    if (!info)
        return INVALID_ARGUMENT;
    /* Before release 510 the total left out what the driver keeps; since then it is counted as used. */
    int is_old = has_quirk(c.state, VGPU_QUIRK_NO_MEMORY_V2);
    info->total = is_old ? c.device->total_bytes : c.device->nvml_total_bytes;
    info->free = room(c.device->total_bytes, used_bytes(&c));
    info->used = info->total - info->free;
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo_v2(nvml_device handle, memory_v2 *info)
{
    card c;
    int failed = find_readable(handle, &c);
    if (failed)
        return failed;
    if (!info)
        return INVALID_ARGUMENT;
    /* A wrong version was seen to give the same answer as a driver without this function. */
    if (has_quirk(c.state, VGPU_QUIRK_NO_MEMORY_V2) || info->version != (2u << 24 | sizeof *info))
        return FUNCTION_NOT_FOUND;
    info->used = used_bytes(&c);
    info->total = c.device->nvml_total_bytes;
    info->reserved = room(c.device->nvml_total_bytes, c.device->total_bytes);
    info->free = room(c.device->total_bytes, info->used);
    return SUCCESS;
}

static process_v2 describe(const card *c, int32_t pid, uint64_t used)
{
    process_v2 p = {.gpu_instance = NO_INSTANCE, .compute_instance = NO_INSTANCE};
    p.pid = (unsigned)pid + (has_quirk(c->state, VGPU_QUIRK_HOST_PIDS) ? HOST_PID_OFFSET : 0);
    p.used = has_quirk(c->state, VGPU_QUIRK_NO_PROCESS_MEMORY) ? NOT_AVAILABLE : used;
    if (c->is_slice) {
        p.gpu_instance = 1;
        p.compute_instance = 0;
    }
    return p;
}

/* The processes with a context on the card; a negative other_pid is a graphics process, as a desktop's. */
static unsigned list_processes(const card *c, int is_graphics, process_v2 list[VGPU_MAX_PROCESSES + 1])
{
    unsigned count = 0;
    vgpu_lock(c->state);
    vgpu_reap(c->state);
    for (uint32_t i = 0; i < c->state->num_slots && !is_graphics; i++) {
        const vgpu_process *p = &c->state->processes[i];
        if (p->pid > 0 && (p->contexts >> c->index & 1u))
            list[count++] = describe(c, p->pid, p->held_bytes[c->index] + c->device->context_bytes);
    }
    int32_t other = c->device->other_pid;
    if (c->device->other_bytes && (is_graphics ? other < 0 : other > 0))
        list[count++] = describe(c, other < 0 ? -other : other, c->device->other_bytes);
    vgpu_unlock(c->state);
    return count;
}

/* Writes as many as there is room for; says how many there are. `infos` may be NULL to ask only that. */
static int give_processes(nvml_device handle, unsigned *count, void *infos, int is_graphics, int is_first_version)
{
    card c;
    int failed = find_readable(handle, &c);
    if (failed)
        return failed;
    if (!count || (*count && !infos))
        return INVALID_ARGUMENT;
    process_v2 list[VGPU_MAX_PROCESSES + 1];
    unsigned num_running = list_processes(&c, is_graphics, list), has_room = *count >= num_running;
    *count = num_running;
    if (!has_room)
        return INSUFFICIENT_SIZE;
    for (unsigned i = 0; i < num_running; i++) {
        if (is_first_version)
            ((process_v1 *)infos)[i] = (process_v1){list[i].pid, list[i].used};
        else
            ((process_v2 *)infos)[i] = list[i];
    }
    return SUCCESS;
}

/* The third version came with release 510, as nvmlDeviceGetMemoryInfo_v2 did. */
static int give_processes_v3(nvml_device handle, unsigned *count, void *infos, int is_graphics)
{
    vgpu_state *state;
    int failed = vgpu_nvml_state(&state);
    if (failed)
        return failed;
    if (has_quirk(state, VGPU_QUIRK_NO_MEMORY_V2))
        return FUNCTION_NOT_FOUND;
    return give_processes(handle, count, infos, is_graphics, 0);
}

int nvmlDeviceGetComputeRunningProcesses(nvml_device handle, unsigned *count, process_v1 *infos)
{
    return give_processes(handle, count, infos, 0, 1);
}

int nvmlDeviceGetComputeRunningProcesses_v2(nvml_device handle, unsigned *count, process_v2 *infos)
{
    return give_processes(handle, count, infos, 0, 0);
}

int nvmlDeviceGetComputeRunningProcesses_v3(nvml_device handle, unsigned *count, process_v2 *infos)
{
    return give_processes_v3(handle, count, infos, 0);
}

int nvmlDeviceGetGraphicsRunningProcesses(nvml_device handle, unsigned *count, process_v1 *infos)
{
    return give_processes(handle, count, infos, 1, 1);
}

int nvmlDeviceGetGraphicsRunningProcesses_v2(nvml_device handle, unsigned *count, process_v2 *infos)
{
    return give_processes(handle, count, infos, 1, 0);
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(nvml_device handle, unsigned *count, process_v2 *infos)
{
    return give_processes_v3(handle, count, infos, 1);
}

/* Nobody shares a virtual card through the multi-process service. */
static int no_processes(nvml_device handle, unsigned *count)
{
    card c;
    int failed = find_readable(handle, &c);
    if (!failed && !count)
        return INVALID_ARGUMENT;
    if (!failed)
        *count = 0;
    return failed;
}

int nvmlDeviceGetMPSComputeRunningProcesses(nvml_device handle, unsigned *count, process_v1 *infos)
{
    (void)infos;
    return no_processes(handle, count);
}

int nvmlDeviceGetMPSComputeRunningProcesses_v2(nvml_device handle, unsigned *count, process_v2 *infos)
{
    (void)infos;
    return no_processes(handle, count);
}

int nvmlDeviceGetMPSComputeRunningProcesses_v3(nvml_device handle, unsigned *count, process_v2 *infos)
{
    (void)infos;
    return no_processes(handle, count);
}
