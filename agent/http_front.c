/* http_front: see http_front.h. */
#include "agent/http_front.h"

#include "lib/base/ensure.h"
#include "lib/tls/tls.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define SWEEP_MS 250
#define LINGER_US (2 * US_PER_S)
#define BACKLOG 512
#define CAREFUL_READ_BYTES (4 * 1024)

static void conn_pump(struct http_conn *c);
static void conn_flush(struct flusher *flusher);

static uint64_t now_us(const struct http_front *f)
{
    return clock_mono_us(&f->clock);
}

/* --- closing a connection ------------------------------------------------------------------------------- */

static void front_maybe_closed(struct http_front *f)
{
    if (f->closing && f->conn_count == 0 && !f->accepting_open && !f->sweep_open)
        f->use->closed(f);
}

static void on_conn_closed(uv_handle_t *handle)
{
    struct http_conn *c = handle->data;
    struct http_front *f = c->front;
    ensure(c->closing);
    http_server_deinit(&c->server);
    tls_session_free(c->tls);
    bytes_deinit(&c->writing);
    free(c);
    ensure(f->conn_count > 0);
    f->conn_count--;
    front_maybe_closed(f);
}

void http_conn_close(struct http_conn *c)
{
    if (c->closing)
        return;
    c->closing = true;
    list_remove(&c->node);
    list_remove(&c->flusher.node);
    c->front->use->gone(c);
    uv_close(&c->io.handle, on_conn_closed);
}

/* --- deadlines ------------------------------------------------------------------------------------------ */

static void on_sweep(uv_timer_t *timer)
{
    struct http_front *f = timer->data;
    uint64_t now = now_us(f);
    struct list *node = f->conns.next;
    while (node != &f->conns) {
        struct http_conn *c = CONTAINER_OF(node, struct http_conn, node);
        node = node->next;
        if (c->deadline_us == 0 || now < c->deadline_us)
            continue;
        if (c->deadline_is_request && !c->lingering) {
            http_server_refuse(&c->server, 408, "too_slow", "the request did not arrive within request_timeout");
            c->deadline_us = now + LINGER_US;
            c->deadline_is_request = false;
            conn_pump(c);
        } else {
            http_conn_close(c);
        }
    }
    if (list_empty(&f->conns)) {
        (void)uv_timer_stop(&f->sweep);
        f->sweeping = false;
    }
}

static void start_sweeping(struct http_front *f)
{
    if (f->sweeping)
        return;
    int r = uv_timer_start(&f->sweep, on_sweep, SWEEP_MS, SWEEP_MS);
    ensure(r == 0);
    f->sweeping = true;
}

/* A request that has begun has request_timeout for its last byte; silence between requests has idle_timeout;
 * output that the peer does not read has request_timeout too; a request that waits for its answer has none. */
static void conn_set_deadline(struct http_conn *c)
{
    struct http_front *f = c->front;
    uint64_t message = http_server_reading(&c->server);
    if (c->lingering || (c->tls != NULL && !tls_session_open(c->tls)))
        return; /* a handshake has what it was given at the start */
    if (message != 0) {
        if (message != c->message || !c->deadline_is_request)
            c->deadline_us = now_us(f) + f->request_timeout_us;
        c->deadline_is_request = true;
    } else if (c->write_busy) {
        c->deadline_us = now_us(f) + f->request_timeout_us;
        c->deadline_is_request = false;
    } else {
        c->deadline_is_request = false;
        c->deadline_us = 0;
        if (http_server_idle(&c->server) && f->idle_timeout_us != 0)
            c->deadline_us = now_us(f) + f->idle_timeout_us;
    }
    c->message = message;
}

/* --- reading -------------------------------------------------------------------------------------------- */

