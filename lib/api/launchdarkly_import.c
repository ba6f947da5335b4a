/* launchdarkly_import: the local side of the metric import, and neutral events as import events.
 *
 * The service checks only syntax and `kind`, and answers 202 to every other mistake, whose event is lost
 * without a word; so the whole table is checked here, and one bad event refuses the request, as upstream.
 *
 * Rendering: type -> key; time -> creationDate, Unix milliseconds; subject -> contextKeys {"user": subject},
 * or by "kind:key" with map.subject: kind_key; data.contextKeys join in and win. A number is metricValue; of
 * an object data.metricValue, else a number in data.value, and the rest is data; anything else is data.value.
 * A sampledrate over 1 -> data.sampledrate. The extensions project and environment, else the output's
 * partition -> partition. */
#include "lib/api/launchdarkly.h"
#include "lib/api/render.h"

#include "lib/base/hash.h"

static const struct answer_row rows[COND_COUNT] = {
    [COND_STORED] = {202, 0, "ok", "accepted"},
    [COND_FULL] = {429, 2, "full", "the agent has no room; come back later"},
    [COND_STOPPING] = {503, 5, "stopping", "the agent is stopping"},
    [COND_FAILED] = {503, 5, "storage_failed", "the agent's storage has failed"},
    [COND_NO_OUTPUT] = {503, 5, "no_output", "no output of type launchdarkly is configured"},
    [COND_UNAUTHORIZED] = {401, 0, "unauthorized", "Authorization is missing or wrong"},
    [COND_TOO_LARGE] = {413, 0, "too_large", "the request is larger than this agent takes"},
    [COND_BAD_ENCODING] = {415, 0, "unsupported_encoding", "Content-Encoding is not gzip"},
    [COND_BAD_COMPRESSION] = {400, 0, "bad_compression",
                              "the body does not decode as its Content-Encoding says"},
    [COND_BAD_METHOD] = {405, 0, "method_not_allowed", "this path takes POST only"},
    [COND_BUSY] = {429, 1, "busy", "too many requests are waiting; come back later"},
    [COND_CONFLICT] = {400, 0, "conflict", "this payload id was given to other content"},
};

struct span ld_payload_id(struct api_exchange *x)
{
    const struct api_request *r = x->request;
    struct span id = span_trim(r->header(r->header_ctx, "X-LaunchDarkly-Payload-ID"));
    /* Its own copy: a request may wait for room, while its header's memory goes to the next one. */
    return id.len > 0 && id.len <= 200 ? arena_copy(x->arena, id) : (struct span){0};
}

/* --- one event ---------------------------------------------------------------------------------- */

enum field { KIND, KEY, CREATION_DATE, CONTEXT_KEYS, METRIC_VALUE, DATA, FIELDS };
static const char *const field_names[FIELDS] = {"kind",        "key",         "creationDate",
                                                "contextKeys", "metricValue", "data"};

/* Kinds and keys, at least one, all of them strings that say something. */
static bool context_keys_ok(struct span object)
{
    struct json_reader r;
    struct json_key key;
    struct json_value v;
    unsigned count = 0;
    json_reader_init(&r, object);
    enum err err = json_enter_object(&r);
    while (err == OK && (err = json_next_member(&r, &key)) == OK) {
        if (key.text.len == 0 || json_read_value(&r, &v) != OK || v.type != JSON_STRING || v.text.len == 2)
            return false;
        count++;
    }
    return count > 0;
}

static const char *field_fault(enum field field, const struct json_value *v)
{
    int64_t ms;
    double number;
    switch (field) {
    case KIND:
        return v->type == JSON_STRING && json_string_is(v, "custom") ? NULL : "must be \"custom\"";
    case KEY:
        return v->type == JSON_STRING && v->text.len > 2 ? NULL : "must be a string that is not empty";
    case CREATION_DATE:
        return v->type == JSON_NUMBER && json_int64(v->text, &ms) && ms >= 0
                   ? NULL
                   : "must be Unix milliseconds, a whole number";
    case CONTEXT_KEYS:
        return v->type == JSON_OBJECT && context_keys_ok(v->text)
                   ? NULL
                   : "must be an object of at least one string";
    case METRIC_VALUE:
        return v->type == JSON_NUMBER && json_double(v->text, &number) ? NULL : "must be a finite number";
    case DATA:
        return v->type == JSON_OBJECT ? NULL : "must be an object";
    case FIELDS:
        break;
    }
    return "unknown";
}

