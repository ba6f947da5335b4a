/* cloudevents_api: the neutral path POST /events, and the output type `cloudevents`.
 *
 * Local: the body's form follows from its media type (HTTP binding section 3: batch, structured, binary by
 * ce-specversion, else bare JSON or NDJSON). Events go to intake as struct event; what cannot be read is
 * named by its index. 202 when all are taken, 207 when some are, 400 in the same shape when none is.
 * Upstream: the event whole, in JSON form, in one of three modes. Batch: an array. Structured: one event per
 * request. Binary: one event per request, its attributes in ce- headers (cloudevents_binary_send.c).
 * Webhook validation (http-webhook.md): OPTIONS /events is answered when the input says `webhook: true`. */
#include "lib/api/cloudevents_api.h"

#include "lib/event/cloudevents.h"

#include <stdio.h>

enum tag { TAG_EVENTS, TAG_WEBHOOK };

static const struct api_path paths[] = {
    {.method = "POST", .pattern = "/events", .auth = AUTH_BEARER, .pieces = true, .tag = TAG_EVENTS},
    {.method = "OPTIONS", .pattern = "/events", .auth = AUTH_NONE, .hidden = true, .tag = TAG_WEBHOOK},
};

static const struct answer_row rows[COND_COUNT] = {
    [COND_STORED] = {202, 0, "accepted", "accepted"},
    [COND_FULL] = {429, 2, "full", "an output has no room; come back later"},
    [COND_STOPPING] = {503, 5, "stopping", "the agent is stopping"},
    [COND_FAILED] = {503, 5, "storage_failed", "storage has failed"},
    [COND_NO_OUTPUT] = {400, 0, "no_route", "no route takes this event"},
    [COND_UNAUTHORIZED] = {401, 0, "unauthorized", "Authorization: Bearer TOKEN is missing or wrong"},
    [COND_TOO_LARGE] = {413, 0, "too_large", "the request is larger than this input takes"},
    [COND_BAD_ENCODING] = {415, 0, "unsupported_encoding", "Content-Encoding is not gzip, deflate or zstd"},
    [COND_BAD_COMPRESSION] = {400, 0, "bad_compression",
                              "the body does not decode as its Content-Encoding says"},
    [COND_BAD_METHOD] = {405, 0, "method_not_allowed", "this path takes other methods"},
    [COND_BUSY] = {429, 1, "busy", "too many requests are waiting; come back later"},
    [COND_CONFLICT] = {400, 0, "conflict", "this id was given to other content"},
};

/* --- reading ------------------------------------------------------------------------------------ */

static bool starts_nocase(struct span s, struct span start)
{
    return s.len >= start.len && span_equal_nocase(span_of(s.at, start.len), start);
}

