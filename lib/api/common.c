/* common: answers and requests; see common.h. The upstream helpers are in common_upstream.c. */
#include "lib/api/common.h"

#include "lib/base/hash.h"
#include "lib/base/hex.h"
#include "lib/codec/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* --- text in the arena -------------------------------------------------------------------------- */

struct span json_text(struct arena *arena, struct span text)
{
    struct bytes out;
    if (!bytes_init_arena(&out, arena, 6 * text.len + 2) || json_append_string_lossy(&out, text, NULL) != OK)
        return SPAN("\"\"");
    return bytes_finish_arena(&out, arena);
}

static struct span arena_vprintf(struct arena *arena, const char *format, va_list args)
{
    char text[1024];
    int n = vsnprintf(text, sizeof text, format, args);
    if (n < 0)
        return SPAN("");
    struct span copy =
        arena_copy(arena, span_of(text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1));
    return copy.at == NULL ? SPAN("") : copy;
}

struct span arena_printf(struct arena *arena, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    struct span text = arena_vprintf(arena, format, args);
    va_end(args);
    return text;
}

/* --- shapes of errors --------------------------------------------------------------------------- */

static struct span join(struct arena *arena, const struct span *parts, unsigned count)
{
    struct bytes out;
    size_t len = 0;
    for (unsigned i = 0; i < count; i++)
        len += parts[i].len;
    if (!bytes_init_arena(&out, arena, len))
        return SPAN("{}");
    for (unsigned i = 0; i < count; i++)
        if (bytes_append(&out, parts[i]) != OK)
            return SPAN("{}");
    return bytes_finish_arena(&out, arena);
}

struct span shape_code_message(struct arena *arena, unsigned status, struct span code, struct span text)
{
    (void)status;
    return join(arena,
                (struct span[]){SPAN("{\"error\":{\"code\":"), code, SPAN(",\"message\":"), text, SPAN("}}")},
                5);
}

struct span shape_message_code(struct arena *arena, unsigned status, struct span code, struct span text)
{
    (void)status;
    return join(arena,
                (struct span[]){SPAN("{\"error\":{\"message\":"), text, SPAN(",\"code\":"), code, SPAN("}}")},
                5);
}

struct span shape_error(struct arena *arena, unsigned status, struct span code, struct span text)
{
    (void)status, (void)code;
    return join(arena, (struct span[]){SPAN("{\"error\":"), text, SPAN("}")}, 3);
}

struct span shape_message(struct arena *arena, unsigned status, struct span code, struct span text)
{
    (void)status, (void)code;
    return join(arena, (struct span[]){SPAN("{\"message\":"), text, SPAN("}")}, 3);
}

struct span shape_detail(struct arena *arena, unsigned status, struct span code, struct span text)
{
    (void)status, (void)code;
    return join(arena, (struct span[]){SPAN("{\"detail\":"), text, SPAN("}")}, 3);
}

/* --- answers ------------------------------------------------------------------------------------ */

void answer_header(struct api_answer *ret, struct span name, struct span value)
{
    if (ret->header_count < sizeof ret->headers / sizeof ret->headers[0])
        ret->headers[ret->header_count++] = (struct api_header){.name = name, .value = value};
}

void answer_json(struct api_answer *ret, unsigned status, struct span body)
{
    *ret = (struct api_answer){.status = status, .content_type = SPAN("application/json"), .body = body};
}

void answer_printf(struct arena *arena, struct api_answer *ret, unsigned status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    struct span body = arena_vprintf(arena, format, args);
    va_end(args);
    answer_json(ret, status, body.len == 0 ? SPAN("{}") : body);
}

/* The methods that the path of this exchange knows, for Allow. */
static struct span allowed(const struct api_exchange *x)
{
    struct bytes out;
    if (x->api == NULL || x->path == NULL || !bytes_init_arena(&out, x->arena, 64))
        return SPAN("POST");
    for (unsigned i = 0; i < x->api->path_count; i++) {
        const struct api_path *p = &x->api->paths[i];
        if (p->method[0] == '*' || strcmp(p->pattern, x->path->pattern) != 0 || (p->hidden && !x->webhook))
            continue;
        if (out.len > 0 && bytes_append(&out, SPAN(", ")) != OK)
            break;
        if (bytes_append(&out, span_str(p->method)) != OK)
            break;
    }
    return bytes_finish_arena(&out, x->arena);
}

