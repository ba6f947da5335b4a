/* segops: event tracking of SegOps AI, both directions.
 *
 * Upstream: POST /api/ingestion/track/batch/ with {"events":[…]}; the slash at the end matters. The answer
 * tells how many it skipped, never which; nothing of it is sent again, since the queued ones would double.
 * There is no event id and no deduplication, and a small budget of requests, so batches are filled and one
 * goes at a time. A 429 with a long Retry-After is the month's quota. Local: as the vendor does, bad events
 * of a batch are skipped and counted. Full is 503, not 429, since the vendor's Go client resends on 5xx and
 * throws the batch away on 429. Slashes at the end are optional; never a redirect. Facts: segops.ai/docs
 * (api/ingestion, api-keys, sdks), segops/sdk-go, segops/sdk-swift. */
#include "lib/api/segops.h"

static const struct api_path paths[] = {
    {.method = "POST", .pattern = "/api/ingestion/track/batch", .auth = AUTH_APIKEY, .tag = SEGOPS_BATCH},
    {.method = "POST", .pattern = "/api/ingestion/track", .auth = AUTH_APIKEY, .tag = SEGOPS_SINGLE},
    {.method = "POST", .pattern = "/api/auth/session", .auth = AUTH_IMPOSSIBLE, .tag = SEGOPS_SESSION},
};

static void envelope(const struct api_settings *s, struct span partition, struct api_envelope *ret)
{
    (void)s, (void)partition;
    *ret = (struct api_envelope){
        .before = SPAN("{\"events\":["), .between = SPAN(","), .after = SPAN("]}"), .version = 1};
}

static struct span path_option(const struct api_settings *s, const char *name, struct span fallback)
{
    const struct span *path = s->option_count == 0 ? NULL : api_option(s, name);
    return path != NULL && path->len > 0 ? *path : fallback;
}

static enum err request(const struct api_settings *s, const struct api_batch *b, struct arena *arena,
                        struct api_send *ret)
{
    (void)b;
    *ret = (struct api_send){
        .method = "POST",
        .target = target_join(s, arena, path_option(s, "paths.batch", SPAN("/api/ingestion/track/batch/"))),
    };
    send_header(ret, "Authorization", token_header(arena, "ApiKey ", s->api_key));
    send_header(ret, "Content-Type", SPAN("application/json"));
    send_header(ret, "User-Agent", SPAN("penstock/" PENSTOCK_VERSION));
    return OK;
}

/* A browser's or an app's request for a session, with its own public key: it waits for the answer. */
static enum err pass_on(const struct api_settings *s, const struct api_exchange *x, struct api_send *ret)
{
    static const char *const kept[] = {"Authorization", "Origin", "Content-Type", "User-Agent"};
    *ret = (struct api_send){.method = "POST",
                             .target = target_join(s, x->arena, SPAN("/api/auth/session/")),
                             .own_body = true,
                             .body = x->request->body};
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++)
        send_header(ret, kept[i], x->request->header(x->request->header_ctx, kept[i]));
    return OK;
}

/* --- the answer --------------------------------------------------------------------------------- */

static bool member_count(const struct json_member *members, size_t count, const char *name, uint64_t *ret)
{
    const struct json_member *m = json_find(members, count, name);
    return m != NULL && m->value.type == JSON_NUMBER && json_uint64(m->value.text, ret);
}

static void judge_accepted(const struct api_batch *b, const struct api_reply *reply, struct api_verdict *ret)
{
    struct json_member members[16];
    struct json_value value;
    size_t count = 0;
    uint64_t queued = b->count, skipped = 0;
    if (reply->body.len == 0)
        return;
    enum err err = json_check_object(reply->body, members, 16, &count, &value, NULL);
    if ((err != OK && err != ERR_TOO_BIG) || value.type != JSON_OBJECT) {
        /* Some page in between, not the service: whether it took the batch is not known. */
        verdict_set(ret, ACT_RETRY, DEAD_BAD_RESPONSE);
        ret->unknown = ret->backoff = true;
        ret->unknown_max = 3;
        return;
    }
    bool said = member_count(members, count, "queued", &queued);
    (void)member_count(members, count, "skipped", &skipped);
    if (skipped > b->count)
        skipped = b->count;
    if (skipped == 0 && said && queued < b->count)
        skipped = b->count - queued;
    if (skipped > 0) {
        ret->noted = (unsigned)skipped;
        ret->result = "skipped";
    }
}

static void judge(const struct api_settings *s, const struct api_batch *b, const struct api_reply *reply,
                  struct arena *arena, struct api_verdict *ret)
{
    (void)s;
    judge_status(reply, arena, ret);
    if (ret->action == ACT_DELIVERED)
        judge_accepted(b, reply, ret);
    if (reply->status == 415) /* we compress nothing: it is the endpoint */
        verdict_set(ret, ACT_HOLD, DEAD_REFUSED);
    if (reply->status == 429 && ret->retry_after_us > 3600 * US_PER_S)
        ret->quota = true;
}

const struct api segops_api = {
    .name = "segops",
    .codecs = API_CODEC_BIT(API_IDENTITY),
    .auto_codec = API_IDENTITY,
    .version = 1,
    .neutral = true,
    .repeat = REPEAT_STORE,
    .default_endpoint = "https://api.segops.ai",
    .limits = {.event_bytes = 262144,
               .batch_events = 500,
               .batch_raw_bytes = 16777216,
               .local_events = 10000},
    .batch = {.max_events = 500,
              .max_bytes = 1000000,
              .max_wait_us = 5 * US_PER_S,
              .concurrency = 1,
              .rate_requests = 60,
              .rate_per_us = 60 * US_PER_S},
    .paths = paths,
    .path_count = sizeof paths / sizeof paths[0],
    .read = segops_read,
    .answer = segops_answer,
    .render = segops_render,
    .envelope = envelope,
    .request = request,
    .pass_on = pass_on,
    .judge = judge,
};
