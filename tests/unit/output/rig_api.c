/* rig_api: an api that is scripted by status codes. See rig_api.h. */
#include "tests/unit/output/rig_api.h"

bool rig_has_probe;

static void envelope(const struct api_settings *s, struct span partition, struct api_envelope *ret)
{
    (void)partition;
    *ret = (struct api_envelope){SPAN("["), SPAN(","), SPAN("]"), 1};
    if (s->mode == API_MODE_STRUCTURED)
        *ret = (struct api_envelope){SPAN(""), SPAN(""), SPAN(""), 2};
    if (s->ndjson)
        *ret = (struct api_envelope){SPAN(""), SPAN("\n"), SPAN("\n"), 3};
    if (s->base_query.len > 0)
        ret->before = s->base_query; /* as another version might, of which nothing is known any more */
}

static enum err request(const struct api_settings *s, const struct api_batch *b, struct arena *arena,
                        struct api_send *ret)
{
    (void)s;
    (void)b;
    (void)arena;
    *ret = (struct api_send){.method = "POST", .target = SPAN("/x")};
    return OK;
}

static bool probe(const struct api_settings *s, struct arena *arena, struct api_send *ret)
{
    (void)s;
    (void)arena;
    *ret = (struct api_send){.method = "GET", .target = SPAN("/auth")};
    return rig_has_probe;
}

static void judge_each(const struct api_batch *b, const struct api_reply *reply, struct arena *arena,
                       struct api_verdict *v)
{
    v->action = ACT_PER_EVENT;
    v->result = "partial";
    v->unknown_max = 3;
    v->events = arena_alloc(arena, b->count * sizeof *v->events);
    for (unsigned i = 0; i < b->count; i++) {
        char c = i < reply->body.len ? (char)reply->body.at[i] : 'u';
        v->events[i] = (struct api_event_verdict){.action = ACT_RETRY, .status = 500, .answer = SPAN("each")};
        if (c == 'd')
            v->events[i].action = ACT_DELIVERED;
        else if (c == 'x')
            v->events[i] = (struct api_event_verdict){ACT_DEAD, DEAD_REFUSED, 400, SPAN("bad event"), false};
        else if (c == 'u')
            v->events[i] = (struct api_event_verdict){ACT_RETRY, DEAD_NO_RESULT, 0, SPAN("none"), true};
    }
}

static void judge(const struct api_settings *s, const struct api_batch *b, const struct api_reply *reply,
                  struct arena *arena, struct api_verdict *v)
{
    (void)s;
    *v = (struct api_verdict){.result = "retry", .text = reply->body.len > 0 ? reply->body : SPAN("words")};
    uint64_t seconds = 0;
    if (span_u64(reply->retry_after, &seconds))
        v->retry_after_us = seconds * 1000000;
    unsigned status = reply->status;
    if (status == 207)
        judge_each(b, reply, arena, v);
    else if (status == 299)
        *v = (struct api_verdict){.action = ACT_RETRY,
                                  .unknown = true,
                                  .unknown_max = 3,
                                  .reason = DEAD_BAD_RESPONSE,
                                  .result = "unknown",
                                  .text = SPAN("unreadable")};
    else if (status / 100 == 2)
        v->action = ACT_DELIVERED, v->result = "delivered", v->noted = span_is(reply->body, "skipped");
    else if (status == 429 || status / 100 == 5)
        v->action = ACT_RETRY, v->backoff = true, v->unknown = status != 429;
    else if (status == 400)
        v->action = ACT_SPLIT, v->reason = DEAD_REFUSED, v->result = "split";
    else if (status == 413)
        v->action = ACT_SPLIT, v->reason = DEAD_TOO_LARGE, v->result = "split";
    else if (status == 422)
        v->action = ACT_SPLIT_SINGLES, v->reason = DEAD_REFUSED, v->result = "split";
    else if (status == 409)
        v->action = ACT_DEAD, v->reason = DEAD_REFUSED, v->result = "dead";
    else if (status == 404)
        v->action = ACT_HOLD_PARTITION, v->result = "held";
    else if (status == 410)
        v->action = ACT_HOLD_FOREVER, v->result = "held";
    else if (status == 415)
        v->action = ACT_PLAIN_RETRY;
    else if (status == 406)
        v->action = ACT_MODE_RETRY;
    else
        v->action = ACT_HOLD, v->result = "held";
}

static bool alone(const struct api_settings *s, struct span partition)
{
    (void)s;
    return span_is(partition, "alone");
}

struct api rig_api = {
    .name = "rig",
    .limits = {.event_bytes = 1 << 20, .batch_events = 100000, .batch_raw_bytes = 4 << 20},
    .alone = alone,
    .envelope = envelope,
    .request = request,
    .probe = probe,
    .judge = judge,
};
