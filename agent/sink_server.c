/* sink_server: see the header.
 *
 * A connection does one thing at a time: read until a request is whole, have it served (sink_check.h), send the answer,
 * read on. The answer is made at once, as bytes, so that everything a rule can ask of it afterwards (wait, drip, cut,
 * drop, reset) is done to bytes and needs no knowledge of HTTP. That is why it does not stand on http_front, which exists
 * to write well-formed answers as few and as soon as it can. */
#include "agent/sink_server.h"

#include "lib/base/ensure.h"
#include "lib/base/http_date.h"
#include "lib/tls/tls.h"

#include <stdlib.h>
#include <time.h>

enum { READ_BYTES = 64 * 1024, CONNS_BACKLOG = 512, OUT_BYTES_MAX = 64 << 20 };

enum ending { END_NOT, END_CLOSE, END_RESET };

struct conn {
    struct list node;
    struct sink_server *server;
    uv_tcp_t tcp;
    uv_timer_t timer; /* delay and drip */
    unsigned handles_open;
    bool closing, eof;
    bool busy;           /* a request has been served and its answer is not sent yet */
    bool due;            /* its answer has not been begun */
    enum ending ending;  /* what follows when `out` is sent */
    struct http_server http;
    /* The answer as it was made, until it is due; the rule may be gone by then. */
    uint64_t handle;
    unsigned status;
    char type[128];
    struct bytes reply, headers;
    enum sink_hangup hangup;
    bool garbage_http;
    uint64_t delay_ms, drip_ms;
    struct tls_session *tls;
    bool shaken;
    struct bytes out; /* plain bytes of the answer that is being sent */
    size_t out_at;    /* sent of them */
    uint64_t reading; /* http_server_reading() at the last look */
};

struct write {
    uv_write_t request;
    struct conn *conn;
    struct bytes bytes;
};

static void drive(struct conn *c);

/* --- the end of a connection -------------------------------------------------------------------------- */

static void on_conn_closed(uv_handle_t *handle)
{
    struct conn *c = handle->data;
    ensure(c->closing && c->handles_open > 0);
    if (--c->handles_open > 0)
        return;
    list_remove(&c->node);
    http_server_deinit(&c->http);
    tls_session_free(c->tls);
    bytes_deinit(&c->out);
    bytes_deinit(&c->reply);
    bytes_deinit(&c->headers);
    free(c);
}

static void flush_tls(struct conn *c);

static void conn_close(struct conn *c, bool with_reset)
{
    if (c->closing)
        return;
    if (c->tls != NULL && !with_reset && !c->eof) {
        tls_session_close(c->tls);
        flush_tls(c);
        if (c->closing)
            return;
    }
    c->closing = true;
    uv_close((uv_handle_t *)&c->timer, on_conn_closed);
    if (!with_reset || uv_tcp_close_reset(&c->tcp, on_conn_closed) != 0)
        uv_close((uv_handle_t *)&c->tcp, on_conn_closed);
}

/* --- bytes out ---------------------------------------------------------------------------------------- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf);
static void on_read(uv_stream_t *stream, ssize_t nread, const uv_buf_t *buf);
static void answer_sent(struct conn *c);
static void begin_answer(struct conn *c);

static void on_written(uv_write_t *request, int status)
{
    struct write *w = (struct write *)request;
    struct conn *c = w->conn;
    bytes_deinit(&w->bytes);
    free(w);
    if (c->closing)
        return;
    if (status < 0) {
        conn_close(c, false);
        return;
    }
    if (uv_stream_get_write_queue_size((uv_stream_t *)&c->tcp) == 0 && c->busy && !c->due)
        answer_sent(c);
}

static void write_socket(struct conn *c, struct span data)
{
    struct write *w = must_alloc(sizeof *w);
    w->conn = c;
    bytes_init(&w->bytes, OUT_BYTES_MAX * 2);
    if (bytes_append(&w->bytes, data) != OK) {
        free(w);
        conn_close(c, true);
        return;
    }
    uv_buf_t buf = uv_buf_init((char *)w->bytes.at, (unsigned)w->bytes.len);
    if (uv_write(&w->request, (uv_stream_t *)&c->tcp, &buf, 1, on_written) != 0) {
        bytes_deinit(&w->bytes);
        free(w);
        conn_close(c, true);
    }
}

/* Whatever TLS has to say goes out. */
static void flush_tls(struct conn *c)
{
    struct span out = tls_session_output(c->tls);
    if (out.len == 0)
        return;
    write_socket(c, out);
    if (!c->closing)
        tls_session_sent(c->tls, out.len);
}

