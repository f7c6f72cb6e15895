/* The opaque handles that a program was given and has not given back. */
#include "handles.h"
#include "spans.h"

#include <stdlib.h>

typedef struct {
    vgpu_span place; /* the handle's value, one long */
    int mark;
} handle;

static vgpu_span *live[VGPU_NUM_KINDS];

static handle *find(vgpu_kind kind, const void *value)
{
    return (handle *)vgpu_span_at(live[kind], (uintptr_t)value);
}

int vgpu_adopt_handle(vgpu_kind kind, const void *value)
{
    handle *h = calloc(1, sizeof *h);
    if (!h)
        return -1;
    h->place.start = (uintptr_t)value;
    h->place.length = 1;
    vgpu_hold();
    vgpu_span_add(&live[kind], &h->place);
    vgpu_let_go();
    return 0;
}

void *vgpu_new_handle(vgpu_kind kind)
{
    static uintptr_t next = 0x10000;
    void *value = (void *)__atomic_add_fetch(&next, 64, __ATOMIC_RELAXED);
    return vgpu_adopt_handle(kind, value) ? NULL : value;
}

int vgpu_give_handle(vgpu_kind kind, void **value, int invalid, int failed)
{
    if (!value)
        return invalid;
    *value = vgpu_new_handle(kind);
    return *value ? 0 : failed;
}

int vgpu_is_handle(vgpu_kind kind, const void *value)
{
    return vgpu_handle_mark(kind, value) >= 0;
}

int vgpu_is_stream(const void *stream)
{
    enum { DEFAULT, LEGACY, PER_THREAD };
    return (uintptr_t)stream <= PER_THREAD || vgpu_is_handle(VGPU_STREAM, stream);
}

int vgpu_drop_handle(vgpu_kind kind, const void *value)
{
    vgpu_hold();
    handle *h = find(kind, value);
    if (h)
        vgpu_span_remove(&live[kind], &h->place);
    vgpu_let_go();
    free(h);
    return h ? 0 : -1;
}

int vgpu_mark_handle(vgpu_kind kind, const void *value, int mark)
{
    vgpu_hold();
    handle *h = find(kind, value);
    if (h)
        h->mark = mark;
    vgpu_let_go();
    return h ? 0 : -1;
}

int vgpu_handle_mark(vgpu_kind kind, const void *value)
{
    vgpu_hold();
    const handle *h = find(kind, value);
    int mark = h ? h->mark : -1;
    vgpu_let_go();
    return mark;
}
