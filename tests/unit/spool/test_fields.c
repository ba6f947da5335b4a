/* Every field of every record at the edges of its range: what the checksums let through may still be wrong
 * (written by a bug, or made by hand), and must be refused or lead to a ledger that balances. */
#include "lib/base/crc32c.h"
#include "lib/base/le.h"
#include "lib/spool/accounts.h"
#include "lib/spool/format.h"
#include "lib/spool/frame.h"
#include "lib/spool/ops.h"
#include "lib/spool/tail.h"
#include "lib/spool/varint.h"
#include "tests/unit/spool/bench.h"

#include <criterion/criterion.h>
#include <stdlib.h>

static const uint64_t edges[] = {
    0, 1, 2, 7, 200, 65535, SEQ_MAX - 1, SEQ_MAX, SEQ_MAX + 1, UINT64_MAX - 1, UINT64_MAX};
#define EDGES (sizeof edges / sizeof edges[0])

/* --- ops ------------------------------------------------------------------------------------------------ */

static void put_op(unsigned kind, struct bytes *to)
{
    static const struct spool_run runs[2] = {{50, 3}, {60, 2}}, letters[1] = {{1, 2}};
    struct spool_assignment a = {.partition = SPAN("p"), .runs = runs, .run_count = 2};
    struct op_dead dead = {.reason = 3, .epoch = 2, .batch_no = 9, .letter = 7};
    struct op_state state = {.next_seq = 101,
                             .base_seq = 1,
                             .low_water = 10,
                             .epoch = 2,
                             .next_batch_no = 3,
                             .next_letter = 7,
                             .delivered = 10};
    struct op_gap gap = {.segment = 1, .offset = 8192, .length = 100, .first = 70, .count = 5};
    enum err err = OK;
    switch (kind) {
    case 0:
        err = op_put_state(to, &state);
        break;
    case 1:
        err = op_put_assign(to, 2, 9, 0, &a);
        break;
    case 2:
        err = op_put_done(to, OP_DONE, 2, 1, false, runs, 2);
        break;
    case 3:
        err = op_put_dead(to, &dead, runs, 2);
        break;
    case 4:
        err = op_put_drop(to, OP_DROP, SPOOL_DROP_EXPIRED, OP_FLAG_WHOLE_BATCHES, runs, 2);
        break;
    case 5:
        err = op_put_gap(to, &gap);
        break;
    case 6:
        err = op_put_counts(to, &(struct op_counts){1, 2, 3});
        break;
    case 7:
        err = op_put_user(to, SPAN("twelve bytes"));
        break;
    case 8:
        err = op_put_drop(to, OP_LETTERS, SPOOL_DROP_PURGED, 0, letters, 1);
        break;
    case 9:
        err = op_put_runs(to, OP_SETTLED, runs, 2);
        break;
    case 10:
        err = op_put_runs(to, OP_MARKS, letters, 1);
        break;
    default:
        err = op_put_runs(to, OP_MARKED, letters, 1);
        break;
    }
    cr_assert_eq(err, OK);
}
#define OP_KINDS 12

/* A hundred events, ten of them delivered, two dead, 41 to 60 in batch 1. */
static void some_accounts(struct accounts *a)
{
    static const struct spool_run delivered = {1, 10}, dead = {20, 2}, members = {41, 20};
    struct bytes b;
    bytes_init(&b, 4096);
    accounts_init(a);
    accounts_stored(a, 1, 100);
    a->epoch = 2;
    struct spool_assignment first = {.partition = SPAN("p"), .runs = &delivered, .run_count = 1};
    struct spool_assignment second = {.partition = SPAN("p"), .runs = &members, .run_count = 1};
    struct op_dead d = {.reason = 1, .letter = 1};
    cr_assert_eq(op_put_assign(&b, 2, 5, 0, &first), OK);
    cr_assert_eq(op_put_done(&b, OP_DONE, 2, 5, true, NULL, 0), OK);
    cr_assert_eq(op_put_dead(&b, &d, &dead, 1), OK);
    cr_assert_eq(op_put_assign(&b, 2, 1, 0, &second), OK);
    cr_assert(accounts_apply(a, bytes_span(&b)));
    cr_assert_eq(accounts_pending(a), 88);
    bytes_deinit(&b);
}

Test(spool_fields, every_op_applies_as_it_is)
{
    for (unsigned kind = 0; kind < OP_KINDS; kind++) {
        struct accounts a;
        struct bytes b;
        if (kind == 9)
            continue; /* SETTLED is a part of STATE, which counts what it names */
        bytes_init(&b, 4096);
        put_op(kind, &b);
        some_accounts(&a);
        cr_assert(accounts_apply(&a, bytes_span(&b)), "op %u", kind);
        cr_assert(accounts_balanced(&a));
        accounts_deinit(&a);
        bytes_deinit(&b);
    }
}

