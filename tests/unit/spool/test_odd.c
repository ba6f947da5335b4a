/* Calls in odd states, disks with odd errors, and the small parts by themselves. */
#include "lib/base/crc32c.h"
#include "lib/base/le.h"
#include "lib/spool/ages.h"
#include "lib/spool/format.h"
#include "lib/spool/frame.h"
#include "lib/spool/intervals.h"
#include "lib/spool/ops.h"
#include "lib/spool/tail.h"
#include "lib/spool/varint.h"
#include "tests/unit/spool/bench.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>

BENCH_SUITE(spool_odd);

static void fail_from_now(enum memfs_call call, int error)
{
    b.fs.fail_call = call;
    b.fs.fail_at = 1;
    b.fs.fail_errno = error;
    b.fs.fail_forever = true;
}

/* --- errors after which no retry helps ----------------------------------------------------------------------
 */

static void fails_at_once(enum memfs_call call, int error)
{
    memfs_deinit(&b.fs);
    bench_init(&b);
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 5, 1000);
    fail_from_now(call, error);
    for (unsigned i = 0; i < 60 && spool_state(b.spool) == SPOOL_OK; i++) {
        static char body[20000];
        uint64_t seq;
        (void)bench_append_body(&b, body, sizeof body, &seq);
        bench_sleep(&b, 1000);
    }
    cr_assert_eq(spool_state(b.spool), SPOOL_FAILED, "errno %d", error);
    cr_assert_neq(b.last_fault.text[0], 0);
    cr_assert_eq(b.notes[NOTE_FAILED], 1);
    /* Freed without being closed: nobody waits for it. */
    bench_settle(&b);
    spool_free(b.spool);
    b.spool = NULL;
    cr_assert_eq(memfs_open_files(&b.fs), 0, "errno %d: descriptors leak", error);
    b.fs.fail_at = 0;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    cr_assert_geq(bench_drain(&b), 5);
    bench_crash(&b, false);
}

Test(spool_odd, a_disk_that_is_gone_or_read_only_fails_the_spool)
{
    static const int errors[] = {EROFS, EBADF, ENODEV};
    for (unsigned i = 0; i < 3; i++) {
        fails_at_once(MEMFS_PWRITEV, errors[i]);
        fails_at_once(MEMFS_OPEN, errors[i]);
    }
    fails_at_once(MEMFS_OPEN, ENOENT);
}

Test(spool_odd, a_failed_spool_closes_what_it_had_for_letters_and_for_later)
{
    struct spool_death death = {.seq = 1, .answer = SPAN("no")};
    struct spool_outcome o = {.dead = &death, .dead_count = 1};
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 1, 100);
    cr_assert_eq(spool_settle(b.spool, bench_assign(&b, 1), &o), OK);
    bench_sleep(&b, SECOND_US);
    bench_fill(&b, 40, 15000); /* more than half of a file: the next one is prepared */
    bench_sleep(&b, SECOND_US);
    cr_assert_eq(memfs_open_files(&b.fs), 3, "one of the log, one to come, one of letters");
    fail_from_now(MEMFS_PWRITEV, EROFS);
    (void)bench_append(&b, 1);
    bench_sleep(&b, SECOND_US);
    cr_assert_eq(spool_state(b.spool), SPOOL_FAILED);
    spool_free(b.spool);
    b.spool = NULL;
    cr_assert_eq(memfs_open_files(&b.fs), 0);
}

Test(spool_odd, without_fallocate_files_are_filled_whatever_it_is_called)
{
    fail_from_now(MEMFS_FALLOCATE, ENOSYS);
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 150, 10000);
    cr_assert_eq(bench_drain(&b), 150);
}

/* --- a finished file that cannot be used again ----------------------------------------------------------------
 */

static struct spool_vfs real;
static enum memfs_call then_fails;
static unsigned renames;

static int rename_and_then(void *ctx, const char *from, const char *to)
{
    renames++;
    int r = real.rename(ctx, from, to);
    fail_from_now(then_fails, EIO);
    b.fs.fail_forever = false;
    return r;
}

