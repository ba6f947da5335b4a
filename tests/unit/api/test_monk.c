/* monk: rendering, its local answers, and the verdict on each row of its answers. */
#include "lib/api/monk.h"
#include "tests/unit/api/fixture.h"

#include <stdio.h>

static void begin(void)
{
    fixture_init();
    fixture_settings(&monk_api);
}

TestSuite(monk, .init = begin, .fini = fixture_deinit);

#define BARE(rest) \
    "{\"id\":\"1\",\"source\":\"/" \
    "s\",\"type\":\"t\",\"subject\":\"u\",\"time\":\"2026-05-04T09:12:33Z\"" rest "}"
#define HEAD \
    "{\"eventName\":\"t\",\"externalCustomerId\":\"u\",\"idempotencyKey\":\"1\",\"timestamp\":" \
    "\"2026-05-04T09:12:33.000Z\""

Test(monk, renders_the_example)
{
    expect_rendered(
        ORDER, "{\"eventName\":\"com.acme.OrderPlaced\",\"externalCustomerId\":\"u-7\",\"idempotencyKey\":"
               "\"o-19\",\"timestamp\":\"2026-05-04T09:12:33.004Z\",\"properties\":{\"total\":89.95,"
               "\"items\":\"[1,2]\",\"ship.days\":2}}");
    EXPECT_SPAN(fix.item.id, "o-19");
    cr_expect_neq(fix.item.key_hash, 0);
}

Test(monk, renders_each_row_of_the_table)
{
    expect_rendered(BARE(""), HEAD "}");
    expect_rendered(BARE(",\"data\":{}"), HEAD "}");
    expect_rendered(BARE(",\"data\":{\"a\":null,\"b\":{}}"), HEAD "}");
    expect_rendered(BARE(",\"data\":null"), HEAD "}");
    expect_rendered(BARE(",\"data\":0.10"), HEAD ",\"properties\":{\"value\":0.10}}");
    expect_rendered(BARE(",\"data\":\"x\""), HEAD ",\"properties\":{\"value\":\"x\"}}");
    expect_rendered(BARE(",\"data\":[1, \"a\"]"), HEAD ",\"properties\":{\"value\":\"[1,\\\"a\\\"]\"}}");
    expect_rendered(BARE(",\"data\":{\"a\":{\"b\":{\"c\":true}},\"n\":18446744073709551615}"),
                    HEAD ",\"properties\":{\"a.b.c\":true,\"n\":18446744073709551615}}");
    expect_rendered(BARE(",\"x\":1,\"expirytime\":\"2026-05-04T09:12:34Z\""), HEAD "}");
    cr_expect_eq(fix.item.expires_ns, 0, "a bill does not expire");
    fixture_option("map.source", "from");
    fixture_option("map.extensions", "properties");
    fixture_option("map.subject", "customerId");
    fixture_option("map.id", "source_id");
    expect_rendered(BARE(",\"x\":1,\"data\":{\"a\":1}"),
                    "{\"eventName\":\"t\",\"customerId\":\"u\",\"idempotencyKey\":"
                    "\"26e1617e-d4e4-58d8-880f-39df4716e44a\",\"timestamp\":\"2026-05-04T09:12:33.000Z\","
                    "\"properties\":{\"from\":\"/s\",\"x\":1,\"a\":1}}");
    expect_refused(BARE(",\"data\":{\"from\":1}"),
                   "data: two members meet in one name when nested objects are flattened");
}

