/* upstream: see upstream.h. */
#include "agent/upstream.h"

#include "agent/agent.h"
#include "agent/output_host.h"
#include "agent/resolver.h"
#include "agent/upstream_conn.h"
#include "lib/base/ensure.h"
#include "lib/base/log.h"
#include "lib/config/config.h"

#include <stdlib.h>

#define READ_BYTES (64 * 1024)
#define SESSION_BYTES_MAX (64 * 1024)

static struct upstream_conn *find(struct upstream *u, bool (*is)(const struct upstream_conn *c, const void *what),
                                  const void *what)
{
    for (struct list *node = u->conns.next; node != &u->conns; node = node->next) {
        struct upstream_conn *c = CONTAINER_OF(node, struct upstream_conn, node);
        if (is(c, what))
            return c;
    }
    return NULL;
}

static bool is_idle(const struct upstream_conn *c, const void *what)
{
    (void)what;
    return c->state == CONN_IDLE;
}

static bool carries(const struct upstream_conn *c, const void *what)
{
    return c->batch == what && c->state != CONN_IDLE;
}

/* --- sending -------------------------------------------------------------------------------------------- */

static void dispatch(struct upstream *u, struct batch *batch, struct upstream_pass *pass)
{
    struct upstream_conn *c = find(u, is_idle, NULL);
    ensure(!u->closing);
    if (c != NULL) {
        /* The most recently used connection is the likeliest to be alive: it goes to the front. */
        list_remove(&c->node);
        list_insert_before(u->conns.next, &c->node);
        upstream_conn_send(c, batch, pass);
        return;
    }
    c = upstream_conn_open(u, batch, pass);
    list_insert_before(u->conns.next, &c->node);
    u->conn_count++;
}

void upstream_send(struct upstream *u, struct batch *batch)
{
    dispatch(u, batch, NULL);
}

void upstream_probe(struct upstream *u)
{
    dispatch(u, NULL, NULL);
}

bool upstream_pass_on(struct upstream *u, struct upstream_pass *p)
{
    if (u->closing || u->pass_count >= UPSTREAM_PASSES_MAX)
        return false;
    u->pass_count++;
    dispatch(u, NULL, p);
    return true;
}

void upstream_forget(struct upstream *u, struct upstream_pass *p)
{
    struct upstream_conn *c = p->conn;
    if (c == NULL)
        return;
    c->pass = NULL;
    p->conn = NULL;
    u->pass_count--;
    upstream_conn_abort(c, BREAK_CANCELLED, "the sender is gone");
}

static void tell_pass(struct upstream *u, struct upstream_conn *c, const struct api_reply *reply)
{
    struct upstream_pass *p = c->pass;
    c->pass = NULL;
    p->conn = NULL;
    u->pass_count--;
    p->done(p, reply);
}

void upstream_cancel(struct upstream *u, struct batch *batch)
{
    struct upstream_conn *c = find(u, carries, batch);
    if (c != NULL)
        upstream_conn_abort(c, BREAK_CANCELLED, "the batch was dropped meanwhile");
}

static void abort_all(struct upstream *u, const char *text)
{
    struct list *node = u->conns.next;
    while (node != &u->conns) {
        struct upstream_conn *c = CONTAINER_OF(node, struct upstream_conn, node);
        node = node->next;
        bool began = c->state == CONN_BUSY;
        upstream_conn_abort(c, began ? BREAK_UNKNOWN : BREAK_CONNECT, text);
    }
}

void upstream_rebuild(struct upstream *u)
{
    abort_all(u, "the connection was given up: nothing moved for too long");
}

/* --- what became of it ---------------------------------------------------------------------------------- */

static void tell_reply(struct upstream *u, struct upstream_conn *c)
{
    struct output *core = u->owner->core;
    struct api_reply reply;
    struct batch *batch = c->batch;
    bool probe = c->probe;
    upstream_conn_reply(c, &reply);
    if (c->pass != NULL) {
        tell_pass(u, c, &reply);
        return;
    }
    c->batch = NULL;
    c->probe = false;
    if (probe)
        output_probed(core, &reply, BREAK_CANCELLED, NULL);
    else
        output_replied(core, batch, &reply);
    output_host_touch(u->owner);
}

void upstream_request_replied(struct upstream *u, struct upstream_conn *c)
{
    if (c->tls != NULL && c->requests == 1) {
        bytes_clear(&u->session);
        if (tls_session_save(c->tls, &u->session) != OK)
            bytes_clear(&u->session); /* the next handshake is a whole one */
    }
    tell_reply(u, c);
}

void upstream_conn_ended(struct upstream *u, struct upstream_conn *c)
{
    struct output *core = u->owner->core;
    list_remove(&c->node);
    u->conn_count--;
    if (c->answered_early) {
        tell_reply(u, c);
    } else if (c->pass != NULL) {
        log_debug(u->owner->subject, "a request could not be passed on: %s", c->text);
        tell_pass(u, c, NULL);
    } else if (c->probe) {
        output_probed(core, NULL, c->broke, c->text);
        output_host_touch(u->owner);
    } else if (c->batch != NULL) {
        output_broke(core, c->batch, c->broke, c->text);
        output_host_touch(u->owner);
    }
    if (u->closing && u->conn_count == 0)
        u->gone(u->owner);
}

/* --- life ----------------------------------------------------------------------------------------------- */

struct upstream *upstream_new(struct output_host *owner)
{
    struct upstream *u = must_alloc(sizeof *u);
    u->owner = owner;
    list_init(&u->conns);
    bytes_init(&u->session, SESSION_BYTES_MAX);
    u->read_buffer = must_alloc(READ_BYTES);
    return u;
}

int64_t upstream_peer_not_after(const struct upstream *u)
{
    return u->peer_not_after;
}

int64_t upstream_own_not_after(const struct upstream *u)
{
    return u->tls == NULL ? 0 : (int64_t)tls_context_not_after(u->tls);
}

void upstream_close(struct upstream *u, void (*gone)(struct output_host *owner))
{
    u->closing = true;
    u->gone = gone;
    resolver_abandon(u->resolver);
    u->resolver = NULL;
    if (u->conn_count == 0) {
        gone(u->owner);
        return;
    }
    abort_all(u, "the agent is stopping");
}

void upstream_free(struct upstream *u)
{
    ensure(u->conn_count == 0);
    tls_context_free(u->tls);
    bytes_deinit(&u->session);
    free(u->read_buffer);
    free(u);
}
