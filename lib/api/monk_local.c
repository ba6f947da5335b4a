/* monk_local: Monk's two event paths for its own clients.
 *
 * The vendor documents no partial answer, so one bad event refuses the whole request, naming index and field.
 * What the sender left open is fixed here, before anything is answered: an idempotencyKey (UUIDv7) and a
 * timestamp, put in front of his own members, which stay byte for byte. Monk asks for ISO 8601 in UTC and is sent RFC 3339,
 * so a time without an offset is written anew. Monk's clients resend 429 and 5xx
 * with the same keys and lose the batch on any other 4xx: 400 is only for what can never become valid. */
#include "lib/api/monk.h"
#include "lib/api/render.h"

#include "lib/base/hash.h"
#include "lib/codec/rfc3339.h"
#include "lib/codec/uuid7.h"

static const struct answer_row rows[COND_COUNT] = {
    [COND_STORED] = {202, 0, "ACCEPTED", "accepted"},
    [COND_FULL] = {429, 2, "RATE_LIMITED", "the agent has no room; come back later"},
    [COND_STOPPING] = {503, 5, "UNAVAILABLE", "the agent is stopping"},
    [COND_FAILED] = {503, 5, "UNAVAILABLE", "the agent's storage has failed"},
    [COND_NO_OUTPUT] = {503, 5, "UNAVAILABLE", "no output of type monk is configured"},
    [COND_UNAUTHORIZED] = {401, 0, "UNAUTHORIZED", "Authorization: Bearer TOKEN is missing or wrong"},
    [COND_TOO_LARGE] = {413, 0, "TOO_LARGE", "the request is larger than this agent takes"},
    [COND_BAD_ENCODING] = {415, 0, "UNSUPPORTED_ENCODING", "Content-Encoding is not gzip, deflate or zstd"},
    [COND_BAD_COMPRESSION] = {400, 0, "VALIDATION_ERROR",
                              "the body does not decode as its Content-Encoding says"},
    [COND_BAD_METHOD] = {405, 0, "METHOD_NOT_ALLOWED", "this path takes POST only"},
    [COND_BUSY] = {429, 1, "RATE_LIMITED", "too many requests are waiting; come back later"},
    [COND_CONFLICT] = {400, 0, "VALIDATION_ERROR", "this key was given to other content"},
};

/* --- one event ---------------------------------------------------------------------------------- */

enum field { EVENT_NAME, CUSTOMER, EXTERNAL_CUSTOMER, CONTRACT, KEY, TIMESTAMP, PROPERTIES, FIELDS };
#define BIT(field) (1u << (field))

static const char *const field_names[FIELDS] = {"eventName",  "customerId",     "externalCustomerId",
                                                "contractId", "idempotencyKey", "timestamp",
                                                "properties"};

struct scan {
    struct arena *arena;
    struct fault *why;
    uint64_t wall_ns;
    unsigned seen;
};

static enum err refuse(struct scan *s, enum field field, const char *text)
{
    return fault_set(s->why, ERR_UNSUPPORTED, "%s: %s", field_names[field], text);
}

static enum err take_time(struct scan *s, const struct json_value *v, struct monk_event *e)
{
    bool local;
    e->has_time = !v->escaped && rfc3339_parse(json_raw_string(v), &e->time);
    e->has_other_time = !e->has_time && !v->escaped && iso8601_parse(json_raw_string(v), &e->time, &local);
    if (!e->has_time && !e->has_other_time)
        return refuse(s, TIMESTAMP, "not a date and time in ISO 8601");
    if (e->time.sec > (int64_t)(s->wall_ns / NS_PER_S) + MONK_FUTURE_MAX_S)
        return refuse(s, TIMESTAMP, "more than 1 hour in the future");
    return OK;
}

static enum err take_properties(struct scan *s, const struct json_value *v)
{
    struct json_reader r;
    struct json_key key;
    struct json_value value;
    if (v->type != JSON_OBJECT)
        return refuse(s, PROPERTIES, "must be an object");
    json_reader_init(&r, v->text);
    enum err err = json_enter_object(&r);
    while (err == OK && (err = json_next_member(&r, &key)) == OK) {
        err = json_read_value(&r, &value);
        if (err == OK && (value.type == JSON_OBJECT || value.type == JSON_ARRAY || value.type == JSON_NULL))
            return refuse(s, PROPERTIES, "values must be strings, numbers or booleans");
    }
    return OK;
}

