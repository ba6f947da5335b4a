/* Damage: what it costs, that it is counted exactly, and that verification sees it and changes nothing. */
#include "tests/unit/spool/bench.h"

#include "lib/spool/verify.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

static struct bench b;

static void setup(void)
{
    bench_init(&b);
}

static void teardown(void)
{
    bench_deinit(&b);
}

TestSuite(spool_damage, .init = setup, .fini = teardown);

/* 4 segments, 100 delivered, 10 in an open batch. */
static void make_spool(void)
{
    b.config.recent_us = 0;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 600, 5000);
    uint64_t no = bench_assign(&b, 50);
    (void)bench_assign(&b, 10);
    bench_deliver(&b, no);
    bench_sleep(&b, 3000000);
}

Test(spool_damage, a_sound_spool_is_found_sound_and_whole)
{
    make_spool();
    struct spool_ledger l = bench_ledger(&b);
    bench_crash(&b, true);
    struct spool_verdict v = bench_verify(&b);
    cr_assert_eq(v.damages, 0, "%s", b.verified.text);
    cr_assert_eq(v.ledger.pending, l.pending);
    cr_assert_eq(v.pending_found, l.pending);
    cr_assert_eq(v.ledger.delivered, 50);
    cr_assert_eq(v.open_batches, 1);
    cr_assert_eq(v.epoch, 1);
    cr_assert_not(v.clean);
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_close(&b);
    v = bench_verify(&b);
    cr_assert_eq(v.damages, 0, "%s", b.verified.text);
    cr_assert_eq(v.ledger.pending, l.pending);
    cr_assert(v.clean);
}

Test(spool_damage, an_empty_directory_is_no_spool)
{
    struct spool_verdict v;
    struct fault why;
    struct spool_verify what = {0};
    cr_assert_eq(spool_verify(&b.vfs, &what, &v, &why), ERR_NOT_FOUND);
}

/* Damages, then: verify sees it; a start serves the rest, with the loss counted; verify is content again. */
static uint64_t survive(uint64_t pending)
{
    struct spool_verdict v = bench_verify(&b);
    cr_assert_gt(v.damages, 0);
    cr_assert_eq(bench_open(&b), SPOOL_OK, "%s", b.last_fault.text);
    struct spool_open_batch open;
    while (spool_open_batch_next(b.spool, 0, &open))
        bench_deliver(&b, open.id.batch_no);
    uint64_t delivered = 10 + bench_drain(&b);
    struct spool_ledger l = bench_ledger(&b);
    cr_assert_eq(l.pending, 0);
    uint64_t lost = l.dropped[SPOOL_DROP_CORRUPT];
    cr_assert_leq(delivered - 10, pending);
    cr_assert_eq(l.delivered + lost, 600);
    bench_sleep(&b, 3000000);
    bench_close(&b);
    v = bench_verify(&b);
    cr_assert_eq(v.damages, 0, "%s", b.verified.text);
    return lost;
}

Test(spool_damage, a_flipped_bit_costs_one_frame)
{
    make_spool();
    bench_crash(&b, true);
    size_t size;
    memfs_file(&b.fs, "seg-0000000000000002.wal", &size)[300000] ^= 4;
    uint64_t lost = survive(550);
    cr_assert_geq(lost, 1);
    cr_assert_leq(lost, 7, "one frame of 32 KiB holds six of these");
}

Test(spool_damage, a_missing_segment_costs_its_events)
{
    make_spool();
    bench_crash(&b, true);
    memfs_remove(&b.fs, "seg-0000000000000002.wal");
    uint64_t lost = survive(550);
    cr_assert_gt(lost, 100);
    cr_assert_lt(lost, 220);
}

Test(spool_damage, a_damaged_header_in_one_copy_costs_nothing)
{
    make_spool();
    bench_crash(&b, true);
    size_t size;
    memset(memfs_file(&b.fs, "seg-0000000000000002.wal", &size), 0xEE, 4096);
    cr_assert_eq(bench_verify(&b).damages, 0);
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    cr_assert_eq(bench_drain(&b), 550);
}

Test(spool_damage, a_damaged_header_in_both_copies_moves_the_file_to_quarantine)
{
    make_spool();
    bench_crash(&b, true);
    size_t size;
    memset(memfs_file(&b.fs, "seg-0000000000000002.wal", &size), 0xEE, 8192);
    uint64_t lost = survive(550);
    cr_assert_gt(lost, 100);
    cr_assert_not_null(memfs_file(&b.fs, "quarantine/seg-0000000000000002.wal", &size));
}

