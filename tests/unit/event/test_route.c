/* route: the first that matches decides; sampling keeps exactly one in N and says so. */
#include "lib/event/route.h"

#include "tests/unit/event/reading.h"

#include <criterion/criterion.h>

static const unsigned to_a[] = {0}, to_ab[] = {0, 1}, to_b[] = {1};

static struct rng rng;

static const struct route *where(struct route *routes, unsigned count, struct event *e, const char *input,
                                 enum route_answer *answer)
{
    struct route_table t = {.routes = routes, .count = count, .rng = &rng};
    const struct route *r = NULL;
    *answer = route_event(&t, e, span_str(input), &r);
    return r;
}

Test(route, first_match_wins)
{
    struct route routes[] = {
        {.type = SPAN("billing.*"), .input = SPAN("udp"), .to = to_ab, .to_count = 2},
        {.type = SPAN("billing.*"), .to = to_b, .to_count = 1},
        {.subject = SPAN("u-*"), .source = SPAN("/shop*"), .to = to_a, .to_count = 1},
        {.api = SPAN("honeycomb"), .to = to_a, .to_count = 1},
    };
    struct event e = {.type = SPAN("billing.paid"), .source = SPAN("/shop/eu"), .sampledrate = 1};
    enum route_answer answer;
    cr_expect_eq(where(routes, 4, &e, "udp", &answer), &routes[0]);
    cr_expect_eq(where(routes, 4, &e, "http", &answer), &routes[1]);
    e.type = SPAN("login");
    (void)where(routes, 4, &e, "http", &answer);
    cr_expect_eq(answer, ROUTE_NONE,
                 "an absent subject matches no glob, and a vendor's route no neutral event");
    e.subject = SPAN("u-7");
    cr_expect_eq(where(routes, 4, &e, "http", &answer), &routes[2]);
    cr_expect_eq(answer, ROUTE_TO);
    cr_expect_eq(e.sampledrate, 1);
}

Test(route, sampling_keeps_one_of_each_block)
{
    struct route route = {.sample = 10, .to = to_a, .to_count = 1};
    rng_seed(&rng, 7);
    for (int block = 0; block < 50; block++) {
        int kept = 0;
        for (int i = 0; i < 10; i++) {
            struct event e = {.type = SPAN("debug"), .sampledrate = 3};
            enum route_answer answer;
            (void)where(&route, 1, &e, "http", &answer);
            kept += answer == ROUTE_TO;
            if (answer == ROUTE_TO)
                cr_expect_eq(e.sampledrate, 30);
            else
                cr_expect_eq(answer, ROUTE_SAMPLED);
        }
        cr_expect_eq(kept, 1);
    }
}

Test(route, sampledrate_reaches_the_json_and_does_not_overflow)
{
    static const char *const lines[][2] = {
        {"{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/"
         "s\",\"type\":\"t\",\"time\":\"2026-05-04T09:12:33Z\"}",
         "{\"sampledrate\":5,\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\","
         "\"time\":\"2026-05-04T09:12:33Z\"}"},
        {"{\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\",\"time\":\"2026-05-04T09:12:33Z\"}",
         "{\"specversion\":\"1.0\",\"sampledrate\":5,\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\","
         "\"time\":\"2026-05-04T09:12:33Z\"}"},
        {"{\"id\":\"1\",\"source\":\"/"
         "s\",\"type\":\"t\",\"time\":\"2026-05-04T09:12:33Z\",\"sampledrate\":2}",
         "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\","
         "\"time\":\"2026-05-04T09:12:33Z\",\"sampledrate\":10}"},
        {"{\"id\":\"1\",\"source\":\"/"
         "s\",\"type\":\"t\",\"time\":\"2026-05-04T09:12:33Z\",\"sampledrate\":null}",
         "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\","
         "\"time\":\"2026-05-04T09:12:33Z\",\"sampledrate\":5}"},
    };
    struct reading r;
    reading_init(&r);
    for (size_t i = 0; i < 4; i++) {
        struct event e;
        struct fault why;
        struct bytes out;
        cr_assert_eq(event_read_line(&r.in, span_str(lines[i][0]), &e, &why), OK, "%s", why.text);
        event_multiply_sampledrate(&e, 5);
        bytes_init(&out, event_json_bound(&e));
        cr_assert_eq(event_append_json(&out, &e, true), OK);
        cr_expect(span_is(bytes_span(&out), lines[i][1]), "%.*s", SPAN_FMT(bytes_span(&out)));
        bytes_deinit(&out);
        event_multiply_sampledrate(&e, UINT32_MAX);
        cr_expect_eq(e.sampledrate, INT32_MAX);
    }
    reading_deinit(&r);
}

Test(route, vendor_paths_are_touched_only_by_routes_that_name_an_api)
{
    struct route routes[] = {
        {.to = to_a, .to_count = 1},
        {.api = SPAN("honeycomb"), .type = SPAN("x"), .to = to_a, .to_count = 1},
        {.api = SPAN("honeycomb"), .input = SPAN("http"), .to = to_b, .to_count = 1},
    };
    struct route_table t = {.routes = routes, .count = 3};
    cr_expect_eq(route_vendor(&t, SPAN("honeycomb"), SPAN("http")), &routes[2]);
    cr_expect_null(route_vendor(&t, SPAN("honeycomb"), SPAN("other")));
    cr_expect_null(route_vendor(&t, SPAN("monk"), SPAN("http")));
}