static void write_plain(struct conn *c, struct span data)
{
    if (c->tls == NULL) {
        write_socket(c, data);
        return;
    }
    while (data.len > 0 && !c->closing) {
        struct fault why;
        size_t n = 0;
        enum err err = tls_session_write(c->tls, data, &n, &why);
        if ((err != OK && err != ERR_AGAIN) || (n == 0 && tls_session_output(c->tls).len == 0)) {
            conn_close(c, false);
            return;
        }
        data = span_of(data.at + n, data.len - n);
        flush_tls(c);
    }
}

static void send_some(struct conn *c)
{
    size_t left = c->out.len - c->out_at;
    size_t n = c->drip_ms > 0 && left > 1 ? 1 : left;
    struct span piece = span_of(c->out.at + c->out_at, n);
    c->out_at += n;
    write_plain(c, piece);
}

static void on_timer(uv_timer_t *timer)
{
    struct conn *c = timer->data;
    if (c->closing)
        return;
    if (c->due)
        begin_answer(c);
    else
        send_some(c);
}

static void answer_sent(struct conn *c)
{
    if (c->out_at < c->out.len) {
        if (c->drip_ms > 0)
            uv_timer_start(&c->timer, on_timer, c->drip_ms, 0);
        return;
    }
    bytes_clear(&c->out);
    c->out_at = 0;
    c->busy = false;
    if (c->server->served != NULL)
        c->server->served(c->server);
    if (c->closing)
        return;
    if (c->ending != END_NOT) {
        c->server->settings->store->hangups += c->ending == END_RESET;
        conn_close(c, c->ending == END_RESET);
        return;
    }
    int rc = c->eof ? 0 : uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read);
    if (rc < 0 && rc != UV_EALREADY)
        conn_close(c, false);
    else
        drive(c);
}

/* --- one request -------------------------------------------------------------------------------------- */

static struct span header_of(const void *ctx, const char *name)
{
    return http_request_lookup(ctx, name);
}

static bool header_next(const void *ctx, unsigned *cursor, struct span *ret_name, struct span *ret_value)
{
    return http_request_next(ctx, "", cursor, ret_name, ret_value);
}

static int64_t unix_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec;
}

/* "Name: value\r\n" lines to fields. */
static unsigned split_headers(struct span lines, struct http_field *fields, unsigned max)
{
    unsigned n = 0;
    while (lines.len > 0 && n < max) {
        const uint8_t *end = memchr(lines.at, '\r', lines.len), *colon = memchr(lines.at, ':', lines.len);
        if (end == NULL || colon == NULL || colon > end)
            break;
        fields[n].name = span_of(lines.at, (size_t)(colon - lines.at));
        fields[n].value = span_trim(span_of(colon + 1, (size_t)(end - colon - 1)));
        n++;
        size_t used = (size_t)(end - lines.at) + 2;
        lines = span_of(lines.at + used, lines.len - used);
    }
    return n;
}

/* The answer in HTTP, as bytes in c->out. */
static void write_answer(struct conn *c)
{
    struct http_field fields[16];
    struct http_answer answer = {.status = c->status, .fields = fields, .close = c->eof};
    answer.body = bytes_span(&c->reply);
    if (c->type[0] != '\0')
        answer.content_type = span_str(c->type);
    answer.field_count = split_headers(bytes_span(&c->headers), fields, 16);
    http_date_write((uint64_t)unix_now(), c->server->http.date);
    if (http_server_respond(&c->http, c->handle, &answer) != OK) {
        static const struct http_refusal failed = {500, "internal", "the answer cannot be written"};
        http_server_respond_refusal(&c->http, c->handle, &failed);
    }
    http_server_take_output(&c->http, &c->out);
    c->out_at = 0;
}

/* Turns the bytes of the answer into what the rule wants of them. */
static void misbehave(struct conn *c)
{
    if (c->garbage_http) {
        for (size_t i = 0; i < c->out.len; i++)
            c->out.at[i] = (uint8_t)(c->out.at[i] * 167 + i * 13 + 131);
        c->ending = END_CLOSE;
    }
    switch (c->hangup) {
    case HANGUP_NONE:
        break;
    case HANGUP_BODY:
    case HANGUP_BEFORE:
        bytes_clear(&c->out);
        c->ending = END_RESET;
        break;
    case HANGUP_IN:
        c->out.len /= 2;
        c->ending = END_RESET;
        break;
    case HANGUP_AFTER:
        c->ending = END_CLOSE;
        break;
    }
}

static void begin_answer(struct conn *c)
{
    c->due = false;
    bytes_clear(&c->out);
    write_answer(c);
    misbehave(c);
    if (c->out.len > 0)
        send_some(c);
    else
        answer_sent(c);
}

