/* oracle: what must hold, judged from what senders were told and what the upstream saw, never from the
 * output's own state but for its counters.
 *
 *   1. What a sender was answered for is in the end taken by the upstream, a dead letter, or in a counted
 * drop.
 *   2. A batch id carries the same bytes for ever; the bytes are the events' own in their envelope, of one
 * partition.
 *   3. After an unknown outcome the same batch goes again: an event is in no other batch before that is
 * settled, and the upstream takes no event in two batches. What an answer itself left open is excused.
 *   4. A batch whose answer was read is not sent again, but for a death within a commit of it.
 *   5. No request before a Retry-After has passed, none but a probe during an outage, then one more with each
 * success; never more than `rate_limit` in a period, nor than `concurrency`.
 *   6. Order within a partition, with one request at a time.
 *   7. accepted = pending + delivered + dead + dropped; never more delivered than the upstream took; as many
 * repeats counted as there were; nothing dead that the upstream did not refuse; nothing given up or expired
 * unasked. */
#include "tests/sim/delivery/world.h"

#include "lib/base/clock.h"
#include "lib/base/hash.h"
#include "lib/output/batch.h"

#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>

#define COMMIT_MAX_US (2 * US_PER_S)
#define LEARNED_US (600 * US_PER_S)
#define HOUR_US (3600 * US_PER_S)

void oracle_reset(struct world *w)
{
    for (unsigned k = 0; k < EVENTS_MAX && (k <= w->event_count || w->events[k].body != NULL); k++) {
        free(w->events[k].body);
        w->events[k] = (struct sent_event){0};
    }
    for (unsigned k = 0; k <= w->known_count; k++) {
        free(w->known[k].members);
        free(w->known[k].fates);
        w->known[k] = (struct known_batch){0};
    }
    for (unsigned k = 0; k < FLIGHTS_MAX; k++) {
        free(w->flights[k].answer);
        w->flights[k] = (struct flight){0};
    }
    memset(w->known_slots, 0, sizeof w->known_slots);
    w->event_count = w->known_count = 0;
    w->unacked_from = 1;
    w->returns = UINT_MAX;
}

/* --- batches that were seen --------------------------------------------------------------------------- */

static struct known_batch *find(struct world *w, const char *id, uint32_t *ret)
{
    uint64_t at = hash64(span_str(id), 0);
    for (;; at++) {
        uint32_t *slot = &w->known_slots[at % (2 * BATCHES_MAX)];
        if (*slot == 0) {
            if (w->known_count + 1 >= BATCHES_MAX)
                world_fail(w, "too many batches for the oracle");
            *slot = ++w->known_count;
            *ret = *slot;
            return &w->known[*slot];
        }
        if (strcmp(w->known[*slot].id, id) == 0) {
            *ret = *slot;
            return &w->known[*slot];
        }
    }
}

/* Which events are in these bytes; they must be there whole, in the envelope and nothing else. */
static unsigned read_members(struct world *w, const struct batch *b, const uint8_t *raw, size_t len,
                             uint32_t *into)
{
    unsigned count = 0;
    size_t at = b->envelope.before.len;
    while (at + b->envelope.after.len < len && count < b->member_count) {
        if (count > 0)
            at += b->envelope.between.len;
        const uint8_t *mark = at > len ? NULL : memmem(raw + at, len - at, "e~", 2);
        uint64_t number = mark == NULL ? 0 : strtoull((const char *)mark + 2, NULL, 10);
        if (number == 0 || number > w->event_count)
            world_fail(w, "a request holds what nobody offered, at byte %zu of %zu", at, len);
        const struct sent_event *e = &w->events[number];
        if (at + e->len > len || memcmp(raw + at, e->body, e->len) != 0)
            world_fail(w, "event %" PRIu64 " is not itself in its request", number);
        at += e->len;
        into[count++] = (uint32_t)number;
    }
    if (at + b->envelope.after.len != len || count != b->member_count)
        world_fail(w, "a request of %zu bytes ends after %zu", len, at + b->envelope.after.len);
    return count;
}

static void first_seen(struct world *w, struct known_batch *k, const struct batch *b, const char *id,
                       const uint8_t *raw, size_t len)
{
    memcpy(k->id, id, strlen(id) + 1); /* of one size, checked by the caller */
    k->hash = hash64(span_of(raw, len), 0);
    k->members = calloc(b->member_count, sizeof *k->members);
    if (k->members == NULL)
        abort();
    k->count = read_members(w, b, raw, len, k->members);
    k->partition = w->events[k->members[0]].partition;
    for (unsigned i = 0; i < k->count; i++)
        if (w->events[k->members[i]].partition != k->partition)
            world_fail(w, "batch %s mixes partitions", id);
}