/* While bodies wait for memory less is read at a time, since what was read of one that must wait as well is kept. */
static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    (void)suggested;
    struct http_conn *c = handle->data;
    const struct http_server_shared *shared = &c->front->shared;
    bool careful = shared->large != NULL && c->server.spill == NULL &&
                   (budget_short(shared->large) || budget_short(shared->small) || budget_short(shared->working));
    *buf = uv_buf_init((char *)c->front->read_buffer, careful ? CAREFUL_READ_BYTES : HTTP_FRONT_READ_BYTES);
}

static void conn_touch(struct http_conn *c)
{
    list_remove(&c->node);
    list_append(&c->front->conns, &c->node);
}

static void plain_in(struct http_conn *c, struct span in)
{
    if (http_server_give(&c->server, in) != OK)
        http_conn_close(c);
    else
        conn_pump(c);
}

static void plain_eof(struct http_conn *c)
{
    c->reading = false;
    (void)uv_read_stop(&c->io.stream);
    http_server_eof(&c->server);
    conn_pump(c);
}

/* What the session has decrypted goes on as if it had come in the clear. */
static void read_session(struct http_conn *c)
{
    uint8_t plain[16 * 1024];
    struct fault why;
    while (!c->closing && !c->lingering && http_server_can_read(&c->server)) {
        size_t n = 0;
        enum err err = tls_session_read(c->tls, plain, sizeof plain, &n, &why);
        if (err == OK) {
            plain_in(c, span_of(plain, n));
            continue;
        }
        if (err == ERR_CLOSED || err == ERR_IO) {
            plain_eof(c);
        } else if (err != ERR_AGAIN) {
            log_every(&c->front->tls_limit, now_us(c->front), 10 * US_PER_S, LOG_WARN, c->front->subject,
                      "a TLS connection failed: %s", why.text);
            c->tls_failed = true; /* the alert is still to be sent */
            http_conn_flush_soon(c);
        }
        return;
    }
}

static void wire_in(struct http_conn *c, struct span in)
{
    if (c->tls == NULL) {
        plain_in(c, in);
        return;
    }
    if (c->tls_failed)
        return;
    if (tls_session_give(c->tls, in) != OK) {
        http_conn_close(c);
        return;
    }
    read_session(c);
    if (!c->closing)
        http_conn_flush_soon(c);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct http_conn *c = stream->data;
    if (c->closing || n == 0)
        return;
    if (n < 0 && (n != UV_EOF || c->lingering)) {
        http_conn_close(c);
        return;
    }
    if (c->lingering)
        return; /* read and thrown away, so that the peer gets our last answer rather than a reset */
    conn_touch(c);
    if (n > 0) {
        c->bytes_in += (uint64_t)n;
        wire_in(c, span_of(buf->base, (size_t)n));
    } else if (c->tls != NULL) {
        tls_session_eof(c->tls);
        read_session(c);
    } else {
        plain_eof(c);
    }
}

static void conn_read(struct http_conn *c, bool on)
{
    if (c->reading == on)
        return;
    c->reading = on;
    if (!on) {
        (void)uv_read_stop(&c->io.stream);
        return;
    }
    if (uv_read_start(&c->io.stream, on_alloc, on_read) != 0)
        http_conn_close(c);
}

/* Takes every request that is there, then sees what the connection needs next. */
static void conn_pump(struct http_conn *c)
{
    const struct http_request *r;
    for (;;) {
        enum http_server_event event = http_server_next(&c->server, &r);
        if (event == HTTP_SERVER_MORE || event == HTTP_SERVER_PAUSED || event == HTTP_SERVER_DONE)
            break;
        c->front->use->request(c, event, r);
        if (c->closing)
            return;
    }
    conn_set_deadline(c);
    conn_read(c, http_server_can_read(&c->server) && !c->server.eof);
    if (!c->closing)
        http_conn_flush_soon(c);
}

/* --- writing -------------------------------------------------------------------------------------------- */

