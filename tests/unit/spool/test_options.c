/* Each option of a spool does what it says, and does nothing when it is off. */
#include "lib/spool/ages.h"
#include "lib/spool/place.h"
#include "tests/unit/spool/bench.h"

#include <criterion/criterion.h>
#include <stdlib.h>

#define HOUR_US (3600 * SECOND_US)
#define HOUR_NS (3600 * UINT64_C(1000000000))

static struct bench b;

static void setup(void)
{
    bench_init(&b);
}

static void teardown(void)
{
    bench_deinit(&b);
}

TestSuite(spool_options, .init = setup, .fini = teardown);

/* --- wipe_recycled -------------------------------------------------------------------------------------- */

/* Bytes of events that an unused file still holds, after enough traffic for files to be used again. */
static unsigned old_bytes(bool wipe)
{
    b.config.wipe_recycled = wipe;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    unsigned most = 0;
    for (unsigned round = 0; round < 30; round++) {
        bench_fill(&b, 30, 10000);
        cr_assert_eq(bench_drain(&b), 30);
        bench_sleep(&b, SECOND_US);
        for (size_t i = 0; i < b.fs.cache_count; i++) {
            size_t size;
            const unsigned char *at = memfs_file(&b.fs, b.fs.cache[i].name, &size);
            if (strncmp(b.fs.cache[i].name, "seg-", 4) != 0 || at[0] != 0)
                continue; /* in use: its header is there */
            unsigned count = 0;
            for (size_t k = 0; k < size; k++)
                count += at[k] == 'x';
            most = count > most ? count : most;
        }
    }
    cr_assert_gt(b.fs.calls[MEMFS_RENAME], 5, "files were used again");
    return most;
}

Test(spool_options, wiped_files_hold_nothing_of_their_past)
{
    b.config.recent_us = 0;
    cr_assert_eq(old_bytes(true), 0);
}

Test(spool_options, files_are_not_wiped_unasked)
{
    b.config.recent_us = 0;
    cr_assert_gt(old_bytes(false), 10000);
}

/* --- recent_us ------------------------------------------------------------------------------------------ */

/* Finished files stay while their ids are remembered. The one whose time is over next is not deleted before a new file
 * is needed, which may be long after: a file that was written once is cheaper to write again than a new one. */
Test(spool_options, files_are_used_again_when_their_ids_are_forgotten)
{
    b.config.recent_us = 10 * SECOND_US;
    b.config.max_bytes = 64 * BENCH_MIB;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    for (unsigned round = 0; round < 120; round++) {
        bench_fill(&b, 30, 10000);
        cr_assert_eq(bench_drain(&b), 30);
        bench_sleep(&b, SECOND_US);
    }
    cr_assert_gt(b.fs.calls[MEMFS_RENAME], 20, "%ld", b.fs.calls[MEMFS_RENAME]);
    cr_assert_leq(bench_ledger(&b).segments, 6, "%llu", (unsigned long long)bench_ledger(&b).segments);
    bench_sleep(&b, 30 * SECOND_US);
    bench_fill(&b, 1, 100);
    cr_assert_eq(bench_drain(&b), 1);
    bench_sleep(&b, SECOND_US);
    cr_assert_leq(bench_ledger(&b).segments, 3, "%llu", (unsigned long long)bench_ledger(&b).segments);
}

/* So, too, when files go because the memory of ids has had its share of the quota. */
Test(spool_options, files_are_used_again_when_memory_of_ids_has_its_share)
{
    b.config.recent_us = HOUR_US;
    b.config.max_bytes = 64 * BENCH_MIB;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    long unlinked = 0;
    for (unsigned round = 0; round < 120; round++) {
        if (round == 40)
            unlinked = b.fs.calls[MEMFS_UNLINK];
        bench_fill(&b, 30, 10000);
        cr_assert_eq(bench_drain(&b), 30);
        bench_sleep(&b, SECOND_US);
    }
    cr_assert_gt(b.fs.calls[MEMFS_RENAME], 20, "%ld", b.fs.calls[MEMFS_RENAME]);
    cr_assert_eq(b.fs.calls[MEMFS_UNLINK], unlinked, "none is deleted");
    uint64_t segments = bench_ledger(&b).segments;
    cr_assert(segments >= 6 && segments <= 8, "%llu of 1 MiB, of 8", (unsigned long long)segments);
}

/* --- strict_identity ------------------------------------------------------------------------------------ */

