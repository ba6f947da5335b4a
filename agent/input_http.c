/* input_http: see input_http.h. */
#include "agent/input_http.h"

#include "agent/agent.h"
#include "agent/http_decode.h"
#include "agent/http_exchange.h"
#include "agent/http_pass.h"
#include "agent/tls_files.h"
#include "lib/base/ensure.h"
#include "lib/config/config.h"
#include "lib/tls/tls.h"

#include <stdlib.h>

/* The api had the answer without anything being stored. */
static void answer_of_api(struct http_exchange *e)
{
    intake_count_refused(&e->input->input.counters, &e->x);
    http_exchange_answer(e, &e->x.answer);
}

/* A large request that intake read: did it end there? */
static bool offered_in_vain(struct http_exchange *e)
{
    bool passes = e->x.pass_on, answered = e->x.answer.status != 0;
    e->x.arena = &e->arena;
    if (passes)
        http_pass_on(e);
    else if (answered)
        answer_of_api(e);
    else
        e->x.settings = NULL; /* of an output that a reload may have taken away */
    return passes || answered;
}

static void on_offer_done(struct intake_offer *offer, enum api_condition condition, const char *text)
{
    struct http_exchange *e = offer->ctx;
    if (offer->in_pieces && offered_in_vain(e))
        return;
    http_exchange_finish(e, condition, text);
}

/* --- offers --------------------------------------------------------------------------------------------- */

static void offer(struct http_exchange *e, enum intake_wait wait, bool in_pieces)
{
    e->offer = (struct intake_offer){.x = &e->x,
                                     .counters = &e->input->input.counters,
                                     .input_name = e->input->input.config->name,
                                     .wait = wait,
                                     .in_pieces = in_pieces,
                                     .may_retry = !in_pieces,
                                     .done = on_offer_done,
                                     .ctx = e};
}

static void start_exchange(struct http_exchange *e)
{
    struct agent *a = e->input->input.agent;
    const struct api *api = e->x.api;
    e->x = (struct api_exchange){
        .api = api,
        .path = e->x.path,
        .request = &e->request,
        .arena = &e->arena,
        .agent_name = a->name,
        .uuids = a->uuids,
        .webhook = e->input->input.config->webhook,
        .cors_origin = e->input->input.config->cors_origin == NULL ? (struct span){0}
                                                                  : span_str(e->input->input.config->cors_origin),
    };
    e->x.settings = agent_settings_of(a, api);
    if (e->x.settings != NULL && strcmp(api->name, "cloudevents") != 0) /* one output of many says nothing of neutral events */
        e->x.events_max = (unsigned)e->x.settings->limits.local_events;
}

/* It is large, or is made into much: a piece at a time. */
static void offer_in_pieces(struct http_exchange *e)
{
    if (!e->owned)
        arena_reset(&e->arena);
    e->arena.max = e->arena.used + HTTP_KEEP_BYTES + (e->x.path->pieces ? 0 : e->request.body.len);
    if (!http_exchange_own(e)) {
        http_exchange_refuse(e, COND_TOO_LARGE, REJECT_TOO_LARGE, "the request is too large");
        return;
    }
    start_exchange(e);
    e->x.keep = &e->arena;
    offer(e, INTAKE_WAIT_BRIEFLY, true);
    bool offered = intake_offer(&e->input->input.agent->intake, &e->offer);
    ensure(offered);
    http_exchange_count_working(e);
}

static void take_request(struct http_exchange *e)
{
    struct agent *a = e->input->input.agent;
    struct api_exchange *x = &e->x;
    if (e->request.body.len > HTTP_SMALL_BODY) {
        offer_in_pieces(e);
        return;
    }
    bool may_wait = intake_tight(&a->intake, e->request.body.len) && http_exchange_own_body(e);
    x->api->read(x);
    if (e->arena.spent && !x->pass_on) {
        offer_in_pieces(e);
        return;
    }
    if (x->pass_on) {
        http_pass_on(e);
        return;
    }
    if (x->answer.status != 0) {
        answer_of_api(e);
        return;
    }
    offer(e, may_wait ? INTAKE_WAIT_BRIEFLY : INTAKE_WAIT_NOT, false);
    if (!intake_offer(&a->intake, &e->offer)) {
        offer_in_pieces(e);
        return;
    }
    http_exchange_keep_for_answer(e);
    http_exchange_count_working(e);
}

static void fill_request(struct http_exchange *e, const struct http_request *r)
{
    e->request = (struct api_request){
        .body = r->body, .body_encoded = r->body, .wall_ns = clock_wall_ns(&e->input->input.agent->clock)};
    http_exchange_fill_head(e, r);
    start_exchange(e);
}

