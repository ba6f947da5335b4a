/* cloudevents_binary: the HTTP binding's binary mode. */
#include "tests/unit/event/reading.h"

#include <criterion/criterion.h>
#include <strings.h>

#define EXPECT_SPAN(span, text) \
    cr_expect(span_is((span), (text)), "got \"%.*s\", expected \"%s\"", SPAN_FMT(span), (text))

static struct reading r;

static void setup(void)
{
    reading_init(&r);
}

static void teardown(void)
{
    reading_deinit(&r);
}

TestSuite(binary, .init = setup, .fini = teardown);

/* Headers as name, value, name, value, …, NULL. */
static bool next_header(const void *ctx, const char *prefix, unsigned *cursor, struct span *name,
                        struct span *value)
{
    const char *const *headers = ctx;
    for (; headers[*cursor] != NULL; *cursor += 2) {
        if (strncasecmp(headers[*cursor], prefix, strlen(prefix)) != 0)
            continue;
        *name = span_str(headers[*cursor]);
        *value = span_str(headers[*cursor + 1]);
        *cursor += 2;
        return true;
    }
    return false;
}

static enum err read_binary(const char *const *headers, const char *type, const char *body, struct event *e,
                            unsigned *warnings, struct fault *why)
{
    struct event_headers h = {.next = next_header, .ctx = headers};
    *warnings = 0;
    return event_read_binary(&r.in, &h, span_str(type), span_str(body), e, warnings, why);
}

#define BASE "ce-specversion", "1.0", "CE-Id", "b-1", "ce-source", "/app", "ce-type", "login"

Test(binary, attributes_from_headers_and_data_from_the_body)
{
    const char *headers[] = {"Host",
                             "x",
                             BASE,
                             "ce-subject",
                             "Zo%C3%AB%207",
                             "ce-SampledRate",
                             "30",
                             "ce-severitynumber",
                             "9",
                             "ce-datacontenttype",
                             "ignored",
                             "ce-other",
                             "9",
                             NULL};
    struct event e;
    struct fault why;
    unsigned warnings;
    cr_assert_eq(read_binary(headers, "application/json", "{\"ok\":true}", &e, &warnings, &why), OK, "%s",
                 why.text);
    EXPECT_SPAN(e.id, "b-1");
    EXPECT_SPAN(e.subject, "Zo\xc3\xab 7");
    EXPECT_SPAN(e.datacontenttype, "application/json");
    cr_expect_eq(e.sampledrate, 30);
    cr_expect_eq(e.data_kind, EVENT_DATA_OBJECT);
    EXPECT_SPAN(e.data, "{\"ok\":true}");
    cr_expect_eq(event_ext_find(&e, "severitynumber")->type, EVENT_EXT_INTEGER);
    cr_expect_eq(event_ext_find(&e, "other")->type, EVENT_EXT_STRING);
    cr_expect_null(event_ext_find(&e, "datacontenttype"));
    EXPECT_SPAN(e.time, "2026-05-04T09:12:33.004Z");
    cr_expect_eq(warnings, 0);

    struct bytes out;
    bytes_init(&out, event_json_bound(&e));
    cr_assert_eq(event_append_json(&out, &e, true), OK);
    EXPECT_SPAN(
        bytes_span(&out),
        "{\"specversion\":\"1.0\",\"id\":\"b-1\",\"source\":\"/app\",\"type\":\"login\","
        "\"subject\":\"Zo\xc3\xab 7\",\"time\":\"2026-05-04T09:12:33.004Z\","
        "\"datacontenttype\":\"application/json\",\"sampledrate\":30,\"severitynumber\":9,\"other\":\"9\","
        "\"data\":{\"ok\":true}}");
    bytes_deinit(&out);
}

