/* segops_local: the tracking endpoints for SegOps' own clients, and neutral events as tracked events.
 *
 * Rendering: subject -> user_id; type -> event_type in snake_case, without map.type_prefix; time ->
 * occurred_at; data -> payload ("value" unless it is an object); a sampledrate over 1 -> payload.sampledrate.
 * Only if asked: source -> payload.<map.source>, id -> payload.<segops.id_field>, extensions -> payload
 * (map.extensions). */
#include "lib/api/render.h"
#include "lib/api/segops.h"

#include "lib/base/hash.h"
#include "lib/codec/rfc3339.h"

#include <stdio.h>

static const struct answer_row rows[COND_COUNT] = {
    [COND_STORED] = {202, 0, "queued", "queued"},
    [COND_FULL] = {503, 2, "full", "the log of an output is full"},
    [COND_STOPPING] = {503, 5, "stopping", "the agent is stopping"},
    [COND_FAILED] = {503, 5, "storage_failed", "the agent's storage has failed"},
    [COND_NO_OUTPUT] = {503, 5, "no_output", "no output of type segops is configured"},
    [COND_UNAUTHORIZED] = {401, 0, "unauthorized", "Authorization: ApiKey TOKEN is missing or wrong"},
    [COND_TOO_LARGE] = {413, 0, "too_large", "the request is larger than this agent takes"},
    [COND_BAD_ENCODING] = {415, 0, "unsupported_encoding", "Content-Encoding is not gzip, deflate or zstd"},
    [COND_BAD_COMPRESSION] = {400, 0, "bad_compression",
                              "the body does not decode as its Content-Encoding says"},
    [COND_BAD_METHOD] = {405, 0, "method_not_allowed", "this path takes POST only"},
    [COND_BUSY] = {503, 1, "busy", "too many requests are waiting"},
    [COND_CONFLICT] = {400, 0, "conflict", "this id was given to other content"},
};

/* --- one event ---------------------------------------------------------------------------------- */

static enum err refuse(struct segops_fault *ret, const char *field, const char *text)
{
    snprintf(ret->field, sizeof ret->field, "%s", field);
    ret->text = text;
    return ERR_UNSUPPORTED;
}

static const char *string_fault(const struct json_value *v)
{
    if (v->type != JSON_STRING)
        return "Not a valid string.";
    return v->text.len == 2 ? "This field may not be blank." : NULL;
}

static enum err take_member(const struct json_member *m, struct segops_event *e, unsigned *seen,
                            struct segops_fault *fault)
{
    static const char *const names[] = {"user_id", "event_type", "occurred_at", "payload", "anonymous_id"};
    struct instant at;
    bool local;
    size_t i = 0;
    while (i < 5 && !json_key_is(&m->key, names[i]))
        i++;
    if (i == 5)
        return OK; /* what the service adds to its events one day is not ours to skip */
    if ((*seen & 1u << i) != 0)
        return refuse(fault, names[i], "This field appears twice.");
    *seen |= 1u << i;
    if (m->value.type == JSON_NULL && i >= 2) {
        e->has_null = true;
        return OK;
    }
    const char *text = NULL;
    if (i == 3)
        text = m->value.type == JSON_OBJECT ? NULL : "Expected an object.";
    else
        text = string_fault(&m->value);
    if (i == 2 && text == NULL) {
        e->has_time = !m->value.escaped && iso8601_parse(json_raw_string(&m->value), &at, &local);
        text = e->has_time ? NULL : "Not a date and time in ISO 8601.";
    }
    return text == NULL ? OK : refuse(fault, names[i], text);
}

enum err segops_read_event(struct json_reader *r, struct segops_event *ret, struct segops_fault *fault)
{
    struct json_member members[64];
    struct json_value value;
    size_t count;
    unsigned seen = 0;
    enum err err = json_read_object(r, members, 64, &count, &value);
    if (err == ERR_MALFORMED)
        return err;
    *ret = (struct segops_event){.text = value.text};
    if (err != OK)
        return refuse(fault, "non_field_errors",
                      r->spoiled != NULL ? r->spoiled : "Unknown fields.");
    if (value.type != JSON_OBJECT)
        return refuse(fault, "non_field_errors", "Expected an object.");
    for (size_t i = 0; i < count; i++)
        if ((err = take_member(&members[i], ret, &seen, fault)) != OK)
            return err;
    if ((seen & 1) == 0)
        return refuse(fault, "user_id", "This field is required.");
    if ((seen & 2) == 0)
        return refuse(fault, "event_type", "This field is required.");
    return OK;
}

/* The event with the time of its receipt, where it brought none. */
static struct span with_time(struct api_exchange *x, const struct segops_event *e)
{
    static const char *const none[] = {NULL};
    struct writer w;
    if (e->has_time)
        return e->text;
    writer_init(&w, x->arena, e->text.len + 64);
    write_text(&w, "{\"occurred_at\":");
    write_instant_ms(&w, instant_of_ns(x->request->wall_ns));
    write_behind(&w, e->text, e->has_null ? none : NULL);
    return writer_finish(&w);
}

