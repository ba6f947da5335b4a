/* monk_render: a neutral event as one of Monk's usage events.
 *
 *     type            eventName
 *     subject         externalCustomerId, or customerId with map.subject: customerId; required
 *     id              idempotencyKey; with map.id: source_id a UUIDv5 of source, LF, id
 *     time            timestamp, milliseconds; refused when more than an hour ahead
 *     sampledrate     refused above 1: nothing of a bill may be guessed
 *     data            properties: nested objects flattened with dots, arrays as JSON text, null left out,
 * anything else than an object as "value"; without members no properties source properties.<map.source> if
 * that is set extensions      properties with map.extensions: properties expirytime      ignored: a bill does
 * not expire */
#include "lib/api/monk.h"
#include "lib/api/render.h"

#include "lib/codec/rfc3339.h"
#include "lib/codec/uuid7.h"

static enum err check(const struct event *e, struct fault *why)
{
    if (e->subject.at == NULL)
        return render_refuse(why, "subject: required by a monk output (the customer)");
    if (e->sampledrate > 1)
        return render_refuse(why, "sampledrate: a monk output takes unsampled events only");
    if (e->time_at.sec > (int64_t)(e->received_ns / NS_PER_S) + MONK_FUTURE_MAX_S)
        return render_refuse(why, "time: more than an hour in the future");
    return render_check(e, why);
}

static enum err find_key(const struct api_settings *s, const struct event *e, struct arena *arena,
                         struct span *ret, struct fault *why)
{
    /* The name space of URLs (RFC 9562 section 6.6): a source is a URI reference. */
    static const struct uuid space = {
        {0x6b, 0xa7, 0xb8, 0x11, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8}};
    if (!option_is(s, "map.id", "source_id")) {
        *ret = e->id;
        return e->id.len <= MONK_KEY_MAX ? OK : render_refuse(why, "id: longer than %d bytes", MONK_KEY_MAX);
    }
    struct span parts[] = {e->source, SPAN("\n"), e->id};
    struct uuid key = uuid5_make(&space, parts, 3);
    char *text = arena_alloc(arena, UUID_TEXT + 1);
    if (text == NULL)
        return render_too_big(why, s->limits.event_bytes);
    uuid_format(&key, text);
    *ret = span_of(text, UUID_TEXT);
    return OK;
}

static void begin(struct flatten *f, struct span name)
{
    flatten_claim(f, name);
    write_key(f->w, name);
}

static void add_extensions(struct flatten *f, const struct event *e)
{
    if (e->dataschema.at != NULL) {
        begin(f, SPAN("dataschema"));
        write_string(f->w, e->dataschema);
    }
    for (unsigned i = 0; i < e->ext_count; i++) {
        if (ext_use(e->ext[i].name) != EXT_FIELD)
            continue;
        begin(f, e->ext[i].name);
        write_ext_value(f->w, &e->ext[i]);
    }
}

static void add_scalar(struct flatten *f, const struct event *e)
{
    struct bytes compact;
    begin(f, SPAN("value"));
    if (e->data_kind != EVENT_DATA_ARRAY)
        write_raw(f->w, e->data);
    else if (bytes_init_arena(&compact, f->w->arena, e->data.len) && json_compact(&compact, e->data) == OK)
        write_string(f->w, bytes_finish_arena(&compact, f->w->arena));
    else
        f->w->failed = true;
}

static enum err add_properties(struct writer *w, const struct api_settings *s, const struct event *e,
                               struct fault *why)
{
    struct flatten f;
    enum err err = OK;
    size_t before = w->out.len;
    const struct span *source = s->option_count == 0 ? NULL : api_option(s, "map.source");
    flatten_init(&f, w);
    f.array_as_text = f.drop_null = true;
    write_text(w, ",\"properties\":{");
    if (source != NULL && source->len > 0) {
        begin(&f, *source);
        write_string(w, e->source);
    }
    if (option_is(s, "map.extensions", "properties"))
        add_extensions(&f, e);
    if (e->data_kind == EVENT_DATA_OBJECT)
        err = flatten_object(&f, e->data, why);
    else if (e->data_kind != EVENT_DATA_NONE && e->data_kind != EVENT_DATA_NULL)
        add_scalar(&f, e);
    if (f.count == 0 && !w->failed)
        w->out.len = before; /* an object left empty is omitted */
    else
        write_text(w, "}");
    return err == OK ? flatten_check(&f, why) : err;
}

static enum err render_into(const struct api_settings *s, const struct event *e, struct span key,
                            struct writer *w, struct fault *why)
{
    write_text(w, "{\"eventName\":");
    write_string(w, e->type);
    if (option_is(s, "map.subject", "customerId"))
        write_text(w, ",\"customerId\":");
    else
        write_text(w, ",\"externalCustomerId\":");
    write_string(w, e->subject);
    write_text(w, ",\"idempotencyKey\":");
    write_string(w, key);
    write_text(w, ",\"timestamp\":");
    write_instant_ms(w, e->time_at);
    enum err err = add_properties(w, s, e, why);
    write_text(w, "}");
    return err;
}

enum err monk_render(const struct api_settings *s, const struct event *e, struct arena *arena,
                     struct api_item *ret, struct fault *why)
{
    struct span key, body = {0};
    enum err err = check(e, why);
    if (err == OK)
        err = find_key(s, e, arena, &key, why);
    /* Flattening repeats names; should that outgrow the first guess, the limit of an event is the bound. */
    for (int attempt = 0; err == OK && body.at == NULL && attempt < 2; attempt++) {
        struct writer w;
        writer_init(&w, arena, attempt == 0 ? 2 * event_json_bound(e) + 1024 : s->limits.event_bytes + 1);
        err = render_into(s, e, key, &w, why);
        body = err == OK ? writer_finish(&w) : body;
    }
    if (err != OK)
        return err;
    if (body.at == NULL || body.len > s->limits.event_bytes)
        return render_too_big(why, s->limits.event_bytes);
    *ret = item_of_event(e, body);
    ret->id = key;
    ret->expires_ns = 0;
    return OK;
}
