/* Preloaded into npk by tests: something happens at its n-th operation on files below a directory.
 *
 * NPK_FAULT_BELOW  only files and directories below this one count
 * NPK_FAULT        what happens: a signal (int, term, hup; the operation goes on), kill (SIGKILL, half of what was to be
 *                  written is), stop (see NPK_FAULT_HIT), or the number of an error that the operation fails with; with +
 *                  behind it half of what was to be written is, and all later ones that need room on the disk fail, too
 * NPK_FAULT_AT     the operation, counted from 1
 * NPK_FAULT_ONLY   only operations of this name count (rename, link …); reads are counted under "reads" alone
 * NPK_FAULT_HIT    this file is made when it has happened, with the operation's name and path. For stop it is a FIFO: the
 *                  operation waits for a reader, then for the end of that reader, and goes on
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long count;

/* What becomes of an operation. */
enum { GOES_ON, FAILS, FIRST_HALF };
/* What an operation is. */
enum { PLAIN, NEEDS_ROOM, READS };

/* The whole path of what an operation is about, if it is below the directory. */
static int below(int dirfd, const char *path, char *whole, size_t room) {
    const char *prefix = getenv("NPK_FAULT_BELOW");
    char link[64];
    size_t n = 0;
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
        if (path) whole[n++] = '/';
    }
    snprintf(whole + n, room - n, "%s", path ? path : "");
    return strncmp(whole, prefix, strlen(prefix)) == 0;
}

static void tell(const char *name, const char *path, const char *what) {
    const char *hit = getenv("NPK_FAULT_HIT");
    int stops = strcmp(what, "stop") == 0;
    char line[8400];
    long fd;
    if (!hit) return;
    fd = syscall(SYS_openat, AT_FDCWD, hit, stops ? O_WRONLY : O_CREAT | O_WRONLY, 0644);
    snprintf(line, sizeof line, "%s %s\n", name, path);
    syscall(SYS_write, fd, line, strlen(line));
    syscall(SYS_close, fd);
    if (stops) syscall(SYS_close, syscall(SYS_openat, AT_FDCWD, hit, O_RDONLY, 0));
}

static int happens(int dirfd, const char *name, const char *path, int kind, int bytes) {
    const char *what = getenv("NPK_FAULT"), *at = getenv("NPK_FAULT_AT");
    const char *only = getenv("NPK_FAULT_ONLY");
    char whole[8192];
    long number;
    if (!what || !at) return GOES_ON;
    if (only ? strcmp(only, kind == READS ? "reads" : name) != 0 : kind == READS) return GOES_ON;
    if (!below(dirfd, path, whole, sizeof whole)) return GOES_ON;
    number = atomic_fetch_add(&count, 1) + 1;
    if (number < atol(at)) return GOES_ON;
    if (number > atol(at)) return kind == NEEDS_ROOM && strchr(what, '+') ? FAILS : GOES_ON;
    tell(name, whole, what);
    if (strcmp(what, "stop") == 0) return GOES_ON;
    if (strcmp(what, "kill") == 0 && bytes) return FIRST_HALF;
    if (strcmp(what, "kill") == 0) {
        kill(getpid(), SIGKILL);
        for (;;) pause();
    }
    if (strcmp(what, "int") == 0 || strcmp(what, "term") == 0 || strcmp(what, "hup") == 0) {
        kill(getpid(), what[0] == 'i' ? SIGINT : what[0] == 't' ? SIGTERM : SIGHUP);
        /* The other threads have their chance. */
        for (int i = 0; i < 20; i++) usleep(100);
        return GOES_ON;
    }
    if (bytes && strchr(what, '+')) return FIRST_HALF;
    return FAILS;
}

/* As happens(), with errno set where it fails and untouched where not. */
static int fault(int dirfd, const char *name, const char *path, int kind, int bytes) {
    int saved = errno, what = happens(dirfd, name, path, kind, bytes);
    errno = what == FAILS ? atoi(getenv("NPK_FAULT")) : saved;
    return what;
}

