/* sink_plain: the upstreams without a vendor: CloudEvents over HTTP, OTLP/HTTP, and plain JSON to any URL.
 *
 * Sources: the CloudEvents 1.0.2 specification with its JSON format and HTTP protocol binding; the OpenTelemetry
 * protocol specification. The plain one is ours: an array or NDJSON of whole CloudEvents, and an Idempotency-Key by
 * which a receiver can tell a repeat. It takes whatever no other api has recognised. */
#include "agent/sink_check.h"

#include "lib/codec/rfc3339.h"

#include <string.h>

static const char *any_encoding(const struct sink_exchange *x)
{
    (void)x;
    return "gzip zstd";
}

static void refuse(struct sink_exchange *x, const char *text)
{
    sink_reply(x, x->status, "application/json", "{\"error\":");
    sink_reply_string(x, span_str(text));
    sink_reply_more(x, "}");
}

static void answer_ok(struct sink_exchange *x)
{
    sink_reply(x, 200, "application/json", "{}");
}

/* --- CloudEvents --------------------------------------------------------------------------------------- */

static void event_wrong(struct sink_exchange *x, struct sink_event *e, const char *what)
{
    if (e->error == NULL)
        sink_violation(x, "event", "event %u: %s", x->event_count - 1, what);
    e->status = 400;
    e->error = what;
}

static void check_attribute(struct sink_exchange *x, struct sink_event *e, const struct json_member *m)
{
    int64_t n;
    struct instant t;
    struct span name = m->key.text;
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.at[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')))
            event_wrong(x, e, "an attribute's name has other characters than a-z and 0-9");
    }
    if (m->value.type == JSON_OBJECT || m->value.type == JSON_ARRAY)
        event_wrong(x, e, "an attribute is neither string, number nor boolean");
    if (m->value.type == JSON_NUMBER && (!json_int64(m->value.text, &n) || n < INT32_MIN || n > INT32_MAX))
        event_wrong(x, e, "an Integer attribute does not fit into 32 bits");
    if (json_key_is(&m->key, "time") && m->value.type != JSON_NULL) {
        struct span text = {0};
        if (m->value.type != JSON_STRING || json_decode_string(x->arena, &m->value, &text) != OK || !rfc3339_parse(text, &t))
            event_wrong(x, e, "time is not RFC 3339");
    }
}

static void check_data(struct sink_exchange *x, struct sink_event *e, const struct json_member *members, size_t count)
{
    const struct json_member *data = json_find(members, count, "data");
    struct span type = sink_text(x, members, count, "datacontenttype");
    bool json = type.at == NULL || memmem(type.at, type.len, "/json", 5) != NULL || memmem(type.at, type.len, "+json", 5) != NULL;
    if (data != NULL && json_find(members, count, "data_base64") != NULL)
        event_wrong(x, e, "both data and data_base64");
    if (data != NULL && !json && data->value.type != JSON_STRING)
        event_wrong(x, e, "data of another type than JSON is not a string");
}

static void each(struct sink_exchange *x, struct sink_event *e, const struct json_member *members, size_t count)
{
    static const char *const required[] = {"id", "source", "type", "specversion"};
    if (!sink_is_object(e)) {
        event_wrong(x, e, "not an object");
        return;
    }
    if (json_repeated_key(members, count, NULL))
        event_wrong(x, e, "a member twice");
    for (unsigned i = 0; i < sizeof required / sizeof *required; i++) {
        if (sink_text(x, members, count, required[i]).at == NULL)
            event_wrong(x, e, "id, source, type and specversion are required");
    }
    if (!span_is(sink_text(x, members, count, "specversion"), "1.0"))
        event_wrong(x, e, "specversion is not 1.0");
    for (size_t i = 0; i < count; i++) {
        if (!json_key_is(&members[i].key, "data") && !json_key_is(&members[i].key, "data_base64"))
            check_attribute(x, e, &members[i]);
    }
    check_data(x, e, members, count);
    struct span id = sink_text(x, members, count, "id"), source = sink_text(x, members, count, "source");
    if (id.at != NULL && source.at != NULL)
        sink_event_identify(x, e, id, source);
}

