/* settle: outcomes to the spool. Step 12, the end of the line.
 *
 * One control record of the spool ends a batch: its members are delivered, dead, dropped, or members of the
 * batches that follow it, each exactly one of these. Following batches (the remainder of a per-event answer,
 * halves, singles) are built here from the old one's payload and take its place in the order, so that a split
 * keeps its partition's order. When the spool has no room for the dead letters, the batch ends all the same, so
 * that what was answered for is never sent again, and those who are to die wait in a batch of their own. */
#include "lib/output/core.h"

#include "lib/base/ensure.h"
#include "lib/output/dead.h"

static struct span reason_name(unsigned reason)
{
    return span_str(reason < DEAD_REASONS ? api_dead_names[reason] : "unknown");
}

void settle_decide(struct output *o, struct batch *b)
{
    ensure(b->outcome.kind == OUTCOME_DELIVERED || b->outcome.kind == OUTCOME_CUT);
    b->state = BATCH_DECIDED;
    o->decided = true;
}

/* --- building the spool's view -------------------------------------------------------------------------- */

struct plan {
    struct spool_outcome outcome;
    struct spool_run *runs; /* room for every member, twice: delivered from the front, dropped behind */
    struct spool_death *deaths;
    struct spool_assignment *next;
    struct spool_batch_id *ids;
    struct batch *children[VERDICT_PIECES_MAX + 1];
    unsigned child_count;
};

static void add_run(struct spool_run *runs, unsigned *count, uint64_t seq)
{
    if (*count > 0 && runs[*count - 1].first + runs[*count - 1].count == seq)
        runs[*count - 1].count++;
    else
        runs[(*count)++] = (struct spool_run){seq, 1};
}

/* Members are in the order of their seqs, and so are runs: the n-th member's seq, walking along. */
struct walk {
    const struct batch *b;
    unsigned run;
    uint64_t at;
};

static uint64_t walk_next(struct walk *w, unsigned member)
{
    if (w->b->member_count > 0)
        return w->b->members[member].seq; /* the runs may have lost some since */
    if (w->at == w->b->runs[w->run].count) {
        w->run++;
        w->at = 0;
    }
    return w->b->runs[w->run].first + w->at++;
}

/* park: deaths are left out; they are a following batch's. */
static void plan_members(struct batch *b, struct plan *p, unsigned count, bool park)
{
    struct outcome *out = &b->outcome;
    struct spool_run *dropped = p->runs + count;
    struct walk w = {.b = b};
    unsigned death = 0;
    for (unsigned i = 0; i < count; i++) {
        uint64_t seq = walk_next(&w, i);
        const struct outcome_death *d =
            death < out->death_count && out->deaths[death].member == i ? &out->deaths[death++] : NULL;
        if (b->broken && !batch_has_seq(b, seq)) {
            if (out->fates[i] == FATE_REMAINS)
                out->remain_count--;
            out->fates[i] = FATE_GONE;
        }
        switch ((enum fate)out->fates[i]) {
        case FATE_DELIVERED:
            add_run(p->runs, &p->outcome.delivered_count, seq);
            break;
        case FATE_DROPPED:
            add_run(dropped, &p->outcome.dropped_count, seq);
            break;
        case FATE_DEAD:
            ensure(d != NULL);
            if (park)
                break;
            p->deaths[p->outcome.dead_count++] =
                (struct spool_death){.seq = seq,
                                     .reason = d->reason,
                                     .status = d->status,
                                     .attempts = b->attempts,
                                     .answer = span_of(out->text.at + d->answer_at, d->answer_len)};
            break;
        case FATE_REMAINS:
        case FATE_GONE:
            break;
        }
    }
    p->outcome.delivered = p->runs;
    p->outcome.dropped = dropped;
    p->outcome.dead = p->deaths;
    p->outcome.drop_reason = out->drop_reason;
}

