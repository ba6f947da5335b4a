/* frame: see frame.h. */
#include "lib/spool/frame.h"

#include "lib/base/crc32c.h"
#include "lib/base/ensure.h"
#include "lib/spool/bugs.h"
#include "lib/spool/format.h"
#include "lib/spool/varint.h"

void frame_begin(uint8_t *header, uint8_t type, uint16_t count, uint32_t payload_len, uint64_t seq)
{
    le32_put(header, FRAME_MAGIC);
    header[4] = type;
    header[5] = 0;
    le16_put(header + 6, count);
    le32_put(header + 8, payload_len);
    le64_put(header + 16, seq);
}

uint32_t frame_seal(uint8_t *header, const struct frame_place *place)
{
    ensure(place->offset % FRAME_ALIGN == 0);
    uint32_t len = frame_payload_len(header);
    header[5] = place->flags;
    le32_put(header + 12, (uint32_t)(place->offset / 16));
    le32_put(header + 24, place->tag);
    le32_put(header + 28, (uint32_t)(place->durable / 16));
    le32_put(header + 32, place->prev_hcrc);
    le32_put(header + 36, place->commit);
    le32_put(header + 40, crc32c(place->tag, header + FRAME_HEADER_BYTES, len));
    uint32_t hcrc = crc32c(place->tag, header, 44);
    le32_put(header + 44, hcrc);
    return hcrc;
}

void frames_seal(uint8_t *at, size_t len, struct frame_place *place)
{
    for (const uint8_t *end = at + len; at < end;) {
        size_t bytes = (size_t)frame_bytes(frame_payload_len(at));
        place->prev_hcrc = frame_seal(at, place);
        place->offset += bytes;
        at += bytes;
    }
}

bool frame_parse(const uint8_t *header, uint64_t offset, uint32_t tag, uint64_t payload_max,
                 struct frame *ret)
{
    if (le32_get(header) != FRAME_MAGIC || le32_get(header + 24) != tag ||
        le32_get(header + 12) != (uint32_t)(offset / 16))
        return false;
    if (le32_get(header + 44) != crc32c(tag, header, 44))
        return false;
    struct frame f = {.type = header[4],
                      .flags = header[5],
                      .count = le16_get(header + 6),
                      .payload_len = le32_get(header + 8),
                      .offset16 = le32_get(header + 12),
                      .seq = le64_get(header + 16),
                      .durable16 = le32_get(header + 28),
                      .prev_hcrc = le32_get(header + 32),
                      .commit = le32_get(header + 36),
                      .payload_crc = le32_get(header + 40),
                      .hcrc = le32_get(header + 44)};
    if (f.payload_len > FRAME_PAYLOAD_MAX || f.payload_len > payload_max || f.seq > SEQ_MAX)
        return false;
    *ret = f;
    return true;
}

bool frame_payload_good(const struct frame *f, uint32_t tag, const uint8_t *payload)
{
    return BUG(12) || crc32c(tag, payload, f->payload_len) == f->payload_crc;
}

static bool take_span(const uint8_t **at, const uint8_t *end, struct span *ret)
{
    uint64_t len;
    if (!varint_get(at, end, &len) || len > (uint64_t)(end - *at))
        return false;
    *ret = span_of(*at, (size_t)len);
    *at += len;
    return true;
}

bool frame_events_open(struct frame_events *e, struct span payload, uint64_t seq, unsigned count)
{
    if (payload.len < DATA_HEAD_BYTES)
        return false;
    const uint8_t *at = payload.at;
    uint16_t codec = le16_get(at + 8);
    uint16_t partitions = le16_get(at + 12);
    if (codec != 0 || partitions > FRAME_PARTITIONS_MAX)
        return false;
    e->base_wall_ns = le64_get(at);
    e->api_version = le16_get(at + 10);
    e->partition_count = partitions;
    e->seq = seq;
    e->left = count;
    e->at = at + DATA_HEAD_BYTES;
    e->end = at + payload.len;
    for (unsigned i = 0; i < partitions; i++)
        if (!take_span(&e->at, e->end, &e->partitions[i]))
            return false;
    return true;
}

bool frame_events_next(struct frame_events *e, struct spool_item *ret)
{
    uint64_t body_len, dt, partition, id_len;
    const uint8_t *at = e->at, *end = e->end;
    if (e->left == 0)
        return false;
    if (!varint_get(&at, end, &body_len) || !varint_get(&at, end, &dt) || !varint_get(&at, end, &partition) ||
        !varint_get(&at, end, &id_len))
        return false;
    if (partition > e->partition_count || id_len > (uint64_t)(end - at) ||
        body_len > (uint64_t)(end - at) - id_len)
        return false;
    ret->seq = e->seq++;
    ret->wall_ns = e->base_wall_ns + (uint64_t)unzigzag(dt) * 1000;
    ret->api_version = e->api_version;
    ret->partition = partition == 0 ? (struct span){0} : e->partitions[partition - 1];
    ret->id = span_of(at, (size_t)id_len);
    ret->body = span_of(at + id_len, (size_t)body_len);
    e->at = at + id_len + body_len;
    e->left--;
    return true;
}

bool frame_events_check(struct span payload, uint64_t seq, unsigned count, struct span *ret_rest)
{
    struct frame_events events;
    struct spool_item item;
    if (!frame_events_open(&events, payload, seq, count))
        return false;
    while (frame_events_next(&events, &item))
        ;
    if (events.left > 0)
        return false;
    if (ret_rest != NULL)
        *ret_rest = span_of(events.at, (size_t)(events.end - events.at));
    return true;
}