/* What an applied op leaves behind goes into a STATE, and comes back from it. */
static void survives_a_state(const struct accounts *a, unsigned kind, size_t at)
{
    struct accounts back;
    struct bytes b;
    bytes_init(&b, 65536);
    accounts_init(&back);
    cr_assert_eq(accounts_put_state(a, a->next_seq, 0, &b), OK);
    cr_assert(accounts_apply(&back, bytes_span(&b)), "op %u field at %zu", kind, at);
    cr_assert_eq(accounts_pending(&back), accounts_pending(a), "op %u field at %zu", kind, at);
    cr_assert_eq(accounts_dead(&back), accounts_dead(a), "op %u field at %zu", kind, at);
    cr_assert_eq(back.batch_count, a->batch_count, "op %u field at %zu", kind, at);
    accounts_deinit(&back);
    bytes_deinit(&b);
}

Test(spool_fields, no_value_of_a_field_breaks_the_ledger)
{
    unsigned refused = 0, taken = 0;
    for (unsigned kind = 0; kind < OP_KINDS; kind++) {
        struct bytes b;
        bytes_init(&b, 4096);
        put_op(kind, &b);
        for (size_t at = 8; at < b.len; at += 4)
            for (size_t e = 0; e < 2 * EDGES; e++) {
                struct bytes wrong;
                struct accounts a;
                bytes_init(&wrong, 4096);
                cr_assert_eq(bytes_append(&wrong, bytes_span(&b)), OK);
                if (e >= EDGES || at + 8 > b.len)
                    le32_put(wrong.at + at, (uint32_t)edges[e % EDGES]);
                else
                    le64_put(wrong.at + at, edges[e]);
                some_accounts(&a);
                if (accounts_apply(&a, bytes_span(&wrong))) {
                    cr_assert(accounts_balanced(&a));
                    cr_assert_leq(accounts_pending(&a), accounts_accepted(&a));
                    cr_assert_lt(a.low_water, a.next_seq);
                    survives_a_state(&a, kind, at);
                    taken++;
                } else {
                    refused++;
                }
                accounts_deinit(&a);
                bytes_deinit(&wrong);
            }
        bytes_deinit(&b);
    }
    cr_assert_gt(refused, 200);
    cr_assert_gt(taken, 200);
}

Test(spool_fields, an_op_that_cannot_be_written_leaves_nothing_behind)
{
    struct bytes b;
    static struct spool_run runs[70000];
    for (unsigned i = 0; i < 70000; i++)
        runs[i] = (struct spool_run){2 * i + 1, 1};
    bytes_init(&b, 1 << 20);
    struct spool_assignment a = {.partition = SPAN("p"), .runs = runs, .run_count = 70000};
    cr_assert_eq(op_put_assign(&b, 1, 1, 0, &a), ERR_TOO_BIG, "more runs than their number has bits for");
    cr_assert_eq(b.len, 0);
    static struct spool_run far[60000];
    for (unsigned i = 0; i < 60000; i++)
        far[i] = (struct spool_run){(uint64_t)i << 36, 1 << 20};
    cr_assert_eq(op_put_runs(&b, OP_SETTLED, far, 60000), ERR_TOO_BIG, "longer than its length can say");
    cr_assert_eq(b.len, 0);
    bytes_deinit(&b);
    bytes_init(&b, 40);
    for (unsigned kind = 0; kind < OP_KINDS; kind++) {
        struct op_gap gap = {1, 2, 3, 4, 5};
        cr_assert_eq(op_put_gap(&b, &gap), ERR_TOO_BIG);
        cr_assert_eq(b.len, 0);
    }
    bytes_deinit(&b);
}

Test(spool_fields, a_number_longer_than_its_type_is_none)
{
    static const uint8_t over[] = {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x02};
    const uint8_t *at = over;
    uint64_t v;
    cr_assert_not(varint_get(&at, over + sizeof over, &v));
    cr_assert_eq(at, over);
}

/* --- frames --------------------------------------------------------------------------------------------- */

static uint8_t frame_buffer[4096];

