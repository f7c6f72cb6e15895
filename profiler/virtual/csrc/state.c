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

/* Of /proc/ID/stat, from the state on: the name before it may hold anything. 0, or -1 where it cannot be read. */
static int read_status(int32_t id, char *status, int *num_threads, unsigned long long *started)
{
    char path[32], text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)id);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    if (length <= 0)
        return -1;
    text[length] = 0;
    const char *after = strrchr(text, ')');
    const char *fields = " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %d %*d %llu";
    return after && sscanf(after + 1, fields, status, num_threads, started) == 3 ? 0 : -1;
}

uint32_t vgpu_start_of(int32_t id)
{
    char status;
    int num_threads;
    unsigned long long started;
    return read_status(id, &status, &num_threads, &started) ? 0 : (uint32_t)started;
}

int vgpu_is_dead(int32_t id, uint32_t started)
{
    if (kill(id, 0) != 0 && errno == ESRCH)
        return 1;
    char status;
    int num_threads;
    unsigned long long now_started;
    if (read_status(id, &status, &num_threads, &now_started))
        return 0;
    /* One that its parent has not waited for yet holds nothing. A first thread may end before the others. */
    int is_zombie = status == 'Z' && num_threads <= 1;
    return is_zombie || status == 'X' || (started && (uint32_t)now_started != started);
}

static __thread uint64_t self; /* as lock_owner holds it */

static uint64_t find_self(void)
{
    if (!self) {
        int32_t id = (int32_t)syscall(SYS_gettid);
        self = (uint64_t)vgpu_start_of(id) << 32 | (uint32_t)id;
    }
    return self;
}

static void forget_self(void)
{
    self = 0; /* the child's thread has a number of its own */
}

__attribute__((constructor)) static void forget_self_in_forks(void)
{
    pthread_atfork(NULL, NULL, forget_self);
}

void vgpu_lock(vgpu_state *state)
{
    uint64_t own = find_self();
    for (unsigned tries = 1;; tries++) {
        uint64_t owner = 0;
        if (__atomic_compare_exchange_n(&state->lock_owner, &owner, own, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            return;
        /* A process killed while it held the lock would hang every other one. */
        if (tries % 1024 == 0 && vgpu_is_dead((int32_t)owner, (uint32_t)(owner >> 32)) &&
            __atomic_compare_exchange_n(&state->lock_owner, &owner, own, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
            state->is_unsettled = 1;
            return;
        }
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
