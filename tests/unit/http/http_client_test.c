#include "lib/http/http_client.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

struct answer_case {
    const char *in;
    enum http_client_kind kind;
    enum http_client_state state; /* after all bytes and a clean end */
    unsigned status;
    bool reusable;
    const char *body;
};

static void read_in_steps(struct http_client *c, struct span in, size_t step)
{
    for (size_t at = 0; at < in.len; at += step) {
        size_t n = in.len - at < step ? in.len - at : step;
        uint8_t *piece = malloc(n);
        memcpy(piece, in.at + at, n);
        size_t used = http_client_feed(c, span_of(piece, n));
        free(piece);
        if (used < n)
            break;
    }
}

static void check(const struct answer_case *want, const struct http_client *c, size_t step)
{
    cr_expect_eq(c->state, want->state, "step %zu: state %d, not %d: %s", step, c->state, want->state,
                 want->in);
    if (want->state != HTTP_CLIENT_COMPLETE)
        return;
    cr_expect_eq(c->status, want->status, "step %zu: %s", step, want->in);
    cr_expect_eq(c->reusable, want->reusable, "step %zu: %s", step, want->in);
    cr_expect(span_is(bytes_span(&c->body), want->body), "step %zu: %s", step, want->in);
}

static const struct answer_case cases[] = {
    {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 0, HTTP_CLIENT_COMPLETE, 200, true, "ok"},
    {"HTTP/1.1 202\r\nContent-Length: 0\r\n\r\n", 0, HTTP_CLIENT_COMPLETE, 202, true, ""},
    {"HTTP/1.1 204 No Content\r\n\r\n", 0, HTTP_CLIENT_COMPLETE, 204, true, ""},
    {"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", 0, HTTP_CLIENT_COMPLETE, 204, true, ""},
    {"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 0, HTTP_CLIENT_COMPLETE, 304, true, ""},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1;x\r\nd\r\n0\r\nT: u\r\n\r\n", 0,
     HTTP_CLIENT_COMPLETE, 200, true, "abcd"},
    {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 201 Created\r\n"
     "Content-Length: 1\r\n\r\nx",
     0, HTTP_CLIENT_COMPLETE, 201, true, "x"},
    {"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", 0, HTTP_CLIENT_COMPLETE, 200,
     false, "ok"},
    {"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 0, HTTP_CLIENT_COMPLETE, 200, false, "ok"},
    {"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", 0, HTTP_CLIENT_COMPLETE, 200,
     true, "ok"},
    {"HTTP/1.1 200 OK\r\n\r\nuntil the end", 0, HTTP_CLIENT_COMPLETE, 200, false, "until the end"},
    {"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\n", HTTP_CLIENT_HEAD, HTTP_CLIENT_COMPLETE, 503, true, ""},
    {"HTTP/1.1 200 Connection established\r\n\r\n", HTTP_CLIENT_CONNECT, HTTP_CLIENT_COMPLETE, 200, true, ""},
    {"HTTP/1.1 407 No\r\nContent-Length: 2\r\n\r\nno", HTTP_CLIENT_CONNECT, HTTP_CLIENT_COMPLETE, 407, true,
     "no"},
    {"", 0, HTTP_CLIENT_NO_ANSWER, 0, false, ""},
    {"HTTP/1.1 100 Continue\r\n\r\n", 0, HTTP_CLIENT_NO_ANSWER, 0, false, ""},
    {"H", 0, HTTP_CLIENT_TORN, 0, false, ""},
    {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", 0, HTTP_CLIENT_TORN, 0, false, ""},
    {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", 0, HTTP_CLIENT_TORN, 0, false, ""},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", 0, HTTP_CLIENT_TORN, 0, false, ""},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n", 0, HTTP_CLIENT_TORN, 0, false,
     ""},
    {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 2", 0, HTTP_CLIENT_TORN, 0, false, ""},
    {"SSH-2.0-OpenSSH\r\n", 0, HTTP_CLIENT_MALFORMED, 0, false, ""},
    {"<html>", 0, HTTP_CLIENT_MALFORMED, 0, false, ""},
    {"HTTP/2.0 200 OK\r\n\r\n", 0, HTTP_CLIENT_MALFORMED, 0, false, ""},
    {"HTTP/1.1 99 OK\r\n\r\n", 0, HTTP_CLIENT_MALFORMED, 0, false, ""},
    {"HTTP/1.1 2000 OK\r\n\r\n", 0, HTTP_CLIENT_MALFORMED, 0, false, ""},
    {"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", 0, HTTP_CLIENT_MALFORMED, 0,
     false, ""},
    {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", 0, HTTP_CLIENT_MALFORMED, 0,
     false, ""},
    {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", 0, HTTP_CLIENT_MALFORMED,
     0, false, ""},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 0, HTTP_CLIENT_MALFORMED, 0, false, ""},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 0, HTTP_CLIENT_MALFORMED, 0, false, ""},
};

