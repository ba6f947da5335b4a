/* upstream_conn: see upstream_conn.h. */
#include "agent/upstream_conn.h"

#include "agent/agent.h"
#include "agent/output_host.h"
#include "agent/upstream.h"
#include "agent/upstream_connect.h"
#include "lib/base/ensure.h"
#include "lib/config/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define READ_BYTES (64 * 1024)
#define MAX_AGE_US (300 * US_PER_S) /* fresh addresses at least this often */
/* The api's, up to 72 attributes of a CloudEvent in binary mode, and the output's own: configuration bounds those. */
#define HEADERS_MAX 256

const struct config_output *upstream_conn_config(const struct upstream_conn *c)
{
    return c->upstream->owner->config;
}

const struct agent *upstream_conn_agent(const struct upstream_conn *c)
{
    return c->upstream->owner->agent;
}

static uint64_t now_us(const struct upstream_conn *c)
{
    return clock_mono_us(&upstream_conn_agent(c)->clock);
}

/* --- the end -------------------------------------------------------------------------------------------- */

void upstream_conn_maybe_free(struct upstream_conn *c)
{
    if (c->handles_open > 0)
        return;
    upstream_conn_ended(c->upstream, c);
    tls_session_free(c->tls);
    http_client_deinit(&c->client);
    arena_deinit(&c->arena);
    bytes_deinit(&c->head);
    bytes_deinit(&c->out);
    free(c);
}

static void on_closed(uv_handle_t *handle)
{
    struct upstream_conn *c = handle->data;
    ensure(c->handles_open > 0);
    c->handles_open--;
    upstream_conn_maybe_free(c);
}

static void conn_close(struct upstream_conn *c)
{
    if (c->state == CONN_CLOSING)
        return;
    c->state = CONN_CLOSING;
    if (c->tcp_open && !uv_is_closing((uv_handle_t *)&c->tcp))
        uv_close((uv_handle_t *)&c->tcp, on_closed);
    uv_close((uv_handle_t *)&c->timer, on_closed);
}

void upstream_conn_abort(struct upstream_conn *c, enum output_break what, const char *text)
{
    if (c->state == CONN_CLOSING)
        return;
    c->broke = what;
    (void)snprintf(c->text, sizeof c->text, "%s", text);
    conn_close(c);
}

/* The peer or the network ended it: what that means depends on how far we were. */
static void conn_lost(struct upstream_conn *c, const char *text)
{
    switch (c->state) {
    case CONN_RESOLVING:
    case CONN_CONNECTING:
    case CONN_PROXY:
    case CONN_HANDSHAKE:
        upstream_conn_abort(c, BREAK_CONNECT, text);
        return;
    case CONN_BUSY:
        upstream_conn_abort(c, c->requests > 1 && !http_client_answer_begun(&c->client) ? BREAK_REUSED : BREAK_UNKNOWN,
                            text);
        return;
    default:
        conn_close(c);
        return;
    }
}

static const char *const waits_for[] = {
    [CONN_RESOLVING] = "no answer from the name service within timeout.connect",
    [CONN_CONNECTING] = "no TCP connection within timeout.connect",
    [CONN_PROXY] = "no answer from the proxy within timeout.connect",
    [CONN_HANDSHAKE] = "no TLS handshake within timeout.connect",
    [CONN_BUSY] = "no whole answer within timeout.request",
    [CONN_IDLE] = "idle",
};

static void on_deadline(uv_timer_t *timer)
{
    struct upstream_conn *c = timer->data;
    if (c->state == CONN_CLOSING)
        return;
    if (c->state == CONN_CONNECTING) {
        (void)snprintf(c->text, sizeof c->text, "%s", waits_for[c->state]);
        upstream_connect_next(c);
        return;
    }
    if (c->state == CONN_BUSY)
        upstream_conn_abort(c, BREAK_UNKNOWN, waits_for[c->state]);
    else
        conn_lost(c, waits_for[c->state]);
}

void upstream_conn_enter(struct upstream_conn *c, enum conn_state state)
{
    const struct config_output *config = upstream_conn_config(c);
    uint64_t deadline_us = config->timeout.connect_us;
    if (state == CONN_BUSY)
        deadline_us = config->timeout.request_us;
    if (state == CONN_IDLE)
        deadline_us = config->timeout.idle_us;
    c->state = state;
    uv_update_time(upstream_conn_agent(c)->loop);
    int r = uv_timer_start(&c->timer, on_deadline, deadline_us / US_PER_MS, 0);
    ensure(r == 0);
}

