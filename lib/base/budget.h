/* budget: an amount of memory that many take from, first come, first served. What does not fit waits, and is told when
 * its turn has come; nobody is refused.
 *
 * Whoever needs more than there is in all is served when nobody else has anything. A claim says at its beginning what it
 * can need at most, so that whoever was served can always get done, and waiting ends; what turned out not to be
 * needed is given back by budget_resize(), which may also take more than was claimed, without waiting: for the little
 * that nobody knew before. */
#ifndef PENSTOCK_BASE_BUDGET_H
#define PENSTOCK_BASE_BUDGET_H

#include "lib/base/list.h"

#include <stdbool.h>
#include <stdint.h>

/* Embedded by its owner, who does not move it while it waits. Zero at first. */
struct budget_claim {
    struct list node;      /* in the budget's waiting list */
    struct budget *budget; /* NULL: it holds nothing and waits for nothing */
    uint64_t bytes;        /* that it holds, or waits for */
    bool waiting;
    /* Its turn has come. Called from another's budget_resize() or budget_release(): only notes it. */
    void (*served)(struct budget_claim *c);
};

struct budget {
    uint64_t max, used;
    struct list waiting; /* claims, longest waiting first */
};

void budget_init(struct budget *b, uint64_t max);
/* True when it was served at once; else it waits, and c->served() follows. */
bool budget_claim(struct budget *b, struct budget_claim *c, uint64_t bytes);
/* Takes it at once, whatever there is; others wait the longer. */
void budget_take(struct budget *b, struct budget_claim *c, uint64_t bytes);
/* Of a claim that holds something: from now on so much. */
void budget_resize(struct budget_claim *c, uint64_t bytes);
/* Gives everything back, or waits no longer. Harmless on an empty claim. */
void budget_release(struct budget_claim *c);
/* What `from` holds is `to`'s from now on; `from` is empty. */
void budget_move(struct budget_claim *from, struct budget_claim *to);
/* More is in use than there should be, or somebody waits. */
bool budget_short(const struct budget *b);

#endif
