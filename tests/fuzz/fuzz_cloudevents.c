/* fuzz_cloudevents: neutral events in every form. The first byte chooses the form; whatever is accepted must
 * be writable as one line of JSON that is read again as the same event. */
#include "lib/base/ensure.h"
#include "lib/codec/json.h"
#include "lib/event/cloudevents.h"

static void fill(void *ctx, void *into, size_t len)
{
    (void)ctx;
    memset(into, 7, len);
}

static void check_event(struct event_reading *in, const struct event *e)
{
    struct bytes out;
    struct event again;
    struct fault why;
    bytes_init(&out, event_json_bound(e));
    ensure(event_append_json(&out, e, true) == OK);
    ensure(memchr(out.at, '\n', out.len) == NULL);
    enum err err = event_read_line(in, bytes_span(&out), &again, &why);
    ensure(err == OK || err == ERR_TOO_BIG);
    if (err == OK) {
        ensure(span_equal(e->id, again.id) && span_equal(e->type, again.type) &&
               span_equal(e->source, again.source));
        ensure(span_equal(e->subject, again.subject) && span_equal(e->time, again.time));
        ensure(e->data_kind == again.data_kind && e->ext_count == again.ext_count);
        ensure(again.raw_complete);
    }
    bytes_deinit(&out);
}

/* Lines "name: value" up to an empty one are headers, the rest is the body. */
struct head {
    struct span lines;
};

static bool next_header(const void *ctx, const char *prefix, unsigned *cursor, struct span *name,
                        struct span *value)
{
    const struct head *h = ctx;
    while (*cursor < h->lines.len) {
        struct span rest = span_of(h->lines.at + *cursor, h->lines.len - *cursor);
        const uint8_t *lf = memchr(rest.at, '\n', rest.len);
        size_t len = lf == NULL ? rest.len : (size_t)(lf - rest.at);
        *cursor += (unsigned)(len + 1);
        const uint8_t *colon = memchr(rest.at, ':', len);
        size_t want = strlen(prefix);
        if (colon == NULL || (size_t)(colon - rest.at) < want ||
            !span_equal_nocase(span_of(rest.at, want), span_str(prefix)))
            continue;
        *name = span_of(rest.at, (size_t)(colon - rest.at));
        *value = span_of(colon + 1, len - name->len - 1);
        return true;
    }
    return false;
}

static void read_binary(struct event_reading *in, struct span text)
{
    struct head head = {.lines = text};
    struct span body = SPAN("");
    for (size_t i = 0; i + 1 < text.len; i++)
        if (text.at[i] == '\n' && text.at[i + 1] == '\n') {
            head.lines.len = i;
            body = span_of(text.at + i + 2, text.len - i - 2);
            break;
        }
    struct event_headers headers = {.next = next_header, .ctx = &head};
    struct span type = {0};
    struct span name, value;
    unsigned cursor = 0, warnings = 0;
    if (next_header(&head, "content-type", &cursor, &name, &value))
        type = value;
    struct event e;
    struct fault why;
    if (event_read_binary(in, &headers, type, body, &e, &warnings, &why) == OK)
        check_event(in, &e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena;
    struct uuid_source uuids;
    if (size == 0)
        return 0;
    arena_init(&arena, 4096, 8 << 20);
    uuid_source_init(&uuids, (struct entropy){.fill = fill});
    struct event_reading in = {.agent_name = SPAN("fuzz"),
                               .wall_ns = UINT64_C(1777885953004000000),
                               .uuids = &uuids,
                               .arena = &arena};
    struct span body = span_of(data + 1, size - 1);
    if (data[0] % 6 == 5) {
        read_binary(&in, body);
    } else {
        struct event_list list = {.max = 100};
        struct fault why = {.err = OK};
        uint32_t index;
        enum err err = event_read_body(&in, (enum event_form)(data[0] % 6), body, &list, &index, &why);
        ensure(list.count + list.refusal_count == list.offered);
        ensure(err != OK || list.offered <= 100);
        for (unsigned i = 0; err == OK && i < list.count; i++)
            check_event(&in, &list.events[i]);
    }
    arena_deinit(&arena);
    return 0;
}
