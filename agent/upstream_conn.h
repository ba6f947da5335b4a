/* upstream_conn: one connection to an upstream, from the name lookup to the answer. Each state waits for one thing and
 * has a deadline:
 *
 *   RESOLVING   for the name                      timeout.connect
 *   CONNECTING  for TCP, address after address    timeout.connect, each
 *   PROXY       for the proxy's answer            timeout.connect
 *   HANDSHAKE   for TLS                           timeout.connect
 *   BUSY        for the whole answer              timeout.request
 *   IDLE        for the next request              timeout.idle; any byte or the peer's close ends it
 *   CLOSING     for libuv to let go of the handles
 *
 * What a request was for is told to the owner only when nothing of ours can touch its bytes any more: on a
 * whole answer when the request was written whole, otherwise after the handles are closed. */
#ifndef PENSTOCK_AGENT_UPSTREAM_CONN_H
#define PENSTOCK_AGENT_UPSTREAM_CONN_H

#include "agent/resolver.h"
#include "lib/base/list.h"
#include "lib/http/http_client.h"
#include "lib/output/output.h"
#include "lib/tls/tls.h"

#include <uv.h>

struct upstream;
struct upstream_pass;

enum conn_state { CONN_RESOLVING, CONN_CONNECTING, CONN_PROXY, CONN_HANDSHAKE, CONN_BUSY, CONN_IDLE, CONN_CLOSING };

#define CONN_PARTS_MAX 4 /* head, before, events, after */

struct upstream_conn {
    struct upstream *upstream;
    struct list node;            /* in upstream->conns */
    enum conn_state state;
    uv_tcp_t tcp;                /* .data == this; made anew for each address */
    uv_timer_t timer;            /* .data == this; the state's deadline */
    uv_connect_t connect_req;
    uv_write_t write_req;
    unsigned handles_open;
    bool tcp_open, write_busy, answered_early;
    struct sockaddr_storage addresses[RESOLVER_ADDRESSES_MAX];
    unsigned address_count;
    unsigned address_at;
    struct tls_session *tls;     /* NULL: plain, or not yet */
    struct http_client client;
    uint64_t opened_us, sent_us;
    unsigned requests;           /* sent on this connection so far */

    /* the request under way */
    struct batch *batch;         /* NULL with probe, or when idle */
    bool probe;
    struct upstream_pass *pass;  /* a sender's request rather than a batch */
    struct arena arena;
    struct bytes head;
    struct span parts[CONN_PARTS_MAX];
    unsigned part_count, part_at;
    size_t part_offset;
    struct bytes out;            /* what a write under way owns: ciphertext */

    /* why it ended, for the owner */
    enum output_break broke;
    char text[240];
};

/* Starts connecting; the request (a batch, else a sender's, else a probe) is sent as soon as it stands. */
struct upstream_conn *upstream_conn_open(struct upstream *u, struct batch *batch, struct upstream_pass *pass);
/* On an idle connection. */
void upstream_conn_send(struct upstream_conn *c, struct batch *batch, struct upstream_pass *pass);
/* The whole answer; spans are good until the connection's next request. */
void upstream_conn_reply(const struct upstream_conn *c, struct api_reply *ret);
/* Ends it; the owner hears of the request under way as `what`. */
void upstream_conn_abort(struct upstream_conn *c, enum output_break what, const char *text);

#endif
