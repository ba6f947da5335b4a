/* subject: the simulator of delivery as the runner sees it (tests/sim/runner.h), and every crash of a script.
 */
#include "tests/sim/delivery/world.h"
#include "tests/sim/runner.h"

#include <inttypes.h>
#include <stdlib.h>

static const struct met mets[MET_COUNT] = {
    {"kill", true},
    {"power_loss", true},
    {"crash_in_start", true},
    {"stop", true},
    {"storage_failed", false},
    {"full", false},
    {"send", false},
    {"send_again", false},
    {"send_recovered", false},
    {"delivered", false},
    {"rows", false},
    {"split", false},
    {"too_large", true},
    {"busy", true},
    {"retry_after", true},
    {"retry_days", true},
    {"server_error", true},
    {"page", true},
    {"short", true},
    {"hold", false},
    {"hold_partition", false},
    {"probe", false},
    {"refused", true},
    {"lost", true},
    {"answer_lost", true},
    {"torn", true},
    {"timeout", true},
    {"reused", true},
    {"cancel", false},
    {"certificate", true},
    {"outage", true},
    {"long_outage", true},
    {"letter", false},
    {"gave_up", false},
    {"replay", false},
    {"purge", false},
    {"dropped", false},
    {"expired", false},
    {"pause", true},
    {"reconfigure", true},
    {"encode", false},
    {"plain", false},
    {"structured", false},
    {"true_repeat", false},
    {"rot", true},
    {"skipped", true},
    {"count_mismatch", true},
    {"results_too_many", true},
    {"gone", true},
    {"turned_away", true},
    {"no_consent", true},
    {"consent", false},
    {"quota", true},
};

#define WORLDS_MAX 8
static struct world *worlds[WORLDS_MAX];
static unsigned present; /* the one that runs, or ran last */

static struct world *the_world(void)
{
    struct world *w = worlds[present];
    if (w == NULL && ((w = calloc(1, sizeof *w)) == NULL || (w->disk = disk_new()) == NULL))
        abort();
    worlds[present] = w;
    return w;
}

/* All but the decisions. */
static void prepare(uint64_t seed, uint64_t steps)
{
    struct world *w = the_world();
    oracle_reset(w); /* lets its memory go */
    struct decisions luck = w->luck;
    struct disk *disk = w->disk;
    bool verbose = w->verbose;
    memset(w, 0, offsetof(struct world, events));
    w->seed = seed;
    w->steps_max = steps;
    w->luck = luck;
    w->disk = disk;
    w->verbose = verbose;
}

static void run(void)
{
    world_run(the_world());
}

static struct run_view view(void)
{
    struct world *w = the_world();
    return (struct run_view){w->seed, w->steps, w->steps_max, w->trace, &w->luck};
}

static void verbose(bool on)
{
    the_world()->verbose = on;
}

static void held(FILE *f)
{
    (void)fprintf(f, "%u events, %u batches", the_world()->event_count, the_world()->known_count);
}

static void describe(FILE *f)
{
    const struct world *w = the_world();
    const struct knobs *k = &w->knobs;
    (void)fprintf(f, "  %s, durability %d, when_full %d, concurrency %u%s\n",
                  k->output.api.api == NULL ? "?" : k->output.api.api->name, k->spool.durability,
                  k->spool.when_full, k->output.concurrency, k->faults ? ", faults" : "");
    if (w->script != NULL)
        (void)fprintf(f, "  script %s, point %" PRIu64 "\n", w->script->name, w->points);
}

/* --- every crash of a script -------------------------------------------------------------------------- */

/* How a machine may die: killed, or without power and with all, or nothing, of what was pending kept. */
static const struct {
    bool kill;
    int fate;
} deaths[] = {{true, FATE_LOST}, {false, FATE_LOST}, {false, FATE_KEPT}};
#define SCRIPT_STEPS 200

