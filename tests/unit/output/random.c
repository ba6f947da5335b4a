/* Everything at once, by chance: offers, answers of every kind, breaks, time, restarts, damage, full stores;
 * and an oracle that knows only what the upstream saw. In the end each event is delivered once, or accounted
 * for. */
#include "tests/unit/output/rig.h"

#include "lib/base/rng.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#define EVENTS_MAX 40000

struct world {
    struct rig rig;
    struct rng rng;
    unsigned offered;
    uint8_t *arrived;     /* how often the upstream took it, by event number */
    uint8_t *repeats;     /* how often it may have been taken without our knowing */
    unsigned *by_request; /* payload ids that were seen: same id, same bytes */
    bool healthy, full;   /* full: an answer that was read may not be on disk */
};

static unsigned chance(struct world *w, unsigned of)
{
    return (unsigned)rng_below(&w->rng, of);
}

static void offer_some(struct world *w)
{
    static const char *const partitions[] = {"a", "b", "c", "alone"};
    unsigned n = 1 + chance(w, 30);
    for (; n > 0 && w->offered < EVENTS_MAX; n--) {
        char body[24];
        (void)snprintf(body, sizeof body, "%u", ++w->offered);
        rig_offer(&w->rig, partitions[chance(w, 100) < 97 ? chance(w, 3) : 3], body);
    }
    rig_run(&w->rig);
}

/* The upstream takes these members of the request. */
static void arrive(struct world *w, const struct rig_sent *s, const char *which, bool silently)
{
    unsigned i = 0;
    for (const char *at = s->body; *at != 0;) {
        if (*at < '0' || *at > '9') {
            at++;
            continue;
        }
        unsigned event = (unsigned)strtoul(at, (char **)&at, 10);
        if (which == NULL || which[i] == 'd') {
            if (silently)
                w->repeats[event]++;
            else
                w->arrived[event]++;
        }
        i++;
    }
    cr_assert_eq(i, s->count);
}

static void answer_each(struct world *w, unsigned n)
{
    struct rig_sent *s = &w->rig.sent[n];
    char fates[1024];
    for (unsigned i = 0; i < s->count; i++)
        fates[i] = w->healthy ? 'd' : "dddddrxu"[chance(w, 8)];
    fates[s->count] = 0;
    arrive(w, s, fates, false);
    rig_reply(&w->rig, n, 207, fates);
}

static void answer_one(struct world *w, unsigned n)
{
    struct rig_sent *s = &w->rig.sent[n];
    if (w->healthy || chance(w, 3) > 0) {
        if (chance(w, 4) == 0) {
            answer_each(w, n);
            return;
        }
        arrive(w, s, NULL, false);
        rig_reply(&w->rig, n, 200, "");
        return;
    }
    static const unsigned codes[] = {429, 500, 503, 400, 413, 422, 401, 404, 299, 415, 409};
    static const enum output_break breaks[] = {BREAK_CONNECT, BREAK_UNKNOWN, BREAK_REUSED, BREAK_DENIED};
    unsigned kind = chance(w, 15);
    if (kind < 11) {
        if ((codes[kind] / 100 == 5 || codes[kind] == 299) && chance(w, 2) == 0)
            arrive(w, s, NULL, true);
        if (codes[kind] == 429 && chance(w, 2))
            rig_reply_after(&w->rig, n, 429, "7");
        else
            rig_reply(&w->rig, n, codes[kind], "");
        return;
    }
    enum output_break what = breaks[kind - 11];
    if (what == BREAK_UNKNOWN && chance(w, 2) == 0)
        arrive(w, s, NULL, true);
    rig_break(&w->rig, n, what);
}

static void answer_some(struct world *w)
{
    struct rig *r = &w->rig;
    if (r->probe_open) {
        r->probe_open = false;
        struct api_reply reply = {.status = w->healthy || chance(w, 2) ? 200 : 401};
        output_probed(r->output, &reply, BREAK_UNKNOWN, "");
        rig_run(r);
    }
    unsigned from = r->sent_count > 64 ? r->sent_count - 64 : 0;
    unsigned to = w->healthy ? from + 5000 : r->sent_count;
    for (unsigned n = from; n < r->sent_count && n < to; n++)
        if (r->sent[n].open && (w->healthy || chance(w, 2)))
            answer_one(w, n);
}

/* Requests that were answered are not needed any more. */
static void forget_sent(struct rig *r)
{
    unsigned kept = 0;
    for (unsigned n = 0; n < r->sent_count; n++) {
        if (r->sent[n].open)
            r->sent[kept++] = r->sent[n];
        else
            free(r->sent[n].body);
    }
    r->sent_count = kept;
}

static void restart(struct world *w)
{
    for (unsigned n = 0; n < w->rig.sent_count; n++)
        if (w->rig.sent[n].open && chance(w, 2))
            arrive(w, &w->rig.sent[n], NULL, true);
    rig_restart(&w->rig);
}

static void damage(struct world *w)
{
    struct spool_open_batch open;
    if (!spool_open_batch_next(w->rig.spool, 0, &open))
        return;
    if (chance(w, 2) && open.count > 1)
        fake_corrupt(w->rig.spool, open.assignment.runs[0].first);
    else if (chance(w, 4) == 0)
        fake_drop_batch(w->rig.spool, open.id.batch_no);
    rig_run(&w->rig);
}

