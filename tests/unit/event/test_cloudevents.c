/* cloudevents: the JSON forms. Good events say what they hold; bad ones are refused with the reason; what is
 * made for a bare event is made once. */
#include "tests/unit/event/reading.h"

#include "lib/base/hash.h"

#include <criterion/criterion.h>
#include <stdio.h>

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

TestSuite(cloudevents, .init = setup, .fini = teardown);

static enum err read_line(const char *text, struct event *e, struct fault *why)
{
    return event_read_line(&r.in, span_str(text), e, why);
}

Test(cloudevents, whole_event)
{
    struct event e;
    struct fault why;
    const char *text =
        "{\"specversion\":\"1.0\",\"id\":\"o-19\",\"source\":\"/shop/eu\",\"type\":\"com.acme.OrderPlaced\","
        "\"subject\":\"u-7\",\"time\":\"2026-05-04T11:12:33.004+02:00\",\"sampledrate\":3,\"severitynumber\":"
        "9,"
        "\"deprecated\":true,\"dataschema\":\"https://x/y\",\"datacontenttype\":\"application/json\","
        "\"data\":{\"total\":89.95 }}";
    cr_assert_eq(read_line(text, &e, &why), OK, "%s", why.text);
    EXPECT_SPAN(e.id, "o-19");
    EXPECT_SPAN(e.source, "/shop/eu");
    EXPECT_SPAN(e.type, "com.acme.OrderPlaced");
    EXPECT_SPAN(e.subject, "u-7");
    EXPECT_SPAN(e.time, "2026-05-04T11:12:33.004+02:00");
    cr_expect_eq(e.time_at.sec, 1777885953);
    cr_expect_eq(e.time_at.nsec, 4000000);
    cr_expect_eq(e.sampledrate, 3);
    cr_expect_eq(e.data_kind, EVENT_DATA_OBJECT);
    EXPECT_SPAN(e.data, "{\"total\":89.95 }");
    cr_expect(e.data_spaced);
    cr_expect_eq(e.ext_count, 2);
    cr_assert_not_null(event_ext_find(&e, "severitynumber"));
    cr_expect_eq(event_ext_find(&e, "severitynumber")->type, EVENT_EXT_INTEGER);
    cr_expect_eq(event_ext_find(&e, "deprecated")->type, EVENT_EXT_BOOL);
    cr_expect_null(event_ext_find(&e, "subject"));
    cr_expect(e.raw_complete);
    cr_expect_eq(e.key_hash, hash64(SPAN("o-19"), hash64(SPAN("/shop/eu"), 0)));
    cr_expect_eq(e.content_hash, hash64(span_str(text), 0));
}

Test(cloudevents, bare_event_is_completed)
{
    struct event a, b;
    struct fault why;
    cr_assert_eq(read_line("{\"type\":\"t\",\"data\":1}", &a, &why), OK, "%s", why.text);
    cr_assert_eq(read_line("{\"type\":\"t\",\"data\":1}", &b, &why), OK, "%s", why.text);
    EXPECT_SPAN(a.source, "web-1");
    EXPECT_SPAN(a.time, "2026-05-04T09:12:33.004Z");
    cr_expect_eq(a.sampledrate, 1);
    cr_expect_eq(a.id.len, 36);
    cr_expect_eq(a.id.at[14], '7', "a UUIDv7, got %.*s", SPAN_FMT(a.id));
    cr_expect(!span_equal(a.id, b.id), "two equal events are two events");
    cr_expect_eq(a.key_hash, 0, "an id that was made is not remembered");
    cr_expect(!a.raw_complete && a.raw_open);
}

