/* decisions: every choice that a simulated run makes, as one stream of small numbers.
 *
 * A run draws all its luck here: delays, sizes, faults, crashes, what a power loss leaves. From a seed the
 * numbers come from a generator and are written down; from a file they are read back, and beyond its end
 * every choice is 0. By convention 0 is the plainest choice (no fault, no crash, the shortest way), so a
 * stream can be cut, thinned and zeroed and is still a run: that is what the shrinker relies on. */
#ifndef PENSTOCK_SIM_DECISIONS_H
#define PENSTOCK_SIM_DECISIONS_H

#include "lib/base/rng.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct decisions {
    uint32_t *made; /* what was chosen so far, or what is to be chosen */
    size_t count, cap, next;
    bool replaying;
    bool plain; /* from now on every choice is 0, and not recorded: the quiet end of a run */
    struct rng rng;
};

void decisions_from_seed(struct decisions *d, uint64_t seed);
void decisions_from_stream(struct decisions *d, const uint32_t *made, size_t count); /* copies */
void decisions_free(struct decisions *d);

/* In [0, bound); bound > 0. */
uint32_t decide(struct decisions *d, uint32_t bound);
/* True once in `one_in` times; never when the choice is 0. one_in 0: never, and nothing is drawn. */
bool decide_rarely(struct decisions *d, uint32_t one_in);
/* A seed for bulk content, from one decision. */
uint64_t decide_seed(struct decisions *d);

#endif
