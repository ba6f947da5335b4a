/* The straight line of the spool: in, durable, out, settled, and all of it again after a crash. */
#include "tests/unit/spool/bench.h"

#include <criterion/criterion.h>
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

TestSuite(spool, .init = setup, .fini = teardown);

static void must_open(void)
{
    cr_assert_eq(bench_open(&b), SPOOL_OK, "%s", b.last_fault.text);
    cr_assert_eq(b.notes[NOTE_OPENED], 1);
}

Test(spool, answers_only_after_sync)
{
    must_open();
    cr_assert_eq(bench_append(&b, 1), 1);
    cr_assert_eq(spool_acked(b.spool), 0);
    cr_assert_eq(b.job_count, 1, "a lone append starts its commit at once");
    cr_assert(bench_job(&b));
    cr_assert_eq(spool_acked(b.spool), 1);
    cr_assert_eq(b.notes[NOTE_ACKED], 1);
}

Test(spool, many_appends_share_one_sync)
{
    must_open();
    (void)bench_append(&b, 1);
    for (uint64_t i = 2; i <= 100; i++)
        cr_assert_eq(bench_append(&b, i), i);
    long syncs = b.fs.calls[MEMFS_FDATASYNC];
    bench_sleep(&b, 1000);
    cr_assert_eq(spool_acked(b.spool), 100);
    cr_assert_eq(b.fs.calls[MEMFS_FDATASYNC] - syncs, 2);
}

Test(spool, hands_out_what_was_appended_in_order)
{
    must_open();
    struct spool_item item;
    cr_assert_eq(spool_next(b.spool, &item), ERR_AGAIN);
    struct spool_record r[3] = {
        {.partition = SPAN("a"), .id = SPAN("id-1"), .body = SPAN("one"), .wall_ns = 5000000},
        {.partition = SPAN("b"), .id = SPAN(""), .body = SPAN("two"), .wall_ns = 4000000},
        {.body = SPAN(""), .wall_ns = 6000000},
    };
    uint64_t seq;
    cr_assert_eq(spool_append(b.spool, r, 3, &seq), OK);
    cr_assert_eq(seq, 3);
    cr_assert_eq(spool_next(b.spool, &item), ERR_AGAIN, "not before it is durable");
    bench_settle(&b);
    cr_assert_geq(b.notes[NOTE_READABLE], 1);
    for (unsigned i = 0; i < 3; i++) {
        cr_assert_eq(spool_next(b.spool, &item), OK);
        cr_assert_eq(item.seq, i + 1);
        cr_assert(span_equal(item.partition, r[i].partition));
        cr_assert(span_equal(item.id, r[i].id));
        cr_assert(span_equal(item.body, r[i].body));
        cr_assert_eq(item.wall_ns, r[i].wall_ns);
        cr_assert_eq(item.api_version, 7);
    }
    cr_assert_eq(spool_next(b.spool, &item), ERR_AGAIN);
}

Test(spool, answered_events_survive_power_loss_and_unanswered_ones_may_not)
{
    must_open();
    bench_fill(&b, 50, 100);
    (void)bench_append(&b, 51); /* its commit never runs */
    bench_crash(&b, true);
    must_open();
    cr_assert_eq(spool_acked(b.spool), 50);
    cr_assert_eq(bench_ledger(&b).pending, 50);
    cr_assert_eq(bench_drain(&b), 50);
}

Test(spool, a_batch_is_sent_only_when_its_identity_is_durable)
{
    must_open();
    bench_fill(&b, 10, 20);
    struct spool_run run = {1, 10};
    struct spool_assignment a = {.partition = SPAN("part"), .runs = &run, .run_count = 1, .raw_len = 77};
    struct spool_batch_id id;
    bench_sleep(&b, 10000);
    cr_assert_eq(spool_assign(b.spool, &a, &id), OK);
    cr_assert_eq(b.notes[NOTE_BATCH], 0);
    bench_settle(&b);
    cr_assert_eq(b.notes[NOTE_BATCH], 1);
    cr_assert_eq(b.last_batch, id.batch_no);
}

Test(spool, an_open_batch_keeps_identity_and_members_over_a_crash)
{
    must_open();
    bench_fill(&b, 30, 20);
    uint64_t first = bench_assign(&b, 10), second = bench_assign(&b, 10);
    struct spool_open_batch before, after;
    cr_assert(spool_open_batch_next(b.spool, first, &before));
    cr_assert_eq(before.id.batch_no, second);
    bench_deliver(&b, first);
    bench_sleep(&b, 300000);
    bench_crash(&b, true);
    must_open();
    cr_assert(spool_open_batch_next(b.spool, 0, &after));
    cr_assert_eq(after.id.batch_no, second);
    cr_assert_eq(after.id.epoch, before.id.epoch);
    cr_assert_arr_eq(after.id.uuid, before.id.uuid, 16);
    cr_assert(after.recovered && after.durable);
    cr_assert_eq(after.assignment.run_count, 1);
    cr_assert_eq(after.assignment.runs[0].first, 11);
    cr_assert_eq(after.assignment.runs[0].count, 10);
    cr_assert_eq(after.assignment.raw_crc32c, 20);
    cr_assert_eq(after.assignment.envelope_hash, 99);
    cr_assert(span_is(after.assignment.partition, "p"));
    struct spool_item item;
    cr_assert(bench_next(&b, &item));
    cr_assert_eq(item.seq, 21, "members of open batches are not handed out again");
    cr_assert_eq(bench_ledger(&b).delivered, 10);
    uint64_t third = bench_assign(&b, 5);
    cr_assert_gt(third, second);
}

