/* memfs: a directory in memory that can lose power. What was written is in the cache; what was synced is on
 * the platter, a directory entry only when its directory was synced. One call of a kind can be made to fail.
 */
#ifndef PENSTOCK_TESTS_MEMFS_H
#define PENSTOCK_TESTS_MEMFS_H

#include "lib/spool/vfs.h"

#include <stdbool.h>
#include <stddef.h>

enum memfs_call {
    MEMFS_OPEN,
    MEMFS_PREAD,
    MEMFS_PWRITEV,
    MEMFS_FDATASYNC,
    MEMFS_FALLOCATE,
    MEMFS_RENAME,
    MEMFS_UNLINK,
    MEMFS_LIST,
    MEMFS_FSYNC_DIR,
    MEMFS_STAT,
    MEMFS_MKDIR,
    MEMFS_FSINFO,
    MEMFS_CALLS
};

struct memfs_inode;
struct memfs {
    struct memfs_entry {
        char name[64];
        struct memfs_inode *inode;
    } cache[512], platter[512];
    size_t cache_count, platter_count;
    struct memfs_inode *inodes;
    struct memfs_inode *fds[256];
    /* Faults. */
    enum memfs_call fail_call;
    long fail_at;      /* the n-th such call from now on, 1 is the next; 0: never */
    int fail_errno;    /* a positive errno; 0 with PWRITEV: a short write */
    bool fail_forever; /* and all later ones */
    long fail_more;    /* or so many later ones */
    long failed;       /* calls that were made to fail */
    bool sync_failed;  /* some fdatasync failed: its inode must not be synced again */
    unsigned syncs_after_failure;
    long calls[MEMFS_CALLS];
    uint64_t free_bytes, allocated_max;
    uint64_t type;  /* of the file system, as statfs() says */
    long flip_read; /* the n-th pread from now on brings one wrong bit, which the next reading does not; 0:
                       none */
    uint64_t dont_need_bytes, dont_need_end, will_need_bytes;
    long power_left; /* calls until the power fails; < 0: never */
    bool dead;       /* it failed: every call answers EIO and does nothing */
};

void memfs_init(struct memfs *fs);
void memfs_deinit(struct memfs *fs);
struct spool_vfs memfs_vfs(struct memfs *fs);
/* Cuts the power: only the platter stays. All descriptors are gone. */
void memfs_crash(struct memfs *fs);
/* Kills the process: all that was written stays. */
void memfs_kill(struct memfs *fs);
/* The bytes of a file as reads see them; NULL when there is none. */
unsigned char *memfs_file(struct memfs *fs, const char *name, size_t *ret_size);
void memfs_put(struct memfs *fs, const char *name, const void *at, size_t size);
void memfs_truncate(struct memfs *fs, const char *name, size_t size);
void memfs_remove(struct memfs *fs, const char *name);
uint64_t memfs_allocated(const struct memfs *fs);
unsigned memfs_open_files(const struct memfs *fs);
void memfs_copy(struct memfs *to, const struct memfs *from); /* files only */

#endif
