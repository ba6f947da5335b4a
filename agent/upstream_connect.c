/* upstream_connect: see upstream_connect.h. */
#include "agent/upstream_connect.h"

#include "agent/agent.h"
#include "agent/output_host.h"
#include "agent/upstream.h"
#include "lib/base/ensure.h"
#include "lib/codec/base64.h"
#include "lib/config/config.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define KEEPALIVE_S 30

/* --- TLS ------------------------------------------------------------------------------------------------ */

void upstream_connect_handshake(struct upstream_conn *c)
{
    struct fault why;
    enum err err = tls_session_handshake(c->tls, &why);
    upstream_conn_push(c); /* what the handshake wants to say, an alert included */
    if (c->state != CONN_HANDSHAKE || err == ERR_AGAIN)
        return;
    if (err != OK) {
        upstream_conn_tls_failed(c, err, why.text);
        return;
    }
    c->upstream->peer_not_after = (int64_t)tls_session_peer_not_after(c->tls);
    upstream_conn_start(c);
}

static void start_tls(struct upstream_conn *c)
{
    const struct config_output *config = upstream_conn_config(c);
    struct upstream *u = c->upstream;
    const char *name = config->tls.server_name != NULL ? config->tls.server_name : config->endpoint.host;
    if (u->tls == NULL) {
        upstream_conn_abort(c, BREAK_DENIED, "the TLS configuration could not be loaded");
        return;
    }
    struct fault why;
    if (tls_session_new(u->tls, span_str(name), bytes_span(&u->session), &c->tls, &why) != OK) {
        upstream_conn_abort(c, BREAK_DENIED, why.text);
        return;
    }
    upstream_conn_enter(c, CONN_HANDSHAKE);
    upstream_connect_handshake(c);
}

/* The way to the upstream itself is open. */
static void tunnel_stands(struct upstream_conn *c)
{
    if (upstream_conn_config(c)->endpoint.tls)
        start_tls(c);
    else
        upstream_conn_start(c);
}

/* --- the proxy ------------------------------------------------------------------------------------------ */

void upstream_connect_proxy_in(struct upstream_conn *c, struct span in)
{
    size_t used = http_client_feed(&c->client, in);
    if (c->client.state == HTTP_CLIENT_READING)
        return;
    if (c->client.state != HTTP_CLIENT_COMPLETE || c->client.status / 100 != 2) {
        bool denied = c->client.status == 407;
        char text[120];
        (void)snprintf(text, sizeof text, "the proxy answered %u to CONNECT%s", c->client.status,
                       denied ? ": it wants other credentials in the proxy's URL" : "");
        upstream_conn_abort(c, denied ? BREAK_DENIED : BREAK_CONNECT, text);
        return;
    }
    if (used < in.len) {
        upstream_conn_abort(c, BREAK_CONNECT, "the proxy sent bytes before the tunnel's");
        return;
    }
    tunnel_stands(c);
}

static void ask_proxy(struct upstream_conn *c)
{
    const struct config_output *config = upstream_conn_config(c);
    char authority[300], login[512] = "";
    struct bytes encoded;
    upstream_conn_enter(c, CONN_PROXY);
    http_client_begin(&c->client, HTTP_CLIENT_CONNECT);
    (void)snprintf(authority, sizeof authority, config->endpoint.ipv6 ? "[%s]:%u" : "%s:%u", config->endpoint.host,
                   config->endpoint.port);
    bytes_init(&encoded, sizeof login);
    enum err err = OK;
    if (config->proxy_auth.template != NULL) {
        err = bytes_append(&encoded, SPAN("Basic "));
        if (err == OK)
            err = base64_append(&encoded, config->proxy_auth.value);
    }
    bytes_clear(&c->head);
    if (err == OK)
        err = http_connect_write(&c->head, span_str(authority), bytes_span(&encoded));
    bytes_deinit(&encoded);
    if (err != OK) {
        upstream_conn_abort(c, BREAK_CONNECT, "the proxy's credentials cannot be sent");
        return;
    }
    uv_buf_t buf = uv_buf_init((char *)c->head.at, (unsigned)c->head.len);
    upstream_conn_write(c, &buf, 1);
}

