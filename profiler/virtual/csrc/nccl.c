/* NCCL stand-in: a group of one process, whose collectives have nothing to do.
 *
 * NCCL carries a CUDA runtime of its own inside, which asks the driver for undocumented tables: the real library
 * cannot start here. With one rank every collective leaves, or copies, what this rank has put in: on a real card
 * that is a copy at most and takes no memory. Groups of several ranks are refused.
 *
 * What a real communicator takes of the card when it is made, for its channels and kernels, follows from the
 * library's release and the machine's topology; it is not known and left out. They are counted, so that a result
 * can say so.
 */
#include "accounts.h"
#include "device.h"
#include "handles.h"
#include "memory.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int nccl_result; /* ncclResult_t */
enum { OK = 0, UNHANDLED_CUDA_ERROR = 1, SYSTEM_ERROR = 2, INTERNAL_ERROR = 3, INVALID_ARGUMENT = 4, INVALID_USAGE = 5 };
enum { NO_COLOR = -1, FIRST_OWN_REDUCTION = 5 };

typedef struct { char bytes[128]; } unique_id;
typedef intptr_t word; /* a pointer or a number, passed on unread */
typedef struct {
    uint64_t no_magic; /* 0 where the real library expects its own: one of its functions that we lack refuses this */
    int device;
} communicator;

static __thread char last_error[160];

static nccl_result unknown(const char *function)
{
    vgpu_note_unknown(function);
    snprintf(last_error, sizeof last_error, "the virtual GPU does not implement %s", function);
    return INVALID_USAGE;
}

/* The release is that of the real library, which torch has loaded all the same. */
nccl_result ncclGetVersion(int *version)
{
    if (!version)
        return INVALID_ARGUMENT;
    void *real = dlopen("libnccl.so.2", RTLD_LAZY | RTLD_NOLOAD);
    nccl_result (*ask)(int *) = real ? (nccl_result (*)(int *))dlsym(real, "ncclGetVersion") : NULL;
    nccl_result result = ask ? ask(version) : SYSTEM_ERROR;
    if (real)
        dlclose(real);
    return result;
}

const char *ncclGetErrorString(nccl_result result)
{
    switch (result) {
    case OK: return "no error";
    case UNHANDLED_CUDA_ERROR: return "unhandled cuda error";
    case INVALID_ARGUMENT: return "invalid argument";
    case INVALID_USAGE: return "invalid usage";
    default: return "error of the virtual GPU's NCCL";
    }
}

const char *ncclGetLastError(void *comm) { (void)comm; return last_error; }

/* ---- communicators ---- */

static nccl_result new_communicator(void **comm, int device)
{
    communicator *c = vgpu_device_at(device) && !vgpu_enter(device) ? calloc(1, sizeof *c) : NULL;
    if (c && vgpu_adopt_handle(VGPU_COMMUNICATOR, c)) {
        free(c);
        c = NULL;
    }
    if (c) {
        c->device = device;
        __atomic_add_fetch(&vgpu_get()->num_communicators, 1, __ATOMIC_RELAXED);
    }
    *comm = c;
    return c ? OK : UNHANDLED_CUDA_ERROR;
}

static nccl_result join(void **comm, int num_ranks, int rank, const char *refusal)
{
    if (!comm)
        return INVALID_ARGUMENT;
    *comm = NULL;
    if (num_ranks > 1)
        return unknown(refusal);
    return num_ranks == 1 && rank == 0 ? new_communicator(comm, vgpu_current_device) : INVALID_ARGUMENT;
}

nccl_result ncclGetUniqueId(unique_id *id)
{
    if (!id)
        return INVALID_ARGUMENT;
    memset(id, 1, sizeof *id); /* nobody is to be met under it */
    return OK;
}

nccl_result ncclCommInitRank(void **comm, int num_ranks, unique_id id, int rank)
{
    (void)id;
    return join(comm, num_ranks, rank, "ncclCommInitRank of several ranks");
}

nccl_result ncclCommInitRankConfig(void **comm, int num_ranks, unique_id id, int rank, void *config)
{
    (void)id, (void)config;
    return join(comm, num_ranks, rank, "ncclCommInitRankConfig of several ranks");
}

nccl_result ncclCommInitRankScalable(void **comm, int num_ranks, int rank, int num_ids, unique_id *ids, void *config)
{
    (void)num_ids, (void)ids, (void)config;
    return join(comm, num_ranks, rank, "ncclCommInitRankScalable of several ranks");
}

nccl_result ncclCommInitAll(void **comms, int num_devices, const int *devices)
{
    if (!comms || num_devices < 1)
        return INVALID_ARGUMENT;
    if (num_devices != 1)
        return unknown("ncclCommInitAll of several devices");
    return new_communicator(comms, devices ? *devices : 0);
}

static nccl_result check(const void *comm)
{
    return vgpu_is_handle(VGPU_COMMUNICATOR, comm) ? OK : INVALID_ARGUMENT;
}

nccl_result ncclCommSplit(communicator *comm, int color, int key, void **made, void *config)
{
    (void)key, (void)config;
    if (check(comm) || !made || color < NO_COLOR)
        return INVALID_ARGUMENT;
    *made = NULL;
    return color == NO_COLOR ? OK : new_communicator(made, comm->device);
}

