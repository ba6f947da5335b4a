/* launchdarkly_custom: custom events of an SDK as events of the metric import, with
 * launchdarkly.import_custom.
 *
 * An SDK's custom event names its contexts whole, the import only their keys: {"kind":"user","key":"u"}
 * becomes
 * {"user":"u"}, and of kind "multi" each other member gives its own. Go's SDK writes contextKeys already.
 * key, creationDate, metricValue and data are copied as they stand; all other kinds are left out, which is
 * what the user asked for. Items go to the output's partition, since these paths name no project. */
#include "lib/api/launchdarkly.h"
#include "lib/api/render.h"

#include "lib/base/hash.h"

enum { MEMBERS = 64 };

static void write_context(struct writer *w, struct span kind, struct span context)
{
    struct json_value key;
    if (!data_find(context, "key", &key) || key.type != JSON_STRING)
        return; /* the check of what was built finds it missing */
    write_comma(w);
    write_raw(w, kind); /* with its quotes */
    write_text(w, ":");
    write_raw(w, key.text);
}

static void write_multi(struct writer *w, struct span context)
{
    struct json_reader r;
    struct json_key key;
    struct json_value v;
    json_reader_init(&r, context);
    enum err err = json_enter_object(&r);
    while (err == OK && (err = json_next_member(&r, &key)) == OK) {
        if (json_read_value(&r, &v) != OK)
            return;
        if (v.type == JSON_OBJECT)
            write_context(w, span_of(key.text.at - 1, key.text.len + 2), v.text);
    }
}

static void write_contexts(struct writer *w, const struct json_member *members, size_t count)
{
    const struct json_member *keys = json_find(members, count, "contextKeys");
    const struct json_member *context = json_find(members, count, "context");
    struct json_value kind;
    if (keys != NULL && keys->value.type == JSON_OBJECT) {
        write_raw_member(w, "contextKeys", keys->value.text);
        return;
    }
    write_key(w, SPAN("contextKeys"));
    write_text(w, "{");
    if (context != NULL && context->value.type == JSON_OBJECT &&
        data_find(context->value.text, "kind", &kind)) {
        if (json_string_is(&kind, "multi"))
            write_multi(w, context->value.text);
        else if (kind.type == JSON_STRING)
            write_context(w, kind.text, context->value.text);
    }
    write_text(w, "}");
}

static void copy_member(struct writer *w, const struct json_member *members, size_t count, const char *name,
                        bool object_only)
{
    const struct json_member *m = json_find(members, count, name);
    if (m != NULL && m->value.type != JSON_NULL && !(object_only && m->value.type != JSON_OBJECT))
        write_raw_member(w, name, m->value.text);
}

/* The import event for one custom event; .at NULL with the reason, or when the arena is full. */
static struct span convert(struct arena *arena, const struct json_member *members, size_t count, size_t bytes,
                           struct fault *why)
{
    struct writer w;
    struct json_reader r;
    struct ld_import_event e;
    fault_set(why, ERR_TOO_BIG, "the request's events need too much memory");
    writer_init(&w, arena, bytes + 128);
    write_text(&w, "{\"kind\":\"custom\"");
    copy_member(&w, members, count, "key", false);
    copy_member(&w, members, count, "creationDate", false);
    copy_member(&w, members, count, "metricValue", false);
    write_contexts(&w, members, count);
    copy_member(&w, members, count, "data", true);
    write_text(&w, "}");
    struct span text = writer_finish(&w);
    json_reader_init(&r, text);
    return text.at != NULL && ld_read_import_event(&r, &e, why) == OK ? text : (struct span){0};
}

static void add_item(struct api_exchange *x, struct span body, unsigned index, uint64_t content)
{
    struct span id = ld_payload_id(x), place = span_of(&index, sizeof index);
    x->items[x->item_count++] = (struct api_item){
        .body = body,
        .partition = x->settings->partition,
        .key_hash = id.at == NULL ? 0 : hash64(place, id_hash(x, id)),
        .content_hash = content,
        .weight = 1,
        .index = index,
    };
}

bool ld_import_custom(struct api_exchange *x, uint32_t weight)
{
    struct json_reader r;
    struct span project, environment;
    uint64_t content = hash64(x->request->body, 0);
    json_reader_init(&r, x->request->body);
    if (!ld_split_partition(x->settings->partition, &project, &environment) || items_new(x, weight) == NULL ||
        json_enter_array(&r) != OK)
        return false;
    for (unsigned i = 0; json_next_element(&r) == OK; i++) {
        struct json_member members[MEMBERS];
        struct json_value value;
        struct fault why;
        size_t count;
        enum err err = json_read_object(&r, members, MEMBERS, &count, &value);
        const struct json_member *kind = json_find(members, count, "kind");
        if ((err != OK && err != ERR_TOO_BIG) || i == weight)
            break;
        if (kind == NULL || !json_string_is(&kind->value, "custom"))
            continue;
        struct span body = convert(x->arena, members, count, value.text.len, &why);
        if (body.at != NULL)
            add_item(x, body, i, content);
        else if (why.err == ERR_TOO_BIG || !api_reject(x, i, REJECT_UNRENDERABLE, why.text))
            return false;
    }
    return true;
}
