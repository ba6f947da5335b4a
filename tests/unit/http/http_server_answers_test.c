/* The server's answers: their order, what they say of the connection, streams, and readers that do not read. */
#include "tests/unit/http/server_driver.h"

#include <criterion/criterion.h>
#include <stdio.h>

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
        cr_expect_eq(driver_count(&d.out, "HTTP/1.1 200 OK\r\n"), order[i].out_after);
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
        cr_expect_eq(driver_count(&d.out, "Connection: close") > 0, cases[i].says_close, "%s", cases[i].line);
        cr_expect_eq(driver_count(&d.out, "Connection: keep-alive") > 0, cases[i].says_keep_alive, "%s",
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
    cr_expect_eq(driver_count(&d.out, "Connection: close"), 1);
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
    cr_expect_eq(driver_count(&d.out, "Retry-After: 2\r\n"), 1);
    cr_expect_eq(driver_count(&d.out, "HTTP/1.1"), 1);
    cr_expect(http_server_finished(&d.server));
    driver_deinit(&d);
}

Test(http_server, answers_to_head_have_no_body)
{
    struct driver d;
    driver_init(&d, NULL);
    driver_feed(&d, SPAN("HEAD / HTTP/1.1\r\n" HOST "\r\n"), 3);
    cr_expect_eq(driver_count(&d.out, "Content-Length: 2\r\n"), 1);
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
    cr_expect_eq(driver_count(&d.out, "late"), 1);
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
    cr_expect_eq(driver_count(&d.out, "chunked"), 0);
    cr_expect_eq(driver_count(&d.out, "Connection: close\r\n\r\nraw"), 1);
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
    cr_expect_eq(driver_count(&d.out, "a\r\n0123456789\r\n"), taken);
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