static void recycling_fails_in(enum memfs_call call)
{
    memfs_deinit(&b.fs);
    setup();
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    b.spool = (spool_abandon(b.spool), NULL);
    memfs_kill(&b.fs);
    real = memfs_vfs(&b.fs);
    b.vfs = real;
    b.vfs.rename = rename_and_then;
    then_fails = call;
    renames = 0;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    uint64_t delivered = 0, taken = 0;
    for (unsigned i = 0; i < 8; i++) {
        bench_fill(&b, 60, 10000);
        taken += 60;
        delivered += bench_drain(&b);
        bench_sleep(&b, 3 * SECOND_US);
    }
    cr_assert_gt(renames, 0, "no file was used again: nothing was shown");
    cr_assert_eq(b.fs.failed > 0, true, "call %d was never made", call);
    cr_assert_eq(delivered, taken);
    cr_assert_eq(bench_ledger(&b).pending, 0);
    cr_assert_leq(memfs_open_files(&b.fs), 6);
    bench_crash(&b, true);
    b.vfs = real;
    cr_assert_eq(bench_open(&b), SPOOL_OK, "%s", b.last_fault.text);
    cr_assert_eq(bench_ledger(&b).delivered, taken);
    bench_crash(&b, true);
}

Test(spool_odd, a_file_that_cannot_be_used_again_is_replaced)
{
    recycling_fails_in(MEMFS_OPEN);
    recycling_fails_in(MEMFS_PWRITEV);
    recycling_fails_in(MEMFS_FDATASYNC);
    recycling_fails_in(MEMFS_FSYNC_DIR);
}

/* --- long segments --------------------------------------------------------------------------------------------
 */

Test(spool_odd, a_long_segment_says_its_state_again)
{
    size_t size;
    b.config.max_bytes = 256 * BENCH_MIB;
    b.config.segment_bytes = 16 * BENCH_MIB;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    for (unsigned i = 0; i < 10; i++) {
        bench_fill(&b, 50, 20000);
        bench_deliver(&b, bench_assign(&b, 10));
        bench_sleep(&b, SECOND_US);
    }
    const unsigned char *file = memfs_file(&b.fs, "seg-0000000000000001.wal", &size);
    uint32_t tag = segment_tag(le64_get(file + 40));
    unsigned states = 0;
    for (size_t at = SEGMENT_HEADER_AREA; at + FRAME_HEADER_BYTES < size; at += FRAME_ALIGN) {
        struct frame f;
        if (frame_parse(file + at, at, tag, FRAME_PAYLOAD_MAX, &f) && f.type == FRAME_CTRL)
            states += file[at + FRAME_HEADER_BYTES] == OP_STATE;
    }
    cr_assert_geq(states, 4, "two at its begin, and one each 4 MiB: %u", states);
    bench_crash(&b, true);
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    cr_assert_eq(bench_ledger(&b).delivered, 100);
    cr_assert_eq(bench_drain(&b), 400);
}

/* --- the caller's counters --------------------------------------------------------------------------------------
 */

Test(spool_odd, counters_are_saved_when_they_are_and_waited_for_only_then)
{
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    spool_set_user(b.spool, SPAN("twelve bytes"));
    uint64_t number = spool_save_user(b.spool);
    cr_assert_not(spool_saved(b.spool, number));
    bench_sleep(&b, 10000);
    cr_assert(spool_saved(b.spool, number));
    cr_assert_eq(b.notes[NOTE_SAVED], 1);
    long writes = b.fs.calls[MEMFS_PWRITEV];
    bench_sleep(&b, 5 * SECOND_US);
    writes = b.fs.calls[MEMFS_PWRITEV];
    spool_set_user(b.spool, SPAN("twelve bytes"));
    bench_sleep(&b, 5 * SECOND_US);
    cr_assert_eq(b.fs.calls[MEMFS_PWRITEV], writes, "what has not changed is not written");
    /* A disk that takes nothing: what is to be delivered does not wait for counters. */
    fail_from_now(MEMFS_PWRITEV, ENOSPC);
    spool_set_user(b.spool, SPAN("others"));
    number = spool_save_user(b.spool);
    cr_assert_not(spool_saved(b.spool, number));
    bench_sleep(&b, SECOND_US / 2);
    cr_assert_eq(spool_state(b.spool), SPOOL_FULL);
    cr_assert(spool_saved(b.spool, number));
    b.fs.fail_at = 0;
    bench_sleep(&b, 3 * SECOND_US);
    cr_assert_eq(spool_state(b.spool), SPOOL_OK);
    /* Nor for a disk that does not answer. */
    number = spool_save_user(b.spool);
    cr_assert_eq(b.job_count, 1);
    struct spool_job *stuck = b.jobs[0];
    b.job_count = 0;
    bench_sleep(&b, 6 * SECOND_US);
    cr_assert(spool_saved(b.spool, number));
    b.jobs[b.job_count++] = stuck;
    bench_settle(&b);
    number = spool_save_user(b.spool);
    spool_close(b.spool);
    cr_assert(spool_saved(b.spool, number), "nobody waits for it any more");
    bench_sleep(&b, 2 * SECOND_US);
    cr_assert_eq(b.notes[NOTE_CLOSED], 1);
    spool_free(b.spool);
    b.spool = NULL;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    cr_assert(span_is(spool_user(b.spool), "others"));
}