/* The number of open batches that a power failure leaves, right after one was said to be ready to be sent. */
static unsigned identities_kept(enum spool_durability mode, bool strict)
{
    struct spool_open_batch open;
    b.config.durability = mode;
    b.config.strict_identity = strict;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    for (uint64_t i = 1; i <= 4; i++)
        (void)bench_append(&b, i);
    bench_settle(&b);
    bench_sleep(&b, 2000);
    uint64_t no = bench_assign(&b, 2);
    cr_assert_eq(b.notes[NOTE_BATCH], 1);
    cr_assert_neq(no, 0);
    bench_crash(&b, true);
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    unsigned count = 0;
    for (uint64_t at = 0; spool_open_batch_next(b.spool, at, &open); at = open.id.batch_no) {
        count++;
        cr_assert_eq(open.id.batch_no, no);
        cr_assert_eq(open.count, 2);
    }
    return count;
}

Test(spool_options, strict_identity_outlives_a_power_failure_in_mode_interval)
{
    cr_assert_eq(identities_kept(SPOOL_INTERVAL, true), 1);
}

Test(spool_options, strict_identity_outlives_a_power_failure_in_mode_none)
{
    cr_assert_eq(identities_kept(SPOOL_NO_SYNC, true), 1);
}

Test(spool_options, an_identity_that_is_not_strict_may_go_with_the_power)
{
    cr_assert_eq(identities_kept(SPOOL_INTERVAL, false), 0);
}

/* --- require_local_fs ----------------------------------------------------------------------------------- */

Test(spool_options, a_file_system_that_keeps_no_promises_is_warned_of)
{
    static const struct {
        uint64_t type;
        const char *name;
    } cases[] = {{0x01021994, "tmpfs"},
                 {0x6969, "NFS"},
                 {0x794C7630, "overlay"},
                 {0x9123683E, "btrfs"},
                 {0xFFFFFFFFFF534D42, "CIFS"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        b.fs.type = cases[i].type;
        cr_assert_eq(bench_open(&b), SPOOL_OK);
        cr_assert_eq(b.notes[NOTE_WARNING], 1);
        cr_assert_not_null(strstr(b.last_warning.text, cases[i].name), "%s", b.last_warning.text);
        bench_close(&b);
    }
}

Test(spool_options, a_common_file_system_is_not_worth_a_word)
{
    static const uint64_t types[] = {0xEF53, 0x58465342, 0xF2F52010};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        b.fs.type = types[i];
        b.config.require_local_fs = true;
        cr_assert_eq(bench_open(&b), SPOOL_OK);
        cr_assert_eq(b.notes[NOTE_WARNING], 0, "%s", b.last_warning.text);
        bench_close(&b);
    }
}

Test(spool_options, require_local_fs_refuses_and_touches_nothing)
{
    b.fs.type = 0x01021994;
    b.config.require_local_fs = true;
    cr_assert_eq(bench_open(&b), SPOOL_FAILED);
    cr_assert_eq(b.last_fault.err, ERR_CONFIG);
    cr_assert_not_null(strstr(b.last_fault.text, "tmpfs"));
    cr_assert_eq(b.fs.cache_count, 0);
    spool_free(b.spool);
    b.spool = NULL;
}

Test(spool_options, require_local_fs_takes_copy_on_write_with_a_warning)
{
    b.fs.type = 0x2FC12FC1;
    b.config.require_local_fs = true;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    cr_assert_eq(b.notes[NOTE_WARNING], 1);
}

Test(spool_options, an_unknown_file_system_is_no_reason_to_stop)
{
    b.fs.fail_call = MEMFS_FSINFO;
    b.fs.fail_at = 1;
    b.fs.fail_errno = 5;
    b.config.require_local_fs = true;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
}

/* --- scrub ---------------------------------------------------------------------------------------------- */

static void damage(const char *name, size_t at)
{
    size_t size;
    unsigned char *file = memfs_file(&b.fs, name, &size);
    cr_assert(file != NULL && at < size);
    file[at] ^= 1;
}

