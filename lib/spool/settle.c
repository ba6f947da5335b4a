/* settle: batches begin and end. Steps 8 and 12 of the straight line.
 *
 * Each call writes ops behind those that wait already and applies them to the accounts through the same code
 * that recovery uses. ASSIGN forces a commit (a batch may be sent only when its identity is durable), a plain
 * DONE does not: losing it costs one repetition under the same id. */
#include "lib/spool/internal.h"

#include "lib/spool/bugs.h"

#define BATCHES_MAX 4096

static uint64_t run_sum(const struct spool_run *runs, unsigned count)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < count; i++)
        sum += runs[i].count;
    return sum;
}

/* STATE must be able to hold what is open, twice, beside its segment's frames. */
static bool state_has_room(const struct spool *s)
{
    return s->accounts.batch_count < BATCHES_MAX &&
           s->accounts.batch_bytes + s->accounts.settled.len * 8 + 8192 < ctrl_max(s) &&
           s->ctrl.len < ctrl_max(s) / 2;
}

static enum err put_assign(struct spool *s, const struct spool_assignment *a, uint64_t no,
                           struct spool_batch_id *ret_id)
{
    enum err err = op_put_assign(&s->ctrl, s->accounts.epoch, no, 0, a);
    if (err != OK || ret_id == NULL)
        return err;
    memcpy(ret_id->uuid, s->uuid, sizeof s->uuid);
    ret_id->epoch = s->accounts.epoch;
    ret_id->batch_no = no;
    return OK;
}

static void set_tickets(struct spool *s, uint64_t from_no)
{
    for (struct batch *b = accounts_batch_after(&s->accounts, from_no - 1); b != NULL;
         b = accounts_batch_after(&s->accounts, b->no))
        if (b->ticket == 0 && !b->durable) {
            b->ticket = s->ticket;
            s->strict = s->strict || (s->config.strict_identity && !BUG(18));
        }
}

enum err spool_assign(struct spool *s, const struct spool_assignment *a, struct spool_batch_id *ret_id)
{
    if (!running(s) || s->closing)
        return ERR_CLOSED;
    if (!state_has_room(s))
        return ERR_FULL;
    for (unsigned i = 0; i < a->run_count; i++) {
        uint64_t first = a->runs[i].first, last = first + a->runs[i].count - 1;
        ensure(last <= s->acked_seq);
        /* The reader holds them, but a policy or damage may have ended some of them meanwhile. */
        if (first <= s->accounts.low_water || intervals_count(&s->accounts.taken, first, last) != 0)
            return ERR_NOT_FOUND;
    }
    size_t start = ctrl_start(s);
    enum err err = put_assign(s, a, s->accounts.next_batch_no, ret_id);
    if (err != OK)
        return err;
    ctrl_apply(s, start, true);
    set_tickets(s, ret_id->batch_no);
    if (BUG(4)) {
        accounts_batch(&s->accounts, ret_id->batch_no)->durable = true;
        spool_note(s, NOTE_BATCH, ret_id->batch_no);
    }
    spool_pump(s);
    return OK;
}

static void after_settling(struct spool *s)
{
    tail_forget(&s->tail, s->config.cache_bytes, s->accounts.low_water);
    if (s->read_wanted)
        s->note_readable = true; /* the window may have moved */
}

enum err spool_drop(struct spool *s, struct spool_run run, enum spool_drop reason)
{
    if (!running(s))
        return ERR_CLOSED;
    size_t start = ctrl_start(s);
    enum err err = op_put_drop(&s->ctrl, OP_DROP, reason, 0, &run, 1);
    if (err != OK)
        return err;
    ctrl_apply(s, start, true);
    after_settling(s);
    spool_pump(s);
    return OK;
}

void spool_rewind(struct spool *s)
{
    s->read_seq = s->accounts.low_water + 1;
    s->window.count = 0;
    if (s->read_wanted)
        s->note_readable = true;
}

