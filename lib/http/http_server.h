/* http_server: the server side of one HTTP/1.1 connection (step 2 of an event's way; bytes come from
 * agent/input_http.c, requests go to lib/api). Bytes in, requests out; answers in, bytes out.
 *
 * How a caller drives it, once per read:
 *
 *     http_server_give(s, bytes_just_read);
 *     while ((event = http_server_next(s, &request)) is neither MORE, PAUSED nor DONE)
 *         act on request, now or later: http_server_respond(s, request->handle, …)
 *     send http_server_output(s), then http_server_sent(s, n)
 *
 * A request that lies whole in the bytes given is not copied: head and body are spans into them. One that
 * comes in pieces is collected in memory that is lent by the shared state and given back when the request
 * is done, so an idle connection holds only this struct and an allocation per request is rare. All such
 * memory together is bounded: bodies take it from the shared budgets, where there are any, and what finds too
 * little is not read further until its turn has come; all else is bounded by held_bytes_max.
 *
 * Parsing is llhttp's, in strict mode. What it lets through and RFC 9112 does not is refused here: folded
 * lines, HTTP/0.9, other protocols on the request line, a missing or doubled Host, transfer codings other
 * than chunked. Results do not depend on how the bytes were cut into reads.
 *
 * A refusal ends the connection: its answer says "Connection: close", later bytes are thrown away, and
 * the caller lingers (sends what is left, shuts down its sending side, reads and discards for a bounded
 * time), so that the peer reads the answer before a reset. */
#ifndef PENSTOCK_HTTP_HTTP_SERVER_H
#define PENSTOCK_HTTP_HTTP_SERVER_H

#include "lib/base/budget.h"
#include "lib/http/http_queue.h"

#include <llhttp.h>

#define HTTP_PIPELINE_MAX (HTTP_QUEUE_SLOTS - 1)
/* The most that one http_server_give() takes. */
#define HTTP_GIVE_BYTES_MAX (256 * 1024)

struct http_limits {
    size_t header_bytes_max;   /* request line and headers, at most 64 KiB; beyond: 431 */
    unsigned header_count_max; /* at most HTTP_HEADERS_MAX; beyond: 431 */
    size_t url_bytes_max;      /* beyond: 414 */
    uint64_t body_bytes_max;   /* as it comes, before decoding; announced or counted beyond: 413 */
    unsigned pipeline_max;  /* requests handed out and not answered, at most HTTP_PIPELINE_MAX; then paused */
    size_t out_bytes_pause; /* answers waiting to be sent; above it paused, at half of it not any more */
    size_t out_bytes_max;   /* an answer that would pass it is refused with ERR_TOO_BIG */
    size_t held_bytes_max;  /* over all connections: requests that came in pieces; beyond: 503 */
    uint64_t decoded_bytes_max; /* what the caller makes of a large encoded body at most, in memory of the same budget */
};

/* 64 KiB, 128 headers, 8 KiB, 10 MiB, 31 requests, 256 KiB, 4 MiB, 24 MiB. */
extern const struct http_limits http_limits_default;

struct http_refusal {
    unsigned status;
    const char *code;    /* "too_large": for {"error":{"code":…}} */
    const char *message; /* one sentence part, plain ASCII without quotes */
};

struct http_server;
struct http_spill; /* the memory of a request that comes in pieces */

#define HTTP_SMALL_BODY (256 * 1024) /* what is larger has a budget of its own, so that small ones need not wait for it */

/* What the connections of one input share. One thread; it outlives its connections and does not move. */
struct http_server_shared {
    struct http_limits limits;
    char date[HTTP_DATE_LEN + 1]; /* set by the caller once a second (http_date_write); "" sends none */
    struct http_refusal refusal;  /* of the last HTTP_SERVER_REFUSED */
    size_t held_bytes;            /* now held by requests in pieces, all connections */
    struct http_request request;  /* what http_server_next() shows */
    struct http_header headers[HTTP_HEADERS_MAX];
    struct http_spill *spare; /* kept for the next one that needs it */
    unsigned spare_count;
    /* Set by the caller, all or none: the memory of bodies, else bounded by held_bytes_max; and the caller's own for the
     * requests that it has: while that is short no new request is begun. */
    struct budget *small, *large, *working;
    void (*go_on)(struct http_server *s); /* it was paused for want of memory and may go on: call next() later */
};

void http_server_shared_init(struct http_server_shared *shared, const struct http_limits *limits);
void http_server_shared_deinit(struct http_server_shared *shared); /* after its connections */

enum http_server_state {
    HTTP_AT_START = 0, /* between requests */
    HTTP_AT_HEAD,
    HTTP_AT_EXPECT, /* the head asked for "100 Continue" and the caller was told */
    HTTP_AT_BODY,   /* of known length */
    HTTP_AT_CHUNKS,
    HTTP_AT_DELIVERED, /* the caller holds the request until the next call */
    HTTP_AT_REFUSAL,   /* the caller is about to be told */
    HTTP_AT_END,       /* bytes are thrown away */
};

