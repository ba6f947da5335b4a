/* langfuse: rendering, the answers that its SDKs survive, and results by id. */
#include "lib/api/langfuse.h"
#include "lib/api/opaque.h"
#include "tests/unit/api/fixture.h"

#include <stdio.h>

static void begin(void)
{
    fixture_init();
    fixture_settings(&langfuse_api);
}

TestSuite(langfuse, .init = begin, .fini = fixture_deinit);

#define EVENT(type, rest) \
    "{\"id\":\"1\",\"source\":\"/s\",\"type\":\"" type "\",\"time\":\"2026-05-04T09:12:33Z\"" rest "}"
#define BARE(rest) EVENT("t", rest)
#define T "\"2026-05-04T09:12:33Z\""
#define HEAD \
    "{\"id\":\"1\",\"type\":\"event-create\",\"timestamp\":" T \
    ",\"body\":{\"id\":\"1\",\"name\":\"t\",\"startTime\":" T
#define META ",\"metadata\":{\"source\":\"/s\""

Test(langfuse, renders_the_example)
{
    expect_rendered(
        ORDER,
        "{\"id\":\"o-19\",\"type\":\"event-create\",\"timestamp\":\"2026-05-04T09:12:33.004Z\",\"body\":{"
        "\"id\":\"o-19\",\"name\":\"com.acme.OrderPlaced\",\"startTime\":\"2026-05-04T09:12:33.004Z\","
        "\"input\":{\"total\":89.95,\"items\":[1,2],\"ship\":{\"days\":2}},\"metadata\":{"
        "\"source\":\"/shop/eu\",\"subject\":\"u-7\"}}}");
    EXPECT_SPAN(fix.item.id, "o-19");
}

Test(langfuse, renders_each_row_of_the_table)
{
    expect_rendered(BARE(""), HEAD META "}}}");
    expect_rendered(BARE(",\"data\":null"), HEAD META "}}}");
    expect_rendered(BARE(",\"data\":7"), HEAD ",\"input\":7" META "}}}");
    expect_rendered(BARE(",\"data\":[1]"), HEAD ",\"input\":[1]" META "}}}");
    expect_rendered(EVENT("langfuse.unknown", ""), "{\"id\":\"1\",\"type\":\"event-create\",\"timestamp\":" T
                                                   ",\"body\":{\"id\":\"1\",\"name\":"
                                                   "\"langfuse.unknown\",\"startTime\":" T META "}}}");
    expect_rendered(
        BARE(",\"severitynumber\":13,\"severitytext\":\"FATAL\",\"environment\":\"prod\",\"x\":true,"
             "\"sampledrate\":4,\"partitionkey\":\"p\",\"dataschema\":\"a:b\","
             "\"traceparent\":\"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\""),
        HEAD ",\"traceId\":\"0af7651916cd43dd8448eb211c80319c\",\"parentObservationId\":"
             "\"b7ad6b7169203331\",\"level\":\"WARNING\",\"environment\":\"prod\"" META
             ",\"sampledrate\":4,\"dataschema\":\"a:b\",\"x\":true}}}");
    expect_rendered(
        EVENT("langfuse.trace-create", ",\"subject\":\"u\",\"data\":{\"name\":\"n\",\"tags\":[\"a\"]}"),
        "{\"id\":\"1\",\"type\":\"trace-create\",\"timestamp\":" T ",\"body\":{\"id\":\"1\",\"timestamp\":" T
        ",\"userId\":\"u\",\"name\":\"n\",\"tags\":[\"a\"]" META "}}}");
    expect_rendered(EVENT("trace-create",
                          ",\"subject\":\"u\",\"data\":{\"id\":\"tr\",\"userId\":\"v\",\"timestamp\":" T "}"),
                    "{\"id\":\"1\",\"type\":\"trace-create\",\"timestamp\":" T
                    ",\"body\":{\"id\":\"tr\",\"userId\":\"v\","
                    "\"timestamp\":" T META ",\"subject\":\"u\"}}}");
    expect_rendered(
        EVENT("score-create", ",\"data\":{\"name\":\"n\",\"value\":0.8,\"traceId\":\"tr\",\"metadata\":7}"),
        "{\"id\":\"1\",\"type\":\"score-create\",\"timestamp\":" T ",\"body\":{\"id\":\"1\",\"name\":\"n\","
        "\"value\":0.8,\"traceId\":\"tr\"" META ",\"value\":7}}}");
    expect_rendered(EVENT("span-update", ",\"data\":{\"id\":\"s\",\"metadata\":{\"source\":1}}"),
                    "{\"id\":\"1\",\"type\":\"span-update\",\"timestamp\":" T ",\"body\":{\"startTime\":" T
                    ",\"id\":\"s\",\"metadata\":{\"source\":1}}}");
    expect_rendered(EVENT("sdk-log", ",\"data\":{\"log\":[1]}"),
                    "{\"id\":\"1\",\"type\":\"sdk-log\",\"timestamp\":" T ",\"body\":{\"log\":[1]}}");
}

