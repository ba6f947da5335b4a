/* recent: the ids of the last moments, which a start finds again so that a repeated event is stored once.
 *
 * An id too many is worse than one too few: an event that was never stored would be answered for when its
 * sender repeats it. So the ids must be exactly those of the newest events that are there, in order; and they
 * may begin late only where segments were released for want of room. */
#include "tests/sim/world.h"

#include <inttypes.h>

#define RECENT_MOST 2048

static bool young(const struct world *w, uint64_t seq)
{
    return w->model.seqs[seq].wall_ns + w->knobs.spool.recent_us * 1000 >= w->start_wall_ns;
}

static uint64_t take(struct world *w, uint32_t events[RECENT_MOST])
{
    uint64_t wall_ns, event, count = 0;
    struct span id;
    while (spool_recent_next(w->spool, &id, &wall_ns)) {
        if (id.len < 2 || id.at[0] != 'e' || !span_u64(span_of(id.at + 1, id.len - 1), &event) ||
            event == 0 || event > w->model.event_count)
            world_fail(w, "a recent id of %zu bytes is of no event", id.len);
        if (count == w->knobs.spool.recent_max || w->knobs.spool.recent_us == 0)
            world_fail(w, "more than %u recent ids", w->knobs.spool.recent_max);
        events[count++] = (uint32_t)event;
    }
    return count;
}

/* Segments stay for their ids while there is plenty of room; those of pending events stay in any case. */
static bool must_be_there(const struct world *w, const struct m_seq *s)
{
    if (w->knobs.one_in_wall_jump != 0)
        return false;
    if (s->maybe_dropped || w->weak_life)
        return false;
    if (!w->spacious && change_may_drop(w))
        return false; /* what was dropped is not told one by one */
    return w->spacious || s->state == SEQ_PENDING || s->state == SEQ_ASSIGNED;
}

void recent_check(struct world *w)
{
    static uint32_t events[RECENT_MOST];
    const struct model *m = &w->model;
    uint64_t left = take(w, events), wanted = w->knobs.spool.recent_us == 0 ? 0 : w->knobs.spool.recent_max;
    world_trace(w, left);
    if (m->loose)
        return;
    for (uint64_t s = m->last_seq; s > 0 && wanted > 0; s--) {
        if (!young(w, s))
            continue;
        /* A deleted segment that a power loss brought back is read, though one behind it may be gone; then older ids take
         * the room of those. */
        bool there = left > 0 && events[left - 1] == m->seqs[s].event;
        if (!there && must_be_there(w, &m->seqs[s]))
            world_fail(w, "the id of seq %" PRIu64 " (state %u) is forgotten", s, m->seqs[s].state);
        if (!there)
            continue;
        wanted--;
        world_met(w, m->seqs[s].state == SEQ_PENDING || m->seqs[s].state == SEQ_ASSIGNED
                         ? MET_RECENT_PENDING
                         : MET_RECENT_SETTLED);
        left--;
    }
    if (left > 0)
        world_fail(w, "%" PRIu64 " recent ids are of events that are not there", left);
}
