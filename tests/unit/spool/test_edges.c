/* Calls at the wrong moment, limits that are reached, and damage where it is rare. */
#include "lib/base/crc32c.h"
#include "lib/base/le.h"
#include "lib/spool/format.h"
#include "lib/spool/frame.h"
#include "lib/spool/verify.h"
#include "tests/unit/spool/allocations.h"
#include "tests/unit/spool/bench.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define DLQ "dead/dlq-0000000000000001.wal"

BENCH_SUITE(spool_edges);

/* --- no allocation per event ---------------------------------------------------------------------------- */

#ifdef ALLOCATIONS_COUNTED
Test(spool_edges, append_commit_and_answer_allocate_nothing)
{
    static const char body[300] = "an event of three hundred bytes";
    struct spool_record records[50];
    for (unsigned i = 0; i < 50; i++)
        records[i] = (struct spool_record){.partition = SPAN("p"),
                                           .id = SPAN("id"),
                                           .body = span_of(body, sizeof body),
                                           .wall_ns = b.wall_ns};
    b.config.max_bytes = 256 * BENCH_MIB;
    b.config.segment_bytes = 16 * BENCH_MIB;
    b.config.cache_bytes = BENCH_MIB;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    uint64_t seq = 0, first = 0;
    for (unsigned round = 0; round < 700; round++) {
        if (round == 300) { /* warm: the cache is full, and evicts as it takes */
            first = seq;
            allocations.counting = true;
        }
        cr_assert_eq(spool_append(b.spool, records, 50, &seq), OK);
        b.mono_us += 600;
        bench_settle(&b);
        cr_assert_eq(spool_acked(b.spool), seq);
    }
    allocations.counting = false;
    /* The sparse index of the segment grows now and then; nothing else does. */
    cr_assert_leq(allocations.count, 4, "%lu allocations for %lu events", allocations.count,
                  (unsigned long)(seq - first));
}
#endif

/* --- calls at the wrong moment -------------------------------------------------------------------------- */

static void on_request_done(void *ctx, enum err err, uint64_t count, const struct fault *why)
{
    (void)count;
    (void)why;
    *(enum err *)ctx = err;
}

static void all_refuse(uint64_t batch_no)
{
    struct spool_run run = {1, 1};
    struct spool_assignment a = {.partition = SPAN("p"), .runs = &run, .run_count = 1};
    struct spool_outcome o = {.all_delivered = true};
    struct spool_batch_id id;
    struct spool_dead_request r = {.kind = DEAD_PURGE};
    uint64_t seq;
    cr_expect_eq(spool_room(b.spool, 1, 10), ERR_CLOSED);
    cr_expect_eq(bench_append_body(&b, "x", 1, &seq), ERR_CLOSED);
    cr_expect_eq(spool_assign(b.spool, &a, &id), ERR_CLOSED);
    cr_expect_eq(spool_settle(b.spool, batch_no, &o), ERR_CLOSED);
    cr_expect_eq(spool_dead(b.spool, &r), ERR_CLOSED);
}

Test(spool_edges, a_closing_spool_refuses_and_a_closed_one_too)
{
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 3, 10);
    uint64_t no = bench_assign(&b, 2);
    struct spool_item item;
    spool_close(b.spool);
    all_refuse(no);
    bench_sleep(&b, 2 * SECOND_US);
    cr_assert_eq(spool_state(b.spool), SPOOL_CLOSED);
    all_refuse(no);
    cr_expect_eq(spool_next(b.spool, &item), ERR_CLOSED);
    cr_expect_eq(spool_drop(b.spool, (struct spool_run){3, 1}, SPOOL_DROP_EXPIRED), ERR_CLOSED);
    spool_free(b.spool);
    b.spool = NULL;
    spool_free(NULL);
}

Test(spool_edges, a_failed_spool_refuses_and_lets_go_of_its_files)
{
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 3, 10);
    uint64_t no = bench_assign(&b, 2);
    b.fs.fail_call = MEMFS_PWRITEV;
    b.fs.fail_at = 1;
    b.fs.fail_errno = EROFS;
    (void)bench_append(&b, 9);
    bench_settle(&b);
    cr_assert_eq(spool_state(b.spool), SPOOL_FAILED);
    cr_assert_eq(b.notes[NOTE_FAILED], 1);
    all_refuse(no);
    cr_assert_eq(spool_acked(b.spool), 3, "nobody is answered");
    cr_assert_gt(memfs_open_files(&b.fs), 0);
    spool_free(b.spool);
    b.spool = NULL;
    cr_assert_eq(memfs_open_files(&b.fs), 0);
}

