/* sink_launchdarkly: what LaunchDarkly's metric import and its SDKs' event endpoints take and answer.
 *
 * Sources: launchdarkly.com/docs/home/metrics/import-events; launchdarkly/go-sdk-events and launchdarkly/ld-relay for
 * the SDK paths. The import answers 202 for an event that it will never show; here such an event is a violation.
 * Deduplication is per request, by X-LaunchDarkly-Payload-ID. */
#include "agent/sink_check.h"

enum { BODY_BYTES_LIMIT = 10000000 };

static bool recognise(const struct sink_request *r)
{
    return span_starts(r->path, SPAN("/v2/event-data-import/")) || span_is(r->path, "/bulk") || span_is(r->path, "/diagnostic") ||
           span_starts(r->path, SPAN("/mobile")) || span_starts(r->path, SPAN("/events/"));
}

static const char *encodings(const struct sink_exchange *x)
{
    (void)x;
    return "gzip";
}

static void refuse(struct sink_exchange *x, const char *text)
{
    sink_reply(x, x->status, "application/json", "{\"code\":\"%s\",\"message\":",
               x->status == 401 ? "unauthorized" : x->status == 429 ? "rate_limited" : "invalid_request");
    sink_reply_string(x, span_str(text));
    sink_reply_more(x, "}");
}

static bool is_import(const struct sink_exchange *x)
{
    return span_starts(x->request->path, SPAN("/v2/"));
}

static bool is_diagnostic(const struct sink_exchange *x)
{
    return memmem(x->request->path.at, x->request->path.len, "diagnostic", 10) != NULL;
}

static void lose(struct sink_exchange *x, struct sink_event *e, const char *why)
{
    if (!e->lost)
        sink_violation(x, "silently_lost", "event %u: %s", x->event_count - 1, why);
    e->lost = true;
}

static void check_context_keys(struct sink_exchange *x, struct sink_event *e, const struct json_member *keys)
{
    struct json_reader r;
    struct json_key key;
    struct json_value value;
    unsigned n = 0;
    if (keys == NULL || keys->value.type != JSON_OBJECT) {
        lose(x, e, "contextKeys is not an object");
        return;
    }
    json_reader_init(&r, keys->value.text);
    if (json_enter_object(&r) != OK)
        return;
    for (; json_next_member(&r, &key) == OK && json_read_value(&r, &value) == OK; n++) {
        if (value.type != JSON_STRING)
            lose(x, e, "a context key is not a string");
    }
    if (n == 0)
        lose(x, e, "contextKeys is empty");
}

static void each_import(struct sink_exchange *x, struct sink_event *e, const struct json_member *members, size_t count)
{
    const struct json_member *date = json_find(members, count, "creationDate");
    const struct json_member *metric = json_find(members, count, "metricValue");
    const struct json_member *data = json_find(members, count, "data");
    int64_t ms;
    if (!span_is(sink_text(x, members, count, "kind"), "custom")) {
        e->status = 400;
        return;
    }
    if (sink_text(x, members, count, "key").at == NULL)
        lose(x, e, "no key");
    if (date == NULL || date->value.type != JSON_NUMBER || !json_int64(date->value.text, &ms) || ms < 0)
        lose(x, e, "creationDate is no whole number of milliseconds");
    else if (ms < INT64_C(100000000000))
        lose(x, e, "creationDate is not in milliseconds");
    check_context_keys(x, e, json_find(members, count, "contextKeys"));
    if (metric != NULL && metric->value.type != JSON_NUMBER)
        lose(x, e, "metricValue is not a number");
    if (data != NULL && data->value.type != JSON_OBJECT)
        lose(x, e, "data is not an object");
}

static void each_sdk(struct sink_exchange *x, struct sink_event *e, const struct json_member *members, size_t count)
{
    if (sink_text(x, members, count, "kind").at == NULL) {
        e->status = 400;
        sink_violation(x, "event", "event %u has no kind", x->event_count - 1);
    }
}

/* MetricImport-COMPANY-int/VERSION */
static bool is_import_agent(struct span agent)
{
    const uint8_t *slash = agent.len > 0 ? memrchr(agent.at, '/', agent.len) : NULL;
    return slash != NULL && span_starts(agent, SPAN("MetricImport-")) && agent.at + agent.len > slash + 1 &&
           slash - agent.at > 17 && memcmp(slash - 4, "-int", 4) == 0;
}