static bool is_lines(struct span type)
{
    static const char *const names[] = {"application/x-ndjson", "application/ndjson", "application/jsonl",
                                        "application/x-jsonlines", "application/jsonlines"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (span_equal_nocase(type, span_str(names[i])))
            return true;
    return false;
}

/* False: 415. */
static bool form_of(const struct api_request *r, enum event_form *ret)
{
    struct span type = media_type(r->content_type);
    const struct span declared = SPAN("application/cloudevents"),
                      batch = SPAN("application/cloudevents-batch");
    bool many = starts_nocase(type, batch);
    if (many || starts_nocase(type, declared)) {
        size_t name = many ? batch.len : declared.len;
        struct span format = span_of(type.at + name, type.len - name);
        *ret = many ? EVENTS_BATCH : EVENTS_ONE;
        return format.len == 0 || span_equal_nocase(format, SPAN("+json"));
    }
    if (is_lines(type)) {
        *ret = EVENTS_LINES;
        return true;
    }
    bool named = starts_nocase(type, SPAN("application/json")) || starts_nocase(type, SPAN("text/json"));
    *ret = named ? EVENTS_BARE : EVENTS_LOOSE;
    return body_is_json(r);
}

static void arena_or_reject(struct api_exchange *x, bool ok)
{
    if (!ok && x->answer.status == 0)
        answer_error(x, shape_code_message, 413, "too_large", "the request's events need too much memory");
}

static struct event_body *body_of(struct api_exchange *x, enum event_form form, struct event_body *whole)
{
    struct event_body *b = x->reading;
    if (b != NULL)
        return b;
    b = x->piece_bytes == 0 ? whole : arena_alloc(api_keep(x), sizeof *b);
    if (b != NULL)
        *b = (struct event_body){.body = x->request->body, .form = form, .piece_bytes = x->piece_bytes};
    x->reading = x->piece_bytes == 0 ? NULL : b;
    return b;
}

static void read_json(struct api_exchange *x, struct event_reading *in, enum event_form form)
{
    struct event_list list = {.max = events_max(x), .offered = x->offered};
    struct event_body whole, *b = body_of(x, form, &whole);
    uint32_t index = 0;
    struct fault why = {.err = OK};
    enum err err = b == NULL ? fault_set(&why, ERR_TOO_BIG, "the request's events need too much memory")
                             : event_body_next(in, b, &list, &index, &why);
    x->offered = list.offered;
    if (err == ERR_TOO_BIG) {
        answer_error(x, shape_code_message, 413, "too_large", "%s", why.text);
    } else if (err != OK) {
        struct span text = json_text(x->arena, span_str(why.text));
        answer_json(&x->answer, 400,
                    arena_printf(x->arena,
                                 "{\"error\":{\"code\":\"invalid_json\",\"message\":%.*s,\"index\":%u}}",
                                 SPAN_FMT(text), index));
        x->offered = list.offered + 1;
    } else {
        x->events = list.events;
        x->event_count = list.count;
        x->more = b->more;
        for (unsigned i = 0; i < list.refusal_count; i++)
            arena_or_reject(x, api_reject(x, list.refusals[i].index, REJECT_MALFORMED,
                                          (const char *)list.refusals[i].text.at));
    }
}

static void read_binary(struct api_exchange *x, struct event_reading *in)
{
    const struct api_request *r = x->request;
    struct event_headers headers = {.next = r->header_next, .ctx = r->header_ctx};
    struct fault why = {.err = OK};
    struct event *e = arena_alloc(x->arena, sizeof *e);
    x->offered = 1;
    enum err err = e == NULL
                       ? ERR_TOO_BIG
                       : event_read_binary(in, &headers, r->content_type, r->body, e, &x->warnings, &why);
    if (err == OK) {
        x->events = e;
        x->event_count = 1;
    } else {
        arena_or_reject(x, err != ERR_TOO_BIG && api_reject(x, 0, REJECT_MALFORMED, why.text));
    }
}

static void read_webhook(struct api_exchange *x)
{
    const struct api_request *r = x->request;
    if (!x->webhook) {
        answer_condition(x, rows, shape_code_message, COND_BAD_METHOD, (struct span){0}, &x->answer);
        return;
    }
    struct span origin = span_trim(r->header(r->header_ctx, "WebHook-Request-Origin"));
    struct span rate = span_trim(r->header(r->header_ctx, "WebHook-Request-Rate"));
    if (origin.len == 0) {
        answer_error(x, shape_code_message, 400, "malformed", "WebHook-Request-Origin is missing");
        return;
    }
    uint64_t number;
    x->answer = (struct api_answer){.status = 200};
    answer_header(&x->answer, SPAN("WebHook-Allowed-Origin"), origin);
    answer_header(&x->answer, SPAN("WebHook-Allowed-Rate"),
                  span_u64(rate, &number) && number > 0 ? rate : SPAN("*"));
    answer_header(&x->answer, SPAN("Allow"), SPAN("POST, OPTIONS"));
}

static void read_events(struct api_exchange *x)
{
    const struct api_request *r = x->request;
    struct event_reading in = {
        .agent_name = span_str(x->agent_name), .wall_ns = r->wall_ns, .uuids = x->uuids, .arena = x->arena};
    enum event_form form = EVENTS_LOOSE;
    if (x->path->tag == TAG_WEBHOOK) {
        read_webhook(x);
        return;
    }
    bool declared = starts_nocase(media_type(r->content_type), SPAN("application/cloudevents"));
    if (!declared && r->header != NULL && r->header(r->header_ctx, "ce-specversion").at != NULL)
        read_binary(x, &in);
    else if (r->body.len == 0 && !is_lines(media_type(r->content_type)))
        answer_error(x, shape_code_message, 400, "malformed", "the body is empty; expected an event");
    else if (!form_of(r, &form))
        answer_error(
            x, shape_code_message, 415, "unsupported_type",
            "expected application/cloudevents+json, application/cloudevents-batch+json, application/json "
            "or application/x-ndjson");
    else if (!media_is_utf8(r->content_type))
        answer_error(x, shape_code_message, 415, "unsupported_charset", "expected UTF-8");
    else
        read_json(x, &in, form);
    if (x->answer.status != 0)
        x->event_count = 0;
}

/* --- answering ---------------------------------------------------------------------------------- */

static bool append_rejections(struct api_exchange *x, struct bytes *out, bool in_words)
{
    for (unsigned i = 0; i < x->rejection_count; i++) {
        const struct api_rejection *r = &x->rejections[i];
        if (bytes_printf(out, "%s{\"index\":%u,\"error\":", i == 0 ? "" : ",", r->index) != OK)
            return false;
        struct span text = in_words ? r->text : span_str(api_reject_names[r->reason]);
        char named[200];
        if (in_words && r->reason == REJECT_TOO_LARGE) { /* by the name that it has when it is alone */
            (void)snprintf(named, sizeof named, "too_large: %.*s", SPAN_FMT(r->text));
            text = span_str(named);
        }
        if (json_append_string_lossy(out, text, NULL) != OK || bytes_append_byte(out, '}') != OK)
            return false;
    }
    return true;
}

static struct span partial_body(struct api_exchange *x, unsigned accepted, bool in_words)
{
    struct bytes out;
    size_t bound = 64;
    for (unsigned i = 0; i < x->rejection_count; i++)
        bound += 40 + (in_words ? 16 + 6 * x->rejections[i].text.len : 32);
    if (!bytes_init_arena(&out, x->arena, bound))
        return (struct span){0};
    bool ok = bytes_printf(&out, "{\"accepted\":%u,\"rejected\":[", accepted) == OK &&
              append_rejections(x, &out, in_words) && bytes_append(&out, SPAN("]}")) == OK;
    return ok ? bytes_finish_arena(&out, x->arena) : (struct span){0};
}

static bool all_rejected_as(const struct api_exchange *x, enum api_reject reason)
{
    for (unsigned i = 0; i < x->rejection_count; i++)
        if (x->rejections[i].reason != reason)
            return false;
    return true;
}

static bool any_rejected_as(const struct api_exchange *x, enum api_reject reason)
{
    for (unsigned i = 0; i < x->rejection_count; i++)
        if (x->rejections[i].reason == reason)
            return true;
    return false;
}

static void answer_stored(struct api_exchange *x, struct api_answer *ret)
{
    unsigned rejected = x->rejection_count > x->offered ? x->offered : x->rejection_count;
    unsigned accepted = x->offered - rejected;
    if (rejected == 0) {
        if (accepted == 1) /* what most requests hear */
            answer_json(ret, 202, SPAN("{\"accepted\":1}"));
        else
            answer_printf(x->arena, ret, 202, "{\"accepted\":%u}", accepted);
        return;
    }
    if (accepted == 0 && any_rejected_as(x, REJECT_FULL)) {
        answer_condition(x, rows, shape_code_message, COND_FULL, (struct span){0}, ret);
        return;
    }
    if (accepted == 0 && x->offered == 1 && all_rejected_as(x, REJECT_TOO_LARGE)) {
        answer_condition(x, rows, shape_code_message, COND_TOO_LARGE, x->rejections[0].text, ret);
        return;
    }
    sort_rejections(x);
    struct span body = partial_body(x, accepted, true);
    if (body.at == NULL)
        body = partial_body(x, accepted, false);
    answer_json(ret, accepted > 0 ? 207 : 400, body.at == NULL ? SPAN("{}") : body);
}

static void answer(struct api_exchange *x, enum api_condition condition, struct span text,
                   struct api_answer *ret)
{
    if (condition == COND_STORED) {
        answer_stored(x, ret);
        return;
    }
    answer_condition(x, rows, shape_code_message, condition, text, ret);
    if (condition == COND_UNAUTHORIZED)
        answer_header(ret, SPAN("WWW-Authenticate"), SPAN("Bearer"));
}

/* --- rendering ---------------------------------------------------------------------------------- */

enum err cloudevents_render(const struct api_settings *s, const struct event *e, struct arena *arena,
                            bool one_line, struct api_item *ret, struct fault *why)
{
    struct span body = e->raw;
    if (!e->raw_complete || (one_line && e->raw_spaced)) {
        struct bytes out;
        if (!bytes_init_arena(&out, arena, event_json_bound(e)))
            return fault_set(why, ERR_TOO_BIG, "the request's events need too much memory");
        if (event_append_json(&out, e, one_line) != OK)
            return fault_set(why, ERR_TOO_BIG, "the event does not fit its bound");
        body = bytes_finish_arena(&out, arena);
    }
    if (s->limits.event_bytes > 0 && body.len > s->limits.event_bytes)
        return render_too_big(why, s->limits.event_bytes);
    *ret = item_of_event(e, body);
    return OK;
}

static enum err render(const struct api_settings *s, const struct event *e, struct arena *arena,
                       struct api_item *ret, struct fault *why)
{
    return cloudevents_render(s, e, arena, false, ret, why);
}

/* --- upstream ----------------------------------------------------------------------------------- */

static bool alone(const struct api_settings *s, struct span partition)
{
    (void)partition;
    return s->mode != API_MODE_BATCH;
}

static void envelope(const struct api_settings *s, struct span partition, struct api_envelope *ret)
{
    (void)partition;
    if (s->mode == API_MODE_BATCH)
        *ret = (struct api_envelope){
            .before = SPAN("["), .between = SPAN(","), .after = SPAN("]"), .version = 1};
    else
        *ret = (struct api_envelope){.before = SPAN(""),
                                     .between = SPAN("\n"),
                                     .after = SPAN(""),
                                     .version = s->mode == API_MODE_BINARY ? 3 : 2};
}

static enum err request(const struct api_settings *s, const struct api_batch *b, struct arena *arena,
                        struct api_send *ret)
{
    *ret = (struct api_send){.method = "POST", .target = target_join(s, arena, SPAN(""))};
    send_header(ret, "User-Agent", SPAN("penstock/" PENSTOCK_VERSION));
    send_header(ret, "Authorization", token_header(arena, "Bearer ", s->bearer));
    if (s->mode == API_MODE_BINARY && b->count == 1)
        return cloudevents_binary_send(b->members[0].body, arena, ret);
    bool many = s->mode == API_MODE_BATCH || b->count != 1;
    send_header(ret, "Content-Type",
                many ? SPAN("application/cloudevents-batch+json") : SPAN("application/cloudevents+json"));
    return OK;
}

/* Webhook validation, as the sender (http-webhook.md section 4). */
static bool handshake(const struct api_settings *s, struct arena *arena, struct api_send *ret)
{
    if (s->webhook_origin.len == 0)
        return false;
    *ret = (struct api_send){.method = "OPTIONS", .target = target_join(s, arena, SPAN(""))};
    send_header(ret, "WebHook-Request-Origin", s->webhook_origin);
    send_header(ret, "User-Agent", SPAN("penstock/" PENSTOCK_VERSION));
    send_header(ret, "Authorization", token_header(arena, "Bearer ", s->bearer));
    return true;
}

static bool consents(const struct api_settings *s, const struct api_reply *reply, uint64_t *ret_per_minute)
{
    struct span origin = span_trim(reply->webhook_origin), rate = span_trim(reply->webhook_rate);
    *ret_per_minute = 0;
    if (reply->status / 100 != 2 || !(span_is(origin, "*") || span_equal_nocase(origin, s->webhook_origin)))
        return false;
    if (rate.len > 0 && !span_u64(rate, ret_per_minute))
        *ret_per_minute = 0; /* "*": as much as we like */
    return true;
}

static void judge(const struct api_settings *s, const struct api_batch *b, const struct api_reply *reply,
                  struct arena *arena, struct api_verdict *ret)
{
    judge_status(reply, arena, ret);
    if (reply->status == 410)
        verdict_set(ret, ACT_HOLD_FOREVER, DEAD_REFUSED);
    if (reply->status == 415 && b->codec == API_IDENTITY)
        verdict_set(ret, s->mode == API_MODE_BATCH ? ACT_MODE_RETRY : ACT_HOLD, DEAD_REFUSED);
}

const struct api cloudevents_api = {
    .name = "cloudevents",
    .codecs = API_CODEC_BIT(API_IDENTITY) | API_CODEC_BIT(API_GZIP),
    .auto_codec = API_IDENTITY,
    .version = 1,
    .neutral = true,
    .repeat = REPEAT_STORE_COUNTED,
    .limits = {.event_bytes = 2097152,
               .batch_events = 10000,
               .batch_raw_bytes = 10000000,
               .local_events = 10000},
    .batch = {.max_events = 1000, .max_bytes = 1000000, .max_wait_us = US_PER_S, .concurrency = 4},
    .paths = paths,
    .path_count = sizeof paths / sizeof paths[0],
    .read = read_events,
    .answer = answer,
    .render = render,
    .alone = alone,
    .envelope = envelope,
    .request = request,
    .handshake = handshake,
    .consents = consents,
    .judge = judge,
};
