/* Webhooks: a receiver is asked for its consent before the first delivery, and its rate is kept. */
#include "tests/unit/output/rig.h"

#include "lib/api/cloudevents_api.h"

#include <criterion/criterion.h>

static void begin(struct rig *r)
{
    rig_init(r);
    r->config.api = (struct api_settings){.api = &cloudevents_api,
                                          .output_name = "hook",
                                          .limits = cloudevents_api.limits,
                                          .webhook_origin = SPAN("us.example")};
    r->config.batch_events_max = 1;
    rig_start(r);
    rig_offer_n(r, 3);
    rig_run(r);
    cr_assert(r->probe_open, "the receiver is asked");
    cr_assert_eq(r->sent_count, 0, "and nothing is sent before it answers");
}

static void consent(struct rig *r, unsigned status, struct span origin, struct span rate)
{
    struct api_reply reply = {.status = status, .webhook_origin = origin, .webhook_rate = rate};
    r->probe_open = false;
    output_probed(r->output, status == 0 ? NULL : &reply, BREAK_CONNECT, "refused");
    rig_run(r);
}

static enum output_state state(const struct rig *r)
{
    struct output_status s;
    rig_status(r, &s);
    return s.state;
}

Test(webhook, is_sent_to_after_consent)
{
    struct rig r;
    begin(&r);
    consent(&r, 200, SPAN("*"), SPAN("*"));
    cr_assert_eq(state(&r), OUT_OK);
    cr_assert_eq(r.sent_count, 1);
    rig_deinit(&r);
}

Test(webhook, a_refusal_holds_and_says_why)
{
    struct rig r;
    begin(&r);
    consent(&r, 200, SPAN("others.example"), SPAN(""));
    cr_assert_eq(state(&r), OUT_HELD);
    struct output_status s;
    rig_status(&r, &s);
    cr_assert(strstr(s.error, "did not consent") != NULL);
    cr_assert_eq(r.sent_count, 0);
    rig_pass_by_wakes(&r, 2 * US_PER_S);
    cr_assert(r.probe_open, "it is asked again");
    consent(&r, 200, SPAN("us.example"), SPAN(""));
    cr_assert_eq(r.sent_count, 1);
    rig_deinit(&r);
}

Test(webhook, trouble_on_the_way_is_passing)
{
    static const unsigned statuses[] = {0, 503, 429, 408};
    for (unsigned i = 0; i < 4; i++) {
        struct rig r;
        begin(&r);
        consent(&r, statuses[i], SPAN(""), SPAN(""));
        cr_assert_eq(state(&r), OUT_RETRYING, "%u", statuses[i]);
        rig_pass_by_wakes(&r, 5 * US_PER_S);
        cr_assert(r.probe_open);
        cr_assert_eq(r.sent_count, 0);
        rig_deinit(&r);
    }
}

Test(webhook, the_slower_rate_holds)
{
    for (unsigned ours = 0; ours < 2; ours++) { /* without one of our own, and with a faster one */
        struct rig r;
        rig_init(&r);
        r.config.rate_requests = ours ? 1000 : 0;
        r.config.rate_per_us = 60 * US_PER_S;
        struct output_config kept = r.config;
        rig_deinit(&r);
        begin(&r);
        kept.api = r.config.api;
        kept.batch_events_max = 1;
        r.config = kept;
        output_reconfigure(r.output, &r.config);
        rig_run(&r);
        consent(&r, 200, SPAN("*"), SPAN("1"));
        cr_assert_eq(r.sent_count, 1);
        rig_reply(&r, 0, 202, "");
        rig_pass_by_wakes(&r, 30 * US_PER_S);
        cr_assert_eq(r.sent_count, 1, "one a minute is what the receiver takes");
        rig_pass_by_wakes(&r, 40 * US_PER_S);
        cr_assert_eq(r.sent_count, 2);
        rig_deinit(&r);
    }
}
