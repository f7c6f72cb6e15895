/* Random calls of the library, right and wrong ones: calls SEED CALLS THREADS.
 *
 * What is live is kept, so that most calls have something to work on; the rest name nothing, what was given back, what
 * is another kind's, or another thread's. No call may crash, and in the end the card holds what it held at first:
 * otherwise the exit code is not 0. Linked with the library's sources (sanitizing.py).
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef void *p;
typedef size_t n;
typedef struct { unsigned x, y, z; } size3;
typedef struct { int type, handle_types, location_type, location_id; p windows; unsigned char flags[8]; } properties;
typedef struct { int type, id, flags; } access;
typedef struct { char bytes[128]; } unique_id;

int cudaMalloc(p *, n), cudaFree(p), cudaMallocManaged(p *, n, unsigned), cudaHostAlloc(p *, n, unsigned), cudaFreeHost(p);
int cudaHostRegister(p, n, unsigned), cudaHostUnregister(p), cudaHostGetDevicePointer(p *, p, unsigned);
int cudaMemcpy(p, const void *, n, int), cudaMemcpyAsync(p, const void *, n, int, p), cudaMemset(p, int, n);
int cudaMemcpy2DAsync(p, n, const void *, n, n, n, int, p), cudaMemcpyPeerAsync(p, int, const void *, int, n, p);
int cudaMemPrefetchAsync(const void *, n, int, p), cudaPointerGetAttributes(p, const void *), cudaMemGetInfo(n *, n *);
int cudaGetSymbolAddress(p *, const void *), cudaMemcpyToSymbol(const void *, const void *, n, n, int);
int cudaStreamCreate(p *), cudaStreamDestroy(p), cudaStreamSynchronize(p), cudaStreamWaitEvent(p, p, unsigned);
int cudaEventCreateWithFlags(p *, unsigned), cudaEventDestroy(p), cudaEventRecord(p, p), cudaEventElapsedTime(float *, p, p);
int cudaSetDevice(int), cudaGetDevice(int *), cudaGetDeviceProperties(p, int), cudaDeviceGetAttribute(int *, int, int);
int cudaLaunchKernel(const void *, size3, size3, p *, n, p), cudaGraphCreate(p *, unsigned), cudaGetLastError(void);
int cudaFuncGetAttributes(p, const void *);
const char *cudaGetErrorString(int), *cudaGetErrorName(int);
int cuMemAddressReserve(uint64_t *, n, n, uint64_t, unsigned long long), cuMemAddressFree(uint64_t, n);
int cuMemCreate(uint64_t *, n, const properties *, unsigned long long), cuMemRelease(uint64_t);
int cuMemMap(uint64_t, n, n, uint64_t, unsigned long long), cuMemUnmap(uint64_t, n), cuMemSetAccess(uint64_t, n, const access *, n);
int cuMemRetainAllocationHandle(uint64_t *, p), cuMemGetAllocationPropertiesFromHandle(properties *, uint64_t);
int cuMemGetAddressRange_v2(uint64_t *, n *, uint64_t), cuPointerGetAttribute(p, int, uint64_t);
int cuModuleLoadData(p *, const void *), cuModuleUnload(p), cuModuleGetFunction(p *, p, const char *);
int cuLaunchKernel(p, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, p, p *, p *);
int cuDeviceGetName(char *, int, int), cuGetErrorString(int, const char **), cuCtxSetCurrent(p), cuCtxGetCurrent(p *);
int cuGetProcAddress_v2(const char *, p *, int, uint64_t, int *);
int cublasCreate_v2(p *), cublasDestroy_v2(p), cublasSgemm_v2(p), cublasGetStream_v2(p, p *), cublasLtMatmul(p);
int cublasLtMatmulDescCreate(p *), cublasLtMatmulDescDestroy(p);
int cudnnCreate(p *), cudnnDestroy(p), cudnnConvolutionForward(p), cudnnBackendCreateDescriptor(int, p *);
int cudnnBackendDestroyDescriptor(p), cudnnBackendGetAttribute(p, int, int, int64_t, int64_t *, p);
int cusolverDnCreate(p *), cusolverDnDestroy(p), cusolverDnSgetrf(p), cusparseCreate(p *), cusparseDestroy(p);
int cufftCreate(int *), cufftDestroy(int), cufftXtExec(int);
int ncclGetUniqueId(unique_id *), ncclCommInitRank(p *, int, unique_id, int), ncclCommDestroy(p), ncclCommCuDevice(p, int *);
int ncclCommSplit(p, int, int, p *, p), ncclAllReduce(const void *, p, n, int, int, p, p);
int nvmlInit_v2(void), nvmlShutdown(void), nvmlDeviceGetHandleByIndex_v2(unsigned, p *), nvmlDeviceGetMemoryInfo(p, p);
int nvmlDeviceGetName(p, char *, unsigned), nvmlDeviceGetComputeRunningProcesses_v3(p, unsigned *, p);
int vgpu_open(p, n), vgpu_recall(p, n), vgpu_unplant(void);
void vgpu_wipe(p, n), vgpu_plant(const int64_t *, n);
void __cudaRegisterVar(p *, p, p, const char *, int, n, int, int);

#define PAGE (2ull << 20)
enum { DEVICE, MANAGED, HOST, STREAM, EVENT, MODULE, FUNCTION, BLAS, DESCRIPTION, DNN, DNN_DESCRIPTOR, SOLVER, SPARSE, COMM, PHYSICAL, KINDS };
enum { PLACES = 32, RANGES = 4, RANGE_PAGES = 8, SHARED = 16, BUFFER = 1 << 16 };

typedef struct {
    uint64_t random;
    p live[KINDS][PLACES], were[KINDS]; /* what is live, and the last one given back */
    uint64_t ranges[RANGES];
    int plans[PLACES];
    char *buffer;
} calls;

