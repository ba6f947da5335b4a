/* dispatch: which batch is sent next, and how its request looks. Steps 9 and 10; before it fill.c and
 * payload.c, after it answer.c.
 *
 * Order: a batch is sent only when all earlier batches of its partition are in flight or gone. So a batch
 * that waits for its retry, is split or is held back keeps its own partition in order and no other one
 * waiting. When the output is probed after a failure, the batch with the fewest attempts goes first: one that
 * fails for reasons of its own does not stand in the way of all others. */
#include "lib/output/core.h"

#include "lib/base/ensure.h"

/* More bytes on the wire than the service takes, though it was kept to them before it was compressed. What
 * was never sent may be cut. */
static bool too_long(struct output *o, struct batch *b)
{
    uint64_t max = o->config.api.limits.batch_sent_bytes;
    uint64_t len = b->use_encoded && !o->plain ? b->encoded.len : b->raw.len;
    bool maybe_sent = b->recovered || (b->unknown && b->send_no != 0); /* under this id */
    if (max == 0 || len <= max || b->member_count < 2 || maybe_sent || BUG(122))
        return false;
    REACHED(OUT_CUT_UNSENT);
    limit_learned_refused(&o->learned, b->raw.len, o->now_us);
    outcome_all_remain(&b->outcome, b->member_count, 2, false);
    settle_decide(o, b);
    return true;
}

/* Found unfit to be sent as it is, before it was: taken apart, or what expired is taken out. */
static bool unfit(struct output *o, struct batch *b)
{
    const struct api *api = o->config.api.api;
    struct span invalid = api->stillborn == NULL ? (struct span){0} : api->stillborn(b->partition->name);
    outcome_clear(&b->outcome);
    if (invalid.at != NULL) { /* taken in to become letters */
        outcome_all_dead(&b->outcome, b->member_count, DEAD_INVALID, 0, invalid);
        settle_decide(o, b);
        return true;
    }
    if (too_long(o, b))
        return true;
    bool apart = b->singles || (o->structured && b->form.mode == API_MODE_BATCH && !b->unknown);
    if (apart && b->member_count > 1) {
        outcome_all_remain(&b->outcome, b->member_count, VERDICT_PIECES_MAX, true);
        settle_decide(o, b);
        return true;
    }
    if (b->expires_ns == 0 || b->unknown || clock_wall_ns(&o->clock) <= b->expires_ns)
        return false;
    outcome_all_remain(&b->outcome, b->member_count, 1, false);
    for (unsigned i = 0; i < b->member_count; i++)
        if (b->members[i].expires_ns != 0 && b->members[i].expires_ns < clock_wall_ns(&o->clock))
            outcome_drop(&b->outcome, i, SPOOL_DROP_EXPIRED);
    settle_decide(o, b);
    return true;
}

static bool partition_may_send(const struct output *o, const struct partition *p)
{
    return !p->held || (!p->probing && !o->secrets_out && o->now_us >= p->next_us);
}

/* One id must not be in two requests at the same time where the upstream tells events apart by it. */
static bool clashes(const struct output *o, const struct batch *b)
{
    if (!o->config.api.api->unique_ids || o->in_flight == 0 || BUG(103))
        return false;
    for (struct list *l = o->order.next; l != &o->order; l = l->next) {
        const struct batch *other = CONTAINER_OF(l, struct batch, link);
        if (other->state == BATCH_FLIGHT && batch_shares_id(b, other))
            return true;
    }
    return false;
}

/* A possible repeat is counted, and the count on disk, before it is sent: whatever becomes of the process, no
 * repeat is upstream that nobody counted. */
static bool counted(struct output *o, struct batch *b)
{
    if (!b->unknown)
        return true;
    if (b->counted_no == 0) {
        o->stats.repeated += BUG(104) ? 0 : b->count;
        output_save_stats(o);
        b->counted_no = spool_save_user(o->spool);
    }
    return o->failed || spool_saved(o->spool, b->counted_no);
}

static bool sendable(struct output *o, struct batch *b)
{
    if (b->state != BATCH_WAITING || (!b->durable && !BUG(101)) || b->payload != PAYLOAD_READY ||
        o->now_us < b->not_before_us)
        return false;
    return partition_may_send(o, b->partition) && !unfit(o, b) && !clashes(o, b) && counted(o, b);
}

