/* A run's requests and frees through the rules of PyTorch's caching allocator, as it is without settings since torch 2.13.
 *
 * The same as profiler.allocator in Python, which has all settings and releases, and which this is held against; here
 * because a run has tens of thousands of events, and an estimate is to take no longer than reading a file.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { EMPTY_CACHE = -1, FIRST_SIZE = -2, MAX_PARTS = 64 };

/* What a replay answers: an event frees what is not there; this machine has no memory for it. */
enum { WRONG_FREE = -1, NO_MEMORY = -2 };

#define MIN_BLOCK 512
#define SMALL (1ll << 20)
#define SMALL_SEGMENT (2ll << 20)
#define LARGE_SEGMENT (20ll << 20)
#define MIN_LARGE (10ll << 20)
#define ROUND_LARGE (2ll << 20)

typedef struct {
    int64_t size, address;
    int32_t prev, next; /* neighbours in the segment; -1 for none */
    int32_t pool;       /* 0 small, 1 large */
    int32_t is_free;
} block;

typedef struct {
    int32_t *members; /* free blocks, by size and then by address: segments that were made first lie lowest */
    int32_t count, room;
} pool;

typedef struct {
    block *blocks;
    int32_t num_blocks, room, unused; /* `unused` begins the list of blocks that are no more, linked by `next` */
    pool pools[2];
    int64_t allocated, reserved, reserved_peak, next_address, capacity, num_retries;
    int failed; /* 0, WRONG_FREE or NO_MEMORY */
} allocator;

static int before(const allocator *a, int32_t one, int64_t size, int64_t address)
{
    const block *b = &a->blocks[one];
    return b->size != size ? b->size < size : b->address < address;
}