static p shared[SHARED]; /* device memory of all threads: each may free what another uses */
static int symbol[64];

static uint64_t draw(calls *c, uint64_t limit)
{
    c->random ^= c->random << 13, c->random ^= c->random >> 7, c->random ^= c->random << 17;
    return c->random % limit;
}

static p wild(calls *c)
{
    static const uintptr_t nowhere[] = {0, 1, 0x1234, 0x10001, 0x40000001, ~0ull, ~0ull << 20, 1ull << 47};
    return (p)nowhere[draw(c, sizeof nowhere / sizeof *nowhere)];
}

static p garbage(calls *c, int kind)
{
    switch (draw(c, 5)) {
    case 0: return c->were[kind];
    case 1: return c->live[draw(c, KINDS)][draw(c, PLACES)];
    case 2: return (char *)c->live[kind][draw(c, PLACES)] + draw(c, 4096);
    case 3: return c->buffer;
    default: return wild(c);
    }
}

static p some(calls *c, int kind)
{
    p live = c->live[kind][draw(c, PLACES)];
    return live && draw(c, 4) ? live : garbage(c, kind);
}

static n size(calls *c)
{
    switch (draw(c, 8)) {
    case 0: return 0;
    case 1: return ~(n)0 - draw(c, 3) * PAGE;
    case 2: return 1ull << draw(c, 64);
    case 3: return PAGE * (1 + draw(c, 8));
    default: return 1 + draw(c, BUFFER);
    }
}

/* Memory of the host that a call may write to: the real library writes wherever it is told. */
static p host(calls *c, n bytes)
{
    p live = c->live[draw(c, 2) ? HOST : MANAGED][draw(c, PLACES)];
    return bytes > BUFFER ? NULL : live && draw(c, 2) ? live : c->buffer;
}