static void serve(struct conn *c, const struct http_request *r)
{
    struct sink_server *s = c->server;
    struct sink_exchange *x = &s->exchange;
    struct sink_request request = {
        .method = r->method_name,
        .path = r->path,
        .query = r->query,
        .body = r->body,
        .chunked = http_request_known(r, HTTP_KNOWN_TRANSFER_ENCODING).at != NULL,
        .header = header_of,
        .header_next = header_next,
        .header_ctx = r,
        .unix_sec = unix_now(),
    };
    sink_serve(x, s->settings, &request);
    c->handle = r->handle;
    c->busy = c->due = true;
    c->status = x->status;
    bytes_clear(&c->reply);
    bytes_clear(&c->headers);
    if (bytes_append(&c->reply, bytes_span(&x->reply)) != OK || bytes_append(&c->headers, bytes_span(&x->headers)) != OK)
        c->status = 500;
    snprintf(c->type, sizeof c->type, "%.*s", SPAN_FMT(x->type));
    const struct sink_rule *rule = x->control ? NULL : x->rule;
    c->hangup = rule != NULL ? rule->hangup : HANGUP_NONE;
    c->garbage_http = rule != NULL && rule->garbage_http;
    c->delay_ms = rule != NULL ? rule->delay_ms : 0;
    c->drip_ms = rule != NULL ? rule->drip_ms : 0;
}

/* A rule wants this one gone before its body is here. */
static void look_for_early_end(struct conn *c)
{
    uint64_t reading = http_server_reading(&c->http);
    if (reading == 0 || reading == c->reading)
        return;
    c->reading = reading;
    if (!sink_rules_hangup_early(c->server->settings->rules))
        return;
    c->server->settings->store->hangups++;
    conn_close(c, true);
}

static void refuse(struct conn *c, const struct http_request *r)
{
    const struct http_refusal *why = &c->server->http.refusal;
    sink_store_violation(c->server->settings->store, "http", "not_http", "%u %s", why->status, why->message);
    http_server_respond_refusal(&c->http, r->handle, why);
}

/* Takes the parser to the point where it has used up, or keeps for itself, all bytes that it was given. */
static void parse(struct conn *c)
{
    const struct http_request *request;
    for (;;) {
        switch (http_server_next(&c->http, &request)) {
        case HTTP_SERVER_REQUEST:
            serve(c, request);
            break;
        case HTTP_SERVER_EXPECT:
            break;
        case HTTP_SERVER_REFUSED:
            refuse(c, request);
            break;
        case HTTP_SERVER_DONE:
            c->ending = END_CLOSE;
            return;
        case HTTP_SERVER_MORE:
        case HTTP_SERVER_PAUSED:
            return;
        }
    }
}

/* Acts on what has been read until there is nothing to act on, or an answer is on its way. */
static void drive(struct conn *c)
{
    parse(c);
    if (c->busy) {
        if (!http_server_can_read(&c->http))
            uv_read_stop((uv_stream_t *)&c->tcp);
        if (c->delay_ms > 0)
            uv_timer_start(&c->timer, on_timer, c->delay_ms, 0);
        else
            begin_answer(c);
        return;
    }
    if (http_server_output(&c->http).len > 0) { /* 100 Continue, or a refusal */
        struct bytes out;
        bytes_init(&out, OUT_BYTES_MAX);
        http_server_take_output(&c->http, &out);
        write_plain(c, bytes_span(&out));
        bytes_deinit(&out);
    }
    if (!c->closing)
        look_for_early_end(c);
    if (!c->closing && (c->eof || c->ending != END_NOT))
        conn_close(c, false);
}

/* --- bytes in ----------------------------------------------------------------------------------------- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    static char memory[READ_BYTES]; /* used up within the callback that follows */
    (void)handle, (void)suggested;
    *buf = uv_buf_init(memory, sizeof memory);
}

static void take_plain(struct conn *c, struct span data)
{
    if (http_server_give(&c->http, data) != OK)
        conn_close(c, true);
    else if (!c->busy)
        drive(c);
}

static void take_tls(struct conn *c, struct span data)
{
    uint8_t plain[READ_BYTES];
    struct fault why;
    if (tls_session_give(c->tls, data) != OK) {
        conn_close(c, true);
        return;
    }
    for (;;) {
        size_t n = 0;
        enum err err = tls_session_read(c->tls, plain, sizeof plain, &n, &why);
        flush_tls(c);
        if (c->closing)
            return;
        if (!c->shaken && tls_session_open(c->tls)) {
            c->shaken = true;
            c->server->settings->store->handshakes++;
        }
        if (err == ERR_AGAIN)
            return;
        if (err != OK) {
            c->eof = true;
            if (!c->busy)
                conn_close(c, false);
            return;
        }
        take_plain(c, span_of(plain, n));
        if (c->closing)
            return;
    }
}

