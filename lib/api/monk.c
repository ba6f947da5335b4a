/* monk: usage events of Monk, towards the service.
 *
 * POST /v1/events/batch with {"events":[…]}. This is billing: nothing is sampled or dropped. Each event has
 * an idempotencyKey that was fixed when it was accepted, and sending it again under that key is always safe,
 * so batches are split and retried without fear. The latest event with a key is the one that counts: two
 * events with one key are never in one batch, nor in two that are in flight, and keep their order (struct
 * api, unique_ids). Facts: docs.monk.com (api-reference, authentication, concepts/events, guides, sdks/rust).
 */
#include "lib/api/monk.h"

static const struct api_path paths[] = {
    {.method = "POST", .pattern = "/v1/events/batch", .auth = AUTH_BEARER, .tag = MONK_BATCH},
    {.method = "POST", .pattern = "/v1/events", .auth = AUTH_BEARER, .tag = MONK_SINGLE},
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

/* The last single event of a split goes to the path for single events, whose errors are clearer. Should that path
 * answer with anything that asks for another try, the batch is what is tried again. */
static enum err request(const struct api_settings *s, const struct api_batch *b, struct arena *arena,
                        struct api_send *ret)
{
    bool single = b->split && b->count == 1;
    *ret = (struct api_send){
        .method = "POST",
        .target = target_join(s, arena,
                              single ? path_option(s, "paths.single", SPAN("/v1/events"))
                                     : path_option(s, "paths.batch", SPAN("/v1/events/batch"))),
        .own_body = single,
        .body = single ? b->members[0].body : (struct span){0},
    };
    send_header(ret, "Authorization", token_header(arena, "Bearer ", s->api_key));
    send_header(ret, "Content-Type", SPAN("application/json"));
    send_header(ret, "User-Agent", SPAN("penstock/" PENSTOCK_VERSION));
    return OK;
}

/* Events that monk.lenient took in although they are not valid: their partition says why (monk_local.c); that of all
 * others is empty. */
static struct span stillborn(struct span partition)
{
    return partition.len > 0 ? partition : (struct span){0};
}

/* Fewer than we sent: twice more as it is, then one by one, and what is short even alone is dead. All of that
 * is harmless, since the keys stay. */
static void judge_accepted(const struct api_batch *b, const struct api_reply *reply, struct api_verdict *ret)
{
    struct json_member members[16];
    struct json_value value;
    size_t count = 0;
    uint64_t taken;
    enum err err = json_check_object(reply->body, members, 16, &count, &value, NULL);
    if ((err != OK && err != ERR_TOO_BIG) || value.type != JSON_OBJECT) {
        ret->text = SPAN("accepted, but the answer could not be read");
        ret->warn = true;
        return;
    }
    const struct json_member *m = json_find(members, count, "count");
    if (m == NULL || m->value.type != JSON_NUMBER || !json_uint64(m->value.text, &taken) || taken >= b->count)
        return;
    if (b->attempts < 3) {
        verdict_set(ret, ACT_RETRY, DEAD_COUNT_MISMATCH);
        ret->unknown = ret->backoff = true;
    } else if (b->count > 1) {
        verdict_set(ret, ACT_SPLIT_SINGLES, DEAD_COUNT_MISMATCH);
    } else {
        verdict_set(ret, ACT_DEAD, DEAD_COUNT_MISMATCH);
    }
}

static void judge(const struct api_settings *s, const struct api_batch *b, const struct api_reply *reply,
                  struct arena *arena, struct api_verdict *ret)
{
    (void)s;
    judge_status(reply, arena, ret);
    if (ret->action == ACT_DELIVERED) {
        judge_accepted(b, reply, ret);
        return;
    }
    if (reply->status == 404 && reply_says(reply, "customer"))
        verdict_set(ret, ACT_SPLIT, DEAD_REFUSED);
    if (reply->status == 409) {
        bool known = reply_says(reply, "idempoten") || reply_says(reply, "duplicate");
        verdict_set(ret, b->count > 1 ? ACT_SPLIT : known ? ACT_DELIVERED : ACT_DEAD, DEAD_REFUSED);
    }
}

const struct api monk_api = {
    .name = "monk",
    .codecs = API_CODEC_BIT(API_IDENTITY),
    .auto_codec = API_IDENTITY,
    .version = 1,
    .unique_ids = true,
    .neutral = true,
    .repeat = REPEAT_STORE_COUNTED,
    .default_endpoint = "https://events-api.monk.com",
    .limits = {.event_bytes = 262144,
               .batch_events = 10000,
               .batch_raw_bytes = 16777216,
               .local_events = 10000},
    .batch = {.max_events = 5000, .max_bytes = 5000000, .max_wait_us = US_PER_S, .concurrency = 4},
    .paths = paths,
    .path_count = sizeof paths / sizeof paths[0],
    .read = monk_read,
    .answer = monk_answer,
    .render = monk_render,
    .stillborn = stillborn,
    .envelope = envelope,
    .request = request,
    .judge = judge,
};
