/* Bounds: quotas, policies, ages, windows. */
#include "tests/unit/spool/bench.h"

#include "lib/spool/internal.h"

#include <criterion/criterion.h>
#include <stdlib.h>

static struct bench b;
static char body[20000];

static void setup(void)
{
    bench_init(&b);
    b.config.max_bytes = 8 * BENCH_MIB;
    memset(body, 'y', sizeof body);
}

static void teardown(void)
{
    bench_deinit(&b);
}

TestSuite(spool_full, .init = setup, .fini = teardown);

/* Appends until it is refused for good; returns how many were taken. */
static unsigned fill_up(enum err *ret_err)
{
    unsigned taken = 0, again = 0;
    for (;;) {
        uint64_t seq;
        enum err err = bench_append_body(&b, body, sizeof body, &seq);
        if (err == OK) {
            taken++;
            again = 0;
        } else if (err != ERR_AGAIN || ++again > 10) {
            *ret_err = err;
            return taken;
        }
        bench_sleep(&b, 1000);
        if (taken > 5000)
            return taken;
    }
}

Test(spool_full, block_refuses_and_takes_again_when_drained)
{
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    enum err err = OK;
    unsigned taken = fill_up(&err);
    cr_assert_eq(err, ERR_FULL);
    cr_assert_eq(spool_state(b.spool), SPOOL_FULL);
    cr_assert_gt(taken, 200);
    cr_assert_leq(memfs_allocated(&b.fs), 9 * BENCH_MIB);
    cr_assert_eq(spool_room(b.spool, 1, 100), ERR_FULL);
    b.notes[NOTE_ROOM] = 0;
    cr_assert_eq(bench_drain(&b), taken);
    bench_sleep(&b, 2000000);
    cr_assert_eq(spool_state(b.spool), SPOOL_OK);
    cr_assert_geq(b.notes[NOTE_ROOM], 1);
    cr_assert_neq(bench_append(&b, 1), 0);
    cr_assert_leq(b.fs.allocated_max, 9 * BENCH_MIB);
}

Test(spool_full, stays_within_bounds_over_many_rounds)
{
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    for (int round = 0; round < 5; round++) {
        enum err err = OK;
        unsigned taken = fill_up(&err);
        cr_assert_gt(taken, 100, "round %d", round);
        cr_assert_eq(bench_drain(&b), taken);
        bench_sleep(&b, 2000000);
        if (round == 2) {
            bench_crash(&b, true);
            cr_assert_eq(bench_open(&b), SPOOL_OK);
        }
    }
    cr_assert_leq(b.fs.allocated_max, 9 * BENCH_MIB);
}

Test(spool_full, control_records_do_not_pile_up_behind_waiting_events)
{
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    enum err err = OK;
    unsigned taken = fill_up(&err);
    for (unsigned i = 0; i < 12000; i++) { /* some six segments full of them */
        uint64_t number = spool_save_user(b.spool);
        bench_sleep(&b, 1000);
        cr_assert(spool_saved(b.spool, number));
    }
    cr_assert_leq(b.fs.allocated_max, 9 * BENCH_MIB + 4096);
    bench_crash(&b, true);
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    cr_assert_eq(bench_ledger(&b).pending, taken);
    cr_assert_eq(bench_drain(&b), taken);
}

Test(spool_full, drop_newest_accepts_and_sheds)
{
    b.config.when_full = SPOOL_DROP_NEWEST;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    uint64_t seq = 0;
    for (int i = 0; i < 600; i++) {
        enum err err = bench_append_body(&b, body, sizeof body, &seq);
        cr_assert_eq(err, OK);
        bench_sleep(&b, 1000);
    }
    struct spool_ledger l = bench_ledger(&b);
    cr_assert_eq(l.accepted, 600);
    cr_assert_gt(l.dropped[SPOOL_DROP_SHED], 100);
    cr_assert_leq(seq, spool_acked(b.spool));
    bench_sleep(&b, 2000000);
    bench_crash(&b, true);
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    cr_assert_eq(bench_ledger(&b).dropped[SPOOL_DROP_SHED], l.dropped[SPOOL_DROP_SHED]);
}

