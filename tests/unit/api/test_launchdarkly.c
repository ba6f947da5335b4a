/* launchdarkly: rendering, the import's strict table, what the SDKs survive, and verdicts. */
#include "lib/api/launchdarkly.h"
#include "lib/api/opaque.h"
#include "tests/unit/api/fixture.h"

#include <stdio.h>

static void begin(void)
{
    fixture_init();
    fixture_settings(&launchdarkly_api);
    fix.settings.partition = SPAN("shop/production");
}

TestSuite(launchdarkly, .init = begin, .fini = fixture_deinit);

#define EVENT(rest) \
    "{\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\",\"time\":\"2026-05-04T09:12:33.0049Z\"" rest "}"
#define BARE(rest) EVENT(",\"subject\":\"u\"" rest)
#define HEAD "{\"kind\":\"custom\",\"key\":\"t\",\"creationDate\":1777885953004"
#define USER ",\"contextKeys\":{\"user\":\"u\"}"

/* What is rendered passes the strict reading of the import as well. */
static void expect_import(const char *event, const char *expected)
{
    struct fault why = {.err = OK};
    struct json_reader r;
    struct ld_import_event e;
    expect_rendered(event, expected);
    json_reader_init(&r, fix.item.body);
    cr_expect_eq(ld_read_import_event(&r, &e, &why), OK, "%s", why.text);
}

Test(launchdarkly, renders_the_example)
{
    expect_import(ORDER,
                  "{\"kind\":\"custom\",\"key\":\"com.acme.OrderPlaced\",\"creationDate\":1777885953004,"
                  "\"contextKeys\":{\"user\":\"u-7\"},\"data\":{\"total\":89.95,\"items\":[1,2],"
                  "\"ship\":{\"days\":2}}}");
    EXPECT_SPAN(fix.item.partition, "shop/production");
}

Test(launchdarkly, renders_each_row_of_the_table)
{
    expect_import(BARE(""), HEAD USER "}");
    expect_import(BARE(",\"data\":null"), HEAD USER "}");
    expect_import(BARE(",\"data\":{}"), HEAD USER "}");
    expect_import(BARE(",\"data\":32.50"), HEAD ",\"metricValue\":32.50" USER "}");
    expect_import(BARE(",\"data\":\"x\""), HEAD USER ",\"data\":{\"value\":\"x\"}}");
    expect_import(BARE(",\"data\":[1]"), HEAD USER ",\"data\":{\"value\":[1]}}");
    expect_import(BARE(",\"data\":false"), HEAD USER ",\"data\":{\"value\":false}}");
    expect_import(BARE(",\"data\":{\"metricValue\":1,\"a\":2}"),
                  HEAD ",\"metricValue\":1" USER ",\"data\":{\"a\":2}}");
    expect_import(BARE(",\"data\":{\"value\":1}"), HEAD ",\"metricValue\":1" USER "}");
    expect_import(BARE(",\"data\":{\"value\":\"x\"}"), HEAD USER ",\"data\":{\"value\":\"x\"}}");
    expect_import(BARE(",\"data\":{\"metricValue\":1,\"value\":2}"),
                  HEAD ",\"metricValue\":1" USER ",\"data\":{\"value\":2}}");
    expect_import(BARE(",\"data\":{\"metricValue\":null}"), HEAD USER "}");
    expect_import(BARE(",\"sampledrate\":5,\"data\":7"),
                  HEAD ",\"metricValue\":7" USER ",\"data\":{\"sampledrate\":5}}");
    expect_import(EVENT(",\"data\":{\"contextKeys\":{\"org\":\"o\"}}"),
                  HEAD ",\"contextKeys\":{\"org\":\"o\"}}");
    expect_import(BARE(",\"data\":{\"contextKeys\":{\"org\":\"o\"},\"a\":1}"),
                  HEAD ",\"contextKeys\":{\"user\":\"u\",\"org\":\"o\"},\"data\":{\"a\":1}}");
    expect_import(BARE(",\"data\":{\"contextKeys\":{\"user\":\"v\"}}"),
                  HEAD ",\"contextKeys\":{\"user\":\"v\"}}");
    fixture_option("map.subject", "kind_key");
    expect_import(EVENT(",\"subject\":\"org:o:2\""), HEAD ",\"contextKeys\":{\"org\":\"o:2\"}}");
    expect_import(EVENT(",\"subject\":\"plain\""), HEAD ",\"contextKeys\":{\"user\":\"plain\"}}");
}

