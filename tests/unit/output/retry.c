/* Failures as an output meets them: retries, holds, quotas, order, and that nothing is left with nothing
 * scheduled. */
#include "tests/unit/output/rig.h"

#include <criterion/criterion.h>
#include <stdio.h>

static enum output_state state(const struct rig *r)
{
    struct output_status s;
    rig_status(r, &s);
    return s.state;
}

static void begin(struct rig *r, unsigned concurrency, unsigned events)
{
    rig_init(r);
    r->config.concurrency = concurrency;
    rig_start(r);
    rig_offer_n(r, events);
    rig_run(r);
}

Test(retry, nothing_is_sent_before_retry_after_by_any_batch)
{
    struct rig r;
    begin(&r, 4, 100);
    cr_assert_eq(rig_open(&r), 4);
    rig_reply_after(&r, 2, 429, "30");
    for (unsigned n = 0; n < 4; n++)
        if (r.sent[n].open)
            rig_reply(&r, n, 200, "");
    uint64_t from = r.now_us;
    rig_pass_by_wakes(&r, 40 * US_PER_S);
    cr_assert_geq(r.sent_count, 5);
    for (unsigned n = 4; n < r.sent_count; n++)
        cr_assert_geq(r.sent[n].at_us, from + 30 * US_PER_S);
    cr_assert_eq(rig_open(&r), 1, "and then with one request");
    rig_deinit(&r);
}

Test(retry, a_quota_of_days_is_a_state_and_is_waited_out)
{
    struct rig r;
    begin(&r, 1, 10);
    rig_reply_after(&r, 0, 429, "259200");
    cr_assert_eq(state(&r), OUT_QUOTA);
    rig_pass_by_wakes(&r, UINT64_C(259199) * US_PER_S);
    cr_assert_eq(r.sent_count, 1);
    rig_pass_by_wakes(&r, 2 * US_PER_S);
    cr_assert_eq(r.sent_count, 2);
    rig_reply(&r, 1, 200, "");
    cr_assert_eq(state(&r), OUT_OK);
    rig_deinit(&r);
}

Test(retry, a_step_of_the_wall_clock_changes_nothing)
{
    const int64_t steps_s[] = {1, -1, 3600, -3600, 630720000, -630720000};
    for (unsigned i = 0; i < 6; i++) {
        struct rig r;
        begin(&r, 1, 10);
        rig_reply_after(&r, 0, 503, "10");
        uint64_t wake = output_wake_us(r.output);
        r.wall_ns += (uint64_t)(steps_s[i] * (int64_t)NS_PER_S);
        rig_run(&r);
        cr_assert_eq(output_wake_us(r.output), wake);
        rig_pass_by_wakes(&r, 11 * US_PER_S);
        cr_assert_eq(r.sent_count, 2);
        rig_reply(&r, 1, 200, "");
        cr_assert_eq(fake_record(r.spool, 1)->fate, FAKE_DELIVERED);
        rig_deinit(&r);
    }
}

Test(retry, a_refused_key_holds_and_probes_with_fresh_secrets)
{
    struct rig r;
    rig_has_probe = true;
    begin(&r, 4, 100);
    for (unsigned n = 0; n < 4; n++)
        rig_reply(&r, n, 401, "bad key");
    cr_assert_eq(state(&r), OUT_HELD);
    cr_assert(rig_news(&r, "held: bad key"));
    rig_pass_by_wakes(&r, 900 * US_PER_MS);
    cr_assert_eq(r.secrets + r.probes, 0, "not within the first second");
    rig_pass_by_wakes(&r, 200 * US_PER_MS);
    cr_assert_eq(r.secrets, 1);
    cr_assert_eq(r.probes, 1);
    cr_assert_eq(rig_open(&r), 0);
    struct api_reply no = {.status = 401, .body = SPAN("still bad")}, yes = {.status = 200};
    output_probed(r.output, &no, BREAK_UNKNOWN, "");
    rig_pass_by_wakes(&r, 5 * US_PER_S);
    cr_assert_eq(r.secrets, 2);
    cr_assert_eq(r.probes, 2);
    output_probed(r.output, &yes, BREAK_UNKNOWN, "");
    rig_run(&r);
    cr_assert_eq(rig_open(&r), 1, "then one batch");
    rig_reply(&r, rig_last(&r), 200, "");
    cr_assert_eq(state(&r), OUT_OK);
    cr_assert_geq(rig_open(&r), 2);
    for (unsigned i = 1; i <= 100; i++)
        cr_assert_neq(fake_record(r.spool, i)->fate, FAKE_DEAD, "nothing is thrown away");
    rig_has_probe = false;
    rig_deinit(&r);
}