/* --- requests ----------------------------------------------------------------------------------- */

static void refuse_field(struct api_exchange *x, unsigned status, const char *field, const char *text)
{
    struct span name = json_text(x->arena, span_str(field)), words = json_text(x->arena, span_str(text));
    answer_json(&x->answer, status, arena_printf(x->arena, "{%.*s:[%.*s]}", SPAN_FMT(name), SPAN_FMT(words)));
}

static void add_item(struct api_exchange *x, struct span body, uint64_t content)
{
    x->items[x->item_count++] =
        (struct api_item){.body = body, .content_hash = content, .weight = 1, .index = x->offered};
}

/* False: the arena is full. */
static bool take_event(struct api_exchange *x, enum err err, const struct segops_event *e,
                       const struct segops_fault *fault)
{
    char text[160];
    if (err != OK) {
        snprintf(text, sizeof text, "%s: %s", fault->field, fault->text);
        return api_reject(x, x->offered, REJECT_MALFORMED, text);
    }
    struct span body = with_time(x, e);
    if (body.at == NULL)
        return false;
    if (body.len > event_bytes_max(x))
        return api_reject(x, x->offered, REJECT_TOO_LARGE, "larger than an event may be");
    add_item(x, body, hash64(e->text, 0));
    return true;
}

static void malformed(struct api_exchange *x, const struct fault *why)
{
    answer_error(x, shape_detail, 400, "malformed", "JSON parse error - %s", why->text);
}

static void read_batch(struct api_exchange *x)
{
    struct json_reader r;
    struct fault why = {.err = OK};
    size_t most = x->request->body.len / 32 + 1; /* user_id and event_type alone take more */
    json_reader_init(&r, x->request->body);
    json_forgive(&r);
    enum err err = wrapper_open(&r, "events", NULL, &why);
    if (err == OK && items_new(x, most > events_max(x) ? events_max(x) : (unsigned)most) == NULL)
        err = ERR_TOO_BIG;
    while (err == OK && (err = json_next_element(&r)) == OK) {
        struct segops_event e;
        struct segops_fault fault;
        if (x->offered == events_max(x)) {
            err = ERR_TOO_BIG;
            break;
        }
        err = segops_read_event(&r, &e, &fault);
        if (err == ERR_MALFORMED)
            break;
        err = take_event(x, err, &e, &fault) ? OK : ERR_TOO_BIG;
        x->offered++;
    }
    if (err == ERR_NOT_FOUND)
        err = wrapper_close(&r, "events", NULL, &why);
    else if (err == ERR_MALFORMED)
        (void)json_fault(&r, err, &why);
    if (err == ERR_MALFORMED)
        malformed(x, &why);
    else if (err == ERR_UNSUPPORTED)
        refuse_field(x, 400, "events",
                     strstr(why.text, "required") != NULL         ? "This field is required."
                     : strstr(why.text, "must be an array") != NULL ? "Expected a list of items."
                                                                    : why.text);
    else if (err != OK)
        answer_error(x, shape_detail, 413, "too_large", "more events than one request may have (%u)",
                     events_max(x));
}

static void read_single(struct api_exchange *x)
{
    struct json_reader r;
    struct segops_event e;
    struct segops_fault fault;
    struct fault why;
    x->offered = 1;
    json_reader_init(&r, x->request->body);
    enum err err = segops_read_event(&r, &e, &fault);
    if (err == ERR_MALFORMED || json_finish(&r) != OK) {
        (void)json_fault(&r, ERR_MALFORMED, &why);
        malformed(x, &why);
        return;
    }
    if (err != OK) {
        refuse_field(x, 400, fault.field, fault.text);
        return;
    }
    x->offered = 0; /* counts as the index of the only item */
    bool taken = items_new(x, 1) != NULL && take_event(x, OK, &e, NULL);
    x->offered = 1;
    if (!taken || x->rejection_count > 0) {
        answer_error(x, shape_detail, 413, "too_large", "larger than an event may be");
    }
}

void segops_read(struct api_exchange *x)
{
    if (x->path->tag == SEGOPS_SESSION) {
        x->pass_on = x->settings == NULL || !x->settings->sessions_off;
        if (!x->pass_on)
            answer_error(x, shape_detail, 404, "not_found", "sessions are off in this agent's configuration");
        return;
    }
    if (x->request->body.len == 0)
        answer_error(x, shape_detail, 400, "malformed", "JSON parse error - the body is empty");
    else if (!body_is_json(x->request))
        answer_error(x, shape_detail, 415, "unsupported_type",
                     "Unsupported media type; expected application/json");
    else if (x->path->tag == SEGOPS_BATCH)
        read_batch(x);
    else
        read_single(x);
    if (x->answer.status != 0)
        x->item_count = 0;
}