Test(launchdarkly, refuses_what_the_service_would_lose)
{
    expect_refused(EVENT(""), "subject: required by a launchdarkly output (or data.contextKeys)");
    expect_refused(BARE(",\"data\":{\"metricValue\":\"1\"}"), "data.metricValue: must be a finite number");
    expect_refused(BARE(",\"data\":{\"metricValue\":1e999}"), "data.metricValue: must be a finite number");
    expect_refused(BARE(",\"data\":1e999"), "data.metricValue: must be a finite number");
    expect_refused(BARE(",\"data\":{\"contextKeys\":{}}"),
                   "data.contextKeys: must be an object of at least one string");
    expect_refused(BARE(",\"data\":{\"contextKeys\":{\"user\":7}}"),
                   "data.contextKeys: must be an object of at least one string");
    expect_refused(BARE(",\"data_base64\":\"AA==\""), "data_base64: this output cannot carry binary data");
    fix.settings.partition = (struct span){0};
    expect_refused(BARE(",\"project\":\"p\""),
                   "project and environment: not both in the event, and output out has no partition");
}

Test(launchdarkly, partition_from_extensions_then_output)
{
    cr_assert_eq(
        fixture_render(&launchdarkly_api, BARE(",\"project\":\"p\",\"environment\":\"e\""), &fix.item, NULL),
        OK);
    EXPECT_SPAN(fix.item.partition, "p/e");
    cr_assert_eq(fixture_render(&launchdarkly_api, BARE(",\"environment\":\"e\""), &fix.item, NULL), OK);
    EXPECT_SPAN(fix.item.partition, "shop/e");
}

/* --- import ------------------------------------------------------------------------------------- */

#define IMPORT "/v2/event-data-import/shop/production"
#define GOOD \
    "{\"kind\":\"custom\",\"key\":\"k\",\"creationDate\":1777885953004,\"contextKeys\":{\"user\":\"u-7\"}}"

static unsigned import(const char *schema, const char *payload_id, const char *body)
{
    const char *headers[] = {"Content-Type",
                             "application/json",
                             "X-LaunchDarkly-Event-Schema",
                             schema,
                             "X-LaunchDarkly-Payload-ID",
                             payload_id,
                             "Authorization",
                             "api-1",
                             NULL};
    return fixture_request("POST", IMPORT, headers, body, (size_t)-1, COND_STORED);
}

Test(launchdarkly, import_takes_whole_requests)
{
    cr_expect_eq(import("4", "p-1", "[" GOOD "," GOOD "]"), 202);
    cr_expect_eq(fix.answer.body.len, 0);
    cr_assert_eq(fix.x.item_count, 2);
    EXPECT_SPAN(fix.x.items[0].body, GOOD);
    EXPECT_SPAN(fix.x.items[0].partition, "shop/production");
    uint64_t first = fix.x.items[0].key_hash, content = fix.x.items[0].content_hash;
    cr_expect_neq(first, fix.x.items[1].key_hash);
    cr_expect_eq(content, fix.x.items[1].content_hash);
    (void)import("4", "p-1", "[" GOOD "," GOOD "]");
    cr_expect_eq(fix.x.items[0].key_hash, first);
    (void)import("4", "p-1", "[" GOOD "]");
    cr_expect_eq(fix.x.items[0].key_hash, first);
    cr_expect_neq(fix.x.items[0].content_hash, content, "the same id for other content");
    (void)import("4", "", "[" GOOD "]");
    cr_expect_eq(fix.x.items[0].key_hash, 0, "no id, nothing to remember");
}

