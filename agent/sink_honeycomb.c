/* sink_honeycomb: what Honeycomb's Events API takes and answers.
 *
 * Sources: docs.honeycomb.io/api/events/create-events, the limits that honeycombio/libhoney-go and
 * honeycombio/refinery work by (5,000,000 bytes of body, 1,000,000 per event, 2,000 fields), and 1,000,000 bytes as
 * sent, which one vendor page states: a forwarder has to satisfy all of them. */
#include "agent/sink_check.h"

#include "lib/codec/msgpack.h"
#include "lib/codec/rfc3339.h"

enum { EVENT_BYTES_MAX = 1000000, RAW_BYTES_MAX = 5000000, SENT_BYTES_MAX = 1000000, FIELDS_MAX = 2000, STRING_BYTES_MAX = 65536 };

static bool recognise(const struct sink_request *r)
{
    return span_starts(r->path, SPAN("/1/batch")) || span_starts(r->path, SPAN("/1/events")) || span_is(r->path, "/1/auth");
}

static const char *encodings(const struct sink_exchange *x)
{
    (void)x;
    return "gzip zstd";
}

static void refuse(struct sink_exchange *x, const char *text)
{
    if (x->status == 429) {
        sink_reply(x, 429, "application/problem+json",
                   "{\"status\":429,\"type\":\"https://api.honeycomb.io/problems/rate-limited\",\"title\":\"You have "
                   "exceeded your rate limit.\",\"error\":\"You have exceeded your rate limit.\"}");
        return;
    }
    sink_reply(x, x->status, "application/json", "{\"error\":");
    sink_reply_string(x, span_str(text));
    sink_reply_more(x, "}");
}

static void event_refuse(struct sink_exchange *x, struct sink_event *e, const char *error)
{
    e->status = 400;
    e->error = error;
    sink_violation(x, "event", "%s", error);
}

static void check_time(struct sink_exchange *x, const struct json_member *members, size_t count)
{
    struct instant t;
    if (json_find(members, count, "time") == NULL)
        return;
    struct span time = sink_text(x, members, count, "time");
    /* The vendor would silently put the time of receipt in its place. */
    if (time.at == NULL || (!rfc3339_parse(time, &t) && !epoch_parse(time, &t)))
        sink_violation(x, "time", "not a time in a string, would be replaced by the time of receipt");
}

static void check_rate(struct sink_exchange *x, const struct json_member *members, size_t count)
{
    const struct json_member *rate = json_find(members, count, "samplerate");
    uint64_t n;
    if (rate != NULL && (rate->value.type != JSON_NUMBER || !json_uint64(rate->value.text, &n) || n < 1))
        sink_violation(x, "samplerate", "not a whole number of at least 1: %.*s", SPAN_FMT(rate->value.text));
}

/* What becomes of a longer one is not documented: it is no refusal. */
static void check_string(struct sink_exchange *x, const struct json_key *key, const struct json_value *value)
{
    struct span text;
    if (value->type == JSON_STRING && value->text.len > STRING_BYTES_MAX &&
        json_decode_string(x->arena, value, &text) == OK && text.len > STRING_BYTES_MAX)
        sink_violation(x, "string", "'%.*s' is longer than 64 KB", SPAN_FMT(key->text));
}

static unsigned check_fields(struct sink_exchange *x, struct span object)
{
    struct json_reader r;
    struct json_key key;
    struct json_value value;
    unsigned n = 0;
    json_reader_init(&r, object);
    if (json_enter_object(&r) != OK)
        return 0;
    for (; json_next_member(&r, &key) == OK && json_read_value(&r, &value) == OK; n++)
        check_string(x, &key, &value);
    return n;
}

static void each(struct sink_exchange *x, struct sink_event *e, const struct json_member *members, size_t count)
{
    const struct json_member *data = json_find(members, count, "data");
    unsigned fields = data != NULL && data->value.type == JSON_OBJECT ? check_fields(x, data->value.text) : 0;
    if (!sink_is_object(e))
        event_refuse(x, e, "Request body is malformed and cannot be read.");
    else if (fields == 0)
        event_refuse(x, e, "Request body should not be empty.");
    else if (fields > FIELDS_MAX)
        event_refuse(x, e, "Event has too many columns.");
    else if (e->body.len > EVENT_BYTES_MAX)
        event_refuse(x, e, "Event is too large.");
    check_time(x, members, count);
    check_rate(x, members, count);
    for (size_t i = 0; i < count; i++) {
        const struct json_key *key = &members[i].key;
        if (!json_key_is(key, "data") && !json_key_is(key, "time") && !json_key_is(key, "samplerate"))
            sink_violation(x, "unknown_member", "'%.*s' beside data, time and samplerate", SPAN_FMT(key->text));
    }
}

static bool check_key(struct sink_exchange *x)
{
    if (sink_credential(x, sink_header(x, "x-honeycomb-team"), "") || sink_credential(x, sink_header(x, "x-hny-team"), ""))
        return true;
    sink_refuse(x, 401, sink_header(x, "x-honeycomb-team").at == NULL ? "no_key" : NULL,
                "unknown API key - check your credentials");
    return false;
}

