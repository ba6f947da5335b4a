/* fill: from the spool into batches. Step 8; before it the spool's commit, after it dispatch.c.
 *
 * Records are read in order and go into the open batch of their partition. A batch closes when it is full
 * (events, bytes, an id that it has already), when its first event has waited long enough, on flush and
 * drain, or when memory or the spool's window run short. Closed batches are handed to the spool in order, at
 * most AHEAD more than can be in flight; while they wait for that, nothing more is read, and the open ones go
 * on filling only from what is read already: in an outage the backlog stays on disk, and batches become full
 * ones.
 *
 * A held partition holds only itself: its records are read past, and when it is welcome again everything that
 * is not assigned is put back and read again, in order (spool_rewind). */
#include "lib/output/core.h"

#include "lib/base/ensure.h"

#define WINDOW_STALL_US (100 * US_PER_MS)
#define WINDOW_TELL_US (5 * US_PER_S)

/* The oldest open batch of a partition that is not held, else the oldest. */
static struct batch *oldest_open(const struct output *o)
{
    for (struct list *l = o->opens.next; l != &o->opens; l = l->next) {
        struct batch *b = CONTAINER_OF(l, struct batch, link);
        if (!b->partition->held)
            return b;
    }
    return list_empty(&o->opens) ? NULL : CONTAINER_OF(o->opens.next, struct batch, link);
}

/* --- closing -------------------------------------------------------------------------------------------- */

static void close_batch(struct output *o, struct batch *b)
{
    struct partition *p = b->partition;
    ensure(p->open == b);
    batch_close(b);
    b->state = BATCH_CLOSED;
    b->ready_us = o->now_us;
    p->open = NULL;
    p->batches++;
    p->first_us = 0;
    list_remove(&b->link);
    list_append(&o->order, &b->link);
    ensure(o->open_count > 0);
    o->open_count--;
    o->unassigned++;
}

/* Batches that wait to be sent and could be, were it their turn. */
static unsigned unsent(const struct output *o)
{
    unsigned n = 0;
    for (struct list *l = o->order.next; l != &o->order; l = l->next) {
        const struct batch *b = CONTAINER_OF(l, struct batch, link);
        n += (b->state == BATCH_WAITING || b->state == BATCH_CLOSED) && !b->partition->held && !b->overtaken;
    }
    return n;
}

unsigned fill_slots(const struct output *o)
{
    if (o->dead_full || o->failed)
        return 0;
    unsigned slots = schedule_slots(&o->schedule, o->now_us, o->in_flight);
    unsigned level = output_concurrency(o);
    if (slots > 0 && o->schedule.phase == SCHEDULE_OK)
        slots = level <= o->in_flight ? 0 : slots < level - o->in_flight ? slots : level - o->in_flight;
    if (o->pace.on)
        slots = limit_rate_tokens(&o->pace.rate, o->now_us, slots);
    return limit_rate_tokens(&o->rate, o->now_us, slots);
}

/* May a batch that is not full be closed because of its age? Not while it could not be sent anyway: then it
 * goes on filling, so that an outage, a rate limit or slow answers make for fewer and fuller requests. One
 * may always wait. */
static bool may_close_by_age(const struct output *o)
{
    unsigned slots = fill_slots(o);
    if (o->rate.interval_ns != 0 || o->pace.on)
        return unsent(o) < slots;
    return unsent(o) < (slots > 0 ? slots : 1);
}

static bool is_due(const struct output *o, const struct batch *b)
{
    return o->draining || b->runs[0].first <= o->flush_mark ||
           o->now_us - b->opened_us >= o->config.batch_wait_us;
}

void fill_close_due(struct output *o)
{
    struct list *next;
    for (struct list *l = o->opens.next; l != &o->opens; l = next) {
        struct batch *b = CONTAINER_OF(l, struct batch, link);
        next = l->next;
        bool asked = o->draining || b->runs[0].first <= o->flush_mark;
        if (!asked && o->now_us - b->opened_us < o->config.batch_wait_us && o->flush_mark == 0)
            break; /* oldest first */
        if (!is_due(o, b) || b->partition->held)
            continue;
        if (!asked && !may_close_by_age(o))
            continue;
        close_batch(o, b);
    }
}

