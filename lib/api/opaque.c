/* opaque: see opaque.h. */
#include "lib/api/opaque.h"

static bool clean(struct span value)
{
    for (size_t i = 0; i < value.len; i++)
        if (value.at[i] < 0x20 && value.at[i] != '\t')
            return false;
    return true;
}

void opaque_begin(struct opaque *o, struct arena *arena, const char *method, struct span target)
{
    o->failed = !bytes_init_arena(&o->text, arena, OPAQUE_PARTITION_MAX) || !clean(target);
    if (o->failed)
        return;
    o->failed = bytes_append(&o->text, span_str(method)) != OK || bytes_append_byte(&o->text, ' ') != OK ||
                bytes_append(&o->text, target) != OK || bytes_append_byte(&o->text, '\n') != OK;
}

void opaque_header(struct opaque *o, const char *name, struct span value)
{
    opaque_header_span(o, span_str(name), value);
}

void opaque_header_span(struct opaque *o, struct span name, struct span value)
{
    value = span_trim(value);
    if (o->failed || value.at == NULL || !clean(value))
        return;
    size_t before = o->text.len;
    if (bytes_append(&o->text, name) != OK || bytes_append(&o->text, SPAN(": ")) != OK ||
        bytes_append(&o->text, value) != OK || bytes_append_byte(&o->text, '\n') != OK)
        o->text.len = before;
}

void opaque_headers(struct opaque *o, const struct api_request *r, const char *const *names)
{
    for (; *names != NULL; names++)
        opaque_header(o, *names, r->header(r->header_ctx, *names));
}

struct span opaque_partition(struct opaque *o, struct arena *arena)
{
    return o->failed ? (struct span){0} : bytes_finish_arena(&o->text, arena);
}

bool opaque_is(struct span partition)
{
    return partition.len > 0 && memchr(partition.at, '\n', partition.len) != NULL;
}

/* Takes the next line off the front of *rest. */
static bool next_line(struct span *rest, struct span *ret)
{
    const uint8_t *lf = rest->len == 0 ? NULL : memchr(rest->at, '\n', rest->len);
    if (lf == NULL)
        return false;
    *ret = span_of(rest->at, (size_t)(lf - rest->at));
    *rest = span_of(lf + 1, rest->len - ret->len - 1);
    return true;
}

static bool split(struct span line, const char *at, struct span *ret_left, struct span *ret_right)
{
    size_t gap = strlen(at);
    for (size_t i = 0; i + gap <= line.len; i++) {
        if (memcmp(line.at + i, at, gap) != 0)
            continue;
        *ret_left = span_of(line.at, i);
        *ret_right = span_of(line.at + i + gap, line.len - i - gap);
        return true;
    }
    return false;
}

struct span opaque_target(struct span partition)
{
    struct span line, method, target;
    if (next_line(&partition, &line) && split(line, " ", &method, &target))
        return target;
    return SPAN("/");
}

struct span opaque_header_of(struct span partition, const char *name)
{
    struct span line, left, right;
    (void)next_line(&partition, &line);
    while (next_line(&partition, &line))
        if (split(line, ": ", &left, &right) && span_equal_nocase(left, span_str(name)))
            return right;
    return (struct span){0};
}

static struct span user_agent(struct arena *arena, struct span given)
{
    struct bytes out;
    if (given.len == 0 || !bytes_init_arena(&out, arena, given.len + 32) || bytes_append(&out, given) != OK ||
        bytes_append(&out, SPAN(" penstock/" PENSTOCK_VERSION)) != OK)
        return SPAN("penstock/" PENSTOCK_VERSION);
    return bytes_finish_arena(&out, arena);
}

enum err opaque_request(const struct api_settings *s, struct span partition, struct arena *arena,
                        struct api_send *ret)
{
    struct span line, left, right, agent = SPAN("");
    *ret = (struct api_send){.method = "POST", .target = target_join(s, arena, opaque_target(partition))};
    (void)next_line(&partition, &line);
    while (next_line(&partition, &line)) {
        if (!split(line, ": ", &left, &right))
            continue;
        if (span_equal_nocase(left, SPAN("User-Agent")))
            agent = right;
        else if (ret->header_count < 16)
            ret->headers[ret->header_count++] = (struct api_header){.name = left, .value = right};
    }
    send_header(ret, "User-Agent", user_agent(arena, agent));
    return OK;
}