Test(monk, refuses_what_could_bill_wrongly)
{
    expect_refused("{\"type\":\"t\"}", "subject: required by a monk output (the customer)");
    expect_refused(BARE(",\"sampledrate\":2"), "sampledrate: a monk output takes unsampled events only");
    expect_refused("{\"type\":\"t\",\"subject\":\"u\",\"time\":\"2026-05-04T10:12:34Z\"}",
                   "time: more than an hour in the future");
    expect_rendered(
        "{\"id\":\"1\",\"type\":\"t\",\"subject\":\"u\",\"time\":\"2026-05-04T10:12:33Z\"}",
        "{\"eventName\":\"t\",\"externalCustomerId\":\"u\",\"idempotencyKey\":\"1\",\"timestamp\":"
        "\"2026-05-04T10:12:33.000Z\"}");
    expect_refused(BARE(",\"data\":{\"a\":{\"b\":1},\"a.b\":2}"),
                   "data: two members meet in one name when nested objects are flattened");
    expect_refused(BARE(",\"data\":{\"a\":1,\"\\u0061\":2}"),
                   "data: two members meet in one name when nested objects are flattened");
    for (int extra = -1; extra <= 1; extra++) {
        char text[400];
        snprintf(text, sizeof text, "{\"type\":\"t\",\"subject\":\"u\",\"id\":\"%0*d\"}", 255 + extra, 1);
        cr_expect_eq(fixture_render(&monk_api, text, &fix.item, NULL), extra <= 0 ? OK : ERR_MALFORMED);
    }
}

Test(monk, flattening_that_outgrows_its_event)
{
    /* A name of 1000 characters, 50 times: 50 KB out of 1.4 KB. */
    char text[4000];
    int n = snprintf(text, sizeof text, "{\"type\":\"t\",\"subject\":\"u\",\"data\":{\"%01000d\":{", 1);
    for (int i = 0; i < 50; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, "%s\"m%d\":%d", i == 0 ? "" : ",", i, i);
    snprintf(text + n, sizeof text - (size_t)n, "}}}");
    cr_expect_eq(fixture_render(&monk_api, text, &fix.item, NULL), OK);
    cr_expect_gt(fix.item.body.len, 50000);
    struct fault why;
    fix.settings.limits.event_bytes = fix.item.body.len;
    cr_expect_eq(fixture_render(&monk_api, text, &fix.item, NULL), OK);
    fix.settings.limits.event_bytes = fix.item.body.len - 1;
    cr_expect_eq(fixture_render(&monk_api, text, &fix.item, &why), ERR_TOO_BIG);
}

/* --- local -------------------------------------------------------------------------------------- */

Test(monk, single_gets_key_and_time)
{
    cr_expect_eq(
        fixture_post(
            "/v1/events", "application/json",
            "{\"eventName\":\"seat_added\",\"customerId\":\"7d3c\",\"properties\":{\"seats\":0.10}}"),
        202);
    cr_assert_eq(fix.x.item_count, 1);
    struct span key = fix.x.items[0].id;
    cr_expect_eq(key.len, 36);
    char expected[300];
    snprintf(expected, sizeof expected,
             "{\"idempotencyKey\":\"%.*s\",\"timestamp\":\"2026-05-04T09:12:33.004Z\",\"eventName\":\"seat_"
             "added\","
             "\"customerId\":\"7d3c\",\"properties\":{\"seats\":0.10}}",
             SPAN_FMT(key));
    EXPECT_SPAN(fix.x.items[0].body, expected);
    cr_expect_eq(fix.x.items[0].key_hash, 0, "a key of ours is not remembered");
    snprintf(expected, sizeof expected,
             "{\"status\":\"accepted\",\"idempotencyKey\":\"%.*s\",\"requestId\":\"req_", SPAN_FMT(key));
    cr_expect(span_starts(fix.answer.body, span_str(expected)), "%.*s", SPAN_FMT(fix.answer.body));
    cr_expect_eq(fix.answer.body.len, strlen(expected) + 34);
}

Test(monk, events_stay_byte_for_byte)
{
    const char *event =
        "{\"eventName\":\"a\", \"externalCustomerId\":\"acct\",\"idempotencyKey\":\"k\\u0031\","
        "\"timestamp\":\"2026-05-04T09:12:33.410Z\",\"properties\":{\"b\":1.0,\"c\":false}}";
    cr_expect_eq(fixture_post("/v1/events", NULL, event), 202);
    EXPECT_SPAN(fix.x.items[0].body, event);
    EXPECT_SPAN(fix.x.items[0].id, "k1");
    cr_expect_neq(fix.x.items[0].key_hash, 0);
    cr_expect_eq(fixture_post("/v1/events", NULL,
                              "{\"eventName\":\"a\",\"customerId\":null,\"externalCustomerId\":\"x\","
                              "\"idempotencyKey\":\"k\",\"timestamp\":null}"),
                 202);
    EXPECT_SPAN(fix.x.items[0].body, "{\"timestamp\":\"2026-05-04T09:12:33.004Z\",\"eventName\":\"a\","
                                     "\"externalCustomerId\":\"x\",\"idempotencyKey\":\"k\"}");
}