static void linger(struct http_conn *c)
{
    c->lingering = true;
    c->deadline_us = now_us(c->front) + LINGER_US;
    c->deadline_is_request = false;
    uv_os_fd_t fd;
    if (uv_fileno(&c->io.handle, &fd) == 0)
        (void)shutdown(fd, SHUT_WR);
    if (c->server.eof)
        http_conn_close(c);
    else
        conn_read(c, true);
}

static void on_written(uv_write_t *req, int status)
{
    struct http_conn *c = req->data;
    bytes_deinit(&c->writing);
    c->write_busy = false;
    if (c->closing)
        return;
    if (status < 0) {
        http_conn_close(c);
        return;
    }
    conn_pump(c);
}

static void take_rest(struct http_conn *c)
{
    bytes_init(&c->writing, SIZE_MAX);
    if (c->tls != NULL)
        tls_session_take_output(c->tls, &c->writing);
    else
        http_server_take_output(&c->server, &c->writing);
}

static void write_rest(struct http_conn *c)
{
    take_rest(c);
    uv_buf_t buf = uv_buf_init((char *)c->writing.at, (unsigned)c->writing.len);
    c->write_req.data = c;
    c->write_busy = true;
    if (uv_write(&c->write_req, &c->io.stream, &buf, 1, on_written) != 0) {
        c->write_busy = false;
        http_conn_close(c);
        return;
    }
    conn_set_deadline(c);
}

/* Moves the server's output into the session, as far as there is room; says goodbye behind the last of it. */
static bool encrypt(struct http_conn *c)
{
    struct fault why;
    struct span out;
    while (!c->tls_failed && (out = http_server_output(&c->server)).len > 0) {
        size_t taken = 0;
        enum err err = tls_session_write(c->tls, out, &taken, &why);
        http_server_sent(&c->server, taken);
        if (err == ERR_AGAIN)
            break;
        if (err != OK)
            return false;
    }
    if (http_server_finished(&c->server))
        tls_session_close(c->tls);
    return true;
}

static struct span wire_output(const struct http_conn *c)
{
    return c->tls != NULL ? tls_session_output(c->tls) : http_server_output(&c->server);
}

static void wire_sent(struct http_conn *c, size_t n)
{
    if (c->tls != NULL)
        tls_session_sent(c->tls, n);
    else
        http_server_sent(&c->server, n);
}

/* True when all that there is has been sent. */
static bool send_output(struct http_conn *c)
{
    struct span out = wire_output(c);
    if (out.len == 0)
        return true;
    uv_buf_t buf = uv_buf_init((char *)(uintptr_t)out.at, (unsigned)out.len);
    int n = uv_try_write(&c->io.stream, &buf, 1);
    if (n < 0 && n != UV_EAGAIN) {
        http_conn_close(c);
        return false;
    }
    if (n > 0)
        wire_sent(c, (size_t)n);
    if (n < 0 || (size_t)n < out.len) {
        write_rest(c);
        return false;
    }
    return true;
}

static void conn_flush(struct flusher *flusher)
{
    struct http_conn *c = CONTAINER_OF(flusher, struct http_conn, flusher);
    if (c->closing || c->write_busy || c->lingering)
        return;
    if (c->tls != NULL && !encrypt(c)) {
        http_conn_close(c);
        return;
    }
    bool some = wire_output(c).len > 0;
    if (!send_output(c))
        return;
    if (c->tls_failed || http_server_finished(&c->server)) {
        linger(c);
        return;
    }
    if (c->front->stopping && http_server_idle(&c->server)) {
        http_conn_close(c);
        return;
    }
    bool go_on = c->go_on;
    c->go_on = false;
    if (!some && !go_on)
        return;
    if (c->reading || !http_server_can_read(&c->server) || c->server.eof) {
        conn_set_deadline(c);
        return;
    }
    conn_pump(c); /* it was paused: go on with what waits in the backlog */
    if (c->tls != NULL && !c->closing)
        read_session(c);
}

