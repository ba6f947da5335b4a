/* model: see model.h. This file follows events and batches while the process lives; model_recovery.c compares
 * after a start and at the end. */
#include "tests/sim/model.h"

#include "tests/sim/world.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *grown(void *at, size_t *cap, size_t count, size_t size)
{
    if (count < *cap)
        return at;
    *cap = *cap == 0 ? 1024 : *cap * 2;
    at = realloc(at, *cap * size);
    if (at == NULL)
        abort();
    return at;
}

void model_reset(struct model *m)
{
    struct model old = *m;
    *m = (struct model){.events = old.events,
                        .event_cap = old.event_cap,
                        .seqs = old.seqs,
                        .seq_cap = old.seq_cap,
                        .batches = old.batches,
                        .batch_cap = old.batch_cap,
                        .members = old.members,
                        .fates = old.fates,
                        .member_cap = old.member_cap};
}

void model_free(struct model *m)
{
    free(m->events);
    free(m->seqs);
    free(m->batches);
    free(m->members);
    free(m->fates);
    *m = (struct model){0};
}

/* --- contents --------------------------------------------------------------------------------------- */

static uint64_t scramble(uint64_t x)
{
    x ^= x >> 31;
    x *= UINT64_C(0x9FB21C651E98DF25);
    x ^= x >> 29;
    return x;
}

uint64_t model_event_hash(uint32_t event, uint32_t len)
{
    return scramble(((uint64_t)event << 32 | len) + UINT64_C(0x51ED270B9F5C2AE1));
}

void model_body(uint32_t event, uint32_t len, uint8_t *into)
{
    uint64_t seed = model_event_hash(event, len), head = (uint64_t)event << 32 | len;
    memcpy(into, &head, 8);
    memcpy(into + 8, &seed, 8);
    for (uint32_t at = BODY_HEAD; at < len; at += 8) {
        seed += UINT64_C(0x9E3779B97F4A7C15);
        uint64_t word = seed ^ seed >> 29;
        memcpy(into + at, &word, len - at < 8 ? len - at : 8);
    }
}

static bool body_is(uint32_t event, uint32_t len, const uint8_t *at)
{
    uint64_t seed = model_event_hash(event, len), head = (uint64_t)event << 32 | len;
    if (memcmp(at, &head, 8) != 0 || memcmp(at + 8, &seed, 8) != 0)
        return false;
    uint64_t differs = 0;
    uint32_t k = BODY_HEAD;
    for (; k + 8 <= len; k += 8) {
        seed += UINT64_C(0x9E3779B97F4A7C15);
        uint64_t word;
        memcpy(&word, at + k, 8);
        differs |= word ^ seed ^ seed >> 29;
    }
    seed += UINT64_C(0x9E3779B97F4A7C15);
    seed ^= seed >> 29;
    return differs == 0 && (k == len || memcmp(at + k, &seed, len - k) == 0);
}

/* --- in --------------------------------------------------------------------------------------------- */

uint32_t model_offer(struct model *m, uint32_t len, uint8_t partition, bool bad)
{
    m->event_count++;
    m->events = grown(m->events, &m->event_cap, m->event_count + 1, sizeof(*m->events));
    m->events[m->event_count] = (struct m_event){.len = len, .partition = partition, .bad = bad};
    return (uint32_t)m->event_count;
}

void model_appended(struct world *w, uint32_t first_event, unsigned count, uint64_t last_seq)
{
    struct model *m = &w->model;
    if (last_seq != m->last_seq + count)
        world_fail(w, "append of %u gave seq %" PRIu64 " after %zu: not dense", count, last_seq, m->last_seq);
    for (unsigned k = 0; k < count; k++) {
        m->last_seq++;
        m->seqs = grown(m->seqs, &m->seq_cap, m->last_seq + 2, sizeof(*m->seqs));
        if (m->last_seq > m->max_seq)
            m->max_seq = m->last_seq;
        m->events[first_event + k].seq = m->last_seq;
        m->seqs[m->last_seq] = (struct m_seq){
            .event = first_event + k, .state = SEQ_PENDING, .wall_ns = process_host(w).wall_ns(w)};
    }
}

