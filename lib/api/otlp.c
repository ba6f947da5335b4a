/* otlp: OTLP/HTTP export requests (opentelemetry.io/docs/specs/otlp, "OTLP/HTTP"), opaque.
 *
 * A request is taken as it is, JSON or protobuf, compressed or not (but it must decode), stored whole and sent alone to the same
 * path of the upstream: a trace's spans are not ours to cut or merge. Its unit in every count is the request.
 * Exporters retry 429, 502, 503 and 504 and nothing else, which is what the answers to passing conditions are
 * chosen from; towards the upstream every 5xx is retried. */
#include "lib/api/otlp.h"

#include "lib/base/hash.h"

static const struct api_path paths[] = {
    {.method = "POST", .pattern = "/v1/traces", .auth = AUTH_BEARER, .opaque = true},
    {.method = "POST", .pattern = "/v1/logs", .auth = AUTH_BEARER, .opaque = true},
    {.method = "POST", .pattern = "/v1/metrics", .auth = AUTH_BEARER, .opaque = true},
};

/* The code is gRPC's (google.rpc.Code), which OTLP's error body carries. */
static const struct answer_row rows[COND_COUNT] = {
    [COND_STORED] = {200, 0, "0", "accepted"},
    [COND_FULL] = {429, 2, "8", "the agent has no room; come back later"},
    [COND_STOPPING] = {503, 5, "14", "the agent is stopping"},
    [COND_FAILED] = {503, 5, "14", "the agent's storage has failed"},
    [COND_NO_OUTPUT] = {503, 5, "14", "no output for this path is configured"},
    [COND_UNAUTHORIZED] = {401, 0, "16", "the token is missing or wrong"},
    [COND_TOO_LARGE] = {413, 0, "3", "the request is larger than this agent takes"},
    [COND_BAD_ENCODING] = {415, 0, "3", "Content-Encoding is not gzip, deflate or zstd"},
    [COND_BAD_COMPRESSION] = {400, 0, "3", "the body does not decode as its Content-Encoding says"},
    [COND_BAD_METHOD] = {405, 0, "12", "this path takes POST only"},
    [COND_BUSY] = {429, 1, "8", "too many requests are waiting; come back later"},
    [COND_CONFLICT] = {400, 0, "3", "this id was given to other content"},
};

static bool is_protobuf(const struct api_request *r)
{
    return span_equal_nocase(media_type(r->content_type), SPAN("application/x-protobuf"));
}

/* google.rpc.Status: field 1 the code, field 2 the message. */
static struct span protobuf_status(struct arena *arena, uint8_t code, struct span text)
{
    struct bytes out;
    if (text.len > 120)
        text.len = 120; /* one byte of length, and enough to say */
    if (!bytes_init_arena(&out, arena, text.len + 4) ||
        bytes_append(&out, span_of((uint8_t[]){0x08, code, 0x12, (uint8_t)text.len}, 4)) != OK ||
        bytes_append(&out, text) != OK)
        return SPAN("");
    return bytes_finish_arena(&out, arena);
}

/* {"code":N,"message":M}: the row's code is a number in quotes, which are taken off. */
static struct span shape_status(struct arena *arena, unsigned status, struct span code, struct span text)
{
    struct bytes out;
    (void)status;
    if (!bytes_init_arena(&out, arena, code.len + text.len + 32) ||
        bytes_append(&out, SPAN("{\"code\":")) != OK ||
        bytes_append(&out, span_of(code.at + 1, code.len - 2)) != OK ||
        bytes_append(&out, SPAN(",\"message\":")) != OK || bytes_append(&out, text) != OK ||
        bytes_append_byte(&out, '}') != OK)
        return SPAN("{}");
    return bytes_finish_arena(&out, arena);
}

static void answer_row_as_sent(struct api_exchange *x, enum api_condition condition, struct span text,
                               struct api_answer *ret)
{
    answer_condition(x, rows, shape_status, condition, text, ret);
    if (x->request == NULL || !is_protobuf(x->request))
        return;
    if (text.len == 0)
        text = span_str(rows[condition].text);
    uint64_t code;
    if (!span_u64(span_str(rows[condition].code), &code))
        code = 13; /* internal */
    ret->content_type = SPAN("application/x-protobuf");
    ret->body = protobuf_status(x->arena, (uint8_t)code, text);
}

