/* An output over the real spool: a directory in memory, jobs that finish when chance says so, an upstream
 * that deduplicates by payload id, and crashes of both kinds at any moment. What is checked: an answered
 * event is in the end delivered, dead or dropped with a reason; one payload id never carries two bodies;
 * after deduplication nothing arrives twice but what was counted as a possible repeat; the ledger balances at
 * every step. */
#include "lib/base/ensure.h"
#include "lib/base/hash.h"
#include "lib/output/output.h"
#include "tests/unit/output/rig_api.h"
#include "tests/unit/spool/memfs.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#define EVENTS_MAX 20000
#define OPEN_MAX_SENDS 64
#define IDS_MAX 65536

struct job_out {
    struct spool_job *job;
    uint64_t due_us;
};

struct send {
    struct batch *batch;
    char id[40];
    char *body;
    uint64_t due_us;
};

struct upstream_id {
    uint64_t id_hash, body_hash;
};

struct world {
    struct memfs *fs;
    struct spool_vfs vfs;
    struct spool_config spool_config;
    struct spool *spool;
    struct output *output;
    struct output_config config;
    struct clock clock;
    struct rng rng;
    struct arena arena;
    uint64_t now_us, wall_ns, timer_us;
    struct job_out jobs[16];
    unsigned job_count;
    struct send sends[OPEN_MAX_SENDS];
    unsigned send_count;
    bool probe_open, opened, healthy;
    bool dirty; /* something was reported: the output is to be stepped */
    unsigned offered, crashes;
    uint64_t *seqs; /* of each event in its process; 0: never answered */
    bool *answered;
    uint8_t *arrived;
    struct upstream_id *ids;
    uint64_t repeated_max;
};

static unsigned chance(struct world *w, unsigned of)
{
    return (unsigned)rng_below(&w->rng, of);
}

/* --- host --- */

static void on_submit(void *ctx, struct spool_job *job)
{
    struct world *w = ctx;
    ensure(w->job_count < 16);
    w->jobs[w->job_count++] = (struct job_out){job, w->now_us + chance(w, 3000)};
}

static uint64_t on_mono(void *ctx)
{
    return ((struct world *)ctx)->now_us;
}

static uint64_t on_wall(void *ctx)
{
    return ((struct world *)ctx)->wall_ns;
}

static uint64_t on_random(void *ctx)
{
    return rng_next(&((struct world *)ctx)->rng);
}

static void on_timer(void *ctx, uint64_t at_us)
{
    ((struct world *)ctx)->timer_us = at_us;
}

static void on_note(void *ctx, const struct spool_note *note)
{
    struct world *w = ctx;
    if (note->kind == NOTE_OPENED)
        w->opened = true;
    if (w->output != NULL)
        output_note(w->output, note);
    w->dirty = true;
}

/* --- upstream --- */

static struct upstream_id *upstream_id(struct world *w, uint64_t hash)
{
    for (uint64_t i = hash;; i++) {
        struct upstream_id *at = &w->ids[i % IDS_MAX];
        if (at->id_hash == 0 || at->id_hash == hash)
            return at;
    }
}

/* The upstream takes the members for which `which` has a d (or all). */
static void arrive(struct world *w, const struct send *s, const char *which)
{
    struct upstream_id *id = upstream_id(w, hash64(span_str(s->id), 1));
    bool seen = id->id_hash != 0;
    id->id_hash = hash64(span_str(s->id), 1);
    unsigned i = 0;
    for (const char *at = s->body; *at != 0;) {
        if (*at < '0' || *at > '9') {
            at++;
            continue;
        }
        unsigned event = (unsigned)strtoul(at, (char **)&at, 10);
        /* A repeat of a request brings only what the first one did not. */
        if ((which == NULL || which[i] == 'd') && (!seen || w->arrived[event] == 0))
            w->arrived[event]++;
        i++;
    }
}

static unsigned member_count(const struct send *s)
{
    unsigned n = 0;
    for (const char *at = s->body; *at != 0; at++)
        n += *at >= '0' && *at <= '9' && (at[1] < '0' || at[1] > '9');
    return n;
}