/* --- sending ------------------------------------------------------------------------------------------ */

/* Each member's last batch must be this one or over. */
static void check_members(struct world *w, const struct known_batch *k, uint32_t which)
{
    for (unsigned i = 0; i < k->count; i++) {
        struct sent_event *e = &w->events[k->members[i]];
        const struct known_batch *last = &w->known[e->sent_in];
        bool settled = last->standing == STAND_ENDED || last->standing == STAND_AGAIN;
        if (e->sent_in != 0 && e->sent_in != which && !settled && !e->excused && !w->loose)
            world_fail(w, "event %u goes in batch %s though what became of it in batch %s is not known",
                       k->members[i], k->id, last->id);
        e->sent_in = which;
    }
}

static void check_repeat(struct world *w, struct known_batch *k)
{
    world_met(k->life == w->life ? MET_SEND_AGAIN : MET_SEND_RECOVERED);
    if (k->standing == STAND_FLYING && k->life == w->life)
        world_fail(w, "batch %s is sent though it is in flight", k->id);
    if (k->standing != STAND_ENDED)
        return;
    if (k->life != 0 && !(w->loose && k->life != w->life))
        world_fail(w, "batch %s is sent again though its answer was read%s", k->id,
                   k->life == w->life ? "" : " long before the process died");
}

static void check_ids(struct world *w, const struct known_batch *k)
{
    if (!w->knobs.output.api.api->unique_ids)
        return;
    for (unsigned f = 0; f < FLIGHTS_MAX; f++) {
        if (!w->flights[f].used || w->flights[f].carry == NULL || w->flights[f].life != w->life)
            continue;
        const struct known_batch *other = &w->known[w->flights[f].batch];
        for (unsigned i = 0; other != k && i < k->count; i++)
            for (unsigned j = 0; j < other->count; j++)
                if (w->events[k->members[i]].id == w->events[other->members[j]].id)
                    world_fail(w, "id e%u is in two requests at once", w->events[k->members[i]].id);
    }
}

/* A request leaves, with a batch or without. */
static void check_time(struct world *w)
{
    if (w->stopped)
        world_fail(w, "a request though the upstream said that it is gone");
    if (w->now_us < w->floor_us)
        world_fail(w, "a request %" PRIu64 " us before the Retry-After has passed", w->floor_us - w->now_us);
    unsigned since = 0, all = 0;
    for (unsigned k = 0; k < FLIGHTS_MAX; k++) {
        const struct flight *f = &w->flights[k];
        bool ours = f->used && f->carry != NULL && f->life == w->life && f->broke != BREAK_CANCELLED;
        all += ours;
        since += ours && f->number > w->outage_mark;
    }
    since += w->probe_out;
    if (w->outage && !w->murky && since > 0)
        world_fail(w, "%u probes besides this one during an outage", since);
    if (!w->outage && !w->murky && w->returns != UINT_MAX && all > w->returns)
        world_fail(w, "%u requests in flight after %u successes since an outage", all + 1, w->returns);
    if (w->rate_requests == 0)
        return;
    if (w->rate_count >= w->rate_requests) {
        uint64_t since_us = w->now_us - w->rate_at[(w->rate_count - w->rate_requests) % RATE_MAX];
        if (since_us + 1 < w->rate_per_us)
            world_fail(w, "%" PRIu64 " requests within %" PRIu64 " us", w->rate_requests + 1, since_us);
    }
    w->rate_at[w->rate_count++ % RATE_MAX] = w->now_us;
}

/* A batch that is seen for the first time keeps to every limit; one event may be larger than any. */
static void check_limits(struct world *w, const struct known_batch *k, const struct batch *b, size_t len,
                         uint64_t sent_len)
{
    const struct api_limits *l = &w->knobs.output.api.limits;
    if (k->count > w->events_most)
        world_fail(w, "%u events in a request, %" PRIu64 " are allowed", k->count, w->events_most);
    if (k->count == 1)
        return;
    if (len > w->bytes_most)
        world_fail(w, "a request of %zu bytes, %" PRIu64 " are allowed", len, w->bytes_most);
    bool may_be_cut = !b->recovered; /* of one of an earlier process nobody knows that it was never sent */
    if (l->batch_sent_bytes != 0 && sent_len > l->batch_sent_bytes && may_be_cut)
        world_fail(w, "a request of %" PRIu64 " bytes as sent, %" PRIu64 " are allowed", sent_len,
                   l->batch_sent_bytes);
    if (w->learned_bytes != 0 && k->members[0] > w->learned_from && w->now_us - w->learned_us < LEARNED_US &&
        len > w->learned_bytes)
        world_fail(w, "a request of %zu bytes though twice %" PRIu64 " were too large", len,
                   w->learned_bytes);
}

