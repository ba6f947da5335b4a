/* A thousand outputs and one upstream that goes away for two weeks and comes back. In virtual time: what the
 * upstream sees in any ten seconds after its return stays below three times what it saw before, and nobody
 * comes before the floor that a Retry-After set. */
#include "tests/unit/output/rig.h"

#include "lib/base/ensure.h"
#include "lib/base/rng.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#define AGENTS 1000
#define LATENCY_US (50 * US_PER_MS)
#define EVENT_EVERY_US US_PER_S
#define STEADY_US (130 * US_PER_S)
#define OUTAGE_US (UINT64_C(14) * 86400 * US_PER_S)
#define RETURN_US (400 * US_PER_S)
#define WINDOW_US (10 * US_PER_S)
#define LAST_US (3600 * US_PER_S) /* of the outage, with the default retry.max */
#define BACKLOG 500

struct flight {
    struct batch *batch;
    uint64_t due_us;
};

struct agent {
    struct output *output;
    struct spool *spool;
    struct flight flights[8];
    unsigned flight_count;
    uint64_t next_event_us, next_us, floor_us;
};

struct fleet {
    uint64_t now_us;
    struct agent agents[AGENTS];
    unsigned heap[AGENTS]; /* agents, the next one to act first */
    struct rng rng;
    struct arena arena;
    bool up, feeding;
    uint64_t requests, window[128];
    uint64_t window_start_us;
    uint64_t early; /* requests before a floor */
};

static uint64_t mono_us(void *ctx)
{
    return ((struct fleet *)ctx)->now_us;
}

static uint64_t wall_ns(void *ctx)
{
    return UINT64_C(1800000000) * NS_PER_S + ((struct fleet *)ctx)->now_us * 1000;
}

static void sift_down(struct fleet *f, unsigned i)
{
    for (;;) {
        unsigned least = i;
        for (unsigned child = 2 * i + 1; child <= 2 * i + 2 && child < AGENTS; child++)
            if (f->agents[f->heap[child]].next_us < f->agents[f->heap[least]].next_us)
                least = child;
        if (least == i)
            return;
        unsigned swap = f->heap[i];
        f->heap[i] = f->heap[least];
        f->heap[least] = swap;
        i = least;
    }
}

static void request_comes(struct fleet *f, struct agent *a, struct batch *b)
{
    struct output_request req;
    arena_reset(&f->arena);
    output_request(a->output, b, &f->arena, &req);
    ensure(a->flight_count < 8);
    a->flights[a->flight_count++] = (struct flight){b, f->now_us + LATENCY_US};
    f->requests++;
    f->early += f->now_us < a->floor_us;
    uint64_t window = (f->now_us - f->window_start_us) / WINDOW_US;
    if (window < sizeof f->window / sizeof f->window[0])
        f->window[window]++;
}

static void answers(struct fleet *f, struct agent *a)
{
    for (unsigned i = 0; i < a->flight_count;) {
        if (a->flights[i].due_us > f->now_us) {
            i++;
            continue;
        }
        struct batch *b = a->flights[i].batch;
        a->flights[i] = a->flights[--a->flight_count];
        struct api_reply reply = {.status = f->up ? 200 : 503};
        unsigned kind = f->up ? 9 : (unsigned)rng_below(&f->rng, 10);
        if (kind == 0) {
            reply.retry_after = SPAN("45");
            a->floor_us = f->now_us + 45 * US_PER_S;
        }
        if (kind >= 1 && kind < 4)
            output_broke(a->output, b, BREAK_CONNECT, "refused");
        else
            output_replied(a->output, b, &reply);
    }
}

static void offer(struct fleet *f, struct agent *a, unsigned n)
{
    struct api_item items[BACKLOG];
    uint64_t seq;
    for (unsigned i = 0; i < n; i++)
        items[i] = (struct api_item){.body = SPAN("1"), .partition = SPAN("p")};
    ensure(output_offer(a->output, items, n, wall_ns(f), &seq) == OK);
}

static void act(struct fleet *f, struct agent *a)
{
    answers(f, a);
    if (f->feeding && f->now_us >= a->next_event_us) {
        offer(f, a, 1);
        a->next_event_us += EVENT_EVERY_US;
    }
    struct spool_note note;
    do {
        while (fake_note_next(a->spool, &note))
            output_note(a->output, &note);
        struct output_wish wish;
        while ((wish = output_step(a->output)).kind != WISH_NOTHING)
            if (wish.kind == WISH_SEND)
                request_comes(f, a, wish.batch);
        if (!fake_note_next(a->spool, &note))
            break;
        output_note(a->output, &note);
    } while (true);
    uint64_t wake = output_wake_us(a->output);
    a->next_us = wake == 0 ? UINT64_MAX : wake <= f->now_us ? f->now_us + 1 : wake;
    for (unsigned i = 0; i < a->flight_count; i++)
        a->next_us = a->flights[i].due_us < a->next_us ? a->flights[i].due_us : a->next_us;
    if (f->feeding && a->next_event_us < a->next_us)
        a->next_us = a->next_event_us;
}