Test(retry, a_probe_waits_until_the_secrets_are_read)
{
    struct rig r;
    begin(&r, 1, 10);
    r.hold_secrets = true;
    rig_reply(&r, 0, 401, "no");
    rig_pass_by_wakes(&r, 60 * US_PER_S);
    cr_assert_eq(r.secrets, 1);
    cr_assert_eq(r.sent_count, 1, "they are still being read");
    output_secrets_read(r.output);
    rig_run(&r);
    cr_assert_eq(r.sent_count, 2);
    rig_reply(&r, 1, 404, "not this one");
    rig_pass_by_wakes(&r, 60 * US_PER_S);
    cr_assert_eq(r.secrets, 2);
    cr_assert_eq(r.sent_count, 2);
    rig_offer(&r, "other", "x");
    rig_run(&r);
    rig_pass_by_wakes(&r, 2 * US_PER_S);
    cr_assert_eq(r.sent_count, 3, "other partitions do not wait for it");
    rig_reply(&r, 2, 200, "");
    output_secrets_read(r.output);
    rig_run(&r);
    cr_assert_eq(r.sent_count, 4);
    rig_deinit(&r);
}

Test(retry, without_a_probe_of_its_own_the_batch_itself_asks)
{
    struct rig r;
    begin(&r, 1, 10);
    rig_reply(&r, 0, 403, "");
    rig_pass_by_wakes(&r, 2 * US_PER_S);
    cr_assert_eq(r.secrets, 1);
    cr_assert_eq(r.sent_count, 2);
    cr_assert_str_eq(r.sent[0].payload_id, r.sent[1].payload_id);
    rig_reply(&r, 1, 200, "");
    cr_assert_eq(state(&r), OUT_OK);
    rig_deinit(&r);
}

Test(retry, a_failing_certificate_holds)
{
    struct rig r;
    begin(&r, 1, 10);
    rig_break(&r, 0, BREAK_DENIED);
    cr_assert_eq(state(&r), OUT_HELD);
    rig_deinit(&r);
}

Test(retry, gone_for_good_is_not_probed_until_resumed)
{
    struct rig r;
    begin(&r, 1, 10);
    rig_reply(&r, 0, 410, "");
    rig_pass_by_wakes(&r, 86400 * US_PER_S);
    cr_assert_eq(r.sent_count, 1);
    output_resume(r.output);
    rig_run(&r);
    cr_assert_eq(r.sent_count, 2);
    rig_deinit(&r);
}

Test(retry, a_held_partition_holds_only_itself)
{
    struct rig r;
    rig_init(&r);
    r.config.concurrency = 1;
    r.config.batch_events_max = 2;
    rig_start(&r);
    for (unsigned i = 0; i < 40; i++)
        rig_offer(&r, i % 4 == 0 ? "bad" : "good", i % 4 == 0 ? "b" : "g");
    rig_run(&r);
    unsigned good = 0, held_sends = 0;
    for (unsigned n = 0; n < r.sent_count && n < 100; n++) {
        if (!r.sent[n].open)
            continue;
        bool bad = r.sent[n].partition[0] == 'b';
        held_sends += bad;
        good += bad ? 0 : r.sent[n].count;
        rig_reply(&r, n, bad ? 404 : 200, "unknown dataset");
    }
    cr_assert_eq(good, 30);
    cr_assert_eq(held_sends, 1);
    cr_assert_eq(state(&r), OUT_OK);
    struct output_status s;
    rig_status(&r, &s);
    cr_assert_eq(s.held_count, 1);
    cr_assert_str_eq(s.held[0].partition, "bad");
    cr_assert_str_eq(s.held[0].text, "unknown dataset");
    unsigned seen = r.sent_count;
    rig_pass_by_wakes(&r, 1500 * US_PER_MS);
    cr_assert_eq(r.sent_count, seen + 1, "one probe of its first batch");
    rig_reply(&r, seen, 200, "");
    for (unsigned n = seen + 1; n < r.sent_count; n++)
        if (r.sent[n].open)
            rig_reply(&r, n, 200, "");
    rig_pass_by_wakes(&r, 5 * US_PER_S);
    for (unsigned n = seen + 1; n < r.sent_count; n++)
        if (r.sent[n].open)
            rig_reply(&r, n, 200, "");
    for (unsigned i = 1; i <= 40; i++)
        cr_assert_eq(fake_record(r.spool, i)->fate, FAKE_DELIVERED, "seq %u", i);
    rig_deinit(&r);
}