Test(spool_edges, a_failed_spool_can_be_closed_in_order_as_well)
{
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    b.fs.fail_call = MEMFS_PWRITEV;
    b.fs.fail_at = 1;
    b.fs.fail_errno = EROFS;
    (void)bench_append(&b, 9);
    bench_settle(&b);
    cr_assert_eq(spool_state(b.spool), SPOOL_FAILED);
    bench_close(&b);
}

Test(spool_edges, a_request_for_letters_ends_when_the_spool_does)
{
    enum err err = OK;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    struct spool_dead_request list = {.ctx = &err, .kind = DEAD_LIST, .done = on_request_done}, second = list;
    cr_assert_eq(spool_dead(b.spool, &list), OK);
    cr_assert_eq(spool_dead(b.spool, &second), ERR_AGAIN);
    spool_close(b.spool);
    bench_sleep(&b, 2 * SECOND_US);
    cr_assert_eq(err, ERR_CLOSED);
    spool_free(b.spool);
    b.spool = NULL;
}

/* --- limits --------------------------------------------------------------------------------------------- */

/* STATE must have room for all that is open: beyond that no batch is cut until one has ended. */
Test(spool_edges, batches_are_refused_when_state_could_not_hold_them)
{
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 2500, 10);
    uint64_t last = 0, count = 0;
    for (;; count++) {
        struct spool_item item;
        struct spool_batch_id id;
        if (!bench_next(&b, &item))
            break;
        struct spool_run run = {item.seq, 1};
        struct spool_assignment a = {.partition = SPAN("p"), .runs = &run, .run_count = 1};
        enum err err = spool_assign(b.spool, &a, &id);
        if (err == ERR_FULL)
            break;
        cr_assert_eq(err, OK);
        last = id.batch_no;
        bench_sleep(&b, 1000);
    }
    cr_assert(count > 100 && count < 2500, "%lu", (unsigned long)count);
    /* The same for what would follow a batch. */
    struct spool_run run = {count, 1};
    struct spool_assignment next = {.partition = SPAN("p"), .runs = &run, .run_count = 1};
    struct spool_batch_id id;
    struct spool_outcome split = {.next = &next, .next_count = 1, .ret_next_ids = &id};
    cr_assert_eq(spool_settle(b.spool, last, &split), ERR_FULL);
    bench_deliver(&b, last);
    bench_deliver(&b, last - 1);
    bench_deliver(&b, last - 2);
    bench_sleep(&b, SECOND_US);
    spool_rewind(b.spool);
    cr_assert_neq(bench_assign(&b, 1), 0, "room again");
    /* And a start finds all of them. */
    unsigned open = 0, again = 0;
    struct spool_open_batch found;
    for (uint64_t at = 0; spool_open_batch_next(b.spool, at, &found); at = found.id.batch_no)
        open++;
    bench_crash(&b, true);
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    for (uint64_t at = 0; spool_open_batch_next(b.spool, at, &found); at = found.id.batch_no)
        again++;
    cr_assert_eq(again, open);
    while (spool_open_batch_next(b.spool, 0, &found)) {
        bench_deliver(&b, found.id.batch_no);
        bench_sleep(&b, 1000);
    }
    (void)bench_drain(&b);
    cr_assert_eq(bench_ledger(&b).delivered, 2500);
}

Test(spool_edges, too_large_names_are_refused)
{
    static char long_one[2000];
    uint64_t seq;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    struct spool_record r = {.partition = span_of(long_one, 1025), .body = SPAN("x")};
    cr_assert_eq(spool_append(b.spool, &r, 1, &seq), ERR_TOO_BIG);
    r = (struct spool_record){.id = span_of(long_one, 1101), .body = SPAN("x")};
    cr_assert_eq(spool_append(b.spool, &r, 1, &seq), ERR_TOO_BIG);
    r = (struct spool_record){
        .partition = span_of(long_one, 1024), .id = span_of(long_one, 1100), .body = SPAN("x")};
    cr_assert_eq(spool_append(b.spool, &r, 1, &seq), OK);
    cr_assert_eq(spool_room(b.spool, 200000, BENCH_MIB), ERR_TOO_BIG, "more than a commit may hold");
}

