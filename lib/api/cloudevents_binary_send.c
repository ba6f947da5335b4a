/* cloudevents_binary_send: one stored event as a binary-mode request (HTTP binding section 3.1).
 *
 * The spool holds events in JSON form whatever the mode, so that the mode may change under way. Here one is
 * read again: each attribute becomes a header, percent-encoded where the binding says so (space, double
 * quote, percent sign, and all that is not U+0021 to U+007E), and data becomes the body as its media type
 * wants it. */
#include "lib/api/cloudevents_api.h"

#include "lib/base/ensure.h"
#include "lib/codec/base64.h"
#include "lib/event/attribute.h"
#include "lib/event/cloudevents.h"

static struct span header_value(struct arena *arena, struct span value)
{
    static const char digits[] = "0123456789ABCDEF";
    uint8_t *text = arena_alloc(arena, 3 * value.len + 1);
    size_t n = 0;
    if (text == NULL)
        return (struct span){0};
    for (size_t i = 0; i < value.len; i++) {
        uint8_t c = value.at[i];
        if (c > 0x20 && c < 0x7f && c != '"' && c != '%') {
            text[n++] = c;
            continue;
        }
        text[n++] = '%';
        text[n++] = (uint8_t)digits[c >> 4];
        text[n++] = (uint8_t)digits[c & 15];
    }
    arena_shrink(arena, text, 3 * value.len + 1, n == 0 ? 1 : n);
    return span_of(text, n);
}

struct sending {
    struct arena *arena;
    struct api_header *headers;
    unsigned count;
    bool failed;
};

static void add(struct sending *s, struct span name, struct span value)
{
    if (value.at == NULL)
        return;
    struct bytes full;
    struct span encoded = header_value(s->arena, value);
    if (encoded.at == NULL || !bytes_init_arena(&full, s->arena, name.len + 3) ||
        bytes_append(&full, SPAN("ce-")) != OK || bytes_append(&full, name) != OK) {
        s->failed = true;
        return;
    }
    s->headers[s->count++] =
        (struct api_header){.name = bytes_finish_arena(&full, s->arena), .value = encoded};
}

static void add_attributes(struct sending *s, const struct event *e)
{
    add(s, SPAN("specversion"), SPAN("1.0"));
    add(s, SPAN("id"), e->id);
    add(s, SPAN("source"), e->source);
    add(s, SPAN("type"), e->type);
    add(s, SPAN("subject"), e->subject);
    add(s, SPAN("time"), e->time);
    add(s, SPAN("dataschema"), e->dataschema);
    if (e->sampledrate_given)
        add(s, SPAN("sampledrate"), arena_printf(s->arena, "%u", e->sampledrate));
    for (unsigned i = 0; i < e->ext_count; i++)
        add(s, e->ext[i].name, e->ext[i].value);
}

static struct span body_of(const struct event *e, struct arena *arena)
{
    if (e->data_kind == EVENT_DATA_NONE)
        return SPAN("");
    if (e->data_kind == EVENT_DATA_BASE64) {
        uint8_t *bytes = arena_alloc(arena, base64_room(e->data.len));
        size_t len = 0;
        return bytes != NULL && base64_decode(e->data, bytes, &len) ? span_of(bytes, len) : (struct span){0};
    }
    if (e->data_kind != EVENT_DATA_STRING || attribute_type_is_json(e->datacontenttype))
        return e->data;
    uint8_t *text = arena_alloc(arena, e->data.len + 1);
    return text == NULL ? (struct span){0}
                        : span_of(text, json_unescape(span_of(e->data.at + 1, e->data.len - 2), text));
}

enum err cloudevents_binary_send(struct span event, struct arena *arena, struct api_send *ret)
{
    /* Nothing is to be made: stored events are complete. */
    struct event_reading in = {.arena = arena, .agent_name = SPAN("penstock"), .now_text = SPAN("")};
    struct event e;
    struct fault why;
    enum err err = event_read_line(&in, event, &e, &why);
    if (err == ERR_TOO_BIG)
        return err;
    if (err != OK || !e.id_given ||
        !e.time_given) { /* not ours after all; as it is, it can still go structured */
        send_header(ret, "Content-Type", SPAN("application/cloudevents+json"));
        return OK;
    }
    struct sending s = {.arena = arena};
    s.headers = arena_alloc(arena, (EVENT_EXTENSIONS_MAX + 10) * sizeof *s.headers);
    if (s.headers == NULL)
        return ERR_TOO_BIG;
    add_attributes(&s, &e);
    ret->more_headers = s.headers;
    ret->more_header_count = s.count;
    ret->own_body = true;
    ret->body = body_of(&e, arena);
    if (s.failed || ret->body.at == NULL)
        return ERR_TOO_BIG;
    struct span type = e.datacontenttype;
    if (type.at == NULL && e.data_kind != EVENT_DATA_NONE && e.data_kind != EVENT_DATA_BASE64)
        type = SPAN("application/json");
    send_header(ret, "Content-Type", type);
    return OK;
}
