/* admin: see admin.h. Paths are a table; each handler answers at once or leaves a waiter. */
#include "agent/admin.h"

#include "agent/admin_answer.h"
#include "agent/admin_dead.h"
#include "agent/agent.h"
#include "agent/http_front.h"
#include "agent/metrics.h"
#include "agent/output_host.h"
#include "agent/page.h"
#include "agent/reload.h"
#include "agent/reread.h"
#include "agent/status_json.h"
#include "agent/tap.h"
#include "lib/api/api.h"
#include "lib/base/ensure.h"
#include "lib/base/ip.h"
#include "lib/base/log.h"
#include "lib/config/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BODY_MAX (64 * 1024)
#define PAGE_MAX (16 * 1024 * 1024)
#define FLUSH_WAITERS_MAX 64
#define RELOAD_WAITERS_MAX 64
#define FLUSH_WAIT_US (30 * US_PER_S)

struct admin {
    struct agent *agent;
    struct http_front front;
    struct bytes page;      /* the answer being built */
    struct list flushes;    /* struct flush_waiter */
    unsigned flush_count;
    struct list reloads;    /* struct reload_waiter */
    unsigned reload_count;
    struct reread reread;   /* the token */
    bool closed;
};

/* POST /flush: answered when what was pending is settled. */
struct flush_waiter {
    struct list node;       /* in admin->flushes */
    struct http_conn *conn;
    uint64_t handle;
    uint64_t deadline_us;
    unsigned count;
    struct {
        struct output_host *host; /* NULL: a reload removed it, its events wait in an orphaned spool */
        uint64_t mark;
    } marks[];
};

/* POST /reload: answered when its round is over. */
struct reload_waiter {
    struct list node;       /* in admin->reloads */
    struct http_conn *conn;
    uint64_t handle;
    uint64_t round;
};

/* --- handlers ------------------------------------------------------------------------------------------- */

static void get_healthz(struct admin *ad, struct http_conn *c, const struct http_request *r)
{
    (void)ad; /* whoever reads this answer knows that the loop turns */
    admin_respond_text(c, r->handle, 200, "ok\n");
}

static void get_readyz(struct admin *ad, struct http_conn *c, const struct http_request *r)
{
    bytes_clear(&ad->page);
    if (agent_not_ready(ad->agent, &ad->page))
        admin_respond(c, r->handle, 503, SPAN("text/plain; charset=utf-8"), bytes_span(&ad->page));
    else
        admin_respond_text(c, r->handle, 200, "ready\n");
}

static void get_metrics(struct admin *ad, struct http_conn *c, const struct http_request *r)
{
    bytes_clear(&ad->page);
    agent_refresh(ad->agent);
    if (metrics_render(ad->agent, &ad->page) != OK)
        admin_respond_error(c, r->handle, 500, "too_large", "the metrics do not fit");
    else
        admin_respond(c, r->handle, 200, SPAN("text/plain; version=0.0.4; charset=utf-8"), bytes_span(&ad->page));
}

static void get_status(struct admin *ad, struct http_conn *c, const struct http_request *r)
{
    bytes_clear(&ad->page);
    agent_refresh(ad->agent);
    if (status_json_render(ad->agent, &ad->page) != OK)
        admin_respond_error(c, r->handle, 500, "too_large", "the status does not fit");
    else
        admin_respond(c, r->handle, 200, SPAN("application/json"), bytes_span(&ad->page));
}

/* "wait=30s" of a query, in microseconds; FLUSH_WAIT_US when there is none. False when it is not a duration. */
static bool query_wait(struct span query, uint64_t *ret_us)
{
    static const struct {
        const char *unit;
        uint64_t us;
    } units[] = {{"ms", US_PER_MS}, {"s", US_PER_S}, {"m", 60 * US_PER_S}, {"h", 3600 * US_PER_S}};
    *ret_us = FLUSH_WAIT_US;
    if (query.len == 0)
        return true;
    if (!span_starts(query, SPAN("wait=")))
        return false;
    query = span_of(query.at + 5, query.len - 5);
    size_t digits = 0;
    uint64_t value;
    while (digits < query.len && query.at[digits] >= '0' && query.at[digits] <= '9')
        digits++;
    if (digits > 9 || !span_u64(span_of(query.at, digits), &value))
        return false;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (span_is(span_of(query.at + digits, query.len - digits), units[i].unit)) {
            *ret_us = value * units[i].us;
            return true;
        }
    return false;
}

