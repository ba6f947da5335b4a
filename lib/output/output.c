/* output: see output.h for what it is and how a batch lives; core.h for who does what.
 *
 * This file is the straight line: output_offer() takes events in (step 5; before it agent/intake.c, after it
 * lib/spool), output_note() hears from the spool, output_step() decides, in one written order, what is next.
 */
#include "lib/output/output.h"

#include "lib/output/core.h"

#include "lib/base/ensure.h"
#include "lib/codec/compress.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define ARENA_BLOCK (64u << 10)
#define ARENA_MAX (64u << 20)
#define SCRATCH_MAX (64u << 20)
#define RECORDS_KEPT 1024

/* --- life --- */

static void apply_config(struct output *o, const struct output_config *config)
{
    o->config = *config;
    struct output_config *c = &o->config;
    if (c->concurrency == 0)
        c->concurrency = 1;
    if (c->batch_events_max == 0)
        c->batch_events_max = 1;
    if (c->payload_budget_bytes == 0)
        c->payload_budget_bytes = PAYLOAD_BUDGET_DEFAULT;
    schedule_limits(&o->schedule, c->retry_initial_us, c->retry_max_us, c->concurrency);
    limit_rate_set(&o->rate, c->rate_requests, c->rate_per_us);
    limit_adapt_set(&o->adapt, c->concurrency_auto, c->concurrency);
    o->structured = false;
    o->plain = false;
    o->consent = false;
}

struct output *output_new(const struct output_config *config, struct spool *spool, const struct clock *clock,
                          uint64_t seed)
{
    struct output *o = must_alloc(sizeof *o);
    o->spool = spool;
    o->clock = *clock;
    o->transport = &transport_http;
    rng_seed(&o->rng, seed);
    schedule_init(&o->schedule, config->retry_initial_us, config->retry_max_us, config->concurrency);
    apply_config(o, config);
    stats_init(&o->stats);
    partition_table_init(&o->partitions);
    list_init(&o->opens);
    list_init(&o->order);
    list_init(&o->settling);
    list_init(&o->lost);
    list_init(&o->free);
    arena_init(&o->arena, ARENA_BLOCK, ARENA_MAX);
    bytes_init(&o->scratch, SCRATCH_MAX);
    o->now_us = o->progress_us = clock_mono_us(clock);
    o->state_wall_ns = clock_wall_ns(clock);
    return o;
}

static void free_batches(struct list *head)
{
    struct list *l;
    while ((l = list_first(head)) != NULL) {
        struct batch *b = CONTAINER_OF(l, struct batch, link);
        list_remove(&b->link);
        b->payload = PAYLOAD_NONE; /* the caller sees to it that nothing works on it any more */
        batch_free(b);
    }
}

void output_free(struct output *o)
{
    if (o == NULL)
        return;
    free_batches(&o->opens);
    free_batches(&o->order);
    free_batches(&o->settling);
    free_batches(&o->lost);
    output_trim(o);
    partition_table_deinit(&o->partitions);
    news_deinit(&o->news);
    arena_deinit(&o->arena);
    bytes_deinit(&o->scratch);
    free(o->records);
    free(o);
}

void output_reconfigure(struct output *o, const struct output_config *config)
{
    apply_config(o, config);
    /* What is assigned keeps the payload it was assigned with; what is not is built anew. */
    o->rewind = true;
}

struct api_settings *output_api_settings(struct output *o)
{
    return &o->config.api;
}

/* --- in ------------------------------------------------------------------------------------------------- */

enum err output_room(const struct output *o, unsigned count, uint64_t bytes)
{
    return spool_room(o->spool, count, bytes);
}

static struct record_id record_id_of(const struct api_item *item)
{
    return (struct record_id){.key_hash = item->key_hash,
                              .content_hash = item->content_hash,
                              .expires_ns = item->expires_ns,
                              .id = item->id};
}

/* Writes the records' ids one behind the other into scratch, which must not move while spans point into it.
 */
