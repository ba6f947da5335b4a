/* client: reads records, makes batches of them, sends and settles: what an output does, in its plainest form
 * and with more whims. settle.c has the last part. */
#include "tests/sim/client.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define BATCH_WAIT_US 4000

void client_reset(struct world *w)
{
    memset(w->flights, 0, sizeof(w->flights));
    for (unsigned p = 0; p < PARTITIONS_MAX; p++)
        w->filling[p].count = 0;
    w->flight_count = 0;
    w->client_wake_us = 0;
}

void client_wake(struct world *w, uint64_t in_us)
{
    if (w->client_wake_us != 0 && w->client_wake_us <= w->now_us + in_us)
        return;
    w->client_wake_us = w->now_us + in_us;
    world_at(w, in_us, EV_CLIENT, w->life, w->client_wake_us, 0, 0);
}

struct flight *client_flight(struct world *w, unsigned batch)
{
    struct flight *f = &w->flights[0];
    while (f < w->flights + FLIGHTS_MAX && f->used)
        f++;
    if (f == w->flights + FLIGHTS_MAX)
        world_fail(w, "the simulator has no more places for batches");
    *f = (struct flight){.used = true, .batch = batch, .world = w};
    w->flight_count++;
    return f;
}

static struct flight *flight_of(struct world *w, uint64_t batch_no)
{
    unsigned seen = 0;
    for (struct flight *f = w->flights; seen < w->flight_count && f < w->flights + FLIGHTS_MAX; f++) {
        seen += f->used;
        if (f->used && w->model.batches[f->batch].id.batch_no == batch_no)
            return f;
    }
    return NULL;
}

static void flight_end(struct world *w, struct flight *f)
{
    f->used = false;
    w->flight_count--;
}

/* --- reading and assigning -------------------------------------------------------------------------- */

uint64_t client_payload(struct world *w, const uint64_t *seqs, unsigned count, struct spool_assignment *a)
{
    uint64_t hash = 1;
    a->raw_len = 0;
    for (unsigned k = 0; k < count; k++) {
        uint32_t event = w->model.seqs[seqs[k]].event, len = w->model.events[event].len;
        hash = hash * UINT64_C(0x9FB21C651E98DF25) + model_event_hash(event, len);
        a->raw_len += len;
    }
    a->raw_crc32c = (uint32_t)(hash >> 32);
    return hash;
}

unsigned client_runs(const uint64_t *seqs, unsigned count, struct spool_run *runs)
{
    unsigned n = 0;
    for (unsigned k = 0; k < count; k++) {
        if (n > 0 && runs[n - 1].first + runs[n - 1].count == seqs[k])
            runs[n - 1].count++;
        else
            runs[n++] = (struct spool_run){seqs[k], 1};
    }
    return n;
}

static void rewind_all(struct world *w)
{
    for (unsigned p = 0; p < w->knobs.partitions; p++) {
        for (unsigned k = 0; k < w->filling[p].count; k++)
            w->model.seqs[w->filling[p].seqs[k]].handed = false;
        w->filling[p].count = 0;
    }
    /* A policy may have ended some of them meanwhile; whether it did, the next reading shows. */
    spool_rewind(w->spool);
    client_wake(w, 100);
    world_met(w, MET_REWIND);
}

static bool assign(struct world *w, unsigned p)
{
    struct filling *f = &w->filling[p];
    struct spool_run runs[FILLING_MAX];
    struct spool_batch_id id;
    char partition[16];
    (void)snprintf(partition, sizeof(partition), "p%u", p);
    struct spool_assignment a = {.partition = span_of(partition, 2),
                                 .runs = runs,
                                 .envelope_version = 1,
                                 .envelope_hash = 42,
                                 .codec = 1,
                                 .level = 3};
    a.run_count = client_runs(f->seqs, f->count, runs);
    uint64_t hash = client_payload(w, f->seqs, f->count, &a);
    enum err err = spool_assign(w->spool, &a, &id);
    world_trace(w, (uint64_t)err << 40 | f->count);
    if (err == ERR_NOT_FOUND) { /* a policy dropped some of them */
        if (!change_may_drop(w) && !w->model.loose)
            world_fail(w, "assign refused records that next had given");
        rewind_all(w);
        return false;
    }
    if (err != OK)
        return false;
    if (w->verbose)
        world_say(w, "assign batch %" PRIu64 ".%" PRIu64 " of %u from seq %" PRIu64, id.epoch, id.batch_no,
                  f->count, f->seqs[0]);
    struct flight *flight = client_flight(w, model_assign(w, &id, &a, 0));
    flight->hash = hash;
    flight->have_payload = true;
    f->count = 0;
    return true;
}

