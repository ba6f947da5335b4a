/* The server as a reader: which bytes are a request, wherever they are cut, and which are refused. */
#include "tests/unit/http/server_driver.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

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
