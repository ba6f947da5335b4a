/* sink_monk: what Monk's usage events API takes and answers.
 *
 * Source: docs.monk.com/api-reference/{create-event,batch-create-events} and docs.monk.com/authentication. Monk makes
 * an idempotency key where none is given; whoever repeats must bring one, so its absence is a violation here. */
#include "agent/sink_check.h"

#include "lib/codec/rfc3339.h"

enum { EVENTS_MAX = 10000, AHEAD_SECONDS_MAX = 3600 };

static bool recognise(const struct sink_request *r)
{
    return span_is(r->path, "/v1/events/batch") || span_is(r->path, "/v1/events");
}

static const char *encodings(const struct sink_exchange *x)
{
    (void)x;
    return "";
}

static void refuse(struct sink_exchange *x, const char *text)
{
    const char *code = x->status == 401   ? "UNAUTHORIZED"
                       : x->status == 403 ? "FORBIDDEN"
                       : x->status == 429 ? "RATE_LIMITED"
                       : x->status >= 500 ? "INTERNAL_ERROR"
                                          : "VALIDATION_ERROR";
    sink_reply(x, x->status, "application/json", "{\"error\":{\"message\":");
    sink_reply_string(x, span_str(text));
    sink_reply_more(x, ",\"code\":\"%s\"}}", code);
}

static void event_refuse(struct sink_event *e, const char *error)
{
    if (e->error == NULL)
        e->error = error;
}

static void check_properties(struct sink_event *e, const struct json_member *properties)
{
    struct json_reader r;
    struct json_key key;
    struct json_value value;
    if (properties->value.type != JSON_OBJECT) {
        event_refuse(e, "properties is not an object");
        return;
    }
    json_reader_init(&r, properties->value.text);
    if (json_enter_object(&r) != OK)
        return;
    while (json_next_member(&r, &key) == OK && json_read_value(&r, &value) == OK) {
        if (value.type == JSON_OBJECT || value.type == JSON_ARRAY || value.type == JSON_NULL)
            event_refuse(e, "properties may hold strings, numbers and booleans only");
    }
}

static void check_time(struct sink_exchange *x, struct sink_event *e, const struct json_member *members, size_t count)
{
    struct instant t;
    struct span time = sink_text(x, members, count, "timestamp");
    if (json_find(members, count, "timestamp") == NULL)
        sink_violation(x, "timestamp", "none: the time of delivery would be billed");
    else if (time.at == NULL || !rfc3339_parse(time, &t))
        event_refuse(e, "timestamp is not ISO 8601");
    else if (t.sec > x->request->unix_sec + AHEAD_SECONDS_MAX)
        event_refuse(e, "timestamp is more than an hour ahead");
}

/* The same key twice in one batch: which of the two counts is not said. */
static void check_key_once(struct sink_exchange *x, const struct sink_event *e)
{
    for (unsigned i = x->event_count - 1; i-- > 0 && x->event_count < 2000;) {
        if (span_equal(x->events[i].id, e->id))
            sink_violation(x, "key_twice", "'%.*s' in one batch", SPAN_FMT(e->id));
    }
}

static void each(struct sink_exchange *x, struct sink_event *e, const struct json_member *members, size_t count)
{
    const struct json_member *properties = json_find(members, count, "properties");
    struct span key = sink_text(x, members, count, "idempotencyKey");
    bool ours = json_find(members, count, "customerId") != NULL, theirs = json_find(members, count, "externalCustomerId") != NULL;
    if (!sink_is_object(e))
        event_refuse(e, "not an object");
    if (sink_text(x, members, count, "eventName").at == NULL)
        event_refuse(e, "eventName is required");
    if (ours == theirs)
        event_refuse(e, "give exactly one of customerId and externalCustomerId");
    else if (sink_text(x, members, count, ours ? "customerId" : "externalCustomerId").at == NULL)
        event_refuse(e, "the customer's id is not a string");
    check_time(x, e, members, count);
    if (json_find(members, count, "contractId") != NULL && sink_text(x, members, count, "contractId").at == NULL)
        event_refuse(e, "contractId is not a string");
    if (json_find(members, count, "specversion") != NULL)
        event_refuse(e, "a CloudEvent is none of Monk's events");
    if (properties != NULL)
        check_properties(e, properties);
    if (key.at == NULL) {
        sink_violation(x, "no_key", "event %u has no idempotencyKey", x->event_count - 1);
        return;
    }
    sink_event_identify(x, e, key, (struct span){0});
    check_key_once(x, e);
}

static void check_whole(struct sink_exchange *x)
{
    char text[200];
    for (unsigned i = 0; i < x->event_count; i++) {
        if (x->events[i].error == NULL)
            continue;
        snprintf(text, sizeof text, "events[%u]: %s", i, x->events[i].error);
        sink_refuse(x, 400, "event", text);
        return;
    }
    if (x->event_count == 0 || x->event_count > EVENTS_MAX)
        sink_refuse(x, 400, "batch_size", "a batch has 1 to 10,000 events");
}

static void check(struct sink_exchange *x)
{
    bool is_batch = span_is(x->request->path, "/v1/events/batch");
    struct json_value value;
    size_t count = 0;
    if (!is_batch && !span_is(x->request->path, "/v1/events"))
        sink_refuse(x, 404, "path", "not found");
    else if (!span_is(x->request->method, "POST"))
        sink_refuse(x, 405, "method", "method not allowed");
    else if (!sink_credential(x, sink_header(x, "authorization"), "Bearer "))
        sink_refuse(x, 401, sink_header(x, "authorization").at == NULL ? "no_key" : NULL, "API key is missing or not valid");
    else if (!sink_type_is(x, "application/json"))
        sink_refuse(x, 415, "content_type", "Content-Type must be application/json");
    else if (is_batch && sink_each_of_member(x, "events", each) != 0)
        sink_refuse(x, 400, "malformed", "the body is not {\"events\":[…]}");
    else if (!is_batch && json_check_object(x->body, x->members, SINK_MEMBERS_MAX, &count, &value, NULL) != OK)
        sink_refuse(x, 400, "malformed", "the body is not an object");
    if (x->status != 0)
        return;
    if (!is_batch)
        each(x, sink_event_add(x, value.text), x->members, count);
    check_whole(x);
}

static void answer(struct sink_exchange *x)
{
    if (span_is(x->request->path, "/v1/events/batch")) {
        sink_reply(x, 202, "application/json", "{\"status\":\"accepted\",\"count\":%u,\"requestId\":\"req_%llu\"}",
                   sink_taken(x), (unsigned long long)x->number);
        return;
    }
    sink_reply(x, 202, "application/json", "{\"status\":\"accepted\",\"idempotencyKey\":");
    sink_reply_string(x, x->events[0].id);
    sink_reply_more(x, ",\"requestId\":\"req_%llu\"}", (unsigned long long)x->number);
}

const struct sink_api sink_monk = {"monk", recognise, encodings, check, answer, refuse};