struct http_server {
    struct http_server_shared *shared;
    llhttp_t parser;
    struct http_queue queue;
    uint8_t state;   /* enum http_server_state */
    uint8_t lex;     /* which part of a header line the parser was in */
    bool odd_lines;  /* some line's shape needs a second look for folding */
    bool head_whole; /* judged, so that the caller may see it */
    bool keep_alive;
    bool eof;
    bool paused;
    bool in_backlog; /* `in` is the backlog, not the caller's bytes */
    bool waits;      /* paused for want of memory */
    uint16_t header_count;
    uint32_t head_len, url_at, url_len;
    uint32_t slice_offset; /* of the head, where the piece now being parsed begins */
    const uint8_t *slice;
    const uint8_t *head;         /* the head's bytes, when not in the spill */
    struct http_header *headers; /* shared->headers, or the spill's */
    struct http_spill *spill;    /* NULL: nothing is held */
    struct span in;              /* not yet parsed */
    struct span body;            /* read so far, when it is borrowed from `in` */
    uint64_t body_left;          /* of a known length */
    uint64_t body_len;           /* read or announced by chunks so far */
    uint64_t handle;             /* of the message being read; 0: none yet */
    uint64_t message;            /* counts messages whose first byte has come */
    size_t chunk_extra;          /* bytes of chunk extensions and trailers */
    struct bytes backlog;        /* what was given but must wait while paused */
    struct http_refusal refusal;
    struct budget_claim gate; /* waits to begin a request */
};

_Static_assert(sizeof(struct http_server) <= 1024, "a thousand idle connections must cost almost nothing");

enum http_server_event {
    HTTP_SERVER_MORE = 1, /* all bytes given are used up or kept: read on */
    HTTP_SERVER_REQUEST,  /* a complete request; respond now or later */
    HTTP_SERVER_EXPECT, /* the head asks for "100 Continue": respond now to refuse (the body stays unread, the
                         * connection ends), or call next: the interim answer goes out and the request
                         * comes again, whole and with the same handle */
    HTTP_SERVER_REFUSED, /* the request cannot be taken: shared->refusal says why; respond to its handle, in
                          * the shape that its path wants, or with http_server_respond_refusal(). `path` and
                          * headers are there when the head was whole, else empty */
    HTTP_SERVER_PAUSED,  /* stop reading until http_server_can_read(); then call next again */
    HTTP_SERVER_DONE,    /* no request will follow; bytes are thrown away */
};

void http_server_init(struct http_server *s, struct http_server_shared *shared);
void http_server_deinit(struct http_server *s);

/* Bytes that were read, borrowed until next() says MORE, PAUSED or DONE; at most HTTP_GIVE_BYTES_MAX.
 * ERR_FULL: given while paused and the backlog has no room. */
MUST_USE enum err http_server_give(struct http_server *s, struct span in);

/* *ret_request is set with REQUEST, EXPECT and REFUSED, and good until the next call for any connection of
 * the same shared state. Between MORE/PAUSED/DONE and the next give() other connections may have their turn;
 * before that this one must be driven to such an event. */
MUST_USE enum http_server_event http_server_next(struct http_server *s,
                                                 const struct http_request **ret_request);

/* The peer will send no more. Answers that are open can still be given. */
void http_server_eof(struct http_server *s);

/* Refuses from outside (408 too slow, 503 no room for this connection): the next http_server_next() says
 * REFUSED. `code` and `message` are static. No effect once the connection is ending. */
void http_server_refuse(struct http_server *s, unsigned status, const char *code, const char *message);

/* The whole answer to a request, in any order. ERR_CLOSED: the connection ended before its turn.
 * ERR_TOO_BIG, ERR_MALFORMED: nothing was written, the request still waits for an answer. */
MUST_USE enum err http_server_respond(struct http_server *s, uint64_t handle, const struct http_answer *a);

/* {"error":{"code":"…","message":"…"}} with the refusal's status; Retry-After: 1 with a 503. */
void http_server_respond_refusal(struct http_server *s, uint64_t handle, const struct http_refusal *r);

/* An answer without an end in sight, as http_queue_stream_begin() and its sisters. */
MUST_USE enum err http_server_stream_begin(struct http_server *s, uint64_t handle,
                                           const struct http_answer *a);
MUST_USE enum err http_server_stream(struct http_server *s, uint64_t handle, struct span piece);
void http_server_stream_end(struct http_server *s, uint64_t handle);

/* What is to be sent. Good until the next call; sent() drops the first n bytes. */
struct span http_server_output(const struct http_server *s);
void http_server_sent(struct http_server *s, size_t n);
/* Moves all output into `into` (which must be empty) without copying; for writers that must own it. The
 * bytes then no longer count for pausing: the caller stops calling next() while its own queue is long. */
void http_server_take_output(struct http_server *s, struct bytes *into);

/* False while reading must stop. */
bool http_server_can_read(struct http_server *s);

/* The number of the request whose first byte has come but not its last; 0: none. For request_timeout: when it
 * changes to another number than 0, a new deadline begins. */
uint64_t http_server_reading(const struct http_server *s);

/* While the caller holds a request: its body's memory becomes the caller's, with what it holds of the budget. The span
 * in the request stays good as long as `into`. False: the body lies in the bytes that were given. */
bool http_server_take_body(struct http_server *s, struct bytes *into, struct budget_claim *claim);

/* Does it wait for memory, and would it take only a little more if it went on reading? */
bool http_server_waits(const struct http_server *s);

/* Requests that wait for their answer. */
static inline unsigned http_server_open(const struct http_server *s)
{
    return http_queue_open(&s->queue);
}

/* Neither a request begun, nor one unanswered, nor output unsent: idle_timeout runs. */
bool http_server_idle(const struct http_server *s);

/* Everything is said and sent (or nothing can be): shut down, linger, close. */
bool http_server_finished(const struct http_server *s);

/* Gives back what an idle connection still holds. */
void http_server_trim(struct http_server *s);

#endif