Test(spool_edges, odd_settings_are_made_usable)
{
    static const struct {
        uint64_t segment, max;
        uint32_t align;
        enum spool_durability durability;
    } cases[] = {{1, 1, 16, SPOOL_FSYNC},
                 {BENCH_MIB + 5, 64 * BENCH_MIB, 512, SPOOL_INTERVAL},
                 {0, UINT64_MAX / 2, 7, SPOOL_NO_SYNC},
                 {UINT64_MAX, 16 * BENCH_MIB, 4096, SPOOL_FSYNC},
                 {BENCH_MIB, 4 * BENCH_MIB, 0, SPOOL_INTERVAL}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bench_deinit(&b);
        bench_init(&b);
        b.config.segment_bytes = cases[i].segment;
        b.config.max_bytes = cases[i].max;
        b.config.commit_align = cases[i].align;
        b.config.durability = cases[i].durability;
        b.config.window_seqs = 100;
        b.config.name = NULL;
        cr_assert_eq(bench_open(&b), SPOOL_OK, "case %zu: %s", i, b.last_fault.text);
        bench_fill(&b, 20, 5000);
        cr_assert_eq(bench_drain(&b), 20);
        bench_close(&b);
        cr_assert_eq(bench_open(&b), SPOOL_OK);
        bench_close(&b);
    }
}

Test(spool_edges, many_segments_are_found_again_in_order)
{
    b.config.max_bytes = 64 * BENCH_MIB;
    b.config.cache_bytes = 1;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 3000, 10000);
    cr_assert_gt(bench_ledger(&b).segments, 24);
    bench_crash(&b, true);
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    struct spool_item item;
    for (uint64_t seq = 1; seq <= 1000; seq++) {
        cr_assert(bench_next(&b, &item));
        cr_assert_eq(item.seq, seq);
    }
    spool_rewind(b.spool);
    cr_assert_eq(bench_drain(&b), 3000);
    bench_sleep(&b, 10 * SECOND_US);
    cr_assert_leq(bench_ledger(&b).segments, 3);
}

/* --- damage where it is rare ---------------------------------------------------------------------------- */

static unsigned listed;

static void on_letter(void *ctx, const struct spool_letter *letter)
{
    (void)ctx;
    (void)letter;
    listed++;
}

/* Twenty events dead, one letter each write, and ten pending. */
static void make_letters(void)
{
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    for (unsigned i = 0; i < 20; i++) {
        struct spool_open_batch open;
        uint64_t seq = bench_append(&b, i);
        bench_sleep(&b, 1000);
        uint64_t no = bench_assign(&b, 1);
        cr_assert(spool_open_batch_next(b.spool, no - 1, &open));
        struct spool_death death = {.seq = seq, .answer = SPAN("no")};
        struct spool_outcome o = {.dead = &death, .dead_count = 1};
        cr_assert_eq(spool_settle(b.spool, no, &o), OK);
        bench_sleep(&b, 1000);
    }
    bench_fill(&b, 10, 100);
    bench_sleep(&b, 2 * SECOND_US);
    cr_assert_eq(bench_ledger(&b).dead, 20);
}

static uint64_t request(int kind)
{
    enum err err = ERR_AGAIN;
    struct spool_dead_request r = {.ctx = &err, .letter = on_letter, .done = on_request_done};
    r.kind = kind;
    listed = 0;
    cr_assert_eq(spool_dead(b.spool, &r), OK);
    bench_sleep(&b, 20 * SECOND_US);
    cr_assert_eq(err, OK, "%s", err_name(err));
    return listed;
}

/* Where the n-th letter's frame begins. */
static size_t letter_at(unsigned n)
{
    size_t size;
    const unsigned char *file = memfs_file(&b.fs, DLQ, &size);
    cr_assert_not_null(file);
    for (size_t at = SEGMENT_HEADER_AREA; at + FRAME_HEADER_BYTES < size; at += FRAME_ALIGN)
        if (memcmp(file + at, "FRM1\1", 5) == 0 && n-- == 0)
            return at;
    cr_assert_fail("no such letter");
    return 0;
}

Test(spool_edges, a_damaged_letter_is_counted_and_the_others_are_listed)
{
    size_t size;
    make_letters();
    memfs_file(&b.fs, DLQ, &size)[letter_at(7) + 70] ^= 1;
    memfs_file(&b.fs, DLQ, &size)[letter_at(11) + 2] ^= 1;
    cr_assert_eq(request(DEAD_LIST), 18);
    cr_assert_eq(bench_ledger(&b).dead, 18);
    cr_assert_eq(bench_ledger(&b).dropped[SPOOL_DROP_CORRUPT], 2);
    bench_sleep(&b, 5 * SECOND_US);
    bench_crash(&b, true);
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    cr_assert_eq(bench_ledger(&b).dead, 18, "for good");
    cr_assert_eq(request(DEAD_LIST), 18);
    (void)request(DEAD_REPLAY);
    cr_assert_eq(bench_ledger(&b).pending, 28);
    cr_assert_eq(bench_drain(&b), 28);
}

