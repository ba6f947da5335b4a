/* rng: randomness comes from outside too.
 *
 * A `struct rng` is a xoshiro256** generator seeded by its owner: jitter, sampling, salts and the
 * simulator's decisions. It is not for secrets. What must be unguessable or unique across machines
 * (UUIDs, payload ids, nonces) is drawn from a `struct entropy`, which the agent fills from the kernel
 * and the simulator from its seed. */
#ifndef PENSTOCK_BASE_RNG_H
#define PENSTOCK_BASE_RNG_H

#include <stddef.h>
#include <stdint.h>

struct rng {
    uint64_t s[4];
};

void rng_seed(struct rng *r, uint64_t seed);
uint64_t rng_next(struct rng *r);
/* Uniform in [0, bound); bound > 0. */
uint64_t rng_below(struct rng *r, uint64_t bound);

struct entropy {
    void *ctx;
    void (*fill)(void *ctx, void *into, size_t len); /* never fails; the agent ends the process instead */
};

static inline void entropy_fill(const struct entropy *e, void *into, size_t len)
{
    e->fill(e->ctx, into, len);
}

#endif
