/* admin_dead: see admin_dead.h. */
#include "agent/admin_dead.h"

#include "agent/admin_answer.h"
#include "agent/agent.h"
#include "agent/letter_json.h"
#include "agent/output_host.h"
#include "lib/base/ensure.h"
#include "lib/codec/json.h"
#include "lib/http/url.h"

#include <stdio.h>
#include <stdlib.h>

#define LIST_MAX 500
#define PAGE_BYTES 4000000              /* a page of letters ends behind the one that passes this */
#define PAGE_BYTES_MAX (15 * 1024 * 1024)
#define IDS_MAX 10000

struct dead_ask {
    struct spool_dead_request request;
    struct output_host *host;
    struct http_conn *conn; /* NULL: gone */
    uint64_t handle;
    uint64_t *ids;
    bool one;               /* a letter was asked for by its id */
    struct bytes page;
};

static void ask_free(struct dead_ask *ask)
{
    ask->host->dead_ask = NULL;
    bytes_deinit(&ask->page);
    free(ask->ids);
    free(ask);
}

static void on_letter(void *ctx, const struct spool_letter *letter)
{
    struct dead_ask *ask = ctx;
    if (ask->page.len >= PAGE_BYTES)
        return; /* the next page begins behind the last one shown */
    if (letter_json_append(&ask->page, letter) != OK)
        log_warn(ask->host->subject, "dead letter %llu is too large to be shown", (unsigned long long)letter->letter_id);
}

static void answer(struct dead_ask *ask, enum err err, uint64_t count, const struct fault *why)
{
    char body[96];
    struct http_conn *c = ask->conn;
    if (err != OK) {
        log_warn(ask->host->subject, "dead letters: %s", why == NULL ? err_name(err) : why->text);
        admin_respond_error(c, ask->handle, 503, err == ERR_FULL ? "full" : "failed",
                            err == ERR_FULL ? "the spool has no room for more" : "the spool is closing or has failed");
    } else if (ask->request.kind != DEAD_LIST) {
        const char *what = ask->request.kind == DEAD_REPLAY ? "replayed" : "purged";
        (void)snprintf(body, sizeof body, "{\"%s\":%llu}\n", what, (unsigned long long)count);
        log_info(ask->host->subject, "%llu dead letters %s by request", (unsigned long long)count, what);
        admin_respond(c, ask->handle, 200, SPAN("application/json"), span_str(body));
    } else if (ask->one && ask->page.len == 0) {
        admin_respond_error(c, ask->handle, 404, "not_found", "there is no dead letter with this id");
    } else {
        admin_respond(c, ask->handle, 200, ask->one ? SPAN("application/json") : SPAN("application/x-ndjson"),
                      bytes_span(&ask->page));
    }
}

static void on_done(void *ctx, enum err err, uint64_t count, const struct fault *why)
{
    struct dead_ask *ask = ctx;
    struct output_host *h = ask->host;
    h->dead_ask = NULL; /* answering may close the connection, whose end looks for us */
    if (ask->conn != NULL)
        answer(ask, err, count, why);
    ask_free(ask);
    if (h->phase == HOST_OPEN)
        output_host_touch(h);
}

/* --- what is asked -------------------------------------------------------------------------------------- */

static bool query_number(struct span query, const char *name, uint64_t *number)
{
    struct span value;
    return query.len == 0 || !url_query_value(query, name, &value) || span_u64(value, number);
}

static bool read_ids(struct dead_ask *ask, struct json_reader *r)
{
    struct json_value value;
    enum err err;
    ask->ids = must_alloc(IDS_MAX * sizeof *ask->ids);
    if (json_enter_array(r) != OK)
        return false;
    while ((err = json_next_element(r)) == OK) {
        unsigned i = ask->request.id_count;
        if (i >= IDS_MAX || json_read_value(r, &value) != OK || value.type != JSON_NUMBER ||
            !json_uint64(value.text, &ask->ids[i]))
            return false;
        ask->request.id_count++;
    }
    ask->request.ids = ask->ids;
    return err == ERR_NOT_FOUND;
}