static void respond_not_found(struct http_conn *c, uint64_t handle, bool close)
{
    static const char body[] = "{\"error\":{\"code\":\"not_found\",\"message\":\"no such path; neutral events go to "
                               "POST /events\"}}\n";
    struct http_answer answer = {.status = 404,
                                 .content_type = SPAN("application/json"),
                                 .body = span_str(body),
                                 .close = close};
    http_conn_answer(c, handle, &answer);
}

static bool authorized(struct input_http *in, const struct http_exchange *e)
{
    const struct config_secret *token = &in->input.config->auth.token;
    return token->template == NULL || api_authorized(e->x.path, &e->request, token->value);
}

static void on_whole_request(struct http_conn *c, const struct http_request *r)
{
    struct input_http *in = c->front->ctx;
    const struct api *api;
    const struct api_path *path;
    in->input.counters.bytes_in += r->body.len;
    enum api_match match = api_route(r->method_name, r->path, &api, &path);
    if (match == MATCH_NONE) {
        respond_not_found(c, r->handle, in->input.stopping);
        return;
    }
    struct http_exchange *e = http_exchange_take(in, c, r->handle);
    e->x.api = api;
    e->x.path = path;
    fill_request(e, r);
    if (match == MATCH_METHOD || (e->x.path->hidden && !e->x.webhook)) {
        http_exchange_finish(e, COND_BAD_METHOD, "method not allowed here");
        return;
    }
    if (!authorized(in, e)) {
        http_exchange_refuse(e, COND_UNAUTHORIZED, REJECT_UNAUTHORIZED, "the token that this input asks for is missing or wrong");
        return;
    }
    if (in->input.stopping) {
        http_exchange_finish(e, COND_STOPPING, "the agent is stopping");
        return;
    }
    (void)http_server_take_body(&c->server, &e->wire, &e->wire_claim);
    e->wire.max = (size_t)in->input.config->max_body;
    http_decode(e, take_request);
}

/* A request that the server cannot take is answered in the shape that its path's clients know, and never with a
 * code that one of them takes for the end of all things. */
static void on_refused(struct http_conn *c, const struct http_request *r)
{
    struct input_http *in = c->front->ctx;
    const struct http_refusal refusal = c->front->shared.refusal;
    const struct api *api;
    const struct api_path *path;
    enum api_match match = r->path.len == 0 ? MATCH_NONE : api_route(r->method_name, r->path, &api, &path);
    in->input.counters.received++;
    in->input.counters.rejected[refusal.status == 413 ? REJECT_TOO_LARGE : REJECT_MALFORMED]++;
    if (match != MATCH_PATH || (refusal.status != 413 && span_is(r->path, "/events"))) {
        http_server_respond_refusal(&c->server, r->handle, &refusal);
        http_conn_flush_soon(c);
        return;
    }
    struct http_exchange *e = http_exchange_take(in, c, r->handle);
    e->x.api = api;
    e->x.path = path;
    fill_request(e, r);
    http_exchange_finish(e, refusal.status == 413 ? COND_TOO_LARGE : COND_BUSY, refusal.message);
}

static void on_request(struct http_conn *c, enum http_server_event event, const struct http_request *r)
{
    switch (event) {
    case HTTP_SERVER_REQUEST:
        on_whole_request(c, r);
        return;
    case HTTP_SERVER_REFUSED:
        on_refused(c, r);
        return;
    default: /* EXPECT: whoever asks may send; the limits were looked at */
        return;
    }
}

static void on_gone(struct http_conn *c)
{
    struct input_http *in = c->front->ctx;
    struct list *node;
    while ((node = list_first(&c->exchanges)) != NULL) {
        struct http_exchange *e = CONTAINER_OF(node, struct http_exchange, node);
        intake_forget(&in->input.agent->intake, &e->offer);
        http_pass_forget(e);
        http_exchange_release(e);
    }
}

static void on_front_closed(struct http_front *f)
{
    struct input_http *in = f->ctx;
    input_gone(&in->input);
}

/* --- life ----------------------------------------------------------------------------------------------- */

static const struct http_front_use use = {.request = on_request, .gone = on_gone, .closed = on_front_closed};

static void apply_settings(struct input_http *in, const struct config_input *config)
{
    in->front.connections_max = config->max_connections;
    in->front.idle_timeout_us = config->idle_timeout_us;
    in->front.request_timeout_us = config->request_timeout_us;
}

