/* The straight line: filled, assigned, sent, delivered; and how batches close. */
#include "tests/unit/output/rig.h"

#include <criterion/criterion.h>
#include <stdlib.h>

Test(output, a_full_batch_is_sent_at_once_and_settled)
{
    struct rig r;
    rig_init(&r);
    rig_start(&r);
    rig_offer_n(&r, 10);
    rig_run(&r);
    cr_assert_eq(r.sent_count, 1);
    cr_assert_str_eq(rig_body(&r, 0), "[1,2,3,4,5,6,7,8,9,10]");
    rig_reply(&r, 0, 200, "");
    for (unsigned i = 1; i <= 10; i++)
        cr_assert_eq(fake_record(r.spool, i)->fate, FAKE_DELIVERED);
    cr_assert(output_idle(r.output));
    cr_assert(output_settled_to(r.output, 10));
    rig_deinit(&r);
}

Test(output, the_wait_begins_with_the_first_event)
{
    struct rig r;
    rig_init(&r);
    rig_start(&r);
    rig_offer_n(&r, 1);
    rig_run(&r);
    rig_pass(&r, 600 * US_PER_MS);
    rig_offer_n(&r, 1);
    rig_run(&r);
    cr_assert_eq(r.sent_count, 0);
    cr_assert_eq(output_wake_us(r.output), r.now_us + 400 * US_PER_MS);
    rig_pass(&r, 400 * US_PER_MS);
    cr_assert_eq(r.sent_count, 1, "the last event does not wait for a next one");
    cr_assert_str_eq(rig_body(&r, 0), "[1,2]");
    rig_deinit(&r);
}

Test(output, closes_before_the_byte_limit_framing_included)
{
    struct rig r;
    rig_init(&r);
    r.config.batch_bytes_max = 21; /* [aaaa,aaaa,aaaa,aaaa] is 21 bytes */
    rig_start(&r);
    for (unsigned i = 0; i < 5; i++)
        rig_offer(&r, "p", "aaaa");
    rig_run(&r);
    cr_assert_eq(r.sent_count, 1);
    cr_assert_eq(r.sent[0].body_len, 21);
    cr_assert_eq(r.sent[0].count, 4);
    rig_deinit(&r);
    rig_init(&r);
    r.config.batch_bytes_max = 20; /* one byte less: three events */
    rig_start(&r);
    for (unsigned i = 0; i < 5; i++)
        rig_offer(&r, "p", "aaaa");
    rig_run(&r);
    cr_assert_eq(r.sent_count, 1);
    cr_assert_eq(r.sent[0].count, 3);
    rig_deinit(&r);
}

Test(output, partitions_never_share_a_request)
{
    struct rig r;
    rig_init(&r);
    r.config.concurrency = 4;
    rig_start(&r);
    for (unsigned i = 0; i < 4; i++)
        rig_offer(&r, i % 2 ? "odd" : "even", i % 2 ? "o" : "e");
    rig_run(&r);
    rig_pass(&r, US_PER_S);
    cr_assert_eq(r.sent_count, 2);
    cr_assert_str_eq(rig_body(&r, 0), "[e,e]");
    cr_assert_str_eq(rig_body(&r, 1), "[o,o]");
    rig_deinit(&r);
}

Test(output, records_of_a_partition_that_is_sent_alone_are_not_merged)
{
    struct rig r;
    rig_init(&r);
    r.config.concurrency = 4;
    rig_start(&r);
    rig_offer(&r, "alone", "a");
    rig_offer(&r, "alone", "b");
    rig_run(&r);
    cr_assert_eq(r.sent_count, 2);
    cr_assert_str_eq(rig_body(&r, 0), "[a]");
    cr_assert_str_eq(rig_body(&r, 1), "[b]");
    rig_deinit(&r);
}

Test(output, is_not_sent_before_its_assignment_is_durable)
{
    struct rig r;
    rig_init(&r);
    rig_start(&r);
    fake_set_durable_by_hand(r.spool, true);
    rig_offer_n(&r, 10);
    rig_run(&r);
    cr_assert_eq(fake_assigns(r.spool), 1);
    cr_assert_eq(r.sent_count, 0);
    fake_make_durable(r.spool);
    rig_run(&r);
    cr_assert_eq(r.sent_count, 1);
    rig_deinit(&r);
}