Test(launchdarkly, import_is_strict)
{
    static const char *const rows[][2] = {
        {"7", "must be an object"},
        {"{}", "kind: required"},
        {"{\"kind\":\"index\"}", "kind: must be \\\"custom\\\""},
        {"{\"kind\":\"custom\"}", "key: required"},
        {"{\"kind\":\"custom\",\"key\":\"\"}", "key: must be a string that is not empty"},
        {"{\"kind\":\"custom\",\"key\":\"k\"}", "creationDate: required"},
        {"{\"creationDate\":1.5}", "creationDate: must be Unix milliseconds, a whole number"},
        {"{\"creationDate\":\"1\"}", "creationDate: must be Unix milliseconds, a whole number"},
        {"{\"creationDate\":-1}", "creationDate: must be Unix milliseconds, a whole number"},
        {"{\"kind\":\"custom\",\"key\":\"k\",\"creationDate\":1}", "contextKeys: required"},
        {"{\"contextKeys\":{}}", "contextKeys: must be an object of at least one string"},
        {"{\"contextKeys\":{\"user\":7}}", "contextKeys: must be an object of at least one string"},
        {"{\"contextKeys\":{\"user\":\"\"}}", "contextKeys: must be an object of at least one string"},
        {"{\"metricValue\":\"1\"}", "metricValue: must be a finite number"},
        {"{\"metricValue\":1e999}", "metricValue: must be a finite number"},
        {"{\"data\":7}", "data: must be an object"},
        {"{\"key\":\"k\",\"key\":\"k\"}", "key: appears twice"},
        {"{\"other\":7}", "other: unknown"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char body[400], expected[300];
        snprintf(body, sizeof body, "[" GOOD ",%s]", rows[i][0]);
        snprintf(expected, sizeof expected, "{\"message\":\"events[1]: %s\"}", rows[i][1]);
        cr_expect_eq(import("4", "p", body), 400, "%s", body);
        EXPECT_SPAN(fix.answer.body, expected);
        cr_expect_eq(fix.x.item_count, 0);
    }
    static const char *const good[] = {
        "{\"kind\":\"custom\",\"key\":\"k\",\"creationDate\":1.777885953004e12,\"contextKeys\":{\"a\":\"b\"},"
        "\"metricValue\":-0.5,"
        "\"data\":{\"x\":[1]}}",
        "{\"kind\":\"c\\u0075stom\",\"key\":\"k\",\"creationDate\":0,\"contextKeys\":{\"a\":\"b\"},"
        "\"metricValue\":null,"
        "\"data\":null}",
    };
    for (size_t i = 0; i < 2; i++) {
        char body[400];
        snprintf(body, sizeof body, "[%s]", good[i]);
        cr_expect_eq(import("4", "p", body), 202, "%s", body);
        EXPECT_SPAN(fix.x.items[0].body, good[i]);
    }
}

Test(launchdarkly, import_refuses_whole_requests)
{
    cr_expect_eq(import("3", "p", "[" GOOD "]"), 406);
    cr_expect_eq(import("", "p", "[" GOOD "]"), 406);
    cr_expect_eq(import("4", "p", "[]"), 400);
    EXPECT_SPAN(fix.answer.body, "{\"message\":\"no events in payload\"}");
    cr_expect_eq(import("4", "p", "{}"), 400);
    cr_expect_eq(import("4", "p", ""), 400);
    cr_expect_eq(import("4", "p", "[" GOOD), 400);
    cr_expect_eq(import("4", "p", "[" GOOD "] x"), 400);
    cr_expect_eq(fix.x.item_count, 0);
    const char *headers[] = {"X-LaunchDarkly-Event-Schema", "4", NULL};
    cr_expect_eq(fixture_request("POST", "/v2/event-data-import/a%2Fb/c", headers, "[" GOOD "]", (size_t)-1,
                                 COND_STORED),
                 400);
    cr_expect_eq(fixture_request("POST", "/v2/event-data-import/a%20b/c", headers, "[" GOOD "]", (size_t)-1,
                                 COND_STORED),
                 202);
    EXPECT_SPAN(fix.x.items[0].partition, "a b/c");
    fixture_option("launchdarkly.lenient", "true");
    fix.settings.access_token = SPAN("t");
    fix.x.settings = &fix.settings;
    cr_expect_eq(import("4", "p", "[{}," GOOD "]"), 202);
    cr_expect_eq(fix.x.item_count, 1);
    cr_expect_eq(fix.x.rejection_count, 1);
    fix.settings.access_token = (struct span){0};
    fix.settings.sdk_key = SPAN("s");
    cr_expect_eq(import("4", "p", "[" GOOD "]"), 503, "an output for SDK events only");
}

Test(launchdarkly, import_conditions)
{
    static const struct expected_answer rows[] = {
        {COND_FULL, 429, true},       {COND_BUSY, 429, true},      {COND_STOPPING, 503, true},
        {COND_FAILED, 503, true},     {COND_NO_OUTPUT, 503, true}, {COND_UNAUTHORIZED, 401, false},
        {COND_TOO_LARGE, 413, false}, {COND_CONFLICT, 400, false},
    };
    const char *headers[] = {"X-LaunchDarkly-Event-Schema", "4", "X-LaunchDarkly-Payload-ID", "p-9", NULL};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        cr_expect_eq(fixture_request("POST", IMPORT, headers, "[" GOOD "]", (size_t)-1, rows[i].condition),
                     rows[i].status);
        cr_expect_eq(fixture_answer_header("Retry-After").at != NULL, rows[i].passing);
    }
    EXPECT_SPAN(fix.answer.body, "{\"message\":\"payload id p-9 was given to other content before\"}");
}

