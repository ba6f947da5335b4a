/* sink_check: from a request to its answer, in one straight line that every api shares.
 *
 *   recognise -> decode -> the api's check -> what a rule wants instead -> remember -> answer
 *
 * The apis' own halves are in sink_<api>.c; this file has the line and the small tools they share. */
#include "agent/sink_check.h"

#include "lib/base/ensure.h"
#include "lib/base/hex.h"
#include "lib/base/http_date.h"
#include "lib/codec/compress.h"
#include "lib/codec/uuid7.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

enum { BODY_BYTES_MAX = 64 << 20, REPLY_BYTES_MAX = 64 << 20, EVENTS_MAX = 1 << 20 };

void sink_exchange_init(struct sink_exchange *x, struct arena *arena)
{
    *x = (struct sink_exchange){.arena = arena};
    x->members = must_alloc(SINK_MEMBERS_MAX * sizeof *x->members);
    x->decoder = decoder_new();
    bytes_init(&x->reply, REPLY_BYTES_MAX);
    bytes_init(&x->headers, 16384);
}

void sink_exchange_deinit(struct sink_exchange *x)
{
    decoder_free(x->decoder);
    free(x->members);
    free(x->events);
    bytes_deinit(&x->reply);
    bytes_deinit(&x->headers);
}

static void exchange_reset(struct sink_exchange *x, const struct sink_settings *settings,
                           const struct sink_request *request)
{
    arena_reset(x->arena);
    bytes_clear(&x->reply);
    bytes_clear(&x->headers);
    x->settings = settings;
    x->request = request;
    x->api = NULL;
    x->rule = NULL;
    x->content_type = x->body = x->partition = x->batch = x->type = (struct span){0};
    x->event_count = 0;
    x->status = 0;
    x->control = false;
}

/* --- tools -------------------------------------------------------------------------------------------- */

struct span sink_header(const struct sink_exchange *x, const char *name)
{
    return x->request->header(x->request->header_ctx, name);
}

bool sink_type_is(const struct sink_exchange *x, const char *media_type)
{
    return x->content_type.at != NULL && span_equal_nocase(x->content_type, span_str(media_type));
}

bool sink_credential(const struct sink_exchange *x, struct span value, const char *prefix)
{
    struct span p = span_str(prefix);
    if (value.at == NULL || value.len <= p.len || !span_starts(value, p))
        return false;
    struct span secret = span_of(value.at + p.len, value.len - p.len);
    return x->settings->accept_key.at == NULL || span_equal(secret, x->settings->accept_key);
}

struct span sink_percent_decoded(struct sink_exchange *x, struct span text)
{
    struct span copy = arena_copy(x->arena, text);
    uint8_t *to = (uint8_t *)copy.at;
    size_t n = 0;
    if (to == NULL)
        return text;
    for (size_t i = 0; i < text.len; i++, n++) {
        int escaped = hex_escaped(text, i);
        to[n] = escaped < 0 ? text.at[i] : (uint8_t)escaped;
        i += escaped < 0 ? 0 : 2;
    }
    return span_of(to, n);
}

struct span sink_path_after(const struct sink_request *r, const char *prefix)
{
    struct span p = span_str(prefix);
    return span_starts(r->path, p) ? span_of(r->path.at + p.len, r->path.len - p.len) : (struct span){0};
}

bool sink_is_uuid(struct span text)
{
    struct uuid u;
    return uuid_parse(text, &u);
}

void sink_violation(struct sink_exchange *x, const char *what, const char *format, ...)
{
    char text[200];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    sink_store_violation(x->settings->store, x->api->name, what, "request %llu: %s", (unsigned long long)x->number, text);
}

void sink_refuse(struct sink_exchange *x, unsigned status, const char *what, const char *text)
{
    if (x->status != 0)
        return;
    if (what != NULL)
        sink_violation(x, what, "%s", text);
    x->status = status;
    x->api->refuse(x, text);
}

void sink_reply(struct sink_exchange *x, unsigned status, const char *type, const char *format, ...)
{
    char *text = NULL;
    va_list args;
    va_start(args, format);
    int len = vasprintf(&text, format, args);
    va_end(args);
    ensure(len >= 0);
    x->status = status;
    x->type = span_str(type);
    bytes_clear(&x->reply);
    (void)!bytes_append(&x->reply, span_of(text, (size_t)len));
    free(text);
}