Test(spool_edges, verify_misses_damaged_letters)
{
    size_t size;
    make_letters();
    bench_close(&b);
    cr_assert_eq(bench_verify(&b).damages, 0);
    cr_assert_eq(b.verified.letters, 20);
    memfs_file(&b.fs, DLQ, &size)[letter_at(3) + 70] ^= 1;
    cr_assert_gt(bench_verify(&b).damages, 0);
    cr_assert_eq(b.verified.letters, 19);
    memset(memfs_file(&b.fs, DLQ, &size), 0xEE, SEGMENT_HEADER_AREA);
    cr_assert_gt(bench_verify(&b).damages, 0);
    cr_assert_eq(b.verified.letters, 0);
}

Test(spool_edges, letters_whose_file_is_gone_are_counted)
{
    size_t size;
    make_letters();
    bench_crash(&b, true);
    memset(memfs_file(&b.fs, DLQ, &size), 0xEE, SEGMENT_HEADER_AREA);
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    cr_assert_eq(bench_ledger(&b).dead, 0);
    cr_assert_eq(bench_ledger(&b).dropped[SPOOL_DROP_CORRUPT], 20);
    cr_assert_eq(request(DEAD_LIST), 0);
    cr_assert_eq(bench_drain(&b), 10);
}

Test(spool_edges, letters_that_go_while_they_are_listed_are_waited_for)
{
    make_letters();
    b.fs.fail_call = MEMFS_OPEN;
    b.fs.fail_at = 1;
    b.fs.fail_errno = EMFILE;
    cr_assert_eq(request(DEAD_LIST), 20, "after a second");
    cr_assert_not_null(strstr(b.last_warning.text, "trying again"), "%s", b.last_warning.text);
    cr_assert_eq(bench_ledger(&b).dead, 20);
}

Test(spool_edges, letters_of_a_newer_version_are_refused_and_left_alone)
{
    size_t size;
    make_letters();
    bench_close(&b);
    unsigned char *file = memfs_file(&b.fs, DLQ, &size);
    for (unsigned copy = 0; copy < 2; copy++) {
        le16_put(file + copy * SEGMENT_HEADER_COPY + 8, 2);
        le32_put(file + copy * SEGMENT_HEADER_COPY + 124, crc32c(0, file + copy * SEGMENT_HEADER_COPY, 124));
    }
    cr_assert_eq(bench_open(&b), SPOOL_FAILED);
    cr_assert_eq(b.last_fault.err, ERR_UNSUPPORTED);
    spool_free(b.spool);
    b.spool = NULL;
    cr_assert_eq(le16_get(memfs_file(&b.fs, DLQ, &size) + 8), 2);
}

Test(spool_edges, several_files_of_letters_are_found_again)
{
    b.config.dead_max_bytes = 512 * 1024;
    for (unsigned life = 0; life < 4; life++) {
        cr_assert_eq(bench_open(&b), SPOOL_OK);
        for (unsigned i = 0; i < 12; i++) {
            static char body[5000];
            struct spool_open_batch open;
            uint64_t seq;
            cr_assert_eq(bench_append_body(&b, body, sizeof body, &seq), OK);
            bench_sleep(&b, 1000);
            uint64_t no = bench_assign(&b, 1);
            cr_assert(spool_open_batch_next(b.spool, no - 1, &open));
            struct spool_death death = {.seq = seq, .answer = SPAN("no")};
            struct spool_outcome o = {.dead = &death, .dead_count = 1};
            cr_assert_eq(spool_settle(b.spool, no, &o), OK);
            bench_sleep(&b, 1000);
        }
        bench_sleep(&b, SECOND_US);
        if (life < 3)
            bench_crash(&b, life % 2 == 0);
    }
    uint64_t dead = bench_ledger(&b).dead;
    cr_assert_eq(dead, 48);
    cr_assert_eq(request(DEAD_LIST), dead);
    (void)request(DEAD_PURGE);
    bench_sleep(&b, 5 * SECOND_US);
    cr_assert_eq(bench_ledger(&b).dead, 0);
    cr_assert_eq(bench_ledger(&b).dead_bytes, 0, "the files go with their last letters");
}