Test(spool_full, drop_oldest_makes_room_and_counts)
{
    b.config.when_full = SPOOL_DROP_OLDEST;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    uint64_t no = 0;
    for (int i = 0; i < 1000; i++) {
        uint64_t seq;
        enum err err = bench_append_body(&b, body, sizeof body, &seq);
        for (int k = 0; err == ERR_AGAIN && k < 20; k++) {
            bench_sleep(&b, 1000);
            err = bench_append_body(&b, body, sizeof body, &seq);
        }
        cr_assert_eq(err, OK, "event %d: %s", i, err_name(err));
        bench_sleep(&b, 1000);
        if (i == 20)
            no = bench_assign(&b, 10);
    }
    struct spool_ledger l = bench_ledger(&b);
    cr_assert_eq(l.accepted, 1000);
    cr_assert_gt(l.dropped[SPOOL_DROP_QUOTA], 500);
    cr_assert_geq(b.notes[NOTE_LOST], 1);
    struct spool_open_batch open;
    cr_assert_not(spool_open_batch_next(b.spool, 0, &open), "batch %llu was dropped whole",
                  (unsigned long long)no);
    cr_assert_leq(b.fs.allocated_max, 9 * BENCH_MIB);
    uint64_t pending = l.pending;
    cr_assert_eq(bench_drain(&b), pending);
    struct spool_outcome o = {.all_delivered = true};
    cr_assert_eq(spool_settle(b.spool, no, &o), ERR_NOT_FOUND, "a late success finds nothing");
}

Test(spool_full, a_lower_limit_deletes_nothing)
{
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 200, sizeof body);
    bench_crash(&b, true);
    b.config.max_bytes = 4 * BENCH_MIB;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    enum err err = OK;
    cr_assert_leq(fill_up(&err), 40);
    cr_assert_eq(err, ERR_FULL);
    cr_assert_geq(bench_drain(&b), 200);
    bench_sleep(&b, 2000000);
    cr_assert_eq(spool_state(b.spool), SPOOL_OK);
}

Test(spool_full, stops_before_the_disk_does)
{
    b.fs.free_bytes = 6 * BENCH_MIB;
    b.config.min_free = 2 * BENCH_MIB;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    enum err err = OK;
    for (unsigned i = 0; i < 300 && err != ERR_FULL; i++) {
        uint64_t seq;
        err = bench_append_body(&b, body, sizeof body, &seq);
        bench_sleep(&b, 100000);
    }
    cr_assert_eq(err, ERR_FULL);
    cr_assert_leq(memfs_allocated(&b.fs), 5 * BENCH_MIB);
    (void)bench_drain(&b);
    bench_sleep(&b, 5000000);
    cr_assert_eq(spool_state(b.spool), SPOOL_OK);
    cr_assert_neq(bench_append(&b, 1), 0);
}

Test(spool_full, starts_leave_min_free_alone)
{
    b.config.min_free = 16 * BENCH_MIB;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    cr_assert_neq(bench_append(&b, 1), 0);
    bench_settle(&b);
    bench_crash(&b, false);
    uint64_t before = memfs_allocated(&b.fs);
    b.fs.free_bytes = before + b.config.min_free + BENCH_MIB / 2; /* half a segment more */
    b.fs.allocated_max = 0;
    for (int round = 0; round < 20; round++) {
        cr_assert_eq(bench_open(&b), SPOOL_OK);
        (void)bench_append(&b, 2);
        bench_crash(&b, round % 2 == 0);
    }
    cr_assert_leq(b.fs.allocated_max, before + BENCH_MIB / 2 + 65536);
    /* What is there already is no reason to take events in the first moments. */
    b.fs.free_bytes = before + 1;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    cr_assert_eq(spool_room(b.spool, 1, 100), ERR_FULL);
    b.fs.free_bytes = UINT64_C(1) << 40;
    bench_sleep(&b, 2000000);
    cr_assert_eq(spool_state(b.spool), SPOOL_OK);
    cr_assert_gt(bench_drain(&b), 0);
}