static bool type_starts(const struct sink_request *r, const char *prefix)
{
    struct span type = r->header(r->header_ctx, "content-type");
    size_t len = strlen(prefix);
    return type.at != NULL && type.len >= len && span_equal_nocase(span_of(type.at, len), span_str(prefix));
}

static bool recognise_cloudevents(const struct sink_request *r)
{
    return type_starts(r, "application/cloudevents") ||
           r->header(r->header_ctx, "webhook-request-origin").at != NULL || r->header(r->header_ctx, "ce-specversion").at != NULL;
}

static void refuse_any(struct sink_exchange *x)
{
    for (unsigned i = 0; i < x->event_count; i++) {
        if (x->events[i].status != 0)
            sink_refuse(x, 400, NULL, x->events[i].error);
    }
}

static void check_binary(struct sink_exchange *x)
{
    struct span id = sink_header(x, "ce-id"), source = sink_header(x, "ce-source"), name, value;
    unsigned cursor = 0;
    if (id.len == 0 || source.len == 0 || sink_header(x, "ce-type").len == 0 || !span_is(sink_header(x, "ce-specversion"), "1.0")) {
        sink_refuse(x, 400, "event", "ce-id, ce-source, ce-type and ce-specversion are required");
        return;
    }
    while (x->request->header_next(x->request->header_ctx, &cursor, &name, &value)) {
        if (!span_starts(name, SPAN("ce-")) && !span_starts(name, SPAN("Ce-")))
            continue;
        for (size_t i = 0; i < value.len; i++) {
            if (value.at[i] < 0x21 || value.at[i] > 0x7e || value.at[i] == '"')
                sink_violation(x, "header_encoding", "%.*s has bytes that must be percent-encoded", SPAN_FMT(name));
        }
    }
    struct sink_event *e = sink_event_add(x, x->body);
    e->opaque = true;
    sink_event_identify(x, e, sink_percent_decoded(x, id), sink_percent_decoded(x, source));
}

/* Webhook validation: whoever asks in a name may send. */
static void consent(struct sink_exchange *x)
{
    struct span origin = sink_header(x, "webhook-request-origin");
    if (origin.len == 0) {
        sink_refuse(x, 400, "webhook", "WebHook-Request-Origin is missing");
        return;
    }
    x->status = 200;
    (void)!bytes_printf(&x->headers, "WebHook-Allowed-Origin: %.*s\r\nWebHook-Allowed-Rate: *\r\n", SPAN_FMT(origin));
}

static void check_cloudevents(struct sink_exchange *x)
{
    struct json_reader r;
    struct json_value value;
    size_t count;
    if (span_is(x->request->method, "OPTIONS")) {
        consent(x);
    } else if (!span_is(x->request->method, "POST")) {
        sink_refuse(x, 405, "method", "method not allowed");
    } else if (!type_starts(x->request, "application/cloudevents")) {
        check_binary(x);
    } else if (sink_type_is(x, "application/cloudevents-batch+json")) {
        json_reader_init(&r, x->body);
        if (!sink_each_element(x, &r, each) || json_finish(&r) != OK)
            sink_refuse(x, 400, "malformed", "the body is not a JSON array");
    } else if (sink_type_is(x, "application/cloudevents+json")) {
        if (json_check_object(x->body, x->members, SINK_MEMBERS_MAX, &count, &value, NULL) != OK)
            sink_refuse(x, 400, "malformed", "the body is not a JSON object");
        else
            each(x, sink_event_add(x, value.text), x->members, count);
    } else {
        sink_refuse(x, 415, "content_type", "a format of CloudEvents that is not taken");
    }
    if (x->status == 0)
        refuse_any(x);
}

static void answer_cloudevents(struct sink_exchange *x)
{
    x->status = 204;
}

const struct sink_api sink_cloudevents = {"cloudevents", recognise_cloudevents, any_encoding,
                                          check_cloudevents, answer_cloudevents, refuse};

/* --- OTLP ---------------------------------------------------------------------------------------------- */

