/* Device memory as address space, and the host memory that the card sees.
 *
 * Addresses ascend and holes are filled lowest first: torch picks among free blocks of one size by address, so the
 * order is part of the result.
 */
#define _GNU_SOURCE
#include "memory.h"
#include "accounts.h"
#include "pages.h"
#include "ranges.h"
#include "spans.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define ARENA_BYTES (32ull << 40)
#define ALIGNMENT_BYTES 512 /* of what cudaMalloc gives: an allocation ends at a multiple of it */

/* A hole is the block that was there, or what is left of the arena. */
typedef struct {
    vgpu_span place; /* whole pages; of what was only noted, exactly the bytes */
    size_t bytes;    /* as asked for */
    int kind, device;
} block;

static block *arena; /* the whole of it, for its bounds */
static vgpu_span *holes, *device_blocks, *host_blocks;

static block *new_block(uintptr_t start, size_t length)
{
    block *b = calloc(1, sizeof *b);
    if (b) {
        b->place.start = start;
        b->place.length = length;
    }
    return b;
}

static void make_arena(void)
{
    char *start = NULL;
    size_t bytes = ARENA_BYTES;
    while (!(start = vgpu_reserve_pages(bytes, VGPU_PAGE_BYTES)) && bytes > (1ull << 34))
        bytes /= 2;
    block *bounds = start ? new_block((uintptr_t)start, bytes) : NULL;
    block *hole = bounds ? new_block((uintptr_t)start, bytes) : NULL;
    if (hole) {
        arena = bounds;
        vgpu_span_add(&holes, &hole->place);
    } else {
        free(bounds);
        if (start)
            vgpu_drop_pages(start, bytes);
    }
}

/* Takes the beginning of the lowest hole that fits. 0, or -1 if there is none. */
static int take_hole(block *b)
{
    if (!arena)
        make_arena();
    vgpu_span *hole = vgpu_span_fitting(holes, b->place.length);
    if (!hole)
        return -1;
    b->place.start = hole->start;
    vgpu_span_remove(&holes, hole);
    hole->start += b->place.length;
    hole->length -= b->place.length;
    if (hole->length)
        vgpu_span_add(&holes, hole);
    else
        free(hole);
    return 0;
}

/* Lets a block be a hole, one with those beside it. */
static void leave_hole(block *b)
{
    vgpu_span *before = vgpu_span_at(holes, b->place.start - 1), *after = vgpu_span_at(holes, b->place.start + b->place.length);
    if (before) {
        vgpu_span_remove(&holes, before);
        b->place.start = before->start;
        b->place.length += before->length;
        free(before);
    }
    if (after) {
        vgpu_span_remove(&holes, after);
        b->place.length += after->length;
        free(after);
    }
    vgpu_span_add(&holes, &b->place);
}

void *vgpu_allocate(int device, size_t bytes)
{
    if (bytes > ARENA_BYTES)
        return NULL;
    size_t length = vgpu_round_up(bytes ? bytes : 1, VGPU_PAGE_BYTES);
    block *b = new_block(0, length);
    if (!b || vgpu_take(device, length) != 0) {
        free(b);
        return NULL;
    }
    b->bytes = bytes;
    b->kind = VGPU_DEVICE;
    b->device = device;
    vgpu_hold();
    int failed = take_hole(b);
    uintptr_t start = b->place.start;
    if (!failed)
        vgpu_span_add(&device_blocks, &b->place);
    vgpu_let_go();
    if (failed) {
        free(b);
        vgpu_give(device, length);
        vgpu_note_host_refusal();
        return NULL;
    }
    return (void *)start;
}

void *vgpu_allocate_host(int kind, size_t bytes)
{
    size_t length = vgpu_round_up(bytes ? bytes : 1, 4096);
    void *p = length ? mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) : MAP_FAILED;
    if (p == MAP_FAILED) {
        if (length)
            vgpu_note_host_refusal();
        return NULL;
    }
    block *b = new_block((uintptr_t)p, length);
    if (!b || (kind == VGPU_MANAGED && vgpu_take_managed(length))) {
        free(b);
        munmap(p, length);
        return NULL;
    }
    b->bytes = bytes;
    b->kind = kind;
    vgpu_hold();
    vgpu_span_add(&host_blocks, &b->place);
    vgpu_let_go();
    return p;
}

