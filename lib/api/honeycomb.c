/* honeycomb: the Events API of Honeycomb, towards the service.
 *
 * POST /1/batch/{dataset} with an array of {"time","samplerate","data"}; the partition is the dataset. The
 * answer is an array with one result per event in the same order, and each is taken for itself. There is no
 * deduplication: an unknown outcome may double a batch. Facts: docs.honeycomb.io/api/events, and the clients
 * libhoney-{go,js,py} and refinery. The local half is in honeycomb_local.c, neutral events are rendered in
 * honeycomb_render.c. */
#include "lib/api/honeycomb.h"

#include "lib/codec/msgpack.h"

static const struct api_path paths[] = {
    {.method = "POST", .pattern = "/1/batch/**", .auth = AUTH_HONEYCOMB, .tag = HONEYCOMB_BATCH},
    {.method = "POST", .pattern = "/1/events/**", .auth = AUTH_HONEYCOMB, .tag = HONEYCOMB_EVENT},
    {.method = "GET", .pattern = "/1/auth", .auth = AUTH_HONEYCOMB, .tag = HONEYCOMB_AUTH},
    {.method = "*", .pattern = "/1/**", .auth = AUTH_NONE, .tag = HONEYCOMB_NOT_OURS},
};

static void envelope(const struct api_settings *s, struct span partition, struct api_envelope *ret)
{
    (void)s, (void)partition;
    *ret = (struct api_envelope){.before = SPAN("["), .between = SPAN(","), .after = SPAN("]"), .version = 1};
}

static void add_headers(const struct api_settings *s, struct api_send *ret)
{
    send_header(ret, "X-Honeycomb-Team", s->api_key);
    send_header(ret, "User-Agent", SPAN("penstock/" PENSTOCK_VERSION));
}

static enum err request(const struct api_settings *s, const struct api_batch *b, struct arena *arena,
                        struct api_send *ret)
{
    struct bytes path;
    if (!bytes_init_arena(&path, arena, 3 * b->partition.len + 16) ||
        bytes_append(&path, SPAN("/1/batch/")) != OK || path_encode(&path, b->partition) != OK)
        return ERR_TOO_BIG;
    *ret = (struct api_send){.method = "POST",
                             .target = target_join(s, arena, bytes_finish_arena(&path, arena))};
    add_headers(s, ret);
    send_header(ret, "Content-Type", SPAN("application/json"));
    return OK;
}

/* GET /1/auth of a client, with the output's own key. */
static enum err pass_on(const struct api_settings *s, const struct api_exchange *x, struct api_send *ret)
{
    *ret = (struct api_send){.method = "GET", .target = target_join(s, x->arena, SPAN("/1/auth")), .body = SPAN("")};
    add_headers(s, ret);
    return OK;
}

static bool probe(const struct api_settings *s, struct arena *arena, struct api_send *ret)
{
    *ret = (struct api_send){.method = "GET", .target = target_join(s, arena, SPAN("/1/auth"))};
    add_headers(s, ret);
    return true;
}

/* --- the answer --------------------------------------------------------------------------------- */

/* "limit=100, remaining=0, reset=17", or the newer "\"default\";r=0;t=17": seconds until there is room again.
 */
static uint64_t ratelimit_us(struct span header)
{
    for (size_t i = 0; i < header.len; i++) {
        size_t skip = 0;
        if (i > 0 && header.at[i - 1] != ' ' && header.at[i - 1] != ',' && header.at[i - 1] != ';')
            continue;
        if (span_starts(span_of(header.at + i, header.len - i), SPAN("reset=")))
            skip = 6;
        else if (span_starts(span_of(header.at + i, header.len - i), SPAN("t=")))
            skip = 2;
        size_t from = i + skip, to = from;
        while (skip > 0 && to < header.len && header.at[to] >= '0' && header.at[to] <= '9')
            to++;
        uint64_t seconds;
        if (skip > 0 && span_u64(span_of(header.at + from, to - from), &seconds) && seconds < 86400)
            return seconds * US_PER_S;
    }
    return 0;
}

static void judge_entry(unsigned status, struct span text, struct api_event_verdict *ret,
                        struct api_verdict *whole)
{
    ret->status = status;
    ret->answer = text;
    if (status >= 200 && status < 300) {
        ret->action = ACT_DELIVERED;
    } else if (status == 408 || status == 425 || status == 429 || status >= 500) {
        ret->action = ACT_RETRY;
        whole->backoff = true;
    } else if (status >= 400) {
        ret->action = ACT_DEAD;
        ret->reason = status == 413 ? DEAD_TOO_LARGE : DEAD_REFUSED;
    } else { /* no status that we know: nothing was said about this event */
        ret->action = ACT_RETRY;
        ret->reason = DEAD_NO_RESULT;
        ret->unknown = true;
    }
}