static enum err take_key(struct scan *s, const struct json_value *v, struct monk_event *e)
{
    if (json_decode_string(s->arena, v, &e->key) != OK)
        return fault_set(s->why, ERR_TOO_BIG, "the request's events need too much memory");
    return e->key.len <= MONK_KEY_MAX ? OK : refuse(s, KEY, "longer than 255 bytes");
}

static enum err take_member(struct scan *s, const struct json_member *m, struct monk_event *e)
{
    unsigned f = 0;
    while (f < FIELDS && !json_key_is(&m->key, field_names[f]))
        f++;
    if (f == FIELDS) {
        if (json_key_is(&m->key, "specversion"))
            return fault_set(s->why, ERR_UNSUPPORTED,
                             "specversion: this path takes Monk's events; CloudEvents go to POST /events");
        return fault_set(s->why, ERR_UNSUPPORTED, "%.*s: unknown field",
                         m->key.text.len > 40 ? 40 : (int)m->key.text.len, (const char *)m->key.text.at);
    }
    if ((s->seen & BIT(f)) != 0)
        return refuse(s, f, "appears twice");
    if (m->value.type == JSON_NULL && f != EVENT_NAME) {
        e->has_null = true;
        return OK;
    }
    s->seen |= BIT(f);
    if (f == PROPERTIES)
        return take_properties(s, &m->value);
    if (m->value.type != JSON_STRING)
        return refuse(s, f, "must be a string");
    if (m->value.text.len == 2)
        return refuse(s, f, "must not be empty");
    if (f == TIMESTAMP)
        return take_time(s, &m->value, e);
    return f == KEY ? take_key(s, &m->value, e) : OK;
}

enum err monk_read_event(struct json_reader *r, struct arena *arena, uint64_t wall_ns, struct monk_event *ret,
                         struct fault *why)
{
    struct json_member members[FIELDS + 1];
    struct json_value value;
    size_t count;
    struct scan s = {.arena = arena, .why = why, .wall_ns = wall_ns};
    enum err err = json_read_object(r, members, FIELDS + 1, &count, &value);
    if (err == ERR_MALFORMED)
        return json_fault(r, err, why);
    *ret = (struct monk_event){.text = value.text};
    if (err != OK)
        return fault_set(why, ERR_UNSUPPORTED,
                         "%s", r->spoiled != NULL ? r->spoiled : "unknown fields");
    if (value.type != JSON_OBJECT)
        return fault_set(why, ERR_UNSUPPORTED, "must be an object");
    if (json_find(members, count, field_names[EVENT_NAME]) == NULL && json_find(members, count, "specversion") == NULL)
        return refuse(&s, EVENT_NAME, "required (CloudEvents go to POST /events)"); /* said before other mistakes */
    for (size_t i = 0; i < count; i++)
        if ((err = take_member(&s, &members[i], ret)) != OK)
            return err;
    unsigned customers = s.seen & (BIT(CUSTOMER) | BIT(EXTERNAL_CUSTOMER));
    if (customers != BIT(CUSTOMER) && customers != BIT(EXTERNAL_CUSTOMER))
        return fault_set(why, ERR_UNSUPPORTED, "give exactly one of customerId and externalCustomerId");
    return OK;
}

/* --- requests ----------------------------------------------------------------------------------- */

static struct span make_key(struct api_exchange *x)
{
    char *text = arena_alloc(x->arena, UUID_TEXT + 1);
    if (text == NULL)
        return (struct span){0};
    struct uuid id = uuid7_make(x->uuids, x->request->wall_ns / NS_PER_MS);
    uuid_format(&id, text);
    return span_of(text, UUID_TEXT);
}

/* The event with key and time, in front of what the sender wrote. */
static struct span completed(struct api_exchange *x, const struct monk_event *e, struct span key)
{
    static const char *const none[] = {NULL}, *const time[] = {"timestamp", NULL};
    struct writer w;
    if (e->key.at != NULL && e->has_time)
        return e->text;
    writer_init(&w, x->arena, e->text.len + 160);
    write_text(&w, "{");
    if (e->key.at == NULL)
        write_string_member(&w, "idempotencyKey", key);
    if (!e->has_time) {
        write_key(&w, SPAN("timestamp"));
        write_instant_ms(&w, e->has_other_time ? e->time : instant_of_ns(x->request->wall_ns));
    }
    write_behind(&w, e->text, e->has_other_time ? time : e->has_null ? none : NULL);
    return writer_finish(&w);
}

