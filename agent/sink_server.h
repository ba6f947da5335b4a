/* sink_server: the sockets of the development upstream: a listener, its connections, TLS, and the misbehaviour
 * that only a socket can show (late, slow, cut, reset). What is said on them is sink_check's. */
#ifndef PENSTOCK_AGENT_SINK_SERVER_H
#define PENSTOCK_AGENT_SINK_SERVER_H

#include "agent/sink_check.h"
#include "lib/base/list.h"
#include "lib/http/http_server.h"

#include <uv.h>

struct tls_context;

struct sink_server {
    uv_loop_t *loop;
    uv_tcp_t listener;
    struct list conns;
    struct http_server_shared http;
    struct arena arena;
    struct sink_exchange exchange;
    const struct sink_settings *settings;
    struct tls_context *tls; /* NULL: plain */
    unsigned handles_open;
    bool closing;
    void (*served)(struct sink_server *s); /* after each answer that was sent; may call sink_server_close() */
    void *owner;
};

/* Binds and listens; *ret_port is the port that it got. `host` is an IPv4 or IPv6 address. ERR_IN_USE, ERR_IO. */
MUST_USE enum err sink_server_open(struct sink_server *s, uv_loop_t *loop, const char *host, int port,
                                   const struct sink_settings *settings, struct tls_context *tls, int *ret_port,
                                   struct fault *why);
/* Closes listener and connections; the loop runs empty afterwards. May be called twice. */
void sink_server_close(struct sink_server *s);
/* After the loop has run empty. */
void sink_server_deinit(struct sink_server *s);

#endif