static uint64_t run_script(struct world *w, unsigned script, uint64_t point, unsigned death, uint64_t again)
{
    prepare(script, SCRIPT_STEPS);
    decisions_from_stream(&w->luck, NULL, 0);
    w->script = &scripts[script];
    w->die_at_point = point;
    w->die_by_kill = deaths[death].kill;
    w->die_fate = (struct disk_fate){deaths[death].fate, 0};
    w->die_again_after = again;
    w->die_again_by_kill = !deaths[death].kill;
    runner_limit(30);
    world_run(w);
    runner_limit(0);
    return w->script_points;
}

/* Dies at every point (or every so many) of every script, then again at every third point of the start that
 * follows. */
static int exhaustive(const struct run_options *o)
{
    struct world *w = the_world();
    uint64_t runs = 0;
    double begin = runner_now(), deadline = o->seconds == 0 ? 0 : begin + (double)o->seconds;
    w->verbose = o->verbose;
    penstock_bug = o->bug;
    runner_watch(NULL);
    for (unsigned again = 0; again <= 60; again += 3) {
        for (unsigned script = 0; script < script_count; script++) {
            uint64_t points = run_script(w, script, 0, 0, 0);
            for (uint64_t point = 1 + script % o->every; point <= points; point += again == 0 ? o->every : 7)
                for (unsigned death = 0; death < 3; death++) {
                    if (deadline > 0 && runner_now() > deadline)
                        goto done;
                    (void)run_script(w, script, point, death, again);
                    runs++;
                }
        }
    }
done:
    (void)printf("%" PRIu64 " crashes of %u scripts held in %.1f s\n", runs, script_count,
                 runner_now() - begin);
    return 0;
}

/* --- several outputs in one process -----------------------------------------------------------------------
 */

/* The one whose next turn is due; count: none. */
static unsigned next_of(unsigned count)
{
    unsigned best = count;
    for (unsigned k = 0; k < count; k++)
        if (worlds[k]->phase != OVER && (best == count || worlds[k]->now_us < worlds[best]->now_us))
            best = k;
    return best;
}

/* Outputs share nothing: each of a group, some healthy, some with an upstream or a disk in trouble, must do
 * exactly what it does alone, while all of them take turns in one process. */
static void run_group(const struct run_options *o, uint64_t seed)
{
    uint64_t alone[WORLDS_MAX];
    for (unsigned k = 0; k < o->together; k++) {
        prepare(seed + k, o->steps);
        decisions_from_seed(&the_world()->luck, seed + k);
        runner_limit(30);
        run();
        alone[k] = the_world()->trace;
    }
    for (present = 0; present < o->together; present++) {
        prepare(seed + present, o->steps);
        decisions_from_seed(&the_world()->luck, seed + present);
        world_begin(the_world());
    }
    present = 0;
    runner_limit(30 * o->together);
    for (unsigned k; (k = next_of(o->together)) < o->together;) {
        present = k;
        (void)world_turn(worlds[k]);
    }
    runner_limit(0);
    for (present = 0; present < o->together; present++)
        if (the_world()->trace != alone[present])
            run_fail("an output among others does not do what it does alone");
    present = 0;
}

static int run_together(const struct run_options *o)
{
    uint64_t groups = 0;
    double begin = runner_now(), deadline = o->seconds == 0 ? 0 : begin + (double)o->seconds;
    if (o->together > WORLDS_MAX)
        return 64;
    penstock_bug = o->bug;
    runner_watch(NULL);
    for (uint64_t seed = o->from; seed < o->to; seed += o->together) {
        if (deadline > 0 && runner_now() > deadline)
            break;
        run_group(o, seed);
        groups++;
    }
    (void)printf("%" PRIu64 " groups of %u outputs did what each does alone, in %.1f s\n", groups,
                 o->together, runner_now() - begin);
    return 0;
}

const struct subject subject = {.name = "sim_delivery",
                                .steps = 6000,
                                .twice_in = 50,
                                .mets = mets,
                                .counts = branches_met,
                                .met_count = MET_COUNT,
                                .prepare = prepare,
                                .run = run,
                                .view = view,
                                .verbose = verbose,
                                .held = held,
                                .describe = describe,
                                .exhaustive = exhaustive,
                                .together = run_together};