static void on_read(uv_stream_t *stream, ssize_t nread, const uv_buf_t *buf)
{
    struct conn *c = stream->data;
    if (c->closing || nread == 0)
        return;
    if (nread < 0) {
        c->eof = true;
        if (nread != UV_EOF || !c->busy)
            conn_close(c, false);
        return;
    }
    struct span data = span_of(buf->base, (size_t)nread);
    if (c->tls != NULL)
        take_tls(c, data);
    else
        take_plain(c, data);
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct sink_server *s = listener->data;
    if (status < 0 || s->closing)
        return;
    struct conn *c = must_alloc(sizeof *c);
    c->server = s;
    c->tcp.data = c->timer.data = c;
    bytes_init(&c->out, OUT_BYTES_MAX);
    bytes_init(&c->reply, OUT_BYTES_MAX);
    bytes_init(&c->headers, 16384);
    http_server_init(&c->http, &s->http);
    list_append(&s->conns, &c->node);
    ensure(uv_tcp_init(s->loop, &c->tcp) == 0 && uv_timer_init(s->loop, &c->timer) == 0);
    c->handles_open = 2;
    struct fault why;
    if (uv_accept(listener, (uv_stream_t *)&c->tcp) != 0 || uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read) != 0 ||
        (s->tls != NULL && tls_session_new(s->tls, (struct span){0}, (struct span){0}, &c->tls, &why) != OK)) {
        conn_close(c, false);
        return;
    }
    uv_tcp_nodelay(&c->tcp, 1);
    s->settings->store->connections++;
}

/* --- life ---------------------------------------------------------------------------------------------- */

static void on_listener_closed(uv_handle_t *handle)
{
    struct sink_server *s = handle->data;
    s->handles_open--;
}

static int bind_and_listen(struct sink_server *s, const char *host, int port, int *ret_port)
{
    struct sockaddr_storage address;
    int length = sizeof address;
    int rc = uv_ip4_addr(host, port, (struct sockaddr_in *)&address);
    if (rc != 0)
        rc = uv_ip6_addr(host, port, (struct sockaddr_in6 *)&address);
    if (rc == 0)
        rc = uv_tcp_bind(&s->listener, (const struct sockaddr *)&address, 0);
    if (rc == 0)
        rc = uv_listen((uv_stream_t *)&s->listener, CONNS_BACKLOG, on_connection);
    if (rc == 0)
        rc = uv_tcp_getsockname(&s->listener, (struct sockaddr *)&address, &length);
    if (rc == 0)
        *ret_port = ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&address)->sin6_port
                                                        : ((struct sockaddr_in *)&address)->sin_port);
    return rc;
}

enum err sink_server_open(struct sink_server *s, uv_loop_t *loop, const char *host, int port,
                          const struct sink_settings *settings, struct tls_context *tls, int *ret_port, struct fault *why)
{
    struct http_limits limits = http_limits_default;
    limits.body_bytes_max = 32 << 20;
    limits.held_bytes_max = 512 << 20;
    limits.out_bytes_max = OUT_BYTES_MAX;
    limits.pipeline_max = 1;
    *s = (struct sink_server){.loop = loop, .settings = settings, .tls = tls};
    list_init(&s->conns);
    http_server_shared_init(&s->http, &limits);
    arena_init(&s->arena, 256 << 10, 256 << 20);
    sink_exchange_init(&s->exchange, &s->arena);
    ensure(uv_tcp_init(loop, &s->listener) == 0);
    s->listener.data = s;
    s->handles_open = 1;
    int rc = bind_and_listen(s, host, port, ret_port);
    if (rc == 0)
        return OK;
    sink_server_close(s);
    if (rc == UV_EADDRINUSE)
        return fault_set(why, ERR_IN_USE, "%s port %d is in use", host, port);
    return fault_set(why, rc == UV_EACCES ? ERR_DENIED : ERR_IO, "listen on %s port %d: %s", host, port, uv_strerror(rc));
}

void sink_server_close(struct sink_server *s)
{
    if (s->closing)
        return;
    s->closing = true;
    uv_close((uv_handle_t *)&s->listener, on_listener_closed);
    for (struct list *l = s->conns.next; l != &s->conns; l = l->next)
        conn_close(CONTAINER_OF(l, struct conn, node), false);
}

void sink_server_deinit(struct sink_server *s)
{
    ensure(list_empty(&s->conns) && s->handles_open == 0);
    sink_exchange_deinit(&s->exchange);
    arena_deinit(&s->arena);
    http_server_shared_deinit(&s->http);
}