static void run_until(struct fleet *f, uint64_t end_us)
{
    for (;;) {
        struct agent *a = &f->agents[f->heap[0]];
        if (a->next_us > end_us)
            break;
        if (a->next_us > f->now_us)
            f->now_us = a->next_us;
        act(f, a);
        sift_down(f, 0);
    }
    f->now_us = end_us;
}

/* Everybody looks again: something changed outside of them. */
static void stir(struct fleet *f)
{
    for (unsigned i = 0; i < AGENTS; i++)
        act(f, &f->agents[i]);
    for (unsigned i = AGENTS; i-- > 0;)
        sift_down(f, i);
}

static struct output_config config_of(uint64_t retry_max_us)
{
    return (struct output_config){
        .api = {.api = &rig_api, .output_name = "herd", .limits = rig_api.limits},
        .batch_events_max = 2,
        .batch_bytes_max = 1 << 20,
        .batch_wait_us = US_PER_S / 2,
        .concurrency = 4,
        .retry_initial_us = 500 * US_PER_MS,
        .retry_max_us = retry_max_us,
        .request_timeout_us = 30 * US_PER_S,
    };
}

static void start(struct fleet *f, const struct clock *clock)
{
    struct output_config config =
        config_of(3600 * US_PER_S); /* for the test's own sake: fewer probes in two weeks */
    struct spool_note opened = {.kind = NOTE_OPENED};
    for (unsigned i = 0; i < AGENTS; i++) {
        struct agent *a = &f->agents[i];
        a->spool = fake_new();
        a->output = output_new(&config, a->spool, clock, i);
        a->next_event_us = f->now_us + rng_below(&f->rng, US_PER_S);
        a->next_us = a->next_event_us;
        f->heap[i] = i;
        output_note(a->output, &opened);
    }
    for (unsigned i = AGENTS; i-- > 0;)
        sift_down(f, i);
}

static uint64_t peak(const struct fleet *f, uint64_t from_us, uint64_t to_us)
{
    uint64_t most = 0;
    for (uint64_t w = (from_us - f->window_start_us) / WINDOW_US;
         w < (to_us - f->window_start_us) / WINDOW_US; w++)
        most = f->window[w] > most ? f->window[w] : most;
    return most;
}

Test(herd, an_upstream_that_returns_after_weeks_is_not_overrun, .timeout = 300)
{
    struct fleet *f = must_alloc(sizeof *f);
    struct clock clock = {f, mono_us, wall_ns};
    f->now_us = f->window_start_us = US_PER_S;
    f->up = f->feeding = true;
    rng_seed(&f->rng, 1);
    arena_init(&f->arena, 4096, 1 << 20);
    start(f, &clock);
    run_until(f, f->now_us + STEADY_US);
    uint64_t steady = peak(f, f->now_us - STEADY_US / 2, f->now_us);
    cr_assert_geq(steady, AGENTS * WINDOW_US / (2 * US_PER_S));

    f->up = f->feeding = false;
    for (unsigned i = 0; i < AGENTS; i++)
        offer(f, &f->agents[i], BACKLOG); /* what the spools bear; the rest of two weeks was refused */
    stir(f);
    uint64_t before = f->requests;
    run_until(f, f->now_us + OUTAGE_US);
    uint64_t probes = f->requests - before;
    cr_assert_lt(probes, AGENTS * (OUTAGE_US / (1000 * US_PER_S)), "an outage is not stormed");
    struct output_config usual = config_of(60 * US_PER_S);
    for (unsigned i = 0; i < AGENTS; i++)
        output_reconfigure(f->agents[i].output, &usual);
    stir(f);
    run_until(f, f->now_us + LAST_US);

    f->up = f->feeding = true;
    f->window_start_us = f->now_us;
    memset(f->window, 0, sizeof f->window);
    for (unsigned i = 0; i < AGENTS; i++)
        f->agents[i].next_event_us = f->now_us + rng_below(&f->rng, US_PER_S);
    stir(f);
    run_until(f, f->now_us + RETURN_US);
    uint64_t worst = peak(f, f->window_start_us, f->window_start_us + RETURN_US);
    cr_assert_lt(worst, 3 * steady, "%u requests in ten seconds, %u before the outage", (unsigned)worst,
                 (unsigned)steady);
    cr_assert_eq(f->early, 0, "no request before the floor");
    uint64_t pending = 0;
    for (unsigned i = 0; i < AGENTS; i++) {
        struct spool_ledger l;
        spool_ledger(f->agents[i].spool, &l);
        pending += l.pending;
    }
    cr_assert_lt(pending, AGENTS * 50, "and the backlog is gone: %u are left", (unsigned)pending);
    if (getenv("PENSTOCK_VERBOSE") != NULL)
        (void)fprintf(stderr, "steady %u, worst %u, probes %u, pending %u\n", (unsigned)steady,
                      (unsigned)worst, (unsigned)probes, (unsigned)pending);
    for (unsigned i = 0; i < AGENTS; i++) {
        output_free(f->agents[i].output);
        fake_free(f->agents[i].spool);
    }
    arena_deinit(&f->arena);
    free(f);
}