static void post_flush(struct admin *ad, struct http_conn *c, const struct http_request *r)
{
    struct agent *a = ad->agent;
    uint64_t wait_us;
    if (!query_wait(r->query, &wait_us)) {
        admin_respond_error(c, r->handle, 400, "invalid_wait", "wait is a duration such as 500ms, 30s or 5m");
        return;
    }
    agent_flush(a);
    if (ad->flush_count >= FLUSH_WAITERS_MAX) {
        admin_respond_error(c, r->handle, 503, "busy", "too many flushes wait already");
        return;
    }
    struct flush_waiter *w = must_alloc(sizeof *w + a->output_count * sizeof w->marks[0]);
    w->conn = c;
    w->handle = r->handle;
    w->deadline_us = clock_mono_us(&a->clock) + wait_us;
    for (unsigned i = 0; i < a->output_count; i++) {
        if (a->outputs[i]->phase != HOST_OPEN)
            continue;
        w->marks[w->count].host = a->outputs[i];
        w->marks[w->count++].mark = output_mark(a->outputs[i]->core);
    }
    list_init(&w->node);
    list_append(&ad->flushes, &w->node);
    ad->flush_count++;
    admin_turn(ad);
}

static void drop_waiter(struct admin *ad, struct flush_waiter *w)
{
    list_remove(&w->node);
    ad->flush_count--;
    free(w);
}

static bool waiter_settled(const struct flush_waiter *w)
{
    for (unsigned i = 0; i < w->count; i++) {
        const struct output_host *h = w->marks[i].host;
        if (h == NULL || h->phase == HOST_OPENING)
            return false;
        if (h->phase == HOST_OPEN && !output_settled_to(h->core, w->marks[i].mark))
            return false;
    }
    return true;
}

/* Positions in a spool are the spool's, so a mark holds for whoever has the spool after a reload. */
void admin_outputs_changed(struct admin *ad)
{
    if (ad == NULL)
        return;
    const struct agent *a = ad->agent;
    for (struct list *node = ad->flushes.next; node != &ad->flushes; node = node->next) {
        struct flush_waiter *w = CONTAINER_OF(node, struct flush_waiter, node);
        for (unsigned i = 0; i < w->count; i++) {
            struct output_host *now = NULL;
            for (unsigned k = 0; w->marks[i].host != NULL && k < a->output_count; k++)
                if (strcmp(a->outputs[k]->name, w->marks[i].host->name) == 0)
                    now = a->outputs[k];
            w->marks[i].host = now;
        }
    }
}

static void turn_flushes(struct admin *ad)
{
    uint64_t now = clock_mono_us(&ad->agent->clock);
    struct list *node = ad->flushes.next;
    while (node != &ad->flushes) {
        struct flush_waiter *w = CONTAINER_OF(node, struct flush_waiter, node);
        node = node->next;
        bool settled = waiter_settled(w);
        if (!settled && now < w->deadline_us)
            continue;
        struct http_conn *c = w->conn;
        uint64_t handle = w->handle;
        drop_waiter(ad, w);
        if (settled)
            admin_respond(c, handle, 200, SPAN("application/json"), SPAN("{\"settled\":true}\n"));
        else
            admin_respond_error(c, handle, 504, "not_settled", "not everything was settled in time");
        node = ad->flushes.next; /* answering may have closed the connection, and with it other waiters */
    }
}

static void get_tap(struct admin *ad, struct http_conn *c, const struct http_request *r)
{
    tap_begin(ad->agent, c, r);
}

static void get_page(struct admin *ad, struct http_conn *c, const struct http_request *r)
{
    page_get(ad->agent, &ad->page, c, r);
}

static void get_page_json(struct admin *ad, struct http_conn *c, const struct http_request *r)
{
    page_get_json(ad->agent, &ad->page, c, r);
}

/* --- POST /reload --------------------------------------------------------------------------------------- */

static void post_reload(struct admin *ad, struct http_conn *c, const struct http_request *r)
{
    if (ad->reload_count >= RELOAD_WAITERS_MAX) {
        admin_respond_error(c, r->handle, 503, "busy", "too many reloads wait already");
        return;
    }
    struct reload_waiter *w = must_alloc(sizeof *w);
    w->conn = c;
    w->handle = r->handle;
    w->round = reload_ask(ad->agent->reload);
    list_init(&w->node);
    list_append(&ad->reloads, &w->node);
    ad->reload_count++;
}

