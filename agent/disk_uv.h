/* disk_uv: the spool's disk, for real. Step 6 of the straight line (after lib/spool/spool.c, before the
 * acknowledgement comes back to agent/intake.c).
 *
 * The vfs half are plain system calls relative to one directory's descriptor, made in libuv's pool; a commit
 * is one job: pwritev + fdatasync in one trip. The host half hands jobs to the pool and owns the one timer. */
#ifndef PENSTOCK_AGENT_DISK_UV_H
#define PENSTOCK_AGENT_DISK_UV_H

#include "agent/disk_lanes.h"
#include "lib/base/clock.h"
#include "lib/base/fault.h"
#include "lib/base/list.h"
#include "lib/base/rng.h"
#include "lib/spool/spool.h"

#include <uv.h>

struct disk_uv {
    uv_loop_t *loop;
    int dir_fd;                   /* the output's directory */
    struct clock clock;
    struct entropy entropy;
    uv_timer_t timer;             /* .data == this disk */
    struct spool *spool;          /* set by the owner before the first job */
    struct list work_free;        /* idle struct disk_work */
    struct disk_lanes *lanes;     /* shared by all disks of the loop, set by the owner; NULL: no bounds */
    unsigned jobs_out;
    bool closing;
    void (*note)(void *ctx, const struct spool_note *note);
    void (*gone)(void *ctx);      /* all handles are closed; runs once, last */
    void *ctx;
};

/* Opens (and makes, 0700) the directory `name` below data_dir_fd. */
MUST_USE enum err disk_uv_init(struct disk_uv *d, uv_loop_t *loop, int data_dir_fd, const char *name,
                               const struct clock *clock, const struct entropy *entropy, struct fault *why);
/* The interfaces to give to spool_new(). */
struct spool_vfs disk_uv_vfs(struct disk_uv *d);
struct spool_host disk_uv_host(struct disk_uv *d);
/* After NOTE_CLOSED. gone() follows on a later turn. */
void disk_uv_close(struct disk_uv *d);

/* The vfs alone, for commands that work on a spool without a loop (penstock spool, penstock dead). */
struct spool_vfs disk_uv_vfs_for(int *dir_fd);

#endif