/* Three events of two partitions; returns the whole frame's length. */
static size_t some_frame(void)
{
    struct tail t;
    struct tail_range range;
    uint64_t first, end;
    tail_init(&t);
    struct spool_record r[3] = {
        {.partition = SPAN("one"), .id = SPAN("i1"), .body = SPAN("first body"), .wall_ns = 5000000000},
        {.partition = SPAN("two"), .id = SPAN("i2"), .body = SPAN("second"), .wall_ns = 4000000000},
        {.body = SPAN(""), .wall_ns = 6000000000}};
    for (unsigned i = 0; i < 3; i++)
        tail_append(&t, &r[i], 1, 10 + i);
    cr_assert_eq(tail_take(&t, 1 << 20, 1, &range, &first, &end), 1);
    memcpy(frame_buffer, range.at, range.len);
    struct frame_place place = {.offset = 8192, .durable = 8192, .tag = 77};
    (void)frame_seal(frame_buffer, &place);
    size_t len = range.len;
    tail_deinit(&t);
    return len;
}

static void reseal(uint8_t *header, uint32_t tag)
{
    le32_put(header + 40, crc32c(tag, header + FRAME_HEADER_BYTES, le32_get(header + 8)));
    le32_put(header + 44, crc32c(tag, header, 44));
}

Test(spool_fields, frame_headers_are_held_to_their_bounds)
{
    struct frame f;
    (void)some_frame();
    cr_assert(frame_parse(frame_buffer, 8192, 77, 1 << 20, &f));
    le64_put(frame_buffer + 16, SEQ_MAX + 1);
    le32_put(frame_buffer + 44, crc32c(77, frame_buffer, 44));
    cr_assert_not(frame_parse(frame_buffer, 8192, 77, 1 << 20, &f), "a number that cannot be");
    (void)some_frame();
    le32_put(frame_buffer + 8, FRAME_PAYLOAD_MAX + 1);
    le32_put(frame_buffer + 44, crc32c(77, frame_buffer, 44));
    cr_assert_not(frame_parse(frame_buffer, 8192, 77, UINT64_MAX, &f), "longer than any frame");
    for (size_t at = 0; at < FRAME_HEADER_BYTES; at++)
        for (unsigned bit = 0; bit < 8; bit++) {
            (void)some_frame();
            frame_buffer[at] ^= (uint8_t)(1 << bit);
            bool good = frame_parse(frame_buffer, 8192, 77, 1 << 20, &f) &&
                        frame_payload_good(&f, 77, frame_buffer + FRAME_HEADER_BYTES);
            cr_assert_not(good, "byte %zu bit %u", at, bit);
        }
}

Test(spool_fields, events_never_reach_beyond_their_frame)
{
    (void)some_frame();
    uint32_t len = frame_payload_len(frame_buffer);
    uint8_t *payload = frame_buffer + FRAME_HEADER_BYTES;
    struct span rest;
    cr_assert(frame_events_check(span_of(payload, len), 10, 3, &rest));
    cr_assert_eq(rest.len, 0);
    cr_assert_not(frame_events_check(span_of(payload, len), 10, 4, NULL), "one more than there are");
    cr_assert(frame_events_check(span_of(payload, len), 10, 2, &rest), "what follows is an extension");
    cr_assert_gt(rest.len, 0);
    for (size_t cut = 0; cut < len; cut++)
        cr_assert_not(frame_events_check(span_of(payload, cut), 10, 3, NULL), "cut at %zu", cut);
    /* Each byte with each of some values: well formed or not, all spans stay inside. */
    for (size_t at = 0; at < len; at++)
        for (size_t e = 0; e < EDGES; e++) {
            struct frame_events events;
            struct spool_item item;
            (void)some_frame();
            payload[at] = (uint8_t)edges[e];
            if (!frame_events_open(&events, span_of(payload, len), 10, 3))
                continue;
            while (frame_events_next(&events, &item)) {
                cr_assert(item.body.at >= payload && item.body.at + item.body.len <= payload + len);
                cr_assert(item.id.at >= payload && item.id.at + item.id.len <= payload + len);
            }
        }
    (void)some_frame();
    le16_put(payload + 8, 1);
    cr_assert_not(frame_events_check(span_of(payload, len), 10, 3, NULL), "a codec that we do not know");
    (void)some_frame();
    le16_put(payload + 12, FRAME_PARTITIONS_MAX + 1);
    cr_assert_not(frame_events_check(span_of(payload, len), 10, 3, NULL), "too many partitions");
}

/* --- headers -------------------------------------------------------------------------------------------- */

