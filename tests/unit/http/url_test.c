#include "lib/http/url.h"

#include "lib/base/ip.h"

#include <criterion/criterion.h>

struct url_case {
    const char *text;
    bool tls;
    const char *host;
    unsigned port;
    const char *path, *query; /* query NULL: none */
    const char *authority;
};

Test(url, takes_absolute_http_urls_apart)
{
    static const struct url_case cases[] = {
        {"http://localhost", false, "localhost", 80, "", NULL, "localhost"},
        {"HTTPS://Api.Honeycomb.io/", true, "Api.Honeycomb.io", 443, "/", NULL, "Api.Honeycomb.io"},
        {"https://h:8443/a/b?c=d?e", true, "h", 8443, "/a/b", "c=d?e", "h:8443"},
        {"http://[::1]:4318/v1", false, "::1", 4318, "/v1", NULL, "[::1]:4318"},
        {"https://[2001:db8::7]", true, "2001:db8::7", 443, "", NULL, "[2001:db8::7]"},
        {"http://10.0.0.1?q", false, "10.0.0.1", 80, "", "q", "10.0.0.1"},
        {"http://h:80/", false, "h", 80, "/", NULL, "h"},
        {"http://h:443/", false, "h", 443, "/", NULL, "h:443"},
        {"http://h:/x", false, "h", 80, "/x", NULL, "h"},
        {"http://a_b.example./", false, "a_b.example.", 80, "/", NULL, "a_b.example."},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct url u;
        struct fault why;
        cr_assert_eq(url_parse(span_str(cases[i].text), &u, &why), OK, "%s", cases[i].text);
        cr_expect_eq(u.tls, cases[i].tls, "%s", cases[i].text);
        cr_expect(span_is(u.host, cases[i].host), "%s", cases[i].text);
        cr_expect_eq(u.port, cases[i].port, "%s", cases[i].text);
        cr_expect(span_is(u.path, cases[i].path), "%s", cases[i].text);
        cr_expect_eq(u.query.at == NULL, cases[i].query == NULL, "%s", cases[i].text);
        cr_expect(span_is(u.query, cases[i].query == NULL ? "" : cases[i].query), "%s", cases[i].text);
        struct bytes b;
        bytes_init(&b, 300);
        cr_assert_eq(url_write_authority(&b, &u, false), OK);
        cr_expect(span_is(bytes_span(&b), cases[i].authority), "%s", cases[i].text);
        bytes_deinit(&b);
    }
}

Test(url, refuses_what_is_not_one)
{
    static const char *const bad[] = {
        "",
        "http:",
        "http:/x",
        "ftp://h/",
        "//h/",
        "h",
        "http://",
        "https:///path",
        "http://user@h/",
        "http://user:pw@h/",
        "http://h:0/",
        "http://h:65536/",
        "http://h:1x/",
        "http://h:+1/",
        "http://h/ x",
        "http://h/\x01",
        "http://h/\xc3\xa4",
        "http://h\xc3\xa4/",
        "http://h/#f",
        "http://a..b/",
        "http://.a/",
        "http://[::1/",
        "http://[::1]x/",
        "http://[1.2.3.4]/",
        "http://[::1%25eth0]/",
        "http://300.1.1.1/",
        "http://1.2.3/",
        "http://a%20b/",
        "http://h\\x/",
        "http://h/\"",
        "http://[:::]/",
        "http://[]/",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct url u = {.port = 7};
        struct fault why = {0};
        cr_expect_eq(url_parse(span_str(bad[i]), &u, &why), ERR_MALFORMED, "%s", bad[i]);
        cr_expect_eq(u.port, 7, "a failed call leaves the result alone");
        cr_expect_neq(why.text[0], '\0');
    }
}

Test(url, never_repeats_user_information_in_its_fault)
{
    struct url u;
    struct fault why;
    cr_assert_eq(url_parse(SPAN("https://u:hunter2@h/"), &u, &why), ERR_MALFORMED);
    cr_expect_null(strstr(why.text, "hunter2"));
}

Test(url, bounds_name_and_length)
{
    char text[400] = "http://";
    struct url u;
    memset(text + 7, 'a', 64);
    cr_expect_eq(url_parse(span_str(text), &u, NULL), ERR_MALFORMED, "a label of 64");
    text[7 + 63] = '\0';
    cr_expect_eq(url_parse(span_str(text), &u, NULL), OK, "a label of 63");
    struct bytes b;
    bytes_init(&b, 10000);
    cr_assert_eq(bytes_append(&b, SPAN("http://h/")), OK);
    while (b.len < URL_BYTES_MAX)
        cr_assert_eq(bytes_append_byte(&b, 'x'), OK);
    cr_expect_eq(url_parse(bytes_span(&b), &u, NULL), OK);
    cr_assert_eq(bytes_append_byte(&b, 'x'), OK);
    cr_expect_eq(url_parse(bytes_span(&b), &u, NULL), ERR_MALFORMED);
    bytes_deinit(&b);
}

