/* attribute: see attribute.h. */
#include "lib/event/attribute.h"

#include "lib/base/hex.h"
#include "lib/codec/json.h"
#include "lib/codec/rfc3339.h"

bool attribute_name_ok(struct span name)
{
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.at[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')))
            return false;
    }
    return name.len > 0 && !span_equal(name, SPAN("data"));
}

static bool printable_word(uint64_t v)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), highs = ones << 7;
    /* v + 1 carries DEL into the high bit; (v - 0x20) & ~v finds what is below a space. A carry may raise a
     * false alarm, never hide anything: the slow loop decides then. */
    return ((v | (v + ones) | ((v - ones * 0x20) & ~v)) & highs) == 0;
}

static uint64_t load8(const uint8_t *at)
{
    uint64_t v;
    memcpy(&v, at, sizeof v);
    return v;
}

/* Nothing but U+0020 to U+007E, eight bytes at a time; the last eight may overlap those before. False may
 * also be a false alarm. */
static bool printable_ascii(struct span s)
{
    const uint8_t *at = s.at, *end = s.at + s.len;
    if (s.len < 8) {
        while (at < end && *at >= 0x20 && *at < 0x7f)
            at++;
        return at == end;
    }
    for (; end - at > 8; at += 8)
        if (!printable_word(load8(at)))
            return false;
    return printable_word(load8(end - 8));
}

static bool noncharacter(uint32_t code)
{
    return (code & 0xfffe) == 0xfffe || (code >= 0xfdd0 && code <= 0xfdef);
}

static uint32_t decode(const uint8_t **at)
{
    const uint8_t *p = *at;
    if (p[0] < 0x80) {
        *at = p + 1;
        return p[0];
    }
    if (p[0] < 0xe0) {
        *at = p + 2;
        return (uint32_t)(p[0] & 0x1f) << 6 | (p[1] & 0x3f);
    }
    if (p[0] < 0xf0) {
        *at = p + 3;
        return (uint32_t)(p[0] & 0x0f) << 12 | (uint32_t)(p[1] & 0x3f) << 6 | (p[2] & 0x3f);
    }
    *at = p + 4;
    return (uint32_t)(p[0] & 0x07) << 18 | (uint32_t)(p[1] & 0x3f) << 12 | (uint32_t)(p[2] & 0x3f) << 6 |
           (p[3] & 0x3f);
}

const char *attribute_text_fault(struct span text)
{
    if (text.len > EVENT_ATTRIBUTE_MAX)
        return "longer than 8192 bytes";
    if (printable_ascii(text))
        return NULL;
    const uint8_t *at = text.at, *end = text.at + text.len;
    while (at < end) {
        uint32_t code = decode(&at);
        if (code < 0x20 || (code >= 0x7f && code <= 0x9f))
            return "has a control character";
        if (noncharacter(code))
            return "has a character that Unicode reserves (a noncharacter)";
    }
    return NULL;
}