uint32_t oracle_send(struct world *w, const struct batch *b, const char *payload_id, const uint8_t *raw,
                     size_t len, uint64_t sent_len)
{
    uint32_t which;
    if (w->knobs.webhook && !w->consented)
        world_fail(w, "events are sent to a webhook that has not consented");
    if (strlen(payload_id) >= sizeof w->known[0].id)
        world_fail(w, "a payload id of %zu letters", strlen(payload_id));
    check_time(w);
    struct known_batch *k = find(w, payload_id, &which);
    world_met(MET_SEND);
    if (k->sends == 0) {
        first_seen(w, k, b, payload_id, raw, len);
        check_limits(w, k, b, len, sent_len);
    } else {
        if (k->hash != hash64(span_of(raw, len), 0))
            world_fail(w, "batch %s is sent again with other bytes", k->id);
        check_repeat(w, k);
    }
    if (b->form.mode != API_MODE_BATCH && len > 0 && raw[0] == '[')
        world_fail(w, "batch %s is sent outside batch mode as an array", k->id);
    if (w->verbose)
        world_say(w, "send %u: events %u to %u (%u), %zu bytes, batch %" PRIu64, which, k->members[0],
                  k->members[k->count - 1], k->count, len, b->id.batch_no);
    check_members(w, k, which);
    check_ids(w, k);
    k->open = k->open || (k->sends > 0 && k->standing == STAND_FLYING);
    k->standing = STAND_FLYING;
    k->life = w->life;
    k->sends++;
    return which;
}

void oracle_probe(struct world *w)
{
    check_time(w);
}

/* --- answers ------------------------------------------------------------------------------------------ */

static void learn_of_upstream(struct world *w, const struct flight *f, bool success)
{
    bool news = f->number > w->outage_mark;
    if (w->murky) {
        if (f->number <= w->murky_mark) {
            w->murky_mark = success ? w->murky_mark : w->sends;
            return;
        }
        w->murky = false;
        news = true;
    }
    if (success) {
        if (!news)
            return;
        w->returns = w->outage ? 1 : w->returns == UINT_MAX ? UINT_MAX : w->returns + 1;
        w->returns += w->outage; /* the first success lets two go */
        w->outage = false;
        return;
    }
    if (news || !w->outage)
        w->outage_mark = w->sends;
    w->outage = true;
}

/* An answer that may mean this or that to the output: what follows it is not judged. */
static void nothing_learnt(struct world *w, const struct flight *f)
{
    if (w->outage && f->number <= w->outage_mark)
        return;
    w->outage = false;
    w->murky = true;
    w->murky_mark = w->sends;
    w->returns = UINT_MAX;
}

void oracle_configured(struct world *w)
{
    const struct output_config *c = &w->knobs.output;
    const struct api_limits *l = &c->api.limits;
    uint64_t events =
        l->batch_events != 0 && l->batch_events < c->batch_events_max ? l->batch_events : c->batch_events_max;
    uint64_t bytes = l->batch_raw_bytes != 0 && l->batch_raw_bytes < c->batch_bytes_max ? l->batch_raw_bytes
                                                                                        : c->batch_bytes_max;
    w->events_most = events > w->events_most ? events : w->events_most;
    w->bytes_most = bytes > w->bytes_most ? bytes : w->bytes_most;
    if (c->concurrency != w->concurrency)
        w->returns = UINT_MAX; /* a ramp up to fewer requests may have ended */
    w->concurrency = c->concurrency;
    w->concurrency_most = c->concurrency > w->concurrency_most ? c->concurrency : w->concurrency_most;
    w->consented = false;
    if (w->rate_requests != c->rate_requests || w->rate_per_us != c->rate_per_us)
        w->rate_count = 0;
    w->rate_requests = c->rate_requests;
    w->rate_per_us = c->rate_per_us;
}

/* The receiver's rate holds unless ours is slower. */
void oracle_consented(struct world *w)
{
    uint64_t minute = w->knobs.consent_per_minute;
    w->consented = true;
    if (minute == 0 || (w->rate_requests != 0 && w->rate_requests * 60 * US_PER_S <= minute * w->rate_per_us))
        return;
    w->rate_requests = minute;
    w->rate_per_us = 60 * US_PER_S;
    w->rate_count = 0;
}

