/* http_front: a listening HTTP server over libuv, used by the http input, by admin and by the sink.
 * Step 1 of the straight line, with lib/http/http_server.c as step 2.
 *
 * The front accepts connections, reads into one buffer that all connections share, drives the sans-IO
 * server, keeps the deadlines, and writes: all answers that a turn of the loop has finished leave in one
 * write per connection. What a request means is its user's business. Deadlines are kept by one timer for
 * all connections, which runs only while there are any.
 *
 * With `tls` set, each connection is a TLS session between socket and server; nothing else changes. */
#ifndef PENSTOCK_AGENT_HTTP_FRONT_H
#define PENSTOCK_AGENT_HTTP_FRONT_H

#include "agent/flusher.h"
#include "agent/listener.h"
#include "lib/base/clock.h"
#include "lib/base/list.h"
#include "lib/base/log.h"
#include "lib/http/http_server.h"

#include <uv.h>

struct http_conn;
struct http_front;
struct tls_context;
struct tls_session;

#define HTTP_FRONT_READ_BYTES (64 * 1024)

struct http_front_use {
    /* A request is here (HTTP_SERVER_REQUEST), wants to be told whether to go on (EXPECT), or cannot be taken
     * (REFUSED). Answer by http_conn_answer(), now or later. */
    void (*request)(struct http_conn *c, enum http_server_event event, const struct http_request *r);
    /* The connection is gone: forget what waits for an answer on it. Its memory goes after this call. */
    void (*gone)(struct http_conn *c);
    /* Every handle is closed, after http_front_close(). */
    void (*closed)(struct http_front *f);
};

struct http_front {
    uv_loop_t *loop;
    struct clock clock;
    struct flush_queue *flushes; /* flushed once per turn */
    const struct http_front_use *use;
    void *ctx;                   /* the user's */
    const char *subject;         /* for diagnostics */
    struct http_server_shared shared;
    struct tls_context *tls;     /* NULL: plain; the user's, may be replaced at any time */
    unsigned connections_max;
    uint64_t idle_timeout_us;    /* 0: never */
    uint64_t request_timeout_us;
    /* own */
    struct listener listener;
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } accepting;                 /* .data == this front */
    bool is_pipe, listening, stopping, closing, accepting_open, sweep_open;
    uv_timer_t sweep;            /* .data == this front */
    bool sweeping;
    struct list conns;           /* least recently active first */
    unsigned conn_count;
    struct log_limit accept_limit, tls_limit;
    uint64_t accepted, refused;
    uint8_t *read_buffer;
};

struct http_conn {
    struct http_front *front;
    struct list node;            /* in front->conns */
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } io;                        /* .data == this connection */
    struct http_server server;
    struct tls_session *tls;
    struct flusher flusher;
    uv_write_t write_req;
    struct bytes writing;        /* owned by the write under way */
    bool write_busy, reading, closing, lingering, tls_failed;
    bool go_on;                  /* it has the memory that it waited for */
    uint64_t bytes_in;           /* from the wire */
    uint64_t message;            /* http_server_reading() as last seen */
    uint64_t deadline_us;        /* of the message being read, the silence, or the linger; 0: none */
    bool deadline_is_request;
    struct list exchanges;       /* the user's, for what waits on this connection */
};

/* Fields above "own" are filled by the caller; limits go to http_server_shared_init(). Takes the address. */
MUST_USE enum err http_front_bind(struct http_front *f, const char *name, const struct config_listen *where,
                                  const struct config_socket *socket, const struct http_limits *limits,
                                  struct fault *why);
MUST_USE enum err http_front_listen(struct http_front *f, struct fault *why);
/* Takes no new connections and closes the idle ones; those that are busy end with their answer. */
void http_front_stop(struct http_front *f);
/* Closes everything; use->closed() follows on a later turn. */
void http_front_close(struct http_front *f);
void http_front_deinit(struct http_front *f); /* after closed() */

/* The answer leaves at the end of the turn. One that is too large to be held, or for a connection that has ended,
 * closes the connection instead, and use->gone() was called when this returns. */
void http_conn_answer(struct http_conn *c, uint64_t handle, const struct http_answer *answer);
void http_conn_flush_soon(struct http_conn *c);
void http_conn_close(struct http_conn *c);
/* "192.0.2.7:51234"; "unix" on a socket of a path. Asks the kernel. */
void http_conn_peer(const struct http_conn *c, char *into, size_t size);

#endif
