/* http_spill: see http_spill.h. */
#include "lib/http/http_spill.h"

#include "lib/base/ensure.h"

#include <stdlib.h>

/* A spill is worth keeping while it is small; a few of them serve a steady trickle of split requests. */
#define SPARE_MAX 4
#define SPARE_HEAD_BYTES (8 * 1024)
#define SPARE_BODY_BYTES (32 * 1024)

struct http_spill *http_spill_take(struct http_server_shared *shared)
{
    struct http_spill *spill = shared->spare;
    if (spill == NULL) {
        spill = must_alloc(sizeof *spill);
        bytes_init(&spill->head, shared->limits.header_bytes_max);
        bytes_init(&spill->body, shared->limits.body_bytes_max);
    } else {
        shared->spare = spill->next_spare;
        shared->spare_count--;
    }
    spill->body.max = shared->limits.body_bytes_max;
    shared->held_bytes += sizeof *spill + spill->head.cap + (shared->large == NULL ? spill->body.cap : 0);
    return spill;
}

static void go_on(struct http_spill *spill)
{
    spill->server->shared->go_on(spill->server);
}

static void on_small(struct budget_claim *c)
{
    go_on(CONTAINER_OF(c, struct http_spill, small));
}

static void on_large(struct budget_claim *c)
{
    go_on(CONTAINER_OF(c, struct http_spill, large));
}

static bool admit_to(struct budget *b, struct budget_claim *c, void (*served)(struct budget_claim *c), uint64_t bytes)
{
    if (c->budget != NULL)
        return !c->waiting;
    c->served = served;
    return budget_claim(b, c, bytes);
}

bool http_spill_admit(struct http_server_shared *shared, struct http_spill *spill, uint64_t bytes)
{
    if (shared->large == NULL)
        return true;
    if (bytes <= HTTP_SMALL_BODY)
        return admit_to(shared->small, &spill->small, on_small, bytes);
    if (!admit_to(shared->large, &spill->large, on_large, bytes))
        return false;
    budget_release(&spill->small); /* of the beginning of a body in chunks */
    return true;
}

bool http_spill_waits(const struct http_spill *spill)
{
    return spill->small.waiting || spill->large.waiting;
}

static void spill_free(struct http_spill *spill)
{
    bytes_deinit(&spill->head);
    bytes_deinit(&spill->body);
    free(spill);
}

void http_spill_give_back(struct http_server_shared *shared, struct http_spill *spill)
{
    size_t held = sizeof *spill + spill->head.cap + (shared->large == NULL ? spill->body.cap : 0);
    ensure(shared->held_bytes >= held);
    shared->held_bytes -= held;
    budget_release(&spill->small);
    budget_release(&spill->large);
    if (shared->spare_count >= SPARE_MAX) {
        spill_free(spill);
        return;
    }
    bytes_clear(&spill->head);
    bytes_clear(&spill->body);
    if (spill->head.cap > SPARE_HEAD_BYTES)
        bytes_deinit(&spill->head);
    if (spill->body.cap > SPARE_BODY_BYTES)
        bytes_deinit(&spill->body);
    spill->next_spare = shared->spare;
    shared->spare = spill;
    shared->spare_count++;
}

enum err http_spill_append(struct http_server_shared *shared, struct bytes *b, struct span s)
{
    size_t before = b->cap;
    size_t growth = b->len + s.len > before ? b->len + s.len - before : 0;
    if (growth > 0 && shared->held_bytes + growth > shared->limits.held_bytes_max)
        return ERR_FULL;
    enum err err = bytes_append(b, s);
    shared->held_bytes += b->cap - before;
    return err;
}

enum err http_spill_body(struct http_server_shared *shared, struct http_spill *spill, struct span s)
{
    return shared->large == NULL ? http_spill_append(shared, &spill->body, s) : bytes_append_piece(&spill->body, s);
}

void http_server_shared_init(struct http_server_shared *shared, const struct http_limits *limits)
{
    ensure(limits->header_bytes_max <= 64 * 1024 && limits->header_count_max <= HTTP_HEADERS_MAX);
    ensure(limits->pipeline_max >= 1 && limits->pipeline_max <= HTTP_PIPELINE_MAX);
    ensure(limits->url_bytes_max + 32 <= limits->header_bytes_max);
    *shared = (struct http_server_shared){.limits = *limits};
}

void http_server_shared_deinit(struct http_server_shared *shared)
{
    ensure(shared->held_bytes == 0);
    while (shared->spare != NULL) {
        struct http_spill *next = shared->spare->next_spare;
        spill_free(shared->spare);
        shared->spare = next;
    }
    shared->spare_count = 0;
}