Test(monk, a_time_that_is_not_rfc_3339_is_written_anew)
{
    cr_expect_eq(fixture_post("/v1/events", NULL,
                              "{\"eventName\":\"a\",\"timestamp\":\"2026-05-04 09:12:33\",\"customerId\":\"x\","
                              "\"idempotencyKey\":\"k\"}"),
                 202);
    EXPECT_SPAN(fix.x.items[0].body, "{\"timestamp\":\"2026-05-04T09:12:33.000Z\",\"eventName\":\"a\","
                                     "\"customerId\":\"x\",\"idempotencyKey\":\"k\"}");
}

Test(monk, keys_are_remembered_per_sender)
{
    const char *event = "{\"eventName\":\"a\",\"customerId\":\"c\",\"idempotencyKey\":\"k\"}";
    const char *first[] = {"Authorization", "Bearer a", NULL},
               *second[] = {"Authorization", "Bearer b", NULL};
    (void)fixture_request("POST", "/v1/events", first, event, (size_t)-1, COND_STORED);
    uint64_t key = fix.x.items[0].key_hash, content = fix.x.items[0].content_hash;
    (void)fixture_request("POST", "/v1/events", first, event, (size_t)-1, COND_STORED);
    cr_expect_eq(fix.x.items[0].key_hash, key);
    cr_expect_eq(fix.x.items[0].content_hash, content);
    (void)fixture_request("POST", "/v1/events", second, event, (size_t)-1, COND_STORED);
    cr_expect_neq(fix.x.items[0].key_hash, key);
}

