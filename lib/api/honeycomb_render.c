/* honeycomb_render: a neutral event as one element of a Honeycomb batch.
 *
 *     time          "time", UTC          sampledrate > 1     "samplerate"
 *     type source subject                columns of that name
 *     traceparent   trace.trace_id, trace.parent_id          tracestate   trace.state
 *     severity…     severity             dataschema, other extensions     columns of that name
 *     id            column honeycomb.id_field, off by default
 *     data          an object's members beside the columns; anything else as column "value"
 *     dataset       the partition; else the type with map.dataset: type; else the output's partition
 * A column never overwrites a member of data that has its name. */
#include "lib/api/honeycomb.h"
#include "lib/api/render.h"

#include "lib/base/ensure.h"

struct columns {
    struct writer *w;
    const struct event *e;
    struct flatten *flatten; /* NULL: data stays nested */
    unsigned count;
};

static bool begin_column(struct columns *c, struct span name)
{
    if (c->e->data_kind == EVENT_DATA_OBJECT && data_has(c->e->data, name))
        return false;
    if (c->flatten != NULL)
        flatten_claim(c->flatten, name);
    write_key(c->w, name);
    c->count++;
    return true;
}

static void add_text(struct columns *c, const char *name, struct span text)
{
    if (text.at != NULL && begin_column(c, span_str(name)))
        write_string(c->w, text);
}

static void add_ext(struct columns *c, struct span name, const struct event_ext *ext)
{
    if (ext != NULL && begin_column(c, name))
        write_ext_value(c->w, ext);
}

static void add_trace(struct columns *c)
{
    struct span trace, parent;
    if (event_trace(c->e, &trace, &parent)) {
        add_text(c, "trace.trace_id", trace);
        add_text(c, "trace.parent_id", parent);
    } else {
        add_ext(c, SPAN("traceparent"), event_ext_find(c->e, "traceparent"));
    }
    add_ext(c, SPAN("trace.state"), event_ext_find(c->e, "tracestate"));
}

static void add_columns(struct columns *c, const struct api_settings *s)
{
    const struct event *e = c->e;
    add_text(c, "type", e->type);
    add_text(c, "source", e->source);
    add_text(c, "subject", e->subject);
    add_text(c, "dataschema", e->dataschema);
    if (e->ext_count > 0) {
        add_trace(c);
        add_ext(c, SPAN("severity"), event_severity(e));
        for (unsigned i = 0; i < e->ext_count; i++)
            if (ext_use(e->ext[i].name) == EXT_FIELD)
                add_ext(c, e->ext[i].name, &e->ext[i]);
    }
    const struct span *id_field = s->option_count == 0 ? NULL : api_option(s, "id_field");
    if (id_field != NULL && id_field->len > 0 && begin_column(c, *id_field))
        write_string(c->w, e->id);
}

static enum err add_data(struct columns *c, struct fault *why)
{
    const struct event *e = c->e;
    switch (e->data_kind) {
    case EVENT_DATA_OBJECT:
        if (c->flatten != NULL) {
            enum err err = flatten_object(c->flatten, e->data, why);
            c->count = c->flatten->count;
            return err == OK ? flatten_check(c->flatten, why) : err;
        }
        c->count += data_count(e->data);
        struct span inside = data_inside(e->data);
        if (inside.len > 0) {
            write_comma(c->w);
            write_raw(c->w, inside);
        }
        return OK;
    case EVENT_DATA_NONE:
    case EVENT_DATA_NULL:
        return OK;
    default:
        c->count++;
        write_raw_member(c->w, "value", e->data);
        return OK;
    }
}

static enum err find_dataset(const struct api_settings *s, const struct event *e, struct span *ret,
                             struct fault *why)
{
    const struct event_ext *ext = e->ext_count == 0 ? NULL : event_ext_find(e, "dataset");
    if (ext != NULL)
        *ret = ext->value;
    else if (option_is(s, "map.dataset", "type"))
        *ret = e->type;
    else
        *ret = s->partition;
    if (ret->len == 0)
        return render_refuse(why, "dataset: none in the event, and output %s has no partition",
                             s->output_name);
    if (ret->len > 1000)
        return render_refuse(why, "dataset: longer than 1000 bytes");
    return OK;
}

static enum err render_into(const struct api_settings *s, const struct event *e, struct writer *w, bool flat,
                            struct fault *why)
{
    struct flatten flatten;
    struct columns c = {.w = w, .e = e, .flatten = flat ? &flatten : NULL};
    if (flat)
        flatten_init(&flatten, w);
    write_text(w, "{\"time\":");
    write_time(w, e);
    if (e->sampledrate > 1) {
        write_text(w, ",\"samplerate\":");
        write_number(w, e->sampledrate);
    }
    write_text(w, ",\"data\":{");
    add_columns(&c, s);
    enum err err = add_data(&c, why);
    write_text(w, "}}");
    if (err == OK && c.count > HONEYCOMB_COLUMNS_MAX)
        return render_refuse(why, "data: more than %d columns", HONEYCOMB_COLUMNS_MAX);
    return err;
}

enum err honeycomb_render(const struct api_settings *s, const struct event *e, struct arena *arena,
                          struct api_item *ret, struct fault *why)
{
    struct span dataset, body = {0};
    enum err err = render_check(e, why);
    if (err == OK)
        err = find_dataset(s, e, &dataset, why);
    bool flat = option_on(s, "map.flatten");
    const struct span *id_field = s->option_count == 0 ? NULL : api_option(s, "id_field");
    size_t bound = event_json_bound(e) + 256 + (id_field == NULL ? 0 : 6 * id_field->len);
    /* Flattening repeats names; should that outgrow the first guess, the limit of an event is the bound. */
    for (int attempt = 0; err == OK && body.at == NULL && attempt < (flat ? 2 : 1); attempt++) {
        struct writer w;
        writer_init(&w, arena, attempt == 0 ? bound : s->limits.event_bytes + 1);
        err = render_into(s, e, &w, flat, why);
        body = err == OK ? writer_finish(&w) : body;
    }
    if (err != OK)
        return err;
    if (body.at == NULL || body.len > s->limits.event_bytes)
        return render_too_big(why, s->limits.event_bytes);
    *ret = item_of_event(e, body);
    ret->partition = dataset;
    return OK;
}
