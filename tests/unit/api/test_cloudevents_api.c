/* cloudevents_api: the neutral path's answers, and the output type `cloudevents`. */
#include "lib/api/common.h"
#include "tests/unit/api/fixture.h"

#include <stdio.h>

TestSuite(cloudevents_api, .init = fixture_init, .fini = fixture_deinit);

#define WHOLE "{\"specversion\":\"1.0\",\"id\":\"a1\",\"source\":\"/s\",\"type\":\"t\"}"

Test(cloudevents_api, answers_by_type_and_body)
{
    static const struct {
        const char *type, *body;
        unsigned status;
        const char *answer; /* NULL: not compared */
    } rows[] = {
        {"application/cloudevents+json; charset=utf-8", WHOLE, 202, "{\"accepted\":1}"},
        {"APPLICATION/CLOUDEVENTS+JSON", WHOLE, 202, "{\"accepted\":1}"},
        {"application/cloudevents-batch+json", "[" WHOLE "," WHOLE "]", 202, "{\"accepted\":2}"},
        {"application/cloudevents-batch+json", "[]", 202, "{\"accepted\":0}"},
        {"application/json", "[]", 202, "{\"accepted\":0}"},
        {"application/json", "{\"type\":\"t\"}", 202, "{\"accepted\":1}"},
        {"application/json; charset=\"UTF-8\"", "[{\"type\":\"t\"}]", 202, "{\"accepted\":1}"},
        {NULL, "{\"type\":\"t\"}", 202, "{\"accepted\":1}"},
        {"application/x-www-form-urlencoded", "{\"type\":\"t\"}", 202, "{\"accepted\":1}"},
        {"application/x-ndjson", "{\"type\":\"t\"}\n{\"type\":\"t\"}\n", 202, "{\"accepted\":2}"},
        {"application/x-ndjson", "", 202, "{\"accepted\":0}"},
        {"application/cloudevents-batch+json",
         "[" WHOLE ",{\"specversion\":\"1.0\",\"id\":\"a2\",\"source\":\"/s\"}]", 207,
         "{\"accepted\":1,\"rejected\":[{\"index\":1,\"error\":\"type: required\"}]}"},
        {"application/json", "{\"typo\":\"t\"}", 400,
         "{\"accepted\":0,\"rejected\":[{\"index\":0,\"error\":\"type: required\"}]}"},
        {"application/json", "[{\"type\":\"t\"},{\"type\":\"t\"", 400,
         "{\"error\":{\"code\":\"invalid_json\",\"message\":\"event 1: byte 25: text ends inside an "
         "object\",\"index\":1}}"},
        {"application/json", "", 400, NULL},
        {"application/json", "nonsense", 400, NULL},
        {"text/plain", "{\"type\":\"t\"}", 415, NULL},
        {NULL, "type=t", 415, NULL},
        {"application/x-www-form-urlencoded", "type=t", 415, NULL},
        {"application/cloudevents+avro", WHOLE, 415, NULL},
        {"application/cloudevents-batch+protobuf", WHOLE, 415, NULL},
        {"application/json; charset=iso-8859-1", WHOLE, 415, NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        unsigned status = fixture_post("/events", rows[i].type, rows[i].body);
        cr_expect_eq(status, rows[i].status, "%s %s: %u", rows[i].type, rows[i].body, status);
        if (rows[i].answer != NULL)
            EXPECT_SPAN(fix.answer.body, rows[i].answer);
        cr_expect(span_is(fix.answer.content_type, "application/json"));
        struct fault why;
        cr_expect_eq(json_check(fix.answer.body, NULL, &why), OK, "%.*s", SPAN_FMT(fix.answer.body));
    }
}

Test(cloudevents_api, binary_mode)
{
    const char *headers[] = {
        "ce-specversion", "1.0",        "ce-id",        "b-1",          "ce-source",        "/app", "ce-type",
        "login",          "ce-subject", "Zo%C3%AB%207", "Content-Type", "application/json", NULL};
    cr_expect_eq(fixture_request("POST", "/events", headers, "{\"ok\":true}", (size_t)-1, COND_STORED), 202);
    cr_assert_eq(fix.x.event_count, 1);
    EXPECT_SPAN(fix.x.events[0].subject, "Zo\xc3\xab 7");
    cr_expect_eq(fixture_request("POST", "/events", headers, "{\"ok\":tru", (size_t)-1, COND_STORED), 400);
    cr_expect_eq(fix.x.event_count, 0);
}

Test(cloudevents_api, conditions)
{
    static const struct expected_answer rows[] = {
        {COND_FULL, 429, true},        {COND_BUSY, 429, true},          {COND_STOPPING, 503, true},
        {COND_FAILED, 503, true},      {COND_NO_OUTPUT, 400, false},    {COND_UNAUTHORIZED, 401, false},
        {COND_TOO_LARGE, 413, false},  {COND_BAD_ENCODING, 415, false}, {COND_BAD_COMPRESSION, 400, false},
        {COND_BAD_METHOD, 405, false},
    };
    expect_answers("/events", NULL, "{\"type\":\"t\"}", "{\"error\":", rows, sizeof rows / sizeof rows[0]);
    EXPECT_SPAN(fixture_answer_header("Allow"), "POST");
    cr_expect_eq(fixture_request("GET", "/events", NULL, "", 0, COND_STORED), 405);
}

Test(cloudevents_api, what_intake_refuses_is_told_by_index)
{
    const char *headers[] = {NULL};
    (void)fixture_request("POST", "/events", headers, "[{\"type\":\"a\"},{},{\"type\":\"b\"}]", (size_t)-1,
                          COND_STORED);
    cr_assert(api_reject(&fix.x, 0, REJECT_NO_ROUTE, "no_route"));
    fix.x.api->answer(&fix.x, COND_STORED, (struct span){0}, &fix.answer);
    cr_expect_eq(fix.answer.status, 207);
    EXPECT_SPAN(fix.answer.body, "{\"accepted\":1,\"rejected\":[{\"index\":0,\"error\":\"no_route\"},"
                                 "{\"index\":1,\"error\":\"type: required\"}]}");
    cr_assert(api_reject(&fix.x, 2, REJECT_FULL, "full"));
    fix.x.api->answer(&fix.x, COND_STORED, (struct span){0}, &fix.answer);
    cr_expect_eq(fix.answer.status, 429, "nothing was taken, and time may help");
    (void)fixture_request("POST", "/events", headers, "{\"type\":\"a\"}", (size_t)-1, COND_STORED);
    cr_assert(api_reject(&fix.x, 0, REJECT_TOO_LARGE, "larger than 10 bytes"));
    fix.x.api->answer(&fix.x, COND_STORED, (struct span){0}, &fix.answer);
    cr_expect_eq(fix.answer.status, 413, "alone and too large");
}

Test(cloudevents_api, ten_thousand_events_and_not_one_more)
{
    for (unsigned count = 9999; count <= 10001; count++) {
        char *body = must_alloc(count * 14 + 3);
        size_t n = 0;
        body[n++] = '[';
        for (unsigned i = 0; i < count; i++)
            n += (size_t)snprintf(body + n, 16, "%s{\"type\":\"t\"}", i == 0 ? "" : ",");
        body[n++] = ']';
        const char *headers[] = {NULL};
        unsigned status = fixture_request("POST", "/events", headers, body, n, COND_STORED);
        cr_expect_eq(status, count <= 10000 ? 202 : 413, "%u: %u", count, status);
        free(body);
    }
}

Test(cloudevents_api, webhook_validation_when_enabled)
{
    const char *headers[] = {"WebHook-Request-Origin", "hooks.example", "WebHook-Request-Rate", "120", NULL};
    fix.x.webhook = false;
    cr_expect_eq(fixture_request("OPTIONS", "/events", headers, "", 0, COND_STORED), 405);
    EXPECT_SPAN(fixture_answer_header("Allow"), "POST");
    fix.x.webhook = true;
    cr_expect_eq(fixture_request("OPTIONS", "/events", headers, "", 0, COND_STORED), 200);
    EXPECT_SPAN(fixture_answer_header("WebHook-Allowed-Origin"), "hooks.example");
    EXPECT_SPAN(fixture_answer_header("WebHook-Allowed-Rate"), "120");
    const char *none[] = {NULL};
    cr_expect_eq(fixture_request("OPTIONS", "/events", none, "", 0, COND_STORED), 400);
}

/* --- upstream ----------------------------------------------------------------------------------- */

Test(cloudevents_api, renders_whole)
{
    struct api_item item;
    cr_assert_eq(fixture_render(&cloudevents_api,
                                "{\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\",\"data_base64\":\"AAE=\"}",
                                &item, NULL),
                 OK);
    EXPECT_SPAN(item.body, "{\"specversion\":\"1.0\",\"time\":\"2026-05-04T09:12:33.004Z\",\"id\":\"1\","
                           "\"source\":\"/s\",\"type\":\"t\",\"data_base64\":\"AAE=\"}");
    cr_expect_neq(item.key_hash, 0);
    cr_expect_eq(item.expires_ns, 0);
    cr_assert_eq(fixture_render(&cloudevents_api,
                                "{\"type\":\"t\",\"expirytime\":\"2026-05-04T09:12:34.5Z\"}", &item, NULL),
                 OK);
    cr_expect_eq(item.expires_ns, UINT64_C(1777885954500000000));
}

Test(cloudevents_api, event_bytes_limit_counts_the_rendered_bytes)
{
    struct fault why;
    struct api_item item;
    const char *whole = "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\","
                        "\"time\":\"2026-05-04T09:12:33.004Z\"}";
    fixture_settings(&cloudevents_api);
    for (int extra = -1; extra <= 1; extra++) {
        fix.settings.limits.event_bytes = strlen(whole) + (size_t)extra;
        cr_expect_eq(fixture_render(&cloudevents_api, whole, &item, &why), extra >= 0 ? OK : ERR_TOO_BIG);
    }
}

static struct api_send send;

static void build(enum err expected, const char *member)
{
    struct api_member m = {.body = span_str(member)};
    struct api_batch b = {.members = &m, .count = 1, .payload_id = SPAN("p")};
    cr_assert_eq(fix.settings.api->request(&fix.settings, &b, &fix.arena, &send), expected);
}

static struct span sent(const char *name)
{
    for (unsigned i = 0; i < send.header_count; i++)
        if (span_equal_nocase(send.headers[i].name, span_str(name)))
            return send.headers[i].value;
    for (unsigned i = 0; i < send.more_header_count; i++)
        if (span_equal_nocase(send.more_headers[i].name, span_str(name)))
            return send.more_headers[i].value;
    return (struct span){0};
}

#define STORED \
    "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/" \
    "s\",\"type\":\"t\",\"time\":\"2026-05-04T09:12:33.004Z\""

Test(cloudevents_api, batch_and_structured_requests)
{
    struct api_envelope env;
    fixture_settings(&cloudevents_api);
    fix.settings.base_path = SPAN("/in/");
    fix.settings.base_query = SPAN("?k=v");
    fix.settings.bearer = SPAN("tok");
    build(OK, STORED "}");
    EXPECT_SPAN(send.target, "/in/?k=v");
    EXPECT_SPAN(sent("Content-Type"), "application/cloudevents-batch+json");
    EXPECT_SPAN(sent("Authorization"), "Bearer tok");
    cr_expect(!send.own_body);
    cr_expect(!cloudevents_api.alone(&fix.settings, SPAN("")));
    cloudevents_api.envelope(&fix.settings, SPAN(""), &env);
    EXPECT_SPAN(env.before, "[");
    fix.settings.mode = API_MODE_STRUCTURED;
    build(OK, STORED "}");
    EXPECT_SPAN(sent("Content-Type"), "application/cloudevents+json");
    cr_expect(cloudevents_api.alone(&fix.settings, SPAN("")));
    cloudevents_api.envelope(&fix.settings, SPAN(""), &env);
    EXPECT_SPAN(env.before, "");
}

Test(cloudevents_api, binary_requests)
{
    fixture_settings(&cloudevents_api);
    fix.settings.mode = API_MODE_BINARY;
    build(
        OK, STORED
        ",\"subject\":\"Zo\xc3\xab \\\"7\\\" %\",\"x\":-7,\"b\":true,\"sampledrate\":30,\"data\":{\"a\":1}}");
    cr_assert(send.own_body);
    EXPECT_SPAN(send.body, "{\"a\":1}");
    EXPECT_SPAN(sent("ce-specversion"), "1.0");
    EXPECT_SPAN(sent("ce-subject"), "Zo%C3%AB%20%227%22%20%25");
    EXPECT_SPAN(sent("ce-x"), "-7");
    EXPECT_SPAN(sent("ce-b"), "true");
    EXPECT_SPAN(sent("ce-sampledrate"), "30");
    EXPECT_SPAN(sent("Content-Type"), "application/json");
    build(OK, STORED ",\"datacontenttype\":\"text/plain\",\"data\":\"a\\n\\\"b\"}");
    EXPECT_SPAN(send.body, "a\n\"b");
    EXPECT_SPAN(sent("Content-Type"), "text/plain");
    cr_expect_null(sent("ce-datacontenttype").at);
    build(OK, STORED ",\"data_base64\":\"AAE=\"}");
    cr_expect(span_equal(send.body, span_of("\0\1", 2)));
    cr_expect_null(sent("Content-Type").at);
    build(OK, STORED "}");
    cr_expect_eq(send.body.len, 0);
    cr_expect(send.own_body);
}

Test(cloudevents_api, judges_by_status_whatever_the_body)
{
    static const struct {
        unsigned status;
        enum api_action action;
        bool unknown, backoff;
    } rows[] = {
        {200, ACT_DELIVERED, false, false}, {201, ACT_DELIVERED, false, false},
        {202, ACT_DELIVERED, false, false}, {204, ACT_DELIVERED, false, false},
        {301, ACT_HOLD, false, false},      {307, ACT_HOLD, false, false},
        {400, ACT_SPLIT, false, false},     {401, ACT_HOLD, false, false},
        {403, ACT_HOLD, false, false},      {404, ACT_HOLD, false, false},
        {405, ACT_HOLD, false, false},      {406, ACT_HOLD, false, false},
        {408, ACT_RETRY, true, true},       {410, ACT_HOLD_FOREVER, false, false},
        {413, ACT_SPLIT, false, false},     {415, ACT_MODE_RETRY, false, false},
        {422, ACT_SPLIT, false, false},     {425, ACT_RETRY, false, true},
        {429, ACT_RETRY, false, true},      {500, ACT_RETRY, true, true},
        {502, ACT_RETRY, true, true},       {503, ACT_RETRY, true, true},
        {504, ACT_RETRY, true, true},       {599, ACT_RETRY, true, true},
        {199, ACT_RETRY, true, true},       {0, ACT_RETRY, true, true},
    };
    static const char *const bodies[] = {"", "{\"error\":\"x\"}", "<html>bad gateway</html>",
                                         "{\"accepted\":0"};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (size_t k = 0; k < 4; k++) {
            struct api_verdict v = fixture_judge(&cloudevents_api, 3, rows[i].status, bodies[k]);
            cr_expect_eq(v.action, rows[i].action, "%u %s: %d", rows[i].status, bodies[k], v.action);
            cr_expect_eq(v.unknown, rows[i].unknown, "%u", rows[i].status);
            cr_expect_eq(v.backoff, rows[i].backoff, "%u", rows[i].status);
            cr_expect_gt(v.text.len, 0);
            if (rows[i].status == 413)
                cr_expect_eq(v.reason, DEAD_TOO_LARGE);
        }
    }
    fix.settings.mode = API_MODE_STRUCTURED;
    cr_expect_eq(fixture_judge(&cloudevents_api, 1, 415, "").action, ACT_HOLD, "a second 415");
}

Test(cloudevents_api, retry_after_in_every_dress)
{
    static const struct {
        const char *text;
        uint64_t us;
    } rows[] = {
        {"0", 0},
        {"17", 17000000},
        {" 17 ", 17000000},
        {"1.5", 1500000},
        {"0.000001", 1},
        {"864000", 864000000000},
        {"Mon, 04 May 2026 09:12:43 GMT", 10000000},
        {"Mon, 04 May 2026 09:12:00 GMT", 0},
        {"99999999999999999999999", UINT64_C(315360000000000)},
        {"soon", 0},
        {"-5", 0},
        {"", 0},
        {".", 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct api_batch b = {.count = 1};
        struct api_reply reply = {.status = 429, .retry_after = span_str(rows[i].text), .wall_ns = WALL_NS};
        struct api_verdict v = fixture_judge_reply(&cloudevents_api, &b, &reply);
        cr_expect_eq(v.retry_after_us, rows[i].us, "%s: %lu", rows[i].text, v.retry_after_us);
    }
}