/* The first free block at or after a size and an address. */
static int32_t find(const allocator *a, const pool *p, int64_t size, int64_t address)
{
    int32_t low = 0, high = p->count;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (before(a, p->members[middle], size, address))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void insert(allocator *a, int32_t index)
{
    block *b = &a->blocks[index];
    pool *p = &a->pools[b->pool];
    if (p->count == p->room) {
        int32_t room = p->room ? 2 * p->room : 256;
        int32_t *members = realloc(p->members, (size_t)room * sizeof *members);
        if (!members) {
            a->failed = NO_MEMORY;
            return;
        }
        p->members = members;
        p->room = room;
    }
    int32_t at = find(a, p, b->size, b->address);
    memmove(p->members + at + 1, p->members + at, (size_t)(p->count - at) * sizeof *p->members);
    p->members[at] = index;
    p->count++;
    b->is_free = 1;
}

static void take_out(allocator *a, int32_t index)
{
    block *b = &a->blocks[index];
    pool *p = &a->pools[b->pool];
    int32_t at = find(a, p, b->size, b->address);
    p->count--;
    memmove(p->members + at, p->members + at + 1, (size_t)(p->count - at) * sizeof *p->members);
    b->is_free = 0;
}

static int32_t make(allocator *a, int64_t size, int64_t address, int32_t in_pool)
{
    int32_t index = a->unused;
    if (index >= 0) {
        a->unused = a->blocks[index].next;
    } else {
        if (a->num_blocks == a->room) {
            int32_t room = a->room ? 2 * a->room : 1024;
            block *blocks = realloc(a->blocks, (size_t)room * sizeof *blocks);
            if (!blocks) {
                a->failed = NO_MEMORY;
                return -1;
            }
            a->blocks = blocks;
            a->room = room;
        }
        index = a->num_blocks++;
    }
    a->blocks[index] = (block){.size = size, .address = address, .prev = -1, .next = -1, .pool = in_pool};
    return index;
}

static void forget(allocator *a, int32_t index)
{
    a->blocks[index].next = a->unused;
    a->unused = index;
}

/* Gives back every segment that is one free block. */
static void release_cached(allocator *a)
{
    for (int in_pool = 1; in_pool >= 0; in_pool--) {
        pool *p = &a->pools[in_pool];
        int32_t kept = 0;
        for (int32_t i = 0; i < p->count; i++) {
            int32_t index = p->members[i];
            if (a->blocks[index].prev >= 0 || a->blocks[index].next >= 0) {
                p->members[kept++] = index;
                continue;
            }
            a->reserved -= a->blocks[index].size;
            forget(a, index);
        }
        p->count = kept;
    }
}

static int32_t make_segment(allocator *a, int64_t size, int32_t in_pool)
{
    int64_t bytes = size <= SMALL      ? SMALL_SEGMENT
                    : size < MIN_LARGE ? LARGE_SEGMENT
                                       : (size + ROUND_LARGE - 1) / ROUND_LARGE * ROUND_LARGE;
    if (a->capacity >= 0 && a->reserved + bytes > a->capacity) {
        release_cached(a);
        a->num_retries++;
        if (a->reserved + bytes > a->capacity)
            return -1;
    }
    int32_t index = make(a, bytes, a->next_address, in_pool);
    if (index < 0)
        return -1;
    a->next_address += bytes;
    a->reserved += bytes;
    if (a->reserved > a->reserved_peak)
        a->reserved_peak = a->reserved;
    return index;
}

static int32_t request(allocator *a, int64_t asked)
{
    int64_t size = (asked + MIN_BLOCK - 1) / MIN_BLOCK * MIN_BLOCK;
    int32_t in_pool = size > SMALL;
    pool *p = &a->pools[in_pool];
    int32_t at = find(a, p, size, INT64_MIN), index;
    if (at < p->count) {
        index = p->members[at];
        p->count--;
        memmove(p->members + at, p->members + at + 1, (size_t)(p->count - at) * sizeof *p->members);
        a->blocks[index].is_free = 0;
    } else {
        index = make_segment(a, size, in_pool);
        if (index < 0)
            return -1;
    }
    int64_t rest = a->blocks[index].size - size;
    if (in_pool ? rest > SMALL : rest >= MIN_BLOCK) {
        int32_t other = make(a, rest, a->blocks[index].address + size, in_pool);
        if (other < 0)
            return -1;
        block *b = &a->blocks[index];
        a->blocks[other].prev = index;
        a->blocks[other].next = b->next;
        if (b->next >= 0)
            a->blocks[b->next].prev = other;
        b->next = other;
        b->size = size;
        insert(a, other);
    }
    a->allocated += a->blocks[index].size;
    return index;
}

static void give_back(allocator *a, int32_t index)
{
    block *b = &a->blocks[index];
    a->allocated -= b->size;
    int32_t prev = b->prev, next = b->next;
    if (prev >= 0 && a->blocks[prev].is_free) {
        take_out(a, prev);
        b->address = a->blocks[prev].address;
        b->size += a->blocks[prev].size;
        b->prev = a->blocks[prev].prev;
        if (b->prev >= 0)
            a->blocks[b->prev].next = index;
        forget(a, prev);
    }
    if (next >= 0 && a->blocks[next].is_free) {
        take_out(a, next);
        b->size += a->blocks[next].size;
        b->next = a->blocks[next].next;
        if (b->next >= 0)
            a->blocks[b->next].prev = index;
        forget(a, next);
    }
    insert(a, index);
}

/* What `vgpu_replay` is given. */
typedef struct {
    const int32_t *steps;   /* of each event the request whose block it frees, EMPTY_CACHE, or FIRST_SIZE less a size */
    const int32_t *ends;    /* of each phase how many events there are until its end */
    const int64_t *sizes;   /* what is asked for */
    const uint8_t *parts;   /* of each request, whose block it is */
    int32_t num_phases, num_requests, num_parts;
    int64_t capacity;       /* below 0 for no end */
} vgpu_run;

/* What comes of it. */
typedef struct {
    int64_t allocated_peak, reserved_peak, num_retries, requested; /* the last of the request that failed; 0 for none */
    int32_t num_phases;                                            /* those that came to their end */
} vgpu_outcome;

/* Replays a run. 0, WRONG_FREE or NO_MEMORY.
 *
 * peaks: of each phase the allocated peak; terms: of each phase, by part, what is allocated then.
 */
int vgpu_replay(const vgpu_run *run, vgpu_outcome *outcome, int64_t *peaks, int64_t *terms)
{
    allocator a = {.unused = -1, .capacity = run->capacity};
    int64_t now[MAX_PARTS] = {0};
    int32_t *blocks = malloc((size_t)(run->num_requests + 1) * sizeof *blocks);
    int32_t number = 0, event = 0, phase = 0;
    memset(outcome, 0, sizeof *outcome);
    if (!blocks || run->num_parts > MAX_PARTS)
        a.failed = NO_MEMORY;
    for (; phase < run->num_phases && !a.failed && !outcome->requested; phase++) {
        int64_t *at_peak = terms + (int64_t)phase * run->num_parts;
        peaks[phase] = a.allocated;
        memcpy(at_peak, now, (size_t)run->num_parts * sizeof *now);
        for (; event < run->ends[phase] && !a.failed; event++) {
            int32_t step = run->steps[event];
            if (step == EMPTY_CACHE) {
                release_cached(&a);
            } else if (step >= 0) {
                if (step >= number || blocks[step] < 0) {
                    a.failed = WRONG_FREE;
                    break;
                }
                now[run->parts[step]] -= a.blocks[blocks[step]].size;
                give_back(&a, blocks[step]);
                blocks[step] = -1;
            } else {
                int64_t asked = run->sizes[FIRST_SIZE - step];
                int32_t index = request(&a, asked);
                if (index < 0) {
                    outcome->requested = asked; /* unless it was this machine that had no memory */
                    break;
                }
                blocks[number] = index;
                now[run->parts[number++]] += a.blocks[index].size;
                if (a.allocated > peaks[phase]) {
                    peaks[phase] = a.allocated;
                    memcpy(at_peak, now, (size_t)run->num_parts * sizeof *now);
                }
            }
        }
        if (peaks[phase] > outcome->allocated_peak)
            outcome->allocated_peak = peaks[phase];
    }
    outcome->num_phases = outcome->requested ? phase - 1 : phase;
    outcome->reserved_peak = a.reserved_peak;
    outcome->num_retries = a.num_retries;
    free(blocks);
    free(a.blocks);
    free(a.pools[0].members);
    free(a.pools[1].members);
    return a.failed;
}