Test(spool_damage, damaged_bytes_are_kept_in_quarantine)
{
    make_spool();
    bench_crash(&b, true);
    size_t size;
    memfs_file(&b.fs, "seg-0000000000000002.wal", &size)[300000] ^= 4;
    (void)survive(550);
    unsigned found = 0;
    for (size_t i = 0; i < b.fs.cache_count; i++)
        found += strncmp(b.fs.cache[i].name, "quarantine/0000000000000002-", 28) == 0;
    cr_assert_eq(found, 1);
}

static unsigned items, loads;
static enum err load_err;

static void on_item(void *ctx, const struct spool_item *item)
{
    (void)ctx;
    (void)item;
    items++;
}

static void on_load_done(void *ctx, enum err err)
{
    (void)ctx;
    loads++;
    load_err = err;
}

/* Opens again and damages some of the members (51 to 60) of the open batch, whose number is returned. Each
 * frame holds six events of 5,000 bytes. */
static uint64_t damage_open_batch(void)
{
    make_spool();
    struct spool_open_batch open;
    cr_assert(spool_open_batch_next(b.spool, 0, &open));
    bench_crash(&b, true);
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    size_t size;
    unsigned char *file = memfs_file(&b.fs, "seg-0000000000000001.wal", &size);
    for (size_t at = 8192; at < size; at++)
        if (memcmp(file + at, "FRM1\1", 5) == 0 && file[at + 16] > 45 && file[at + 16] <= 54 &&
            file[at + 17] == 0)
            file[at + 1000] ^= 1;
    return open.id.batch_no;
}

Test(spool_damage, a_batch_with_damaged_members_lives_on_without_its_identity)
{
    struct spool_open_batch open;
    uint64_t no = damage_open_batch();
    struct spool_loader loader = {.item = on_item, .done = on_load_done};
    spool_load(b.spool, no, &loader);
    bench_sleep(&b, 10000);
    cr_assert_eq(loads, 1);
    cr_assert_eq(load_err, ERR_CORRUPT, "%s, %u items", err_name(load_err), items);
    cr_assert_geq(b.notes[NOTE_LOST], 1);
    cr_assert(spool_open_batch_next(b.spool, 0, &open));
    cr_assert_eq(open.id.batch_no, no);
    cr_assert(open.identity_broken);
    cr_assert_eq(bench_ledger(&b).identity_broken, 1);
    cr_assert_gt(bench_ledger(&b).dropped[SPOOL_DROP_CORRUPT], 0);
    items = loads = 0;
    spool_load(b.spool, no, &loader);
    bench_sleep(&b, 10000);
    cr_assert_eq(load_err, OK);
    cr_assert_lt(items, 10);
    cr_assert_gt(items, 0);
}

/* Damage that takes all members of a batch ends it, and whoever holds it hears of that once. */
Test(spool_damage, a_batch_whose_members_are_all_damaged_is_said_to_be_lost)
{
    struct spool_open_batch open;
    make_spool();
    cr_assert(spool_open_batch_next(b.spool, 0, &open));
    uint64_t no = open.id.batch_no;
    bench_crash(&b, true);
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    size_t size;
    unsigned char *file = memfs_file(&b.fs, "seg-0000000000000001.wal", &size);
    for (size_t at = 8192; at < size; at++)
        if (memcmp(file + at, "FRM1\1", 5) == 0 && file[at + 16] > 40 && file[at + 16] <= 60 && file[at + 17] == 0)
            file[at + 1000] ^= 1;
    struct spool_loader loader = {.item = on_item, .done = on_load_done};
    b.notes[NOTE_LOST] = 0;
    spool_load(b.spool, no, &loader);
    bench_sleep(&b, 10000);
    cr_assert_eq(loads, 1);
    cr_assert_eq(load_err, ERR_NOT_FOUND, "%s", err_name(load_err));
    cr_assert_eq(items, 0);
    cr_assert_geq(b.notes[NOTE_LOST], 1);
    cr_assert_eq(b.last_batch, no);
    cr_assert_not(spool_open_batch_next(b.spool, 0, &open));
    struct spool_outcome o = {.all_delivered = true};
    cr_assert_eq(spool_settle(b.spool, no, &o), ERR_NOT_FOUND);
    cr_assert_geq(bench_ledger(&b).dropped[SPOOL_DROP_CORRUPT], 10);
}

