/* model_recovery: what may and what may not be different after a start, and what must hold at all times. */
#include "tests/sim/model.h"

#include "tests/sim/client.h"
#include "tests/sim/world.h"

#include <inttypes.h>
#include <string.h>

void model_died(struct world *w, bool power)
{
    if (power && (w->weak_life || w->knobs.lying))
        w->model.loose_tail = w->model.loose = true;
    if (power)
        floor_power_lost(w);
    w->model.tail_was_lost = false;
}

static bool may_drop(const struct world *w)
{
    return change_may_drop(w) || w->model.loose;
}

/* Everything beyond the last recovered seq is gone: right for what nobody was answered for. */
static void cut_tail(struct world *w, uint64_t last)
{
    struct model *m = &w->model;
    for (uint64_t s = last + 1; s <= m->last_seq; s++) {
        m->tail_was_lost = true;
        if (m->seqs[s].acked && (!m->loose_tail || (floor_counts(w) && s <= w->floor.seq)))
            world_fail(w, "seq %" PRIu64 " (event %u) was answered for and is gone: recovered up to %" PRIu64,
                       s, m->seqs[s].event, last);
        m->delivered -= m->seqs[s].state == SEQ_DELIVERED;
        m->dead_total -= m->seqs[s].state == SEQ_DEAD;
        m->dropped -= m->seqs[s].state == SEQ_DROPPED;
        m->replayed -= m->seqs[s].replayed; /* a letter again */
        if (m->seqs[s].replayed)
            world_met(w, MET_REPLAY_UNDONE);
    }
    if (last < m->last_seq)
        world_met(w, MET_LOST_TAIL);
    m->last_seq = last;
    if (m->acked_seq > last)
        m->acked_seq = last;
}

static void compare_members(struct world *w, unsigned index, const struct spool_open_batch *found)
{
    struct model *m = &w->model;
    struct m_batch *b = &m->batches[index];
    const struct spool_assignment *a = &found->assignment;
    if (found->identity_broken) {
        if (!m->loose)
            world_fail(w, "batch %" PRIu64 " came back with a broken identity", b->id.batch_no);
        b->broken = true;
        return;
    }
    uint32_t at = b->first;
    bool same = a->raw_len == b->raw_len && a->raw_crc32c == b->raw_crc && found->count == b->count;
    for (unsigned r = 0; same && r < a->run_count; r++)
        for (uint64_t k = 0; same && k < a->runs[r].count; k++, at++)
            same = at < b->first + b->count && m->members[at] == a->runs[r].first + k;
    if (!same || at != b->first + b->count)
        world_fail(w, "batch %" PRIu64 ".%" PRIu64 " came back with other members", b->id.epoch,
                   b->id.batch_no);
    if (!found->recovered || !found->durable)
        world_fail(w, "batch %" PRIu64 " came back, but not as recovered and durable", b->id.batch_no);
}

static void reopen(struct model *m, unsigned index)
{
    struct m_batch *b = &m->batches[index];
    for (uint32_t k = b->first; k < b->first + b->count; k++) {
        struct m_seq *s = &m->seqs[m->members[k]];
        if (s->batch == index) {
            m->delivered -= s->state == SEQ_DELIVERED;
            m->dead_total -= s->state == SEQ_DEAD;
            m->dropped -= s->state == SEQ_DROPPED;
        }
        s->batch = index;
        s->state = SEQ_ASSIGNED;
        m->fates[k] = SEQ_ASSIGNED;
    }
    b->state = B_OPEN;
}

void model_dropped_at_start(struct world *w, uint64_t batch_no)
{
    struct model *m = &w->model;
    for (size_t k = m->batch_count; k > 0; k--) {
        struct m_batch *b = &m->batches[k];
        if (b->id.batch_no != batch_no || b->state == B_GONE)
            continue;
        if (!b->firm) {
            reopen(m, (unsigned)k);
            model_lost(w, (unsigned)k);
        }
        return;
    }
}

static void batch_is_there(struct world *w, unsigned index, const struct spool_open_batch *found)
{
    struct model *m = &w->model;
    struct m_batch *b = &m->batches[index];
    if (!m->loose && ((b->state == B_GONE && !b->lost) || b->firm))
        world_fail(w, "batch %" PRIu64 ".%" PRIu64 " came back after its end was on disk", b->id.epoch,
                   b->id.batch_no);
    if (b->state == B_SETTLED)
        world_met(w, MET_REOPENED_BATCH);
    compare_members(w, index, found);
    if (b->state == B_SETTLED || b->state == B_SETTLING || b->lost || m->loose)
        reopen(m, index);
    if (w->power_lost && m->loose && b->strict && b->sent && floor_counts(w))
        world_met(w, MET_STRICT_KEPT);
    b->lost = false;
    b->strict = true; /* a start syncs what it has found */
    b->state = B_OPEN;
    world_met(w, MET_RECOVERED_BATCH);
}