static bool check_dataset(struct sink_exchange *x, struct span segment)
{
    if (segment.len == 0) {
        sink_refuse(x, 404, "dataset", "no dataset in the path");
        return false;
    }
    if (memchr(segment.at, '/', segment.len) != NULL || memmem(segment.at, segment.len, "%2F", 3) != NULL ||
        memmem(segment.at, segment.len, "%2f", 3) != NULL || memchr(segment.at, '+', segment.len) != NULL) {
        sink_refuse(x, 404, "dataset", "a dataset is one path segment without a slash, spaces are %20");
        return false;
    }
    x->partition = sink_percent_decoded(x, segment);
    return true;
}

/* MessagePack is read as the JSON that it stands for. */
static bool read_msgpack(struct sink_exchange *x)
{
    struct msgpack_renderer renderer;
    struct bytes out;
    struct span in = x->body;
    msgpack_renderer_init(&renderer, MSGPACK_TIMES_STANDARD);
    bytes_init(&out, 64 << 20);
    bool good = msgpack_render(&renderer, &in, &out, NULL) == OK && in.len == 0;
    struct span copy = good ? arena_copy(x->arena, bytes_span(&out)) : (struct span){0};
    if (copy.at != NULL)
        x->body = copy;
    bytes_deinit(&out);
    msgpack_renderer_deinit(&renderer);
    return copy.at != NULL;
}

static bool check_format(struct sink_exchange *x)
{
    bool msgpack = sink_type_is(x, "application/msgpack") || sink_type_is(x, "application/x-msgpack");
    if (!msgpack && !sink_type_is(x, "application/json"))
        sink_refuse(x, 415, "content_type", "Content-Type must be application/json or application/msgpack");
    else if (x->request->body.len > SENT_BYTES_MAX || x->body.len > RAW_BYTES_MAX)
        sink_refuse(x, 413, "too_large", "request body is too large");
    else if (msgpack && !read_msgpack(x))
        sink_refuse(x, 400, "malformed", "Request body is malformed and cannot be read.");
    return x->status == 0;
}

static void check_batch(struct sink_exchange *x)
{
    struct json_reader r;
    if (!check_format(x))
        return;
    json_reader_init(&r, x->body);
    if (!sink_each_element(x, &r, each) || json_finish(&r) != OK)
        sink_refuse(x, 400, "malformed", "Request body is malformed and cannot be read.");
    else if (x->event_count == 0)
        sink_refuse(x, 400, "empty_batch", "Request body should not be empty.");
}

static void check_single(struct sink_exchange *x)
{
    struct json_value value;
    if (!check_format(x))
        return;
    if (json_check(x->body, &value, NULL) != OK || value.type != JSON_OBJECT) {
        sink_refuse(x, 400, "malformed", "Request body is malformed and cannot be read.");
        return;
    }
    unsigned fields = check_fields(x, value.text);
    sink_event_add(x, value.text);
    if (fields == 0)
        sink_refuse(x, 400, "event", "Request body should not be empty.");
    else if (fields > FIELDS_MAX)
        sink_refuse(x, 400, "event", "Event has too many columns.");
    else if (value.text.len > EVENT_BYTES_MAX)
        sink_refuse(x, 413, "event", "Event is too large.");
    sink_violation(x, "single", "the endpoint for single events is for tests");
}

static void check(struct sink_exchange *x)
{
    bool is_auth = span_is(x->request->path, "/1/auth");
    struct span dataset = sink_path_after(x->request, "/1/batch/");
    bool is_batch = dataset.at != NULL;
    if (!is_batch)
        dataset = sink_path_after(x->request, "/1/events/");
    if (!is_auth && dataset.at == NULL) {
        sink_refuse(x, 404, "path", "not found");
        return;
    }
    if (!span_is(x->request->method, is_auth ? "GET" : "POST")) {
        sink_refuse(x, 405, "method", "method not allowed");
        return;
    }
    if (!check_key(x))
        return;
    if (is_auth) {
        sink_reply(x, 200, "application/json",
                   "{\"id\":\"sink\",\"type\":\"ingest\",\"api_key_access\":{\"events\":true,\"createDatasets\":true},"
                   "\"environment\":{\"name\":\"sink\",\"slug\":\"sink\"},\"team\":{\"name\":\"sink\",\"slug\":\"sink\"}}");
        return;
    }
    if (check_dataset(x, dataset)) {
        if (is_batch)
            check_batch(x);
        else
            check_single(x);
    }
}

static void answer(struct sink_exchange *x)
{
    if (span_starts(x->request->path, SPAN("/1/events/"))) {
        x->status = 200;
        return;
    }
    uint64_t results = x->rule != NULL ? x->rule->results_max : UINT64_MAX;
    sink_reply(x, 200, "application/json", "[");
    for (unsigned i = 0; i < x->event_count && i < results; i++) {
        const struct sink_event *e = &x->events[i];
        sink_reply_more(x, "%s{\"status\":%u", i == 0 ? "" : ",", e->status != 0 ? e->status : 202);
        if (e->error != NULL) {
            sink_reply_more(x, ",\"error\":");
            sink_reply_string(x, span_str(e->error));
        }
        sink_reply_more(x, "}");
    }
    sink_reply_more(x, "]");
}

const struct sink_api sink_honeycomb = {"honeycomb", recognise, encodings, check, answer, refuse};