/* Fills a place, or gives what is there back, twice at times. */
static void turn(calls *c, int kind, int (*make)(p *), int (*drop)(p))
{
    p *place = &c->live[kind][draw(c, PLACES)];
    if (!*place) {
        if (make(place))
            *place = NULL;
        return;
    }
    c->were[kind] = *place;
    drop(*place);
    *place = NULL;
    if (!draw(c, 4))
        drop(c->were[kind]);
    if (!draw(c, 16))
        make(NULL);
}

static __thread calls *own;
static int make_device(p *to) { return cudaMalloc(to, draw(own, 8) ? 1 + draw(own, 8 * PAGE) : size(own)); }
static int make_managed(p *to) { return cudaMallocManaged(to, BUFFER, 0); }
static int make_host(p *to) { return cudaHostAlloc(to, BUFFER, 0); }
static int make_event(p *to) { return cudaEventCreateWithFlags(to, draw(own, 4)); }
static int make_module(p *to) { return cuModuleLoadData(to, own); }
static int make_function(p *to) { return cuModuleGetFunction(to, some(own, MODULE), "kernel"); }
static int make_descriptor(p *to) { return cudnnBackendCreateDescriptor(0, to); }
static int make_comm(p *to) { unique_id id; ncclGetUniqueId(&id); return ncclCommInitRank(to, 1, id, 0); }
static int keep(p what) { (void)what; return 0; }

static int make_physical(p *to)
{
    properties right = {.type = 1, .location_type = 1, .location_id = draw(own, 16) ? 0 : (int)draw(own, 99) - 9};
    uint64_t handle = 0;
    int failed = cuMemCreate(to ? &handle : NULL, draw(own, 16) ? PAGE * (1 + draw(own, 3)) : size(own), &right, 0);
    if (to)
        *to = (p)(uintptr_t)handle;
    return failed;
}

static int drop_physical(p handle) { return cuMemRelease((uint64_t)(uintptr_t)handle); }

static void use_ranges(calls *c)
{
    uint64_t *range = &c->ranges[draw(c, RANGES)], handle;
    uint64_t at = *range + draw(c, RANGE_PAGES) * PAGE + (draw(c, 16) ? 0 : draw(c, PAGE));
    n bytes = draw(c, 16) ? PAGE * (1 + draw(c, 3)) : size(c);
    access all = {1, (int)draw(c, 2), 3};
    switch (draw(c, 9)) {
    case 0:
        if (!*range && cuMemAddressReserve(range, RANGE_PAGES * PAGE, draw(c, 2) ? 0 : PAGE << draw(c, 3), 0, 0))
            *range = 0;
        break;
    case 1: case 2: cuMemMap(at, bytes, 0, (uint64_t)(uintptr_t)some(c, PHYSICAL), draw(c, 16) == 0); break;
    case 3: cuMemUnmap(draw(c, 8) ? at : (uint64_t)(uintptr_t)garbage(c, DEVICE), bytes); break;
    case 4: cuMemSetAccess(at, bytes, draw(c, 8) ? &all : NULL, 1); break;
    case 5:
        if (!cuMemRetainAllocationHandle(&handle, (p)(uintptr_t)at))
            cuMemRelease(handle);
        break;
    case 6: cudaMemcpy((p)(uintptr_t)at, c->buffer, draw(c, BUFFER), 1); break;
    case 7: cudaMemcpy(c->buffer, (p)(uintptr_t)at, draw(c, BUFFER), 2); break;
    default:
        if (*range && !draw(c, 4)) {
            cuMemUnmap(*range, RANGE_PAGES * PAGE);
            if (!cuMemAddressFree(*range, draw(c, 4) ? RANGE_PAGES * PAGE : bytes))
                *range = 0;
        }
    }
}

