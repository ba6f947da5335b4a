/* What is rare and must go well all the same: letters by the hundred, deaths that something else was faster than, a
 * quarantine that cannot take anything, and verification of what a start has not looked at yet. */
#include "lib/base/crc32c.h"
#include "lib/base/le.h"
#include "lib/spool/format.h"
#include "lib/spool/frame.h"
#include "lib/spool/ops.h"
#include "lib/spool/verify.h"
#include "tests/unit/spool/bench.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

BENCH_SUITE(spool_rare);

static void reopen(void)
{
    bench_crash(&b, true);
    cr_assert_eq(bench_open(&b), SPOOL_OK, "%s", b.last_fault.text);
}

/* --- many letters -----------------------------------------------------------------------------------------
 */

static struct {
    unsigned letters, done;
    uint64_t ids[1000], count;
    size_t longest_answer, longest_body;
    enum err err;
} told;

static void on_letter(void *ctx, const struct spool_letter *letter)
{
    (void)ctx;
    told.longest_answer = letter->answer.len > told.longest_answer ? letter->answer.len : told.longest_answer;
    told.longest_body = letter->body.len > told.longest_body ? letter->body.len : told.longest_body;
    told.ids[told.letters++] = letter->letter_id;
}

static void on_done(void *ctx, enum err err, uint64_t count, const struct fault *why)
{
    (void)ctx;
    cr_assert(err == OK || why->text[0] != '\0');
    told.done++;
    told.err = err;
    told.count = count;
}

static uint64_t request(int kind, const uint64_t *ids, unsigned id_count)
{
    struct spool_dead_request r = {.ids = ids, .id_count = id_count, .letter = on_letter, .done = on_done};
    r.kind = kind;
    memset(&told, 0, sizeof told);
    cr_assert_eq(spool_dead(b.spool, &r), OK);
    bench_sleep(&b, 5 * SECOND_US);
    cr_assert_eq(told.done, 1);
    return told.count;
}

/* All of the next n events die together, with such an answer. */
static void kill_events(unsigned n, struct span answer)
{
    struct spool_death deaths[1000];
    struct spool_open_batch open;
    uint64_t no = bench_assign(&b, n);
    cr_assert(spool_open_batch_next(b.spool, no - 1, &open));
    cr_assert_eq(open.count, n);
    for (unsigned i = 0; i < n; i++)
        deaths[i] = (struct spool_death){.seq = open.assignment.runs[0].first + i, .answer = answer};
    struct spool_outcome o = {.dead = deaths, .dead_count = n};
    cr_assert_eq(spool_settle(b.spool, no, &o), OK);
    bench_sleep(&b, SECOND_US);
}

Test(spool_rare, a_batch_of_large_events_dies_in_several_writes_and_an_answer_is_cut)
{
    static char answer[5000];
    memset(answer, 'a', sizeof answer);
    b.config.dead_max_bytes = 64 * BENCH_MIB;
    b.config.max_bytes = 64 * BENCH_MIB;
    b.config.segment_bytes = 4 * BENCH_MIB;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 60, 60000);
    bench_fill(&b, 1, 700000);
    kill_events(61, span_of(answer, sizeof answer));
    cr_assert_eq(bench_ledger(&b).dead, 61);
    for (int life = 0; life < 2; life++) {
        cr_assert_eq(request(DEAD_LIST, NULL, 0), 61);
        cr_assert_eq(told.letters, 61);
        cr_assert_eq(told.longest_answer, 1024, "not all of what an upstream says is kept");
        cr_assert_eq(told.longest_body, 700000);
        reopen();
    }
}

Test(spool_rare, hundreds_of_letters_are_replayed_each_once)
{
    b.config.dead_max_bytes = 16 * BENCH_MIB;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 700, 50);
    kill_events(700, SPAN("no"));
    cr_assert_eq(request(DEAD_REPLAY, NULL, 0), 700);
    cr_assert_eq(told.err, OK);
    cr_assert_eq(bench_ledger(&b).dead, 0);
    cr_assert_eq(bench_ledger(&b).pending, 700);
    reopen();
    cr_assert_eq(bench_ledger(&b).dead, 0);
    cr_assert_eq(bench_drain(&b), 700);
}

