/* Virtual-memory management: address ranges, physical handles and the mappings between them. */
#include "ranges.h"
#include "accounts.h"
#include "pages.h"
#include "spans.h"

#include <stdlib.h>

/* Memory is held until the program has released a handle and no mapping is left. */
typedef struct handle {
    vgpu_span place; /* the handle's value, one long */
    int device;
    size_t bytes;
    unsigned num_held; /* by the program: from its creation, and each time it is retained */
    unsigned num_mapped;
    struct handle *next; /* of those that are to be freed */
} handle;

typedef struct mapping {
    vgpu_span place;
    handle *of;
} mapping;

static vgpu_span *ranges, *handles, *mappings;

void *vgpu_reserve_range(size_t bytes, size_t alignment)
{
    vgpu_span *range = calloc(1, sizeof *range);
    char *start = range ? vgpu_reserve_pages(bytes, alignment > VGPU_PAGE_BYTES ? alignment : VGPU_PAGE_BYTES) : NULL;
    if (!start) {
        free(range);
        vgpu_note_host_refusal();
        return NULL;
    }
    range->start = (uintptr_t)start;
    range->length = bytes;
    vgpu_hold();
    vgpu_span_add(&ranges, range);
    vgpu_let_go();
    return start;
}

int vgpu_free_range(uintptr_t start, size_t bytes)
{
    vgpu_hold();
    vgpu_span *range = vgpu_span_at(ranges, start);
    if (range && (range->start != start || range->length != bytes || vgpu_span_meets(mappings, start, bytes)))
        range = NULL;
    if (range)
        vgpu_span_remove(&ranges, range);
    vgpu_let_go();
    if (!range)
        return -1;
    vgpu_drop_pages((void *)start, bytes);
    free(range);
    return 0;
}

uintptr_t vgpu_create_handle(int device, size_t bytes)
{
    handle *h = calloc(1, sizeof *h);
    if (!h || vgpu_take(device, bytes) != 0) {
        free(h);
        return 0;
    }
    *h = (handle){.place = {.start = (uintptr_t)h, .length = 1}, .device = device, .bytes = bytes, .num_held = 1};
    vgpu_hold();
    vgpu_span_add(&handles, &h->place);
    vgpu_let_go();
    return (uintptr_t)h;
}

static handle *find_held(uintptr_t value)
{
    handle *h = (handle *)vgpu_span_at(handles, value);
    return h && h->num_held ? h : NULL;
}

/* Puts a handle that nobody holds and nothing maps on the list of those to be freed. */
static void drop_unused(handle *h, handle **unused)
{
    if (h->num_held || h->num_mapped)
        return;
    vgpu_span_remove(&handles, &h->place);
    h->next = *unused;
    *unused = h;
}

static void free_handles(handle *unused)
{
    while (unused) {
        handle *next = unused->next;
        vgpu_give(unused->device, unused->bytes);
        free(unused);
        unused = next;
    }
}

int vgpu_release_handle(uintptr_t value)
{
    handle *unused = NULL;
    vgpu_hold();
    handle *h = find_held(value);
    if (h) {
        h->num_held--;
        drop_unused(h, &unused);
    }
    vgpu_let_go();
    free_handles(unused);
    return h ? 0 : -1;
}

int vgpu_map_handle(uintptr_t start, size_t bytes, uintptr_t value)
{
    mapping *m = calloc(1, sizeof *m);
    if (!m)
        return -1;
    vgpu_hold();
    handle *h = find_held(value);
    const vgpu_span *range = vgpu_span_at(ranges, start);
    int fits = h && bytes <= h->bytes && range && bytes <= range->length - (start - range->start);
    int can_map = fits && !vgpu_span_meets(mappings, start, bytes);
    if (can_map) {
        *m = (mapping){.place = {.start = start, .length = bytes}, .of = h};
        vgpu_span_add(&mappings, &m->place);
        h->num_mapped++;
    }
    vgpu_let_go();
    if (!can_map)
        free(m);
    return can_map ? 0 : -1;
}

/* Whether a range is made of whole mappings in a row. */
static int is_whole(uintptr_t start, size_t bytes)
{
    while (bytes) {
        const vgpu_span *m = vgpu_span_at(mappings, start);
        if (!m || m->start != start || m->length > bytes)
            return 0;
        start += m->length;
        bytes -= m->length;
    }
    return 1;
}

int vgpu_unmap_range(uintptr_t start, size_t bytes)
{
    handle *unused = NULL;
    vgpu_hold();
    int can_unmap = is_whole(start, bytes);
    for (size_t done = 0; can_unmap && done < bytes;) {
        mapping *m = (mapping *)vgpu_span_at(mappings, start + done);
        done += m->place.length;
        vgpu_span_remove(&mappings, &m->place);
        m->of->num_mapped--;
        drop_unused(m->of, &unused);
        free(m);
    }
    if (can_unmap)
        vgpu_close_pages(start, bytes);
    vgpu_let_go();
    free_handles(unused);
    return can_unmap ? 0 : -1;
}

int vgpu_is_range_mapped(uintptr_t start, size_t bytes)
{
    vgpu_hold();
    int is_mapped = vgpu_is_mapped(start, bytes);
    vgpu_let_go();
    return is_mapped;
}

uintptr_t vgpu_handle_at(uintptr_t address)
{
    vgpu_hold();
    const mapping *m = (mapping *)vgpu_span_at(mappings, address);
    handle *h = m ? m->of : NULL;
    if (h)
        h->num_held++;
    vgpu_let_go();
    return (uintptr_t)h;
}

int vgpu_handle_device(uintptr_t value)
{
    vgpu_hold();
    const handle *h = find_held(value);
    int device = h ? h->device : -1;
    vgpu_let_go();
    return device;
}

int vgpu_find_mapping(uintptr_t address, uintptr_t *start, size_t *bytes, int *device)
{
    const mapping *m = (mapping *)vgpu_span_at(mappings, address);
    if (!m)
        return -1;
    *start = m->place.start;
    *bytes = m->place.length;
    *device = m->of->device;
    return 0;
}

int vgpu_is_mapped(uintptr_t start, size_t bytes)
{
    return vgpu_span_covers(mappings, start, bytes);
}

int vgpu_is_reserved(uintptr_t address)
{
    return vgpu_span_at(ranges, address) != NULL;
}
