/* The disk says no: the n-th call of every kind fails with every errno that fits it, once or for good. And there is no
 * memory: the n-th allocation fails. */
#include "tests/unit/spool/allocations.h"
#include "tests/unit/spool/bench.h"

#include <criterion/criterion.h>
#include <errno.h>
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

#define LIFE_EVENTS 100

static void append_some(unsigned n)
{
    static char body[40000];
    for (unsigned i = 0; i < n && alive(); i++) {
        uint64_t seq;
        (void)bench_append_body(&b, body, sizeof body, &seq); /* Refusals are part of the game. */
        bench_sleep(&b, 1000);
    }
}

/* A batch of up to eight, of which one dies; false when there is nothing to make one of. */
static bool settle_some(void)
{
    struct spool_run runs[8];
    unsigned n = 0;
    struct spool_item item;
    while (n < 8 && bench_next(&b, &item))
        runs[n++] = (struct spool_run){item.seq, 1};
    struct spool_assignment a = {.partition = SPAN("p"), .runs = runs, .run_count = n};
    struct spool_batch_id id;
    if (n < 3 || spool_assign(b.spool, &a, &id) != OK)
        return false;
    bench_sleep(&b, 1000);
    struct spool_death death = {.seq = runs[0].first, .reason = 1, .answer = SPAN("no")};
    struct spool_outcome o = {.delivered = runs + 1, .delivered_count = n - 1, .dead = &death, .dead_count = 1};
    if (spool_settle(b.spool, id.batch_no, &o) == OK)
        bench_sleep(&b, 3000000);
    return true;
}

/* Some of everything: rotation, released files that are used again, batches, letters, a purge, cold reads. Returns what
 * was answered for. */
static uint64_t live(void)
{
    for (unsigned lap = 0; lap < 5; lap++) {
        append_some(LIFE_EVENTS / 5);
        for (unsigned round = 0; lap < 4 && round < 3 && alive(); round++)
            if (!settle_some())
                break;
    }
    struct spool_dead_request purge = {.kind = DEAD_PURGE, .done = on_done};
    if (alive() && spool_dead(b.spool, &purge) == OK)
        bench_sleep(&b, 5000000);
    if (spool_state(b.spool) == SPOOL_OPENING)
        return 0;
    return spool_acked(b.spool);
}

/* Where reading failed for good, what could not be read is lost, and that was said: then `lossy`. */
static void check_after(uint64_t answered, const char *what, long n, bool lossy)
{
    memfs_crash(&b.fs); /* whatever the process believed, the platter decides */
    cr_assert_eq(bench_open(&b), SPOOL_OK, "%s %ld: %s", what, n, b.last_fault.text);
    struct spool_ledger l = bench_ledger(&b);
    cr_assert(lossy || spool_acked(b.spool) >= answered, "%s %ld", what, n);
    cr_assert(lossy || l.accepted >= answered, "%s %ld", what, n);
    uint64_t lost = l.dropped[SPOOL_DROP_CORRUPT];
    cr_assert(lossy || lost == 0, "%s %ld: %s", what, n, b.last_warning.text);
    (void)bench_drain(&b);
    l = bench_ledger(&b);
    cr_assert_eq(l.pending, 0, "%s %ld", what, n);
    cr_assert_eq(l.dropped[SPOOL_DROP_CORRUPT], lost, "%s %ld: a disk that is well again still loses", what, n);
    bench_crash(&b, true);
}

/* An empty directory, or one in which a process has lived, died, and left something of everything. So little is kept in
 * memory that what waits is read from the disk. Returns what was answered for. */
static uint64_t start_over(bool lived)
{
    uint64_t answered = 0;
    memfs_deinit(&b.fs);
    bench_init(&b);
    b.config.recent_us = 0;
    b.config.cache_bytes = 128 << 10;
    b.config.min_free = 1;
    if (lived) {
        cr_assert_eq(bench_open(&b), SPOOL_OK);
        answered = live();
        bench_crash(&b, true);
    }
    return answered;
}

static long next_count(long n)
{
    return n + (n < 8 ? 1 : n / 3);
}

struct faults {
    enum memfs_call call;
    int error; /* 0: the write is short */
    bool forever;
    long more;      /* calls that fail after the first */
    bool unnoticed; /* it is tried again at once, and nobody hears of it */
};

