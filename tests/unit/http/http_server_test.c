#include "tests/unit/http/server_driver.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#define HOST "Host: h\r\n"

static void expect_log(const char *in, const char *want)
{
    struct span bytes = span_str(in);
    for (size_t step = 1; step <= bytes.len + 1; step = step < 8 ? step + 1 : step * 3) {
        char *log = driver_run(NULL, bytes, step);
        cr_expect_str_eq(log, want, "in steps of %zu:\n%s\ngave:\n%s", step, in, log);
        free(log);
    }
}

struct refused_case {
    const char *in;
    unsigned status;
};

static void expect_refused(const struct refused_case *c)
{
    char want[32];
    snprintf(want, sizeof want, "refused %u\n", c->status);
    expect_log(c->in, want);
}

Test(http_server, reads_requests_however_they_are_cut)
{
    expect_log("GET / HTTP/1.1\r\n" HOST "\r\n", "GET / ? [Host=h] 0:\n");
    expect_log("POST /events?a=b HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello",
               "POST /events ?a=b [Host=h] [Content-Length=5] 5:hello\n");
    expect_log("POST /e HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
               "5\r\nhello\r\n1;x=y\r\n!\r\n0\r\nTrailer: t\r\n\r\n",
               "POST /e ? [Host=h] [Transfer-Encoding=chunked] 6:hello!\n");
    expect_log("POST /e HTTP/1.1\r\n" HOST "Transfer-Encoding: Chunked\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n",
               "POST /e ? [Host=h] [Transfer-Encoding=Chunked] 10:0123456789\n");
    expect_log("\r\n\r\nPUT /x HTTP/1.1\r\nhost:h\r\nEmpty:\r\nSpaces: \t a b \t \r\n\r\n",
               "PUT /x ? [host=h] [Empty=] [Spaces=a b] 0:\n");
}

Test(http_server, reads_pipelined_requests)
{
    expect_log("POST /1 HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\nab"
               "GET /2 HTTP/1.1\r\n" HOST "\r\n"
               "POST /3 HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n2\r\ncd\r\n0\r\n\r\n"
               "POST /4 HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\ne",
               "POST /1 ? [Host=h] [Content-Length=2] 2:ab\n"
               "GET /2 ? [Host=h] 0:\n"
               "POST /3 ? [Host=h] [Transfer-Encoding=chunked] 2:cd\n"
               "POST /4 ? [Host=h] [Content-Length=1] 1:e\n");
}

Test(http_server, takes_the_forms_of_a_target)
{
    expect_log("GET http://h:80/p?q HTTP/1.1\r\n" HOST "\r\n", "GET /p ?q [Host=h] 0:\n");
    expect_log("GET http://h HTTP/1.1\r\n" HOST "\r\n", "GET / ? [Host=h] 0:\n");
    expect_log("GET http://h?x HTTP/1.1\r\n" HOST "\r\n", "GET / ?x [Host=h] 0:\n");
    expect_log("OPTIONS * HTTP/1.1\r\n" HOST "\r\n", "OPTIONS * ? [Host=h] 0:\n");
}

Test(http_server, refuses_folded_lines)
{
    static const struct refused_case cases[] = {
        {"GET / HTTP/1.1\r\n" HOST "A: b\r\n c\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n" HOST "A: b\r\n\tc\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n" HOST "A:\r\n c\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n" HOST "A: \r\n \r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n" HOST "A:\r\n \r\nB: c\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n" HOST "A: b\r\n \r\nB: c\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n" HOST "A: b\r\n \r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n X: y\r\n" HOST "\r\n", 400},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length:\r\n 5\r\n\r\nhello", 400},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect_refused(&cases[i]);
}

Test(http_server, refuses_other_protocols_and_versions)
{
    static const struct refused_case cases[] = {
        {"GET /\r\n\r\n", 400},
        {"GET / HTTP/0.9\r\n" HOST "\r\n", 505},
        {"GET / HTTP/2.0\r\n" HOST "\r\n", 505},
        {"GET / HTTP/1.2\r\n" HOST "\r\n", 400},
        {"GET / HTTP/3.0\r\n" HOST "\r\n", 400},
        {"GET / http/1.1\r\n" HOST "\r\n", 400},
        {"OPTIONS rtsp://h/ RTSP/1.0\r\n" HOST "\r\n", 400},
        {"SOURCE / ICE/1.0\r\n" HOST "\r\n", 400},
        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400},
        {"GET  / HTTP/1.1\r\n" HOST "\r\n", 400},
        {"GET /  HTTP/1.1\r\n" HOST "\r\n", 400},
        {"GET / HTTP/1.1 \r\n" HOST "\r\n", 400},
        {"NONSENSE / HTTP/1.1\r\n" HOST "\r\n", 400},
        {"get / HTTP/1.1\r\n" HOST "\r\n", 400},
        {"\x16\x03\x01\x02\x01garbage", 400},
        {"CONNECT h:443 HTTP/1.1\r\n" HOST "\r\n", 405},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect_refused(&cases[i]);
}

Test(http_server, refuses_what_smuggles_requests)
{
    static const struct refused_case cases[] = {
        {"POST / HTTP/1.1\r\n" HOST "Content-Length : 5\r\n\r\nhello", 400},
        {"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 5, 5\r\n\r\nhello", 400},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: +5\r\n\r\nhello", 400},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: -5\r\n\r\nhello", 400},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 0x5\r\n\r\nhello", 400},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 5 5\r\n\r\nhello", 400},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 99999999999999999999\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" HOST
         "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
         400},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: identity\r\n\r\n", 501},
        {"POST / HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
        {"GET / HTTP/1.1\n" HOST "\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: h\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: h\r\n\n", 400},
        {"GET / HTTP/1.1\r\nHost: h\rX: y\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: h\x01\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHo st: h\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n: h\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
        {"GET /\x80 HTTP/1.1\r\n" HOST "\r\n", 400},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect_refused(&cases[i]);
}

Test(http_server, refuses_a_nul_in_a_header)
{
    static const char in[] = "GET / HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n";
    for (size_t step = 1; step < sizeof in; step++) {
        char *log = driver_run(NULL, span_of(in, sizeof in - 1), step);
        cr_expect_str_eq(log, "refused 400\n");
        free(log);
    }
}

Test(http_server, refuses_malformed_chunks)
{
    static const char *const chunks[] = {
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "x\r\n",
        "-1\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "ffffffffffffffffff\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof chunks / sizeof chunks[0]; i++) {
        char in[200];
        snprintf(in, sizeof in, "POST /e HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n%s",
                 chunks[i]);
        char *log = driver_run(NULL, span_str(in), 1000);
        cr_expect_str_eq(log, "refused 400\n", "%s gave %s", chunks[i], log);
        char *bytewise = driver_run(NULL, span_str(in), 1);
        cr_expect_str_eq(log, bytewise, "%s", chunks[i]);
        free(log);
        free(bytewise);
    }
}

/* A request of `total` head bytes, padded by one header or by many. */
static struct bytes padded_head(size_t total, size_t line)
{
    struct bytes b;
    bytes_init(&b, total + 200);
    cr_assert_eq(bytes_append(&b, SPAN("GET / HTTP/1.1\r\n" HOST)), OK);
    while (b.len + 4 + line < total) {
        cr_assert_eq(bytes_append(&b, SPAN("p: ")), OK);
        while (b.len % line != line - 2)
            cr_assert_eq(bytes_append_byte(&b, 'x'), OK);
        cr_assert_eq(bytes_append(&b, SPAN("\r\n")), OK);
    }
    cr_assert_eq(bytes_append(&b, SPAN("q: ")), OK);
    while (b.len + 4 < total)
        cr_assert_eq(bytes_append_byte(&b, 'y'), OK);
    cr_assert_eq(bytes_append(&b, SPAN("\r\n\r\n")), OK);
    cr_assert_eq(b.len, total);
    return b;
}

static void expect_status(struct bytes *in, const struct http_limits *limits, const char *want)
{
    static const size_t steps[] = {1, 7, 1000, 65536, 200000};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        char *log = driver_run(limits, bytes_span(in), steps[i]);
        cr_expect(strncmp(log, want, strlen(want)) == 0, "step %zu: wanted %s, got %.60s", steps[i], want,
                  log);
        free(log);
    }
    bytes_deinit(in);
}