Test(spool_edges, letters_without_room_on_disk_wait_for_it)
{
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 5, 100);
    uint64_t no = bench_assign(&b, 1);
    struct spool_open_batch open;
    cr_assert(spool_open_batch_next(b.spool, no - 1, &open));
    struct spool_death death = {.seq = 1, .answer = SPAN("no")};
    struct spool_outcome o = {.dead = &death, .dead_count = 1};
    b.fs.fail_call = MEMFS_PWRITEV;
    b.fs.fail_at = 1;
    b.fs.fail_errno = ENOSPC;
    b.fs.fail_forever = true;
    b.notes[NOTE_SETTLED] = 0;
    cr_assert_eq(spool_settle(b.spool, no, &o), OK);
    bench_sleep(&b, 3 * SECOND_US);
    cr_assert_eq(b.notes[NOTE_SETTLED], 0);
    cr_assert_eq(bench_ledger(&b).dead, 0);
    b.fs.fail_at = 0;
    bench_sleep(&b, 3 * SECOND_US);
    cr_assert_eq(b.notes[NOTE_SETTLED], 1);
    cr_assert_eq(bench_ledger(&b).dead, 1);
}

Test(spool_edges, a_released_file_that_cannot_be_deleted_is_tried_again)
{
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 500, 10000);
    b.fs.fail_call = MEMFS_UNLINK;
    b.fs.fail_at = 1;
    b.fs.fail_errno = EACCES;
    b.fs.fail_forever = true;
    cr_assert_eq(bench_drain(&b), 500);
    bench_sleep(&b, 3 * SECOND_US);
    cr_assert_not_null(strstr(b.last_warning.text, "cannot delete"), "%s", b.last_warning.text);
    uint64_t before = memfs_allocated(&b.fs);
    b.fs.fail_at = 0;
    bench_sleep(&b, 3 * SECOND_US);
    cr_assert_lt(memfs_allocated(&b.fs), before);
}

Test(spool_edges, a_segment_that_cannot_be_read_for_now_is_waited_for)
{
    b.config.cache_bytes = 1;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 300, 10000);
    bench_crash(&b, true);
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    b.fs.fail_call = MEMFS_OPEN;
    b.fs.fail_at = 1;
    b.fs.fail_errno = EMFILE;
    struct spool_item item;
    cr_assert_not(bench_next(&b, &item));
    bench_sleep(&b, 2 * SECOND_US);
    cr_assert(bench_next(&b, &item));
    spool_rewind(b.spool);
    cr_assert_eq(bench_drain(&b), 300);
    cr_assert_eq(bench_ledger(&b).gaps, 0);
}

Test(spool_edges, verify_says_what_it_cannot_read)
{
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 300, 10000);
    bench_crash(&b, false);
    struct spool_verdict v = bench_verify(&b);
    cr_assert_eq(v.damages, 0, "%s", b.verified.text);
    cr_assert_eq(b.verified.pending, 300);
    cr_assert_not(v.clean);
    /* A hole: a segment in the middle. */
    memfs_remove(&b.fs, "seg-0000000000000002.wal");
    v = bench_verify(&b);
    cr_assert_gt(v.damages, 0);
    cr_assert_lt(b.verified.pending, 300);
    /* And a file that is there but cannot be opened, at each of its openings. */
    for (long n = 1; n < 12; n++) {
        struct spool_verify all = {0};
        struct fault why = {0};
        b.fs.fail_call = MEMFS_OPEN;
        b.fs.fail_at = n;
        b.fs.fail_errno = EIO;
        enum err err = spool_verify(&b.vfs, &all, &v, &why);
        cr_assert(err == OK ? v.damages > 0 : why.text[0] != 0, "opening %ld", n);
        b.fs.fail_at = 0;
    }
}

Test(spool_edges, quarantine_is_bounded_and_best_effort)
{
    b.config.max_bytes = 64 * BENCH_MIB;
    b.config.cache_bytes = 1;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 3000, 10000);
    bench_crash(&b, true);
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    for (unsigned id = 1; id <= 20; id++) {
        char name[SEGMENT_NAME_MAX];
        size_t size;
        segment_name(id, name);
        unsigned char *file = memfs_file(&b.fs, name, &size);
        for (size_t at = 20000; file != NULL && at < size; at += 90000)
            file[at] ^= 1;
    }
    b.fs.fail_call = MEMFS_MKDIR;
    b.fs.fail_at = 3;
    b.fs.fail_errno = EACCES;
    uint64_t pending = bench_ledger(&b).pending;
    uint64_t delivered = bench_drain(&b);
    struct spool_ledger l = bench_ledger(&b);
    cr_assert_eq(delivered + l.dropped[SPOOL_DROP_CORRUPT], pending);
    cr_assert_gt(l.gaps, 100);
    unsigned kept = 0;
    for (size_t i = 0; i < b.fs.cache_count; i++)
        kept += strncmp(b.fs.cache[i].name, "quarantine/", 11) == 0;
    cr_assert(kept > 10 && kept <= 64, "%u files", kept);
}