/* --- ages, clocks, scrubbing, letters that nobody can read --------------------------------------------------
 */

Test(spool_odd, a_short_age_is_looked_at_more_often_than_once_a_second)
{
    b.config.max_age_us = 100 * 1000;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 5, 100);
    bench_sleep(&b, SECOND_US * 9 / 10);
    cr_assert_eq(bench_ledger(&b).dropped[SPOOL_DROP_EXPIRED], 5);
    cr_assert_eq(bench_ledger(&b).pending, 0);
}

/* The monotonic clock began after the files did. */
Test(spool_odd, files_may_be_older_than_the_clock)
{
    uint64_t wall_ns;
    struct span id;
    b.config.recent_us = 3600 * SECOND_US;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 300, 10000);
    cr_assert_eq(bench_drain(&b), 300);
    bench_crash(&b, true);
    b.wall_ns += 1800 * SECOND_US * 1000;
    b.mono_us = SECOND_US;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    unsigned count = 0;
    while (spool_recent_next(b.spool, &id, &wall_ns))
        count++;
    cr_assert_gt(count, 100, "half an hour is not too long ago");
    bench_fill(&b, 10, 100);
    cr_assert_eq(bench_drain(&b), 10);
}

Test(spool_odd, a_scrub_that_cannot_read_comes_again_and_loses_nothing)
{
    b.config.scrub_bytes_s = BENCH_MIB;
    bench_backlog(&b);
    fail_from_now(MEMFS_OPEN, EMFILE);
    bench_sleep(&b, 30 * SECOND_US);
    cr_assert_gt(b.fs.failed, 0, "it never tried");
    b.fs.fail_at = 0;
    cr_assert_eq(bench_ledger(&b).pending, 300);
    /* Switched off while it reads. */
    for (unsigned i = 0; i < 1000 && b.job_count == 0; i++) {
        b.mono_us += SECOND_US / 10;
        spool_tick(b.spool);
    }
    cr_assert_eq(b.job_count, 1);
    b.config.scrub_bytes_s = 0;
    spool_reconfigure(b.spool, &b.config);
    bench_settle(&b);
    cr_assert_eq(bench_ledger(&b).pending, 300);
    spool_rewind(b.spool);
    cr_assert_eq(bench_drain(&b), 300);
}

Test(spool_odd, many_files_of_letters_that_nobody_can_read_go_bit_by_bit)
{
    unsigned char junk[9000];
    memset(junk, 0xEE, sizeof junk);
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 5, 100);
    bench_close(&b);
    for (unsigned i = 1; i <= 12; i++) {
        char name[SEGMENT_NAME_MAX];
        dead_name(i, name);
        memfs_put(&b.fs, name, junk, sizeof junk);
    }
    for (unsigned life = 0; life < 2; life++) {
        cr_assert_eq(bench_open(&b), SPOOL_OK);
        cr_assert_eq(bench_ledger(&b).dead, 0);
        bench_crash(&b, false);
    }
    unsigned kept = 0, left = 0;
    for (size_t i = 0; i < b.fs.cache_count; i++) {
        kept += strncmp(b.fs.cache[i].name, "quarantine/dlq-", 15) == 0;
        left += strncmp(b.fs.cache[i].name, "dead/dlq-", 9) == 0;
    }
    cr_assert_eq(kept, 12);
    cr_assert_eq(left, 0);
}

