/* shell: what agent/output_host.c and agent/upstream_conn.c do, in virtual time: the output's wishes are
 * carried out, and what comes of them is reported back.
 *
 * A request takes some time to the upstream, or never arrives; its answer takes some time back, or is cut
 * somewhere, or comes too late. Answers are bytes of HTTP and go through the production parser. */
#include "tests/sim/delivery/world.h"

#include "lib/base/clock.h"
#include "lib/codec/compress.h"
#include "lib/http/http_client.h"
#include "lib/output/batch.h"

#include <inttypes.h>
#include <stdlib.h>

#define RAW_MAX (8u << 20)

static uint8_t raw_bytes[RAW_MAX];

/* --- flights ------------------------------------------------------------------------------------------ */

struct flight *shell_free_flight(struct world *w)
{
    for (unsigned k = 0; k < FLIGHTS_MAX; k++)
        if (!w->flights[k].used)
            return &w->flights[k];
    world_fail(w, "more than %u requests under way", FLIGHTS_MAX);
}

static void release(struct flight *f)
{
    free(f->answer);
    *f = (struct flight){0};
}

static void fly(struct world *w, struct flight *f, enum happening kind, uint64_t in_us)
{
    world_at(w, in_us, kind, kind == EV_ARRIVE ? 0 : w->life, (uint64_t)(f - w->flights), f->serial);
}

static uint64_t some_latency(struct world *w)
{
    return 1 + decide(&w->luck, w->knobs.latency_us);
}

static void will_break(struct world *w, struct flight *f, enum output_break what, uint64_t in_us)
{
    f->broke = what;
    fly(w, f, EV_BREAK, in_us);
}

static unsigned in_flight(const struct world *w)
{
    unsigned n = 0;
    for (unsigned k = 0; k < FLIGHTS_MAX; k++)
        n += w->flights[k].used && w->flights[k].carry != NULL;
    return n;
}

/* --- sending ------------------------------------------------------------------------------------------ */

static size_t put(struct world *w, size_t len, struct span s)
{
    if (len + s.len > RAW_MAX)
        world_fail(w, "a request of more than %u bytes", RAW_MAX);
    if (s.len > 0)
        memcpy(raw_bytes + len, s.at, s.len);
    return len + s.len;
}

static size_t decoded(struct world *w, const struct batch *b, const struct output_request *req)
{
    struct bytes out;
    size_t len = 0;
    if (req->send.own_body) { /* an event on a path of its own: what tells batches apart is as if it had the
                                 envelope */
        len = put(w, len, b->envelope.before);
        len = put(w, len, req->send.body);
        return put(w, len, b->envelope.after);
    }
    if (req->codec == API_IDENTITY) {
        for (unsigned i = 0; i < req->body_count; i++)
            len = put(w, len, req->body[i]);
        return len;
    }
    const struct decode_limits limits = {.bytes_max = RAW_MAX};
    struct decoder *d = decoder_new();
    bytes_init(&out, RAW_MAX);
    enum err err = decoder_decode(d, req->codec == API_GZIP ? ENCODING_GZIP : ENCODING_ZSTD, req->body[0],
                                  &limits, &out, NULL);
    if (err != OK)
        world_fail(w, "an encoded body does not decode: %s", err_name(err));
    len = out.len;
    memcpy(raw_bytes, out.at, len);
    bytes_deinit(&out);
    decoder_free(d);
    return len;
}

static char next_action(struct world *w)
{
    if (w->script == NULL || w->scripted >= strlen(w->script->actions))
        return 'd';
    return w->script->actions[w->scripted++];
}