Test(retry, later_batches_of_a_partition_do_not_overtake_one_that_waits)
{
    struct rig r;
    begin(&r, 4, 60);
    rig_reply(&r, 0, 207, "rrrrrrrrrr"); /* no backoff of the output: only these events wait */
    unsigned before = r.sent_count;
    for (unsigned n = 1; n < 4; n++)
        rig_reply(&r, n, 200, "");
    cr_assert_eq(r.sent_count, before, "batches 5 and 6 stay behind the remainder of the first");
    rig_pass_by_wakes(&r, US_PER_S);
    cr_assert_str_eq(rig_body(&r, before), rig_body(&r, 0));
    cr_assert_gt(r.sent_count, before + 1);
    rig_deinit(&r);
}

Test(retry, a_batch_that_fails_for_reasons_of_its_own_does_not_stop_other_partitions)
{
    struct rig r;
    rig_init(&r);
    r.config.batch_events_max = 1;
    rig_start(&r);
    rig_offer(&r, "poison", "x");
    for (unsigned i = 0; i < 20; i++)
        rig_offer(&r, "other", "o");
    rig_run(&r);
    unsigned delivered = 0;
    for (unsigned turn = 0; turn < 400 && delivered < 20; turn++) {
        unsigned n = rig_last(&r);
        if (!r.sent[n].open) {
            rig_pass_by_wakes(&r, US_PER_S);
            continue;
        }
        bool poison = r.sent[n].partition[0] == 'p';
        delivered += !poison;
        rig_reply(&r, n, poison ? 500 : 200, "");
    }
    cr_assert_eq(delivered, 20);
    rig_deinit(&r);
}

Test(retry, in_an_outage_batches_fill_up_instead_of_closing_by_age)
{
    struct rig r;
    begin(&r, 2, 1);
    rig_pass(&r, US_PER_S);
    rig_break(&r, 0, BREAK_CONNECT);
    for (unsigned i = 0; i < 9; i++) {
        rig_offer_n(&r, 1);
        rig_pass_by_wakes(&r, US_PER_S);
        unsigned n = rig_last(&r);
        if (r.sent[n].open)
            rig_break(&r, n, BREAK_CONNECT);
    }
    cr_assert_leq(fake_assigns(r.spool), 2);
    rig_deinit(&r);
}

Test(retry, give_up_after_buries_what_could_not_be_delivered_in_time)
{
    struct rig r;
    rig_init(&r);
    r.config.give_up_after_us = 60 * US_PER_S;
    rig_start(&r);
    rig_offer_n(&r, 10);
    rig_run(&r);
    rig_break(&r, 0, BREAK_CONNECT);
    for (unsigned i = 0; i < 200 && fake_record(r.spool, 1)->fate == FAKE_PENDING; i++) {
        rig_pass_by_wakes(&r, US_PER_S);
        unsigned n = rig_last(&r);
        if (r.sent[n].open)
            rig_break(&r, n, BREAK_CONNECT);
    }
    cr_assert_eq(fake_record(r.spool, 1)->fate, FAKE_DEAD);
    cr_assert_eq(fake_record(r.spool, 1)->reason, DEAD_GAVE_UP);
    cr_assert_geq(r.now_us, 61 * US_PER_S);
    rig_deinit(&r);
}

