/* answer: what became of a request, for the batch, its partition and the output. Step 11; before it
 * dispatch.c, after it settle.c.
 *
 * The transport makes a verdict of a reply or a break, verdict.c an outcome of the verdict; here the outcome
 * is noted: the schedule hears of it, the partition is held or taken again, the batch waits or is decided. */
#include "lib/output/core.h"

#include "lib/base/ensure.h"

#include <stdio.h>

/* Several requests of one partition may be refused in one moment: that is one refusal. */
static void hold_partition(struct output *o, struct batch *b, const struct api_verdict *v)
{
    struct partition *p = b->partition;
    b->failed_us = 0; /* time on hold is not counted against events */
    if (p->held && b->send_no <= p->hold_mark)
        return;
    uint64_t first = o->config.retry_initial_us > US_PER_S ? o->config.retry_initial_us : US_PER_S;
    uint64_t max = o->config.retry_max_us > first ? o->config.retry_max_us : first, delay = first;
    for (unsigned i = 0; i < p->holds && delay < max; i++)
        delay *= 2;
    if (!p->held) {
        p->held_wall_ns = clock_wall_ns(&o->clock);
        news_add(&o->news, NEWS_HELD, "partition \"%.*s\" is held: %.*s", (int)p->name.len,
                 (const char *)p->name.at, SPAN_FMT(v->text));
    }
    o->held_partitions += !p->held;
    p->held = true;
    p->holds++;
    p->hold_mark = o->schedule.sends;
    p->next_us = o->now_us + (delay < max ? delay : max);
    (void)snprintf(p->text, sizeof p->text, "%.*s", SPAN_FMT(v->text));
}

static void end_hold(struct output *o, struct partition *p)
{
    ensure(o->held_partitions > 0);
    o->held_partitions--;
    p->held = p->probing = false;
    if (p->skipped > 0 && !BUG(107)) {
        REACHED(OUT_UNHELD);
        o->rewind = true;
    }
}

/* A held partition is probed with its first batch. When it has none any more (a policy of the spool took it),
 * its records must be read again for there to be one; how often it was held is not forgotten. */
void answer_held(struct output *o)
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
    news_add(&o->news, NEWS_STATE, "partition \"%.*s\" is taken again", (int)p->name.len,
             (const char *)p->name.at);
}

void answer_forgive(struct output *o)
{
    for (struct list *l = o->order.next; l != &o->order; l = l->next)
        CONTAINER_OF(l, struct batch, link)->failed_us = 0;
    if (o->schedule.failing_us != 0)
        o->schedule.failing_us = o->now_us;
}

static void came_back(struct output *o, uint64_t send_no)
{
    uint64_t failing_us = o->schedule.failing_us;
    bool was_ok = o->schedule.phase == SCHEDULE_OK;
    schedule_succeeded(&o->schedule, send_no, o->now_us);
    o->success_wall_ns = clock_wall_ns(&o->clock);
    struct spool_ledger ledger;
    if (!was_ok && o->schedule.phase == SCHEDULE_OK) {
        spool_ledger(o->spool, &ledger);
        REACHED(OUT_CAME_BACK);
        limit_pace_begin(&o->pace, failing_us, o->now_us, ledger.pending);
    } else if (o->pace.on && o->now_us >= o->pace.check_us) {
        spool_ledger(o->spool, &ledger);
        limit_pace_check(&o->pace, o->now_us, ledger.pending,
                         ledger.pending < 2 * o->config.batch_events_max);
    }
}

static void apply_effect(struct output *o, struct batch *b, const struct api_verdict *v)
{
    struct partition *p = b->partition;
    if (b->send_no > p->hold_mark)
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
        schedule_held(&o->schedule, b->send_no, o->now_us, v->retry_after_us,
                      b->outcome.effect == EFFECT_STOP, &o->rng);
        answer_forgive(o);
        break;
    case EFFECT_HOLD_PARTITION:
        came_back(o, b->send_no);
        hold_partition(o, b, v);
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
    if (out->too_large && b->member_count > 1 && !BUG(116))
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
    bool fails = out->effect == EFFECT_BACKOFF || out->effect == EFFECT_NONE;
    if (fails && o->schedule.phase != SCHEDULE_HELD && o->schedule.phase != SCHEDULE_STOPPED &&
        b->failed_us == 0)
        b->failed_us = o->now_us;
    if (out->effect == EFFECT_NONE)
        b->not_before_us = o->now_us + schedule_jitter_us(&o->schedule, b->tries - 1, &o->rng);
}