/* --- reading -------------------------------------------------------------------------------------------- */

static uint64_t raw_max(struct output *o)
{
    uint64_t max = o->config.batch_bytes_max;
    uint64_t api_max = o->config.api.limits.batch_raw_bytes;
    if (max == 0 || (api_max != 0 && api_max < max))
        max = api_max;
    uint64_t sent_max = o->config.api.limits.batch_sent_bytes; /* the same where nothing is compressed */
    if ((o->plain || o->config.codec == API_IDENTITY) && sent_max != 0 && (max == 0 || sent_max < max))
        max = sent_max;
    if (max == 0 || max > BATCH_RAW_MAX)
        max = BATCH_RAW_MAX;
    return limit_learned_max(&o->learned, max, o->now_us);
}

static uint64_t events_max(const struct output *o, const struct partition *p)
{
    if (p->alone || output_form(o).mode != API_MODE_BATCH)
        return 1;
    uint64_t max = o->config.batch_events_max, api_max = o->config.api.limits.batch_events;
    return api_max != 0 && api_max < max && !BUG(126) ? api_max : max;
}

static struct batch *open_batch(struct output *o, struct partition *p)
{
    struct batch *b = output_batch_take(o);
    struct api_envelope envelope;
    b->form = output_form(o);
    output_envelope(o, p->name, b->form, &envelope);
    batch_open(b, p, &envelope);
    b->codec = o->plain ? API_IDENTITY : o->config.codec;
    if (o->config.api.api->codec != NULL)
        b->codec = o->config.api.api->codec(p->name, b->codec);
    b->opened_us = p->first_us != 0 ? p->first_us : o->now_us;
    p->first_us = 0;
    p->open = b;
    list_append(&o->opens, &b->link);
    o->open_count++;
    return b;
}

uint64_t fill_expiry(const struct partition *p, const struct record_id *id, uint64_t wall_ns)
{
    uint64_t at = id->expires_ns;
    if (p->expires_us != 0) {
        uint64_t by_age = wall_ns + p->expires_us * 1000;
        at = at == 0 || by_age < at ? by_age : at;
    }
    return at;
}

/* One record into its batch. */
static void take(struct output *o, const struct spool_item *item, uint64_t bytes_max)
{
    struct record_id id;
    if (record_id_get(item->id, &id) != OK)
        id.id = item->id; /* not written by us: delivered all the same */
    struct partition *p = output_partition(o, item->partition);
    if (p->held) {
        p->skipped++;
        return;
    }
    uint64_t expires_ns = fill_expiry(p, &id, item->wall_ns);
    if (expires_ns != 0 && expires_ns < clock_wall_ns(&o->clock)) {
        /* The item ends with the call; when it is refused (stopping), the record is read again. */
        if (spool_drop(o->spool, (struct spool_run){item->seq, 1}, SPOOL_DROP_EXPIRED) != OK) {
            REACHED(OUT_DROP_REFUSED);
            o->rewind = true;
        }
        partition_let_go(&o->partitions, p);
        return;
    }
    struct batch *b = p->open;
    if (b != NULL && ((batch_len_with(b, item->body.len) > bytes_max && !BUG(121)) ||
                      (o->config.api.api->unique_ids && batch_has_id(b, id.id)))) {
        close_batch(o, b);
        b = NULL;
    }
    if (b == NULL)
        b = open_batch(o, p);
    /* No more than may be needed is reserved as it grows; one event alone may pass the limit. */
    uint64_t need = batch_len_with(b, item->body.len) + b->envelope.before.len;
    b->raw.max = need > bytes_max ? need : bytes_max;
    size_t before = batch_memory(b);
    enum err err = batch_add(b, item->seq, id.id, item->body, expires_ns);
    ensure(err == OK); /* a record is at most 16 MiB, a payload 32 */
    o->memory += batch_memory(b) - before;
    if (b->oldest_wall_ns == 0 || item->wall_ns < b->oldest_wall_ns)
        b->oldest_wall_ns = item->wall_ns;
    if (b->count >= events_max(o, p) || b->raw.len + b->envelope.after.len >= bytes_max)
        close_batch(o, b);
}

