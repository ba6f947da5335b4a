/* upstream: the connections of one output. Step 10 of the straight line: between the core's wish to send a
 * batch (lib/output/output.c) and the api's verdict on the answer.
 *
 * A send takes an idle connection or opens one (upstream_conn.c). The core never has more than `concurrency`
 * requests out, so there are never more connections. What comes back goes to the core as output_replied()
 * or output_broke(), never inside upstream_send(). */
#ifndef PENSTOCK_AGENT_UPSTREAM_H
#define PENSTOCK_AGENT_UPSTREAM_H

#include "lib/base/list.h"
#include "lib/output/output.h"
#include "lib/tls/tls.h"

#include <uv.h>

struct output_host;
struct upstream_conn;

/* A request of a sender that only the upstream can answer (api->pass_on): sent once, while the sender waits. Embedded
 * in what waits; its spans stay put until done() or upstream_forget(). */
struct upstream_pass {
    struct api_send send;
    /* reply NULL: there is no answer. Its spans are good during the call. */
    void (*done)(struct upstream_pass *p, const struct api_reply *reply);
    struct upstream_conn *conn;   /* the upstream's; NULL: not under way */
};
#define UPSTREAM_PASSES_MAX 16

struct upstream {
    struct output_host *owner;
    struct tls_context *tls;      /* NULL: plain, or not loaded yet */
    struct bytes session;         /* of the last handshake, for resumption */
    struct resolver *resolver;    /* the one lookup under way; NULL: none is */
    struct list conns;            /* struct upstream_conn */
    unsigned conn_count;
    unsigned pass_count;
    bool closing;
    void (*gone)(struct output_host *owner);
    uint64_t bytes_out;
    int64_t peer_not_after;
    uint64_t tls_files;           /* what the files looked like when they were read */
    uint8_t *read_buffer;
};

struct upstream *upstream_new(struct output_host *owner);
/* Reads certificates and builds the TLS configuration (upstream_tls.c). */
MUST_USE enum err upstream_load_tls(struct upstream *u, struct fault *why);
/* The same from what was read. On an error the old one stays in force. */
struct tls_files;
MUST_USE enum err upstream_use_tls(struct upstream *u, const struct tls_files *files, struct fault *why);
void upstream_send(struct upstream *u, struct batch *batch);
void upstream_probe(struct upstream *u);
/* False when too many are under way already, or the output is closing. */
MUST_USE bool upstream_pass_on(struct upstream *u, struct upstream_pass *p);
void upstream_forget(struct upstream *u, struct upstream_pass *p);
void upstream_cancel(struct upstream *u, struct batch *batch);
void upstream_rebuild(struct upstream *u); /* closes every connection; sends in flight end as unknown */
/* Not-after of the upstream's certificate as last seen and of our own, Unix seconds; 0: none. */
int64_t upstream_peer_not_after(const struct upstream *u);
int64_t upstream_own_not_after(const struct upstream *u);
/* gone(owner) runs once, when the last handle is closed; upstream_free() then. */
void upstream_close(struct upstream *u, void (*gone)(struct output_host *owner));
void upstream_free(struct upstream *u);

/* For upstream_conn.c: a connection ended (its memory is the upstream's to free), or its request did. */
void upstream_conn_ended(struct upstream *u, struct upstream_conn *c);
void upstream_request_replied(struct upstream *u, struct upstream_conn *c);

#endif