Test(http_server, bounds_the_bytes_of_a_head)
{
    struct bytes in = padded_head(64 * 1024, 900);
    expect_status(&in, NULL, "GET /");
    in = padded_head(64 * 1024 + 1, 900);
    expect_status(&in, NULL, "refused 431");
    in = padded_head(64 * 1024, 200000);
    expect_status(&in, NULL, "GET /");
    in = padded_head(100000, 200000);
    expect_status(&in, NULL, "refused 431");
}

Test(http_server, bounds_the_number_of_headers)
{
    for (unsigned count = 127; count <= 129; count++) {
        struct bytes in;
        bytes_init(&in, 10000);
        cr_assert_eq(bytes_append(&in, SPAN("GET / HTTP/1.1\r\n" HOST)), OK);
        for (unsigned i = 1; i < count; i++)
            cr_assert_eq(bytes_append(&in, SPAN("a:\r\n")), OK);
        cr_assert_eq(bytes_append(&in, SPAN("\r\n")), OK);
        expect_status(&in, NULL, count <= HTTP_HEADERS_MAX ? "GET /" : "refused 431");
    }
}

Test(http_server, bounds_the_target)
{
    for (size_t len = 8191; len <= 8300; len += len == 8193 ? 107 : 1) {
        struct bytes in;
        bytes_init(&in, 10000);
        cr_assert_eq(bytes_append(&in, SPAN("GET /")), OK);
        for (size_t i = 1; i < len; i++)
            cr_assert_eq(bytes_append_byte(&in, 'u'), OK);
        cr_assert_eq(bytes_append(&in, SPAN(" HTTP/1.1\r\n" HOST "\r\n")), OK);
        expect_status(&in, NULL, len <= 8192 ? "GET /u" : "refused 414");
    }
    struct bytes endless;
    bytes_init(&endless, 200000);
    cr_assert_eq(bytes_append(&endless, SPAN("GET /")), OK);
    while (endless.len < 150000)
        cr_assert_eq(bytes_append_byte(&endless, 'u'), OK);
    expect_status(&endless, NULL, "refused 414");
}

