/* Order: with one request at a time, what arrives of a partition arrives in the order in which it was
 * accepted, under retries, splits, holds, per-event answers and restarts. */
#include "tests/unit/output/rig.h"

#include "lib/base/rng.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#define PARTITIONS 3

struct watch {
    struct rig rig;
    struct rng rng;
    unsigned highest[PARTITIONS];
    bool seen[4000];
    unsigned offered;
};

static unsigned chance(struct watch *w, unsigned of)
{
    return (unsigned)rng_below(&w->rng, of);
}

static void offer(struct watch *w)
{
    static const char *const names[PARTITIONS] = {"a", "b", "c"};
    for (unsigned n = chance(w, 20); n > 0 && w->offered < 3900; n--) {
        char body[16];
        unsigned p = chance(w, PARTITIONS);
        w->offered++;
        (void)snprintf(body, sizeof body, "%u", w->offered);
        rig_offer(&w->rig, names[p], body);
    }
    rig_run(&w->rig);
}

/* Those for which `which` has a d arrive. A repeat of what arrived before is no news. */
static void arrive(struct watch *w, const struct rig_sent *s, const char *which)
{
    unsigned p = (unsigned)(s->partition[0] - 'a'), i = 0;
    for (const char *at = s->body; *at != 0;) {
        if (*at < '0' || *at > '9') {
            at++;
            continue;
        }
        unsigned event = (unsigned)strtoul(at, (char **)&at, 10);
        if (which != NULL && which[i++] != 'd')
            continue;
        if (!w->seen[event])
            cr_assert_gt(event, w->highest[p], "event %u came after %u", event, w->highest[p]);
        w->highest[p] = event > w->highest[p] ? event : w->highest[p];
        w->seen[event] = true;
    }
}

static void answer(struct watch *w, unsigned n)
{
    const struct rig_sent *s = &w->rig.sent[n];
    static const unsigned codes[] = {429, 503, 400, 413, 422, 401, 404, 299, 415};
    unsigned kind = chance(w, 20);
    char fates[64];
    if (kind < 9) {
        if (codes[kind] == 503 && chance(w, 2))
            arrive(w, s, NULL);
        rig_reply(&w->rig, n, codes[kind], "");
    } else if (kind < 11) {
        if (chance(w, 2))
            arrive(w, s, NULL);
        rig_break(&w->rig, n, BREAK_UNKNOWN);
    } else if (kind < 13) { /* a tail that is to be tried again: what was taken lies before it */
        unsigned taken = chance(w, s->count + 1);
        for (unsigned i = 0; i < s->count; i++)
            fates[i] = i >= taken ? 'r' : chance(w, 4) ? 'd' : 'x';
        fates[s->count] = 0;
        arrive(w, s, fates);
        rig_reply(&w->rig, n, 207, fates);
    } else {
        arrive(w, s, NULL);
        rig_reply(&w->rig, n, 200, "");
    }
}

static void run(uint64_t seed)
{
    struct watch *w = calloc(1, sizeof *w);
    rng_seed(&w->rng, seed);
    rig_init(&w->rig);
    w->rig.config.retry_max_us = 2 * US_PER_S;
    rig_start(&w->rig);
    for (unsigned i = 0; i < 3000; i++) {
        unsigned what = chance(w, 100), last = w->rig.sent_count;
        if (what < 15)
            offer(w);
        else if (what < 60 && last > 0 && w->rig.sent[last - 1].open)
            answer(w, last - 1);
        else if (what == 99 && chance(w, 3) == 0)
            rig_restart(&w->rig);
        else
            rig_pass_by_wakes(&w->rig, chance(w, 400000));
    }
    cr_assert_gt(w->highest[0] + w->highest[1] + w->highest[2], 300);
    rig_deinit(&w->rig);
    free(w);
}

Test(order, a_partition_arrives_in_the_order_of_acceptance, .timeout = 120)
{
    for (uint64_t seed = 1; seed <= 20; seed++)
        run(seed);
}