static enum err build_records(struct output *o, const struct api_item *items, unsigned count,
                              uint64_t wall_ns)
{
    size_t ids_len = 0;
    for (unsigned i = 0; i < count; i++) {
        struct record_id id = record_id_of(&items[i]);
        ids_len += record_id_len(&id);
    }
    bytes_clear(&o->scratch);
    if (bytes_reserve(&o->scratch, ids_len) != OK)
        return ERR_TOO_BIG;
    if (o->record_cap < count) {
        o->records = must_realloc(o->records, count * sizeof *o->records);
        o->record_cap = count;
    }
    for (unsigned i = 0; i < count; i++) {
        struct record_id id = record_id_of(&items[i]);
        size_t len = record_id_len(&id);
        uint8_t *at = NULL; /* where no event here has an id, the scratch has no memory */
        if (len > 0) {
            at = o->scratch.at + o->scratch.len;
            record_id_put(&id, at);
        }
        o->scratch.len += len;
        o->records[i] = (struct spool_record){.partition = items[i].partition,
                                              .id = span_of(at, len),
                                              .body = items[i].body,
                                              .wall_ns = wall_ns};
    }
    return OK;
}

enum err output_offer_reserved(struct output *o, const struct api_item *items, unsigned count, uint64_t wall_ns,
                               uint64_t *reserved, uint64_t *ret_seq)
{
    enum err err = build_records(o, items, count, wall_ns);
    if (err == OK)
        err = spool_append_reserved(o->spool, o->records, count, reserved, ret_seq);
    if (err == OK && *ret_seq > o->last_offered)
        o->last_offered = *ret_seq;
    if (o->record_cap > RECORDS_KEPT) {
        free(o->records);
        o->records = NULL;
        o->record_cap = 0;
        bytes_deinit(&o->scratch);
    }
    return err;
}

enum err output_offer(struct output *o, const struct api_item *items, unsigned count, uint64_t wall_ns,
                      uint64_t *ret_seq)
{
    uint64_t none = 0;
    return output_offer_reserved(o, items, count, wall_ns, &none, ret_seq);
}

enum err output_reserve(struct output *o, unsigned count, uint64_t bytes, uint64_t *ret_reserved)
{
    return spool_reserve(o->spool, count, bytes, ret_reserved);
}

void output_unreserve(struct output *o, uint64_t reserved)
{
    spool_unreserve(o->spool, reserved);
}

enum err output_room_reserved(struct output *o)
{
    return spool_room_reserved(o->spool);
}

uint64_t output_acked(const struct output *o)
{
    return spool_acked(o->spool);
}

bool output_recent_next(struct output *o, uint64_t *ret_key_hash, uint64_t *ret_content_hash,
                        uint64_t *ret_wall_ns)
{
    struct span encoded;
    while (spool_recent_next(o->spool, &encoded, ret_wall_ns)) {
        struct record_id id;
        if (record_id_get(encoded, &id) != OK || id.key_hash == 0)
            continue;
        *ret_key_hash = id.key_hash;
        *ret_content_hash = id.content_hash;
        return true;
    }
    return false;
}

static void note_durable(struct output *o, uint64_t batch_no)
{
    for (struct list *l = o->order.next; l != &o->order; l = l->next) {
        struct batch *b = CONTAINER_OF(l, struct batch, link);
        if (b->id.batch_no == batch_no && b->state != BATCH_CLOSED)
            b->durable = true;
    }
}

