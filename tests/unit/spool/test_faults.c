/* The disk says no: the n-th call of every kind fails with every errno that fits it, once or for good. */
#include "tests/unit/spool/bench.h"

#include <criterion/criterion.h>
#include <errno.h>
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

TestSuite(spool_faults, .init = setup, .fini = teardown, .timeout = 120);

static bool alive(void)
{
    enum spool_state state = spool_state(b.spool);
    return state == SPOOL_OK || state == SPOOL_FULL || state == SPOOL_DEGRADED;
}

static void on_done(void *ctx, enum err err, uint64_t count, const struct fault *why)
{
    (void)ctx;
    (void)err;
    (void)count;
    (void)why;
}

/* Some of everything: rotation, batches, letters, a purge, cold reads. Returns what was answered for. */
static uint64_t live(void)
{
    static char body[30000];
    for (unsigned i = 0; i < 60 && alive(); i++) {
        uint64_t seq;
        (void)bench_append_body(&b, body, sizeof body, &seq); /* Refusals are part of the game. */
        bench_sleep(&b, 1000);
    }
    for (unsigned round = 0; round < 4 && alive(); round++) {
        struct spool_run runs[8];
        unsigned n = 0;
        struct spool_item item;
        while (n < 8 && bench_next(&b, &item))
            runs[n++] = (struct spool_run){item.seq, 1};
        struct spool_assignment a = {.partition = SPAN("p"), .runs = runs, .run_count = n};
        struct spool_batch_id id;
        if (n < 3 || spool_assign(b.spool, &a, &id) != OK)
            break;
        bench_sleep(&b, 1000);
        struct spool_death death = {.seq = runs[0].first, .reason = 1, .answer = SPAN("no")};
        struct spool_outcome o = {
            .delivered = runs + 1, .delivered_count = n - 1, .dead = &death, .dead_count = 1};
        if (spool_settle(b.spool, id.batch_no, &o) == OK)
            bench_sleep(&b, 3000000);
    }
    struct spool_dead_request purge = {.kind = DEAD_PURGE, .done = on_done};
    if (alive() && spool_dead(b.spool, &purge) == OK)
        bench_sleep(&b, 5000000);
    if (spool_state(b.spool) == SPOOL_OPENING)
        return 0;
    return spool_acked(b.spool);
}

static void check_after(uint64_t answered, const char *what, long n)
{
    memfs_crash(&b.fs); /* whatever the process believed, the platter decides */
    cr_assert_eq(bench_open(&b), SPOOL_OK, "%s %ld: %s", what, n, b.last_fault.text);
    cr_assert_geq(spool_acked(b.spool), answered, "%s %ld", what, n);
    struct spool_ledger l = bench_ledger(&b);
    cr_assert_geq(l.accepted, answered, "%s %ld", what, n);
    cr_assert_eq(l.dropped[SPOOL_DROP_CORRUPT], 0, "%s %ld: %s", what, n, b.last_warning.text);
    (void)bench_drain(&b);
    cr_assert_eq(bench_ledger(&b).pending, 0, "%s %ld", what, n);
    bench_crash(&b, true);
}

/* Fails the n-th call, for n = 1, 2, … until a whole life never makes that many. */
static void matrix(enum memfs_call call, int error, bool forever, const char *what)
{
    for (long n = 1; n < 2000; n += n < 12 ? 1 : n / 4) {
        memfs_deinit(&b.fs);
        bench_init(&b);
        b.config.recent_us = 0;
        b.fs.fail_call = call;
        b.fs.fail_at = n;
        b.fs.fail_errno = error;
        b.fs.fail_forever = forever;
        uint64_t answered = bench_open(&b) == SPOOL_OK ? live() : 0;
        bool clean = b.fs.fail_at != 0 && !(forever && b.fs.fail_at == 1);
        cr_assert_eq(b.fs.syncs_after_failure, 0, "%s %ld: a file was synced after its sync had failed", what,
                     n);
        cr_assert_leq(memfs_open_files(&b.fs), 8, "%s %ld: descriptors leak", what, n);
        bench_crash(&b, true);
        check_after(answered, what, n);
        if (clean)
            return;
    }
}

