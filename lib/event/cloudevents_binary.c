/* cloudevents_binary: the HTTP binding's binary mode (cloudevents/bindings/http-protocol-binding.md
 * section 3.1).
 *
 * Each attribute is a header `ce-NAME`, the body is the data and Content-Type is datacontenttype. A value is
 * unwrapped from double quotes if it has them, percent-decoded once, and must then be UTF-8; JavaScript's
 * SDK does not encode, so that its text arrives as Latin-1: that is taken too, and counted as a warning.
 * Header values have no type, so the attributes that are numbers or booleans are known by name. */
#include "lib/base/ensure.h"
#include "lib/base/hash.h"
#include "lib/base/hex.h"
#include "lib/codec/base64.h"
#include "lib/codec/json.h"
#include "lib/codec/utf8.h"
#include "lib/event/attribute.h"
#include "lib/event/event_parts.h"

struct binary {
    struct event_reading *in;
    struct event *e;
    struct fault *why;
    unsigned *warnings;
    unsigned ext_count;
    bool specversion;
    struct event_ext ext[EVENT_EXTENSIONS_MAX];
};

static enum err refuse(struct binary *b, struct span name, const char *what)
{
    int len = name.len > 40 ? 40 : (int)name.len;
    return fault_set(b->why, ERR_MALFORMED, "ce-%.*s: %s", len, (const char *)name.at, what);
}

static enum err arena_full(struct fault *why)
{
    return fault_set(why, ERR_TOO_BIG, "the event needs more memory than a request may have");
}

/* Steps 1 and 2 of the binding's rule. A % without two digits stands for itself. */
static size_t unwrap(struct span raw, uint8_t *into)
{
    size_t n = 0;
    bool quoted = raw.len >= 2 && raw.at[0] == '"' && raw.at[raw.len - 1] == '"';
    if (quoted)
        raw = span_of(raw.at + 1, raw.len - 2);
    for (size_t i = 0; i < raw.len; i++) {
        if (quoted && raw.at[i] == '\\' && i + 1 < raw.len)
            i++;
        into[n++] = raw.at[i];
    }
    size_t decoded = 0;
    for (size_t i = 0; i < n; i++) {
        int escaped = hex_escaped(span_of(into, n), i);
        into[decoded++] = escaped < 0 ? into[i] : (uint8_t)escaped;
        i += escaped < 0 ? 0 : 2;
    }
    return decoded;
}

static enum err decode_value(struct binary *b, struct span name, struct span raw, struct span *ret)
{
    if (raw.len > 3 * EVENT_ATTRIBUTE_MAX)
        return refuse(b, name, "longer than 8192 bytes");
    uint8_t *text = arena_alloc(b->in->arena, 2 * raw.len + 1); /* Latin-1 may double it */
    if (text == NULL)
        return arena_full(b->why);
    size_t len = unwrap(raw, text);
    if (!utf8_valid(span_of(text, len))) {
        uint8_t *latin = text + raw.len;
        memmove(latin, text, len);
        size_t n = 0;
        for (size_t i = 0; i < len; i++)
            n += utf8_encode(latin[i], text + n); /* n never passes latin + i: two bytes for one at most */
        len = n;
        ++*b->warnings;
    }
    arena_shrink(b->in->arena, text, 2 * raw.len + 1, len == 0 ? 1 : len);
    *ret = span_of(text, len);
    const char *fault = attribute_text_fault(*ret);
    return fault == NULL ? OK : refuse(b, name, fault);
}

/* --- attributes --------------------------------------------------------------------------------- */

static enum err set_once(struct binary *b, struct span name, struct span value, struct span *field)
{
    if (field->at != NULL)
        return refuse(b, name, "appears twice");
    if (value.len == 0)
        return refuse(b, name, "must not be empty");
    *field = value;
    return OK;
}

static enum err take_specversion(struct binary *b, struct span name, struct span value)
{
    if (b->specversion)
        return refuse(b, name, "appears twice");
    b->specversion = true;
    return span_is(value, "1.0") ? OK : refuse(b, name, "must be 1.0");
}

static enum err take_time(struct binary *b, struct span name, struct span value)
{
    enum err err = set_once(b, name, value, &b->e->time);
    if (err == OK && !rfc3339_parse(value, &b->e->time_at))
        return refuse(b, name, "not an RFC 3339 timestamp");
    b->e->time_given = true;
    return err;
}

static enum err take_uri(struct binary *b, struct span name, struct span value, bool absolute,
                         struct span *field)
{
    enum err err = set_once(b, name, value, field);
    const char *fault = err == OK ? attribute_uri_fault(value, absolute) : NULL;
    return fault == NULL ? err : refuse(b, name, fault);
}