Test(spool_fields, segment_headers_are_held_to_their_bounds)
{
    static const struct {
        size_t at;
        unsigned bytes;
        uint64_t value;
        enum segment_kind kind;
    } cases[] = {{0, 1, 'T', SEGMENT_DAMAGED},
                 {6, 1, '2', SEGMENT_UNSUPPORTED},
                 {8, 2, 2, SEGMENT_UNSUPPORTED},
                 {10, 2, 9, SEGMENT_VALID},
                 {12, 4, 1, SEGMENT_UNSUPPORTED},
                 {32, 8, 0, SEGMENT_DAMAGED},
                 {32, 8, SEQ_MAX + 1, SEGMENT_DAMAGED},
                 {48, 8, 0, SEGMENT_DAMAGED},
                 {48, 8, SEQ_MAX + 1, SEGMENT_DAMAGED},
                 {56, 8, SEQ_MAX + 1, SEGMENT_DAMAGED},
                 {80, 8, SEQ_MAX + 1, SEGMENT_DAMAGED},
                 {92, 4, 16, SEGMENT_VALID},
                 {92, 4, 512, SEGMENT_VALID},
                 {92, 4, 0, SEGMENT_DAMAGED},
                 {92, 4, 4095, SEGMENT_DAMAGED},
                 {96, 8, 8191, SEGMENT_DAMAGED},
                 {96, 8, UINT64_C(1) << 41, SEGMENT_DAMAGED},
                 {104, 8, UINT64_MAX, SEGMENT_VALID},
                 {112, 4, UINT32_MAX, SEGMENT_VALID}};
    struct segment_header h = {.major = 1,
                               .id = 3,
                               .salt = 4,
                               .first_seq = 5,
                               .epoch = 6,
                               .commit_align = 4096,
                               .capacity = 1 << 20};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        static uint8_t area[SEGMENT_HEADER_AREA];
        struct segment_header back;
        struct fault why = {0};
        memset(area, 0, sizeof area);
        segment_header_encode(&h, area);
        for (unsigned copy = 0; copy < 2; copy++) {
            uint8_t *at = area + copy * SEGMENT_HEADER_COPY;
            for (unsigned k = 0; k < cases[i].bytes; k++)
                at[cases[i].at + k] = (uint8_t)(cases[i].value >> (8 * k));
            le32_put(at + 124, crc32c(0, at, 124));
        }
        cr_expect_eq(segment_header_decode(span_of(area, sizeof area), &back, &why), cases[i].kind,
                     "case %zu: %s", i, why.text);
        cr_expect_eq(segment_header_decode(span_of(area, 100), &back, &why), SEGMENT_DAMAGED,
                     "a file cut short");
    }
}

Test(spool_fields, format_files_are_held_to_their_bounds)
{
    struct format_id id = {.major = 1, .wall_ns = 1}, back;
    struct fault why;
    uint8_t raw[FORMAT_BYTES];
    format_encode(&id, raw);
    for (size_t len = 0; len < FORMAT_BYTES; len++)
        cr_assert_neq(format_decode(span_of(raw, len), &back, &why), OK, "cut at %zu", len);
    for (size_t at = 0; at < FORMAT_BYTES; at++) {
        format_encode(&id, raw);
        raw[at] ^= 1;
        cr_assert_neq(format_decode(span_of(raw, sizeof raw), &back, &why), OK, "byte %zu", at);
        le32_put(raw + 60, crc32c(0, raw, 60)); /* on purpose, then */
        enum err err = format_decode(span_of(raw, sizeof raw), &back, &why);
        cr_assert(err == OK || err == ERR_CORRUPT || err == ERR_UNSUPPORTED, "byte %zu: %s", at,
                  err_name(err));
    }
    memset(raw, 0, sizeof raw);
    cr_assert_eq(format_decode(span_of(raw, sizeof raw), &back, &why), ERR_CORRUPT, "zeros");
}

/* --- a whole spool -------------------------------------------------------------------------------------- */

static struct bench b;

static void make_spool(void)
{
    bench_init(&b);
    b.config.recent_us = 0;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 250, 5000);
    uint64_t no = bench_assign(&b, 50);
    uint64_t dying = bench_assign(&b, 3);
    (void)bench_assign(&b, 10);
    bench_deliver(&b, no);
    struct spool_open_batch open;
    cr_assert(spool_open_batch_next(b.spool, dying - 1, &open));
    uint64_t first = open.assignment.runs[0].first;
    struct spool_death deaths[3] = {{.seq = first}, {.seq = first + 1}, {.seq = first + 2}};
    struct spool_outcome o = {.dead = deaths, .dead_count = 3};
    cr_assert_eq(spool_settle(b.spool, dying, &o), OK);
    bench_sleep(&b, 3000000);
    bench_crash(&b, true);
}