/* OK, ERR_FULL when it is over an event's limit, ERR_TOO_BIG when the arena is full. */
static enum err add_item(struct api_exchange *x, const struct monk_event *e)
{
    struct span key = e->key.at != NULL ? e->key : make_key(x);
    struct span body = key.at == NULL ? key : completed(x, e, key);
    if (body.at == NULL)
        return ERR_TOO_BIG;
    if (body.len > event_bytes_max(x))
        return ERR_FULL;
    x->items[x->item_count++] = (struct api_item){
        .body = body,
        .id = key,
        .key_hash = e->key.at == NULL ? 0 : id_hash(x, e->key),
        .content_hash = hash64(e->text, 0),
        .weight = 1,
        .index = x->offered,
    };
    return OK;
}

static void too_large(struct api_exchange *x)
{
    answer_error(x, shape_message_code, 413, "TOO_LARGE", "the request is larger than this agent takes");
}

/* With monk.lenient a bad event is stored with what is wrong as its partition; it becomes a dead letter and is never
 * sent (monk.c, stillborn). */
static bool add_invalid(struct api_exchange *x, const struct monk_event *e, const char *text)
{
    struct span why = arena_copy(x->arena, span_str(text));
    if (why.at == NULL || e->text.len > event_bytes_max(x)) {
        too_large(x);
        return false;
    }
    x->items[x->item_count++] = (struct api_item){
        .body = e->text,
        .partition = why,
        .id = e->key,
        .key_hash = e->key.at == NULL ? 0 : id_hash(x, e->key),
        .content_hash = hash64(e->text, 0),
        .weight = 1,
        .index = x->offered,
    };
    return true;
}

static void invalid(struct api_exchange *x, const char *text)
{
    if (x->path->tag == MONK_BATCH)
        answer_error(x, shape_message_code, 400, "VALIDATION_ERROR", "events[%u]: %s", x->offered, text);
    else
        answer_error(x, shape_message_code, 400, "VALIDATION_ERROR", "%s", text);
}

/* One event, read and taken or refused. False: nothing of the request can be stored. */
static bool take_event(struct api_exchange *x, enum err err, const struct monk_event *e,
                       const struct fault *why)
{
    bool lenient = option_on(x->settings, "lenient") && x->path->tag == MONK_BATCH;
    enum api_reject reason = REJECT_MALFORMED;
    const char *text = why->text;
    if (err == OK) {
        err = add_item(x, e);
        if (err == OK)
            return true;
        reason = REJECT_TOO_LARGE;
        text = "larger than an event may be";
    }
    if (err == ERR_TOO_BIG) {
        too_large(x);
        return false;
    }
    if (lenient && reason == REJECT_MALFORMED)
        return add_invalid(x, e, text);
    bool noted = api_reject(x, x->offered, reason, text);
    if (lenient && noted)
        return true;
    if (reason == REJECT_TOO_LARGE && x->path->tag == MONK_SINGLE)
        too_large(x);
    else
        invalid(x, text);
    return false;
}

static void malformed(struct api_exchange *x, const struct fault *why)
{
    answer_error(x, shape_message_code, 400, "VALIDATION_ERROR", "not JSON: %s", why->text);
}

/* Goes on counting behind a refusal, so that the counters know how many events the request offered. */
static void count_rest(struct api_exchange *x, struct json_reader *r)
{
    struct json_value value;
    do
        x->offered++;
    while (x->offered < events_max(x) && json_next_element(r) == OK &&
           json_read_value(r, &value) != ERR_MALFORMED);
}

