/* plain_http: output type `http`: events in CloudEvents JSON form to any URL.
 *
 * `format: json` sends an array, `ndjson` one event per line. The batch's id travels as Idempotency-Key, the
 * same on every retry, for receivers that deduplicate. Any 2xx delivers. There is no local half: neutral
 * events have POST /events. */
#include "lib/api/cloudevents_api.h"

static enum err render(const struct api_settings *s, const struct event *e, struct arena *arena,
                       struct api_item *ret, struct fault *why)
{
    return cloudevents_render(s, e, arena, s->ndjson, ret, why);
}

static void envelope(const struct api_settings *s, struct span partition, struct api_envelope *ret)
{
    (void)partition;
    if (s->ndjson)
        *ret = (struct api_envelope){
            .before = SPAN(""), .between = SPAN("\n"), .after = SPAN("\n"), .version = 2};
    else
        *ret = (struct api_envelope){
            .before = SPAN("["), .between = SPAN(","), .after = SPAN("]"), .version = 1};
}

static enum err request(const struct api_settings *s, const struct api_batch *b, struct arena *arena,
                        struct api_send *ret)
{
    *ret = (struct api_send){.method = "POST", .target = target_join(s, arena, SPAN(""))};
    send_header(ret, "Content-Type", s->ndjson ? SPAN("application/x-ndjson") : SPAN("application/json"));
    send_header(ret, "User-Agent", SPAN("penstock/" PENSTOCK_VERSION));
    send_header(ret, "Authorization", token_header(arena, "Bearer ", s->bearer));
    send_header(ret, "Idempotency-Key", b->payload_id);
    return OK;
}

static void judge(const struct api_settings *s, const struct api_batch *b, const struct api_reply *reply,
                  struct arena *arena, struct api_verdict *ret)
{
    (void)s, (void)b;
    judge_status(reply, arena, ret);
}

const struct api plain_http_api = {
    .name = "http",
    .codecs = API_CODEC_BIT(API_IDENTITY) | API_CODEC_BIT(API_GZIP) | API_CODEC_BIT(API_ZSTD),
    .auto_codec = API_GZIP,
    .version = 1,
    .neutral = true,
    .repeat = REPEAT_STORE_COUNTED,
    .limits = {.event_bytes = 2097152,
               .batch_events = 100000,
               .batch_raw_bytes = 10000000,
               .local_events = 10000},
    .batch = {.max_events = 1000, .max_bytes = 1000000, .max_wait_us = US_PER_S, .concurrency = 4},
    .render = render,
    .envelope = envelope,
    .request = request,
    .judge = judge,
};
