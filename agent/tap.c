/* tap: see tap.h. */
#include "agent/tap.h"

#include "agent/admin_answer.h"
#include "agent/agent.h"
#include "agent/intake.h"
#include "agent/letter_json.h"
#include "agent/output_host.h"
#include "lib/codec/glob.h"
#include "lib/codec/json.h"
#include "lib/codec/rfc3339.h"
#include "lib/http/url.h"

#include <stdio.h>
#include <stdlib.h>

#define LISTENERS_MAX 16
#define LINE_BYTES_MAX (16 * 1024 * 1024)
#define LINE_BYTES_KEPT (256 * 1024)
#define UNREAD_BYTES_MAX (1024 * 1024) /* of one listener, beyond what the kernel holds */
#define TEXT_MAX 256

struct tap {
    struct list listeners; /* never empty: the tap goes with its last listener */
    unsigned count;
    struct bytes line;
};

struct tap_listener {
    struct list node;
    struct http_conn *conn;
    uint64_t handle;
    char output[TEXT_MAX], type[TEXT_MAX]; /* "": any */
    uint64_t limit;                        /* 0: none */
    uint64_t shown, left_out;
};

/* One accepted event and where it goes. */
struct tap_view {
    const struct intake_offer *offer;
    const struct event *event;   /* a neutral one, or NULL */
    const struct api_item *item; /* as one of its outputs keeps it */
    struct span type;            /* .at NULL: has none */
    const struct output_host *outputs[OUTPUTS_MAX];
    unsigned output_count;
};

/* --- listeners ------------------------------------------------------------------------------------------ */

static void drop(struct agent *a, struct tap_listener *l)
{
    list_remove(&l->node);
    free(l);
    if (--a->tap->count > 0)
        return;
    bytes_deinit(&a->tap->line);
    free(a->tap);
    a->tap = NULL;
}

static void end(struct agent *a, struct tap_listener *l)
{
    http_server_stream_end(&l->conn->server, l->handle);
    http_conn_flush_soon(l->conn);
    drop(a, l);
}

static bool query_text(struct span query, const char *name, char into[TEXT_MAX])
{
    struct span value;
    struct bytes decoded;
    into[0] = '\0';
    if (query.len == 0 || !url_query_value(query, name, &value))
        return true;
    bytes_init(&decoded, TEXT_MAX - 1);
    bool good = url_decode(&decoded, value) == OK;
    if (good) {
        if (decoded.len > 0)
            memcpy(into, decoded.at, decoded.len);
        into[decoded.len] = '\0';
    }
    bytes_deinit(&decoded);
    return good;
}

static bool read_query(struct tap_listener *l, struct span query)
{
    char limit[TEXT_MAX];
    if (!query_text(query, "output", l->output) || !query_text(query, "type", l->type) ||
        !query_text(query, "limit", limit))
        return false;
    return limit[0] == '\0' || (span_u64(span_str(limit), &l->limit) && l->limit > 0);
}

static bool has_output(const struct agent *a, const char *name)
{
    for (unsigned i = 0; i < a->output_count; i++)
        if (strcmp(a->outputs[i]->name, name) == 0)
            return true;
    return false;
}

void tap_begin(struct agent *a, struct http_conn *c, const struct http_request *r)
{
    struct http_answer answer = {.status = 200, .content_type = SPAN("application/x-ndjson")};
    struct tap_listener *l = must_alloc(sizeof *l);
    l->conn = c;
    l->handle = r->handle;
    list_init(&l->node);
    const char *wrong = NULL;
    if (!read_query(l, r->query))
        wrong = "the query takes output=NAME, type=GLOB and limit=N, a count above 0";
    else if (l->output[0] != '\0' && !has_output(a, l->output))
        wrong = "no output has this name";
    if (wrong != NULL) {
        admin_respond_error(c, r->handle, 400, "invalid_query", wrong);
    } else if (a->phase >= AGENT_STOPPING || (a->tap != NULL && a->tap->count >= LISTENERS_MAX)) {
        admin_respond_error(c, r->handle, 503, "busy", a->tap != NULL ? "too many listen already" : "the agent is stopping");
    } else if (http_server_stream_begin(&c->server, r->handle, &answer) != OK) {
        http_conn_close(c);
    } else {
        if (a->tap == NULL) {
            a->tap = must_alloc(sizeof *a->tap);
            list_init(&a->tap->listeners);
            bytes_init(&a->tap->line, LINE_BYTES_MAX);
        }
        list_append(&a->tap->listeners, &l->node);
        a->tap->count++;
        http_conn_flush_soon(c);
        return;
    }
    free(l);
}

void tap_forget(struct agent *a, const struct http_conn *c)
{
    struct list *node = a->tap == NULL ? NULL : a->tap->listeners.next;
    while (a->tap != NULL && node != &a->tap->listeners) {
        struct tap_listener *l = CONTAINER_OF(node, struct tap_listener, node);
        node = node->next;
        if (l->conn == c)
            drop(a, l);
    }
}

void tap_second(struct agent *a)
{
    struct list *node = a->tap == NULL ? NULL : a->tap->listeners.next;
    while (a->tap != NULL && node != &a->tap->listeners) {
        struct tap_listener *l = CONTAINER_OF(node, struct tap_listener, node);
        node = node->next;
        if (l->conn->server.eof)
            end(a, l);
    }
}

void tap_end(struct agent *a)
{
    while (a->tap != NULL)
        end(a, CONTAINER_OF(a->tap->listeners.next, struct tap_listener, node));
}

/* --- one event ------------------------------------------------------------------------------------------ */