#define MATRIX(name, call, error) \
    Test(spool_faults, name##_fails_once) \
    { \
        matrix(call, error, false, #name); \
    } \
    Test(spool_faults, name##_fails_for_good) \
    { \
        matrix(call, error, true, #name); \
    }

MATRIX(open_emfile, MEMFS_OPEN, EMFILE)
MATRIX(open_eio, MEMFS_OPEN, EIO)
MATRIX(open_enospc, MEMFS_OPEN, ENOSPC)
MATRIX(pwritev_eio, MEMFS_PWRITEV, EIO)
MATRIX(pwritev_enospc, MEMFS_PWRITEV, ENOSPC)
MATRIX(pwritev_edquot, MEMFS_PWRITEV, EDQUOT)
MATRIX(pwritev_erofs, MEMFS_PWRITEV, EROFS)
MATRIX(fdatasync_eio, MEMFS_FDATASYNC, EIO)
MATRIX(fdatasync_enospc, MEMFS_FDATASYNC, ENOSPC)
MATRIX(fdatasync_edquot, MEMFS_FDATASYNC, EDQUOT)
MATRIX(fallocate_enospc, MEMFS_FALLOCATE, ENOSPC)
MATRIX(fallocate_eopnotsupp, MEMFS_FALLOCATE, EOPNOTSUPP)
MATRIX(rename_eio, MEMFS_RENAME, EIO)
MATRIX(rename_enospc, MEMFS_RENAME, ENOSPC)
MATRIX(unlink_eio, MEMFS_UNLINK, EIO)
MATRIX(fsync_dir_eio, MEMFS_FSYNC_DIR, EIO)
MATRIX(list_eio, MEMFS_LIST, EIO)
MATRIX(stat_eio, MEMFS_STAT, EIO)

Test(spool_faults, pwritev_is_short_once)
{
    matrix(MEMFS_PWRITEV, 0, false, "short pwritev");
}

Test(spool_faults, pread_fails_once)
{
    /* Read once more, and it is there. */
    matrix(MEMFS_PREAD, EIO, false, "pread");
}

Test(spool_faults, a_failed_sync_is_survived_on_another_inode)
{
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 20, 1000);
    b.fs.fail_call = MEMFS_FDATASYNC;
    b.fs.fail_at = 1;
    b.fs.fail_errno = EIO;
    cr_assert_eq(bench_append(&b, 1), 21);
    cr_assert(bench_job(&b));
    cr_assert_eq(spool_state(b.spool), SPOOL_DEGRADED);
    cr_assert_eq(spool_acked(b.spool), 20, "nobody is answered by a failed sync");
    cr_assert_eq(bench_append(&b, 2), 22);
    bench_sleep(&b, 10000);
    cr_assert_eq(spool_state(b.spool), SPOOL_OK);
    cr_assert_eq(spool_acked(b.spool), 22);
    cr_assert_eq(b.fs.syncs_after_failure, 0);
    cr_assert_geq(b.notes[NOTE_WARNING], 1);
    bench_crash(&b, true);
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    cr_assert_eq(bench_drain(&b), 22);
}

Test(spool_faults, two_failed_syncs_fail_the_spool_and_answer_nobody)
{
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 20, 1000);
    b.fs.fail_call = MEMFS_FDATASYNC;
    b.fs.fail_at = 1;
    b.fs.fail_errno = EIO;
    b.fs.fail_forever = true;
    (void)bench_append(&b, 1);
    bench_sleep(&b, 2000000);
    cr_assert_eq(spool_state(b.spool), SPOOL_FAILED);
    cr_assert_eq(b.last_fault.err, ERR_IO);
    cr_assert_eq(spool_acked(b.spool), 20);
    uint64_t seq;
    cr_assert_eq(bench_append_body(&b, "x", 1, &seq), ERR_CLOSED);
    spool_close(b.spool);
    bench_settle(&b);
    cr_assert_eq(b.notes[NOTE_CLOSED], 1);
    cr_assert_eq(memfs_open_files(&b.fs), 0);
}

Test(spool_faults, a_write_without_space_is_repeated_when_there_is_some)
{
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    b.fs.fail_call = MEMFS_PWRITEV;
    b.fs.fail_at = 1;
    b.fs.fail_errno = ENOSPC;
    b.fs.fail_forever = true;
    (void)bench_append(&b, 1);
    bench_sleep(&b, 3000000);
    cr_assert_eq(spool_state(b.spool), SPOOL_FULL);
    cr_assert_eq(spool_acked(b.spool), 0);
    b.fs.fail_at = 0;
    bench_sleep(&b, 2000000);
    cr_assert_eq(spool_acked(b.spool), 1);
    cr_assert_eq(spool_state(b.spool), SPOOL_OK);
}

Test(spool_faults, a_stuck_disk_is_told_and_refuses)
{
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    (void)bench_append(&b, 1);
    struct spool_job *stuck = b.jobs[0];
    b.job_count = 0;
    bench_sleep(&b, 6000000);
    cr_assert_eq(b.notes[NOTE_WARNING], 1);
    cr_assert_eq(spool_room(b.spool, 1, 10), ERR_AGAIN);
    b.jobs[b.job_count++] = stuck;
    bench_settle(&b);
    cr_assert_eq(spool_room(b.spool, 1, 10), OK);
    cr_assert_eq(spool_acked(b.spool), 1);
}

static void weak_mode(enum spool_durability mode)
{
    b.config.durability = mode;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    long syncs = b.fs.calls[MEMFS_FDATASYNC];
    for (unsigned i = 1; i <= 30; i++) {
        (void)bench_append(&b, i);
        bench_sleep(&b, 600);
        cr_assert_eq(spool_acked(b.spool), i, "answered when written");
    }
    cr_assert_eq(b.fs.calls[MEMFS_FDATASYNC], syncs);
    uint64_t no = bench_assign(&b, 10);
    bench_crash(&b, false);
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    cr_assert_eq(spool_acked(b.spool), 30, "a kill loses nothing");
    struct spool_open_batch open;
    cr_assert(spool_open_batch_next(b.spool, 0, &open));
    cr_assert_eq(open.id.batch_no, no);
    bench_fill(&b, 10, 100);
    bench_sleep(&b, 1500000);
    for (unsigned i = 1; i <= 5; i++)
        (void)bench_append(&b, i);
    bench_sleep(&b, 600);
    bench_crash(&b, true);
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    if (mode == SPOOL_INTERVAL)
        cr_assert_geq(spool_acked(b.spool), 40, "a second's worth at most");
    cr_assert_geq(spool_acked(b.spool), 30);
    uint64_t pending = bench_ledger(&b).pending;
    cr_assert_eq(bench_drain(&b), pending);
    bench_close(&b);
}

Test(spool_faults, interval_answers_when_written_and_syncs_every_second)
{
    weak_mode(SPOOL_INTERVAL);
}

Test(spool_faults, none_answers_when_written)
{
    weak_mode(SPOOL_NO_SYNC);
}

Test(spool_faults, weak_modes_rotate_release_and_drain)
{
    for (int mode = SPOOL_INTERVAL; mode <= SPOOL_NO_SYNC; mode++) {
        bench_deinit(&b);
        bench_init(&b);
        b.config.recent_us = 0;
        b.config.durability = (enum spool_durability)mode;
        cr_assert_eq(bench_open(&b), SPOOL_OK);
        uint64_t delivered = 0;
        for (int round = 0; round < 6; round++) {
            bench_fill(&b, 300, 2000);
            delivered += bench_drain(&b);
        }
        cr_assert_eq(delivered, 1800);
        bench_sleep(&b, 3000000);
        cr_assert_leq(bench_ledger(&b).segments, 3);
        bench_crash(&b, mode == SPOOL_INTERVAL);
        cr_assert_eq(bench_open(&b), SPOOL_OK);
        cr_assert_geq(bench_ledger(&b).delivered, 1500);
    }
}