void output_note(struct output *o, const struct spool_note *note)
{
    o->now_us = clock_mono_us(&o->clock);
    switch (note->kind) {
    case NOTE_OPENED:
        o->opened = true;
        stats_load(&o->stats, spool_user(o->spool));
        fill_adopt(o);
        o->readable = list_empty(&o->order); /* else what was assigned is read first; NOTE_READABLE follows that */
        break;
    case NOTE_ACKED:
        stats_observe(&o->stats.commit_seconds, spool_last_commit_us(o->spool));
        o->readable = true;
        break;
    case NOTE_READABLE:
        o->readable = true;
        break;
    case NOTE_ROOM:
        o->room = true;
        break;
    case NOTE_SAVED:
        break; /* the step that follows sends what waited for it */
    case NOTE_BATCH:
        note_durable(o, note->batch_no);
        o->progress_us = o->now_us;
        break;
    case NOTE_SETTLED:
        settle_done(o, note->batch_no);
        break;
    case NOTE_LOST:
        answer_lost(o, note->batch_no);
        break;
    case NOTE_STATE:
        o->failed = spool_state(o->spool) == SPOOL_FAILED;
        o->room = true;
        break;
    case NOTE_WARNING:
        break;
    case NOTE_FAILED:
        o->failed = true;
        if (note->fault != NULL)
            output_error(o, 0, "storage failed: %s", note->fault->text);
        break;
    case NOTE_CLOSED:
        o->opened = false;
        break;
    }
}

/* --- the step ------------------------------------------------------------------------------------------- */

static size_t list_memory(const struct list *head)
{
    size_t sum = 0;
    for (struct list *l = head->next; l != head; l = l->next)
        sum += batch_memory(CONTAINER_OF(l, struct batch, link));
    return sum;
}

/* Recycled buffers are for the next batches; when there have been none for a while they go back. */
static void trim_when_idle(struct output *o)
{
    if (o->open_count > 0 || !list_empty(&o->order) || list_empty(&o->free)) {
        o->idle_us = 0;
        return;
    }
    if (o->idle_us == 0)
        o->idle_us = o->now_us;
    if (o->now_us - o->idle_us >= 10 * US_PER_S) {
        output_trim(o);
        o->idle_us = 0;
    }
}

/* Nothing may be pending with nothing under way: whatever went wrong, starting the connections and the
 * reading anew gets it going, and a person should hear of it. Waits that are meant (backoff, hold, quota,
 * pause, a slow but legal request) are not stalls. */
static bool waits(const struct output *o)
{
    return o->schedule.paused || o->schedule.phase == SCHEDULE_STOPPED || o->dead_full ||
           o->held_partitions > 0 || schedule_wake_us(&o->schedule, o->now_us) != 0;
}

static void check_stall(struct output *o)
{
    uint64_t bound = STALL_US;
    if (o->waits)
        o->progress_us = o->now_us; /* its end is news, however long it was */
    if (2 * o->config.request_timeout_us + 30 * US_PER_S > bound)
        bound = 2 * o->config.request_timeout_us + 30 * US_PER_S;
    if (o->config.batch_wait_us + 30 * US_PER_S > bound)
        bound = o->config.batch_wait_us + 30 * US_PER_S;
    if (!o->opened || o->failed || o->now_us - o->progress_us < bound)
        return;
    struct spool_ledger ledger = {0};
    if (!waits(o))
        spool_ledger(o->spool, &ledger);
    if (ledger.pending > 0) {
        news_add(&o->news, NEWS_WARNING,
                 "nothing moved for %u s with %llu events pending: connections are rebuilt and the spool is "
                 "read again",
                 (unsigned)((o->now_us - o->progress_us) / US_PER_S), (unsigned long long)ledger.pending);
        o->rebuild = true;
        o->rewind = true;
    }
    o->progress_us = o->now_us;
}

static bool next_wish(struct output *o, struct output_wish *ret)
{
    if (dispatch_cancel(o, ret))
        return true;
    if (o->rebuild) {
        o->rebuild = false;
        ret->kind = WISH_REBUILD;
        return true;
    }
    return payload_encode(o, ret) || dispatch_send(o, ret);
}

static uint64_t sooner(uint64_t a, uint64_t b)
{
    if (a == 0 || b == 0)
        return a + b;
    return a < b ? a : b;
}

