/* http_queue: answers are finished in any order and leave in the order of their requests.
 *
 * Every request that was handed out holds a slot in a ring until its answer has moved into `out`. An
 * answer to the oldest request is written straight into `out`; one that is early waits in memory of its
 * slot. Both together are bounded by out_bytes_max. A connection without open requests holds no memory
 * here beyond the struct and, if it was small, the emptied `out`. */
#ifndef PENSTOCK_HTTP_HTTP_QUEUE_H
#define PENSTOCK_HTTP_HTTP_QUEUE_H

#include "lib/http/http_answer.h"

#define HTTP_QUEUE_SLOTS 32

enum http_slot_flags {
    HTTP_SLOT_HEAD = 1,     /* answer to HEAD */
    HTTP_SLOT_1_0 = 2,      /* the request was HTTP/1.0 */
    HTTP_SLOT_CLOSE = 4,    /* the connection ends after this answer */
    HTTP_SLOT_ANSWERED = 8, /* complete; waits at most for older ones */
    HTTP_SLOT_STREAMING = 16,
    HTTP_SLOT_CHUNKED = 32,
};

struct http_slot {
    struct bytes *early; /* what waits for older answers; NULL if nothing */
    uint8_t flags;       /* enum http_slot_flags */
};

struct http_queue {
    struct bytes out;   /* ready to be sent */
    size_t early_bytes; /* waiting in slots */
    size_t out_bytes_max;
    uint64_t first, next; /* handles: first is the oldest open one, next the next to be given */
    bool closed;          /* the last answer is in `out`; nothing follows it */
    struct http_slot slots[HTTP_QUEUE_SLOTS];
};

void http_queue_init(struct http_queue *q, size_t out_bytes_max);
void http_queue_deinit(struct http_queue *q);

/* Open requests: handed out, answer not yet in `out`. */
static inline unsigned http_queue_open(const struct http_queue *q)
{
    return (unsigned)(q->next - q->first);
}

/* Gives the next request its slot. There must be a free one. */
uint64_t http_queue_take(struct http_queue *q);

/* Replaces what is known about how the request wants its answer: HEAD, 1_0 and CLOSE of the flags. */
void http_queue_describe(struct http_queue *q, uint64_t handle, unsigned flags);

/* True while `handle` waits for its answer. */
bool http_queue_waits(const struct http_queue *q, uint64_t handle);

/* The whole answer. ERR_CLOSED: the handle no longer waits (the connection ended before it).
 * ERR_TOO_BIG, ERR_MALFORMED: as http_answer_write(); nothing was written, the handle still waits. */
MUST_USE enum err http_queue_answer(struct http_queue *q, uint64_t handle, const struct http_answer *a,
                                    const char *date);

/* The request of the newest handle will never be complete, so nobody will answer it. */
void http_queue_abandon(struct http_queue *q, uint64_t handle);

/* "100 Continue", in its turn. */
void http_queue_continue(struct http_queue *q, uint64_t handle);

/* An answer of unknown length, in pieces. Bytes that find no room are refused whole with ERR_FULL, so a
 * slow reader loses pieces, not the framing. */
MUST_USE enum err http_queue_stream_begin(struct http_queue *q, uint64_t handle, const struct http_answer *a,
                                          const char *date);
MUST_USE enum err http_queue_stream(struct http_queue *q, uint64_t handle, struct span piece);
void http_queue_stream_end(struct http_queue *q, uint64_t handle);

/* `n` bytes at the start of `out` were sent. */
void http_queue_sent(struct http_queue *q, size_t n);

#endif
