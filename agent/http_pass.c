/* http_pass: see http_pass.h. */
#include "agent/http_pass.h"

#include "agent/agent.h"
#include "agent/output_host.h"
#include "lib/base/hash.h"

#include <stdio.h>

static void not_passed(struct http_exchange *e, const char *text)
{
    struct api_answer a = {0};
    if (e->x.api->not_passed == NULL) {
        http_exchange_finish(e, COND_FAILED, text);
        return;
    }
    e->x.api->not_passed(&e->x, &a);
    http_exchange_answer(e, &a);
}

static uint64_t credentials_hash(const struct output_host *h)
{
    return hash64(h->settings->api_key, h->name_hash);
}

static void keep_answer(struct http_exchange *e, struct output_host *h, const struct api_reply *reply)
{
    uint64_t now_us = clock_mono_us(&e->input->input.agent->clock);
    if (e->x.pass_keep_us == 0 || reply->body_cut)
        return;
    bytes_clear(&h->kept_answer.body);
    h->kept_answer.until_us = 0;
    if (bytes_append(&h->kept_answer.body, reply->body) != OK)
        return; /* larger than what is kept: it is asked for again */
    (void)snprintf(h->kept_answer.type, sizeof h->kept_answer.type, "%.*s", SPAN_FMT(reply->content_type));
    h->kept_answer.until_us = now_us + e->x.pass_keep_us;
    h->kept_answer.of = credentials_hash(h);
}

static bool answer_kept(struct http_exchange *e, const struct output_host *h)
{
    if (e->x.pass_keep_us == 0 || h->kept_answer.until_us <= clock_mono_us(&e->input->input.agent->clock) ||
        h->kept_answer.of != credentials_hash(h))
        return false;
    const struct api_answer a = {.status = 200,
                                 .content_type = span_str(h->kept_answer.type),
                                 .body = bytes_span(&h->kept_answer.body)};
    http_exchange_answer(e, &a);
    return true;
}

static void on_passed(struct upstream_pass *p, const struct api_reply *reply)
{
    struct http_exchange *e = CONTAINER_OF(p, struct http_exchange, pass);
    struct output_host *h = e->pass_to;
    e->pass_to = NULL;
    if (reply == NULL || (reply->status != 200 && e->x.api->not_passed != NULL)) {
        not_passed(e, "the upstream cannot be reached now");
        return;
    }
    keep_answer(e, h, reply);
    const struct api_answer a = {
        .status = reply->status, .content_type = reply->content_type, .body = reply->body};
    http_exchange_answer(e, &a);
}

/* The request's own memory goes with the next one on its connection; what is sent waits for a connection
 * upstream. */
static bool own_send(struct http_exchange *e)
{
    struct api_send *s = &e->pass.send;
    bool whole = true;
    s->target = arena_copy(&e->arena, s->target);
    s->body = arena_copy(&e->arena, s->body);
    whole = s->target.at != NULL && s->body.at != NULL;
    for (unsigned i = 0; i < s->header_count; i++) {
        s->headers[i].value = arena_copy(&e->arena, s->headers[i].value);
        whole &= s->headers[i].value.at != NULL;
    }
    return whole;
}

void http_pass_on(struct http_exchange *e)
{
    struct output_host *h = agent_output_of(e->input->input.agent, e->x.api);
    if (h != NULL && answer_kept(e, h))
        return;
    if (h == NULL || h->phase != HOST_OPEN || e->x.api->pass_on == NULL ||
        e->x.api->pass_on(h->settings, &e->x, &e->pass.send) != OK || !own_send(e)) {
        not_passed(e, "there is no one upstream to pass this on to");
        return;
    }
    e->pass.done = on_passed;
    e->pass_to = h;
    http_exchange_keep_for_answer(e);
    if (upstream_pass_on(h->upstream, &e->pass))
        return;
    e->pass_to = NULL;
    not_passed(e, "too many such requests wait already");
}

void http_pass_forget(struct http_exchange *e)
{
    if (e->pass_to != NULL)
        upstream_forget(e->pass_to->upstream, &e->pass);
    e->pass_to = NULL;
}