Test(spool_rare, a_replay_without_room_ends_with_what_there_was_room_for)
{
    b.config.max_bytes = 4 * BENCH_MIB;
    b.config.dead_max_bytes = 16 * BENCH_MIB;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    for (unsigned i = 0; i < 4; i++) {
        bench_fill(&b, 30, 40000);
        kill_events(30, SPAN("no"));
    }
    uint64_t replayed = request(DEAD_REPLAY, NULL, 0);
    cr_assert_eq(told.err, ERR_FULL);
    cr_assert(replayed > 10 && replayed < 120, "%lu", (unsigned long)replayed);
    struct spool_ledger l = bench_ledger(&b);
    cr_assert_eq(l.dead, 120 - replayed);
    cr_assert_eq(l.pending, replayed);
    cr_assert_eq(bench_drain(&b), replayed);
    cr_assert_eq(request(DEAD_REPLAY, NULL, 0) > 0, true, "and then there is room again");
}

/* More gaps than one record of marks names, and more than one of settled events. */
Test(spool_rare, every_other_letter_and_every_other_event_may_go)
{
    uint64_t ids[350];
    b.config.dead_max_bytes = 16 * BENCH_MIB;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 700, 50);
    kill_events(700, SPAN("no"));
    cr_assert_eq(request(DEAD_LIST, NULL, 0), 700);
    for (unsigned i = 0; i < 350; i++)
        ids[i] = told.ids[2 * i];
    cr_assert_eq(request(DEAD_PURGE, ids, 350), 350);
    bench_fill(&b, 700, 50);
    for (unsigned i = 0; i < 700; i += 2)
        cr_assert_eq(spool_drop(b.spool, (struct spool_run){702 + i, 1}, SPOOL_DROP_EXPIRED), OK);
    bench_sleep(&b, SECOND_US);
    for (int life = 0; life < 3; life++) {
        struct spool_ledger l = bench_ledger(&b);
        cr_assert_eq(l.dead, 350, "life %d", life);
        cr_assert_eq(l.dropped[SPOOL_DROP_PURGED], 350);
        cr_assert_eq(l.dropped[SPOOL_DROP_EXPIRED], 350);
        cr_assert_eq(l.pending, 350);
        cr_assert_eq(request(DEAD_LIST, NULL, 0), 350);
        reopen();
    }
    cr_assert_eq(bench_drain(&b), 350);
}

/* Letters are read a block at a time; what is damaged on the way is counted, and what follows is found. */
Test(spool_rare, damage_in_the_middle_of_many_letters_costs_those_it_hit)
{
    size_t size;
    b.config.dead_max_bytes = 16 * BENCH_MIB;
    b.config.max_bytes = 64 * BENCH_MIB;
    b.config.segment_bytes = 4 * BENCH_MIB;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 40, 20000);
    kill_events(40, SPAN("no"));
    cr_assert_eq(request(DEAD_LIST, NULL, 0), 40);
    uint64_t gone[2] = {told.ids[15], 4711};
    cr_assert_eq(request(DEAD_PURGE, gone, 2), 1, "nobody knows the other one");
    unsigned char *file = memfs_file(&b.fs, "dead/dlq-0000000000000001.wal", &size);
    cr_assert_gt(size, 600000);
    memset(file + 300000, 0x77, 50000);
    uint64_t listed = request(DEAD_LIST, NULL, 0);
    cr_assert(listed >= 34 && listed <= 37, "%lu", (unsigned long)listed);
    struct spool_ledger l = bench_ledger(&b);
    cr_assert_eq(l.dead, listed);
    cr_assert_eq(l.dropped[SPOOL_DROP_CORRUPT], 39 - listed);
    reopen();
    cr_assert_eq(request(DEAD_LIST, NULL, 0), listed);
}

/* --- deaths that something else was faster than ------------------------------------------------------------
 */

/* Twenty events on disk only, in a batch; the frames of some or all of them are damaged. */
static uint64_t cold_batch(bool all)
{
    size_t size;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 20, 10000);
    uint64_t no = bench_assign(&b, 20);
    bench_sleep(&b, 3 * SECOND_US);
    reopen();
    unsigned char *file = memfs_file(&b.fs, "seg-0000000000000001.wal", &size);
    unsigned hurt = 0;
    for (size_t at = SEGMENT_HEADER_AREA; at + 5000 < size; at += FRAME_ALIGN)
        if (memcmp(file + at, "FRM1\1", 5) == 0 && (all || hurt == 0)) {
            file[at + 1000] ^= 1;
            hurt++;
        }
    cr_assert_gt(hurt, 0);
    return no;
}