void sink_reply_more(struct sink_exchange *x, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    ensure(len >= 0 && (size_t)len < sizeof text);
    (void)!bytes_append(&x->reply, span_of(text, (size_t)len));
}

void sink_reply_string(struct sink_exchange *x, struct span text)
{
    (void)!json_append_string_lossy(&x->reply, text, NULL);
}

/* --- events ------------------------------------------------------------------------------------------- */

struct sink_event *sink_event_add(struct sink_exchange *x, struct span body)
{
    if (x->event_count == x->event_capacity) {
        ensure(x->event_capacity < EVENTS_MAX * 16);
        x->event_capacity = x->event_capacity == 0 ? 1024 : x->event_capacity * 2;
        x->events = must_realloc(x->events, x->event_capacity * sizeof *x->events);
    }
    struct sink_event *e = &x->events[x->event_count++];
    *e = (struct sink_event){.body = body};
    e->identity = sink_hash_of(sink_hash_of((struct sink_hash){0}, span_str(x->api->name)), x->partition);
    e->identity = sink_hash_of(e->identity, body);
    return e;
}

void sink_event_identify(struct sink_exchange *x, struct sink_event *e, struct span id, struct span more)
{
    struct sink_hash seed = sink_hash_of(sink_hash_of((struct sink_hash){.a = 7}, span_str(x->api->name)), more);
    e->id = id;
    e->identity = e->vendor = sink_hash_of(seed, id);
    e->vendor_dedup = true;
}

void sink_batch_identify(struct sink_exchange *x)
{
    struct sink_hash seed = sink_hash_of(sink_hash_of((struct sink_hash){.b = 9}, span_str(x->api->name)), x->partition);
    seed = sink_hash_of(seed, x->batch);
    for (uint32_t i = 0; i < x->event_count && x->batch.at != NULL; i++) {
        x->events[i].vendor = sink_hash_of(seed, span_of(&i, sizeof i));
        x->events[i].vendor_dedup = true;
    }
}

bool sink_is_object(const struct sink_event *e)
{
    return e->body.len > 0 && e->body.at[0] == '{';
}

bool sink_each_element(struct sink_exchange *x, struct json_reader *r, sink_each_fn *each)
{
    enum err err = json_enter_array(r);
    if (err != OK)
        return false;
    while ((err = json_next_element(r)) == OK) {
        struct json_value value;
        size_t count = 0;
        err = json_read_object(r, x->members, SINK_MEMBERS_MAX, &count, &value);
        if (err != OK && err != ERR_TOO_BIG)
            return false;
        if (x->event_count == EVENTS_MAX)
            return false;
        struct sink_event *e = sink_event_add(x, value.text);
        if (err == ERR_TOO_BIG)
            sink_violation(x, "nested_too_deep", "event %u", x->event_count - 1);
        each(x, e, x->members, count);
    }
    return err == ERR_NOT_FOUND;
}

int sink_each_of_member(struct sink_exchange *x, const char *name, sink_each_fn *each)
{
    struct json_reader r;
    struct json_key key;
    struct json_value value;
    bool found = false;
    json_reader_init(&r, x->body);
    enum err err = json_enter_object(&r);
    while (err == OK && (err = json_next_member(&r, &key)) == OK) {
        enum json_type type;
        if (json_key_is(&key, name) && json_peek(&r, &type) == OK && type == JSON_ARRAY) {
            if (found || !sink_each_element(x, &r, each))
                return 400;
            found = true;
        } else {
            err = json_read_value(&r, &value);
            if (err == ERR_TOO_BIG)
                err = OK;
        }
    }
    if (err != ERR_NOT_FOUND || json_finish(&r) != OK)
        return 400;
    return found ? 0 : 422;
}

struct span sink_text(struct sink_exchange *x, const struct json_member *members, size_t count, const char *name)
{
    const struct json_member *m = json_find(members, count, name);
    struct span text;
    if (m == NULL || m->value.type != JSON_STRING || json_decode_string(x->arena, &m->value, &text) != OK || text.len == 0)
        return (struct span){0};
    return text;
}

bool sink_member_is(const struct json_member *members, size_t count, const char *name, enum json_type type)
{
    const struct json_member *m = json_find(members, count, name);
    return m != NULL && m->value.type == type;
}

static bool is_success(unsigned status)
{
    return status == 0 || (status >= 200 && status < 300);
}

unsigned sink_taken(const struct sink_exchange *x)
{
    unsigned n = 0;
    for (unsigned i = 0; i < x->event_count; i++)
        n += is_success(x->events[i].status) && !x->events[i].skipped;
    return n;
}

