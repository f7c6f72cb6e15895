/* Address space that nothing stands behind, and the pages of it that hold values.
 *
 * It is mapped readable and never backed: reading gives the kernel's shared zero page, so 2 TiB cost nothing and a
 * read is the same in every run. A private read-only mapping is not charged to the overcommit limit, whatever
 * vm.overcommit_memory says.
 */
#define _GNU_SOURCE
#include "pages.h"
#include "spans.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static vgpu_span *opened; /* a span for each page */

char *vgpu_reserve_pages(size_t bytes, size_t alignment)
{
    if (bytes + alignment < bytes)
        return NULL;
    char *p = mmap(NULL, bytes + alignment, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    size_t before = vgpu_round_up((uintptr_t)p, alignment) - (uintptr_t)p;
    if (before)
        munmap(p, before);
    munmap(p + before + bytes, alignment - before);
    return p + before;
}

void vgpu_drop_pages(void *start, size_t bytes)
{
    munmap(start, bytes);
}

static int open_page(uintptr_t start)
{
    if (vgpu_span_at(opened, start))
        return 0;
    vgpu_span *page = calloc(1, sizeof *page);
    if (!page || mprotect((void *)start, VGPU_PAGE_BYTES, PROT_READ | PROT_WRITE)) {
        free(page);
        return -1;
    }
    page->start = start;
    page->length = VGPU_PAGE_BYTES;
    vgpu_span_add(&opened, page);
    return 0;
}

int vgpu_open_pages(uintptr_t start, size_t bytes)
{
    for (uintptr_t page = start & ~(VGPU_PAGE_BYTES - 1); page < start + bytes; page += VGPU_PAGE_BYTES)
        if (open_page(page))
            return -1;
    return 0;
}

int vgpu_are_pages_open(uintptr_t start, size_t bytes)
{
    return vgpu_span_covers(opened, start, bytes);
}

/* The first writable page that has a place in common with a range, or NULL. */
static vgpu_span *first_open(uintptr_t start, size_t bytes)
{
    vgpu_span *page = vgpu_span_at(opened, start);
    if (!page)
        page = vgpu_span_from(opened, start);
    return page && (page->start <= start || page->start - start < bytes) ? page : NULL;
}

void vgpu_clear_pages(uintptr_t start, size_t bytes)
{
    const vgpu_span *page;
    while (bytes && (page = first_open(start, bytes))) {
        size_t skipped = page->start > start ? page->start - start : 0;
        start += skipped;
        bytes -= skipped;
        size_t left = page->length - (start - page->start), cleared = bytes < left ? bytes : left;
        memset((void *)start, 0, cleared);
        start += cleared;
        bytes -= cleared;
    }
}

void vgpu_close_pages(uintptr_t start, size_t bytes)
{
    vgpu_span *page;
    while ((page = first_open(start, bytes))) {
        mmap((void *)page->start, page->length, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
        vgpu_span_remove(&opened, page);
        free(page);
    }
}