static void copy(calls *c)
{
    n bytes = size(c);
    p stream = some(c, STREAM), device = some(c, draw(c, 8) ? DEVICE : MANAGED), near = host(c, bytes);
    n width = 1 + draw(c, 64), height = draw(c, 64);
    switch (draw(c, 8)) {
    case 0: cudaMemcpy(device, near, bytes, 1); break;
    case 1: cudaMemcpyAsync(near, device, bytes, 2, stream); break;
    case 2: cudaMemcpyAsync(device, some(c, DEVICE), bytes, 3, stream); break;
    case 3: cudaMemset(device, 1, bytes); break;
    case 4: cudaMemcpy2DAsync(device, draw(c, 128), near ? near : c->buffer, draw(c, 128), width, height, 1, stream); break;
    case 5: cudaMemcpyPeerAsync(device, (int)draw(c, 3) - 1, some(c, DEVICE), 0, bytes, stream); break;
    case 6: cudaMemcpy(near, device, bytes, (int)draw(c, 2) ? 2 : -1); break;
    default: cudaMemPrefetchAsync(some(c, MANAGED), bytes, 0, stream); break;
    }
}

static void follow_values(calls *c)
{
    static const int64_t answers[] = {1, 2, 3};
    p device = some(c, DEVICE);
    n bytes = 1 + draw(c, BUFFER);
    cudaMemcpy(device, c->buffer, bytes, 1);
    switch (draw(c, 4)) {
    case 0: vgpu_open(device, draw(c, 8) ? bytes : size(c)); break;
    case 1: vgpu_recall(device, bytes); break;
    case 2: vgpu_wipe(device, bytes); break;
    default:
        vgpu_plant(answers, 3);
        cudaMemcpy(c->buffer, device, draw(c, 16), 2);
        vgpu_unplant();
    }
}

static void share(calls *c)
{
    p made = NULL, before;
    if (!cudaMalloc(&made, 1 + draw(c, 4 * PAGE))) {
        before = __atomic_exchange_n(&shared[draw(c, SHARED)], made, __ATOMIC_ACQ_REL);
        cudaFree(before);
    }
    p other = __atomic_load_n(&shared[draw(c, SHARED)], __ATOMIC_ACQUIRE);
    cudaMemcpy(other, c->buffer, draw(c, 4096), 1);
    cudaMemset(other, 0, draw(c, PAGE));
}

static void ask(calls *c)
{
    uint64_t number, base;
    int value;
    n bytes, total;
    char text[256];
    const char *said;
    p made;
    uint64_t out[256];
    switch (draw(c, 20)) {
    case 0: cudaPointerGetAttributes(out, some(c, (int)draw(c, KINDS))); break;
    case 1: cuMemGetAddressRange_v2(&base, &bytes, (uint64_t)(uintptr_t)some(c, DEVICE)); break;
    case 2: cuPointerGetAttribute(&number, (int)draw(c, 12), (uint64_t)(uintptr_t)some(c, DEVICE)); break;
    case 3: cudaMemGetInfo(draw(c, 8) ? &bytes : NULL, &total); break;
    case 4: cudaSetDevice(draw(c, 8) ? 0 : (int)draw(c, 99) - 9); break;
    case 5: cudaGetDeviceProperties(draw(c, 8) ? out : NULL, (int)draw(c, 3) - 1); break;
    case 6: cudaDeviceGetAttribute(&value, (int)draw(c, 140), (int)draw(c, 3) - 1); break;
    case 7: snprintf(text, sizeof text, "%s %s", cudaGetErrorString((int)draw(c, 900)), cudaGetErrorName((int)draw(c, 900))); break;
    case 8: cuGetErrorString((int)draw(c, 900), &said); break;
    case 9: cuDeviceGetName(text, (int)draw(c, sizeof text), (int)draw(c, 3) - 1); break;
    case 10: cuCtxSetCurrent(draw(c, 2) && !cuCtxGetCurrent(&made) ? made : garbage(c, DEVICE)); break;
    case 11: cuGetProcAddress_v2(draw(c, 2) ? "cuMemCreate" : draw(c, 2) ? "nothing" : NULL, &made, 13000, 0, NULL); break;
    case 12: cuMemGetAllocationPropertiesFromHandle((properties *)out, (uint64_t)(uintptr_t)some(c, PHYSICAL)); break;
    case 13: cudaGraphCreate(&made, 0); break;
    case 14: cudaGetSymbolAddress(&made, draw(c, 2) ? (p)symbol : garbage(c, DEVICE)); break;
    case 15: cudaMemcpyToSymbol(symbol, c->buffer, size(c), size(c), 1); break;
    case 16: cudaHostGetDevicePointer(&made, some(c, HOST), 0); break;
    case 17: /* what is there would be written to */
        if (draw(c, 2))
            cudaHostRegister(c->buffer, draw(c, BUFFER), 0);
        else
            cudaHostRegister(wild(c), size(c), 0);
        break;
    case 18: cudaHostUnregister(draw(c, 4) ? c->buffer : garbage(c, DEVICE)); break;
    default: cudaFuncGetAttributes(out, draw(c, 2) ? (p)symbol : NULL); cudaGetLastError(); break;
    }
}

