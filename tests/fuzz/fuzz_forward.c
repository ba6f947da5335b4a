/* fuzz_forward: any bytes as a connection of the forward protocol. What comes out, messages, entries and the
 * end of it, does not depend on the pieces in which it came in, and every event's data is a JSON object. */
#include "lib/base/ensure.h"
#include "lib/codec/forward.h"
#include "lib/codec/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct forward_limits limits = {
    .message_bytes_max = 4096, .inflated_bytes_max = 65536, .entries_max = 50};

/* What was seen, folded into a number. */
static uint64_t fold(uint64_t sum, uint64_t value)
{
    return (sum ^ value) * UINT64_C(0x9e3779b97f4a7c15) + 1;
}

static uint64_t fold_span(uint64_t sum, struct span s)
{
    for (size_t i = 0; i < s.len; i++)
        sum = fold(sum, s.at[i]);
    return fold(sum, s.len);
}

static uint64_t take_entries(struct forward_message *m, struct msgpack_renderer *r, uint64_t sum)
{
    struct forward_entry e;
    struct bytes out;
    struct fault why;
    size_t expected = 0;
    bytes_init(&out, 1 << 20);
    while (forward_next_entry(m, &e) == OK) {
        ensure(e.index == expected++);
        ensure(e.refusal < FORWARD_REFUSALS && forward_refusal_name(e.refusal) != NULL);
        ensure(e.index < limits.entries_max || e.refusal != FORWARD_TAKEN);
        sum = fold(sum, e.refusal);
        if (e.refusal != FORWARD_TAKEN)
            continue;
        char when[RFC3339_TEXT + 1];
        ensure(rfc3339_format(e.time, when) <= RFC3339_TEXT);
        sum = fold(sum, (uint64_t)e.time.sec + e.time.nsec + e.now);
        bytes_clear(&out);
        if (forward_render_data(r, &e, &out, &why) != OK)
            continue;
        struct json_value v;
        ensure(json_check(bytes_span(&out), &v, NULL) == OK);
        ensure(v.type == JSON_OBJECT && !v.spaced);
        sum = fold_span(sum, bytes_span(&out));
    }
    bytes_deinit(&out);
    return sum;
}

static uint64_t run(struct span stream, size_t step)
{
    struct decoder *decoder = decoder_new();
    struct forward *f = forward_new(&limits, decoder, stream.at[0] == '[');
    struct msgpack_renderer r;
    struct fault why;
    enum err err = ERR_AGAIN;
    uint64_t sum = 0;
    msgpack_renderer_init(&r, MSGPACK_TIMES_FLUENT);
    for (size_t at = 0; at < stream.len && err == ERR_AGAIN; at += step) {
        struct span piece = span_of(stream.at + at, stream.len - at < step ? stream.len - at : step);
        struct forward_message m;
        while ((err = forward_feed(f, &piece, &m, &why)) == OK) {
            sum = fold(fold_span(fold_span(sum, m.tag), m.chunk), m.kind);
            ensure(m.kind != FORWARD_EVENTS || m.refusal != FORWARD_TAKEN || utf8_valid(m.tag));
            ensure(m.chunk.len <= FORWARD_CHUNK_MAX && m.bytes <= limits.message_bytes_max);
            if (m.kind == FORWARD_EVENTS)
                sum = take_entries(&m, &r, sum);
            else
                sum = fold_span(sum, m.ping.password);
        }
        ensure(err != ERR_AGAIN || piece.len == 0);
    }
    ensure(err == ERR_AGAIN || err == ERR_MALFORMED || err == ERR_TOO_BIG);
    sum = fold(sum, err == ERR_AGAIN ? forward_unfinished(f) : 2U + err);
    msgpack_renderer_deinit(&r);
    forward_free(f);
    decoder_free(decoder);
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct span stream = span_of(data + 1, size - 1);
    ensure(run(stream, stream.len) == run(stream, 1 + data[0] % 32U));
    return 0;
}
