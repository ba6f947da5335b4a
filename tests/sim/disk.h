/* disk: a disk that forgets, as the kernel and the hardware may.
 *
 * Each file has two images: the cache, which is what reads see, and the platter, which is what a power loss
 * leaves. A write goes to the cache and marks 512-byte sectors pending; disk_fdatasync() moves a file's
 * pending sectors and its size; disk_fsync_dir() moves a directory's pending creates, renames and unlinks.
 * A power loss decides for each pending sector, size and directory operation: lost, kept, or (a sector)
 * torn into garbage; in any order and across files. A process kill only closes the descriptors.
 *
 * It can also lie: a failing sync leaves sectors "clean" in the cache that the platter has not got (so that
 * a second sync says 0 about nothing, as Linux does); in lying mode syncs move nothing; sectors can rot.
 *
 * No call costs more than what it touches: files are pages in a table, and lists hold what is pending. */
#ifndef PENSTOCK_SIM_DISK_H
#define PENSTOCK_SIM_DISK_H

#include "lib/spool/vfs.h"
#include "tests/sim/decisions.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DISK_SECTOR 512
#define DISK_PAGE 4096
#define DISK_NAME_MAX 80

enum disk_op {
    DISK_OPEN,
    DISK_CLOSE,
    DISK_PREAD,
    DISK_PWRITEV,
    DISK_FDATASYNC,
    DISK_FALLOCATE,
    DISK_FTRUNCATE,
    DISK_RENAME,
    DISK_UNLINK,
    DISK_MKDIR,
    DISK_LIST,
    DISK_FSYNC_DIR,
    DISK_STAT,
    DISK_FSINFO,
    DISK_DONT_NEED,
    DISK_OPS
};
extern const char *const disk_op_names[DISK_OPS];

struct disk_call {
    enum disk_op op;
    const char *name; /* of the file or directory; "" when it has none any more */
    const char *to;   /* rename */
    uint64_t offset, len;
    bool zeros; /* pwritev: it begins with them, as no header and no frame does */
};

#define DISK_GO 0
#define DISK_SHORT 1        /* pwritev: a part only */
#define DISK_SYNC_UNKNOWN 2 /* fdatasync: EIO, some sectors moved, all of them marked clean */

/* Asked before each call (and may rest, or never come back); told after it. enter() answers DISK_GO, one of
 * the above, or a negative errno that the call then returns without effect. */
struct disk_gate {
    void *ctx;
    int (*enter)(void *ctx, const struct disk_call *call);
    void (*leave)(void *ctx, const struct disk_call *call, int64_t result);
};

/* What a power loss does to what is pending. */
struct disk_fate {
    enum { FATE_RANDOM, FATE_LOST, FATE_KEPT, FATE_ONE_LOST, FATE_ONE_KEPT, FATE_ONE_GARBAGE } kind;
    unsigned one; /* which of the pending things: sectors first, then sizes, then directory operations */
};

struct disk;

struct disk *disk_new(void);
void disk_free(struct disk *d);
void disk_reset(struct disk *d); /* empty again; memory is kept */

/* Switches of a run. */
void disk_set_capacity(struct disk *d, uint64_t bytes);
void disk_set_ordered(struct disk *d,
                      bool ordered); /* directory operations survive in order, as in a journal */
void disk_set_lying(struct disk *d, bool lying);
void disk_set_type(struct disk *d, uint64_t type); /* of the file system, as statfs() says; ext4 after a reset */
void disk_set_gate(struct disk *d, const struct disk_gate *gate); /* NULL: none */

struct spool_vfs disk_vfs(struct disk *d);

/* The process is gone, killed or at its orderly end: its descriptors are closed, and the next one knows of no sync
 * that failed. Nothing else changes; what such a sync left behind stays wrong. */
void disk_kill(struct disk *d);
/* The machine is gone too. `luck` answers what the fate leaves open. */
void disk_power_loss(struct disk *d, struct disk_fate fate, struct decisions *luck);
unsigned disk_pending(const struct disk *d); /* how many things a FATE_ONE_* may name */
unsigned disk_pending_sectors(const struct disk *d);

/* The kernel writes back some of what is pending, in an order of its own. */
void disk_write_back(struct disk *d, struct decisions *luck);

enum disk_rot { ROT_BIT, ROT_ZERO_SECTOR, ROT_STRAY_SECTOR, ROT_UNREADABLE, ROT_KINDS };
/* Damages one place that holds written data of a file whose name begins with `prefix`, in both images.
 * False when there is none. */
bool disk_rot(struct disk *d, const char *prefix, enum disk_rot kind, struct decisions *luck);
/* Somebody removes, empties or cuts a file behind our back. */
bool disk_vandalise(struct disk *d, const char *prefix, struct decisions *luck);

uint64_t disk_used(const struct disk *d); /* allocated bytes of all files with a name */
uint64_t disk_used_by(const struct disk *d, const char *prefix); /* of those whose name begins so */
unsigned disk_files(const struct disk *d);
unsigned disk_descriptors(const struct disk *d); /* open ones */
/* Syncs asked of a file whose sync had failed before in this process: a retry that proves nothing. */
unsigned disk_resyncs(const struct disk *d);
/* A hash over the names and both images: two runs of the same seed end alike. */
uint64_t disk_hash(const struct disk *d);

#endif