static uint64_t wake(const struct output *o)
{
    if (o->more)
        return o->now_us;
    uint64_t at = sooner(fill_wake_us(o), dispatch_wake_us(o));
    /* A wait that is meant has its own end; everything else is looked after. */
    if (o->in_flight > 0 || (at == 0 && (!list_empty(&o->order) || o->open_count > 0)))
        at = sooner(at, o->progress_us + STALL_US);
    if (o->rewind && !BUG(115)) /* a drop was refused: the spool is short of room, or closing */
        at = sooner(at, o->now_us + RETRY_SPOOL_US);
    if (o->idle_us != 0)
        at = sooner(at, o->idle_us + 10 * US_PER_S);
    return at;
}

struct output_wish output_step(struct output *o)
{
    struct output_wish wish = {.kind = WISH_NOTHING};
    o->now_us = clock_mono_us(&o->clock);
    o->more = false;
    if (o->opened) {
        o->memory = list_memory(&o->opens) + list_memory(&o->order) + list_memory(&o->free);
        settle_decided(o); /* what was learnt, first: it makes room for all else */
        answer_held(o);
        answer_give_up(o);
        if (o->rewind)
            fill_rewind(o);
        fill_read(o);
        fill_close_due(o);
        fill_assign(o);
        payload_loads(o);
        settle_decided(o); /* what was found unfit to be sent as it is */
        check_stall(o);
        o->waits = waits(o);
        if (next_wish(o, &wish))
            return wish;
        trim_when_idle(o);
    }
    sight_tell(o);
    o->wake_us = wake(o);
    return wish;
}

uint64_t output_wake_us(const struct output *o)
{
    return o->wake_us;
}

void output_secrets_read(struct output *o)
{
    o->secrets_out = false;
}

/* --- steering ------------------------------------------------------------------------------------------- */

void output_pause(struct output *o)
{
    schedule_pause(&o->schedule);
}

void output_resume(struct output *o)
{
    o->now_us = clock_mono_us(&o->clock);
    schedule_resume(&o->schedule, o->now_us);
    answer_forgive(o);
    o->secrets_read = false;
    for (struct list *l = o->partitions.all.next; l != &o->partitions.all; l = l->next) {
        struct partition *p = CONTAINER_OF(l, struct partition, all);
        p->next_us = o->now_us;
        p->holds = 0;
    }
    for (struct list *l = o->order.next; l != &o->order; l = l->next)
        CONTAINER_OF(l, struct batch, link)->not_before_us = 0;
}

void output_flush(struct output *o)
{
    o->flush_mark = output_mark(o);
    spool_flush(o->spool);
}

void output_drain(struct output *o)
{
    o->draining = true;
    output_flush(o);
}

uint64_t output_mark(const struct output *o)
{
    uint64_t acked = spool_acked(o->spool);
    return acked > o->last_offered ? acked : o->last_offered;
}

static uint64_t count_to(const struct list *head, uint64_t mark, uint64_t *all)
{
    uint64_t to = 0;
    for (struct list *l = head->next; l != head; l = l->next) {
        const struct batch *b = CONTAINER_OF(l, struct batch, link);
        *all += b->count;
        for (unsigned i = 0; i < b->run_count && b->runs[i].first <= mark; i++)
            to += b->runs[i].count;
    }
    return to;
}

bool output_settled_to(const struct output *o, uint64_t mark)
{
    uint64_t all = 0;
    struct spool_ledger ledger;
    spool_ledger(o->spool, &ledger);
    if (ledger.pending == 0)
        return true;
    uint64_t to = count_to(&o->opens, mark, &all) + count_to(&o->order, mark, &all);
    /* Dead letters on their way are not settled before the spool says so. */
    to += count_to(&o->settling, mark, &all);
    for (struct list *l = o->partitions.all.next; l != &o->partitions.all; l = l->next)
        if (CONTAINER_OF(l, struct partition, all)->skipped > 0)
            return false;
    return to == 0 && (o->last_read >= mark || ledger.pending <= all);
}

bool output_idle(const struct output *o)
{
    return o->in_flight == 0 && o->encoding == 0 && o->loading == 0 && !o->probe_out;
}

/* --- shared --------------------------------------------------------------------------------------------- */

