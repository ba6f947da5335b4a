/* upstream: the service that batches are delivered to, with a memory for ids.
 *
 * It processes each batch id once and gives the same answer to it for ever. Requests and answers can get
 * lost; it can be busy, down, refuse single events, or find a batch too large. It is where "same id, same
 * bytes" and "each event once" are judged. */
#include "tests/sim/world.h"

#include <inttypes.h>

static enum verdict judge(struct world *w, const struct m_batch *b)
{
    const struct model *m = &w->model;
    if (b->count > w->knobs.too_many && b->count > 1)
        return V_TOO_LARGE;
    bool bad = false;
    for (uint32_t k = b->first; k < b->first + b->count; k++)
        bad = bad || model_bad(m, m->members[k]);
    if (bad)
        return w->knobs.whole_batch_refusals && b->count > 1 ? V_REFUSED : V_PARTIAL;
    if (b->count > 1 && decide_rarely(&w->luck, w->knobs.one_in_partial_retry))
        return V_SOME_LATER;
    return V_DELIVERED;
}

/* Which members does this verdict deliver? */
static bool takes(const struct world *w, const struct m_batch *b, enum verdict v, uint32_t k)
{
    const struct model *m = &w->model;
    switch (v) {
    case V_DELIVERED:
        return true;
    case V_PARTIAL:
        return !model_bad(m, m->members[k]);
    case V_SOME_LATER:
        return (k - b->first) % 2 == 0;
    default:
        return false;
    }
}

static void process(struct world *w, struct m_batch *b)
{
    struct model *m = &w->model;
    b->verdict = (uint8_t)judge(w, b);
    b->processed = true;
    for (uint32_t k = b->first; k < b->first + b->count; k++) {
        if (!takes(w, b, b->verdict, k))
            continue;
        struct m_event *e = &m->events[m->seqs[m->members[k]].event];
        if (++e->received > 1 && !m->loose)
            world_fail(w, "event %u reached the upstream in a second batch (%" PRIu64 ".%" PRIu64 ")",
                       m->seqs[m->members[k]].event, b->id.epoch, b->id.batch_no);
    }
}

/* a: the batch, and the number of the try in the high half; b: the payload's hash; c: the sender's life. */
void upstream_arrive(struct world *w, const struct due *e)
{
    struct m_batch *b = &w->model.batches[(uint32_t)e->a];
    uint64_t try_no = e->a >> 32;
    unsigned life = (unsigned)e->c;
    if (w->upstream_down) { /* nobody answers */
        world_at(w, GIVE_UP_US, EV_GIVE_UP_WAITING, life, e->a, 0, 0);
        return;
    }
    enum verdict verdict = V_BUSY;
    if (b->hash == 0) {
        b->hash = e->b;
    } else {
        world_met(w, MET_REPEATED);
        if (b->hash != e->b && !b->broken)
            world_fail(w, "batch id %" PRIu64 ".%" PRIu64 " was sent with another payload", b->id.epoch,
                       b->id.batch_no);
    }
    if (b->processed || !decide_rarely(&w->luck, w->knobs.one_in_busy)) {
        if (!b->processed)
            process(w, b);
        verdict = b->verdict;
    }
    if (decide_rarely(&w->luck, w->knobs.one_in_reply_lost)) {
        world_met(w, MET_REPLY_LOST);
        world_at(w, GIVE_UP_US, EV_GIVE_UP_WAITING, life, e->a, 0, 0);
        return;
    }
    world_at(w, 1 + decide(&w->luck, w->knobs.latency_us), EV_REPLY, life, (uint32_t)e->a | try_no << 32,
             verdict, 0);
}