static void launch(calls *c)
{
    static const size3 one = {1, 1, 1};
    int64_t count;
    float time;
    int value;
    p made = NULL, stream = some(c, STREAM);
    switch (draw(c, 16)) {
    case 0: cudaLaunchKernel(draw(c, 8) ? symbol : NULL, one, one, NULL, 0, stream); break;
    case 1: cuLaunchKernel(some(c, FUNCTION), 1, 1, 1, 1, 1, 1, 0, stream, NULL, NULL); break;
    case 2: cublasSgemm_v2(some(c, BLAS)); break;
    case 3: cublasLtMatmul(some(c, BLAS)); break;
    case 4: cublasGetStream_v2(some(c, BLAS), &made); break;
    case 5: cudnnConvolutionForward(some(c, DNN)); break;
    case 6: cudnnBackendGetAttribute(some(c, DNN_DESCRIPTOR), 202, 3, 1, &count, c->buffer); break;
    case 7: cusolverDnSgetrf(some(c, SOLVER)); break;
    case 8: cufftXtExec(draw(c, 4) ? c->plans[draw(c, PLACES)] : (int)draw(c, 1 << 20)); break;
    case 9: ncclAllReduce(NULL, NULL, 0, 0, 0, some(c, COMM), stream); break;
    case 10: ncclCommCuDevice(some(c, COMM), &value); break;
    case 11:
        if (!ncclCommSplit(some(c, COMM), (int)draw(c, 3) - 1, 0, &made, NULL) && made)
            ncclCommDestroy(made);
        break;
    case 12: cudaStreamSynchronize(stream); break;
    case 13: cudaEventRecord(some(c, EVENT), stream); break;
    case 14: cudaStreamWaitEvent(stream, some(c, EVENT), 0); break;
    default: cudaEventElapsedTime(&time, some(c, EVENT), some(c, EVENT)); break;
    }
}

static void ask_nvml(calls *c)
{
    p card = NULL;
    unsigned count = (unsigned)draw(c, 64);
    unsigned long long memory[8], processes[64 * 3];
    char text[64];
    if (nvmlInit_v2())
        return;
    nvmlDeviceGetHandleByIndex_v2((unsigned)draw(c, 3), &card);
    if (!draw(c, 4))
        card = garbage(c, DEVICE);
    nvmlDeviceGetMemoryInfo(card, draw(c, 8) ? memory : NULL);
    nvmlDeviceGetName(card, text, (unsigned)draw(c, sizeof text));
    nvmlDeviceGetComputeRunningProcesses_v3(card, &count, processes);
    nvmlShutdown();
}

static void turn_plan(calls *c)
{
    int *plan = &c->plans[draw(c, PLACES)];
    if (*plan) {
        cufftDestroy(*plan);
        *plan = 0;
    } else {
        cufftCreate(plan);
    }
}

