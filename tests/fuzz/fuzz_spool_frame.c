/* fuzz_spool_frame: frame headers, the events of a DATA payload, and letters. The payload is also read with a
 * header whose checksums are good, so that the parsers behind them are reached. */
#include "lib/base/ensure.h"
#include "lib/spool/frame.h"
#include "lib/spool/letters.h"

static void read_events(struct span payload, unsigned count)
{
    struct frame_events events;
    struct spool_item item;
    struct span rest;
    bool whole = frame_events_check(payload, 7, count, &rest);
    if (!frame_events_open(&events, payload, 7, count)) {
        ensure(!whole);
        return;
    }
    unsigned n = 0;
    while (frame_events_next(&events, &item)) {
        ensure(item.seq == 7 + n++);
        ensure(item.body.at >= payload.at && item.body.at + item.body.len <= payload.at + payload.len);
        ensure(item.id.at >= payload.at && item.id.at + item.id.len <= payload.at + payload.len);
    }
    ensure(whole == (n == count));
    ensure(!whole || rest.at + rest.len == payload.at + payload.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct frame f;
    if (size >= FRAME_HEADER_BYTES)
        (void)frame_parse(data, 8192, 5, 1 << 20, &f); /* Almost never one. */
    if (size < 2 || size > (1 << 20))
        return 0;
    uint16_t count = le16_get(data);
    struct span payload = span_of(data + 2, size - 2);
    read_events(payload, count);
    struct bytes copy;
    bytes_init(&copy, size + 256);
    enum err err = bytes_reserve(&copy, FRAME_HEADER_BYTES + payload.len);
    ensure(err == OK);
    frame_begin(copy.at, FRAME_DATA, count % 4, (uint32_t)payload.len, 9);
    if (payload.len > 0)
        memcpy(copy.at + FRAME_HEADER_BYTES, payload.at, payload.len);
    struct frame_place place = {.offset = 8192, .durable = 8192, .tag = 5};
    (void)frame_seal(copy.at, &place);
    bool good = frame_parse(copy.at, 8192, 5, 1 << 20, &f);
    ensure(good);
    ensure(frame_payload_good(&f, 5, copy.at + FRAME_HEADER_BYTES));
    struct spool_letter letter;
    uint16_t api_version;
    if (letter_get(copy.at, &letter, &api_version))
        ensure(letter.reason < SPOOL_DEAD_REASONS && letter.answer.len <= payload.len);
    bytes_deinit(&copy);
    return 0;
}