/* After a first half: a full disk says how much there was room for; who is killed says nothing. */
static void half_written(void) {
    if (strcmp(getenv("NPK_FAULT"), "kill") != 0) return;
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

static int opens(int flags) {
    return (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE ? NEEDS_ROOM : PLAIN;
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(name); \
        va_list list; \
        va_start(list, flags); \
        mode_t mode = va_arg(list, mode_t); \
        va_end(list); \
        return fault(AT_FDCWD, "open", path, opens(flags), 0) ? -1 : real(path, flags, mode); \
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
        return fault(dirfd, "open", path, opens(flags), 0) ? -1 : real(dirfd, path, flags, mode); \
    }
OPENAT(openat)
OPENAT(openat64)

/* Operations on paths: the one that changes is given. */
#define ON_PATH(name, what, kind, dirfd, path, parameters, ...) \
    int name parameters { \
        REAL(name); \
        return fault(dirfd, what, path, kind, 0) ? -1 : real(__VA_ARGS__); \
    }
ON_PATH(mkdir, "mkdir", NEEDS_ROOM, AT_FDCWD, path, (const char *path, mode_t mode), path, mode)
ON_PATH(mkdirat, "mkdir", NEEDS_ROOM, fd, path, (int fd, const char *path, mode_t mode), fd, path, mode)
ON_PATH(rename, "rename", PLAIN, AT_FDCWD, to, (const char *from, const char *to), from, to)
ON_PATH(renameat, "rename", PLAIN, b, to, (int a, const char *from, int b, const char *to), a, from, b, to)
ON_PATH(renameat2, "rename", PLAIN, b, to, (int a, const char *from, int b, const char *to, unsigned flags), a, from, b,
        to, flags)
ON_PATH(link, "link", NEEDS_ROOM, AT_FDCWD, to, (const char *from, const char *to), from, to)
ON_PATH(linkat, "link", NEEDS_ROOM, b, to, (int a, const char *from, int b, const char *to, int flags), a, from, b, to,
        flags)
ON_PATH(symlink, "symlink", NEEDS_ROOM, AT_FDCWD, to, (const char *from, const char *to), from, to)
ON_PATH(symlinkat, "symlink", NEEDS_ROOM, fd, to, (const char *from, int fd, const char *to), from, fd, to)
ON_PATH(unlink, "unlink", PLAIN, AT_FDCWD, path, (const char *path), path)
ON_PATH(unlinkat, "unlink", PLAIN, fd, path, (int fd, const char *path, int flags), fd, path, flags)
ON_PATH(rmdir, "rmdir", PLAIN, AT_FDCWD, path, (const char *path), path)

/* Operations that write bytes: `half` is the call with half of them. */
#define WRITES(name, what, fd, half, parameters, ...) \
    ssize_t name parameters { \
        REAL(name); \
        ssize_t done; \
        switch (fault(fd, what, NULL, NEEDS_ROOM, n > 1)) { \
        case GOES_ON: \
            return real(__VA_ARGS__); \
        case FAILS: \
            return -1; \
        } \
        done = half; \
        half_written(); \
        return done; \
    }
WRITES(write, "write", fd, real(fd, bytes, n / 2), (int fd, const void *bytes, size_t n), fd, bytes, n)
WRITES(writev, "write", fd, real(fd, bytes, n / 2), (int fd, const struct iovec *bytes, int n), fd, bytes, n)
WRITES(pwrite, "write", fd, real(fd, bytes, n / 2, at), (int fd, const void *bytes, size_t n, off_t at), fd, bytes, n,
       at)
WRITES(pwrite64, "write", fd, real(fd, bytes, n / 2, at), (int fd, const void *bytes, size_t n, off64_t at), fd, bytes,
       n, at)
WRITES(pwritev64, "write", fd, real(fd, bytes, n / 2, at), (int fd, const struct iovec *bytes, int n, off64_t at), fd,
       bytes, n, at)
WRITES(copy_file_range, "copy", to, real(from, a, to, b, n / 2, flags),
       (int from, off64_t *a, int to, off64_t *b, size_t n, unsigned flags), from, a, to, b, n, flags)
WRITES(sendfile, "copy", to, real(to, from, at, n / 2), (int to, int from, off_t *at, size_t n), to, from, at, n)
WRITES(sendfile64, "copy", to, real(to, from, at, n / 2), (int to, int from, off64_t *at, size_t n), to, from, at, n)

/* Where the C library is older than the call. */
long syscall(long number, ...) {
    REAL(syscall);
    long a[6], done;
    va_list list;
    va_start(list, number);
    for (int i = 0; i < 6; i++) a[i] = va_arg(list, long);
    va_end(list);
    if (number == SYS_copy_file_range) {
        switch (fault((int)a[2], "copy", NULL, NEEDS_ROOM, a[4] > 1)) {
        case GOES_ON:
            break;
        case FAILS:
            return -1;
        default:
            done = real(number, a[0], a[1], a[2], a[3], a[4] / 2, a[5]);
            half_written();
            return done;
        }
    }
    return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

#define ON_FILE(name, what, kind, failed, type, parameters, ...) \
    type name parameters { \
        REAL(name); \
        return fault(fd, what, NULL, kind, 0) ? failed : real(__VA_ARGS__); \
    }
ON_FILE(ftruncate, "truncate", PLAIN, -1, int, (int fd, off_t n), fd, n)
ON_FILE(ftruncate64, "truncate", PLAIN, -1, int, (int fd, off64_t n), fd, n)
ON_FILE(fallocate, "allocate", NEEDS_ROOM, -1, int, (int fd, int mode, off_t at, off_t n), fd, mode, at, n)
ON_FILE(fallocate64, "allocate", NEEDS_ROOM, -1, int, (int fd, int mode, off64_t at, off64_t n), fd, mode, at, n)
ON_FILE(posix_fallocate, "allocate", NEEDS_ROOM, errno, int, (int fd, off_t at, off_t n), fd, at, n)
ON_FILE(posix_fallocate64, "allocate", NEEDS_ROOM, errno, int, (int fd, off64_t at, off64_t n), fd, at, n)
ON_FILE(fsync, "sync", NEEDS_ROOM, -1, int, (int fd), fd)
ON_FILE(fdatasync, "sync", NEEDS_ROOM, -1, int, (int fd), fd)
ON_FILE(syncfs, "sync", NEEDS_ROOM, -1, int, (int fd), fd)
ON_FILE(read, "read", READS, -1, ssize_t, (int fd, void *bytes, size_t n), fd, bytes, n)
ON_FILE(readv, "read", READS, -1, ssize_t, (int fd, const struct iovec *bytes, int n), fd, bytes, n)
ON_FILE(pread, "read", READS, -1, ssize_t, (int fd, void *bytes, size_t n, off_t at), fd, bytes, n, at)
ON_FILE(pread64, "read", READS, -1, ssize_t, (int fd, void *bytes, size_t n, off64_t at), fd, bytes, n, at)