static void answer(struct world *w, struct send s)
{
    struct api_reply reply = {.status = 200, .wall_ns = w->wall_ns};
    char fates[256] = "";
    unsigned kind = w->healthy ? 0 : chance(w, 24);
    static const unsigned codes[] = {429, 503, 400, 413, 422, 401, 404, 299, 409};
    if (kind < 12) {
        arrive(w, &s, NULL);
    } else if (kind < 15) {
        unsigned n = member_count(&s);
        /* A per-event answer to a batch that arrived before says what it said then; keep to whole batches. */
        bool seen = upstream_id(w, hash64(span_str(s.id), 1))->id_hash != 0;
        for (unsigned i = 0; i < n && i < 250; i++)
            fates[i] = seen ? 'd' : "ddddrx"[chance(w, 6)];
        arrive(w, &s, fates);
        reply.status = 207;
        reply.body = span_str(fates);
    } else {
        reply.status = codes[kind - 15];
        if ((reply.status == 503 || reply.status == 299) && chance(w, 2))
            arrive(w, &s, NULL);
    }
    if (!w->healthy && chance(w, 8) == 0)
        output_broke(w->output, s.batch, chance(w, 2) ? BREAK_UNKNOWN : BREAK_REUSED, "reset");
    else
        output_replied(w->output, s.batch, &reply);
    free(s.body);
    w->dirty = true;
}

static void record(struct world *w, struct batch *b)
{
    struct output_request req;
    arena_reset(&w->arena);
    output_request(w->output, b, &w->arena, &req);
    ensure(w->send_count < OPEN_MAX_SENDS);
    struct send *s = &w->sends[w->send_count++];
    s->batch = b;
    s->due_us = w->now_us + chance(w, 40000);
    s->body = must_strndup(req.body[0]);
    (void)snprintf(s->id, sizeof s->id, "%s", req.payload_id);
    struct upstream_id *id = upstream_id(w, hash64(span_str(s->id), 2) | 1);
    uint64_t body = hash64(span_str(s->body), 0);
    if (id->id_hash != 0)
        cr_assert_eq(id->body_hash, body, "one payload id, one body, for ever");
    *id = (struct upstream_id){hash64(span_str(s->id), 2) | 1, body};
}

/* --- the world --- */

static void carry_out(struct world *w)
{
    unsigned turns = 0;
    for (;;) {
        cr_assert_lt(++turns, 20000, "the output comes to rest");
        struct output_wish wish = output_step(w->output);
        switch (wish.kind) {
        case WISH_NOTHING:
            if (output_wake_us(w->output) != 0 && output_wake_us(w->output) <= w->now_us)
                continue;
            return;
        case WISH_ENCODE:
            batch_encode_run(wish.batch);
            output_encoded(w->output, wish.batch);
            break;
        case WISH_SEND:
            record(w, wish.batch);
            break;
        case WISH_PROBE:
            w->probe_open = true;
            break;
        case WISH_CANCEL:
            for (unsigned i = 0; i < w->send_count; i++)
                if (w->sends[i].batch == wish.batch) {
                    free(w->sends[i].body);
                    w->sends[i] = w->sends[--w->send_count];
                    output_broke(w->output, wish.batch, BREAK_CANCELLED, "cancelled");
                    break;
                }
            break;
        case WISH_SECRETS:
            output_secrets_read(w->output);
            break;
        case WISH_REBUILD:
            break;
        }
    }
}

static void note_answered(struct world *w)
{
    uint64_t acked = spool_acked(w->spool);
    for (unsigned i = 1; i <= w->offered; i++)
        if (w->seqs[i] != 0 && w->seqs[i] <= acked)
            w->answered[i] = true;
}

static void check_ledger(struct world *w)
{
    struct spool_ledger l;
    spool_ledger(w->spool, &l);
    uint64_t dropped = 0;
    for (unsigned i = 0; i < SPOOL_DROP_REASONS; i++)
        dropped += l.dropped[i];
    cr_assert_eq(l.accepted, l.pending + l.delivered + l.dead + dropped);
}

/* Everything that is due by now. */
static void turn(struct world *w)
{
    bool moved = true;
    while (moved) {
        moved = false;
        for (unsigned i = 0; i < w->job_count; i++) {
            if (w->jobs[i].due_us > w->now_us)
                continue;
            struct spool_job *job = w->jobs[i].job;
            w->jobs[i] = w->jobs[--w->job_count];
            job->run(job, &w->vfs);
            spool_job_done(job);
            moved = true;
            break;
        }
        if (w->timer_us != 0 && w->timer_us <= w->now_us) {
            w->timer_us = 0;
            spool_tick(w->spool);
            moved = true;
        }
        if (!w->opened)
            continue;
        for (unsigned i = 0; i < w->send_count; i++)
            if (w->sends[i].due_us <= w->now_us) {
                struct send s = w->sends[i];
                w->sends[i] = w->sends[--w->send_count];
                answer(w, s);
                moved = true;
                break;
            }
        if (w->probe_open) {
            w->probe_open = false;
            struct api_reply reply = {.status = w->healthy || chance(w, 2) ? 200 : 401};
            output_probed(w->output, &reply, BREAK_UNKNOWN, "");
            moved = w->dirty = true;
        }
        /* As a shell does: after reports and at the time that was asked for, never for the sake of it. */
        uint64_t wake = output_wake_us(w->output);
        if (w->dirty || (wake != 0 && wake <= w->now_us)) {
            w->dirty = false;
            carry_out(w);
        }
    }
}