static bool recognise_otlp(const struct sink_request *r)
{
    return span_is(r->path, "/v1/traces") || span_is(r->path, "/v1/logs") || span_is(r->path, "/v1/metrics");
}

static const char *otlp_encodings(const struct sink_exchange *x)
{
    (void)x;
    return "gzip deflate zstd"; /* gzip is what all servers take, and the collector these */
}

static void check_otlp(struct sink_exchange *x)
{
    struct json_value value;
    bool json = sink_type_is(x, "application/json");
    if (!span_is(x->request->method, "POST"))
        sink_refuse(x, 405, "method", "method not allowed");
    else if (!json && !sink_type_is(x, "application/x-protobuf"))
        sink_refuse(x, 415, "content_type", "Content-Type must be application/x-protobuf or application/json");
    else if (json && (json_check(x->body, &value, NULL) != OK || value.type != JSON_OBJECT))
        sink_refuse(x, 400, "malformed", "not a JSON object");
    else
        sink_event_add(x, x->body)->opaque = !json;
}

static void answer_otlp(struct sink_exchange *x)
{
    if (sink_type_is(x, "application/json"))
        answer_ok(x);
    else
        sink_reply(x, 200, "application/x-protobuf", "%s", "");
}

const struct sink_api sink_otlp = {"otlp", recognise_otlp, otlp_encodings, check_otlp, answer_otlp, refuse};

/* --- plain --------------------------------------------------------------------------------------------- */

static bool recognise_any(const struct sink_request *r)
{
    (void)r;
    return true;
}

static void check_lines(struct sink_exchange *x)
{
    struct span rest = x->body;
    while (rest.len > 0 && x->status == 0) {
        const uint8_t *end = memchr(rest.at, '\n', rest.len);
        struct span line = span_of(rest.at, end == NULL ? rest.len : (size_t)(end - rest.at));
        size_t count = 0, used = line.len + (end != NULL);
        struct json_value value;
        rest = span_of(rest.at + used, rest.len - used);
        if (json_check_object(line, x->members, SINK_MEMBERS_MAX, &count, &value, NULL) != OK)
            sink_refuse(x, 400, "malformed", "a line is not JSON");
        else
            each(x, sink_event_add(x, value.text), x->members, count);
        if (end == NULL)
            sink_violation(x, "last_line", "the last line has no line feed");
    }
}

static void check_plain(struct sink_exchange *x)
{
    struct json_reader r;
    if (!span_is(x->request->method, "POST") && !span_is(x->request->method, "PUT")) {
        sink_refuse(x, 405, "method", "method not allowed");
        return;
    }
    if (x->settings->accept_key.at != NULL && !sink_credential(x, sink_header(x, "authorization"), "Bearer ")) {
        sink_refuse(x, 401, NULL, "unknown key");
        return;
    }
    if (sink_type_is(x, "application/x-ndjson")) {
        check_lines(x);
    } else if (sink_type_is(x, "application/json")) {
        json_reader_init(&r, x->body);
        if (!sink_each_element(x, &r, each) || json_finish(&r) != OK)
            sink_refuse(x, 400, "malformed", "the body is not a JSON array");
    } else {
        sink_refuse(x, 415, "content_type", "Content-Type must be application/json or application/x-ndjson");
    }
    if (x->status == 0 && x->event_count == 0)
        sink_violation(x, "empty_batch", "no events");
    x->batch = sink_header(x, "idempotency-key");
    if (x->batch.at == NULL)
        sink_violation(x, "no_key", "no Idempotency-Key");
    else
        sink_batch_identify(x);
    if (x->status == 0)
        refuse_any(x);
}

const struct sink_api sink_http = {"http", recognise_any, any_encoding, check_plain, answer_ok, refuse};

/* --- all of them ---------------------------------------------------------------------------------------- */

const struct sink_api *const sink_apis[] = {&sink_cloudevents, &sink_honeycomb, &sink_langfuse, &sink_launchdarkly, &sink_monk,
                                            &sink_segops,      &sink_otlp,      &sink_http,     NULL};
