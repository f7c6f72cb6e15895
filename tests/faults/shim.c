/* Preloaded into the saboteur and so into all that is forked from it: makes one call of the C library fail, or kills
   the process that makes it. Only calls on files below WATCHED count. A program that is executed has none of it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

/* tests/faults/shim.py has the same; a shared page of the saboteur's. */
struct plan {
    atomic_int countdown; /* the call of this number, counted down by all, is it; 0 for none */
    int error;            /* what it fails with; negative for a signal that kills its process */
    int pid;              /* whose calls count; 0 for anybody's but the saboteur's */
    int saboteur;
    atomic_int hit_pid;
    char call[16];
    char path[256];
};

static struct plan *plan;
static const char *const watched[] = {"/tmp/", "/dev/shm/", "/mnt/disk/"};

void faults_use(struct plan *shared) { plan = shared; }

static int is_watched(const char *path) {
    for (size_t i = 0; i < sizeof watched / sizeof *watched; i++)
        if (!strncmp(path, watched[i], strlen(watched[i])))
            return 1;
    return 0;
}

static void find(int fd, char *path, size_t size) {
    char name[32];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(name, path, size - 1);
    path[length < 0 ? 0 : length] = 0;
}

/* Whether this call, of this name on this file, is the one. */
static int is_it(const char *call, int fd, const char *name) {
    if (!plan || !atomic_load(&plan->countdown))
        return 0;
    int pid = getpid();
    if (pid == plan->saboteur || (plan->pid && pid != plan->pid))
        return 0;
    char path[512] = "";
    int before = errno;
    if (name && *name == '/')
        snprintf(path, sizeof path, "%s", name);
    else if (fd >= 0)
        find(fd, path, sizeof path);
    errno = before;
    if (!is_watched(path))
        return 0;
    int left = atomic_load(&plan->countdown);
    while (left && !atomic_compare_exchange_weak(&plan->countdown, &left, left - 1))
        ;
    if (left != 1)
        return 0;
    snprintf(plan->call, sizeof plan->call, "%s", call);
    snprintf(plan->path, sizeof plan->path, "%.200s", path);
    atomic_store(&plan->hit_pid, pid);
    if (plan->error < 0) {
        kill(pid, -plan->error);
        return 0;
    }
    errno = plan->error;
    return 1;
}

static int is_file(int fd) {
    struct stat status;
    return plan && atomic_load(&plan->countdown) && !fstat(fd, &status) &&
           (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode));
}

#define NEXT(type, name, ...)                                                                                          \
    static type (*next)(__VA_ARGS__);                                                                                  \
    if (!next)                                                                                                         \
        next = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...) {                                                                       \
        NEXT(int, name, const char *, int, ...);                                                                       \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode_t mode = va_arg(rest, mode_t);                                                                            \
        va_end(rest);                                                                                                  \
        return is_it("open", -1, path) ? -1 : next(path, flags, mode);                                                 \
    }
OPEN(open)
OPEN(open64)

#define FOPEN(name)                                                                                                    \
    FILE *name(const char *path, const char *mode) {                                                                   \
        NEXT(FILE *, name, const char *, const char *);                                                                \
        return is_it("fopen", -1, path) ? NULL : next(path, mode);                                                     \
    }
FOPEN(fopen)
FOPEN(fopen64)

#define ON_PATH(name, parameters, types, ...)                                                                          \
    int name parameters {                                                                                              \
        NEXT(int, name, types);                                                                                        \
        return is_it(#name, -1, path) ? -1 : next(__VA_ARGS__);                                                        \
    }
#define TYPES(...) __VA_ARGS__
ON_PATH(mkdir, (const char *path, mode_t mode), TYPES(const char *, mode_t), path, mode)
ON_PATH(unlink, (const char *path), TYPES(const char *), path)
ON_PATH(rmdir, (const char *path), TYPES(const char *), path)
ON_PATH(rename, (const char *path, const char *other), TYPES(const char *, const char *), path, other)

int unlinkat(int fd, const char *path, int flags) {
    NEXT(int, unlinkat, int, const char *, int);
    return is_it("unlinkat", fd, path) ? -1 : next(fd, path, flags);
}

#define ON_FILE(type, name, parameters, types, ...)                                                                    \
    type name parameters {                                                                                             \
        NEXT(type, name, types);                                                                                       \
        return is_file(fd) && is_it(#name, fd, NULL) ? -1 : next(__VA_ARGS__);                                         \
    }
ON_FILE(int, fsync, (int fd), TYPES(int), fd)
ON_FILE(int, ftruncate, (int fd, off_t size), TYPES(int, off_t), fd, size)
ON_FILE(int, ftruncate64, (int fd, off64_t size), TYPES(int, off64_t), fd, size)
ON_FILE(ssize_t, pwrite64, (int fd, const void *from, size_t size, off64_t at),
        TYPES(int, const void *, size_t, off64_t), fd, from, size, at)
ON_FILE(ssize_t, sendfile64, (int fd, int from, off64_t *at, size_t size), TYPES(int, int, off64_t *, size_t), fd, from,
        at, size)

/* A full disk takes what there is room for: of some calls half is written, and the next fails. */
ssize_t write(int fd, const void *from, size_t size) {
    NEXT(ssize_t, write, int, const void *, size_t);
    if (!is_file(fd) || !is_it("write", fd, NULL))
        return next(fd, from, size);
    int error = errno;
    if (size > 256)
        next(fd, from, size / 2);
    errno = error;
    return -1;
}

/* Reading fails with EIO only: nothing else that is planned here is an answer of `read`. */
ssize_t read(int fd, void *to, size_t size) {
    NEXT(ssize_t, read, int, void *, size_t);
    if (plan && plan->error == EIO && is_file(fd) && is_it("read", fd, NULL))
        return -1;
    return next(fd, to, size);
}