static uint64_t next_due(const struct world *w)
{
    uint64_t due = w->timer_us != 0 ? w->timer_us : UINT64_MAX;
    for (unsigned i = 0; i < w->job_count; i++)
        due = w->jobs[i].due_us < due ? w->jobs[i].due_us : due;
    for (unsigned i = 0; i < w->send_count; i++)
        due = w->sends[i].due_us < due ? w->sends[i].due_us : due;
    uint64_t wake = w->output != NULL ? output_wake_us(w->output) : 0;
    return wake != 0 && wake < due ? wake : due;
}

static void pass(struct world *w, uint64_t us)
{
    uint64_t end = w->now_us + us;
    turn(w);
    for (;;) {
        uint64_t due = next_due(w);
        if (due > end)
            break;
        if (due > w->now_us) {
            w->wall_ns += (due - w->now_us) * 1000;
            w->now_us = due;
        }
        turn(w);
    }
    w->wall_ns += (end - w->now_us) * 1000;
    w->now_us = end;
    turn(w);
    if (w->opened) {
        note_answered(w);
        check_ledger(w);
    }
}

static void start(struct world *w)
{
    struct spool_host host = {w, on_submit, on_mono, on_wall, on_random, on_timer, on_note};
    w->opened = false;
    w->timer_us = 0;
    w->job_count = 0;
    w->spool = spool_new(&w->spool_config, &w->vfs, &host);
    w->output = output_new(&w->config, w->spool, &w->clock, rng_next(&w->rng));
    spool_open(w->spool);
    while (!w->opened)
        pass(w, 10000);
}

static void forget_process(struct world *w)
{
    struct output_status status;
    output_status(w->output, &status);
    w->repeated_max = status.repeated > w->repeated_max ? status.repeated : w->repeated_max;
    for (unsigned i = 0; i < w->send_count; i++) {
        if (chance(w, 2))
            arrive(w, &w->sends[i], NULL);
        free(w->sends[i].body);
    }
    w->send_count = 0;
    w->probe_open = false;
    for (unsigned i = 1; i <= w->offered; i++)
        w->seqs[i] = 0;
    output_free(w->output);
    w->output = NULL;
}

static void crash(struct world *w, bool power)
{
    forget_process(w);
    spool_abandon(w->spool);
    w->spool = NULL;
    if (power)
        memfs_crash(w->fs);
    else
        memfs_kill(w->fs);
    w->crashes++;
    start(w);
}

static void offer_some(struct world *w)
{
    static const char *const partitions[] = {"a", "b", "c", "alone"};
    for (unsigned n = 1 + chance(w, 40); n > 0 && w->offered + 1 < EVENTS_MAX; n--) {
        char body[24];
        unsigned event = w->offered + 1;
        (void)snprintf(body, sizeof body, "%u", event);
        struct api_item item = {.body = span_str(body),
                                .partition = span_str(partitions[chance(w, 60) < 58 ? chance(w, 3) : 3])};
        uint64_t seq;
        if (output_offer(w->output, &item, 1, w->wall_ns, &seq) != OK)
            return;
        w->offered++;
        w->seqs[event] = seq;
    }
}

static void one_step(struct world *w)
{
    unsigned what = chance(w, 300);
    if (what < 90)
        offer_some(w);
    else if (what < 290)
        pass(w, chance(w, 2) ? chance(w, 5000) : chance(w, 400000));
    else if (what == 290)
        output_flush(w->output);
    else if (what == 291)
        output_reconfigure(w->output, &w->config);
    if (what == 290 || what == 291)
        w->dirty = true;
    if (what >= 292 && what < 294)
        crash(w, what == 292);
    turn(w);
}

