/* failure: what the spool does when the disk says no. */
#include "lib/spool/internal.h"

#include <errno.h>

void failure_of_commit(struct spool *s, uint64_t now)
{
    const struct commit_job *c = &s->commit;
    struct fault why;
    if (!c->sync_failed && (c->err == ENOSPC || c->err == EDQUOT)) {
        /* Nothing there was answered for: the same range is written again when space is back. */
        s->commit_retry = true;
        s->retry_at_us = now + RETRY_US;
        (void)fault_sys(&why, c->err, "write to the log"); /* The state carries it. */
        spool_set_state(s, SPOOL_FULL, &why);
        return;
    }
    s->commit_busy = false;
    (void)fault_sys(&why, c->err, c->sync_failed ? "sync the log" : "write to the log");
    spool_fail(s, &why);
}