/* The same for all files of it: removed while the spool is open. */
Test(spool_damage, a_batch_whose_file_is_gone_is_said_to_be_lost)
{
    struct spool_open_batch open;
    make_spool();
    cr_assert(spool_open_batch_next(b.spool, 0, &open));
    bench_crash(&b, true);
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    memfs_remove(&b.fs, "seg-0000000000000001.wal");
    struct spool_loader loader = {.item = on_item, .done = on_load_done};
    b.notes[NOTE_LOST] = 0;
    spool_load(b.spool, open.id.batch_no, &loader);
    bench_sleep(&b, 10000);
    cr_assert_eq(load_err, ERR_NOT_FOUND);
    cr_assert_geq(b.notes[NOTE_LOST], 1);
    (void)bench_drain(&b);
    cr_assert_eq(bench_ledger(&b).pending, 0);
}

/* Whoever settles a batch may not have heard yet which of its members damage has ended. */
Test(spool_damage, following_batches_of_ended_members_are_said_to_be_lost)
{
    uint64_t no = damage_open_batch();
    struct spool_loader loader = {.item = on_item, .done = on_load_done};
    spool_load(b.spool, no, &loader);
    bench_sleep(&b, 10000);
    cr_assert_eq(load_err, ERR_CORRUPT);
    struct spool_run runs[10];
    struct spool_assignment next[10];
    struct spool_batch_id ids[10];
    for (unsigned i = 0; i < 10; i++) {
        runs[i] = (struct spool_run){51 + i, 1};
        next[i] = (struct spool_assignment){.partition = SPAN("p"), .runs = &runs[i], .run_count = 1};
    }
    struct spool_outcome o = {.next = next, .next_count = 10, .ret_next_ids = ids};
    uint64_t lost = bench_ledger(&b).dropped[SPOOL_DROP_CORRUPT];
    cr_assert_gt(lost, 0);
    b.batch_notes = 0;
    b.notes[NOTE_LOST] = b.notes[NOTE_BATCH] = b.notes[NOTE_SETTLED] = 0;
    cr_assert_eq(spool_settle(b.spool, no, &o), OK);
    bench_sleep(&b, 300000);
    cr_assert_eq(b.notes[NOTE_SETTLED], 1);
    cr_assert_gt(b.notes[NOTE_LOST], 0);
    cr_assert_gt(b.notes[NOTE_BATCH], 0);
    cr_assert_eq(b.notes[NOTE_LOST] + b.notes[NOTE_BATCH], 10, "each of them hears once");
    for (unsigned i = 0; i < 10; i++) {
        struct spool_open_batch open;
        bool there =
            spool_open_batch_next(b.spool, ids[i].batch_no - 1, &open) && open.id.batch_no == ids[i].batch_no;
        unsigned heard = 0;
        for (unsigned k = 0; k < b.batch_notes; k++)
            heard += b.batches_noted[k] == ids[i].batch_no;
        cr_assert_eq(heard, 1, "batch %u", i);
        cr_assert(!there || open.count == 1);
    }
    (void)bench_drain(&b);
    cr_assert_eq(bench_ledger(&b).pending, 0);
}

Test(spool_damage, a_lost_format_file_is_made_again)
{
    make_spool();
    bench_crash(&b, true);
    memfs_remove(&b.fs, "FORMAT");
    cr_assert_gt(bench_verify(&b).damages, 0);
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    cr_assert_geq(b.notes[NOTE_WARNING], 1);
    struct spool_open_batch open;
    cr_assert(spool_open_batch_next(b.spool, 0, &open));
    cr_assert_eq(bench_drain(&b), 550);
    bench_close(&b);
    cr_assert_eq(bench_verify(&b).damages, 0);
}

Test(spool_damage, a_newer_version_is_refused_and_left_alone)
{
    make_spool();
    bench_close(&b);
    size_t size;
    unsigned char *file = memfs_file(&b.fs, "FORMAT", &size), before[64];
    /* The checksum of the file with major 2 (computed by the reader's own rule). */
    uint32_t crc;
    file[8] = 2;
    uint32_t crc32c(uint32_t, const void *, size_t);
    crc = crc32c(0, file, 60);
    memcpy(file + 60, &crc, 4);
    memcpy(before, file, 64);
    size_t files = b.fs.cache_count;
    cr_assert_eq(bench_open(&b), SPOOL_FAILED);
    cr_assert_eq(b.last_fault.err, ERR_UNSUPPORTED);
    cr_assert_not_null(strstr(b.last_fault.text, "2.0"));
    cr_assert_not_null(strstr(b.last_fault.text, "1.0"));
    cr_assert_arr_eq(memfs_file(&b.fs, "FORMAT", &size), before, 64);
    cr_assert_eq(b.fs.cache_count, files);
    cr_assert_eq(memfs_open_files(&b.fs), 0);
}
