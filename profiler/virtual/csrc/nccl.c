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
#include "memory.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int nccl_result; /* ncclResult_t */
enum { OK = 0, UNHANDLED_CUDA_ERROR = 1, SYSTEM_ERROR = 2, INTERNAL_ERROR = 3, INVALID_ARGUMENT = 4, INVALID_USAGE = 5 };
enum { NO_COLOR = -1, FIRST_OWN_REDUCTION = 5 };

typedef struct { char bytes[128]; } unique_id;
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
    if (c) {
        c->device = device;
        __atomic_add_fetch(&vgpu_get()->num_communicators, 1, __ATOMIC_RELAXED);
    }
    *comm = c;
    return c ? OK : UNHANDLED_CUDA_ERROR;
}

static nccl_result join(void **comm, int num_ranks, int rank, const char *refusal)
{
    *comm = NULL;
    if (num_ranks > 1)
        return unknown(refusal);
    return num_ranks == 1 && rank == 0 ? new_communicator(comm, vgpu_current_device) : INVALID_ARGUMENT;
}

nccl_result ncclGetUniqueId(unique_id *id)
{
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
    if (num_devices != 1)
        return unknown("ncclCommInitAll of several devices");
    return new_communicator(comms, devices ? *devices : 0);
}

nccl_result ncclCommSplit(communicator *comm, int color, int key, void **made, void *config)
{
    (void)key, (void)config;
    *made = NULL;
    return color == NO_COLOR ? OK : new_communicator(made, comm->device);
}

nccl_result ncclCommDestroy(communicator *comm) { free(comm); return OK; }
nccl_result ncclCommAbort(communicator *comm) { free(comm); return OK; }
nccl_result ncclCommFinalize(void) { return OK; }
nccl_result ncclCommRevoke(void) { return OK; }
nccl_result ncclCommSuspend(void) { return OK; }
nccl_result ncclCommResume(void) { return OK; }

nccl_result ncclCommGetAsyncError(const communicator *comm, nccl_result *error) { (void)comm; *error = OK; return OK; }
nccl_result ncclCommCount(const communicator *comm, int *count) { (void)comm; *count = 1; return OK; }
nccl_result ncclCommUserRank(const communicator *comm, int *rank) { (void)comm; *rank = 0; return OK; }
nccl_result ncclCommCuDevice(const communicator *comm, int *device) { *device = comm->device; return OK; }

/* ---- memory ---- */

nccl_result ncclMemAlloc(void **pointer, size_t bytes)
{
    *pointer = vgpu_allocate(vgpu_current_device, bytes);
    return *pointer ? OK : UNHANDLED_CUDA_ERROR;
}

nccl_result ncclMemFree(void *pointer) { return vgpu_release(pointer) ? INVALID_ARGUMENT : OK; }

nccl_result ncclCommRegister(const communicator *comm, void *buffer, size_t bytes, void **handle)
{
    (void)comm, (void)buffer, (void)bytes;
    *handle = vgpu_new_handle();
    return OK;
}

nccl_result ncclCommDeregister(void) { return OK; }

/* ---- collectives: with one rank, what goes in comes out; which values that are is followed above (values.py) ---- */

nccl_result ncclGroupStart(void) { return OK; }
nccl_result ncclGroupEnd(void) { return OK; }

nccl_result ncclRedOpCreatePreMulSum(int *reduction, void *scalar, int type, int residence, void *comm)
{
    (void)scalar, (void)type, (void)residence, (void)comm;
    *reduction = FIRST_OWN_REDUCTION;
    return OK;
}

nccl_result ncclRedOpDestroy(void) { return OK; }

static nccl_result launch(void)
{
    vgpu_count_launch();
    return OK;
}

#define COLLECTIVE(name) nccl_result name(void) { return launch(); }
COLLECTIVE(ncclAllReduce)
COLLECTIVE(ncclReduce)
COLLECTIVE(ncclBroadcast)
COLLECTIVE(ncclBcast)
COLLECTIVE(ncclAllGather)
COLLECTIVE(ncclReduceScatter)
COLLECTIVE(ncclAlltoAll)
COLLECTIVE(ncclGather)
COLLECTIVE(ncclScatter)
COLLECTIVE(ncclSend)
COLLECTIVE(ncclRecv)

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
