/* The opaque handles that a program was given and has not given back. */
#ifndef PEAKVRAM_HANDLES_H
#define PEAKVRAM_HANDLES_H

#include <stdint.h>

typedef enum {
    VGPU_STREAM, VGPU_EVENT, VGPU_MODULE, VGPU_FUNCTION, VGPU_LINK, VGPU_BLAS, VGPU_BLAS_LT, VGPU_BLAS_DESCRIPTION,
    VGPU_DNN, VGPU_DNN_DESCRIPTOR, VGPU_SOLVER, VGPU_SOLVER_INFO, VGPU_FFT_PLAN, VGPU_SPARSE, VGPU_COMMUNICATOR,
    VGPU_REGISTRATION, VGPU_NUM_KINDS,
} vgpu_kind;

/* A fresh one, which no other handle equals: numbers that ascend, since torch keys workspaces by them. NULL without memory. */
void *vgpu_new_handle(vgpu_kind kind);
/* Writes a fresh one to `handle`. 0; `invalid` where that is NULL, `failed` without memory. */
int vgpu_give_handle(vgpu_kind kind, void **handle, int invalid, int failed);
/* Takes in a handle that was made elsewhere. 0, or -1 without memory. */
int vgpu_adopt_handle(vgpu_kind kind, const void *handle);
int vgpu_is_handle(vgpu_kind kind, const void *handle);
/* One of a program's streams, or one that is always there. */
int vgpu_is_stream(const void *stream);
/* Forgets one. 0, or -1 if there is no such handle. */
int vgpu_drop_handle(vgpu_kind kind, const void *handle);
/* A number kept with a handle, at first 0: writes it, reads it (-1: no such handle). */
int vgpu_mark_handle(vgpu_kind kind, const void *handle, int mark);
int vgpu_handle_mark(vgpu_kind kind, const void *handle);

#endif