Test(spool_full, starts_do_not_use_up_the_quota)
{
    for (unsigned round = 0; round < 40; round++) {
        b.config.durability = round % 2 == 0 ? SPOOL_FSYNC : SPOOL_INTERVAL;
        cr_assert_eq(bench_open(&b), SPOOL_OK);
        cr_assert_neq(bench_append(&b, 1), 0, "round %u", round);
        bench_settle(&b);
        bench_crash(&b, false);
    }
    cr_assert_leq(memfs_allocated(&b.fs), 4 * BENCH_MIB);
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    cr_assert_eq(bench_drain(&b), 40);
}

Test(spool_full, a_full_disk_is_left_without_restart)
{
    b.fs.free_bytes = 4 * BENCH_MIB + 4096;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    for (int round = 0; round < 3; round++) {
        enum err err = OK;
        unsigned taken = fill_up(&err);
        cr_assert_eq(err, ERR_FULL);
        cr_assert_gt(taken, 20, "round %d", round);
        cr_assert_eq(bench_drain(&b), taken);
        bench_sleep(&b, 3000000);
        cr_assert_eq(spool_state(b.spool), SPOOL_OK, "round %d", round);
    }
    bench_crash(&b, true);
    cr_assert_eq(bench_open(&b), SPOOL_OK, "%s", b.last_fault.text);
}

/* Small events until it is full; then batches of one event each, while the first of them is not answered, until they
 * stay unwritten. */
static void fill_up_for_small_batches(uint64_t *ret_stuck, unsigned *ret_small)
{
    enum err err = OK;
    uint64_t seq = 0;
    for (uint64_t waits = 0; err == OK || (err == ERR_AGAIN && waits < 10000); waits += err != OK) {
        err = bench_append_body(&b, body, 100, &seq);
        if (err != OK || seq % 64 == 0)
            bench_sleep(&b, 1000);
    }
    cr_assert_eq(err, ERR_FULL);
    *ret_stuck = bench_assign(&b, 1);
    for (*ret_small = 0; *ret_small < 5000; (*ret_small)++) {
        unsigned before = b.notes[NOTE_BATCH];
        uint64_t no = bench_assign(&b, 1);
        if (b.notes[NOTE_BATCH] == before)
            bench_sleep(&b, 1100000); /* The next segment may have to be tried for again. */
        if (b.notes[NOTE_BATCH] == before)
            return;
        bench_deliver(&b, no);
    }
}

/* Small batches are settled as long as there are any, more than one segment could hold; then all that is left. */
static void small_batches_never_stop(const char *more_than)
{
    uint64_t stuck;
    unsigned small;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    fill_up_for_small_batches(&stuck, &small);
    cr_assert_eq(small, 5000, "which take more than %s", more_than);
    bench_deliver(&b, stuck);
    uint64_t pending = bench_ledger(&b).pending;
    cr_assert_gt(pending, 5000);
    cr_assert_eq(bench_drain(&b), pending);
    bench_sleep(&b, 2000000);
    cr_assert_eq(spool_state(b.spool), SPOOL_OK);
}

Test(spool_full, at_the_quota_small_batches_never_use_up_the_reserve)
{
    b.config.max_bytes = 4 * BENCH_MIB;
    small_batches_never_stop("two segments");
    cr_assert_leq(b.fs.allocated_max, 5 * BENCH_MIB + 4096);
}

Test(spool_full, on_a_full_disk_small_segments_take_the_place_of_whole_ones)
{
    b.fs.free_bytes = 4 * BENCH_MIB + 512 * 1024;
    small_batches_never_stop("what is left of the last whole segment");
    cr_assert_neq(bench_append(&b, 1), 0, "there is room for whole segments again");
}

/* Batches of one event, of which the first is not answered, until ops wait for a segment that there is no room for. */
static void deliver_until_blocked(void)
{
    enum err err = OK;
    uint64_t seq = 0, no = 0;
    while (err != ERR_FULL) {
        err = bench_append_body(&b, body, 300, &seq);
        if (err != OK || seq % 64 == 0)
            bench_sleep(&b, 1000);
    }
    (void)bench_assign(&b, 1);
    while (b.spool->prepared.fd >= 0 || !b.spool->commit_blocked) {
        struct spool_outcome o = {.all_delivered = true};
        no = bench_assign(&b, 1);
        cr_assert_eq(spool_settle(b.spool, no, &o), OK);
    }
}

