/* disk_lanes: how much of the pool the disks may take.
 *
 * All outputs' disk work, name lookups and compression share libuv's threads. When a disk is stuck, its work
 * must not take them all: of each kind so many jobs run at the same time in the whole process, and further
 * ones wait their turn. On one disk more syncs at once would share the file system's journal commit anyway.
 */
#ifndef PENSTOCK_AGENT_DISK_LANES_H
#define PENSTOCK_AGENT_DISK_LANES_H

#include "lib/base/list.h"
#include "lib/spool/spool.h"

#define DISK_LANES_TOTAL 8 /* of all kinds together; the pool must be larger */

struct disk_lanes {
    unsigned out[SPOOL_JOB_KINDS];
    struct list waiting[SPOOL_JOB_KINDS];
};

void disk_lanes_init(struct disk_lanes *l);
/* True: the work may start. False: its node waits in the lane, and disk_lanes_leave() will give it. */
bool disk_lanes_enter(struct disk_lanes *l, enum spool_job_kind kind, struct list *node);
/* Work of this kind is done: the node of the one that may start in its place, or NULL. */
struct list *disk_lanes_leave(struct disk_lanes *l, enum spool_job_kind kind);

#endif