static enum err bind_http(struct agent *a, const struct config_input *config, struct input **ret, struct fault *why)
{
    struct input_http *in = must_alloc(sizeof *in);
    input_init(&in->input, &input_http_kind, a, config);
    list_init(&in->spare);
    in->front = (struct http_front){.loop = a->loop,
                                    .clock = a->clock,
                                    .flushes = &a->flushes,
                                    .use = &use,
                                    .ctx = in,
                                    .subject = in->input.subject};
    apply_settings(in, config);
    struct http_limits limits = http_limits_default;
    limits.body_bytes_max = config->max_body;
    limits.decoded_bytes_max = config->max_body;
    limits.held_bytes_max = HTTP_HELD_BYTES;
    if (tls_server_load(&config->tls, &in->front.tls, &in->tls_looks, why) != OK) {
        free(in);
        return why->err = ERR_CONFIG;
    }
    enum err err = http_front_bind(&in->front, config->name, &config->listen, &config->socket, &limits, why);
    if (err != OK) {
        tls_context_free(in->front.tls);
        free(in);
        return err;
    }
    memcpy(in->front.shared.date, a->http_date, sizeof in->front.shared.date);
    in->front.shared.small = &a->small_bodies;
    in->front.shared.large = &a->large_bodies;
    in->front.shared.working = &a->working;
    *ret = &in->input;
    return OK;
}

static struct input_http *of(struct input *in)
{
    return CONTAINER_OF(in, struct input_http, input);
}

static enum err start_http(struct input *in, struct fault *why)
{
    enum err err = http_front_listen(&of(in)->front, why);
    if (err == OK)
        log_info(in->subject, "listening on %s", of(in)->front.listener.text);
    return err;
}

static void stop_http(struct input *in)
{
    http_front_stop(&of(in)->front);
}

static void close_http(struct input *in)
{
    http_front_close(&of(in)->front);
}

static void free_http(struct input *in)
{
    struct input_http *h = of(in);
    struct list *node;
    while ((node = list_first(&h->spare)) != NULL) {
        list_remove(node);
        http_exchange_free(CONTAINER_OF(node, struct http_exchange, node));
    }
    http_front_deinit(&h->front);
    tls_context_free(h->front.tls);
    free(h);
}

static struct listener *listener_http(struct input *in)
{
    return &of(in)->front.listener;
}

static void second_http(struct input *in)
{
    memcpy(of(in)->front.shared.date, in->agent->http_date, sizeof of(in)->front.shared.date);
}

static void on_reread(struct reread *r, bool secrets_changed, const struct tls_files *tls)
{
    struct input_http *h = CONTAINER_OF(r, struct input_http, input.reread);
    struct input *in = &h->input;
    struct tls_context *fresh;
    struct fault why;
    (void)secrets_changed;
    if (tls == NULL)
        return;
    if (tls_server_make(&in->config->tls, tls, &fresh, &why) != OK) {
        log_every(&r->tls_limit, clock_mono_us(&in->agent->clock), 60 * US_PER_S, LOG_WARN, in->subject,
                  "%s; the old certificate stays", why.text);
        return;
    }
    tls_context_free(h->front.tls); /* sessions in use keep what they need of it */
    h->front.tls = fresh;
    h->tls_looks = tls->looks;
    log_info(in->subject, "the certificate changed and is used for new connections");
}

static void reread_http(struct input *in)
{
    const struct config_tls_server *tls = &in->config->tls;
    input_reread(in, on_reread, tls->cert_file == NULL ? NULL : tls, of(in)->tls_looks);
}

static unsigned connections_http(const struct input *in)
{
    return CONTAINER_OF(in, const struct input_http, input)->front.conn_count;
}

static unsigned loudest_http(const struct input *in, struct input_sender *into, unsigned room)
{
    const struct http_front *f = &CONTAINER_OF(in, const struct input_http, input)->front;
    unsigned count = 0;
    for (const struct list *node = f->conns.next; node != &f->conns; node = node->next) {
        const struct http_conn *c = CONTAINER_OF(node, const struct http_conn, node);
        struct input_sender *s = input_sender_place(into, &count, room, c->bytes_in);
        if (s != NULL)
            http_conn_peer(c, s->who, sizeof s->who);
    }
    return count;
}

const struct input_kind input_http_kind = {
    .bind = bind_http,
    .start = start_http,
    .stop = stop_http,
    .close = close_http,
    .free = free_http,
    .listener = listener_http,
    .second = second_http,
    .reread = reread_http,
    .connections = connections_http,
    .loudest = loudest_http,
};