/* Each line: the event, and the reason that its sender reads. */
static const struct {
    const char *text, *reason;
} refused[] = {
    {"[]", "must be a JSON object"},
    {"7", "must be a JSON object"},
    {"{}", "type: required"},
    {"{\"type\":null}", "type: required"},
    {"{\"type\":\"\"}", "type: must not be empty"},
    {"{\"type\":7}", "type: must be a string"},
    {"{\"type\":\"t\",\"type\":\"u\"}", "type: appears twice"},
    {"{\"type\":\"t\",\"\\u0074ype\":\"u\"}", "type: appears twice"},
    {"{\"type\":\"t\",\"x\":1,\"x\":null}", "x: appears twice"},
    {"{\"type\":\"t\",\"data\":1,\"data\":2}", "data: appears twice"},
    {"{\"type\":\"t\",\"specversion\":\"0.3\"}", "specversion: must be \"1.0\""},
    {"{\"type\":\"t\",\"specversion\":1.0}", "specversion: must be \"1.0\""},
    {"{\"type\":\"t\",\"specversion\":\"1.0\"}", "id: required"},
    {"{\"type\":\"t\",\"specversion\":\"1.0\",\"id\":\"1\"}", "source: required"},
    {"{\"type\":\"t\",\"id\":\"\"}", "id: must not be empty"},
    {"{\"type\":\"t\",\"source\":\"\"}", "source: must not be empty"},
    {"{\"type\":\"t\",\"source\":\"a b\"}",
     "source: not a URI (it has a space or another character that no URI may hold)"},
    {"{\"type\":\"t\",\"source\":\"%zz\"}", "source: not a URI (% without two hexadecimal digits)"},
    {"{\"type\":\"t\",\"subject\":\"\"}", "subject: must not be empty"},
    {"{\"type\":\"t\",\"subject\":7}", "subject: must be a string"},
    {"{\"type\":\"t\",\"subject\":\"a\\u0007\"}", "subject: has a control character"},
    {"{\"type\":\"t\",\"subject\":\"a\\u0085\"}", "subject: has a control character"},
    {"{\"type\":\"t\",\"subject\":\"a\\uffff\"}",
     "subject: has a character that Unicode reserves (a noncharacter)"},
    {"{\"type\":\"t\",\"time\":\"yesterday\"}", "time: not an RFC 3339 timestamp"},
    {"{\"type\":\"t\",\"time\":\"2026-05-04T11:12:33\"}", "time: not an RFC 3339 timestamp"},
    {"{\"type\":\"t\",\"dataschema\":\"/x\"}", "dataschema: not an absolute URI (no scheme)"},
    {"{\"type\":\"t\",\"datacontenttype\":\"json\"}", "datacontenttype: not a media type"},
    {"{\"type\":\"t\",\"datacontenttype\":\"text/plain\",\"data\":{}}",
     "data: must be a string when datacontenttype is not JSON"},
    {"{\"type\":\"t\",\"data\":null,\"data_base64\":\"AA==\"}", "data and data_base64 exclude each other"},
    {"{\"type\":\"t\",\"data_base64\":\"?\"}", "data_base64: not base64"},
    {"{\"type\":\"t\",\"data_base64\":7}", "data_base64: must be a string"},
    {"{\"type\":\"t\",\"sampleRate\":7}", "sampleRate: not an attribute name (only a-z and 0-9)"},
    {"{\"type\":\"t\",\"sample_rate\":7}", "sample_rate: not an attribute name (only a-z and 0-9)"},
    {"{\"type\":\"t\",\"\":7}", ": not an attribute name (only a-z and 0-9)"},
    {"{\"type\":\"t\",\"sampledrate\":0}", "sampledrate: must be a whole number from 1 to 2147483647"},
    {"{\"type\":\"t\",\"sampledrate\":2147483648}",
     "sampledrate: must be a whole number from 1 to 2147483647"},
    {"{\"type\":\"t\",\"sampledrate\":1.5}", "sampledrate: must be a whole number from 1 to 2147483647"},
    {"{\"type\":\"t\",\"sampledrate\":\"5\"}", "sampledrate: must be a whole number from 1 to 2147483647"},
    {"{\"type\":\"t\",\"x\":1.5}", "x: must be a whole number of 32 bits"},
    {"{\"type\":\"t\",\"x\":2147483648}", "x: must be a whole number of 32 bits"},
    {"{\"type\":\"t\",\"x\":{}}", "x: must be a string, a whole number, true or false"},
    {"{\"type\":\"t\",\"x\":[]}", "x: must be a string, a whole number, true or false"},
    {"{\"type\":\"t\",\"severitynumber\":-1}", "severitynumber: must be a whole number from 0 up"},
    {"{\"type\":\"t\",\"severitynumber\":\"9\"}", "severitynumber: must be a whole number from 0 up"},
    {"{\"type\":\"t\",\"expirytime\":\"soon\"}", "expirytime: not an RFC 3339 timestamp"},
    {"{\"type\":\"t\",\"partitionkey\":\"\"}", "partitionkey: must not be empty"},
    {"{\"type\":\"t\",\"traceparent\":1}", "traceparent: must be a string"},
};

