/* format: the identity file and the segment headers of format version 1. All integers little-endian.
 *
 * FORMAT, 64 bytes:
 *    0 magic "SPLFMT1\n" | 8 u16 major | 10 u16 minor | 12 u32 incompat | 16 uuid[16] | 32 u64 wall_ns |
 *   40 u32 compat | 44 zero | 60 u32 crc32c of bytes 0..59
 *
 * A segment file is named seg-<16 hex digits of its id>.wal and begins with a header area of 8192 bytes,
 * which holds two copies of 128 bytes, at 0 and at 4096 (two physical blocks); the rest of it is zero:
 *    0 magic "SPLSEG1\n" | 8 u16 major | 10 u16 minor | 12 u32 incompat | 16 uuid[16] | 32 u64 segment id |
 *   40 u64 salt | 48 u64 first_seq | 56 u64 epoch | 64 u64 prev_id | 72 u64 prev_end | 80 u64 prev_next_seq |
 *   88 u32 prev_last_hcrc | 92 u32 commit_align | 96 u64 capacity | 104 u64 wall_ns | 112 u32 flags |
 *  116 u32 prev_flags | 120 u32 zero | 124 u32 crc32c of bytes 0..123
 *
 * The header of segment k+1 is the seal of k: it is written only when everything of k that must be kept is
 * durable. A header area of zeros means "prepared": the file holds nothing, whatever follows. So does a
 * valid header under another name: recycling was cut short. Not zero and no valid copy: damaged.
 *
 * A file that says in good order that it is of another major version, or that carries incompat flags that
 * we do not know, is refused and left untouched. */
#ifndef PENSTOCK_SPOOL_FORMAT_H
#define PENSTOCK_SPOOL_FORMAT_H

#include "lib/base/bytes.h"
#include "lib/base/fault.h"

#include <stdbool.h>
#include <stdint.h>

#define SPOOL_FORMAT_MAJOR 1
#define SPOOL_FORMAT_MINOR 0
#define FORMAT_FILE "FORMAT"
#define FORMAT_TMP "FORMAT.tmp"
#define FORMAT_BYTES 64
#define SEGMENT_HEADER_AREA 8192
#define SEGMENT_HEADER_BYTES 128
#define SEGMENT_HEADER_COPY 4096
#define SEGMENT_CAPACITY_MIN (UINT64_C(1) << 20)
#define SEGMENT_NAME_MAX 40
#define SEQ_MAX (UINT64_C(1) << 62) /* a larger sequence number is damage */

#define DEAD_DIR "dead"
#define QUARANTINE_DIR "quarantine"

struct format_id {
    uint16_t major, minor;
    uint32_t incompat, compat;
    uint8_t uuid[16];
    uint64_t wall_ns;
};

void format_encode(const struct format_id *id, uint8_t out[FORMAT_BYTES]);
/* OK, ERR_CORRUPT (not ours, or damaged), or ERR_UNSUPPORTED naming both versions. */
MUST_USE enum err format_decode(struct span file, struct format_id *ret, struct fault *why);

enum {
    SEGMENT_RECYCLED = 1,
    SEGMENT_AFTER_UNCLEAN = 2,
    SEGMENT_DEAD_LETTERS = 4,
    SEGMENT_MARKS_FIRST = 8, /* of dead letters: marks of those that are gone stand before the letters */
    SEGMENT_PREV_IO_ERROR = 1, /* in prev_flags */
};

struct segment_header {
    uint16_t major, minor;
    uint32_t incompat;
    uint8_t uuid[16];
    uint64_t id, salt, first_seq, epoch;
    uint64_t prev_id, prev_end, prev_next_seq;
    uint32_t prev_last_hcrc, commit_align;
    uint64_t capacity, wall_ns;
    uint32_t flags, prev_flags;
    uint32_t hcrc; /* CRC of the header itself: the first link of the chain of frames */
};

/* Fills the whole header area; sets h->hcrc. */
void segment_header_encode(struct segment_header *h, uint8_t area[SEGMENT_HEADER_AREA]);

enum segment_kind { SEGMENT_VALID, SEGMENT_PREPARED, SEGMENT_DAMAGED, SEGMENT_UNSUPPORTED };
/* `area` may be short (a file that was cut). `why` is filled for DAMAGED and UNSUPPORTED. */
enum segment_kind segment_header_decode(struct span area, struct segment_header *ret, struct fault *why);

static inline uint32_t segment_tag(uint64_t salt)
{
    return (uint32_t)salt ^ (uint32_t)(salt >> 32);
}

/* "seg-0000000000000001.wal"; the dead letters' files are "dead/dlq-….wal". */
void segment_name(uint64_t id, char ret[SEGMENT_NAME_MAX]);
void dead_name(uint64_t id, char ret[SEGMENT_NAME_MAX]);
/* The id in a directory entry with that prefix ("seg-" or "dlq-"); false for any other name. */
bool segment_name_parse(const char *name, const char *prefix, uint64_t *ret_id);

#endif
