/* Access to the shared state: mapping it, its lock, and the names of what is not implemented. */
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

int vgpu_is_dead(int32_t id)
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
        if (tries % 64 == 0 && vgpu_is_dead(owner) &&
            __atomic_compare_exchange_n(&state->lock_owner, &owner, self, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            return;
        sched_yield();
    }
}

void vgpu_unlock(vgpu_state *state)
{
    __atomic_store_n(&state->lock_owner, 0, __ATOMIC_RELEASE);
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