static void fill_up(struct world *w)
{
    w->full = chance(w, 2);
    fake_set_dead_full(w->rig.spool, w->full && chance(w, 2));
    fake_set_control_full(w->rig.spool, w->full && chance(w, 2));
    rig_run(&w->rig);
}

static void one_step(struct world *w)
{
    struct rig *r = &w->rig;
    unsigned what = chance(w, 200);
    if (what < 40)
        offer_some(w);
    else if (what < 130)
        answer_some(w);
    else if (what < 190)
        rig_pass_by_wakes(r, chance(w, 3) * 300 * US_PER_MS + chance(w, 1000));
    else if (what < 194)
        fill_up(w);
    else if (what == 194)
        r->wall_ns += (chance(w, 3) - 1) * UINT64_C(3600) * NS_PER_S;
    else if (what == 195 && !w->full && chance(w, 4) == 0)
        restart(w);
    else if (what == 196)
        damage(w);
    else if (what == 197)
        chance(w, 2) ? output_pause(r->output) : output_resume(r->output);
    else if (what == 198)
        output_flush(r->output);
    else if (what == 199 && chance(w, 4) == 0)
        output_reconfigure(r->output, &r->config);
    rig_run(r);
    if (r->sent_count > 1000)
        forget_sent(r);
}

static void heal(struct world *w)
{
    w->healthy = true;
    fake_set_dead_full(w->rig.spool, false);
    fake_set_control_full(w->rig.spool, false);
    output_resume(w->rig.output);
    for (unsigned i = 0; i < 20000; i++) {
        forget_sent(&w->rig);
        answer_some(w);
        rig_pass_by_wakes(&w->rig, US_PER_S);
        forget_sent(&w->rig);
        struct spool_ledger ledger;
        spool_ledger(w->rig.spool, &ledger);
        if (ledger.pending == 0)
            return;
    }
    cr_assert_fail("a healthy upstream drains everything");
}

static void check(struct world *w)
{
    struct output_status status;
    rig_status(&w->rig, &status);
    uint64_t repeats = 0;
    for (unsigned i = 1; i <= w->offered; i++) {
        const struct fake_record *r = fake_record(w->rig.spool, i);
        unsigned event = (unsigned)strtoul(r->body, NULL, 10);
        unsigned took = w->arrived[event] + w->repeats[event];
        switch (r->fate) {
        case FAKE_PENDING:
            cr_assert_fail("event %u is still pending", event);
            break;
        case FAKE_DELIVERED:
            cr_assert_eq(w->arrived[event], 1, "event %u arrived %u times with our knowing", event,
                         w->arrived[event]);
            break;
        case FAKE_DEAD:
            cr_assert_eq(w->arrived[event], 0);
            break;
        case FAKE_DROPPED:
            cr_assert_leq(w->arrived[event], 1); /* an answer may cross with the policy that dropped it */
            break;
        }
        repeats += took > 1 ? took - 1 : 0;
    }
    cr_assert_leq(repeats, status.repeated, "the count of repeats is an upper bound");
    cr_assert(output_idle(w->rig.output));
    cr_assert_eq(fake_batches(w->rig.spool), 0);
}

static void run(uint64_t seed, unsigned steps)
{
    struct world *w = calloc(1, sizeof *w);
    w->arrived = calloc(EVENTS_MAX + 1, 1);
    w->repeats = calloc(EVENTS_MAX + 1, 1);
    rng_seed(&w->rng, seed);
    rig_has_probe = seed % 2;
    rig_init(&w->rig);
    w->rig.config.concurrency = 1 + chance(w, 5);
    w->rig.config.concurrency_auto = chance(w, 3) == 0;
    w->rig.config.batch_events_max = 1 + chance(w, 40);
    w->rig.config.batch_bytes_max = 20 + chance(w, 2) * 500;
    w->rig.config.retry_max_us = 3 * US_PER_S;
    w->rig.config.payload_budget_bytes = chance(w, 2) ? 0 : 300 + chance(w, 3000);
    if (chance(w, 3) == 0) {
        w->rig.config.rate_requests = 50;
        w->rig.config.rate_per_us = 10 * US_PER_S;
    }
    rig_start(&w->rig);
    fake_set_window(w->rig.spool, chance(w, 2) ? 65536 : 50 + chance(w, 100));
    for (unsigned i = 0; i < steps; i++)
        one_step(w);
    heal(w);
    check(w);
    rig_deinit(&w->rig);
    free(w->arrived);
    free(w->repeats);
    free(w);
}

/* Ten seeds of 10,000 steps each. */
#define SEED(n) \
    Test(random, each_event_ends_once_seed_##n, .timeout = 120) \
    { \
        run(n, 10000); \
    }
SEED(1)
SEED(2)
SEED(3)
SEED(4)
SEED(5)
SEED(6)
SEED(7)
SEED(8)
SEED(9)
SEED(10)

/* PENSTOCK_SEEDS=N in the environment runs N further ones. */
Test(random, each_event_ends_once_further_seeds, .timeout = 3600)
{
    const char *text = getenv("PENSTOCK_SEEDS");
    uint64_t count = text == NULL ? 0 : strtoull(text, NULL, 10);
    for (uint64_t seed = 1000; seed < 1000 + count; seed++) {
        if (count > 1)
            (void)fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
        run(seed, 4000);
    }
}