Test(retry, never_gives_up_by_default)
{
    struct rig r;
    begin(&r, 1, 10);
    for (unsigned i = 0; i < 3000; i++) {
        unsigned n = rig_last(&r);
        if (r.sent[n].open)
            rig_break(&r, n, i % 2 ? BREAK_UNKNOWN : BREAK_CONNECT);
        rig_pass_by_wakes(&r, 60 * US_PER_S);
    }
    unsigned n = rig_last(&r);
    if (!r.sent[n].open) {
        rig_pass_by_wakes(&r, 61 * US_PER_S);
        n = rig_last(&r);
    }
    rig_reply(&r, n, 200, "");
    cr_assert_eq(fake_record(r.spool, 1)->fate, FAKE_DELIVERED);
    cr_assert_str_eq(r.sent[n].payload_id, r.sent[0].payload_id);
    rig_deinit(&r);
}

Test(retry, full_dead_letters_block_the_output_until_there_is_room)
{
    struct rig r;
    begin(&r, 1, 30);
    fake_set_dead_full(r.spool, true);
    rig_reply(&r, 0, 409, "no");
    cr_assert_eq(state(&r), OUT_FULL);
    cr_assert_eq(r.sent_count, 1, "nothing else is sent");
    struct output_status s;
    rig_status(&r, &s);
    cr_assert(strstr(s.error, "dead_letter.max_bytes") != NULL);
    rig_pass_by_wakes(&r, 5 * US_PER_S);
    cr_assert_eq(fake_record(r.spool, 1)->fate, FAKE_PENDING);
    fake_set_dead_full(r.spool, false);
    rig_run(&r);
    cr_assert_eq(fake_record(r.spool, 1)->fate, FAKE_DEAD);
    cr_assert_eq(r.sent_count, 2);
    cr_assert_eq(state(&r), OUT_OK);
    rig_deinit(&r);
}

Test(retry, what_was_answered_for_while_dead_letters_are_full_is_not_sent_again)
{
    struct rig r;
    begin(&r, 1, 10);
    fake_set_dead_full(r.spool, true);
    rig_reply(&r, 0, 207, "dddxdrdxdd");
    for (uint64_t seq = 1; seq <= 10; seq++)
        cr_assert_eq(fake_record(r.spool, seq)->fate, seq == 4 || seq == 6 || seq == 8 ? FAKE_PENDING : FAKE_DELIVERED);
    cr_assert_eq(state(&r), OUT_FULL);
    rig_restart(&r); /* what is to be buried is told apart by the upstream alone */
    unsigned n = rig_last(&r);
    cr_assert_str_neq(r.sent[n].payload_id, r.sent[0].payload_id);
    cr_assert_str_eq(rig_body(&r, n), "[4,8]");
    rig_reply(&r, n, 207, "xx");
    cr_assert_eq(state(&r), OUT_FULL);
    char id[40];
    (void)snprintf(id, sizeof id, "%s", r.sent[n].payload_id);
    rig_restart(&r);
    n = rig_last(&r);
    cr_assert_str_eq(rig_body(&r, n), "[4,8]");
    cr_assert_str_neq(r.sent[n].payload_id, id, "an answered batch is never sent again");
    rig_reply(&r, n, 207, "xx");
    fake_set_dead_full(r.spool, false);
    rig_pass(&r, 2 * US_PER_S);
    cr_assert_eq(fake_record(r.spool, 4)->fate, FAKE_DEAD);
    cr_assert_eq(fake_record(r.spool, 8)->fate, FAKE_DEAD);
    cr_assert_eq(fake_record(r.spool, 8)->status, 400);
    n = rig_last(&r);
    cr_assert_str_eq(rig_body(&r, n), "[6]");
    rig_reply(&r, n, 200, "");
    cr_assert_eq(fake_record(r.spool, 6)->fate, FAKE_DELIVERED);
    rig_deinit(&r);
}