static void heal_and_check(struct world *w)
{
    w->healthy = true;
    crash(w, false); /* the start alone gets what is left going */
    struct spool_ledger l;
    for (unsigned i = 0; i < 100; i++) { /* less than the look after stalls would need */
        pass(w, US_PER_S);
        spool_ledger(w->spool, &l);
        if (l.pending == 0 && output_idle(w->output) && w->send_count == 0)
            break;
    }
    struct output_status status;
    output_status(w->output, &status);
    cr_assert_eq(
        l.pending, 0,
        "a healthy upstream drains everything: %llu pending, %s, %s, %u in flight, %u waiting, %u open",
        (unsigned long long)l.pending, output_state_names[status.state], status.error, status.in_flight,
        status.waiting, status.open_batches);
    uint64_t missing = 0, twice = 0;
    for (unsigned i = 1; i <= w->offered; i++) {
        missing += w->answered[i] && w->arrived[i] == 0;
        twice += w->arrived[i] > 1 ? w->arrived[i] - 1u : 0;
    }
    uint64_t accounted = l.dead;
    for (unsigned i = 0; i < SPOOL_DROP_REASONS; i++)
        accounted += l.dropped[i];
    if (getenv("PENSTOCK_VERBOSE") != NULL)
        (void)fprintf(
            stderr,
            "%u events, %u crashes, missing %llu, accounted %llu, twice %llu, repeated %llu, requests %llu\n",
            w->offered, w->crashes, (unsigned long long)missing, (unsigned long long)accounted,
            (unsigned long long)twice, (unsigned long long)status.repeated,
            (unsigned long long)status.requests);
    cr_assert_leq(missing, accounted, "%u answered events neither arrived nor were accounted for",
                  (unsigned)missing);
    cr_assert_leq(twice, status.repeated);
    cr_assert_geq(status.repeated + 1000, w->repeated_max, "counters survive, but for the last second");
}

static void run(uint64_t seed, unsigned steps)
{
    struct world *w = must_alloc(sizeof *w);
    w->fs = must_alloc(sizeof *w->fs);
    memfs_init(w->fs);
    w->vfs = memfs_vfs(w->fs);
    w->now_us = US_PER_S;
    w->wall_ns = UINT64_C(1800000000) * NS_PER_S;
    w->clock = (struct clock){w, on_mono, on_wall};
    w->seqs = must_alloc(EVENTS_MAX * sizeof *w->seqs);
    w->answered = must_alloc(EVENTS_MAX);
    w->arrived = must_alloc(EVENTS_MAX);
    w->ids = must_alloc(IDS_MAX * sizeof *w->ids);
    rng_seed(&w->rng, seed);
    arena_init(&w->arena, 4096, 1 << 20);
    rig_has_probe = seed % 2;
    w->spool_config = (struct spool_config){.name = "test",
                                            .max_bytes = 64 << 20,
                                            .segment_bytes = 1 << 20,
                                            .dead_max_bytes = 16 << 20,
                                            .recent_us = 300 * US_PER_S,
                                            .recent_max = 1000};
    w->config = (struct output_config){
        .api = {.api = &rig_api, .output_name = "test", .limits = rig_api.limits},
        .batch_events_max = 1 + chance(w, 60),
        .batch_bytes_max = 30 + chance(w, 600),
        .batch_wait_us = 200 * US_PER_MS,
        .concurrency = 1 + chance(w, 4),
        .retry_initial_us = 50 * US_PER_MS,
        .retry_max_us = 2 * US_PER_S,
        .request_timeout_us = 30 * US_PER_S,
        .payload_budget_bytes = chance(w, 2) ? 0 : 500 + chance(w, 3000),
    };
    start(w);
    for (unsigned i = 0; i < steps; i++)
        one_step(w);
    heal_and_check(w);
    forget_process(w);
    spool_abandon(w->spool);
    memfs_deinit(w->fs);
    free(w->fs);
    arena_deinit(&w->arena);
    free(w->seqs);
    free(w->answered);
    free(w->arrived);
    free(w->ids);
    free(w);
}

#define SEED(n) \
    Test(crash, nothing_answered_is_lost_seed_##n, .timeout = 120) \
    { \
        run(n, 1500); \
    }
SEED(1)
SEED(2)
SEED(3)
SEED(4)
SEED(5)
SEED(6)

/* PENSTOCK_SEEDS=N in the environment runs N further ones. */
Test(crash, nothing_answered_is_lost_further_seeds, .timeout = 3600)
{
    const char *text = getenv("PENSTOCK_SEEDS");
    uint64_t count = text == NULL ? 0 : strtoull(text, NULL, 10);
    for (uint64_t seed = 1000; seed < 1000 + count; seed++) {
        if (count > 1)
            (void)fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
        run(seed, 1500);
    }
}
