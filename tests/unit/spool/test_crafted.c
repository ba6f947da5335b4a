/* Bytes that no process of ours wrote, under checksums that are good: whatever they say, a start serves what is left, and
 * counts what is not. */
#include "lib/base/le.h"
#include "lib/spool/format.h"
#include "lib/spool/ops.h"
#include "tests/unit/spool/bench.h"

#include <criterion/criterion.h>

#define FIRST "seg-0000000000000001.wal"
#define SECOND "seg-0000000000000002.wal"
#define THIRD "seg-0000000000000003.wal"
#define FOURTH "seg-0000000000000004.wal"
#define STATE_NEXT_SEQ (FRAME_HEADER_BYTES + 8)
#define ASSIGN_FIRST_SEQ (FRAME_HEADER_BYTES + 8 + 24)

BENCH_SUITE(spool_crafted);

/* Two segments, settled events between pending ones, and a commit that nothing attests. */
static void make_spool(void)
{
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 200, 6000);
    bench_deliver(&b, bench_assign(&b, 10));
    cr_assert_neq(bench_assign(&b, 20), 0);
    bench_deliver(&b, bench_assign(&b, 20));
    for (unsigned i = 0; i < 5; i++)
        cr_assert_neq(bench_append(&b, i), 0);
    bench_sleep(&b, 1000);
    bench_crash(&b, true);
}

/* --- segments --------------------------------------------------------------------------------------------- */

Test(spool_crafted, a_segment_whose_numbers_go_back_is_put_away)
{
    struct segment_header h;
    struct fault why;
    size_t size;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 350, 10000);
    bench_crash(&b, true);
    unsigned char *file = memfs_file(&b.fs, THIRD, &size);
    cr_assert_eq(segment_header_decode(span_of(file, SEGMENT_HEADER_AREA), &h, &why), SEGMENT_VALID);
    uint64_t held = le64_get(memfs_file(&b.fs, FOURTH, &size) + 48) - h.first_seq;
    h.first_seq = 2; /* which stands in the first */
    segment_header_encode(&h, file);
    cr_assert_eq(bench_open(&b), SPOOL_OK, "%s", b.last_fault.text);
    cr_assert_not_null(memfs_file(&b.fs, "quarantine/" THIRD, &size));
    cr_assert_eq(bench_drain(&b), 350 - held);
    cr_assert_eq(bench_ledger(&b).dropped[SPOOL_DROP_CORRUPT], held);
}

/* --- control records -------------------------------------------------------------------------------------- */

/* Events count as undelivered again, but for what later records say of them. */
static void starts_with(uint64_t pending)
{
    cr_assert_eq(bench_open(&b), SPOOL_OK, "%s", b.last_fault.text);
    cr_assert_eq(bench_ledger(&b).accepted, 205);
    cr_assert_eq(bench_ledger(&b).pending, pending);
    cr_assert_eq(bench_drain(&b), pending);
    cr_assert_eq(bench_ledger(&b).dropped[SPOOL_DROP_CORRUPT], 0);
    cr_assert_eq(bench_append(&b, 1), 206, "no number comes twice");
}

Test(spool_crafted, a_state_that_knows_less_than_its_segments_is_not_believed)
{
    uint32_t tag;
    make_spool();
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_close(&b);
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_crash(&b, true);
    for (unsigned copy = 0; copy < 2; copy++) {
        unsigned char *state = bench_frame(&b, FOURTH, FRAME_CTRL, copy, &tag);
        cr_assert_eq(le64_get(state + STATE_NEXT_SEQ), 206);
        le64_put(state + STATE_NEXT_SEQ, 100);
        bench_reseal(&b, FOURTH, state, tag);
    }
    starts_with(205);
}

Test(spool_crafted, a_batch_of_events_that_are_not_there_is_not_believed)
{
    uint32_t tag;
    make_spool();
    unsigned char *assign = bench_frame(&b, SECOND, FRAME_CTRL, 2, &tag);
    cr_assert_eq(assign[FRAME_HEADER_BYTES], OP_ASSIGN);
    le64_put(assign + ASSIGN_FIRST_SEQ, 1000);
    bench_reseal(&b, SECOND, assign, tag);
    starts_with(185);
}

Test(spool_crafted, events_that_make_no_sense_under_a_good_checksum_are_missing)
{
    uint32_t tag;
    make_spool();
    unsigned char *frame = NULL;
    uint64_t count = 0, next = 0;
    for (unsigned n = 0; next <= 30; n++) { /* what comes behind it is settled, in part or all */
        frame = bench_frame(&b, FIRST, FRAME_DATA, n, &tag);
        count = le16_get(frame + 6);
        next = le64_get(frame + 16) + count;
    }
    count -= next - 31; /* those are settled */
    le16_put(frame + FRAME_HEADER_BYTES + 12, 0xFFFF); /* so many names of partitions cannot be */
    bench_reseal(&b, FIRST, frame, tag);
    struct spool_verdict v = bench_verify(&b);
    cr_assert_gt(v.damages, 0);
    cr_assert_eq(v.pending_found, 175 - count, "%s", b.verified.text);
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    struct spool_open_batch open;
    uint64_t delivered = bench_drain(&b);
    cr_assert_not(spool_open_batch_next(b.spool, 0, &open));
    cr_assert_eq(delivered + bench_ledger(&b).dropped[SPOOL_DROP_CORRUPT], 175);
}

