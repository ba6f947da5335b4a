/* honeycomb: rendering, the local answers that libhoney needs, and the verdict on each row of its answers. */
#include "lib/api/honeycomb.h"
#include "tests/unit/api/fixture.h"

#include <stdio.h>

static void begin(void)
{
    fixture_init();
    fixture_settings(&honeycomb_api);
    fix.settings.partition = SPAN("shop");
}

TestSuite(honeycomb, .init = begin, .fini = fixture_deinit);

Test(honeycomb, renders_the_example)
{
    expect_rendered(ORDER,
                    "{\"time\":\"2026-05-04T09:12:33.004Z\",\"data\":{\"type\":\"com.acme.OrderPlaced\","
                    "\"source\":\"/shop/eu\",\"subject\":\"u-7\",\"total\":89.95,\"items\":[1,2],"
                    "\"ship\":{\"days\":2}}}");
}

#define BARE(rest) \
    "{\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\",\"time\":\"2026-05-04T09:12:33.9Z\"" rest "}"
#define HEAD "{\"time\":\"2026-05-04T09:12:33.9Z\",\"data\":{\"type\":\"t\",\"source\":\"/s\""

Test(honeycomb, renders_each_row_of_the_table)
{
    expect_rendered(BARE(""), HEAD "}}");
    expect_rendered(BARE(",\"data\":{}"), HEAD "}}");
    expect_rendered(BARE(",\"data\":null"), HEAD "}}");
    expect_rendered(BARE(",\"data\":0.10"), HEAD ",\"value\":0.10}}");
    expect_rendered(BARE(",\"data\":\"a\\u0041\""), HEAD ",\"value\":\"a\\u0041\"}}");
    expect_rendered(BARE(",\"data\":[1, 2]"), HEAD ",\"value\":[1, 2]}}");
    expect_rendered(BARE(",\"data\":true"), HEAD ",\"value\":true}}");
    expect_rendered(BARE(",\"sampledrate\":30"), "{\"time\":\"2026-05-04T09:12:33.9Z\",\"samplerate\":30,"
                                                 "\"data\":{\"type\":\"t\",\"source\":\"/s\"}}");
    expect_rendered(BARE(",\"traceparent\":\"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\","
                         "\"tracestate\":\"a=b\""),
                    HEAD ",\"trace.trace_id\":\"0af7651916cd43dd8448eb211c80319c\","
                         "\"trace.parent_id\":\"b7ad6b7169203331\",\"trace.state\":\"a=b\"}}");
    expect_rendered(BARE(",\"traceparent\":\"nonsense\""), HEAD ",\"traceparent\":\"nonsense\"}}");
    expect_rendered(BARE(",\"severitytext\":\"WARN\""), HEAD ",\"severity\":\"WARN\"}}");
    expect_rendered(BARE(",\"severitytext\":\"WARN\",\"severitynumber\":13"), HEAD ",\"severity\":13}}");
    expect_rendered(BARE(",\"partitionkey\":\"a\",\"sequence\":\"b\",\"authclaims\":\"c\",\"project\":\"d\","
                         "\"environment\":\"e\",\"datacontenttype\":\"text/plain\""),
                    HEAD "}}");
    expect_rendered(BARE(",\"dataschema\":\"x:y\",\"correlationid\":\"a\\\"b\",\"x\":-7,\"b\":true"),
                    HEAD ",\"dataschema\":\"x:y\",\"correlationid\":\"a\\\"b\",\"x\":-7,\"b\":true}}");
    /* Columns never overwrite data. */
    expect_rendered(
        BARE(",\"x\":1,\"data\":{ \"type\":9, \"\\u0078\":2 }"),
        "{\"time\":\"2026-05-04T09:12:33.9Z\",\"data\":{\"source\":\"/s\",\"type\":9, \"\\u0078\":2}}");
}

Test(honeycomb, dataset_from_extension_type_or_output)
{
    cr_assert_eq(fixture_render(&honeycomb_api, BARE(",\"dataset\":\"d\""), &fix.item, NULL), OK);
    EXPECT_SPAN(fix.item.partition, "d");
    cr_assert_eq(fixture_render(&honeycomb_api, BARE(""), &fix.item, NULL), OK);
    EXPECT_SPAN(fix.item.partition, "shop");
    fixture_option("map.dataset", "type");
    cr_assert_eq(fixture_render(&honeycomb_api, BARE(""), &fix.item, NULL), OK);
    EXPECT_SPAN(fix.item.partition, "t");
    fixture_clear_options();
    fix.settings.partition = (struct span){0};
    expect_refused(BARE(""), "dataset: none in the event, and output out has no partition");
    fix.settings.partition = SPAN("shop");
    expect_refused(BARE(",\"data_base64\":\"AA==\""), "data_base64: this output cannot carry binary data");
}