void model_replayed(struct world *w, uint64_t letter_seq)
{
    struct model *m = &w->model;
    struct m_seq letter = m->seqs[letter_seq];
    model_appended(w, letter.event, 1, m->last_seq + 1);
    m->seqs[m->last_seq].replayed = true;
    m->seqs[m->last_seq].wall_ns = letter.wall_ns;
    m->replayed++;
    m->events[letter.event].replayed = true;
    m->seqs[m->last_seq].mended = letter.mended || decide(&w->luck, 4) != 1;
    world_met(w, MET_REPLAY);
}

bool model_bad(const struct model *m, uint64_t seq)
{
    return m->events[m->seqs[seq].event].bad && !m->seqs[seq].mended;
}

void model_acked(struct world *w, uint64_t seq)
{
    struct model *m = &w->model;
    if (seq > m->last_seq)
        world_fail(w, "acked seq %" PRIu64 " was never given out (last is %zu)", seq, m->last_seq);
    for (uint64_t s = m->acked_seq + 1; s <= seq; s++)
        m->seqs[s].acked = true;
    if (seq > m->acked_seq)
        m->acked_seq = seq;
}

void model_read(struct world *w, const struct spool_item *item, bool by_load)
{
    struct model *m = &w->model;
    const char *how = by_load ? "load" : "next";
    if (item->seq == 0 || item->seq > m->last_seq)
        world_fail(w, "%s gave seq %" PRIu64 ", which was never given out", how, item->seq);
    struct m_seq *s = &m->seqs[item->seq];
    uint32_t told = 0;
    /* What stood there in an earlier life may come back, from a disk that lies, or in a file whose successor somebody
     * took away: lost events, but not wrong ones. */
    if ((w->knobs.lying || w->knobs.vandal) && item->body.len >= BODY_HEAD)
        memcpy(&told, item->body.at + 4, sizeof(told));
    if (told != 0 && told <= m->event_count && (m->events[told].seq == item->seq || m->events[told].replayed))
        s->event = told;
    const struct m_event *e = &m->events[s->event];
    char text[32];
    int len = snprintf(text, sizeof(text), "e%u", s->event);
    if (item->body.len != e->len || !body_is(s->event, e->len, item->body.at))
        world_fail(w, "%s gave another body for seq %" PRIu64 " (event %u)", how, item->seq, s->event);
    if (item->id.len != (size_t)len || memcmp(item->id.at, text, (size_t)len) != 0)
        world_fail(w, "%s gave another id for seq %" PRIu64, how, item->seq);
    len = snprintf(text, sizeof(text), "p%u", e->partition);
    if (item->partition.len != (size_t)len || memcmp(item->partition.at, text, (size_t)len) != 0)
        world_fail(w, "%s gave another partition for seq %" PRIu64, how, item->seq);
    if (by_load)
        return;
    if (s->state != SEQ_PENDING && !m->loose)
        world_fail(w, "next gave seq %" PRIu64 ", which is settled or in a batch (%u)", item->seq, s->state);
    if (s->handed)
        world_fail(w, "next gave seq %" PRIu64 " twice", item->seq);
    s->handed = true;
    s->maybe_dropped = false;
    s->state = SEQ_PENDING;
}

/* --- batches ---------------------------------------------------------------------------------------- */

unsigned model_find(const struct model *m, const struct spool_batch_id *id)
{
    for (size_t k = m->batch_count; k > 0; k--)
        if (m->batches[k].id.batch_no == id->batch_no && m->batches[k].id.epoch == id->epoch &&
            memcmp(m->batches[k].id.uuid, id->uuid, sizeof(id->uuid)) == 0)
            return (unsigned)k;
    return 0;
}

static void add_member(struct world *w, unsigned batch, uint64_t seq, unsigned parent)
{
    struct model *m = &w->model;
    struct m_seq *s = &m->seqs[seq];
    if (seq > m->last_seq)
        world_fail(w, "a batch took seq %" PRIu64 ", which does not exist", seq);
    if (!m->loose && parent == 0 && s->state != SEQ_PENDING)
        world_fail(w, "a batch took seq %" PRIu64 ", which is not pending (%u)", seq, s->state);
    size_t cap = m->member_cap;
    m->members = grown(m->members, &cap, m->member_count + 1, sizeof(*m->members));
    m->fates = grown(m->fates, &m->member_cap, m->member_count + 1, sizeof(*m->fates));
    m->fates[m->member_count] = SEQ_ASSIGNED;
    m->members[m->member_count++] = seq;
    s->state = SEQ_ASSIGNED;
    s->batch = batch;
}

