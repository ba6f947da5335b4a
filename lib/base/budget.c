/* budget: see budget.h. */
#include "lib/base/budget.h"

#include "lib/base/ensure.h"

void budget_init(struct budget *b, uint64_t max)
{
    *b = (struct budget){.max = max};
    list_init(&b->waiting);
}

static bool fits(const struct budget *b, uint64_t bytes)
{
    return b->used == 0 || (b->used < b->max && bytes <= b->max - b->used);
}

static void serve(struct budget *b)
{
    struct list *node;
    while ((node = list_first(&b->waiting)) != NULL) {
        struct budget_claim *c = CONTAINER_OF(node, struct budget_claim, node);
        if (!fits(b, c->bytes))
            return;
        list_remove(node);
        c->waiting = false;
        b->used += c->bytes;
        c->served(c);
    }
}

bool budget_claim(struct budget *b, struct budget_claim *c, uint64_t bytes)
{
    ensure(c->budget == NULL);
    c->budget = b;
    c->bytes = bytes;
    list_init(&c->node);
    c->waiting = !list_empty(&b->waiting) || !fits(b, bytes);
    if (c->waiting)
        list_append(&b->waiting, &c->node);
    else
        b->used += bytes;
    return !c->waiting;
}

void budget_take(struct budget *b, struct budget_claim *c, uint64_t bytes)
{
    ensure(c->budget == NULL);
    c->budget = b;
    c->bytes = bytes;
    c->waiting = false;
    b->used += bytes;
}

void budget_resize(struct budget_claim *c, uint64_t bytes)
{
    struct budget *b = c->budget;
    ensure(b != NULL && !c->waiting && b->used >= c->bytes);
    bool less = bytes < c->bytes;
    b->used = b->used - c->bytes + bytes;
    c->bytes = bytes;
    if (less)
        serve(b);
}

void budget_release(struct budget_claim *c)
{
    struct budget *b = c->budget;
    if (b == NULL)
        return;
    if (c->waiting) {
        list_remove(&c->node);
    } else {
        ensure(b->used >= c->bytes);
        b->used -= c->bytes;
    }
    c->budget = NULL;
    c->bytes = 0;
    c->waiting = false;
    serve(b); /* also when it only waited: who stood behind it may fit */
}

void budget_move(struct budget_claim *from, struct budget_claim *to)
{
    ensure(!from->waiting && to->budget == NULL);
    to->budget = from->budget;
    to->bytes = from->bytes;
    from->budget = NULL;
    from->bytes = 0;
}

bool budget_short(const struct budget *b)
{
    return b->used > b->max || !list_empty((struct list *)(uintptr_t)&b->waiting);
}