static void on_go_on(struct http_server *s)
{
    struct http_conn *c = CONTAINER_OF(s, struct http_conn, server);
    c->go_on = true;
    http_conn_flush_soon(c);
}

void http_conn_flush_soon(struct http_conn *c)
{
    if (!c->closing)
        flush_soon(c->front->flushes, &c->flusher);
}

void http_conn_answer(struct http_conn *c, uint64_t handle, const struct http_answer *answer)
{
    if (http_server_respond(&c->server, handle, answer) != OK)
        http_conn_close(c);
    else
        http_conn_flush_soon(c);
}

/* --- accepting ------------------------------------------------------------------------------------------ */

static struct http_conn *longest_idle(struct http_front *f)
{
    for (struct list *node = f->conns.next; node != &f->conns; node = node->next) {
        struct http_conn *c = CONTAINER_OF(node, struct http_conn, node);
        if (http_server_idle(&c->server) && !c->write_busy)
            return c;
    }
    return NULL;
}

/* Beyond connections_max the longest idle connection makes room; if none is idle the new one is told 503. */
static void make_room(struct http_front *f, struct http_conn *c)
{
    struct http_conn *victim = longest_idle(f);
    f->refused++;
    log_every(&f->accept_limit, now_us(f), 10 * US_PER_S, LOG_WARN, f->subject,
              "max_connections (%u) reached: %s", f->connections_max,
              victim != NULL ? "the longest idle connection is closed" : "a new connection is refused");
    if (victim != NULL)
        http_conn_close(victim);
    else
        http_server_refuse(&c->server, 503, "busy", "too many connections");
}

static int init_stream(struct http_front *f, struct http_conn *c)
{
    return f->is_pipe ? uv_pipe_init(f->loop, &c->io.pipe, 0) : uv_tcp_init(f->loop, &c->io.tcp);
}

static bool begin_tls(struct http_front *f, struct http_conn *c)
{
    struct fault why;
    if (f->tls == NULL)
        return true;
    c->deadline_us = now_us(f) + f->request_timeout_us;
    if (tls_session_new(f->tls, (struct span){0}, (struct span){0}, &c->tls, &why) == OK)
        return true;
    log_every(&f->tls_limit, now_us(f), 10 * US_PER_S, LOG_WARN, f->subject, "cannot begin TLS: %s", why.text);
    http_conn_close(c);
    return false;
}

static void on_connection(uv_stream_t *stream, int status)
{
    struct http_front *f = stream->data;
    if (f->closing)
        return;
    if (status < 0) {
        log_every(&f->accept_limit, now_us(f), 10 * US_PER_S, LOG_WARN, f->subject, "cannot accept a connection: %s",
                  uv_strerror(status));
        return;
    }
    struct http_conn *c = must_alloc(sizeof *c);
    c->front = f;
    list_init(&c->exchanges);
    flusher_init(&c->flusher, conn_flush);
    http_server_init(&c->server, &f->shared);
    int r = init_stream(f, c);
    ensure(r == 0);
    c->io.handle.data = c;
    f->conn_count++;
    list_init(&c->node);
    list_append(&f->conns, &c->node);
    if (uv_accept(stream, &c->io.stream) != 0) {
        http_conn_close(c);
        return;
    }
    if (!f->is_pipe)
        (void)uv_tcp_nodelay(&c->io.tcp, 1);
    if (!begin_tls(f, c))
        return;
    f->accepted++;
    if (f->conn_count > f->connections_max) {
        list_remove(&c->node);
        make_room(f, c);
        list_append(&f->conns, &c->node);
    }
    start_sweeping(f);
    conn_pump(c);
}

/* --- life ----------------------------------------------------------------------------------------------- */