/* --- the request ---------------------------------------------------------------------------------------- */

static void add_part(struct upstream_conn *c, struct span s)
{
    if (s.len > 0)
        c->parts[c->part_count++] = s;
}

static const char *const codec_names[] = {[API_IDENTITY] = NULL, [API_GZIP] = "gzip", [API_ZSTD] = "zstd"};

static bool write_head(struct upstream_conn *c, const struct output_request *request)
{
    const struct config_output *config = upstream_conn_config(c);
    /* Answers are read as they come: without this header a server may compress them. */
    struct http_field fields[HEADERS_MAX] = {{SPAN("Accept-Encoding"), SPAN("identity")}};
    unsigned n = 1;
    const struct api_send *s = &request->send;
    for (unsigned i = 0; i < s->header_count; i++)
        fields[n++] = (struct http_field){s->headers[i].name, s->headers[i].value};
    for (unsigned i = 0; i < s->more_header_count && n < HEADERS_MAX; i++)
        fields[n++] = (struct http_field){s->more_headers[i].name, s->more_headers[i].value};
    for (unsigned i = 0; i < config->header_count && n < HEADERS_MAX; i++)
        fields[n++] = (struct http_field){span_str(config->headers[i].name), config->headers[i].value.value};
    if (codec_names[request->codec] != NULL && !s->own_body && n < HEADERS_MAX)
        fields[n++] = (struct http_field){SPAN("Content-Encoding"), span_str(codec_names[request->codec])};
    const struct http_request_head head = {
        .method = span_str(s->method),
        .target = s->target,
        .authority = span_str(config->endpoint.authority),
        .fields = fields,
        .field_count = n,
        .has_body = strcmp(s->method, "GET") != 0,
        .content_length = request->body_len,
    };
    bytes_clear(&c->head);
    return http_request_head_write(&c->head, &head) == OK;
}

static bool make_request(struct upstream_conn *c)
{
    struct output *core = c->upstream->owner->core;
    struct output_request request = {0};
    arena_reset(&c->arena);
    if (c->pass != NULL) {
        request.send = c->pass->send;
        request.body[0] = c->pass->send.body;
        request.body_count = 1;
        request.body_len = c->pass->send.body.len;
    } else if (c->probe) {
        if (!output_probe_request(core, &c->arena, &request))
            return false;
    } else {
        output_request(core, c->batch, &c->arena, &request);
    }
    if (!write_head(c, &request))
        return false;
    c->part_count = 0;
    c->part_at = 0;
    c->part_offset = 0;
    add_part(c, bytes_span(&c->head));
    for (unsigned i = 0; i < request.body_count; i++)
        add_part(c, request.body[i]);
    c->upstream->bytes_out += request.body_len;
    return true;
}

void upstream_conn_start(struct upstream_conn *c)
{
    c->requests++;
    upstream_conn_enter(c, CONN_BUSY);
    c->sent_us = now_us(c);
    http_client_begin(&c->client, HTTP_CLIENT_PLAIN);
    if (!make_request(c)) {
        upstream_conn_abort(c, BREAK_CONNECT, "a configured header cannot be sent");
        return;
    }
    upstream_conn_push(c);
}

/* What the next request on this connection is. */
static void carry(struct upstream_conn *c, struct batch *batch, struct upstream_pass *pass)
{
    c->batch = batch;
    c->pass = pass;
    c->probe = batch == NULL && pass == NULL;
    if (pass != NULL)
        pass->conn = c;
}

void upstream_conn_send(struct upstream_conn *c, struct batch *batch, struct upstream_pass *pass)
{
    ensure(c->state == CONN_IDLE);
    carry(c, batch, pass);
    upstream_conn_start(c);
}

/* The kernel has all of it. A write's callback may still be due: libuv tells of it a turn later, and a quick
 * answer can overtake it. */
static bool request_written(const struct upstream_conn *c)
{
    return c->part_at == c->part_count && uv_stream_get_write_queue_size((const uv_stream_t *)&c->tcp) == 0;
}

/* --- the answer ----------------------------------------------------------------------------------------- */