static void call(calls *c)
{
    switch (draw(c, 24)) {
    case 0: case 1: case 2: turn(c, DEVICE, make_device, cudaFree); break;
    case 3: turn(c, MANAGED, make_managed, cudaFree); break;
    case 4: turn(c, HOST, make_host, cudaFreeHost); break;
    case 5: turn(c, STREAM, cudaStreamCreate, cudaStreamDestroy); break;
    case 6: turn(c, EVENT, make_event, cudaEventDestroy); break;
    case 7: turn(c, MODULE, make_module, cuModuleUnload); break;
    case 8: turn(c, FUNCTION, make_function, keep); break;
    case 9: turn(c, BLAS, cublasCreate_v2, cublasDestroy_v2); break;
    case 10: turn(c, DESCRIPTION, cublasLtMatmulDescCreate, cublasLtMatmulDescDestroy); break;
    case 11: turn(c, DNN, cudnnCreate, cudnnDestroy); break;
    case 12: turn(c, DNN_DESCRIPTOR, make_descriptor, cudnnBackendDestroyDescriptor); break;
    case 13:
        turn(c, SOLVER, cusolverDnCreate, cusolverDnDestroy);
        turn(c, SPARSE, cusparseCreate, cusparseDestroy);
        break;
    case 14: turn(c, COMM, make_comm, ncclCommDestroy); break;
    case 15: turn(c, PHYSICAL, make_physical, drop_physical); break;
    case 16: case 17: use_ranges(c); break;
    case 18: copy(c); break;
    case 19: follow_values(c); break;
    case 20: share(c); break;
    case 21: launch(c); break;
    case 22: if (draw(c, 8)) turn_plan(c); else ask_nvml(c); break;
    default: ask(c); break;
    }
}

static void give_all_back(calls *c)
{
    cudaHostUnregister(c->buffer);
    for (int i = 0; i < PLACES; i++) {
        cudaFree(c->live[DEVICE][i]);
        cudaFree(c->live[MANAGED][i]);
        cudaFreeHost(c->live[HOST][i]);
        drop_physical(c->live[PHYSICAL][i]);
        ncclCommDestroy(c->live[COMM][i]);
    }
    for (int i = 0; i < RANGES; i++)
        for (int page = 0; c->ranges[i] && page < RANGE_PAGES; page++)
            for (int pages = 1; pages <= 3; pages++)
                cuMemUnmap(c->ranges[i] + (uint64_t)page * PAGE, (n)pages * PAGE);
}

static struct { uint64_t seed; long calls; } task;

static void *work(void *number)
{
    calls *c = own = calloc(1, sizeof *c);
    c->buffer = calloc(1, BUFFER);
    c->random = task.seed * 0x9e3779b97f4a7c15ull + (uintptr_t)number + 1;
    for (long i = 0; i < task.calls; i++)
        call(c);
    give_all_back(c);
    free(c->buffer);
    free(c);
    return NULL;
}

int main(int count, char **arguments)
{
    if (count != 4)
        return 2;
    int threads = atoi(arguments[3]);
    n before, after, total;
    pthread_t running[64];
    __cudaRegisterVar(NULL, symbol, NULL, "symbol", 0, sizeof symbol, 0, 0);
    cudaMemGetInfo(&before, &total);
    task.seed = strtoull(arguments[1], NULL, 10);
    task.calls = atol(arguments[2]) / threads;
    for (int i = 0; i < threads; i++)
        pthread_create(&running[i], NULL, work, (void *)(uintptr_t)i);
    for (int i = 0; i < threads; i++)
        pthread_join(running[i], NULL);
    for (int i = 0; i < SHARED; i++)
        cudaFree(shared[i]);
    cudaMemGetInfo(&after, &total);
    printf("%ld calls on %d threads; free %zu before, %zu after\n", task.calls * threads, threads, before, after);
    return before != after;
}