Test(monk, one_bad_event_refuses_the_request)
{
    static const char *const rows[][2] = {
        {"{\"eventName\":\"bad\",\"customerId\":\"a\",\"externalCustomerId\":\"b\"}",
         "give exactly one of customerId and externalCustomerId"},
        {"{\"eventName\":\"bad\"}", "give exactly one of customerId and externalCustomerId"},
        {"{\"customerId\":\"a\"}", "eventName: required (CloudEvents go to POST /events)"},
        {"{\"eventName\":\"\",\"customerId\":\"a\"}", "eventName: must not be empty"},
        {"{\"eventName\":null,\"customerId\":\"a\"}", "eventName: must be a string"},
        {"{\"eventName\":\"a\",\"customerId\":7}", "customerId: must be a string"},
        {"{\"specversion\":\"1.0\"}",
         "specversion: this path takes Monk's events; CloudEvents go to POST /events"},
        {"{\"eventName\":\"a\",\"customerId\":\"a\",\"event\":1}", "event: unknown field"},
        {"{\"eventName\":\"a\",\"eventName\":\"b\",\"customerId\":\"a\"}", "eventName: appears twice"},
        {"{\"eventName\":\"a\",\"customerId\":\"a\",\"timestamp\":\"soon\"}",
         "timestamp: not a date and time in ISO 8601"},
        {"{\"eventName\":\"a\",\"customerId\":\"a\",\"timestamp\":\"2026-05-04T10:12:34Z\"}",
         "timestamp: more than 1 hour in the future"},
        {"{\"eventName\":\"a\",\"customerId\":\"a\",\"idempotencyKey\":\"\"}",
         "idempotencyKey: must not be empty"},
        {"{\"eventName\":\"a\",\"customerId\":\"a\",\"properties\":[]}", "properties: must be an object"},
        {"{\"eventName\":\"a\",\"customerId\":\"a\",\"properties\":{\"x\":{}}}",
         "properties: values must be strings, numbers or booleans"},
        {"{\"eventName\":\"a\",\"customerId\":\"a\",\"properties\":{\"x\":null}}",
         "properties: values must be strings, numbers or booleans"},
        {"7", "must be an object"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char body[512], expected[512];
        snprintf(body, sizeof body, "{\"events\":[{\"eventName\":\"ok\",\"customerId\":\"c\"},%s,{}]}",
                 rows[i][0]);
        snprintf(expected, sizeof expected,
                 "{\"error\":{\"message\":\"events[1]: %s\",\"code\":\"VALIDATION_ERROR\"}}", rows[i][1]);
        cr_expect_eq(fixture_post("/v1/events/batch", "application/json", body), 400, "%s", body);
        EXPECT_SPAN(fix.answer.body, expected);
        cr_expect_eq(fix.x.item_count, 0);
        cr_expect_eq(fix.x.offered, 3);
        snprintf(expected, sizeof expected, "{\"error\":{\"message\":\"%s\",\"code\":\"VALIDATION_ERROR\"}}",
                 rows[i][1]);
        cr_expect_eq(fixture_post("/v1/events", "application/json", rows[i][0]), 400);
        EXPECT_SPAN(fix.answer.body, expected);
        cr_expect_eq(fix.x.offered, 1);
    }
}

Test(monk, lenient_takes_the_good_ones)
{
    fixture_option("monk.lenient", "true");
    fix.x.settings = &fix.settings;
    cr_expect_eq(fixture_post("/v1/events/batch", NULL,
                              "{\"events\":[{},{\"eventName\":\"ok\",\"customerId\":\"c\"}]}"),
                 202);
    cr_expect_eq(fix.x.item_count, 2);
    cr_expect_eq(fix.x.rejection_count, 0);
    EXPECT_SPAN(monk_api.stillborn(fix.x.items[0].partition),
                "eventName: required (CloudEvents go to POST /events)");
    EXPECT_SPAN(fix.x.items[0].body, "{}");
    cr_expect_null(monk_api.stillborn(fix.x.items[1].partition).at);
    cr_expect(
        span_starts(fix.answer.body, SPAN("{\"status\":\"accepted\",\"count\":2,\"requestId\":\"req_")));
}

Test(monk, whole_requests_that_are_refused)
{
    static const char *const bodies[] = {"",
                                         "[]",
                                         "{}",
                                         "{\"events\":[]}",
                                         "{\"events\":{}}",
                                         "{\"events\":[{}",
                                         "{\"events\":[],\"x\":1}",
                                         "nonsense"};
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        unsigned status = fixture_post("/v1/events/batch", "application/json", bodies[i]);
        cr_expect_eq(status, 400, "%s: %u", bodies[i], status);
        cr_expect(span_starts(fix.answer.body, SPAN("{\"error\":{\"message\":\"")));
    }
    cr_expect_eq(fixture_post("/v1/events/batch", "text/plain", "{\"events\":[]}"), 415);
    cr_expect_eq(fixture_request("GET", "/v1/events", NULL, "", 0, COND_STORED), 405);
}

Test(monk, events_at_the_limit_of_a_request)
{
    fix.x.events_max = 3;
    for (unsigned count = 2; count <= 4; count++) {
        char body[300] = "{\"events\":[";
        for (unsigned i = 0; i < count; i++)
            snprintf(body + strlen(body), sizeof body - strlen(body),
                     "%s{\"eventName\":\"e\",\"customerId\":\"c\"}", i == 0 ? "" : ",");
        snprintf(body + strlen(body), sizeof body - strlen(body), "]}");
        cr_expect_eq(fixture_post("/v1/events/batch", NULL, body), count <= 3 ? 202 : 400, "%u", count);
    }
}

Test(monk, conditions_that_its_client_survives)
{
    static const struct expected_answer rows[] = {
        {COND_FULL, 429, true},       {COND_BUSY, 429, true},      {COND_STOPPING, 503, true},
        {COND_FAILED, 503, true},     {COND_NO_OUTPUT, 503, true}, {COND_UNAUTHORIZED, 401, false},
        {COND_TOO_LARGE, 413, false},
    };
    expect_answers("/v1/events", NULL, "{\"eventName\":\"e\",\"customerId\":\"c\"}",
                   "{\"error\":{\"message\":\"", rows, sizeof rows / sizeof rows[0]);
}

/* --- upstream ----------------------------------------------------------------------------------- */

