/* The rules by which the development upstream misbehaves. */
#include "agent/sink_respond.h"

#include <criterion/criterion.h>

static struct sink_rules rules;

static void setup(void)
{
    sink_rules_init(&rules, 1);
}

static void teardown(void)
{
    sink_rules_clear(&rules);
}

TestSuite(sink_respond, .init = setup, .fini = teardown);

static void add(const char *spec)
{
    struct fault why;
    cr_assert_eq(sink_rules_add(&rules, span_str(spec), &why), OK, "%s: %s", spec, why.text);
}

static struct sink_rule *find(const char *path)
{
    return sink_rules_find(&rules, span_str(path), SPAN("http"));
}

Test(sink_respond, takes_what_its_help_says)
{
    add("status=429, retry-after=2, times=3, header=X-A: b");
    struct sink_rule *r = find("/x");
    cr_assert_not_null(r);
    cr_expect_eq(r->status, 429);
    cr_expect(span_is(r->retry_after, "2"));
    cr_expect_eq(r->header_count, 1);
    cr_expect(span_is(r->headers[0], "X-A: b"));
}

Test(sink_respond, body_takes_the_rest_with_its_commas)
{
    add("status=400,body={\"a\":1,\"b\":2}");
    cr_expect(span_is(find("/x")->body, "{\"a\":1,\"b\":2}"));
}

Test(sink_respond, times_runs_out)
{
    add("status=500,times=2");
    cr_expect_not_null(find("/x"));
    cr_expect_not_null(find("/x"));
    cr_expect_null(find("/x"));
}

Test(sink_respond, after_and_every_count_requests_that_match)
{
    add("path=/a,after=2,every=3");
    static const bool expected[] = {false, false, false, false, true, false, false, true};
    for (unsigned i = 0; i < sizeof expected; i++) {
        cr_expect_null(find("/other"));
        cr_expect_eq(find("/a/b") != NULL, expected[i], "request %u", i);
    }
}

Test(sink_respond, first_rule_that_matches_decides)
{
    add("path=/a,status=401");
    add("status=500");
    cr_expect_eq(find("/a")->status, 401);
    cr_expect_eq(find("/b")->status, 500);
}

Test(sink_respond, api_is_compared_whole)
{
    add("api=htt,status=500");
    cr_expect_null(find("/x"));
}

Test(sink_respond, events_have_results_of_their_own)
{
    add("event=2:status=429,event=*:status=202");
    struct sink_rule *r = find("/x");
    cr_expect_eq(sink_rule_event_status(r, 2), 429);
    cr_expect_eq(sink_rule_event_status(r, 0), 202);
    cr_expect_eq(sink_rule_event_status(NULL, 0), 0);
}

Test(sink_respond, durations_have_units)
{
    add("delay=1500ms,drip=2s");
    struct sink_rule *r = find("/x");
    cr_expect_eq(r->delay_ms, 1500);
    cr_expect_eq(r->drip_ms, 2000);
}

Test(sink_respond, only_an_early_rule_hangs_up_before_the_body)
{
    add("hangup=before");
    cr_expect_not(sink_rules_hangup_early(&rules));
    add("hangup=body,times=1");
    cr_expect(sink_rules_hangup_early(&rules));
    cr_expect_not(sink_rules_hangup_early(&rules));
}

Test(sink_respond, refuses_what_it_does_not_know)
{
    static const char *const bad[] = {"",           "statis=4",        "status=99",
                                      "status=abc", "times=0",         "every=0",
                                      "chance=101", "delay=5",         "hangup=soon",
                                      "event=2",    "event=2:state=1", "garbage=yes",
                                      "store=so",   "header=none",     "header=a\r\nb: c",
                                      "truncate=1", "legacy=kept",     "body=@/no/such/file"};
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct fault why = {0};
        cr_expect_neq(sink_rules_add(&rules, span_str(bad[i]), &why), OK, "'%s'", bad[i]);
        cr_expect_gt(strlen(why.text), 0);
    }
    cr_expect_eq(rules.count, 0);
}

Test(sink_respond, has_room_for_so_many_rules)
{
    struct fault why;
    for (int i = 0; i < SINK_RULES_MAX; i++)
        add("status=500");
    cr_expect_eq(sink_rules_add(&rules, SPAN("status=500"), &why), ERR_FULL);
}
