/* resolver: one name lookup, in libuv's pool, with a deadline kept by the caller. Names are looked up for each new
 * connection. A lookup that the system library is in cannot be stopped: resolver_abandon() lets it go, and
 * the process does not wait for it when it ends. */
#ifndef PENSTOCK_AGENT_RESOLVER_H
#define PENSTOCK_AGENT_RESOLVER_H

#include "lib/base/fault.h"

#include <sys/socket.h>
#include <uv.h>

#define RESOLVER_ADDRESSES_MAX 16

struct resolver;
struct resolver_result {
    const struct sockaddr_storage *addresses; /* good during done() */
    unsigned count;
    const char *fault;                        /* count == 0: why */
};

/* done(ctx) follows, never inside this call, unless the lookup is abandoned; its memory goes after it. */
struct resolver *resolver_start(uv_loop_t *loop, const char *host, unsigned port,
                                void (*done)(void *ctx, const struct resolver_result *result), void *ctx);
void resolver_abandon(struct resolver *r); /* NULL is taken */
/* Lookups that were abandoned and still hold the loop. */
unsigned resolver_abandoned(void);

#endif