static void settle_as_dead(uint64_t no, const struct spool_assignment *next, unsigned next_count)
{
    struct spool_batch_id ids[4];
    struct spool_death deaths[18];
    for (unsigned i = 0; i < 18; i++)
        deaths[i] = (struct spool_death){.seq = 1 + i, .answer = SPAN("no")};
    struct spool_run delivered = {19, next_count > 0 ? 1 : 2};
    struct spool_outcome o = {.dead = deaths,
                              .dead_count = 18,
                              .delivered = &delivered,
                              .delivered_count = 1,
                              .next = next,
                              .next_count = next_count,
                              .ret_next_ids = ids};
    b.notes[NOTE_SETTLED] = b.notes[NOTE_LOST] = b.notes[NOTE_BATCH] = 0;
    cr_assert_eq(spool_settle(b.spool, no, &o), OK);
    bench_sleep(&b, 3 * SECOND_US);
    cr_assert_eq(b.notes[NOTE_SETTLED], 1);
}

Test(spool_rare, events_that_damage_took_before_they_died_are_lost_and_not_dead)
{
    uint64_t no = cold_batch(false);
    settle_as_dead(no, NULL, 0);
    for (int life = 0; life < 2; life++) {
        struct spool_ledger l = bench_ledger(&b);
        uint64_t lost = l.dropped[SPOOL_DROP_CORRUPT];
        cr_assert(lost >= 1 && lost < 18, "%lu", (unsigned long)lost);
        cr_assert_eq(l.dead, 18 - lost);
        cr_assert_eq(l.delivered, 2);
        cr_assert_eq(l.pending, 0);
        cr_assert_eq(request(DEAD_LIST, NULL, 0), 18 - lost);
        reopen();
    }
}

Test(spool_rare, a_batch_that_damage_ended_while_its_deaths_were_written_has_no_successor)
{
    struct spool_run rest = {20, 1};
    struct spool_assignment next = {.partition = SPAN("p"), .runs = &rest, .run_count = 1};
    uint64_t no = cold_batch(true);
    settle_as_dead(no, &next, 1);
    struct spool_ledger l = bench_ledger(&b);
    cr_assert_eq(l.pending + l.delivered + l.dropped[SPOOL_DROP_CORRUPT], 20);
    cr_assert_geq(l.dropped[SPOOL_DROP_CORRUPT], 18);
    cr_assert_eq(l.dead, 0);
    cr_assert_eq(b.notes[NOTE_LOST] + b.notes[NOTE_BATCH], 1, "whoever waits for it hears once");
    reopen();
    (void)bench_drain(&b);
    cr_assert_eq(bench_ledger(&b).pending, 0);
    cr_assert_eq(bench_ledger(&b).dead, 0);
}

/* The letters are written, and then it turns out that the quota has ended the batch: they must not count twice. */
Test(spool_rare, a_batch_that_the_quota_ended_while_its_letters_were_written_leaves_none)
{
    b.config.max_bytes = 4 * BENCH_MIB;
    b.config.when_full = SPOOL_DROP_OLDEST;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 18, 40000);
    uint64_t no = bench_assign(&b, 18);
    struct spool_death deaths[18];
    for (unsigned i = 0; i < 18; i++)
        deaths[i] = (struct spool_death){.seq = 1 + i, .answer = SPAN("no")};
    struct spool_outcome o = {.dead = deaths, .dead_count = 18};
    /* Deaths wait while the disk refuses their file; events go on coming. */
    b.fs.fail_call = MEMFS_MKDIR;
    b.fs.fail_at = 1;
    b.fs.fail_errno = ENOSPC;
    b.fs.fail_forever = true;
    cr_assert_eq(spool_settle(b.spool, no, &o), OK);
    bench_fill(&b, 300, 40000);
    cr_assert_gt(bench_ledger(&b).dropped[SPOOL_DROP_QUOTA], 0);
    b.fs.fail_at = 0;
    bench_sleep(&b, 5 * SECOND_US);
    for (int life = 0; life < 2; life++) {
        struct spool_ledger l = bench_ledger(&b);
        cr_assert_eq(l.dead, 0);
        cr_assert_eq(l.accepted, 318);
        cr_assert_geq(l.dropped[SPOOL_DROP_QUOTA], 18);
        cr_assert_eq(request(DEAD_LIST, NULL, 0), 0);
        reopen();
    }
}

/* --- a quarantine that cannot take anything ----------------------------------------------------------------
 */

#define FIRST "seg-0000000000000001.wal"

static void spoil_first(void)
{
    size_t size;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 200, 10000);
    bench_crash(&b, true);
    memset(memfs_file(&b.fs, FIRST, &size), 0xEE, SEGMENT_HEADER_AREA);
}