static void check_import_headers(struct sink_exchange *x)
{
    struct span key = sink_header(x, "authorization"), path = sink_path_after(x->request, "/v2/event-data-import/");
    const uint8_t *slash = path.len > 0 ? memchr(path.at, '/', path.len) : NULL;
    size_t project = slash == NULL ? 0 : (size_t)(slash - path.at);
    if (project == 0 || project + 1 == path.len || memchr(slash + 1, '/', path.len - project - 1) != NULL)
        sink_refuse(x, 404, "path", "the path is /v2/event-data-import/PROJECT/ENVIRONMENT");
    else if (!sink_credential(x, key, "") || span_starts(key, SPAN("Bearer ")))
        sink_refuse(x, 401, key.at == NULL || span_starts(key, SPAN("Bearer ")) ? "no_key" : NULL, "the token may not import events");
    else if (!span_is(sink_header(x, "x-launchdarkly-event-schema"), "4"))
        sink_refuse(x, 406, "schema", "X-LaunchDarkly-Event-Schema must be 4");
    else if (x->request->chunked)
        sink_refuse(x, 411, "chunked", "Content-Length is required");
    else if (!is_import_agent(sink_header(x, "user-agent")))
        sink_refuse(x, 400, "user_agent", "User-Agent must be MetricImport-COMPANY-int/VERSION");
    else
        x->partition = sink_percent_decoded(x, path);
}

static void check_sdk_headers(struct sink_exchange *x)
{
    struct span key = sink_header(x, "authorization");
    bool in_url = span_starts(x->request->path, SPAN("/events/"));
    if (!in_url && (!sink_credential(x, key, "") || memchr(key.at, ' ', key.len) != NULL))
        sink_refuse(x, 401, key.at == NULL ? "no_key" : NULL, "the SDK key is not valid");
    x->partition = x->request->path;
}

static void check_body(struct sink_exchange *x)
{
    struct json_reader r;
    struct json_value value;
    enum json_type type;
    sink_each_fn *each = is_import(x) ? each_import : each_sdk;
    json_reader_init(&r, x->body);
    if (json_peek(&r, &type) == OK && type == JSON_OBJECT && !is_import(x)) {
        /* A diagnostic; JavaScript SDKs also repeat one to /bulk. */
        if (json_read_value(&r, &value) != OK || json_finish(&r) != OK)
            sink_refuse(x, 400, "malformed", "not JSON");
        else
            sink_event_add(x, value.text);
        return;
    }
    if (is_diagnostic(x) || !sink_each_element(x, &r, each) || json_finish(&r) != OK)
        sink_refuse(x, 400, "malformed", "not the JSON that is expected here");
    else if (x->event_count == 0)
        sink_refuse(x, 400, "empty_batch", "no events in payload");
    for (unsigned i = 0; i < x->event_count; i++) {
        if (x->events[i].status == 400)
            sink_refuse(x, 400, "kind", "no valid events in payload");
    }
}

static void check_payload_id(struct sink_exchange *x)
{
    struct span id = sink_header(x, "x-launchdarkly-payload-id");
    if (id.at == NULL) {
        if (is_import(x))
            sink_violation(x, "no_payload_id", "a repeat would count twice");
        return;
    }
    if (!sink_is_uuid(id))
        sink_violation(x, "payload_id", "'%.*s' is no UUID", SPAN_FMT(id));
    x->batch = id;
    sink_batch_identify(x);
}

static void check(struct sink_exchange *x)
{
    if (!span_is(x->request->method, "POST"))
        sink_refuse(x, 405, "method", "method not allowed");
    else if (is_import(x))
        check_import_headers(x);
    else
        check_sdk_headers(x);
    if (x->status != 0)
        return;
    if (!sink_type_is(x, "application/json"))
        sink_refuse(x, 415, "content_type", "Content-Type must be application/json");
    else if (x->body.len >= BODY_BYTES_LIMIT)
        sink_refuse(x, 413, "too_large", "the payload must be smaller than 10 MB");
    else
        check_body(x);
    check_payload_id(x);
}

static void answer(struct sink_exchange *x)
{
    x->status = 202;
}

const struct sink_api sink_launchdarkly = {"launchdarkly", recognise, encodings, check, answer, refuse};
