/* sink_langfuse: what Langfuse's ingestion and OTLP endpoints take and answer.
 *
 * Sources: langfuse/langfuse web/src/pages/api/public/ingestion.ts and packages/shared/src/server/ingestion, the
 * API reference (fern/apis/server/definition/ingestion.yml). Every event has its own result, found by id and not by
 * position: successes come sorted, creations before updates, and sdk-log events are in neither list. */
#include "agent/sink_check.h"

#include "lib/codec/rfc3339.h"

#include <stdlib.h>

enum { BODY_BYTES_HARD = 4718592, BODY_BYTES_DOCUMENTED = 3500000, ID_BYTES_MAX = 800 };

enum kind { KIND_UNKNOWN, KIND_TRACE, KIND_OBSERVATION, KIND_SCORE, KIND_LOG, KIND_UPDATE };

static const struct {
    const char *type;
    enum kind kind;
} types[] = {
    {"trace-create", KIND_TRACE},           {"span-create", KIND_OBSERVATION},      {"span-update", KIND_UPDATE},
    {"generation-create", KIND_OBSERVATION}, {"generation-update", KIND_UPDATE},     {"event-create", KIND_OBSERVATION},
    {"score-create", KIND_SCORE},           {"sdk-log", KIND_LOG},                  {"agent-create", KIND_OBSERVATION},
    {"tool-create", KIND_OBSERVATION},      {"chain-create", KIND_OBSERVATION},     {"retriever-create", KIND_OBSERVATION},
    {"evaluator-create", KIND_OBSERVATION}, {"embedding-create", KIND_OBSERVATION}, {"guardrail-create", KIND_OBSERVATION},
    {"observation-create", KIND_OBSERVATION}, {"observation-update", KIND_UPDATE},
};

#define INGESTION "/api/public/ingestion"
#define SCORES "/api/public/scores"
#define TRACES "/api/public/otel/v1/traces"

static bool recognise(const struct sink_request *r)
{
    return span_starts(r->path, SPAN("/api/public/"));
}

static const char *encodings(const struct sink_exchange *x)
{
    return span_is(x->request->path, TRACES) ? "gzip" : "";
}

static void refuse(struct sink_exchange *x, const char *text)
{
    const char *error = x->status == 401 ? "UnauthorizedError" : x->status == 403 ? "ForbiddenError" : NULL;
    sink_reply(x, x->status, "application/json", "{");
    if (error != NULL)
        sink_reply_more(x, "\"error\":\"%s\",", error);
    sink_reply_more(x, "\"message\":");
    sink_reply_string(x, x->status == 429 ? SPAN("Rate limit exceeded") : span_str(text));
    if (x->status == 429)
        sink_reply_more(x, ",\"code\":\"rate_limited\"");
    sink_reply_more(x, "}");
}

static void event_refuse(struct sink_exchange *x, struct sink_event *e, const char *error)
{
    if (e->error == NULL)
        sink_violation(x, "event", "event %u: %s", x->event_count - 1, error);
    e->status = 400;
    e->error = error;
}

static bool good_id(struct span id)
{
    return id.at != NULL && id.len <= ID_BYTES_MAX && memchr(id.at, '\r', id.len) == NULL;
}

static void check_score(struct sink_exchange *x, struct sink_event *e, const struct json_member *body, size_t count)
{
    const struct json_member *value = json_find(body, count, "value");
    unsigned targets = 0;
    targets += sink_text(x, body, count, "traceId").at != NULL;
    targets += sink_text(x, body, count, "sessionId").at != NULL;
    targets += sink_text(x, body, count, "datasetRunId").at != NULL;
    if (sink_text(x, body, count, "name").at == NULL)
        event_refuse(x, e, "score: name is required");
    if (value == NULL || (value->value.type != JSON_NUMBER && value->value.type != JSON_STRING))
        event_refuse(x, e, "score: value is required");
    if (targets != 1)
        event_refuse(x, e, "Provide exactly one of the following: traceId, sessionId, datasetRunId");
}

