/* The schedule alone: delays, floors, probes, ramp-up, holds. */
#include "lib/output/schedule.h"

#include "lib/base/clock.h"

#include <criterion/criterion.h>

#define MS US_PER_MS
#define S US_PER_S
#define NOW (100 * S)

static struct rng rng;

static struct schedule fresh(void)
{
    struct schedule s;
    rng_seed(&rng, 42);
    schedule_init(&s, 500 * MS, 60 * S, 4);
    return s;
}

Test(schedule, never_before_retry_after)
{
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct schedule s = fresh();
        rng_seed(&rng, seed);
        uint64_t now = 10 * S;
        schedule_failed(&s, schedule_sent(&s), now, 90 * S, false, &rng);
        cr_assert_eq(schedule_slots(&s, now + 90 * S - 1, 0), 0, "retry.max does not shorten it");
        uint64_t wake = schedule_wake_us(&s, now);
        cr_assert_geq(wake, now + 90 * S);
        cr_assert_leq(wake, now + 90 * S + 500 * MS, "spread out a little behind it");
        cr_assert_eq(schedule_slots(&s, wake, 0), 1);
    }
}

Test(schedule, a_floor_holds_for_requests_that_would_be_free_to_go)
{
    struct schedule s = fresh();
    schedule_floor(&s, 10 * S, 5 * S);
    cr_assert_eq(schedule_slots(&s, 14 * S, 0), 0);
    cr_assert_eq(schedule_slots(&s, 15 * S, 0), 4);
}

Test(schedule, delays_are_random_over_the_whole_interval_also_at_the_cap)
{
    struct schedule s = fresh();
    uint64_t low = UINT64_MAX, high = 0, below_half = 0;
    s.failures = 30;
    for (unsigned i = 0; i < 2000; i++) {
        s.phase = SCHEDULE_OK;
        s.failures = 30;
        schedule_failed(&s, schedule_sent(&s), 0, 0, false, &rng);
        low = s.next_us < low ? s.next_us : low;
        high = s.next_us > high ? s.next_us : high;
        below_half += s.next_us < 30 * S;
    }
    cr_assert_leq(high, 60 * S);
    cr_assert_gt(high, 59 * S);
    cr_assert_lt(low, 1 * S);
    cr_assert(below_half > 850 && below_half < 1150);
}

Test(schedule, delays_double_and_the_first_is_jittered_too)
{
    uint64_t bound = 500 * MS, sum_first = 0;
    struct schedule s = fresh();
    uint64_t now = 0;
    for (unsigned i = 0; i < 12; i++) {
        schedule_failed(&s, schedule_sent(&s), now, 0, false, &rng);
        cr_assert_leq(s.next_us - now, bound);
        bound = 2 * bound > 60 * S ? 60 * S : 2 * bound;
        now = s.next_us;
    }
    for (unsigned i = 0; i < 1000; i++) {
        s = fresh();
        rng_seed(&rng, i);
        schedule_failed(&s, schedule_sent(&s), 0, 0, false, &rng);
        sum_first += s.next_us;
    }
    cr_assert(sum_first / 1000 > 200 * MS && sum_first / 1000 < 300 * MS);
}

Test(schedule, an_outage_is_probed_with_one_request)
{
    struct schedule s = fresh();
    uint64_t sent[4];
    for (unsigned i = 0; i < 4; i++)
        sent[i] = schedule_sent(&s);
    for (unsigned i = 0; i < 4; i++)
        schedule_failed(&s, sent[i], S, 0, false, &rng);
    cr_assert_eq(s.failures, 1, "four requests of one moment are one failure");
    uint64_t at = s.next_us;
    cr_assert_eq(schedule_slots(&s, at, 0), 1);
    uint64_t probe = schedule_sent(&s);
    cr_assert_eq(schedule_slots(&s, at + 100 * S, 1), 0, "no second probe beside it");
    schedule_failed(&s, probe, at + S, 0, false, &rng);
    cr_assert_eq(s.failures, 2);
}

Test(schedule, recovery_ramps_up)
{
    struct schedule s = fresh();
    schedule_limits(&s, 500 * MS, 60 * S, 16);
    schedule_failed(&s, schedule_sent(&s), 0, 0, false, &rng);
    schedule_succeeded(&s, schedule_sent(&s), NOW);
    cr_assert_eq(s.phase, SCHEDULE_OK);
    unsigned slots = schedule_slots(&s, 100 * S, 0);
    cr_assert_eq(slots, 2);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < slots; i++)
            schedule_succeeded(&s, schedule_sent(&s), NOW);
        cr_assert_leq(schedule_slots(&s, 100 * S, 0), 2 * slots, "at most double per round trip");
        slots = schedule_slots(&s, 100 * S, 0);
    }
    cr_assert_eq(slots, 16);
}