void answer_condition(const struct api_exchange *x, const struct answer_row *rows, answer_shape *shape,
                      enum api_condition condition, struct span text, struct api_answer *ret)
{
    const struct answer_row *row = &rows[condition];
    unsigned status = row->status == 0 ? 500 : row->status;
    if (text.len == 0)
        text = span_str(row->text == NULL ? "this should not have happened" : row->text);
    struct span code = json_text(x->arena, span_str(row->code == NULL ? "internal" : row->code));
    answer_json(ret, status, shape(x->arena, status, code, json_text(x->arena, text)));
    if (row->retry_after_s != 0)
        answer_header(ret, SPAN("Retry-After"), arena_printf(x->arena, "%u", row->retry_after_s));
    if (status == 405)
        answer_header(ret, SPAN("Allow"), allowed(x));
    if (status == 415 && condition == COND_BAD_ENCODING)
        answer_header(ret, SPAN("Accept-Encoding"), SPAN("gzip, deflate, zstd"));
}

void answer_error(struct api_exchange *x, answer_shape *shape, unsigned status, const char *code,
                  const char *format, ...)
{
    va_list args;
    va_start(args, format);
    struct span text = arena_vprintf(x->arena, format, args);
    va_end(args);
    struct span quoted = json_text(x->arena, span_str(code));
    answer_json(&x->answer, status, shape(x->arena, status, quoted, json_text(x->arena, text)));
}

static int by_index(const void *a, const void *b)
{
    const struct api_rejection *left = a, *right = b;
    return left->index < right->index ? -1 : left->index > right->index;
}

void sort_rejections(struct api_exchange *x)
{
    for (unsigned i = 1; i < x->rejection_count; i++)
        if (x->rejections[i - 1].index > x->rejections[i].index) {
            qsort(x->rejections, x->rejection_count, sizeof x->rejections[0], by_index);
            return;
        }
}

/* --- requests ----------------------------------------------------------------------------------- */

struct span media_type(struct span content_type)
{
    const uint8_t *semicolon = content_type.len == 0 ? NULL : memchr(content_type.at, ';', content_type.len);
    if (semicolon != NULL)
        content_type.len = (size_t)(semicolon - content_type.at);
    return span_trim(content_type);
}

bool media_is_utf8(struct span content_type)
{
    const struct span name = SPAN("charset=");
    const uint8_t *parameters = content_type.len == 0 ? NULL : memchr(content_type.at, ';', content_type.len);
    if (parameters == NULL)
        return true;
    for (size_t i = (size_t)(parameters - content_type.at); i + name.len <= content_type.len; i++) {
        if (!span_equal_nocase(span_of(content_type.at + i, name.len), name))
            continue;
        struct span value = span_of(content_type.at + i + name.len, content_type.len - i - name.len);
        const uint8_t *end = value.len == 0 ? NULL : memchr(value.at, ';', value.len);
        if (end != NULL)
            value.len = (size_t)(end - value.at);
        value = span_trim(value);
        if (value.len >= 2 && value.at[0] == '"' && value.at[value.len - 1] == '"')
            value = span_of(value.at + 1, value.len - 2);
        return span_equal_nocase(value, SPAN("utf-8")) || span_equal_nocase(value, SPAN("utf8")) ||
               span_equal_nocase(value, SPAN("us-ascii"));
    }
    return true;
}

static bool begins_like_json(struct span body)
{
    for (size_t i = 0; i < body.len; i++) {
        uint8_t c = body.at[i];
        if (c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == 0xef || c == 0xbb || c == 0xbf)
            continue;
        return c == '{' || c == '[';
    }
    return false;
}

bool body_is_json(const struct api_request *r)
{
    struct span type = media_type(r->content_type);
    if (type.len == 0 || span_equal_nocase(type, SPAN("application/x-www-form-urlencoded")))
        return begins_like_json(r->body);
    return span_equal_nocase(type, SPAN("application/json")) || span_equal_nocase(type, SPAN("text/json"));
}

bool path_decode(struct arena *arena, struct span raw, struct span *ret)
{
    uint8_t *text = arena_alloc(arena, raw.len + 1);
    size_t n = 0;
    if (text == NULL)
        return false;
    for (size_t i = 0; i < raw.len; i++) {
        uint8_t c = raw.at[i];
        if (c == '%') {
            int escaped = hex_escaped(raw, i);
            if (escaped < 0)
                return false;
            c = (uint8_t)escaped;
            i += 2;
        }
        if (c < 0x20 || c == 0x7f)
            return false;
        text[n++] = c;
    }
    *ret = span_of(text, n);
    return utf8_valid(*ret);
}