/* Fails the n-th call of a life; false: it never made that many. */
static bool one_fault(const struct faults *f, bool lived, const char *what, long n)
{
    uint64_t answered = start_over(lived);
    b.fs.fail_call = f->call;
    b.fs.fail_at = n;
    b.fs.fail_errno = f->error;
    b.fs.fail_forever = f->forever;
    b.fs.fail_more = f->more;
    uint64_t before = answered;
    if (getenv("DBG")) { b.log_notes = true; fprintf(stderr, "== %s %ld lived %d\n", what, n, lived); }
    if (bench_open(&b) == SPOOL_OK && (answered = live()) < before)
        answered = before;
    bool clean = b.fs.failed == 0;
    cr_assert_eq(b.fs.syncs_after_failure, 0, "%s %ld: a file was synced after its sync had failed", what, n);
    cr_assert_leq(memfs_open_files(&b.fs), 8, "%s %ld: descriptors leak", what, n);
    if (f->unnoticed) {
        cr_assert_eq(spool_state(b.spool), SPOOL_OK, "%s %ld: %s", what, n, b.last_fault.text);
        cr_assert_eq(b.notes[NOTE_WARNING], 0, "%s %ld: %s", what, n, b.last_warning.text);
        cr_assert_eq(answered, before + LIFE_EVENTS, "%s %ld", what, n);
    }
    bool lossy = f->call == MEMFS_PREAD && f->forever && !clean;
    cr_assert(!lossy || b.notes[NOTE_WARNING] + b.notes[NOTE_FAILED] > 0, "%s %ld: nobody heard of it", what, n);
    bench_crash(&b, true);
    check_after(answered, what, n, lossy);
    return !clean;
}

/* n = 1, 2, … until a whole life never makes that many such calls. */
static void matrix(const struct faults *f, const char *what)
{
    for (int lived = 0; lived < 2; lived++) {
        long n = 1;
        while (n < 2000 && one_fault(f, lived, what, n))
            n = next_count(n);
        cr_assert_gt(n, 1, "%s, life %d: never called: nothing was shown", what, lived + 1);
    }
}

