/* Once: identity through retries, splits, per-event answers and restarts. */
#include "tests/unit/output/rig.h"

#include <criterion/criterion.h>
#include <stdio.h>

static void begin(struct rig *r, unsigned events)
{
    rig_init(r);
    rig_start(r);
    rig_offer_n(r, events);
    rig_run(r);
    cr_assert_eq(r->sent_count, 1);
}

static void same_request(const struct rig *r, unsigned a, unsigned b)
{
    cr_assert_str_eq(r->sent[a].payload_id, r->sent[b].payload_id);
    cr_assert_str_eq(rig_body(r, a), rig_body(r, b));
}

static uint64_t repeated(const struct rig *r)
{
    struct output_status s;
    rig_status(r, &s);
    return s.repeated;
}

Test(once, an_unknown_outcome_sends_the_same_batch_again)
{
    struct rig r;
    begin(&r, 10);
    rig_break(&r, 0, BREAK_UNKNOWN);
    rig_offer_n(&r, 3);
    rig_pass(&r, US_PER_S);
    cr_assert_eq(r.sent_count, 2);
    same_request(&r, 0, 1);
    cr_assert_eq(repeated(&r), 10, "the upper bound of repeats");
    rig_reply(&r, 1, 503, "");
    rig_pass(&r, US_PER_S);
    same_request(&r, 0, 2);
    cr_assert_eq(repeated(&r), 20);
    rig_deinit(&r);
}

Test(once, a_connection_that_never_carried_the_request_repeats_nothing)
{
    struct rig r;
    begin(&r, 10);
    rig_break(&r, 0, BREAK_CONNECT);
    rig_pass(&r, US_PER_S);
    same_request(&r, 0, 1);
    cr_assert_eq(repeated(&r), 0);
    rig_deinit(&r);
}

Test(once, an_outage_after_an_unknown_outcome_counts_its_repeat_once)
{
    struct rig r;
    begin(&r, 10);
    rig_break(&r, 0, BREAK_UNKNOWN);
    for (unsigned i = 1; i <= 3; i++) {
        rig_pass(&r, 60 * US_PER_S);
        cr_assert_eq(r.sent_count, i + 1);
        rig_break(&r, i, i == 2 ? BREAK_DENIED : BREAK_CONNECT);
    }
    cr_assert_eq(repeated(&r), 10);
    rig_pass(&r, 60 * US_PER_S);
    rig_break(&r, 4, BREAK_UNKNOWN); /* now it began */
    rig_pass(&r, 60 * US_PER_S);
    cr_assert_eq(r.sent_count, 6);
    cr_assert_eq(repeated(&r), 20);
    rig_deinit(&r);
}

Test(once, a_reset_on_a_reused_connection_is_tried_again_at_once_but_once)
{
    struct rig r;
    begin(&r, 10);
    rig_break(&r, 0, BREAK_REUSED);
    cr_assert_eq(r.sent_count, 2);
    cr_assert_eq(r.sent[1].at_us, r.sent[0].at_us);
    same_request(&r, 0, 1);
    rig_break(&r, 1, BREAK_REUSED);
    cr_assert_eq(r.sent_count, 2);
    struct output_status s;
    rig_status(&r, &s);
    cr_assert_eq(s.state, OUT_RETRYING);
    rig_deinit(&r);
}

Test(once, per_event_answers_deliver_bury_and_retry_each_event_for_itself)
{
    struct rig r;
    begin(&r, 10);
    rig_reply(&r, 0, 207, "ddxrddxrdd");
    cr_assert_eq(fake_record(r.spool, 1)->fate, FAKE_DELIVERED);
    cr_assert_eq(fake_record(r.spool, 3)->fate, FAKE_DEAD);
    cr_assert_eq(fake_record(r.spool, 3)->status, 400);
    cr_assert_eq(fake_record(r.spool, 4)->fate, FAKE_PENDING);
    cr_assert(rig_news(&r, "dead letter: reason=refused status=400 attempts=1 seq=7 partition=\"p\" id=\"\" "
                           "answer=\"bad event\""));
    rig_pass(&r, US_PER_S);
    cr_assert_eq(r.sent_count, 2);
    cr_assert_str_eq(rig_body(&r, 1), "[4,8]", "only what was not delivered is sent again");
    cr_assert_str_neq(r.sent[0].payload_id, r.sent[1].payload_id, "in a new batch");
    rig_reply(&r, 1, 200, "");
    cr_assert_eq(fake_batches(r.spool), 0);
    rig_deinit(&r);
}