void upstream_conn_reply(const struct upstream_conn *c, struct api_reply *ret)
{
    const struct http_client *h = &c->client;
    *ret = (struct api_reply){
        .status = h->status,
        .body = bytes_span(&h->body),
        .body_cut = h->body_cut,
        .content_type = http_client_header(h, SPAN("Content-Type")),
        .retry_after = http_client_header(h, SPAN("Retry-After")),
        .ratelimit = http_client_header(h, SPAN("RateLimit")),
        .location = http_client_header(h, SPAN("Location")),
        .webhook_origin = http_client_header(h, SPAN("WebHook-Allowed-Origin")),
        .webhook_rate = http_client_header(h, SPAN("WebHook-Allowed-Rate")),
        .wall_ns = clock_wall_ns(&upstream_conn_agent(c)->clock),
    };
}

static void answered(struct upstream_conn *c)
{
    /* Whoever is thankful before the request is whole does not have the events yet: that counts once the rest is
     * written, too (on_written). */
    if (!request_written(c) && c->client.status / 100 == 2)
        return;
    if (!request_written(c)) {
        /* An early answer (a refusal, mostly): the rest of the request will not be sent. Its bytes are still
         * libuv's, so the owner hears of the answer when the handles are closed. */
        c->answered_early = true;
        conn_close(c);
        return;
    }
    bool again = c->client.reusable && now_us(c) - c->opened_us < MAX_AGE_US && !c->upstream->closing;
    struct upstream *u = c->upstream;
    if (again)
        upstream_conn_enter(c, CONN_IDLE);
    upstream_request_replied(u, c);
    if (!again)
        conn_close(c);
    else
        http_client_trim(&c->client);
}

static void plain_in(struct upstream_conn *c, struct span in)
{
    if (c->state != CONN_BUSY) {
        conn_lost(c, "the upstream sent bytes that nobody asked for");
        return;
    }
    size_t used = http_client_feed(&c->client, in);
    switch (c->client.state) {
    case HTTP_CLIENT_READING:
        return;
    case HTTP_CLIENT_COMPLETE:
        if (used < in.len)
            c->client.reusable = false;
        answered(c);
        return;
    default:
        upstream_conn_abort(c, BREAK_UNKNOWN, c->client.error != NULL ? c->client.error : "not an HTTP answer");
        return;
    }
}

static void plain_eof(struct upstream_conn *c, bool clean)
{
    if (c->state != CONN_BUSY) {
        conn_lost(c, "the upstream closed the connection");
        return;
    }
    http_client_eof(&c->client, clean);
    if (c->client.state == HTTP_CLIENT_COMPLETE) {
        c->client.reusable = false;
        answered(c);
        if (c->state == CONN_BUSY)
            upstream_conn_abort(c, BREAK_UNKNOWN, "the connection ended before the request was whole");
    } else if (c->client.state == HTTP_CLIENT_NO_ANSWER) {
        conn_lost(c, "the connection ended before an answer");
    } else {
        upstream_conn_abort(c, BREAK_UNKNOWN, "the connection ended within the answer");
    }
}

/* --- bytes to the socket -------------------------------------------------------------------------------- */

static void on_written(uv_write_t *req, int status)
{
    struct upstream_conn *c = req->data;
    c->write_busy = false;
    bytes_deinit(&c->out); /* take_output() wants it empty; the session keeps its own */
    if (c->state == CONN_CLOSING)
        return;
    if (status < 0) {
        conn_lost(c, uv_strerror(status));
        return;
    }
    upstream_conn_push(c);
    if (c->state == CONN_BUSY && c->client.state == HTTP_CLIENT_COMPLETE)
        answered(c);
}

void upstream_conn_write(struct upstream_conn *c, const uv_buf_t *bufs, unsigned count)
{
    c->write_req.data = c;
    c->write_busy = true;
    int r = uv_write(&c->write_req, (uv_stream_t *)&c->tcp, bufs, count, on_written);
    if (r < 0) {
        c->write_busy = false;
        conn_lost(c, uv_strerror(r));
    }
}

/* Plain: the request's parts go to the kernel as they lie; they stay put until on_written(). */
static void push_plain(struct upstream_conn *c)
{
    uv_buf_t bufs[CONN_PARTS_MAX];
    unsigned n = 0;
    while (c->part_at < c->part_count) {
        struct span s = c->parts[c->part_at++];
        bufs[n++] = uv_buf_init((char *)(uintptr_t)s.at, (unsigned)s.len);
    }
    if (n > 0)
        upstream_conn_write(c, bufs, n);
}

