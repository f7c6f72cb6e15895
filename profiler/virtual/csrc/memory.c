/* Device memory as address space.
 *
 * The address space is mapped readable and never backed: reading gives the kernel's shared zero page, so
 * 2 TiB cost nothing and a read is the same in every run. A private read-only mapping is not charged to the
 * overcommit limit, whatever vm.overcommit_memory says. Addresses ascend and holes are filled lowest first:
 * torch picks among free blocks of one size by address, so the order is part of the result.
 */
#define _GNU_SOURCE
#include "memory.h"
#include "accounts.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define ARENA_BYTES (32ull << 40)

typedef struct block {
    char *start;
    size_t bytes;  /* as asked for */
    size_t length; /* as taken: whole pages */
    int kind, device, opened;
    struct block *next;
} block;

typedef struct handle {
    int device;
    size_t bytes;
    int references; /* one for the handle itself until it is released, one for each mapping */
} handle;

typedef struct mapping {
    char *start;
    size_t bytes;
    int opened;
    handle *of;
    struct mapping *next;
} mapping;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char *arena;
static size_t arena_bytes;
static block *device_blocks; /* ascending addresses */
static block *host_blocks;
static mapping *mappings;

static size_t round_up(size_t bytes, size_t unit)
{
    return (bytes + unit - 1) / unit * unit;
}

static char *reserve(size_t bytes, size_t alignment)
{
    char *p = mmap(NULL, bytes + alignment, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    char *start = (char *)round_up((size_t)p, alignment);
    if (start > p)
        munmap(p, (size_t)(start - p));
    munmap(start + bytes, alignment - (size_t)(start - p));
    return start;
}

static int make_arena(void)
{
    for (arena_bytes = ARENA_BYTES; !arena && arena_bytes >= (1ull << 34); arena_bytes /= 2)
        if ((arena = reserve(arena_bytes, VGPU_PAGE_BYTES)))
            return 0;
    return arena ? 0 : -1;
}

/* The lowest hole that fits; returns the link to insert at. */
static block **find_hole(size_t length, char **start)
{
    char *candidate = arena;
    block **link = &device_blocks;
    for (; *link; link = &(*link)->next) {
        if ((size_t)((*link)->start - candidate) >= length)
            break;
        candidate = (*link)->start + (*link)->length;
    }
    *start = candidate;
    return (size_t)(arena + arena_bytes - candidate) >= length ? link : NULL;
}

void *vgpu_allocate(int device, size_t bytes)
{
    if (bytes > ARENA_BYTES)
        return NULL;
    size_t length = round_up(bytes ? bytes : 1, VGPU_PAGE_BYTES);
    block *b = calloc(1, sizeof *b);
    if (!b || vgpu_take(device, length) != 0) {
        free(b);
        return NULL;
    }
    pthread_mutex_lock(&mutex);
    char *start = NULL;
    block **link = arena || make_arena() == 0 ? find_hole(length, &start) : NULL;
    if (link) {
        *b = (block){.start = start, .bytes = bytes, .length = length, .kind = VGPU_DEVICE, .device = device, .next = *link};
        *link = b;
    }
    pthread_mutex_unlock(&mutex);
    if (!link) {
        free(b);
        vgpu_give(device, length);
    }
    return link ? start : NULL;
}

void *vgpu_allocate_host(int kind, size_t bytes)
{
    size_t length = round_up(bytes ? bytes : 1, 4096);
    block *b = calloc(1, sizeof *b);
    char *p = b ? mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) : MAP_FAILED;
    if (p == MAP_FAILED) {
        free(b);
        return NULL;
    }
    pthread_mutex_lock(&mutex);
    *b = (block){.start = p, .bytes = bytes, .length = length, .kind = kind, .next = host_blocks};
    host_blocks = b;
    pthread_mutex_unlock(&mutex);
    vgpu_state *state = kind == VGPU_MANAGED ? vgpu_get() : NULL;
    if (state) {
        vgpu_lock(state);
        state->managed_bytes += length;
        if (state->managed_bytes > state->managed_peak_bytes)
            state->managed_peak_bytes = state->managed_bytes;
        vgpu_unlock(state);
    }
    return p;
}

static block *detach(block **list, const void *pointer)
{
    for (block **link = list; *link; link = &(*link)->next)
        if ((*link)->start == pointer) {
            block *b = *link;
            *link = b->next;
            return b;
        }
    return NULL;
}

