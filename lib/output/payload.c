/* payload: what a batch sends, made ready: read again after a restart, encoded off the loop, let go when
 * memory is short. Part of step 8; before it fill.c, after it dispatch.c. */
#include "lib/output/core.h"

#include "lib/base/ensure.h"
#include "lib/codec/compress.h"

static void on_item(void *ctx, const struct spool_item *item)
{
    struct batch *b = ctx;
    struct record_id id;
    if (record_id_get(item->id, &id) != OK)
        id.id = item->id;
    if (b->member_count == 0)
        batch_load_reserve(b);
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

static bool is_envelope_of(const struct batch *b, const struct api_envelope *envelope)
{
    return envelope->version == b->envelope_version && batch_envelope_hash(envelope) == b->envelope_hash;
}

/* The one that the batch was closed with: it must go as it went, whatever is configured by now, and whatever was learnt
 * about batch mode since, or forgotten with the process that learnt it. What tells is written down with the batch. */
static void envelope_of(struct output *o, struct batch *b, struct api_envelope *ret)
{
    struct span partition = b->partition->name;
    b->form = output_form(o);
    output_envelope(o, partition, b->form, ret);
    for (unsigned i = 0; i < 2 * API_MODES && !is_envelope_of(b, ret) && !BUG(106); i++) {
        struct batch_form form = {.mode = (enum api_mode)(i / 2), .ndjson = i % 2 != 0};
        struct api_envelope other;
        output_envelope(o, partition, form, &other);
        if (!is_envelope_of(b, &other))
            continue;
        b->form = form;
        *ret = other;
    }
}

static void start_load(struct output *o, struct batch *b)
{
    struct api_envelope envelope;
    envelope_of(o, b, &envelope);
    batch_load_begin(b, &envelope);
    b->loader = (struct spool_loader){.ctx = b, .item = on_item, .done = on_loaded};
    o->loading++;
    spool_load(o->spool, b->id.batch_no, &b->loader);
}

/* The identity cannot be kept (members lost, or an envelope that this version does not
 * know): the events go again in
 * a new batch. They may have been sent under the old id, so they count as repeats once they are sent. */
static void retire_identity(struct output *o, struct batch *b, const char *why)
{
    REACHED(OUT_NEW_IDENTITY);
    news_add(&o->news, NEWS_WARNING,
             "batch %llu cannot be rebuilt as it was sent (%s): its %u events go in a new batch",
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
        REACHED(OUT_GONE_READ);
        batch_release(b); /* its NOTE_LOST follows or was seen */
        answer_lost(o, b->id.batch_no);
        return;
    }
    bool same = batch_loaded(b);
    if (b->load_err != OK || b->member_count == 0) {
        REACHED(OUT_READ_AGAIN);
        batch_release(b);
        b->not_before_us =
            o->now_us + RETRY_SPOOL_US; /* ERR_CORRUPT: the spool took the lost members out; again */
        return;
    }
    if (BUG(123))
        return; /* what is left of it goes under the old id */
    if (b->broken || open.identity_broken) {
        batch_set_runs(b, open.assignment.runs, open.assignment.run_count);
        retire_identity(o, b, "some of its events were damaged on disk");
    } else if (!same && !BUG(106)) {
        retire_identity(o, b, "the envelope changed");
    } else if (b->form.mode != API_MODE_BATCH && b->member_count > 1) {
        b->singles = true; /* only single events are sent that way: this was not */
    }
}

/* Which batches need their payload soon: the first ones that may be sent. */
static bool wants_payload(const struct output *o, const struct batch *b)
{
    if (b->state != BATCH_WAITING || b->payload != PAYLOAD_NONE || o->now_us < b->not_before_us)
        return false;
    return !b->partition->held || o->now_us >= b->partition->next_us;
}

/* It will not be sent for a while: its memory may serve others. */
static bool may_release(const struct output *o, const struct batch *b, bool first)
{
    if (b->state != BATCH_WAITING || (b->payload != PAYLOAD_RAW && b->payload != PAYLOAD_READY))
        return false;
    if (b->partition->held)
        return !first || o->now_us < b->partition->next_us;
    return b->overtaken && o->now_us < b->not_before_us;
}

static void finish_lost(struct output *o)
{
    struct list *next;
    for (struct list *l = o->lost.next; o->loading > 0 && l != &o->lost; l = next) {
        struct batch *b = CONTAINER_OF(l, struct batch, link);
        next = l->next;
        if (b->payload == PAYLOAD_LOADING && b->load_done)
            finish_load(o, b);
    }
}

void payload_loads(struct output *o)
{
    unsigned wanted = output_concurrency(o) + AHEAD;
    bool tight = o->memory >= o->config.payload_budget_bytes;
    finish_lost(o);
    o->scan++;
    struct list *next;
    for (struct list *l = o->order.next; l != &o->order; l = next) {
        struct batch *b = CONTAINER_OF(l, struct batch, link);
        next = l->next;
        if (b->payload == PAYLOAD_LOADING && b->load_done) {
            finish_load(o, b);
            continue;
        }
        bool first = b->partition->scan != o->scan;
        b->partition->scan = o->scan;
        if (tight && may_release(o, b, first)) {
            o->memory -= batch_memory(b);
            batch_release(b);
        }
        if ((b->partition->held && !first) || (b->overtaken && o->now_us < b->not_before_us))
            continue;
        if (wanted == 0 || b->state != BATCH_WAITING)
            continue;
        wanted--;
        if (wants_payload(o, b) && o->loading < LOADS_MAX &&
            (!tight || (o->in_flight == 0 && o->loading == 0)))
            start_load(o, b);
    }
}

bool payload_encode(struct output *o, struct output_wish *ret)
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
}