static void drop_reload(struct admin *ad, struct reload_waiter *w)
{
    list_remove(&w->node);
    ad->reload_count--;
    free(w);
}

static void turn_reloads(struct admin *ad)
{
    struct list *node = ad->reloads.next;
    while (node != &ad->reloads) {
        struct reload_waiter *w = CONTAINER_OF(node, struct reload_waiter, node);
        node = node->next;
        unsigned status;
        struct span body;
        if (!reload_answer(ad->agent->reload, w->round, &status, &body))
            continue;
        struct http_conn *c = w->conn;
        uint64_t handle = w->handle;
        drop_reload(ad, w);
        admin_respond(c, handle, status, SPAN("application/json"), body);
        node = ad->reloads.next; /* answering may have closed the connection, and with it other waiters */
    }
}

void admin_turn(struct admin *ad)
{
    if (ad == NULL)
        return;
    turn_flushes(ad);
    turn_reloads(ad);
    flush_all(&ad->agent->flushes);
}

/* --- /outputs/NAME: pause, resume, dead letters --------------------------------------------------------- */

static struct output_host *output_of_path(const struct agent *a, struct span path, struct span *ret_verb)
{
    struct span rest = span_of(path.at + 9, path.len - 9); /* behind "/outputs/" */
    const uint8_t *slash = memchr(rest.at, '/', rest.len);
    if (slash == NULL)
        return NULL;
    struct span name = span_of(rest.at, (size_t)(slash - rest.at));
    *ret_verb = span_of(slash + 1, rest.len - name.len - 1);
    for (unsigned i = 0; i < a->output_count; i++)
        if (span_is(name, a->outputs[i]->name))
            return a->outputs[i];
    return NULL;
}

/* 405, with the methods that the path takes. */
static void wrong_method(struct http_conn *c, const struct http_request *r, bool get, bool post)
{
    const struct http_field allow = {SPAN("Allow"), get && post ? SPAN("GET, HEAD, POST")
                                                    : get       ? SPAN("GET, HEAD")
                                                                : SPAN("POST")};
    struct http_answer answer = {.status = 405,
                                 .content_type = SPAN("application/json"),
                                 .body = SPAN("{\"error\":{\"code\":\"method_not_allowed\","
                                              "\"message\":\"this path takes another method\"}}\n"),
                                 .fields = &allow,
                                 .field_count = 1};
    http_conn_answer(c, r->handle, &answer);
}

static bool is_dead_path(struct span verb)
{
    return span_is(verb, "dead") || span_starts(verb, SPAN("dead/"));
}

static bool is_command(struct span verb)
{
    return span_is(verb, "pause") || span_is(verb, "resume");
}

static void no_such_output(struct http_conn *c, const struct http_request *r, const struct output_host *h,
                           const char *expected)
{
    if (h == NULL)
        admin_respond_error(c, r->handle, 404, "not_found", "no output has this name");
    else if (h->phase != HOST_OPEN)
        admin_respond_error(c, r->handle, 503, "not_open", "the output is not open now");
    else
        admin_respond_error(c, r->handle, 404, "not_found", expected);
}

static void get_output(struct admin *ad, struct http_conn *c, const struct http_request *r)
{
    struct span verb;
    struct output_host *h = output_of_path(ad->agent, r->path, &verb);
    if (h != NULL && is_command(verb))
        wrong_method(c, r, false, true);
    else if (h == NULL || h->phase != HOST_OPEN || !is_dead_path(verb))
        no_such_output(c, r, h, "GET /outputs/NAME/dead, or /outputs/NAME/dead/ID");
    else
        admin_dead_begin(h, span_of(verb.at + 4, verb.len - 4), c, r);
}

static void post_output(struct admin *ad, struct http_conn *c, const struct http_request *r)
{
    struct span verb;
    struct output_host *h = output_of_path(ad->agent, r->path, &verb);
    if (h != NULL && h->phase == HOST_OPEN && is_dead_path(verb)) {
        admin_dead_begin(h, span_of(verb.at + 4, verb.len - 4), c, r);
        return;
    }
    if (h == NULL || h->phase != HOST_OPEN || !is_command(verb)) {
        no_such_output(c, r, h, "POST /outputs/NAME/pause, resume, dead/replay or dead/purge");
        return;
    }
    if (span_is(verb, "pause"))
        output_pause(h->core);
    else
        output_resume(h->core);
    log_info(h->subject, "%.*sd by request", SPAN_FMT(verb));
    output_host_touch(h);
    admin_respond(c, r->handle, 200, SPAN("application/json"), SPAN("{\"ok\":true}\n"));
}