static void check_body_times(struct sink_exchange *x, struct sink_event *e, const struct json_member *body, size_t count)
{
    static const char *const names[] = {"timestamp", "startTime", "endTime", "completionStartTime"};
    struct instant t;
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        const struct json_member *m = json_find(body, count, names[i]);
        if (m == NULL || m->value.type == JSON_NULL)
            continue;
        struct span text = sink_text(x, body, count, names[i]);
        if (text.at == NULL || !rfc3339_parse(text, &t))
            event_refuse(x, e, "a time in the body is not ISO 8601 with an offset");
    }
}

static void check_level(struct sink_exchange *x, struct sink_event *e, const struct json_member *body, size_t count)
{
    const struct json_member *level = json_find(body, count, "level");
    if (level == NULL || level->value.type == JSON_NULL)
        return;
    struct span text = sink_text(x, body, count, "level");
    if (!span_is(text, "DEBUG") && !span_is(text, "DEFAULT") && !span_is(text, "WARNING") && !span_is(text, "ERROR"))
        event_refuse(x, e, "level must be DEBUG, DEFAULT, WARNING or ERROR");
}

static bool given(const struct json_member *body, size_t count, const char *name)
{
    const struct json_member *m = json_find(body, count, name);
    return m != NULL && m->value.type != JSON_NULL;
}

static void check_body_ids(struct sink_exchange *x, struct sink_event *e, const struct json_member *body, size_t count)
{
    static const char *const ids[] = {"id", "traceId"};
    for (unsigned i = 0; i < sizeof ids / sizeof *ids; i++)
        if (given(body, count, ids[i]) && !good_id(sink_text(x, body, count, ids[i])))
            event_refuse(x, e, "an id in the body is not 1 to 800 characters without CR");
    if (sink_text(x, body, count, "name").len > 4000)
        event_refuse(x, e, "name is longer than 1000 characters");
    if (given(body, count, "name") && json_find(body, count, "name")->value.type != JSON_STRING)
        event_refuse(x, e, "name is not a string");
}

static void check_event_body(struct sink_exchange *x, struct sink_event *e, enum kind kind, struct span body)
{
    struct json_value value;
    size_t count = 0;
    /* x->members is free again: the envelope's members are not needed any more. */
    if (json_check_object(body, x->members, SINK_MEMBERS_MAX, &count, &value, NULL) != OK)
        return;
    check_body_times(x, e, x->members, count);
    if (kind == KIND_SCORE)
        check_score(x, e, x->members, count);
    if (kind == KIND_LOG && json_find(x->members, count, "log") == NULL)
        event_refuse(x, e, "sdk-log: log is required");
    if (kind == KIND_OBSERVATION || kind == KIND_UPDATE) {
        check_level(x, e, x->members, count);
        if (given(x->members, count, "promptName") != given(x->members, count, "promptVersion"))
            event_refuse(x, e, "promptName and promptVersion go together");
    }
    check_body_ids(x, e, x->members, count);
    const struct json_member *id = json_find(x->members, count, "id");
    if (kind == KIND_UPDATE && (id == NULL || id->value.type != JSON_STRING))
        event_refuse(x, e, "an update needs the id of what it updates");
    if (kind != KIND_LOG && kind != KIND_SCORE && e->status == 0 && (id == NULL || id->value.type != JSON_STRING)) {
        /* Answered 201 and never stored. */
        e->lost = true;
        sink_violation(x, "silently_lost", "event %u has no body.id", x->event_count - 1);
    }
}

static void check_id_once(struct sink_exchange *x, const struct sink_event *e)
{
    for (unsigned i = x->event_count - 1; i-- > 0 && x->event_count < 2000;) {
        if (span_equal(x->events[i].id, e->id))
            sink_violation(x, "id_twice", "'%.*s' in one batch", SPAN_FMT(e->id));
    }
}