Test(once, events_without_a_result_are_sent_three_times_at_most)
{
    struct rig r;
    begin(&r, 10);
    rig_reply(&r, 0, 207, "ddddddddd");
    for (unsigned n = 1; n < 3; n++) {
        rig_pass(&r, 5 * US_PER_S);
        cr_assert_eq(r.sent_count, n + 1);
        cr_assert_str_eq(rig_body(&r, n), "[10]");
        rig_reply(&r, n, 207, "u");
    }
    cr_assert_eq(fake_record(r.spool, 10)->fate, FAKE_DEAD);
    cr_assert_eq(fake_record(r.spool, 10)->reason, DEAD_NO_RESULT);
    rig_deinit(&r);
}

Test(once, an_unreadable_answer_is_unknown_three_times_then_dead)
{
    struct rig r;
    begin(&r, 10);
    for (unsigned n = 0; n < 3; n++) {
        cr_assert_eq(r.sent_count, n + 1);
        same_request(&r, 0, n);
        rig_reply(&r, n, 299, "");
        rig_pass(&r, 5 * US_PER_S);
    }
    cr_assert_eq(fake_record(r.spool, 1)->fate, FAKE_DEAD);
    cr_assert_eq(fake_record(r.spool, 1)->reason, DEAD_BAD_RESPONSE);
    cr_assert_eq(r.sent_count, 3);
    rig_deinit(&r);
}

Test(once, a_definite_refusal_is_halved_until_the_bad_event_stands_alone)
{
    struct rig r;
    begin(&r, 10);
    unsigned guard = 0;
    while (fake_batches(r.spool) > 0 && guard++ < 50) {
        unsigned n = rig_last(&r);
        if (!r.sent[n].open)
            rig_pass(&r, US_PER_S);
        else
            rig_reply(&r, n, strstr(rig_body(&r, n), "7") != NULL ? 400 : 200, "event 7 is bad");
    }
    for (unsigned i = 1; i <= 10; i++)
        cr_assert_eq(fake_record(r.spool, i)->fate, i == 7 ? FAKE_DEAD : FAKE_DELIVERED);
    cr_assert_leq(r.sent_count, 10);
    for (unsigned a = 0; a < r.sent_count; a++)
        for (unsigned b = 0; b < a; b++)
            cr_assert_str_neq(r.sent[a].payload_id, r.sent[b].payload_id, "each part is a batch of its own");
    rig_deinit(&r);
}

Test(once, singles_are_taken_apart_without_sending_the_parts)
{
    struct rig r;
    rig_init(&r);
    r.config.batch_events_max = 100;
    rig_start(&r);
    rig_offer_n(&r, 100);
    rig_run(&r);
    rig_reply(&r, 0, 422, "");
    for (unsigned n = 1; n <= 100; n++) {
        cr_assert_eq(r.sent_count, n + 1);
        cr_assert_eq(r.sent[n].count, 1);
        char body[16];
        (void)snprintf(body, sizeof body, "[%u]", n);
        cr_assert_str_eq(rig_body(&r, n), body, "in order");
        rig_reply(&r, n, n == 50 ? 422 : 200, "no");
    }
    cr_assert_eq(fake_record(r.spool, 50)->fate, FAKE_DEAD);
    cr_assert_eq(fake_batches(r.spool), 0);
    rig_deinit(&r);
}

Test(once, a_split_keeps_the_order_of_its_partition)
{
    struct rig r;
    rig_init(&r);
    rig_start(&r);
    rig_offer_n(&r, 20);
    rig_run(&r);
    rig_reply(&r, 0, 413, "");
    cr_assert_str_eq(rig_body(&r, 1), "[1,2,3,4,5]");
    rig_reply(&r, 1, 200, "");
    cr_assert_str_eq(rig_body(&r, 2), "[6,7,8,9,10]");
    rig_reply(&r, 2, 200, "");
    cr_assert_str_eq(rig_body(&r, 3), "[11,12,13,14,15,16,17,18,19,20]");
    rig_deinit(&r);
}

