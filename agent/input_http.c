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
/* A body of events shrinks to a tenth, of very dull ones to a fiftieth; a bomb to a thousandth. */
#define INFLATE_RATIO_MAX 200
#define INFLATE_RATIO_FREE_BYTES (1024 * 1024)
#define INFLATE_AT_ONCE_BYTES (1024 * 1024) /* what becomes more than that claims its memory first */

/* One request, from its last byte to its answer. */
struct http_exchange {
    struct list node;            /* in its connection's exchanges, or spare */
    struct input_http *input;
    struct http_conn *conn;
    uint64_t handle;
    struct arena arena;
    struct bytes wire, body;     /* the body as it came, where it is our own; and decoded */
    struct budget_claim wire_claim, body_claim, working;
    struct flusher served;       /* body_claim was */
    bool owned;                  /* the head was copied, and the body is in wire or body */
    struct api_request request;
    struct api_exchange x;
    struct intake_offer offer;
    struct upstream_pass pass;   /* a request that only the upstream can answer */
    struct output_host *pass_to; /* NULL: it is not under way */
};

static void on_offer_done(struct intake_offer *offer, enum api_condition condition, const char *text);
static void on_served(struct flusher *flusher);
static void on_body_served(struct budget_claim *claim);

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
        flusher_init(&e->served, on_served);
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

static void exchange_free(struct http_exchange *e)
{
    arena_deinit(&e->arena);
    bytes_deinit(&e->wire);
    bytes_deinit(&e->body);
    free(e);
}

static void exchange_release(struct http_exchange *e)
{
    struct input_http *in = e->input;
    list_remove(&e->node);
    list_remove(&e->served.node);
    bool large = e->arena.used + e->body.cap > SPARE_LARGE_BYTES;
    bool spare = in->spare_count < (large ? SPARE_LARGE_MAX : SPARE_MAX) && e->body.cap <= HTTP_FRONT_READ_BYTES &&
                 e->wire.cap <= HTTP_FRONT_READ_BYTES;
    budget_release(&e->wire_claim);
    budget_release(&e->body_claim);
    budget_release(&e->working);
    if (!spare) {
        exchange_free(e);
        return;
    }
    arena_reset(&e->arena);
    e->arena.max = HTTP_ARENA_BYTES;
    bytes_clear(&e->wire);
    bytes_clear(&e->body);
    list_append(&in->spare, &e->node);
    in->spare_count++;
}