/* Of no communicator there is nothing to destroy, and no error. */
nccl_result ncclCommDestroy(communicator *comm)
{
    if (comm && vgpu_drop_handle(VGPU_COMMUNICATOR, comm))
        return INVALID_ARGUMENT;
    free(comm);
    return OK;
}

nccl_result ncclCommAbort(communicator *comm) { return ncclCommDestroy(comm); }
nccl_result ncclCommFinalize(const communicator *comm) { return check(comm); }
nccl_result ncclCommRevoke(const communicator *comm) { return check(comm); }
nccl_result ncclCommSuspend(const communicator *comm) { return check(comm); }
nccl_result ncclCommResume(const communicator *comm) { return check(comm); }

static nccl_result give_number(const communicator *comm, int *number, int value)
{
    if (check(comm) || !number)
        return INVALID_ARGUMENT;
    *number = value;
    return OK;
}

nccl_result ncclCommGetAsyncError(const communicator *comm, nccl_result *error) { return give_number(comm, error, OK); }
nccl_result ncclCommCount(const communicator *comm, int *count) { return give_number(comm, count, 1); }
nccl_result ncclCommUserRank(const communicator *comm, int *rank) { return give_number(comm, rank, 0); }
nccl_result ncclCommCuDevice(const communicator *comm, int *device) { return give_number(comm, device, check(comm) ? 0 : comm->device); }

/* ---- memory ---- */

nccl_result ncclMemAlloc(void **pointer, size_t bytes)
{
    if (!pointer || !bytes)
        return INVALID_ARGUMENT;
    *pointer = vgpu_allocate(vgpu_current_device, bytes);
    return *pointer ? OK : UNHANDLED_CUDA_ERROR;
}

nccl_result ncclMemFree(void *pointer) { return pointer && vgpu_release(pointer, 1u << VGPU_DEVICE) ? INVALID_ARGUMENT : OK; }

nccl_result ncclCommRegister(const communicator *comm, void *buffer, size_t bytes, void **handle)
{
    (void)bytes;
    return check(comm) || !buffer ? INVALID_ARGUMENT : vgpu_give_handle(VGPU_REGISTRATION, handle, INVALID_ARGUMENT, SYSTEM_ERROR);
}

nccl_result ncclCommDeregister(const communicator *comm, void *handle)
{
    return check(comm) || vgpu_drop_handle(VGPU_REGISTRATION, handle) ? INVALID_ARGUMENT : OK;
}

/* ---- collectives: with one rank, what goes in comes out; which values that are is followed above (values.py) ---- */

nccl_result ncclGroupStart(void) { return OK; }
nccl_result ncclGroupEnd(void) { return OK; }

nccl_result ncclRedOpCreatePreMulSum(int *reduction, void *scalar, int type, int residence, void *comm)
{
    (void)scalar, (void)type, (void)residence;
    return give_number(comm, reduction, FIRST_OWN_REDUCTION);
}

nccl_result ncclRedOpDestroy(int reduction, void *comm) { (void)reduction; return check(comm); }

static nccl_result launch(word comm, const void *stream)
{
    if (check((const void *)comm) || !vgpu_is_stream(stream))
        return INVALID_ARGUMENT;
    vgpu_count_launch();
    return OK;
}

/* By how many other parameters stand before the communicator; the stream comes after it. */
#define AFTER_4(name) \
    nccl_result name(word a, word b, word c, word d, word comm, void *stream) \
    { \
        (void)a, (void)b, (void)c, (void)d; \
        return launch(comm, stream); \
    }
#define AFTER_5(name) \
    nccl_result name(word a, word b, word c, word d, word e, word comm, void *stream) \
    { \
        (void)a, (void)b, (void)c, (void)d, (void)e; \
        return launch(comm, stream); \
    }
#define AFTER_6(name) \
    nccl_result name(word a, word b, word c, word d, word e, word f, word comm, void *stream) \
    { \
        (void)a, (void)b, (void)c, (void)d, (void)e, (void)f; \
        return launch(comm, stream); \
    }
AFTER_5(ncclAllReduce)
AFTER_6(ncclReduce)
AFTER_5(ncclBroadcast)
AFTER_4(ncclBcast)
AFTER_4(ncclAllGather)
AFTER_5(ncclReduceScatter)
AFTER_4(ncclAlltoAll)
AFTER_5(ncclGather)
AFTER_5(ncclScatter)
AFTER_4(ncclSend)
AFTER_4(ncclRecv)

/* ---- what a group of one has no use for ---- */

#define UNKNOWN(name) nccl_result name(void) { return unknown(#name); }
UNKNOWN(ncclCommShrink)
UNKNOWN(ncclCommGrow)
UNKNOWN(ncclCommGetUniqueId)
UNKNOWN(ncclCommMemStats)
UNKNOWN(ncclCommQueryProperties)
UNKNOWN(ncclCommWindowRegister)
UNKNOWN(ncclCommWindowDeregister)
UNKNOWN(ncclWinGetUserPtr)
UNKNOWN(ncclDevCommCreate)
UNKNOWN(ncclDevCommDestroy)
UNKNOWN(ncclGetLsaDevicePointer)
UNKNOWN(ncclGetLsaMultimemDevicePointer)
UNKNOWN(ncclGetMultimemDevicePointer)
UNKNOWN(ncclGetPeerDevicePointer)
UNKNOWN(ncclGroupSimulateEnd)
UNKNOWN(ncclPutSignal)
UNKNOWN(ncclSignal)
UNKNOWN(ncclWaitSignal)