Test(once, batches_stay_small_for_a_while_after_a_413)
{
    struct rig r;
    rig_init(&r);
    rig_start(&r);
    for (unsigned i = 0; i < 10; i++)
        rig_offer(&r, "p", "0123456789");
    rig_run(&r);
    rig_reply(&r, 0, 413, "");
    rig_reply(&r, 1, 200, "");
    rig_reply(&r, 2, 200, "");
    for (unsigned i = 0; i < 20; i++)
        rig_offer(&r, "p", "0123456789");
    rig_run(&r);
    cr_assert_leq(r.sent[3].body_len, r.sent[0].body_len / 2);
    rig_deinit(&r);
}

Test(once, after_a_restart_the_same_batch_goes_again_with_its_id)
{
    struct rig r;
    begin(&r, 10);
    rig_offer_n(&r, 5);
    rig_restart(&r);
    cr_assert_eq(r.sent_count, 2);
    same_request(&r, 0, 1);
    cr_assert_eq(repeated(&r), 10, "it may have arrived: counted upon the first resend");
    rig_reply(&r, 1, 200, "");
    rig_pass(&r, US_PER_S);
    cr_assert_str_eq(rig_body(&r, 2), "[11,12,13,14,15]");
    rig_reply(&r, 2, 200, "");
    cr_assert_eq(repeated(&r), 10);
    rig_deinit(&r);
}

Test(once, counters_survive_restarts)
{
    struct rig r;
    begin(&r, 10);
    rig_break(&r, 0, BREAK_UNKNOWN);
    rig_pass(&r, US_PER_S);
    rig_reply(&r, 1, 200, "");
    struct output_status before, after;
    rig_status(&r, &before);
    rig_restart(&r);
    rig_status(&r, &after);
    cr_assert_eq(before.repeated, 10);
    cr_assert_eq(after.repeated, before.repeated);
    cr_assert_eq(after.retries, before.retries);
    cr_assert_eq(after.request_seconds.count, before.request_seconds.count);
    cr_assert_eq(after.batches[0].count, 1);
    rig_deinit(&r);
}

Test(once, an_open_batch_keeps_its_form_when_another_is_configured)
{
    struct rig r;
    begin(&r, 10);
    rig_offer_n(&r, 10);
    rig_run(&r); /* assigned, not yet sent */
    r.config.api.ndjson = true;
    rig_restart(&r);
    cr_assert_eq(r.sent_count, 2);
    same_request(&r, 0, 1);
    rig_reply(&r, 1, 500, "");
    rig_pass(&r, US_PER_S);
    same_request(&r, 0, 2);
    rig_reply(&r, 2, 200, "");
    cr_assert_str_eq(rig_body(&r, 3), "[11,12,13,14,15,16,17,18,19,20]", "not sent, but assigned");
    rig_reply(&r, 3, 400, "");
    cr_assert_str_eq(rig_body(&r, 4), "11\n12\n13\n14\n15\n", "new batches have the new form");
    cr_assert_eq(repeated(&r), 35, "ten twice again; ten that the last process may have sent, and five of them once more");
    rig_deinit(&r);
}

Test(once, an_open_batch_stays_in_batch_mode_when_another_mode_is_configured)
{
    struct rig r;
    begin(&r, 10);
    r.config.api.mode = API_MODE_STRUCTURED;
    rig_restart(&r);
    same_request(&r, 0, 1);
    rig_reply(&r, 1, 400, "");
    for (unsigned n = 2; n <= 11; n++) {
        char body[16];
        (void)snprintf(body, sizeof body, "%u", n - 1);
        cr_assert_str_eq(rig_body(&r, n), body, "its parts are of the mode that is configured");
        rig_reply(&r, n, 200, "");
    }
    rig_deinit(&r);
}

Test(once, what_went_outside_batch_mode_by_configuration_does_not_keep_later_events_out_of_it)
{
    struct rig r;
    rig_init(&r);
    r.config.api.mode = API_MODE_STRUCTURED;
    rig_start(&r);
    rig_offer_n(&r, 1);
    rig_run(&r);
    rig_pass(&r, 2 * US_PER_S);
    cr_assert_str_eq(rig_body(&r, 0), "1");
    r.config.api.mode = API_MODE_BATCH;
    rig_restart(&r);
    same_request(&r, 0, 1);
    rig_reply(&r, 1, 200, "");
    rig_offer_n(&r, 10);
    rig_run(&r);
    cr_assert_str_eq(rig_body(&r, 2), "[2,3,4,5,6,7,8,9,10,11]");
    rig_deinit(&r);
}

