#include "tests/unit/http/server_driver.h"

#include "lib/base/ensure.h"

#include <stdlib.h>

void driver_init(struct driver *d, const struct http_limits *limits)
{
    memset(d, 0, sizeof *d);
    http_server_shared_init(&d->shared, limits == NULL ? &http_limits_default : limits);
    http_date_write(784111777, d->shared.date);
    http_server_init(&d->server, &d->shared);
    bytes_init(&d->log, 16 * 1024 * 1024);
    bytes_init(&d->out, 16 * 1024 * 1024);
    d->answer = true;
}

void driver_deinit(struct driver *d)
{
    http_server_deinit(&d->server);
    http_server_shared_deinit(&d->shared);
    bytes_deinit(&d->log);
    bytes_deinit(&d->out);
}

static void note(struct driver *d, const char *format, struct span a, struct span b, struct span c)
{
    enum err err = bytes_printf(&d->log, format, SPAN_FMT(a), SPAN_FMT(b), SPAN_FMT(c));
    ensure(err == OK);
}

static void note_request(struct driver *d, const struct http_request *r)
{
    note(d, "%.*s %.*s ?%.*s", r->method_name, r->path, r->query);
    for (unsigned i = 0; i < r->header_count; i++) {
        struct http_field f = http_request_field(r, i);
        note(d, " [%.*s=%.*s]%.*s", f.name, f.value, SPAN(""));
    }
    ensure(bytes_printf(&d->log, " %zu:", r->body.len) == OK);
    ensure(bytes_append(&d->log, r->body) == OK);
    ensure(bytes_append(&d->log, SPAN("\n")) == OK);
}

static void collect_output(struct driver *d)
{
    struct span out = http_server_output(&d->server);
    ensure(bytes_append(&d->out, out) == OK);
    http_server_sent(&d->server, out.len);
}

void driver_answer(struct driver *d, uint64_t handle, unsigned status, const char *body)
{
    const struct http_answer a = {
        .status = status, .content_type = SPAN("text/plain"), .body = span_str(body)};
    ensure(http_server_respond(&d->server, handle, &a) == OK);
    collect_output(d);
}

/* False when there is nothing more to be had from the bytes given. */
static bool handle_event(struct driver *d)
{
    const struct http_request *r;
    switch (http_server_next(&d->server, &r)) {
    case HTTP_SERVER_REQUEST:
        note_request(d, r);
        if (d->answer)
            driver_answer(d, r->handle, 202, "ok");
        else
            d->handles[d->handle_count++ % 64] = r->handle;
        return true;
    case HTTP_SERVER_EXPECT:
        note(d, "expect %.*s%.*s%.*s\n", r->path, SPAN(""), SPAN(""));
        return true;
    case HTTP_SERVER_REFUSED:
        ensure(bytes_printf(&d->log, "refused %u\n", d->shared.refusal.status) == OK);
        http_server_respond_refusal(&d->server, r->handle, &d->shared.refusal);
        collect_output(d);
        return true;
    case HTTP_SERVER_PAUSED:
        d->paused++;
        return false;
    case HTTP_SERVER_MORE:
    case HTTP_SERVER_DONE:
        return false;
    }
    return false;
}

void driver_pump(struct driver *d)
{
    while (handle_event(d))
        ;
    collect_output(d);
}

void driver_feed(struct driver *d, struct span in, size_t step)
{
    for (size_t at = 0; at < in.len; at += step) {
        size_t n = in.len - at < step ? in.len - at : step;
        /* A copy of exactly this size, so that reads beyond it or after it show. */
        uint8_t *piece = malloc(n);
        memcpy(piece, in.at + at, n);
        ensure(http_server_give(&d->server, span_of(piece, n)) == OK);
        driver_pump(d);
        free(piece);
    }
}

char *driver_run(const struct http_limits *limits, struct span in, size_t step)
{
    struct driver d;
    driver_init(&d, limits);
    driver_feed(&d, in, step);
    char *log = must_strndup(bytes_span(&d.log));
    driver_deinit(&d);
    return log;
}

unsigned driver_count(const struct bytes *b, const char *text)
{
    unsigned n = 0;
    const uint8_t *at = b->at, *end = b->at + b->len;
    while (at < end && (at = memmem(at, (size_t)(end - at), text, strlen(text))) != NULL) {
        n++;
        at += strlen(text);
    }
    return n;
}
