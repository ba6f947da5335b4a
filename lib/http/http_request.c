/* http_request: see http_request.h. */
#include "lib/http/http_request.h"

/* Lower-cases the letters of a whole word at once. Header names are tokens, and among token characters only
 * upper-case letters turn into letters or '-' under this mask, so the comparison below is exact. */
static uint64_t fold8(const uint8_t *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word | UINT64_C(0x2020202020202020);
}

static uint32_t fold4(const uint8_t *at)
{
    uint32_t word;
    memcpy(&word, at, sizeof word);
    return word | UINT32_C(0x20202020);
}

/* Both names have the same length, at least 4; the words of an odd length overlap. */
static bool name_is(struct span name, const char *lower)
{
    const uint8_t *want = (const uint8_t *)lower;
    size_t last;
    if (name.len < 8) {
        last = name.len - 4;
        return fold4(name.at) == fold4(want) && fold4(name.at + last) == fold4(want + last);
    }
    last = name.len - 8;
    for (size_t i = 0; i < last; i += 8)
        if (fold8(name.at + i) != fold8(want + i))
            return false;
    return fold8(name.at + last) == fold8(want + last);
}

static enum http_known if_name(struct span name, const char *lower, enum http_known id)
{
    return name_is(name, lower) ? id : HTTP_KNOWN_NONE;
}

enum http_known http_known_of(struct span name)
{
    switch (name.len) {
    case 4:
        return if_name(name, "host", HTTP_KNOWN_HOST);
    case 6:
        if (name_is(name, "expect"))
            return HTTP_KNOWN_EXPECT;
        return if_name(name, "origin", HTTP_KNOWN_ORIGIN);
    case 10:
        return if_name(name, "user-agent", HTTP_KNOWN_USER_AGENT);
    case 12:
        return if_name(name, "content-type", HTTP_KNOWN_CONTENT_TYPE);
    case 13:
        return if_name(name, "authorization", HTTP_KNOWN_AUTHORIZATION);
    case 14:
        return if_name(name, "content-length", HTTP_KNOWN_CONTENT_LENGTH);
    case 16:
        return if_name(name, "content-encoding", HTTP_KNOWN_CONTENT_ENCODING);
    case 17:
        return if_name(name, "transfer-encoding", HTTP_KNOWN_TRANSFER_ENCODING);
    default:
        return HTTP_KNOWN_NONE;
    }
}

struct span http_request_header(const struct http_request *r, struct span name)
{
    for (unsigned i = 0; i < r->header_count; i++) {
        if (r->headers[i].name_len != name.len)
            continue;
        struct http_field f = http_request_field(r, i);
        if (span_equal_nocase(f.name, name))
            return f.value;
    }
    return (struct span){0};
}

struct span http_request_lookup(const void *request, const char *name)
{
    return http_request_header(request, span_str(name));
}

bool http_request_next(const void *request, const char *prefix, unsigned *cursor, struct span *ret_name,
                       struct span *ret_value)
{
    const struct http_request *r = request;
    struct span want = span_str(prefix);
    while (*cursor < r->header_count) {
        struct http_field f = http_request_field(r, (*cursor)++);
        if (f.name.len < want.len || !span_equal_nocase(span_of(f.name.at, want.len), want))
            continue;
        *ret_name = f.name;
        *ret_value = f.value;
        return true;
    }
    return false;
}

/* A span into the old head becomes the same span in the new one; NULL and static text stay. */
static struct span moved(struct span s, struct span from, struct span to)
{
    uintptr_t at = (uintptr_t)s.at, start = (uintptr_t)from.at;
    if (at < start || at > start + from.len || from.len == 0)
        return s;
    return span_of(to.at + (at - start), s.len);
}

struct http_request *http_request_copy(const struct http_request *r, struct arena *arena)
{
    struct http_request *copy = arena_alloc(arena, sizeof *copy);
    size_t table_bytes = r->header_count * sizeof *r->headers;
    struct http_header *headers = arena_alloc(arena, table_bytes + 1);
    struct span head = arena_copy(arena, r->head);
    struct span body = arena_copy(arena, r->body);
    if (copy == NULL || headers == NULL || head.at == NULL || body.at == NULL)
        return NULL;
    if (table_bytes > 0)
        memcpy(headers, r->headers, table_bytes);
    *copy = *r;
    copy->head = head;
    copy->body = body;
    copy->headers = headers;
    copy->method_name = moved(r->method_name, r->head, head);
    copy->target = moved(r->target, r->head, head);
    copy->path = moved(r->path, r->head, head);
    copy->query = moved(r->query, r->head, head);
    return copy;
}