/* Reads result after result; false when the body is no array of them up to its end, or to where it was cut. */
static bool judge_entries(struct json_reader *r, bool cut, const struct api_batch *b, struct arena *arena,
                          struct api_verdict *ret)
{
    unsigned i = 0;
    enum err err;
    while ((err = json_next_element(r)) == OK) {
        struct json_member members[16];
        struct json_value value;
        size_t count;
        err = json_read_object(r, members, 16, &count, &value);
        if (err != OK && err != ERR_TOO_BIG)
            break;
        const struct json_member *status = json_find(members, count, "status");
        const struct json_member *error = json_find(members, count, "error");
        uint64_t number = 0;
        struct span text = value.text;
        if (status == NULL || status->value.type != JSON_NUMBER || !json_uint64(status->value.text, &number))
            number = 0;
        if (error != NULL && error->value.type == JSON_STRING &&
            json_decode_string(arena, &error->value, &text) != OK)
            text = value.text;
        if (i < b->count)
            judge_entry(number > 999 ? 0 : (unsigned)number, text, &ret->events[i], ret);
        i++;
    }
    bool whole = err == ERR_NOT_FOUND && json_finish(r) == OK;
    if (!whole && !(cut && i > 0))
        return false;
    for (; i < b->count; i++) { /* results for a prefix only */
        ret->events[i] = (struct api_event_verdict){.action = ACT_RETRY,
                                                    .reason = DEAD_NO_RESULT,
                                                    .unknown = true,
                                                    .answer = SPAN("no result given")};
        ret->backoff = true;
    }
    return true;
}

static struct span body_as_json(const struct api_reply *reply, struct arena *arena)
{
    struct span type = media_type(reply->content_type), in = reply->body;
    if (!span_equal_nocase(type, SPAN("application/msgpack")) &&
        !span_equal_nocase(type, SPAN("application/x-msgpack")))
        return reply->body;
    struct msgpack_renderer renderer;
    struct bytes out;
    struct span copy = SPAN("");
    msgpack_renderer_init(&renderer, MSGPACK_TIMES_STANDARD);
    bytes_init(&out, 4 << 20);
    if (msgpack_render(&renderer, &in, &out, NULL) == OK)
        copy = arena_copy(arena, bytes_span(&out));
    bytes_deinit(&out);
    msgpack_renderer_deinit(&renderer);
    return copy;
}

static void judge_results(const struct api_batch *b, const struct api_reply *reply, struct arena *arena,
                          struct api_verdict *ret)
{
    struct json_reader r;
    json_reader_init(&r, body_as_json(reply, arena));
    verdict_set(ret, ACT_PER_EVENT, DEAD_REFUSED);
    if (verdict_per_event(ret, b, arena, ACT_RETRY, reply->status) != NULL && json_enter_array(&r) == OK &&
        judge_entries(&r, reply->body_cut, b, arena, ret)) {
        bool all = true;
        for (unsigned i = 0; i < b->count; i++)
            all = all && ret->events[i].action == ACT_DELIVERED;
        if (all)
            verdict_set(ret, ACT_DELIVERED, DEAD_REFUSED);
        return;
    }
    verdict_set(ret, ACT_RETRY, DEAD_BAD_RESPONSE);
    ret->unknown = ret->backoff = true;
    ret->unknown_max = 3;
    ret->events = NULL;
}

static void judge(const struct api_settings *s, const struct api_batch *b, const struct api_reply *reply,
                  struct arena *arena, struct api_verdict *ret)
{
    (void)s;
    judge_status(reply, arena, ret);
    if (ret->action == ACT_DELIVERED) {
        judge_results(b, reply, arena, ret);
        return;
    }
    switch (reply->status) {
    case 400:
        if (reply_says(reply, "api key") || reply_says(reply, "check your credentials"))
            verdict_set(ret, ACT_HOLD, DEAD_REFUSED);
        else if (reply_says(reply, "too large"))
            verdict_set(ret, ACT_SPLIT, DEAD_TOO_LARGE);
        break;
    case 403: /* dropped by administrative throttling: the service asks us to be quiet */
        verdict_set(ret, ACT_RETRY, DEAD_REFUSED);
        ret->backoff = true;
        break;
    case 404: /* this dataset does not exist, and the key may not make it */
        verdict_set(ret, ACT_HOLD_PARTITION, DEAD_REFUSED);
        break;
    case 429:
        if (ret->retry_after_us == 0)
            ret->retry_after_us = ratelimit_us(reply->ratelimit);
        break;
    default:
        if (reply->status >= 300 && reply->status < 400) { /* as the vendor's clients: a gateway's fault */
            verdict_set(ret, ACT_RETRY, DEAD_REFUSED);
            ret->unknown = ret->backoff = true;
        }
    }
}

const struct api honeycomb_api = {
    .name = "honeycomb",
    .codecs = API_CODEC_BIT(API_IDENTITY) | API_CODEC_BIT(API_GZIP) | API_CODEC_BIT(API_ZSTD),
    .auto_codec = API_ZSTD,
    .version = 1,
    .neutral = true,
    .repeat = REPEAT_STORE,
    .default_endpoint = "https://api.honeycomb.io",
    .limits = {.event_bytes = 1000000,
               .batch_events = 10000,
               .batch_raw_bytes = 5000000,
               .batch_sent_bytes = 1000000,
               .local_events = 10000},
    .batch = {.max_events = 1000, .max_bytes = 5000000, .max_wait_us = US_PER_S, .concurrency = 4},
    .paths = paths,
    .path_count = sizeof paths / sizeof paths[0],
    .read = honeycomb_read,
    .answer = honeycomb_answer,
    .render = honeycomb_render,
    .envelope = envelope,
    .request = request,
    .pass_on = pass_on,
    .not_passed = honeycomb_not_passed,
    .probe = probe,
    .judge = judge,
};