Test(honeycomb, options_id_field_and_flatten)
{
    fixture_option("honeycomb.id_field", "meta.penstock_id");
    expect_rendered(BARE(""), HEAD ",\"meta.penstock_id\":\"1\"}}");
    fixture_clear_options();
    fixture_option("map.flatten", "true");
    expect_rendered(BARE(",\"data\":{\"a\":{\"b\":{\"c\":1},\"d\":[{\"e\":2}]},\"f\":null,\"g\":{}}"),
                    HEAD ",\"a.b.c\":1,\"a.d\":[{\"e\":2}],\"f\":null}}");
    expect_refused(BARE(",\"data\":{\"a\":{\"b\":1},\"a.b\":2}"),
                   "data: two members meet in one name when nested objects are flattened");
}

Test(honeycomb, columns_and_bytes_at_their_limits)
{
    for (int columns = 1999; columns <= 2001; columns++) {
        char *text = must_alloc(40000);
        int n = snprintf(text, 40000, "{\"type\":\"t\",\"data\":{");
        for (int i = 0; i < columns - 2; i++) /* type and source are two */
            n += snprintf(text + n, 40000 - (size_t)n, "%s\"f%d\":0", i == 0 ? "" : ",", i);
        snprintf(text + n, 40000 - (size_t)n, "}}");
        cr_expect_eq(fixture_render(&honeycomb_api, text, &fix.item, NULL),
                     columns <= 2000 ? OK : ERR_MALFORMED, "%d", columns);
        free(text);
    }
    cr_assert_eq(fixture_render(&honeycomb_api, BARE(""), &fix.item, NULL), OK);
    for (int extra = -1; extra <= 1; extra++) {
        struct api_item again;
        fix.settings.limits.event_bytes = fix.item.body.len + (size_t)extra;
        cr_expect_eq(fixture_render(&honeycomb_api, BARE(""), &again, NULL), extra >= 0 ? OK : ERR_TOO_BIG);
    }
}

/* --- local -------------------------------------------------------------------------------------- */

Test(honeycomb, batch_as_libhoney_js_sends_it)
{
    unsigned status = fixture_post("/1/batch/web", "application/json",
                                   "[{\"time\":\"2026-05-04T09:12:33.004Z\",\"samplerate\":1,\"data\":{\"n\":"
                                   "0,\"nested\":{\"a\":[1,2]},\"none\":null}},"
                                   "{\"time\":\"2026-05-04T09:12:33.005Z\",\"samplerate\":1,\"data\":{}}]");
    cr_expect_eq(status, 200);
    EXPECT_SPAN(fix.answer.body,
                "[{\"status\":202},{\"status\":400,\"error\":\"Request body should not be empty.\"}]");
    cr_assert_eq(fix.x.item_count, 1);
    EXPECT_SPAN(fix.x.items[0].partition, "web");
    EXPECT_SPAN(fix.x.items[0].body,
                "{\"time\":\"2026-05-04T09:12:33.004Z\",\"samplerate\":1,\"data\":{\"n\":0,"
                "\"nested\":{\"a\":[1,2]},\"none\":null}}");
}