static void read_some(struct world *w)
{
    struct spool_item item;
    for (unsigned k = 0; k < 64; k++) {
        for (unsigned p = 0; p < w->knobs.partitions; p++)
            if (w->filling[p].count == FILLING_MAX)
                return;
        if (spool_next(w->spool, &item) != OK)
            return;
        w->steps++;
        model_read(w, &item, false);
        world_trace(w, item.seq);
        unsigned p = w->model.events[w->model.seqs[item.seq].event].partition;
        struct filling *f = &w->filling[p];
        if (f->count == 0)
            f->since_us = w->now_us, f->bytes = 0;
        if (f->count > 0 && item.seq <= f->seqs[f->count - 1] && !w->model.loose)
            world_fail(w, "next went back from seq %" PRIu64 " to %" PRIu64, f->seqs[f->count - 1], item.seq);
        f->seqs[f->count++] = item.seq;
        f->bytes += item.body.len;
        if (f->count >= w->knobs.batch_events || f->bytes >= w->knobs.batch_bytes)
            if (w->flight_count < w->knobs.concurrency + 2)
                (void)assign(w, p);
    }
    client_wake(w, 0);
}

static void drop_one(struct world *w)
{
    for (unsigned p = 0; p < w->knobs.partitions; p++) {
        struct filling *f = &w->filling[p];
        if (f->count == 0)
            continue;
        uint64_t seq = f->seqs[f->count - 1];
        if (spool_drop(w->spool, (struct spool_run){seq, 1}, SPOOL_DROP_PURGED) != OK)
            return;
        f->count--;
        w->model.seqs[seq].state = SEQ_DROPPED;
        w->model.dropped++;
        return;
    }
}

void client_whim(struct world *w, bool drop)
{
    if (drop)
        drop_one(w);
    else
        rewind_all(w);
}

/* --- sending ---------------------------------------------------------------------------------------- */

bool client_batch_open(const struct world *w, uint64_t no)
{
    struct spool_open_batch found;
    return spool_open_batch_next(w->spool, no - 1, &found) && found.id.batch_no == no;
}

/* Which members a load brought: what is left of a batch that damage has shrunk. */
static uint64_t loaded_seqs[FLIGHTS_MAX][FILLING_MAX];

const uint64_t *client_loaded(const struct flight *f)
{
    return loaded_seqs[f - f->world->flights];
}

static void on_item(void *ctx, const struct spool_item *item)
{
    struct flight *f = ctx;
    struct world *w = f->world;
    const struct m_batch *b = &w->model.batches[f->batch];
    model_read(w, item, true);
    if (!b->broken && (f->loaded >= b->count || w->model.members[b->first + f->loaded] != item->seq) &&
        !w->model.loose)
        world_fail(w, "load of batch %" PRIu64 " gave seq %" PRIu64 " out of place", b->id.batch_no,
                   item->seq);
    if (f->loaded < FILLING_MAX)
        loaded_seqs[f - w->flights][f->loaded] = item->seq;
    f->loaded++;
    uint32_t event = w->model.seqs[item->seq].event;
    f->hash = f->hash * UINT64_C(0x9FB21C651E98DF25) + model_event_hash(event, w->model.events[event].len);
}

static void on_loaded(void *ctx, enum err err)
{
    struct flight *f = ctx;
    struct world *w = f->world;
    const struct m_batch *b = &w->model.batches[f->batch];
    f->loading = false;
    world_met(w, MET_LOAD);
    if (f->doomed) {
        flight_end(w, f);
        return;
    }
    f->not_before_us = w->now_us + 1000;
    client_wake(w, 1000);
    f->whole = err == OK;
    if (err != OK) {
        bool there = client_batch_open(w, b->id.batch_no);
        f->broken = f->broken || (err == ERR_CORRUPT && there);
        if (err == ERR_CORRUPT && !w->model.loose && (there || !change_may_drop(w)))
            world_fail(w, "batch %" PRIu64 " cannot be loaded, but nothing was damaged", b->id.batch_no);
        return;
    }
    f->have_payload = f->loaded == b->count && (uint32_t)(f->hash >> 32) == b->raw_crc;
    if (f->have_payload)
        return;
    if (!b->broken && !w->model.loose)
        world_fail(w, "batch %" PRIu64 " was loaded with another payload", b->id.batch_no);
    f->broken = true; /* whoever cannot send the same bytes takes a new id */
}

static void load(struct world *w, struct flight *f)
{
    f->loading = true;
    f->loaded = 0;
    f->hash = 1;
    f->loader = (struct spool_loader){.ctx = f, .item = on_item, .done = on_loaded};
    spool_load(w->spool, w->model.batches[f->batch].id.batch_no, &f->loader);
}

static void send_batch(struct world *w, struct flight *f)
{
    f->sent = true;
    f->sending++;
    f->attempts++;
    w->model.batches[f->batch].sent = true;
    uint64_t a = f->batch | (uint64_t)f->sending << 32;
    if (!decide_rarely(&w->luck, w->knobs.one_in_request_lost))
        world_at(w, 1 + decide(&w->luck, w->knobs.latency_us), EV_ARRIVE, 0, a, f->hash, w->life);
    else
        world_at(w, GIVE_UP_US, EV_GIVE_UP_WAITING, w->life, a, 0, 0);
    if (w->knobs.aimed && !w->quiet && decide_rarely(&w->luck, 64))
        w->dying =
            DIE_BY_POWER; /* right after the send: whatever it relied on had better be on the platter */
}