Test(url, segments_survive_encoding_and_decoding)
{
    uint8_t all[256];
    for (unsigned i = 0; i < 256; i++)
        all[i] = (uint8_t)i;
    struct bytes encoded, decoded;
    bytes_init(&encoded, 1000);
    bytes_init(&decoded, 1000);
    cr_assert_eq(url_encode_segment(&encoded, span_of(all, 256)), OK);
    for (size_t i = 0; i < encoded.len; i++)
        cr_expect_null(strchr("/?#&= ", encoded.at[i]));
    cr_assert_eq(url_decode(&decoded, bytes_span(&encoded)), OK);
    cr_expect(span_equal(bytes_span(&decoded), span_of(all, 256)));
    bytes_deinit(&encoded);
    bytes_deinit(&decoded);
}

Test(url, decoding_refuses_half_escapes)
{
    static const char *const bad[] = {"%", "%4", "a%4", "%zz", "%4g", "%%41"};
    struct bytes b;
    bytes_init(&b, 100);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        cr_expect_eq(url_decode(&b, span_str(bad[i])), ERR_MALFORMED, "%s", bad[i]);
    cr_expect_eq(b.len, 0, "nothing is left behind");
    cr_assert_eq(url_decode(&b, SPAN("a+b%2Fc%e4")), OK);
    cr_expect(span_is(bytes_span(&b), "a+b/c\xe4"));
    bytes_deinit(&b);
}

Test(url, walks_path_segments)
{
    struct span rest = SPAN("/1/batch//x"), segment;
    const char *const want[] = {"1", "batch", "", "x"};
    for (size_t i = 0; i < 4; i++) {
        cr_assert(url_next_segment(&rest, &segment));
        cr_expect(span_is(segment, want[i]));
    }
    cr_expect_not(url_next_segment(&rest, &segment));
    rest = SPAN("/");
    cr_expect(url_next_segment(&rest, &segment) && segment.len == 0);
    cr_expect_not(url_next_segment(&rest, &segment));
}

Test(url, finds_query_values)
{
    struct span value;
    struct span query = SPAN("wait=30s&flag&empty=&wait=1s&waiting=x");
    cr_expect(url_query_value(query, "wait", &value) && span_is(value, "30s"));
    cr_expect(url_query_value(query, "flag", &value) && value.len == 0);
    cr_expect(url_query_value(query, "empty", &value) && value.len == 0);
    cr_expect(url_query_value(query, "waiting", &value) && span_is(value, "x"));
    cr_expect_not(url_query_value(query, "wai", &value));
    cr_expect_not(url_query_value((struct span){0}, "wait", &value));
}

Test(ip, reads_addresses_strictly)
{
    static const struct {
        const char *text;
        size_t len;
        uint8_t want[16];
    } cases[] = {
        {"1.2.3.4", 4, {1, 2, 3, 4}},
        {"255.255.255.255", 4, {255, 255, 255, 255}},
        {"::", 16, {0}},
        {"::1", 16, {[15] = 1}},
        {"1::", 16, {[1] = 1}},
        {"2001:db8::7", 16, {0x20, 0x01, 0x0d, 0xb8, [15] = 7}},
        {"1:2:3:4:5:6:7:8", 16, {0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7, 0, 8}},
        {"1:2:3:4:5:6:7::", 16, {0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7, 0, 0}},
        {"::ffff:1.2.3.4", 16, {[10] = 0xff, 0xff, 1, 2, 3, 4}},
        {"FE80::A", 16, {0xfe, 0x80, [15] = 0x0a}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t got[16] = {0};
        cr_expect_eq(ip_parse(span_str(cases[i].text), got), cases[i].len, "%s", cases[i].text);
        cr_expect_arr_eq(got, cases[i].want, cases[i].len, "%s", cases[i].text);
    }
    static const char *const bad[] = {
        "",
        "1",
        "1.2.3",
        "1.2.3.4.5",
        "256.1.1.1",
        "01.2.3.4",
        "1.2.3.4 ",
        "1..2.3",
        ":",
        ":1",
        "1:",
        ":::",
        "1::2::3",
        "1:2:3:4:5:6:7",
        "1:2:3:4:5:6:7:8:9",
        "1:2:3:4:5:6:7:8::",
        "12345::",
        "g::",
        "::1.2.3",
        "1:2:3:4:5:6:7:1.2.3.4",
        "fe80::1%eth0",
        "[::1]",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        uint8_t got[16];
        cr_expect_eq(ip_parse(span_str(bad[i]), got), 0, "%s", bad[i]);
    }
}
