/* Dead letters: written before they count, listed, replayed, purged, and none of it twice. */
#include "lib/spool/letters.h"
#include "tests/unit/spool/bench.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>

static struct bench b;

static void setup(void)
{
    bench_init(&b);
    cr_assert_eq(bench_open(&b), SPOOL_OK);
}

static void teardown(void)
{
    bench_deinit(&b);
}

TestSuite(spool_dead, .init = setup, .fini = teardown);

static void reopen(bool power)
{
    bench_crash(&b, power);
    cr_assert_eq(bench_open(&b), SPOOL_OK, "%s", b.last_fault.text);
}

/* Events first .. first + n - 1 of a new batch die; the others are delivered. */
static void die(unsigned events, unsigned n)
{
    struct spool_death deaths[64];
    for (unsigned i = 0; i < events; i++)
        cr_assert_neq(bench_append(&b, i), 0);
    bench_sleep(&b, 1000);
    uint64_t no = bench_assign(&b, events);
    struct spool_open_batch open;
    cr_assert(spool_open_batch_next(b.spool, no - 1, &open));
    uint64_t first = open.assignment.runs[0].first;
    for (unsigned i = 0; i < n; i++)
        deaths[i] = (struct spool_death){.seq = first + i,
                                         .reason = (uint8_t)(i % 2),
                                         .status = 422,
                                         .attempts = 3,
                                         .answer = SPAN("no thanks")};
    struct spool_run rest = {first + n, events - n};
    struct spool_outcome o = {
        .dead = deaths, .dead_count = n, .delivered = &rest, .delivered_count = events > n ? 1 : 0};
    cr_assert_eq(spool_settle(b.spool, no, &o), OK);
    bench_sleep(&b, 2000);
}

static struct {
    unsigned letters, done;
    uint64_t ids[64], count, seqs[64];
    enum err err;
    char body[64];
} seen;

static void on_letter(void *ctx, const struct spool_letter *letter)
{
    (void)ctx;
    cr_assert_eq(letter->status, 422);
    cr_assert_eq(letter->attempts, 3);
    cr_assert(span_is(letter->answer, "no thanks"));
    cr_assert(span_is(letter->partition, "p"));
    cr_assert(span_is(letter->id, "id"));
    (void)snprintf(seen.body, sizeof seen.body, "%.*s", SPAN_FMT(letter->body));
    seen.seqs[seen.letters] = letter->seq;
    seen.ids[seen.letters++] = letter->letter_id;
}

static void on_done(void *ctx, enum err err, uint64_t count, const struct fault *why)
{
    (void)ctx;
    (void)why;
    seen.done++;
    seen.err = err;
    seen.count = count;
}

static uint64_t request(int kind, const uint64_t *ids, unsigned id_count)
{
    struct spool_dead_request r = {.ids = ids, .id_count = id_count, .letter = on_letter, .done = on_done};
    r.kind = kind;
    memset(&seen, 0, sizeof seen);
    cr_assert_eq(spool_dead(b.spool, &r), OK);
    cr_assert_eq(seen.done, 0, "not inside the call");
    bench_sleep(&b, 10000);
    cr_assert_eq(seen.done, 1);
    cr_assert_eq(seen.err, OK);
    return seen.count;
}

static uint64_t list(void)
{
    return request(DEAD_LIST, NULL, 0);
}

Test(spool_dead, letters_are_counted_and_listed)
{
    die(10, 4);
    struct spool_ledger l = bench_ledger(&b);
    cr_assert_eq(l.dead, 4);
    cr_assert_eq(l.dead_total[0], 2);
    cr_assert_eq(l.dead_total[1], 2);
    cr_assert_eq(l.delivered, 6);
    cr_assert_eq(l.pending, 0);
    cr_assert_eq(list(), 4);
    cr_assert_str_eq(seen.body, "3");
    cr_assert_eq(b.notes[NOTE_SETTLED], 1);
    reopen(true);
    cr_assert_eq(bench_ledger(&b).dead, 4);
    cr_assert_eq(list(), 4);
    cr_assert_eq(b.notes[NOTE_WARNING], 0, "%s", b.last_warning.text);
}

