/* otlp: opaque export requests. */
#include "lib/api/opaque.h"
#include "tests/unit/api/fixture.h"

#include <stdio.h>

TestSuite(otlp, .init = fixture_init, .fini = fixture_deinit);

Test(otlp, taken_as_they_came)
{
    const char *headers[] = {"Content-Type",
                             "application/x-protobuf",
                             "Content-Encoding",
                             "gzip",
                             "Authorization",
                             "Bearer secret",
                             "User-Agent",
                             "OTel/1",
                             NULL};
    cr_expect_eq(fixture_request("POST", "/v1/logs/", headers, "\x1f\x8b", 2, COND_STORED), 200);
    EXPECT_SPAN(fix.answer.content_type, "application/x-protobuf");
    cr_expect_eq(fix.answer.body.len, 0);
    cr_assert_eq(fix.x.item_count, 1);
    EXPECT_SPAN(fix.x.items[0].partition,
                "POST /v1/logs\nContent-Type: application/x-protobuf\nContent-Encoding: gzip\n"
                "User-Agent: OTel/1\n");
    EXPECT_SPAN(fix.x.items[0].body, "\x1f\x8b");
    struct api_member m = {.body = fix.x.items[0].body};
    struct api_batch b = {.partition = fix.x.items[0].partition, .members = &m, .count = 1};
    struct api_send send;
    fixture_settings(&otlp_api);
    fix.settings.bearer = SPAN("ours");
    cr_assert_eq(otlp_api.request(&fix.settings, &b, &fix.arena, &send), OK);
    EXPECT_SPAN(send.target, "/v1/logs");
    cr_expect_eq(send.header_count, 4);
    EXPECT_SPAN(send.headers[1].value, "gzip");
    EXPECT_SPAN(send.headers[3].value, "Bearer ours");
    cr_expect(otlp_api.alone(&fix.settings, b.partition));
}

Test(otlp, refusals)
{
    static const struct {
        const char *type, *encoding, *body;
        unsigned status;
    } rows[] = {
        {"application/json", NULL, "{\"resourceSpans\":[]}", 200},
        {"application/json; charset=utf-8", "identity", "{}", 200},
        {"application/json", "gzip", "not JSON once it is decoded", 400},
        {"application/x-protobuf", "gzip", "not looked at", 200},
        {"application/json", "zstd", "{}", 200},
        {"application/json", "deflate", "{}", 200},
        {"application/json", NULL, "{\"resourceSpans\":", 400},
        {"application/json", NULL, "", 400},
        {"application/x-protobuf", NULL, "", 200},
        {"text/plain", NULL, "{}", 400},
        {"application/json", NULL, "[]", 400},
        {"application/json", NULL, "7", 400},
        {NULL, NULL, "{}", 200},
        {"application/x-www-form-urlencoded", NULL, "{}", 200},
        {NULL, NULL, "\n\x0a", 400},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const char *headers[] = {"X-Nothing", "", NULL, NULL, NULL, NULL, NULL};
        unsigned n = 2;
        if (rows[i].type != NULL) {
            headers[n++] = "Content-Type";
            headers[n++] = rows[i].type;
        }
        if (rows[i].encoding != NULL) {
            headers[n++] = "Content-Encoding";
            headers[n++] = rows[i].encoding;
        }
        unsigned status =
            fixture_request("POST", "/v1/traces", headers, rows[i].body, (size_t)-1, COND_STORED);
        cr_expect_eq(status, rows[i].status, "%zu: %u", i, status);
    }
}

Test(otlp, json_that_nobody_calls_json_goes_on_as_json)
{
    const char *headers[] = {"Content-Type", "application/x-www-form-urlencoded", NULL};
    cr_expect_eq(fixture_request("POST", "/v1/traces", headers, "{}", 2, COND_STORED), 200);
    EXPECT_SPAN(fix.x.items[0].partition, "POST /v1/traces\nContent-Type: application/json\n");
}

Test(otlp, errors_in_the_form_of_the_request)
{
    const char *json[] = {"Content-Type", "application/json", NULL};
    cr_expect_eq(fixture_request("POST", "/v1/metrics", json, "{}", 2, COND_FULL), 429);
    EXPECT_SPAN(fix.answer.body, "{\"code\":8,\"message\":\"the agent has no room; come back later\"}");
    cr_expect_eq(fixture_request("POST", "/v1/metrics", json, "{}", 2, COND_NO_OUTPUT), 503);
}

Test(otlp, partial_success_is_delivered_and_noted)
{
    cr_expect_eq(fixture_judge(&otlp_api, 1, 200, "{}").noted, 0);
    cr_expect_eq(fixture_judge(&otlp_api, 1, 200, "").action, ACT_DELIVERED);
    struct api_verdict v = fixture_judge(&otlp_api, 1, 200, "{\"partialSuccess\":{\"rejectedSpans\":\"5\"}}");
    cr_expect_eq(v.action, ACT_DELIVERED);
    cr_expect_eq(v.noted, 1);
    cr_expect_eq(fixture_judge(&otlp_api, 1, 200, "{\"partialSuccess\":{\"rejectedLogRecords\":0}}").noted,
                 0);
}

Test(opaque, headers_that_do_not_fit_are_left_out)
{
    char longish[1100];
    struct opaque o;
    memset(longish, 'x', sizeof longish - 1);
    longish[sizeof longish - 1] = '\0';
    fixture_init();
    opaque_begin(&o, &fix.arena, "POST", SPAN("/bulk?a=b"));
    opaque_header(&o, "A", SPAN("1"));
    opaque_header(&o, "Long", span_str(longish));
    opaque_header(&o, "B", SPAN(" 2 "));
    opaque_header(&o, "C", SPAN("2\n3"));
    opaque_header(&o, "D", (struct span){0});
    struct span partition = opaque_partition(&o, &fix.arena);
    EXPECT_SPAN(partition, "POST /bulk?a=b\nA: 1\nB: 2\n");
    EXPECT_SPAN(opaque_target(partition), "/bulk?a=b");
    EXPECT_SPAN(opaque_header_of(partition, "b"), "2");
    cr_expect_null(opaque_header_of(partition, "c").at);
    cr_expect(opaque_is(partition) && !opaque_is(SPAN("shop/production")) && !opaque_is(SPAN("")));
    opaque_begin(&o, &fix.arena, "POST", span_str(longish));
    cr_expect_null(opaque_partition(&o, &fix.arena).at);
    fixture_deinit();
}