/* What remains, in `pieces` parts of equal count, in order. */
static void plan_children(struct output *o, struct batch *b, struct plan *p)
{
    struct outcome *out = &b->outcome;
    unsigned pieces = out->pieces < out->remain_count ? out->pieces : out->remain_count;
    if (pieces == 0)
        return;
    ensure(pieces <= VERDICT_PIECES_MAX);
    struct api_envelope envelope;
    struct batch_form form = output_form(o);
    if (b->form.mode != API_MODE_BATCH)
        form.mode = b->form.mode; /* a part of what left batch mode stays out of it */
    output_envelope(o, b->partition->name, form, &envelope);
    unsigned left = out->remain_count, at = 0;
    for (unsigned piece = 0; piece < pieces; piece++) {
        unsigned take = (left + pieces - piece - 1) / (pieces - piece), from = at;
        left -= take;
        for (; take > 0; at++)
            take -= out->fates[at] == FATE_REMAINS;
        struct batch *child = output_batch_take(o);
        batch_carve(child, b, &envelope, FATE_REMAINS, from, at);
        child->form = form;
        child->singles = child->count > 1 && (out->singles || form.mode != API_MODE_BATCH);
        child->codec = o->plain ? API_IDENTITY : child->codec;
        p->children[p->child_count] = child;
        p->next[p->child_count++] = batch_assignment(child);
    }
    p->outcome.next = p->next;
    p->outcome.next_count = p->child_count;
    p->outcome.ret_next_ids = p->ids;
}

/* Those who are to die, when there is no room for their letters, with what is to be written on these. */
static void plan_doomed(struct output *o, struct batch *b, struct plan *p)
{
    struct api_envelope envelope;
    struct batch *child = output_batch_take(o);
    child->form = b->form;
    output_envelope(o, b->partition->name, b->form, &envelope);
    batch_carve(child, b, &envelope, FATE_DEAD, 0, b->member_count);
    outcome_take_deaths(&child->outcome, &b->outcome);
    child->doomed = true;
    child->reply_status = b->reply_status;
    p->children[p->child_count] = child;
    p->next[p->child_count++] = batch_assignment(child);
    p->outcome.next = p->next;
    p->outcome.next_count = p->child_count;
    p->outcome.ret_next_ids = p->ids;
}

static void plan_build(struct output *o, struct batch *b, struct plan *p, bool park)
{
    *p = (struct plan){0};
    if (b->outcome.kind == OUTCOME_DELIVERED) {
        p->outcome.all_delivered = true;
        return;
    }
    unsigned count = b->member_count > 0 ? b->member_count : (unsigned)b->count;
    arena_reset(&o->arena);
    p->runs = arena_alloc(&o->arena, 2 * count * sizeof *p->runs);
    p->deaths = arena_alloc(&o->arena, (b->outcome.death_count + 1) * sizeof *p->deaths);
    p->next = arena_alloc(&o->arena, (VERDICT_PIECES_MAX + 1) * sizeof *p->next);
    p->ids = arena_alloc(&o->arena, (VERDICT_PIECES_MAX + 1) * sizeof *p->ids);
    ensure(p->runs != NULL && p->deaths != NULL && p->next != NULL && p->ids != NULL);
    plan_members(b, p, count, park);
    plan_children(o, b, p);
    if (park && batch_has_fate(b, FATE_DEAD))
        plan_doomed(o, b, p);
}

/* --- carrying it out ------------------------------------------------------------------------------------ */

static void tell_deaths(struct output *o, const struct batch *b, const struct plan *p)
{
    const struct outcome_death *death = b->outcome.deaths;
    for (unsigned i = 0; i < p->outcome.dead_count; i++, death++) {
        const struct spool_death *d = &p->outcome.dead[i];
        while (b->outcome.fates[death->member] != FATE_DEAD)
            death++; /* lost meanwhile */
        unsigned member = death->member;
        struct dead_line line = {.reason = (const char *)reason_name(d->reason).at,
                                 .status = d->status,
                                 .attempts = d->attempts,
                                 .seq = d->seq,
                                 .partition = b->partition->name,
                                 .answer = d->answer};
        if (member < b->member_count)
            line.id = batch_member_id(b, member);
        char text[sizeof((struct output_news *)0)->text];
        dead_line_format(&line, text, sizeof text);
        news_add(&o->news, NEWS_DEAD, "%s", text);
    }
}

/* The upstream takes other events, but not these, time and again. Order is kept as long as that can be
 * passing; then one event that it chokes on must not hold up its partition for ever. */
static void let_overtake(struct output *o, struct batch *child)
{
    if (child->remainders < OVERTAKEN_AFTER)
        return;
    child->overtaken = true;
    if (child->remainders == OVERTAKEN_AFTER)
        news_add(&o->news, NEWS_WARNING,
                 "%u events (seq %llu on) were refused as passing %u times while others were taken: they go "
                 "on being "
                 "retried, and later events of their partition go past them",
                 child->member_count, (unsigned long long)child->runs[0].first, child->remainders);
}