Test(retry, letters_that_find_no_room_are_written_as_they_were_meant)
{
    struct rig r;
    begin(&r, 1, 10);
    fake_set_dead_full(r.spool, true);
    rig_reply(&r, 0, 207, "xdddddxddd");
    fake_corrupt(r.spool, 1); /* while they wait */
    rig_run(&r);
    fake_set_dead_full(r.spool, false);
    rig_pass(&r, 2 * US_PER_S);
    cr_assert_eq(fake_record(r.spool, 7)->fate, FAKE_DEAD);
    cr_assert_eq(fake_record(r.spool, 7)->attempts, 1);
    cr_assert(rig_news(&r, "seq=7"));
    struct output_status s;
    rig_status(&r, &s);
    cr_assert_eq(s.ledger.pending, 0);
    rig_deinit(&r);
}

Test(retry, paused_sends_nothing_and_loses_nothing)
{
    struct rig r;
    rig_init(&r);
    rig_start(&r);
    output_pause(r.output);
    rig_offer_n(&r, 10);
    rig_pass_by_wakes(&r, 3600 * US_PER_S);
    cr_assert_eq(r.sent_count, 0);
    cr_assert_eq(state(&r), OUT_PAUSED);
    output_resume(r.output);
    rig_run(&r);
    cr_assert_eq(r.sent_count, 1);
    rig_deinit(&r);
}

Test(retry, a_rate_limit_lets_batches_fill_while_it_is_empty)
{
    struct rig r;
    rig_init(&r);
    r.config.rate_requests = 1;
    r.config.rate_per_us = 10 * US_PER_S;
    r.config.batch_events_max = 100;
    r.config.concurrency = 4;
    rig_start(&r);
    for (unsigned i = 0; i < 40; i++) {
        rig_offer_n(&r, 1);
        rig_pass_by_wakes(&r, US_PER_S);
        unsigned n = r.sent_count;
        if (n > 0 && r.sent[n - 1].open)
            rig_reply(&r, n - 1, 200, "");
    }
    cr_assert_leq(r.sent_count, 4);
    cr_assert_geq(r.sent_count, 3);
    cr_assert_geq(r.sent[1].count, 9);
    rig_deinit(&r);
}

Test(retry, a_lost_report_is_noticed_and_the_connections_are_rebuilt)
{
    struct rig r;
    begin(&r, 1, 10);
    rig_pass_by_wakes(&r, 3600 * US_PER_S); /* the shell never reports back */
    cr_assert_geq(r.rebuilds, 1);
    cr_assert(rig_news(&r, "nothing moved"));
    rig_deinit(&r);
}

Test(retry, something_is_scheduled_whenever_something_is_pending)
{
    const unsigned answers[] = {429, 503, 401, 404, 299, 413, 415};
    for (unsigned i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        struct rig r;
        begin(&r, 1, 1);
        cr_assert_neq(output_wake_us(r.output), 0);
        rig_pass_by_wakes(&r, US_PER_S);
        rig_reply(&r, 0, answers[i], "");
        if (fake_record(r.spool, 1)->fate == FAKE_PENDING && rig_open(&r) == 0)
            cr_assert_neq(output_wake_us(r.output), 0, "after %u", answers[i]);
        rig_deinit(&r);
    }
}

Test(retry, a_release_of_memory_on_a_held_partition_is_undone_by_reading_again)
{
    struct rig r;
    rig_init(&r);
    r.config.payload_budget_bytes = 64; /* always short */
    r.config.batch_events_max = 2;
    rig_start(&r);
    rig_offer(&r, "bad", "one");
    rig_offer(&r, "bad", "two");
    rig_run(&r);
    rig_reply(&r, 0, 404, "");
    for (unsigned i = 0; i < 10; i++)
        rig_offer(&r, "good", "0123456789012345678901234567890123456789");
    rig_run(&r);
    unsigned guard = 0;
    struct spool_ledger ledger;
    for (spool_ledger(r.spool, &ledger); guard++ < 200 && ledger.pending > 0; spool_ledger(r.spool, &ledger)) {
        bool any = false;
        for (unsigned n = 0; n < r.sent_count; n++)
            if (r.sent[n].open) {
                any = true;
                rig_reply(&r, n, 200, "");
            }
        if (!any)
            rig_pass_by_wakes(&r, US_PER_S);
    }
    for (unsigned i = 1; i <= 12; i++)
        cr_assert_eq(fake_record(r.spool, i)->fate, FAKE_DELIVERED, "seq %u", i);
    rig_deinit(&r);
}