enum err http_front_bind(struct http_front *f, const char *name, const struct config_listen *where,
                         const struct config_socket *socket, const struct http_limits *limits, struct fault *why)
{
    enum err err = listener_bind(&f->listener, name, where, socket, SOCK_STREAM, why);
    if (err != OK)
        return err;
    list_init(&f->conns);
    http_server_shared_init(&f->shared, limits);
    f->shared.go_on = on_go_on;
    f->read_buffer = must_alloc(HTTP_FRONT_READ_BYTES);
    struct sockaddr_storage address = {0};
    socklen_t len = sizeof address;
    (void)getsockname(f->listener.fd, (struct sockaddr *)&address, &len);
    f->is_pipe = address.ss_family == AF_UNIX;
    int r = f->is_pipe ? uv_pipe_init(f->loop, &f->accepting.pipe, 0) : uv_tcp_init(f->loop, &f->accepting.tcp);
    ensure(r == 0);
    r = f->is_pipe ? uv_pipe_open(&f->accepting.pipe, f->listener.fd) : uv_tcp_open(&f->accepting.tcp, f->listener.fd);
    ensure(r == 0);
    r = uv_timer_init(f->loop, &f->sweep);
    ensure(r == 0);
    f->accepting.handle.data = f->sweep.data = f;
    f->accepting_open = f->sweep_open = true;
    return OK;
}

enum err http_front_listen(struct http_front *f, struct fault *why)
{
    int r = uv_listen(&f->accepting.stream, BACKLOG, on_connection);
    if (r < 0) {
        (void)fault_sys(why, r, "cannot listen on %s", f->listener.text);
        return why->err = r == UV_EADDRINUSE ? ERR_IN_USE : ERR_IO;
    }
    f->listening = true;
    return OK;
}

static void on_accepting_closed(uv_handle_t *handle)
{
    struct http_front *f = handle->data;
    f->accepting_open = false;
    front_maybe_closed(f);
}

static void on_sweep_closed(uv_handle_t *handle)
{
    struct http_front *f = handle->data;
    f->sweep_open = false;
    front_maybe_closed(f);
}

static void close_accepting(struct http_front *f)
{
    if (uv_is_closing(&f->accepting.handle))
        return;
    listener_remove_file(&f->listener);
    uv_close(&f->accepting.handle, on_accepting_closed);
}

void http_front_stop(struct http_front *f)
{
    f->stopping = true;
    close_accepting(f);
    struct list *node = f->conns.next;
    while (node != &f->conns) {
        struct http_conn *c = CONTAINER_OF(node, struct http_conn, node);
        node = node->next;
        if (http_server_idle(&c->server) && !c->write_busy)
            http_conn_close(c);
    }
}

void http_front_close(struct http_front *f)
{
    if (f->closing)
        return;
    f->closing = true;
    close_accepting(f);
    struct list *node = f->conns.next;
    while (node != &f->conns) {
        struct http_conn *c = CONTAINER_OF(node, struct http_conn, node);
        node = node->next;
        http_conn_close(c);
    }
    uv_close((uv_handle_t *)&f->sweep, on_sweep_closed);
}

void http_front_deinit(struct http_front *f)
{
    ensure(f->conn_count == 0);
    http_server_shared_deinit(&f->shared);
    free(f->read_buffer);
    f->read_buffer = NULL;
}

void http_conn_peer(const struct http_conn *c, char *into, size_t size)
{
    struct sockaddr_storage peer = {0};
    int len = sizeof peer;
    char host[INET6_ADDRSTRLEN] = "?";
    (void)snprintf(into, size, "unix");
    if (c->front->is_pipe || uv_tcp_getpeername(&c->io.tcp, (struct sockaddr *)&peer, &len) != 0)
        return;
    bool v6 = peer.ss_family == AF_INET6;
    (void)uv_ip_name((const struct sockaddr *)&peer, host, sizeof host);
    uint16_t port = v6 ? ((const struct sockaddr_in6 *)&peer)->sin6_port : ((const struct sockaddr_in *)&peer)->sin_port;
    (void)snprintf(into, size, "%s%s%s:%u", v6 ? "[" : "", host, v6 ? "]" : "", ntohs(port));
}
