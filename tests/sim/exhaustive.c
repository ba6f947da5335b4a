/* exhaustive: every script, dead at every disk call (before and after it), with every fate of what was
 * pending: all lost, all kept, each single thing lost, each kept, each sector garbage, and random ones; and a
 * plain kill. With --depth 2, for all lost and all kept, dead again at every call of the start that follows.
 */
#include "tests/sim/runner.h"
#include "tests/sim/script.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SINGLES_MAX 24 /* of a kind; beyond it every n-th is taken */
#define RANDOM_FATES 16

struct death {
    uint64_t at_call, again_at_call;
    bool kill;
    struct disk_fate fate;
    unsigned luck;
};

static const struct script *running;
static struct death death;
static uint64_t cases;

static void on_fail(const char *why)
{
    static const char *const fates[] = {"random",   "all lost", "all kept",
                                        "one lost", "one kept", "one garbage"};
    (void)fflush(stdout);
    (void)fprintf(stderr,
                  "FAILED script %s, %s at call %" PRIu64 ", %s %u, luck %u, again at %" PRIu64 ": %s\n",
                  running->name, death.kill ? "kill" : "power loss", death.at_call, fates[death.fate.kind],
                  death.fate.one, death.luck, death.again_at_call, why);
    _exit(1);
}

/* Returns how many calls the script made before its quiet end. */
static void run_case(struct world *w, const struct death *d)
{
    struct decisions fate_luck = w->fate_luck;
    death = *d;
    subject_prepare(1, 0);
    w->fate_luck = fate_luck;
    w->script = running;
    decisions_from_stream(&w->luck, NULL, 0);
    decisions_from_seed(&w->fate_luck, d->luck + 1);
    w->die_at_call = d->at_call;
    w->die_again_at_call = d->again_at_call;
    w->die_by_kill = d->kill;
    w->die_fate = d->fate;
    w->die_again_fate = d->fate;
    runner_limit(60);
    world_run(w);
    runner_limit(0);
    cases++;
}

static void each_single(struct world *w, uint64_t call, int kind, unsigned count)
{
    unsigned stride = count / SINGLES_MAX + 1;
    for (unsigned one = 0; one < count; one += stride)
        run_case(w, &(struct death){.at_call = call, .fate = {kind, one}});
}

static void each_again(struct world *w, uint64_t call, int kind)
{
    for (uint64_t again = 1;; again++) {
        run_case(w, &(struct death){.at_call = call, .again_at_call = again, .fate = {kind, 0}});
        if (w->die_at_call != 0) /* it was not reached before the end */
            return;
        if (again > 400)
            return;
    }
}

static void each_fate(struct world *w, uint64_t call, unsigned depth)
{
    run_case(w, &(struct death){.at_call = call, .kill = true});
    run_case(w, &(struct death){.at_call = call, .fate = {FATE_LOST, 0}});
    unsigned pending = w->first_pending, sectors = w->first_sectors;
    run_case(w, &(struct death){.at_call = call, .fate = {FATE_KEPT, 0}});
    each_single(w, call, FATE_ONE_LOST, pending);
    each_single(w, call, FATE_ONE_KEPT, pending);
    each_single(w, call, FATE_ONE_GARBAGE, sectors);
    for (unsigned luck = 1; luck <= (pending > 1 ? RANDOM_FATES : 0); luck++)
        run_case(w, &(struct death){.at_call = call, .fate = {FATE_RANDOM, 0}, .luck = luck});
    if (depth > 1) {
        each_again(w, call, FATE_LOST);
        each_again(w, call, FATE_KEPT);
    }
}

int exhaustive_run(const struct run_options *o)
{
    struct world *w = subject_world();
    double begin = runner_now();
    unsigned ran = 0;
    w->verbose = o->verbose;
    penstock_bug = o->bug;
    runner_watch(NULL);
    run_on_fail = on_fail;
    for (unsigned k = 0; k < script_count; k++) {
        if (o->script != NULL && strcmp(o->script, scripts[k].name) != 0)
            continue;
        running = &scripts[k];
        uint64_t before = cases;
        run_case(w, &(struct death){0});
        uint64_t calls = w->script_calls;
        for (uint64_t call = 1; call <= calls; call++) {
            if (o->seconds != 0 && runner_now() - begin > (double)o->seconds)
                break;
            each_fate(w, call, o->depth);
        }
        ran++;
        (void)printf("%-20s %4" PRIu64 " places to die, %6" PRIu64 " cases\n", running->name, calls,
                     cases - before);
    }
    (void)printf("%u scripts, %" PRIu64 " cases held in %.1f s\n", ran, cases, runner_now() - begin);
    return ran > 0 ? 0 : 64;
}
