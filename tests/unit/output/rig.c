/* rig: see rig.h. */
#include "tests/unit/output/rig.h"

#include "lib/base/ensure.h"

#include <stdio.h>
#include <stdlib.h>

/* --- the rig -------------------------------------------------------------------------------------------- */

static uint64_t mono_us(void *ctx)
{
    return ((struct rig *)ctx)->now_us;
}

static uint64_t wall_ns(void *ctx)
{
    return ((struct rig *)ctx)->wall_ns;
}

void rig_init(struct rig *r)
{
    *r = (struct rig){.now_us = 1000000, .wall_ns = UINT64_C(1800000000) * NS_PER_S};
    r->clock = (struct clock){r, mono_us, wall_ns};
    r->spool = fake_new();
    r->config = (struct output_config){
        .api = {.api = &rig_api, .output_name = "test", .limits = rig_api.limits},
        .batch_events_max = 10,
        .batch_bytes_max = 1 << 20,
        .batch_wait_us = US_PER_S,
        .concurrency = 1,
        .retry_initial_us = 500 * US_PER_MS,
        .retry_max_us = 60 * US_PER_S,
        .request_timeout_us = 30 * US_PER_S,
    };
    r->sent = must_alloc(RIG_SENT_MAX * sizeof *r->sent);
    arena_init(&r->arena, 4096, 16 << 20);
}

void rig_start(struct rig *r)
{
    r->output = output_new(&r->config, r->spool, &r->clock, 7);
    struct spool_note opened = {.kind = NOTE_OPENED};
    output_note(r->output, &opened);
}

void rig_restart(struct rig *r)
{
    output_free(r->output);
    for (unsigned i = 0; i < r->sent_count; i++)
        r->sent[i].open = false;
    r->encode_count = 0;
    r->probe_open = false;
    fake_restart(r->spool);
    r->output = output_new(&r->config, r->spool, &r->clock, 8);
    rig_run(r);
}

void rig_deinit(struct rig *r)
{
    output_free(r->output);
    fake_free(r->spool);
    for (unsigned i = 0; i < r->sent_count; i++)
        free(r->sent[i].body);
    free(r->sent);
    arena_deinit(&r->arena);
}

void rig_offer(struct rig *r, const char *partition, const char *body)
{
    struct api_item item = {.body = span_str(body), .partition = span_str(partition), .weight = 1};
    uint64_t seq;
    enum err err = output_offer(r->output, &item, 1, r->wall_ns, &seq);
    ensure(err == OK);
}

void rig_offer_n(struct rig *r, unsigned n)
{
    while (n-- > 0) {
        char body[24];
        (void)snprintf(body, sizeof body, "%u", (unsigned)fake_count(r->spool) + 1);
        rig_offer(r, "p", body);
    }
}

static void record_send(struct rig *r, struct batch *b)
{
    struct output_request req;
    arena_reset(&r->arena);
    output_request(r->output, b, &r->arena, &req);
    ensure(r->sent_count < RIG_SENT_MAX);
    ensure(fake_is_durable(r->spool, b->id.batch_no) && "ASSIGN is durable before the send");
    struct rig_sent *s = &r->sent[r->sent_count++];
    *s = (struct rig_sent){
        .batch = b, .at_us = r->now_us, .count = b->member_count, .codec = req.codec, .open = true};
    (void)snprintf(s->payload_id, sizeof s->payload_id, "%s", req.payload_id);
    (void)snprintf(s->partition, sizeof s->partition, "%.*s", (int)b->partition->name.len,
                   (const char *)b->partition->name.at);
    s->body = must_strndup(req.body[0]);
    s->body_len = req.body_len;
}

static bool carry_out(struct rig *r, struct output_wish wish)
{
    switch (wish.kind) {
    case WISH_NOTHING:
        return false;
    case WISH_ENCODE:
        if (r->hold_encodes) {
            r->encodes[r->encode_count++] = wish.batch;
            return true;
        }
        batch_encode_run(wish.batch);
        output_encoded(r->output, wish.batch);
        return true;
    case WISH_SEND:
        record_send(r, wish.batch);
        return true;
    case WISH_PROBE:
        r->probes++;
        r->probe_open = true;
        return true;
    case WISH_CANCEL:
        r->cancels++;
        for (unsigned i = 0; i < r->sent_count; i++)
            if (r->sent[i].open && r->sent[i].batch == wish.batch) {
                r->sent[i].open = false;
                output_broke(r->output, wish.batch, BREAK_CANCELLED, "cancelled");
            }
        return true;
    case WISH_SECRETS:
        r->secrets++;
        if (!r->hold_secrets)
            output_secrets_read(r->output);
        return true;
    case WISH_REBUILD:
        r->rebuilds++;
        return true;
    }
    return false;
}

static bool deliver_notes(struct rig *r)
{
    struct spool_note n;
    bool any = false;
    while (fake_note_next(r->spool, &n)) {
        output_note(r->output, &n);
        any = true;
    }
    return any;
}

void rig_run(struct rig *r)
{
    unsigned turns = 0;
    do {
        ensure(turns++ < 100000 && "the output comes to rest");
        while (carry_out(r, output_step(r->output)))
            ensure(turns++ < 100000);
    } while (deliver_notes(r) || (output_wake_us(r->output) != 0 && output_wake_us(r->output) <= r->now_us));
}

void rig_pass(struct rig *r, uint64_t us)
{
    r->now_us += us;
    r->wall_ns += us * 1000;
    rig_run(r);
}

void rig_pass_by_wakes(struct rig *r, uint64_t us)
{
    uint64_t end = r->now_us + us;
    for (;;) {
        uint64_t wake = output_wake_us(r->output);
        if (wake == 0 || wake > end)
            break;
        rig_pass(r, wake > r->now_us ? wake - r->now_us : 0);
    }
    rig_pass(r, end - r->now_us);
}

static struct batch *answer(struct rig *r, unsigned n)
{
    ensure(n < r->sent_count && r->sent[n].open);
    r->sent[n].open = false;
    return r->sent[n].batch;
}

void rig_reply(struct rig *r, unsigned n, unsigned status, const char *body)
{
    struct api_reply reply = {.status = status, .body = span_str(body), .wall_ns = r->wall_ns};
    output_replied(r->output, answer(r, n), &reply);
    rig_run(r);
}

void rig_reply_after(struct rig *r, unsigned n, unsigned status, const char *retry_after)
{
    struct api_reply reply = {.status = status, .retry_after = span_str(retry_after), .wall_ns = r->wall_ns};
    output_replied(r->output, answer(r, n), &reply);
    rig_run(r);
}

void rig_break(struct rig *r, unsigned n, enum output_break what)
{
    output_broke(r->output, answer(r, n), what, "connection reset");
    rig_run(r);
}

unsigned rig_open(const struct rig *r)
{
    unsigned n = 0;
    for (unsigned i = 0; i < r->sent_count; i++)
        n += r->sent[i].open;
    return n;
}

unsigned rig_last(const struct rig *r)
{
    ensure(r->sent_count > 0);
    return r->sent_count - 1;
}

const char *rig_body(const struct rig *r, unsigned n)
{
    return r->sent[n].body;
}

void rig_status(const struct rig *r, struct output_status *ret)
{
    output_status(r->output, ret);
}

bool rig_news(struct rig *r, const char *containing)
{
    struct output_news news;
    bool found = false;
    while (output_news_next(r->output, &news))
        found = found || strstr(news.text, containing) != NULL;
    return found;
}
