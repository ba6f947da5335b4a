#include "lib/base/budget.h"

#include <criterion/criterion.h>

static unsigned order[8], order_len;

struct taker {
    struct budget_claim claim;
    unsigned name;
};

static void on_served(struct budget_claim *c)
{
    order[order_len++] = CONTAINER_OF(c, struct taker, claim)->name;
}

static struct taker taker(unsigned name)
{
    return (struct taker){.claim = {.served = on_served}, .name = name};
}

Test(budget, serves_while_there_is_enough_and_then_in_order)
{
    struct budget b;
    struct taker a = taker(1), c = taker(2), d = taker(3), e = taker(4);
    budget_init(&b, 100);
    cr_expect(budget_claim(&b, &a.claim, 60));
    cr_expect(budget_claim(&b, &c.claim, 40));
    cr_expect_not(budget_claim(&b, &d.claim, 50));
    cr_expect_not(budget_claim(&b, &e.claim, 1), "nobody overtakes");
    cr_expect(budget_short(&b));
    budget_release(&c.claim);
    cr_expect_eq(order_len, 0, "40 are not enough for 50");
    budget_resize(&a.claim, 30);
    cr_expect_eq(order_len, 2);
    cr_expect_eq(order[0], 3);
    cr_expect_eq(order[1], 4);
    cr_expect_eq(b.used, 81);
    budget_release(&a.claim);
    budget_release(&d.claim);
    budget_release(&e.claim);
    budget_release(&e.claim);
    cr_expect_eq(b.used, 0);
}

Test(budget, more_than_all_is_served_alone)
{
    struct budget b;
    struct taker a = taker(1), c = taker(2), d = taker(3);
    budget_init(&b, 100);
    cr_expect(budget_claim(&b, &a.claim, 10));
    cr_expect_not(budget_claim(&b, &c.claim, 500));
    cr_expect_not(budget_claim(&b, &d.claim, 10));
    budget_release(&a.claim);
    cr_expect_eq(order_len, 1);
    cr_expect_eq(b.used, 500);
    budget_release(&c.claim);
    cr_expect_eq(order_len, 2);
    cr_expect_eq(order[1], 3);
}

Test(budget, who_stops_waiting_lets_the_next_one_through)
{
    struct budget b;
    struct taker a = taker(1), c = taker(2), d = taker(3);
    budget_init(&b, 100);
    cr_expect(budget_claim(&b, &a.claim, 50));
    cr_expect_not(budget_claim(&b, &c.claim, 90));
    cr_expect_not(budget_claim(&b, &d.claim, 50));
    budget_release(&c.claim);
    cr_expect_eq(order_len, 1);
    cr_expect_eq(order[0], 3);
    cr_expect_eq(b.used, 100);
}

Test(budget, what_is_taken_without_asking_makes_others_wait)
{
    struct budget b;
    struct taker a = taker(1), c = taker(2), d = taker(3);
    budget_init(&b, 100);
    budget_take(&b, &a.claim, 150);
    cr_expect(budget_short(&b));
    cr_expect_not(budget_claim(&b, &c.claim, 1));
    budget_move(&a.claim, &d.claim);
    budget_release(&a.claim);
    cr_expect_eq(b.used, 150);
    budget_resize(&d.claim, 99);
    cr_expect_eq(order_len, 1);
    cr_expect_not(budget_short(&b));
}