Test(cloudevents, refusals_give_their_reason)
{
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        struct event e;
        struct fault why = {.err = OK};
        cr_expect_eq(read_line(refused[i].text, &e, &why), ERR_MALFORMED, "%s", refused[i].text);
        cr_expect_str_eq(why.text, refused[i].reason, "%s\n  says: %s\n  not:  %s", refused[i].text, why.text,
                         refused[i].reason);
    }
}

static const char *const accepted[] = {
    "{\"type\":\"t\",\"x\":null,\"y\":null}",
    "{\"type\":\"t\",\"id\":null,\"source\":null,\"time\":null,\"specversion\":null}",
    "{\"type\":\"t\",\"source\":\"/caf\xc3\xa9\"}",
    "{\"type\":\"t\",\"source\":\"urn:x:%20\"}",
    "{\"type\":\"t\",\"datacontenttype\":\"text/plain\",\"data\":\"x\"}",
    "{\"type\":\"t\",\"datacontenttype\":\"application/vnd.x+json; charset=utf-8\",\"data\":[1]}",
    "{\"type\":\"t\",\"sampledrate\":2147483647}",
    "{\"type\":\"t\",\"x\":-2147483648,\"y\":\"\"}",
    "{\"type\":\"t\",\"time\":\"1969-12-31T23:59:60Z\"}",
    "{\"type\":\"t\",\"data_base64\":\"AAE=\"}",
    " {\"type\" : \"t\"} ",
};

Test(cloudevents, legal_oddities_pass)
{
    for (size_t i = 0; i < sizeof accepted / sizeof accepted[0]; i++) {
        struct event e;
        struct fault why = {.err = OK};
        cr_expect_eq(read_line(accepted[i], &e, &why), OK, "%s: %s", accepted[i], why.text);
    }
}

Test(cloudevents, attribute_of_8192_bytes_is_the_longest)
{
    for (int extra = -1; extra <= 1; extra++) {
        char text[9000];
        struct event e;
        struct fault why;
        int n = snprintf(text, sizeof text, "{\"type\":\"t\",\"subject\":\"%0*d\"}",
                         EVENT_ATTRIBUTE_MAX + extra, 0);
        enum err err = event_read_line(&r.in, span_of(text, (size_t)n), &e, &why);
        cr_expect_eq(err, extra <= 0 ? OK : ERR_MALFORMED, "%d", extra);
    }
}

Test(cloudevents, extensions_up_to_64)
{
    for (int count = 63; count <= 65; count++) {
        char text[4096];
        struct event e;
        struct fault why;
        int n = snprintf(text, sizeof text, "{\"type\":\"t\"");
        for (int i = 0; i < count; i++)
            n += snprintf(text + n, sizeof text - (size_t)n, ",\"x%d\":%d", i, i);
        n += snprintf(text + n, sizeof text - (size_t)n, "}");
        enum err err = event_read_line(&r.in, span_of(text, (size_t)n), &e, &why);
        cr_expect_eq(err, count <= 64 ? OK : ERR_MALFORMED, "%d", count);
        if (err == OK)
            cr_expect_eq(e.ext_count, (unsigned)count);
    }
}

/* --- bodies ------------------------------------------------------------------------------------- */

static enum err read_body(enum event_form form, const char *body, struct event_list *list, uint32_t *index,
                          struct fault *why)
{
    *list = (struct event_list){.max = 10};
    *index = 99;
    return event_read_body(&r.in, form, span_str(body), list, index, why);
}