Test(langfuse, scores_that_are_what_they_say)
{
    static const struct {
        const char *type, *value;
    } rows[] = {{"\"NUMERIC\"", "0.8"},     {"\"BOOLEAN\"", "1"},
                {"\"BOOLEAN\"", "0.0"},     {"\"CATEGORICAL\"", "\"good\""},
                {"\"CORRECTION\"", "\"\""}, {"\"TEXT\"", "\"x\""},
                {"\"ANOTHER\"", "7"},       {"null", "\"x\""}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[300];
        snprintf(text, sizeof text,
                 EVENT("score-create",
                       ",\"data\":{\"name\":\"n\",\"traceId\":\"t\",\"dataType\":%s,\"value\":%s}"),
                 rows[i].type, rows[i].value);
        cr_expect_eq(fixture_render(&langfuse_api, text, &fix.item, NULL), OK, "%s", text);
    }
    for (int extra = 0; extra <= 1; extra++) {
        char text[1000];
        snprintf(
            text, sizeof text,
            EVENT("score-create",
                  ",\"data\":{\"name\":\"n\",\"traceId\":\"t\",\"dataType\":\"TEXT\",\"value\":\"%0*d\"}"),
            500 + extra, 1);
        cr_expect_eq(fixture_render(&langfuse_api, text, &fix.item, NULL), extra == 0 ? OK : ERR_MALFORMED);
    }
}

Test(langfuse, refuses_what_the_server_would_lose)
{
    expect_refused(BARE(",\"data_base64\":\"AA==\""), "data_base64: this output cannot carry binary data");
    expect_refused(EVENT("langfuse.span-create", ",\"data\":[]"),
                   "data: must be an object, the body of span-create");
    expect_refused(EVENT("trace-create", ""), "data: must be an object, the body of trace-create");
    expect_refused(EVENT("span-update", ",\"data\":{}"),
                   "data: body.id: required: without it the server stores nothing");
    expect_refused(EVENT("score-create", ",\"data\":{\"name\":\"n\",\"value\":1}"),
                   "data: body.traceId: give exactly one of traceId, sessionId, datasetRunId");
    expect_refused(EVENT("span-create", ",\"data\":{\"level\":\"LOUD\"}"),
                   "data: body.level: must be DEBUG, DEFAULT, WARNING or ERROR");
    for (int extra = -1; extra <= 1; extra++) {
        char text[1000];
        snprintf(text, sizeof text, "{\"type\":\"t\",\"id\":\"%0*d\"}", 800 + extra, 1);
        cr_expect_eq(fixture_render(&langfuse_api, text, &fix.item, NULL), extra <= 0 ? OK : ERR_MALFORMED);
    }
}

/* --- local -------------------------------------------------------------------------------------- */

#define INGEST "/api/public/ingestion"
#define ENVELOPE(id, type, body) \
    "{\"id\":\"" id "\",\"type\":\"" type "\",\"timestamp\":\"2026-05-04T09:12:33.004Z\",\"body\":" body "}"