static bool listed(const struct world *w, unsigned index)
{
    struct spool_open_batch found;
    const struct m_batch *b = &w->model.batches[index];
    return spool_open_batch_next(w->spool, b->id.batch_no - 1, &found) &&
           found.id.batch_no == b->id.batch_no && found.id.epoch == b->id.epoch;
}

static void release_members(struct model *m, unsigned index)
{
    struct m_batch *b = &m->batches[index];
    for (uint32_t k = b->first; k < b->first + b->count; k++)
        if (m->seqs[m->members[k]].batch == index && m->seqs[m->members[k]].state == SEQ_ASSIGNED)
            m->seqs[m->members[k]].state = SEQ_PENDING;
    b->state = B_GONE;
}

static void batch_is_not_there(struct world *w, unsigned index)
{
    struct model *m = &w->model;
    struct m_batch *b = &m->batches[index];
    bool parent_open = b->parent != 0 && m->batches[b->parent].state == B_OPEN;
    switch (b->state) {
    case B_ASSIGNING:
        if (b->parent != 0 && !parent_open && !may_drop(w))
            world_fail(w, "batch %" PRIu64 " is closed, but what follows it is missing",
                       m->batches[b->parent].id.batch_no);
        release_members(m, index);
        break;
    case B_OPEN:
        if (!may_drop(w))
            world_fail(w, "batch %" PRIu64 ".%" PRIu64 " was durable%s and is gone", b->id.epoch,
                       b->id.batch_no, b->sent ? " and sent" : "");
        if (b->strict && floor_counts(w) && !change_may_drop(w))
            world_fail(w, "the identity of batch %" PRIu64 ".%" PRIu64 " was synced and is gone", b->id.epoch,
                       b->id.batch_no);
        if (m->loose)
            release_members(m, index);
        else
            model_lost(w, index);
        break;
    case B_SETTLING:
        model_settle(w, index, true);
        b->firm = !m->loose;
        break;
    case B_SETTLED:
        if (parent_open && !m->loose)
            world_fail(w, "batch %" PRIu64 " came back, but what followed it was settled",
                       m->batches[b->parent].id.batch_no);
        b->firm = !m->loose;
        break;
    case B_GONE:
        break;
    }
}

static void compare_batches(struct world *w)
{
    struct model *m = &w->model;
    struct spool_open_batch found;
    uint64_t after = 0;
    while (spool_open_batch_next(w->spool, after, &found)) {
        after = found.id.batch_no;
        unsigned index = model_find(m, &found.id);
        if (index == 0)
            world_fail(w, "batch %" PRIu64 ".%" PRIu64 " was never assigned", found.id.epoch,
                       found.id.batch_no);
        batch_is_there(w, index, &found);
    }
    for (unsigned k = 1; k <= m->batch_count; k++)
        if (m->batches[k].state != B_GONE && !m->batches[k].firm && !listed(w, k))
            batch_is_not_there(w, k);
}

static uint64_t all_dropped(const struct spool_ledger *l)
{
    uint64_t sum = 0;
    for (unsigned r = 0; r < SPOOL_DROP_REASONS; r++)
        sum += l->dropped[r];
    return sum;
}

/* Control records that decay has made useless are given up, and the counters with them: the spool says so and
 * starts its accounts again, with the first event that is still stored. What was counted before is not counted any
 * more, nor is what stood in segments before that were taken away; that much may be missing. */
static void forget_counts(struct world *w, const struct spool_ledger *l, uint64_t last)
{
    struct model *m = &w->model;
    uint64_t dropped = all_dropped(l) - l->dropped[SPOOL_DROP_SHED];
    uint64_t stored = l->accepted - l->dropped[SPOOL_DROP_SHED] + m->replayed;
    if (m->loose && dropped < m->dropped_seen)
        m->forgotten += m->dropped_seen - dropped;
    if (!floor_counts(w) && stored < last && last - stored > m->never_counted)
        m->never_counted = last - stored;
}