/* --- TCP, address after address ------------------------------------------------------------------------- */

static void tune_socket(struct upstream_conn *c)
{
    uv_os_fd_t fd;
    unsigned user_timeout_ms = (unsigned)(upstream_conn_config(c)->timeout.request_us / US_PER_MS);
    (void)uv_tcp_nodelay(&c->tcp, 1);
    (void)uv_tcp_keepalive(&c->tcp, 1, KEEPALIVE_S);
    /* Bytes that nobody acknowledges: without this the kernel goes on for a quarter of an hour. */
    if (uv_fileno((const uv_handle_t *)&c->tcp, &fd) == 0)
        (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout_ms, sizeof user_timeout_ms);
}

static void on_connected(uv_connect_t *req, int status)
{
    struct upstream_conn *c = req->data;
    if (c->state == CONN_CLOSING || status == UV_ECANCELED)
        return;
    if (status == 0) {
        tune_socket(c);
        status = upstream_conn_read(c);
    }
    if (status < 0) {
        (void)snprintf(c->text, sizeof c->text, "cannot connect: %s", uv_strerror(status));
        upstream_connect_next(c);
        return;
    }
    if (upstream_conn_config(c)->proxy.text != NULL)
        ask_proxy(c);
    else
        tunnel_stands(c);
}

static void try_address(struct upstream_conn *c)
{
    if (c->address_at == c->address_count) {
        char text[sizeof c->text];
        memcpy(text, c->text, sizeof text);
        upstream_conn_abort(c, BREAK_CONNECT, text[0] == '\0' ? "cannot connect" : text);
        return;
    }
    int r = uv_tcp_init(upstream_conn_agent(c)->loop, &c->tcp);
    ensure(r == 0);
    c->tcp.data = c;
    c->tcp_open = true;
    c->handles_open++;
    upstream_conn_enter(c, CONN_CONNECTING);
    c->connect_req.data = c;
    r = uv_tcp_connect(&c->connect_req, &c->tcp, (const struct sockaddr *)&c->addresses[c->address_at++], on_connected);
    if (r < 0) {
        (void)snprintf(c->text, sizeof c->text, "cannot connect: %s", uv_strerror(r));
        upstream_connect_next(c);
    }
}

static void on_attempt_closed(uv_handle_t *handle)
{
    struct upstream_conn *c = handle->data;
    c->tcp_open = false;
    c->handles_open--;
    if (c->state == CONN_CLOSING)
        upstream_conn_maybe_free(c);
    else
        try_address(c);
}

/* Lets go of this address and tries the next one. */
void upstream_connect_next(struct upstream_conn *c)
{
    if (c->tcp_open && !uv_is_closing((uv_handle_t *)&c->tcp))
        uv_close((uv_handle_t *)&c->tcp, on_attempt_closed);
}

static void take_addresses(struct upstream_conn *c, const struct resolver_result *result)
{
    if (result->count == 0) {
        upstream_conn_abort(c, BREAK_CONNECT, result->fault);
        return;
    }
    memcpy(c->addresses, result->addresses, result->count * sizeof c->addresses[0]);
    c->address_count = result->count;
    try_address(c);
}

static void on_resolved(void *ctx, const struct resolver_result *result)
{
    struct upstream *u = ctx;
    u->resolver = NULL;
    struct list *next;
    for (struct list *node = u->conns.next; node != &u->conns; node = next) {
        struct upstream_conn *c = CONTAINER_OF(node, struct upstream_conn, node);
        next = node->next;
        if (c->state == CONN_RESOLVING)
            take_addresses(c, result);
    }
}

/* One lookup serves all connections that wait for it: a name service that is slow, or down, is asked once at a time. */
void upstream_connect_begin(struct upstream_conn *c)
{
    const struct config_output *config = upstream_conn_config(c);
    const struct config_url *to = config->proxy.text != NULL ? &config->proxy : &config->endpoint;
    struct upstream *u = c->upstream;
    upstream_conn_enter(c, CONN_RESOLVING);
    if (u->resolver == NULL)
        u->resolver = resolver_start(upstream_conn_agent(c)->loop, to->host, to->port, on_resolved, u);
}