Test(honeycomb, single_event_with_its_headers)
{
    static const struct {
        const char *time, *rate, *expected;
    } rows[] = {
        {"1777885953.004", "10",
         "{\"time\":\"2026-05-04T09:12:33.004Z\",\"samplerate\":10,\"data\":{\"ms\":81.20}}"},
        {"2026-05-04T11:12:33+02:00", "x", "{\"time\":\"2026-05-04T09:12:33Z\",\"data\":{\"ms\":81.20}}"},
        {"soon", "0", "{\"time\":\"2026-05-04T09:12:33.004Z\",\"data\":{\"ms\":81.20}}"},
        {"", "1", "{\"time\":\"2026-05-04T09:12:33.004Z\",\"data\":{\"ms\":81.20}}"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const char *headers[] = {"Content-Type",
                                 "application/json",
                                 "X-Honeycomb-Event-Time",
                                 rows[i].time,
                                 "X-Honeycomb-Samplerate",
                                 rows[i].rate,
                                 NULL};
        cr_expect_eq(
            fixture_request("POST", "/1/events/web/", headers, "{\"ms\":81.20}", (size_t)-1, COND_STORED),
            200);
        cr_expect_eq(fix.answer.body.len, 0);
        cr_expect_null(fix.answer.content_type.at);
        cr_assert_eq(fix.x.item_count, 1);
        EXPECT_SPAN(fix.x.items[0].body, rows[i].expected);
    }
    cr_expect_eq(fixture_post("/1/events/web", "application/json", "{}"), 400);
    EXPECT_SPAN(fix.answer.body, "{\"error\":\"Request body should not be empty.\"}");
    cr_expect_eq(fixture_post("/1/events/web", "application/json", "[1]"), 400);
}

Test(honeycomb, datasets_as_the_clients_write_them)
{
    static const char *const rows[][2] = {
        {"/1/batch/web", "web"},   {"/1/batch/web/", "web"},
        {"/1/batch/a/b", "a/b"},   {"/1/batch/check%20out", "check out"},
        {"/1/batch/a%2Fb", "a/b"}, {"/1/batch/caf%C3%A9", "caf\xc3\xa9"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        cr_expect_eq(fixture_post(rows[i][0], "application/json", "[{\"data\":{\"a\":1}}]"), 200, "%s",
                     rows[i][0]);
        EXPECT_SPAN(fix.x.items[0].partition, rows[i][1]);
    }
    cr_expect_eq(fixture_post("/1/batch/", "application/json", "[]"), 400);
    cr_expect_eq(fixture_post("/1/batch/%", "application/json", "[]"), 400);
    cr_expect_eq(fixture_post("/1/batch/%ff", "application/json", "[]"), 400);
}

Test(honeycomb, times_are_kept_or_filled_in)
{
    static const char *const rows[][2] = {
        {"{\"time\":\"1777885953\",\"data\":{\"a\":1}}", "{\"time\":\"1777885953\",\"data\":{\"a\":1}}"},
        {"{ \"data\" : {\"a\": 1} }", "{\"time\":\"2026-05-04T09:12:33.004Z\", \"data\" : {\"a\": 1} }"},
        {"{\"time\":\"soon\",\"samplerate\":4,\"data\":{\"a\":1}}",
         "{\"time\":\"2026-05-04T09:12:33.004Z\",\"samplerate\":4,\"data\":{\"a\":1}}"},
        {"{\"time\":null,\"data\":{\"a\":1}}", "{\"time\":\"2026-05-04T09:12:33.004Z\",\"data\":{\"a\":1}}"},
        {"{\"time\":7,\"data\":{\"a\":1}}", "{\"time\":\"2026-05-04T09:12:33.004Z\",\"data\":{\"a\":1}}"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char body[200];
        snprintf(body, sizeof body, "[%s]", rows[i][0]);
        cr_expect_eq(fixture_post("/1/batch/web", "application/json", body), 200);
        EXPECT_SPAN(fix.x.items[0].body, rows[i][1]);
    }
}

/* The service would measure it with the time that it was given here. */
Test(honeycomb, an_event_is_measured_with_its_time)
{
    const char *stored = "{\"time\":\"2026-05-04T09:12:33.004Z\",\"data\":{\"a\":1}}";
    fix.x.settings = &fix.settings;
    for (int extra = -1; extra <= 0; extra++) {
        fix.settings.limits.event_bytes = strlen(stored) + (size_t)extra;
        cr_expect_eq(fixture_post("/1/batch/web", "application/json", "[{\"data\":{\"a\":1}}]"), 200);
        cr_expect_eq(fix.x.item_count, extra == 0 ? 1 : 0);
        cr_expect_eq(fix.x.rejection_count, extra == 0 ? 0 : 1);
        cr_expect_eq(fixture_post("/1/events/web", "application/json", "{\"a\":1}"), extra == 0 ? 200 : 413);
    }
}

Test(honeycomb, one_entry_per_event_whatever_is_wrong_with_it)
{
    static const char *const rows[][2] = {
        {"7", "must be an object"},
        {"{}", "Request body should not be empty."},
        {"{\"data\":null}", "Request body should not be empty."},
        {"{\"data\":{ }}", "Request body should not be empty."},
        {"{\"data\":[1]}", "data: must be an object"},
        {"{\"data\":{\"a\":1},\"data\":{\"a\":1}}", "a member appears twice"},
        {"{\"data\":{\"a\":\"\\ud83d\"}}", "high surrogate without a low one behind it"},
        {"{\"data\":{\"\\ude00\":1}}", "low surrogate without a high one before it"},
        {"{\"data\":{\"a\":1},\"samplerate\":\"4\"}", "samplerate: must be a whole number"},
        {"{\"data\":{\"a\":1},\"samplerate\":1.5}", "samplerate: must be a whole number"},
        {"{\"data\":{\"a\":1},\"sampleRate\":4}",
         "sampleRate: not a member of an event (data, time, samplerate)"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char body[300], expected[300];
        snprintf(body, sizeof body, "[{\"data\":{\"a\":1}},%s,{\"data\":{\"a\":1}}]", rows[i][0]);
        snprintf(expected, sizeof expected,
                 "[{\"status\":202},{\"status\":400,\"error\":\"%s\"},{\"status\":202}]", rows[i][1]);
        cr_expect_eq(fixture_post("/1/batch/web", "application/json", body), 200, "%s", body);
        EXPECT_SPAN(fix.answer.body, expected);
        cr_expect_eq(fix.x.item_count, 2);
        cr_expect_eq(fix.x.offered, 3);
    }
}

Test(honeycomb, whole_requests_that_are_refused)
{
    cr_expect_eq(fixture_post("/1/batch/web", "application/json", "[]"), 200);
    EXPECT_SPAN(fix.answer.body, "[]");
    cr_expect_eq(fixture_post("/1/batch/web", "application/json", "{}"), 400);
    cr_expect_eq(fixture_post("/1/batch/web", "application/json", "[{\"data\":{\"a\":1}},{\"data\""), 400);
    cr_expect_eq(fix.x.item_count, 0);
    cr_expect_eq(fixture_post("/1/batch/web", "application/json", ""), 400);
    cr_expect_eq(fixture_post("/1/batch/web", "text/plain", "[{\"data\":{\"a\":1}}]"), 415);
    cr_expect_eq(fixture_post("/1/markers/web", "application/json", "{}"), 404);
    cr_expect_eq(fixture_request("GET", "/1/batch/web", NULL, "", 0, COND_STORED), 405);
    cr_expect_eq(fixture_request("GET", "/1/auth", NULL, "", 0, COND_STORED), 200);
}

Test(honeycomb, msgpack_becomes_json)
{
    /* [{"time": timestamp 1777885953 s, "samplerate": 4, "data": {"a": 1, "b": nil}}] */
    static const uint8_t body[] = {0x91, 0x83, 0xa4, 't', 'i',  'm',  'e', 0xd6, 0xff, 0x69, 0xf8, 0x63, 0x01,
                                   0xaa, 's',  'a',  'm', 'p',  'l',  'e', 'r',  'a',  't',  'e',  0x04, 0xa4,
                                   'd',  'a',  't',  'a', 0x82, 0xa1, 'a', 0x01, 0xa1, 'b',  0xc0};
    const char *headers[] = {"Content-Type", "application/msgpack", NULL};
    cr_expect_eq(fixture_request("POST", "/1/batch/web", headers, body, sizeof body, COND_STORED), 200);
    EXPECT_SPAN(fix.answer.body, "[{\"status\":202}]");
    cr_assert_eq(fix.x.item_count, 1);
    EXPECT_SPAN(fix.x.items[0].body,
                "{\"time\":\"2026-05-04T09:12:33Z\",\"samplerate\":4,\"data\":{\"a\":1,\"b\":null}}");
    for (size_t len = 0; len < sizeof body; len++)
        cr_expect_eq(fixture_request("POST", "/1/batch/web", headers, body, len, COND_STORED), 400, "%zu",
                     len);
    cr_expect_eq(fixture_request("POST", "/1/batch/web", headers, "\x90\x01", 2, COND_STORED), 400);
    EXPECT_SPAN(fix.answer.body, "{\"error\":\"Request body is malformed and cannot be read. Something follows the value.\"}");
}

Test(honeycomb, an_event_that_json_cannot_hold_costs_no_other)
{
    /* [{"data": {"a": 1}}, {"data": ext of type 5}, {"data": {"a": 1}}] */
    static const uint8_t body[] = {0x93, 0x81, 0xa4, 'd', 'a', 't', 'a', 0x81, 0xa1, 'a', 0x01,
                                   0x81, 0xa4, 'd',  'a', 't', 'a', 0xd4, 0x05, 0x00,
                                   0x81, 0xa4, 'd',  'a', 't', 'a', 0x81, 0xa1, 'a', 0x01};
    const char *headers[] = {"Content-Type", "application/msgpack", NULL};
    cr_expect_eq(fixture_request("POST", "/1/batch/web", headers, body, sizeof body, COND_STORED), 200);
    EXPECT_SPAN(fix.answer.body, "[{\"status\":202},{\"status\":400,\"error\":\"ext type 5 of 1 bytes: not a member of an event "
                                 "(data, time, samplerate)\"},{\"status\":202}]");
    cr_expect_eq(fix.x.item_count, 2);
    for (size_t len = 0; len < sizeof body; len++)
        cr_expect_eq(fixture_request("POST", "/1/batch/web", headers, body, len, COND_STORED), 400, "%zu", len);
}

Test(honeycomb, conditions_that_libhoney_survives)
{
    static const struct expected_answer rows[] = {
        {COND_FULL, 429, true},       {COND_BUSY, 429, true},          {COND_STOPPING, 503, true},
        {COND_FAILED, 503, true},     {COND_NO_OUTPUT, 503, true},     {COND_UNAUTHORIZED, 401, false},
        {COND_TOO_LARGE, 413, false}, {COND_BAD_ENCODING, 415, false}, {COND_BAD_COMPRESSION, 400, false},
    };
    expect_answers("/1/batch/web", NULL, "[{\"data\":{\"a\":1}}]", "{\"error\":\"", rows,
                   sizeof rows / sizeof rows[0]);
}

/* --- upstream ----------------------------------------------------------------------------------- */

Test(honeycomb, request_line_and_headers)
{
    struct api_member m = {.body = SPAN("{}")};
    struct api_batch b = {.members = &m, .count = 1, .partition = SPAN("check out/\xc3\xa9")};
    struct api_send send;
    fix.settings.base_path = SPAN("/prefix");
    fix.settings.api_key = SPAN("hcaik");
    cr_assert_eq(honeycomb_api.request(&fix.settings, &b, &fix.arena, &send), OK);
    EXPECT_SPAN(send.target, "/prefix/1/batch/check%20out%2F%C3%A9");
    EXPECT_SPAN(send.headers[0].value, "hcaik");
    cr_assert(honeycomb_api.probe(&fix.settings, &fix.arena, &send));
    EXPECT_SPAN(send.target, "/prefix/1/auth");
}

Test(honeycomb, judges_the_whole)
{
    static const struct {
        unsigned status;
        const char *body;
        enum api_action action;
        enum api_dead reason;
        bool unknown, backoff;
    } rows[] = {
        {400, "{\"error\":\"unknown API key - check your credentials\"}", ACT_HOLD, DEAD_REFUSED, false,
         false},
        {400, "{\"error\":\"request body is too large\"}", ACT_SPLIT, DEAD_TOO_LARGE, false, false},
        {400, "{\"error\":\"bad\"}", ACT_SPLIT, DEAD_REFUSED, false, false},
        {400, "", ACT_SPLIT, DEAD_REFUSED, false, false},
        {400, "<html>bad</html>", ACT_SPLIT, DEAD_REFUSED, false, false},
        {401, "{\"error\":\"unknown API key\"}", ACT_HOLD, DEAD_REFUSED, false, false},
        {403, "", ACT_RETRY, DEAD_REFUSED, false, true},
        {404, "", ACT_HOLD_PARTITION, DEAD_REFUSED, false, false},
        {405, "", ACT_HOLD, DEAD_REFUSED, false, false},
        {408, "", ACT_RETRY, DEAD_REFUSED, true, true},
        {413, "", ACT_SPLIT, DEAD_TOO_LARGE, false, false},
        {415, "", ACT_PLAIN_RETRY, DEAD_REFUSED, false, false},
        {429, "{\"status\":429}", ACT_RETRY, DEAD_REFUSED, false, true},
        {302, "", ACT_RETRY, DEAD_REFUSED, true, true},
        {500, "", ACT_RETRY, DEAD_REFUSED, true, true},
        {502, "<html>", ACT_RETRY, DEAD_REFUSED, true, true},
        {503, "", ACT_RETRY, DEAD_REFUSED, true, true},
        {504, "", ACT_RETRY, DEAD_REFUSED, true, true},
        {529, "", ACT_RETRY, DEAD_REFUSED, true, true},
        {200, "", ACT_RETRY, DEAD_BAD_RESPONSE, true, true},
        {200, "<html>hello</html>", ACT_RETRY, DEAD_BAD_RESPONSE, true, true},
        {200, "{\"status\":202}", ACT_RETRY, DEAD_BAD_RESPONSE, true, true},
        {200, "[{\"status\":202},{\"status\":202}", ACT_RETRY, DEAD_BAD_RESPONSE, true, true},
        {200, "[{\"status\":202},{\"status\":202}] x", ACT_RETRY, DEAD_BAD_RESPONSE, true, true},
        {200, "[{\"status\":202},{\"status\":202}]", ACT_DELIVERED, DEAD_REFUSED, false, false},
        {202, "[{\"status\":202},{\"status\":200},{\"status\":400}]", ACT_DELIVERED, DEAD_REFUSED, false,
         false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct api_verdict v = fixture_judge(&honeycomb_api, 2, rows[i].status, rows[i].body);
        cr_expect_eq(v.action, rows[i].action, "%u %s: %d", rows[i].status, rows[i].body, v.action);
        cr_expect_eq(v.reason, rows[i].reason, "%u %s", rows[i].status, rows[i].body);
        cr_expect_eq(v.unknown, rows[i].unknown, "%u %s", rows[i].status, rows[i].body);
        cr_expect_eq(v.backoff, rows[i].backoff, "%u %s", rows[i].status, rows[i].body);
        if (v.reason == DEAD_BAD_RESPONSE)
            cr_expect_eq(v.unknown_max, 3);
    }
}

Test(honeycomb, the_beginning_of_an_answer_that_is_too_long_counts)
{
    struct api_member members[3] = {{.body = SPAN("{}")}, {.body = SPAN("{}")}, {.body = SPAN("{}")}};
    struct api_batch b = {.members = members, .count = 3, .attempts = 1};
    struct api_reply reply = {.status = 200, .wall_ns = WALL_NS, .body_cut = true};
    reply.body = SPAN("[{\"status\":202},{\"status\":400,\"error\":\"no\"},{\"status\":202");
    struct api_verdict v = fixture_judge_reply(&honeycomb_api, &b, &reply);
    cr_assert_eq(v.action, ACT_PER_EVENT);
    cr_expect_eq(v.events[0].action, ACT_DELIVERED);
    cr_expect_eq(v.events[1].action, ACT_DEAD);
    cr_expect_eq(v.events[2].action, ACT_RETRY);
    cr_expect(v.events[2].unknown);
    reply.body_cut = false; /* not cut by us: no answer of the service */
    cr_expect_eq(fixture_judge_reply(&honeycomb_api, &b, &reply).action, ACT_RETRY);
}

Test(honeycomb, judges_event_by_event)
{
    struct api_verdict v = fixture_judge(&honeycomb_api, 8, 200,
                                         "[{\"status\":202},{\"status\":400,\"error\":\"Event has too many "
                                         "columns.\"},{\"status\":429},{\"status\":503},"
                                         "{\"status\":413,\"error\":\"big\"},{\"error\":\"?\"},7]");
    cr_assert_eq(v.action, ACT_PER_EVENT);
    cr_expect(v.backoff);
    static const enum api_action expected[] = {ACT_DELIVERED, ACT_DEAD,  ACT_RETRY, ACT_RETRY,
                                               ACT_DEAD,      ACT_RETRY, ACT_RETRY, ACT_RETRY};
    for (int i = 0; i < 8; i++)
        cr_expect_eq(v.events[i].action, expected[i], "%d: %d", i, v.events[i].action);
    EXPECT_SPAN(v.events[1].answer, "Event has too many columns.");
    cr_expect_eq(v.events[1].status, 400);
    cr_expect_eq(v.events[4].reason, DEAD_TOO_LARGE);
    cr_expect(!v.events[2].unknown && v.events[5].unknown && v.events[6].unknown && v.events[7].unknown);
}

Test(honeycomb, ratelimit_is_a_floor_without_retry_after)
{
    static const struct {
        const char *retry_after, *ratelimit;
        uint64_t us;
    } rows[] = {
        {NULL, "limit=100, remaining=0, reset=17", 17000000},
        {NULL, "\"default\";r=0;t=9", 9000000},
        {"3", "reset=17", 3000000},
        {NULL, "limit=3", 0},
        {NULL, "reset=", 0},
        {NULL, NULL, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct api_batch b = {.count = 1};
        struct api_reply reply = {.status = 429,
                                  .wall_ns = WALL_NS,
                                  .ratelimit = span_str(rows[i].ratelimit),
                                  .retry_after = span_str(rows[i].retry_after)};
        cr_expect_eq(fixture_judge_reply(&honeycomb_api, &b, &reply).retry_after_us, rows[i].us, "%zu", i);
    }
}