Test(spool_full, power_may_fail_at_any_moment_of_a_small_segment)
{
    unsigned made = 0, lives = 0;
    for (bool over = false; !over; lives++) {
        bench_deinit(&b);
        setup();
        b.fs.free_bytes = 4 * BENCH_MIB + 512 * 1024;
        cr_assert_eq(bench_open(&b), SPOOL_OK);
        deliver_until_blocked();
        struct spool_ledger before = bench_ledger(&b);
        b.fs.power_left = (long)lives;
        bench_sleep(&b, 1100000);
        over = !b.fs.dead;
        made += active_segment(b.spool)->header.capacity < b.spool->capacity;
        b.fs.power_left = -1;
        bench_crash(&b, true);
        cr_assert_eq(bench_open(&b), SPOOL_OK, "life %u: %s", lives, b.last_fault.text);
        struct spool_ledger after = bench_ledger(&b);
        cr_assert_eq(after.accepted, before.accepted, "life %u", lives);
        cr_assert_leq(after.delivered, before.delivered);
        cr_assert_eq(bench_drain(&b), after.pending);
    }
    cr_assert_gt(lives, 10);
    cr_assert_gt(made, 0);
}

Test(spool_full, room_on_the_disk_ends_a_small_segment_though_nothing_else_happens)
{
    uint64_t stuck;
    unsigned small;
    b.fs.free_bytes = 4 * BENCH_MIB + 512 * 1024;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    fill_up_for_small_batches(&stuck, &small);
    bench_sleep(&b, 3000000);
    cr_assert_eq(spool_state(b.spool), SPOOL_FULL);
    b.fs.free_bytes += 8 * BENCH_MIB;
    b.notes[NOTE_ROOM] = 0;
    bench_sleep(&b, 3000000);
    cr_assert_eq(spool_state(b.spool), SPOOL_OK);
    cr_assert_geq(b.notes[NOTE_ROOM], 1);
    cr_assert_neq(bench_append(&b, 1), 0);
    bench_crash(&b, true);
    cr_assert_eq(bench_open(&b), SPOOL_OK, "%s", b.last_fault.text);
}

Test(spool_full, a_disk_too_full_for_small_batches_only_delays_them)
{
    uint64_t stuck;
    unsigned small;
    b.fs.free_bytes = 4 * BENCH_MIB + 4096;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    fill_up_for_small_batches(&stuck, &small);
    cr_assert_gt(small, 500, "half a segment is left for them");
    bench_deliver(&b, stuck);
    bench_sleep(&b, 2000000);
    cr_assert_eq(spool_state(b.spool), SPOOL_FULL);
    b.fs.free_bytes += 2 * BENCH_MIB;
    bench_sleep(&b, 2000000);
    uint64_t pending = bench_ledger(&b).pending;
    cr_assert_gt(pending, 5000);
    cr_assert_eq(bench_drain(&b), pending);
    bench_sleep(&b, 2000000);
    cr_assert_eq(spool_state(b.spool), SPOOL_OK);
}

Test(spool_full, old_segments_expire_when_their_successors_are_old_too)
{
    b.config.max_age_us = 60 * UINT64_C(1000000);
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 150, sizeof body);
    cr_assert_eq(bench_ledger(&b).dropped[SPOOL_DROP_EXPIRED], 0);
    bench_sleep(&b, 70 * 1000000);
    struct spool_ledger l = bench_ledger(&b);
    cr_assert_gt(l.dropped[SPOOL_DROP_EXPIRED], 50);
    cr_assert_gt(l.pending, 0, "the active segment has no successor");
}

Test(spool_full, the_window_bounds_reading_ahead)
{
    b.config.window_seqs = 10;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 30, 10);
    struct spool_item item;
    for (int i = 0; i < 10; i++)
        cr_assert(bench_next(&b, &item));
    cr_assert_not(bench_next(&b, &item));
    struct spool_run run = {1, 5};
    b.notes[NOTE_READABLE] = 0;
    cr_assert_eq(spool_drop(b.spool, run, SPOOL_DROP_EXPIRED), OK);
    bench_settle(&b);
    cr_assert_eq(b.notes[NOTE_READABLE], 1);
    cr_assert(bench_next(&b, &item));
    cr_assert_eq(item.seq, 11);
}

