/* dispatch: payloads made ready, requests started, answers heard. Steps 9 to 11; before it fill.c, after it settle.c.
 *
 * Order: a batch is sent only when all earlier batches of its partition are in flight or gone. So a batch that
 * waits for its retry, is split or is held back keeps its own partition in order and no other one waiting.
 * When the output is probed after a failure, the batch with the fewest attempts goes first: one that fails for
 * reasons of its own does not stand in the way of all others. */
#include "lib/output/core.h"

#include "lib/base/ensure.h"
#include "lib/codec/compress.h"

#include <stdio.h>

/* --- payloads ------------------------------------------------------------------------------------------------ */

static void on_item(void *ctx, const struct spool_item *item)
{
    struct batch *b = ctx;
    struct record_id id;
    if (record_id_get(item->id, &id) != OK)
        id.id = item->id;
    if (batch_add(b, item->seq, id.id, item->body, fill_expiry(b->partition, &id, item->wall_ns)) != OK)
        b->load_err = ERR_TOO_BIG;
    if (b->oldest_wall_ns == 0 || item->wall_ns < b->oldest_wall_ns)
        b->oldest_wall_ns = item->wall_ns;
}

static void on_loaded(void *ctx, enum err err)
{
    struct batch *b = ctx;
    if (err != OK)
        b->load_err = err;
    b->load_done = true;
}

static void start_load(struct output *o, struct batch *b)
{
    struct api_envelope envelope;
    output_envelope(o, b->partition->name, &envelope);
    batch_load_begin(b, &envelope);
    b->loader = (struct spool_loader){.ctx = b, .item = on_item, .done = on_loaded};
    o->loading++;
    spool_load(o->spool, b->id.batch_no, &b->loader);
}

/* The identity cannot be kept (members lost, or an envelope of another configuration): the events go again in a new
 * batch. They may have been sent under the old id, so they count as repeats once they are sent. */
static void retire_identity(struct output *o, struct batch *b, const char *why)
{
    news_add(&o->news, NEWS_WARNING, "batch %llu cannot be rebuilt as it was sent (%s): its %u events go in a new batch",
             (unsigned long long)b->id.batch_no, why, b->member_count);
    outcome_clear(&b->outcome);
    outcome_all_remain(&b->outcome, b->member_count, 1, false);
    b->broken = false;
    settle_decide(o, b);
}

static void finish_load(struct output *o, struct batch *b)
{
    ensure(o->loading > 0);
    o->loading--;
    b->load_done = false;
    b->payload = PAYLOAD_RAW;
    if (b->state == BATCH_LOST) {
        output_batch_recycle(o, b);
        return;
    }
    struct spool_open_batch open;
    if (!output_spool_batch(o, b->id.batch_no, &open)) {
        batch_release(b); /* its NOTE_LOST follows or was seen */
        dispatch_lost(o, b->id.batch_no);
        return;
    }
    bool same = batch_loaded(b);
    if (b->load_err != OK || b->member_count == 0) {
        batch_release(b);
        b->not_before_us = o->now_us + RETRY_SPOOL_US; /* ERR_CORRUPT: the spool took the lost members out; again */
        return;
    }
    if (b->broken || open.identity_broken) {
        batch_set_runs(b, open.assignment.runs, open.assignment.run_count);
        retire_identity(o, b, "some of its events were damaged on disk");
    } else if (!same) {
        retire_identity(o, b, "the envelope changed");
    }
}

/* Which batches need their payload soon: the first ones that may be sent. */
static bool wants_payload(const struct output *o, const struct batch *b)
{
    if (b->state != BATCH_WAITING || b->payload != PAYLOAD_NONE || o->now_us < b->not_before_us)
        return false;
    return !b->partition->held || o->now_us >= b->partition->next_us;
}

void dispatch_loads(struct output *o)
{
    struct list *next;
    for (struct list *l = o->lost.next; o->loading > 0 && l != &o->lost; l = next) {
        struct batch *b = CONTAINER_OF(l, struct batch, link);
        next = l->next;
        if (b->payload == PAYLOAD_LOADING && b->load_done)
            finish_load(o, b);
    }
    unsigned wanted = output_concurrency(o) + AHEAD;
    bool tight = o->memory >= o->config.payload_budget_bytes;
    o->scan++;
    for (struct list *l = o->order.next; l != &o->order; l = next) {
        struct batch *b = CONTAINER_OF(l, struct batch, link);
        next = l->next;
        if (b->payload == PAYLOAD_LOADING && b->load_done) {
            finish_load(o, b);
            continue;
        }
        bool first = b->partition->scan != o->scan;
        b->partition->scan = o->scan;
        if (tight && b->partition->held && b->state == BATCH_WAITING && (!first || o->now_us < b->partition->next_us) &&
            (b->payload == PAYLOAD_RAW || b->payload == PAYLOAD_READY)) {
            o->memory -= batch_memory(b);
            batch_release(b);
        }
        if (b->partition->held && !first)
            continue;
        if (wanted > 0 && b->state == BATCH_WAITING) {
            wanted--;
            if (wants_payload(o, b) && o->loading < LOADS_MAX && (!tight || (o->in_flight == 0 && o->loading == 0)))
                start_load(o, b);
        }
    }
}