void model_opened(struct world *w)
{
    struct model *m = &w->model;
    struct spool_ledger l;
    spool_ledger(w->spool, &l);
    uint64_t last = spool_acked(w->spool);
    /* What an earlier life had lost is back: from such a disk, or behind a file that somebody took away. */
    if ((w->knobs.lying || w->knobs.vandal) && last > m->last_seq && last <= m->max_seq)
        m->last_seq = last;
    if (last > m->last_seq)
        world_fail(w, "recovered up to seq %" PRIu64 ", but only %zu were given out", last, m->last_seq);
    forget_counts(w, &l, last);
    cut_tail(w, last);
    compare_batches(w);
    for (uint64_t s = 1; s <= m->last_seq; s++) {
        struct m_seq *seq = &m->seqs[s];
        seq->handed = false;
        seq->acked = true;
        if (seq->state == SEQ_DROPPED || seq->state == SEQ_GONE || (m->loose && seq->state != SEQ_ASSIGNED)) {
            seq->maybe_dropped = true;
            seq->state = SEQ_PENDING;
        }
    }
    m->acked_seq = last;
    if (m->purge_open) { /* it got somewhere between nothing and everything */
        uint64_t letters = m->dead_total - m->replayed;
        if (!m->loose && (l.dead > letters - m->purged || l.dead > letters))
            world_fail(w, "%" PRIu64 " letters after an interrupted purge of %" PRIu64, l.dead,
                       letters - m->purged);
        m->purged = letters - l.dead;
        m->purge_open = false;
    }
    if (l.dropped[SPOOL_DROP_SHED] > m->shed && !m->loose)
        world_fail(w, "%" PRIu64 " shed after the start, %" PRIu64 " before", l.dropped[SPOOL_DROP_SHED],
                   m->shed);
    m->shed = l.dropped[SPOOL_DROP_SHED];
    if (l.torn_bytes > 0)
        world_met(w, MET_TORN);
}

/* Young members of batches of this state that the spool has closed already, which the model has not heard of. */
static uint64_t young_in_closed(const struct world *w, enum m_batch_state state)
{
    const struct model *m = &w->model;
    uint64_t count = 0;
    for (size_t i = 1; i <= m->batch_count; i++) {
        const struct m_batch *b = &m->batches[i];
        if (b->state != state || client_batch_open(w, b->id.batch_no))
            continue;
        for (uint32_t k = b->first; k < b->first + b->count; k++)
            count += m->members[k] > m->old_seq;
    }
    return count;
}

/* Nothing expires before its time, unless the clock is set. */
static void check_age(struct world *w, const struct spool_ledger *l)
{
    struct model *m = &w->model;
    uint64_t age_ns = w->allowed.least_age_us * 1000, now_ns = process_host(w).wall_ns(w);
    if (l->dropped[SPOOL_DROP_EXPIRED] == 0)
        return;
    world_met(w, MET_EXPIRED);
    if (age_ns == 0)
        world_fail(w, "%" PRIu64 " are counted as expired, but nothing ever was to",
                   l->dropped[SPOOL_DROP_EXPIRED]);
    while (m->old_seq < m->last_seq && m->seqs[m->old_seq + 1].wall_ns + age_ns < now_ns)
        m->old_seq++;
    uint64_t known = m->old_seq + m->lost_with_batch;
    if (l->dropped[SPOOL_DROP_EXPIRED] <= known || w->knobs.one_in_wall_jump != 0)
        return;
    /* A batch goes as a whole. Of an open one the note may be on its way; of one that waits for its letters none comes but
     * that it is settled. */
    uint64_t more = l->dropped[SPOOL_DROP_EXPIRED] - known, told_soon = young_in_closed(w, B_OPEN);
    if (more > told_soon + young_in_closed(w, B_SETTLING))
        world_fail(w, "%" PRIu64 " have expired, but only %" PRIu64 " are old enough",
                   l->dropped[SPOOL_DROP_EXPIRED], m->old_seq);
    if (more > told_soon)
        m->lost_with_batch += more - told_soon;
}

