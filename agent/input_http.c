/* input_http: see input_http.h. */
#include "agent/input_http.h"

#include "agent/agent.h"
#include "agent/output_host.h"
#include "agent/tls_files.h"
#include "lib/base/ensure.h"
#include "lib/base/hash.h"
#include "lib/codec/compress.h"
#include "lib/config/config.h"
#include "lib/tls/tls.h"

#include <stdio.h>
#include <stdlib.h>

#define SPARE_MAX 64
#define SPARE_LARGE_BYTES (32 * 1024) /* what an emptied exchange took before, and keeps */
#define SPARE_LARGE_MAX 8
#define ARENA_BLOCK_BYTES (8 * 1024)
#define REQUEST_BYTES_BASE 2048
/* A body of events shrinks to a tenth, of very dull ones to a fiftieth; a bomb to a thousandth. */
#define INFLATE_RATIO_MAX 200
#define INFLATE_RATIO_FREE_BYTES (1024 * 1024)

/* One request, from its last byte to its answer. */
struct http_exchange {
    struct list node;            /* in its connection's exchanges, or spare */
    struct input_http *input;
    struct http_conn *conn;
    uint64_t handle;
    struct arena arena;
    uint64_t claimed;            /* of agent->request_bytes */
    struct bytes inflated;       /* the decoded body, where it came compressed */
    struct api_request request;
    struct api_exchange x;
    struct intake_offer offer;
    struct upstream_pass pass;   /* a request that only the upstream can answer */
    struct output_host *pass_to; /* NULL: it is not under way */
};

static void on_offer_done(struct intake_offer *offer, enum api_condition condition, const char *text);

/* --- exchanges ------------------------------------------------------------------------------------------ */

static struct http_exchange *exchange_take(struct input_http *in, struct http_conn *c, uint64_t handle)
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
        /* Room for a body of the largest size and as much again for what is made of it. */
        arena_init(&e->arena, ARENA_BLOCK_BYTES, (size_t)in->input.config->max_body * 4 + (1 << 20));
        bytes_init(&e->inflated, (size_t)in->input.config->max_body);
    }
    e->input = in;
    e->conn = c;
    e->handle = handle;
    list_append(&c->exchanges, &e->node);
    return e;
}

static void exchange_free(struct http_exchange *e)
{
    arena_deinit(&e->arena);
    bytes_deinit(&e->inflated);
    free(e);
}

/* Everything that a request is made into lives until its answer; all of them together have a bound. A request that
 * would pass it is told to come again, unless it is the only one. */
static bool claim_memory(struct http_exchange *e)
{
    struct agent *a = e->input->input.agent;
    uint64_t bytes = REQUEST_BYTES_BASE + e->request.body.len * HTTP_ANSWERING_FACTOR;
    if (a->request_bytes > 0 && a->request_bytes + bytes > HTTP_ANSWERING_BYTES)
        return false;
    e->claimed = bytes;
    a->request_bytes += bytes;
    return true;
}

static void exchange_release(struct http_exchange *e)
{
    struct input_http *in = e->input;
    list_remove(&e->node);
    in->input.agent->request_bytes -= e->claimed;
    e->claimed = 0;
    bool large = e->arena.used + e->inflated.cap > SPARE_LARGE_BYTES;
    if (in->spare_count >= (large ? SPARE_LARGE_MAX : SPARE_MAX) || e->inflated.cap > HTTP_FRONT_READ_BYTES) {
        exchange_free(e);
        return;
    }
    arena_reset(&e->arena);
    bytes_clear(&e->inflated);
    list_append(&in->spare, &e->node);
    in->spare_count++;
}

/* --- answers -------------------------------------------------------------------------------------------- */

static void respond(struct http_exchange *e, const struct api_answer *a)
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
    /* Too big or closed: the connection cannot be served any more; the sender repeats with its ids. */
    if (http_server_respond(&c->server, e->handle, &answer) != OK)
        http_conn_close(c);
    else
        http_conn_flush_soon(c);
}

static void answer_condition(struct http_exchange *e, enum api_condition condition, const char *text)
{
    struct api_answer a = {0};
    e->x.api->answer(&e->x, condition, text == NULL ? (struct span){0} : span_str(text), &a);
    ensure(a.status != 0);
    respond(e, &a);
}

static void finish(struct http_exchange *e, enum api_condition condition, const char *text)
{
    struct http_conn *c = e->conn;
    answer_condition(e, condition, text);
    if (!c->closing) /* closing has released it already */
        exchange_release(e);
}

static void refuse(struct http_exchange *e, enum api_condition condition, enum api_reject reason, const char *text)
{
    struct input_counters *n = &e->input->input.counters;
    n->received++;
    n->rejected[reason]++;
    finish(e, condition, text);
}