/* The spool has more but does not give it: its window may be full of what waits in open batches. */
static void check_window(struct output *o)
{
    bool stuck = o->last_read < spool_acked(o->spool) && o->unassigned == 0;
    if (!stuck) {
        o->stalled_us = 0;
        return;
    }
    if (o->stalled_us == 0) {
        o->stalled_us = o->now_us;
        return;
    }
    uint64_t since = o->now_us - o->stalled_us;
    struct batch *b = oldest_open(o);
    if (since >= WINDOW_STALL_US && b != NULL && !b->partition->held) {
        close_batch(o, b);
        o->stalled_us = o->now_us;
    } else if (since >= WINDOW_TELL_US && !o->window_told) {
        for (struct list *l = o->partitions.all.next; l != &o->partitions.all && !o->window_told;
             l = l->next) {
            struct partition *p = CONTAINER_OF(l, struct partition, all);
            if (!p->held || p->skipped == 0)
                continue;
            o->window_told = true;
            news_add(&o->news, NEWS_WARNING, "partition \"%.*s\" is held and now holds back all others: %s",
                     (int)p->name.len, (const char *)p->name.at, p->text);
        }
    }
}

void fill_read(struct output *o)
{
    if (o->failed || o->loading > 0) /* memory is for one after the other, and it is needed first */
        return;
    uint64_t bytes_max = raw_max(o);
    unsigned left = READ_PER_STEP;
    while (o->readable && o->unassigned == 0) {
        if (o->memory >= o->config.payload_budget_bytes)
            output_trim(o);
        bool tight = o->memory >= o->config.payload_budget_bytes;
        if (tight && (o->in_flight > 0 || unsent(o) > 0))
            break; /* what is closed leaves first; the open ones may go on filling then */
        if (tight || o->open_count >= OPEN_MAX) {
            struct batch *b = oldest_open(o);
            if (b != NULL)
                close_batch(o, b);
            else if (!list_empty(&o->order))
                break;
        }
        if (o->unassigned > 0)
            break;
        if (left-- == 0) {
            o->more = true;
            break;
        }
        struct spool_item item;
        if (spool_next(o->spool, &item) != OK) {
            o->readable = false;
            break;
        }
        o->last_read = item.seq;
        o->stalled_us = 0;
        o->progress_us = o->now_us;
        take(o, &item, bytes_max);
    }
    if (!o->readable)
        check_window(o);
}

/* --- assigning ------------------------------------------------------------------------------------------ */

/* Assigned, not settled, and neither held nor overtaken. */
static unsigned ahead(const struct output *o)
{
    unsigned n = 0, overtaken = 0;
    for (struct list *l = o->order.next; l != &o->order; l = l->next) {
        const struct batch *b = CONTAINER_OF(l, struct batch, link);
        if (b->overtaken && b->state != BATCH_FLIGHT && overtaken++ < OVERTAKEN_MAX)
            continue;
        n += b->state != BATCH_CLOSED && (!b->partition->held || b->state == BATCH_FLIGHT);
    }
    return n;
}

static void assigned(struct output *o, struct batch *b, const struct spool_batch_id *id)
{
    batch_set_id(b, id);
    b->state = BATCH_WAITING;
    ensure(o->unassigned > 0);
    o->unassigned--;
    o->progress_us = o->now_us;
}