static struct batch *pick(struct output *o)
{
    struct batch *best = NULL;
    o->scan++;
    for (struct list *l = o->order.next; l != &o->order; l = l->next) {
        struct batch *b = CONTAINER_OF(l, struct batch, link);
        if (b->state == BATCH_FLIGHT || (b->partition->scan == o->scan && !BUG(102)))
            continue;
        if (!b->overtaken)
            b->partition->scan = o->scan;
        if (!sendable(o, b))
            continue;
        if (o->schedule.phase == SCHEDULE_OK)
            return b;
        if (best == NULL || b->tries < best->tries)
            best = b;
    }
    return best;
}

static void start(struct output *o, struct batch *b)
{
    b->state = BATCH_FLIGHT;
    b->sent_us = o->now_us;
    if (o->plain)
        b->use_encoded = false; /* learnt after it was encoded */
    bool normal = o->schedule.phase == SCHEDULE_OK && o->schedule.ramp == 0;
    if (b->partition->held || schedule_is_hold_probe(&o->schedule))
        o->secrets_read = false; /* again before the next one */
    b->send_no = schedule_sent(&o->schedule);
    if (b->partition->held)
        b->partition->probing = true;
    if (!BUG(105))
        limit_rate_take(&o->rate, o->now_us);
    limit_pace_sent(&o->pace, o->now_us, normal);
    o->stats.requests++;
    if (b->tries > 0 || b->recovered)
        o->stats.retries++;
    b->attempts++;
    b->tries++;
    o->in_flight++;
    o->progress_us = o->now_us;
}

/* Before each probe of what is held: the credential may be what it is refused for, and have changed since. */
static bool wish_secrets(struct output *o, struct output_wish *ret)
{
    if (o->secrets_read)
        return false;
    o->secrets_read = o->secrets_out = true;
    ret->kind = WISH_SECRETS;
    return true;
}

static bool probe_without_batch(struct output *o)
{
    struct api_send send;
    arena_reset(&o->arena);
    return o->transport->probe(&o->config.api, &o->arena, &send);
}

static bool anything_waiting(const struct output *o)
{
    for (struct list *l = o->order.next; l != &o->order; l = l->next)
        if (CONTAINER_OF(l, struct batch, link)->state == BATCH_WAITING)
            return true;
    return false;
}

static bool needs_consent(struct output *o)
{
    struct api_send send;
    arena_reset(&o->arena);
    o->consent = o->consent || !o->transport->handshake(&o->config.api, &o->arena, &send);
    return !o->consent;
}

static void send_probe(struct output *o, bool asking, struct output_wish *ret)
{
    o->probe_out = true;
    o->asking = asking;
    o->probe_no = schedule_sent(&o->schedule);
    limit_rate_take(&o->rate, o->now_us);
    o->secrets_read = false;
    o->progress_us = o->now_us;
    ret->kind = WISH_PROBE;
}

bool dispatch_send(struct output *o, struct output_wish *ret)
{
    if (fill_slots(o) == 0)
        return false;
    if (schedule_is_hold_probe(&o->schedule) && anything_waiting(o)) {
        if (o->secrets_out)
            return false;
        if (wish_secrets(o, ret))
            return true;
        if (!needs_consent(o) && probe_without_batch(o)) {
            send_probe(o, false, ret);
            return true;
        }
    }
    if (!o->consent && needs_consent(o) && !BUG(118)) {
        if (o->probe_out || !anything_waiting(o))
            return false;
        send_probe(o, true, ret);
        return true;
    }
    struct batch *b = pick(o);
    if (settle_may_run(o))
        o->more = true; /* some were found unfit */
    if (b == NULL)
        return false;
    if (b->partition->held && wish_secrets(o, ret))
        return true;
    start(o, b);
    *ret = (struct output_wish){.kind = WISH_SEND, .batch = b};
    return true;
}

