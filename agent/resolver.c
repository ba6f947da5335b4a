/* resolver: see resolver.h. */
#include "agent/resolver.h"

#include "lib/base/bytes.h"
#include "lib/base/ensure.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct resolver {
    uv_getaddrinfo_t req; /* .data == this resolver */
    void (*done)(void *ctx, const struct resolver_result *result); /* NULL: abandoned */
    void *ctx;
};

static unsigned abandoned;

static unsigned keep_addresses(const struct addrinfo *list, struct sockaddr_storage *into)
{
    unsigned count = 0;
    for (const struct addrinfo *a = list; a != NULL && count < RESOLVER_ADDRESSES_MAX; a = a->ai_next) {
        if (a->ai_family != AF_INET && a->ai_family != AF_INET6)
            continue;
        memset(&into[count], 0, sizeof into[count]);
        memcpy(&into[count++], a->ai_addr, a->ai_addrlen);
    }
    return count;
}

static void on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *list)
{
    struct resolver *r = req->data;
    struct sockaddr_storage addresses[RESOLVER_ADDRESSES_MAX];
    char fault[160] = "the name has no address";
    struct resolver_result result = {.addresses = addresses, .fault = fault};
    if (status == 0)
        result.count = keep_addresses(list, addresses);
    else
        (void)snprintf(fault, sizeof fault, "name lookup failed: %s", uv_strerror(status));
    uv_freeaddrinfo(list);
    if (r->done != NULL)
        r->done(r->ctx, &result);
    else
        abandoned--;
    free(r);
}

struct resolver *resolver_start(uv_loop_t *loop, const char *host, unsigned port,
                                void (*done)(void *ctx, const struct resolver_result *result), void *ctx)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    char service[8];
    struct resolver *r = must_alloc(sizeof *r);
    (void)snprintf(service, sizeof service, "%u", port);
    r->req.data = r;
    r->done = done;
    r->ctx = ctx;
    int e = uv_getaddrinfo(loop, &r->req, on_resolved, host, service, &hints);
    ensure(e == 0); /* fails only for names that configuration refuses */
    return r;
}

void resolver_abandon(struct resolver *r)
{
    if (r == NULL)
        return;
    r->done = NULL;
    abandoned++;
    (void)uv_cancel((uv_req_t *)&r->req); /* not begun: ends at once */
}

unsigned resolver_abandoned(void)
{
    return abandoned;
}
