/* gather: see gather.h. */
#include "agent/gather.h"

static void begin(struct gather *g, uint64_t now_us, unsigned wait_ms)
{
    *g = (struct gather){.since_us = now_us, .wait_ms = wait_ms};
}

/* The time of a measure is over: the longest wait that lets neither too much nor too little expect; 0: there is none. */
static unsigned wait_for_rate(const struct gather *g, uint64_t now_us)
{
    uint64_t took_us = now_us - g->since_us;
    if (g->looks < GATHER_LOOKS || took_us >= 2 * GATHER_WITHIN_US)
        return 0;
    unsigned ms = GATHER_MS_MAX;
    while (ms > 0 && (g->events * ms * US_PER_MS > GATHER_EVENTS * took_us ||
                      g->bytes * ms * US_PER_MS > GATHER_BYTES * took_us))
        ms /= 2;
    return ms;
}

static bool ends(const struct gather_look *look)
{
    return look->bytes == 0 || look->events > GATHER_EVENTS + GATHER_EVENTS / 2 ||
           look->bytes > GATHER_BYTES + GATHER_BYTES / 2;
}

unsigned gather_wait_ms(struct gather *g, const struct gather_look *look)
{
    if (look->asked || (g->wait_ms > 0 && ends(look))) {
        begin(g, look->at_us, 0);
    } else if (g->wait_ms == 0) {
        g->looks++;
        g->events += look->events;
        g->bytes += look->bytes;
        if (look->at_us - g->since_us >= GATHER_WITHIN_US)
            begin(g, look->at_us, wait_for_rate(g, look->at_us));
    }
    return g->wait_ms;
}