bool dispatch_cancel(struct output *o, struct output_wish *ret)
{
    for (struct list *l = o->order.next; l != &o->order; l = l->next) {
        struct batch *b = CONTAINER_OF(l, struct batch, link);
        if (!b->cancel || b->cancel_asked)
            continue;
        b->cancel_asked = true;
        *ret = (struct output_wish){.kind = WISH_CANCEL, .batch = b};
        return true;
    }
    return false;
}

void dispatch_describe(const struct output *o, const struct batch *b, struct arena *arena,
                       struct api_batch *ret)
{
    struct api_member *members = arena_alloc(arena, b->member_count * sizeof *members);
    ensure(members != NULL);
    for (unsigned i = 0; i < b->member_count; i++) {
        const struct batch_member *m = &b->members[i];
        members[i] = (struct api_member){.id = batch_member_id(b, i),
                                         .body = span_of(b->raw.at + m->body_at, m->body_len)};
    }
    *ret = (struct api_batch){
        .partition = b->partition->name,
        .members = members,
        .count = b->member_count,
        .payload_id = span_str(b->payload_id),
        .codec = b->use_encoded ? b->codec : API_IDENTITY,
        .sent_len = b->use_encoded ? b->encoded.len : b->raw.len,
        .attempts = b->attempts,
        .probe = schedule_is_hold_probe(&o->schedule) || b->partition->held,
        .split = b->split && b->tries <= 1,
    };
}

struct api_settings dispatch_settings(const struct output *o, const struct batch *b)
{
    struct api_settings s = o->config.api;
    s.mode = b->form.mode;
    s.ndjson = b->form.ndjson;
    return s;
}

void output_request(struct output *o, struct batch *b, struct arena *arena, struct output_request *ret)
{
    ensure(b->state == BATCH_FLIGHT);
    struct api_batch described;
    struct api_settings settings = dispatch_settings(o, b);
    *ret = (struct output_request){.payload_id = b->payload_id};
    dispatch_describe(o, b, arena, &described);
    enum err err = o->transport->request(&settings, &described, arena, &ret->send);
    ensure(err == OK); /* the shell's arena holds a request's head; events were judged at the door */
    ret->codec = described.codec;
    ret->body[0] = b->use_encoded ? bytes_span(&b->encoded) : bytes_span(&b->raw);
    if (ret->send.own_body) {
        ret->codec = API_IDENTITY;
        ret->body[0] = ret->send.body;
    }
    ret->body_count = 1;
    ret->body_len = ret->body[0].len;
    o->stats.bytes_out += ret->body_len;
    output_save_stats(o);
}

bool output_probe_request(struct output *o, struct arena *arena, struct output_request *ret)
{
    *ret = (struct output_request){0};
    if (o->asking)
        return o->transport->handshake(&o->config.api, arena, &ret->send);
    return o->transport->probe(&o->config.api, arena, &ret->send);
}

uint64_t dispatch_wake_us(const struct output *o)
{
    uint64_t at = 0, best = 0;
    bool waiting = o->open_count > 0;
    for (struct list *l = o->order.next; l != &o->order; l = l->next) {
        const struct batch *b = CONTAINER_OF(l, struct batch, link);
        if (b->state == BATCH_DECIDED)
            at = o->spool_retry_us;
        else if (b->state == BATCH_WAITING && b->partition->held)
            at = b->partition->next_us;
        else if (b->state == BATCH_WAITING)
            at = b->not_before_us;
        else
            at = 0;
        waiting = waiting || b->state == BATCH_WAITING || b->state == BATCH_CLOSED;
        if (at > o->now_us && (best == 0 || at < best))
            best = at;
    }
    for (struct list *l = o->partitions.all.next; o->held_partitions > 0 && l != &o->partitions.all;
         l = l->next) {
        const struct partition *p = CONTAINER_OF(l, struct partition, all);
        if (p->held && p->next_us > o->now_us && (best == 0 || p->next_us < best))
            best = p->next_us;
    }
    if (!waiting)
        return best;
    const uint64_t more[] = {schedule_wake_us(&o->schedule, o->now_us), limit_rate_at_us(&o->rate),
                             o->pace.on ? limit_rate_at_us(&o->pace.rate) : 0};
    for (unsigned i = 0; i < 3; i++)
        if (more[i] > o->now_us && (best == 0 || more[i] < best))
            best = more[i];
    return best;
}