void otlp_answer(struct api_exchange *x, enum api_condition condition, struct span text,
                 struct api_answer *ret)
{
    if (condition == COND_STORED && x->rejection_count > 0) {
        condition = x->rejections[0].reason == REJECT_FULL ? COND_FULL : COND_TOO_LARGE;
        text = x->rejections[0].text;
    }
    if (condition != COND_STORED) {
        answer_row_as_sent(x, condition, text, ret);
        return;
    }
    answer_json(ret, 200, SPAN("{}"));
    if (is_protobuf(x->request)) {
        ret->content_type = SPAN("application/x-protobuf");
        ret->body = SPAN("");
    }
}

static void refuse(struct api_exchange *x, unsigned status, const char *text)
{
    answer_row_as_sent(x, COND_BAD_COMPRESSION, span_str(text), &x->answer);
    x->answer.status = status;
}

/* What goes upstream: as it came, or, where the service would not read that, decoded. */
static struct span body_to_send(const struct api_request *r, bool gzip_only, struct span *ret_encoding)
{
    struct span encoding = span_trim(r->content_encoding);
    bool plain = encoding.len == 0 || span_equal_nocase(encoding, SPAN("identity"));
    bool gzip = span_equal_nocase(encoding, SPAN("gzip")) || span_equal_nocase(encoding, SPAN("x-gzip"));
    *ret_encoding = gzip ? SPAN("gzip") : encoding;
    if (!plain && (gzip || !gzip_only))
        return r->body_encoded;
    *ret_encoding = (struct span){0};
    return plain ? r->body_encoded : r->body;
}

/* As it came; JSON where the sender said nothing, or what curl says of every body. */
static struct span type_to_send(const struct api_request *r, bool json)
{
    bool said = span_equal_nocase(media_type(r->content_type), SPAN("application/json"));
    return json && !said ? SPAN("application/json") : r->content_type;
}

void otlp_keep_headers(struct opaque *o, const struct api_request *r, const struct otlp_kept *kept)
{
    struct span name, value;
    for (unsigned i = 0, cursor = 0; i < 2 && kept->prefixes[i] != NULL; i++, cursor = 0)
        while (r->header_next(r->header_ctx, kept->prefixes[i], &cursor, &name, &value))
            if (!span_equal_nocase(name, span_str(kept->except)))
                opaque_header_span(o, name, value);
}

void otlp_read_to(struct api_exchange *x, const struct otlp_kept *kept)
{
    const struct api_request *r = x->request;
    bool json = body_is_json(r);
    struct span encoding, body = body_to_send(r, kept->gzip_only, &encoding);
    struct json_value value;
    struct fault why;
    struct opaque o;
    x->offered = 1;
    if (!json && !is_protobuf(r)) {
        refuse(x, 400, "Content-Type is not application/json or application/x-protobuf");
        return;
    }
    if (json && json_check(r->body, &value, &why) == ERR_MALFORMED) {
        refuse(x, 400, why.text);
        return;
    }
    if (json && value.type != JSON_OBJECT) {
        refuse(x, 400, "expected a JSON object");
        return;
    }
    opaque_begin(&o, x->arena, "POST", kept->target);
    opaque_header(&o, "Content-Type", type_to_send(r, json));
    opaque_header(&o, "Content-Encoding", encoding);
    opaque_header(&o, "User-Agent", r->header(r->header_ctx, "User-Agent"));
    otlp_keep_headers(&o, r, kept);
    struct span partition = opaque_partition(&o, x->arena);
    if (partition.at == NULL || items_new(x, 1) == NULL) {
        answer_row_as_sent(x, COND_TOO_LARGE, (struct span){0}, &x->answer);
        return;
    }
    x->items[x->item_count++] = (struct api_item){
        .body = body,
        .partition = partition,
        .content_hash = hash64(body, 0),
        .weight = 1,
    };
}

