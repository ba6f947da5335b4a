/* senders: applications that offer events and believe the answers, and an operator who looks after the
 * output. */
#include "tests/sim/delivery/world.h"

#include "lib/base/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define LOT_MAX 32

/* --- events ------------------------------------------------------------------------------------------- */

static struct span partition_of(const struct world *w, unsigned partition)
{
    static const char *const plain[] = {"a", "b", "c", "d"};
    static const char *const environments[] = {"p/e1", "p/e2", "p/e3",
                                               "POST /bulk\nContent-Type: application/json\n"};
    static const char *const signals[] = {"POST /v1/traces\nContent-Type: application/json\n",
                                          "POST /v1/logs\nContent-Type: application/json\n",
                                          "POST /v1/metrics\nContent-Type: application/json\n",
                                          "POST /v1/traces\nContent-Type: application/x-protobuf\n"};
    const char *api = w->knobs.output.api.api->name;
    if (strcmp(api, "monk") == 0)
        return SPAN(""); /* another one says that its events are not valid */
    const char *const *names = strcmp(api, "launchdarkly") == 0 ? environments
                               : strcmp(api, "otlp") == 0       ? signals
                                                                : plain;
    return span_str(names[partition % PARTITIONS_MAX]);
}

/* The number of the event stands in its body, so that whoever reads a request knows what is in it. */
static void make_event(struct world *w, unsigned number)
{
    struct sent_event *e = &w->events[number];
    unsigned pad = decide(&w->luck, w->knobs.body_max);
    free(e->body);
    *e = (struct sent_event){.id = number};
    e->partition = (uint8_t)decide(&w->luck, w->knobs.partitions);
    e->bad = decide_rarely(&w->luck, w->knobs.one_in_bad);
    if (w->script != NULL)
        e->bad = number == w->script->bad;
    if (number > 1 && decide_rarely(&w->luck, w->knobs.one_in_same_id))
        e->id = w->events[number - 1 - decide(&w->luck, number - 1 < 5 ? number - 1 : 5)].id;
    e->body = malloc(pad + 64);
    if (e->body == NULL)
        abort();
    int n = snprintf(e->body, 64, "{\"id\":\"e%u\",\"n\":\"e~%u~\",\"pad\":\"", e->id, number);
    e->len = (uint32_t)n;
    for (unsigned k = 0; k < pad; k++)
        e->body[e->len++] = (char)('a' + (number + k * k) % 23);
    memcpy(e->body + e->len, "\"}", 2);
    e->len += 2;
}

void senders_turn(struct world *w)
{
    struct api_item items[LOT_MAX];
    char ids[LOT_MAX][16];
    world_at(w, 1 + decide(&w->luck, w->knobs.produce_us), EV_PRODUCE, 0, 0, 0);
    unsigned count = 1 + decide(&w->luck, w->knobs.append_max);
    unsigned most = w->script != NULL ? 6 : EVENTS_MAX - 1;
    if (!world_open(w) || w->event_count + count > most)
        return;
    uint64_t bytes = 0, seq = 0;
    for (unsigned k = 0; k < count; k++) {
        unsigned number = w->event_count + 1 + k;
        make_event(w, number);
        const struct sent_event *e = &w->events[number];
        int n = snprintf(ids[k], sizeof ids[k], "e%u", e->id);
        items[k] = (struct api_item){.body = span_of(e->body, e->len),
                                     .partition = partition_of(w, e->partition),
                                     .id = span_of(ids[k], (size_t)n),
                                     .key_hash = number,
                                     .content_hash = number};
        bytes += e->len + (uint64_t)n + 32 + items[k].partition.len;
    }
    enum err room = output_room(w->output, count, bytes);
    enum err err = room;
    if (room == OK || w->knobs.spool.when_full == SPOOL_DROP_NEWEST)
        err = output_offer(w->output, items, count, world_wall_ns(w), &seq);
    world_trace(w, (uint64_t)err << 32 | count);
    w->dirty = true;
    if (err == ERR_FULL)
        world_met(MET_FULL);
    if (err != OK)
        return; /* the numbers are used again: refused events must not turn up */
    for (unsigned k = 0; k < count; k++) {
        struct sent_event *e = &w->events[++w->event_count];
        e->seq = seq - (count - 1 - k);
        e->life = w->life;
        e->shed = seq <= output_acked(w->output);
    }
    if (w->verbose)
        world_say(w, "events %u to %u, seq to %" PRIu64, w->event_count - count + 1, w->event_count, seq);
}

void senders_note_acked(struct world *w)
{
    uint64_t acked = output_acked(w->output);
    if (acked < w->acked)
        world_fail(w, "acked went back from %" PRIu64 " to %" PRIu64, w->acked, acked);
    w->acked = acked;
    while (w->unacked_from <= w->event_count) {
        struct sent_event *e = &w->events[w->unacked_from];
        if (e->life == w->life && e->seq > acked)
            break;
        if (e->life == w->life && !e->shed)
            e->acked = true, e->acked_us = w->now_us;
        w->unacked_from++;
    }
}

/* --- letters ------------------------------------------------------------------------------------------ */

