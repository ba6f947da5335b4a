/* script: see script.h. */
#include "tests/sim/script.h"

#include "tests/sim/client.h"

static void small(struct knobs *k)
{
    k->spool.segment_bytes = 1 << 16;
    k->spool.max_bytes = 1 << 20;
    k->batch_events = 4;
}

static void drop_oldest(struct knobs *k)
{
    small(k);
    k->spool.when_full = SPOOL_DROP_OLDEST;
    k->spool.max_bytes = 6 << 16;
}

static void drop_newest(struct knobs *k)
{
    drop_oldest(k);
    k->spool.when_full = SPOOL_DROP_NEWEST;
}

static void block(struct knobs *k)
{
    drop_oldest(k);
    k->spool.when_full = SPOOL_BLOCK;
}

static void too_large(struct knobs *k)
{
    small(k);
    k->too_many = 1;
}

static void all_bad(struct knobs *k)
{
    small(k);
    k->one_in_bad_event = 1;
}

static void some_later(struct knobs *k)
{
    small(k);
    k->one_in_partial_retry = 1;
}

static void lost_replies(struct knobs *k)
{
    small(k);
    k->one_in_reply_lost = 1;
}

static void interval(struct knobs *k)
{
    small(k);
    k->spool.durability = SPOOL_INTERVAL;
}

#define SCRIPT(title, set_knobs, ...) \
    { \
        title, set_knobs, (const struct script_op[]){__VA_ARGS__}, \
            (unsigned)(sizeof((const struct script_op[]){__VA_ARGS__}) / sizeof(struct script_op)) \
    }

#define BIG \
    {DO_APPEND_BIG, 14000}, \
    { \
        DO_ACKED, 0 \
    }

const struct script scripts[] = {
    SCRIPT("first_open", small, {DO_WAIT, 1000}),
    SCRIPT("append_ack", small, {DO_DOWN, 0}, {DO_APPEND, 1}, {DO_ACKED, 0}, {DO_APPEND, 3}, {DO_ACKED, 0}),
    SCRIPT("assign_send_done", small, {DO_APPEND, 4}, {DO_ACKED, 0}, {DO_DRAINED, 0}, {DO_WAIT, 300000}),
    SCRIPT("assign_lost_reply", lost_replies, {DO_APPEND, 4}, {DO_ACKED, 0}, {DO_WAIT, 30000}),
    SCRIPT("two_batches", small, {DO_APPEND, 8}, {DO_DRAINED, 0}, {DO_APPEND, 2}, {DO_DRAINED, 0}),
    SCRIPT("rotate", small, {DO_DOWN, 0}, BIG, BIG, BIG, BIG, BIG, BIG),
    SCRIPT("rotate_and_recycle", small, BIG, BIG, BIG, BIG, BIG, BIG, {DO_DRAINED, 0}, BIG, BIG, BIG, BIG,
           BIG, {DO_DRAINED, 0}, BIG),
    SCRIPT("split", too_large, {DO_APPEND, 4}, {DO_DRAINED, 0}),
    SCRIPT("dead_letters", all_bad, {DO_APPEND, 3}, {DO_DRAINED, 0}),
    SCRIPT("remainder", some_later, {DO_APPEND, 4}, {DO_DRAINED, 0}),
    SCRIPT("drop_oldest", drop_oldest, {DO_DOWN, 0}, BIG, BIG, BIG, BIG, BIG, BIG, BIG, BIG, BIG, BIG, BIG,
           BIG, BIG, BIG, BIG, BIG, BIG, BIG, BIG, BIG, BIG, BIG, {DO_WAIT, 10000}),
    SCRIPT("drop_newest", drop_newest, {DO_DOWN, 0}, BIG, BIG, BIG, BIG, BIG, BIG, BIG, BIG, BIG, BIG, BIG,
           BIG, BIG, BIG, BIG, BIG, BIG, BIG, BIG, BIG, BIG, BIG, {DO_WAIT, 10000}),
    SCRIPT("block_and_drain", block, {DO_DOWN, 0}, BIG, BIG, BIG, BIG, BIG, BIG, BIG, BIG, BIG, BIG, BIG, BIG,
           BIG, BIG, BIG, BIG, BIG, BIG, BIG, BIG, {DO_UP, 0}, {DO_DRAINED, 0}),
    SCRIPT("settle", small, {DO_DOWN, 0}, {DO_APPEND, 2}, {DO_WAIT, 100}, {DO_APPEND, 2}),
    SCRIPT("sync_failure", small, {DO_DOWN, 0}, {DO_APPEND, 2}, {DO_ACKED, 0}, {DO_WAIT, 50000},
           {DO_FAIL_SYNC, 1}, {DO_APPEND, 2}, {DO_ACKED, 0}, {DO_APPEND, 1}, {DO_ACKED, 0}),
    SCRIPT("sync_failure_twice", small, {DO_DOWN, 0}, {DO_APPEND, 2}, {DO_ACKED, 0}, {DO_WAIT, 50000},
           {DO_FAIL_SYNC, 2}, {DO_APPEND, 2}, {DO_WAIT, 500000}),
    SCRIPT("clean_stop", small, {DO_DOWN, 0}, {DO_APPEND, 3}, {DO_ACKED, 0}, {DO_STOP, 0}, {DO_APPEND, 1},
           {DO_ACKED, 0}),
    SCRIPT("disk_full", small, {DO_DOWN, 0}, {DO_APPEND, 3}, {DO_ACKED, 0}, {DO_FULL, 0}, BIG, BIG, BIG, BIG,
           BIG, BIG, {DO_WAIT, 100000}, {DO_ROOM, 0}, {DO_WAIT, 3000000}, BIG),
    SCRIPT("users_counters", small, {DO_SET_USER, 0}, {DO_APPEND, 1}, {DO_ACKED, 0}, {DO_SET_USER, 0},
           {DO_WAIT, 2000000}),
    SCRIPT("drop_and_rewind", small, {DO_DOWN, 0}, {DO_APPEND, 3}, {DO_ACKED, 0}, {DO_DROP, 0},
           {DO_REWIND, 0}, {DO_UP, 0}, {DO_DRAINED, 0}),
    SCRIPT("interval_mode", interval, {DO_APPEND, 3}, {DO_ACKED, 0}, {DO_DRAINED, 0}, {DO_APPEND, 2},
           {DO_WAIT, 2000000}),
};
const unsigned script_count = sizeof(scripts) / sizeof(*scripts);

