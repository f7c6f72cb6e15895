/* Streams and events: everything is complete at once. */
#include "runtime.h"

static runtime_error new_stream(void **stream)
{
    *stream = vgpu_new_handle();
    return vgpu_enter(vgpu_current_device) ? vgpu_fail(OUT_OF_MEMORY) : OK;
}

runtime_error cudaStreamCreate(void **stream) { return new_stream(stream); }
runtime_error cudaStreamCreateWithFlags(void **stream, unsigned flags) { (void)flags; return new_stream(stream); }

runtime_error cudaStreamCreateWithPriority(void **stream, unsigned flags, int priority)
{
    (void)flags, (void)priority;
    return new_stream(stream);
}

runtime_error cudaStreamDestroy(void *stream) { (void)stream; return OK; }
runtime_error cudaStreamSynchronize(void *stream) { (void)stream; return OK; }
runtime_error cudaStreamQuery(void *stream) { (void)stream; return OK; }
runtime_error cudaStreamWaitEvent(void *stream, void *event, unsigned flags) { (void)stream, (void)event, (void)flags; return OK; }
runtime_error cudaStreamGetPriority(void *stream, int *priority) { (void)stream; *priority = 0; return OK; }
runtime_error cudaThreadExchangeStreamCaptureMode(int *mode) { (void)mode; return OK; }

runtime_error cudaStreamIsCapturing(void *stream, int *status)
{
    (void)stream;
    *status = 0;
    return OK;
}

runtime_error cudaStreamGetCaptureInfo_v2(void *stream, int *status, unsigned long long *id)
{
    (void)stream;
    if (status) *status = 0;
    if (id) *id = 0;
    return OK;
}

runtime_error cudaStreamGetCaptureInfo(void *stream, int *status, unsigned long long *id)
{
    return cudaStreamGetCaptureInfo_v2(stream, status, id);
}

runtime_error cudaStreamAddCallback(void *stream, void (*callback)(void *, runtime_error, void *), void *data, unsigned flags)
{
    (void)flags;
    callback(stream, OK, data);
    return OK;
}

runtime_error cudaLaunchHostFunc(void *stream, void (*function)(void *), void *data)
{
    (void)stream;
    function(data);
    return OK;
}

runtime_error cudaEventCreate(void **event) { *event = vgpu_new_handle(); return OK; }
runtime_error cudaEventCreateWithFlags(void **event, unsigned flags) { (void)flags; return cudaEventCreate(event); }
runtime_error cudaEventDestroy(void *event) { (void)event; return OK; }
runtime_error cudaEventRecord(void *event, void *stream) { (void)event, (void)stream; return OK; }
runtime_error cudaEventRecordWithFlags(void *event, void *stream, unsigned flags) { (void)flags; return cudaEventRecord(event, stream); }
runtime_error cudaEventQuery(void *event) { (void)event; return OK; }
runtime_error cudaEventSynchronize(void *event) { (void)event; return OK; }

runtime_error cudaEventElapsedTime(float *milliseconds, void *start, void *end)
{
    (void)start, (void)end;
    *milliseconds = 0.01f; /* nothing runs, so there is no time; a constant keeps autotuners deterministic */
    return OK;
}

runtime_error cudaEventElapsedTime_v2(float *milliseconds, void *start, void *end) { return cudaEventElapsedTime(milliseconds, start, end); }
