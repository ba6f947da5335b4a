/* http_exchange: one request of an HTTP input, from its last byte to its answer: what steps 2 to 7 of the straight line
 * know of it. See input_http.h for the memory that it takes.
 *
 * An exchange is taken when a request is whole, and released with its answer or with its connection. While
 * nothing has to wait it points into the bytes that were read; what waits owns its memory. */
#ifndef PENSTOCK_AGENT_HTTP_EXCHANGE_H
#define PENSTOCK_AGENT_HTTP_EXCHANGE_H

#include "agent/input_http.h"
#include "agent/intake.h"
#include "agent/upstream.h"
#include "lib/base/budget.h"
#include "lib/codec/compress.h"

struct http_exchange {
    struct list node; /* in its connection's exchanges, or spare */
    struct input_http *input;
    struct http_conn *conn;
    uint64_t handle;
    struct arena arena;
    struct bytes wire, body; /* the body as it came, where it is our own; and decoded */
    struct budget_claim wire_claim, body_claim, working;
    struct flusher served; /* body_claim was */
    enum encoding coding;  /* of the body as it came */
    void (*decoded)(struct http_exchange *e);
    bool owned; /* the head was copied, and the body is in wire or body */
    struct api_request request;
    struct api_exchange x;
    struct intake_offer offer;
    struct upstream_pass pass;   /* a request that only the upstream can answer */
    struct output_host *pass_to; /* NULL: it is not under way */
};

struct http_exchange *http_exchange_take(struct input_http *in, struct http_conn *c, uint64_t handle);
void http_exchange_release(struct http_exchange *e);
void http_exchange_free(struct http_exchange *e); /* a spare one, at the end */
/* What it has made of the request is counted once that is known. */
void http_exchange_count_working(struct http_exchange *e);

/* --- the request's memory --- */

void http_exchange_fill_head(struct http_exchange *e, const struct http_request *r);
/* A body that lies in the bytes just read moves to memory of its own. False: there is not enough. */
bool http_exchange_own_body(struct http_exchange *e);
/* The request outlives the bytes that it was read from. False: there is not enough memory. */
bool http_exchange_own(struct http_exchange *e);
/* What the answer may need is kept: the request's own memory goes with the next one on this connection. */
void http_exchange_keep_for_answer(struct http_exchange *e);

/* --- its end: each of these answers and releases --- */

void http_exchange_answer(struct http_exchange *e, const struct api_answer *a);
/* As the path's api words it. */
void http_exchange_finish(struct http_exchange *e, enum api_condition condition, const char *text);
/* The same, and counts the request as one rejected event. */
void http_exchange_refuse(struct http_exchange *e, enum api_condition condition, enum api_reject reason,
                          const char *text);

#endif