static bool alpha(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool has_scheme(struct span text)
{
    if (text.len == 0 || !alpha(text.at[0]))
        return false;
    for (size_t i = 1; i < text.len; i++) {
        uint8_t c = text.at[i];
        if (c == ':')
            return true;
        if (!alpha(c) && !(c >= '0' && c <= '9') && c != '+' && c != '-' && c != '.')
            return false;
    }
    return false;
}

/* What no part of a URI may hold (RFC 3986 section 2), and the percent sign, which wants a second look. */
static const bool odd_in_uri[256] = {
    [0 ... ' '] = true, ['"'] = true, ['%'] = true, ['<'] = true, ['>'] = true, ['\\'] = true,
    ['^'] = true,       ['`'] = true, ['{'] = true, ['|'] = true, ['}'] = true, [0x7f] = true,
};

const char *attribute_uri_fault(struct span text, bool absolute)
{
    if (text.len == 0)
        return "must not be empty";
    for (size_t i = 0; i < text.len; i++) {
        if (!odd_in_uri[text.at[i]])
            continue;
        if (text.at[i] != '%')
            return "not a URI (it has a space or another character that no URI may hold)";
        if (hex_escaped(text, i) < 0)
            return "not a URI (% without two hexadecimal digits)";
    }
    if (absolute && !has_scheme(text))
        return "not an absolute URI (no scheme)";
    return NULL;
}

/* --- well-known extensions ---------------------------------------------------------------------- */

enum rule { RULE_STRING, RULE_FULL_STRING, RULE_COUNT, RULE_BOOL, RULE_TIME, RULE_URI };

static const struct {
    const char *name;
    enum rule rule;
} known_extensions[] = {
    {"authclaims", RULE_STRING},         {"authid", RULE_STRING},
    {"authtype", RULE_FULL_STRING},      {"causationid", RULE_FULL_STRING},
    {"correlationid", RULE_FULL_STRING}, {"dataref", RULE_URI},
    {"dataset", RULE_FULL_STRING},       {"deprecated", RULE_BOOL},
    {"environment", RULE_FULL_STRING},   {"expirytime", RULE_TIME},
    {"partitionkey", RULE_FULL_STRING},  {"project", RULE_FULL_STRING},
    {"recordedtime", RULE_TIME},         {"sequence", RULE_FULL_STRING},
    {"severitynumber", RULE_COUNT},      {"severitytext", RULE_FULL_STRING},
    {"traceparent", RULE_FULL_STRING},   {"tracestate", RULE_STRING},
};

static const char *string_fault(const struct event_ext *ext, enum rule rule)
{
    struct instant at;
    if (ext->type != EVENT_EXT_STRING)
        return "must be a string";
    if (rule == RULE_STRING)
        return NULL;
    if (ext->value.len == 0)
        return "must not be empty";
    if (rule == RULE_URI)
        return attribute_uri_fault(ext->value, false);
    if (rule == RULE_TIME && !rfc3339_parse(ext->value, &at))
        return "not an RFC 3339 timestamp";
    return NULL;
}

const char *attribute_extension_fault(const struct event_ext *ext)
{
    for (size_t i = 0; i < sizeof known_extensions / sizeof known_extensions[0]; i++) {
        if (known_extensions[i].name[0] != (char)ext->name.at[0] ||
            !span_is(ext->name, known_extensions[i].name))
            continue;
        switch (known_extensions[i].rule) {
        case RULE_COUNT:
            return ext->type == EVENT_EXT_INTEGER && ext->value.at[0] != '-'
                       ? NULL
                       : "must be a whole number from 0 up";
        case RULE_BOOL:
            return ext->type == EVENT_EXT_BOOL ? NULL : "must be true or false";
        default:
            return string_fault(ext, known_extensions[i].rule);
        }
    }
    return NULL;
}

bool attribute_base64_ok(struct span text)
{
    size_t len = text.len;
    if (len % 4 != 0)
        return false;
    for (int padding = 0; padding < 2 && len > 0 && text.at[len - 1] == '='; padding++)
        len--;
    for (size_t i = 0; i < len; i++) {
        uint8_t c = text.at[i];
        if (!alpha(c) && !(c >= '0' && c <= '9') && c != '+' && c != '/')
            return false;
    }
    return true;
}

/* --- media types -------------------------------------------------------------------------------- */

static struct span essence(struct span type)
{
    for (size_t i = 0; i < type.len; i++)
        if (type.at[i] == ';')
            type.len = i;
    return span_trim(type);
}

static bool ends_nocase(struct span s, struct span end)
{
    return s.len >= end.len && span_equal_nocase(span_of(s.at + s.len - end.len, end.len), end);
}

bool attribute_type_is_json(struct span type)
{
    type = essence(type);
    return type.len == 0 || ends_nocase(type, SPAN("/json")) || ends_nocase(type, SPAN("+json"));
}

bool attribute_type_is_text(struct span type)
{
    type = essence(type);
    if (type.len >= 5 && span_equal_nocase(span_of(type.at, 5), SPAN("text/")))
        return true;
    return ends_nocase(type, SPAN("/xml")) || ends_nocase(type, SPAN("+xml")) ||
           ends_nocase(type, SPAN("/javascript")) || ends_nocase(type, SPAN("/yaml")) ||
           ends_nocase(type, SPAN("/x-www-form-urlencoded"));
}

static bool token(struct span s)
{
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.at[i];
        if (c <= ' ' || c >= 0x7f || memchr("()<>@,;:\\\"/[]?=", c, 15) != NULL)
            return false;
    }
    return s.len > 0;
}

bool attribute_type_ok(struct span type)
{
    type = essence(type);
    const uint8_t *slash = type.len == 0 ? NULL : memchr(type.at, '/', type.len);
    if (slash == NULL)
        return false;
    size_t main_len = (size_t)(slash - type.at);
    return token(span_of(type.at, main_len)) && token(span_of(slash + 1, type.len - main_len - 1));
}
