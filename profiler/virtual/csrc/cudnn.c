/* cuDNN stand-in: convolutions plan and run without effect, with a workspace of zero.
 *
 * Which algorithm a real cuDNN would choose, and so how much workspace it would ask torch's allocator for, is
 * not known without the library's own heuristics and a card. Every execution is counted, so that a record can
 * say that its figure leaves that workspace out.
 */
#include "device.h"

#include <string.h>

typedef int dnn_status;
enum { HEURISTIC_RESULTS = 202, ENGINE_OF_CONFIG = 300, TYPE_INT64 = 3, TYPE_INT32 = 23 };

static dnn_status new_handle(void **handle) { *handle = vgpu_new_handle(); return 0; }

static dnn_status executed(void)
{
    vgpu_state *state = vgpu_get();
    if (state)
        __atomic_add_fetch(&state->cudnn_calls, 1, __ATOMIC_RELAXED);
    vgpu_count_launch();
    return 0;
}

dnn_status cudnnCreate(void **handle) { return new_handle(handle); }
dnn_status cudnnDestroy(void *handle) { (void)handle; return 0; }
dnn_status cudnnSetStream(void *handle, void *stream) { (void)handle, (void)stream; return 0; }
dnn_status cudnnGetStream(void *handle, void **stream) { (void)handle; *stream = NULL; return 0; }
const char *cudnnGetErrorString(dnn_status status) { return status ? "not supported by the virtual GPU" : "success"; }
void cudnnGetLastErrorString(char *text, size_t length) { if (length) *text = 0; }

dnn_status cudnnBackendCreateDescriptor(int type, void **descriptor) { (void)type; return new_handle(descriptor); }
dnn_status cudnnBackendDestroyDescriptor(void *descriptor) { (void)descriptor; return 0; }
dnn_status cudnnBackendFinalize(void *descriptor) { (void)descriptor; return 0; }
dnn_status cudnnBackendSetAttribute(void) { return 0; }
dnn_status cudnnBackendExecute(void) { return executed(); }

dnn_status cudnnBackendGetAttribute(void *descriptor, int name, int type, int64_t wanted, int64_t *count, void *values)
{
    (void)descriptor;
    size_t width = type == TYPE_INT64 ? sizeof(int64_t) : type == TYPE_INT32 ? sizeof(int32_t) : 0;
    int64_t found = name == HEURISTIC_RESULTS || name == ENGINE_OF_CONFIG || width;
    if (values && wanted > 0)
        memset(values, 0, width * (size_t)wanted); /* engine index, workspace, shared memory: zero */
    if (count)
        *count = found < wanted || !values ? found : wanted;
    return 0;
}

/* The older interface, which torch still uses for transposed and biased convolutions and for normalisation. */
typedef struct { int algorithm, status; float time; size_t workspace_bytes; int deterministic, math, reserved[3]; } performance;

static dnn_status first_algorithm(int wanted, int *found, performance *results)
{
    memset(results, 0, sizeof *results * (size_t)(wanted < 1 ? 0 : wanted));
    *found = wanted < 1 ? wanted : 1;
    if (*found)
        results->deterministic = 1;
    return 0;
}

dnn_status cudnnGetConvolutionForwardAlgorithm_v7(void *h, void *x, void *w, void *c, void *y, int wanted, int *found, performance *r)
{
    (void)h, (void)x, (void)w, (void)c, (void)y;
    return first_algorithm(wanted, found, r);
}

dnn_status cudnnGetConvolutionBackwardDataAlgorithm_v7(void *h, void *x, void *w, void *c, void *y, int wanted, int *found, performance *r)
{
    (void)h, (void)x, (void)w, (void)c, (void)y;
    return first_algorithm(wanted, found, r);
}

dnn_status cudnnGetConvolutionBackwardFilterAlgorithm_v7(void *h, void *x, void *w, void *c, void *y, int wanted, int *found, performance *r)
{
    (void)h, (void)x, (void)w, (void)c, (void)y;
    return first_algorithm(wanted, found, r);
}

static dnn_status no_workspace(size_t *bytes) { *bytes = 0; return 0; }

dnn_status cudnnGetConvolutionForwardWorkspaceSize(void *h, void *x, void *w, void *c, void *y, int algorithm, size_t *bytes)
{
    (void)h, (void)x, (void)w, (void)c, (void)y, (void)algorithm;
    return no_workspace(bytes);
}

dnn_status cudnnGetConvolutionBackwardDataWorkspaceSize(void *h, void *x, void *w, void *c, void *y, int algorithm, size_t *bytes)
{
    (void)h, (void)x, (void)w, (void)c, (void)y, (void)algorithm;
    return no_workspace(bytes);
}

dnn_status cudnnGetConvolutionBackwardFilterWorkspaceSize(void *h, void *x, void *w, void *c, void *y, int algorithm, size_t *bytes)
{
    (void)h, (void)x, (void)w, (void)c, (void)y, (void)algorithm;
    return no_workspace(bytes);
}

dnn_status cudnnConvolutionForward(void) { return executed(); }
dnn_status cudnnConvolutionBackwardData(void) { return executed(); }
dnn_status cudnnConvolutionBackwardFilter(void) { return executed(); }
dnn_status cudnnConvolutionBiasActivationForward(void) { return executed(); }

dnn_status cudnnCreateTensorDescriptor(void **d) { return new_handle(d); }
dnn_status cudnnCreateFilterDescriptor(void **d) { return new_handle(d); }
dnn_status cudnnCreateConvolutionDescriptor(void **d) { return new_handle(d); }
dnn_status cudnnCreateActivationDescriptor(void **d) { return new_handle(d); }
dnn_status cudnnCreatePoolingDescriptor(void **d) { return new_handle(d); }
dnn_status cudnnDestroyTensorDescriptor(void *d) { (void)d; return 0; }
dnn_status cudnnDestroyFilterDescriptor(void *d) { (void)d; return 0; }
dnn_status cudnnDestroyConvolutionDescriptor(void *d) { (void)d; return 0; }
dnn_status cudnnDestroyActivationDescriptor(void *d) { (void)d; return 0; }
dnn_status cudnnSetTensorNdDescriptor(void) { return 0; }
dnn_status cudnnSetFilterNdDescriptor(void) { return 0; }
dnn_status cudnnSetConvolutionNdDescriptor(void) { return 0; }
dnn_status cudnnSetConvolutionGroupCount(void) { return 0; }
dnn_status cudnnSetConvolutionMathType(void) { return 0; }
dnn_status cudnnSetActivationDescriptor(void) { return 0; }
