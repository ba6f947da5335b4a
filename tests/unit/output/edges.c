/* Edges: settings of nothing, very large offers, notes that say little, and what restarts leave half done. */
#include "tests/unit/output/rig.h"

#include "lib/output/limit.h"
#include "lib/output/transport.h"

#include <criterion/criterion.h>
#include <stdio.h>

Test(edges, settings_of_nothing_mean_one)
{
    struct rig r;
    rig_init(&r);
    r.config.concurrency = 0;
    r.config.batch_events_max = 0;
    rig_start(&r);
    rig_offer_n(&r, 3);
    rig_run(&r);
    for (unsigned n = 0; n < 3; n++) {
        cr_assert_eq(r.sent_count, n + 1, "one event and one request at a time");
        cr_assert_eq(r.sent[n].count, 1);
        rig_reply(&r, n, 200, "");
    }
    rig_deinit(&r);
    output_free(NULL);
}

Test(edges, an_offer_of_thousands_is_one_offer)
{
    struct rig r;
    rig_init(&r);
    r.config.batch_events_max = 5000;
    rig_start(&r);
    static struct api_item items[3000];
    for (unsigned i = 0; i < 3000; i++)
        items[i] =
            (struct api_item){.body = SPAN("7"), .partition = SPAN("p"), .id = SPAN("x"), .key_hash = i + 1u};
    uint64_t seq;
    cr_assert_eq(output_offer(r.output, items, 3000, r.wall_ns, &seq), OK);
    cr_assert_eq(seq, 3000);
    cr_assert_eq(output_offer(r.output, items, 1, r.wall_ns, &seq), OK, "and then of one");
    cr_assert_eq(seq, 3001);
    output_flush(r.output);
    rig_run(&r);
    cr_assert_eq(r.sent_count, 1);
    cr_assert_eq(r.sent[0].count, 3001);
    rig_reply(&r, 0, 200, "");
    struct output_status s;
    rig_status(&r, &s);
    cr_assert_eq(s.ledger.pending, 0);
    rig_deinit(&r);
}

Test(edges, failed_storage_is_a_state_of_its_own_also_without_words)
{
    struct rig r;
    rig_init(&r);
    rig_start(&r);
    struct spool_note warning = {.kind = NOTE_WARNING}, failed = {.kind = NOTE_FAILED},
                      closed = {.kind = NOTE_CLOSED};
    output_note(r.output, &warning);
    struct output_status s;
    rig_status(&r, &s);
    cr_assert_eq(s.state, OUT_OK);
    output_note(r.output, &failed);
    rig_status(&r, &s);
    cr_assert_eq(s.state, OUT_FAILED);
    rig_offer_n(&r, 10);
    rig_run(&r);
    cr_assert_eq(r.sent_count, 0, "nothing is read from a spool that failed");
    struct fault why = {.err = ERR_IO, .text = "the disk is gone"};
    failed.fault = &why;
    output_note(r.output, &failed);
    rig_status(&r, &s);
    cr_assert(strstr(s.error, "the disk is gone") != NULL);
    output_note(r.output, &closed);
    rig_run(&r);
    cr_assert_eq(r.sent_count, 0);
    rig_deinit(&r);
}

/* A batch that left batch mode is first cut in sixteen; a restart may come before its pieces are single
 * events. */
Test(edges, pieces_on_their_way_out_of_batch_mode_are_taken_apart_after_a_restart)
{
    struct rig r;
    rig_init(&r);
    r.config.batch_events_max = 40;
    rig_start(&r);
    rig_offer_n(&r, 40);
    rig_run(&r);
    cr_assert_eq(r.sent_count, 1);
    fake_set_durable_by_hand(r.spool, true);
    rig_reply(&r, 0, 406, "");
    cr_assert_eq(r.sent_count, 1, "the pieces are not durable yet");
    fake_make_durable(r.spool);
    fake_set_durable_by_hand(r.spool, false);
    rig_restart(&r);
    rig_run(&r);
    for (unsigned n = 1; n <= 40; n++) {
        char body[16];
        (void)snprintf(body, sizeof body, "%u", n);
        unsigned last = rig_last(&r);
        cr_assert_eq(rig_open(&r), 1);
        cr_assert_str_eq(rig_body(&r, last), body);
        rig_reply(&r, last, 200, "");
    }
    struct output_status s;
    rig_status(&r, &s);
    cr_assert_eq(s.ledger.pending, 0);
    rig_deinit(&r);
}