Test(spool_dead, a_listing_goes_on_where_the_last_one_ended)
{
    die(10, 10);
    struct spool_dead_request r = {.kind = DEAD_LIST, .limit = 3, .letter = on_letter, .done = on_done};
    unsigned total = 0;
    for (int round = 0; round < 4; round++) {
        memset(&seen, 0, sizeof seen);
        cr_assert_eq(spool_dead(b.spool, &r), OK);
        bench_settle(&b);
        cr_assert_eq(seen.done, 1);
        total += seen.letters;
        if (seen.letters > 0)
            r.after_id = seen.ids[seen.letters - 1];
    }
    cr_assert_eq(total, 10);
}

Test(spool_dead, a_disk_that_does_not_answer_delays_a_listing)
{
    struct spool_dead_request r = {.kind = DEAD_LIST, .letter = on_letter, .done = on_done};
    die(10, 4);
    memset(&seen, 0, sizeof seen);
    b.fs.fail_call = MEMFS_PREAD;
    b.fs.fail_errno = EIO;
    b.fs.fail_at = 1;
    b.fs.fail_forever = true;
    cr_assert_eq(spool_dead(b.spool, &r), OK);
    bench_sleep(&b, 2500000);
    cr_assert_eq(seen.done, 0);
    cr_assert_eq(b.notes[NOTE_WARNING], 3, "%s", b.last_warning.text);
    b.fs.fail_at = 0;
    bench_sleep(&b, 1000000);
    cr_assert_eq(seen.done, 1);
    cr_assert_eq(seen.letters, 4);
    cr_assert_eq(bench_ledger(&b).dead, 4);
}

Test(spool_dead, replay_brings_the_event_back_once)
{
    die(3, 2);
    cr_assert_eq(list(), 2);
    uint64_t ids[1] = {seen.ids[1]};
    cr_assert_eq(request(DEAD_REPLAY, ids, 1), 1);
    struct spool_ledger l = bench_ledger(&b);
    cr_assert_eq(l.dead, 1);
    cr_assert_eq(l.pending, 1);
    cr_assert_eq(l.accepted, 3);
    cr_assert_eq(request(DEAD_REPLAY, ids, 1), 0, "not twice");
    reopen(true);
    cr_assert_eq(bench_ledger(&b).dead, 1);
    cr_assert_eq(bench_ledger(&b).pending, 1);
    struct spool_item item;
    cr_assert(bench_next(&b, &item));
    cr_assert(span_is(item.body, "1"));
    cr_assert_eq(item.api_version, 7);
    cr_assert_eq(list(), 1);
    spool_rewind(b.spool);
    cr_assert_eq(bench_drain(&b), 1);
    cr_assert_eq(request(DEAD_REPLAY, NULL, 0), 1);
    cr_assert_eq(bench_drain(&b), 1);
    bench_sleep(&b, 2000000);
    cr_assert_eq(bench_ledger(&b).dead, 0);
    cr_assert_eq(bench_ledger(&b).delivered, 3);
    cr_assert_eq(bench_ledger(&b).dead_bytes, 0, "files without letters are deleted");
}

Test(spool_dead, a_purge_of_nothing_holds_nobody_up)
{
    cr_assert_neq(bench_append(&b, 1), 0);
    bench_sleep(&b, 1000);
    uint64_t no = bench_assign(&b, 1);
    bench_sleep(&b, 3000000); /* Nothing is left to be committed, not even the word that all is. */
    cr_assert_eq(request(DEAD_PURGE, NULL, 0), 0);
    struct spool_death death = {.seq = 1, .status = 422, .attempts = 3, .answer = SPAN("no thanks")};
    cr_assert_eq(spool_settle(b.spool, no, &(struct spool_outcome){.dead = &death, .dead_count = 1}), OK);
    bench_sleep(&b, 3000000);
    cr_assert_eq(bench_ledger(&b).dead, 1);
    cr_assert_eq(b.notes[NOTE_SETTLED], 1);
}

Test(spool_dead, purge_turns_letters_into_dropped)
{
    die(8, 8);
    cr_assert_eq(list(), 8);
    uint64_t ids[2] = {seen.ids[2], seen.ids[5]};
    cr_assert_eq(request(DEAD_PURGE, ids, 2), 2);
    cr_assert_eq(bench_ledger(&b).dead, 6);
    cr_assert_eq(bench_ledger(&b).dropped[SPOOL_DROP_PURGED], 2);
    cr_assert_eq(list(), 6);
    bench_sleep(&b, 1000000);
    reopen(true);
    cr_assert_eq(list(), 6);
    cr_assert_eq(bench_ledger(&b).dead, 6);
    cr_assert_eq(request(DEAD_PURGE, NULL, 0), 6);
    bench_sleep(&b, 1000000);
    reopen(true);
    cr_assert_eq(list(), 0);
    cr_assert_eq(bench_ledger(&b).dropped[SPOOL_DROP_PURGED], 8);
    cr_assert_eq(bench_ledger(&b).dead_bytes, 0);
    uint64_t counter = 1; /* something waits for the next commit, which may be long in coming */
    spool_set_user(b.spool, span_of(&counter, sizeof counter));
    cr_assert_eq(request(DEAD_PURGE, NULL, 0), 0, "nothing to purge is answered at once");
}