/* More damaged places than a start copies to quarantine. */
Test(spool_odd, damage_in_many_places_of_the_newest_file_is_counted_to_the_event)
{
    size_t size;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    for (unsigned i = 0; i < 40; i++) {
        cr_assert_neq(bench_append(&b, i), 0);
        bench_sleep(&b, 1000);
    }
    bench_sleep(&b, 3 * SECOND_US);
    bench_crash(&b, true);
    unsigned char *file = memfs_file(&b.fs, "seg-0000000000000001.wal", &size);
    unsigned hurt = 0;
    for (size_t at = SEGMENT_HEADER_AREA; at + 100 < size && hurt < 20; at += FRAME_ALIGN)
        if (memcmp(file + at, "FRM1\1", 5) == 0 && le64_get(file + at + 16) % 2 == 0) {
            file[at + FRAME_HEADER_BYTES + 3] ^= 1;
            hurt++;
        }
    cr_assert_eq(hurt, 20);
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    cr_assert_eq(bench_ledger(&b).pending, 20);
    cr_assert_eq(bench_ledger(&b).dropped[SPOOL_DROP_CORRUPT], 20);
    cr_assert_eq(bench_drain(&b), 20);
}

/* --- outcomes -----------------------------------------------------------------------------------------------
 */

Test(spool_odd, members_of_a_batch_may_be_dropped_for_a_reason)
{
    struct spool_run delivered = {1, 6}, dropped = {7, 4};
    struct spool_outcome o = {.delivered = &delivered,
                              .delivered_count = 1,
                              .dropped = &dropped,
                              .dropped_count = 1,
                              .drop_reason = SPOOL_DROP_EXPIRED};
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 10, 100);
    cr_assert_eq(spool_settle(b.spool, bench_assign(&b, 10), &o), OK);
    bench_sleep(&b, SECOND_US);
    for (int life = 0; life < 2; life++) {
        cr_assert_eq(bench_ledger(&b).delivered, 6);
        cr_assert_eq(bench_ledger(&b).dropped[SPOOL_DROP_EXPIRED], 4);
        bench_crash(&b, true);
        cr_assert_eq(bench_open(&b), SPOOL_OK);
    }
}

Test(spool_odd, what_has_ended_meanwhile_is_not_assigned)
{
    struct spool_item item;
    struct spool_batch_id id;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 10, 100);
    for (unsigned i = 0; i < 6; i++)
        cr_assert(bench_next(&b, &item));
    cr_assert_eq(spool_drop(b.spool, (struct spool_run){1, 3}, SPOOL_DROP_EXPIRED), OK);
    cr_assert_eq(spool_drop(b.spool, (struct spool_run){5, 1}, SPOOL_DROP_EXPIRED), OK);
    struct spool_run runs[] = {{1, 6}, {4, 3}, {6, 1}};
    struct spool_assignment a = {.partition = SPAN("p"), .run_count = 1};
    for (unsigned i = 0; i < 2; i++) {
        a.runs = &runs[i];
        cr_assert_eq(spool_assign(b.spool, &a, &id), ERR_NOT_FOUND);
    }
    a.runs = &runs[2];
    cr_assert_eq(spool_assign(b.spool, &a, &id), OK);
    spool_rewind(b.spool);
    cr_assert(bench_next(&b, &item));
    cr_assert_eq(item.seq, 4);
    spool_rewind(b.spool);
    bench_sleep(&b, 1000);
    bench_deliver(&b, id.batch_no);
    cr_assert_eq(bench_drain(&b), 5);
}

Test(spool_odd, a_letter_may_have_no_partition_and_an_event_no_id)
{
    struct spool_record r = {.body = SPAN("body"), .wall_ns = b.wall_ns};
    struct spool_death death = {.seq = 1};
    struct spool_outcome o = {.dead = &death, .dead_count = 1};
    uint64_t seq, wall_ns;
    struct span id;
    b.config.recent_us = 60 * SECOND_US;
    b.config.recent_max = 3;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    cr_assert_eq(spool_append(b.spool, &r, 1, &seq), OK);
    bench_sleep(&b, 1000);
    cr_assert_eq(spool_settle(b.spool, bench_assign(&b, 1), &o), OK);
    for (unsigned i = 0; i < 5; i++)
        (void)bench_append(&b, i);
    bench_sleep(&b, SECOND_US);
    bench_crash(&b, true);
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    cr_assert_eq(bench_ledger(&b).dead, 1);
    unsigned count = 0;
    while (spool_recent_next(b.spool, &id, &wall_ns))
        count += span_is(id, "id");
    cr_assert_eq(count, 3, "the newest ones, and none without an id: %u", count);
}