void oracle_resumed(struct world *w)
{
    w->paused = w->stopped = false;
    w->floor_us = w->quota_until_us = 0;
}

void oracle_answer(struct world *w, const struct flight *f, bool whole, enum output_break what)
{
    struct known_batch *k = &w->known[f->batch];
    if (w->failed_us == 0 && !(whole && f->success))
        w->failed_us = w->now_us;
    if (whole) {
        w->stopped = w->stopped || f->gone;
        if (f->clear && !f->success && f->floor_us > HOUR_US)
            w->quota_until_us = w->now_us + f->floor_us;
        if (f->too_large && (w->learned_bytes == 0 || f->raw_len / 2 < w->learned_bytes)) {
            w->learned_bytes = f->raw_len / 2;
            w->learned_us = w->now_us;
            w->learned_from = w->event_count;
        }
        k->standing = f->meaning == STAND_AGAIN && k->open ? STAND_UNKNOWN : f->meaning;
        k->open = k->open || f->meaning == STAND_UNKNOWN;
        for (unsigned i = 0; k->standing == STAND_ENDED && i < k->count; i++)
            w->events[k->members[i]].turned_away = w->events[k->members[i]].accepts == 0;
        k->ended_us = w->now_us;
        if (w->now_us + f->asked_us > w->asked_until_us)
            w->asked_until_us = w->now_us + f->asked_us;
        if (f->floor_us != 0 && w->now_us + f->floor_us > w->floor_us)
            w->floor_us = w->now_us + f->floor_us;
        if (f->clear)
            learn_of_upstream(w, f, f->success);
        else
            nothing_learnt(w, f);
        return;
    }
    bool begun = what != BREAK_CONNECT && what != BREAK_DENIED;
    k->open = k->open || begun;
    k->standing = k->open ? STAND_UNKNOWN : STAND_AGAIN;
    if (what == BREAK_CONNECT || what == BREAK_UNKNOWN)
        learn_of_upstream(w, f, false);
    else
        nothing_learnt(w, f);
}

void oracle_taken(struct world *w, struct known_batch *k, unsigned member, unsigned life)
{
    uint32_t which = (uint32_t)(k - w->known), number = k->members[member];
    struct sent_event *e = &w->events[number];
    bool late = life == 0 || life != w->life; /* it was long on the wire; both are 0 between two lives */
    if (e->bad)
        world_fail(w, "the upstream took event %u, which it refuses", number);
    if (e->accepts++ == 0) {
        w->taken++;
        e->taken_in = which;
        uint64_t *last = &w->order_at[e->partition];
        if (late)
            return;
        /* What was given up comes late when a crash took its letter before that was written. */
        bool revived = w->knobs.output.give_up_after_us != 0 && w->lives > 1;
        if (w->concurrency_most == 1 && number < *last && e->later == 0 && !e->excused && !w->loose &&
            !revived && !(e->turned_away && w->replayed))
            world_fail(w, "event %u comes after event %" PRIu64 " of its partition", number, *last);
        *last = number > *last ? number : *last;
        return;
    }
    world_met(MET_TRUE_REPEAT);
    w->repeats_in_life += !late;
    if (e->taken_in != which && !e->excused && !w->loose)
        world_fail(w, "the upstream took event %u in batch %s and again in %s", number,
                   w->known[e->taken_in].id, k->id);
}

/* --- life --------------------------------------------------------------------------------------------- */

void oracle_opened(struct world *w)
{
    struct output_status s;
    output_status(w->output, &s);
    w->repeated_base = s.repeated;
    w->repeats_in_life = 0;
}

/* What was lately answered for has no later commit yet that attests it: damage there looks like a torn tail.
 */
static void excuse_latest(struct world *w)
{
    if (!w->opened) /* a start that did not come to its end: what was the latest before it still is */
        return;
    w->latest = 0;
    for (unsigned k = w->event_count; k > 0 && w->events[k].life == w->life; k--)
        if (w->events[k].acked && w->events[k].acked_us + COMMIT_MAX_US > w->now_us)
            w->latest++;
    if (w->rots > 0)
        w->rot_excused += w->latest;
}

void oracle_rotten(struct world *w, bool damaged)
{
    if (damaged && w->rots++ == 0)
        w->rot_excused += w->latest;
    w->loose = w->loose || w->rots > 0; /* how a batch ended may be forgotten */
}