Test(langfuse, a_batch_of_all_kinds)
{
    const char *body =
        "{\"batch\":[" ENVELOPE("e1", "trace-create", "{\"id\":\"tr-9\",\"input\":{\"q\":\"?\"}}") "," ENVELOPE(
            "e2", "event-create",
            "{\"id\":\"ob-1\",\"traceId\":\"tr-9\"}") "," ENVELOPE("e3", "score-create",
                                                                   "{\"id\":\"sc\",\"name\":\"helpful\","
                                                                   "\"value\":0.8}") "," ENVELOPE("e4",
                                                                                                  "sdk-log",
                                                                                                  "{\"log\":"
                                                                                                  "\"hello\""
                                                                                                  "}") "],"
                                                                                                       "\"met"
                                                                                                       "adata"
                                                                                                       "\":{"
                                                                                                       "\"sdk"
                                                                                                       "\":1}"
                                                                                                       "}";
    cr_expect_eq(fixture_post(INGEST, "application/json", body), 207);
    EXPECT_SPAN(
        fix.answer.body,
        "{\"successes\":[{\"id\":\"e1\",\"status\":201},{\"id\":\"e2\",\"status\":201}],\"errors\":[{\"id\":"
        "\"e3\","
        "\"status\":400,\"message\":\"Invalid request data\",\"error\":\"body.traceId: give exactly one of "
        "traceId, sessionId, datasetRunId\"}]}");
    cr_assert_eq(fix.x.item_count, 3);
    EXPECT_SPAN(fix.x.items[0].body,
                ENVELOPE("e1", "trace-create", "{\"id\":\"tr-9\",\"input\":{\"q\":\"?\"}}"));
    EXPECT_SPAN(fix.x.items[0].id, "e1");
    cr_expect_neq(fix.x.items[0].key_hash, 0);
    cr_expect_neq(fix.x.items[0].key_hash, fix.x.items[1].key_hash);
}

Test(langfuse, missing_body_ids_are_made)
{
    static const char *const rows[][3] = {
        {ENVELOPE("e", "trace-create", "{}"), "{\"id\":\"", "\"}}"},
        {ENVELOPE("e", "trace-create", "{ \"name\": \"n\"}"), "{\"id\":\"", "\",\"name\": \"n\"}}"},
        {ENVELOPE("e", "trace-create", "{\"name\":\"n\",\"id\":null}"), "{\"id\":\"", "\",\"name\":\"n\"}}"},
    };
    for (size_t i = 0; i < 3; i++) {
        char body[300];
        snprintf(body, sizeof body, "{\"batch\":[%s]}", rows[i][0]);
        cr_expect_eq(fixture_post(INGEST, "application/json", body), 207);
        cr_assert_eq(fix.x.item_count, 1);
        struct span text = fix.x.items[0].body;
        struct fault why;
        cr_expect_eq(json_check(text, NULL, &why), OK, "%.*s", SPAN_FMT(text));
        cr_expect(memmem(text.at, text.len, rows[i][1], strlen(rows[i][1])) != NULL);
        size_t end = strlen(rows[i][2]);
        cr_expect(span_is(span_of(text.at + text.len - end, end), rows[i][2]), "%.*s", SPAN_FMT(text));
    }
}