/* --- SDKs --------------------------------------------------------------------------------------- */

static const char *const sdk_headers[] = {"authorization",
                                          "sdk-secret",
                                          "user-agent",
                                          "NodeJSClient/9.13.7",
                                          "x-launchdarkly-payload-id",
                                          "0a4f",
                                          "x-launchDarkly-event-schema",
                                          "4",
                                          "content-type",
                                          "application/json",
                                          NULL};

static unsigned sdk(const char *path, const char *body)
{
    return fixture_request("POST", path, sdk_headers, body, (size_t)-1, COND_STORED);
}

#define SDK_EVENTS \
    "[{\"kind\":\"index\",\"creationDate\":1,\"context\":{\"kind\":\"user\",\"key\":\"u-7\"}}," \
    "{\"kind\":\"custom\",\"key\":\"p\"},{\"features\":{},\"kind\":\"summary\"}]"

Test(launchdarkly, sdk_requests_are_kept_whole)
{
    cr_expect_eq(sdk("/bulk", SDK_EVENTS), 202);
    cr_assert_eq(fix.x.item_count, 1);
    EXPECT_SPAN(fix.x.items[0].partition,
                "POST /bulk\nContent-Type: application/json\nX-LaunchDarkly-Event-Schema: 4\n"
                "User-Agent: NodeJSClient/9.13.7\n");
    EXPECT_SPAN(fix.x.items[0].body, SDK_EVENTS);
    EXPECT_SPAN(fix.x.items[0].id, "0a4f");
    cr_expect_eq(fix.x.items[0].weight, 3);
    cr_expect_eq(fix.x.offered, 3);
    cr_expect_neq(fix.x.items[0].key_hash, 0);
    struct api_member m = {.id = fix.x.items[0].id, .body = fix.x.items[0].body};
    struct api_batch b = {
        .partition = fix.x.items[0].partition, .members = &m, .count = 1, .payload_id = SPAN("ours")};
    struct api_send send;
    fix.settings.sdk_key = SPAN("sdk-ours");
    cr_assert_eq(launchdarkly_api.request(&fix.settings, &b, &fix.arena, &send), OK);
    EXPECT_SPAN(send.target, "/bulk");
    EXPECT_SPAN(send.headers[send.header_count - 1].value, "sdk-ours");
    EXPECT_SPAN(send.headers[send.header_count - 2].value, "0a4f");
    cr_expect(launchdarkly_api.alone(&fix.settings, b.partition));
    cr_expect_eq(launchdarkly_api.expires_us(b.partition), 0);
    for (unsigned i = 0; i < send.header_count; i++)
        cr_expect(!span_is(send.headers[i].value, "sdk-secret"));
}