/* Events that the upstream says it dropped, without saying which, or an answer that leaves a doubt: told at most once a
 * minute. */
static void tell_noted(struct output *o, const struct batch *b, const struct api_verdict *v)
{
    o->skipped_events += v->noted;
    if (o->skipped_told_us != 0 && o->now_us - o->skipped_told_us < 60 * US_PER_S)
        return;
    const struct spool_run *last = &b->runs[b->run_count - 1];
    if (v->warn) {
        news_add(&o->news, NEWS_WARNING, "%u events (seq %llu to %llu): %.*s", b->member_count,
                 (unsigned long long)b->runs[0].first, (unsigned long long)(last->first + last->count - 1),
                 SPAN_FMT(v->text));
        o->skipped_told_us = o->now_us;
        return;
    }
    news_add(&o->news, NEWS_SKIPPED,
             "the upstream skipped %u of %u events (seq %llu to %llu), %llu since the last such line: %.*s",
             v->noted, b->member_count, (unsigned long long)b->runs[0].first,
             (unsigned long long)(last->first + last->count - 1), (unsigned long long)o->skipped_events,
             SPAN_FMT(v->text));
    o->skipped_told_us = o->now_us;
    o->skipped_events = 0;
}

static void conclude(struct output *o, struct batch *b, const struct api_verdict *v, unsigned status)
{
    ensure(b->state == BATCH_FLIGHT && o->in_flight > 0);
    struct verdict_case c = {
        .count = b->member_count,
        .status = status,
        .unknown_sends = b->unknown_sends,
        .sent_plain = !b->use_encoded,
        .batch_mode = b->form.mode == API_MODE_BATCH,
        .give_up = output_gives_up(o, b),
    };
    o->in_flight--;
    o->progress_us = o->now_us;
    b->reply_status = status;
    verdict_apply(v, &c, &b->outcome);
    stats_result(&o->stats, v->result);
    output_save_stats(o);
    if (b->outcome.kind != OUTCOME_DELIVERED && v->text.len > 0)
        output_error(o, status, "%.*s", SPAN_FMT(v->text));
    if (v->noted > 0 || v->warn)
        tell_noted(o, b, v);
    apply_effect(o, b, v);
    apply_outcome(o, b);
}

/* The spool has closed it by policy: whatever came back, there is nothing left to send. */
static void end_cancelled(struct output *o, struct batch *b)
{
    if (b->cancel && b->state == BATCH_WAITING)
        output_batch_recycle(o, b);
}

void output_replied(struct output *o, struct batch *b, const struct api_reply *reply)
{
    o->now_us = clock_mono_us(&o->clock);
    uint64_t rtt_us = o->now_us - b->sent_us;
    stats_observe(&o->stats.request_seconds, rtt_us);
    limit_adapt_answered(&o->adapt, rtt_us, o->in_flight >= output_concurrency(o), b->send_no,
                         o->schedule.sends);
    struct api_batch described;
    struct api_verdict verdict;
    struct api_settings settings = dispatch_settings(o, b);
    arena_reset(&o->arena);
    dispatch_describe(o, b, &o->arena, &described);
    b->counted_no = 0;
    o->transport->judge(&settings, &described, reply, &o->arena, &verdict);
    conclude(o, b, &verdict, reply->status);
    end_cancelled(o, b);
}

void output_broke(struct output *o, struct batch *b, enum output_break what, const char *text)
{
    o->now_us = clock_mono_us(&o->clock);
    struct api_verdict verdict;
    o->transport->broke(what, text, &verdict);
    if (what != BREAK_CONNECT && what != BREAK_DENIED) /* a repeat that never began is still counted for the next try */
        b->counted_no = 0;
    bool at_once = what == BREAK_REUSED && !b->once_more && !b->cancel && schedule_take_retry(&o->schedule);
    if (at_once) {
        REACHED(OUT_ONCE_MORE);
        verdict.backoff = false;
    }
    conclude(o, b, &verdict, 0);
    if (b->state == BATCH_WAITING && (at_once || what == BREAK_CANCELLED))
        b->not_before_us = o->now_us;
    b->once_more = b->once_more || at_once;
    end_cancelled(o, b);
}