static enum err take_sampledrate(struct binary *b, struct span name, struct span value)
{
    uint64_t rate;
    if (b->e->sampledrate_given)
        return refuse(b, name, "appears twice");
    if (!span_u64(value, &rate) || rate < 1 || rate > INT32_MAX)
        return refuse(b, name, "must be a whole number from 1 to 2147483647");
    b->e->sampledrate = (uint32_t)rate;
    b->e->sampledrate_given = true;
    return OK;
}

static enum err take_extension(struct binary *b, struct span name, struct span value)
{
    if (!attribute_name_ok(name))
        return refuse(b, name, "not an attribute name (only a-z and 0-9)");
    for (unsigned i = 0; i < b->ext_count; i++)
        if (span_equal(b->ext[i].name, name))
            return refuse(b, name, "appears twice");
    if (b->ext_count == EVENT_EXTENSIONS_MAX)
        return refuse(b, name, "more than 64 extension attributes");
    struct event_ext *ext = &b->ext[b->ext_count++];
    *ext = (struct event_ext){.name = name, .value = value, .type = EVENT_EXT_STRING};
    uint64_t number;
    if (span_is(name, "severitynumber") && span_u64(value, &number) && number <= INT32_MAX &&
        (value.len == 1 || value.at[0] != '0'))
        ext->type = EVENT_EXT_INTEGER;
    if (span_is(name, "deprecated") && (span_is(value, "true") || span_is(value, "false")))
        ext->type = EVENT_EXT_BOOL;
    const char *fault = attribute_extension_fault(ext);
    return fault == NULL ? OK : refuse(b, name, fault);
}

static enum err take_header(struct binary *b, struct span name, struct span raw)
{
    struct span value;
    struct event *e = b->e;
    if (span_is(name, "datacontenttype")) /* Content-Type says it */
        return OK;
    enum err err = decode_value(b, name, span_trim(raw), &value);
    if (err != OK)
        return err;
    if (span_is(name, "specversion"))
        return take_specversion(b, name, value);
    if (span_is(name, "id")) {
        e->id_given = true;
        return set_once(b, name, value, &e->id);
    }
    if (span_is(name, "source")) {
        e->source_given = true;
        return take_uri(b, name, value, false, &e->source);
    }
    if (span_is(name, "type"))
        return set_once(b, name, value, &e->type);
    if (span_is(name, "subject"))
        return set_once(b, name, value, &e->subject);
    if (span_is(name, "time"))
        return take_time(b, name, value);
    if (span_is(name, "dataschema"))
        return take_uri(b, name, value, true, &e->dataschema);
    if (span_is(name, "sampledrate"))
        return take_sampledrate(b, name, value);
    return take_extension(b, name, value);
}

static enum err take_headers(struct binary *b, const struct event_headers *headers)
{
    unsigned cursor = 0;
    struct span name, value;
    while (headers->next(headers->ctx, "ce-", &cursor, &name, &value)) {
        if (name.len <= 3 || name.len > 3 + EVENT_ATTRIBUTE_MAX)
            continue;
        uint8_t *lower = arena_alloc(b->in->arena, name.len - 3);
        if (lower == NULL)
            return arena_full(b->why);
        for (size_t i = 3; i < name.len; i++)
            lower[i - 3] = name.at[i] >= 'A' && name.at[i] <= 'Z' ? (uint8_t)(name.at[i] | 0x20) : name.at[i];
        struct span attribute = span_of(lower, name.len - 3);
        b->e->content_hash = hash64(value, hash64(attribute, b->e->content_hash));
        enum err err = take_header(b, attribute, value);
        if (err != OK)
            return err;
    }
    return OK;
}

/* --- data --------------------------------------------------------------------------------------- */

static enum err data_as_json(struct binary *b, struct span body)
{
    static const enum event_data kinds[] = {
        [JSON_NULL] = EVENT_DATA_NULL,     [JSON_FALSE] = EVENT_DATA_BOOL,    [JSON_TRUE] = EVENT_DATA_BOOL,
        [JSON_NUMBER] = EVENT_DATA_NUMBER, [JSON_STRING] = EVENT_DATA_STRING, [JSON_ARRAY] = EVENT_DATA_ARRAY,
        [JSON_OBJECT] = EVENT_DATA_OBJECT,
    };
    struct json_value value;
    if (json_check(body, &value, b->why) != OK)
        return b->why->err = ERR_MALFORMED, fault_context(b->why, "data: declared as JSON, but");
    b->e->data_kind = kinds[value.type];
    b->e->data = value.text;
    b->e->data_spaced = value.spaced;
    return OK;
}