Test(launchdarkly, sdk_paths)
{
    static const struct {
        const char *path, *body;
        unsigned status;
        const char *target; /* NULL: nothing stored */
    } rows[] = {
        {"/bulk/", SDK_EVENTS, 202, "/bulk"},
        {"/bulk", "[]", 202, NULL},
        {"/bulk", "{\"kind\":\"diagnostic-init\"}", 202, "/diagnostic"},
        {"/mobile/events/bulk", "{\"kind\":\"diagnostic\"}", 202, "/mobile/events/diagnostic"},
        {"/diagnostic", "{\"kind\":\"diagnostic-init\"}", 202, "/diagnostic"},
        {"/diagnostic", "[{\"kind\":\"diagnostic-init\"}]", 400, NULL},
        {"/mobile", SDK_EVENTS, 202, "/mobile"},
        {"/mobile/events", SDK_EVENTS, 202, "/mobile/events"},
        {"/mobile/events/diagnostic", "{\"kind\":\"diagnostic\"}", 202, "/mobile/events/diagnostic"},
        {"/events/bulk/5f0c", SDK_EVENTS, 202, "/events/bulk/5f0c"},
        {"/events/bulk/5f0c", "{\"kind\":\"x\"}", 400, NULL},
        {"/events/diagnostic/5f0c", "{\"kind\":\"diagnostic\"}", 202, "/events/diagnostic/5f0c"},
        {"/bulk", "", 400, NULL},
        {"/bulk", "nonsense", 400, NULL},
        {"/bulk", "[{\"kind\":\"x\"}", 400, NULL},
        {"/bulk", "[7]", 400, NULL},
        {"/bulk", "[{\"kind\":7}]", 400, NULL},
        {"/bulk", "[{}]", 400, NULL},
        {"/bulk", "{}", 400, NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        unsigned status = sdk(rows[i].path, rows[i].body);
        cr_expect_eq(status, rows[i].status, "%s %s: %u", rows[i].path, rows[i].body, status);
        cr_assert_eq(fix.x.item_count, rows[i].target == NULL ? 0 : 1, "%s %s", rows[i].path, rows[i].body);
        if (rows[i].target != NULL)
            EXPECT_SPAN(opaque_target(fix.x.items[0].partition), rows[i].target);
    }
}

Test(launchdarkly, sdks_never_see_what_would_silence_them)
{
    static const char *const targets[] = {"/bulk", "/diagnostic", "/mobile", "/events/bulk/5f0c"};
    for (size_t t = 0; t < 4; t++) {
        for (enum api_condition c = COND_STORED; c <= COND_CONFLICT; c++) {
            const char *body = t == 1 ? "{\"kind\":\"diagnostic\"}" : SDK_EVENTS;
            unsigned status = fixture_request("POST", targets[t], sdk_headers, body, (size_t)-1, c);
            cr_expect(status == 202 || status == 400 || status == 413 || status == 429 || status == 503,
                      "%s %d: %u", targets[t], c, status);
        }
        cr_expect_eq(fixture_request("GET", targets[t], NULL, "", 0, COND_STORED), 503);
    }
    const char *no_key[] = {"content-type", "text/plain", NULL};
    cr_expect_eq(fixture_request("POST", "/bulk", no_key, SDK_EVENTS, (size_t)-1, COND_STORED), 202);
    fix.settings.access_token = SPAN("t");
    fix.x.settings = &fix.settings;
    cr_expect_eq(sdk("/bulk", SDK_EVENTS), 503);
    EXPECT_SPAN(fix.answer.body, "{\"message\":\"the output has no sdk_key\"}");
}

Test(launchdarkly, custom_events_of_sdks_become_imports)
{
    fixture_option("launchdarkly.import_custom", "true");
    fix.settings.access_token = SPAN("t");
    fix.x.settings = &fix.settings;
    cr_expect_eq(
        sdk("/bulk",
            "[{\"kind\":\"index\",\"context\":{}},"
            "{\"kind\":\"custom\",\"creationDate\":5,\"key\":\"p\",\"context\":{\"kind\":\"multi\","
            "\"user\":{\"key\":\"u-7\"},\"org\":{\"key\":\"o-2\",\"x\":1}},\"data\":{\"sku\":\"x\"},"
            "\"metricValue\":32.50},"
            "{\"kind\":\"custom\",\"creationDate\":6,\"key\":\"q\",\"context\":{\"kind\":\"user\",\"key\":"
            "\"u\"},\"data\":7},"
            "{\"kind\":\"custom\",\"creationDate\":7,\"key\":\"r\",\"contextKeys\":{\"user\":\"v\"}},"
            "{\"kind\":\"custom\",\"creationDate\":8,\"key\":\"s\"}]"),
        202);
    static const char *const expected[] = {
        "{\"kind\":\"custom\",\"key\":\"p\",\"creationDate\":5,\"metricValue\":32.50,\"contextKeys\":{"
        "\"user\":\"u-7\","
        "\"org\":\"o-2\"},\"data\":{\"sku\":\"x\"}}",
        "{\"kind\":\"custom\",\"key\":\"q\",\"creationDate\":6,\"contextKeys\":{\"user\":\"u\"}}",
        "{\"kind\":\"custom\",\"key\":\"r\",\"creationDate\":7,\"contextKeys\":{\"user\":\"v\"}}",
    };
    cr_assert_eq(fix.x.item_count, 3);
    for (int i = 0; i < 3; i++) {
        EXPECT_SPAN(fix.x.items[i].body, expected[i]);
        EXPECT_SPAN(fix.x.items[i].partition, "shop/production");
    }
    cr_assert_eq(fix.x.rejection_count, 1, "no context");
    cr_expect_eq(fix.x.rejections[0].index, 4);
    cr_expect_eq(sdk("/diagnostic", "{\"kind\":\"diagnostic\"}"), 202);
    cr_expect_eq(fix.x.item_count, 0, "there is no sdk_key to send it with");
    fix.settings.partition = (struct span){0};
    cr_expect_eq(sdk("/bulk", "[{\"kind\":\"custom\"}]"), 503);
}

Test(launchdarkly, browsers_get_cors)
{
    cr_expect_eq(fixture_request("OPTIONS", "/events/bulk/5f0c", NULL, "", 0, COND_STORED), 204);
    EXPECT_SPAN(fixture_answer_header("Access-Control-Allow-Origin"), "*");
    EXPECT_SPAN(fixture_answer_header("Access-Control-Allow-Methods"), "POST, OPTIONS");
    EXPECT_SPAN(fixture_answer_header("Access-Control-Allow-Headers"),
                "Cache-Control, Content-Type, Content-Length, Accept-Encoding, X-LaunchDarkly-Event-Schema, "
                "X-LaunchDarkly-User-Agent, X-LaunchDarkly-Payload-ID, X-LaunchDarkly-Wrapper, X-LaunchDarkly-Tags, "
                "X-LaunchDarkly-Instance-Id");
    cr_expect_eq(sdk("/events/bulk/5f0c", SDK_EVENTS), 202);
    EXPECT_SPAN(fixture_answer_header("Access-Control-Expose-Headers"), "Date");
    cr_expect_eq(sdk("/events/bulk/5f0c", "["), 400);
    EXPECT_SPAN(fixture_answer_header("Access-Control-Allow-Origin"), "*");
}

Test(launchdarkly, pixels)
{
    /* [{"kind":"click"}] in base64, with a space where a plus was lost in the second */
    cr_expect_eq(
        fixture_request("GET", "/a/5f0c.gif?x=1&d=W3sia2luZCI6ImNsaWNrIn1d", NULL, "", 0, COND_STORED), 200);
    EXPECT_SPAN(fix.answer.content_type, "image/gif");
    cr_expect_eq(fix.answer.body.len, 43);
    cr_assert_eq(fix.x.item_count, 1);
    EXPECT_SPAN(fix.x.items[0].body, "[{\"kind\":\"click\"}]");
    EXPECT_SPAN(opaque_target(fix.x.items[0].partition), "/events/bulk/5f0c");
    EXPECT_SPAN(opaque_header_of(fix.x.items[0].partition, "X-LaunchDarkly-Event-Schema"), "3");
    cr_expect_eq(fix.x.items[0].id.len, 36);
    cr_expect_eq(fixture_request("GET", "/a/5f0c.gif", NULL, "", 0, COND_STORED), 400);
    cr_expect_eq(fixture_request("GET", "/a/5f0c.gif?d=***", NULL, "", 0, COND_STORED), 400);
    cr_expect_eq(fixture_request("GET", "/a/5f0c.png?d=W10", NULL, "", 0, COND_STORED), 400);
    cr_expect_eq(fixture_request("GET", "/a/5f0c.gif?d=W10", NULL, "", 0, COND_STORED), 200);
    cr_expect_eq(fix.x.item_count, 0);
}

/* --- upstream ----------------------------------------------------------------------------------- */

Test(launchdarkly, import_request)
{
    struct api_batch b = {.partition = SPAN("shop/a b"), .payload_id = SPAN("5b7e"), .count = 1};
    struct api_send send;
    fix.settings.access_token = SPAN("api-1");
    cr_assert_eq(launchdarkly_api.request(&fix.settings, &b, &fix.arena, &send), OK);
    EXPECT_SPAN(send.target, "/v2/event-data-import/shop/a%20b");
    static const char *const expected[] = {"api-1", "application/json", "4", "5b7e",
                                           ("MetricImport-Penstock-int/penstock-" PENSTOCK_VERSION)};
    cr_assert_eq(send.header_count, 5);
    for (int i = 0; i < 5; i++)
        EXPECT_SPAN(send.headers[i].value, expected[i]);
    fixture_option("launchdarkly.company", "Acme");
    cr_assert_eq(launchdarkly_api.request(&fix.settings, &b, &fix.arena, &send), OK);
    EXPECT_SPAN(send.headers[4].value, "MetricImport-Acme-int/penstock-" PENSTOCK_VERSION);
}

Test(launchdarkly, judges)
{
    static const struct {
        unsigned status;
        enum api_action import, sdk;
    } rows[] = {
        {202, ACT_DELIVERED, ACT_DELIVERED},
        {200, ACT_DELIVERED, ACT_DELIVERED},
        {400, ACT_SPLIT, ACT_DEAD},
        {401, ACT_HOLD, ACT_HOLD_PARTITION},
        {403, ACT_HOLD_PARTITION, ACT_HOLD_PARTITION},
        {404, ACT_HOLD_PARTITION, ACT_DEAD},
        {406, ACT_HOLD, ACT_DEAD},
        {408, ACT_RETRY, ACT_RETRY},
        {409, ACT_SPLIT, ACT_DEAD},
        {413, ACT_SPLIT, ACT_DEAD},
        {415, ACT_PLAIN_RETRY, ACT_DEAD},
        {422, ACT_SPLIT, ACT_DEAD},
        {429, ACT_RETRY, ACT_RETRY},
        {500, ACT_RETRY, ACT_RETRY},
        {503, ACT_RETRY, ACT_RETRY},
        {302, ACT_HOLD, ACT_HOLD_PARTITION},
    };
    static const char *const bodies[] = {"", "{\"code\":\"invalid_request\",\"message\":\"x\"}", "<html>"};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (size_t k = 0; k < 3; k++) {
            struct api_reply reply = {.status = rows[i].status, .body = span_str(bodies[k])};
            struct api_batch import_batch = {.count = 2, .partition = SPAN("shop/production")};
            struct api_batch events = {.count = 1, .partition = SPAN("POST /bulk\n")};
            struct api_batch diagnostic = {.count = 1, .partition = SPAN("POST /mobile/events/diagnostic\n")};
            cr_expect_eq(fixture_judge_reply(&launchdarkly_api, &import_batch, &reply).action, rows[i].import,
                         "%u", rows[i].status);
            struct api_verdict v = fixture_judge_reply(&launchdarkly_api, &events, &reply);
            cr_expect_eq(v.action, rows[i].sdk, "%u: %d", rows[i].status, v.action);
            cr_expect(!v.expire_quietly);
            v = fixture_judge_reply(&launchdarkly_api, &diagnostic, &reply);
            cr_expect_eq(v.expire_quietly, v.action == ACT_DEAD, "%u", rows[i].status);
        }
    }
    cr_expect_eq(launchdarkly_api.expires_us(SPAN("POST /diagnostic\n")), UINT64_C(3600000000));
    cr_expect_eq(launchdarkly_api.expires_us(SPAN("shop/production")), 0);
}

Test(launchdarkly, the_payload_id_outlives_its_header)
{
    /* A request may wait for room, and by then its header's memory holds the next one. */
    char id[] = "0a4f3c2e-9d31-4c58-8a8e-5d0f3f7b1c22";
    const char *headers[] = {"X-LaunchDarkly-Payload-ID", id, NULL};
    cr_expect_eq(
        fixture_request("POST", "/bulk", headers, "[{\"kind\":\"custom\"}]", (size_t)-1, COND_STORED), 202);
    cr_assert_eq(fix.x.item_count, 1);
    memset(id, 'x', sizeof id - 1);
    EXPECT_SPAN(fix.x.items[0].id, "0a4f3c2e-9d31-4c58-8a8e-5d0f3f7b1c22");
}
