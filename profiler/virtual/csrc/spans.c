/* Sets of spans of addresses that do not overlap, and the one lock of this process's tables. */
#include "spans.h"

#include <pthread.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

void vgpu_hold(void) { pthread_mutex_lock(&mutex); }
void vgpu_let_go(void) { pthread_mutex_unlock(&mutex); }

__attribute__((constructor)) static void hold_over_forks(void)
{
    pthread_atfork(vgpu_hold, vgpu_let_go, vgpu_let_go);
}

/* The finalizer of splitmix64: as good as random, and the same for the same address. */
static uint64_t priority(const vgpu_span *span)
{
    uint64_t x = span->start + 0x9e3779b97f4a7c15ull;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return x ^ x >> 31;
}

static void update(vgpu_span *span)
{
    span->longest = span->length;
    if (span->left && span->left->longest > span->longest)
        span->longest = span->left->longest;
    if (span->right && span->right->longest > span->longest)
        span->longest = span->right->longest;
}

/* The spans before an address, and the others. */
static void split(vgpu_span *tree, uintptr_t address, vgpu_span **before, vgpu_span **after)
{
    if (!tree) {
        *before = *after = NULL;
        return;
    }
    if (tree->start < address) {
        split(tree->right, address, &tree->right, after);
        *before = tree;
    } else {
        split(tree->left, address, before, &tree->left);
        *after = tree;
    }
    update(tree);
}

static vgpu_span *join(vgpu_span *before, vgpu_span *after)
{
    if (!before || !after)
        return before ? before : after;
    if (priority(before) > priority(after)) {
        before->right = join(before->right, after);
        update(before);
        return before;
    }
    after->left = join(before, after->left);
    update(after);
    return after;
}

void vgpu_span_add(vgpu_span **set, vgpu_span *span)
{
    if (!*set || priority(span) > priority(*set)) {
        split(*set, span->start, &span->left, &span->right);
        *set = span;
    } else {
        vgpu_span_add(span->start < (*set)->start ? &(*set)->left : &(*set)->right, span);
    }
    update(*set);
}

void vgpu_span_remove(vgpu_span **set, vgpu_span *span)
{
    if (*set == span) {
        *set = join(span->left, span->right);
        return;
    }
    vgpu_span_remove(span->start < (*set)->start ? &(*set)->left : &(*set)->right, span);
    update(*set);
}

vgpu_span *vgpu_span_at(vgpu_span *set, uintptr_t address)
{
    vgpu_span *last = NULL; /* the last one that does not begin after it */
    while (set) {
        if (set->start <= address)
            last = set;
        set = set->start <= address ? set->right : set->left;
    }
    return last && address - last->start < last->length ? last : NULL;
}

vgpu_span *vgpu_span_from(vgpu_span *set, uintptr_t address)
{
    vgpu_span *first = NULL;
    while (set) {
        if (set->start >= address)
            first = set;
        set = set->start >= address ? set->left : set->right;
    }
    return first;
}

vgpu_span *vgpu_span_fitting(vgpu_span *set, size_t length)
{
    while (set && set->longest >= length) {
        if (set->left && set->left->longest >= length)
            set = set->left;
        else if (set->length >= length)
            return set;
        else
            set = set->right;
    }
    return NULL;
}

int vgpu_span_meets(vgpu_span *set, uintptr_t address, size_t length)
{
    const vgpu_span *next = vgpu_span_from(set, address);
    return vgpu_span_at(set, address) || (next && next->start - address < length);
}

int vgpu_span_covers(vgpu_span *set, uintptr_t address, size_t length)
{
    for (;;) {
        const vgpu_span *span = vgpu_span_at(set, address);
        if (!span)
            return 0;
        size_t covered = span->length - (address - span->start);
        if (covered >= length)
            return 1;
        address += covered;
        length -= covered;
    }
}