static void each(struct sink_exchange *x, struct sink_event *e, const struct json_member *members, size_t count)
{
    struct instant t;
    struct span id = sink_text(x, members, count, "id"), type = sink_text(x, members, count, "type");
    struct span at = sink_text(x, members, count, "timestamp");
    const struct json_member *body = json_find(members, count, "body");
    enum kind kind = KIND_UNKNOWN;
    e->tag = KIND_UNKNOWN;
    for (unsigned i = 0; i < sizeof types / sizeof *types; i++) {
        if (span_is(type, types[i].type))
            kind = types[i].kind;
    }
    e->tag = kind;
    if (id.at != NULL) {
        sink_event_identify(x, e, id, (struct span){0});
        check_id_once(x, e);
    }
    if (!good_id(id))
        event_refuse(x, e, "Invalid request data: id");
    else if (kind == KIND_UNKNOWN)
        event_refuse(x, e, "Invalid request data: type");
    else if (at.at == NULL || !rfc3339_parse(at, &t))
        event_refuse(x, e, "Invalid request data: timestamp");
    else if (body == NULL || body->value.type != JSON_OBJECT)
        event_refuse(x, e, "Invalid request data: body");
    else
        check_event_body(x, e, kind, body->value.text);
    if (x->rule != NULL && x->rule->legacy_removed && kind != KIND_SCORE && kind != KIND_LOG) {
        e->status = 400;
        e->error = "Event type not accepted";
    }
}

/* Basic with a public and a secret key. A bearer may only write scores, which no forwarder of everything can use. */
static bool check_credentials(struct sink_exchange *x)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    struct span header = sink_header(x, "authorization");
    uint8_t plain[512];
    size_t len = 0;
    uint32_t word = 0;
    unsigned bits = 0;
    if (header.at == NULL || !span_starts(header, SPAN("Basic ")) || header.len > 600) {
        sink_refuse(x, 401, header.at == NULL ? "no_key" : NULL, "No authorization header");
        return false;
    }
    for (size_t i = 6; i < header.len && header.at[i] != '='; i++) {
        const char *c = header.at[i] == 0 ? NULL : strchr(alphabet, header.at[i]);
        if (c == NULL)
            break;
        word = word << 6 | (uint32_t)(c - alphabet);
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            plain[len++] = (uint8_t)(word >> bits);
        }
    }
    const uint8_t *colon = memchr(plain, ':', len);
    bool good = colon != NULL && colon > plain && colon + 1 < plain + len &&
                sink_credential(x, span_of(colon + 1, (size_t)(plain + len - colon - 1)), "");
    if (!good)
        sink_refuse(x, 401, NULL, "Invalid credentials. Confirm that you've configured the correct host.");
    return good;
}

static void check_ingestion(struct sink_exchange *x)
{
    if (!sink_type_is(x, "application/json")) {
        sink_refuse(x, 400, "content_type", "Invalid request data");
    } else if (x->body.len > BODY_BYTES_HARD) {
        sink_refuse(x, 413, "too_large", "Body exceeded 4.5mb limit");
    } else if (sink_each_of_member(x, "batch", each) != 0) {
        sink_refuse(x, 400, "malformed", "Invalid JSON");
    } else {
        if (x->body.len > BODY_BYTES_DOCUMENTED)
            sink_violation(x, "over_documented", "%zu bytes, 3,500,000 are documented", x->body.len);
        if (x->event_count == 0)
            sink_violation(x, "empty_batch", "no events");
    }
}

/* A batch of scores, as Python's SDK 5 posts it. */
static void each_score(struct sink_exchange *x, struct sink_event *e, const struct json_member *members, size_t count)
{
    struct span id = sink_text(x, members, count, "id");
    if (id.at != NULL)
        sink_event_identify(x, e, id, (struct span){0});
    check_score(x, e, members, count);
}

static void check_scores(struct sink_exchange *x)
{
    struct json_reader r;
    json_reader_init(&r, x->body);
    if (!sink_type_is(x, "application/json"))
        sink_refuse(x, 400, "content_type", "Invalid request data");
    else if (!sink_each_element(x, &r, each_score) || json_finish(&r) != OK)
        sink_refuse(x, 400, "malformed", "Invalid JSON");
}

static void check_traces(struct sink_exchange *x)
{
    struct json_value value;
    bool json = sink_type_is(x, "application/json");
    struct span version = sink_header(x, "x-langfuse-ingestion-version");
    uint64_t n;
    if (!json && !sink_type_is(x, "application/x-protobuf"))
        sink_refuse(x, 400, "content_type", "Content-Type must be application/json or application/x-protobuf");
    else if (version.at != NULL && (!span_u64(version, &n) || n > 4))
        sink_refuse(x, 400, "ingestion_version", "x-langfuse-ingestion-version must be at most 4");
    else if (json && (json_check(x->body, &value, NULL) != OK || value.type != JSON_OBJECT))
        sink_refuse(x, 400, "malformed", "Failed to parse OTel JSON");
    if (x->status == 0)
        sink_event_add(x, x->body)->opaque = !json;
}