int vgpu_note_host(int kind, void *pointer, size_t bytes)
{
    block *b = new_block((uintptr_t)pointer, bytes);
    if (!b)
        return -1;
    b->bytes = bytes;
    b->kind = kind;
    vgpu_hold();
    int is_noted = vgpu_span_meets(host_blocks, b->place.start, bytes);
    if (!is_noted)
        vgpu_span_add(&host_blocks, &b->place);
    vgpu_let_go();
    if (is_noted)
        free(b);
    return is_noted ? -1 : 0;
}

static int is_in_arena(uintptr_t address)
{
    return arena && address - arena->place.start < arena->place.length;
}

static block *find(uintptr_t address)
{
    return (block *)vgpu_span_at(is_in_arena(address) ? device_blocks : host_blocks, address);
}

static void give_back(const block *b)
{
    if (b->kind == VGPU_DEVICE)
        vgpu_give(b->device, b->place.length);
    if (b->kind == VGPU_MANAGED)
        vgpu_give_managed(b->place.length);
    if (b->kind == VGPU_MANAGED || b->kind == VGPU_PINNED)
        munmap((void *)b->place.start, b->place.length);
}

int vgpu_release(void *pointer, unsigned kinds)
{
    vgpu_hold();
    block *b = find((uintptr_t)pointer);
    if (b && (b->place.start != (uintptr_t)pointer || !(kinds >> b->kind & 1u)))
        b = NULL;
    block was = b ? *b : (block){.kind = VGPU_NOT_OURS};
    if (b)
        vgpu_span_remove(b->kind == VGPU_DEVICE ? &device_blocks : &host_blocks, &b->place);
    if (b && b->kind == VGPU_DEVICE) {
        vgpu_close_pages(b->place.start, b->place.length);
        leave_hole(b);
    } else {
        free(b);
    }
    vgpu_let_go();
    give_back(&was);
    return was.kind ? 0 : -1;
}

int vgpu_lookup(const void *pointer, void **base, size_t *bytes, int *device)
{
    vgpu_hold();
    const block *b = find((uintptr_t)pointer);
    block found = {.kind = VGPU_NOT_OURS};
    if (b && b->kind != VGPU_SYMBOL)
        found = *b;
    else if (!b && !vgpu_find_mapping((uintptr_t)pointer, &found.place.start, &found.bytes, &found.device))
        found.kind = VGPU_DEVICE;
    vgpu_let_go();
    if (found.kind && base)
        *base = (void *)found.place.start;
    if (found.kind && bytes)
        *bytes = found.bytes;
    if (found.kind && device)
        *device = found.device;
    return found.kind;
}

static int reach(uintptr_t address, size_t bytes)
{
    const block *b = find(address);
    if (!b && vgpu_is_mapped(address, bytes))
        return VGPU_DEVICE;
    if (!b)
        return is_in_arena(address) || vgpu_is_reserved(address) ? VGPU_UNREACHABLE : VGPU_NOT_OURS;
    size_t end = b->kind == VGPU_DEVICE ? vgpu_round_up(b->bytes, ALIGNMENT_BYTES) : b->place.length;
    size_t offset = address - b->place.start;
    if (offset <= end && bytes <= end - offset)
        return b->kind;
    return b->kind == VGPU_REGISTERED ? VGPU_NOT_OURS : VGPU_UNREACHABLE;
}

int vgpu_reach(const void *pointer, size_t bytes)
{
    vgpu_hold();
    int kind = reach((uintptr_t)pointer, bytes);
    vgpu_let_go();
    return kind;
}

int vgpu_open(void *pointer, size_t bytes)
{
    vgpu_hold();
    int failed = !bytes || reach((uintptr_t)pointer, bytes) != VGPU_DEVICE || vgpu_open_pages((uintptr_t)pointer, bytes);
    vgpu_let_go();
    return failed ? -1 : 0;
}

void vgpu_wipe(void *pointer, size_t bytes)
{
    vgpu_hold();
    vgpu_clear_pages((uintptr_t)pointer, bytes); /* memory given back since is closed again, and zero */
    vgpu_let_go();
}

int vgpu_write(void *pointer, const void *data, size_t bytes)
{
    vgpu_hold();
    int is_open = bytes && vgpu_are_pages_open((uintptr_t)pointer, bytes);
    if (is_open)
        memcpy(pointer, data, bytes);
    vgpu_let_go();
    return is_open ? 0 : -1;
}
