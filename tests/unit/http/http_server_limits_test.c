/* The server's bounds: of what one request may bring, of the time it may take, and of the memory of all. */
#include "tests/unit/http/server_driver.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

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
    cr_expect_eq(driver_count(&d.out, "HTTP/1.1 408 Request Timeout\r\n"), 1);
    driver_feed(&d, SPAN("GET / HTTP/1.1\r\n" HOST "\r\n"), 100);
    cr_expect_eq(driver_count(&d.out, "HTTP/1.1"), 1);
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
    cr_expect_eq(driver_count(&d.out, "Retry-After: 1\r\n"), 1);
    cr_expect(http_server_finished(&d.server));
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
