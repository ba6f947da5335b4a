/* http_spill: memory for a request that comes in pieces, lent by the shared state (part of http_server). */
#ifndef PENSTOCK_HTTP_HTTP_SPILL_H
#define PENSTOCK_HTTP_HTTP_SPILL_H

#include "lib/http/http_server.h"

struct http_spill {
    struct http_spill *next_spare;
    struct bytes head, body;
    struct http_server *server;        /* that it is lent to */
    struct budget_claim small, large;  /* for the body; `large` follows `small` when a body in chunks grows */
    struct http_header headers[HTTP_HEADERS_MAX];
};

struct http_spill *http_spill_take(struct http_server_shared *shared);
/* Has it the memory for a body of so many bytes? If not it will be told, by shared->go_on(). */
bool http_spill_admit(struct http_server_shared *shared, struct http_spill *spill, uint64_t bytes);
/* Does it still wait for it? */
bool http_spill_waits(const struct http_spill *spill);
void http_spill_give_back(struct http_server_shared *shared, struct http_spill *spill);

/* Appends to one of the spill's buffers and keeps the shared sum. ERR_FULL: the sum would pass its bound.
 * ERR_TOO_BIG: the buffer's own maximum. */
MUST_USE enum err http_spill_append(struct http_server_shared *shared, struct bytes *b, struct span s);
/* Appends to the body, which may have a budget of its own. */
MUST_USE enum err http_spill_body(struct http_server_shared *shared, struct http_spill *spill, struct span s);

#endif
