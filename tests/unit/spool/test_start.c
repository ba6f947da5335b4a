/* Starts over a disk that says no: whatever call fails, nothing that was answered for is lost, and the next
 * start finds all of it. And what else a start may meet. */
#include "lib/base/le.h"
#include "lib/spool/format.h"
#include "lib/spool/frame.h"
#include "lib/spool/letters.h"
#include "lib/spool/tail.h"
#include "tests/unit/spool/bench.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>


static struct bench b, sound;

static void setup(void)
{
    bench_init(&b);
}

static void teardown(void)
{
    bench_deinit(&b);
}

TestSuite(spool_start, .init = setup, .fini = teardown, .timeout = 180);

/* Several segments, an open batch, letters of which some are purged, events that no later commit attests. */
static void make_spool(void)
{
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 260, 5000);
    for (unsigned i = 0; i < 3; i++) {
        struct spool_open_batch open;
        uint64_t no = bench_assign(&b, 4);
        cr_assert(spool_open_batch_next(b.spool, no - 1, &open));
        uint64_t first = open.assignment.runs[0].first;
        struct spool_death deaths[2] = {{.seq = first, .answer = SPAN("no")}, {.seq = first + 1}};
        struct spool_run rest = {first + 2, 2};
        struct spool_outcome o = {.dead = deaths, .dead_count = 2, .delivered = &rest, .delivered_count = 1};
        cr_assert_eq(spool_settle(b.spool, no, &o), OK);
        bench_sleep(&b, 2 * SECOND_US);
    }
    (void)bench_assign(&b, 10);
    bench_fill(&b, 30, 3000);
    for (uint64_t i = 0; i < 5; i++)
        (void)bench_append(&b, i);
    bench_sleep(&b, 1000);
}

static void begin_again(void)
{
    b = sound;
    memfs_init(&b.fs);
    b.vfs = memfs_vfs(&b.fs);
    memfs_copy(&b.fs, &sound.fs);
}

/* What every start must find, however many before it have failed. */
static struct {
    uint64_t accepted, pending, dead, acked, batch_no;
} known;

static void learn(void)
{
    struct spool_open_batch open;
    struct spool_ledger l = bench_ledger(&b);
    known.accepted = l.accepted;
    known.pending = l.pending;
    known.dead = l.dead;
    known.acked = spool_acked(b.spool);
    cr_assert(spool_open_batch_next(b.spool, 0, &open));
    known.batch_no = open.id.batch_no;
}

static void is_as_known(const char *what, long n)
{
    struct spool_open_batch open;
    struct spool_ledger l = bench_ledger(&b);
    cr_assert_eq(l.accepted, known.accepted, "%s %ld: %lu accepted, not %lu", what, n,
                 (unsigned long)l.accepted, (unsigned long)known.accepted);
    cr_assert_eq(l.pending, known.pending, "%s %ld: %lu pending, not %lu; %s", what, n,
                 (unsigned long)l.pending, (unsigned long)known.pending, b.last_warning.text);
    cr_assert_eq(l.dead, known.dead, "%s %ld", what, n);
    cr_assert_eq(spool_acked(b.spool), known.acked, "%s %ld", what, n);
    cr_assert(spool_open_batch_next(b.spool, 0, &open), "%s %ld", what, n);
    cr_assert_eq(open.id.batch_no, known.batch_no, "%s %ld", what, n);
}

/* The n-th call of a kind fails while the spool is being opened (with `on`, so do all that follow), for every n that
 * there is; then the process dies, with the power or without. */
static void start_matrix(enum memfs_call call, int error, bool on, const char *what)
{
    make_spool();
    learn();
    bench_crash(&b, false);
    sound = b;
    for (long n = 1; n < 400; n += n < 40 ? 1 : 7) {
        begin_again();
        b.fs.fail_call = call;
        b.fs.fail_at = n;
        b.fs.fail_errno = error;
        b.fs.fail_forever = on;
        bool failed = bench_open(&b) != SPOOL_OK;
        bool reached = b.fs.failed > 0;
        if (failed) {
            cr_assert_neq(b.last_fault.text[0], 0, "%s %ld: without a word", what, n);
            cr_assert_eq(b.notes[NOTE_FAILED], 1);
            spool_free(b.spool);
            b.spool = NULL;
            cr_assert_eq(memfs_open_files(&b.fs), 0, "%s %ld: descriptors leak", what, n);
            if (n % 2 == 0)
                memfs_crash(&b.fs);
        } else {
            is_as_known(what, n);
            bench_crash(&b, n % 2 == 0);
        }
        b.fs.fail_at = 0;
        cr_assert_eq(bench_open(&b), SPOOL_OK, "%s %ld: %s", what, n, b.last_fault.text);
        is_as_known(what, n);
        cr_assert_eq(bench_drain(&b), known.pending, "%s %ld", what, n);
        bench_crash(&b, false);
        memfs_deinit(&b.fs);
        if (!reached)
            break;
    }
    b = sound;
    b.spool = NULL;
}

