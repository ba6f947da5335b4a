/* frame: the unit of the log that one checksum covers. Format version 1, little-endian, starts on 16 bytes.
 *
 * Header, 48 bytes:
 *    0 u32 magic 0x314D5246 | 4 u8 type | 5 u8 flags | 6 u16 count of events | 8 u32 payload_len |
 *   12 u32 own offset / 16 | 16 u64 seq | 24 u32 tag | 28 u32 durable16 | 32 u32 prev_hcrc |
 *   36 u32 commit number | 40 u32 crc32c(payload) seeded with tag | 44 u32 crc32c(bytes 0..43) seeded with
 * tag
 *
 * The own offset and the tag (made from the segment's random salt) reject frames that are misplaced, left
 * over from an earlier life of a recycled file, or embedded in somebody's payload. prev_hcrc chains each
 * frame to the one before it (the first to the segment's header), which rejects what an aborted write left
 * behind the end. durable16 says how far this segment was proven durable when the frame was built: that
 * tells a torn tail from corruption. seq is that of the first event (DATA) or the next one to come.
 *
 * Payload of DATA:
 *   u64 base_wall_ns | u16 codec (0: plain) | u16 api version | u16 n | u16 zero |
 *   n partition names (varint length, bytes) |
 *   per event: varint body_len | varint zigzag(µs since base) | varint partition + 1 (0: none) |
 *              varint id_len | id | body
 *   | extension: whatever follows the last event (dead letters use it)
 * The names are local to the frame, so that damage elsewhere cannot misroute its events.
 * Payload of CTRL: ops (ops.h). Of PAD: anything. */
#ifndef PENSTOCK_SPOOL_FRAME_H
#define PENSTOCK_SPOOL_FRAME_H

#include "lib/base/bytes.h"
#include "lib/base/le.h"
#include "lib/spool/spool.h"

#define FRAME_MAGIC UINT32_C(0x314D5246)
#define FRAME_HEADER_BYTES 48
#define FRAME_ALIGN 16
#define FRAME_CLOSE_BYTES 32768               /* a DATA payload closes here; a larger event stands alone */
#define FRAME_PAYLOAD_MAX (UINT32_C(1) << 24) /* and less than a segment; appends are held to a quarter of one */
#define FRAME_PARTITIONS_MAX 64               /* what a reader must take */
#define FRAME_PARTITIONS 16                   /* what we write */
#define DATA_HEAD_BYTES 16

enum frame_type { FRAME_DATA = 1, FRAME_CTRL = 2, FRAME_PAD = 3, FRAME_SKIPPABLE = 0x80 };
enum { FRAME_FIRST = 1, FRAME_LAST = 2 };

struct frame {
    uint8_t type, flags;
    uint16_t count;
    uint32_t payload_len;
    uint32_t offset16;
    uint64_t seq;
    uint32_t durable16, prev_hcrc, commit;
    uint32_t payload_crc, hcrc;
};

/* The whole frame on disk, rounded up. */
static inline uint64_t frame_bytes(uint32_t payload_len)
{
    return (FRAME_HEADER_BYTES + (uint64_t)payload_len + FRAME_ALIGN - 1) & ~(uint64_t)(FRAME_ALIGN - 1);
}

/* What is known when a frame is built; frame_seal() adds what is known when it is written. */
void frame_begin(uint8_t *header, uint8_t type, uint16_t count, uint32_t payload_len, uint64_t seq);
static inline uint32_t frame_payload_len(const uint8_t *header)
{
    return le32_get(header + 8);
}
static inline uint64_t frame_seq(const uint8_t *header)
{
    return le64_get(header + 16);
}
static inline uint16_t frame_count(const uint8_t *header)
{
    return le16_get(header + 6);
}

struct frame_place {
    uint64_t offset;  /* in the segment */
    uint64_t durable; /* bytes of the segment proven durable */
    uint32_t tag, prev_hcrc, commit;
    uint8_t flags;
};
/* Completes header and checksums in place (the payload follows the header in memory); returns the header's
 * CRC. */
uint32_t frame_seal(uint8_t *header, const struct frame_place *place);
/* The same of frames that follow each other; *place is behind them afterwards. */
void frames_seal(uint8_t *at, size_t len, struct frame_place *place);

/* A header that is one of ours at this place: magic, tag, own offset, CRC, and a payload within
 * `payload_max`. */
MUST_USE bool frame_parse(const uint8_t *header, uint64_t offset, uint32_t tag, uint64_t payload_max,
                          struct frame *ret);
MUST_USE bool frame_payload_good(const struct frame *f, uint32_t tag, const uint8_t *payload);

/* --- events of a DATA payload ----------------------------------------------------------------------------
 */

struct frame_events {
    const uint8_t *at, *end;
    uint64_t base_wall_ns, seq;
    unsigned left;
    uint16_t api_version;
    uint16_t partition_count;
    struct span partitions[FRAME_PARTITIONS_MAX];
};
/* False when the payload breaks its format. */
MUST_USE bool frame_events_open(struct frame_events *e, struct span payload, uint64_t seq, unsigned count);
/* The next event, spans into the payload; false at the end (left == 0) or when the format is broken (left >
 * 0). */
MUST_USE bool frame_events_next(struct frame_events *e, struct spool_item *ret);
/* All events are well formed; *ret_rest gets the extension behind them (may be NULL). */
MUST_USE bool frame_events_check(struct span payload, uint64_t seq, unsigned count, struct span *ret_rest);

#endif