struct batch *output_batch_take(struct output *o)
{
    struct list *l = list_first(&o->free);
    struct batch *b;
    if (l != NULL) {
        b = CONTAINER_OF(l, struct batch, link);
        list_remove(&b->link);
        o->free_count--;
    } else {
        b = batch_new();
    }
    b->output = o;
    return b;
}

void output_trim(struct output *o)
{
    o->memory -= list_memory(&o->free);
    free_batches(&o->free);
    o->free_count = 0;
    while (o->encoder_count > 0)
        encoder_free(o->encoders[--o->encoder_count]);
}

void output_batch_recycle(struct output *o, struct batch *b)
{
    struct partition *p = b->partition;
    list_remove(&b->link);
    if (p != NULL && b->state != BATCH_OPEN) {
        ensure(p->batches > 0);
        p->batches--;
    }
    if (o->free_count > o->config.concurrency + AHEAD || o->memory > o->config.payload_budget_bytes) {
        b->payload = PAYLOAD_NONE;
        batch_free(b);
    } else {
        batch_reset(b, false);
        list_append(&o->free, &b->link);
        o->free_count++;
    }
    if (p != NULL)
        partition_let_go(&o->partitions, p);
}

struct batch_form output_form(const struct output *o)
{
    struct batch_form form = {.mode = o->config.api.mode, .ndjson = o->config.api.ndjson};
    if (o->structured && form.mode == API_MODE_BATCH)
        form.mode = API_MODE_STRUCTURED;
    return form;
}

void output_envelope(const struct output *o, struct span partition, struct batch_form form, struct api_envelope *ret)
{
    struct api_settings settings = o->config.api;
    settings.mode = form.mode;
    settings.ndjson = form.ndjson;
    *ret = (struct api_envelope){0};
    settings.api->envelope(&settings, partition, ret);
}

unsigned output_concurrency(const struct output *o)
{
    return limit_adapt_level(&o->adapt);
}

struct partition *output_partition(struct output *o, struct span name)
{
    struct partition *p = partition_find(&o->partitions, name);
    if (p != NULL)
        return p;
    const struct api *api = o->config.api.api;
    p = partition_add(&o->partitions, name);
    p->alone = api->alone != NULL && api->alone(&o->config.api, p->name);
    p->expires_us = api->expires_us != NULL ? api->expires_us(p->name) : 0;
    return p;
}

bool output_spool_batch(const struct output *o, uint64_t batch_no, struct spool_open_batch *ret)
{
    return spool_open_batch_next(o->spool, batch_no - 1, ret) && ret->id.batch_no == batch_no;
}

void output_save_stats(struct output *o)
{
    uint8_t blob[STATS_BLOB_MAX];
    spool_set_user(o->spool, span_of(blob, stats_save(&o->stats, blob)));
}

void output_error(struct output *o, unsigned status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(o->error, sizeof o->error, format, args);
    va_end(args);
    for (char *c = o->error; *c != 0; c++)
        if ((uint8_t)*c < 0x20 || (uint8_t)*c == 0x7f)
            *c = ' ';
    o->error_status = status;
    o->error_wall_ns = clock_wall_ns(&o->clock);
}

bool output_gives_up(const struct output *o, const struct batch *b)
{
    uint64_t limit = o->config.give_up_after_us;
    if (limit == 0 || o->schedule.phase == SCHEDULE_HELD || o->schedule.phase == SCHEDULE_STOPPED)
        return false;
    if (BUG(117))
        return true;
    if (b->failed_us != 0)
        return o->now_us - b->failed_us >= limit;
    if (o->schedule.failing_us == 0 || o->now_us - o->schedule.failing_us < limit)
        return false;
    /* The outage has lasted long enough by the monotonic clock; the event must be old enough as well. */
    uint64_t wall_ns = clock_wall_ns(&o->clock);
    return b->oldest_wall_ns != 0 && wall_ns > b->oldest_wall_ns &&
           (wall_ns - b->oldest_wall_ns) / 1000 >= limit;
}