bool spool_open_batch_next(const struct spool *s, uint64_t after_batch_no, struct spool_open_batch *ret)
{
    const struct batch *b = accounts_batch_after(&s->accounts, after_batch_no);
    if (b == NULL)
        return false;
    *ret =
        (struct spool_open_batch){.id = {.epoch = BUG(5) ? s->accounts.epoch : b->epoch, .batch_no = b->no},
                                  .count = b->count,
                                  .durable = b->durable,
                                  .recovered = b->recovered,
                                  .identity_broken = b->broken};
    memcpy(ret->id.uuid, s->uuid, sizeof s->uuid);
    ret->assignment = accounts_assignment(b);
    return true;
}

void settle_put_outcome(struct spool *s, const struct batch *b, const struct spool_outcome *o,
                        uint64_t first_next_no)
{
    enum err err = OK;
    if (o->dropped_count > 0)
        err = op_put_drop(&s->ctrl, OP_DROP, o->drop_reason, 0, o->dropped, o->dropped_count);
    ensure(err == OK); /* A batch's ASSIGN fitted, so do the lists of its members. */
    err = op_put_done(&s->ctrl, o->next_count > 0 ? OP_SPLIT : OP_DONE, b->epoch, b->no, o->all_delivered,
                      o->delivered, o->delivered_count);
    ensure(err == OK);
    for (unsigned i = 0; i < o->next_count; i++) {
        err = put_assign(s, &o->next[i], first_next_no + i, NULL);
        ensure(err == OK);
    }
}

/* Every member that is still unsettled must be named exactly once: the caller's books agree with ours. */
static void check_outcome(const struct spool *s, const struct batch *b, const struct spool_outcome *o)
{
    if (o->all_delivered)
        return;
    uint64_t named =
        run_sum(o->delivered, o->delivered_count) + o->dead_count + run_sum(o->dropped, o->dropped_count);
    for (unsigned i = 0; i < o->next_count; i++)
        named += run_sum(o->next[i].runs, o->next[i].run_count);
    ensure(named >= accounts_unsettled(&s->accounts, b));
    ensure(named <= b->count);
}

void settle_applied(struct spool *s, uint64_t first_next_no)
{
    set_tickets(s, first_next_no);
    after_settling(s);
}

static void name_next(struct spool *s, const struct spool_outcome *o)
{
    for (unsigned i = 0; i < o->next_count; i++) {
        memcpy(o->ret_next_ids[i].uuid, s->uuid, sizeof s->uuid);
        o->ret_next_ids[i].epoch = s->accounts.epoch;
        o->ret_next_ids[i].batch_no = s->accounts.next_batch_no + i;
    }
}

enum err spool_settle(struct spool *s, uint64_t batch_no, const struct spool_outcome *outcome)
{
    if (!running(s) || s->closing)
        return ERR_CLOSED;
    struct batch *b = accounts_batch(&s->accounts, batch_no);
    if (b == NULL)
        return ERR_NOT_FOUND;
    ensure(!b->settling);
    check_outcome(s, b, outcome);
    if ((outcome->next_count > 0 && !state_has_room(s)) || s->ctrl.len > ctrl_max(s))
        return ERR_FULL;
    if (outcome->dead_count > 0 && dead_full(s) && !s->config.dead_drop_newest)
        return ERR_FULL;
    uint64_t next_no = s->accounts.next_batch_no;
    name_next(s, outcome);
    if (outcome->dead_count > 0) {
        s->accounts.next_batch_no += outcome->next_count;
        deaths_settle(s, b, outcome, next_no);
    } else {
        size_t start = ctrl_start(s);
        settle_put_outcome(s, b, outcome, next_no);
        ctrl_apply(s, start, outcome->next_count > 0 || outcome->dropped_count > 0);
        settle_applied(s, next_no);
        spool_note(s, NOTE_SETTLED, batch_no);
    }
    spool_pump(s);
    return OK;
}