/* The ledger balances by itself, and it is ours. */
void model_check(struct world *w)
{
    struct model *m = &w->model;
    struct spool_ledger l;
    spool_ledger(w->spool, &l);
    uint64_t dropped = all_dropped(&l);
    m->dropped_seen = dropped - l.dropped[SPOOL_DROP_SHED];
    if (w->verbose && l.dead != w->last_dead)
        world_say(w,
                  "ledger: %" PRIu64 " accepted, %" PRIu64 " pending, %" PRIu64 " delivered, %" PRIu64
                  " dead, dropped %" PRIu64 ", %" PRIu64 " shed, %" PRIu64 " purged",
                  l.accepted, l.pending, l.delivered, w->last_dead = l.dead, dropped,
                  l.dropped[SPOOL_DROP_SHED], l.dropped[SPOOL_DROP_PURGED]);
    if (l.accepted != l.pending + l.delivered + l.dead + dropped)
        world_fail(w,
                   "the ledger: %" PRIu64 " accepted, %" PRIu64 " pending + %" PRIu64 " delivered + %" PRIu64
                   " dead + %" PRIu64 " dropped",
                   l.accepted, l.pending, l.delivered, l.dead, dropped);
    if (dropped > l.dropped[SPOOL_DROP_SHED])
        world_met(w, MET_DROPPED);
    if (l.dropped[SPOOL_DROP_CORRUPT] > 0)
        world_met(w, MET_CORRUPT);
    if (l.identity_broken > 0)
        world_met(w, MET_IDENTITY_BROKEN);
    if (m->loose)
        return;
    letters_follow(w, &l);
    if (l.delivered != m->delivered)
        world_fail(w, "the ledger says %" PRIu64 " delivered, the model %" PRIu64, l.delivered, m->delivered);
    if (!m->purge_open && l.dead != m->dead_total - m->replayed - m->purged)
        world_fail(w, "the ledger says %" PRIu64 " dead, the model %" PRIu64, l.dead,
                   m->dead_total - m->replayed - m->purged);
    if (l.accepted != m->last_seq + m->shed - m->replayed)
        world_fail(w, "the ledger says %" PRIu64 " accepted, the model %" PRIu64, l.accepted,
                   m->last_seq + m->shed - m->replayed);
    if (l.dropped[SPOOL_DROP_SHED] != m->shed)
        world_fail(w, "the ledger says %" PRIu64 " shed, the model %" PRIu64, l.dropped[SPOOL_DROP_SHED],
                   m->shed);
    if (l.dropped[SPOOL_DROP_QUOTA] != 0 && !w->allowed.drop_oldest)
        world_fail(w, "dropped for quota without such a policy");
    check_age(w, &l);
    if (l.dropped[SPOOL_DROP_CORRUPT] != 0)
        world_fail(w, "%" PRIu64 " counted as corrupt, but nothing was damaged",
                   l.dropped[SPOOL_DROP_CORRUPT]);
    if (l.identity_broken != 0)
        world_fail(w, "an identity was given up, but nothing was damaged");
}

/* One damaged place costs a frame or two, or, in what was never proven, one commit: not the rest of a file.
 */
static void check_blast(struct world *w, const struct spool_ledger *l, uint64_t missing_bytes)
{
    const struct knobs *k = &w->knobs;
    if (!k->rot || w->allowed.weak || change_may_drop(w) || k->big_one_in != 0 ||
        l->dropped[SPOOL_DROP_PURGED] != 0)
        return;
    uint64_t most = w->rots * (uint64_t)(80 * 1024 + 2 * k->append_max * k->body_max);
    if (missing_bytes > most)
        world_fail(w, "%u damaged places cost %" PRIu64 " bytes of events", w->rots, missing_bytes);
}

void model_check_end(struct world *w)
{
    struct model *m = &w->model;
    struct spool_ledger l;
    spool_ledger(w->spool, &l);
    if (l.pending != 0)
        world_fail(w, "%" PRIu64 " still pending at the end", l.pending);
    uint64_t missing = 0, first_missing = 0, missing_bytes = 0;
    for (uint64_t s = 1; s <= m->last_seq; s++) {
        const struct m_seq *seq = &m->seqs[s];
        if (seq->state == SEQ_DELIVERED && m->events[seq->event].received == 0)
            world_fail(w, "seq %" PRIu64 " is delivered, but the upstream never got it", s);
        if (seq->state == SEQ_DELIVERED || seq->state == SEQ_DEAD)
            continue;
        if (m->loose && m->events[seq->event].received > 0)
            continue;
        missing++;
        /* Decay makes the model forget who is a letter; letters are no loss. */
        missing_bytes += seq->died ? 0 : m->events[seq->event].len;
        if (first_missing == 0)
            first_missing = s;
    }
    uint64_t counted = all_dropped(&l) - l.dropped[SPOOL_DROP_SHED] - m->purged;
    if (w->knobs.lying)
        return; /* what such a disk loses, nobody can count */
    if (m->loose ? missing > counted + l.dead + m->purged + m->replayed + m->forgotten + m->never_counted
                 : missing != counted)
        world_fail(w,
                   "%" PRIu64 " events are neither delivered nor dead (first: seq %" PRIu64 "), but %" PRIu64
                   " are counted as dropped",
                   missing, first_missing, counted);
    check_blast(w, &l, missing_bytes);
    floor_check_end(w, &l);
}
