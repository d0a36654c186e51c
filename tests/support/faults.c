/* Preloaded into npk by tests: something happens at its n-th operation on files below a directory.
 *
 * NPK_FAULT_BELOW  only files and directories below this one count
 * NPK_FAULT        what happens: int (a SIGINT, and the operation goes on), kill (SIGKILL), or the number of an error
 *                  that the operation fails with; with + behind it all later ones that need room on the disk fail, too
 * NPK_FAULT_AT     the operation, counted from 1
 * NPK_FAULT_HIT    this file is made when it has happened
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long count;

static int below(int dirfd, const char *path) {
    static const char *prefix;
    char whole[8192], link[64];
    size_t n = 0;
    if (!prefix) prefix = getenv("NPK_FAULT_BELOW");
    if (!prefix) return 0;
    if (!path || path[0] != '/') {
        ssize_t got;
        if (dirfd == AT_FDCWD)
            snprintf(link, sizeof link, "/proc/self/cwd");
        else
            snprintf(link, sizeof link, "/proc/self/fd/%d", dirfd);
        got = readlink(link, whole, 4096);
        if (got < 0) return 0;
        n = (size_t)got;
        whole[n++] = '/';
    }
    snprintf(whole + n, sizeof whole - n, "%s", path ? path : "");
    return strncmp(whole, prefix, strlen(prefix)) == 0;
}

/* Whether the operation fails (errno is set). */
static int fault(int dirfd, const char *path, int needs_room) {
    static const char *what, *at;
    int saved = errno;
    long number;
    if (!what) {
        what = getenv("NPK_FAULT");
        at = getenv("NPK_FAULT_AT");
    }
    if (!what || !at || !below(dirfd, path)) {
        errno = saved;
        return 0;
    }
    number = atomic_fetch_add(&count, 1) + 1;
    errno = saved;
    if (number < atol(at) || (number > atol(at) && !(needs_room && strchr(what, '+')))) return 0;
    if (number == atol(at)) {
        const char *hit = getenv("NPK_FAULT_HIT");
        if (hit) syscall(SYS_close, syscall(SYS_openat, AT_FDCWD, hit, O_CREAT | O_WRONLY, 0644));
    }
    if (strcmp(what, "kill") == 0) {
        kill(getpid(), SIGKILL);
        for (;;) pause();
    }
    if (strcmp(what, "int") == 0) {
        kill(getpid(), SIGINT);
        /* The other threads have their chance. */
        for (int i = 0; i < 2000; i++) sched_yield();
        errno = saved;
        return 0;
    }
    errno = atoi(what);
    return 1;
}

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

static int makes(int flags) { return (flags & O_CREAT) != 0; }

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(name); \
        va_list list; \
        va_start(list, flags); \
        mode_t mode = va_arg(list, mode_t); \
        va_end(list); \
        return fault(AT_FDCWD, path, makes(flags)) ? -1 : real(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name) \
    int name(int dirfd, const char *path, int flags, ...) { \
        REAL(name); \
        va_list list; \
        va_start(list, flags); \
        mode_t mode = va_arg(list, mode_t); \
        va_end(list); \
        return fault(dirfd, path, makes(flags)) ? -1 : real(dirfd, path, flags, mode); \
    }
OPENAT(openat)
OPENAT(openat64)

int mkdir(const char *path, mode_t mode) {
    REAL(mkdir);
    return fault(AT_FDCWD, path, 1) ? -1 : real(path, mode);
}
int mkdirat(int dirfd, const char *path, mode_t mode) {
    REAL(mkdirat);
    return fault(dirfd, path, 1) ? -1 : real(dirfd, path, mode);
}
int rename(const char *from, const char *to) {
    REAL(rename);
    return fault(AT_FDCWD, to, 0) ? -1 : real(from, to);
}
int renameat(int a, const char *from, int b, const char *to) {
    REAL(renameat);
    return fault(b, to, 0) ? -1 : real(a, from, b, to);
}
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
    REAL(renameat2);
    return fault(b, to, 0) ? -1 : real(a, from, b, to, flags);
}
int link(const char *from, const char *to) {
    REAL(link);
    return fault(AT_FDCWD, to, 1) ? -1 : real(from, to);
}
int linkat(int a, const char *from, int b, const char *to, int flags) {
    REAL(linkat);
    return fault(b, to, 1) ? -1 : real(a, from, b, to, flags);
}
int unlink(const char *path) {
    REAL(unlink);
    return fault(AT_FDCWD, path, 0) ? -1 : real(path);
}
int unlinkat(int dirfd, const char *path, int flags) {
    REAL(unlinkat);
    return fault(dirfd, path, 0) ? -1 : real(dirfd, path, flags);
}
int rmdir(const char *path) {
    REAL(rmdir);
    return fault(AT_FDCWD, path, 0) ? -1 : real(path);
}

#define BYTES(name, ...) \
    ssize_t name(int fd, __VA_ARGS__)
BYTES(write, const void *bytes, size_t n) {
    REAL(write);
    return fault(fd, NULL, 1) ? -1 : real(fd, bytes, n);
}
BYTES(writev, const struct iovec *bytes, int n) {
    REAL(writev);
    return fault(fd, NULL, 1) ? -1 : real(fd, bytes, n);
}
BYTES(pwrite, const void *bytes, size_t n, off_t at) {
    REAL(pwrite);
    return fault(fd, NULL, 1) ? -1 : real(fd, bytes, n, at);
}
BYTES(pwrite64, const void *bytes, size_t n, off64_t at) {
    REAL(pwrite64);
    return fault(fd, NULL, 1) ? -1 : real(fd, bytes, n, at);
}
ssize_t copy_file_range(int from, off64_t *a, int to, off64_t *b, size_t n, unsigned flags) {
    REAL(copy_file_range);
    return fault(to, NULL, 1) ? -1 : real(from, a, to, b, n, flags);
}

#define ON_FILE(name, room, parameters, ...) \
    int name parameters { \
        REAL(name); \
        return fault(fd, NULL, room) ? -1 : real(__VA_ARGS__); \
    }
ON_FILE(ftruncate, 0, (int fd, off_t n), fd, n)
ON_FILE(ftruncate64, 0, (int fd, off64_t n), fd, n)
ON_FILE(fsync, 1, (int fd), fd)
ON_FILE(fdatasync, 1, (int fd), fd)
ON_FILE(syncfs, 1, (int fd), fd)