/* The server bounds the names of traces, and of nothing else. */
Test(langfuse, names_at_their_limit)
{
    static const struct {
        const char *type, *more;
        int longest;
    } rows[] = {{"trace-create", "", 1000},
                {"span-create", "\"id\":\"1\",", 5000},
                {"score-create", "\"traceId\":\"t\",\"value\":1,", 5000}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        for (int extra = 0; extra <= 1; extra++) {
            char body[6000];
            snprintf(body, sizeof body,
                     "{\"batch\":[{\"id\":\"e\",\"type\":\"%s\",\"timestamp\":" T ",\"body\":{%s\"name\":\"%0*d\"}}]}",
                     rows[i].type, rows[i].more, rows[i].longest + extra, 1);
            cr_expect_eq(fixture_post(INGEST, "application/json", body), 207);
            cr_expect_eq(fix.x.item_count, i > 0 || extra == 0 ? 1 : 0, "%s %d", rows[i].type, extra);
        }
}

Test(langfuse, bad_events_are_errors_by_id)
{
    static const char *const rows[][3] = {
        {"7", "unknown", "must be an object"},
        {"{}", "unknown", "id: required"},
        {"{\"id\":7}", "unknown", "id: must be a string"},
        {ENVELOPE("", "trace-create", "{}"), "", "id: must have 1 to 800 characters and no CR"},
        {ENVELOPE("x", "trace-kreate", "{}"), "x", "type: \\\"trace-kreate\\\" is not one that is taken"},
        {ENVELOPE("x", "dataset-run-item-create", "{}"), "x",
         "type: \\\"dataset-run-item-create\\\" is not one that is taken"},
        {ENVELOPE("x", "event-create", "{}"), "x", "body.id: required: without it the server stores nothing"},
        {ENVELOPE("x", "event-create", "[]"), "x", "body: must be an object"},
        {"{\"type\":\"no\",\"id\":\"x\"}", "x", "type: \\\"no\\\" is not one that is taken"},
        {"{\"id\":\"x\",\"timestamp\":\"2026-05-04T09:12:33\"}", "x",
         "timestamp: must be ISO 8601 with Z or an offset"},
        {"{\"id\":\"x\",\"id\":\"y\"}", "x", "id: appears twice"},
        {"{\"id\":\"x\",\"extra\":1}", "x", "extra: not a member of an event"},
        {"{\"id\":\"x\",\"metadata\":null}", "x", "metadata: must not be null"},
        {ENVELOPE("x", "trace-create", "{\"tags\":[1]}"), "x", "body.tags: must be an array of strings"},
        {ENVELOPE("x", "trace-create", "{\"public\":1}"), "x", "body.public: must be true or false"},
        {ENVELOPE("x", "span-create", "{\"id\":\"1\",\"startTime\":\"now\"}"), "x",
         "body.startTime: must be ISO 8601 with Z or an offset"},
        {ENVELOPE("x", "span-create", "{\"id\":\"1\",\"promptName\":\"p\"}"), "x",
         "body.promptName: goes with promptVersion"},
        {ENVELOPE("x", "score-create", "{\"name\":\"\",\"value\":1,\"traceId\":\"t\"}"), "x",
         "body.name: required"},
        {ENVELOPE("x", "score-create", "{\"name\":\"n\",\"value\":true,\"traceId\":\"t\"}"), "x",
         "body.value: must be a number or a string"},
        {ENVELOPE("x", "score-create",
                  "{\"name\":\"n\",\"value\":\"1\",\"traceId\":\"t\",\"dataType\":\"NUMERIC\"}"),
         "x", "body.value: must be a number where dataType is NUMERIC"},
        {ENVELOPE("x", "score-create",
                  "{\"dataType\":\"BOOLEAN\",\"name\":\"n\",\"value\":3,\"traceId\":\"t\"}"),
         "x", "body.value: must be 0 or 1 where dataType is BOOLEAN"},
        {ENVELOPE("x", "score-create",
                  "{\"name\":\"n\",\"value\":\"1\",\"traceId\":\"t\",\"dataType\":\"BOOLEAN\"}"),
         "x", "body.value: must be 0 or 1 where dataType is BOOLEAN"},
        {ENVELOPE("x", "score-create",
                  "{\"name\":\"n\",\"value\":1,\"traceId\":\"t\",\"dataType\":\"CATEGORICAL\"}"),
         "x", "body.value: must be a string where dataType is CATEGORICAL, CORRECTION or TEXT"},
        {ENVELOPE("x", "sdk-log", "{}"), "x", "body.log: required"},
        {ENVELOPE("x", "sdk-log", "{\"log\":\"\\ud83d\"}"), "x", "high surrogate without a low one behind it"},
        {ENVELOPE("\\ud83d", "sdk-log", "{\"log\":1}"), "\xef\xbf\xbd", "high surrogate without a low one behind it"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char body[512], expected[512];
        snprintf(body, sizeof body, "{\"batch\":[%s]}", rows[i][0]);
        snprintf(expected, sizeof expected,
                 "{\"successes\":[],\"errors\":[{\"id\":\"%s\",\"status\":400,\"message\":\"Invalid request "
                 "data\","
                 "\"error\":\"%s\"}]}",
                 rows[i][1], rows[i][2]);
        cr_expect_eq(fixture_post(INGEST, "application/json", body), 207, "%s", body);
        EXPECT_SPAN(fix.answer.body, expected);
        cr_expect_eq(fix.x.item_count, 0);
    }
}

Test(langfuse, whole_requests_that_are_refused)
{
    static const char *const bodies[] = {"",
                                         "[]",
                                         "{}",
                                         "{\"batch\":7}",
                                         "{\"batch\":[{}",
                                         "{\"batch\":[]} x",
                                         "{\"other\":1,\"batch\":[]}",
                                         "nonsense"};
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        unsigned status = fixture_post(INGEST, "application/json", bodies[i]);
        cr_expect_eq(status, 400, "%s: %u", bodies[i], status);
        cr_expect(span_starts(fix.answer.body, SPAN("{\"message\":\"Invalid ")), "%.*s",
                  SPAN_FMT(fix.answer.body));
        cr_expect_eq(fix.x.item_count, 0);
    }
    cr_expect_eq(fixture_post(INGEST, "application/json", "{\"metadata\":1,\"batch\":[]}"), 207);
    EXPECT_SPAN(fix.answer.body, "{\"successes\":[],\"errors\":[]}");
}

Test(langfuse, the_other_paths)
{
    cr_expect_eq(fixture_request("GET", "/api/public/health", NULL, "", 0, COND_STORED), 200);
    cr_expect_eq(fixture_request("GET", "/api/public/projects", NULL, "", 0, COND_STORED), 200);
    cr_expect(span_starts(fix.answer.body, SPAN("{\"data\":[{\"id\":")));
    cr_expect_eq(fixture_request("GET", "/api/public/v2/prompts/x", NULL, "", 0, COND_STORED), 404);
    cr_expect(span_starts(fix.answer.body, SPAN("{\"message\":")));
    cr_expect_eq(fixture_request("GET", INGEST, NULL, "", 0, COND_STORED), 405);
}

Test(langfuse, otel_requests_are_opaque)
{
    const char *headers[] = {"Content-Type",
                             "application/json",
                             "Authorization",
                             "Basic c2VjcmV0",
                             "User-Agent",
                             "x/1",
                             "x-langfuse-sdk-name",
                             "javascript",
                             "X-Langfuse-Public-Key",
                             "pk-theirs",
                             NULL};
    cr_expect_eq(fixture_request("POST", "/api/public/otel/v1/traces", headers, "{\"resourceSpans\":[]}",
                                 (size_t)-1, COND_STORED),
                 200);
    EXPECT_SPAN(fix.answer.body, "{}");
    cr_assert_eq(fix.x.item_count, 1);
    EXPECT_SPAN(fix.x.items[0].partition, "POST /api/public/otel/v1/traces\nContent-Type: application/json\n"
                                          "User-Agent: x/1\nx-langfuse-sdk-name: javascript\n");
    EXPECT_SPAN(fix.x.items[0].body, "{\"resourceSpans\":[]}");
    cr_expect(langfuse_api.alone(&fix.settings, fix.x.items[0].partition));
    cr_expect_eq(fix.x.items[0].weight, 1);
    struct api_member m = {.body = fix.x.items[0].body};
    struct api_batch b = {.partition = fix.x.items[0].partition, .members = &m, .count = 1};
    struct api_send send;
    fixture_settings(&langfuse_api);
    fix.settings.public_key = SPAN("pk-lf-a");
    fix.settings.secret_key = SPAN("sk-lf-b");
    fix.settings.base_path = SPAN("/lf");
    cr_assert_eq(langfuse_api.request(&fix.settings, &b, &fix.arena, &send), OK);
    EXPECT_SPAN(send.target, "/lf/api/public/otel/v1/traces");
    EXPECT_SPAN(send.headers[0].name, "Content-Type");
    EXPECT_SPAN(send.headers[send.header_count - 1].value, "pk-lf-a");
    EXPECT_SPAN(send.headers[send.header_count - 2].value, "Basic cGstbGYtYTpzay1sZi1i");
    EXPECT_SPAN(send.headers[send.header_count - 3].value, "x/1 penstock/" PENSTOCK_VERSION);
}

Test(langfuse, otel_requests_are_compressed_unless_they_came_so)
{
    const char *plain[] = {"Content-Type", "application/json", NULL};
    const char *gzip[] = {"Content-Type", "application/json", "Content-Encoding", "gzip", NULL};
    const char *zstd[] = {"Content-Type", "application/json", "Content-Encoding", "zstd", NULL};
    (void)fixture_request("POST", "/api/public/otel/v1/traces", plain, "{}", 2, COND_STORED);
    cr_expect_eq(langfuse_api.codec(fix.x.items[0].partition, API_GZIP), API_GZIP);
    cr_expect_eq(langfuse_api.codec(fix.x.items[0].partition, API_IDENTITY), API_IDENTITY);
    (void)fixture_request("POST", "/api/public/otel/v1/traces", gzip, "{}", 2, COND_STORED);
    EXPECT_SPAN(opaque_header_of(fix.x.items[0].partition, "Content-Encoding"), "gzip");
    cr_expect_eq(langfuse_api.codec(fix.x.items[0].partition, API_GZIP), API_IDENTITY);
    /* Langfuse inflates gzip only: the rest goes decoded. */
    (void)fixture_request("POST", "/api/public/otel/v1/traces", zstd, "{}", 2, COND_STORED);
    cr_expect_null(opaque_header_of(fix.x.items[0].partition, "Content-Encoding").at);
    cr_expect_eq(langfuse_api.codec(SPAN(""), API_GZIP), API_IDENTITY, "/ingestion inflates nothing");
}

Test(langfuse, conditions_that_its_sdks_survive)
{
    static const struct expected_answer rows[] = {
        {COND_FULL, 429, true},       {COND_BUSY, 429, true},      {COND_STOPPING, 503, true},
        {COND_FAILED, 503, true},     {COND_NO_OUTPUT, 503, true}, {COND_UNAUTHORIZED, 401, false},
        {COND_TOO_LARGE, 413, false},
    };
    expect_answers(INGEST, "application/json", "{\"batch\":[]}", "{", rows, sizeof rows / sizeof rows[0]);
    expect_answers("/api/public/otel/v1/traces", "application/json", "{}", "{", rows,
                   sizeof rows / sizeof rows[0]);
    expect_answers("/api/public/otel/v1/traces", "application/x-protobuf", "", "\x08", rows,
                   sizeof rows / sizeof rows[0]);
    EXPECT_SPAN(fix.answer.content_type, "application/x-protobuf");
}

/* --- upstream ----------------------------------------------------------------------------------- */

#define BODY(type) "{\"id\":\"x\",\"type\":\"" type "\",\"timestamp\":\"t\",\"body\":{}}"

static struct api_verdict judged_as(const char *body, bool cut)
{
    static const struct api_member members[] = {
        {.id = {(const uint8_t *)"e0", 2},
         .body = {(const uint8_t *)BODY("trace-create"), sizeof(BODY("trace-create")) - 1}},
        {.id = {(const uint8_t *)"e1", 2},
         .body = {(const uint8_t *)BODY("span-create"), sizeof(BODY("span-create")) - 1}},
        {.id = {(const uint8_t *)"e2", 2},
         .body = {(const uint8_t *)BODY("sdk-log"), sizeof(BODY("sdk-log")) - 1}},
        {.id = {(const uint8_t *)"e3", 2},
         .body = {(const uint8_t *)BODY("span-create"), sizeof(BODY("span-create")) - 1}},
    };
    struct api_batch b = {.members = members, .count = 4, .attempts = 1};
    struct api_reply reply = {.status = 207, .body = span_str(body), .body_cut = cut, .wall_ns = WALL_NS};
    return fixture_judge_reply(&langfuse_api, &b, &reply);
}

static struct api_verdict judged(const char *body)
{
    return judged_as(body, false);
}

/* Else the same events would be sent, and so answered, again and again. */
Test(langfuse, the_beginning_of_an_answer_that_is_too_long_counts)
{
    const char *body = "{\"successes\":[{\"id\":\"e3\",\"status\":201}],\"errors\":["
                       "{\"id\":\"e1\",\"status\":400,\"message\":\"no\"},{\"id\":\"e0\",\"status\":400,\"mess";
    struct api_verdict v = judged_as(body, true);
    cr_assert_eq(v.action, ACT_PER_EVENT);
    cr_expect_eq(v.events[3].action, ACT_DELIVERED);
    cr_expect_eq(v.events[1].action, ACT_DEAD);
    cr_expect_eq(v.events[0].action, ACT_RETRY);
    cr_expect(v.events[0].unknown && v.unknown_max == 0);
    v = judged_as("{\"successes\":[{\"id\":\"e", true);
    cr_expect_eq(v.action, ACT_RETRY);
    cr_expect(v.unknown);
    cr_expect_eq(judged(body).action, ACT_RETRY, "not cut by us: no answer of the service");
}

Test(langfuse, results_are_matched_by_id)
{
    struct api_verdict v = judged("{\"successes\":[{\"id\":\"e3\",\"status\":201},{\"id\":\"other\","
                                  "\"status\":201}],\"errors\":[{\"id\":\"e1\","
                                  "\"status\":400,\"message\":\"Invalid request "
                                  "data\",\"error\":\"no\"},{\"id\":\"e0\",\"status\":500}]}");
    cr_assert_eq(v.action, ACT_PER_EVENT);
    cr_expect_eq(v.events[0].action, ACT_RETRY);
    cr_expect(!v.events[0].unknown && v.backoff);
    cr_expect_eq(v.events[1].action, ACT_DEAD);
    cr_expect_eq(v.events[1].status, 400);
    cr_expect(span_starts(v.events[1].answer, SPAN("{\"id\":\"e1\"")));
    cr_expect_eq(v.events[2].action, ACT_DELIVERED, "a log is in neither list");
    cr_expect_eq(v.events[3].action, ACT_DELIVERED);
    v = judged("{\"successes\":[{\"id\":\"e0\",\"status\":201},{\"id\":\"e1\",\"status\":201},{\"id\":\"e3\","
               "\"status\":201}],"
               "\"errors\":[]}");
    cr_expect_eq(v.action, ACT_DELIVERED);
}

Test(langfuse, the_removed_legacy_path_has_its_own_reason)
{
    struct api_verdict v = judged(
        "{\"successes\":[],\"errors\":[{\"id\":\"e1\",\"status\":400,\"message\":\"Event type not accepted\","
        "\"error\":\"Event type \\\"span-create\\\" is not accepted\"}]}");
    cr_assert_eq(v.action, ACT_PER_EVENT);
    cr_expect_eq(v.events[1].reason, DEAD_LANGFUSE_LEGACY_REMOVED);
    cr_expect_eq(v.events[0].action, ACT_RETRY);
    cr_expect(v.events[0].unknown);
    cr_expect_eq(v.events[0].reason, DEAD_NO_RESULT);
    cr_expect_eq(v.unknown_max, 3);
}

Test(langfuse, a_result_for_nobody_takes_the_batch_apart)
{
    struct api_verdict v = judged("{\"successes\":[{\"id\":\"e0\",\"status\":201}],\"errors\":[{\"id\":\"unknown\",\"status\":400}]}");
    cr_expect_eq(v.action, ACT_PER_EVENT);
    cr_expect(v.apart, "what has no result goes on one by one");
    cr_expect_eq(v.events[0].action, ACT_DELIVERED, "what has one has it for good");
    cr_expect_eq(v.events[1].action, ACT_RETRY);
    v = judged("{\"successes\":[{\"id\":\"e0\",\"status\":201},{\"id\":\"e3\",\"status\":201}],"
               "\"errors\":[{\"id\":\"unknown\",\"status\":400}]}");
    cr_expect(!v.apart, "only one has none: that one it was");
}

Test(langfuse, unreadable_answers_are_unknown)
{
    static const char *const bodies[] = {"",
                                         "<html>",
                                         "[]",
                                         "{}",
                                         "{\"successes\":[{\"id\":\"e0\",\"status\":201}",
                                         "{\"successes\":7,\"errors\":[]}",
                                         "{\"successes\":[],\"errors\":[]} x"};
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        struct api_verdict v = judged(bodies[i]);
        cr_expect_eq(v.action, ACT_RETRY, "%s: %d", bodies[i], v.action);
        cr_expect(v.unknown && v.backoff);
    }
}