static struct api_verdict judged(unsigned count, unsigned attempts, unsigned status, const char *body)
{
    struct api_batch b = {.count = count, .attempts = attempts};
    struct api_reply reply = {.status = status, .body = span_str(body), .wall_ns = WALL_NS};
    return fixture_judge_reply(&monk_api, &b, &reply);
}

Test(monk, judges)
{
    static const struct {
        unsigned count, attempts, status;
        const char *body;
        enum api_action action;
    } rows[] = {
        {2, 1, 202, "{\"status\":\"accepted\",\"count\":2,\"requestId\":\"req_1\"}", ACT_DELIVERED},
        {2, 1, 200, "{\"status\":\"accepted\"}", ACT_DELIVERED},
        {2, 1, 202, "", ACT_DELIVERED},
        {2, 1, 202, "<html>", ACT_DELIVERED},
        {2, 1, 202, "{\"count\":1}", ACT_RETRY},
        {2, 2, 202, "{\"count\":1}", ACT_RETRY},
        {2, 3, 202, "{\"count\":1}", ACT_SPLIT_SINGLES},
        {1, 3, 202, "{\"count\":0}", ACT_DEAD},
        {2, 1, 400, "{\"error\":{}}", ACT_SPLIT},
        {2, 1, 422, "", ACT_SPLIT},
        {2, 1, 401, "{\"error\":{\"code\":\"UNAUTHORIZED\"}}", ACT_HOLD},
        {2, 1, 403, "", ACT_HOLD},
        {2, 1, 404, "not found", ACT_HOLD},
        {2, 1, 404, "{\"error\":{\"message\":\"Customer not found\"}}", ACT_SPLIT},
        {2, 1, 405, "", ACT_HOLD},
        {2, 1, 406, "", ACT_HOLD},
        {2, 1, 410, "", ACT_HOLD},
        {2, 1, 408, "", ACT_RETRY},
        {2, 1, 409, "duplicate", ACT_SPLIT},
        {1, 1, 409, "{\"error\":\"Idempotency key reused\"}", ACT_DELIVERED},
        {1, 1, 409, "duplicate event", ACT_DELIVERED},
        {1, 1, 409, "", ACT_DEAD},
        {2, 1, 413, "", ACT_SPLIT},
        {2, 1, 415, "", ACT_PLAIN_RETRY},
        {2, 1, 429, "", ACT_RETRY},
        {2, 1, 500, "<html>", ACT_RETRY},
        {2, 1, 302, "", ACT_HOLD},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct api_verdict v = judged(rows[i].count, rows[i].attempts, rows[i].status, rows[i].body);
        cr_expect_eq(v.action, rows[i].action, "%u %s: %d", rows[i].status, rows[i].body, v.action);
    }
    cr_expect_eq(judged(1, 3, 202, "{\"count\":0}").reason, DEAD_COUNT_MISMATCH);
    cr_expect(judged(1, 1, 202, "<html>").warn);
    cr_expect_not(judged(1, 1, 202, "{\"count\":1}").warn);
    cr_expect(monk_api.unique_ids);
}

Test(monk, the_last_single_event_of_a_split_goes_to_the_path_for_one)
{
    struct api_member m = {.body = SPAN("{\"eventName\":\"e\"}")};
    struct api_batch b = {.partition = SPAN(""), .members = &m, .count = 1, .split = true};
    struct api_send send;
    cr_assert_eq(monk_api.request(&fix.settings, &b, &fix.arena, &send), OK);
    EXPECT_SPAN(send.target, "/v1/events");
    cr_expect(send.own_body);
    EXPECT_SPAN(send.body, "{\"eventName\":\"e\"}");
    fixture_option("monk.paths.single", "/one");
    cr_assert_eq(monk_api.request(&fix.settings, &b, &fix.arena, &send), OK);
    EXPECT_SPAN(send.target, "/one");
    b.split = false; /* a batch of one, or its second try */
    cr_assert_eq(monk_api.request(&fix.settings, &b, &fix.arena, &send), OK);
    EXPECT_SPAN(send.target, "/v1/events/batch");
    cr_expect_not(send.own_body);
}