static void close_range(char *start, size_t bytes)
{
    mmap(start, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
}

int vgpu_release(void *pointer)
{
    if (!pointer)
        return 0;
    pthread_mutex_lock(&mutex);
    block *b = detach(&device_blocks, pointer);
    if (b && b->opened)
        close_range(b->start, b->length);
    if (!b && (b = detach(&host_blocks, pointer)))
        munmap(b->start, b->length);
    pthread_mutex_unlock(&mutex);
    if (!b)
        return -1;
    vgpu_state *state = b->kind == VGPU_MANAGED ? vgpu_get() : NULL;
    if (b->kind == VGPU_DEVICE)
        vgpu_give(b->device, b->length);
    if (state) {
        vgpu_lock(state);
        state->managed_bytes -= b->length;
        vgpu_unlock(state);
    }
    free(b);
    return 0;
}

static block *find(block *list, const char *p)
{
    for (; list; list = list->next)
        if (p >= list->start && p < list->start + list->length)
            return list;
    return NULL;
}

static mapping *find_mapping(const char *p)
{
    for (mapping *m = mappings; m; m = m->next)
        if (p >= m->start && p < m->start + m->bytes)
            return m;
    return NULL;
}

int vgpu_lookup(const void *pointer, void **base, size_t *bytes, int *device)
{
    const char *p = pointer;
    int kind = VGPU_NOT_OURS;
    pthread_mutex_lock(&mutex);
    block *b = p >= arena && p < arena + arena_bytes ? find(device_blocks, p) : find(host_blocks, p);
    mapping *m = b ? NULL : find_mapping(p);
    if (b || m) {
        kind = b ? b->kind : VGPU_DEVICE;
        if (base)
            *base = b ? b->start : m->start;
        if (bytes)
            *bytes = b ? b->bytes : m->bytes;
        if (device)
            *device = b ? b->device : m->of->device;
    }
    pthread_mutex_unlock(&mutex);
    return kind;
}

void *vgpu_reserve_range(size_t bytes, size_t alignment)
{
    return reserve(round_up(bytes, VGPU_PAGE_BYTES), alignment > VGPU_PAGE_BYTES ? alignment : VGPU_PAGE_BYTES);
}

int vgpu_free_range(void *pointer, size_t bytes)
{
    return munmap(pointer, round_up(bytes, VGPU_PAGE_BYTES));
}

void *vgpu_create_handle(int device, size_t bytes)
{
    handle *h = calloc(1, sizeof *h);
    if (!h || vgpu_take(device, bytes) != 0) {
        free(h);
        return NULL;
    }
    *h = (handle){.device = device, .bytes = bytes, .references = 1};
    return h;
}

static void drop_reference(handle *h)
{
    pthread_mutex_lock(&mutex);
    int left = --h->references;
    pthread_mutex_unlock(&mutex);
    if (left == 0) {
        vgpu_give(h->device, h->bytes);
        free(h);
    }
}

int vgpu_release_handle(void *pointer)
{
    drop_reference(pointer);
    return 0;
}

int vgpu_map_handle(void *pointer, size_t bytes, void *of)
{
    mapping *m = calloc(1, sizeof *m);
    if (!m)
        return -1;
    pthread_mutex_lock(&mutex);
    *m = (mapping){.start = pointer, .bytes = bytes, .of = of, .next = mappings};
    mappings = m;
    m->of->references++;
    pthread_mutex_unlock(&mutex);
    return 0;
}

int vgpu_unmap_range(void *pointer, size_t bytes)
{
    char *start = pointer;
    for (;;) {
        pthread_mutex_lock(&mutex);
        mapping **link = &mappings;
        while (*link && !((*link)->start >= start && (*link)->start < start + bytes))
            link = &(*link)->next;
        mapping *m = *link;
        if (m)
            *link = m->next;
        pthread_mutex_unlock(&mutex);
        if (!m)
            break;
        drop_reference(m->of);
        free(m);
    }
    close_range(start, bytes);
    return 0;
}

void *vgpu_handle_at(const void *pointer)
{
    pthread_mutex_lock(&mutex);
    mapping *m = find_mapping(pointer);
    if (m)
        m->of->references++;
    pthread_mutex_unlock(&mutex);
    return m ? m->of : NULL;
}

int vgpu_handle_device(const void *pointer)
{
    return ((const handle *)pointer)->device;
}

int vgpu_open(void *pointer, size_t bytes)
{
    char *start = (char *)((size_t)pointer / VGPU_PAGE_BYTES * VGPU_PAGE_BYTES);
    char *end = (char *)round_up((size_t)pointer + bytes, VGPU_PAGE_BYTES);
    pthread_mutex_lock(&mutex);
    block *b = find(device_blocks, pointer);
    mapping *m = b ? NULL : find_mapping(pointer);
    int *opened = b ? &b->opened : m ? &m->opened : NULL;
    int failed = !opened || mprotect(start, (size_t)(end - start), PROT_READ | PROT_WRITE);
    if (opened && !failed)
        *opened = 1;
    pthread_mutex_unlock(&mutex);
    return failed ? -1 : 0;
}

void vgpu_wipe(void *pointer, size_t bytes)
{
    pthread_mutex_lock(&mutex);
    block *b = find(device_blocks, pointer);
    mapping *m = b ? NULL : find_mapping(pointer);
    /* Memory given back since is unwritable again, and zero. */
    if ((b && b->opened) || (m && m->opened))
        memset(pointer, 0, bytes);
    pthread_mutex_unlock(&mutex);
}