static void place_children(struct output *o, struct batch *b, const struct plan *p)
{
    for (unsigned i = 0; i < p->child_count; i++) {
        struct batch *child = p->children[i];
        batch_set_id(child, &p->ids[i]);
        child->state = child->doomed ? BATCH_DECIDED : BATCH_WAITING;
        child->ready_us = o->now_us;
        child->not_before_us = 0;
        child->tries = b->outcome.pieces == 1 ? b->tries : 0;
        child->split = b->split || b->outcome.pieces > 1;
        child->partition->batches++;
        if (b->outcome.later && !child->doomed) {
            child->remainders = b->remainders + 1;
            let_overtake(o, child);
            child->not_before_us = o->now_us + schedule_jitter_us(&o->schedule, b->tries - 1, &o->rng);
        }
        list_insert_before(&b->link, &child->link);
    }
}

static void discard_children(struct output *o, const struct plan *p)
{
    for (unsigned i = 0; i < p->child_count; i++) {
        p->children[i]->state = BATCH_OPEN; /* it never counted */
        p->children[i]->partition = NULL;
        output_batch_recycle(o, p->children[i]);
    }
}

static void leave(struct output *o, struct batch *b, unsigned dead_count)
{
    if (dead_count == 0) {
        output_batch_recycle(o, b);
        return;
    }
    /* The letters are being written: until then these events are pending. */
    b->state = BATCH_SETTLING;
    b->count = dead_count;
    batch_release(b);
    list_remove(&b->link);
    list_append(&o->settling, &b->link);
}

static enum err settle_as(struct output *o, struct batch *b, bool park)
{
    struct plan p;
    plan_build(o, b, &p, park);
    enum err err = spool_settle(o->spool, b->id.batch_no, &p.outcome);
    if (err == OK) {
        tell_deaths(o, b, &p);
        place_children(o, b, &p);
        leave(o, b, p.outcome.dead_count);
        output_save_stats(o);
        o->spool_retry_us = 0;
        o->progress_us = o->now_us;
        return OK;
    }
    discard_children(o, &p);
    if (err == ERR_NOT_FOUND) { /* a policy of the spool was faster: its note may still be on the way */
        answer_lost(o, b->id.batch_no);
        return OK;
    }
    return err;
}

/* False: no room now. A batch whose answer is known is not sent again, also if the process dies while there is none: it
 * ends, and those who are to die go into a batch that was never sent. */
static bool settle(struct output *o, struct batch *b)
{
    unsigned status = b->reply_status;
    bool deaths = b->outcome.kind == OUTCOME_CUT && batch_has_fate(b, FATE_DEAD);
    enum err err = settle_as(o, b, false);
    if (err == OK)
        return true;
    if (err == ERR_FULL && deaths) {
        if (!o->dead_full)
            output_error(o, status, "%s", sight_dead_full);
        o->dead_full = true;
        if (b->outcome.definite && !b->doomed)
            (void)settle_as(o, b, true); /* when even that finds no room, it comes again with the rest */
    }
    o->spool_retry_us = o->now_us + RETRY_SPOOL_US;
    return false;
}

bool settle_may_run(const struct output *o)
{
    return o->decided && (o->spool_retry_us == 0 || o->now_us >= o->spool_retry_us || o->room);
}

void settle_decided(struct output *o)
{
    if (!settle_may_run(o))
        return;
    o->decided = false;
    bool full = false;
    struct list *next;
    for (struct list *l = o->order.next; l != &o->order; l = next) {
        struct batch *b = CONTAINER_OF(l, struct batch, link);
        next = l->next;
        if (b->state != BATCH_DECIDED || (b->durable && settle(o, b)))
            continue;
        full = true;
        o->decided = true;
    }
    o->room = false;
    if (full || !o->dead_full)
        return;
    o->dead_full = false;
    answer_forgive(o);
}

void settle_done(struct output *o, uint64_t batch_no)
{
    for (struct list *l = o->settling.next; l != &o->settling; l = l->next) {
        struct batch *b = CONTAINER_OF(l, struct batch, link);
        if (b->id.batch_no == batch_no) {
            output_batch_recycle(o, b);
            return;
        }
    }
}
