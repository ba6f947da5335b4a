/* jobs: see jobs.h. */
#include "tests/sim/jobs.h"

#include "tests/sim/fiber.h"

static void run(void *arg)
{
    struct spool_job *job = arg;
    struct spool_vfs vfs = disk_vfs(((struct jobs *)job->host)->disk);
    job->run(job, &vfs);
}

unsigned jobs_submit(struct jobs *j, struct disk *disk, struct spool_job *job)
{
    unsigned which = 0;
    while (which < JOBS_MAX && j->jobs[which] != NULL)
        which++;
    if (which == JOBS_MAX)
        return which;
    j->disk = disk;
    job->host = j;
    j->jobs[which] = job;
    j->fibers[which] = fiber_new(run, job);
    return which;
}

bool jobs_run(struct jobs *j, unsigned which)
{
    return fiber_resume(j->fibers[which]);
}

void jobs_end(struct jobs *j, unsigned which)
{
    struct spool_job *job = j->jobs[which];
    fiber_drop(j->fibers[which]);
    j->jobs[which] = NULL;
    spool_job_done(job);
}

void jobs_drop(struct jobs *j)
{
    for (unsigned k = 0; k < JOBS_MAX; k++) {
        if (j->jobs[k] != NULL)
            fiber_drop(j->fibers[k]);
        j->jobs[k] = NULL;
    }
}

bool jobs_call_writes(const struct disk_call *call)
{
    enum disk_op op = call->op;
    return op == DISK_PWRITEV || op == DISK_FDATASYNC || op == DISK_FALLOCATE || op == DISK_FTRUNCATE ||
           op == DISK_RENAME || op == DISK_UNLINK || op == DISK_MKDIR || op == DISK_FSYNC_DIR;
}