Test(spool_full, the_window_bounds_bytes_too)
{
    b.config.window_bytes = 200000;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 30, sizeof body);
    struct spool_item item;
    unsigned n = 0;
    while (bench_next(&b, &item))
        n++;
    cr_assert_geq(n, 9);
    cr_assert_leq(n, 15);
    bench_sleep(&b, 10000);
    struct spool_run run = {1, n};
    cr_assert_eq(spool_drop(b.spool, run, SPOOL_DROP_EXPIRED), OK);
    cr_assert(bench_next(&b, &item));
}

Test(spool_full, too_large_is_told_from_full)
{
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    uint64_t seq;
    char *huge = calloc(1, 300000);
    cr_assert_eq(bench_append_body(&b, huge, 300000, &seq), ERR_TOO_BIG);
    cr_assert_eq(bench_append_body(&b, huge, 200000, &seq), OK);
    cr_assert_eq(spool_room(b.spool, 1, 300000), ERR_TOO_BIG);
    free(huge);
}

Test(spool_full, a_busy_fill_buffer_says_again_and_then_room)
{
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    enum err err = OK;
    uint64_t seq;
    for (int i = 0; i < 200 && err == OK; i++)
        err = bench_append_body(&b, body, sizeof body, &seq);
    cr_assert_eq(err, ERR_AGAIN);
    bench_sleep(&b, 10000);
    cr_assert_geq(b.notes[NOTE_ROOM], 1);
    cr_assert_eq(bench_append_body(&b, body, sizeof body, &seq), OK);
}

Test(spool_full, finished_files_are_used_again)
{
    b.config.max_bytes = 64 * BENCH_MIB;
    b.config.segment_bytes = BENCH_MIB;
    b.config.recent_us = 0;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    for (int round = 0; round < 20; round++) {
        bench_fill(&b, 60, 10000);
        (void)bench_drain(&b);
    }
    cr_assert_gt(b.fs.calls[MEMFS_RENAME], 5);
    for (int i = 0; i < 5; i++) {
        bench_fill(&b, 20, 10000);
        bench_crash(&b, i % 2 == 0);
        cr_assert_eq(bench_open(&b), SPOOL_OK);
        cr_assert_eq(bench_ledger(&b).dropped[SPOOL_DROP_CORRUPT], 0, "stale frames were taken for damage");
        cr_assert_eq(bench_drain(&b), 20);
    }
}

Test(spool_full, remembers_ids_of_the_last_minutes)
{
    b.config.max_bytes = 64 * BENCH_MIB;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_fill(&b, 20, 100);
    bench_sleep(&b, 400 * 1000000);
    bench_fill(&b, 30, 100);
    (void)bench_drain(&b);
    bench_sleep(&b, 60 * 1000000);
    for (int i = 0; i < 3; i++) {
        bench_crash(&b, true);
        cr_assert_eq(bench_open(&b), SPOOL_OK);
        unsigned n = 0;
        struct span id;
        uint64_t wall_ns;
        while (spool_recent_next(b.spool, &id, &wall_ns)) {
            cr_assert(span_is(id, "id"));
            n++;
        }
        cr_assert_eq(n, 30, "start %d", i);
        bench_sleep(&b, 1000000);
    }
    bench_sleep(&b, 400 * 1000000);
    (void)bench_append(&b, 1);
    bench_sleep(&b, 1000000);
    cr_assert_leq(bench_ledger(&b).segments, 2, "they go when they are old");
}

