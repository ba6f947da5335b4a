/* upstream_connect: the way to a connection that stands: the name is looked up, each of its addresses is tried in turn, a
 * proxy is asked for a tunnel, and TLS shakes hands. Part of step 10; upstream_conn.c goes on with the request.
 *
 * Each stage is a state of the connection with a deadline of its own (upstream_conn.h). Names are looked up for each new
 * connection; an address that fails or takes too long is followed by the next one, and the last one's fault is told. A
 * failure here is BREAK_CONNECT, nothing of the request was sent; one of certificates or the
 * proxy's credentials is BREAK_DENIED. */
#ifndef PENSTOCK_AGENT_UPSTREAM_CONNECT_H
#define PENSTOCK_AGENT_UPSTREAM_CONNECT_H

#include "agent/upstream_conn.h"

void upstream_connect_begin(struct upstream_conn *c); /* with the name */
/* This address failed or took too long (c->text says why): on to the next one. */
void upstream_connect_next(struct upstream_conn *c);
/* Bytes from the proxy, in CONN_PROXY. */
void upstream_connect_proxy_in(struct upstream_conn *c, struct span in);
/* Bytes were given to the session, in CONN_HANDSHAKE. */
void upstream_connect_handshake(struct upstream_conn *c);

/* --- what connecting needs of upstream_conn.c ----------------------------------------------------------- */

struct agent;
struct config_output;
const struct agent *upstream_conn_agent(const struct upstream_conn *c);
const struct config_output *upstream_conn_config(const struct upstream_conn *c);
void upstream_conn_enter(struct upstream_conn *c, enum conn_state state); /* and its deadline begins */
void upstream_conn_start(struct upstream_conn *c);                        /* it stands: the request goes */
void upstream_conn_push(struct upstream_conn *c);                         /* writes what the session has to send */
void upstream_conn_write(struct upstream_conn *c, const uv_buf_t *bufs, unsigned count);
int upstream_conn_read(struct upstream_conn *c); /* begins; a negative error of libuv */
void upstream_conn_tls_failed(struct upstream_conn *c, enum err err, const char *text);
void upstream_conn_maybe_free(struct upstream_conn *c); /* a handle is closed; it may have been the last */

#endif
