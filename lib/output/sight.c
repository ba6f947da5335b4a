/* sight: what an output shows: its state by name, the numbers for status and metrics, and the news when the
 * state changes. Changes are told once, not per attempt. */
#include "lib/output/core.h"

#include <stdio.h>

const char *const output_state_names[OUT_STATES] = {"ok",     "retrying", "held",  "full",
                                                    "paused", "quota",    "failed"};

const char sight_dead_full[] =
    "the store of dead letters is full (dead_letter.max_bytes): replay or purge some, or "
    "raise it; nothing is sent until then";

enum output_state sight_state(const struct output *o)
{
    if (o->failed)
        return OUT_FAILED;
    if (o->schedule.paused)
        return OUT_PAUSED;
    if (o->dead_full || spool_state(o->spool) == SPOOL_FULL)
        return OUT_FULL;
    if (o->schedule.phase == SCHEDULE_HELD || o->schedule.phase == SCHEDULE_STOPPED)
        return OUT_HELD;
    if (o->schedule.quota)
        return OUT_QUOTA;
    return o->schedule.phase == SCHEDULE_RETRYING ? OUT_RETRYING : OUT_OK;
}

static int kind_of(const struct output *o, enum output_state state)
{
    if (state == OUT_HELD || (state == OUT_FULL && o->dead_full))
        return NEWS_HELD;
    /* Failed storage is told by whoever found it. */
    return state == OUT_PAUSED || state == OUT_FAILED ? NEWS_STATE : NEWS_DEGRADED;
}

void sight_tell(struct output *o)
{
    enum output_state state = sight_state(o);
    if (state == o->state_told)
        return;
    uint64_t next_us = schedule_wake_us(&o->schedule, o->now_us);
    char next[64] = "";
    if (next_us != 0)
        (void)snprintf(next, sizeof next, "; next try in %.1f s", (double)(next_us - o->now_us) / 1e6);
    const char *why = o->error[0] != 0 ? o->error : "no error is known";
    if (o->dead_full)
        why = sight_dead_full;
    else if (state == OUT_FULL)
        why = "the spool has no room (spool.max_bytes, agent.min_free or the disk)";
    else if (state == OUT_PAUSED)
        why = "by command";
    if (state == OUT_OK)
        news_add(&o->news, NEWS_STATE, "ok again (was %s)", output_state_names[o->state_told]);
    else
        news_add(&o->news, kind_of(o, state), "%s: %s%s", output_state_names[state], why, next);
    o->state_told = state;
    o->state_wall_ns = clock_wall_ns(&o->clock);
}

static void count_batches(const struct output *o, struct output_status *ret)
{
    ret->in_flight = o->in_flight;
    ret->open_batches = o->open_count;
    for (struct list *l = o->order.next; l != &o->order; l = l->next)
        ret->waiting += CONTAINER_OF(l, struct batch, link)->state != BATCH_FLIGHT;
}

static void held_partitions(const struct output *o, struct output_status *ret)
{
    unsigned room = sizeof ret->held / sizeof ret->held[0];
    for (struct list *l = o->partitions.all.next; l != &o->partitions.all; l = l->next) {
        const struct partition *p = CONTAINER_OF(l, struct partition, all);
        if (!p->held)
            continue;
        if (ret->held_count < room) {
            struct output_held_partition *h = &ret->held[ret->held_count];
            (void)snprintf(h->partition, sizeof h->partition, "%.*s", (int)p->name.len,
                           (const char *)p->name.at);
            (void)snprintf(h->text, sizeof h->text, "%s", p->text);
            h->since_wall_ns = p->held_wall_ns;
        }
        ret->held_count++;
    }
    if (ret->held_count > room)
        ret->held_count = room;
}

void output_status(const struct output *o, struct output_status *ret)
{
    *ret = (struct output_status){
        .state = sight_state(o),
        .since_wall_ns = o->state_wall_ns,
        .next_try_us = schedule_wake_us(&o->schedule, clock_mono_us(&o->clock)),
        .error_status = o->error_status,
        .error_wall_ns = o->error_wall_ns,
        .success_wall_ns = o->success_wall_ns,
        .concurrency_now = output_concurrency(o),
        .bytes_out = o->stats.bytes_out,
        .retries = o->stats.retries,
        .repeated = o->stats.repeated,
        .requests = o->stats.requests,
        .request_seconds = o->stats.request_seconds,
        .commit_seconds = o->stats.commit_seconds,
    };
    (void)snprintf(ret->error, sizeof ret->error, "%s", o->dead_full ? sight_dead_full : o->error);
    for (unsigned i = 0; i < o->stats.result_count; i++) {
        ret->batches[i].result = o->stats.results[i].name;
        ret->batches[i].count = o->stats.results[i].count;
    }
    count_batches(o, ret);
    held_partitions(o, ret);
    spool_ledger(o->spool, &ret->ledger);
}

bool output_news_next(struct output *o, struct output_news *ret)
{
    return news_next(&o->news, ret);
}