static void on_letter(void *ctx, const struct spool_letter *letter)
{
    struct world *w = ctx;
    uint64_t number = 0;
    const char *at = memmem(letter->body.at, letter->body.len, "e~", 2);
    if (at != NULL)
        number = strtoull(at + 2, NULL, 10);
    if (number == 0 || number > w->event_count)
        world_fail(w, "a letter of no event");
    struct sent_event *e = &w->events[number];
    if (letter->body.len != e->len || memcmp(letter->body.at, e->body, e->len) != 0)
        world_fail(w, "the letter of event %" PRIu64 " has another body", number);
    bool refused = letter->reason == DEAD_REFUSED || letter->reason == DEAD_TOO_LARGE;
    if (refused && !e->bad)
        world_fail(w, "event %" PRIu64 " is dead (reason %u, status %u), but the upstream never refused it",
                   number, letter->reason, letter->status);
    if (refused && e->accepts > 0 && !e->excused)
        world_fail(w, "event %" PRIu64 " was taken, and is dead", number);
    if (letter->reason == DEAD_GAVE_UP && w->knobs.output.give_up_after_us == 0)
        world_fail(w, "event %" PRIu64 " was given up, which nobody asked for", number);
    if (!refused && letter->reason != DEAD_GAVE_UP && !e->excused)
        world_fail(w, "event %" PRIu64 " is dead for reason %u", number, letter->reason);
    world_met(letter->reason == DEAD_GAVE_UP ? MET_GAVE_UP : MET_LETTER);
    e->letter = true;
    w->letters_after = letter->letter_id;
    w->letters_counted++;
}

static void on_done(void *ctx, enum err err, uint64_t count, const struct fault *why)
{
    struct world *w = ctx;
    (void)why;
    if (w->verbose)
        world_say(w, "letters, request %d: %s, %" PRIu64, (int)w->dead.kind, err_name(err), count);
    w->dead_busy = false;
    w->dirty = true;
    if (w->dead.kind == DEAD_LIST && err == OK && w->letters_counted < w->dead.limit)
        w->letters_known = true;
}

static void ask(struct world *w, int kind, uint64_t after)
{
    if (w->dead_busy || !world_open(w))
        return;
    w->letters_counted = 0;
    w->dead = (struct spool_dead_request){
        .ctx = w, .kind = kind, .limit = 100, .after_id = after, .letter = on_letter, .done = on_done};
    enum err err = spool_dead(w->spool, &w->dead);
    w->dead_busy = err == OK;
    if (w->verbose)
        world_say(w, "request %d of letters: %s", kind, err_name(err));
}

void senders_list_letters(struct world *w)
{
    if (!w->letters_known && w->letters_after == 0)
        for (unsigned k = 1; k <= w->event_count; k++)
            w->events[k].letter = false;
    ask(w, DEAD_LIST, w->letters_after);
}

void senders_purge(struct world *w, bool replay)
{
    if (w->dead_busy)
        return;
    world_met(replay ? MET_REPLAY : MET_PURGE);
    /* What was given up may have been taken: then it comes again in another batch. */
    if (replay && w->knobs.output.give_up_after_us != 0)
        w->loose = true;
    w->replayed = w->replayed || replay;
    ask(w, replay ? DEAD_REPLAY : DEAD_PURGE, 0);
}

/* --- the operator ------------------------------------------------------------------------------------- */

/* Whatever else may be told to change under open batches. */
static void reconfigure_more(struct world *w, struct output_config *c)
{
    const struct api *api = c->api.api;
    c->codec = decide(&w->luck, 2) == 0 ? API_IDENTITY : api->auto_codec;
    c->concurrency = 1 + decide(&w->luck, 5);
    c->rate_requests = decide(&w->luck, 4) == 1 ? 20 : 0;
    c->api.limits = api->limits;
    if (decide(&w->luck, 2) == 1)
        c->api.limits.batch_raw_bytes = 4000;
    if (decide(&w->luck, 2) == 1)
        c->api.limits.batch_sent_bytes = 1000;
    if (decide(&w->luck, 4) == 1)
        c->api.limits.batch_events = 2;
}

static void reconfigure(struct world *w)
{
    static const uint64_t waits_ms[] = {200, 20, 2000};
    static const unsigned events[] = {10, 1, 3, 40};
    struct output_config *c = &w->knobs.output;
    world_met(MET_RECONFIGURE);
    c->batch_events_max = events[decide(&w->luck, 4)];
    c->batch_wait_us = waits_ms[decide(&w->luck, 3)] * US_PER_MS;
    if (w->knobs.one_in_envelope != 0)
        c->api.ndjson = decide(&w->luck, 2) == 1;
    if (w->knobs.wide)
        reconfigure_more(w, c);
    output_reconfigure(w->output, c);
    oracle_configured(w);
}

void senders_whim(struct world *w)
{
    switch (decide(&w->luck, 8)) {
    case 0:
    case 1:
        output_flush(w->output);
        break;
    case 2:
        world_met(MET_PAUSE);
        output_pause(w->output);
        w->paused = true;
        break;
    case 3:
    case 4:
        output_resume(w->output);
        oracle_resumed(w);
        break;
    case 5:
        reconfigure(w);
        break;
    case 6:
        senders_purge(w, false);
        break;
    default:
        senders_purge(w, true);
        break;
    }
    w->dirty = true;
}
