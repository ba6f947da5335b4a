/* vfs: what the spool asks of a disk.
 *
 * Blocking calls, made only inside jobs (spool_job), which the host runs off the loop: libuv's pool in the
 * agent, a chosen moment of virtual time in the simulator. Every call returns >= 0 or a negative errno.
 * Names are relative to the directory the vfs was made for and may name one subdirectory ("dead/x").
 * Files are opened O_CLOEXEC|O_NOFOLLOW, made 0600, directories 0700. */
#ifndef PENSTOCK_SPOOL_VFS_H
#define PENSTOCK_SPOOL_VFS_H

#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

enum {
    VFS_RDONLY = 0,
    VFS_RDWR = 1,
    VFS_CREATE = 2,
    VFS_EXCL = 4,
};

struct spool_stat {
    uint64_t size;      /* bytes by length */
    uint64_t allocated; /* bytes of blocks on disk */
};

struct spool_fsinfo {
    uint64_t free_bytes; /* for an unprivileged writer */
    uint64_t type;       /* f_type of statfs(2) */
};

struct spool_vfs {
    void *ctx;
    int (*open)(void *ctx, const char *name, unsigned flags);
    int (*close)(void *ctx, int fd);
    ssize_t (*pread)(void *ctx, int fd, void *into, size_t len, uint64_t offset);
    ssize_t (*pwritev)(void *ctx, int fd, const struct iovec *iov, int n, uint64_t offset); /* may be short */
    int (*fdatasync)(void *ctx, int fd);
    int (*fallocate)(void *ctx, int fd, uint64_t offset, uint64_t len); /* allocates and extends */
    int (*ftruncate)(void *ctx, int fd, uint64_t len); /* prepared and dead-letter files; zeros at an end */
    int (*rename)(void *ctx, const char *from, const char *to);
    int (*unlink)(void *ctx, const char *name);
    int (*mkdir)(void *ctx, const char *name); /* 0 also when it is there already */
    int (*list)(void *ctx, const char *dir, int (*each)(void *arg, const char *name), void *arg);
    int (*fsync_dir)(void *ctx, const char *dir); /* "." for the spool's own */
    int (*stat)(void *ctx, const char *name, struct spool_stat *ret);
    int (*fsinfo)(void *ctx, struct spool_fsinfo *ret);
    /* Advice to the page cache; may do nothing. */
    int (*dont_need)(void *ctx, int fd, uint64_t offset, uint64_t len);
    int (*will_need)(void *ctx, int fd, uint64_t offset, uint64_t len);
};

#endif
