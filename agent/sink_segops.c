/* sink_segops: what SegOps AI's ingestion API takes and answers.
 *
 * Source: segops.ai/docs/api/ingestion, segops.ai/docs/public-api-keys, and what segops/sdk-go sends. A malformed event
 * of a batch is skipped, counted in the answer, and never named; a path without its last slash is redirected, which
 * no POST survives. */
#include "agent/sink_check.h"

#include "lib/codec/rfc3339.h"

enum { EVENTS_MAX = 500 };

#define BATCH "/api/ingestion/track/batch/"
#define SINGLE "/api/ingestion/track/"
#define SESSION "/api/auth/session/"

static bool recognise(const struct sink_request *r)
{
    return span_starts(r->path, SPAN("/api/ingestion/")) || span_starts(r->path, SPAN("/api/auth/session"));
}

static const char *encodings(const struct sink_exchange *x)
{
    (void)x;
    return "";
}

static void refuse(struct sink_exchange *x, const char *text)
{
    sink_reply(x, x->status, "application/json", "{\"detail\":");
    sink_reply_string(x, x->status == 429 ? SPAN("Request was throttled.") : span_str(text));
    sink_reply_more(x, "}");
}

static void skip(struct sink_exchange *x, struct sink_event *e, const char *why)
{
    if (!e->skipped)
        sink_violation(x, "skipped", "event %u: %s", x->event_count - 1, why);
    e->skipped = true;
    e->error = why;
}

static void each(struct sink_exchange *x, struct sink_event *e, const struct json_member *members, size_t count)
{
    struct instant t;
    struct span at = sink_text(x, members, count, "occurred_at");
    const struct json_member *payload = json_find(members, count, "payload");
    if (!sink_is_object(e))
        skip(x, e, "not an object");
    if (sink_text(x, members, count, "user_id").at == NULL)
        skip(x, e, "user_id is required");
    if (sink_text(x, members, count, "event_type").at == NULL)
        skip(x, e, "event_type is required");
    if (payload != NULL && payload->value.type != JSON_OBJECT)
        skip(x, e, "payload is not an object");
    if (json_find(members, count, "occurred_at") == NULL)
        sink_violation(x, "occurred_at", "none: the time of delivery would be taken");
    else if (at.at == NULL || !rfc3339_parse(at, &t))
        skip(x, e, "occurred_at is not ISO 8601");
}

static bool check_path(struct sink_exchange *x)
{
    struct span path = x->request->path;
    if (span_is(path, BATCH) || span_is(path, SINGLE) || span_is(path, SESSION))
        return true;
    if (path.len > 0 && path.at[path.len - 1] != '/') {
        sink_refuse(x, 308, "no_slash", "the path has lost its last slash");
        (void)!bytes_printf(&x->headers, "Location: %.*s/\r\n", SPAN_FMT(path));
    } else {
        sink_refuse(x, 404, "path", "Not found.");
    }
    return false;
}

static void check(struct sink_exchange *x)
{
    struct span key = sink_header(x, "authorization");
    if (!check_path(x))
        return;
    if (!span_is(x->request->method, "POST"))
        sink_refuse(x, 405, "method", "Method not allowed.");
    else if (!sink_credential(x, key, "ApiKey ") && !sink_credential(x, key, "Bearer "))
        sink_refuse(x, 401, key.at == NULL ? "no_key" : NULL, "Invalid API key.");
    else if (!sink_type_is(x, "application/json"))
        sink_refuse(x, 415, "content_type", "Unsupported media type in request.");
    if (x->status != 0)
        return;
    if (span_is(x->request->path, SESSION)) {
        sink_reply(x, 200, "application/json", "{\"token\":\"sink-session\",\"expires_at\":\"2100-01-01T00:00:00Z\",\"uid\":\"u\"}");
        return;
    }
    if (span_is(x->request->path, SINGLE)) {
        struct json_value value;
        size_t count;
        if (json_check_object(x->body, x->members, SINK_MEMBERS_MAX, &count, &value, NULL) != OK) {
            sink_refuse(x, 400, "malformed", "JSON parse error");
            return;
        }
        each(x, sink_event_add(x, value.text), x->members, count);
        if (x->events[0].skipped)
            sink_refuse(x, 400, "event", x->events[0].error);
        return;
    }
    if (sink_each_of_member(x, "events", each) != 0)
        sink_refuse(x, 400, "malformed", "events: This field is required.");
    else if (x->event_count > EVENTS_MAX)
        sink_refuse(x, 400, "batch_size", "events: no more than 500");
    else if (x->event_count == 0)
        sink_violation(x, "batch_size", "an empty batch");
}

static void answer(struct sink_exchange *x)
{
    if (span_is(x->request->path, SINGLE)) {
        sink_reply(x, 202, "application/json", "{\"queued\":true}");
        return;
    }
    unsigned queued = sink_taken(x);
    sink_reply(x, 202, "application/json", "{\"queued\":%u,\"skipped\":%u}", queued, x->event_count - queued);
}

const struct sink_api sink_segops = {"segops", recognise, encodings, check, answer, refuse};
