/* The accounts: what every process holds of each card, its peaks, and how often it asked.
 *
 * Each process writes its own slot; a card's figures are the sums over the slots, and are made anew from them where a
 * process may have died between the two. A slot counts while its number is positive.
 */
#define _GNU_SOURCE
#include "accounts.h"
#include "visible.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void set_held(vgpu_device *d, uint64_t held, uint64_t used)
{
    d->held_bytes = held;
    d->used_bytes = used;
    if (used > d->used_peak_bytes)
        d->used_peak_bytes = used;
}

static void recount(vgpu_state *state)
{
    uint64_t held[VGPU_MAX_DEVICES] = {0}, contexts[VGPU_MAX_DEVICES] = {0}, managed = 0;
    for (uint32_t slot = 0; slot < state->num_slots; slot++) {
        const vgpu_process *p = &state->processes[slot];
        managed += p->pid > 0 ? p->managed_bytes : 0;
        for (int i = 0; p->pid > 0 && i < state->num_devices; i++) {
            held[i] += p->held_bytes[i];
            contexts[i] += p->contexts >> i & 1u;
        }
    }
    state->managed_bytes = managed;
    for (int i = 0; i < state->num_devices; i++) {
        vgpu_device *d = &state->devices[i];
        set_held(d, held[i], held[i] + contexts[i] * d->context_bytes + d->other_bytes);
    }
}

void vgpu_reap(vgpu_state *state)
{
    uint32_t found = state->is_unsettled;
    for (uint32_t i = 0; i < state->num_slots; i++) {
        vgpu_process *p = &state->processes[i];
        if (p->pid > 0 && p->pid != (int32_t)getpid() && vgpu_is_dead(p->pid, p->started)) {
            p->pid = -p->pid;
            found = 1;
        }
    }
    if (found)
        recount(state);
    state->is_unsettled = 0;
}

static vgpu_process *claim(vgpu_state *state, uint32_t slot, int32_t pid)
{
    vgpu_process *p = &state->processes[slot];
    memset(p, 0, sizeof *p);
    p->started = vgpu_start_of(pid);
    __atomic_store_n(&p->pid, pid, __ATOMIC_RELEASE);
    if (slot == state->num_slots)
        state->num_slots++;
    return p;
}

static uint32_t find_slot(const vgpu_state *state, int32_t pid)
{
    uint32_t slot = 0;
    while (slot < state->num_slots && state->processes[slot].pid != pid)
        slot++;
    return slot;
}

/* The dead keep their peaks for as long as there is room for others. */
static uint32_t find_room(const vgpu_state *state)
{
    uint32_t slot = state->num_slots;
    if (slot == VGPU_MAX_PROCESSES)
        for (slot = 0; slot < VGPU_MAX_PROCESSES && state->processes[slot].pid > 0;)
            slot++;
    return slot;
}

/* This process's slot, by process id so that a forked child gets its own; NULL if it has none. Call with the lock held. */
static vgpu_process *find_own(vgpu_state *state)
{
    static uint32_t last; /* where it was: most often it still is */
    int32_t pid = (int32_t)getpid();
    if (state->is_unsettled)
        vgpu_reap(state);
    if (last >= state->num_slots || state->processes[last].pid != pid)
        last = find_slot(state, pid);
    return last < state->num_slots ? &state->processes[last] : NULL;
}

static vgpu_process *own_slot(vgpu_state *state)
{
    vgpu_process *own = find_own(state);
    if (own)
        return own;
    vgpu_reap(state); /* a newcomer finds the card as a driver would show it: without the dead */
    uint32_t slot = find_room(state);
    if (slot < VGPU_MAX_PROCESSES)
        return claim(state, slot, (int32_t)getpid());
    fprintf(stderr, "peakvram: more than %d processes use the virtual GPU; this one finds it full\n", VGPU_MAX_PROCESSES);
    return NULL;
}

static void raise_peak(const vgpu_state *state, vgpu_process *slot, int device)
{
    uint64_t used = slot->held_bytes[device] + state->devices[device].context_bytes;
    if (used > slot->used_peak_bytes[device])
        slot->used_peak_bytes[device] = used;
}

/* Whether the card has so much left, once the dead are taken off if need be. */
static int has_room(vgpu_state *state, const vgpu_device *d, uint64_t bytes)
{
    if (bytes <= d->total_bytes && d->used_bytes <= d->total_bytes - bytes)
        return 1;
    vgpu_reap(state);
    return bytes <= d->total_bytes && d->used_bytes <= d->total_bytes - bytes;
}

static int enter(vgpu_state *state, vgpu_process *slot, int device)
{
    vgpu_device *d = &state->devices[device];
    if (slot->contexts >> device & 1u)
        return 0;
    if (!has_room(state, d, d->context_bytes))
        return -1;
    slot->contexts |= 1u << device;
    raise_peak(state, slot, device);
    set_held(d, d->held_bytes, d->used_bytes + d->context_bytes);
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
    const vgpu_process *slot = find_own(state);
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
    int failed = !slot || enter(state, slot, device) || !has_room(state, d, bytes);
    if (!failed) {
        slot->held_bytes[device] += bytes;
        raise_peak(state, slot, device);
        d->num_allocations++;
        set_held(d, d->held_bytes + bytes, d->used_bytes + bytes);
    } else {
        d->num_refusals++;
    }
    vgpu_unlock(state);
    return failed ? -1 : 0;
}

void vgpu_note_host_refusal(void)
{
    vgpu_state *state = vgpu_get();
    if (state)
        __atomic_add_fetch(&state->num_host_refusals, 1, __ATOMIC_RELAXED);
}

void vgpu_give(int device, uint64_t bytes)
{
    vgpu_state *state = vgpu_get();
    device = vgpu_card_of(device);
    if (!state || device < 0)
        return;
    vgpu_device *d = &state->devices[device];
    vgpu_lock(state);
    vgpu_process *slot = find_own(state);
    if (slot) {
        /* A forked child has its parent's pointers, and holds nothing of what they stand for. */
        uint64_t given = bytes < slot->held_bytes[device] ? bytes : slot->held_bytes[device];
        slot->held_bytes[device] -= given;
        d->num_frees++;
        set_held(d, d->held_bytes - given, d->used_bytes - given);
    }
    vgpu_unlock(state);
}

int vgpu_take_managed(uint64_t bytes)
{
    vgpu_state *state = vgpu_get();
    if (!state)
        return -1;
    vgpu_lock(state);
    vgpu_process *slot = own_slot(state);
    if (slot) {
        slot->managed_bytes += bytes;
        state->managed_bytes += bytes;
        if (state->managed_bytes > state->managed_peak_bytes)
            state->managed_peak_bytes = state->managed_bytes;
    }
    vgpu_unlock(state);
    return slot ? 0 : -1;
}

void vgpu_give_managed(uint64_t bytes)
{
    vgpu_state *state = vgpu_get();
    if (!state)
        return;
    vgpu_lock(state);
    vgpu_process *slot = find_own(state);
    if (slot) {
        uint64_t given = bytes < slot->managed_bytes ? bytes : slot->managed_bytes;
        slot->managed_bytes -= given;
        state->managed_bytes -= given;
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
