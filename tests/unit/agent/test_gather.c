/* Whoever waits for an answer is never made to wait longer; whoever writes event by event is read many at a time. */
#include "agent/gather.h"

#include <criterion/criterion.h>

/* Feeds `looks` looks, `every_us` apart, and returns what the last one said. */
static unsigned feed(struct gather *g, uint64_t *now_us, unsigned looks, uint64_t every_us, struct gather_look look)
{
    unsigned wait_ms = 0;
    for (unsigned i = 0; i < looks; i++) {
        *now_us += every_us;
        look.at_us = *now_us;
        wait_ms = gather_wait_ms(g, &look);
    }
    return wait_ms;
}

static const struct gather_look one = {.events = 1, .bytes = 300};
static const struct gather_look question = {.events = 1, .bytes = 300, .asked = true};
static const struct gather_look nothing;

Test(gather, begins_with_many_small_looks)
{
    struct gather g = {0};
    uint64_t now = US_PER_S;
    feed(&g, &now, 1, 50, one);
    cr_assert_eq(feed(&g, &now, GATHER_LOOKS, 50, one), 0, "too early to know a rate");
    cr_assert_eq(feed(&g, &now, GATHER_WITHIN_US / 50, 50, one), GATHER_MS_MAX);
}

Test(gather, looks_sooner_for_who_sends_more)
{
    for (unsigned events = 1, before = GATHER_MS_MAX; events < 10; events++) {
        struct gather g = {0};
        uint64_t now = US_PER_S;
        feed(&g, &now, 1, 50, one);
        unsigned ms = feed(&g, &now, GATHER_WITHIN_US / 50, 50, (struct gather_look){.events = events, .bytes = 300});
        cr_assert_leq(ms, before);
        cr_assert_leq(events * ms * 20, GATHER_EVENTS, "one look would bring too much");
        before = ms;
    }
}

Test(gather, never_begins_for_a_slow_sender)
{
    struct gather g = {0};
    uint64_t now = US_PER_S;
    for (unsigned i = 0; i < 1000; i++)
        cr_assert_eq(0, feed(&g, &now, 1, GATHER_WITHIN_US / (GATHER_LOOKS / 2), one));
}

Test(gather, never_begins_for_a_fast_sender)
{
    struct gather g = {0};
    uint64_t now = US_PER_S;
    for (unsigned i = 0; i < 1000; i++)
        cr_assert_eq(0, feed(&g, &now, 1, 50, (struct gather_look){.events = 10, .bytes = 3000}));
    for (unsigned i = 0; i < 1000; i++)
        cr_assert_eq(0, feed(&g, &now, 1, 50, (struct gather_look){.events = 1, .bytes = 30000}));
}

Test(gather, never_begins_for_a_sender_that_asks)
{
    struct gather g = {0};
    uint64_t now = US_PER_S;
    for (unsigned i = 0; i < 1000; i++) {
        cr_assert_eq(0, feed(&g, &now, 1, 50, one));
        cr_assert_eq(0, feed(&g, &now, 1, 50, question));
    }
}

static struct gather gathering(uint64_t *now)
{
    struct gather g = {0};
    *now = US_PER_S;
    while (!feed(&g, now, 1, 50, one))
        cr_assert_lt(*now, 2 * US_PER_S);
    return g;
}

Test(gather, goes_on_while_something_comes)
{
    uint64_t now;
    struct gather g = gathering(&now);
    for (unsigned i = 0; i < 1000; i++)
        cr_assert_eq(feed(&g, &now, 1, GATHER_MS_MAX * US_PER_MS, (struct gather_look){.events = 80, .bytes = 24000}),
                     GATHER_MS_MAX);
}

Test(gather, ends_with_silence_a_question_or_too_much)
{
    const struct gather_look ends[] = {
        nothing, question, {.events = GATHER_EVENTS * 2, .bytes = 300}, {.events = 1, .bytes = GATHER_BYTES * 2}};
    for (unsigned i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        uint64_t now;
        struct gather g = gathering(&now);
        cr_assert_eq(0, feed(&g, &now, 1, GATHER_MS_MAX * US_PER_MS, ends[i]), "end %u", i);
        cr_assert_eq(0, feed(&g, &now, GATHER_LOOKS, 50, one), "and the measure begins anew");
    }
}