enum err ld_read_import_event(struct json_reader *r, struct ld_import_event *ret, struct fault *why)
{
    struct json_member members[FIELDS + 1];
    struct json_value value;
    size_t count;
    unsigned seen = 0;
    enum err err = json_read_object(r, members, FIELDS + 1, &count, &value);
    if (err == ERR_MALFORMED)
        return json_fault(r, err, why);
    ret->text = value.text;
    if (err != OK)
        return fault_set(why, ERR_UNSUPPORTED,
                         "%s", r->spoiled != NULL ? r->spoiled : "unknown fields");
    if (value.type != JSON_OBJECT)
        return fault_set(why, ERR_UNSUPPORTED, "must be an object");
    for (size_t i = 0; i < count; i++) {
        unsigned f = 0;
        while (f < FIELDS && !json_key_is(&members[i].key, field_names[f]))
            f++;
        const struct json_value *v = &members[i].value;
        const char *fault = f < FIELDS && (seen & 1u << f) != 0                       ? "appears twice"
                            : f >= METRIC_VALUE && f < FIELDS && v->type == JSON_NULL ? NULL
                                                                                      : field_fault(f, v);
        if (fault != NULL)
            return fault_set(why, ERR_UNSUPPORTED, "%.*s: %s",
                             members[i].key.text.len > 40 ? 40 : (int)members[i].key.text.len,
                             (const char *)members[i].key.text.at, fault);
        seen |= 1u << f;
    }
    for (unsigned f = KIND; f <= CONTEXT_KEYS; f++)
        if ((seen & 1u << f) == 0)
            return fault_set(why, ERR_UNSUPPORTED, "%s: required", field_names[f]);
    return OK;
}

/* --- requests ----------------------------------------------------------------------------------- */

/* What the answer needs to know again. */
struct state {
    struct span payload_id;
};

static bool read_partition(struct api_exchange *x, struct span *ret)
{
    struct span project, environment;
    struct bytes out;
    if (!path_decode(x->arena, path_segment(x->request->path, 2), &project) ||
        !path_decode(x->arena, path_segment(x->request->path, 3), &environment) ||
        !bytes_init_arena(&out, x->arena, project.len + environment.len + 1) ||
        bytes_append(&out, project) != OK || bytes_append_byte(&out, '/') != OK ||
        bytes_append(&out, environment) != OK)
        return false;
    *ret = bytes_finish_arena(&out, x->arena);
    return ret->len <= 1000 && ld_split_partition(*ret, &project, &environment);
}

static void add_item(struct api_exchange *x, struct span partition, struct span text, uint64_t content)
{
    const struct state *state = x->state;
    struct span index = span_of(&x->offered, sizeof x->offered);
    /* The id is the request's; each event of it is remembered under its place, with the content of the whole.
     */
    x->items[x->item_count++] = (struct api_item){
        .body = text,
        .partition = partition,
        .key_hash = state->payload_id.at == NULL ? 0 : hash64(index, id_hash(x, state->payload_id)),
        .content_hash = content,
        .weight = 1,
        .index = x->offered,
    };
}

static void refuse(struct api_exchange *x, const char *text)
{
    answer_error(x, shape_message, 400, "invalid_request", "events[%u]: %s", x->offered, text);
}

/* False: nothing of the request is stored. */
static bool take_event(struct api_exchange *x, enum err err, struct span partition,
                       const struct ld_import_event *e, uint64_t content, const struct fault *why)
{
    enum api_reject reason = err != OK ? REJECT_MALFORMED : REJECT_TOO_LARGE;
    const char *text = err != OK ? why->text : "larger than an event may be";
    if (err == OK && e->text.len <= event_bytes_max(x)) {
        add_item(x, partition, e->text, content);
        return true;
    }
    bool noted = api_reject(x, x->offered, reason, text);
    if (noted && option_on(x->settings, "lenient"))
        return true;
    refuse(x, text);
    return false;
}

static void read_events(struct api_exchange *x, struct span partition)
{
    struct json_reader r;
    struct fault why = {.err = OK};
    struct span body = x->request->body;
    uint64_t content = hash64(body, 0);
    enum err err;
    json_reader_init(&r, body);
    if ((err = json_enter_array(&r)) == ERR_UNSUPPORTED) {
        answer_error(x, shape_message, 400, "invalid_request", "expected a JSON array of events");
        return;
    }
    while (err == OK && (err = json_next_element(&r)) == OK) {
        struct ld_import_event e;
        if (x->offered == events_max(x)) {
            answer_error(x, shape_message, 413, "too_large", "more than %u events", events_max(x));
            return;
        }
        err = ld_read_import_event(&r, &e, &why);
        if (err == ERR_MALFORMED)
            break;
        bool taken = take_event(x, err, partition, &e, content, &why);
        x->offered++;
        if (!taken)
            return;
        err = OK;
    }
    if (err != ERR_NOT_FOUND || json_finish(&r) != OK) {
        (void)json_fault(&r, ERR_MALFORMED, &why);
        answer_error(x, shape_message, 400, "invalid_request", "not JSON: event %u, %s", x->offered,
                     why.text);
    } else if (x->offered == 0) {
        answer_error(x, shape_message, 400, "invalid_request", "no events in payload");
    }
}

