/* segops: rendering, what its clients survive, and the verdict on each row of its answers. */
#include "lib/api/segops.h"
#include "tests/unit/api/fixture.h"

#include <stdio.h>

static void begin(void)
{
    fixture_init();
    fixture_settings(&segops_api);
}

TestSuite(segops, .init = begin, .fini = fixture_deinit);

#define BARE(rest) \
    "{\"id\":\"1\",\"source\":\"/" \
    "s\",\"type\":\"t\",\"subject\":\"u\",\"time\":\"2026-05-04T09:12:33Z\"" rest "}"
#define HEAD \
    "{\"user_id\":\"u\",\"event_type\":\"t\",\"occurred_at\":\"2026-05-04T09:12:33.000Z\",\"payload\":"

Test(segops, renders_the_example_and_each_row)
{
    expect_rendered(ORDER, "{\"user_id\":\"u-7\",\"event_type\":\"com_acme_order_placed\",\"occurred_at\":"
                           "\"2026-05-04T09:12:33.004Z\",\"payload\":{\"total\":89.95,\"items\":[1,2],"
                           "\"ship\":{\"days\":2}}}");
    expect_rendered(BARE(""), HEAD "{}}");
    expect_rendered(BARE(",\"data\":null"), HEAD "{}}");
    expect_rendered(BARE(",\"data\":{}"), HEAD "{}}");
    expect_rendered(BARE(",\"data\":7"), HEAD "{\"value\":7}}");
    expect_rendered(BARE(",\"data\":[1,2]"), HEAD "{\"value\":[1,2]}}");
    expect_rendered(BARE(",\"data\":{\"a\":1},\"sampledrate\":5"), HEAD "{\"sampledrate\":5,\"a\":1}}");
    expect_rendered(BARE(",\"data\":{\"sampledrate\":1},\"sampledrate\":5,\"x\":1"),
                    HEAD "{\"sampledrate\":1}}");
    expect_refused("{\"type\":\"t\"}", "subject: required by a segops output (user_id)");
    expect_refused("{\"type\":\"__\",\"subject\":\"u\"}", "type: nothing is left of it as event_type");
    expect_refused(BARE(",\"data_base64\":\"AA==\""), "data_base64: this output cannot carry binary data");
    fixture_option("segops.id_field", "penstock_id");
    fixture_option("map.source", "src");
    fixture_option("map.extensions", "payload");
    fixture_option("map.type_prefix", "com.acme.");
    expect_rendered("{\"id\":\"1\",\"source\":\"/s\",\"type\":\"com.acme.T\",\"subject\":\"u\","
                    "\"time\":\"2026-05-04T09:12:33Z\",\"x\":7,\"partitionkey\":\"p\",\"data\":{\"src\":1}}",
                    HEAD "{\"penstock_id\":\"1\",\"x\":7,\"src\":1}}");
}