unsigned model_assign(struct world *w, const struct spool_batch_id *id, const struct spool_assignment *a,
                      unsigned parent)
{
    struct model *m = &w->model;
    unsigned before = model_find(m, id);
    if (before != 0 && !w->knobs.lying && !w->knobs.vandal)
        world_fail(w, "batch id %" PRIu64 ".%" PRIu64 " was used before", id->epoch, id->batch_no);
    if (before != 0)
        m->batches[before].id.batch_no = 0; /* a disk that lies can lose epochs too */
    m->batch_count++;
    m->batches = grown(m->batches, &m->batch_cap, m->batch_count + 1, sizeof(*m->batches));
    unsigned batch = (unsigned)m->batch_count;
    m->batches[batch] =
        (struct m_batch){.id = *id,
                         .state = B_ASSIGNING,
                         .first = (uint32_t)m->member_count,
                         .raw_len = a->raw_len,
                         .raw_crc = a->raw_crc32c,
                         .strict = w->knobs.spool.strict_identity,
                         .parent = parent,
                         .partition = (uint8_t)(a->partition.len > 1 ? a->partition.at[1] - '0' : 0)};
    for (unsigned r = 0; r < a->run_count; r++)
        for (uint64_t k = 0; k < a->runs[r].count; k++)
            add_member(w, batch, a->runs[r].first + k, parent);
    m->batches[batch].count = (uint32_t)m->member_count - m->batches[batch].first;
    return batch;
}

void model_durable(struct world *w, unsigned batch)
{
    struct m_batch *b = &w->model.batches[batch];
    if (b->state != B_ASSIGNING)
        world_fail(w, "batch %" PRIu64 " became durable in state %u", b->id.batch_no, b->state);
    b->state = B_OPEN;
    /* A following batch on disk proves that the end of its parent is. */
    if (b->parent != 0)
        w->model.batches[b->parent].firm = true;
}

static void apply(struct model *m, struct m_batch *b, unsigned index)
{
    for (uint32_t k = b->first; k < b->first + b->count; k++) {
        struct m_seq *s = &m->seqs[m->members[k]];
        if (s->batch != index || m->fates[k] == SEQ_ASSIGNED)
            continue;
        s->state = m->fates[k];
        m->delivered += s->state == SEQ_DELIVERED;
        m->dead_total += s->state == SEQ_DEAD;
        s->died = s->died || s->state == SEQ_DEAD;
        m->dropped += s->state == SEQ_DROPPED;
    }
    b->state = B_SETTLED;
}

void model_settle(struct world *w, unsigned batch, bool applied)
{
    struct m_batch *b = &w->model.batches[batch];
    if (applied)
        apply(&w->model, b, batch);
    else
        b->state = B_SETTLING;
}

void model_settled(struct world *w, unsigned batch)
{
    struct m_batch *b = &w->model.batches[batch];
    if (b->state == B_SETTLING) {
        /* The letters are durable, the word that they count is on its way: a crash may still bring the batch
         * back. */
        apply(&w->model, b, batch);
    } else if (b->state != B_SETTLED) {
        world_fail(w, "batch %" PRIu64 " settled in state %u", b->id.batch_no, b->state);
    }
}

void model_lost(struct world *w, unsigned batch)
{
    struct model *m = &w->model;
    struct m_batch *b = &m->batches[batch];
    for (uint32_t k = b->first; k < b->first + b->count; k++) {
        m->lost_with_batch += m->members[k] > m->old_seq;
        if (m->seqs[m->members[k]].batch == batch && m->seqs[m->members[k]].state == SEQ_ASSIGNED)
            m->seqs[m->members[k]].state = SEQ_GONE;
    }
    b->state = B_GONE;
}
