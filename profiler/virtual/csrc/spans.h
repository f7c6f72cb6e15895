/* Sets of spans of addresses that do not overlap, and the one lock of this process's tables.
 *
 * A set is a treap whose priorities follow from the addresses, so it is balanced and the same in every run. Each node
 * knows the longest span below it, so that the lowest one that is long enough is found in the tree's height too.
 */
#ifndef PEAKVRAM_SPANS_H
#define PEAKVRAM_SPANS_H

#include <stddef.h>
#include <stdint.h>

/* Embedded first in what lies at a span; the set owns nothing. */
typedef struct vgpu_span {
    uintptr_t start;
    size_t length; /* not 0 */
    size_t longest; /* in the tree below, this node included */
    struct vgpu_span *left, *right;
} vgpu_span;

/* Held around every use of a set. A fork waits for it, so that a child finds it free and the sets whole. */
void vgpu_hold(void);
void vgpu_let_go(void);

void vgpu_span_add(vgpu_span **set, vgpu_span *span);
void vgpu_span_remove(vgpu_span **set, vgpu_span *span);
/* The span that an address lies in, the first that begins at or after it, and the lowest of a length; or NULL. */
vgpu_span *vgpu_span_at(vgpu_span *set, uintptr_t address);
vgpu_span *vgpu_span_from(vgpu_span *set, uintptr_t address);
vgpu_span *vgpu_span_fitting(vgpu_span *set, size_t length);
/* Whether any span has a place in common with a range. */
int vgpu_span_meets(vgpu_span *set, uintptr_t address, size_t length);
/* Whether a range lies within spans that follow each other without a gap. */
int vgpu_span_covers(vgpu_span *set, uintptr_t address, size_t length);

#endif