void script_begin(struct world *w)
{
    if (w->script->knobs != NULL)
        w->script->knobs(&w->knobs);
    w->script_at = 0;
    w->script_over = false;
}

static bool all_acked(const struct world *w)
{
    return spool_acked(w->spool) == w->model.last_seq;
}

static bool nothing_pending(const struct world *w)
{
    struct spool_ledger l;
    spool_ledger(w->spool, &l);
    return l.pending == 0 && all_acked(w) && w->flight_count == 0;
}

static void append_some(struct world *w, const struct script_op *op)
{
    if (op->what == DO_APPEND) {
        (void)producer_append(w, op->n, 100);
        return;
    }
    w->body_extra = op->n;
    (void)producer_append(w, 1, 100);
    w->body_extra = 0;
}

/* True when the op is done. */
static bool carry_out(struct world *w, const struct script_op *op, uint64_t *ret_wait_us)
{
    switch (op->what) {
    case DO_APPEND:
    case DO_APPEND_BIG:
        append_some(w, op);
        return true;
    case DO_ACKED:
        return all_acked(w);
    case DO_DRAINED:
        return nothing_pending(w);
    case DO_WAIT:
        *ret_wait_us = op->n;
        return true;
    case DO_DOWN:
    case DO_UP:
        w->upstream_down = op->what == DO_DOWN;
        return true;
    case DO_FAIL_SYNC:
        w->fail_next_sync = (int)op->n;
        return true;
    case DO_FULL:
        disk_set_capacity(w->disk, disk_used(w->disk) + op->n);
        return true;
    case DO_ROOM:
        disk_set_capacity(w->disk, UINT64_C(1) << 40);
        return true;
    case DO_STOP:
        w->stopping = true;
        spool_close(w->spool);
        return true;
    case DO_SET_USER: {
        uint64_t blob[3] = {++w->user_counter, 0, 0};
        spool_set_user(w->spool, span_of(blob, sizeof(blob)));
        return true;
    }
    case DO_DROP:
    case DO_REWIND:
        client_whim(w, op->what == DO_DROP);
        return true;
    }
    return true;
}

void script_turn(struct world *w)
{
    uint64_t wait_us = 100;
    if (w->quiet || w->script_over)
        return;
    if (world_open(w) && w->script_at < w->script->count &&
        carry_out(w, &w->script->ops[w->script_at], &wait_us))
        w->script_at++;
    if (w->script_at == w->script->count || w->now_us > UINT64_C(120000000))
        w->script_over = true;
    world_at(w, wait_us, EV_PRODUCE, 0, 0, 0, 0);
}