Test(spool_rare, a_quarantine_that_cannot_be_listed_stops_nothing)
{
    size_t size;
    spoil_first();
    b.fs.fail_call = MEMFS_LIST;
    b.fs.fail_at = 3; /* behind the segments and the letters */
    b.fs.fail_errno = EIO;
    cr_assert_eq(bench_open(&b), SPOOL_OK, "%s", b.last_fault.text);
    cr_assert_eq(b.fs.failed, 1);
    cr_assert_not_null(memfs_file(&b.fs, "seg-0000000000000001.wal", &size), "it stays where it is");
    uint64_t pending = bench_ledger(&b).pending;
    cr_assert_gt(pending, 50);
    cr_assert_eq(bench_drain(&b), pending);
    cr_assert_eq(bench_ledger(&b).dropped[SPOOL_DROP_CORRUPT], 200 - pending);
    bench_crash(&b, false);
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    cr_assert_not_null(memfs_file(&b.fs, "quarantine/seg-0000000000000001.wal", &size), "next time");
}

Test(spool_rare, a_file_that_cannot_be_moved_to_quarantine_is_met_again)
{
    size_t size;
    spoil_first();
    b.fs.fail_call = MEMFS_RENAME;
    b.fs.fail_at = 1;
    b.fs.fail_errno = EACCES;
    cr_assert_eq(bench_open(&b), SPOOL_OK, "%s", b.last_fault.text);
    uint64_t lost = 200 - bench_ledger(&b).pending;
    cr_assert_gt(lost, 50);
    bench_crash(&b, false);
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    cr_assert_eq(bench_ledger(&b).pending, 200 - lost, "what is lost is counted once");
    cr_assert_not_null(memfs_file(&b.fs, "quarantine/seg-0000000000000001.wal", &size));
    cr_assert_eq(bench_drain(&b), 200 - lost);
}

/* --- verification ----------------------------------------------------------------------------------------
 */

/* Two segments, settled events between pending ones, letters of which some are purged, and a commit that nothing attests. */
static void make_spool(void)
{
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 200, 6000);
    kill_events(10, SPAN("no"));
    uint64_t first = bench_assign(&b, 20);
    bench_deliver(&b, bench_assign(&b, 20));
    cr_assert_neq(first, 0);
    cr_assert_eq(request(DEAD_LIST, NULL, 0), 10);
    uint64_t ids[3] = {told.ids[0], told.ids[4], told.ids[5]};
    cr_assert_eq(request(DEAD_PURGE, ids, 3), 3);
    for (unsigned i = 0; i < 5; i++)
        cr_assert_neq(bench_append(&b, i), 0);
    bench_sleep(&b, 1000);
    bench_crash(&b, true);
}

Test(spool_rare, verify_knows_what_is_settled_between_pending_events_and_which_letters_are_gone)
{
    make_spool();
    struct spool_verdict v = bench_verify(&b);
    cr_assert_eq(v.damages, 0, "%s", b.verified.text);
    cr_assert_eq(v.pending_found, 175);
    cr_assert_eq(v.ledger.pending, 175);
    cr_assert_eq(v.letters_found, 7);
    cr_assert_eq(b.verified.letters, 7);
    struct spool_verify brief = {.ledger_only = true};
    struct fault why;
    cr_assert_eq(spool_verify(&b.vfs, &brief, &v, &why), OK);
    cr_assert_eq(v.ledger.pending, 175);
    cr_assert_eq(v.ledger.dead, 7);
    cr_assert_eq(v.pending_found + v.letters_found, 0, "nobody looked");
}

/* A file that cannot be opened, at each opening: its letters or events are missing, and that is said. */
Test(spool_rare, verify_says_of_each_file_that_it_cannot_be_opened)
{
    make_spool();
    struct spool_verdict sound = bench_verify(&b);
    bool all_met = false;
    for (long n = 1; n < 40 && !all_met; n++) {
        struct spool_verify v = {0}; /* nobody listens */
        struct spool_verdict verdict;
        struct fault why = {0};
        b.fs.fail_call = MEMFS_OPEN;
        b.fs.fail_at = n;
        b.fs.fail_errno = EMFILE;
        enum err err = spool_verify(&b.vfs, &v, &verdict, &why);
        all_met = b.fs.fail_at != 0;
        b.fs.fail_at = 0;
        cr_assert(err == OK || why.text[0] != '\0', "opening %ld", n);
        cr_assert(err != OK || all_met || verdict.damages > 0 || verdict.pending_found == sound.pending_found, "opening %ld", n);
    }
    cr_assert(all_met);
}