Test(edges, a_rate_faster_than_the_clock_is_no_rate_of_nothing)
{
    struct limit_rate l = {0};
    limit_rate_set(&l, 2000000000, 1);
    cr_assert_eq(l.interval_ns, 1);
    cr_assert_gt(limit_rate_tokens(&l, 1000, 100), 0);
    limit_rate_set(&l, 5, 0);
    cr_assert_eq(l.interval_ns, 0);
}

Test(edges, a_lowered_ceiling_lowers_the_level_at_once)
{
    struct limit_adapt a = {0};
    limit_adapt_set(&a, true, 8);
    for (uint64_t n = 1; n < 200; n++)
        limit_adapt_answered(&a, 1000, true, n, n);
    cr_assert_eq(limit_adapt_level(&a), 8);
    limit_adapt_set(&a, true, 2);
    cr_assert_eq(limit_adapt_level(&a), 2);
    limit_adapt_set(&a, true, 0);
    cr_assert_eq(limit_adapt_level(&a), 1);
    limit_adapt_pushed_back(&a, 1, 300);
    cr_assert_eq(limit_adapt_level(&a), 1, "an old push-back, and never below one");
    limit_adapt_set(&a, false, 3);
    limit_adapt_pushed_back(&a, 1000, 1000);
    limit_adapt_answered(&a, 1, true, 1001, 1001);
    cr_assert_eq(limit_adapt_level(&a), 3, "fixed");
}

Test(edges, a_refused_size_of_one_byte_still_leaves_something_to_send)
{
    struct limit_learned l = {0};
    limit_learned_refused(&l, 1, 0);
    cr_assert_eq(limit_learned_max(&l, 1000, 1), 1);
    limit_learned_refused(&l, 100000, 1);
    cr_assert_eq(limit_learned_max(&l, 1000, 2), 1, "a larger one teaches nothing");
    cr_assert_eq(limit_learned_max(&l, 1, 3), 1);
    cr_assert_eq(limit_learned_max(&l, 1000, UINT64_C(86400) * 1000000), 1000, "forgotten after a day");
}

Test(edges, probe_answers)
{
    static const struct {
        unsigned status;
        enum api_action action;
    } rows[] = {{200, ACT_DELIVERED}, {204, ACT_DELIVERED}, {404, ACT_SPLIT}, {405, ACT_SPLIT},
                {501, ACT_SPLIT},     {401, ACT_HOLD},      {503, ACT_HOLD},  {199, ACT_HOLD}};
    struct arena arena;
    char words[400];
    arena_init(&arena, 1024, 65536);
    memset(words, 'w', sizeof words);
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct api_reply reply = {.status = rows[i].status, .body = span_of(words, i % 2 ? sizeof words : 0)};
        if (i == 2)
            reply.body = (struct span){0};
        struct api_verdict v;
        transport_http.judge_probe(&reply, &arena, &v);
        cr_assert_eq(v.action, rows[i].action, "%u", rows[i].status);
        cr_assert_leq(v.text.len, 160);
    }
    arena_deinit(&arena);
}

Test(edges, what_never_carried_the_request_leaves_nothing_unknown)
{
    static const enum output_break all[] = {BREAK_CONNECT, BREAK_DENIED, BREAK_UNKNOWN, BREAK_REUSED,
                                            BREAK_CANCELLED};
    for (unsigned i = 0; i < 5; i++) {
        struct api_verdict v;
        transport_http.broke(all[i], "words", &v);
        cr_assert_eq(v.unknown, i >= 2);
        cr_assert_eq(v.action, all[i] == BREAK_DENIED ? ACT_HOLD : ACT_RETRY);
        cr_assert(span_is(v.text, "words"));
    }
}