static void on_offer_done(struct intake_offer *offer, enum api_condition condition, const char *text)
{
    struct http_exchange *e = offer->ctx;
    if (condition != COND_STORED)
        e->input->input.counters.rejected[REJECT_FULL] += condition == COND_FULL ? e->x.offered : 0;
    finish(e, condition, text);
}

/* --- requests ------------------------------------------------------------------------------------------- */

static const char *decode_body(struct http_exchange *e, enum err *err)
{
    struct api_request *r = &e->request;
    struct span encoding = span_trim(r->content_encoding);
    struct fault why;
    *err = OK;
    if (encoding.len == 0 || span_equal_nocase(encoding, SPAN("identity")))
        return NULL;
    enum encoding coding;
    if (!encoding_parse(encoding, &coding)) {
        *err = ERR_UNSUPPORTED;
        return "Content-Encoding: gzip, deflate and zstd are taken";
    }
    const struct decode_limits limits = {.bytes_max = e->inflated.max,
                                         .ratio_max = INFLATE_RATIO_MAX,
                                         .ratio_free_bytes = INFLATE_RATIO_FREE_BYTES};
    *err = decoder_decode(e->input->input.agent->decoder, coding, r->body_encoded, &limits, &e->inflated, &why);
    if (*err == ERR_TOO_BIG)
        return "the body inflates to more than max_body, or far more than events do";
    if (*err != OK)
        return "the body is not what its Content-Encoding says";
    r->body = bytes_span(&e->inflated);
    return NULL;
}

/* What the answer may need is kept: the request's own memory goes with the next one on this connection. */
static void keep_for_answer(struct http_exchange *e)
{
    struct api_request *r = &e->request;
    if (r->content_type.at != NULL)
        r->content_type = arena_copy(&e->arena, r->content_type);
    r->method = r->path = r->query = r->content_encoding = r->body = r->body_encoded = (struct span){0};
    r->header = NULL;
    r->header_next = NULL;
    r->header_ctx = NULL;
    e->x.settings = NULL; /* of an output that a reload may take away meanwhile */
}

/* Where room is short the request may have to wait for it, and then its body must be its own. */
static bool own_body(struct http_exchange *e)
{
    struct api_request *r = &e->request;
    if (r->body.at != r->body_encoded.at) { /* it was decoded, and is its own already */
        r->body_encoded = e->x.path->opaque ? arena_copy(&e->arena, r->body_encoded) : (struct span){0};
        return !e->x.path->opaque || r->body_encoded.at != NULL;
    }
    r->body = r->body_encoded = arena_copy(&e->arena, r->body);
    return r->body.at != NULL;
}

/* --- requests that only the upstream can answer --------------------------------------------------------- */

static void answer_now(struct http_exchange *e, const struct api_answer *a)
{
    struct http_conn *c = e->conn;
    respond(e, a);
    if (!c->closing)
        exchange_release(e);
}

static void not_passed(struct http_exchange *e, const char *text)
{
    struct api_answer a = {0};
    if (e->x.api->not_passed == NULL) {
        finish(e, COND_FAILED, text);
        return;
    }
    e->x.api->not_passed(&e->x, &a);
    answer_now(e, &a);
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
    const struct api_answer a = {
        .status = 200, .content_type = span_str(h->kept_answer.type), .body = bytes_span(&h->kept_answer.body)};
    answer_now(e, &a);
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
    const struct api_answer a = {.status = reply->status, .content_type = reply->content_type, .body = reply->body};
    answer_now(e, &a);
}

/* The request's own memory goes with the next one on its connection; what is sent waits for a connection upstream. */
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

static void pass_on(struct http_exchange *e)
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
    keep_for_answer(e);
    if (upstream_pass_on(h->upstream, &e->pass))
        return;
    e->pass_to = NULL;
    not_passed(e, "too many such requests wait already");
}

static void take_request(struct http_exchange *e)
{
    struct agent *a = e->input->input.agent;
    struct api_exchange *x = &e->x;
    struct http_conn *c = e->conn;
    if (!claim_memory(e)) {
        refuse(e, COND_FULL, REJECT_FULL, "too many large requests at once");
        return;
    }
    bool may_wait = intake_tight(&a->intake, e->request.body.len) && own_body(e);
    x->api->read(x);
    if (x->pass_on) {
        pass_on(e);
        return;
    }
    if (x->answer.status != 0) {
        if (x->offered > 0)
            intake_count_refused(&e->input->input.counters, x);
        respond(e, &x->answer);
        if (!c->closing)
            exchange_release(e);
        return;
    }
    e->offer = (struct intake_offer){.x = x,
                                     .counters = &e->input->input.counters,
                                     .input_name = e->input->input.config->name,
                                     .wait = may_wait ? INTAKE_WAIT_BRIEFLY : INTAKE_WAIT_NOT,
                                     .done = on_offer_done,
                                     .ctx = e};
    intake_offer(&a->intake, &e->offer);
    keep_for_answer(e);
}