enum err path_encode(struct bytes *out, struct span segment)
{
    static const char digits[] = "0123456789ABCDEF";
    enum err err = OK;
    for (size_t i = 0; err == OK && i < segment.len; i++) {
        uint8_t c = segment.at[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                     c == '.' || c == '_' || c == '~';
        if (plain)
            err = bytes_append_byte(out, c);
        else
            err = bytes_append(
                out, span_of((uint8_t[]){'%', (uint8_t)digits[c >> 4], (uint8_t)digits[c & 15]}, 3));
    }
    return err;
}

struct span path_rest(struct span path, unsigned count)
{
    size_t at = path.len > 0 && path.at[0] == '/' ? 1 : 0;
    while (count > 0 && at < path.len)
        if (path.at[at++] == '/')
            count--;
    struct span rest = span_of(path.at + at, path.len - at);
    if (count > 0)
        return SPAN("");
    if (rest.len > 0 && rest.at[rest.len - 1] == '/')
        rest.len--;
    return rest;
}

struct span path_segment(struct span path, unsigned index)
{
    struct span rest = path_rest(path, index);
    const uint8_t *slash = rest.len == 0 ? NULL : memchr(rest.at, '/', rest.len);
    if (slash != NULL)
        rest.len = (size_t)(slash - rest.at);
    return rest;
}

/* --- wrapped bodies ----------------------------------------------------------------------------- */

static enum err wrapper_members(struct json_reader *r, const char *name, const char *also, bool opened,
                                struct fault *why)
{
    struct json_key key;
    struct json_value value;
    enum err err;
    while ((err = json_next_member(r, &key)) == OK) {
        if (json_key_is(&key, name) && !opened) {
            err = json_enter_array(r);
            if (err == ERR_UNSUPPORTED)
                return fault_set(why, err, "%s: must be an array", name);
            return err == OK ? OK : json_fault(r, ERR_MALFORMED, why);
        }
        if (also == NULL || !json_key_is(&key, also))
            return fault_set(why, ERR_UNSUPPORTED, "%.*s: %s", key.text.len > 40 ? 40 : (int)key.text.len,
                             (const char *)key.text.at,
                             json_key_is(&key, name) ? "appears twice" : "unknown");
        if (json_read_value(r, &value) == ERR_MALFORMED)
            return json_fault(r, ERR_MALFORMED, why);
    }
    if (err != ERR_NOT_FOUND)
        return json_fault(r, ERR_MALFORMED, why);
    if (!opened)
        return fault_set(why, ERR_UNSUPPORTED, "%s: required", name);
    return json_finish(r) == OK ? OK : json_fault(r, ERR_MALFORMED, why);
}

enum err wrapper_open(struct json_reader *r, const char *name, const char *also, struct fault *why)
{
    enum err err = json_enter_object(r);
    if (err == ERR_UNSUPPORTED)
        return fault_set(why, err, "the body must be an object");
    if (err != OK)
        return json_fault(r, ERR_MALFORMED, why);
    return wrapper_members(r, name, also, false, why);
}

enum err wrapper_close(struct json_reader *r, const char *name, const char *also, struct fault *why)
{
    return wrapper_members(r, name, also, true, why);
}

uint64_t sender_hash(const struct api_exchange *x)
{
    static const char *const names[] = {"Authorization", "X-Honeycomb-Team"};
    uint64_t hash = hash64(span_str(x->api->name), 0);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct span value = x->request->header == NULL ? (struct span){0}
                                                       : x->request->header(x->request->header_ctx, names[i]);
        if (value.at != NULL)
            hash = hash64(span_trim(value), hash);
    }
    return hash;
}

uint64_t id_hash(const struct api_exchange *x, struct span id)
{
    return hash64(id, sender_hash(x));
}

/* --- items -------------------------------------------------------------------------------------- */

struct api_item item_of_event(const struct event *e, struct span body)
{
    return (struct api_item){
        .body = body,
        .key_hash = e->key_hash,
        .content_hash = e->content_hash,
        .expires_ns = event_expires_ns(e),
        .weight = 1,
        .index = e->index,
    };
}

enum err render_too_big(struct fault *why, uint64_t limit)
{
    return fault_set(why, ERR_TOO_BIG, "larger than %llu bytes", (unsigned long long)limit);
}

enum err render_refuse(struct fault *why, const char *format, ...)
{
    char text[200];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return fault_set(why, ERR_MALFORMED, "%s", text);
}

struct api_item *items_new(struct api_exchange *x, unsigned count)
{
    x->items = arena_alloc(x->arena, (count == 0 ? 1 : count) * sizeof *x->items);
    return x->items;
}

bool option_is(const struct api_settings *s, const char *name, const char *value)
{
    const struct span *found = s == NULL || s->option_count == 0 ? NULL : api_option(s, name);
    return found != NULL && span_is(*found, value);
}

bool option_on(const struct api_settings *s, const char *name)
{
    return option_is(s, name, "true") || option_is(s, name, "yes") || option_is(s, name, "on");
}

unsigned events_max(const struct api_exchange *x)
{
    return x->events_max == 0 ? EVENTS_MAX_DEFAULT : x->events_max;
}

uint64_t event_bytes_max(const struct api_exchange *x)
{
    return x->settings == NULL ? x->api->limits.event_bytes : x->settings->limits.event_bytes;
}
