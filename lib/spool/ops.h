/* ops: what CTRL frames say. Packed one after the other as
 *   u8 op | u8 ver (1) | u16 len8: length of the body in units of 8 bytes | u32 zero | body, zero-padded to 8
 * so that a reader can pass over one that it may ignore: codes with bit 7 set, and bytes that a newer minor
 * version has added behind a body that we know. An op names only sequence numbers that were durable when it
 * was written, so every recovered prefix of the log is consistent. All ops of one commit stand in one frame,
 * and so apply together or not at all.
 *
 * "runs" is u32 n, u32 zero, u64 first, then n times (varint gap, varint length): ascending, disjoint ranges
 * of numbers; the first gap counts from `first` (0), each further one from the end of the range before it.
 *
 *  STATE   everything as of its place; ops before it no longer matter. The ops SETTLED, ASSIGN, MARKS and
 *          USER that follow in the same frame are part of it:
 *          u64 next_seq, epoch, refused | u32 upstreams (1), u32 zero | u32 upstream (0), u32 name hash |
 *          u64 base_seq, low_water, next_batch_no, next_letter, delivered, replayed, letters_dropped,
 *          identity_broken, torn_bytes, gaps, adopted | u64 dropped[8] | u64 dead_total[16]
 *  SETTLED u32 upstream, u32 zero | runs above low_water
 *  ASSIGN  u32 upstream, u32 flags (1: identity broken) | u64 epoch, batch_no, first_seq |
 *          u32 count, raw_len, raw_crc32c, envelope version | u64 envelope hash | u8 codec, level |
 *          u16 n | u32 zero | partition (varint length, bytes) | n times (varint gap, varint length)
 *          from first_seq
 *  DONE    u32 upstream, u32 flags (1: all members) | u64 epoch, batch_no | u32 result, u32 zero |
 *          runs: delivered; members not settled by then are unassigned again
 *  SPLIT   as DONE; the ASSIGNs of the following batches stand behind it in the same frame
 *  DEAD    u32 upstream, u32 reason | u64 epoch, batch_no, first letter, dlq segment |
 *          runs of seqs, whose letters are numbered on from the first
 *  DROP    u32 upstream, u32 reason | u32 flags (1: batches with members in it are dropped whole),
 *          u32 zero | runs
 *  GAP     u64 segment, offset, length, first lost seq, count
 *  COUNTS  u64 shed, torn_bytes, identity_broken: as they are now
 *  USER    u32 len, u32 zero | bytes: the caller's own counters
 *  LETTERS u32 upstream, u32 reason | u32 flags (1: lost ones, of which only the number is known), u32 zero |
 *          runs of letter ids that have left the dead letters as dropped
 *  MARKS   u32 upstream, u32 zero | runs of letter ids that are gone, which their files may not say yet
 *  MARKED  u32 upstream, u32 zero | runs of letter ids: now their files say so
 *  CLEAN   nothing: an orderly stop */
#ifndef PENSTOCK_SPOOL_OPS_H
#define PENSTOCK_SPOOL_OPS_H

#include "lib/base/bytes.h"
#include "lib/spool/spool.h"

enum op_code {
    OP_STATE = 1,
    OP_ASSIGN,
    OP_DONE,
    OP_SPLIT,
    OP_DEAD,
    OP_DROP,
    OP_GAP,
    OP_UPSTREAM, /* reserved: further readers of one log; ignored by this version */
    OP_CLEAN,
    OP_USER,
    OP_SETTLED,
    OP_COUNTS,
    OP_LETTERS,
    OP_MARKS,
    OP_MARKED,
    OP_IGNORABLE = 0x80,
};

enum { OP_FLAG_BROKEN = 1, OP_FLAG_ALL = 1, OP_FLAG_WHOLE_BATCHES = 1, OP_FLAG_LOST = 1 };
#define OP_DROP_SLOTS 8 /* drop reasons that STATE has room for */

/* An encoded list of runs: iterate with ops_run_next(). */
struct op_runs {
    const uint8_t *at, *end;
    uint64_t base;
    uint32_t left;
};

struct op_state {
    uint64_t next_seq, epoch, refused;
    uint32_t name_hash;
    uint64_t base_seq, low_water, next_batch_no, next_letter, delivered, replayed, letters_dropped;
    uint64_t identity_broken, torn_bytes, gaps, adopted;
    uint64_t dropped[OP_DROP_SLOTS];
    uint64_t dead_total[SPOOL_DEAD_REASONS];
};

struct op_assign {
    uint32_t flags;
    uint64_t epoch, batch_no, first_seq, count;
    uint32_t raw_len, raw_crc32c, envelope_version;
    uint64_t envelope_hash;
    uint8_t codec, level;
    struct span partition;
    struct op_runs runs;
};

struct op_done {
    uint32_t flags, result;
    uint64_t epoch, batch_no;
    struct op_runs delivered;
};

struct op_dead {
    uint32_t reason;
    uint64_t epoch, batch_no, letter, dlq_segment;
    struct op_runs runs;
};

struct op_drop {
    uint32_t reason, flags;
    struct op_runs runs;
};

struct op_gap {
    uint64_t segment, offset, length, first, count;
};

struct op_counts {
    uint64_t shed, torn_bytes, identity_broken;
};

struct op {
    uint8_t code;
    union {
        struct op_state state;
        struct op_assign assign;
        struct op_done done; /* DONE and SPLIT */
        struct op_dead dead;
        struct op_drop drop; /* DROP and LETTERS */
        struct op_gap gap;
        struct op_counts counts;
        struct op_runs runs; /* SETTLED, MARKS, MARKED */
        struct span user;
    };
};

/* Moves *rest past the first op. False when it is malformed, or unknown and not ignorable. Spans and runs
 * point into the input. What can be checked without context has been: sequence numbers are below SEQ_MAX,
 * runs ascend, counts are those of the runs. */
MUST_USE bool op_next(struct span *rest, struct op *ret);
/* The next run of a list that op_next() has checked. */
bool op_run_next(struct op_runs *runs, struct spool_run *ret);

/* Each appends one op; ERR_TOO_BIG beyond the buffer's maximum or 512 KiB, and then nothing was appended.
 * Runs given to them ascend and are disjoint. */
MUST_USE enum err op_put_state(struct bytes *to, const struct op_state *state);
MUST_USE enum err op_put_assign(struct bytes *to, uint64_t epoch, uint64_t batch_no, uint32_t flags,
                                const struct spool_assignment *a);
MUST_USE enum err op_put_done(struct bytes *to, enum op_code code, uint64_t epoch, uint64_t batch_no,
                              bool all, const struct spool_run *delivered, unsigned count);
MUST_USE enum err op_put_dead(struct bytes *to, const struct op_dead *dead, const struct spool_run *runs,
                              unsigned count);
MUST_USE enum err op_put_drop(struct bytes *to, enum op_code code, uint32_t reason, uint32_t flags,
                              const struct spool_run *runs, unsigned count);
MUST_USE enum err op_put_gap(struct bytes *to, const struct op_gap *gap);
MUST_USE enum err op_put_counts(struct bytes *to, const struct op_counts *counts);
MUST_USE enum err op_put_user(struct bytes *to, struct span user);
MUST_USE enum err op_put_runs(struct bytes *to, enum op_code code, const struct spool_run *runs,
                              unsigned count);
MUST_USE enum err op_put_clean(struct bytes *to);

#endif
