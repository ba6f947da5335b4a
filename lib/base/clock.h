/* clock: time comes from outside, so that tests and the simulator can drive it.
 *
 * Delays, ages and rates use mono_us (never goes back, counts on through clock steps); wall_ns only
 * stamps events, files and Retry-After dates and is never compared for order. */
#ifndef PENSTOCK_BASE_CLOCK_H
#define PENSTOCK_BASE_CLOCK_H

#include <stdint.h>

struct clock {
    void *ctx;
    uint64_t (*mono_us)(void *ctx);
    uint64_t (*wall_ns)(void *ctx); /* Unix time */
};

static inline uint64_t clock_mono_us(const struct clock *c)
{
    return c->mono_us(c->ctx);
}

static inline uint64_t clock_wall_ns(const struct clock *c)
{
    return c->wall_ns(c->ctx);
}

#define NS_PER_S UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)
#define US_PER_S UINT64_C(1000000)
#define US_PER_MS UINT64_C(1000)

#endif