Test(binary, header_values_in_every_dress)
{
    static const struct {
        const char *raw, *text;
        unsigned warnings;
    } rows[] = {
        {"plain", "plain", 0},
        {"\"quoted \\\"x\\\" \\\\\"", "quoted \"x\" \\", 0},
        {"\"half", "\"half", 0},
        {"a%20b", "a b", 0},
        {"a%2520b", "a%20b", 0}, /* one round only */
        {"100%", "100%", 0},
        {"%4", "%4", 0},
        {"%zz", "%zz", 0},
        {"user-\xe9 1", "user-\xc3\xa9 1", 1}, /* as JavaScript's SDK sends it */
        {"%E9", "\xc3\xa9", 1},
        {"\xe9\xe9\xe9\xe9\xe9\xe9", "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9", 1},
        {"\xc3\xa9", "\xc3\xa9", 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const char *headers[] = {BASE, "ce-subject", rows[i].raw, NULL};
        struct event e;
        struct fault why;
        unsigned warnings;
        cr_assert_eq(read_binary(headers, NULL, "", &e, &warnings, &why), OK, "%s: %s", rows[i].raw,
                     why.text);
        EXPECT_SPAN(e.subject, rows[i].text);
        cr_expect_eq(warnings, rows[i].warnings, "%s", rows[i].raw);
        cr_expect_eq(e.data_kind, EVENT_DATA_NONE);
    }
}

Test(binary, data_by_its_media_type)
{
    static const struct {
        const char *type, *body;
        enum event_data kind;
        const char *data; /* NULL: refused */
    } rows[] = {
        {"application/json", "[1]", EVENT_DATA_ARRAY, "[1]"},
        {"application/vnd.x+json; charset=utf-8", " 1 ", EVENT_DATA_NUMBER, "1"},
        {"application/json", "{\"a\":", EVENT_DATA_NONE, NULL},
        {"text/plain", "a\"b", EVENT_DATA_STRING, "\"a\\\"b\""},
        {"text/plain; charset=iso-8859-1", "ab", EVENT_DATA_BASE64, "YWI="},
        {"text/plain", "a\xff", EVENT_DATA_BASE64, "Yf8="},
        {"application/xml", "<a/>", EVENT_DATA_STRING, "\"<a/>\""},
        {"application/octet-stream", "ab", EVENT_DATA_BASE64, "YWI="},
        {NULL, "{\"a\":1}", EVENT_DATA_OBJECT, "{\"a\":1}"},
        {NULL, "ab", EVENT_DATA_BASE64, "YWI="},
        {"application/x-www-form-urlencoded", "{\"a\":1}", EVENT_DATA_OBJECT, "{\"a\":1}"},
        {"application/x-www-form-urlencoded", "a=1", EVENT_DATA_STRING, "\"a=1\""},
        {"nonsense", "a=1", EVENT_DATA_NONE, NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const char *headers[] = {BASE, NULL};
        struct event e;
        struct fault why;
        unsigned warnings;
        enum err err = read_binary(headers, rows[i].type, rows[i].body, &e, &warnings, &why);
        cr_expect_eq(err, rows[i].data == NULL ? ERR_MALFORMED : OK, "%s %s", rows[i].type, rows[i].body);
        if (err != OK)
            continue;
        cr_expect_eq(e.data_kind, rows[i].kind, "%s %s: %d", rows[i].type, rows[i].body, e.data_kind);
        EXPECT_SPAN(e.data, rows[i].data);
    }
}

Test(binary, refusals_give_their_reason)
{
    static const struct {
        const char *headers[12];
        const char *reason;
    } rows[] = {
        {{"ce-id", "1", "ce-source", "/a", "ce-type", "t"}, "ce-specversion: required"},
        {{"ce-specversion", "1.0", "ce-source", "/a", "ce-type", "t"}, "ce-id: required"},
        {{"ce-specversion", "1.0", "ce-id", "1", "ce-type", "t"}, "ce-source: required"},
        {{"ce-specversion", "1.0", "ce-id", "1", "ce-source", "/a"}, "ce-type: required"},
        {{"ce-specversion", "0.3"}, "ce-specversion: must be 1.0"},
        {{"ce-specversion", "1.0", "ce-specversion", "1.0"}, "ce-specversion: appears twice"},
        {{"ce-id", "1", "CE-ID", "1"}, "ce-id: appears twice"},
        {{"ce-x", "1", "ce-X", "2"}, "ce-x: appears twice"},
        {{"ce-sampledrate", "3", "ce-sampledrate", "3"}, "ce-sampledrate: appears twice"},
        {{"ce-id", ""}, "ce-id: must not be empty"},
        {{"ce-id", "a%00"}, "ce-id: has a control character"},
        {{"ce-data", "1"}, "ce-data: not an attribute name (only a-z and 0-9)"},
        {{"ce-a-b", "1"}, "ce-a-b: not an attribute name (only a-z and 0-9)"},
        {{"ce-time", "now"}, "ce-time: not an RFC 3339 timestamp"},
        {{"ce-sampledrate", "0"}, "ce-sampledrate: must be a whole number from 1 to 2147483647"},
        {{"ce-severitynumber", "x"}, "ce-severitynumber: must be a whole number from 0 up"},
        {{"ce-severitynumber", "007"}, "ce-severitynumber: must be a whole number from 0 up"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct event e;
        struct fault why = {.err = OK};
        unsigned warnings;
        cr_expect_eq(read_binary(rows[i].headers, NULL, "", &e, &warnings, &why), ERR_MALFORMED, "%zu", i);
        cr_expect_str_eq(why.text, rows[i].reason, "says %s, not %s", why.text, rows[i].reason);
    }
}

Test(binary, other_headers_or_body_make_other_content)
{
    const char *a[] = {BASE, "ce-x", "1", NULL}, *b[] = {BASE, "ce-x", "2", NULL};
    struct event first, second, third, again;
    struct fault why;
    unsigned warnings;
    cr_assert_eq(read_binary(a, NULL, "1", &first, &warnings, &why), OK);
    cr_assert_eq(read_binary(b, NULL, "1", &second, &warnings, &why), OK);
    cr_assert_eq(read_binary(a, NULL, "2", &third, &warnings, &why), OK);
    cr_assert_eq(read_binary(a, NULL, "1", &again, &warnings, &why), OK);
    cr_expect_eq(first.key_hash, second.key_hash);
    cr_expect_neq(first.content_hash, second.content_hash);
    cr_expect_neq(first.content_hash, third.content_hash);
    cr_expect_eq(first.content_hash, again.content_hash);
}