Test(output, batches_are_assigned_ahead_up_to_concurrency_and_two)
{
    struct rig r;
    rig_init(&r);
    r.config.concurrency = 2;
    rig_start(&r);
    rig_offer_n(&r, 200);
    rig_run(&r);
    cr_assert_eq(rig_open(&r), 2);
    cr_assert_eq(fake_assigns(r.spool), 4);
    rig_reply(&r, 0, 200, "");
    cr_assert_eq(rig_open(&r), 2);
    cr_assert_eq(fake_assigns(r.spool), 5);
    rig_deinit(&r);
}

Test(output, everything_is_delivered_in_order)
{
    struct rig r;
    rig_init(&r);
    rig_start(&r);
    rig_offer_n(&r, 95);
    rig_run(&r);
    unsigned next = 1;
    for (unsigned n = 0; n < 10; n++) {
        if (n == 9)
            rig_pass(&r, US_PER_S);
        cr_assert_eq(r.sent_count, n + 1);
        for (char *at = r.sent[n].body + 1; *at != 0;) {
            cr_assert_eq(strtoul(at, &at, 10), next++);
            at++;
        }
        rig_reply(&r, n, 200, "");
    }
    cr_assert_eq(next, 96);
    rig_deinit(&r);
}

Test(output, flush_closes_what_is_open_and_reports_when_it_is_settled)
{
    struct rig r;
    rig_init(&r);
    rig_start(&r);
    rig_offer_n(&r, 3);
    rig_run(&r);
    uint64_t mark = output_mark(r.output);
    cr_assert_eq(mark, 3);
    output_flush(r.output);
    rig_run(&r);
    cr_assert_eq(r.sent_count, 1);
    rig_offer_n(&r, 2);
    rig_run(&r);
    cr_assert_eq(r.sent_count, 1, "what came after the flush waits as usual");
    cr_assert_not(output_settled_to(r.output, mark));
    rig_reply(&r, 0, 200, "");
    cr_assert(output_settled_to(r.output, mark), "later events do not keep it from being settled");
    cr_assert_not(output_settled_to(r.output, 5));
    rig_deinit(&r);
}

Test(output, a_stop_closes_open_batches_at_once)
{
    struct rig r;
    rig_init(&r);
    r.config.concurrency = 4;
    rig_start(&r);
    rig_offer(&r, "a", "1");
    rig_offer(&r, "b", "2");
    rig_run(&r);
    cr_assert_eq(r.sent_count, 0);
    output_drain(r.output);
    rig_run(&r);
    cr_assert_eq(r.sent_count, 2);
    rig_deinit(&r);
}

Test(output, waits_for_the_spool_when_control_space_is_short)
{
    struct rig r;
    rig_init(&r);
    rig_start(&r);
    fake_set_control_full(r.spool, true);
    rig_offer_n(&r, 10);
    rig_run(&r);
    cr_assert_eq(r.sent_count, 0);
    cr_assert_neq(output_wake_us(r.output), 0, "something is scheduled");
    fake_set_control_full(r.spool, false);
    rig_run(&r);
    cr_assert_eq(r.sent_count, 1);
    rig_deinit(&r);
}

Test(output, payloads_are_compressed_off_the_loop_and_small_ones_go_plain)
{
    struct rig r;
    rig_init(&r);
    r.config.codec = API_GZIP;
    rig_start(&r);
    char big[400];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = 0;
    for (unsigned i = 0; i < 10; i++)
        rig_offer(&r, "p", big);
    rig_run(&r);
    cr_assert_eq(r.sent_count, 1);
    cr_assert_eq(r.sent[0].codec, API_GZIP);
    cr_assert_lt(r.sent[0].body_len, 1000);
    rig_reply(&r, 0, 200, "");
    rig_offer_n(&r, 10);
    rig_run(&r);
    cr_assert_eq(r.sent[1].codec, API_IDENTITY);
    rig_deinit(&r);
}

Test(output, the_newest_event_goes_when_the_window_is_full_of_open_batches)
{
    struct rig r;
    rig_init(&r);
    r.config.batch_wait_us = 3600 * US_PER_S;
    rig_start(&r);
    fake_set_window(r.spool, 8);
    for (unsigned i = 0; i < 12; i++)
        rig_offer(&r, i % 2 ? "a" : "b", "1");
    rig_run(&r);
    cr_assert_eq(r.sent_count, 0);
    rig_pass_by_wakes(&r, US_PER_S);
    cr_assert_geq(r.sent_count, 1, "the oldest open batch is closed early");
    rig_deinit(&r);
}
