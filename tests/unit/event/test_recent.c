/* recent: what was accepted is known for five minutes, within a bound, and not a moment before or longer. */
#include "lib/event/recent.h"

#include "lib/base/bytes.h"
#include "lib/base/rng.h"

#include <criterion/criterion.h>
#include <stdlib.h>

#define WINDOW 1000

Test(recent, same_different_new)
{
    struct recent r;
    recent_init(&r, 64, WINDOW);
    cr_expect_eq(recent_look(&r, 1, 10, 0), RECENT_NEW);
    cr_expect(!recent_put(&r, 1, 10, 5, 5));
    cr_expect(recent_put(&r, 1, 10, 5, 5));
    cr_expect_eq(recent_look(&r, 1, 10, 5), RECENT_SAME);
    cr_expect_eq(recent_look(&r, 1, 11, 5), RECENT_DIFFERENT);
    cr_expect_eq(recent_look(&r, 2, 10, 5), RECENT_NEW);
    recent_put(&r, 1, 11, 6, 6);
    cr_expect_eq(recent_look(&r, 1, 10, 6), RECENT_SAME, "an update does not make the first unknown");
    cr_expect_eq(recent_look(&r, 1, 11, 6), RECENT_SAME);
    cr_expect_eq(recent_look(&r, 1, 12, 6), RECENT_DIFFERENT);
    recent_deinit(&r);
}

Test(recent, what_was_not_stored_is_forgotten)
{
    struct recent r;
    recent_init(&r, 64, WINDOW);
    recent_forget(&r, 1, 10);
    for (uint64_t round = 0; round < 3; round++) {
        for (uint64_t key = 1; key <= 200; key++) {
            recent_put(&r, key, 10, round, round);
            if (key % 2 == 0)
                recent_forget(&r, key, 10);
            cr_expect_eq(recent_look(&r, key, 10, round), key % 2 == 0 ? RECENT_NEW : RECENT_SAME);
        }
    }
    recent_put(&r, 300, 10, 3, 3);
    recent_forget(&r, 300, 11);
    cr_expect_eq(recent_look(&r, 300, 10, 3), RECENT_SAME);
    recent_expire(&r, 4 + WINDOW);
    cr_expect_eq(r.count, 0);
    recent_deinit(&r);
}

Test(recent, window_is_kept_to_the_microsecond)
{
    struct recent r;
    recent_init(&r, 64, WINDOW);
    recent_put(&r, 1, 10, 5, 5);
    cr_expect_eq(recent_look(&r, 1, 10, 5 + WINDOW), RECENT_SAME);
    cr_expect_eq(recent_look(&r, 1, 10, 6 + WINDOW), RECENT_NEW);
    recent_put(&r, 2, 20, 0, 2 * WINDOW); /* long past when it is put back */
    cr_expect_eq(recent_look(&r, 2, 20, 2 * WINDOW), RECENT_NEW);
    recent_expire(&r, 6 + WINDOW);
    cr_expect_eq(r.count, 0);
    cr_expect_null(r.ring, "memory is given back");
    recent_deinit(&r);
}

Test(recent, oldest_leave_at_the_bound)
{
    struct recent r;
    recent_init(&r, 128, WINDOW);
    for (uint64_t key = 1; key <= 129; key++)
        recent_put(&r, key, key, 0, 0);
    cr_expect_eq(r.count, 128);
    cr_expect_eq(recent_look(&r, 1, 1, 0), RECENT_NEW);
    for (uint64_t key = 2; key <= 129; key++)
        cr_expect_eq(recent_look(&r, key, key, 0), RECENT_SAME);
    recent_deinit(&r);
}

Test(recent, one_key_with_many_contents_stays_small)
{
    struct recent r;
    recent_init(&r, 1024, WINDOW);
    for (uint64_t content = 1; content <= 100; content++)
        recent_put(&r, 7, content, content, content);
    size_t known = 0;
    for (size_t place = 0; place < 2 * r.room; place++)
        known += r.table[place].at != 0;
    cr_expect_eq(known, 8);
    for (uint64_t content = 93; content <= 100; content++)
        cr_expect_eq(recent_look(&r, 7, content, 100), RECENT_SAME, "%lu", content);
    cr_expect_eq(recent_look(&r, 7, 1, 100), RECENT_DIFFERENT);
    recent_expire(&r, 101 + WINDOW);
    cr_expect_eq(r.count, 0);
    recent_deinit(&r);
}

/* Against the plainest memory: a list of all that was put, asked from the end. Keys collide on purpose. */
Test(recent, agrees_with_a_plain_list)
{
    enum { STEPS = 20000, MAX = 256 };
    static struct recent_entry list[STEPS];
    struct rng rng;
    struct recent r;
    rng_seed(&rng, 42);
    recent_init(&r, MAX, WINDOW);
    size_t count = 0;
    uint64_t now = 0;
    for (int step = 0; step < STEPS; step++) {
        uint64_t key = (rng_below(&rng, 100) << 40 | rng_below(&rng, 2)) + 1, content = rng_below(&rng, 3);
        now += rng_below(&rng, 10);
        enum recent_answer expected = RECENT_NEW;
        for (size_t i = 0; i < count; i++)
            if (list[i].key == key && now - list[i].at_us <= WINDOW) {
                if (list[i].content == content)
                    expected = RECENT_SAME;
                else if (expected == RECENT_NEW)
                    expected = RECENT_DIFFERENT;
            }
        cr_assert_eq(recent_look(&r, key, content, now), expected, "step %d", step);
        if (expected != RECENT_SAME) {
            recent_put(&r, key, content, now, now);
            list[count++] = (struct recent_entry){.key = key, .content = content, .at_us = now};
        }
        if (step % 100 == 0)
            recent_expire(&r, now);
        cr_assert_leq(r.count, MAX);
    }
    recent_deinit(&r);
}
