/* queue: what is to happen in a simulated world, soonest first: a binary heap.
 *
 * Two things at the same moment happen in the order in which they were put in, so a run is a function of its
 * decisions alone. */
#ifndef PENSTOCK_SIM_QUEUE_H
#define PENSTOCK_SIM_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#define QUEUE_MAX 16384

struct due {
    uint64_t at_us, order; /* order: ever larger */
    int kind;              /* the world's own */
    unsigned life;         /* of the process that it belongs to; 0: of the world */
    uint64_t a, b, c;
};

struct queue {
    unsigned count;
    struct due heap[QUEUE_MAX];
};

bool queue_put(struct queue *q, const struct due *d); /* false: it is full */
struct due queue_take(struct queue *q);               /* of one that is not empty */

#endif