static enum err data_as_text(struct binary *b, struct span body)
{
    struct bytes out;
    if (!bytes_init_arena(&out, b->in->arena, 6 * body.len + 2))
        return arena_full(b->why);
    if (json_append_string(&out, body) != OK)
        return arena_full(b->why);
    b->e->data = bytes_finish_arena(&out, b->in->arena);
    b->e->data_kind = EVENT_DATA_STRING;
    return OK;
}

static enum err data_as_base64(struct binary *b, struct span body)
{
    struct bytes out;
    if (!bytes_init_arena(&out, b->in->arena, (body.len + 2) / 3 * 4))
        return arena_full(b->why);
    if (base64_append(&out, body) != OK)
        return arena_full(b->why);
    b->e->data = bytes_finish_arena(&out, b->in->arena);
    b->e->data_kind = EVENT_DATA_BASE64;
    return OK;
}

/* Text in another charset than UTF-8 is bytes to us. */
static bool other_charset(struct span content_type)
{
    static const char name[] = "charset=";
    for (size_t i = 0; i + sizeof name - 1 <= content_type.len; i++) {
        if (!span_equal_nocase(span_of(content_type.at + i, sizeof name - 1), span_str(name)))
            continue;
        struct span rest =
            span_of(content_type.at + i + sizeof name - 1, content_type.len - i - (sizeof name - 1));
        if (rest.len > 0 && rest.at[0] == '"')
            rest = span_of(rest.at + 1, rest.len - 1);
        return !(rest.len >= 4 && span_equal_nocase(span_of(rest.at, 4), SPAN("utf8"))) &&
               !(rest.len >= 5 && span_equal_nocase(span_of(rest.at, 5), SPAN("utf-8"))) &&
               !(rest.len >= 8 && span_equal_nocase(span_of(rest.at, 8), SPAN("us-ascii")));
    }
    return false;
}

/* curl says this of every body, so it says nothing. */
static bool says_nothing(struct span content_type, struct span body)
{
    if (content_type.len == 0)
        return true;
    return span_equal_nocase(content_type, SPAN("application/x-www-form-urlencoded")) && body.len > 0 &&
           (body.at[0] == '{' || body.at[0] == '[');
}

static enum err take_body(struct binary *b, struct span content_type, struct span body)
{
    if (body.len == 0)
        return OK;
    b->e->content_hash = hash64(body, hash64(content_type, b->e->content_hash));
    if (says_nothing(content_type, body)) {
        if (json_check(body, NULL, NULL) == OK)
            return data_as_json(b, body);
        return data_as_base64(b, body);
    }
    if (!attribute_type_ok(content_type) || !utf8_valid(content_type) ||
        attribute_text_fault(content_type) != NULL)
        return fault_set(b->why, ERR_MALFORMED, "Content-Type: not a media type");
    b->e->datacontenttype = content_type;
    if (attribute_type_is_json(content_type))
        return data_as_json(b, body);
    if (attribute_type_is_text(content_type) && utf8_valid(body) && !other_charset(content_type))
        return data_as_text(b, body);
    return data_as_base64(b, body);
}

enum err event_read_binary(struct event_reading *in, const struct event_headers *headers,
                           struct span content_type, struct span body, struct event *ret, unsigned *warnings,
                           struct fault *why)
{
    struct fault unread;
    struct binary b;
    b.in = in;
    b.e = ret;
    b.why = why == NULL ? &unread : why;
    b.warnings = warnings;
    b.ext_count = 0;
    b.specversion = false;
    *ret = (struct event){.sampledrate = 0};
    enum err err = take_headers(&b, headers);
    if (err != OK)
        return err;
    const char *missing = !b.specversion           ? "ce-specversion"
                          : ret->id.at == NULL     ? "ce-id"
                          : ret->source.at == NULL ? "ce-source"
                          : ret->type.at == NULL   ? "ce-type"
                                                   : NULL;
    if (missing != NULL)
        return fault_set(b.why, ERR_MALFORMED, "%s: required", missing);
    ret->specversion_given = true;
    err = take_body(&b, span_trim(content_type), body);
    if (err != OK)
        return err;
    if (b.ext_count > 0) {
        struct event_ext *kept = arena_alloc(in->arena, b.ext_count * sizeof *kept);
        if (kept == NULL)
            return arena_full(b.why);
        memcpy(kept, b.ext, b.ext_count * sizeof *kept);
        ret->ext = kept;
        ret->ext_count = b.ext_count;
    }
    return event_complete(in, ret, b.why);
}