/* --- dispatch ------------------------------------------------------------------------------------------- */

struct admin_path {
    enum http_method method;
    const char *path; /* ends in '/': a prefix */
    void (*handle)(struct admin *ad, struct http_conn *c, const struct http_request *r);
};

static const struct admin_path paths[] = {
    {HTTP_METHOD_GET, "/healthz", get_healthz}, {HTTP_METHOD_GET, "/readyz", get_readyz},
    {HTTP_METHOD_GET, "/metrics", get_metrics}, {HTTP_METHOD_GET, "/status", get_status},
    {HTTP_METHOD_GET, "/tap", get_tap},         {HTTP_METHOD_POST, "/flush", post_flush},   {HTTP_METHOD_POST, "/reload", post_reload},
    {HTTP_METHOD_GET, "/outputs/", get_output}, {HTTP_METHOD_POST, "/outputs/", post_output},
    {HTTP_METHOD_GET, "/", get_page},           {HTTP_METHOD_GET, "/page.json", get_page_json},
};

static bool path_matches(const struct admin_path *p, struct span path)
{
    size_t len = strlen(p->path);
    if (len > 1 && p->path[len - 1] == '/')
        return path.len > len && span_starts(path, span_str(p->path));
    return span_is(path, p->path);
}

static bool token_given(const struct admin *ad, const struct http_request *r)
{
    const struct config_secret *token = &ad->agent->config->admin.auth.token;
    if (token->template == NULL)
        return true;
    const struct api_request view = {.header = http_request_lookup, .header_ctx = r};
    const struct api_path path = {.auth = AUTH_BEARER};
    return api_authorized(&path, &view, token->value);
}

/* A page from elsewhere that a person's browser shows must not command the agent. Browsers say on whose behalf they
 * post; whoever is no browser says nothing. */
static bool from_elsewhere(const struct http_request *r)
{
    struct span origin = http_request_known(r, HTTP_KNOWN_ORIGIN), host = http_request_known(r, HTTP_KNOWN_HOST);
    if (origin.at == NULL)
        return false;
    const uint8_t *slashes = memmem(origin.at, origin.len, "://", 3);
    if (slashes == NULL)
        return true; /* "null" */
    struct span from = span_of(slashes + 3, origin.len - (size_t)(slashes + 3 - origin.at));
    return !span_equal_nocase(from, host);
}

/* Whoever owns a name can have it lead to 127.0.0.1, and a browser then takes us for that page's own server: it may read
 * what it likes. So where neither a token nor the unsafe line opens admin to others, it goes by an address or by a name
 * without dots, such as localhost, which no foreign DNS answers for. */
static bool called_by_foreign_name(const struct admin *ad, const struct http_request *r)
{
    const struct config_listen *where = &ad->agent->config->admin.listen;
    struct span host = http_request_known(r, HTTP_KNOWN_HOST);
    uint8_t address[16];
    if (where->open || where->kind != CONFIG_LISTEN_INET || host.len == 0 || host.at[0] == '[')
        return false;
    const uint8_t *colon = memchr(host.at, ':', host.len);
    struct span name = span_of(host.at, colon == NULL ? host.len : (size_t)(colon - host.at));
    return memchr(name.at, '.', name.len) != NULL && ip_parse(name, address) == 0;
}

static void on_request(struct http_conn *c, enum http_server_event event, const struct http_request *r)
{
    struct admin *ad = c->front->ctx;
    if (event == HTTP_SERVER_EXPECT)
        return;
    if (event == HTTP_SERVER_REFUSED) {
        const struct http_refusal refusal = c->front->shared.refusal;
        http_server_respond_refusal(&c->server, r->handle, &refusal);
        http_conn_flush_soon(c);
        return;
    }
    if (called_by_foreign_name(ad, r)) {
        admin_respond_error(c, r->handle, 403, "foreign_host",
                            "without admin.auth.token this is http://localhost or an address, whatever other names lead here");
        return;
    }
    bool get = false, post = false;
    enum http_method method = r->method == HTTP_METHOD_HEAD ? HTTP_METHOD_GET : r->method;
    bool is_page = method == HTTP_METHOD_GET && span_is(r->path, "/"); /* it holds no data, and asks for the token */
    if (!is_page && !token_given(ad, r)) {
        admin_respond_error(c, r->handle, 401, "unauthorized", "admin asks for Authorization: Bearer TOKEN");
        return;
    }
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        if (!path_matches(&paths[i], r->path))
            continue;
        get |= paths[i].method == HTTP_METHOD_GET;
        post |= paths[i].method == HTTP_METHOD_POST;
        if (paths[i].method == method && method == HTTP_METHOD_POST && from_elsewhere(r)) {
            admin_respond_error(c, r->handle, 403, "cross_origin", "a page from elsewhere commands nothing here");
            return;
        }
        if (paths[i].method == method) {
            paths[i].handle(ad, c, r);
            return;
        }
    }
    if (get || post)
        wrong_method(c, r, get, post);
    else
        admin_respond_error(c, r->handle, 404, "not_found", "no such path");
}