Test(once, another_envelope_after_a_restart_retires_the_old_id)
{
    struct rig r;
    begin(&r, 10);
    char id[40];
    (void)snprintf(id, sizeof id, "%s", r.sent[0].payload_id);
    r.config.api.base_query = SPAN("{[");
    rig_restart(&r);
    cr_assert_eq(r.sent_count, 2);
    cr_assert_str_eq(rig_body(&r, 1), "{[1,2,3,4,5,6,7,8,9,10]");
    cr_assert_str_neq(r.sent[1].payload_id, id, "never an old id for other bytes");
    cr_assert_eq(repeated(&r), 10);
    cr_assert(rig_news(&r, "the envelope changed"));
    rig_deinit(&r);
}

Test(once, a_batch_that_lost_members_goes_on_as_a_new_one)
{
    struct rig r;
    begin(&r, 10);
    rig_offer_n(&r, 10);
    rig_run(&r);
    fake_corrupt(r.spool, 15); /* in the batch that waits */
    rig_run(&r);
    rig_reply(&r, 0, 200, "");
    cr_assert_eq(r.sent_count, 2);
    cr_assert_str_eq(rig_body(&r, 1), "[11,12,13,14,16,17,18,19,20]");
    rig_reply(&r, 1, 200, "");
    cr_assert_eq(fake_batches(r.spool), 0);
    rig_deinit(&r);
}

Test(once, members_lost_in_flight_do_not_confuse_the_answer)
{
    struct rig r;
    begin(&r, 10);
    fake_corrupt(r.spool, 4);
    rig_run(&r);
    rig_reply(&r, 0, 207, "dddddxddrr");
    rig_pass(&r, US_PER_S);
    cr_assert_eq(fake_record(r.spool, 6)->fate, FAKE_DEAD);
    cr_assert_str_eq(rig_body(&r, 1), "[9,10]");
    rig_deinit(&r);
}

Test(once, a_batch_that_a_policy_closed_is_cancelled)
{
    struct rig r;
    begin(&r, 20);
    uint64_t no = r.sent[0].batch->id.batch_no;
    fake_drop_batch(r.spool, no);
    rig_run(&r);
    cr_assert_eq(r.cancels, 1);
    cr_assert_str_eq(rig_body(&r, 1), "[11,12,13,14,15,16,17,18,19,20]");
    rig_reply(&r, 1, 200, "");
    cr_assert(output_idle(r.output));
    rig_deinit(&r);
}

Test(once, an_answer_that_crosses_with_the_policy_is_dropped_quietly)
{
    struct rig r;
    begin(&r, 20);
    fake_drop_batch(r.spool, r.sent[0].batch->id.batch_no);
    rig_reply(&r, 0, 200, ""); /* heard before the spool's note */
    cr_assert_eq(r.cancels, 0);
    cr_assert_str_eq(rig_body(&r, 1), "[11,12,13,14,15,16,17,18,19,20]");
    rig_reply(&r, 1, 200, "");
    cr_assert(output_idle(r.output));
    cr_assert_eq(fake_batches(r.spool), 0);
    rig_deinit(&r);
}

Test(once, equal_ids_are_kept_apart_when_the_api_says_so)
{
    struct rig r;
    rig_api.unique_ids = true;
    rig_init(&r);
    r.config.concurrency = 4;
    rig_start(&r);
    for (unsigned i = 0; i < 4; i++) {
        struct api_item item = {.body = i < 2 ? SPAN("first") : SPAN("second"),
                                .partition = SPAN("p"),
                                .id = i % 2 ? SPAN("a") : SPAN("b")};
        uint64_t seq;
        cr_assert_eq(output_offer(r.output, &item, 1, r.wall_ns, &seq), OK);
    }
    rig_run(&r);
    rig_pass(&r, US_PER_S);
    cr_assert_eq(r.sent_count, 1, "not even in two requests at the same time");
    cr_assert_str_eq(rig_body(&r, 0), "[first,first]");
    rig_reply(&r, 0, 200, "");
    cr_assert_str_eq(rig_body(&r, 1), "[second,second]");
    rig_deinit(&r);
}