Test(retry, a_partition_refused_by_several_requests_at_once_is_held_once)
{
    struct rig r;
    begin(&r, 4, 40);
    for (unsigned n = 0; n < 4; n++)
        rig_reply(&r, n, 404, "unknown\ndataset");
    struct output_news news;
    unsigned lines = 0;
    while (output_news_next(r.output, &news)) {
        lines += strstr(news.text, "is held: unknown dataset") != NULL;
        cr_assert_null(strchr(news.text, '\n'));
    }
    cr_assert_eq(lines, 1);
    rig_pass_by_wakes(&r, 1100 * US_PER_MS);
    cr_assert_eq(r.sent_count, 5, "probed after the first delay, not after the fourth");
    cr_assert_eq(r.secrets, 1);
    rig_reply(&r, 4, 404, "unknown dataset");
    rig_pass_by_wakes(&r, 1900 * US_PER_MS);
    cr_assert_eq(r.sent_count, 5, "and then later");
    rig_deinit(&r);
}

Test(retry, concurrency_auto_backs_away_and_comes_back)
{
    struct rig r;
    rig_init(&r);
    r.config.concurrency = 8;
    r.config.concurrency_auto = true;
    rig_start(&r);
    for (unsigned i = 0; i < 6; i++) {
        rig_offer_n(&r, 500);
        rig_run(&r);
    }
    rig_run(&r);
    cr_assert_eq(rig_open(&r), 1, "it begins with one");
    unsigned answered = 0, most = 0;
    for (; answered < 150; answered++) {
        most = rig_open(&r) > most ? rig_open(&r) : most;
        rig_reply(&r, answered, 200, "");
    }
    cr_assert_eq(most, 8);
    struct output_status s;
    rig_reply_after(&r, answered, 429, "1");
    rig_status(&r, &s);
    cr_assert_leq(s.concurrency_now, 4);
    rig_deinit(&r);
}

Test(retry, an_answer_for_a_batch_that_is_gone_ends_it)
{
    struct rig r;
    begin(&r, 1, 10);
    struct batch *b = r.sent[0].batch;
    fake_drop_batch(r.spool, b->id.batch_no);
    struct spool_note note;
    while (fake_note_next(r.spool, &note))
        output_note(r.output, &note);
    rig_reply(&r, 0, 503, ""); /* before the shell was asked to cancel */
    rig_pass_by_wakes(&r, 60 * US_PER_S);
    cr_assert_eq(r.sent_count, 1);
    cr_assert(output_idle(r.output));
    rig_deinit(&r);
}

Test(retry, skipped_events_are_told_once_a_minute)
{
    struct rig r;
    rig_init(&r);
    rig_start(&r);
    unsigned lines = 0;
    struct output_news news;
    for (unsigned n = 0; n < 100; n++) {
        rig_offer_n(&r, 10);
        rig_run(&r);
        rig_reply(&r, n, 202, "skipped");
        rig_pass(&r, US_PER_S);
        while (output_news_next(r.output, &news))
            lines += news.kind == NEWS_SKIPPED;
    }
    cr_assert_eq(lines, 2);
    rig_deinit(&r);
}

