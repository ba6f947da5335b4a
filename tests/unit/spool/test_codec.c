/* The format, byte by byte: these vectors are version 1 and stay. */
#include "lib/base/crc32c.h"
#include "lib/spool/accounts.h"
#include "lib/spool/format.h"
#include "lib/spool/frame.h"
#include "lib/spool/intervals.h"
#include "lib/spool/ops.h"
#include "lib/spool/tail.h"
#include "lib/spool/varint.h"

#include <criterion/criterion.h>
#include <stdio.h>

static void is_hex(const uint8_t *at, size_t len, const char *expected)
{
    char hex[1024];
    cr_assert_lt(len * 2, sizeof hex);
    for (size_t i = 0; i < len; i++)
        (void)snprintf(hex + 2 * i, 3, "%02x", at[i]);
    cr_assert_str_eq(hex, expected);
}

Test(spool_codec, varints_are_what_they_were)
{
    static const struct {
        uint64_t value;
        const char *hex;
    } cases[] = {{0, "00"},     {1, "01"},       {127, "7f"},       {128, "8001"},
                 {300, "ac02"}, {16383, "ff7f"}, {16384, "808001"}, {UINT64_MAX, "ffffffffffffffffff01"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t raw[VARINT_MAX];
        size_t len = (size_t)(varint_put(raw, cases[i].value) - raw);
        is_hex(raw, len, cases[i].hex);
        cr_assert_eq(varint_size(cases[i].value), len);
        const uint8_t *at = raw;
        uint64_t back;
        cr_assert(varint_get(&at, raw + len, &back));
        cr_assert_eq(back, cases[i].value);
        at = raw;
        cr_assert_not(varint_get(&at, raw + len - 1, &back), "cut off");
        cr_assert_eq(at, raw);
    }
    const uint8_t long_one[11] = {0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1};
    const uint8_t *at = long_one;
    uint64_t back;
    cr_assert_not(varint_get(&at, long_one + 11, &back));
    cr_assert_eq(unzigzag(zigzag(-5)), -5);
    cr_assert_eq(zigzag(-1), 1);
}

Test(spool_codec, format_file_is_what_it_was)
{
    struct format_id id = {.major = 1, .minor = 0, .wall_ns = 0x1122334455667788}, back;
    uint8_t raw[FORMAT_BYTES];
    struct fault why;
    for (uint8_t i = 0; i < 16; i++)
        id.uuid[i] = i;
    format_encode(&id, raw);
    is_hex(raw, sizeof raw,
           "53504c464d54310a0100000000000000000102030405060708090a0b0c0d0e0f"
           "8877665544332211000000000000000000000000000000000000000077de9bc9");
    cr_assert_eq(format_decode(span_of(raw, sizeof raw), &back, &why), OK);
    cr_assert_arr_eq(back.uuid, id.uuid, 16);
    for (size_t i = 0; i < sizeof raw; i++) {
        raw[i] ^= 1;
        cr_assert_eq(format_decode(span_of(raw, sizeof raw), &back, &why), ERR_CORRUPT);
        raw[i] ^= 1;
    }
    cr_assert_eq(format_decode(span_of(raw, 63), &back, &why), ERR_CORRUPT);
}

static void resum(uint8_t *at, size_t len)
{
    le32_put(at + len, crc32c(0, at, len));
}

Test(spool_codec, newer_versions_are_named)
{
    struct format_id id = {.major = 1}, back;
    uint8_t raw[FORMAT_BYTES];
    struct fault why;
    format_encode(&id, raw);
    raw[8] = 3;
    resum(raw, 60);
    cr_assert_eq(format_decode(span_of(raw, sizeof raw), &back, &why), ERR_UNSUPPORTED);
    cr_assert_not_null(strstr(why.text, "3.0"));
    format_encode(&id, raw);
    raw[10] = 9; /* a newer minor version is fine */
    resum(raw, 60);
    cr_assert_eq(format_decode(span_of(raw, sizeof raw), &back, &why), OK);
    raw[12] = 1; /* an incompatible feature is not */
    resum(raw, 60);
    cr_assert_eq(format_decode(span_of(raw, sizeof raw), &back, &why), ERR_UNSUPPORTED);
    format_encode(&id, raw);
    raw[6] = '2';
    resum(raw, 60);
    cr_assert_eq(format_decode(span_of(raw, sizeof raw), &back, &why), ERR_UNSUPPORTED);
}

static struct segment_header a_header(void)
{
    struct segment_header h = {.major = 1,
                               .id = 7,
                               .salt = 0x0123456789ABCDEF,
                               .first_seq = 1000,
                               .epoch = 3,
                               .prev_id = 6,
                               .prev_end = 12345,
                               .prev_next_seq = 1000,
                               .prev_last_hcrc = 0xCAFEBABE,
                               .commit_align = 4096,
                               .capacity = 1 << 20,
                               .wall_ns = 99,
                               .flags = SEGMENT_RECYCLED,
                               .prev_flags = SEGMENT_PREV_IO_ERROR};
    memset(h.uuid, 0xAB, sizeof h.uuid);
    return h;
}

Test(spool_codec, segment_header_is_what_it_was)
{
    static uint8_t area[SEGMENT_HEADER_AREA];
    struct segment_header h = a_header(), back;
    struct fault why;
    segment_header_encode(&h, area);
    is_hex(area, SEGMENT_HEADER_BYTES,
           "53504c534547310a0100000000000000" /* magic, version, incompatible features */
           "abababababababababababababababab" /* uuid */
           "0700000000000000efcdab8967452301" /* id, salt */
           "e8030000000000000300000000000000" /* first_seq, epoch */
           "06000000000000003930000000000000" /* prev_id, prev_end */
           "e803000000000000bebafeca00100000" /* prev_next_seq, prev_last_hcrc, commit_align */
           "00001000000000006300000000000000" /* capacity, wall_ns */
           "010000000100000000000000c7c3ddfc" /* flags, prev_flags, zero, checksum */);
    cr_assert_arr_eq(area, area + SEGMENT_HEADER_COPY, SEGMENT_HEADER_BYTES);
    cr_assert_eq(segment_header_decode(span_of(area, sizeof area), &back, &why), SEGMENT_VALID);
    cr_assert_eq(back.hcrc, h.hcrc);
    cr_assert_eq(back.prev_end, 12345);
    cr_assert_eq(segment_tag(back.salt), 0x89ABCDEF ^ 0x01234567);
}

Test(spool_codec, either_copy_of_a_header_will_do)
{
    static uint8_t area[SEGMENT_HEADER_AREA];
    struct segment_header h = a_header(), back;
    struct fault why;
    segment_header_encode(&h, area);
    area[40] ^= 1;
    cr_assert_eq(segment_header_decode(span_of(area, sizeof area), &back, &why), SEGMENT_VALID);
    area[SEGMENT_HEADER_COPY + 40] ^= 1;
    cr_assert_eq(segment_header_decode(span_of(area, sizeof area), &back, &why), SEGMENT_DAMAGED);
    memset(area, 0, sizeof area);
    cr_assert_eq(segment_header_decode(span_of(area, sizeof area), &back, &why), SEGMENT_PREPARED);
    cr_assert_eq(segment_header_decode(span_of(area, 0), &back, &why), SEGMENT_PREPARED);
    segment_header_encode(&h, area);
    for (int copy = 0; copy < 2; copy++) {
        area[copy * SEGMENT_HEADER_COPY + 8] = 2;
        resum(area + copy * SEGMENT_HEADER_COPY, 124);
    }
    cr_assert_eq(segment_header_decode(span_of(area, sizeof area), &back, &why), SEGMENT_UNSUPPORTED);
    h.commit_align = 100;
    segment_header_encode(&h, area);
    cr_assert_eq(segment_header_decode(span_of(area, sizeof area), &back, &why), SEGMENT_DAMAGED);
}

Test(spool_codec, names_are_sixteen_hex_digits)
{
    char name[SEGMENT_NAME_MAX];
    uint64_t id;
    segment_name(0x1F, name);
    cr_assert_str_eq(name, "seg-000000000000001f.wal");
    cr_assert(segment_name_parse(name, "seg-", &id));
    cr_assert_eq(id, 0x1F);
    dead_name(2, name);
    cr_assert_str_eq(name, "dead/dlq-0000000000000002.wal");
    static const char *const others[] = {
        "seg-000000000000001F.wal", "seg-1f.wal", "seg-000000000000001f.wal~", "seg-000000000000001f.tmp",
        "dlq-000000000000001f.wal", "",           "seg-0000000000000000.wal"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        cr_assert_not(segment_name_parse(others[i], "seg-", &id), "%s", others[i]);
}

Test(spool_codec, data_frames_are_what_they_were)
{
    struct tail t;
    struct tail_range range;
    uint64_t first, end;
    tail_init(&t);
    struct spool_record a = {
        .partition = SPAN("p"), .id = SPAN("i"), .body = SPAN("abc"), .wall_ns = 5000000000};
    struct spool_record b = {.body = SPAN("de"), .wall_ns = 4999999000};
    tail_append(&t, &a, 2, 9);
    tail_append(&t, &b, 2, 10);
    cr_assert_eq(t.fill_events, 2);
    cr_assert_eq(tail_take(&t, 1 << 20, 1, &range, &first, &end), 1);
    cr_assert_eq(first, 9);
    cr_assert_eq(end, 11);
    cr_assert_eq(t.fill_bytes, 0);
    struct frame_place place = {
        .offset = 8192, .durable = 8192, .tag = 0x11223344, .prev_hcrc = 0x55667788, .commit = 4, .flags = 3};
    (void)frame_seal(range.at, &place);
    is_hex(range.at, range.len,
           "46524d310103020020000000000200000900000000000000443322110002000088776655"
           "04000000"
           "765aa2f9"
           "57d62018"
           "00f2052a01000000000002000100000001700300010169616263020100006465");
    struct frame f;
    cr_assert(frame_parse(range.at, 8192, 0x11223344, 1 << 20, &f));
    cr_assert(frame_payload_good(&f, 0x11223344, range.at + FRAME_HEADER_BYTES));
    cr_assert_not(frame_parse(range.at, 8208, 0x11223344, 1 << 20, &f), "misplaced");
    cr_assert_not(frame_parse(range.at, 8192, 0x11223345, 1 << 20, &f), "of another life");
    cr_assert_not(frame_parse(range.at, 8192, 0x11223344, 16, &f), "too long");
    tail_deinit(&t);
}

static void back_and_forth(struct bytes *b, struct op *op)
{
    struct span rest = bytes_span(b);
    cr_assert(op_next(&rest, op));
    cr_assert_eq(rest.len, 0);
    for (size_t len = 0; len < b->len; len++) {
        struct op cut;
        struct span part = span_of(b->at, len);
        cr_assert_not(op_next(&part, &cut));
    }
}

Test(spool_codec, assign_is_what_it_was)
{
    struct bytes b;
    struct op op;
    bytes_init(&b, 4096);
    struct spool_run runs[2] = {{100, 5}, {110, 1}}, run;
    struct spool_assignment a = {.partition = SPAN("set"),
                                 .runs = runs,
                                 .run_count = 2,
                                 .raw_len = 1000,
                                 .raw_crc32c = 0xDEADBEEF,
                                 .envelope_version = 2,
                                 .envelope_hash = 0x0102030405060708,
                                 .codec = 1,
                                 .level = 9};
    cr_assert_eq(op_put_assign(&b, 4, 77, 0, &a), OK);
    is_hex(b.at, b.len,
           "020109000000000000000000000000000400000000000000"
           "4d00000000000000"
           "6400000000000000"
           "06000000"
           "e8030000"
           "efbeadde"
           "02000000"
           "0807060504030201"
           "0109020000000000"
           "0373657400050501");
    back_and_forth(&b, &op);
    cr_assert_eq(op.assign.count, 6);
    cr_assert_eq(op.assign.batch_no, 77);
    cr_assert(span_is(op.assign.partition, "set"));
    cr_assert(op_run_next(&op.assign.runs, &run));
    cr_assert(op_run_next(&op.assign.runs, &run));
    cr_assert_eq(run.first, 110);
    cr_assert_not(op_run_next(&op.assign.runs, &run));
    bytes_deinit(&b);
}

Test(spool_codec, every_op_comes_back)
{
    struct bytes b;
    struct op op;
    struct spool_run runs[2] = {{10, 2}, {20, 3}};
    bytes_init(&b, 65536);
    cr_assert_eq(op_put_done(&b, OP_SPLIT, 3, 9, false, runs, 2), OK);
    back_and_forth(&b, &op);
    cr_assert_eq(op.done.batch_no, 9);
    cr_assert_eq(op.done.delivered.left, 2);
    bytes_clear(&b);
    struct op_dead dead = {.reason = 5, .epoch = 2, .batch_no = 8, .letter = 70, .dlq_segment = 3};
    cr_assert_eq(op_put_dead(&b, &dead, runs, 2), OK);
    back_and_forth(&b, &op);
    cr_assert_eq(op.dead.letter, 70);
    bytes_clear(&b);
    cr_assert_eq(op_put_drop(&b, OP_DROP, SPOOL_DROP_EXPIRED, OP_FLAG_WHOLE_BATCHES, runs, 1), OK);
    back_and_forth(&b, &op);
    cr_assert_eq(op.drop.reason, SPOOL_DROP_EXPIRED);
    bytes_clear(&b);
    struct op_gap gap = {1, 2, 3, 4, 5};
    cr_assert_eq(op_put_gap(&b, &gap), OK);
    back_and_forth(&b, &op);
    cr_assert_eq(op.gap.count, 5);
    bytes_clear(&b);
    cr_assert_eq(op_put_user(&b, SPAN("hello")), OK);
    back_and_forth(&b, &op);
    cr_assert(span_is(op.user, "hello"));
    bytes_clear(&b);
    cr_assert_eq(op_put_counts(&b, &(struct op_counts){7, 8, 9}), OK);
    back_and_forth(&b, &op);
    cr_assert_eq(op.counts.torn_bytes, 8);
    bytes_clear(&b);
    struct op_state state = {
        .next_seq = 50, .base_seq = 1, .low_water = 3, .next_batch_no = 4, .next_letter = 5, .delivered = 3};
    state.dropped[2] = 6;
    state.dead_total[15] = 7;
    cr_assert_eq(op_put_state(&b, &state), OK);
    back_and_forth(&b, &op);
    cr_assert_eq(op.state.dropped[2], 6);
    cr_assert_eq(op.state.dead_total[15], 7);
    cr_assert_eq(op.state.next_letter, 5);
    bytes_clear(&b);
    cr_assert_eq(op_put_clean(&b), OK);
    b.at[0] = 0x90; /* unknown, but may be passed over */
    back_and_forth(&b, &op);
    b.at[0] = 0x70;
    struct span rest = bytes_span(&b);
    cr_assert_not(op_next(&rest, &op));
    bytes_deinit(&b);
}

Test(spool_codec, accounts_come_back_from_their_state)
{
    struct accounts a, back;
    struct bytes b;
    bytes_init(&b, 65536);
    accounts_init(&a);
    accounts_init(&back);
    accounts_stored(&a, 1, 100);
    struct spool_run runs[2] = {{11, 10}, {41, 5}};
    struct spool_assignment assignment = {.partition = SPAN("p"), .runs = runs, .run_count = 2};
    cr_assert_eq(op_put_assign(&b, 1, 1, 0, &assignment), OK);
    struct spool_run first = {1, 10}, middle = {30, 3};
    cr_assert_eq(op_put_drop(&b, OP_DROP, SPOOL_DROP_QUOTA, 0, &first, 1), OK);
    cr_assert_eq(op_put_drop(&b, OP_DROP, SPOOL_DROP_EXPIRED, 0, &middle, 1), OK);
    cr_assert(accounts_apply(&a, bytes_span(&b)));
    cr_assert_eq(a.low_water, 10);
    cr_assert_eq(accounts_pending(&a), 87);
    bytes_clear(&b);
    cr_assert_eq(accounts_put_state(&a, a.next_seq, 0, &b), OK);
    cr_assert(accounts_apply(&back, bytes_span(&b)));
    cr_assert_eq(accounts_pending(&back), 87);
    cr_assert_eq(back.batch_count, 1);
    cr_assert_eq(back.settled.count, 3);
    cr_assert_eq(back.taken.count, 18);
    bytes_clear(&b);
    cr_assert_eq(op_put_done(&b, OP_DONE, 1, 1, true, NULL, 0), OK);
    cr_assert(accounts_apply(&back, bytes_span(&b)));
    cr_assert_eq(back.delivered, 15);
    cr_assert(accounts_apply(&back, bytes_span(&b)), "twice");
    cr_assert_eq(back.delivered, 15);
    cr_assert_eq(back.low_water, 20);
    bytes_clear(&b);
    struct spool_run beyond = {200, 1};
    cr_assert_eq(op_put_drop(&b, OP_DROP, SPOOL_DROP_QUOTA, 0, &beyond, 1), OK);
    cr_assert_not(accounts_apply(&back, bytes_span(&b)), "names what was never stored");
    bytes_deinit(&b);
    accounts_deinit(&a);
    accounts_deinit(&back);
}

Test(spool_codec, intervals_agree_with_a_bitmap)
{
    struct intervals s = {0};
    bool bits[400] = {0};
    uint64_t seed = 1;
    for (int step = 0; step < 20000; step++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        uint64_t first = 1 + (seed >> 33) % 380, last = first + (seed >> 20) % 12, fresh = 0;
        bool add = (seed >> 60) < 9;
        for (uint64_t i = first; i <= last; i++) {
            fresh += bits[i] != add;
            bits[i] = add;
        }
        cr_assert_eq(add ? intervals_add(&s, first, last) : intervals_remove(&s, first, last), fresh);
        if (step % 1000 == 999) {
            intervals_drop_to(&s, 50);
            memset(bits, 0, 51);
        }
        uint64_t probe = (seed >> 11) % 395, count = 0, next = probe;
        for (size_t i = 0; i < 400; i++)
            count += bits[i];
        cr_assert_eq(s.count, count);
        cr_assert_eq(intervals_has(&s, probe), bits[probe]);
        while (next < 400 && bits[next])
            next++;
        cr_assert_eq(intervals_next_free(&s, probe), next);
        for (size_t i = 0; i + 1 < s.len; i++)
            cr_assert_lt(s.at[i].last + 1, s.at[i + 1].first);
    }
    intervals_deinit(&s);
}

Test(spool_codec, what_was_not_handed_out_is_not_taken_back)
{
    struct tail t;
    struct tail_range ranges[4];
    uint64_t first, end;
    struct spool_record r = {.body = SPAN("abc"), .wall_ns = 1};
    tail_init(&t);
    tail_append(&t, &r, 1, 1);
    tail_unlaunch(&t);
    cr_assert_eq(t.fill_events, 1);
    cr_assert_eq(tail_take(&t, 1 << 20, 4, ranges, &first, &end), 1);
    cr_assert_eq(t.fill_events, 0);
    tail_append(&t, &r, 1, 2);
    tail_unlaunch(&t);
    cr_assert_eq(t.fill_events, 2);
    cr_assert_eq(tail_take(&t, 1 << 20, 4, ranges, &first, &end), 1);
    cr_assert_eq(first, 1);
    cr_assert_eq(end, 3);
    tail_settle(&t);
    tail_forget(&t, 0, 2);
    cr_assert_null(t.first, "all of it is done with");
    tail_append(&t, &r, 1, 3);
    tail_close_frame(&t);
    tail_unlaunch(&t);
    cr_assert_eq(t.fill_events, 1);
    tail_deinit(&t);
}

Test(spool_codec, what_waits_in_the_next_chunk_is_not_counted_twice)
{
    static uint8_t body[100 * 1000];
    struct tail t;
    struct tail_range ranges[4];
    uint64_t first, end;
    struct spool_record r = {.body = span_of(body, sizeof(body)), .wall_ns = 1};
    tail_init(&t);
    tail_append(&t, &r, 1, 1);
    cr_assert_eq(tail_take(&t, 1 << 20, 4, ranges, &first, &end), 1);
    tail_append(&t, &r, 1, 2); /* another chunk */
    tail_append(&t, &r, 1, 3);
    cr_assert_eq(t.fill_events, 2);
    tail_unlaunch(&t);
    cr_assert_eq(t.fill_events, 3);
    unsigned count = tail_take(&t, 1 << 20, 4, ranges, &first, &end);
    cr_assert_eq(count, 3);
    cr_assert_eq(first, 1);
    cr_assert_eq(end, 4);
    cr_assert_eq(t.fill_events, 0);
    cr_assert_eq(t.fill_bytes, 0);
    tail_deinit(&t);
}