/* --- the small parts --------------------------------------------------------------------------------------------
 */

Test(spool_odd, too_many_ages_are_thinned_out_or_forgotten_with_what_is_settled)
{
    static struct ages a;
    const uint64_t s = 1000000000, begin = 1000 * s;
    for (uint64_t i = 0; i < 500; i++)
        ages_note(&a, 1 + 10 * i, begin + 2 * i * s, 1);
    cr_assert_leq(a.len, AGES_MAX);
    cr_assert_eq(ages_of(&a, 1), begin);
    for (uint64_t i = 0; i < 500; i++) {
        uint64_t told = ages_of(&a, 1 + 10 * i), is = begin + 2 * i * s;
        cr_assert(told <= is && is - told <= 1000 * s / 40, "event %lu: %lu s off", (unsigned long)(1 + 10 * i), (unsigned long)((is - told) / s));
    }
    /* Most of them are settled: the rest is as exact as ever. */
    for (uint64_t i = 500; i < 20000; i++) /* and so it is for a very long backlog */
        ages_note(&a, 1 + 10 * i, begin + 2 * i * s, 1);
    for (uint64_t i = 0; i < 20000; i++)
        cr_assert_leq(begin + 2 * i * s - ages_of(&a, 1 + 10 * i), 40000 * s / 40, "event %lu", (unsigned long)(1 + 10 * i));
    for (uint64_t i = 20000; i < 20200; i++)
        ages_note(&a, 1 + 10 * i, begin + 2 * i * s, 1 + 10 * (i - 5));
    for (uint64_t i = 20190; i < 20200; i++)
        cr_assert_eq(ages_of(&a, 1 + 10 * i), begin + 2 * i * s);
    cr_assert_leq(a.len, AGES_MAX);
}

Test(spool_odd, names_of_files_are_taken_to_the_letter)
{
    static const struct {
        const char *name;
        bool good;
    } names[] = {{"seg-00000000000000a1.wal", true},  {"seg-00000000000000g1.wal", false},
                 {"seg-00000000000000A1.wal", false}, {"seg-00000000000000/1.wal", false},
                 {"seg-00000000000000:1.wal", false}, {"seg-0000000000000000.wal", false},
                 {"seg-4000000000000000.wal", true},  {"seg-4000000000000001.wal", false},
                 {"seg-ffffffffffffffff.wal", false}, {"seg-00000000000000a1.wbl", false}};
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
        uint64_t id;
        cr_assert_eq(segment_name_parse(names[i].name, "seg-", &id), names[i].good, "%s", names[i].name);
    }
}

Test(spool_odd, a_magic_that_only_looks_like_another_generation_is_damage)
{
    uint8_t raw[FORMAT_BYTES] = "SPLFMT2\r";
    struct format_id id;
    struct fault why;
    le32_put(raw + 60, crc32c(0, raw, 60));
    cr_assert_eq(format_decode(span_of(raw, sizeof raw), &id, &why), ERR_CORRUPT);
    raw[7] = '\n';
    le32_put(raw + 60, crc32c(0, raw, 60));
    cr_assert_eq(format_decode(span_of(raw, sizeof raw), &id, &why), ERR_UNSUPPORTED);
}

Test(spool_odd, what_lies_behind_is_not_dropped_from_a_set)
{
    struct intervals s = {0};
    intervals_drop_to(&s, 10);
    cr_assert_eq(s.count, 0);
    (void)intervals_add(&s, 20, 30);
    intervals_drop_to(&s, 10);
    cr_assert_eq(s.count, 11);
    intervals_drop_to(&s, 25);
    cr_assert_eq(s.count, 5);
    intervals_deinit(&s);
}

Test(spool_odd, runs_beyond_every_number_are_none)
{
    static const uint64_t lists[][2] = {{SEQ_MAX + 1, 1}, {1, SEQ_MAX + 1}, {1, 0}, {SEQ_MAX, SEQ_MAX}, {SEQ_MAX - 1, 5}};
    for (unsigned i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        uint8_t raw[32];
        uint8_t *end = varint_put(varint_put(raw, lists[i][0]), lists[i][1]);
        struct op_runs runs = {.at = raw, .end = end, .base = i == 3 ? 0 : 10, .left = 1};
        struct spool_run run;
        cr_assert_not(op_run_next(&runs, &run), "list %u", i);
        runs = (struct op_runs){.at = raw, .end = end, .base = SEQ_MAX + 1, .left = 1};
        cr_assert_not(op_run_next(&runs, &run), "list %u, far out", i);
    }
}