void fill_assign(struct output *o)
{
    if (o->unassigned == 0 || o->failed)
        return;
    if (o->spool_retry_us != 0 && !o->room && o->now_us < o->spool_retry_us)
        return;
    o->spool_retry_us = 0;
    unsigned taken = ahead(o), limit = output_concurrency(o) + AHEAD;
    for (struct list *l = o->order.next; l != &o->order; l = l->next) {
        struct batch *b = CONTAINER_OF(l, struct batch, link);
        if (b->state != BATCH_CLOSED || (taken >= limit && !b->partition->held))
            continue;
        struct spool_assignment a = batch_assignment(b);
        struct spool_batch_id id;
        enum err err = spool_assign(o->spool, &a, &id);
        if (err == OK) {
            assigned(o, b, &id);
            taken++;
            continue;
        }
        REACHED(OUT_ASSIGN_REFUSED);
        if (err == ERR_FULL || err == ERR_AGAIN)
            o->spool_retry_us = o->now_us + RETRY_SPOOL_US;
        else if (err == ERR_CLOSED)
            o->spool_retry_us = o->now_us + RETRY_SPOOL_US; /* stopping: it stays in the spool */
        else
            o->rewind = true,
            o->more = !BUG(115); /* its members are not what they were: a policy of the spool took some */
        break;
    }
    if (o->unassigned == 0 && o->readable)
        o->more = true; /* reading may go on */
}

/* --- putting back --------------------------------------------------------------------------------------- */

static void put_back(struct output *o, struct batch *b)
{
    struct partition *p = b->partition;
    if (p->first_us == 0 || (b->opened_us != 0 && b->opened_us < p->first_us))
        p->first_us = b->opened_us;
    if (b->state == BATCH_OPEN) {
        p->open = NULL;
        o->open_count--;
    } else {
        o->unassigned--;
    }
    output_batch_recycle(o, b);
}

void fill_rewind(struct output *o)
{
    REACHED(OUT_REWIND);
    o->rewind = false;
    struct list *next;
    for (struct list *l = o->opens.next; l != &o->opens; l = next) {
        next = l->next;
        put_back(o, CONTAINER_OF(l, struct batch, link));
    }
    for (struct list *l = o->order.next; l != &o->order; l = next) {
        struct batch *b = CONTAINER_OF(l, struct batch, link);
        next = l->next;
        if (b->state == BATCH_CLOSED)
            put_back(o, b);
    }
    for (struct list *l = o->partitions.all.next; l != &o->partitions.all; l = l->next)
        CONTAINER_OF(l, struct partition, all)->skipped = 0;
    ensure(o->unassigned == 0 && o->open_count == 0);
    spool_rewind(o->spool);
    o->last_read = 0;
    o->readable = true;
    o->window_told = false;
    o->stalled_us = 0;
}

/* Batches that followed from a split have higher numbers than those that they come before: what tells the
 * order is the first event. */
static void insert_by_seq(struct output *o, struct batch *b)
{
    struct list *at = &o->order;
    while (at->prev != &o->order &&
           CONTAINER_OF(at->prev, struct batch, link)->runs[0].first > b->runs[0].first)
        at = at->prev;
    list_insert_before(at, &b->link);
}

void fill_adopt(struct output *o)
{
    struct spool_open_batch open;
    uint64_t after = 0;
    while (spool_open_batch_next(o->spool, after, &open)) {
        after = open.id.batch_no;
        struct batch *b = output_batch_take(o);
        struct partition *p = output_partition(o, open.assignment.partition);
        REACHED(OUT_ADOPTED);
        batch_adopt(b, p, &open);
        p->batches++;
        b->ready_us = o->now_us;
        insert_by_seq(o, b);
    }
}

uint64_t fill_wake_us(const struct output *o)
{
    uint64_t at = o->unassigned > 0 ? o->spool_retry_us : 0;
    const struct batch *b = oldest_open(o);
    if (b != NULL) {
        uint64_t due = b->opened_us + o->config.batch_wait_us;
        if (due > o->now_us && (at == 0 || due < at))
            at = due;
    }
    if (o->stalled_us != 0 && (b != NULL || !o->window_told)) {
        uint64_t look = o->stalled_us + (b != NULL ? WINDOW_STALL_US : WINDOW_TELL_US);
        if (look > o->now_us && (at == 0 || look < at))
            at = look;
    }
    return at;
}
