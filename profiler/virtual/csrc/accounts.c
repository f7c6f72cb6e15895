/* The accounts: what every process holds of each card, its peaks, and how often it asked. */
#define _GNU_SOURCE
#include "accounts.h"
#include "visible.h"

#include <string.h>
#include <unistd.h>

static void recount(vgpu_state *state, int device)
{
    vgpu_device *d = &state->devices[device];
    uint64_t held = 0, contexts = 0;
    for (int i = 0; i < VGPU_MAX_PROCESSES; i++) {
        held += state->processes[i].held_bytes[device];
        contexts += (state->processes[i].contexts >> device) & 1u;
    }
    d->held_bytes = held;
    d->used_bytes = held + contexts * d->context_bytes + d->other_bytes;
    if (d->used_bytes > d->used_peak_bytes)
        d->used_peak_bytes = d->used_bytes;
}

void vgpu_reap(vgpu_state *state)
{
    int found = 0;
    for (int i = 0; i < VGPU_MAX_PROCESSES; i++) {
        vgpu_process *p = &state->processes[i];
        if (p->pid && vgpu_is_dead(p->pid)) {
            memset(p, 0, sizeof *p);
            found = 1;
        }
    }
    for (int i = 0; found && i < state->num_devices; i++)
        recount(state, i);
}

/* This process's slot, by process id so that a forked child gets its own. Call with the lock held. */
static vgpu_process *own_slot(vgpu_state *state)
{
    int32_t self = (int32_t)getpid();
    for (int i = 0; i < VGPU_MAX_PROCESSES; i++)
        if (state->processes[i].pid == self)
            return &state->processes[i];
    vgpu_reap(state); /* a newcomer finds the card as a driver would show it: without the dead */
    for (int i = 0; i < VGPU_MAX_PROCESSES; i++)
        if (!state->processes[i].pid) {
            state->processes[i].pid = self;
            return &state->processes[i];
        }
    return NULL;
}

static void raise_peak(const vgpu_state *state, vgpu_process *slot, int device)
{
    uint64_t used = slot->held_bytes[device] + state->devices[device].context_bytes;
    if (used > slot->used_peak_bytes[device])
        slot->used_peak_bytes[device] = used;
}

static int enter(vgpu_state *state, vgpu_process *slot, int device)
{
    vgpu_device *d = &state->devices[device];
    if (slot->contexts >> device & 1u)
        return 0;
    if (d->used_bytes + d->context_bytes > d->total_bytes) {
        vgpu_reap(state);
        if (d->used_bytes + d->context_bytes > d->total_bytes)
            return -1;
    }
    slot->contexts |= 1u << device;
    raise_peak(state, slot, device);
    recount(state, device);
    return 0;
}

int vgpu_enter(int device)
{
    vgpu_state *state = vgpu_get();
    device = vgpu_card_of(device);
    if (!state || device < 0)
        return -1;
    vgpu_lock(state);
    vgpu_process *slot = own_slot(state);
    int failed = slot ? enter(state, slot, device) : -1;
    vgpu_unlock(state);
    return failed;
}

int vgpu_has_context(int device)
{
    vgpu_state *state = vgpu_get();
    device = vgpu_card_of(device);
    if (!state || device < 0)
        return 0;
    vgpu_lock(state);
    vgpu_process *slot = own_slot(state);
    int has = slot && (slot->contexts >> device & 1u);
    vgpu_unlock(state);
    return has;
}

int vgpu_take(int device, uint64_t bytes)
{
    vgpu_state *state = vgpu_get();
    device = vgpu_card_of(device);
    if (!state || device < 0)
        return -1;
    vgpu_device *d = &state->devices[device];
    vgpu_lock(state);
    vgpu_process *slot = own_slot(state);
    int failed = slot ? enter(state, slot, device) : -1;
    if (!failed && (bytes > d->total_bytes || d->used_bytes > d->total_bytes - bytes)) {
        vgpu_reap(state);
        failed = bytes > d->total_bytes || d->used_bytes > d->total_bytes - bytes ? -1 : 0;
    }
    if (!failed) {
        slot->held_bytes[device] += bytes;
        raise_peak(state, slot, device);
        d->num_allocations++;
        recount(state, device);
    } else {
        d->num_refusals++;
    }
    vgpu_unlock(state);
    return failed;
}

void vgpu_give(int device, uint64_t bytes)
{
    vgpu_state *state = vgpu_get();
    device = vgpu_card_of(device);
    if (!state || device < 0)
        return;
    vgpu_lock(state);
    vgpu_process *slot = own_slot(state);
    if (slot) {
        slot->held_bytes[device] -= bytes < slot->held_bytes[device] ? bytes : slot->held_bytes[device];
        state->devices[device].num_frees++;
        recount(state, device);
    }
    vgpu_unlock(state);
}

uint64_t vgpu_free_bytes(int device)
{
    vgpu_state *state = vgpu_get();
    device = vgpu_card_of(device);
    if (!state || device < 0)
        return 0;
    vgpu_lock(state);
    vgpu_reap(state);
    const vgpu_device *d = &state->devices[device];
    uint64_t left = d->total_bytes > d->used_bytes ? d->total_bytes - d->used_bytes : 0;
    vgpu_unlock(state);
    return left;
}