Test(http_server, bounds_the_body_before_reading_it)
{
    struct http_limits limits = http_limits_default;
    limits.body_bytes_max = 10;
    static const struct {
        const char *rest, *want;
    } cases[] = {
        {"Content-Length: 10\r\n\r\n0123456789", "POST /e"},
        {"Content-Length: 11\r\n\r\n", "refused 413"},
        {"Content-Length: 18446744073709551615\r\n\r\n", "refused 413"},
        {"Transfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n", "POST /e"},
        {"Transfer-Encoding: chunked\r\n\r\nb\r\n", "refused 413"},
        {"Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n6\r\n", "refused 413"},
        {"Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\nffffffffffffffff\r\n", "refused 413"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bytes in;
        bytes_init(&in, 1000);
        cr_assert_eq(bytes_printf(&in, "POST /e HTTP/1.1\r\n" HOST "%s", cases[i].rest), OK);
        expect_status(&in, &limits, cases[i].want);
    }
}

Test(http_server, bounds_trailers_and_extensions)
{
    static const char *const lines[] = {"0\r\nt: ", "1;x="};
    for (size_t i = 0; i < 2; i++) {
        struct bytes in;
        bytes_init(&in, 200000);
        cr_assert_eq(
            bytes_append(&in, SPAN("POST /e HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n")), OK);
        cr_assert_eq(bytes_append(&in, span_str(lines[i])), OK);
        while (in.len < 150000)
            cr_assert_eq(bytes_append_byte(&in, 'u'), OK);
        expect_status(&in, NULL, "refused 400");
    }
}

Test(http_server, asks_before_a_body_that_wants_to_be_asked_for)
{
    static const char in[] =
        "POST /e HTTP/1.1\r\n" HOST "Expect: 100-Continue\r\nContent-Length: 2\r\n\r\nab";
    expect_log(in, "expect /e\nPOST /e ? [Host=h] [Expect=100-Continue] [Content-Length=2] 2:ab\n");
    struct driver d;
    driver_init(&d, NULL);
    driver_feed(&d, span_str(in), 1000);
    cr_expect(
        span_starts(bytes_span(&d.out), SPAN("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 Accepted\r\n")));
    driver_deinit(&d);
    static const struct refused_case bad = {
        "POST /e HTTP/1.1\r\n" HOST "Expect: tea\r\nContent-Length: 2\r\n\r\nab", 417};
    expect_refused(&bad);
    expect_log("POST /e HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 0\r\n\r\n",
               "POST /e ? [Host=h] [Expect=100-continue] [Content-Length=0] 0:\n");
    expect_log("POST /e HTTP/1.0\r\n" HOST "Expect: 100-continue\r\nContent-Length: 1\r\n\r\na",
               "POST /e ? [Host=h] [Expect=100-continue] [Content-Length=1] 1:a\n");
}

Test(http_server, an_early_answer_to_an_expectation_ends_the_connection)
{
    struct driver d;
    const struct http_request *r;
    driver_init(&d, NULL);
    cr_assert_eq(http_server_give(&d.server, SPAN("POST /e HTTP/1.1\r\n" HOST "Expect: 100-continue\r\n"
                                                  "Content-Length: 50\r\n\r\n")),
                 OK);
    cr_assert_eq(http_server_next(&d.server, &r), HTTP_SERVER_EXPECT);
    cr_expect(r->body_follows);
    driver_answer(&d, r->handle, 401, "no");
    cr_expect_eq(http_server_next(&d.server, &r), HTTP_SERVER_DONE);
    cr_expect(http_server_finished(&d.server));
    cr_expect_not_null(memmem(d.out.at, d.out.len, "Connection: close\r\n", 19));
    cr_expect_null(memmem(d.out.at, d.out.len, "100 Continue", 12));
    driver_deinit(&d);
}

Test(http_server, the_interim_answer_waits_for_its_turn)
{
    struct driver d;
    driver_init(&d, NULL);
    d.answer = false;
    driver_feed(&d,
                SPAN("GET /1 HTTP/1.1\r\n" HOST "\r\nPOST /2 HTTP/1.1\r\n" HOST "Expect: 100-continue\r\n"
                     "Content-Length: 2\r\n\r\n"),
                1000);
    cr_expect_eq(d.out.len, 0);
    driver_answer(&d, d.handles[0], 200, "one");
    cr_expect_not_null(memmem(d.out.at, d.out.len, "oneHTTP/1.1 100 Continue\r\n\r\n", 28));
    driver_feed(&d, SPAN("ab"), 1);
    cr_assert_eq(d.handle_count, 2);
    driver_answer(&d, d.handles[1], 200, "two");
    cr_expect(http_server_idle(&d.server));
    driver_deinit(&d);
}

static unsigned count_text(const struct bytes *b, const char *text)
{
    unsigned n = 0;
    const uint8_t *at = b->at, *end = b->at + b->len;
    while (at < end && (at = memmem(at, (size_t)(end - at), text, strlen(text))) != NULL) {
        n++;
        at += strlen(text);
    }
    return n;
}

Test(http_server, answers_leave_in_the_order_of_requests)
{
    struct driver d;
    driver_init(&d, NULL);
    d.answer = false;
    for (unsigned i = 0; i < 5; i++)
        driver_feed(&d, SPAN("GET / HTTP/1.1\r\n" HOST "\r\n"), 9);
    cr_assert_eq(d.handle_count, 5);
    static const struct {
        unsigned which;
        const char *body;
        unsigned out_after;
    } order[] = {{3, "<3>", 0}, {1, "<1>", 0}, {0, "<0>", 2}, {4, "<4>", 2}, {2, "<2>", 5}};
    for (size_t i = 0; i < 5; i++) {
        driver_answer(&d, d.handles[order[i].which], 200, order[i].body);
        cr_expect_eq(count_text(&d.out, "HTTP/1.1 200 OK\r\n"), order[i].out_after);
    }
    const uint8_t *last = d.out.at;
    for (unsigned i = 0; i < 5; i++) {
        char body[8];
        snprintf(body, sizeof body, "<%u>", i);
        const uint8_t *at = memmem(d.out.at, d.out.len, body, 3);
        cr_assert_not_null(at);
        cr_expect(at >= last);
        last = at;
    }
    cr_expect(http_server_idle(&d.server));
    driver_deinit(&d);
}

Test(http_server, pauses_when_too_many_answers_are_open)
{
    struct http_limits limits = http_limits_default;
    limits.pipeline_max = 4;
    struct driver d;
    driver_init(&d, &limits);
    d.answer = false;
    struct bytes in;
    bytes_init(&in, 10000);
    for (unsigned i = 0; i < 10; i++)
        cr_assert_eq(bytes_printf(&in, "POST /%u HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nab%u", i, i),
                     OK);
    driver_feed(&d, bytes_span(&in), in.len);
    cr_expect_eq(d.handle_count, 4);
    cr_expect_eq(d.paused, 1);
    cr_expect_not(http_server_can_read(&d.server));
    driver_answer(&d, d.handles[0], 200, "x");
    cr_expect_not(http_server_can_read(&d.server), "it waits for half of them to be answered");
    driver_answer(&d, d.handles[1], 200, "x");
    cr_expect(http_server_can_read(&d.server));
    driver_pump(&d);
    cr_expect_eq(d.handle_count, 6);
    while (http_server_open(&d.server) > 0) {
        driver_answer(&d, d.server.queue.first, 200, "x");
        driver_pump(&d);
    }
    cr_expect_eq(d.handle_count, 10);
    cr_expect_not_null(memmem(d.log.at, d.log.len, "POST /9", 7));
    cr_expect_eq(d.shared.held_bytes, 0);
    bytes_deinit(&in);
    driver_deinit(&d);
}

Test(http_server, pauses_when_answers_are_not_read)
{
    struct http_limits limits = http_limits_default;
    limits.out_bytes_pause = 1000;
    struct driver d;
    const struct http_request *r;
    driver_init(&d, &limits);
    unsigned answered = 0;
    char body[300];
    memset(body, 'b', sizeof body);
    const struct http_answer a = {.status = 200, .body = span_of(body, sizeof body)};
    enum http_server_event event;
    do {
        cr_assert_eq(http_server_give(&d.server, SPAN("GET / HTTP/1.1\r\n" HOST "\r\n")), OK);
        event = http_server_next(&d.server, &r);
        if (event == HTTP_SERVER_REQUEST) {
            cr_assert_eq(http_server_respond(&d.server, r->handle, &a), OK);
            answered++;
            event = http_server_next(&d.server, &r);
        }
    } while (event == HTTP_SERVER_MORE && answered < 100);
    cr_expect_eq(event, HTTP_SERVER_PAUSED);
    cr_expect(answered < 5);
    cr_expect_not(http_server_can_read(&d.server));
    http_server_sent(&d.server, http_server_output(&d.server).len);
    cr_expect(http_server_can_read(&d.server));
    cr_expect_eq(http_server_next(&d.server, &r), HTTP_SERVER_REQUEST, "the request kept while paused");
    driver_deinit(&d);
}

Test(http_server, keeps_and_closes_connections_as_the_request_says)
{
    static const struct {
        const char *line;
        bool open, says_close, says_keep_alive;
    } cases[] = {
        {"GET / HTTP/1.1\r\n" HOST "\r\n", true, false, false},
        {"GET / HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n", false, true, false},
        {"GET / HTTP/1.1\r\n" HOST "Connection: Keep-Alive, Close\r\n\r\n", false, true, false},
        {"GET / HTTP/1.0\r\n\r\n", false, true, false},
        {"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true, false, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct driver d;
        driver_init(&d, NULL);
        driver_feed(&d, span_str(cases[i].line), 5);
        driver_feed(&d, SPAN("GET /2 HTTP/1.1\r\n" HOST "\r\n"), 1000);
        cr_expect_eq(memmem(d.log.at, d.log.len, "GET /2", 6) != NULL, cases[i].open, "%s", cases[i].line);
        cr_expect_eq(http_server_finished(&d.server), !cases[i].open, "%s", cases[i].line);
        cr_expect_eq(count_text(&d.out, "Connection: close") > 0, cases[i].says_close, "%s", cases[i].line);
        cr_expect_eq(count_text(&d.out, "Connection: keep-alive") > 0, cases[i].says_keep_alive, "%s",
                     cases[i].line);
        driver_deinit(&d);
    }
}

Test(http_server, a_refusal_comes_after_the_answers_before_it)
{
    struct driver d;
    driver_init(&d, NULL);
    d.answer = false;
    driver_feed(&d, SPAN("GET /1 HTTP/1.1\r\n" HOST "\r\nBAD\r\n\r\nGET /3 HTTP/1.1\r\n" HOST "\r\n"), 1000);
    cr_expect_eq(d.handle_count, 1);
    cr_expect_eq(d.out.len, 0);
    driver_answer(&d, d.handles[0], 200, "one");
    const uint8_t *ok = memmem(d.out.at, d.out.len, "200 OK", 6);
    const uint8_t *bad = memmem(d.out.at, d.out.len, "400 Bad Request", 15);
    cr_assert(ok != NULL && bad != NULL);
    cr_expect(ok < bad);
    cr_expect_eq(count_text(&d.out, "Connection: close"), 1);
    cr_expect_not_null(memmem(d.out.at, d.out.len, "{\"error\":{\"code\":\"bad_request\",\"message\":", 41));
    cr_expect(http_server_finished(&d.server));
    driver_deinit(&d);
}

Test(http_server, an_answer_that_closes_ends_what_came_after_it)
{
    struct driver d;
    driver_init(&d, NULL);
    d.answer = false;
    for (unsigned i = 0; i < 3; i++)
        driver_feed(&d, SPAN("GET / HTTP/1.1\r\n" HOST "\r\n"), 100);
    const struct http_answer a = {.status = 503, .retry_after_s = 2, .close = true};
    cr_assert_eq(http_server_respond(&d.server, d.handles[0], &a), OK);
    cr_expect_eq(http_server_respond(&d.server, d.handles[1], &a), ERR_CLOSED);
    driver_feed(&d, SPAN("GET / HTTP/1.1\r\n" HOST "\r\n"), 100);
    cr_expect_eq(d.handle_count, 3);
    cr_expect_eq(count_text(&d.out, "Retry-After: 2\r\n"), 1);
    cr_expect_eq(count_text(&d.out, "HTTP/1.1"), 1);
    cr_expect(http_server_finished(&d.server));
    driver_deinit(&d);
}

Test(http_server, answers_to_head_have_no_body)
{
    struct driver d;
    driver_init(&d, NULL);
    driver_feed(&d, SPAN("HEAD / HTTP/1.1\r\n" HOST "\r\n"), 3);
    cr_expect_eq(count_text(&d.out, "Content-Length: 2\r\n"), 1);
    cr_expect_eq(memcmp(d.out.at + d.out.len - 4, "\r\n\r\n", 4), 0);
    driver_deinit(&d);
}

Test(http_server, every_answer_has_a_date_and_a_length)
{
    struct driver d;
    driver_init(&d, NULL);
    driver_feed(&d, SPAN("GET / HTTP/1.1\r\n" HOST "\r\n"), 100);
    cr_expect(span_is(bytes_span(&d.out), "HTTP/1.1 202 Accepted\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
                                          "Content-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"));
    driver_deinit(&d);
}

Test(http_server, headers_of_answers_cannot_be_split)
{
    struct driver d;
    driver_init(&d, NULL);
    d.answer = false;
    driver_feed(&d, SPAN("GET / HTTP/1.1\r\n" HOST "\r\n"), 100);
    const struct http_field bad[] = {{SPAN("X"), SPAN("a\r\nSet-Cookie: b")},
                                     {SPAN("X\r\nY"), SPAN("a")},
                                     {SPAN("X Y"), SPAN("a")},
                                     {SPAN(""), SPAN("a")}};
    for (size_t i = 0; i < 4; i++) {
        const struct http_answer a = {.status = 200, .fields = &bad[i], .field_count = 1};
        cr_expect_eq(http_server_respond(&d.server, d.handles[0], &a), ERR_MALFORMED);
    }
    const struct http_answer type = {.status = 200, .content_type = SPAN("a\nb")};
    cr_expect_eq(http_server_respond(&d.server, d.handles[0], &type), ERR_MALFORMED);
    cr_expect_eq(http_server_output(&d.server).len, 0);
    driver_answer(&d, d.handles[0], 200, "still possible");
    driver_deinit(&d);
}

Test(http_server, upgrades_are_not_followed)
{
    expect_log(
        "POST /e HTTP/1.1\r\n" HOST "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        "Content-Length: 1\r\n\r\naGET /2 HTTP/1.1\r\n" HOST "\r\n",
        "POST /e ? [Host=h] [Connection=Upgrade, HTTP2-Settings] [Upgrade=h2c] [Content-Length=1] 1:a\n"
        "GET /2 ? [Host=h] 0:\n");
    expect_log("GET /ws HTTP/1.1\r\n" HOST "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
               "GET /2 HTTP/1.1\r\n" HOST "\r\n",
               "GET /ws ? [Host=h] [Connection=Upgrade] [Upgrade=websocket] 0:\nGET /2 ? [Host=h] 0:\n");
    expect_log("POST /e HTTP/1.1\r\n" HOST
               "Connection: Upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n"
               "\r\n1\r\na\r\n0\r\n\r\nGET /2 HTTP/1.1\r\n" HOST "\r\n",
               "POST /e ? [Host=h] [Connection=Upgrade] [Upgrade=h2c] [Transfer-Encoding=chunked] 1:a\n"
               "GET /2 ? [Host=h] 0:\n");
}

Test(http_server, tells_begun_requests_from_silence)
{
    struct driver d;
    driver_init(&d, NULL);
    cr_expect_eq(http_server_reading(&d.server), 0);
    driver_feed(&d, SPAN("\r\n"), 1);
    cr_expect_eq(http_server_reading(&d.server), 0, "empty lines begin nothing");
    driver_feed(&d, SPAN("POST / HTTP/1.1\r\n"), 100);
    uint64_t first = http_server_reading(&d.server);
    cr_expect_neq(first, 0);
    driver_feed(&d, SPAN(HOST "Content-Length: 2\r\n\r\na"), 100);
    cr_expect_eq(http_server_reading(&d.server), first);
    driver_feed(&d, SPAN("b"), 1);
    cr_expect_eq(http_server_reading(&d.server), 0);
    cr_expect(http_server_idle(&d.server));
    driver_feed(&d, SPAN("G"), 1);
    cr_expect_eq(http_server_reading(&d.server), first + 1);
    driver_deinit(&d);
}

Test(http_server, a_slow_request_can_be_refused_from_outside)
{
    struct driver d;
    driver_init(&d, NULL);
    driver_feed(&d, SPAN("POST / HTTP/1.1\r\n" HOST "Content-Length: 20\r\n\r\nabc"), 7);
    http_server_refuse(&d.server, 408, "timeout", "the request took too long");
    driver_pump(&d);
    cr_expect_not_null(memmem(d.log.at, d.log.len, "refused 408\n", 12));
    cr_expect_eq(count_text(&d.out, "HTTP/1.1 408 Request Timeout\r\n"), 1);
    driver_feed(&d, SPAN("GET / HTTP/1.1\r\n" HOST "\r\n"), 100);
    cr_expect_eq(count_text(&d.out, "HTTP/1.1"), 1);
    cr_expect(http_server_finished(&d.server));
    driver_deinit(&d);
}

Test(http_server, a_connection_without_room_can_be_refused_at_once)
{
    struct driver d;
    driver_init(&d, NULL);
    http_server_refuse(&d.server, 503, "busy", "too many connections");
    driver_pump(&d);
    cr_expect(span_starts(bytes_span(&d.out), SPAN("HTTP/1.1 503 Service Unavailable\r\n")));
    cr_expect_eq(count_text(&d.out, "Retry-After: 1\r\n"), 1);
    cr_expect(http_server_finished(&d.server));
    driver_deinit(&d);
}

Test(http_server, answers_are_given_after_the_peer_has_ended)
{
    struct driver d;
    driver_init(&d, NULL);
    d.answer = false;
    driver_feed(&d, SPAN("GET /1 HTTP/1.1\r\n" HOST "\r\nGET /2 HT"), 100);
    http_server_eof(&d.server);
    cr_expect_not(http_server_finished(&d.server));
    driver_answer(&d, d.handles[0], 200, "late");
    cr_expect(http_server_finished(&d.server));
    cr_expect_eq(count_text(&d.out, "late"), 1);
    driver_deinit(&d);
}

Test(http_server, an_expectation_cut_off_is_owed_no_answer)
{
    struct driver d;
    driver_init(&d, NULL);
    driver_feed(&d, SPAN("POST / HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 2\r\n\r\na"),
                100);
    http_server_eof(&d.server);
    cr_expect(http_server_finished(&d.server));
    driver_deinit(&d);
}

Test(http_server, streams_in_chunks_and_in_order)
{
    struct driver d;
    driver_init(&d, NULL);
    d.answer = false;
    driver_feed(&d, SPAN("GET /1 HTTP/1.1\r\n" HOST "\r\nGET /tap HTTP/1.1\r\n" HOST "\r\n"), 1000);
    const struct http_answer a = {.status = 200, .content_type = SPAN("application/x-ndjson")};
    cr_assert_eq(http_server_stream_begin(&d.server, d.handles[1], &a), OK);
    cr_assert_eq(http_server_stream(&d.server, d.handles[1], SPAN("{}\n")), OK);
    cr_expect_eq(http_server_output(&d.server).len, 0);
    driver_answer(&d, d.handles[0], 200, "one");
    cr_assert_eq(http_server_stream(&d.server, d.handles[1], SPAN("")), OK);
    cr_assert_eq(http_server_stream(&d.server, d.handles[1], SPAN("0123456789abcdef")), OK);
    http_server_stream_end(&d.server, d.handles[1]);
    driver_pump(&d);
    static const char want[] =
        "Transfer-Encoding: chunked\r\n\r\n3\r\n{}\n\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n";
    cr_expect_not_null(memmem(d.out.at, d.out.len, want, sizeof want - 1));
    cr_expect(http_server_idle(&d.server));
    driver_deinit(&d);
}

Test(http_server, a_stream_to_http_1_0_ends_with_the_connection)
{
    struct driver d;
    driver_init(&d, NULL);
    d.answer = false;
    driver_feed(&d, SPAN("GET /tap HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"), 1000);
    const struct http_answer a = {.status = 200};
    cr_assert_eq(http_server_stream_begin(&d.server, d.handles[0], &a), OK);
    cr_assert_eq(http_server_stream(&d.server, d.handles[0], SPAN("raw")), OK);
    http_server_stream_end(&d.server, d.handles[0]);
    driver_pump(&d);
    cr_expect_eq(count_text(&d.out, "chunked"), 0);
    cr_expect_eq(count_text(&d.out, "Connection: close\r\n\r\nraw"), 1);
    cr_expect(http_server_finished(&d.server));
    driver_deinit(&d);
}

Test(http_server, a_stream_to_a_slow_reader_loses_pieces_not_framing)
{
    struct http_limits limits = http_limits_default;
    limits.out_bytes_max = 1000;
    struct driver d;
    driver_init(&d, &limits);
    d.answer = false;
    driver_feed(&d, SPAN("GET /tap HTTP/1.1\r\n" HOST "\r\n"), 1000);
    const struct http_answer a = {.status = 200};
    cr_assert_eq(http_server_stream_begin(&d.server, d.handles[0], &a), OK);
    unsigned taken = 0;
    while (http_server_stream(&d.server, d.handles[0], SPAN("0123456789")) == OK)
        cr_assert_lt(++taken, 1000);
    cr_expect_eq(http_server_stream(&d.server, d.handles[0], SPAN("0123456789")), ERR_FULL);
    http_server_stream_end(&d.server, d.handles[0]);
    driver_pump(&d);
    cr_expect_eq(count_text(&d.out, "a\r\n0123456789\r\n"), taken);
    cr_expect_eq(memcmp(d.out.at + d.out.len - 5, "0\r\n\r\n", 5), 0);
    driver_deinit(&d);
}

Test(http_server, an_answer_beyond_the_bound_is_refused_whole)
{
    struct http_limits limits = http_limits_default;
    limits.out_bytes_max = 1000;
    struct driver d;
    driver_init(&d, &limits);
    d.answer = false;
    driver_feed(&d, SPAN("GET /1 HTTP/1.1\r\n" HOST "\r\nGET /2 HTTP/1.1\r\n" HOST "\r\n"), 1000);
    static const char big[1001];
    const struct http_answer a = {.status = 200, .body = span_of(big, sizeof big)};
    const struct http_answer half = {.status = 200, .body = span_of(big, 600)};
    cr_expect_eq(http_server_respond(&d.server, d.handles[1], &a), ERR_TOO_BIG);
    cr_expect_eq(http_server_respond(&d.server, d.handles[1], &half), OK);
    cr_expect_eq(http_server_respond(&d.server, d.handles[0], &half), ERR_TOO_BIG, "both together pass it");
    driver_answer(&d, d.handles[0], 200, "small");
    cr_expect(http_server_idle(&d.server));
    driver_deinit(&d);
}

Test(http_server, a_whole_request_is_not_copied)
{
    struct driver d;
    const struct http_request *r;
    driver_init(&d, NULL);
    const struct span in =
        SPAN("POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello"
             "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n");
    cr_assert_eq(http_server_give(&d.server, in), OK);
    for (unsigned i = 0; i < 2; i++) {
        cr_assert_eq(http_server_next(&d.server, &r), HTTP_SERVER_REQUEST);
        cr_expect(r->body.at > in.at && r->body.at < in.at + in.len);
        cr_expect(r->head.at >= in.at && r->head.at < in.at + in.len);
        cr_expect_eq(d.shared.held_bytes, 0);
        driver_answer(&d, r->handle, 200, "");
    }
    cr_expect_eq(http_server_next(&d.server, &r), HTTP_SERVER_MORE);
    driver_deinit(&d);
}

Test(http_server, an_idle_connection_holds_nothing)
{
    struct driver d;
    driver_init(&d, NULL);
    driver_feed(&d, SPAN("POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello"), 4);
    cr_expect(http_server_idle(&d.server));
    cr_expect_eq(d.shared.held_bytes, 0);
    cr_expect_null(d.server.spill);
    cr_expect_leq(d.server.queue.out.cap, 1024);
    http_server_trim(&d.server);
    cr_expect_eq(d.server.queue.out.cap, 0);
    cr_expect_leq(sizeof d.server, 1024);
    driver_deinit(&d);
}

Test(http_server, requests_in_pieces_share_one_bound)
{
    struct http_limits limits = http_limits_default;
    limits.held_bytes_max = 40000;
    struct driver d;
    struct http_server second;
    driver_init(&d, &limits);
    http_server_init(&second, &d.shared);
    static uint8_t filler[30000];
    memset(filler, 'f', sizeof filler);
    driver_feed(&d, SPAN("POST /1 HTTP/1.1\r\n" HOST "Content-Length: 30001\r\n\r\n"), 1000);
    driver_feed(&d, span_of(filler, sizeof filler), 5000);
    const struct http_request *r;
    cr_assert_eq(http_server_give(&second, SPAN("POST /2 HTTP/1.1\r\n" HOST "Content-Length: 30001\r\n\r\n")),
                 OK);
    cr_expect_eq(http_server_next(&second, &r), HTTP_SERVER_MORE);
    cr_assert_eq(http_server_give(&second, span_of(filler, sizeof filler)), OK);
    cr_expect_eq(http_server_next(&second, &r), HTTP_SERVER_REFUSED);
    cr_expect_eq(d.shared.refusal.status, 503);
    cr_expect(span_is(r->path, "/2"), "the caller can choose the shape that the path wants");
    driver_feed(&d, SPAN("!"), 1);
    cr_expect_not_null(memmem(d.log.at, d.log.len, "POST /1", 7), "the first is not disturbed");
    http_server_deinit(&second);
    driver_deinit(&d);
}

/* --- bodies that wait for memory --- */

static struct http_server *let_go[8];
static unsigned let_go_count;

static void on_go_on(struct http_server *s)
{
    let_go[let_go_count++ % 8] = s;
}

struct budgets {
    struct budget small, large, working;
};

static void share_budgets(struct driver *d, struct budgets *b, uint64_t large)
{
    budget_init(&b->small, 300000);
    budget_init(&b->large, large);
    budget_init(&b->working, 1000);
    d->shared.small = &b->small;
    d->shared.large = &b->large;
    d->shared.working = &b->working;
    d->shared.go_on = on_go_on;
    let_go_count = 0;
}

static enum http_server_event give(struct http_server *s, struct span in, const struct http_request **r)
{
    cr_assert_eq(http_server_give(s, in), OK);
    return http_server_next(s, r);
}

Test(http_server, a_large_body_waits_for_memory_and_is_whole_in_the_end)
{
    static uint8_t filler[200000];
    struct driver d;
    struct budgets b;
    struct http_server second;
    struct budget_claim claim = {0};
    struct bytes body;
    const struct http_request *r;
    driver_init(&d, NULL);
    share_budgets(&d, &b, 500000);
    bytes_init(&body, SIZE_MAX);
    http_server_init(&second, &d.shared);
    memset(filler, 'f', sizeof filler);
    cr_assert_eq(give(&d.server, SPAN("POST /1 HTTP/1.1\r\n" HOST "Content-Length: 400000\r\n\r\n"), &r),
                 HTTP_SERVER_MORE);
    cr_expect_eq(b.large.used, 400000);
    cr_assert_eq(give(&second, SPAN("POST /2 HTTP/1.1\r\n" HOST "Content-Length: 300000\r\n\r\nabc"), &r),
                 HTTP_SERVER_PAUSED);
    cr_expect_not(http_server_can_read(&second));
    cr_expect_eq(http_server_reading(&second), 0, "request_timeout does not run while it is not read");
    cr_expect_not(http_server_idle(&second));
    cr_assert_eq(give(&d.server, span_of(filler, sizeof filler), &r), HTTP_SERVER_MORE);
    cr_assert_eq(give(&d.server, span_of(filler, sizeof filler), &r), HTTP_SERVER_REQUEST);
    cr_expect_eq(r->body.len, 400000);
    cr_assert(http_server_take_body(&d.server, &body, &claim));
    cr_expect_eq(body.len, 400000);
    driver_answer(&d, r->handle, 202, "ok");
    cr_expect_eq(http_server_next(&d.server, &r), HTTP_SERVER_MORE);
    cr_expect_eq(let_go_count, 0, "its body is the caller's now, and so is its claim");
    budget_release(&claim);
    cr_assert_eq(let_go_count, 1);
    cr_expect_eq(let_go[0], &second);
    cr_expect(http_server_can_read(&second));
    cr_assert_eq(http_server_next(&second, &r), HTTP_SERVER_MORE);
    cr_assert_eq(give(&second, span_of(filler, 150000), &r), HTTP_SERVER_MORE);
    cr_assert_eq(give(&second, span_of(filler, 149997), &r), HTTP_SERVER_REQUEST);
    cr_expect_eq(r->body.len, 300000);
    cr_expect(span_starts(r->body, SPAN("abcff")));
    bytes_deinit(&body);
    http_server_deinit(&second);
    driver_deinit(&d);
    cr_expect_eq(b.large.used + b.small.used, 0);
}

Test(http_server, a_body_in_chunks_waits_when_it_grows_large)
{
    static uint8_t filler[100000];
    char head[32];
    struct driver d;
    struct budgets b;
    struct budget_claim other = {.served = NULL};
    driver_init(&d, NULL);
    share_budgets(&d, &b, 100);
    memset(filler, 'f', sizeof filler);
    budget_take(&b.large, &other, 1);
    driver_feed(&d, SPAN("POST /1 HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"), 1000);
    for (unsigned i = 0; i < 2; i++) {
        snprintf(head, sizeof head, "%zx\r\n", sizeof filler);
        driver_feed(&d, span_str(head), 100);
        driver_feed(&d, span_of(filler, sizeof filler), 50000);
        driver_feed(&d, SPAN("\r\n"), 100);
    }
    cr_expect_eq(d.paused, 0);
    cr_expect_eq(b.small.used, HTTP_SMALL_BODY);
    driver_feed(&d, span_str(head), 100);
    const struct http_request *r;
    cr_expect_eq(give(&d.server, span_of(filler, sizeof filler), &r), HTTP_SERVER_PAUSED);
    cr_expect_not(http_server_can_read(&d.server));
    budget_release(&other);
    cr_expect_eq(let_go_count, 1);
    cr_expect_eq(http_server_next(&d.server, &r), HTTP_SERVER_MORE);
    cr_expect_eq(b.small.used, 0);
    cr_expect_eq(b.large.used, d.shared.limits.body_bytes_max);
    driver_feed(&d, SPAN("\r\n0\r\n\r\n"), 1000);
    cr_expect_not_null(memmem(d.log.at, d.log.len, " 300000:fff", 11));
    driver_deinit(&d);
    cr_expect_eq(b.large.used, 0);
}

Test(http_server, no_request_begins_while_too_much_is_being_worked_on)
{
    struct driver d;
    struct budgets b;
    struct budget_claim work = {.served = NULL};
    driver_init(&d, NULL);
    share_budgets(&d, &b, 100);
    budget_take(&b.working, &work, 2000);
    driver_feed(&d, SPAN("POST /1 HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\nok"), 1000);
    cr_expect_eq(d.paused, 1);
    cr_expect_not(http_server_can_read(&d.server));
    cr_expect_eq(d.log.len, 0);
    budget_release(&work);
    cr_expect_eq(let_go_count, 1);
    cr_expect(http_server_can_read(&d.server));
    driver_pump(&d);
    cr_expect_not_null(memmem(d.log.at, d.log.len, "POST /1", 7));
    cr_expect_eq(b.working.used, 0);
    driver_deinit(&d);
}

Test(http_server, one_that_waits_for_memory_can_go)
{
    struct driver d;
    struct budgets b;
    struct budget_claim other = {.served = NULL};
    const struct http_request *r;
    driver_init(&d, NULL);
    share_budgets(&d, &b, 100);
    budget_take(&b.large, &other, 1);
    cr_assert_eq(give(&d.server, SPAN("POST /2 HTTP/1.1\r\n" HOST "Content-Length: 300000\r\n\r\nabc"), &r),
                 HTTP_SERVER_PAUSED);
    driver_deinit(&d);
    budget_release(&other);
    cr_expect_eq(let_go_count, 0);
    cr_expect_eq(b.large.used, 0);
}

Test(http_server, a_refused_body_shows_its_path)
{
    struct http_limits limits = http_limits_default;
    limits.body_bytes_max = 3;
    struct driver d;
    const struct http_request *r;
    driver_init(&d, &limits);
    cr_assert_eq(http_server_give(&d.server, SPAN("POST /1/events/x HTTP/1.1\r\n" HOST "X-Team: t\r\n"
                                                  "Content-Length: 4\r\n\r\nabcd")),
                 OK);
    cr_assert_eq(http_server_next(&d.server, &r), HTTP_SERVER_REFUSED);
    cr_expect(span_is(r->path, "/1/events/x"));
    cr_expect(span_is(http_request_header(r, SPAN("x-team")), "t"));
    http_server_respond_refusal(&d.server, r->handle, &d.shared.refusal);
    cr_expect_eq(http_server_next(&d.server, &r), HTTP_SERVER_DONE);
    driver_deinit(&d);
}

Test(http_server, headers_are_looked_up_in_any_case)
{
    struct driver d;
    const struct http_request *r;
    driver_init(&d, NULL);
    cr_assert_eq(
        http_server_give(
            &d.server,
            SPAN("POST /e HTTP/1.1\r\nhOST: h\r\nCONTENT-TYPE: application/json\r\ncontent-encoding: gzip\r\n"
                 "AUTHORIZATION: Bearer t\r\nOrigin: o\r\nUser-Agent: u\r\nX-A: 1\r\nx-a: 2\r\nX-Ab: 3\r\n"
                 "Content-Lengthy: 7\r\n\r\n")),
        OK);
    cr_assert_eq(http_server_next(&d.server, &r), HTTP_SERVER_REQUEST);
    cr_expect(span_is(http_request_known(r, HTTP_KNOWN_HOST), "h"));
    cr_expect(span_is(http_request_known(r, HTTP_KNOWN_CONTENT_TYPE), "application/json"));
    cr_expect(span_is(http_request_known(r, HTTP_KNOWN_CONTENT_ENCODING), "gzip"));
    cr_expect(span_is(http_request_known(r, HTTP_KNOWN_AUTHORIZATION), "Bearer t"));
    cr_expect(span_is(http_request_known(r, HTTP_KNOWN_ORIGIN), "o"));
    cr_expect(span_is(http_request_known(r, HTTP_KNOWN_USER_AGENT), "u"));
    cr_expect_null(http_request_known(r, HTTP_KNOWN_CONTENT_LENGTH).at);
    cr_expect_null(http_request_known(r, HTTP_KNOWN_EXPECT).at);
    cr_expect(span_is(http_request_lookup(r, "x-A"), "1"));
    cr_expect_null(http_request_lookup(r, "x-").at);
    unsigned cursor = 0, found = 0;
    struct span name, value;
    while (http_request_next(r, "X-a", &cursor, &name, &value))
        found += (unsigned)(value.at[0] - '0');
    cr_expect_eq(found, 6);
    cr_expect_eq(r->method, HTTP_METHOD_POST);
    driver_deinit(&d);
}

Test(http_server, a_copied_request_outlives_its_bytes)
{
    struct driver d;
    const struct http_request *r;
    struct arena arena;
    arena_init(&arena, 4096, 65536);
    driver_init(&d, NULL);
    char *in = must_strdup("POST /e?q=1 HTTP/1.1\r\n" HOST "A: b\r\nContent-Length: 2\r\n\r\nxy");
    cr_assert_eq(http_server_give(&d.server, span_str(in)), OK);
    cr_assert_eq(http_server_next(&d.server, &r), HTTP_SERVER_REQUEST);
    struct http_request *copy = http_request_copy(r, &arena);
    cr_assert_not_null(copy);
    cr_expect_eq(http_server_next(&d.server, &r), HTTP_SERVER_MORE);
    memset(in, 'Z', strlen(in));
    free(in);
    cr_expect(span_is(copy->path, "/e") && span_is(copy->query, "q=1") && span_is(copy->body, "xy"));
    cr_expect(span_is(http_request_lookup(copy, "a"), "b"));
    arena_deinit(&arena);
    driver_deinit(&d);
}

Test(http_server, random_requests_are_read_the_same_in_any_pieces)
{
    static const char *const parts[] = {
        "POST /e HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello",
        "GET /?a HTTP/1.1\r\n" HOST "\r\n",
        "\r\n",
        "POST /c HTTP/1.1\r\n" HOST
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4;e\r\ndefg\r\n0\r\nT: u\r\n\r\n",
        "GET / HTTP/1.1\r\n" HOST "A: b\r\n c\r\n\r\n",
        "PUT / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        "POST /x HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 1\r\n\r\nz",
        "junk",
    };
    srandom(7);
    for (unsigned round = 0; round < 300; round++) {
        struct bytes in;
        bytes_init(&in, 10000);
        for (unsigned i = 0; i < 5; i++)
            cr_assert_eq(bytes_append(&in, span_str(parts[(size_t)random() % 8])), OK);
        if (round % 3 == 0)
            in.at[(size_t)random() % in.len] = (uint8_t)random();
        char *whole = driver_run(NULL, bytes_span(&in), in.len);
        size_t steps[] = {1, 2 + (size_t)random() % 50};
        for (size_t i = 0; i < 2; i++) {
            char *cut = driver_run(NULL, bytes_span(&in), steps[i]);
            cr_expect_str_eq(whole, cut, "round %u, steps of %zu", round, steps[i]);
            free(cut);
        }
        free(whole);
        bytes_deinit(&in);
    }
}