/* What it has made of the request is counted once that is known. */
static void count_working(struct http_exchange *e)
{
    uint64_t bytes = e->arena.used + (e->body_claim.budget == NULL ? e->body.cap : 0);
    if (e->working.budget == NULL)
        budget_take(&e->input->input.agent->working, &e->working, bytes);
    else
        budget_resize(&e->working, bytes);
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

static void answer_now(struct http_exchange *e, const struct api_answer *a)
{
    struct http_conn *c = e->conn;
    respond(e, a);
    if (!c->closing)
        exchange_release(e);
}

/* The api had the answer without anything being stored. */
static void answer_of_api(struct http_exchange *e)
{
    if (e->x.offered > 0)
        intake_count_refused(&e->input->input.counters, &e->x);
    answer_now(e, &e->x.answer);
}

static void pass_on(struct http_exchange *e);

/* A large request that intake read: did it end there? */
static bool offered_in_vain(struct http_exchange *e)
{
    bool passes = e->x.pass_on, answered = e->x.answer.status != 0;
    e->x.arena = &e->arena;
    if (passes)
        pass_on(e);
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
    finish(e, condition, text);
}

/* --- memory of its own ---------------------------------------------------------------------------------- */

/* What the answer may need is kept: the request's own memory goes with the next one on this connection. */
static void keep_for_answer(struct http_exchange *e)
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

static void fill_head(struct http_exchange *e, const struct http_request *r)
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

/* A body that lies in the bytes just read moves to memory of its own. */
static bool own_body(struct http_exchange *e)
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

/* The request outlives the bytes that it was read from. */
static bool own_request(struct http_exchange *e)
{
    if (e->owned)
        return true;
    struct http_request head = *(const struct http_request *)e->request.header_ctx;
    head.body = (struct span){0};
    const struct http_request *copy = http_request_copy(&head, &e->arena);
    if (copy == NULL || !own_body(e))
        return false;
    fill_head(e, copy);
    return e->owned = true;
}

/* --- requests ------------------------------------------------------------------------------------------- */

static void take_request(struct http_exchange *e);

static enum err decode_with(struct http_exchange *e, enum encoding coding, size_t bytes_max)
{
    const struct decode_limits limits = {
        .bytes_max = bytes_max, .ratio_max = INFLATE_RATIO_MAX, .ratio_free_bytes = INFLATE_RATIO_FREE_BYTES};
    struct fault why;
    bytes_clear(&e->body);
    return decoder_decode(e->input->input.agent->decoder, coding, e->request.body_encoded, &limits, &e->body, &why);
}

/* Does it have the memory for what a body of ratio_max becomes? If not it waits for it. */
static bool claim_decoded(struct http_exchange *e)
{
    struct agent *a = e->input->input.agent;
    uint64_t most = e->request.body_encoded.len * INFLATE_RATIO_MAX + INFLATE_RATIO_FREE_BYTES;
    if (e->wire_claim.budget == &a->large_bodies) /* claimed with the body as it came */
        return true;
    bytes_deinit(&e->body); /* of the first try */
    e->body_claim.served = on_body_served;
    return budget_claim(&a->large_bodies, &e->body_claim, most < e->body.max ? most : e->body.max);
}

/* What was claimed for the worst case becomes what it is. */
static void settle_claims(struct http_exchange *e)
{
    struct agent *a = e->input->input.agent;
    if (e->request.body.at == e->body.at && e->body.len > 0 && !e->x.path->opaque) {
        bytes_deinit(&e->wire); /* nobody asks for it any more */
        e->request.body_encoded = (struct span){0};
    }
    if (e->wire_claim.budget == &a->large_bodies)
        budget_resize(&e->wire_claim, e->wire.len + e->body.len);
    else if (e->wire_claim.budget != NULL)
        budget_resize(&e->wire_claim, e->wire.len);
    if (e->body_claim.budget != NULL)
        budget_resize(&e->body_claim, e->body.len);
}

static void bad_body(struct http_exchange *e, enum err err)
{
    if (err == ERR_TOO_BIG)
        refuse(e, COND_TOO_LARGE, REJECT_TOO_LARGE,
               "the body inflates to more than max_body, or far more than events do");
    else
        refuse(e, COND_BAD_COMPRESSION, REJECT_BAD_COMPRESSION, "the body is not what its Content-Encoding says");
}

static void decoded(struct http_exchange *e, enum err err)
{
    if (err != OK) {
        bad_body(e, err);
        return;
    }
    e->request.body = bytes_span(&e->body);
    settle_claims(e);
    take_request(e);
}

/* Most compressed bodies are small ones, and are decoded at once. */
static void decode_body(struct http_exchange *e)
{
    struct span encoding = span_trim(e->request.content_encoding);
    enum encoding coding;
    if (encoding.len == 0 || span_equal_nocase(encoding, SPAN("identity"))) {
        settle_claims(e);
        take_request(e);
        return;
    }
    if (!encoding_parse(encoding, &coding)) {
        refuse(e, COND_BAD_ENCODING, REJECT_BAD_COMPRESSION, "Content-Encoding: gzip, deflate and zstd are taken");
        return;
    }
    size_t most = e->body.max, at_once = most < INFLATE_AT_ONCE_BYTES ? most : INFLATE_AT_ONCE_BYTES;
    bool claimed = e->wire_claim.budget == &e->input->input.agent->large_bodies;
    enum err err = decode_with(e, coding, claimed ? most : at_once);
    if (err != ERR_TOO_BIG || claimed || most == at_once) {
        decoded(e, err);
        return;
    }
    if (!own_request(e))
        refuse(e, COND_TOO_LARGE, REJECT_TOO_LARGE, "the request is too large");
    else if (claim_decoded(e))
        decoded(e, decode_with(e, coding, most));
}

static void on_body_served(struct budget_claim *claim)
{
    struct http_exchange *e = CONTAINER_OF(claim, struct http_exchange, body_claim);
    flush_soon(&e->input->input.agent->flushes, &e->served);
}

static void on_served(struct flusher *flusher)
{
    struct http_exchange *e = CONTAINER_OF(flusher, struct http_exchange, served);
    enum encoding coding;
    bool known = encoding_parse(span_trim(e->request.content_encoding), &coding);
    ensure(known);
    e->x.settings = agent_settings_of(e->input->input.agent, e->x.api);
    decoded(e, decode_with(e, coding, e->body.max));
}

/* --- requests that only the upstream can answer --------------------------------------------------------- */

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
    e->arena.max = e->arena.used + HTTP_KEEP_BYTES + (e->x.path->pieces ? 0 : 4 * e->request.body.len);
    if (!own_request(e)) {
        refuse(e, COND_TOO_LARGE, REJECT_TOO_LARGE, "the request is too large");
        return;
    }
    start_exchange(e);
    e->x.keep = &e->arena;
    offer(e, INTAKE_WAIT_BRIEFLY, true);
    bool offered = intake_offer(&e->input->input.agent->intake, &e->offer);
    ensure(offered);
    count_working(e);
}

static void take_request(struct http_exchange *e)
{
    struct agent *a = e->input->input.agent;
    struct api_exchange *x = &e->x;
    if (e->request.body.len > HTTP_SMALL_BODY) {
        offer_in_pieces(e);
        return;
    }
    bool may_wait = intake_tight(&a->intake, e->request.body.len) && own_body(e);
    x->api->read(x);
    if (e->arena.spent && !x->pass_on) {
        offer_in_pieces(e);
        return;
    }
    if (x->pass_on) {
        pass_on(e);
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
    keep_for_answer(e);
    count_working(e);
}

static void fill_request(struct http_exchange *e, const struct http_request *r)
{
    e->request = (struct api_request){
        .body = r->body, .body_encoded = r->body, .wall_ns = clock_wall_ns(&e->input->input.agent->clock)};
    fill_head(e, r);
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
    const struct api *api;
    const struct api_path *path;
    in->input.counters.bytes_in += r->body.len;
    enum api_match match = api_route(r->method_name, r->path, &api, &path);
    if (match == MATCH_NONE) {
        respond_not_found(c, r->handle, in->input.stopping);
        return;
    }
    struct http_exchange *e = exchange_take(in, c, r->handle);
    e->x.api = api;
    e->x.path = path;
    fill_request(e, r);
    if (match == MATCH_METHOD || (e->x.path->hidden && !e->x.webhook)) {
        finish(e, COND_BAD_METHOD, "method not allowed here");
        return;
    }
    if (!authorized(in, e)) {
        refuse(e, COND_UNAUTHORIZED, REJECT_UNAUTHORIZED, "the token that this input asks for is missing or wrong");
        return;
    }
    if (in->input.stopping) {
        finish(e, COND_STOPPING, "the agent is stopping");
        return;
    }
    (void)http_server_take_body(&c->server, &e->wire, &e->wire_claim);
    e->wire.max = (size_t)in->input.config->max_body;
    decode_body(e);
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
    e->x.api = api;
    e->x.path = path;
    fill_request(e, r);
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