bool dispatch_encode(struct output *o, struct output_wish *ret)
{
    for (struct list *l = o->order.next; l != &o->order; l = l->next) {
        struct batch *b = CONTAINER_OF(l, struct batch, link);
        if (b->state != BATCH_WAITING || b->payload != PAYLOAD_RAW)
            continue;
        if (b->codec == API_IDENTITY || o->plain || b->raw.len < BATCH_PLAIN_BELOW) {
            b->use_encoded = false;
            b->payload = PAYLOAD_READY;
            continue;
        }
        if (o->encoding >= o->config.concurrency || o->encoding >= ENCODERS_MAX)
            return false;
        b->payload = PAYLOAD_ENCODING;
        b->encoder = o->encoder_count > 0 ? o->encoders[--o->encoder_count] : encoder_new();
        o->encoding++;
        *ret = (struct output_wish){.kind = WISH_ENCODE, .batch = b};
        return true;
    }
    return false;
}

/* What is too large even compressed was never sent: it may be cut. */
static void check_encoded(struct output *o, struct batch *b)
{
    uint64_t max = o->config.api.limits.batch_sent_bytes;
    uint64_t len = b->use_encoded ? b->encoded.len : b->raw.len;
    if (max == 0 || len <= max || b->member_count < 2 || b->unknown)
        return;
    limit_learned_refused(&o->learned, b->raw.len, o->now_us);
    outcome_clear(&b->outcome);
    outcome_all_remain(&b->outcome, b->member_count, 2, false);
    settle_decide(o, b);
}

void output_encoded(struct output *o, struct batch *b)
{
    o->now_us = clock_mono_us(&o->clock);
    ensure(b->payload == PAYLOAD_ENCODING && o->encoding > 0);
    o->encoding--;
    ensure(o->encoder_count < ENCODERS_MAX);
    o->encoders[o->encoder_count++] = b->encoder;
    b->encoder = NULL;
    b->payload = PAYLOAD_READY;
    b->use_encoded = b->encode_err == OK && b->encoded.len < b->raw.len;
    if (!b->use_encoded)
        bytes_deinit(&b->encoded);
    if (b->state == BATCH_LOST)
        output_batch_recycle(o, b);
    else if (b->state == BATCH_WAITING)
        check_encoded(o, b);
}

/* --- sending ---------------------------------------------------------------------------------------------------- */

/* Found unfit to be sent as it is, before it was: taken apart, or what expired is taken out. */
static bool unfit(struct output *o, struct batch *b)
{
    outcome_clear(&b->outcome);
    bool apart = b->singles || (o->structured && !b->structured && !b->unknown);
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
    return !p->held || (!p->probing && o->now_us >= p->next_us);
}

/* One id must not be in two requests at the same time where the upstream tells events apart by it. */
static bool clashes(const struct output *o, const struct batch *b)
{
    if (!o->config.api.api->unique_ids || o->in_flight == 0)
        return false;
    for (struct list *l = o->order.next; l != &o->order; l = l->next) {
        const struct batch *other = CONTAINER_OF(l, struct batch, link);
        if (other->state == BATCH_FLIGHT && batch_shares_id(b, other))
            return true;
    }
    return false;
}

static bool sendable(struct output *o, struct batch *b)
{
    if (b->state != BATCH_WAITING || !b->durable || b->payload != PAYLOAD_READY || o->now_us < b->not_before_us)
        return false;
    return partition_may_send(o, b->partition) && !unfit(o, b) && !clashes(o, b);
}