/* How the request fares on its way. */
static void set_out(struct world *w, struct flight *f)
{
    const struct knobs *k = &w->knobs;
    f->action = next_action(w);
    f->reused = w->idle_connections > 0;
    w->idle_connections -= f->reused;
    if (!f->reused && w->now_us < w->certificate_until_us) {
        world_met(MET_CERTIFICATE);
        will_break(w, f, BREAK_DENIED, some_latency(w));
    } else if (!f->reused &&
               (f->action == 'c' || upstream_unreachable(w) || decide_rarely(&w->luck, k->one_in_refused))) {
        world_met(MET_REFUSED);
        will_break(w, f, BREAK_CONNECT, some_latency(w));
    } else if (upstream_unreachable(w) || decide_rarely(&w->luck, k->one_in_lost)) {
        world_met(f->reused ? MET_REUSED : MET_LOST);
        will_break(w, f, f->reused ? BREAK_REUSED : BREAK_UNKNOWN, some_latency(w));
    } else {
        f->on_the_wire = true;
        fly(w, f, EV_ARRIVE, some_latency(w));
    }
}

static void send(struct world *w, struct batch *b)
{
    struct output_request req;
    struct arena arena;
    arena_init(&arena, 4096, 1 << 20);
    output_request(w->output, b, &arena, &req);
    size_t len = decoded(w, b, &req);
    uint32_t which = oracle_send(w, b, req.payload_id, raw_bytes, len, req.body_len);
    struct flight *f = shell_free_flight(w);
    *f = (struct flight){.used = true,
                         .batch = which,
                         .life = w->life,
                         .number = w->sends + 1,
                         .serial = ++w->order,
                         .carry = b,
                         .raw_len = len,
                         .encoded = req.codec != API_IDENTITY,
                         .structured = b->form.mode != API_MODE_BATCH};
    arena_deinit(&arena);
    w->sends = f->number;
    if (in_flight(w) > w->knobs.output.concurrency)
        world_fail(w, "%u requests in flight, concurrency is %u", in_flight(w), w->knobs.output.concurrency);
    set_out(w, f);
}

static void probe(struct world *w)
{
    struct output_request req;
    struct arena arena;
    world_met(MET_PROBE);
    oracle_probe(w);
    arena_init(&arena, 4096, 1 << 20);
    if (!output_probe_request(w->output, &arena, &req))
        world_fail(w, "a probe was wished for that the api does not have");
    w->asking = strcmp(req.send.method, "OPTIONS") == 0;
    arena_deinit(&arena);
    w->probe_out = true;
    world_at(w, some_latency(w), EV_PROBED, w->life, 0, 0);
}

/* Its bytes may be on the wire: what was sent arrives all the same. */
static void cancel(struct world *w, struct batch *b)
{
    world_met(MET_CANCEL);
    for (unsigned k = 0; k < FLIGHTS_MAX; k++) {
        struct flight *f = &w->flights[k];
        if (!f->used || f->carry != b)
            continue;
        struct flight *end = shell_free_flight(w);
        *end = (struct flight){.used = true,
                               .life = w->life,
                               .number = f->number,
                               .serial = ++w->order,
                               .carry = b,
                               .batch = f->batch};
        f->carry = NULL;
        will_break(w, end, BREAK_CANCELLED, 1);
        return;
    }
    world_fail(w, "a batch was to be cancelled that is not under way");
}

static void encode(struct world *w, struct batch *b)
{
    world_met(MET_ENCODE);
    for (unsigned k = 0; k < sizeof w->encodings / sizeof *w->encodings; k++) {
        if (w->encodings[k] != NULL)
            continue;
        w->encodings[k] = b;
        world_at(w, 1 + decide(&w->luck, w->knobs.pool_us), EV_ENCODED, w->life, k, 0);
        return;
    }
    world_fail(w, "too many encodings at once");
}