static void on_gone(struct http_conn *c)
{
    struct admin *ad = c->front->ctx;
    struct list *node = ad->flushes.next;
    while (node != &ad->flushes) {
        struct flush_waiter *w = CONTAINER_OF(node, struct flush_waiter, node);
        node = node->next;
        if (w->conn == c)
            drop_waiter(ad, w);
    }
    tap_forget(ad->agent, c);
    admin_dead_forget(ad->agent, c);
    node = ad->reloads.next;
    while (node != &ad->reloads) {
        struct reload_waiter *w = CONTAINER_OF(node, struct reload_waiter, node);
        node = node->next;
        if (w->conn == c)
            drop_reload(ad, w);
    }
}

static void on_closed(struct http_front *f)
{
    struct admin *ad = f->ctx;
    ad->closed = true;
}

/* --- life ----------------------------------------------------------------------------------------------- */

static const struct http_front_use use = {.request = on_request, .gone = on_gone, .closed = on_closed};

enum err admin_bind(struct agent *a, struct admin **ret, struct fault *why)
{
    const struct config_admin *config = &a->config->admin;
    *ret = NULL;
    if (config->listen.kind == CONFIG_LISTEN_OFF)
        return OK;
    struct admin *ad = must_alloc(sizeof *ad);
    ad->agent = a;
    list_init(&ad->flushes);
    list_init(&ad->reloads);
    bytes_init(&ad->page, PAGE_MAX);
    ad->front = (struct http_front){.loop = a->loop,
                                    .clock = a->clock,
                                    .flushes = &a->flushes,
                                    .use = &use,
                                    .ctx = ad,
                                    .subject = "admin",
                                    .connections_max = 64,
                                    .idle_timeout_us = 60 * US_PER_S,
                                    .request_timeout_us = 30 * US_PER_S};
    reread_init(&ad->reread, "admin", NULL);
    struct http_limits limits = http_limits_default;
    limits.body_bytes_max = BODY_MAX;
    limits.out_bytes_max = PAGE_MAX;
    enum err err = http_front_bind(&ad->front, "admin", &config->listen, &config->socket, &limits, why);
    if (err != OK) {
        free(ad);
        return fault_context(why, "admin");
    }
    admin_second(ad);
    *ret = ad;
    return OK;
}

enum err admin_start(struct admin *ad, struct fault *why)
{
    if (ad == NULL)
        return OK;
    enum err err = http_front_listen(&ad->front, why);
    if (err != OK)
        return fault_context(why, "admin");
    log_info("admin", "listening on %s", ad->front.listener.text);
    return OK;
}

void admin_second(struct admin *ad)
{
    if (ad == NULL)
        return;
    memcpy(ad->front.shared.date, ad->agent->http_date, sizeof ad->front.shared.date);
    tap_second(ad->agent);
    admin_turn(ad);
}

void admin_reread(struct admin *ad)
{
    if (ad == NULL || !config_secrets_refer(ad->agent->config->admin.secrets))
        return;
    const struct reread_what what = {.edition = ad->agent->edition, .secrets = ad->agent->config->admin.secrets};
    reread_start(&ad->reread, ad->agent->loop, &what);
}

void admin_close(struct admin *ad)
{
    if (ad != NULL)
        http_front_close(&ad->front);
}

bool admin_closed(const struct admin *ad)
{
    return ad == NULL || ad->closed;
}

void admin_free(struct admin *ad)
{
    if (ad == NULL)
        return;
    reread_abandon(&ad->reread);
    http_front_deinit(&ad->front);
    bytes_deinit(&ad->page);
    free(ad);
}