static void check(struct sink_exchange *x)
{
    struct span path = x->request->path;
    if (span_is(path, "/api/public/health")) {
        sink_reply(x, 200, "application/json", "{\"status\":\"OK\",\"version\":\"3.0.0\"}");
        return;
    }
    if (!check_credentials(x))
        return;
    if (span_is(path, "/api/public/projects"))
        sink_reply(x, 200, "application/json", "{\"data\":[{\"id\":\"sink\",\"name\":\"sink\",\"organization\":{\"id\":\"sink\",\"name\":\"sink\"},\"metadata\":{}}]}");
    else if (!span_is(path, INGESTION) && !span_is(path, TRACES) && !span_is(path, SCORES))
        sink_refuse(x, 404, "path", "not found");
    else if (!span_is(x->request->method, "POST"))
        sink_refuse(x, 405, "method", "Method not allowed");
    else if (span_is(path, INGESTION))
        check_ingestion(x);
    else if (span_is(path, SCORES))
        check_scores(x);
    else
        check_traces(x);
}

static bool is_success(const struct sink_event *e)
{
    return e->status == 0 || e->status / 100 == 2;
}

/* The rule may leave out the results of all events but the first ones. */
static unsigned result_count(const struct sink_exchange *x)
{
    uint64_t results = x->rule != NULL ? x->rule->results_max : UINT64_MAX;
    return results < x->event_count ? (unsigned)results : x->event_count;
}

static void answer_successes(struct sink_exchange *x)
{
    bool first = true;
    for (int round = 0; round < 2; round++) {
        for (unsigned i = result_count(x); i-- > 0;) {
            const struct sink_event *e = &x->events[i];
            if (!is_success(e) || e->tag == KIND_LOG || (e->tag == KIND_UPDATE) != (round == 1))
                continue;
            sink_reply_more(x, "%s{\"id\":", first ? "" : ",");
            sink_reply_string(x, e->id);
            sink_reply_more(x, ",\"status\":%u}", e->status != 0 ? e->status : 201);
            first = false;
        }
    }
}

static void answer_errors(struct sink_exchange *x)
{
    bool first = true;
    for (unsigned i = 0; i < result_count(x); i++) {
        const struct sink_event *e = &x->events[i];
        if (is_success(e))
            continue;
        bool legacy = e->error != NULL && strcmp(e->error, "Event type not accepted") == 0;
        sink_reply_more(x, "%s{\"id\":", first ? "" : ",");
        sink_reply_string(x, e->id.at == NULL ? SPAN("unknown") : e->id);
        sink_reply_more(x, ",\"status\":%u,\"message\":\"%s\",\"error\":", e->status,
                        legacy ? "Event type not accepted" : e->status == 400 ? "Invalid request data" : "Error");
        sink_reply_string(x, span_str(legacy ? "This event type is not accepted by /api/public/ingestion" : e->error));
        sink_reply_more(x, "}");
        first = false;
    }
}

static void answer_scores(struct sink_exchange *x)
{
    unsigned accepted = sink_taken(x);
    if (accepted == x->event_count) {
        sink_reply(x, 202, "application/json", "{\"message\":\"Accepted\"}");
        return;
    }
    sink_reply(x, 207, "application/json", "{\"accepted\":%u,\"rejected\":%u,\"errors\":[]}", accepted, x->event_count - accepted);
}

static void answer(struct sink_exchange *x)
{
    if (span_is(x->request->path, SCORES)) {
        answer_scores(x);
        return;
    }
    if (span_is(x->request->path, TRACES)) {
        if (sink_type_is(x, "application/json"))
            sink_reply(x, 200, "application/json", "{}");
        else
            x->status = 200;
        return;
    }
    sink_reply(x, 207, "application/json", "{\"successes\":[");
    answer_successes(x);
    sink_reply_more(x, "],\"errors\":[");
    answer_errors(x);
    sink_reply_more(x, "]}");
}

const struct sink_api sink_langfuse = {"langfuse", recognise, encodings, check, answer, refuse};
