/* http_exchange: see http_exchange.h. */
#include "agent/http_exchange.h"

#include "agent/agent.h"
#include "lib/base/ensure.h"
#include "lib/config/config.h"

#include <stdlib.h>

#define SPARE_MAX 64
#define SPARE_LARGE_BYTES (32 * 1024) /* what an emptied exchange took before, and keeps */
#define SPARE_LARGE_MAX 8
#define ARENA_BLOCK_BYTES (8 * 1024)

/* --- exchanges ------------------------------------------------------------------------------------------ */

struct http_exchange *http_exchange_take(struct input_http *in, struct http_conn *c, uint64_t handle)
{
    struct http_exchange *e;
    struct list *spare = list_first(&in->spare);
    if (spare != NULL) {
        list_remove(spare);
        in->spare_count--;
        e = CONTAINER_OF(spare, struct http_exchange, node);
    } else {
        e = must_alloc(sizeof *e);
        list_init(&e->node);
        flusher_init(&e->served, NULL);
        arena_init(&e->arena, ARENA_BLOCK_BYTES, HTTP_ARENA_BYTES);
        bytes_init(&e->wire, (size_t)in->input.config->max_body);
        bytes_init(&e->body, (size_t)in->input.config->max_body);
    }
    e->input = in;
    e->conn = c;
    e->handle = handle;
    e->owned = false;
    list_append(&c->exchanges, &e->node);
    return e;
}

void http_exchange_free(struct http_exchange *e)
{
    arena_deinit(&e->arena);
    bytes_deinit(&e->wire);
    bytes_deinit(&e->body);
    free(e);
}

void http_exchange_release(struct http_exchange *e)
{
    struct input_http *in = e->input;
    list_remove(&e->node);
    list_remove(&e->served.node);
    bool large = e->arena.used + e->body.cap > SPARE_LARGE_BYTES;
    bool spare = in->spare_count < (large ? SPARE_LARGE_MAX : SPARE_MAX) &&
                 e->body.cap <= HTTP_FRONT_READ_BYTES && e->wire.cap <= HTTP_FRONT_READ_BYTES;
    budget_release(&e->wire_claim);
    budget_release(&e->body_claim);
    budget_release(&e->working);
    if (!spare) {
        http_exchange_free(e);
        return;
    }
    arena_reset(&e->arena);
    e->arena.max = HTTP_ARENA_BYTES;
    bytes_clear(&e->wire);
    bytes_clear(&e->body);
    list_append(&in->spare, &e->node);
    in->spare_count++;
}

void http_exchange_count_working(struct http_exchange *e)
{
    uint64_t bytes = e->arena.used + (e->body_claim.budget == NULL ? e->body.cap : 0);
    if (e->working.budget == NULL)
        budget_take(&e->input->input.agent->working, &e->working, bytes);
    else
        budget_resize(&e->working, bytes);
}

/* --- memory of its own ---------------------------------------------------------------------------------- */

void http_exchange_keep_for_answer(struct http_exchange *e)
{
    struct api_request *r = &e->request;
    e->x.settings = NULL; /* of an output that a reload may take away meanwhile */
    if (e->owned)
        return;
    if (r->content_type.at != NULL)
        r->content_type = arena_copy(&e->arena, r->content_type);
    r->method = r->path = r->query = r->content_encoding = r->body = r->body_encoded = (struct span){0};
    r->header = NULL;
    r->header_next = NULL;
    r->header_ctx = NULL;
}

void http_exchange_fill_head(struct http_exchange *e, const struct http_request *r)
{
    e->request.method = r->method_name;
    e->request.path = r->path;
    e->request.query = r->query;
    e->request.content_type = http_request_known(r, HTTP_KNOWN_CONTENT_TYPE);
    e->request.content_encoding = http_request_known(r, HTTP_KNOWN_CONTENT_ENCODING);
    e->request.header = http_request_lookup;
    e->request.header_next = http_request_next;
    e->request.header_ctx = r;
}

bool http_exchange_own_body(struct http_exchange *e)
{
    struct api_request *r = &e->request;
    bool same = r->body.at == r->body_encoded.at;
    if (r->body_encoded.at != NULL && r->body_encoded.at != e->wire.at) {
        bytes_clear(&e->wire);
        if (bytes_append(&e->wire, r->body_encoded) != OK)
            return false;
    }
    r->body_encoded = span_of(e->wire.at, r->body_encoded.len);
    if (same)
        r->body = r->body_encoded;
    return true;
}

bool http_exchange_own(struct http_exchange *e)
{
    if (e->owned)
        return true;
    struct http_request head = *(const struct http_request *)e->request.header_ctx;
    head.body = (struct span){0};
    const struct http_request *copy = http_request_copy(&head, &e->arena);
    if (copy == NULL || !http_exchange_own_body(e))
        return false;
    http_exchange_fill_head(e, copy);
    return e->owned = true;
}

/* --- answers -------------------------------------------------------------------------------------------- */

void http_exchange_answer(struct http_exchange *e, const struct api_answer *a)
{
    struct http_conn *c = e->conn;
    struct http_field fields[sizeof a->headers / sizeof a->headers[0]];
    for (unsigned i = 0; i < a->header_count; i++)
        fields[i] = (struct http_field){a->headers[i].name, a->headers[i].value};
    struct http_answer answer = {
        .status = a->status,
        .content_type = a->content_type,
        .body = a->body,
        .fields = fields,
        .field_count = a->header_count,
        .close = e->input->input.stopping,
    };
    http_conn_answer(c, e->handle, &answer);
    if (!c->closing) /* closing has released it already */
        http_exchange_release(e);
}

void http_exchange_finish(struct http_exchange *e, enum api_condition condition, const char *text)
{
    struct api_answer a = {0};
    e->x.api->answer(&e->x, condition, text == NULL ? (struct span){0} : span_str(text), &a);
    ensure(a.status != 0);
    http_exchange_answer(e, &a);
}

void http_exchange_refuse(struct http_exchange *e, enum api_condition condition, enum api_reject reason,
                          const char *text)
{
    struct input_counters *n = &e->input->input.counters;
    n->received++;
    n->rejected[reason]++;
    http_exchange_finish(e, condition, text);
}