Test(segops, types_become_snake_case)
{
    static const char *const rows[][2] = {
        {"com.acme.OrderPlaced", "com_acme_order_placed"},
        {"already_snake", "already_snake"},
        {"HTTPServer", "httpserver"},
        {"a1B", "a1b"},
        {"aB", "a_b"},
        {"..a--b..", "a_b"},
        {"caf\xc3\xa9 x", "caf_x"},
        {"X", "x"},
        {"_", ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint8_t into[64];
        size_t n = segops_event_type(span_str(rows[i][0]), into);
        EXPECT_SPAN(span_of(into, n), rows[i][1]);
    }
}

/* --- local -------------------------------------------------------------------------------------- */

#define TRACK "/api/ingestion/track"

Test(segops, batch_skips_the_bad_and_keeps_the_good)
{
    static const struct {
        const char *event;
        bool good;
        const char *stored; /* NULL: as it came */
    } rows[] = {
        {"{\"user_id\":\"u\",\"event_type\":\"e\",\"occurred_at\":\"2026-05-04T09:12:33Z\"}", true, NULL},
        {"{\"user_id\":\"u\",\"event_type\":\"e\",\"occurred_at\":\"2026-05-04\",\"payload\":{\"a\":[1]},"
         "\"anonymous_id\":\"x\"}",
         true, NULL},
        {"{ \"user_id\":\"u\",\"event_type\":\"e\"}", true,
         "{\"occurred_at\":\"2026-05-04T09:12:33.004Z\", \"user_id\":\"u\",\"event_type\":\"e\"}"},
        {"{\"user_id\":\"u\",\"occurred_at\":null,\"event_type\":\"e\"}", true,
         "{\"occurred_at\":\"2026-05-04T09:12:33.004Z\",\"user_id\":\"u\",\"event_type\":\"e\"}"},
        {"{\"event_type\":\"e\"}", false, NULL},
        {"{\"user_id\":\"\",\"event_type\":\"e\"}", false, NULL},
        {"{\"user_id\":7,\"event_type\":\"e\"}", false, NULL},
        {"{\"user_id\":null,\"event_type\":\"e\"}", false, NULL},
        {"{\"user_id\":\"u\"}", false, NULL},
        {"{\"user_id\":\"u\",\"event_type\":\"e\",\"payload\":[]}", false, NULL},
        {"{\"user_id\":\"u\",\"event_type\":\"e\",\"occurred_at\":\"soon\"}", false, NULL},
        {"{\"user_id\":\"u\",\"event_type\":\"e\",\"user_id\":\"v\"}", false, NULL},
        {"{\"user_id\":\"u\",\"event_type\":\"e\",\"occurred_at\":\"2026-05-04\",\"other\":1}", true, NULL},
        {"7", false, NULL},
        {"{\"user_id\":\"\\ud83d\",\"event_type\":\"e\"}", false, NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char body[512];
        snprintf(body, sizeof body, "{\"events\":[{\"user_id\":\"u\",\"event_type\":\"e\"},%s]}",
                 rows[i].event);
        cr_expect_eq(fixture_post(TRACK "/batch/", "application/json", body), 202, "%s", body);
        EXPECT_SPAN(fix.answer.body,
                    rows[i].good ? "{\"queued\":2,\"skipped\":0}" : "{\"queued\":1,\"skipped\":1}");
        cr_expect_eq(fix.x.item_count, rows[i].good ? 2 : 1, "%s", body);
        if (rows[i].good)
            EXPECT_SPAN(fix.x.items[1].body, rows[i].stored != NULL ? rows[i].stored : rows[i].event);
    }
    cr_expect_eq(fixture_post(TRACK "/batch", NULL, "{\"events\":[]}"), 202);
    EXPECT_SPAN(fix.answer.body, "{\"queued\":0,\"skipped\":0}");
    cr_expect_eq(fixture_post(TRACK "/batch", NULL, "{\"events\":[{}]}"), 202);
    EXPECT_SPAN(fix.answer.body, "{\"queued\":0,\"skipped\":1}");
}

Test(segops, single_event)
{
    cr_expect_eq(fixture_post(TRACK, "application/json", "{\"event_type\":\"page_viewed\",\"payload\":{}}"),
                 400);
    EXPECT_SPAN(fix.answer.body, "{\"user_id\":[\"This field is required.\"]}");
    cr_expect_eq(fix.x.item_count, 0);
    cr_expect_eq(fixture_post(TRACK "/", "application/json", "{\"user_id\":\"u\",\"event_type\":\"e\"}"),
                 202);
    EXPECT_SPAN(fix.answer.body, "{\"queued\":true}");
    cr_expect_eq(fix.x.item_count, 1);
}

Test(segops, whole_requests_that_are_refused)
{
    cr_expect_eq(fixture_post(TRACK "/batch/", "application/json", "{}"), 400);
    EXPECT_SPAN(fix.answer.body, "{\"events\":[\"This field is required.\"]}");
    cr_expect_eq(fixture_post(TRACK "/batch/", "application/json", "{\"events\":7}"), 400);
    cr_expect_eq(fixture_post(TRACK "/batch/", "application/json", "[]"), 400);
    cr_expect_eq(fixture_post(TRACK "/batch/", "application/json",
                              "{\"events\":[{\"user_id\":\"u\",\"event_type\":\"e\"}"),
                 400);
    cr_expect_eq(fix.x.item_count, 0);
    cr_expect_eq(fixture_post(TRACK "/batch/", "application/json", "{\"events\":[]} x"), 400);
    cr_expect_eq(fixture_post(TRACK "/batch/", "text/csv", "{\"events\":[]}"), 415);
    cr_expect_eq(fixture_post(TRACK "/batch/", NULL, ""), 400);
}

Test(segops, events_at_the_limit_of_a_request)
{
    fix.x.events_max = 3;
    for (unsigned count = 2; count <= 4; count++) {
        char body[300] = "{\"events\":[";
        for (unsigned i = 0; i < count; i++)
            snprintf(body + strlen(body), sizeof body - strlen(body),
                     "%s{\"user_id\":\"u\",\"event_type\":\"e\"}", i == 0 ? "" : ",");
        snprintf(body + strlen(body), sizeof body - strlen(body), "]}");
        cr_expect_eq(fixture_post(TRACK "/batch/", NULL, body), count <= 3 ? 202 : 413, "%u", count);
    }
}

Test(segops, conditions_that_its_clients_survive)
{
    static const struct expected_answer rows[] = {
        {COND_FULL, 503, true},       {COND_BUSY, 503, true},      {COND_STOPPING, 503, true},
        {COND_FAILED, 503, true},     {COND_NO_OUTPUT, 503, true}, {COND_UNAUTHORIZED, 401, false},
        {COND_TOO_LARGE, 413, false},
    };
    expect_answers(TRACK "/batch/", NULL, "{\"events\":[]}", "{\"detail\":\"", rows,
                   sizeof rows / sizeof rows[0]);
}

Test(segops, sessions_are_passed_on)
{
    const char *headers[] = {"Authorization", "ApiKey pk_x", "Origin", "https://shop", NULL};
    cr_expect_eq(fixture_request("POST", "/api/auth/session/", headers, "{}", 2, COND_STORED), 503,
                 "nobody did");
    cr_assert(fix.x.pass_on);
    struct api_send send;
    cr_assert_eq(segops_api.pass_on(&fix.settings, &fix.x, &send), OK);
    EXPECT_SPAN(send.target, "/api/auth/session/");
    EXPECT_SPAN(send.headers[0].value, "ApiKey pk_x");
    EXPECT_SPAN(send.headers[1].value, "https://shop");
    EXPECT_SPAN(send.body, "{}");
}

/* --- upstream ----------------------------------------------------------------------------------- */

Test(segops, judges)
{
    static const struct {
        unsigned status;
        const char *body;
        enum api_action action;
        unsigned noted;
        bool unknown;
    } rows[] = {
        {202, "{\"queued\":3,\"skipped\":0}", ACT_DELIVERED, 0, false},
        {200, "{\"queued\":3}", ACT_DELIVERED, 0, false},
        {202, "{\"queued\":1,\"skipped\":2}", ACT_DELIVERED, 2, false},
        {202, "{\"queued\":1}", ACT_DELIVERED, 2, false},
        {202, "{\"skipped\":99}", ACT_DELIVERED, 3, false},
        {202, "", ACT_DELIVERED, 0, false},
        {202, "{}", ACT_DELIVERED, 0, false},
        {202, "<html>", ACT_RETRY, 0, true},
        {202, "{\"queued\":3", ACT_RETRY, 0, true},
        {400, "{\"detail\":\"x\"}", ACT_SPLIT, 0, false},
        {401, "", ACT_HOLD, 0, false},
        {403, "", ACT_HOLD, 0, false},
        {404, "<html>", ACT_HOLD, 0, false},
        {405, "", ACT_HOLD, 0, false},
        {301, "", ACT_HOLD, 0, false},
        {308, "", ACT_HOLD, 0, false},
        {408, "", ACT_RETRY, 0, true},
        {413, "", ACT_SPLIT, 0, false},
        {415, "", ACT_HOLD, 0, false},
        {429, "", ACT_RETRY, 0, false},
        {500, "", ACT_RETRY, 0, true},
        {503, "<html>", ACT_RETRY, 0, true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct api_verdict v = fixture_judge(&segops_api, 3, rows[i].status, rows[i].body);
        cr_expect_eq(v.action, rows[i].action, "%u %s: %d", rows[i].status, rows[i].body, v.action);
        cr_expect_eq(v.noted, rows[i].noted, "%u %s: %u", rows[i].status, rows[i].body, v.noted);
        cr_expect_eq(v.unknown, rows[i].unknown, "%u %s", rows[i].status, rows[i].body);
    }
}

Test(segops, quota_is_a_retry_after_above_an_hour)
{
    for (int extra = -1; extra <= 1; extra++) {
        char text[16];
        snprintf(text, sizeof text, "%d", 3600 + extra);
        struct api_batch b = {.count = 1};
        struct api_reply reply = {.status = 429, .retry_after = span_str(text), .wall_ns = WALL_NS};
        struct api_verdict v = fixture_judge_reply(&segops_api, &b, &reply);
        cr_expect_eq(v.quota, extra > 0);
        cr_expect_eq(v.retry_after_us, (uint64_t)(3600 + extra) * 1000000);
    }
}

Test(segops, redirects_say_where_to)
{
    struct api_batch b = {.count = 1};
    struct api_reply reply = {.status = 301, .location = SPAN("https://x/track/batch/")};
    EXPECT_SPAN(fixture_judge_reply(&segops_api, &b, &reply).text,
                "status 301, Location: https://x/track/batch/");
    reply.body = SPAN("<html><title>301 Moved Permanently</title></html>");
    EXPECT_SPAN(fixture_judge_reply(&segops_api, &b, &reply).text,
                "status 301, Location: https://x/track/batch/");
}
