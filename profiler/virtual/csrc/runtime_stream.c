/* Streams and events: everything is complete at once. */
#include "runtime.h"

static runtime_error new_stream(void **stream)
{
    if (!stream)
        return vgpu_fail(INVALID_VALUE);
    *stream = vgpu_new_handle(VGPU_STREAM);
    return !*stream || vgpu_enter(vgpu_current_device) ? vgpu_fail(OUT_OF_MEMORY) : OK;
}

runtime_error cudaStreamCreate(void **stream) { return new_stream(stream); }
runtime_error cudaStreamCreateWithFlags(void **stream, unsigned flags) { (void)flags; return new_stream(stream); }

runtime_error cudaStreamCreateWithPriority(void **stream, unsigned flags, int priority)
{
    (void)flags, (void)priority;
    return new_stream(stream);
}

/* Those that are always there cannot be destroyed. */
runtime_error cudaStreamDestroy(void *stream) { return vgpu_drop_handle(VGPU_STREAM, stream) ? vgpu_fail(INVALID_HANDLE) : OK; }
runtime_error cudaStreamSynchronize(void *stream) { return vgpu_check_stream(stream); }
runtime_error cudaStreamQuery(void *stream) { return vgpu_check_stream(stream); }

runtime_error cudaStreamGetPriority(void *stream, int *priority)
{
    if (!priority)
        return vgpu_fail(INVALID_VALUE);
    *priority = 0;
    return vgpu_check_stream(stream);
}

runtime_error cudaThreadExchangeStreamCaptureMode(int *mode) { return mode ? OK : vgpu_fail(INVALID_VALUE); }

runtime_error cudaStreamIsCapturing(void *stream, int *status)
{
    if (!status)
        return vgpu_fail(INVALID_VALUE);
    *status = 0;
    return vgpu_check_stream(stream);
}

runtime_error cudaStreamGetCaptureInfo_v2(void *stream, int *status, unsigned long long *id)
{
    if (status) *status = 0;
    if (id) *id = 0;
    return vgpu_check_stream(stream);
}

runtime_error cudaStreamGetCaptureInfo(void *stream, int *status, unsigned long long *id)
{
    return cudaStreamGetCaptureInfo_v2(stream, status, id);
}

runtime_error cudaStreamAddCallback(void *stream, void (*callback)(void *, runtime_error, void *), void *data, unsigned flags)
{
    (void)flags;
    if (!callback)
        return vgpu_fail(INVALID_VALUE);
    runtime_error failed = vgpu_check_stream(stream);
    if (!failed)
        callback(stream, OK, data);
    return failed;
}

runtime_error cudaLaunchHostFunc(void *stream, void (*function)(void *), void *data)
{
    if (!function)
        return vgpu_fail(INVALID_VALUE);
    runtime_error failed = vgpu_check_stream(stream);
    if (!failed)
        function(data);
    return failed;
}

/* ---- events: their mark is what is known of them ---- */

enum { NEW, UNTIMED = 1, RECORDED = 2 };
#define WITHOUT_TIMING 2u

static runtime_error check_event(const void *event)
{
    return vgpu_is_handle(VGPU_EVENT, event) ? OK : vgpu_fail(INVALID_HANDLE);
}

runtime_error cudaEventCreateWithFlags(void **event, unsigned flags)
{
    runtime_error failed = vgpu_give_handle(VGPU_EVENT, event, INVALID_VALUE, OUT_OF_MEMORY);
    if (failed)
        return vgpu_fail(failed);
    vgpu_mark_handle(VGPU_EVENT, *event, flags & WITHOUT_TIMING ? UNTIMED : NEW);
    return OK;
}

runtime_error cudaEventCreate(void **event) { return cudaEventCreateWithFlags(event, 0); }
runtime_error cudaEventDestroy(void *event) { return vgpu_drop_handle(VGPU_EVENT, event) ? vgpu_fail(INVALID_HANDLE) : OK; }

runtime_error cudaEventRecord(void *event, void *stream)
{
    int mark = vgpu_handle_mark(VGPU_EVENT, event);
    if (mark < 0 || vgpu_check_stream(stream))
        return vgpu_fail(INVALID_HANDLE);
    vgpu_mark_handle(VGPU_EVENT, event, mark | RECORDED);
    return OK;
}

runtime_error cudaEventRecordWithFlags(void *event, void *stream, unsigned flags) { (void)flags; return cudaEventRecord(event, stream); }
runtime_error cudaEventQuery(void *event) { return check_event(event); }
runtime_error cudaEventSynchronize(void *event) { return check_event(event); }

runtime_error cudaStreamWaitEvent(void *stream, void *event, unsigned flags)
{
    (void)flags;
    runtime_error failed = vgpu_check_stream(stream);
    return failed ? failed : check_event(event);
}

runtime_error cudaEventElapsedTime(float *milliseconds, void *start, void *end)
{
    if (!milliseconds)
        return vgpu_fail(INVALID_VALUE);
    if (vgpu_handle_mark(VGPU_EVENT, start) != RECORDED || vgpu_handle_mark(VGPU_EVENT, end) != RECORDED)
        return vgpu_fail(INVALID_HANDLE);
    *milliseconds = 0.01f; /* nothing runs, so there is no time; a constant keeps autotuners deterministic */
    return OK;
}

runtime_error cudaEventElapsedTime_v2(float *milliseconds, void *start, void *end) { return cudaEventElapsedTime(milliseconds, start, end); }
