/* Rate, pace, learned sizes, concurrency that finds its level. */
#include "lib/output/limit.h"

#include "lib/base/clock.h"

#include <criterion/criterion.h>
#include <stdlib.h>

Test(limit, no_window_of_one_period_holds_more_than_the_rate)
{
    const struct {
        uint64_t requests, per_us;
    } rates[] = {{60, 60 * US_PER_S}, {1, US_PER_S},         {5, US_PER_S},
                 {100, US_PER_S},     {1000, 60 * US_PER_S}, {3, 7}};
    for (unsigned i = 0; i < sizeof rates / sizeof rates[0]; i++) {
        struct limit_rate l = {0};
        limit_rate_set(&l, rates[i].requests, rates[i].per_us);
        enum { SENDS = 3000 };
        uint64_t *at = malloc(SENDS * sizeof *at), now = 12345;
        for (unsigned n = 0; n < SENDS; n++) {
            if (limit_rate_at_us(&l) > now)
                now = limit_rate_at_us(&l);
            if (n == 1000)
                now += 100 * rates[i].per_us; /* idle: the burst may fill, and no more */
            cr_assert_geq(limit_rate_tokens(&l, now, 5), 1);
            limit_rate_take(&l, now);
            at[n] = now;
            if (n >= rates[i].requests)
                cr_assert_geq(at[n] - at[n - rates[i].requests], rates[i].per_us - 1, "rate %u, send %u", i,
                              n);
        }
        free(at);
    }
}

Test(limit, tokens_are_what_may_be_taken_now)
{
    struct limit_rate l = {0};
    limit_rate_set(&l, 100, US_PER_S);
    uint64_t now = 50 * US_PER_S;
    unsigned tokens = limit_rate_tokens(&l, now, 1000);
    cr_assert_eq(tokens, 10);
    for (unsigned i = 0; i < tokens; i++)
        limit_rate_take(&l, now);
    cr_assert_eq(limit_rate_tokens(&l, now, 1000), 0);
    cr_assert_gt(limit_rate_at_us(&l), now);
    cr_assert_eq(limit_rate_tokens(&l, limit_rate_at_us(&l), 1000), 1);
}

Test(limit, no_rate_means_no_limit)
{
    struct limit_rate l = {0};
    limit_rate_set(&l, 0, 0);
    cr_assert_eq(limit_rate_tokens(&l, 0, 7), 7);
    cr_assert_eq(limit_rate_at_us(&l), 0);
}

Test(limit, a_refused_size_is_halved_for_a_while)
{
    struct limit_learned l = {0};
    cr_assert_eq(limit_learned_max(&l, 1000, 0), 1000);
    limit_learned_refused(&l, 900, 0);
    cr_assert_eq(limit_learned_max(&l, 1000, US_PER_S), 450);
    limit_learned_refused(&l, 450, US_PER_S);
    cr_assert_eq(limit_learned_max(&l, 1000, 2 * US_PER_S), 225);
    cr_assert_eq(limit_learned_max(&l, 1000, 602 * US_PER_S), 450);
    cr_assert_eq(limit_learned_max(&l, 1000, 2000 * US_PER_S), 1000);
}

Test(limit, concurrency_finds_its_level_below_the_ceiling)
{
    struct limit_adapt a = {0};
    limit_adapt_set(&a, true, 8);
    cr_assert_eq(limit_adapt_level(&a), 1);
    uint64_t n = 0;
    for (unsigned i = 0; i < 200; i++, n++)
        limit_adapt_answered(&a, 50 * US_PER_MS, true, n, n);
    cr_assert_eq(limit_adapt_level(&a), 8);
    limit_adapt_pushed_back(&a, n + 1, n + 8);
    cr_assert_eq(limit_adapt_level(&a), 4);
    limit_adapt_pushed_back(&a, n + 2, n + 8);
    cr_assert_eq(limit_adapt_level(&a), 4, "requests of one moment are cut once");
    for (unsigned i = 0; i < 100; i++, n += 10)
        limit_adapt_answered(&a, 500 * US_PER_MS, true, n + 10, n + 10);
    cr_assert_lt(limit_adapt_level(&a), 4, "round trips ten times the best mean a queue");
}

Test(limit, concurrency_does_not_grow_while_it_is_not_used)
{
    struct limit_adapt a = {0};
    limit_adapt_set(&a, true, 8);
    for (unsigned i = 0; i < 200; i++)
        limit_adapt_answered(&a, 50 * US_PER_MS, false, i, i);
    cr_assert_eq(limit_adapt_level(&a), 1);
}

Test(limit, short_outages_are_caught_up_at_full_speed_and_long_ones_are_paced)
{
    struct limit_pace p = {0};
    uint64_t now = US_PER_S;
    for (unsigned i = 0; i < 600; i++, now += 500 * US_PER_MS)
        limit_pace_sent(&p, now, true); /* two a second */
    limit_pace_begin(&p, now - 60 * US_PER_S, now, 1000);
    cr_assert_not(p.on);
    limit_pace_begin(&p, now - 3600 * US_PER_S, now, 1000);
    cr_assert(p.on);
    cr_assert(p.per_minute >= 220 && p.per_minute <= 260, "%u", (unsigned)p.per_minute);
    limit_pace_check(&p, now + 21 * US_PER_S, 900, false);
    cr_assert_leq(p.per_minute, 260, "the backlog shrinks: no faster");
    uint64_t before = p.per_minute;
    limit_pace_check(&p, now + 42 * US_PER_S, 950, false);
    cr_assert_eq(p.per_minute, 2 * before, "it grows: faster");
    limit_pace_check(&p, now + 63 * US_PER_S, 5, true);
    cr_assert_not(p.on);
}