static void carry_out(struct world *w, struct output_wish wish)
{
    world_trace(w, (uint64_t)wish.kind << 32);
    if (w->paused && (wish.kind == WISH_SEND || wish.kind == WISH_PROBE))
        world_fail(w, "a request while the output is paused");
    switch (wish.kind) {
    case WISH_SEND:
        send(w, wish.batch);
        return;
    case WISH_ENCODE:
        encode(w, wish.batch);
        return;
    case WISH_PROBE:
        probe(w);
        return;
    case WISH_CANCEL:
        cancel(w, wish.batch);
        return;
    case WISH_REBUILD:
        world_fail(w, "the output had to start itself again: nothing moved though something was pending");
    case WISH_SECRETS:
        output_secrets_read(w->output);
        return;
    case WISH_NOTHING:
        return;
    }
}

static void take_news(struct world *w)
{
    struct output_news news;
    while (output_news_next(w->output, &news)) {
        /* Rot may bring back a batch that had ended, and with it fewer events than it had. */
        if (strstr(news.text, "the envelope changed") != NULL && w->rots == 0)
            world_fail(w, "a batch lost its identity to a change of configuration: %s", news.text);
        if (w->verbose)
            world_say(w, "  news: %s", news.text);
    }
}

void shell_step(struct world *w)
{
    w->dirty = false;
    for (unsigned turns = 0;; turns++) {
        struct output_wish wish = output_step(w->output);
        take_news(w);
        if (wish.kind == WISH_NOTHING)
            break;
        carry_out(w, wish);
        if (turns > 10000)
            world_fail(w, "the output does not come to rest");
    }
    w->wake_at_us = output_wake_us(w->output);
}

/* --- coming back -------------------------------------------------------------------------------------- */

static void tell_break(struct world *w, struct flight *f, enum output_break what, const char *text)
{
    struct batch *b = f->carry;
    if (w->verbose)
        world_say(w, "broke %u: %d %s", f->batch, what, text);
    if (b != NULL) {
        oracle_answer(w, f, false, what);
        f->carry = NULL;
        output_broke(w->output, b, what, text);
        w->dirty = true;
    }
    if (!f->on_the_wire)
        release(f);
}

/* As upstream_conn.c tells it. */
static void tell_answer(struct world *w, struct flight *f)
{
    struct http_client c;
    http_client_init(&c, HTTP_CLIENT_BODY_BYTES_MAX);
    http_client_begin(&c, HTTP_CLIENT_PLAIN);
    for (size_t at = 0; at < f->answer_cut && c.state == HTTP_CLIENT_READING;) {
        size_t n = f->answer_cut - at, some = 1 + decide(&w->luck, 4) * 40;
        n = decide(&w->luck, 4) == 1 && some < n ? some : n;
        at += http_client_feed(&c, span_of(f->answer + at, n));
    }
    if (c.state == HTTP_CLIENT_READING)
        http_client_eof(&c, decide(&w->luck, 2) == 0);
    if (c.state != HTTP_CLIENT_COMPLETE) {
        world_met(MET_TORN);
        tell_break(w, f, f->reused && c.state == HTTP_CLIENT_NO_ANSWER ? BREAK_REUSED : BREAK_UNKNOWN,
                   "torn answer");
        http_client_deinit(&c);
        return;
    }
    struct api_reply reply = {.status = c.status,
                              .body = bytes_span(&c.body),
                              .body_cut = c.body_cut,
                              .content_type = http_client_header(&c, SPAN("Content-Type")),
                              .retry_after = http_client_header(&c, SPAN("Retry-After")),
                              .ratelimit = http_client_header(&c, SPAN("RateLimit")),
                              .location = http_client_header(&c, SPAN("Location")),
                              .wall_ns = world_wall_ns(w)};
    struct batch *b = f->carry;
    if (w->verbose)
        world_say(w, "answer to %u: %u %.*s", f->batch, c.status,
                  (int)(reply.body.len < 80 ? reply.body.len : 80),
                  reply.body.at == NULL ? "" : (const char *)reply.body.at);
    oracle_answer(w, f, true, BREAK_UNKNOWN);
    w->idle_connections += c.reusable;
    f->carry = NULL;
    output_replied(w->output, b, &reply);
    w->dirty = true;
    http_client_deinit(&c);
    release(f);
}