/* --- the line ----------------------------------------------------------------------------------------- */

static const struct sink_api *recognise(const struct sink_settings *settings, const struct sink_request *request)
{
    if (settings->api_name != NULL)
        return sink_api_find(span_str(settings->api_name));
    for (unsigned i = 0; sink_apis[i + 1] != NULL; i++) {
        if (sink_apis[i]->recognise(request))
            return sink_apis[i];
    }
    for (unsigned i = 0;; i++) {
        if (sink_apis[i + 1] == NULL)
            return sink_apis[i];
    }
}

const struct sink_api *sink_api_find(struct span name)
{
    for (unsigned i = 0; sink_apis[i] != NULL; i++) {
        if (span_is(name, sink_apis[i]->name))
            return sink_apis[i];
    }
    return NULL;
}

static void note_content_type(struct sink_exchange *x)
{
    x->content_type = sink_header(x, "content-type");
    const uint8_t *semicolon =
        x->content_type.len > 0 ? memchr(x->content_type.at, ';', x->content_type.len) : NULL;
    if (semicolon != NULL)
        x->content_type.len = (size_t)(semicolon - x->content_type.at);
    if (x->content_type.at != NULL)
        x->content_type = span_trim(x->content_type);
}

/* Undoes Content-Encoding into `decoded` where the vendor would. */
static void decode(struct sink_exchange *x, struct bytes *decoded)
{
    struct span encoding = sink_header(x, "content-encoding");
    struct fault why;
    enum encoding coding;
    struct decode_limits limits = {.bytes_max = BODY_BYTES_MAX};
    char wanted[64];
    x->body = x->request->body;
    if (encoding.at == NULL)
        return;
    snprintf(wanted, sizeof wanted, " %.*s ", SPAN_FMT(encoding));
    const char *taken = x->api->encodings(x);
    char list[80];
    snprintf(list, sizeof list, " %s ", taken);
    if (strcasestr(list, wanted) == NULL || !encoding_parse(encoding, &coding)) {
        char text[120];
        snprintf(text, sizeof text, "Content-Encoding %.*s is not taken here", SPAN_FMT(encoding));
        sink_refuse(x, strcmp(x->api->name, "langfuse") == 0 ? 400 : 415, "encoding", text);
        return;
    }
    if (decoder_decode(x->decoder, coding, x->request->body, &limits, decoded, &why) != OK) {
        sink_refuse(x, 400, "compression", why.text);
        return;
    }
    x->body = bytes_span(decoded);
}

/* What the rule says of single events and of the answer. */
static void apply_rule_events(struct sink_exchange *x)
{
    for (unsigned i = 0; i < x->event_count && x->rule != NULL; i++) {
        unsigned status = sink_rule_event_status(x->rule, i);
        if (status != 0) {
            x->events[i].status = status;
            x->events[i].error = is_success(status) ? NULL : "as told by the rule";
        }
    }
}

static void add_header(struct sink_exchange *x, const char *format, ...) PRINTF_LIKE(2, 3);
static void add_header(struct sink_exchange *x, const char *format, ...)
{
    char line[1024];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (len > 0 && (size_t)len < sizeof line)
        (void)!bytes_append(&x->headers, span_of(line, (size_t)len));
}

static void apply_rule_answer(struct sink_exchange *x)
{
    const struct sink_rule *rule = x->rule;
    if (rule == NULL)
        return;
    for (unsigned i = 0; i < rule->header_count; i++)
        add_header(x, "%.*s\r\n", SPAN_FMT(rule->headers[i]));
    if (rule->retry_after_date) {
        uint64_t ahead = 0;
        char date[HTTP_DATE_LEN + 1] = "";
        if (span_u64(rule->retry_after, &ahead))
            http_date_write((uint64_t)x->request->unix_sec + ahead, date);
        add_header(x, "Retry-After: %s\r\n", date);
    } else if (rule->retry_after.at != NULL) {
        add_header(x, "Retry-After: %.*s\r\n", SPAN_FMT(rule->retry_after));
    }
    if (rule->body.at != NULL) {
        bytes_clear(&x->reply);
        (void)!bytes_append(&x->reply, rule->body);
        x->type = rule->type.at != NULL ? rule->type : SPAN("application/json");
    }
    if (rule->truncate)
        x->reply.len /= 2;
    for (size_t i = 0; rule->garbage && i < x->reply.len; i++)
        x->reply.at[i] = (uint8_t)(x->reply.at[i] * 151 + i * 37 + 200);
}