void segops_answer(struct api_exchange *x, enum api_condition condition, struct span text,
                   struct api_answer *ret)
{
    if (x->path != NULL && x->path->tag == SEGOPS_SESSION && condition == COND_STORED)
        condition = COND_FAILED; /* nobody passed it on */
    if (x->path != NULL && x->path->tag == SEGOPS_SESSION && condition == COND_UNAUTHORIZED) {
        answer_error(x, shape_detail, 404, "not_found", "sessions are off while the agent asks for a token");
        *ret = x->answer;
        return;
    }
    if (condition != COND_STORED) {
        answer_condition(x, rows, shape_detail, condition, text, ret);
        return;
    }
    unsigned skipped = x->rejection_count > x->offered ? x->offered : x->rejection_count;
    if (x->path->tag == SEGOPS_BATCH)
        answer_printf(x->arena, ret, 202, "{\"queued\":%u,\"skipped\":%u}", x->offered - skipped, skipped);
    else if (skipped > 0)
        answer_condition(x, rows, shape_detail,
                         x->rejections[0].reason == REJECT_FULL ? COND_FULL : COND_TOO_LARGE,
                         x->rejections[0].text, ret);
    else
        answer_json(ret, 202, SPAN("{\"queued\":true}"));
}

/* --- neutral events ----------------------------------------------------------------------------- */

size_t segops_event_type(struct span type, uint8_t *into)
{
    size_t n = 0;
    bool lower_before = false;
    for (size_t i = 0; i < type.len; i++) {
        uint8_t c = type.at[i];
        bool upper = c >= 'A' && c <= 'Z', lower = c >= 'a' && c <= 'z', digit = c >= '0' && c <= '9';
        if (!upper && !lower && !digit) {
            if (n > 0 && into[n - 1] != '_')
                into[n++] = '_';
        } else {
            if (upper && lower_before)
                into[n++] = '_';
            into[n++] = upper ? (uint8_t)(c | 0x20) : c;
        }
        lower_before = lower;
    }
    while (n > 0 && into[n - 1] == '_')
        n--;
    return n;
}

static bool add_field(struct writer *w, const struct event *e, struct span name)
{
    if (name.len == 0 || (e->data_kind == EVENT_DATA_OBJECT && data_has(e->data, name)))
        return false;
    write_key(w, name);
    return true;
}

static void add_extras(struct writer *w, const struct api_settings *s, const struct event *e)
{
    const struct span *name = s->option_count == 0 ? NULL : api_option(s, "id_field");
    if (name != NULL && add_field(w, e, *name))
        write_string(w, e->id);
    name = s->option_count == 0 ? NULL : api_option(s, "map.source");
    if (name != NULL && add_field(w, e, *name))
        write_string(w, e->source);
    if (e->sampledrate > 1 && add_field(w, e, SPAN("sampledrate")))
        write_number(w, e->sampledrate);
    if (!option_is(s, "map.extensions", "payload"))
        return;
    if (e->dataschema.at != NULL && add_field(w, e, SPAN("dataschema")))
        write_string(w, e->dataschema);
    for (unsigned i = 0; i < e->ext_count; i++)
        if (ext_use(e->ext[i].name) == EXT_FIELD && add_field(w, e, e->ext[i].name))
            write_ext_value(w, &e->ext[i]);
}

static void add_data(struct writer *w, const struct event *e)
{
    struct span inside;
    switch (e->data_kind) {
    case EVENT_DATA_OBJECT:
        inside = data_inside(e->data);
        if (inside.len > 0) {
            write_comma(w);
            write_raw(w, inside);
        }
        return;
    case EVENT_DATA_NONE:
    case EVENT_DATA_NULL:
        return;
    default:
        write_raw_member(w, "value", e->data);
    }
}

enum err segops_render(const struct api_settings *s, const struct event *e, struct arena *arena,
                       struct api_item *ret, struct fault *why)
{
    struct writer w;
    struct span type = e->type;
    const struct span *prefix = s->option_count == 0 ? NULL : api_option(s, "map.type_prefix");
    enum err err = render_check(e, why);
    if (err != OK)
        return err;
    if (e->subject.at == NULL)
        return render_refuse(why, "subject: required by a segops output (user_id)");
    if (prefix != NULL && span_starts(type, *prefix))
        type = span_of(type.at + prefix->len, type.len - prefix->len);
    uint8_t *name = arena_alloc(arena, 2 * type.len + 1);
    size_t name_len = name == NULL ? 0 : segops_event_type(type, name);
    if (name != NULL && name_len == 0)
        return render_refuse(why, "type: nothing is left of it as event_type");
    writer_init(&w, arena, event_json_bound(e) + 2 * type.len + 1200);
    write_text(&w, "{\"user_id\":");
    write_string(&w, e->subject);
    write_text(&w, ",\"event_type\":");
    write_string(&w, span_of(name, name_len));
    write_text(&w, ",\"occurred_at\":");
    write_instant_ms(&w, e->time_at);
    write_text(&w, ",\"payload\":{");
    add_extras(&w, s, e);
    add_data(&w, e);
    write_text(&w, "}}");
    struct span body = writer_finish(&w);
    if (name == NULL || body.at == NULL || body.len > s->limits.event_bytes)
        return render_too_big(why, s->limits.event_bytes);
    *ret = item_of_event(e, body);
    return OK;
}