Test(spool_dead, full_dead_letters_block_or_drop_by_choice)
{
    b.config.dead_max_bytes = 20000;
    reopen(true);
    while (bench_ledger(&b).dead_bytes < 20000)
        die(2, 1);
    (void)bench_append(&b, 1);
    bench_sleep(&b, 1000);
    uint64_t no = bench_assign(&b, 1);
    struct spool_open_batch open;
    cr_assert(spool_open_batch_next(b.spool, no - 1, &open));
    struct spool_death death = {.seq = open.assignment.runs[0].first};
    struct spool_outcome o = {.dead = &death, .dead_count = 1};
    cr_assert_eq(spool_settle(b.spool, no, &o), ERR_FULL);
    cr_assert_eq(bench_ledger(&b).pending, 1);
    b.config.dead_drop_newest = true;
    spool_reconfigure(b.spool, &b.config);
    cr_assert_eq(spool_settle(b.spool, no, &o), OK);
    bench_sleep(&b, 1000);
    cr_assert_eq(bench_ledger(&b).pending, 0);
    cr_assert_eq(bench_ledger(&b).dropped[SPOOL_DROP_QUOTA], 1);
}

Test(spool_dead, a_batch_may_die_in_part_and_live_on_in_part)
{
    for (unsigned i = 0; i < 6; i++)
        (void)bench_append(&b, i);
    bench_sleep(&b, 1000);
    uint64_t no = bench_assign(&b, 6);
    struct spool_death death = {.seq = 2, .reason = 4, .answer = SPAN("")};
    struct spool_run delivered = {1, 1}, rest = {3, 4};
    struct spool_assignment next = {.partition = SPAN("p"), .runs = &rest, .run_count = 1};
    struct spool_batch_id id;
    struct spool_outcome o = {.delivered = &delivered,
                              .delivered_count = 1,
                              .dead = &death,
                              .dead_count = 1,
                              .next = &next,
                              .next_count = 1,
                              .ret_next_ids = &id};
    b.notes[NOTE_BATCH] = 0;
    cr_assert_eq(spool_settle(b.spool, no, &o), OK);
    bench_sleep(&b, 1000);
    cr_assert_eq(b.notes[NOTE_SETTLED], 1);
    cr_assert_eq(b.notes[NOTE_BATCH], 1);
    cr_assert_eq(b.last_batch, id.batch_no);
    struct spool_ledger l = bench_ledger(&b);
    cr_assert_eq(l.delivered, 1);
    cr_assert_eq(l.dead, 1);
    cr_assert_eq(l.pending, 4);
    bench_deliver(&b, id.batch_no);
    cr_assert_eq(bench_ledger(&b).delivered, 5);
}