/* TLS: encrypts as much as fits the session's bounded queue, which the write under way then owns. */
static void push_tls(struct upstream_conn *c)
{
    struct fault why;
    enum err err = OK;
    while (c->state == CONN_BUSY && c->part_at < c->part_count && err == OK) {
        struct span s = c->parts[c->part_at];
        size_t taken = 0;
        err = tls_session_write(c->tls, span_of(s.at + c->part_offset, s.len - c->part_offset), &taken, &why);
        c->part_offset += taken;
        if (c->part_offset == s.len) {
            c->part_at++;
            c->part_offset = 0;
        }
    }
    if (err != OK && err != ERR_AGAIN) {
        upstream_conn_tls_failed(c, err, why.text);
        return;
    }
    if (tls_session_output(c->tls).len == 0)
        return;
    tls_session_take_output(c->tls, &c->out);
    uv_buf_t buf = uv_buf_init((char *)c->out.at, (unsigned)c->out.len);
    upstream_conn_write(c, &buf, 1);
}

void upstream_conn_push(struct upstream_conn *c)
{
    if (c->write_busy || c->state == CONN_CLOSING)
        return;
    if (c->tls != NULL)
        push_tls(c);
    else
        push_plain(c);
}

/* --- bytes from the socket ------------------------------------------------------------------------------ */

void upstream_conn_tls_failed(struct upstream_conn *c, enum err err, const char *text)
{
    if (c->state == CONN_HANDSHAKE)
        upstream_conn_abort(c, err == ERR_DENIED ? BREAK_DENIED : BREAK_CONNECT, text);
    else
        conn_lost(c, text);
}

static void read_plaintext(struct upstream_conn *c)
{
    uint8_t plain[16 * 1024];
    struct fault why;
    while (c->state != CONN_CLOSING) {
        size_t n = 0;
        enum err err = tls_session_read(c->tls, plain, sizeof plain, &n, &why);
        if (err == OK) {
            plain_in(c, span_of(plain, n));
            continue;
        }
        if (err == ERR_CLOSED || err == ERR_IO)
            plain_eof(c, err == ERR_CLOSED);
        else if (err != ERR_AGAIN)
            upstream_conn_tls_failed(c, err, why.text);
        return;
    }
}

static void wire_in(struct upstream_conn *c, struct span in)
{
    if (c->state == CONN_PROXY) {
        upstream_connect_proxy_in(c, in);
        return;
    }
    if (c->tls == NULL) {
        plain_in(c, in);
        return;
    }
    if (tls_session_give(c->tls, in) != OK) {
        conn_lost(c, "more TLS bytes than a session holds");
        return;
    }
    if (c->state == CONN_HANDSHAKE)
        upstream_connect_handshake(c);
    if (c->state != CONN_HANDSHAKE)
        read_plaintext(c);
    if (c->state != CONN_CLOSING)
        upstream_conn_push(c);
}

static void wire_eof(struct upstream_conn *c)
{
    if (c->tls == NULL || c->state == CONN_HANDSHAKE) {
        plain_eof(c, true);
        return;
    }
    /* Without close_notify an end may be an attacker's: an answer framed by it does not count. */
    tls_session_eof(c->tls);
    read_plaintext(c);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    (void)suggested;
    struct upstream_conn *c = handle->data;
    *buf = uv_buf_init((char *)c->upstream->read_buffer, READ_BYTES);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct upstream_conn *c = stream->data;
    if (c->state == CONN_CLOSING || n == 0)
        return;
    if (n > 0)
        wire_in(c, span_of(buf->base, (size_t)n));
    else if (n == UV_EOF)
        wire_eof(c);
    else
        conn_lost(c, uv_strerror((int)n));
}

int upstream_conn_read(struct upstream_conn *c)
{
    return uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read);
}

/* --- the beginning -------------------------------------------------------------------------------------- */

struct upstream_conn *upstream_conn_open(struct upstream *u, struct batch *batch, struct upstream_pass *pass)
{
    struct upstream_conn *c = must_alloc(sizeof *c);
    c->upstream = u;
    carry(c, batch, pass);
    list_init(&c->node);
    http_client_init(&c->client, HTTP_CLIENT_BODY_BYTES_MAX);
    arena_init(&c->arena, 4096, 4 << 20);
    bytes_init(&c->head, HTTP_CLIENT_HEADER_BYTES_MAX);
    bytes_init(&c->out, 2 * TLS_OUT_BYTES_MAX);
    int r = uv_timer_init(u->owner->agent->loop, &c->timer);
    ensure(r == 0);
    c->timer.data = c;
    c->handles_open = 1;
    c->opened_us = clock_mono_us(&u->owner->agent->clock);
    upstream_connect_begin(c);
    return c;
}
