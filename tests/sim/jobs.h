/* jobs: the spool's jobs as a simulated process hosts them.
 *
 * A job runs in a fiber, on one disk: it can rest between any two of its calls while the rest of the world
 * goes on, and when the process dies it is never heard of again. The world says when a job's next turn is
 * (jobs_run) and when the spool hears that it has ended (jobs_end). */
#ifndef PENSTOCK_SIM_JOBS_H
#define PENSTOCK_SIM_JOBS_H

#include "lib/spool/spool.h"
#include "tests/sim/disk.h"

#define JOBS_MAX 16

struct jobs {
    struct disk *disk;
    struct fiber *fibers[JOBS_MAX];
    struct spool_job *jobs[JOBS_MAX]; /* NULL: free */
};

/* Returns which one it is; JOBS_MAX: there are too many. */
unsigned jobs_submit(struct jobs *j, struct disk *disk, struct spool_job *job);
bool jobs_run(struct jobs *j, unsigned which); /* one turn; true: it has ended */
void jobs_end(struct jobs *j, unsigned which); /* calls spool_job_done() */
void jobs_drop(struct jobs *j);                /* the process is gone */

bool jobs_call_writes(const struct disk_call *call); /* a call that changes the disk */

#endif
