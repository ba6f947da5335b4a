/* settle: from the upstream's verdict to the end of a batch. */
#include "tests/sim/client.h"

#include <inttypes.h>
#include <stdio.h>

#define MEMBERS_MAX FILLING_MAX

struct ending {
    uint64_t delivered[MEMBERS_MAX], later[2][MEMBERS_MAX];
    unsigned delivered_count, later_count[2];
    struct spool_death deaths[MEMBERS_MAX];
    unsigned death_count;
    struct spool_run runs[3][MEMBERS_MAX];
    struct spool_assignment next[2];
    struct spool_batch_id next_ids[2];
};

static void sort_out(struct world *w, struct flight *f, struct ending *e)
{
    struct model *m = &w->model;
    const struct m_batch *b = &m->batches[f->batch];
    for (uint32_t k = 0; k < b->count; k++) {
        uint64_t seq = m->members[b->first + k];
        uint8_t *fate = &m->fates[b->first + k];
        bool bad = model_bad(m, seq);
        if (f->verdict == V_DELIVERED || (f->verdict == V_PARTIAL && !bad) ||
            (f->verdict == V_SOME_LATER && k % 2 == 0)) {
            *fate = SEQ_DELIVERED;
            e->delivered[e->delivered_count++] = seq;
        } else if (f->verdict == V_PARTIAL) {
            *fate = SEQ_DEAD;
            e->deaths[e->death_count++] = (struct spool_death){.seq = seq,
                                                               .reason = (uint8_t)(seq % SPOOL_DEAD_REASONS),
                                                               .status = 400,
                                                               .attempts = f->attempts,
                                                               .answer = SPAN("no")};
        } else {
            unsigned half = f->verdict == V_SOME_LATER ? 0 : k >= b->count / 2;
            *fate = SEQ_ASSIGNED;
            e->later[half][e->later_count[half]++] = seq;
        }
    }
}

static void prepare_next(struct world *w, const struct flight *f, struct ending *e, struct spool_outcome *o,
                         char *partition)
{
    for (unsigned half = 0; half < 2; half++) {
        if (e->later_count[half] == 0)
            continue;
        struct spool_assignment *a = &e->next[o->next_count++];
        *a = (struct spool_assignment){.partition = span_of(partition, 2),
                                       .runs = e->runs[1 + half],
                                       .envelope_version = 1,
                                       .envelope_hash = 42,
                                       .codec = 1};
        a->run_count = client_runs(e->later[half], e->later_count[half], e->runs[1 + half]);
        (void)client_payload(w, e->later[half], e->later_count[half], a);
    }
    (void)f;
    o->next = e->next;
    o->ret_next_ids = e->next_ids;
}

/* An identity that was broken by damage: what is left gets a new one. */
static void settle_broken(struct world *w, struct flight *f)
{
    struct m_batch *b = &w->model.batches[f->batch];
    struct spool_batch_id id;
    static struct spool_run runs[MEMBERS_MAX];
    const uint64_t *seqs = client_loaded(f);
    unsigned count = f->loaded < MEMBERS_MAX ? f->loaded : MEMBERS_MAX;
    struct spool_assignment a = {.runs = runs, .envelope_version = 1, .codec = 1};
    char partition[16];
    (void)snprintf(partition, sizeof(partition), "p%u", b->partition % 10u);
    a.partition = span_of(partition, 2);
    a.run_count = client_runs(seqs, count, runs);
    uint64_t hash = client_payload(w, seqs, count, &a);
    struct spool_outcome o = {
        .next = &a, .next_count = count > 0, .ret_next_ids = &id, .all_delivered = false};
    enum err err = spool_settle(w->spool, b->id.batch_no, &o);
    if (w->verbose)
        world_say(w, "settle broken batch %" PRIu64 ", %u left: %s", b->id.batch_no, count, err_name(err));
    if (err == ERR_NOT_FOUND) {
        client_lost(w, f);
        return;
    }
    if (err != OK) {
        f->whole = false;
        return;
    }
    f->settling = true;
    f->verdict = V_NONE;
    model_settle(w, f->batch, true);
    if (count > 0) {
        struct flight *next = client_flight(w, model_assign(w, &id, &a, f->batch));
        next->hash = hash;
        next->have_payload = false;
    }
}

void client_settle(struct world *w, struct flight *f)
{
    static struct ending e;
    struct spool_outcome o = {.drop_reason = SPOOL_DROP_PURGED};
    struct m_batch *b = &w->model.batches[f->batch];
    if (f->settling)
        return;
    if (f->broken) {
        settle_broken(w, f);
        return;
    }
    e.delivered_count = e.later_count[0] = e.later_count[1] = e.death_count = 0;
    sort_out(w, f, &e);
    char partition[16];
    (void)snprintf(partition, sizeof(partition), "p%u", b->partition % 10u);
    o.all_delivered = f->verdict == V_DELIVERED;
    o.delivered = e.runs[0];
    o.delivered_count = o.all_delivered ? 0 : client_runs(e.delivered, e.delivered_count, e.runs[0]);
    o.dead = e.deaths;
    o.dead_count = e.death_count;
    prepare_next(w, f, &e, &o, partition);
    enum err err = spool_settle(w->spool, b->id.batch_no, &o);
    world_trace(w, (uint64_t)err << 44 | f->verdict);
    if (w->verbose)
        world_say(w, "settle batch %" PRIu64 " verdict %u: %s", b->id.batch_no, f->verdict, err_name(err));
    if (err == ERR_NOT_FOUND) {
        client_lost(w, f); /* as the output takes it: the note may come later, or, for damage, not at all */
        return;
    }
    if (err != OK) {
        client_wake(w, 50000);
        if (err == ERR_FULL && o.dead_count > 0 && (w->quiet || decide(&w->luck, 8) == 1))
            letters_purge(w); /* somebody has to make room */
        return;
    }
    f->settling = true;
    f->verdict = V_NONE;
    unsigned parent = f->batch;
    if (o.next_count > 0)
        world_met(w, MET_SPLIT);
    if (o.dead_count > 0)
        world_met(w, MET_DEAD);
    model_settle(w, parent, o.dead_count == 0);
    for (unsigned k = 0, half = 0; k < o.next_count; k++, half++) {
        while (e.later_count[half] == 0)
            half++;
        struct flight *next = client_flight(w, model_assign(w, &e.next_ids[k], &e.next[k], parent));
        struct spool_assignment ignored;
        next->hash = client_payload(w, e.later[half], e.later_count[half], &ignored);
        next->have_payload = true;
    }
}