Test(spool_full, user_counters_survive)
{
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    spool_set_user(b.spool, SPAN("counters 1"));
    (void)bench_append(&b, 1);
    bench_sleep(&b, 1000);
    spool_set_user(b.spool, SPAN("counters 2"));
    (void)bench_append(&b, 2);
    bench_sleep(&b, 3000000);
    (void)bench_append(&b, 3);
    bench_sleep(&b, 1000);
    bench_crash(&b, true);
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    cr_assert(span_is(spool_user(b.spool), "counters 2"));
    spool_set_user(b.spool, SPAN("counters 3"));
    bench_close(&b);
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    cr_assert(span_is(spool_user(b.spool), "counters 3"));
}

Test(spool_full, user_counters_are_written_though_nothing_else_is)
{
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    bench_sleep(&b, 5000000);
    spool_set_user(b.spool, SPAN("counters 1"));
    bench_sleep(&b, 1000);
    spool_set_user(b.spool, SPAN("counters 2"));
    bench_sleep(&b, 10000000);
    uint64_t commits = bench_ledger(&b).commits;
    bench_sleep(&b, 60000000);
    cr_assert_eq(bench_ledger(&b).commits, commits, "and then there is rest");
    bench_crash(&b, true);
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    cr_assert(span_is(spool_user(b.spool), "counters 2"));
}

Test(spool_full, far_from_the_quota_a_wait_is_no_refusal)
{
    b.config.max_bytes = 64 * BENCH_MIB;
    b.config.segment_bytes = 4 * BENCH_MIB;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    char *large = calloc(1, 900000);
    for (int i = 0; i < 40; i++) {
        struct spool_record records[4];
        for (int k = 0; k < 4; k++)
            records[k] = (struct spool_record){.body = span_of(large, 900000), .wall_ns = b.wall_ns};
        uint64_t seq;
        enum err err = spool_append(b.spool, records, 4, &seq);
        if (i < 12)
            cr_assert(err == OK || err == ERR_AGAIN, "append %d: %s", i, err_name(err));
        if (i % 3 == 2)
            bench_sleep(&b, 1000);
    }
    free(large);
}

/* --- groups of appends --- */

/* So many events of one size, a few at a time, as fast as they are let; each few in one append. */
static uint64_t append_group(unsigned count, size_t len, uint64_t *reserved, bool others)
{
    struct spool_record records[7];
    uint64_t seq = 0;
    for (unsigned i = 0; i < 7; i++)
        records[i] = (struct spool_record){.body = span_of(body, len), .wall_ns = b.wall_ns};
    for (unsigned done = 0; done < count;) {
        unsigned n = count - done < 7 ? count - done : 7;
        unsigned waited = 0;
        for (; spool_room_reserved(b.spool) == ERR_AGAIN && waited < 100; waited++)
            bench_sleep(&b, 1000);
        cr_assert_lt(waited, 100, "the fill buffer empties");
        cr_assert_eq(spool_append_reserved(b.spool, records, n, reserved, &seq), OK);
        done += n;
        if (others)
            (void)bench_append(&b, done);
    }
    return seq;
}

Test(spool_full, a_group_with_its_room_is_never_refused)
{
    for (unsigned round = 0; round < 12; round++) {
        size_t len = 300 + 1500 * round;
        unsigned count = (unsigned)(900000 / len), groups = 0;
        b.config.segment_bytes = (round % 3 + 1) * BENCH_MIB;
        cr_assert_eq(bench_open(&b), SPOOL_OK);
        bench_fill(&b, 17 * round, 1000);
        for (;;) {
            uint64_t reserved = 0;
            enum err err = spool_reserve(b.spool, count, count * (len + 40), &reserved);
            for (unsigned again = 0; err == ERR_AGAIN && again < 10; again++) {
                bench_sleep(&b, 1000);
                err = spool_reserve(b.spool, count, count * (len + 40), &reserved);
            }
            if (err == ERR_FULL)
                break;
            cr_assert_eq(err, OK);
            cr_assert_gt(reserved, count * len);
            uint64_t seq = append_group(count, len, &reserved, round % 2 == 1);
            spool_unreserve(b.spool, reserved);
            bench_sleep(&b, 100000);
            cr_assert_geq(spool_acked(b.spool), seq, "round %u, group %u", round, groups);
            groups++;
        }
        cr_assert_gt(groups, 2, "round %u", round);
        cr_assert_gt(bench_drain(&b), groups * count - 1);
        bench_sleep(&b, 2000000);
        cr_assert_eq(spool_state(b.spool), SPOOL_OK, "round %u", round);
        bench_close(&b);
        cr_assert_leq(b.fs.allocated_max, 9 * BENCH_MIB);
    }
}