static void on_arrive(struct world *w, struct flight *f)
{
    const struct knobs *k = &w->knobs;
    f->on_the_wire = false;
    upstream_arrive(w, f);
    if (f->life != w->life || f->carry == NULL) {
        release(f); /* nobody waits for the answer */
        return;
    }
    f->answer_cut = f->answer_len;
    if (f->action == 'l' || decide_rarely(&w->luck, k->one_in_answer_lost)) {
        world_met(MET_ANSWER_LOST);
        will_break(w, f, f->reused ? BREAK_REUSED : BREAK_UNKNOWN, some_latency(w));
    } else if (decide_rarely(&w->luck, k->one_in_slow)) {
        world_met(MET_TIMEOUT);
        will_break(w, f, BREAK_UNKNOWN, k->output.request_timeout_us);
    } else {
        if (f->action == 't')
            f->answer_cut = f->answer_len / 2;
        else if (decide_rarely(&w->luck, k->one_in_torn))
            f->answer_cut = decide(&w->luck, (uint32_t)f->answer_len);
        fly(w, f, EV_ANSWER, some_latency(w));
    }
}

static void on_probed(struct world *w)
{
    struct api_reply reply = {.wall_ns = world_wall_ns(w)};
    if (w->asking)
        upstream_consent(w, &reply);
    else
        reply.status = upstream_probe_status(w);
    unsigned status = reply.status;
    w->probe_out = false;
    if (w->asking && status == 200 && !span_is(reply.webhook_origin, "other.example"))
        oracle_consented(w);
    else if (w->failed_us == 0)
        w->failed_us = w->now_us;
    w->murky = true;
    w->murky_mark = w->sends;
    w->outage = false;
    output_probed(w->output, status == 0 ? NULL : &reply, BREAK_CONNECT, "refused");
    w->dirty = true;
}

static void on_encoded(struct world *w, unsigned which)
{
    struct batch *b = w->encodings[which];
    w->encodings[which] = NULL;
    batch_encode_run(b);
    output_encoded(w->output, b);
    w->dirty = true;
}

void shell_event(struct world *w, const struct due *e)
{
    struct flight *f = &w->flights[e->a % FLIGHTS_MAX];
    if (e->kind == EV_WAKE) {
        w->dirty = true;
    } else if (e->kind == EV_ENCODED) {
        if (w->encodings[e->a] != NULL)
            on_encoded(w, (unsigned)e->a);
    } else if (e->kind == EV_PROBED) {
        if (w->probe_out)
            on_probed(w);
    } else if (f->used && f->serial == e->b) {
        if (e->kind == EV_ARRIVE)
            on_arrive(w, f);
        else if (f->carry == NULL)
            release(f); /* it was cancelled, or the process stops */
        else if (e->kind == EV_ANSWER)
            tell_answer(w, f);
        else
            tell_break(w, f, f->broke, "reset");
    }
}

/* --- ends --------------------------------------------------------------------------------------------- */

void shell_forget(struct world *w)
{
    for (unsigned k = 0; k < FLIGHTS_MAX; k++) {
        struct flight *f = &w->flights[k];
        f->carry = NULL;
        if (f->used && !f->on_the_wire)
            release(f);
    }
    memset(w->encodings, 0, sizeof w->encodings);
}

void shell_break_all(struct world *w)
{
    for (unsigned k = 0; k < FLIGHTS_MAX; k++)
        if (w->flights[k].used && w->flights[k].carry != NULL)
            tell_break(w, &w->flights[k], BREAK_UNKNOWN, "the agent is stopping");
    if (w->probe_out)
        output_probed(w->output, NULL, BREAK_CONNECT, "the agent is stopping");
    w->probe_out = false;
}

void shell_end_encodings(struct world *w)
{
    for (unsigned k = 0; k < sizeof w->encodings / sizeof *w->encodings; k++)
        if (w->encodings[k] != NULL)
            on_encoded(w, k);
}
