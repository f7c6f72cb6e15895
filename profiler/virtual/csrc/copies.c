/* Copies between host and device: what comes off the device, what is answered in its place, and what is recalled
 * of what went there. */
#include "copies.h"
#include "memory.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Values are only ever known in storages up to this size (profiler/virtual/table.py): larger reads are zeros. */
#define KNOWN_LIMIT_BYTES (16ull << 20)
/* Of what the host copies to the device, as much can be recalled: larger lists are rarely written as literals. */
#define RECALL_LIMIT_BYTES (1ull << 20)

/* The last small copy of a thread to device memory. torch.tensor(..., device="cuda") makes its copy where no
 * dispatch mode sees it, and lets one see the finished tensor right after. */
typedef struct {
    void *to;
    size_t bytes;
    char data[RECALL_LIMIT_BYTES];
} kept_copy;

static pthread_key_t kept_key;
static pthread_once_t kept_once = PTHREAD_ONCE_INIT;

static void make_kept_key(void)
{
    pthread_key_create(&kept_key, free);
}

static kept_copy *own_kept_copy(void)
{
    pthread_once(&kept_once, make_kept_key);
    kept_copy *kept = pthread_getspecific(kept_key);
    if (!kept && (kept = calloc(1, sizeof *kept)))
        pthread_setspecific(kept_key, kept);
    return kept;
}

static void keep_copy(void *destination, const void *source, size_t bytes)
{
    kept_copy *kept = bytes <= RECALL_LIMIT_BYTES ? own_kept_copy() : NULL;
    if (!kept)
        return;
    kept->to = destination;
    kept->bytes = bytes;
    memcpy(kept->data, source, bytes);
}

int vgpu_recall(void *pointer, size_t bytes)
{
    const kept_copy *kept = own_kept_copy();
    if (!kept || kept->to != pointer || kept->bytes != bytes)
        return -1;
    return vgpu_write(pointer, kept->data, bytes);
}

/* What this thread's next reads of device memory are answered with; `next` is NULL where nothing is planted. */
static __thread struct {
    const int64_t *next;
    size_t num_left;
    int is_missed;
} planted;

void vgpu_plant(const int64_t *answers, size_t count)
{
    planted.next = answers;
    planted.num_left = count;
    planted.is_missed = 0;
}

int vgpu_unplant(void)
{
    planted.next = NULL;
    return planted.is_missed || planted.num_left ? -1 : 0;
}

static int answer_planted(void *destination, size_t bytes)
{
    if (!planted.num_left || bytes > sizeof *planted.next) {
        planted.is_missed = 1;
        return 0;
    }
    memcpy(destination, planted.next++, bytes); /* little-endian: a narrower integer is the beginning */
    planted.num_left--;
    return 1;
}

int vgpu_copy(void *to, const void *from, size_t bytes, int is_to_device, int is_from_device)
{
    if (!bytes)
        return 0;
    int there = vgpu_reach(to, bytes), here = vgpu_reach(from, bytes);
    int is_wrong = (is_to_device && !there) || (is_from_device && !here);
    if (!to || !from || there == VGPU_UNREACHABLE || here == VGPU_UNREACHABLE || is_wrong)
        return -1;
    if (there == VGPU_DEVICE) {
        keep_copy(to, from, bytes);
        return 0;
    }
    if (here == VGPU_DEVICE && planted.next && answer_planted(to, bytes))
        return 0;
    if (here == VGPU_DEVICE && bytes > KNOWN_LIMIT_BYTES)
        memset(to, 0, bytes);
    else
        memmove(to, from, bytes);
    return 0;
}