Test(schedule, old_news_neither_end_an_outage_nor_deepen_it)
{
    struct schedule s = fresh();
    uint64_t early = schedule_sent(&s), late = schedule_sent(&s);
    schedule_failed(&s, late, S, 0, false, &rng);
    uint64_t next = s.next_us;
    schedule_succeeded(&s, early, NOW);
    cr_assert_eq(s.phase, SCHEDULE_RETRYING);
    cr_assert_eq(s.next_us, next);
}

Test(schedule, a_success_does_not_end_a_floor_that_was_set_after_it_was_sent)
{
    struct schedule s = fresh();
    uint64_t first = schedule_sent(&s), other = schedule_sent(&s);
    schedule_failed(&s, first, 10 * S, 0, false, &rng);
    uint64_t probe = schedule_sent(&s);
    schedule_failed(&s, other, 11 * S, 30 * S, false, &rng);
    schedule_succeeded(&s, probe, 12 * S);
    cr_assert_eq(schedule_slots(&s, 41 * S - 1, 0), 0);
    cr_assert_leq(schedule_slots(&s, 200 * S, 0), 1, "and then with one request");
    schedule_succeeded(&s, schedule_sent(&s), 200 * S);
    cr_assert_eq(s.phase, SCHEDULE_OK);
}

Test(schedule, a_success_resets_the_delays)
{
    struct schedule s = fresh();
    for (unsigned i = 0; i < 10; i++)
        schedule_failed(&s, schedule_sent(&s), 0, 0, false, &rng);
    schedule_succeeded(&s, schedule_sent(&s), NOW);
    schedule_failed(&s, schedule_sent(&s), 0, 0, false, &rng);
    cr_assert_leq(s.next_us, 500 * MS);
}

Test(schedule, holds_begin_at_a_second_and_double_up_to_retry_max)
{
    struct schedule s = fresh();
    uint64_t now = S, bound = S;
    for (unsigned i = 0; i < 12; i++) {
        schedule_held(&s, schedule_sent(&s), now, 0, false, &rng);
        uint64_t delay = s.next_us - now;
        cr_assert_geq(delay, S);
        cr_assert(delay <= bound && delay >= bound * 3 / 4);
        bound = 2 * bound > 60 * S ? 60 * S : 2 * bound;
        now = s.next_us;
        cr_assert_eq(schedule_slots(&s, now, 0), 1);
        cr_assert_eq(schedule_slots(&s, now - 1, 0), 0);
    }
}

Test(schedule, an_outage_on_top_of_a_hold_does_not_end_it)
{
    struct schedule s = fresh();
    schedule_held(&s, schedule_sent(&s), 0, 0, false, &rng);
    schedule_failed(&s, schedule_sent(&s), s.next_us, 0, false, &rng);
    cr_assert_eq(s.phase, SCHEDULE_HELD);
    schedule_succeeded(&s, schedule_sent(&s), NOW);
    cr_assert_eq(s.phase, SCHEDULE_OK);
}

Test(schedule, a_welcome_probe_lets_one_batch_go_but_does_not_reset_the_hold)
{
    struct schedule s = fresh();
    for (unsigned i = 0; i < 3; i++)
        schedule_held(&s, schedule_sent(&s), 0, 0, false, &rng);
    schedule_probe_welcome(&s, schedule_sent(&s), 10 * S);
    cr_assert_eq(schedule_slots(&s, 10 * S, 0), 1);
    schedule_held(&s, schedule_sent(&s), 10 * S, 0, false, &rng);
    cr_assert_geq(s.next_us, 16 * S, "the delay goes on growing");
}

Test(schedule, stopped_stays_stopped_until_resumed)
{
    struct schedule s = fresh();
    schedule_held(&s, schedule_sent(&s), 0, 0, true, &rng);
    cr_assert_eq(schedule_slots(&s, UINT64_MAX / 2, 0), 0);
    cr_assert_eq(schedule_wake_us(&s, S), 0);
    schedule_resume(&s, 5 * S);
    cr_assert_eq(schedule_slots(&s, 5 * S, 0), 1);
}

Test(schedule, resume_ends_a_floor_of_days)
{
    struct schedule s = fresh();
    schedule_failed(&s, schedule_sent(&s), 0, 9 * 86400 * S, false, &rng);
    cr_assert(s.quota, "over an hour is a quota");
    cr_assert_eq(schedule_slots(&s, 8 * 86400 * S, 0), 0);
    schedule_resume(&s, S);
    cr_assert_eq(schedule_slots(&s, S, 0), 1);
    cr_assert_not(s.quota);
}

Test(schedule, immediate_retries_stay_a_share_of_requests)
{
    struct schedule s = fresh();
    unsigned retries = 0, sends = 1000;
    for (unsigned i = 0; i < sends; i++) {
        schedule_succeeded(&s, schedule_sent(&s), NOW);
        retries += schedule_take_retry(&s);
    }
    cr_assert_leq(retries, sends / 10 + 10);
}