static void read_export(struct api_exchange *x)
{
    struct span target = x->request->path;
    if (target.len > 0 && target.at[target.len - 1] == '/')
        target.len--;
    otlp_read_to(x, &(struct otlp_kept){.target = target});
}

/* --- upstream ----------------------------------------------------------------------------------- */

static bool alone(const struct api_settings *s, struct span partition)
{
    (void)s, (void)partition;
    return true;
}

static void envelope(const struct api_settings *s, struct span partition, struct api_envelope *ret)
{
    (void)s, (void)partition;
    *ret = (struct api_envelope){.before = SPAN(""), .between = SPAN(""), .after = SPAN(""), .version = 1};
}

static enum err request(const struct api_settings *s, const struct api_batch *b, struct arena *arena,
                        struct api_send *ret)
{
    enum err err = opaque_request(s, b->partition, arena, ret);
    send_header(ret, "Authorization", token_header(arena, "Bearer ", s->bearer));
    return err;
}

/* {"partialSuccess":{"rejectedSpans":"5",…}}: taken, but not all of it, and never to be sent again. */
static bool partly_rejected(const struct api_reply *reply)
{
    static const char *const counts[] = {"rejectedSpans", "rejectedLogRecords", "rejectedDataPoints"};
    struct json_member members[8], inner[8];
    struct json_value value;
    size_t count = 0, inner_count = 0;
    if (json_check_object(reply->body, members, 8, &count, &value, NULL) != OK)
        return false;
    const struct json_member *partial = json_find(members, count, "partialSuccess");
    if (partial == NULL || json_check_object(partial->value.text, inner, 8, &inner_count, &value, NULL) != OK)
        return false;
    for (size_t i = 0; i < 3; i++) {
        const struct json_member *m = json_find(inner, inner_count, counts[i]);
        if (m == NULL)
            continue;
        struct span text = m->value.type == JSON_STRING ? json_raw_string(&m->value) : m->value.text;
        uint64_t number;
        if (span_u64(text, &number) && number > 0)
            return true;
    }
    return false;
}

void otlp_judge(const struct api_batch *b, const struct api_reply *reply, struct arena *arena,
                struct api_verdict *ret)
{
    judge_status(reply, arena, ret);
    switch (ret->action) {
    case ACT_DELIVERED:
        if (partly_rejected(reply)) {
            ret->noted = 1;
            ret->result = "skipped";
        }
        break;
    case ACT_SPLIT: /* a request is whole or not at all */
        verdict_set(ret, ACT_DEAD, ret->reason);
        break;
    case ACT_PLAIN_RETRY: /* what came compressed stays so, and holds up nothing that came otherwise */
        if (b->codec == API_IDENTITY)
            verdict_set(ret, opaque_header_of(b->partition, "Content-Encoding").at != NULL ? ACT_HOLD_PARTITION : ACT_HOLD,
                        DEAD_REFUSED);
        break;
    default:
        break;
    }
}

static void judge(const struct api_settings *s, const struct api_batch *b, const struct api_reply *reply,
                  struct arena *arena, struct api_verdict *ret)
{
    (void)s;
    otlp_judge(b, reply, arena, ret);
}

const struct api otlp_api = {
    .name = "otlp",
    .codecs = API_CODEC_BIT(API_IDENTITY),
    .auto_codec = API_IDENTITY,
    .version = 1,
    .repeat = REPEAT_STORE,
    .default_endpoint = "http://127.0.0.1:4318",
    .limits = {.event_bytes = 10485760, .batch_events = 1, .batch_raw_bytes = 16777216, .local_events = 1},
    .batch = {.max_events = 1, .max_bytes = 10485760, .max_wait_us = US_PER_S, .concurrency = 4},
    .paths = paths,
    .path_count = sizeof paths / sizeof paths[0],
    .read = read_export,
    .answer = otlp_answer,
    .alone = alone,
    .envelope = envelope,
    .request = request,
    .judge = judge,
};