Test(retry, an_event_that_is_always_passing_does_not_hold_up_its_partition_for_ever)
{
    struct rig r;
    rig_init(&r);
    r.config.retry_max_us = 3600 * US_PER_S;
    r.config.retry_initial_us = 100 * US_PER_MS;
    rig_start(&r);
    rig_offer_n(&r, 10);
    rig_run(&r);
    rig_reply(&r, 0, 207, "xdddrddddd"); /* event 5 is refused as passing, and again and again */
    rig_offer_n(&r, 200);
    unsigned delivered = 0, tries = 1, in_front = 0;
    for (unsigned turn = 0; turn < 400 && delivered < 200; turn++) {
        rig_pass_by_wakes(&r, 10 * US_PER_S);
        for (unsigned n = 1; n < r.sent_count; n++) {
            if (!r.sent[n].open)
                continue;
            bool poison = strcmp(r.sent[n].body, "[5]") == 0;
            tries += poison;
            delivered += poison ? 0 : r.sent[n].count;
            in_front += !poison && tries < 5;
            rig_reply(&r, n, 207, poison ? "r" : "dddddddddd");
        }
    }
    cr_assert_eq(delivered, 200);
    cr_assert_leq(in_front, 5, "before that, order is kept: only what leaves beside it in one turn");
    cr_assert(rig_news(&r, "later events of their partition go past them"));
    cr_assert_eq(fake_record(r.spool, 5)->fate, FAKE_PENDING, "and it is retried still");
    rig_deinit(&r);
}

Test(retry, waits_that_are_meant_are_no_stall_however_long)
{
    struct rig r;
    begin(&r, 1, 30);
    rig_reply_after(&r, 0, 429, "259200");
    rig_pass_by_wakes(&r, UINT64_C(259300) * US_PER_S);
    cr_assert_eq(r.rebuilds, 0, "a quota of days");
    rig_reply(&r, rig_last(&r), 200, "");
    output_pause(r.output);
    rig_run(&r);
    if (r.sent[rig_last(&r)].open)
        rig_reply(&r, rig_last(&r), 200, "");
    rig_pass(&r, 86400 * US_PER_S);
    output_resume(r.output);
    rig_run(&r);
    cr_assert_eq(r.rebuilds, 0, "a pause");
    fake_set_dead_full(r.spool, true);
    rig_reply(&r, rig_last(&r), 409, "no");
    rig_pass_by_wakes(&r, 3600 * US_PER_S);
    fake_set_dead_full(r.spool, false);
    rig_pass_by_wakes(&r, 10 * US_PER_S);
    cr_assert_eq(r.rebuilds, 0, "full letters");
    rig_deinit(&r);
}

/* One failure, then a pause or full letters for longer than give_up_after: the upstream has not failed for
 * that long. */
Test(retry, time_in_which_nothing_was_tried_is_not_counted_by_give_up_after)
{
    for (unsigned full = 0; full < 2; full++) {
        struct rig r;
        rig_init(&r);
        r.config.give_up_after_us = 60 * US_PER_S;
        r.config.concurrency = 2;
        rig_start(&r);
        rig_offer_n(&r, 20);
        rig_run(&r);
        cr_assert_eq(rig_open(&r), 2);
        rig_break(&r, 0, BREAK_CONNECT);
        if (full) {
            fake_set_dead_full(r.spool, true);
            rig_reply(&r, 1, 409, "no");
            rig_pass_by_wakes(&r, 600 * US_PER_S);
            fake_set_dead_full(r.spool, false);
            rig_pass_by_wakes(&r, 2 * US_PER_S);
        } else {
            output_pause(r.output);
            rig_pass(&r, 600 * US_PER_S);
            output_resume(r.output);
            rig_pass_by_wakes(&r, 2 * US_PER_S);
        }
        cr_assert_eq(fake_record(r.spool, 1)->fate, FAKE_PENDING);
        unsigned n = rig_last(&r);
        cr_assert(r.sent[n].open, "it is tried again instead");
        rig_deinit(&r);
    }
}

Test(retry, events_that_a_policy_took_from_a_closed_batch_do_not_stop_the_rest)
{
    struct rig r;
    begin(&r, 3, 70); /* three batches in flight, two assigned, one closed and waiting to be */
    fake_set_control_full(r.spool, true);
    for (unsigned n = 0; n < 3; n++)
        rig_reply(&r, n, 200, "");
    for (uint64_t seq = 51; seq <= 60; seq++)
        fake_expire(r.spool, seq);
    fake_set_control_full(r.spool, false);
    rig_pass_by_wakes(&r, 3 * US_PER_S);
    cr_assert_eq(r.sent_count, 6);
    cr_assert(strstr(rig_body(&r, 5), "61") != NULL);
    rig_deinit(&r);
}
