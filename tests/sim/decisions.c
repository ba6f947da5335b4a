/* decisions: see decisions.h. */
#include "tests/sim/decisions.h"

#include <stdlib.h>
#include <string.h>

static void grow(struct decisions *d, size_t count)
{
    if (count <= d->cap)
        return;
    d->cap = count < 4096 ? 4096 : count * 2;
    d->made = realloc(d->made, d->cap * sizeof(*d->made));
    if (d->made == NULL)
        abort();
}

void decisions_from_seed(struct decisions *d, uint64_t seed)
{
    d->count = d->next = 0;
    d->replaying = d->plain = false;
    rng_seed(&d->rng, seed);
}

void decisions_from_stream(struct decisions *d, const uint32_t *made, size_t count)
{
    decisions_from_seed(d, 0);
    grow(d, count);
    if (count > 0)
        memcpy(d->made, made, count * sizeof(*made));
    d->count = count;
    d->replaying = true;
}

void decisions_free(struct decisions *d)
{
    free(d->made);
    *d = (struct decisions){0};
}

uint32_t decide(struct decisions *d, uint32_t bound)
{
    if (d->plain || bound <= 1)
        return 0;
    if (d->replaying)
        return d->next < d->count ? d->made[d->next++] % bound : 0;
    /* The high half of a 64-bit number scaled by multiplication: fast, and even enough for luck. */
    uint32_t choice = (uint32_t)(((rng_next(&d->rng) >> 32) * bound) >> 32);
    grow(d, d->count + 1);
    d->made[d->count++] = choice;
    return choice;
}

bool decide_rarely(struct decisions *d, uint32_t one_in)
{
    return one_in != 0 && (one_in == 1 ? true : decide(d, one_in) == 1);
}

uint64_t decide_seed(struct decisions *d)
{
    return UINT64_C(0x9E3779B97F4A7C15) * (1 + (uint64_t)decide(d, UINT32_C(1) << 30));
}
