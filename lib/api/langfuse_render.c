/* langfuse_render: a neutral event as one event of the Ingestion API.
 *
 *     id             envelope id; body.id too where data brings none
 *     type           langfuse.<known> and a known type itself: that type, data is its body; anything else:
 *                    event-create with body.name = type and body.input = data
 *     time           timestamp; body.timestamp (trace), body.startTime (observation) if absent
 *     subject        body.userId (trace) if absent, else body.metadata.subject
 *     source         body.metadata.source          sampledrate > 1   body.metadata.sampledrate
 *     traceparent    body.traceId, body.parentObservationId of an observation if absent; body.traceId of a
 * score that has no other target severity       body.level of an observation if absent environment
 * body.environment if absent other extensions, dataschema   body.metadata.<name> data's own metadata keeps
 * its members; one that is not an object goes under metadata.value. */
#include "lib/api/langfuse.h"
#include "lib/api/render.h"

/* Data's body as given, and what of it is looked at. */
struct given {
    bool is_body; /* data is the body of a known type */
    bool id, timestamp, start_time, user_id, level, environment, trace_id, parent, session_id, run_id, name;
    bool has_metadata;
    struct json_value metadata;
};

static void look(const struct event *e, struct given *g)
{
    struct json_reader r;
    struct json_key key;
    struct json_value v;
    json_reader_init(&r, e->data);
    if (json_enter_object(&r) != OK)
        return;
    while (json_next_member(&r, &key) == OK && json_read_value(&r, &v) == OK) {
        const struct {
            const char *name;
            bool *seen;
        } names[] = {{"id", &g->id},
                     {"timestamp", &g->timestamp},
                     {"startTime", &g->start_time},
                     {"userId", &g->user_id},
                     {"level", &g->level},
                     {"environment", &g->environment},
                     {"traceId", &g->trace_id},
                     {"parentObservationId", &g->parent},
                     {"sessionId", &g->session_id},
                     {"datasetRunId", &g->run_id},
                     {"name", &g->name}};
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
            if (v.type != JSON_NULL && json_key_is(&key, names[i].name))
                *names[i].seen = true;
        if (json_key_is(&key, "metadata") && v.type != JSON_NULL) {
            g->has_metadata = true;
            g->metadata = v;
        }
    }
}

static const char *level_of(const struct event *e)
{
    const struct event_ext *number = event_ext_find(e, "severitynumber"),
                           *text = event_ext_find(e, "severitytext");
    int64_t n;
    if (number != NULL && json_int64(number->value, &n))
        return n <= 8 ? "DEBUG" : n <= 12 ? "DEFAULT" : n <= 16 ? "WARNING" : "ERROR";
    if (text == NULL)
        return NULL;
    static const char *const words[][2] = {{"TRACE", "DEBUG"},  {"DEBUG", "DEBUG"},     {"INFO", "DEFAULT"},
                                           {"WARN", "WARNING"}, {"WARNING", "WARNING"}, {"ERROR", "ERROR"},
                                           {"FATAL", "ERROR"}};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (span_equal_nocase(text->value, span_str(words[i][0])))
            return words[i][1];
    return "DEFAULT";
}

static void add_context(struct writer *w, const struct event *e, enum langfuse_kind kind,
                        const struct given *g)
{
    struct span trace, parent;
    const struct event_ext *environment = e->ext_count == 0 ? NULL : event_ext_find(e, "environment");
    if (e->ext_count > 0 && event_trace(e, &trace, &parent)) {
        bool target = g->trace_id || g->session_id || g->run_id;
        if (kind == LANGFUSE_OBSERVATION && !g->trace_id)
            write_string_member(w, "traceId", trace);
        if (kind == LANGFUSE_OBSERVATION && !g->parent)
            write_string_member(w, "parentObservationId", parent);
        if (kind == LANGFUSE_SCORE && !target)
            write_string_member(w, "traceId", trace);
    }
    const char *level = e->ext_count > 0 && kind == LANGFUSE_OBSERVATION && !g->level ? level_of(e) : NULL;
    if (level != NULL)
        write_string_member(w, "level", span_str(level));
    if (environment != NULL && !g->environment)
        write_string_member(w, "environment", environment->value);
}

static bool begin_metadata(struct writer *w, const struct given *g, struct span name)
{
    if (g->has_metadata && g->metadata.type == JSON_OBJECT && data_has(g->metadata.text, name))
        return false;
    write_key(w, name);
    return true;
}

