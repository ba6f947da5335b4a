/* plain_http: the output type `http`. */
#include "lib/api/common.h"
#include "tests/unit/api/fixture.h"

TestSuite(plain_http, .init = fixture_init, .fini = fixture_deinit);

#define SPACED \
    "{\"specversion\":\"1.0\",\n " \
    "\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\",\"time\":\"2026-05-04T09:12:33Z\"," \
    "\"data\":{\"n\": 0.10}}"

Test(plain_http, json_keeps_each_byte)
{
    struct api_item item;
    fixture_settings(&plain_http_api);
    cr_assert_eq(fixture_render(&plain_http_api, SPACED, &item, NULL), OK);
    EXPECT_SPAN(item.body, SPACED);
}

Test(plain_http, ndjson_is_one_line_each)
{
    struct api_item item;
    struct api_envelope env;
    fixture_settings(&plain_http_api);
    fix.settings.ndjson = true;
    cr_assert_eq(fixture_render(&plain_http_api, SPACED, &item, NULL), OK);
    cr_expect_null(memchr(item.body.at, '\n', item.body.len));
    plain_http_api.envelope(&fix.settings, SPAN(""), &env);
    EXPECT_SPAN(env.between, "\n");
    EXPECT_SPAN(env.after, "\n");
}

Test(plain_http, goes_to_exactly_its_url_with_the_batch_id)
{
    struct api_member m = {.body = SPAN("{}")};
    struct api_batch b = {.members = &m, .count = 1, .payload_id = SPAN("0196b0aa")};
    struct api_send send;
    fixture_settings(&plain_http_api);
    fix.settings.base_path = SPAN("/hook/");
    fix.settings.base_query = SPAN("?k=v");
    cr_assert_eq(plain_http_api.request(&fix.settings, &b, &fix.arena, &send), OK);
    EXPECT_SPAN(send.target, "/hook/?k=v");
    bool found = false;
    for (unsigned i = 0; i < send.header_count; i++)
        if (span_is(send.headers[i].name, "Idempotency-Key"))
            found = span_is(send.headers[i].value, "0196b0aa");
    cr_expect(found);
}

Test(plain_http, any_2xx_delivers)
{
    for (unsigned status = 200; status < 300; status++)
        cr_expect_eq(fixture_judge(&plain_http_api, 2, status, "whatever").action, ACT_DELIVERED);
    cr_expect_eq(fixture_judge(&plain_http_api, 2, 415, "").action, ACT_PLAIN_RETRY);
    cr_expect_eq(fixture_judge(&plain_http_api, 2, 409, "").action, ACT_SPLIT);
}