Test(langfuse, judges_the_whole)
{
    static const struct {
        unsigned status;
        enum api_action events, otel;
    } rows[] = {
        {400, ACT_SPLIT, ACT_DEAD},  {401, ACT_HOLD, ACT_HOLD},   {403, ACT_HOLD, ACT_HOLD},
        {404, ACT_HOLD, ACT_HOLD},   {405, ACT_HOLD, ACT_HOLD},   {408, ACT_RETRY, ACT_RETRY},
        {410, ACT_HOLD, ACT_HOLD},   {413, ACT_SPLIT, ACT_DEAD},  {415, ACT_HOLD, ACT_HOLD},
        {422, ACT_SPLIT, ACT_DEAD},  {429, ACT_RETRY, ACT_RETRY}, {500, ACT_RETRY, ACT_RETRY},
        {502, ACT_RETRY, ACT_RETRY}, {503, ACT_RETRY, ACT_RETRY}, {504, ACT_RETRY, ACT_RETRY},
        {302, ACT_HOLD, ACT_HOLD},
    };
    static const char *const bodies[] = {"", "{\"message\":\"x\"}", "<html>"};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (size_t k = 0; k < 3; k++) {
            cr_expect_eq(fixture_judge(&langfuse_api, 2, rows[i].status, bodies[k]).action, rows[i].events,
                         "%u", rows[i].status);
            struct api_batch b = {.count = 1, .partition = SPAN("POST /x\n")};
            struct api_reply reply = {.status = rows[i].status, .body = span_str(bodies[k])};
            cr_expect_eq(fixture_judge_reply(&langfuse_api, &b, &reply).action, rows[i].otel, "%u",
                         rows[i].status);
        }
    }
}
