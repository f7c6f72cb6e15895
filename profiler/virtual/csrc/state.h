/* The virtual machine's memory, shared by every process that sees its GPUs.
 *
 * One small file, mapped by all, is the single truth: the runtime and driver stand-ins write it,
 * the NVML stand-in and the Python side (profiler/virtual/state.py) read it, so their answers agree
 * in every process and peaks are exact. The file is created, with the configuration filled in, before
 * the first process starts; its path is in the environment variable PEAKVRAM_VGPU.
 *
 * Fixed-width types only; the Python mirror is held to these offsets by a test.
 */
#ifndef PEAKVRAM_STATE_H
#define PEAKVRAM_STATE_H

#include <stdint.h>

#define VGPU_MAGIC 0x5550475652414d31ull /* "1MARVGPU" */
#define VGPU_MAX_DEVICES 8
/* More than have room on a card: each takes a context of hundreds of MiB. */
#define VGPU_MAX_PROCESSES 4096
/* More than there are functions (csrc/names). */
#define VGPU_MAX_UNKNOWN 4096

/* What difficult cards do. Each flag makes the NVML stand-in answer as such a card does. */
enum {
    VGPU_QUIRK_NO_PROCESS_MEMORY = 1 << 0, /* WSL, WDDM: processes are listed, their memory is "not available" */
    VGPU_QUIRK_MIG = 1 << 1,               /* the card is split; CUDA sees one MIG slice with a MIG- UUID */
    VGPU_QUIRK_DRIVER_TOO_OLD = 1 << 2,    /* the driver is older than the wheel's CUDA */
    VGPU_QUIRK_LOST = 1 << 3,              /* the first card fell off the bus */
    VGPU_QUIRK_NVML_REVERSED = 1 << 4,     /* NVML lists cards in another order than CUDA */
    VGPU_QUIRK_NO_MEMORY_V2 = 1 << 5,      /* a driver without nvmlDeviceGetMemoryInfo_v2 */
    VGPU_QUIRK_HOST_PIDS = 1 << 6,         /* in a container: NVML reports the host's process ids, not ours */
};

typedef struct {
    /* configuration: written once, by whoever made the file */
    char name[96];
    char uuid[48]; /* "GPU-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx" */
    uint64_t total_bytes;      /* what CUDA reports as the card's memory */
    uint64_t nvml_total_bytes; /* what NVML reports; the difference is the driver's own */
    uint64_t context_bytes;    /* one process's CUDA context */
    uint64_t other_bytes;      /* memory that other, pretended processes hold */
    uint64_t l2_cache_bytes;
    uint64_t shared_memory_per_block_optin_bytes;
    uint64_t shared_memory_per_sm_bytes;
    int32_t other_pid; /* the process id NVML shows for other_bytes; negative: one that draws, 0: one not shown */
    int32_t cc_major, cc_minor;
    int32_t ptx_version; /* newest architecture of the wheel that the card can run, e.g. 86 on an 8.9 card */
    int32_t num_sms;
    int32_t max_threads_per_sm;
    int32_t max_blocks_per_sm;
    int32_t memory_bus_width_bits;
    /* counters: under the lock */
    uint64_t held_bytes;      /* by live allocations of every process */
    uint64_t used_bytes;      /* held + contexts + other: what NVML calls used */
    uint64_t used_peak_bytes; /* maximum of used_bytes since it was last set to used_bytes */
    uint64_t num_allocations;
    uint64_t num_frees;
    uint64_t num_refusals; /* allocations refused for want of memory */
    uint64_t num_launches;
} vgpu_device;

typedef struct {
    int32_t pid;       /* 0: a free slot; negative: of one that died, which holds nothing any more */
    uint32_t contexts; /* bit i: this process has a context on device i */
    uint32_t started;  /* as vgpu_start_of tells it; 0: not known */
    uint32_t padding;
    uint64_t managed_bytes;
    uint64_t held_bytes[VGPU_MAX_DEVICES];
    uint64_t used_peak_bytes[VGPU_MAX_DEVICES]; /* maximum of what it held and its context */
} vgpu_process;

typedef struct {
    uint64_t magic;
    uint32_t size; /* sizeof(vgpu_state): a wheel and a library that disagree must not run */
    int32_t num_devices;
    int32_t cuda_version;   /* of the wheel, as CUDA encodes it: 13000 */
    int32_t driver_version; /* the newest CUDA the pretended driver supports */
    char driver_name[32];   /* as NVML names it: "580.65.06" */
    uint32_t quirks;
    uint32_t cudnn_calls;   /* convolutions and the like whose cuDNN workspace is not known */
    uint64_t managed_bytes; /* live managed memory of every process (paged optimizers): outside the card's count */
    uint64_t managed_peak_bytes;
    uint32_t num_unknown;
    uint32_t num_communicators; /* of NCCL: what they take of the card is not known */
    uint32_t cusolver_calls; /* decompositions and transforms whose workspace is not known either */
    uint32_t cufft_calls;
    uint32_t num_host_refusals; /* times that not a card but this machine had no memory for what was asked of a card */
    uint32_t padding;
    vgpu_device devices[VGPU_MAX_DEVICES];
    uint64_t lock_owner; /* thread id, and above it when that started; 0 when free. A dead owner's lock is taken over */
    uint32_t num_slots;  /* of `processes`: as many as were ever in use, from the first on */
    uint32_t is_unsettled; /* the lock was taken over: its owner may have died between two figures that go together */
    vgpu_process processes[VGPU_MAX_PROCESSES];
    char unknown[VGPU_MAX_UNKNOWN][64]; /* CUDA functions that were called and are not implemented */
} vgpu_state;

/* The mapped state, or NULL if PEAKVRAM_VGPU names none. Never fails loudly: callers answer "no device". */
vgpu_state *vgpu_get(void);
/* Moves this process to another machine, before it has asked CUDA for anything: for a child forked from one that
 * has mapped a machine already. 0, or -1 if the file is not a machine's state. */
int vgpu_attach(const char *path);
void vgpu_lock(vgpu_state *state);
void vgpu_unlock(vgpu_state *state);
/* When a process or thread started, in clock ticks; 0 where that is not told. */
uint32_t vgpu_start_of(int32_t id);
/* Whether there is no process, or thread, of this number any more, or it is another one than that which started then. */
int vgpu_is_dead(int32_t id, uint32_t started);
/* Remembers that a function we do not implement was called; keeps its name for error texts. */
void vgpu_note_unknown(const char *function);
const char *vgpu_last_unknown(void);

#endif