Test(spool_options, scrub_finds_damage_before_anybody_reads_there)
{
    b.config.scrub_bytes_s = BENCH_MIB;
    bench_backlog(&b); /* the one reader is far before the damage */
    damage("seg-0000000000000002.wal", 500000);
    bench_sleep(&b, 60 * SECOND_US);
    struct spool_ledger l = bench_ledger(&b);
    cr_assert_eq(l.gaps, 1);
    cr_assert_geq(l.dropped[SPOOL_DROP_CORRUPT], 1);
    cr_assert_leq(l.dropped[SPOOL_DROP_CORRUPT], 4, "one frame");
    unsigned kept = 0;
    for (size_t i = 0; i < b.fs.cache_count; i++)
        kept += strncmp(b.fs.cache[i].name, "quarantine/0000000000000002-", 28) == 0;
    cr_assert_eq(kept, 1);
    spool_rewind(b.spool);
    cr_assert_eq(bench_drain(&b), l.pending);
    bench_close(&b);
}

Test(spool_options, scrub_keeps_its_pace_and_rests)
{
    b.config.scrub_bytes_s = BENCH_MIB;
    bench_backlog(&b);
    long reads = b.fs.calls[MEMFS_PREAD];
    bench_sleep(&b, 9 * SECOND_US);
    cr_assert_eq(b.fs.calls[MEMFS_PREAD], reads, "not right after the start");
    bench_sleep(&b, 2 * SECOND_US);
    long in_a_second = b.fs.calls[MEMFS_PREAD] - reads;
    cr_assert_gt(in_a_second, 0);
    cr_assert_leq(in_a_second, 12, "a few reads of 256 KiB");
    bench_sleep(&b, 60 * SECOND_US);
    reads = b.fs.calls[MEMFS_PREAD];
    bench_sleep(&b, 3000 * SECOND_US);
    cr_assert_eq(b.fs.calls[MEMFS_PREAD], reads, "a pass, then a rest");
    bench_sleep(&b, 3600 * SECOND_US);
    cr_assert_gt(b.fs.calls[MEMFS_PREAD], reads, "and another one");
    /* Switched off in the middle of it all. */
    b.config.scrub_bytes_s = 0;
    spool_reconfigure(b.spool, &b.config);
    bench_sleep(&b, HOUR_US);
    reads = b.fs.calls[MEMFS_PREAD];
    bench_sleep(&b, 3 * HOUR_US);
    cr_assert_eq(b.fs.calls[MEMFS_PREAD], reads);
}

Test(spool_options, scrub_tells_of_damage_that_costs_nothing)
{
    b.config.scrub_bytes_s = BENCH_MIB;
    bench_backlog(&b);
    damage("seg-0000000000000002.wal", 8192 + 60); /* the first copy of its STATE */
    bench_sleep(&b, 60 * SECOND_US);
    cr_assert_eq(bench_ledger(&b).gaps, 0);
    cr_assert_not_null(strstr(b.last_warning.text, "no event is lost"), "%s", b.last_warning.text);
}

Test(spool_options, nobody_scrubs_unasked)
{
    bench_backlog(&b);
    damage("seg-0000000000000002.wal", 500000);
    long reads = b.fs.calls[MEMFS_PREAD];
    bench_sleep(&b, 2 * HOUR_US);
    cr_assert_eq(b.fs.calls[MEMFS_PREAD], reads);
    cr_assert_eq(bench_ledger(&b).gaps, 0);
}

/* --- reading a backlog ---------------------------------------------------------------------------------- */

Test(spool_options, a_cold_reader_reads_ahead_and_leaves_nothing_behind)
{
    b.config.cache_bytes = 1;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 300, 10000);
    bench_crash(&b, false);
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    b.fs.dont_need_bytes = b.fs.will_need_bytes = 0;
    cr_assert_eq(bench_drain(&b), 300);
    cr_assert_geq(b.fs.dont_need_bytes, 2 * BENCH_MIB);
    cr_assert_geq(b.fs.will_need_bytes, 2 * BENCH_MIB);
    cr_assert_leq(b.fs.will_need_bytes, 5 * BENCH_MIB);
}

Test(spool_options, a_backlog_is_not_kept_in_the_page_cache)
{
    b.config.max_bytes = 16 * BENCH_MIB;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 400, 10000);
    cr_assert_eq(b.fs.dont_need_bytes, 0, "a quarter of the quota may be read soon");
    bench_fill(&b, 400, 10000);
    cr_assert_geq(b.fs.dont_need_bytes, 2 * BENCH_MIB);
    cr_assert_leq(b.fs.dont_need_bytes, 4 * BENCH_MIB);
    cr_assert_eq(bench_drain(&b), 800);
}