#define MATRIX(name, which, how) \
    Test(spool_faults, name##_fails_once) \
    { \
        matrix(&(struct faults){.call = (which), .error = (how)}, #name); \
    } \
    Test(spool_faults, name##_fails_for_good) \
    { \
        matrix(&(struct faults){.call = (which), .error = (how), .forever = true}, #name); \
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

MATRIX(pread_eio, MEMFS_PREAD, EIO)
MATRIX(mkdir_eio, MEMFS_MKDIR, EIO)
MATRIX(mkdir_enospc, MEMFS_MKDIR, ENOSPC)
MATRIX(fsinfo_eio, MEMFS_FSINFO, EIO)
MATRIX(pwritev_is_short, MEMFS_PWRITEV, 0)

/* The second reading of the same place fails as well: then it is read block by block. */
Test(spool_faults, pread_fails_twice)
{
    matrix(&(struct faults){.call = MEMFS_PREAD, .error = EIO, .more = 1}, "pread twice");
}

Test(spool_faults, an_interrupted_call_is_made_again)
{
    matrix(&(struct faults){.call = MEMFS_PREAD, .error = EINTR, .unnoticed = true}, "pread");
    matrix(&(struct faults){.call = MEMFS_PWRITEV, .error = EINTR, .unnoticed = true}, "pwritev");
    matrix(&(struct faults){.call = MEMFS_FDATASYNC, .error = EINTR, .unnoticed = true}, "fdatasync");
}

/* The process ends for want of memory, with the message that says so, or it does without. */
#ifdef ALLOCATIONS_COUNTED
static bool life_ends_with_allocation(unsigned long n, uint64_t *ret_answered)
{
    allocations.count = 0;
    allocations.fail_at = n;
    b.spool = NULL;
    if (setjmp(allocations.death) == 0) {
        allocations.counting = true;
        *ret_answered = bench_open(&b) == SPOOL_OK ? live() : 0;
        allocations.counting = false;
        return false;
    }
    *ret_answered = b.spool == NULL || spool_state(b.spool) == SPOOL_OPENING ? 0 : spool_acked(b.spool);
    return true;
}

Test(spool_faults, the_nth_allocation_fails)
{
    unsigned deaths = 0, survived = 0;
    for (long n = 1; n < 100000; n = next_count(n)) {
        uint64_t answered;
        (void)start_over(false);
        bool died = life_ends_with_allocation((unsigned long)n, &answered);
        bool clean = !died && allocations.count < (unsigned long)n;
        deaths += died;
        survived += !died && !clean;
        if (died)
            b.spool = NULL; /* what it held went with its process */
        else
            bench_crash(&b, true);
        memfs_kill(&b.fs);
        check_after(answered, "allocation", n, false);
        if (clean)
            break;
    }
    cr_log_info("%u deaths, %u survived", deaths, survived);
    cr_assert_gt(deaths, 15, "nothing was shown");
}
#endif

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

Test(spool_faults, what_moves_to_a_smaller_file_can_be_read_there)
{
    static char body[1000000];
    uint64_t seq;
    b.config.max_bytes = 128 * BENCH_MIB;
    b.config.segment_bytes = 8 * BENCH_MIB;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    b.fs.fail_call = MEMFS_FDATASYNC;
    b.fs.fail_at = 1;
    b.fs.fail_errno = EIO;
    cr_assert_eq(bench_append_body(&b, body, sizeof body, &seq), OK);
    b.config.segment_bytes = BENCH_MIB;
    spool_reconfigure(b.spool, &b.config);
    bench_sleep(&b, 10000);
    cr_assert_eq(spool_acked(b.spool), 1);
    bench_crash(&b, true);
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    cr_assert_eq(bench_drain(&b), 1);
    cr_assert_eq(bench_ledger(&b).gaps, 0);
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

/* What begins a file is answered for when it is written; its sync fails, and so does the removal of that file. Were
 * another one made all the same, the next start would believe the header of the first. */
Test(spool_faults, a_file_given_up_is_gone_before_another_is_made)
{
    static char body[40000];
    uint64_t seq = 0;
    b.config.durability = SPOOL_INTERVAL;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_sleep(&b, 1500000);
    while (b.fs.calls[MEMFS_FALLOCATE] < 2) { /* The start's, and the one for later. */
        cr_assert_eq(bench_append_body(&b, body, sizeof body, &seq), OK);
        bench_sleep(&b, 600);
    }
    b.fs.fail_call = MEMFS_FDATASYNC;
    b.fs.fail_at = 2; /* The first one is of the file that is full. */
    b.fs.fail_errno = EIO;
    while (b.fs.failed == 0) {
        cr_assert_eq(bench_append_body(&b, body, sizeof body, &seq), OK);
        while (b.fs.failed == 0 && bench_job(&b))
            ;
        b.mono_us += 600;
        spool_tick(b.spool);
    }
    cr_assert_eq(spool_state(b.spool), SPOOL_DEGRADED);
    b.fs.fail_call = MEMFS_UNLINK;
    b.fs.fail_at = 1;
    bench_sleep(&b, 10000);
    (void)bench_append(&b, 1); /* Refused, or kept. */
    bench_sleep(&b, 2000000);
    uint64_t acked = spool_acked(b.spool);
    cr_assert_eq(b.fs.failed, 2);
    bench_crash(&b, false);
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    cr_assert_geq(spool_acked(b.spool), acked);
    cr_assert_geq(bench_drain(&b), acked);
    cr_assert_eq(bench_ledger(&b).dropped[SPOOL_DROP_CORRUPT], 0);
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

static void disk_answers(bool answers)
{
    b.fs.fail_call = MEMFS_PREAD;
    b.fs.fail_errno = EIO;
    b.fs.fail_at = answers ? 0 : 1;
    b.fs.fail_forever = !answers;
}

Test(spool_faults, a_disk_that_does_not_answer_reads_loses_nothing)
{
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 300, 10000);
    bench_crash(&b, false);
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    struct spool_item item;
    for (unsigned i = 0; i < 30; i++)
        cr_assert(bench_next(&b, &item));
    disk_answers(false);
    for (unsigned i = 0; i < 5; i++) {
        while (bench_next(&b, &item))
            ;
        cr_assert_lt(item.seq, 300);
        cr_assert_eq(b.notes[NOTE_WARNING], i + 1, "%s", b.last_warning.text);
        bench_sleep(&b, 1000000);
    }
    disk_answers(true);
    spool_rewind(b.spool);
    cr_assert_eq(bench_drain(&b), 300);
    cr_assert_eq(bench_ledger(&b).dropped[SPOOL_DROP_CORRUPT], 0);
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