Test(spool_crafted, a_control_record_that_makes_no_sense_under_a_good_checksum_is_passed_over)
{
    uint32_t tag;
    make_spool();
    unsigned char *frame = bench_frame(&b, FIRST, FRAME_CTRL, 1, &tag);
    frame[FRAME_HEADER_BYTES] = 0x7E; /* no op of ours, and none that may be ignored */
    bench_reseal(&b, FIRST, frame, tag);
    struct spool_verdict v = bench_verify(&b);
    cr_assert_eq(v.pending_found, 175, "the first copy of the state says all");
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    cr_assert_eq(bench_ledger(&b).pending, 175);
}

/* Each number of a later STATE that went back. */
Test(spool_crafted, verify_tells_of_every_number_that_went_back)
{
    static const struct {
        size_t at;
        const char *what;
    } fields[] = {{8 + 8, "epoch"}, {8 + 48, "low water"}, {8 + 72, "delivered"}};
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 20, 10000);
    bench_deliver(&b, bench_assign(&b, 10));
    bench_close(&b);
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 20, 10000);
    bench_close(&b);
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_close(&b);
    cr_assert_eq(bench_verify(&b).damages, 0, "%s", b.verified.text);
    for (unsigned i = 0; i < 3; i++) {
        struct memfs saved;
        uint32_t tag;
        memfs_init(&saved);
        memfs_copy(&saved, &b.fs);
        unsigned char *state = bench_frame(&b, THIRD, FRAME_CTRL, 0, &tag);
        le64_put(state + FRAME_HEADER_BYTES + fields[i].at, 0);
        bench_reseal(&b, THIRD, state, tag);
        cr_assert_gt(bench_verify(&b).damages, 0, "%s", fields[i].what);
        memfs_deinit(&b.fs);
        memfs_init(&b.fs);
        memfs_copy(&b.fs, &saved);
        memfs_deinit(&saved);
    }
}

static void put_each(struct bytes *ops, size_t starts[16], unsigned *count)
{
    static const struct spool_run runs[2] = {{50, 3}, {60, 2}};
    struct spool_assignment a = {.partition = SPAN("partition"), .runs = runs, .run_count = 2};
    struct op_dead dead = {.reason = 3, .epoch = 2, .batch_no = 9, .letter = 7};
    struct op_state state = {.next_seq = 101, .base_seq = 1, .next_batch_no = 3, .next_letter = 7};
    struct op_gap gap = {.segment = 1, .offset = 8192, .length = 100, .first = 70, .count = 5};
    enum err errs[9];
    unsigned n = 0;
    starts[n] = ops->len;
    errs[n++] = op_put_state(ops, &state);
    starts[n] = ops->len;
    errs[n++] = op_put_assign(ops, 2, 9, 0, &a);
    starts[n] = ops->len;
    errs[n++] = op_put_done(ops, OP_DONE, 2, 1, false, runs, 2);
    starts[n] = ops->len;
    errs[n++] = op_put_dead(ops, &dead, runs, 2);
    starts[n] = ops->len;
    errs[n++] = op_put_drop(ops, OP_DROP, 1, 0, runs, 2);
    starts[n] = ops->len;
    errs[n++] = op_put_gap(ops, &gap);
    starts[n] = ops->len;
    errs[n++] = op_put_counts(ops, &(struct op_counts){1, 2, 3});
    starts[n] = ops->len;
    errs[n++] = op_put_user(ops, SPAN("twelve bytes"));
    starts[n] = ops->len;
    errs[n++] = op_put_runs(ops, OP_SETTLED, runs, 2);
    starts[n] = ops->len;
    for (unsigned i = 0; i < n; i++)
        cr_assert_eq(errs[i], OK);
    *count = n;
}

Test(spool_crafted, an_op_that_ends_too_early_is_none)
{
    struct bytes ops;
    size_t starts[16];
    unsigned count;
    bytes_init(&ops, 65536);
    put_each(&ops, starts, &count);
    for (unsigned i = 0; i < count; i++) {
        size_t words = le16_get(ops.at + starts[i] + 2);
        cr_assert_eq(starts[i] + 4 + words * 8 <= ops.len, true);
        for (size_t fewer = 0; fewer <= words; fewer++) {
            unsigned char copy[1024];
            size_t len = starts[i + 1] - starts[i] - (words - fewer) * 8;
            memcpy(copy, ops.at + starts[i], len);
            le16_put(copy + 2, (uint16_t)fewer);
            struct span rest = span_of(copy, len);
            struct op op;
            cr_assert_eq(op_next(&rest, &op), fewer == words, "op %u, %zu of %zu words", i, fewer, words);
            cr_assert_eq(rest.len, fewer == words ? 0 : len);
        }
    }
    bytes_deinit(&ops);
}