Test(spool_dead, a_crash_at_any_call_keeps_the_ledger)
{
    for (long cut = 0; cut < 300; cut++) {
        bench_deinit(&b);
        bench_init(&b);
        cr_assert_eq(bench_open(&b), SPOOL_OK);
        for (unsigned i = 0; i < 6; i++)
            (void)bench_append(&b, i);
        bench_sleep(&b, 1000);
        uint64_t no = bench_assign(&b, 6);
        struct spool_death deaths[3] = {
            {.seq = 1, .status = 422, .attempts = 3, .answer = SPAN("no thanks")},
            {.seq = 2, .status = 422, .attempts = 3, .answer = SPAN("no thanks")},
            {.seq = 5, .status = 422, .attempts = 3, .answer = SPAN("no thanks")}};
        struct spool_run runs[2] = {{3, 2}, {6, 1}};
        struct spool_outcome o = {.dead = deaths, .dead_count = 3, .delivered = runs, .delivered_count = 2};
        b.fs.power_left = cut;
        cr_assert_eq(spool_settle(b.spool, no, &o), OK);
        bench_sleep(&b, 300000);
        struct spool_dead_request r = {.kind = DEAD_REPLAY, .letter = on_letter, .done = on_done};
        uint64_t one = 2, other = 3;
        r.ids = &one;
        r.id_count = 1;
        if (spool_dead(b.spool, &r) == OK)
            bench_sleep(&b, 300000);
        struct spool_dead_request purge = {.kind = DEAD_PURGE, .ids = &other, .id_count = 1, .done = on_done};
        if (spool_dead(b.spool, &purge) == OK)
            bench_sleep(&b, 300000);
        bool survived = !b.fs.dead;
        reopen(true);
        struct spool_ledger l = bench_ledger(&b);
        cr_assert_eq(l.accepted, 6, "cut %ld", cut);
        cr_assert_eq(l.dropped[SPOOL_DROP_CORRUPT], 0, "cut %ld: %s", cut, b.last_warning.text);
        cr_assert_eq(list(), l.dead, "cut %ld", cut);
        bench_sleep(&b, 1000000);
        reopen(true);
        cr_assert_eq(list(), l.dead, "cut %ld", cut);
        cr_assert_eq(bench_ledger(&b).pending, l.pending, "cut %ld", cut);
        if (survived) {
            cr_assert_eq(l.dead, 1);
            cr_assert_eq(l.dropped[SPOOL_DROP_PURGED], 1);
            cr_assert_eq(l.pending, 1);
            cr_assert_gt(cut, 10);
            return;
        }
    }
    cr_assert_fail("never got to the end");
}

/* The power failed while the third file was made: its header is there, the marks behind it are not. Those of the second
 * file are all that tells who is gone in the first, though it has no letter itself. */
Test(spool_dead, marks_stay_while_a_newer_file_has_lost_its_own)
{
    die(4, 4);
    cr_assert_eq(request(DEAD_PURGE, (uint64_t[]){1, 2}, 2), 2);
    reopen(false);
    cr_assert_eq(request(DEAD_PURGE, (uint64_t[]){3}, 1), 1);
    bench_sleep(&b, 2000000);
    bench_close(&b);
    struct segment_header header;
    size_t size;
    const uint8_t *second = memfs_file(&b.fs, "dead/dlq-0000000000000002.wal", &size);
    cr_assert_not_null(second);
    cr_assert_eq(segment_header_decode(span_of(second, size), &header, NULL), SEGMENT_VALID);
    cr_assert_neq(header.flags & SEGMENT_MARKS_FIRST, 0);
    header.id = 3;
    static uint8_t torn[SEGMENT_HEADER_AREA + 512];
    segment_header_encode(&header, torn);
    memfs_put(&b.fs, "dead/dlq-0000000000000003.wal", torn, sizeof torn);
    for (unsigned start = 0; start < 3; start++) {
        cr_assert_eq(bench_open(&b), SPOOL_OK, "%s", b.last_fault.text);
        bench_sleep(&b, 2000000);
        cr_assert_eq(bench_ledger(&b).dead, 1, "start %u", start);
        cr_assert_eq(list(), 1);
        bench_close(&b);
    }
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    cr_assert_eq(request(DEAD_PURGE, NULL, 0), 1);
    bench_sleep(&b, 2000000);
    cr_assert_null(memfs_file(&b.fs, "dead/dlq-0000000000000001.wal", &size));
    cr_assert_null(memfs_file(&b.fs, "dead/dlq-0000000000000002.wal", &size));
}

/* A start takes each file to end where the next one begins. */
Test(spool_dead, the_letters_of_a_deleted_file_stay_gone)
{
    struct letters l = {0};
    letters_add_file(&l, &(struct dead_file){.id = 1, .first = 1, .next = 5});
    letters_add_file(&l, &(struct dead_file){.id = 2, .first = 5, .next = 9});
    letters_add_file(&l, &(struct dead_file){.id = 3, .first = 9, .next = 12});
    cr_assert_eq(intervals_add(&l.gone, 5, 8), 4);
    cr_assert_eq(letters_living(&l), 7);
    letters_remove_file(&l, 2);
    cr_assert_eq(letters_living(&l), 7);
    cr_assert_eq(l.files[0].next, l.files[1].first, "as the next start will find them");
    cr_assert_eq(intervals_add(&l.gone, 1, 4), 4);
    letters_remove_file(&l, 1);
    cr_assert_eq(letters_living(&l), 3);
    letters_deinit(&l);
}
