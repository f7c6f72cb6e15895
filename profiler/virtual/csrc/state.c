/* Access to the shared state: mapping it, its lock, and the book-keeping of who holds what. */
#define _GNU_SOURCE
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static vgpu_state *mapped;
static pthread_once_t map_once = PTHREAD_ONCE_INIT;
static __thread const char *last_unknown;

static vgpu_state *map_file(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        fprintf(stderr, "peakvram: the virtual GPU's state file cannot be opened: %s\n", strerror(errno));
        return NULL;
    }
    vgpu_state *state = NULL;
    struct stat info;
    if (fstat(fd, &info) == 0 && (size_t)info.st_size >= sizeof *state) {
        void *p = mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        state = p == MAP_FAILED ? NULL : p;
    }
    close(fd);
    if (state && state->magic == VGPU_MAGIC && state->size == sizeof *state)
        return state;
    fprintf(stderr, "peakvram: the virtual GPU's state file is of another version; no GPU is shown\n");
    return NULL;
}

static void map_state(void)
{
    const char *path = getenv("PEAKVRAM_VGPU");
    if (path && *path)
        mapped = map_file(path);
}

int vgpu_attach(const char *path)
{
    pthread_once(&map_once, map_state);
    mapped = map_file(path);
    return mapped ? 0 : -1;
}

vgpu_state *vgpu_get(void)
{
    pthread_once(&map_once, map_state);
    return mapped;
}

static int is_dead(int32_t id)
{
    return kill(id, 0) != 0 && errno == ESRCH;
}

void vgpu_lock(vgpu_state *state)
{
    int32_t self = (int32_t)syscall(SYS_gettid);
    for (unsigned tries = 1;; tries++) {
        int32_t owner = 0;
        if (__atomic_compare_exchange_n(&state->lock_owner, &owner, self, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            return;
        /* A process killed while it held the lock would hang every other one. */
        if (tries % 64 == 0 && is_dead(owner) &&
            __atomic_compare_exchange_n(&state->lock_owner, &owner, self, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            return;
        sched_yield();
    }
}

void vgpu_unlock(vgpu_state *state)
{
    __atomic_store_n(&state->lock_owner, 0, __ATOMIC_RELEASE);
}

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
        if (p->pid && is_dead(p->pid)) {
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

void vgpu_note_unknown(const char *function)
{
    last_unknown = function;
    vgpu_state *state = vgpu_get();
    if (!state)
        return;
    vgpu_lock(state);
    uint32_t i = 0;
    while (i < state->num_unknown && strncmp(state->unknown[i], function, sizeof state->unknown[i] - 1))
        i++;
    if (i == state->num_unknown && i < VGPU_MAX_UNKNOWN) {
        snprintf(state->unknown[i], sizeof state->unknown[i], "%s", function);
        state->num_unknown++;
        fprintf(stderr, "peakvram: the virtual GPU does not implement %s\n", function);
    }
    vgpu_unlock(state);
}

const char *vgpu_last_unknown(void)
{
    return last_unknown;
}