/* The receiver's rate, unless ours is slower already. */
static void take_rate(struct output *o, uint64_t per_minute)
{
    const struct output_config *c = &o->config;
    bool slower = c->rate_requests > 0 &&
                  c->rate_requests * (60 * US_PER_S / US_PER_MS) <= per_minute * (c->rate_per_us / US_PER_MS);
    if (per_minute > 0 && !slower)
        limit_rate_set(&o->rate, per_minute, 60 * US_PER_S);
}

/* The answer to the question whether a webhook may be sent to at all. */
static void consented(struct output *o, const struct api_reply *reply)
{
    uint64_t per_minute = 0;
    unsigned status = reply == NULL ? 0 : reply->status;
    o->asking = false;
    if (reply != NULL && o->transport->consents(&o->config.api, reply, &per_minute)) {
        o->consent = true;
        if (!BUG(125))
            take_rate(o, per_minute);
        came_back(o, o->probe_no);
        return;
    }
    if (reply == NULL || status >= 500 || status == 429 || status == 408) {
        schedule_failed(&o->schedule, o->probe_no, o->now_us, 0, false, &o->rng);
        return;
    }
    output_error(o, status, "the receiver did not consent to a webhook (OPTIONS answered %u, without our "
                            "webhook_origin in WebHook-Allowed-Origin)", status);
    schedule_held(&o->schedule, o->probe_no, o->now_us, 0, false, &o->rng);
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
    if (o->asking) {
        if (v.text.len > 0 && reply == NULL)
            output_error(o, 0, "%.*s", SPAN_FMT(v.text));
        consented(o, reply);
        return;
    }
    if (v.action == ACT_DELIVERED || v.action == ACT_SPLIT) {
        schedule_probe_welcome(&o->schedule, o->probe_no, o->now_us);
        return;
    }
    if (v.text.len > 0)
        output_error(o, reply != NULL ? reply->status : 0, "%.*s", SPAN_FMT(v.text));
    schedule_held(&o->schedule, o->probe_no, o->now_us, 0, false, &o->rng);
}

/* --- what else ends a batch --- */

void answer_give_up(struct output *o)
{
    if (o->config.give_up_after_us == 0 || o->schedule.phase != SCHEDULE_RETRYING || o->dead_full ||
        o->schedule.paused)
        return;
    for (struct list *l = o->order.next; l != &o->order; l = l->next) {
        struct batch *b = CONTAINER_OF(l, struct batch, link);
        if (b->state != BATCH_WAITING || !b->durable || b->payload == PAYLOAD_ENCODING ||
            b->payload == PAYLOAD_LOADING || b->partition->held || !output_gives_up(o, b))
            continue;
        REACHED(OUT_GAVE_UP);
        outcome_clear(&b->outcome);
        outcome_all_dead(&b->outcome, (unsigned)b->count, DEAD_GAVE_UP, o->error_status, span_str(o->error));
        settle_decide(o, b);
    }
}

void answer_lost(struct output *o, uint64_t batch_no)
{
    struct list *next;
    for (struct list *l = o->order.next; l != &o->order; l = next) {
        struct batch *b = CONTAINER_OF(l, struct batch, link);
        next = l->next;
        if (b->state == BATCH_CLOSED || b->id.batch_no != batch_no)
            continue;
        struct spool_open_batch open;
        if (output_spool_batch(o, batch_no, &open)) {
            REACHED(OUT_SHRUNK);
            b->broken = true;
            batch_set_runs(b, open.assignment.runs, open.assignment.run_count);
            if (b->state == BATCH_WAITING && (b->payload == PAYLOAD_READY || b->payload == PAYLOAD_RAW))
                batch_release(b);
        } else if (b->state == BATCH_FLIGHT) {
            REACHED(OUT_CANCELLED);
            b->cancel = true;
        } else if (b->payload == PAYLOAD_ENCODING || b->payload == PAYLOAD_LOADING) {
            REACHED(OUT_LOST_WORKING);
            b->state = BATCH_LOST;
            list_remove(&b->link);
            list_append(&o->lost, &b->link);
        } else {
            REACHED(OUT_LOST_WAITING);
            output_batch_recycle(o, b);
        }
        return;
    }
}
