/* floor: how much of the log is on the platter for sure, as told by the disk calls alone.
 *
 * Whatever was answered for before a sync of the log's newest file began, and succeeded, must survive all
 * that may come: that is what the weaker modes still promise, where an answer alone promises less. */
#include "tests/sim/world.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define HEADER_AREA 8192
#define INTERVAL_US (3 * 1000000) /* a second, and some for a slow disk */

/* The newest file is the one that events were last written to; a sync of it counts when its header is there.
 */
void floor_wrote(struct world *w, const struct disk_call *call)
{
    struct log_floor *f = &w->floor;
    if (strncmp(call->name, "seg-", 4) != 0 || call->zeros) /* zeros: a file made ready or wiped */
        return;
    bool header = call->offset == 0, only_header = header && call->len <= HEADER_AREA;
    bool known = strcmp(f->name, call->name) == 0;
    if (!known && only_header)
        return; /* a file made ready */
    if (!known) {
        (void)snprintf(f->name, sizeof(f->name), "%s", call->name);
        f->headed = false;
    }
    f->headed = f->headed || header;
}

/* It was given up: another file gets its name, and no header yet. */
void floor_removed(struct world *w, const struct disk_call *call)
{
    struct log_floor *f = &w->floor;
    if (strcmp(f->name, call->name) == 0)
        f->name[0] = f->syncing[0] = '\0';
}

void floor_sync_begins(struct world *w, const struct disk_call *call)
{
    struct log_floor *f = &w->floor;
    if (!f->headed || strcmp(f->name, call->name) != 0)
        return;
    (void)snprintf(f->syncing, sizeof f->syncing, "%s", call->name);
    f->next = w->opened ? w->acked : 0;
}

/* Files of dead letters are synced meanwhile, and say nothing of the log. */
void floor_synced(struct world *w, const struct disk_call *call)
{
    struct log_floor *f = &w->floor;
    if (strcmp(f->syncing, call->name) != 0)
        return;
    if (f->next > f->seq)
        f->seq = f->next;
    f->syncing[0] = '\0';
}

/* A start has copied and synced all that it found. */
void floor_opened(struct world *w)
{
    w->floor.seq = spool_acked(w->spool);
    w->floor.behind_since_us = 0;
}

bool floor_counts(const struct world *w)
{
    const struct knobs *k = &w->knobs;
    return !k->rot && !k->vandal && !k->lying;
}

/* What was answered for beyond it may be gone, or be a hole that is counted. */
void floor_power_lost(struct world *w)
{
    struct model *m = &w->model;
    for (uint64_t s = w->floor.seq + 1; s <= m->last_seq; s++)
        m->seqs[s].doubtful = true;
    w->floor.name[0] = '\0';
    w->floor.syncing[0] = '\0';
}

/* In the mode of intervals nothing waits for long. */
void floor_check(struct world *w)
{
    struct log_floor *f = &w->floor;
    if (w->knobs.spool.durability != SPOOL_INTERVAL || w->knobs.faults || w->knobs.one_in_squeeze != 0 ||
        spool_state(w->spool) != SPOOL_OK || w->acked <= f->seq) {
        f->behind_since_us = 0;
        return;
    }
    if (f->behind_since_us == 0 || f->behind_seq <= f->seq) {
        f->behind_since_us = w->now_us;
        f->behind_seq = w->acked;
    }
    if (w->now_us - f->behind_since_us > INTERVAL_US + 100 * (uint64_t)w->knobs.job_us)
        world_fail(w, "seq %" PRIu64 " is answered for and not synced after %" PRIu64 " us", f->behind_seq,
                   w->now_us - f->behind_since_us);
}

/* At the end: losses beyond what the floor allows. `missing` events are neither delivered nor dead. */
void floor_check_end(struct world *w, const struct spool_ledger *l)
{
    const struct model *m = &w->model;
    uint64_t missing = 0, first = 0, doubtful = 0, policy = 0;
    if (!floor_counts(w) || !m->loose)
        return;
    for (uint64_t s = 1; s <= m->last_seq; s++) {
        const struct m_seq *seq = &m->seqs[s];
        doubtful += seq->doubtful;
        if (seq->doubtful || seq->died || seq->state == SEQ_DELIVERED || m->events[seq->event].received > 0)
            continue;
        missing++;
        if (first == 0)
            first = s;
    }
    for (unsigned r = 0; r < SPOOL_DROP_REASONS; r++)
        policy += r == SPOOL_DROP_CORRUPT || r == SPOOL_DROP_SHED ? 0 : l->dropped[r];
    if (missing > policy)
        world_fail(w, "%" PRIu64 " synced events are gone (first: seq %" PRIu64 "), %" PRIu64 " by policies",
                   missing, first, policy);
    if (l->dropped[SPOOL_DROP_CORRUPT] > doubtful + m->dead_total)
        world_fail(w, "%" PRIu64 " events are counted as corrupt, %" PRIu64 " were not synced",
                   l->dropped[SPOOL_DROP_CORRUPT], doubtful);
}