#define START_MATRIX(name, call, error) \
    Test(spool_start, name) \
    { \
        start_matrix(call, error, false, #name); \
    }

START_MATRIX(open_emfile, MEMFS_OPEN, EMFILE)
START_MATRIX(pwritev_eio, MEMFS_PWRITEV, EIO)
START_MATRIX(pwritev_enospc, MEMFS_PWRITEV, ENOSPC)
START_MATRIX(pwritev_is_short, MEMFS_PWRITEV, 0)
START_MATRIX(fdatasync_eio, MEMFS_FDATASYNC, EIO)
START_MATRIX(fallocate_enospc, MEMFS_FALLOCATE, ENOSPC)
START_MATRIX(fallocate_eopnotsupp, MEMFS_FALLOCATE, EOPNOTSUPP)
START_MATRIX(fsync_dir_eio, MEMFS_FSYNC_DIR, EIO)
START_MATRIX(list_eio, MEMFS_LIST, EIO)
START_MATRIX(stat_eio, MEMFS_STAT, EIO)
START_MATRIX(pread_eio, MEMFS_PREAD, EIO)
START_MATRIX(pread_eintr, MEMFS_PREAD, EINTR)

/* A disk that does not answer is no damage, from whatever moment on. */
Test(spool_start, pread_eio_from_then_on)
{
    start_matrix(MEMFS_PREAD, EIO, true, "pread");
}

Test(spool_start, a_disk_that_cannot_be_read_is_named_and_nothing_is_put_away)
{
    make_spool();
    bench_crash(&b, false);
    b.fs.fail_call = MEMFS_PREAD;
    b.fs.fail_errno = EIO;
    b.fs.fail_at = 1;
    b.fs.fail_forever = true;
    cr_assert_eq(bench_open(&b), SPOOL_FAILED);
    cr_assert_eq(b.last_fault.err, ERR_IO);
    cr_assert_str_eq(b.last_fault.text, "read seg-0000000000000001.wal: Input/output error");
    cr_assert_eq(b.fs.calls[MEMFS_MKDIR], 1, "for the letters, and none for a quarantine");
}

/* What is damage, and may not keep a start from going on: only places of a file cannot be read. */
Test(spool_start, places_that_cannot_be_read_are_damage)
{
    make_spool();
    learn();
    bench_crash(&b, false);
    b.fs.fail_call = MEMFS_PREAD;
    b.fs.fail_errno = EIO;
    b.fs.fail_at = 1;
    b.fs.fail_more = 3; /* the first header, once more, and each of its blocks */
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    struct spool_ledger l = bench_ledger(&b);
    cr_assert_gt(l.dropped[SPOOL_DROP_CORRUPT], 50);
    cr_assert_eq(l.accepted, known.accepted);
    cr_assert_eq(l.pending + l.dropped[SPOOL_DROP_CORRUPT], known.pending);
}

/* --- what else lies in the directory -------------------------------------------------------------------- */

Test(spool_start, strange_names_are_left_alone_and_told_once)
{
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 3, 100);
    bench_close(&b);
    memfs_put(&b.fs, "seg-notes.txt", "x", 1);
    memfs_put(&b.fs, "seg-000000000000000G.wal", "x", 1);
    memfs_put(&b.fs, "seg-0000000000000000.wal", "x", 1);
    memfs_put(&b.fs, "dead/readme", "x", 1);
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    cr_assert_eq(b.notes[NOTE_WARNING], 1, "%s", b.last_warning.text);
    size_t size;
    cr_assert_not_null(memfs_file(&b.fs, "seg-notes.txt", &size));
    cr_assert_not_null(memfs_file(&b.fs, "dead/readme", &size));
    cr_assert_eq(bench_drain(&b), 3);
}