/* What is settled must not be in the way: neither the rest of the active segment nor files that are kept for a while. */
Test(spool_full, an_empty_spool_takes_what_it_once_took)
{
    enum { COUNT = 8000, LEN = 400 };
    b.config.segment_bytes = BENCH_MIB;
    b.config.recent_us = 300 * UINT64_C(1000000);
    b.config.recent_max = 1000;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    for (unsigned round = 0; round < 8; round++) {
        uint64_t reserved = 0;
        enum err err = ERR_FULL;
        for (unsigned again = 0; again < 50 && err != OK; again++) {
            err = spool_reserve(b.spool, COUNT, COUNT * (LEN + 40), &reserved);
            bench_sleep(&b, 100000);
        }
        cr_assert_eq(err, OK, "round %u", round);
        (void)append_group(COUNT, LEN, &reserved, false);
        spool_unreserve(b.spool, reserved);
        bench_fill(&b, 100 * round, 1000);
        cr_assert_eq(bench_drain(&b), COUNT + 100 * round);
    }
    uint64_t none;
    cr_assert_eq(spool_reserve(b.spool, 2 * COUNT, 2 * COUNT * (LEN + 40), &none), ERR_TOO_BIG, "not even then");
    cr_assert_leq(b.fs.allocated_max, 9 * BENCH_MIB);
}

Test(spool_full, what_is_reserved_is_not_for_others)
{
    enum err err = OK;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    unsigned all = fill_up(&err);
    cr_assert_eq(bench_drain(&b), all);
    bench_sleep(&b, 2000000);
    cr_assert_eq(spool_state(b.spool), SPOOL_OK);
    uint64_t reserved = 0, left;
    cr_assert_eq(spool_reserve(b.spool, 50, 50 * (sizeof body + 40), &reserved), OK);
    unsigned some = fill_up(&err);
    cr_assert_eq(err, ERR_FULL);
    cr_assert_lt(some, all, "the rest is put aside");
    left = reserved;
    uint64_t seq = append_group(50, sizeof body, &left, false);
    bench_sleep(&b, 100000);
    cr_assert_geq(spool_acked(b.spool), seq);
    spool_unreserve(b.spool, left);
    cr_assert_eq(bench_drain(&b), some + 50);
}

Test(spool_full, a_reservation_that_is_not_used_is_room_again)
{
    uint64_t reserved = 0;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    cr_assert_eq(spool_reserve(b.spool, 1000, BENCH_MIB, &reserved), OK);
    uint64_t second = 0;
    enum err err = OK;
    unsigned count = 0;
    while ((err = spool_reserve(b.spool, 1000, BENCH_MIB, &second)) == OK && count++ < 10)
        ;
    cr_assert_eq(err, ERR_FULL);
    spool_unreserve(b.spool, reserved);
    bench_sleep(&b, 2000000);
    cr_assert_eq(spool_reserve(b.spool, 1000, BENCH_MIB, &second), OK);
}

Test(spool_full, a_group_without_room_is_shed_by_drop_newest)
{
    b.config.when_full = SPOOL_DROP_NEWEST;
    cr_assert_eq(bench_open(&b), SPOOL_OK);
    uint64_t seq = 0, reserved = 1;
    for (int i = 0; i < 600; i++) {
        cr_assert_eq(bench_append_body(&b, body, sizeof body, &seq), OK);
        bench_sleep(&b, 1000);
    }
    cr_assert_eq(spool_reserve(b.spool, 50, BENCH_MIB, &reserved), OK);
    cr_assert_eq(reserved, 0);
    uint64_t shed = bench_ledger(&b).dropped[SPOOL_DROP_SHED];
    seq = append_group(50, sizeof body, &reserved, false);
    cr_assert_leq(seq, spool_acked(b.spool));
    cr_assert_eq(bench_ledger(&b).dropped[SPOOL_DROP_SHED], shed + 50);
}