static struct batch *pick(struct output *o)
{
    struct batch *best = NULL;
    o->scan++;
    for (struct list *l = o->order.next; l != &o->order; l = l->next) {
        struct batch *b = CONTAINER_OF(l, struct batch, link);
        if (b->state == BATCH_FLIGHT || b->partition->scan == o->scan)
            continue;
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
    b->send_no = schedule_sent(&o->schedule);
    if (b->partition->held)
        b->partition->probing = true;
    limit_rate_take(&o->rate, o->now_us);
    limit_pace_sent(&o->pace, o->now_us, normal);
    o->stats.requests++;
    if (b->attempts > 0 || b->recovered)
        o->stats.retries++;
    if (b->unknown) {
        o->stats.repeated += b->count;
        output_save_stats(o);
    }
    b->attempts++;
    b->tries++;
    o->in_flight++;
    o->progress_us = o->now_us;
    o->secrets_read = false;
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

bool dispatch_send(struct output *o, struct output_wish *ret)
{
    if (fill_slots(o) == 0)
        return false;
    if (schedule_is_hold_probe(&o->schedule) && anything_waiting(o)) {
        if (!o->secrets_read) {
            o->secrets_read = true;
            ret->kind = WISH_SECRETS;
            return true;
        }
        if (probe_without_batch(o)) {
            o->probe_out = true;
            o->probe_no = schedule_sent(&o->schedule);
            limit_rate_take(&o->rate, o->now_us);
            o->secrets_read = false;
            o->progress_us = o->now_us;
            ret->kind = WISH_PROBE;
            return true;
        }
    }
    struct batch *b = pick(o);
    if (settle_may_run(o))
        o->more = true; /* some were found unfit */
    if (b == NULL)
        return false;
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

static void describe(const struct output *o, struct batch *b, struct arena *arena, struct api_batch *ret)
{
    struct api_member *members = arena_alloc(arena, b->member_count * sizeof *members);
    ensure(members != NULL);
    for (unsigned i = 0; i < b->member_count; i++) {
        const struct batch_member *m = &b->members[i];
        members[i] = (struct api_member){.id = span_of(b->ids.at + m->id_at, m->id_len),
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
    };
}

/* The settings as they are for this batch: one that was cut for structured mode is sent in it. */
static struct api_settings settings_for(const struct output *o, const struct batch *b)
{
    struct api_settings s = o->config.api;
    if (b->structured && s.mode == API_MODE_BATCH)
        s.mode = API_MODE_STRUCTURED;
    return s;
}

void output_request(struct output *o, struct batch *b, struct arena *arena, struct output_request *ret)
{
    ensure(b->state == BATCH_FLIGHT);
    struct api_batch described;
    struct api_settings settings = settings_for(o, b);
    *ret = (struct output_request){.payload_id = b->payload_id};
    describe(o, b, arena, &described);
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
}

bool output_probe_request(struct output *o, struct arena *arena, struct output_request *ret)
{
    *ret = (struct output_request){0};
    return o->transport->probe(&o->config.api, arena, &ret->send);
}

/* --- answers ------------------------------------------------------------------------------------------------------ */

static void hold_partition(struct output *o, struct partition *p, const struct api_verdict *v)
{
    uint64_t first = o->config.retry_initial_us > US_PER_S ? o->config.retry_initial_us : US_PER_S;
    uint64_t max = o->config.retry_max_us > first ? o->config.retry_max_us : first, delay = first;
    for (unsigned i = 0; i < p->holds && delay < max; i++)
        delay *= 2;
    if (!p->held) {
        p->held_wall_ns = clock_wall_ns(&o->clock);
        news_add(&o->news, NEWS_STATE, "partition \"%.*s\" is held: %.*s", (int)p->name.len,
                 (const char *)p->name.at, SPAN_FMT(v->text));
    }
    o->held_partitions += !p->held;
    p->held = true;
    p->holds++;
    p->next_us = o->now_us + (delay < max ? delay : max);
    (void)snprintf(p->text, sizeof p->text, "%.*s", SPAN_FMT(v->text));
}

static void end_hold(struct output *o, struct partition *p)
{
    ensure(o->held_partitions > 0);
    o->held_partitions--;
    p->held = p->probing = false;
    if (p->skipped > 0)
        o->rewind = true;
}

/* A held partition is probed with its first batch. When it has none any more (a policy of the spool took it), its
 * records must be read again for there to be one; how often it was held is not forgotten. */
void dispatch_held(struct output *o)
{
    if (o->held_partitions == 0)
        return;
    struct list *next;
    for (struct list *l = o->partitions.all.next; l != &o->partitions.all; l = next) {
        struct partition *p = CONTAINER_OF(l, struct partition, all);
        next = l->next;
        if (!p->held || p->batches > 0 || o->now_us < p->next_us)
            continue;
        end_hold(o, p);
        partition_let_go(&o->partitions, p);
    }
}

static void unhold_partition(struct output *o, struct partition *p)
{
    end_hold(o, p);
    p->holds = 0;
    news_add(&o->news, NEWS_STATE, "partition \"%.*s\" is taken again", (int)p->name.len, (const char *)p->name.at);
}

static void begin_hold(struct output *o)
{
    for (struct list *l = o->order.next; l != &o->order; l = l->next)
        CONTAINER_OF(l, struct batch, link)->failed_us = 0; /* time on hold is not counted against events */
}

static void came_back(struct output *o, uint64_t send_no)
{
    uint64_t failing_us = o->schedule.failing_us;
    bool was_ok = o->schedule.phase == SCHEDULE_OK;
    schedule_succeeded(&o->schedule, send_no);
    o->success_wall_ns = clock_wall_ns(&o->clock);
    struct spool_ledger ledger;
    if (!was_ok && o->schedule.phase == SCHEDULE_OK) {
        spool_ledger(o->spool, &ledger);
        limit_pace_begin(&o->pace, failing_us, o->now_us, ledger.pending);
    } else if (o->pace.on && o->now_us >= o->pace.check_us) {
        spool_ledger(o->spool, &ledger);
        limit_pace_check(&o->pace, o->now_us, ledger.pending, ledger.pending < 2 * o->config.batch_events_max);
    }
}

static void apply_effect(struct output *o, struct batch *b, const struct api_verdict *v)
{
    struct partition *p = b->partition;
    p->probing = false;
    switch (b->outcome.effect) {
    case EFFECT_NONE:
        schedule_forgotten(&o->schedule, b->send_no);
        break;
    case EFFECT_SUCCESS:
        came_back(o, b->send_no);
        if (p->held)
            unhold_partition(o, p);
        break;
    case EFFECT_BACKOFF:
        schedule_failed(&o->schedule, b->send_no, o->now_us, v->retry_after_us, v->quota, &o->rng);
        limit_adapt_pushed_back(&o->adapt, b->send_no, o->schedule.sends);
        break;
    case EFFECT_HOLD:
    case EFFECT_STOP:
        schedule_held(&o->schedule, b->send_no, o->now_us, v->retry_after_us, b->outcome.effect == EFFECT_STOP, &o->rng);
        begin_hold(o);
        break;
    case EFFECT_HOLD_PARTITION:
        came_back(o, b->send_no);
        hold_partition(o, p, v);
        break;
    }
    if (b->outcome.effect != EFFECT_BACKOFF && v->retry_after_us > 0)
        schedule_floor(&o->schedule, o->now_us, v->retry_after_us);
}

/* What the batch itself takes away from it. */
static void apply_outcome(struct output *o, struct batch *b)
{
    struct outcome *out = &b->outcome;
    b->unknown = b->unknown || out->unknown;
    b->unknown_sends += out->counted;
    if (out->plain)
        o->plain = true;
    if (out->structured)
        o->structured = true;
    if (out->too_large && b->member_count > 1)
        limit_learned_refused(&o->learned, b->raw_len, o->now_us);
    if (out->kind != OUTCOME_AGAIN) {
        settle_decide(o, b);
        return;
    }
    b->state = BATCH_WAITING;
    if (b->broken && b->payload == PAYLOAD_READY)
        batch_release(b); /* read again, then retired */
    if (out->plain) {
        b->use_encoded = false;
        b->not_before_us = o->now_us;
        return;
    }
    if (out->structured)
        b->structured = true;
    if (o->schedule.phase != SCHEDULE_HELD && o->schedule.phase != SCHEDULE_STOPPED && b->failed_us == 0)
        b->failed_us = o->now_us;
    if (out->effect == EFFECT_NONE)
        b->not_before_us = o->now_us + schedule_jitter_us(&o->schedule, b->tries - 1, &o->rng);
}

static void conclude(struct output *o, struct batch *b, const struct api_verdict *v, unsigned status)
{
    ensure(b->state == BATCH_FLIGHT && o->in_flight > 0);
    struct verdict_case c = {
        .count = b->member_count,
        .status = status,
        .unknown_sends = b->unknown_sends,
        .sent_plain = !b->use_encoded,
        .batch_mode = o->config.api.mode == API_MODE_BATCH && !b->structured,
        .give_up = output_gives_up(o, b),
    };
    o->in_flight--;
    o->progress_us = o->now_us;
    b->reply_status = status;
    verdict_apply(v, &c, &b->outcome);
    stats_result(&o->stats, v->result);
    if (b->outcome.kind != OUTCOME_DELIVERED && v->text.len > 0)
        output_error(o, status, "%.*s", SPAN_FMT(v->text));
    if (v->noted > 0)
        news_add(&o->news, NEWS_SKIPPED, "the upstream skipped %u of %u events (seq %llu to %llu): %.*s", v->noted,
                 b->member_count, (unsigned long long)b->runs[0].first,
                 (unsigned long long)(b->runs[b->run_count - 1].first + b->runs[b->run_count - 1].count - 1),
                 SPAN_FMT(v->text));
    apply_effect(o, b, v);
    apply_outcome(o, b);
}

void output_replied(struct output *o, struct batch *b, const struct api_reply *reply)
{
    o->now_us = clock_mono_us(&o->clock);
    uint64_t rtt_us = o->now_us - b->sent_us;
    stats_observe(&o->stats.request_seconds, rtt_us);
    limit_adapt_answered(&o->adapt, rtt_us, o->in_flight >= output_concurrency(o), b->send_no, o->schedule.sends);
    struct api_batch described;
    struct api_verdict verdict;
    struct api_settings settings = settings_for(o, b);
    arena_reset(&o->arena);
    describe(o, b, &o->arena, &described);
    o->transport->judge(&settings, &described, reply, &o->arena, &verdict);
    conclude(o, b, &verdict, reply->status);
}

void output_broke(struct output *o, struct batch *b, enum output_break what, const char *text)
{
    o->now_us = clock_mono_us(&o->clock);
    struct api_verdict verdict;
    o->transport->broke(what, text, &verdict);
    bool at_once = what == BREAK_REUSED && !b->once_more && !b->cancel && schedule_take_retry(&o->schedule);
    if (at_once)
        verdict.backoff = false;
    conclude(o, b, &verdict, 0);
    if (b->state == BATCH_WAITING && (at_once || what == BREAK_CANCELLED))
        b->not_before_us = o->now_us;
    b->once_more = b->once_more || at_once;
    if (b->cancel && b->state == BATCH_WAITING)
        output_batch_recycle(o, b); /* the spool has closed it: there is nothing left to send */
}

void output_probed(struct output *o, const struct api_reply *reply, enum output_break what, const char *text)
{
    o->now_us = clock_mono_us(&o->clock);
    struct api_verdict v;
    arena_reset(&o->arena);
    if (reply != NULL)
        o->transport->judge_probe(reply, &o->arena, &v);
    else
        o->transport->broke(what, text, &v);
    o->probe_out = false;
    o->progress_us = o->now_us;
    if (v.action == ACT_DELIVERED || v.action == ACT_SPLIT) {
        schedule_probe_welcome(&o->schedule, o->probe_no, o->now_us);
        return;
    }
    if (v.text.len > 0)
        output_error(o, reply != NULL ? reply->status : 0, "%.*s", SPAN_FMT(v.text));
    schedule_held(&o->schedule, o->probe_no, o->now_us, 0, false, &o->rng);
}

/* --- what else ends a batch ----------------------------------------------------------------------------------------- */

void dispatch_give_up(struct output *o)
{
    if (o->config.give_up_after_us == 0 || o->schedule.phase != SCHEDULE_RETRYING || o->dead_full)
        return;
    for (struct list *l = o->order.next; l != &o->order; l = l->next) {
        struct batch *b = CONTAINER_OF(l, struct batch, link);
        if (b->state != BATCH_WAITING || !b->durable || b->payload == PAYLOAD_ENCODING ||
            b->payload == PAYLOAD_LOADING || b->partition->held || !output_gives_up(o, b))
            continue;
        outcome_clear(&b->outcome);
        outcome_all_dead(&b->outcome, (unsigned)b->count, DEAD_GAVE_UP, o->error_status, span_str(o->error));
        settle_decide(o, b);
    }
}

void dispatch_lost(struct output *o, uint64_t batch_no)
{
    struct list *next;
    for (struct list *l = o->order.next; l != &o->order; l = next) {
        struct batch *b = CONTAINER_OF(l, struct batch, link);
        next = l->next;
        if (b->state == BATCH_CLOSED || b->id.batch_no != batch_no)
            continue;
        struct spool_open_batch open;
        if (output_spool_batch(o, batch_no, &open)) {
            b->broken = true;
            batch_set_runs(b, open.assignment.runs, open.assignment.run_count);
            if (b->state == BATCH_WAITING && (b->payload == PAYLOAD_READY || b->payload == PAYLOAD_RAW))
                batch_release(b);
        } else if (b->state == BATCH_FLIGHT) {
            b->cancel = true;
        } else if (b->payload == PAYLOAD_ENCODING || b->payload == PAYLOAD_LOADING) {
            b->state = BATCH_LOST;
            list_remove(&b->link);
            list_append(&o->lost, &b->link);
        } else {
            output_batch_recycle(o, b);
        }
        return;
    }
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
    for (struct list *l = o->partitions.all.next; o->held_partitions > 0 && l != &o->partitions.all; l = l->next) {
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