static void read_batch(struct api_exchange *x)
{
    struct json_reader r;
    struct fault why = {.err = OK};
    size_t most = x->request->body.len / 32 + 1;
    json_reader_init(&r, x->request->body);
    enum err err = wrapper_open(&r, "events", NULL, &why);
    if (err == OK && items_new(x, most > events_max(x) ? events_max(x) : (unsigned)most) == NULL) {
        too_large(x);
        return;
    }
    while (err == OK && (err = json_next_element(&r)) == OK) {
        struct monk_event e;
        if (x->offered == events_max(x)) {
            answer_error(x, shape_message_code, 400, "VALIDATION_ERROR", "events: more than %u",
                         events_max(x));
            return;
        }
        err = monk_read_event(&r, x->arena, x->request->wall_ns, &e, &why);
        if (err == ERR_MALFORMED)
            break;
        if (!take_event(x, err, &e, &why)) {
            count_rest(x, &r);
            return;
        }
        x->offered++;
        err = OK;
    }
    if (err == ERR_NOT_FOUND)
        err = wrapper_close(&r, "events", NULL, &why);
    else if (err == ERR_MALFORMED && why.err == OK)
        (void)json_fault(&r, err, &why);
    if (err == ERR_UNSUPPORTED)
        answer_error(x, shape_message_code, 400, "VALIDATION_ERROR", "%s", why.text);
    else if (err != OK)
        malformed(x, &why);
    else if (x->offered == 0)
        answer_error(x, shape_message_code, 400, "VALIDATION_ERROR", "events: must not be empty");
}

static void read_single(struct api_exchange *x)
{
    struct json_reader r;
    struct monk_event e;
    struct fault why = {.err = OK};
    json_reader_init(&r, x->request->body);
    enum err err = monk_read_event(&r, x->arena, x->request->wall_ns, &e, &why);
    if (err != ERR_MALFORMED && json_finish(&r) != OK)
        err = json_fault(&r, ERR_MALFORMED, &why);
    if (err == ERR_MALFORMED)
        malformed(x, &why);
    else if (items_new(x, 1) == NULL)
        too_large(x);
    else
        (void)take_event(x, err, &e, &why);
    x->offered = 1;
}

void monk_read(struct api_exchange *x)
{
    if (x->request->body.len == 0)
        answer_error(x, shape_message_code, 400, "VALIDATION_ERROR", "the body is empty");
    else if (!body_is_json(x->request))
        answer_error(x, shape_message_code, 415, "UNSUPPORTED_TYPE", "expected application/json");
    else if (x->path->tag == MONK_BATCH)
        read_batch(x);
    else
        read_single(x);
    if (x->answer.status != 0)
        x->item_count = 0;
}

/* --- answers ------------------------------------------------------------------------------------ */

/* "req_" and a UUIDv7 without its dashes. */
static struct span request_id(struct api_exchange *x)
{
    char text[UUID_TEXT + 1];
    char *id = arena_alloc(x->arena, 36);
    if (id == NULL)
        return SPAN("req_0");
    struct uuid made = uuid7_make(x->uuids, x->request->wall_ns / NS_PER_MS);
    uuid_format(&made, text);
    size_t n = 0;
    for (const char *c = "req_"; *c != '\0'; c++)
        id[n++] = *c;
    for (size_t i = 0; i < UUID_TEXT; i++)
        if (text[i] != '-')
            id[n++] = text[i];
    return span_of(id, n);
}

void monk_answer(struct api_exchange *x, enum api_condition condition, struct span text,
                 struct api_answer *ret)
{
    if (condition == COND_STORED && x->rejection_count > 0 && x->item_count <= x->rejection_count &&
        x->path->tag == MONK_SINGLE)
        condition = x->rejections[0].reason == REJECT_FULL ? COND_FULL : COND_TOO_LARGE;
    if (condition != COND_STORED) {
        answer_condition(x, rows, shape_message_code, condition, text, ret);
        return;
    }
    struct span id = request_id(x);
    if (x->path->tag == MONK_BATCH) {
        answer_printf(x->arena, ret, 202, "{\"status\":\"accepted\",\"count\":%u,\"requestId\":\"%.*s\"}",
                      x->offered, SPAN_FMT(id));
        return;
    }
    struct span key = json_text(x->arena, x->item_count > 0 ? x->items[0].id : SPAN(""));
    struct writer w;
    writer_init(&w, x->arena, key.len + 128);
    write_text(&w, "{\"status\":\"accepted\",\"idempotencyKey\":");
    write_raw(&w, key);
    write_text(&w, ",\"requestId\":\"");
    write_raw(&w, id);
    write_text(&w, "\"}");
    struct span body = writer_finish(&w);
    answer_json(ret, 202, body.at == NULL ? SPAN("{\"status\":\"accepted\"}") : body);
}