Test(spool, a_lost_done_brings_the_same_batch_again)
{
    must_open();
    bench_fill(&b, 10, 20);
    uint64_t no = bench_assign(&b, 10);
    bench_deliver(&b, no); /* lazy: not yet on disk */
    bench_crash(&b, true);
    must_open();
    struct spool_open_batch open;
    cr_assert(spool_open_batch_next(b.spool, 0, &open));
    cr_assert_eq(open.id.batch_no, no);
    cr_assert_eq(bench_ledger(&b).pending, 10);
}

Test(spool, done_reaches_the_disk_within_its_delay)
{
    must_open();
    bench_fill(&b, 10, 20);
    bench_deliver(&b, bench_assign(&b, 10));
    bench_sleep(&b, 250000);
    bench_crash(&b, true);
    must_open();
    cr_assert_eq(bench_ledger(&b).delivered, 10);
    cr_assert_eq(bench_ledger(&b).pending, 0);
}

static uint64_t loaded[64];
static unsigned loaded_count, load_done;
static enum err load_err;

static void on_item(void *ctx, const struct spool_item *item)
{
    (void)ctx;
    loaded[loaded_count++] = item->seq;
}

static void on_load_done(void *ctx, enum err err)
{
    (void)ctx;
    load_done++;
    load_err = err;
}

Test(spool, loads_a_batch_again_in_order)
{
    must_open();
    bench_fill(&b, 30, 20);
    uint64_t no = bench_assign(&b, 20);
    struct spool_loader loader = {.item = on_item, .done = on_load_done};
    spool_load(b.spool, no, &loader);
    cr_assert_eq(loaded_count, 0, "not inside the call");
    bench_settle(&b);
    cr_assert_eq(load_done, 1);
    cr_assert_eq(loaded_count, 20);
    bench_crash(&b, true);
    must_open();
    loaded_count = load_done = 0;
    loader = (struct spool_loader){.item = on_item, .done = on_load_done};
    spool_load(b.spool, no, &loader);
    bench_settle(&b);
    cr_assert_eq(load_done, 1);
    cr_assert_eq(load_err, OK);
    cr_assert_eq(loaded_count, 20);
    for (unsigned i = 0; i < 20; i++)
        cr_assert_eq(loaded[i], i + 1);
}

Test(spool, a_split_batch_lives_on_in_its_halves)
{
    must_open();
    bench_fill(&b, 10, 20);
    uint64_t no = bench_assign(&b, 10);
    struct spool_run delivered = {1, 2}, halves[2] = {{3, 4}, {7, 4}};
    struct spool_assignment next[2] = {{.partition = SPAN("p"), .runs = &halves[0], .run_count = 1},
                                       {.partition = SPAN("p"), .runs = &halves[1], .run_count = 1}};
    struct spool_batch_id ids[2];
    struct spool_outcome o = {
        .delivered = &delivered, .delivered_count = 1, .next = next, .next_count = 2, .ret_next_ids = ids};
    b.notes[NOTE_BATCH] = 0;
    cr_assert_eq(spool_settle(b.spool, no, &o), OK);
    bench_sleep(&b, 1000);
    cr_assert_eq(b.notes[NOTE_BATCH], 2);
    cr_assert_eq(b.notes[NOTE_SETTLED], 1);
    bench_crash(&b, true);
    must_open();
    struct spool_open_batch open;
    cr_assert(spool_open_batch_next(b.spool, 0, &open));
    cr_assert_eq(open.id.batch_no, ids[0].batch_no);
    cr_assert_eq(open.count, 4);
    cr_assert(spool_open_batch_next(b.spool, ids[0].batch_no, &open));
    cr_assert_eq(open.id.batch_no, ids[1].batch_no);
    cr_assert_not(spool_open_batch_next(b.spool, ids[1].batch_no, &open));
    cr_assert_eq(bench_ledger(&b).delivered, 2);
    cr_assert_eq(bench_drain(&b), 8);
}