Test(cloudevents, batch_refuses_one_event_by_its_index)
{
    struct event_list list;
    struct fault why;
    uint32_t index;
    enum err err = read_body(EVENTS_BATCH,
                             "[{\"specversion\":\"1.0\",\"id\":\"a1\",\"source\":\"/s\",\"type\":\"t\"},"
                             "{\"specversion\":\"1.0\",\"id\":\"a2\",\"source\":\"/s\"}, 7]",
                             &list, &index, &why);
    cr_assert_eq(err, OK, "%s", why.text);
    cr_assert_eq(list.count, 1);
    cr_expect_eq(list.offered, 3);
    cr_assert_eq(list.refusal_count, 2);
    cr_expect_eq(list.refusals[0].index, 1);
    EXPECT_SPAN(list.refusals[0].text, "type: required");
    cr_expect_eq(list.refusals[1].index, 2);
}

Test(cloudevents, syntax_error_refuses_the_body_and_names_the_event)
{
    static const struct {
        enum event_form form;
        const char *body;
        uint32_t index;
        const char *begins;
    } rows[] = {
        {EVENTS_BARE, "[{\"type\":\"t\"},{\"type\":}]", 1, "event 1: byte 22: "},
        {EVENTS_BARE, "[{\"type\":\"t\"}", 1, "byte 13: "},
        {EVENTS_BARE, "[{\"type\":\"t\"}] x", 1, "byte 15: "},
        {EVENTS_BARE, "{\"type\":\"t\"", 0, "byte 11: "},
        {EVENTS_BARE, "{\"type\":\"\\ud800\"}", 0, "byte "},
        {EVENTS_BARE, "nonsense", 0, "expected a JSON object or an array of them"},
        {EVENTS_BARE, "xyz", 0, "byte 0: "},
        {EVENTS_BARE, "7", 0, "expected a JSON object or an array of them"},
        {EVENTS_ONE, "[]", 0, "expected one JSON object"},
        {EVENTS_BATCH, "{}", 0, "expected a JSON array"},
        {EVENTS_BARE, "{\"type\":\"t\"}\n{\"type\":\"t\"}", 0, "byte 13: "},
        {EVENTS_LOOSE, "{\"type\":\"t\"} {\"type\":\"t\"}", 0, "byte 13: "},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct event_list list;
        struct fault why = {.err = OK};
        uint32_t index;
        enum err err = read_body(rows[i].form, rows[i].body, &list, &index, &why);
        cr_expect_eq(err, ERR_MALFORMED, "%s", rows[i].body);
        cr_expect_eq(index, rows[i].index, "%s: %u", rows[i].body, index);
        cr_expect(strncmp(why.text, rows[i].begins, strlen(rows[i].begins)) == 0, "%s: %s", rows[i].body,
                  why.text);
    }
}