/* {"ids":[…]} or {"all":true}: one of them, so that an empty list never means everything. */
static bool read_body(struct dead_ask *ask, struct span body)
{
    struct json_reader r;
    struct json_key key;
    struct json_value value;
    bool all = false;
    enum err err;
    json_reader_init(&r, body);
    if (json_enter_object(&r) != OK)
        return false;
    while ((err = json_next_member(&r, &key)) == OK) {
        if (json_key_is(&key, "ids") && ask->ids == NULL) {
            if (!read_ids(ask, &r))
                return false;
        } else if (json_key_is(&key, "all") && json_read_value(&r, &value) == OK && value.type == JSON_TRUE) {
            all = true;
        } else {
            return false;
        }
    }
    return err == ERR_NOT_FOUND && all == (ask->ids == NULL);
}

/* What is wrong with the request; NULL when nothing is. */
static const char *read_ask(struct dead_ask *ask, struct span rest, const struct http_request *r)
{
    uint64_t limit = LIST_MAX;
    bool get = r->method != HTTP_METHOD_POST;
    if (span_is(rest, "/replay") || span_is(rest, "/purge")) {
        ask->request.kind = span_is(rest, "/replay") ? DEAD_REPLAY : DEAD_PURGE;
        if (get)
            return "POST replays and purges";
        return read_body(ask, r->body) ? NULL : "the body is {\\\"ids\\\":[N,...]} or {\\\"all\\\":true}";
    }
    ask->request.kind = DEAD_LIST;
    if (!get)
        return "POST goes to /outputs/NAME/dead/replay or /purge";
    if (rest.len > 0) {
        ask->one = true;
        ask->ids = must_alloc(sizeof *ask->ids);
        ask->request.ids = ask->ids;
        ask->request.id_count = 1;
        return span_u64(span_of(rest.at + 1, rest.len - 1), ask->ids) ? NULL : "the id of a dead letter is a number";
    }
    if (!query_number(r->query, "after", &ask->request.after_id) || !query_number(r->query, "limit", &limit) || limit == 0)
        return "the query takes after=ID and limit=N";
    ask->request.limit = (unsigned)(limit < LIST_MAX ? limit : LIST_MAX);
    return NULL;
}

void admin_dead_begin(struct output_host *h, struct span rest, struct http_conn *c, const struct http_request *r)
{
    struct dead_ask *ask;
    if (h->dead_ask != NULL) {
        admin_respond_error(c, r->handle, 503, "busy", "another request for dead letters is under way");
        return;
    }
    ask = must_alloc(sizeof *ask);
    *ask = (struct dead_ask){.host = h, .conn = c, .handle = r->handle};
    bytes_init(&ask->page, PAGE_BYTES_MAX);
    const char *wrong = read_ask(ask, rest, r);
    ask->request.ctx = ask;
    ask->request.letter = on_letter;
    ask->request.done = on_done;
    if (wrong != NULL) {
        ask_free(ask);
        admin_respond_error(c, r->handle, 400, "invalid_request", wrong);
        return;
    }
    h->dead_ask = ask;
    if (spool_dead(h->spool, &ask->request) == OK)
        return;
    ask_free(ask);
    admin_respond_error(c, r->handle, 503, "busy", "the spool cannot be asked now");
}

void admin_dead_forget(struct agent *a, const struct http_conn *c)
{
    for (unsigned i = 0; i < a->output_count; i++)
        if (a->outputs[i]->dead_ask != NULL && a->outputs[i]->dead_ask->conn == c)
            a->outputs[i]->dead_ask->conn = NULL;
    for (struct list *node = a->outputs_going.next; node != &a->outputs_going; node = node->next) {
        struct dead_ask *ask = CONTAINER_OF(node, struct output_host, node)->dead_ask;
        if (ask != NULL && ask->conn == c)
            ask->conn = NULL;
    }
}

void admin_dead_drop(struct output_host *h)
{
    struct dead_ask *ask = h->dead_ask;
    if (ask == NULL)
        return;
    h->dead_ask = NULL;
    if (ask->conn != NULL)
        admin_respond_error(ask->conn, ask->handle, 503, "failed", "the output is closed");
    ask_free(ask);
}