static void remember(struct sink_exchange *x, bool taken)
{
    struct sink_store *store = x->settings->store;
    struct sink_counts *c = sink_store_counts(store, x->api->name);
    c->requests++;
    c->refused += !is_success(x->status);
    c->by_status[x->status / 100 % 6]++;
    c->bytes_wire += x->request->body.len;
    c->bytes_raw += x->body.len;
    if (x->batch.at != NULL)
        (void)sink_store_batch(store, x->api->name, x->partition, x->batch, x->body);
    for (unsigned i = 0; i < x->event_count; i++) {
        const struct sink_event *e = &x->events[i];
        bool invalid = e->lost || e->skipped || (!is_success(e->status) && e->error != NULL && x->rule == NULL);
        c->invalid += invalid;
        sink_store_event(store, &(struct sink_seen){.api = x->api->name,
                                                    .request = x->number,
                                                    .index = i,
                                                    .partition = x->partition,
                                                    .id = e->id,
                                                    .batch = x->batch,
                                                    .body = e->body,
                                                    .identity = e->identity,
                                                    .vendor = e->vendor,
                                                    .vendor_dedup = e->vendor_dedup,
                                                    .opaque = e->opaque,
                                                    .taken = taken && !invalid && is_success(e->status),
                                                    .status = e->status != 0 ? e->status : x->status});
    }
}

static void settle(struct sink_exchange *x)
{
    bool refused = x->status != 0 && !is_success(x->status);
    if (refused) {
        /* The request's own fault comes before any rule; but its events were not looked at to the end. */
        x->event_count = x->status == 400 || x->status == 413 ? x->event_count : 0;
        remember(x, false);
        return;
    }
    apply_rule_events(x);
    bool taken = true;
    if (x->rule != NULL && x->rule->status != 0) {
        x->status = x->rule->status;
        taken = is_success(x->status);
        if (taken)
            x->api->answer(x);
        else
            x->api->refuse(x, "as told by the rule");
        x->status = x->rule->status;
    } else if (x->status == 0) {
        x->api->answer(x);
    }
    if (x->rule != NULL && x->rule->hangup == HANGUP_BODY)
        taken = false;
    if (x->rule != NULL && x->rule->store != STORE_BY_STATUS)
        taken = x->rule->store == STORE_YES;
    remember(x, taken);
}

static void control(struct sink_exchange *x)
{
    const struct sink_request *r = x->request;
    struct fault why;
    x->control = true;
    if (span_is(r->path, "/_sink/stats") && span_is(r->method, "GET")) {
        sink_reply(x, 200, "application/json", "%s", "");
        sink_store_stats(x->settings->store, &x->reply);
    } else if (span_is(r->path, "/_sink/respond") && span_is(r->method, "POST")) {
        if (sink_rules_add(x->settings->rules, r->body, &why) == OK)
            sink_reply(x, 200, "application/json", "{\"rules\":%u}\n", x->settings->rules->count);
        else
            sink_reply(x, 400, "text/plain", "%s\n", why.text);
    } else if (span_is(r->path, "/_sink/respond") && span_is(r->method, "DELETE")) {
        sink_rules_clear(x->settings->rules);
        sink_reply(x, 200, "application/json", "{\"rules\":0}\n");
    } else {
        sink_reply(x, 404, "text/plain", "GET /_sink/stats, POST or DELETE /_sink/respond\n");
    }
}

void sink_serve(struct sink_exchange *x, const struct sink_settings *settings, const struct sink_request *request)
{
    struct bytes decoded;
    struct fault why;
    exchange_reset(x, settings, request);
    if (span_starts(request->path, SPAN("/_sink/"))) {
        control(x);
        return;
    }
    x->number = ++settings->store->requests;
    x->api = recognise(settings, request);
    x->rule = sink_rules_find(settings->rules, request->path, span_str(x->api->name));
    bytes_init(&decoded, BODY_BYTES_MAX);
    note_content_type(x);
    decode(x, &decoded);
    if (sink_header(x, "user-agent").len == 0)
        sink_violation(x, "user_agent", "none was sent");
    if (x->status == 0)
        x->api->check(x);
    settle(x);
    apply_rule_answer(x);
    if (sink_store_flush(settings->store, &why) != OK) {
        x->status = 500;
        sink_store_violation(settings->store, x->api->name, "own_disk", "%s", why.text);
    }
    bytes_deinit(&decoded);
}