Test(cloudevents, forms_that_hold_none_one_or_more)
{
    static const struct {
        enum event_form form;
        const char *body;
        unsigned count, refused;
    } rows[] = {
        {EVENTS_BARE, "[]", 0, 0},
        {EVENTS_BARE, " [ ] ", 0, 0},
        {EVENTS_BARE, "\xef\xbb\xbf{\"type\":\"t\"}", 1, 0},
        {EVENTS_ONE, "{\"type\":\"t\"}", 0, 1}, /* declared, so it must say specversion */
        {EVENTS_LINES, "", 0, 0},
        {EVENTS_LINES, "\n\r\n  \n", 0, 0},
        {EVENTS_LINES, "\xef\xbb\xbf{\"type\":\"t\"}\r\n\n {\"type\":\"u\"}", 2, 0},
        {EVENTS_LINES, "{\"type\":\"t\"}\n{bad\n[]\n{\"type\":\"u\"}\n", 2, 2},
        {EVENTS_LOOSE, "{\"type\":\"t\"}\n{bad\n{\"type\":\"u\"}\n", 2, 1},
        {EVENTS_LOOSE, "{\"type\":\n\"t\"}\n", 1, 0},
        {EVENTS_LOOSE, "[{\"type\":\"t\"},{\"type\":\"t\"}]", 2, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct event_list list;
        struct fault why = {.err = OK};
        uint32_t index;
        enum err err = read_body(rows[i].form, rows[i].body, &list, &index, &why);
        cr_expect_eq(err, OK, "%s: %s", rows[i].body, why.text);
        cr_expect_eq(list.count, rows[i].count, "%s: %u", rows[i].body, list.count);
        cr_expect_eq(list.refusal_count, rows[i].refused, "%s: %u", rows[i].body, list.refusal_count);
        cr_expect_eq(list.offered, rows[i].count + rows[i].refused);
    }
}

Test(cloudevents, more_events_than_a_request_may_have)
{
    for (unsigned count = 9; count <= 11; count++) {
        for (int lines = 0; lines <= 1; lines++) {
            char body[256];
            int n = snprintf(body, sizeof body, "%s", lines ? "" : "[");
            for (unsigned i = 0; i < count; i++)
                n += snprintf(body + n, sizeof body - (size_t)n, "%s{\"type\":\"t\"}",
                              i == 0  ? ""
                              : lines ? "\n"
                                      : ",");
            snprintf(body + n, sizeof body - (size_t)n, "%s", lines ? "" : "]");
            struct event_list list;
            struct fault why;
            uint32_t index;
            enum err err = read_body(lines ? EVENTS_LINES : EVENTS_BARE, body, &list, &index, &why);
            cr_expect_eq(err, count <= 10 ? OK : ERR_TOO_BIG, "%u %d", count, lines);
        }
    }
}

Test(cloudevents, nesting_over_64_refuses_only_that_event)
{
    char body[512];
    size_t n = (size_t)snprintf(body, sizeof body, "[{\"type\":\"t\",\"data\":");
    for (int i = 0; i < 64; i++)
        body[n++] = '[';
    for (int i = 0; i < 64; i++)
        body[n++] = ']';
    n += (size_t)snprintf(body + n, sizeof body - n, "},{\"type\":\"t\"}]");
    struct event_list list = {.max = 10};
    struct fault why;
    uint32_t index;
    cr_assert_eq(event_read_body(&r.in, EVENTS_BARE, span_of(body, n), &list, &index, &why), OK, "%s",
                 why.text);
    cr_expect_eq(list.count, 1);
    cr_assert_eq(list.refusal_count, 1);
    EXPECT_SPAN(list.refusals[0].text, "nested deeper than 64 levels");
}

Test(cloudevents, a_lone_surrogate_refuses_only_that_event)
{
    struct span body = SPAN("[{\"type\":\"t\"},{\"type\":\"t\",\"data\":{\"a\":\"\\ud83d\"}},{\"type\":\"t\"}]");
    struct event_list list = {.max = 10};
    struct fault why;
    uint32_t index;
    cr_assert_eq(event_read_body(&r.in, EVENTS_BARE, body, &list, &index, &why), OK, "%s", why.text);
    cr_expect_eq(list.count, 2);
    cr_assert_eq(list.refusal_count, 1);
    cr_expect_eq(list.refusals[0].index, 1);
    EXPECT_SPAN(list.refusals[0].text, "high surrogate without a low one behind it");
}

Test(cloudevents, full_arena_is_said_and_not_crashed_on)
{
    for (size_t max = 0; max < 3000; max += 16) {
        struct arena small;
        struct event_list list = {.max = 10};
        struct fault why;
        uint32_t index;
        arena_init(&small, 256, max);
        struct event_reading in = r.in;
        in.arena = &small;
        enum err err =
            event_read_body(&in, EVENTS_BARE, SPAN("[{\"type\":\"t\\n\"},{\"type\":\"t\",\"x\":\"y\"}]"),
                            &list, &index, &why);
        cr_expect(err == OK || err == ERR_TOO_BIG, "%zu: %s", max, err_name(err));
        arena_deinit(&small);
    }
}

/* --- written again ------------------------------------------------------------------------------ */

static void expect_json(const char *line, bool one_line, const char *expected)
{
    struct event e;
    struct fault why;
    struct bytes out;
    cr_assert_eq(read_line(line, &e, &why), OK, "%s", why.text);
    bytes_init(&out, event_json_bound(&e));
    cr_assert_eq(event_append_json(&out, &e, one_line), OK, "%s", line);
    EXPECT_SPAN(bytes_span(&out), expected);
    bytes_deinit(&out);
}

Test(cloudevents, whole_events_are_written_as_they_came)
{
    const char *whole = "{ \"specversion\":\"1.0\", \"id\":\"\\u0031\",\"source\":\"/s\",\"type\":\"t\","
                        "\"time\":\"2026-05-04T11:12:33.004+02:00\",\"subject\":null,\n\"data\":[1.0, 2]}";
    expect_json(whole, false, whole);
    expect_json(whole, true,
                "{\"specversion\":\"1.0\",\"id\":\"\\u0031\",\"source\":\"/s\",\"type\":\"t\","
                "\"time\":\"2026-05-04T11:12:33.004+02:00\",\"subject\":null,\"data\":[1.0,2]}");
}

Test(cloudevents, what_was_left_out_is_put_in_front)
{
    expect_json("{\"id\":\"1\",\"type\":\"t\" , \"data\":{\"n\": 0.10}}", false,
                "{\"specversion\":\"1.0\",\"source\":\"web-1\",\"time\":\"2026-05-04T09:12:33.004Z\","
                "\"id\":\"1\",\"type\":\"t\" , \"data\":{\"n\": 0.10}}");
    expect_json("{\"id\":\"1\",\"type\":\"t\" ,\n \"data\":{\"n\": 0.10}}", true,
                "{\"specversion\":\"1.0\",\"source\":\"web-1\",\"time\":\"2026-05-04T09:12:33.004Z\","
                "\"id\":\"1\",\"type\":\"t\",\"data\":{\"n\":0.10}}");
}

Test(cloudevents, nulls_in_the_way_are_written_anew)
{
    expect_json(
        "{\"id\":\"1\",\"source\":null,\"type\":\"t\\\"\",\"x\":-7,\"b\":true,\"sampledrate\":2,"
        "\"data\":\"\\u0041\"}",
        false,
        "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"web-1\",\"type\":\"t\\\"\","
        "\"time\":\"2026-05-04T09:12:33.004Z\",\"sampledrate\":2,\"x\":-7,\"b\":true,\"data\":\"\\u0041\"}");
}

Test(cloudevents, event_from_parts)
{
    struct event e;
    struct fault why;
    struct instant at = {.sec = 1777885953, .nsec = 4000001};
    cr_assert_eq(event_make(&r.in, SPAN("id-1"), SPAN("docker.web"), SPAN("{\"log\":\"x\"}"), &at, &e, &why), OK, "%s",
                 why.text);
    EXPECT_SPAN(e.id, "id-1");
    cr_expect(e.id_given && e.key_hash != 0);
    EXPECT_SPAN(e.type, "docker.web");
    EXPECT_SPAN(e.time, "2026-05-04T09:12:33.004000001Z");
    EXPECT_SPAN(e.source, "web-1");
    cr_expect_eq(e.data_kind, EVENT_DATA_OBJECT);
    cr_expect_eq(event_make(&r.in, (struct span){0}, SPAN(""), SPAN("1"), NULL, &e, &why), ERR_MALFORMED);
    cr_assert_eq(event_make(&r.in, (struct span){0}, SPAN("t"), SPAN("-1"), &at, &e, &why), OK);
    cr_expect_eq(e.data_kind, EVENT_DATA_NUMBER);
    cr_expect(e.id.len == UUID_TEXT && !e.id_given && e.key_hash == 0);
    uint64_t hash = e.content_hash;
    cr_assert_eq(event_make(&r.in, (struct span){0}, SPAN("u"), SPAN("-1"), &at, &e, &why), OK);
    cr_expect_neq(e.content_hash, hash);
    cr_expect_eq(event_make(&r.in, (struct span){0}, SPAN("t\1"), SPAN("-1"), &at, &e, &why), ERR_MALFORMED);
    cr_expect_eq(event_make(&r.in, (struct span){0}, (struct span){0}, SPAN("-1"), &at, &e, &why), ERR_MALFORMED);
}