Test(spool, rotates_and_releases_segments)
{
    b.config.recent_us = 0;
    must_open();
    uint64_t delivered = 0;
    for (int round = 0; round < 10; round++) {
        bench_fill(&b, 400, 1000);
        delivered += bench_drain(&b);
    }
    cr_assert_eq(delivered, 4000);
    bench_sleep(&b, 2000000);
    struct spool_ledger l = bench_ledger(&b);
    cr_assert_leq(l.segments, 3, "%llu segments are left", (unsigned long long)l.segments);
    cr_assert_leq(memfs_allocated(&b.fs), 4 * BENCH_MIB);
    bench_crash(&b, true);
    must_open();
    cr_assert_eq(bench_ledger(&b).delivered, 4000);
    cr_assert_eq(bench_ledger(&b).pending, 0);
}

Test(spool, reads_a_backlog_from_disk)
{
    b.config.cache_bytes = 256 * 1024;
    must_open();
    bench_fill(&b, 5000, 1000);
    cr_assert_gt(bench_ledger(&b).segments, 4);
    bench_crash(&b, true);
    must_open();
    struct spool_item item;
    for (uint64_t seq = 1; seq <= 5000; seq++) {
        cr_assert(bench_next(&b, &item), "event %llu", (unsigned long long)seq);
        cr_assert_eq(item.seq, seq);
        cr_assert_eq(item.body.len, 1000);
    }
    cr_assert_not(bench_next(&b, &item));
}

Test(spool, a_rewound_reader_gets_unassigned_events_again)
{
    must_open();
    bench_fill(&b, 10, 10);
    (void)bench_assign(&b, 3);
    struct spool_item item;
    cr_assert(bench_next(&b, &item));
    cr_assert(bench_next(&b, &item));
    cr_assert_eq(item.seq, 5);
    spool_rewind(b.spool);
    cr_assert(bench_next(&b, &item));
    cr_assert_eq(item.seq, 4);
}

Test(spool, an_orderly_stop_loses_nothing)
{
    must_open();
    for (int i = 1; i <= 5; i++)
        (void)bench_append(&b, (uint64_t)i);
    bench_close(&b);
    must_open();
    cr_assert_eq(spool_acked(b.spool), 5);
    cr_assert_eq(bench_drain(&b), 5);
    bench_close(&b);
    must_open();
    cr_assert_eq(bench_ledger(&b).delivered, 5);
}

Test(spool, restarts_do_not_pile_up_files)
{
    must_open();
    bench_fill(&b, 10, 10);
    for (int i = 0; i < 20; i++) {
        bench_crash(&b, i % 2 == 0);
        must_open();
        bench_sleep(&b, 1000000);
    }
    cr_assert_leq(bench_ledger(&b).segments, 3);
    cr_assert_eq(bench_drain(&b), 10);
}

Test(spool, a_crash_at_any_call_loses_nothing_answered)
{
    /* The same short life, cut at every call of the disk, then again while it recovers. */
    for (long cut = 0; cut < 400; cut++) {
        bench_deinit(&b);
        bench_init(&b);
        uint64_t answered = 0;
        b.fs.power_left = cut;
        if (bench_open(&b) == SPOOL_OK) {
            for (int i = 0; i < 40 && spool_state(b.spool) == SPOOL_OK; i++) {
                char body[40000] = "";
                uint64_t seq;
                if (bench_append_body(&b, body, sizeof body, &seq) == OK)
                    bench_sleep(&b, 1000);
                if (spool_state(b.spool) == SPOOL_OK)
                    answered = spool_acked(b.spool);
                if (i % 10 == 9 && spool_state(b.spool) == SPOOL_OK) {
                    struct spool_run run = {(uint64_t)i - 8, 10};
                    struct spool_assignment a = {.runs = &run, .run_count = 1};
                    struct spool_batch_id id;
                    struct spool_outcome o = {.all_delivered = true};
                    if (answered > (uint64_t)i && spool_assign(b.spool, &a, &id) == OK) {
                        bench_sleep(&b, 1000);
                        if (spool_settle(b.spool, id.batch_no, &o) == OK)
                            bench_sleep(&b, 300000);
                    }
                }
            }
        }
        bool survived = !b.fs.dead;
        bench_crash(&b, true);
        b.fs.power_left = cut % 17;
        (void)bench_open(&b);
        bench_crash(&b, true);
        cr_assert_eq(bench_open(&b), SPOOL_OK, "cut %ld: %s", cut, b.last_fault.text);
        cr_assert_geq(spool_acked(b.spool), answered, "cut %ld", cut);
        struct spool_ledger l = bench_ledger(&b);
        cr_assert_geq(l.delivered + l.pending, answered, "cut %ld", cut);
        cr_assert_eq(l.dropped[SPOOL_DROP_CORRUPT], 0, "cut %ld", cut);
        uint64_t pending = l.pending;
        cr_assert_eq(bench_drain(&b), pending, "cut %ld", cut);
        bench_crash(&b, true);
        if (survived) {
            cr_assert_gt(cut, 30);
            break;
        }
    }
}
