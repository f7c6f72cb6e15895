/* cuDNN stand-in: convolutions plan and run without effect, with a workspace of zero.
 *
 * Which algorithm a real cuDNN would choose, and so how much workspace it would ask torch's allocator for, is
 * not known without the library's own heuristics and a card. Every execution is counted, so that a record can
 * say that its figure leaves that workspace out.
 */
#include "device.h"
#include "handles.h"

#include <string.h>

typedef int dnn_status;
enum { HEURISTIC_RESULTS = 202, ENGINE_OF_CONFIG = 300, TYPE_INT64 = 3, TYPE_INT32 = 23 };

enum { OK = 0, ALLOCATION_FAILED = 5003, BAD_PARAM = 2000 };

static dnn_status check(vgpu_kind kind, const void *handle) { return vgpu_is_handle(kind, handle) ? OK : BAD_PARAM; }
static dnn_status drop(vgpu_kind kind, const void *handle) { return vgpu_drop_handle(kind, handle) ? BAD_PARAM : OK; }
static dnn_status new_handle(vgpu_kind kind, void **handle) { return vgpu_give_handle(kind, handle, BAD_PARAM, ALLOCATION_FAILED); }

static dnn_status executed(const void *handle)
{
    if (check(VGPU_DNN, handle))
        return BAD_PARAM;
    vgpu_state *state = vgpu_get();
    if (state)
        __atomic_add_fetch(&state->cudnn_calls, 1, __ATOMIC_RELAXED);
    vgpu_count_launch();
    return 0;
}

dnn_status cudnnCreate(void **handle) { return new_handle(VGPU_DNN, handle); }
dnn_status cudnnDestroy(void *handle) { return drop(VGPU_DNN, handle); }
dnn_status cudnnSetStream(void *handle, void *stream) { return vgpu_is_stream(stream) ? check(VGPU_DNN, handle) : BAD_PARAM; }

dnn_status cudnnGetStream(void *handle, void **stream)
{
    if (!stream)
        return BAD_PARAM;
    *stream = NULL;
    return check(VGPU_DNN, handle);
}

const char *cudnnGetErrorString(dnn_status status)
{
    return status == OK ? "success" : status == BAD_PARAM ? "CUDNN_STATUS_BAD_PARAM" : "not supported by the virtual GPU";
}

void cudnnGetLastErrorString(char *text, size_t length) { if (text && length) *text = 0; }

dnn_status cudnnBackendCreateDescriptor(int type, void **descriptor) { (void)type; return new_handle(VGPU_DNN_DESCRIPTOR, descriptor); }
dnn_status cudnnBackendDestroyDescriptor(void *descriptor) { return drop(VGPU_DNN_DESCRIPTOR, descriptor); }
dnn_status cudnnBackendFinalize(void *descriptor) { return check(VGPU_DNN_DESCRIPTOR, descriptor); }
dnn_status cudnnBackendSetAttribute(void *descriptor) { return check(VGPU_DNN_DESCRIPTOR, descriptor); }
dnn_status cudnnBackendExecute(void *handle) { return executed(handle); }

dnn_status cudnnBackendGetAttribute(void *descriptor, int name, int type, int64_t wanted, int64_t *count, void *values)
{
    if (check(VGPU_DNN_DESCRIPTOR, descriptor))
        return BAD_PARAM;
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

static dnn_status first_algorithm(const void *handle, int wanted, int *found, performance *results)
{
    if (check(VGPU_DNN, handle) || !found || !results || wanted < 1)
        return BAD_PARAM;
    memset(results, 0, sizeof *results * (size_t)wanted);
    *found = 1;
    results->deterministic = 1;
    return OK;
}

dnn_status cudnnGetConvolutionForwardAlgorithm_v7(void *h, void *x, void *w, void *c, void *y, int wanted, int *found, performance *r)
{
    (void)x, (void)w, (void)c, (void)y;
    return first_algorithm(h, wanted, found, r);
}

dnn_status cudnnGetConvolutionBackwardDataAlgorithm_v7(void *h, void *x, void *w, void *c, void *y, int wanted, int *found, performance *r)
{
    (void)x, (void)w, (void)c, (void)y;
    return first_algorithm(h, wanted, found, r);
}

dnn_status cudnnGetConvolutionBackwardFilterAlgorithm_v7(void *h, void *x, void *w, void *c, void *y, int wanted, int *found, performance *r)
{
    (void)x, (void)w, (void)c, (void)y;
    return first_algorithm(h, wanted, found, r);
}

static dnn_status no_workspace(const void *handle, size_t *bytes)
{
    if (check(VGPU_DNN, handle) || !bytes)
        return BAD_PARAM;
    *bytes = 0;
    return OK;
}

dnn_status cudnnGetConvolutionForwardWorkspaceSize(void *h, void *x, void *w, void *c, void *y, int algorithm, size_t *bytes)
{
    (void)x, (void)w, (void)c, (void)y, (void)algorithm;
    return no_workspace(h, bytes);
}

dnn_status cudnnGetConvolutionBackwardDataWorkspaceSize(void *h, void *x, void *w, void *c, void *y, int algorithm, size_t *bytes)
{
    (void)x, (void)w, (void)c, (void)y, (void)algorithm;
    return no_workspace(h, bytes);
}

dnn_status cudnnGetConvolutionBackwardFilterWorkspaceSize(void *h, void *x, void *w, void *c, void *y, int algorithm, size_t *bytes)
{
    (void)x, (void)w, (void)c, (void)y, (void)algorithm;
    return no_workspace(h, bytes);
}

dnn_status cudnnConvolutionForward(void *handle) { return executed(handle); }
dnn_status cudnnConvolutionBackwardData(void *handle) { return executed(handle); }
dnn_status cudnnConvolutionBackwardFilter(void *handle) { return executed(handle); }
dnn_status cudnnConvolutionBiasActivationForward(void *handle) { return executed(handle); }

#define DESCRIPTOR(name) \
    dnn_status cudnnCreate##name##Descriptor(void **d) { return new_handle(VGPU_DNN_DESCRIPTOR, d); } \
    dnn_status cudnnDestroy##name##Descriptor(void *d) { return drop(VGPU_DNN_DESCRIPTOR, d); }
DESCRIPTOR(Tensor)
DESCRIPTOR(Filter)
DESCRIPTOR(Convolution)
DESCRIPTOR(Activation)
DESCRIPTOR(Pooling)

#define SETTER(name) dnn_status cudnnSet##name(void *d) { return check(VGPU_DNN_DESCRIPTOR, d); }
SETTER(TensorNdDescriptor)
SETTER(FilterNdDescriptor)
SETTER(ConvolutionNdDescriptor)
SETTER(ConvolutionGroupCount)
SETTER(ConvolutionMathType)
SETTER(ActivationDescriptor)