static void fill_request(struct http_exchange *e, const struct http_request *r)
{
    struct agent *a = e->input->input.agent;
    e->request = (struct api_request){
        .method = r->method_name,
        .path = r->path,
        .query = r->query,
        .content_type = http_request_known(r, HTTP_KNOWN_CONTENT_TYPE),
        .content_encoding = http_request_known(r, HTTP_KNOWN_CONTENT_ENCODING),
        .body = r->body,
        .body_encoded = r->body,
        .header = http_request_lookup,
        .header_next = http_request_next,
        .header_ctx = r,
        .wall_ns = clock_wall_ns(&a->clock),
    };
    e->x = (struct api_exchange){
        .request = &e->request,
        .arena = &e->arena,
        .agent_name = a->name,
        .uuids = a->uuids,
        .webhook = e->input->input.config->webhook,
        .cors_origin = e->input->input.config->cors_origin == NULL ? (struct span){0}
                                                                  : span_str(e->input->input.config->cors_origin),
    };
}

static void respond_not_found(struct http_conn *c, uint64_t handle, bool close)
{
    static const char body[] = "{\"error\":{\"code\":\"not_found\",\"message\":\"no such path; neutral events go to "
                               "POST /events\"}}\n";
    struct http_answer answer = {.status = 404,
                                 .content_type = SPAN("application/json"),
                                 .body = span_str(body),
                                 .close = close};
    if (http_server_respond(&c->server, handle, &answer) != OK)
        http_conn_close(c);
    else
        http_conn_flush_soon(c);
}

static bool authorized(struct input_http *in, const struct http_exchange *e)
{
    const struct config_secret *token = &in->input.config->auth.token;
    return token->template == NULL || api_authorized(e->x.path, &e->request, token->value);
}

static void on_whole_request(struct http_conn *c, const struct http_request *r)
{
    struct input_http *in = c->front->ctx;
    struct http_exchange *e = exchange_take(in, c, r->handle);
    fill_request(e, r);
    in->input.counters.bytes_in += r->body.len;
    enum api_match match = api_route(r->method_name, r->path, &e->x.api, &e->x.path);
    if (match == MATCH_NONE) {
        respond_not_found(c, r->handle, in->input.stopping);
        if (!c->closing)
            exchange_release(e);
        return;
    }
    if (match == MATCH_METHOD || (e->x.path->hidden && !e->x.webhook)) {
        finish(e, COND_BAD_METHOD, "method not allowed here");
        return;
    }
    e->x.settings = agent_settings_of(in->input.agent, e->x.api);
    if (e->x.settings != NULL && strcmp(e->x.api->name, "cloudevents") != 0) /* one output of many says nothing of neutral events */
        e->x.events_max = (unsigned)e->x.settings->limits.local_events;
    if (!authorized(in, e)) {
        refuse(e, COND_UNAUTHORIZED, REJECT_UNAUTHORIZED, "the token that this input asks for is missing or wrong");
        return;
    }
    if (in->input.stopping) {
        finish(e, COND_STOPPING, "the agent is stopping");
        return;
    }
    enum err err = OK;
    const char *text = decode_body(e, &err);
    if (err == ERR_UNSUPPORTED)
        refuse(e, COND_BAD_ENCODING, REJECT_BAD_COMPRESSION, text);
    else if (err == ERR_TOO_BIG)
        refuse(e, COND_TOO_LARGE, REJECT_TOO_LARGE, text);
    else if (err != OK)
        refuse(e, COND_BAD_COMPRESSION, REJECT_BAD_COMPRESSION, text);
    else
        take_request(e);
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
    struct http_exchange *e = exchange_take(in, c, r->handle);
    fill_request(e, r);
    e->x.api = api;
    e->x.path = path;
    finish(e, refusal.status == 413 ? COND_TOO_LARGE : COND_BUSY, refusal.message);
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
        if (e->pass_to != NULL)
            upstream_forget(e->pass_to->upstream, &e->pass);
        e->pass_to = NULL;
        exchange_release(e);
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
    limits.held_bytes_max =
        config->max_body + (2 << 20) > HTTP_ARRIVING_BYTES ? config->max_body + (2 << 20) : HTTP_ARRIVING_BYTES;
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
        exchange_free(CONTAINER_OF(node, struct http_exchange, node));
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
    if (secrets_changed)
        log_info(in->subject, "a secret changed and is used from now on");
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