/* A vendor's element has no `type`, but most have a member that says what it is. */
static struct span type_of_body(struct span body)
{
    static const char *const names[] = {"type", "event", "kind", "name", "eventName", "key"};
    struct json_member members[64];
    struct json_value value;
    size_t count = 0;
    if (json_check_object(body, members, 64, &count, &value, NULL) != OK)
        return (struct span){0};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const struct json_member *m = json_find(members, count, names[i]);
        if (m != NULL && m->value.type == JSON_STRING)
            return json_raw_string(&m->value);
    }
    return (struct span){0};
}

static bool wants(const struct tap_listener *l, const struct tap_view *v)
{
    bool output = l->output[0] == '\0';
    for (unsigned i = 0; i < v->output_count && !output; i++)
        output = strcmp(v->outputs[i]->name, l->output) == 0;
    return output && (l->type[0] == '\0' || (v->type.at != NULL && glob_match(span_str(l->type), v->type)));
}

static enum err write_body(struct bytes *b, const struct tap_view *v)
{
    if (v->event != NULL) {
        enum err err = bytes_append(b, SPAN(",\"event\":"));
        return err == OK ? event_append_json(b, v->event, true) : err;
    }
    enum err err = bytes_append(b, SPAN(",\"event\":"));
    return err == OK ? body_json_append(b, v->item->body) : err;
}

static enum err write_line(struct agent *a, struct bytes *b, const struct tap_view *v)
{
    char when[RFC3339_TEXT + 1];
    size_t n = rfc3339_format_ms(instant_of_ns(clock_wall_ns(&a->clock)), when);
    bytes_clear(b);
    enum err err = bytes_printf(b, "{\"time\":\"%.*s\",\"input\":\"%s\",\"api\":\"%s\",\"outputs\":[", (int)n, when,
                                v->offer->input_name, v->offer->x->api->name);
    for (unsigned i = 0; i < v->output_count && err == OK; i++)
        err = bytes_printf(b, "%s\"%s\"", i == 0 ? "" : ",", v->outputs[i]->name);
    if (err == OK)
        err = bytes_append(b, SPAN("]"));
    if (err == OK && v->event != NULL) {
        err = bytes_append(b, SPAN(",\"type\":"));
        if (err == OK)
            err = json_append_string(b, v->event->type);
    } else if (err == OK && v->type.at != NULL) {
        err = bytes_printf(b, ",\"type\":\"%.*s\"", SPAN_FMT(v->type)); /* still escaped as it was */
    }
    if (err == OK)
        err = write_body(b, v);
    return err == OK ? bytes_append(b, SPAN("}\n")) : err;
}

static bool has_room(const struct tap_listener *l)
{
    return http_server_output(&l->conn->server).len < UNREAD_BYTES_MAX;
}

static void give(struct tap_listener *l, struct span line)
{
    if (!has_room(l)) {
        l->left_out++;
        return;
    }
    if (l->left_out > 0) {
        char note[64];
        (void)snprintf(note, sizeof note, "{\"tap\":{\"left_out\":%llu}}\n", (unsigned long long)l->left_out);
        if (http_server_stream(&l->conn->server, l->handle, span_str(note)) == OK)
            l->left_out = 0;
    }
    if (http_server_stream(&l->conn->server, l->handle, line) == OK)
        l->shown++;
    else
        l->left_out++;
    http_conn_flush_soon(l->conn);
}

static void show(struct agent *a, const struct tap_view *v)
{
    bool written = false;
    struct list *node = a->tap->listeners.next;
    while (a->tap != NULL && node != &a->tap->listeners) {
        struct tap_listener *l = CONTAINER_OF(node, struct tap_listener, node);
        node = node->next;
        if (!wants(l, v))
            continue;
        if (!written && has_room(l)) {
            if (write_line(a, &a->tap->line, v) != OK)
                bytes_clear(&a->tap->line);
            written = true;
        }
        if (written && a->tap->line.len == 0)
            l->left_out++; /* larger than a line can be */
        else
            give(l, bytes_span(&a->tap->line));
        if (l->limit != 0 && l->shown >= l->limit)
            end(a, l);
    }
}

/* --- one offer ------------------------------------------------------------------------------------------ */

static const struct event *event_at(const struct api_exchange *x, unsigned index, unsigned *cursor)
{
    while (x->events != NULL && *cursor < x->event_count && x->events[*cursor].index < index)
        (*cursor)++;
    return x->events != NULL && *cursor < x->event_count && x->events[*cursor].index == index ? &x->events[*cursor]
                                                                                                : NULL;
}

/* Each output's part names its events in the order of the request; this walks all parts side by side. */
void tap_show(struct agent *a, const struct intake_offer *o)
{
    unsigned at[OUTPUTS_MAX] = {0}, cursor = 0;
    unsigned parts = o->part_count < OUTPUTS_MAX ? o->part_count : OUTPUTS_MAX;
    while (a->tap != NULL) {
        struct tap_view v = {.offer = o};
        for (unsigned i = 0; i < parts; i++)
            if (at[i] < o->parts[i].count && (v.item == NULL || o->parts[i].items[at[i]].index < v.item->index))
                v.item = &o->parts[i].items[at[i]];
        if (v.item == NULL)
            break;
        for (unsigned i = 0; i < parts; i++)
            if (at[i] < o->parts[i].count && o->parts[i].items[at[i]].index == v.item->index) {
                v.outputs[v.output_count++] = o->parts[i].output;
                at[i]++;
            }
        v.event = event_at(o->x, v.item->index, &cursor);
        v.type = v.event != NULL ? v.event->type : type_of_body(v.item->body);
        show(a, &v);
    }
    if (a->tap != NULL && a->tap->line.cap > LINE_BYTES_KEPT)
        bytes_deinit(&a->tap->line);
}