static void fly(struct world *w, struct flight *f)
{
    if (f->doomed)
        return;
    if (f->verdict != V_NONE)
        client_settle(w, f);
    if (!f->used || !f->durable || f->sent || f->loading || f->settling || f->verdict != V_NONE)
        return;
    if (f->not_before_us > w->now_us) {
        client_wake(w, f->not_before_us - w->now_us);
        return;
    }
    if (f->broken && f->whole) {
        f->verdict = V_SOME_LATER;
        client_settle(w, f);
        return;
    }
    if (f->broken)
        f->have_payload = false;
    if (f->have_payload && decide_rarely(&w->luck, w->knobs.one_in_let_go))
        f->have_payload = false;
    if (f->have_payload)
        send_batch(w, f);
    else
        load(w, f);
}

void client_turn(struct world *w)
{
    if (!world_open(w))
        return;
    if (decide_rarely(&w->luck, w->knobs.one_in_rewind))
        rewind_all(w);
    if (decide_rarely(&w->luck, w->knobs.one_in_drop))
        drop_one(w);
    read_some(w);
    for (unsigned p = 0; p < w->knobs.partitions; p++) {
        struct filling *f = &w->filling[p];
        if (f->count > 0 && w->flight_count < w->knobs.concurrency + 2 &&
            (f->since_us + BATCH_WAIT_US <= w->now_us || f->count == FILLING_MAX))
            (void)assign(w, p);
        if (f->count > 0)
            client_wake(w, BATCH_WAIT_US);
    }
    unsigned seen = 0, due = w->flight_count;
    for (struct flight *f = w->flights; seen < due && f < w->flights + FLIGHTS_MAX; f++)
        if (f->used) {
            seen++;
            fly(w, f);
        }
    if (w->flight_count > 0)
        client_wake(w, 20000);
}

/* a: the batch and the number of the try; b: the verdict. */
void client_reply(struct world *w, const struct due *e)
{
    struct flight *f = flight_of(w, w->model.batches[(uint32_t)e->a].id.batch_no);
    if (f == NULL || f->doomed || f->batch != (uint32_t)e->a || !f->sent || f->sending != e->a >> 32)
        return; /* late: somebody else has decided meanwhile */
    f->sent = false;
    if (e->b == V_BUSY) {
        f->not_before_us = w->now_us + 1000 + decide(&w->luck, 50000);
        client_wake(w, 1000);
        return;
    }
    f->verdict = (uint8_t)e->b;
    client_settle(w, f);
    client_wake(w, 0);
}

void client_no_reply(struct world *w, const struct due *e)
{
    struct flight *f = flight_of(w, w->model.batches[(uint32_t)e->a].id.batch_no);
    if (f == NULL || f->doomed || f->batch != (uint32_t)e->a || !f->sent || f->sending != e->a >> 32)
        return;
    f->sent = false;
    client_wake(w, 0);
}

/* --- news ------------------------------------------------------------------------------------------- */

void client_opened(struct world *w)
{
    struct spool_open_batch found;
    uint64_t after = 0;
    while (spool_open_batch_next(w->spool, after, &found)) {
        after = found.id.batch_no;
        struct flight *f = client_flight(w, model_find(&w->model, &found.id));
        f->durable = true;
        f->broken = found.identity_broken;
    }
    client_wake(w, 0);
}

void client_lost(struct world *w, struct flight *f)
{
    uint64_t no = w->model.batches[f->batch].id.batch_no;
    world_met(w, MET_LOST_NOTE);
    if (!change_may_drop(w) && !w->model.loose)
        world_fail(w, "batch %" PRIu64 " was lost, but nothing was damaged or dropped", no);
    if (client_batch_open(w, no)) {
        f->broken = w->model.batches[f->batch].broken = true;
        f->sent = f->whole = false;
        return;
    }
    model_lost(w, f->batch);
    w->model.batches[f->batch].lost = true;
    if (f->loading)
        f->doomed = true; /* the loader is the spool's until it says so */
    else
        flight_end(w, f);
}

void client_note(struct world *w, const struct spool_note *note)
{
    if (note->kind == NOTE_READABLE)
        client_wake(w, decide(&w->luck, 200));
    if (note->kind != NOTE_BATCH && note->kind != NOTE_SETTLED && note->kind != NOTE_LOST)
        return;
    struct flight *f = flight_of(w, note->batch_no);
    if (f == NULL && note->kind == NOTE_LOST && !client_batch_open(w, note->batch_no))
        return; /* it ended in the same breath */
    if (f == NULL)
        world_fail(w, "note %d for batch %" PRIu64 ", which is not open", note->kind, note->batch_no);
    if (note->kind == NOTE_LOST) {
        client_lost(w, f);
        return;
    }
    if (note->kind == NOTE_BATCH) {
        model_durable(w, f->batch);
        f->durable = true;
    } else {
        model_settled(w, f->batch);
        flight_end(w, f);
    }
    client_wake(w, decide(&w->luck, 200));
}