Test(spool_start, empty_and_zeroed_files_are_a_normal_state)
{
    static unsigned char zeros[20000];
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 3, 100);
    bench_close(&b);
    memfs_put(&b.fs, "seg-0000000000000007.wal", zeros, 0);
    memfs_put(&b.fs, "seg-0000000000000008.wal", zeros, 100);
    memfs_put(&b.fs, "seg-0000000000000009.wal", zeros, sizeof zeros);
    memfs_put(&b.fs, "dead/dlq-0000000000000001.wal", zeros, 0);
    memfs_put(&b.fs, "FORMAT.tmp", zeros, 10);
    cr_assert_eq(bench_open(&b), SPOOL_OK, "%s", b.last_fault.text);
    cr_assert_eq(bench_ledger(&b).gaps, 0);
    cr_assert_eq(bench_drain(&b), 3);
    bench_sleep(&b, 5 * SECOND_US);
    size_t size;
    cr_assert_null(memfs_file(&b.fs, "seg-0000000000000008.wal", &size), "files that hold nothing go");
}

Test(spool_start, two_files_that_both_claim_a_place_are_told_apart)
{
    size_t size;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 300, 10000);
    bench_crash(&b, true);
    /* A copy of an old segment under a new name: a recycle that was cut short looks like that. */
    const unsigned char *file = memfs_file(&b.fs, "seg-0000000000000001.wal", &size);
    unsigned char *copy = must_alloc(size);
    memcpy(copy, file, size);
    memfs_put(&b.fs, "seg-0000000000000009.wal", copy, size);
    free(copy);
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    cr_assert_eq(bench_ledger(&b).pending, 300);
    cr_assert_eq(bench_drain(&b), 300);
}

/* --- frames of events and letters ----------------------------------------------------------------------- */

Test(spool_start, partitions_versions_and_sizes_come_back_as_they_were)
{
    static char big[200000];
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    memset(big, 'b', sizeof big);
    for (unsigned i = 0; i < 120; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "part-%u", i % 40);
        struct spool_record r = {.partition = i % 7 == 0 ? (struct span){0} : span_str(name),
                                 .id = i % 3 == 0 ? (struct span){0} : SPAN("id"),
                                 .body = span_of(big, i % 10 == 9 ? sizeof big : i * 10),
                                 .wall_ns = b.wall_ns - i * UINT64_C(1000000000)};
        uint64_t seq;
        cr_assert_eq(spool_append(b.spool, &r, 1, &seq), OK);
        if (i == 60) {
            b.config.api_version = 8;
            spool_reconfigure(b.spool, &b.config);
        }
        if (i % 5 == 0)
            bench_sleep(&b, 1000);
    }
    bench_sleep(&b, 1000);
    uint64_t wall_ns = b.wall_ns;
    for (unsigned life = 0; life < 2; life++) {
        struct spool_item item;
        for (unsigned i = 0; i < 120; i++) {
            char name[16];
            (void)snprintf(name, sizeof name, "part-%u", i % 40);
            cr_assert(bench_next(&b, &item), "event %u", i);
            cr_assert_eq(item.seq, i + 1);
            cr_assert(i % 7 == 0 ? item.partition.len == 0 : span_is(item.partition, name), "event %u", i);
            cr_assert_eq(item.id.len, i % 3 == 0 ? 0 : 2);
            cr_assert_eq(item.body.len, i % 10 == 9 ? sizeof big : i * 10);
            cr_assert_eq(item.api_version, i <= 60 ? 7 : 8, "event %u", i);
            cr_assert_leq(item.wall_ns, wall_ns);
        }
        if (life == 0) {
            bench_crash(&b, true);
            cr_assert_eq(bench_open(&b), SPOOL_OK);
        }
    }
}