Test(spool_options, a_reading_that_does_not_check_out_is_done_again)
{
    b.config.cache_bytes = 1;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 300, 10000);
    bench_crash(&b, false);
    for (unsigned n = 1; n < 30; n += 3) {
        struct bench at = b;
        memfs_init(&b.fs);
        memfs_copy(&b.fs, &at.fs);
        cr_assert_eq(bench_open(&b), SPOOL_OK);
        b.fs.flip_read = n;
        cr_assert_eq(bench_drain(&b), 300, "reading %u", n);
        cr_assert_eq(bench_ledger(&b).gaps, 0);
        bench_deinit(&b);
        b = at;
        b.vfs = memfs_vfs(&b.fs);
    }
}

/* --- how old the oldest is ------------------------------------------------------------------------------ */

Test(spool_options, the_oldest_event_is_as_old_as_it_is)
{
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    cr_assert_eq(bench_ledger(&b).oldest_wall_ns, 0);
    bench_fill(&b, 5, 100);
    cr_assert_eq(bench_drain(&b), 5);
    cr_assert_eq(bench_ledger(&b).oldest_wall_ns, 0);
    bench_sleep(&b, HOUR_US);
    uint64_t first = b.wall_ns;
    (void)bench_append(&b, 1);
    bench_sleep(&b, HOUR_US);
    uint64_t second = b.wall_ns;
    (void)bench_append(&b, 2);
    bench_sleep(&b, HOUR_US);
    cr_assert_eq(bench_ledger(&b).oldest_wall_ns, first, "not as old as its file");
    uint64_t no = bench_assign(&b, 1);
    cr_assert_eq(bench_ledger(&b).oldest_wall_ns, first, "a batch under way is pending");
    bench_deliver(&b, no);
    cr_assert_eq(bench_ledger(&b).oldest_wall_ns, second);
    bench_sleep(&b, SECOND_US);
    bench_crash(&b, true);
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    struct spool_item item;
    cr_assert(bench_next(&b, &item));
    cr_assert_eq(bench_ledger(&b).oldest_wall_ns, second, "and after a restart");
}

static uint64_t distance(uint64_t x, uint64_t y)
{
    return x > y ? x - y : y - x;
}

Test(spool_options, ages_are_right_to_a_second_or_a_part_of_the_backlog)
{
    static struct ages a;
    uint64_t seq = 0;
    a = (struct ages){0};
    for (uint64_t ms = 0; ms < 100000; ms += 250)
        ages_note(&a, ++seq, ms * 1000000, 1);
    cr_assert_leq(a.len, AGES_MAX);
    for (uint64_t s = 1; s <= seq; s++)
        cr_assert_leq(distance(ages_of(&a, s), (s - 1) * 250000000), UINT64_C(3000000000), "event %lu",
                      (unsigned long)s);
    cr_assert_eq(ages_of(&a, 0), 0);
    /* When what was noted is settled, the new ones have all the room. */
    for (uint64_t ms = 100000; ms < 110000; ms += 250)
        ages_note(&a, ++seq, ms * 1000000, 400);
    for (uint64_t s = 402; s <= seq; s++)
        cr_assert_leq(distance(ages_of(&a, s), (s - 1) * 250000000), UINT64_C(1000000000), "event %lu",
                      (unsigned long)s);
}

Test(spool_options, ages_may_be_learnt_later_and_go_back)
{
    static struct ages a;
    a = (struct ages){0};
    ages_note(&a, 1, 10 * HOUR_NS, 1);
    ages_note(&a, 100, 20 * HOUR_NS, 1);
    ages_note(&a, 50, 15 * HOUR_NS, 1);
    ages_note(&a, 1, 11 * HOUR_NS, 1);
    ages_note(&a, 101, 3 * HOUR_NS, 1); /* a letter that came back */
    cr_assert_eq(ages_of(&a, 1), 11 * HOUR_NS);
    cr_assert_eq(ages_of(&a, 49), 11 * HOUR_NS);
    cr_assert_eq(ages_of(&a, 50), 15 * HOUR_NS);
    cr_assert_eq(ages_of(&a, 100), 20 * HOUR_NS);
    cr_assert_eq(ages_of(&a, 5000), 3 * HOUR_NS);
}

/* --- max_age -------------------------------------------------------------------------------------------- */

Test(spool_options, a_trickle_expires_too)
{
    b.config.max_age_us = HOUR_US;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    for (uint64_t i = 1; i <= 3; i++)
        (void)bench_append(&b, i);
    bench_sleep(&b, HOUR_US * 9 / 10);
    cr_assert_eq(bench_ledger(&b).pending, 3, "not before its time");
    bench_sleep(&b, HOUR_US * 3 / 10);
    cr_assert_eq(bench_ledger(&b).pending, 0);
    cr_assert_eq(bench_ledger(&b).dropped[SPOOL_DROP_EXPIRED], 3);
    bench_crash(&b, true);
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    cr_assert_eq(bench_ledger(&b).dropped[SPOOL_DROP_EXPIRED], 3);
}