Test(spool_odd, names_of_partitions_and_versions_part_frames_where_they_must)
{
    struct tail t;
    struct tail_range ranges[64];
    uint64_t first, end;
    tail_init(&t);
    for (unsigned i = 0; i < 40; i++) { /* sixteen names to a frame */
        char name[8];
        (void)snprintf(name, sizeof name, i % 5 == 0 ? "m%u" : "n%02u", i);
        struct spool_record r = {.partition = span_str(name), .body = SPAN("x"), .wall_ns = 1};
        tail_append(&t, &r, i < 30 ? 1 : 2, 1 + i);
    }
    unsigned count = tail_take(&t, 1 << 20, 64, ranges, &first, &end);
    unsigned frames = 0;
    for (unsigned i = 0; i < count; i++)
        for (size_t at = 0; at < ranges[i].len; at += (size_t)frame_bytes(frame_payload_len(ranges[i].at + at)))
            frames++;
    cr_assert_eq(frames, 3, "16, 14 of the other version, 10: %u", frames);
    cr_assert_eq(end - first, 40);
    /* A reader that must not go beyond an event in the middle of a frame stays before it. */
    struct chunk_reader reader;
    struct spool_item item;
    chunk_reader_init(&reader, t.first);
    for (uint64_t seq = 1; seq < 10; seq++) {
        cr_assert(chunk_reader_next(&reader, seq, 10, &item));
        cr_assert_eq(item.seq, seq);
    }
    cr_assert_not(chunk_reader_next(&reader, 10, 10, &item));
    cr_assert(chunk_reader_next(&reader, 10, 41, &item));
    cr_assert_eq(item.seq, 10);
    tail_deinit(&t);
}

/* --- groups of appends ------------------------------------------------------------------------------------------
 */

static enum err append_group(uint64_t *reserved, size_t len)
{
    static char body[600000];
    uint64_t seq;
    struct spool_record r = {.partition = SPAN("p"), .body = span_of(body, len), .wall_ns = b.wall_ns};
    return spool_append_reserved(b.spool, &r, 1, reserved, &seq);
}

Test(spool_odd, what_was_reserved_is_not_taken_by_a_spool_that_ends)
{
    uint64_t reserved, none;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    cr_assert_eq(spool_reserve(b.spool, 1, 64 * BENCH_MIB, &none), ERR_TOO_BIG, "more than the whole spool");
    cr_assert_eq(none, 0);
    cr_assert_eq(spool_reserve(b.spool, 10, 10000, &reserved), OK);
    cr_assert_eq(append_group(&reserved, 600000), ERR_TOO_BIG, "one event is too large, room or not");
    cr_assert_eq(append_group(&reserved, 1000), OK);
    spool_close(b.spool);
    cr_assert_eq(spool_room_reserved(b.spool), ERR_CLOSED);
    cr_assert_eq(append_group(&reserved, 1000), ERR_CLOSED);
    cr_assert_eq(spool_reserve(b.spool, 1, 100, &none), ERR_CLOSED);
    spool_unreserve(b.spool, reserved);
    bench_sleep(&b, 2 * SECOND_US);
    cr_assert_eq(b.notes[NOTE_CLOSED], 1);
    spool_free(b.spool);
    b.spool = NULL;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    cr_assert_eq(bench_ledger(&b).pending, 1, "what was taken before it is there");
    cr_assert_eq(spool_reserve(b.spool, 10, 10000, &reserved), OK);
    fail_from_now(MEMFS_PWRITEV, EROFS);
    (void)bench_append(&b, 1);
    bench_sleep(&b, SECOND_US);
    cr_assert_eq(spool_state(b.spool), SPOOL_FAILED);
    cr_assert_eq(spool_room_reserved(b.spool), ERR_CLOSED);
    cr_assert_eq(append_group(&reserved, 1000), ERR_CLOSED);
    cr_assert_eq(spool_reserve(b.spool, 1, 100, &none), ERR_CLOSED);
    cr_assert_eq(spool_room(b.spool, 1, 100), ERR_CLOSED);
    spool_unreserve(b.spool, reserved);
}