Test(spool_start, a_letter_that_is_not_one_is_refused)
{
    struct bytes frame;
    struct spool_letter letter;
    uint16_t version;
    struct spool_item item = {.seq = 5,
                              .wall_ns = 6,
                              .api_version = 7,
                              .partition = SPAN("p"),
                              .id = SPAN("i"),
                              .body = SPAN("the body")};
    struct spool_death death = {.seq = 5, .reason = 2, .status = 400, .attempts = 3, .answer = SPAN("words")};
    struct spool_batch_id batch = {.epoch = 1, .batch_no = 2};
    bytes_init(&frame, 65536);
    letter_put(&frame, 77, &item, &death, &batch, 99);
    cr_assert(letter_get(frame.at, &letter, &version));
    cr_assert_eq(letter.letter_id, 77);
    cr_assert(span_is(letter.answer, "words"));
    cr_assert(span_is(letter.body, "the body"));
    /* One byte less, again and again: never a letter, never beyond the frame. */
    uint32_t whole = frame_payload_len(frame.at), taken = 0;
    for (uint32_t len = 0; len < whole; len++) {
        le32_put(frame.at + 8, len);
        taken += letter_get(frame.at, &letter, &version);
    }
    cr_assert_leq(taken, 16, "only padding may be missing");
    le32_put(frame.at + 8, whole);
    for (size_t at = FRAME_HEADER_BYTES; at < frame.len; at++) {
        uint8_t was = frame.at[at];
        frame.at[at] = 0xFF;
        if (letter_get(frame.at, &letter, &version)) {
            cr_assert_leq(letter.answer.at + letter.answer.len, frame.at + frame.len);
            cr_assert_lt(letter.reason, SPOOL_DEAD_REASONS);
        }
        frame.at[at] = was;
    }
    le16_put(frame.at + 6, 2);
    cr_assert_not(letter_get(frame.at, &letter, &version), "a letter is one event");
    bytes_deinit(&frame);
}

/* --- a start on a full disk ---------------------------------------------------------------------------------
 */

static struct spool_vfs real;
static bool reads_fail, opens_fail, stats_fail, fallocate_failed;

static ssize_t maybe_pread(void *ctx, int fd, void *into, size_t len, uint64_t offset)
{
    return reads_fail && fallocate_failed && offset >= BENCH_MIB / 2 ? -EIO : real.pread(ctx, fd, into, len, offset);
}

static int full_fallocate(void *ctx, int fd, uint64_t offset, uint64_t len)
{
    (void)ctx;
    (void)fd;
    (void)offset;
    if (len > 600 << 10 || !fallocate_failed) {
        fallocate_failed = true;
        return -ENOSPC;
    }
    return real.fallocate(ctx, fd, offset, len);
}

static int maybe_open(void *ctx, const char *name, unsigned flags)
{
    return opens_fail && fallocate_failed && flags == VFS_RDWR ? -EMFILE : real.open(ctx, name, flags);
}

static int maybe_stat(void *ctx, const char *name, struct spool_stat *ret)
{
    return stats_fail && fallocate_failed ? -EIO : real.stat(ctx, name, ret);
}

/* The last event ends with zeros, which are not behind the last frame: they stay. */
static void start_on_a_full_disk(void)
{
    static char body[5000];
    uint64_t seq;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 10, 5000);
    cr_assert_eq(bench_append_body(&b, body, sizeof body, &seq), OK);
    bench_sleep(&b, 3 * SECOND_US);
    bench_crash(&b, true);
    real = b.vfs;
    b.vfs.pread = maybe_pread;
    b.vfs.fallocate = full_fallocate;
    b.vfs.open = maybe_open;
    b.vfs.stat = maybe_stat;
    memfs_put(&b.fs, "seg-0000000000000009.wal", "no header", 9);
    cr_assert_eq(bench_open(&b), SPOOL_OK, "%s", b.last_fault.text);
    cr_assert(fallocate_failed);
    cr_assert_eq(bench_ledger(&b).pending, 11);
    bench_crash(&b, true);
    b.vfs = real;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    cr_assert_eq(bench_drain(&b), 11);
    cr_assert_eq(bench_ledger(&b).dropped[SPOOL_DROP_CORRUPT], 0);
}

Test(spool_start, a_start_on_a_full_disk_gives_back_only_what_says_nothing)
{
    start_on_a_full_disk();
    size_t size = 0;
    if (memfs_file(&b.fs, "seg-0000000000000001.wal", &size) != NULL)
        cr_assert_leq(size, BENCH_MIB / 2, "its empty end was given back");
}

Test(spool_start, a_start_on_a_full_disk_keeps_what_it_cannot_read)
{
    reads_fail = true;
    start_on_a_full_disk();
}

Test(spool_start, a_start_on_a_full_disk_keeps_what_it_cannot_open)
{
    opens_fail = true;
    start_on_a_full_disk();
}

Test(spool_start, a_start_on_a_full_disk_does_without_knowing_sizes)
{
    stats_fail = true;
    start_on_a_full_disk();
}