void oracle_life_ended(struct world *w)
{
    for (unsigned k = 1; k <= w->known_count; k++) {
        struct known_batch *b = &w->known[k];
        if (b->life != w->life)
            continue;
        if (b->standing == STAND_FLYING) {
            b->standing = STAND_UNKNOWN;
            b->open = true;
        }
        if (b->standing != STAND_ENDED)
            continue;
        /* What was read may not be on disk yet: then it is sent once more. Later, it must be. */
        bool lately = w->now_us - b->ended_us < COMMIT_MAX_US + w->knobs.job_us * UINT64_C(40);
        if (lately || w->knobs.faults || w->knobs.spool.durability != SPOOL_FSYNC)
            b->life = 0;
    }
    w->sends = w->outage_mark = 0;
    w->outage = w->murky = false;
    w->returns = UINT_MAX;
    w->floor_us = 0;
    w->rate_count = 0;
    w->stopped = w->asking = false;
    w->learned_bytes = w->failed_us = w->quota_until_us = 0;
    w->gave_up_known = false;
    excuse_latest(w);
    w->unacked_from = w->event_count + 1; /* what was not answered for is nobody's promise */
}

/* --- after every event -------------------------------------------------------------------------------- */

void oracle_check(struct world *w)
{
    struct spool_ledger l;
    struct output_status s;
    spool_ledger(w->spool, &l);
    uint64_t dropped = 0;
    for (unsigned k = 0; k < SPOOL_DROP_REASONS; k++)
        dropped += l.dropped[k];
    if (l.accepted != l.pending + l.delivered + l.dead + dropped)
        world_fail(w,
                   "accepted %" PRIu64 " is not pending %" PRIu64 " + delivered %" PRIu64 " + dead %" PRIu64
                   " + dropped %" PRIu64,
                   l.accepted, l.pending, l.delivered, l.dead, dropped);
    if (l.delivered > w->taken && w->rots == 0)
        world_fail(w, "%" PRIu64 " are delivered, the upstream took %" PRIu64, l.delivered, w->taken);
    if (l.dropped[SPOOL_DROP_EXPIRED] > 0 && w->knobs.spool.max_age_us == 0)
        world_fail(w, "events expired, which nobody asked for");
    if (l.dead_total[DEAD_GAVE_UP] > 0 && w->knobs.output.give_up_after_us == 0)
        world_fail(w, "events were given up, which nobody asked for");
    bool patient = w->failed_us != 0 && w->now_us - w->failed_us >= w->knobs.output.give_up_after_us;
    if (l.dead_total[DEAD_GAVE_UP] > w->gave_up && w->gave_up_known && !patient)
        world_fail(w, "events were given up %" PRIu64 " us after the first failure",
                   w->failed_us == 0 ? 0 : w->now_us - w->failed_us);
    w->gave_up = l.dead_total[DEAD_GAVE_UP];
    w->gave_up_known = true;
    world_trace(w, l.delivered ^ l.dead << 20 ^ dropped << 40);
    if (w->steps % 8 != 0)
        return;
    output_status(w->output, &s);
    if (w->now_us < w->quota_until_us && (s.state == OUT_OK || s.state == OUT_RETRYING))
        world_fail(w, "the quota is used up, and the state says \"%s\"", output_state_names[s.state]);
    if (s.repeated - w->repeated_base < w->repeats_in_life && !w->loose)
        world_fail(w, "%" PRIu64 " repeats of this life are counted, there were %" PRIu64,
                   s.repeated - w->repeated_base, w->repeats_in_life);
    world_trace(w, s.requests ^ s.repeated << 32);
}

void oracle_check_end(struct world *w)
{
    struct spool_ledger l;
    spool_ledger(w->spool, &l);
    uint64_t dropped = 0, missing = 0, letters = 0;
    for (unsigned k = 0; k < SPOOL_DROP_REASONS; k++)
        dropped += l.dropped[k];
    unsigned first = 0;
    for (unsigned k = 1; k <= w->event_count; k++) {
        const struct sent_event *e = &w->events[k];
        letters += e->letter;
        if (!e->acked || e->accepts > 0 || e->letter || e->skipped)
            continue;
        first = missing++ == 0 ? k : first;
    }
    if (missing > dropped + w->rot_excused)
        world_fail(w,
                   "%" PRIu64 " events that were answered for are nowhere (%u is the first); %" PRIu64
                   " were dropped",
                   missing, first, dropped);
    if (letters != l.dead)
        world_fail(w, "%" PRIu64 " letters are listed, %" PRIu64 " are counted", letters, l.dead);
    if (dropped > 0)
        world_met(MET_DROPPED);
    if (l.dropped[SPOOL_DROP_EXPIRED] > 0)
        world_met(MET_EXPIRED);
}