Test(once, expired_events_are_dropped_unsent)
{
    struct rig r;
    rig_init(&r);
    rig_start(&r);
    struct api_item item = {
        .body = SPAN("1"), .partition = SPAN("p"), .expires_ns = r.wall_ns + NS_PER_S / 2};
    uint64_t seq;
    cr_assert_eq(output_offer(r.output, &item, 1, r.wall_ns, &seq), OK);
    rig_offer(&r, "p", "2");
    rig_run(&r);
    rig_pass(&r, US_PER_S);
    cr_assert_eq(r.sent_count, 1);
    cr_assert_str_eq(rig_body(&r, 0), "[2]");
    cr_assert_eq(fake_record(r.spool, 1)->fate, FAKE_DROPPED);
    cr_assert_eq(fake_record(r.spool, 1)->reason, SPOOL_DROP_EXPIRED);
    item.expires_ns = r.wall_ns - 1;
    cr_assert_eq(output_offer(r.output, &item, 1, r.wall_ns, &seq), OK);
    rig_run(&r);
    cr_assert_eq(fake_record(r.spool, 3)->fate, FAKE_DROPPED, "at once when it comes too late");
    rig_deinit(&r);
}

Test(once, without_compression_from_now_on_after_a_415)
{
    struct rig r;
    rig_init(&r);
    r.config.codec = API_GZIP;
    rig_start(&r);
    char big[400];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = 0;
    for (unsigned i = 0; i < 20; i++)
        rig_offer(&r, "p", big);
    rig_run(&r);
    cr_assert_eq(r.sent[0].codec, API_GZIP);
    rig_reply(&r, 0, 415, "");
    cr_assert_eq(r.sent_count, 2);
    cr_assert_eq(r.sent[1].codec, API_IDENTITY);
    cr_assert_str_eq(r.sent[0].payload_id, r.sent[1].payload_id);
    rig_reply(&r, 1, 200, "");
    cr_assert_eq(r.sent[2].codec, API_IDENTITY);
    rig_reply(&r, 2, 415, "");
    struct output_status s;
    rig_status(&r, &s);
    cr_assert_eq(s.state, OUT_HELD, "it was plain already");
    rig_deinit(&r);
}

Test(once, out_of_batch_mode_after_the_upstream_refused_it)
{
    struct rig r;
    begin(&r, 13);
    rig_reply(&r, 0, 406, "");
    for (unsigned n = 1; n <= 10; n++) {
        cr_assert_eq(r.sent_count, n + 1);
        char body[16];
        (void)snprintf(body, sizeof body, "%u", n);
        cr_assert_str_eq(rig_body(&r, n), body);
        rig_reply(&r, n, 200, "");
    }
    rig_pass(&r, US_PER_S);
    cr_assert_str_eq(rig_body(&r, 11), "11");
    rig_reply(&r, 11, 406, "");
    struct output_status s;
    rig_status(&r, &s);
    cr_assert_eq(s.state, OUT_HELD);
    rig_deinit(&r);
}

Test(once, a_single_event_leaves_batch_mode_as_itself)
{
    struct rig r;
    rig_init(&r);
    rig_start(&r);
    rig_offer_n(&r, 1);
    rig_run(&r);
    rig_pass(&r, 2 * US_PER_S);
    cr_assert_eq(r.sent_count, 1);
    cr_assert_str_eq(rig_body(&r, 0), "[1]");
    rig_reply(&r, 0, 406, "");
    rig_run(&r);
    cr_assert_eq(r.sent_count, 2);
    cr_assert_str_eq(rig_body(&r, 1), "1");
    cr_assert_str_neq(r.sent[0].payload_id, r.sent[1].payload_id, "other bytes, another id");
    rig_deinit(&r);
}

Test(once, what_went_outside_batch_mode_goes_so_again_after_a_restart)
{
    struct rig r;
    rig_init(&r);
    rig_start(&r);
    rig_offer_n(&r, 3);
    rig_run(&r);
    rig_pass(&r, 2 * US_PER_S);
    rig_reply(&r, 0, 406, "");
    rig_run(&r);
    cr_assert_str_eq(rig_body(&r, 1), "1");
    char id[40];
    (void)snprintf(id, sizeof id, "%s", r.sent[1].payload_id);
    rig_restart(&r); /* with the outcome of that request unknown, and the mode forgotten */
    rig_run(&r);
    unsigned n = rig_last(&r);
    cr_assert_str_eq(r.sent[n].payload_id, id);
    cr_assert_str_eq(rig_body(&r, n), "1");
    rig_reply(&r, n, 200, "");
    for (unsigned event = 2; event <= 3; event++) {
        char body[4];
        (void)snprintf(body, sizeof body, "%u", event);
        cr_assert_str_eq(rig_body(&r, ++n), body, "each batch keeps its form");
        rig_reply(&r, n, 200, "");
    }
    rig_deinit(&r);
}