Test(spool_options, a_trickle_that_is_delivered_needs_no_new_files)
{
    b.config.max_age_us = HOUR_US;
    b.config.recent_us = 0;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    for (uint64_t i = 1; i <= 50; i++) {
        (void)bench_append(&b, i);
        bench_sleep(&b, 1000);
        cr_assert_eq(bench_drain(&b), 1);
        bench_sleep(&b, HOUR_US / 4);
    }
    cr_assert_eq(bench_ledger(&b).dropped[SPOOL_DROP_EXPIRED], 0);
    cr_assert_not_null(memfs_file(&b.fs, "seg-0000000000000001.wal", &(size_t){0}), "one file for all of it");
}

Test(spool_options, ages_never_fill_the_quota_with_empty_files)
{
    b.config.max_age_us = 16 * HOUR_US;
    b.config.max_bytes = 4 * BENCH_MIB;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    for (uint64_t i = 1; i <= 30; i++) {
        cr_assert_neq(bench_append(&b, i), 0, "event %lu", (unsigned long)i);
        bench_sleep(&b, HOUR_US / 2);
        cr_assert_eq(spool_state(b.spool), SPOOL_OK);
    }
    cr_assert_leq(b.fs.allocated_max, 4 * BENCH_MIB);
}

/* --- whose directory is it ------------------------------------------------------------------------------ */

Test(spool_options, a_format_file_of_another_spool_is_not_believed)
{
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 5, 100);
    bench_close(&b);
    struct bench other;
    bench_init(&other);
    other.random = 77;
    cr_assert_eq(bench_open(&other), SPOOL_OK);
    bench_close(&other);
    size_t size;
    const unsigned char *format = memfs_file(&other.fs, "FORMAT", &size);
    memfs_put(&b.fs, "FORMAT", format, size);
    bench_deinit(&other);
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    cr_assert_not_null(strstr(b.last_warning.text, "another spool"), "%s", b.last_warning.text);
    cr_assert_eq(bench_drain(&b), 5);
}

/* --- quotas --------------------------------------------------------------------------------------------- */

/* Letters, one by one, until there is no room for another. */
static unsigned letters_that_fit(uint64_t max_bytes)
{
    b.config.dead_max_bytes = max_bytes;
    b.config.max_bytes = 4 * BENCH_MIB;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    for (unsigned n = 0;; n++) {
        struct spool_open_batch open;
        static const char body[300] = "a small event";
        uint64_t seq;
        cr_assert_eq(bench_append_body(&b, body, sizeof body, &seq), OK);
        bench_sleep(&b, 1000);
        uint64_t no = bench_assign(&b, 1);
        cr_assert(spool_open_batch_next(b.spool, no - 1, &open));
        struct spool_death death = {.seq = seq, .answer = SPAN("no")};
        struct spool_outcome o = {.dead = &death, .dead_count = 1};
        enum err err = spool_settle(b.spool, no, &o);
        if (err == ERR_FULL)
            return n;
        cr_assert_eq(err, OK);
        bench_sleep(&b, 1000);
        cr_assert_lt(n, 100000);
    }
}

Test(spool_options, a_small_quota_of_letters_is_not_filled_by_one_letter_each_block)
{
    cr_assert_geq(letters_that_fit(BENCH_MIB), 1500);
    cr_assert_leq(bench_ledger(&b).dead_bytes, BENCH_MIB + 8192);
}

Test(spool_options, the_smallest_quota_of_letters_holds_some)
{
    cr_assert_geq(letters_that_fit(65536), 60);
    cr_assert_leq(bench_ledger(&b).dead_bytes, 65536 + 8192);
}

Test(spool_options, letters_do_not_fill_the_spool)
{
    b.config.when_full = SPOOL_BLOCK;
    (void)letters_that_fit(3 * BENCH_MIB);
    cr_assert_eq(bench_drain(&b), 1);
    for (unsigned i = 0; i < 150; i++) {
        cr_assert_neq(bench_append(&b, i), 0);
        bench_sleep(&b, 1000);
    }
    cr_assert_eq(spool_state(b.spool), SPOOL_OK);
}
