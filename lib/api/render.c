/* render: see render.h. */
#include "lib/api/render.h"

#include "lib/base/ensure.h"
#include "lib/base/hash.h"
#include "lib/codec/rfc3339.h"

#include <stdlib.h>

enum ext_use ext_use(struct span name)
{
    static const struct {
        const char *name;
        enum ext_use use;
    } known[] = {
        {"partitionkey", EXT_DROPPED}, {"sequence", EXT_DROPPED},       {"authclaims", EXT_DROPPED},
        {"expirytime", EXT_DROPPED},   {"traceparent", EXT_SPECIAL},    {"tracestate", EXT_SPECIAL},
        {"severitytext", EXT_SPECIAL}, {"severitynumber", EXT_SPECIAL}, {"dataset", EXT_SPECIAL},
        {"project", EXT_SPECIAL},      {"environment", EXT_SPECIAL},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (span_is(name, known[i].name))
            return known[i].use;
    return EXT_FIELD;
}

void write_ext_value(struct writer *w, const struct event_ext *ext)
{
    if (ext->type == EVENT_EXT_STRING)
        write_string(w, ext->value);
    else
        write_raw(w, ext->value);
}

static void write_quoted(struct writer *w, const char *text, size_t len)
{
    write_text(w, "\"");
    write_raw(w, span_of(text, len));
    write_text(w, "\"");
}

void write_time(struct writer *w, const struct event *e)
{
    char text[RFC3339_TEXT + 1];
    write_quoted(w, text, rfc3339_format(e->time_at, text));
}

void write_instant_ms(struct writer *w, struct instant at)
{
    char text[RFC3339_TEXT + 1];
    write_quoted(w, text, rfc3339_format_ms(at, text));
}

const struct event_ext *event_severity(const struct event *e)
{
    if (e->ext_count == 0)
        return NULL;
    const struct event_ext *number = event_ext_find(e, "severitynumber");
    return number != NULL ? number : event_ext_find(e, "severitytext");
}

static bool lower_hex(struct span s)
{
    bool any = false;
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.at[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
            return false;
        any = any || c != '0';
    }
    return any;
}

/* VERSION "-" 32 digits "-" 16 digits "-" flags; all zeros are not ids (W3C Trace Context section 3.2). */
bool event_trace(const struct event *e, struct span *ret_trace, struct span *ret_parent)
{
    const struct event_ext *ext = e->ext_count == 0 ? NULL : event_ext_find(e, "traceparent");
    if (ext == NULL || ext->value.len < 55)
        return false;
    const uint8_t *at = ext->value.at;
    if (at[2] != '-' || at[35] != '-' || at[52] != '-')
        return false;
    *ret_trace = span_of(at + 3, 32);
    *ret_parent = span_of(at + 36, 16);
    return lower_hex(*ret_trace) && lower_hex(*ret_parent);
}

/* --- looking into data -------------------------------------------------------------------------- */

static bool key_is(const struct json_key *key, struct span name)
{
    if (!key->escaped)
        return span_equal(key->text, name);
    uint8_t text[256];
    if (key->text.len > sizeof text)
        return false; /* six bytes per character at most: longer than any name of ours */
    return span_equal(span_of(text, json_unescape(key->text, text)), name);
}

static bool find(struct span data, struct span name, struct json_value *ret)
{
    struct json_reader r;
    struct json_key key;
    bool found = false;
    json_reader_init(&r, data);
    if (json_enter_object(&r) != OK)
        return false;
    while (json_next_member(&r, &key) == OK) {
        struct json_value value;
        if (json_read_value(&r, &value) == ERR_MALFORMED)
            break;
        if (key_is(&key, name)) {
            *ret = value; /* of a name twice, the last: what most readers take */
            found = true;
        }
    }
    return found;
}

bool data_has(struct span data, struct span name)
{
    struct json_value value;
    return find(data, name, &value);
}

bool data_find(struct span data, const char *name, struct json_value *ret)
{
    return find(data, span_str(name), ret);
}

unsigned data_count(struct span data)
{
    struct json_reader r;
    struct json_key key;
    struct json_value value;
    unsigned count = 0;
    json_reader_init(&r, data);
    if (json_enter_object(&r) != OK)
        return 0;
    while (json_next_member(&r, &key) == OK && json_read_value(&r, &value) != ERR_MALFORMED)
        count++;
    return count;
}

static bool white(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct span data_inside(struct span object)
{
    ensure(object.len >= 2);
    struct span in = span_of(object.at + 1, object.len - 2);
    while (in.len > 0 && white(in.at[0]))
        in = span_of(in.at + 1, in.len - 1);
    while (in.len > 0 && white(in.at[in.len - 1]))
        in.len--;
    return in;
}

static bool named(const struct json_key *key, const char *const *names)
{
    for (; *names != NULL; names++)
        if (key_is(key, span_str(*names)))
            return true;
    return false;
}

void write_members(struct writer *w, struct span object, const char *const *except, bool drop_null)
{
    struct json_reader r;
    struct json_key key;
    struct json_value value;
    json_reader_init(&r, object);
    if (json_enter_object(&r) != OK)
        return;
    while (json_next_member(&r, &key) == OK && json_read_value(&r, &value) != ERR_MALFORMED) {
        if (named(&key, except) || (drop_null && value.type == JSON_NULL))
            continue;
        write_comma(w);
        write_text(w, "\"");
        write_raw(w, key.text);
        write_text(w, "\":");
        write_raw(w, value.text);
    }
}

void write_behind(struct writer *w, struct span object, const char *const *except)
{
    if (except != NULL) {
        write_members(w, object, except, true);
        write_text(w, "}");
        return;
    }
    write_text(w, ",");
    write_raw(w, span_of(object.at + 1, object.len - 1));
}

enum err render_check(const struct event *e, struct fault *why)
{
    if (e->data_kind == EVENT_DATA_BASE64)
        return render_refuse(why, "data_base64: this output cannot carry binary data");
    return OK;
}

/* --- flattening --------------------------------------------------------------------------------- */

void flatten_init(struct flatten *f, struct writer *w)
{
    f->w = w;
    f->array_as_text = f->drop_null = false;
    f->names = NULL;
    f->count = f->room = 0;
    f->path_len = 0;
}

/* Names are compared by their hashes: 64 bits over names of one event do not meet by chance. */
static void claim_hash(struct flatten *f, uint64_t hash)
{
    if (f->count == f->room) {
        unsigned room = f->room == 0 ? 32 : f->room * 2;
        uint64_t *bigger = arena_alloc(f->w->arena, room * sizeof *bigger);
        if (bigger == NULL) {
            f->w->failed = true;
            return;
        }
        if (f->count > 0)
            memcpy(bigger, f->names, f->count * sizeof *bigger);
        f->names = bigger;
        f->room = room;
    }
    f->names[f->count++] = hash;
}

void flatten_claim(struct flatten *f, struct span name)
{
    claim_hash(f, hash64(name, 0));
}

static void claim_path(struct flatten *f)
{
    struct span path = span_of(f->path, f->path_len);
    uint8_t text[sizeof f->path];
    if (memchr(f->path, '\\', f->path_len) != NULL)
        path = span_of(text, json_unescape(path, text));
    flatten_claim(f, path);
}

static void write_leaf(struct flatten *f, const struct json_value *v)
{
    struct writer *w = f->w;
    if (v->type == JSON_NULL && f->drop_null)
        return;
    claim_path(f);
    write_comma(w);
    write_text(w, "\"");
    write_raw(w, span_of(f->path, f->path_len));
    write_text(w, "\":");
    if (v->type != JSON_ARRAY || !f->array_as_text) {
        write_raw(w, v->text);
        return;
    }
    struct bytes compact;
    if (!bytes_init_arena(&compact, w->arena, v->text.len) || json_append_compact(&compact, v) != OK)
        w->failed = true;
    else
        write_string(w, bytes_finish_arena(&compact, w->arena));
}

static enum err flatten_members(struct flatten *f, struct json_reader *r, struct fault *why)
{
    struct json_key key;
    enum json_type type;
    size_t outer = f->path_len;
    while (json_next_member(r, &key) == OK) {
        if (outer + key.text.len + 1 > sizeof f->path)
            return render_refuse(why, "data: a flattened name is longer than %zu bytes", sizeof f->path);
        if (outer > 0)
            f->path[outer] = '.';
        f->path_len = outer + (outer > 0);
        memcpy(f->path + f->path_len, key.text.at, key.text.len);
        f->path_len += key.text.len;
        if (json_peek(r, &type) != OK)
            return render_refuse(why, "data: not readable");
        enum err err = OK;
        struct json_value value;
        if (type == JSON_OBJECT)
            err = json_enter_object(r) == OK ? flatten_members(f, r, why) : ERR_MALFORMED;
        else if (json_read_value(r, &value) == OK)
            write_leaf(f, &value);
        if (err != OK)
            return err;
        f->path_len = outer;
    }
    return OK;
}

enum err flatten_object(struct flatten *f, struct span object, struct fault *why)
{
    struct json_reader r;
    json_reader_init(&r, object);
    if (json_enter_object(&r) != OK)
        return render_refuse(why, "data: not an object");
    return flatten_members(f, &r, why);
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

enum err flatten_check(struct flatten *f, struct fault *why)
{
    if (f->count < 2)
        return OK;
    qsort(f->names, f->count, sizeof f->names[0], by_value);
    for (unsigned i = 1; i < f->count; i++)
        if (f->names[i] == f->names[i - 1])
            return render_refuse(why, "data: two members meet in one name when nested objects are flattened");
    return OK;
}