Test(spool_rare, a_directory_with_but_one_file_of_a_spool_is_one)
{
    unsigned char junk[SEGMENT_HEADER_AREA], format[FORMAT_BYTES];
    size_t size;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_close(&b);
    memcpy(format, memfs_file(&b.fs, FORMAT_FILE, &size), FORMAT_BYTES);
    memfs_deinit(&b.fs);
    memfs_init(&b.fs);
    memfs_put(&b.fs, FORMAT_FILE, format, FORMAT_BYTES);
    cr_assert_eq(bench_verify(&b).damages, 0);
    memfs_deinit(&b.fs);
    memfs_init(&b.fs);
    memset(junk, 0xEE, sizeof junk);
    memfs_put(&b.fs, "seg-0000000000000001.wal", junk, sizeof junk);
    cr_assert_gt(bench_verify(&b).damages, 0);
    cr_assert_eq(bench_open(&b), SPOOL_OK, "%s", b.last_fault.text);
    cr_assert_geq(b.notes[NOTE_WARNING], 1);
}

/* What stands unattested in the newest file is copied by a start, and what is copied is checked once more. */
Test(spool_rare, a_start_copies_no_wrong_bit)
{
    static struct memfs saved;
    make_spool();
    memfs_init(&saved);
    memfs_copy(&saved, &b.fs);
    unsigned refused = 0;
    bool all_met = false;
    for (long n = 1; n < 200 && !all_met; n++) {
        memfs_deinit(&b.fs);
        memfs_init(&b.fs);
        memfs_copy(&b.fs, &saved);
        b.fs.flip_read = n;
        bool served = bench_open(&b) == SPOOL_OK;
        all_met = b.fs.flip_read != 0;
        b.fs.flip_read = 0;
        refused += !served;
        cr_assert(served || b.last_fault.text[0] != '\0');
        uint64_t pending = served ? bench_ledger(&b).pending : 175;
        bench_crash(&b, false);
        cr_assert_eq(bench_open(&b), SPOOL_OK, "reading %ld: %s", n, b.last_fault.text);
        cr_assert_eq(bench_ledger(&b).pending, pending, "reading %ld", n);
        cr_assert_eq(bench_drain(&b) + bench_ledger(&b).dropped[SPOOL_DROP_CORRUPT] >= 175, true, "reading %ld", n);
        bench_crash(&b, false);
    }
    cr_assert(all_met);
    cr_assert_gt(refused, 0, "no copy was ever wrong: nothing was shown");
    memfs_deinit(&saved);
}

/* One reading fails, or brings a wrong bit: the second one is right, and nothing is said. */
Test(spool_rare, verify_reads_again_what_did_not_come_well)
{
    make_spool();
    struct spool_verdict sound = bench_verify(&b);
    unsigned flipped = 0;
    for (long n = 1; n < 200; n++) {
        b.fs.fail_call = MEMFS_PREAD;
        b.fs.fail_at = n;
        b.fs.fail_errno = EIO;
        struct spool_verdict v = bench_verify(&b);
        bool reached = b.fs.fail_at == 0;
        b.fs.fail_at = 0;
        cr_assert_eq(v.damages, 0, "reading %ld: %s", n, b.verified.text);
        cr_assert_eq(v.pending_found, sound.pending_found);
        cr_assert_eq(v.letters_found, sound.letters_found);
        b.fs.flip_read = n;
        v = bench_verify(&b);
        b.fs.flip_read = 0;
        cr_assert_leq(v.pending_found, sound.pending_found, "reading %ld", n);
        cr_assert(v.damages > 0 || v.pending_found == sound.pending_found, "reading %ld: events are missed in silence", n);
        flipped += v.damages > 0;
        if (!reached)
            break;
    }
    cr_assert_lt(flipped, 10, "a reading is checked, and done again");
}

/* Where the end of a segment is not known, as its successor is gone, bad bytes behind its last frame are the past of a
 * file that was used again. */
Test(spool_rare, old_bytes_behind_the_last_frame_are_no_damage)
{
    size_t size;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 300, 10000);
    bench_crash(&b, true);
    unsigned char *file = memfs_file(&b.fs, "seg-0000000000000001.wal", &size);
    uint64_t end = le64_get(memfs_file(&b.fs, "seg-0000000000000002.wal", &size) + 72); /* prev_end */
    memfs_remove(&b.fs, "seg-0000000000000002.wal");
    cr_assert_lt(end + 4096, BENCH_MIB);
    uint64_t lost = 300 - bench_verify(&b).pending_found;
    unsigned before = bench_verify(&b).damages;
    memcpy(file + (end + 4095) / 4096 * 4096, "FRM1 and what stood behind it", 30);
    struct spool_verdict v = bench_verify(&b);
    cr_assert_eq(v.damages, before, "%s", b.verified.text);
    cr_assert_eq(v.pending_found, 300 - lost);
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    cr_assert_eq(bench_drain(&b), 300 - lost);
    cr_assert_eq(bench_ledger(&b).dropped[SPOOL_DROP_CORRUPT], lost);
}