void ld_read_import(struct api_exchange *x)
{
    const struct api_request *r = x->request;
    struct state *state = arena_alloc(x->arena, sizeof *state);
    struct span partition, schema = span_trim(r->header(r->header_ctx, "X-LaunchDarkly-Event-Schema"));
    size_t most = r->body.len / 48 + 1; /* the four required fields alone take more */
    if (x->settings != NULL && x->settings->access_token.at == NULL && x->settings->sdk_key.at != NULL) {
        ld_answer_import(x, COND_NO_OUTPUT, SPAN("the output has no access_token"), &x->answer);
    } else if (!span_is(schema, "4")) {
        answer_error(x, shape_message, 406, "not_acceptable", "X-LaunchDarkly-Event-Schema must be 4");
    } else if (!read_partition(x, &partition)) {
        answer_error(x, shape_message, 400, "invalid_request",
                     "the path does not name a project and an environment");
    } else if (r->body.len == 0 || !body_is_json(r)) {
        answer_error(x, shape_message, 400, "invalid_request",
                     "expected a JSON array of events as application/json");
    } else if (state == NULL || items_new(x, most > events_max(x) ? events_max(x) : (unsigned)most) == NULL) {
        answer_error(x, shape_message, 413, "too_large", "the request is larger than this agent takes");
    } else {
        state->payload_id = ld_payload_id(x);
        x->state = state;
        read_events(x, partition);
    }
}

void ld_answer_import(struct api_exchange *x, enum api_condition condition, struct span text,
                      struct api_answer *ret)
{
    const struct state *state = x->state;
    if (condition == COND_STORED) {
        *ret = (struct api_answer){.status = 202};
        return;
    }
    if (condition == COND_CONFLICT && state != NULL && state->payload_id.at != NULL)
        text = arena_printf(x->arena, "payload id %.*s was given to other content before",
                            SPAN_FMT(state->payload_id));
    answer_condition(x, rows, shape_message, condition, text, ret);
}

/* --- neutral events ----------------------------------------------------------------------------- */

static enum err write_contexts(struct writer *w, const struct api_settings *s, const struct event *e,
                               const struct json_value *given, struct fault *why)
{
    struct span kind = SPAN("user"), key = e->subject;
    if (given == NULL && key.at == NULL)
        return render_refuse(why, "subject: required by a launchdarkly output (or data.contextKeys)");
    if (given != NULL && (given->type != JSON_OBJECT || !context_keys_ok(given->text)))
        return render_refuse(why, "data.contextKeys: must be an object of at least one string");
    const uint8_t *colon = key.at == NULL ? NULL : memchr(key.at, ':', key.len);
    if (option_is(s, "map.subject", "kind_key") && colon != NULL && colon > key.at &&
        colon + 1 < key.at + key.len) {
        kind = span_of(key.at, (size_t)(colon - key.at));
        key = span_of(colon + 1, key.len - kind.len - 1);
    }
    write_text(w, ",\"contextKeys\":{");
    if (key.at != NULL && !(given != NULL && data_has(given->text, kind))) {
        write_key(w, kind);
        write_string(w, key);
    }
    if (given != NULL) {
        write_comma(w);
        write_raw(w, data_inside(given->text));
    }
    write_text(w, "}");
    return OK;
}

/* What data holds for the import. */
struct parts {
    bool has_contexts, has_metric;
    struct json_value contexts, metric;
    const char *except[4]; /* members that do not stay in data */
};