Test(http_client, reads_answers_however_they_are_cut)
{
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct span in = span_str(cases[i].in);
        for (size_t step = 1; step <= in.len + 1; step = step < 5 ? step + 1 : step * 3) {
            struct http_client c;
            http_client_init(&c, 1000);
            http_client_begin(&c, cases[i].kind);
            read_in_steps(&c, in, step);
            http_client_eof(&c, true);
            check(&cases[i], &c, step);
            http_client_deinit(&c);
        }
    }
}

Test(http_client, a_reset_tears_what_only_an_end_completes)
{
    struct http_client c;
    http_client_init(&c, 1000);
    read_in_steps(&c, SPAN("HTTP/1.1 200 OK\r\n\r\nuntil the en"), 100);
    http_client_eof(&c, false);
    cr_expect_eq(c.state, HTTP_CLIENT_TORN);
    http_client_begin(&c, HTTP_CLIENT_PLAIN);
    read_in_steps(&c, SPAN("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), 100);
    http_client_eof(&c, false);
    cr_expect_eq(c.state, HTTP_CLIENT_COMPLETE, "it was complete before");
    http_client_deinit(&c);
}

Test(http_client, one_connection_reads_many_answers)
{
    struct http_client c;
    http_client_init(&c, 1000);
    for (unsigned i = 0; i < 3; i++) {
        char in[200];
        snprintf(in, sizeof in, "HTTP/1.1 20%u OK\r\nRetry-After: %u\r\nContent-Length: 1\r\n\r\n%u", i, i,
                 i);
        http_client_begin(&c, HTTP_CLIENT_PLAIN);
        cr_expect_eq(http_client_feed(&c, span_str(in)), strlen(in));
        cr_expect_eq(c.status, 200 + i);
        cr_expect(c.reusable);
        cr_expect_eq(c.body.at[0], '0' + i);
        cr_expect_eq(http_client_header(&c, SPAN("retry-after")).at[0], '0' + i);
    }
    http_client_deinit(&c);
}

Test(http_client, bytes_that_nobody_asked_for_end_the_reuse)
{
    struct http_client c;
    http_client_init(&c, 1000);
    cr_expect_eq(http_client_feed(&c, SPAN("HTTP/1.1 204 x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n")), 18);
    cr_expect_eq(c.state, HTTP_CLIENT_COMPLETE);
    cr_expect_not(c.reusable);
    http_client_deinit(&c);
}

Test(http_client, bytes_after_a_connect_belong_to_the_tunnel)
{
    struct http_client c;
    http_client_init(&c, 1000);
    http_client_begin(&c, HTTP_CLIENT_CONNECT);
    const struct span in = SPAN("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n\x16\x03\x01");
    cr_expect_eq(http_client_feed(&c, in), in.len - 3);
    cr_expect_eq(c.state, HTTP_CLIENT_COMPLETE);
    cr_expect_eq(c.status, 200);
    http_client_deinit(&c);
}

Test(http_client, shows_headers_in_any_case_and_trimmed)
{
    struct http_client c;
    http_client_init(&c, 1000);
    read_in_steps(&c,
                  SPAN("HTTP/1.1 429 Slow\r\nRETRY-AFTER:  120 \r\nX-Empty:\r\nX-A: 1\r\nx-a: 2\r\n"
                       "Content-Encoding: gzip\r\nContent-Length: 0\r\n\r\n"),
                  3);
    cr_assert_eq(c.state, HTTP_CLIENT_COMPLETE);
    cr_expect(span_is(http_client_header(&c, SPAN("Retry-After")), "120"));
    cr_expect(span_is(http_client_header(&c, SPAN("X-A")), "1"));
    cr_expect(span_is(http_client_header(&c, SPAN("content-encoding")), "gzip"));
    cr_expect_not_null(http_client_header(&c, SPAN("x-empty")).at);
    cr_expect_null(http_client_header(&c, SPAN("x-none")).at);
    cr_expect_eq(http_client_header_count(&c), 6);
    http_client_deinit(&c);
}

Test(http_client, keeps_the_beginning_of_a_long_body)
{
    struct http_client c;
    http_client_init(&c, 4);
    for (size_t step = 1; step < 60; step += 7) {
        http_client_begin(&c, HTTP_CLIENT_PLAIN);
        read_in_steps(&c, SPAN("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789"), step);
        cr_expect_eq(c.state, HTTP_CLIENT_COMPLETE);
        cr_expect(c.body_cut && c.body_total == 10 && c.reusable);
        cr_expect(span_is(bytes_span(&c.body), "0123"));
    }
    http_client_deinit(&c);
}

static enum http_client_state feed_repeated(const char *start, const char *repeat, size_t bytes)
{
    struct http_client c;
    http_client_init(&c, 1000);
    read_in_steps(&c, span_str(start), 100);
    for (size_t n = 0; n < bytes && c.state == HTTP_CLIENT_READING; n += strlen(repeat))
        (void)http_client_feed(&c, span_str(repeat));
    enum http_client_state state = c.state;
    http_client_deinit(&c);
    return state;
}

Test(http_client, bounds_what_a_server_can_make_it_keep)
{
    cr_expect_eq(feed_repeated("HTTP/1.1 200 OK\r\nX: ", "xxxxxxxxxxxxxxxx", 70000), HTTP_CLIENT_MALFORMED);
    cr_expect_eq(feed_repeated("HTTP/1.1 200 OK\r\n", "yyyyyyyyyyyyyyyy", 70000), HTTP_CLIENT_MALFORMED);
    cr_expect_eq(feed_repeated("HTTP/1.1 200 ", "yyyyyyyyyyyyyyyy", 70000), HTTP_CLIENT_MALFORMED);
    cr_expect_eq(feed_repeated("HTTP/1.1 200 OK\r\n", "a:\r\n", 1000), HTTP_CLIENT_MALFORMED);
    cr_expect_eq(feed_repeated("", "HTTP/1.1 100 Continue\r\n\r\n", 200000), HTTP_CLIENT_MALFORMED);
    cr_expect_eq(
        feed_repeated("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nT: ", "tttttttt", 70000),
        HTTP_CLIENT_MALFORMED);
    cr_expect_eq(feed_repeated("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", "eeeeeeeee", 70000),
                 HTTP_CLIENT_MALFORMED);
}

Test(http_client, writes_request_heads)
{
    struct bytes out;
    bytes_init(&out, 1000);
    const struct http_field fields[] = {{SPAN("Content-Type"), SPAN("application/json")}};
    struct http_request_head h = {.method = SPAN("POST"),
                                  .target = SPAN("/p?q"),
                                  .authority = SPAN("h:1"),
                                  .fields = fields,
                                  .field_count = 1,
                                  .has_body = true,
                                  .content_length = 17};
    cr_assert_eq(http_request_head_write(&out, &h), OK);
    cr_expect(span_is(bytes_span(&out),
                      "POST /p?q HTTP/1.1\r\nHost: h:1\r\nContent-Type: application/json\r\n"
                      "Content-Length: 17\r\n\r\n"));
    bytes_clear(&out);
    cr_assert_eq(http_connect_write(&out, SPAN("h:443"), SPAN("Basic eDp5")), OK);
    cr_expect(span_is(bytes_span(&out),
                      "CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\nProxy-Authorization: Basic eDp5\r\n\r\n"));
    bytes_clear(&out);
    cr_assert_eq(http_connect_write(&out, SPAN("h:443"), (struct span){0}), OK);
    cr_expect(span_is(bytes_span(&out), "CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n"));
    bytes_deinit(&out);
}

Test(http_client, refuses_to_write_what_would_split)
{
    struct bytes out;
    bytes_init(&out, 1000);
    const struct http_field bad = {SPAN("X"), SPAN("a\r\nb: c")};
    const struct http_request_head heads[] = {
        {.method = SPAN("POST"), .target = SPAN("/a b"), .authority = SPAN("h")},
        {.method = SPAN("POST"), .target = SPAN("/a\r\n"), .authority = SPAN("h")},
        {.method = SPAN(""), .target = SPAN("/"), .authority = SPAN("h")},
        {.method = SPAN("POST"), .target = SPAN("/"), .authority = SPAN("h\r\n")},
        {.method = SPAN("POST"),
         .target = SPAN("/"),
         .authority = SPAN("h"),
         .fields = &bad,
         .field_count = 1},
    };
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
        cr_expect_eq(http_request_head_write(&out, &heads[i]), ERR_MALFORMED);
    cr_expect_eq(out.len, 0);
    bytes_deinit(&out);
}