/* Total: a served spool whose ledger balances and that drains, or a refusal with a reason. */
static void opens_somehow(const char *what, size_t at)
{
    if (bench_open(&b) != SPOOL_OK) {
        cr_assert_neq(b.last_fault.text[0], 0, "%s %zu: failed without a word", what, at);
        spool_free(b.spool);
        b.spool = NULL;
        return;
    }
    (void)bench_drain(&b);
    cr_assert_eq(bench_ledger(&b).pending, 0, "%s %zu", what, at);
    bench_crash(&b, true);
    cr_assert_eq(bench_open(&b), SPOOL_OK, "%s %zu: %s", what, at, b.last_fault.text);
    cr_assert_eq(bench_ledger(&b).pending, 0, "%s %zu", what, at);
    bench_crash(&b, true);
}

/* Each field of the control records of a file, one at a time, with checksums that hold. */
static void bend_ops(const char *name, const char *what, unsigned stride)
{
    struct bench sound;
    size_t size;
    make_spool();
    sound = b;
    unsigned tried = 0;
    unsigned char *file = memfs_file(&sound.fs, name, &size);
    cr_assert_not_null(file, "%s", name);
    uint64_t salt = le64_get(file + 40);
    uint32_t tag = (uint32_t)salt ^ (uint32_t)(salt >> 32);
    for (size_t frame = SEGMENT_HEADER_AREA; frame + FRAME_HEADER_BYTES < size; frame += FRAME_ALIGN) {
        struct frame f;
        if (!frame_parse(file + frame, frame, tag, FRAME_PAYLOAD_MAX, &f) || f.type != FRAME_CTRL)
            continue;
        for (size_t at = 0; at + 8 <= f.payload_len; at += 8) {
            uint64_t value = edges[(at / 8 + frame / 16) % EDGES];
            if (tried++ % stride != 0)
                continue;
            b = sound;
            memfs_init(&b.fs);
            b.vfs = memfs_vfs(&b.fs);
            memfs_copy(&b.fs, &sound.fs);
            unsigned char *copy = memfs_file(&b.fs, name, &size);
            le64_put(copy + frame + FRAME_HEADER_BYTES + at, value);
            reseal(copy + frame, tag);
            opens_somehow(what, frame + at);
            memfs_deinit(&b.fs);
        }
    }
    cr_assert_gt(tried, 30, "%s holds control records", name);
    b = sound;
    b.spool = NULL;
    memfs_deinit(&b.fs);
}

Test(spool_fields, control_records_that_lie_are_survived, .timeout = 120)
{
    bend_ops("seg-0000000000000001.wal", "oldest", 11);
    bend_ops("seg-0000000000000002.wal", "newest", 7);
}

Test(spool_fields, dead_letters_that_lie_are_survived, .timeout = 120)
{
    struct bench sound;
    size_t size;
    static const char name[] = "dead/dlq-0000000000000001.wal";
    make_spool();
    sound = b;
    unsigned char *file = memfs_file(&sound.fs, name, &size);
    cr_assert_not_null(file);
    for (size_t at = 0; at < size; at += at < 9000 ? 97 : 29) {
        b = sound;
        memfs_init(&b.fs);
        b.vfs = memfs_vfs(&b.fs);
        memfs_copy(&b.fs, &sound.fs);
        unsigned char *copy = memfs_file(&b.fs, name, &size);
        copy[at] ^= 0x55;
        opens_somehow("letter", at);
        memfs_deinit(&b.fs);
    }
    b = sound;
    b.spool = NULL;
    memfs_deinit(&b.fs);
}

/* Whatever the bound of the buffer: a STATE that does not fit says so, and one that fits is whole. */
Test(spool_fields, a_state_fits_or_says_that_it_does_not)
{
    struct accounts a;
    struct bytes whole;
    bytes_init(&whole, 65536);
    some_accounts(&a);
    (void)intervals_add(&a.marks, 1, 2);
    memcpy(a.user, "counters", 8);
    a.user_len = 8;
    cr_assert_eq(accounts_put_state(&a, a.next_seq, 0, &whole), OK);
    for (size_t max = 0; max <= whole.len; max++) {
        struct bytes part;
        bytes_init(&part, max);
        enum err err = accounts_put_state(&a, a.next_seq, 0, &part);
        cr_assert_eq(err == OK, max == whole.len, "%zu of %zu bytes", max, whole.len);
        cr_assert_leq(part.len, max);
        bytes_deinit(&part);
    }
    accounts_deinit(&a);
    bytes_deinit(&whole);
}
