/* system: see system.h. */
#include "agent/system.h"

#include "lib/base/bytes.h"
#include "lib/base/ensure.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static uint64_t real_mono_us(void *ctx)
{
    (void)ctx;
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * US_PER_S + (uint64_t)t.tv_nsec / 1000;
}

static uint64_t real_wall_ns(void *ctx)
{
    (void)ctx;
    struct timespec t;
    (void)clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

struct clock system_clock(void)
{
    return (struct clock){.mono_us = real_mono_us, .wall_ns = real_wall_ns};
}

static void from_kernel(void *into, size_t len)
{
    uint8_t *at = into;
    while (len > 0) {
        ssize_t n = getrandom(at, len, 0);
        if (n < 0 && errno == EINTR)
            continue;
        ensure(n > 0 && "the kernel gives no randomness");
        at += n;
        len -= (size_t)n;
    }
}

static struct {
    uint8_t pool[4096];
    size_t left;
} drawn;

static void real_entropy(void *ctx, void *into, size_t len)
{
    (void)ctx;
    if (len > sizeof drawn.pool) {
        from_kernel(into, len);
        return;
    }
    if (drawn.left < len) {
        from_kernel(drawn.pool, sizeof drawn.pool);
        drawn.left = sizeof drawn.pool;
    }
    uint8_t *from = drawn.pool + sizeof drawn.pool - drawn.left;
    memcpy(into, from, len);
    memset(from, 0, len); /* what was handed out is not kept */
    drawn.left -= len;
}

struct entropy system_entropy(void)
{
    return (struct entropy){.fill = real_entropy};
}

static enum err lock_held(int lock_fd, const char *path, struct fault *why)
{
    char pid[32] = "";
    ssize_t n = pread(lock_fd, pid, sizeof pid - 1, 0);
    if (n <= 0)
        return fault_set(why, ERR_IN_USE, "%s is in use by another process", path);
    pid[strcspn(pid, "\n")] = '\0';
    return fault_set(why, ERR_IN_USE, "%s is in use by the process with pid %s", path, pid);
}

static enum err take_lock(int dir_fd, const char *path, bool make, int *ret_lock_fd, struct fault *why)
{
    int fd = openat(dir_fd, "LOCK", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 && errno == EROFS && !make)
        fd = openat(dir_fd, "LOCK", O_RDONLY | O_CLOEXEC | O_NOFOLLOW); /* a snapshot or a backup that is only looked at */
    if (fd < 0)
        return fault_sys(why, errno, "cannot open %s/LOCK", path);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        enum err err = errno == EWOULDBLOCK ? lock_held(fd, path, why)
                                            : fault_sys(why, errno, "cannot lock %s/LOCK", path);
        (void)close(fd);
        return err;
    }
    char pid[32];
    int n = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) < 0 || pwrite(fd, pid, (size_t)n, 0) < 0) {
        /* The lock holds all the same; the pid only helps a person. A full disk must not stop a start. */
    }
    *ret_lock_fd = fd;
    return OK;
}

enum err system_lock_data_dir(const char *path, bool make, int *ret_dir_fd, int *ret_lock_fd, struct fault *why)
{
    if (make && mkdir(path, 0700) < 0 && errno != EEXIST)
        return fault_sys(why, errno, "cannot make the data directory %s", path);
    int dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0 && errno == ENOENT)
        return fault_set(why, ERR_NOT_FOUND, "there is no directory %s", path);
    if (dir_fd < 0)
        return fault_sys(why, errno, "cannot open the data directory %s", path);
    enum err err = take_lock(dir_fd, path, make, ret_lock_fd, why);
    if (err != OK) {
        (void)close(dir_fd);
        return err;
    }
    *ret_dir_fd = dir_fd;
    return OK;
}
