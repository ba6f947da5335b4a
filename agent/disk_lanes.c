/* disk_lanes: see disk_lanes.h. */
#include "agent/disk_lanes.h"

#include "lib/base/ensure.h"

static const unsigned width[SPOOL_JOB_KINDS] = {
    [SPOOL_JOB_COMMIT] = 4, [SPOOL_JOB_READ] = 2, [SPOOL_JOB_HOUSE] = 2};
_Static_assert(4 + 2 + 2 == DISK_LANES_TOTAL, "the widths above");

void disk_lanes_init(struct disk_lanes *l)
{
    *l = (struct disk_lanes){0};
    for (unsigned k = 0; k < SPOOL_JOB_KINDS; k++)
        list_init(&l->waiting[k]);
}

bool disk_lanes_enter(struct disk_lanes *l, enum spool_job_kind kind, struct list *node)
{
    if (l->out[kind] < width[kind]) {
        l->out[kind]++;
        return true;
    }
    list_append(&l->waiting[kind], node);
    return false;
}

struct list *disk_lanes_leave(struct disk_lanes *l, enum spool_job_kind kind)
{
    ensure(l->out[kind] > 0);
    struct list *next = list_first(&l->waiting[kind]);
    if (next == NULL)
        l->out[kind]--;
    else
        list_remove(next);
    return next;
}