static enum err take_apart(const struct event *e, struct parts *p, struct fault *why)
{
    unsigned n = 0;
    double number;
    *p = (struct parts){.has_metric = false};
    if (e->data_kind == EVENT_DATA_NUMBER) {
        p->metric = (struct json_value){.text = e->data, .type = JSON_NUMBER};
        p->has_metric = true;
    } else if (e->data_kind == EVENT_DATA_OBJECT) {
        p->has_contexts = data_find(e->data, "contextKeys", &p->contexts) && p->contexts.type != JSON_NULL;
        if (p->has_contexts)
            p->except[n++] = "contextKeys";
        if (data_find(e->data, "metricValue", &p->metric)) {
            p->except[n++] = "metricValue";
            p->has_metric = p->metric.type != JSON_NULL;
        } else if (data_find(e->data, "value", &p->metric) && p->metric.type == JSON_NUMBER) {
            p->except[n++] = "value";
            p->has_metric = true;
        }
    }
    if (p->has_metric && (p->metric.type != JSON_NUMBER || !json_double(p->metric.text, &number)))
        return render_refuse(why, "data.metricValue: must be a finite number");
    return OK;
}

static void write_data(struct writer *w, const struct event *e, const struct parts *p)
{
    size_t before = w->out.len;
    write_text(w, ",\"data\":{");
    size_t open = w->out.len;
    if (e->sampledrate > 1 &&
        !(e->data_kind == EVENT_DATA_OBJECT && data_has(e->data, SPAN("sampledrate")))) {
        write_key(w, SPAN("sampledrate"));
        write_number(w, e->sampledrate);
    }
    if (e->data_kind == EVENT_DATA_OBJECT && p->except[0] == NULL) {
        struct span inside = data_inside(e->data);
        if (inside.len > 0) {
            write_comma(w);
            write_raw(w, inside);
        }
    } else if (e->data_kind == EVENT_DATA_OBJECT) {
        write_members(w, e->data, p->except, false);
    } else if (e->data_kind == EVENT_DATA_STRING || e->data_kind == EVENT_DATA_BOOL ||
               e->data_kind == EVENT_DATA_ARRAY) {
        write_raw_member(w, "value", e->data);
    }
    if (w->out.len == open && !w->failed)
        w->out.len = before; /* an object left empty is omitted */
    else
        write_text(w, "}");
}

static enum err find_partition(const struct api_settings *s, const struct event *e, struct arena *arena,
                               struct span *ret, struct fault *why)
{
    const struct event_ext *project = e->ext_count == 0 ? NULL : event_ext_find(e, "project");
    const struct event_ext *environment = e->ext_count == 0 ? NULL : event_ext_find(e, "environment");
    struct span p = SPAN(""), env = SPAN("");
    struct bytes out;
    bool whole = ld_split_partition(s->partition, &p, &env);
    if (project == NULL && environment == NULL && whole) {
        *ret = s->partition;
        return OK;
    }
    if (project != NULL)
        p = project->value;
    if (environment != NULL)
        env = environment->value;
    if (p.len == 0 || env.len == 0)
        return render_refuse(why,
                             "project and environment: not both in the event, and output %s has no partition",
                             s->output_name);
    if (p.len + env.len > 1000 || memchr(p.at, '/', p.len) != NULL || memchr(env.at, '/', env.len) != NULL)
        return render_refuse(why, "project and environment: longer than 1000 bytes, or with a slash");
    if (!bytes_init_arena(&out, arena, p.len + env.len + 1) || bytes_append(&out, p) != OK ||
        bytes_append_byte(&out, '/') != OK || bytes_append(&out, env) != OK)
        return render_too_big(why, s->limits.event_bytes);
    *ret = bytes_finish_arena(&out, arena);
    return OK;
}

enum err ld_render(const struct api_settings *s, const struct event *e, struct arena *arena,
                   struct api_item *ret, struct fault *why)
{
    struct parts p;
    struct writer w;
    struct span partition;
    enum err err = render_check(e, why);
    if (err == OK)
        err = find_partition(s, e, arena, &partition, why);
    if (err == OK)
        err = take_apart(e, &p, why);
    if (err != OK)
        return err;
    writer_init(&w, arena, event_json_bound(e) + 256);
    write_text(&w, "{\"kind\":\"custom\",\"key\":");
    write_string(&w, e->type);
    write_text(&w, ",\"creationDate\":");
    write_number(&w, instant_ms(e->time_at));
    if (p.has_metric)
        write_raw_member(&w, "metricValue", p.metric.text);
    err = write_contexts(&w, s, e, p.has_contexts ? &p.contexts : NULL, why);
    if (err != OK)
        return err;
    write_data(&w, e, &p);
    write_text(&w, "}");
    struct span body = writer_finish(&w);
    if (body.at == NULL || body.len > s->limits.event_bytes)
        return render_too_big(why, s->limits.event_bytes);
    *ret = item_of_event(e, body);
    ret->partition = partition;
    return OK;
}