static void add_metadata(struct writer *w, const struct event *e, enum langfuse_kind kind,
                         const struct given *g)
{
    write_text(w, ",\"metadata\":{");
    if (begin_metadata(w, g, SPAN("source")))
        write_string(w, e->source);
    if (e->subject.at != NULL && (kind != LANGFUSE_TRACE || g->user_id) &&
        begin_metadata(w, g, SPAN("subject")))
        write_string(w, e->subject);
    if (e->sampledrate > 1 && begin_metadata(w, g, SPAN("sampledrate")))
        write_number(w, e->sampledrate);
    if (e->dataschema.at != NULL && begin_metadata(w, g, SPAN("dataschema")))
        write_string(w, e->dataschema);
    for (unsigned i = 0; i < e->ext_count; i++)
        if (ext_use(e->ext[i].name) == EXT_FIELD && begin_metadata(w, g, e->ext[i].name))
            write_ext_value(w, &e->ext[i]);
    if (g->has_metadata && g->metadata.type == JSON_OBJECT) {
        struct span inside = data_inside(g->metadata.text);
        if (inside.len > 0) {
            write_comma(w);
            write_raw(w, inside);
        }
    } else if (g->has_metadata) {
        write_raw_member(w, "value", g->metadata.text);
    }
    write_text(w, "}");
}

static void add_times(struct writer *w, const struct event *e, enum langfuse_kind kind, const struct given *g)
{
    if (kind == LANGFUSE_TRACE && !g->timestamp) {
        write_key(w, SPAN("timestamp"));
        write_time(w, e);
    }
    if (kind == LANGFUSE_OBSERVATION && !g->start_time) {
        write_key(w, SPAN("startTime"));
        write_time(w, e);
    }
}

/* The body: what we add first, then what data says, then metadata. */
static struct span build_body(const struct event *e, const struct langfuse_type *type, const struct given *g,
                              struct arena *arena)
{
    static const char *const replaced[] = {"metadata", NULL};
    struct writer w;
    writer_init(&w, arena, 2 * event_json_bound(e) + 512);
    write_text(&w, "{");
    if (type->kind != LANGFUSE_SDK_LOG) {
        if (!g->id && !type->update)
            write_string_member(&w, "id", e->id);
        if (!g->is_body)
            write_string_member(&w, "name", e->type);
        add_times(&w, e, type->kind, g);
        if (type->kind == LANGFUSE_TRACE && !g->user_id)
            write_string_member(&w, "userId", e->subject);
        add_context(&w, e, type->kind, g);
    }
    if (g->is_body && type->kind == LANGFUSE_SDK_LOG)
        write_raw(&w, data_inside(e->data));
    else if (g->is_body)
        write_members(&w, e->data, replaced, true);
    else if (e->data_kind != EVENT_DATA_NONE && e->data_kind != EVENT_DATA_NULL)
        write_raw_member(&w, "input", e->data);
    if (type->kind != LANGFUSE_SDK_LOG)
        add_metadata(&w, e, type->kind, g);
    write_text(&w, "}");
    return writer_finish(&w);
}

/* A known type, with or without "langfuse." before it; NULL: it is a name. */
static const struct langfuse_type *type_of(struct span type)
{
    const struct span prefix = SPAN("langfuse.");
    if (span_starts(type, prefix))
        type = span_of(type.at + prefix.len, type.len - prefix.len);
    return langfuse_type_find(type);
}

enum err langfuse_render(const struct api_settings *s, const struct event *e, struct arena *arena,
                         struct api_item *ret, struct fault *why)
{
    struct given g = {.is_body = false};
    const struct langfuse_type *type = type_of(e->type);
    enum err err = render_check(e, why);
    if (err != OK)
        return err;
    if (!langfuse_id_ok(e->id))
        return render_refuse(why, "id: longer than %d characters", LANGFUSE_ID_MAX);
    if (type != NULL) {
        if (e->data_kind != EVENT_DATA_OBJECT)
            return render_refuse(why, "data: must be an object, the body of %s", type->name);
        g.is_body = true;
        look(e, &g);
    } else {
        type = langfuse_type_find(SPAN("event-create"));
    }
    struct span body = build_body(e, type, &g, arena);
    if (body.at == NULL)
        return render_too_big(why, s->limits.event_bytes);
    err = langfuse_check_body(type, body, NULL, NULL, why);
    if (err != OK)
        return render_refuse(why, "data: %s", why->text);
    struct writer w;
    writer_init(&w, arena, body.len + 6 * e->id.len + 160);
    write_text(&w, "{\"id\":");
    write_string(&w, e->id);
    write_string_member(&w, "type", span_str(type->name));
    write_key(&w, SPAN("timestamp"));
    write_time(&w, e);
    write_raw_member(&w, "body", body);
    write_text(&w, "}");
    struct span text = writer_finish(&w);
    if (text.at == NULL || text.len > s->limits.event_bytes)
        return render_too_big(why, s->limits.event_bytes);
    *ret = item_of_event(e, text);
    ret->id = e->id;
    return OK;
}
