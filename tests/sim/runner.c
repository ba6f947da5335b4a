/* runner: see runner.h. Seeds are shared out to children, which end at their first failure. */
#include "tests/sim/runner.h"

#include "lib/spool/branches.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SEED_SECONDS_MAX 30

unsigned penstock_bug;
uint64_t penstock_reached[BRANCH_COUNT];

/* One per child, in shared memory. */
struct progress {
    uint64_t seed, runs, steps, failures;
    uint64_t branches[MET_COUNT], ops[DISK_OPS], reached[BRANCH_COUNT];
};

double runner_now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

struct world *runner_world(void)
{
    static struct world *w;
    if (w == NULL && ((w = calloc(1, sizeof(*w))) == NULL || (w->disk = disk_new()) == NULL))
        abort();
    return w;
}

void runner_prepare(struct world *w, uint64_t seed, uint64_t steps)
{
    struct world fresh = {.seed = seed,
                          .steps_max = steps,
                          .luck = w->luck,
                          .disk = w->disk,
                          .model = w->model,
                          .verbose = w->verbose};
    *w = fresh;
}

/* --- failures --------------------------------------------------------------------------------------- */

static struct world *watched;
static const char *watched_save;

static void on_fail(struct world *w, const char *why)
{
    (void)fflush(stdout);
    (void)fprintf(stderr, "FAILED seed %" PRIu64 " step %" PRIu64 " version " PENSTOCK_VERSION ": %s\n",
                  w->seed, w->steps, why);
    const struct knobs *k = &w->knobs;
    (void)fprintf(
        stderr, "  durability %d, when_full %d, segments %" PRIu64 ", quota %" PRIu64 ", loose %d%s%s%s%s\n",
        k->spool.durability, k->spool.when_full, k->spool.segment_bytes, k->spool.max_bytes, w->model.loose,
        k->faults ? ", faults" : "", k->rot ? ", rot" : "", k->vandal ? ", vandal" : "",
        k->lying ? ", lying" : "");
    if (watched_save != NULL && stream_save(watched_save, w, why))
        (void)fprintf(stderr, "  saved as %s\n", watched_save);
    _exit(1);
}

static void on_signal(int number)
{
    (void)signal(number, SIG_DFL);
    on_fail(watched, number == SIGPROF   ? "does not come to an end"
                     : number == SIGABRT ? "an assertion"
                                         : "a crash");
}

void runner_watch(struct world *w, const char *save)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGABRT, SIGPROF};
    static uint8_t stack[65536];
    stack_t alternative = {.ss_sp = stack, .ss_size = sizeof(stack)};
    watched = w;
    watched_save = save;
    world_on_fail = on_fail;
    (void)sigaltstack(&alternative, NULL);
    for (unsigned k = 0; k < sizeof(signals) / sizeof(*signals); k++) {
        struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK | SA_NODEFER};
        (void)sigaction(signals[k], &action, NULL);
    }
}

/* Of this process's own time: a busy machine makes no run fail. */
void runner_limit(unsigned seconds)
{
    struct itimerval limit = {.it_value = {.tv_sec = (time_t)seconds}};
    (void)setitimer(ITIMER_PROF, &limit, NULL);
}

/* --- seeds ------------------------------------------------------------------------------------------ */

static uint64_t run_one(struct world *w, uint64_t seed, const struct run_options *o)
{
    runner_prepare(w, seed, o->steps);
    decisions_from_seed(&w->luck, seed);
    runner_limit(SEED_SECONDS_MAX);
    world_run(w);
    runner_limit(0);
    return w->trace;
}

static void run_share(const struct run_options *o, struct progress *p, unsigned stride, double deadline)
{
    struct world *w = runner_world();
    w->verbose = o->verbose;
    penstock_bug = o->bug;
    runner_watch(w, o->save);
    for (; p->seed < o->to; p->seed += stride) {
        if (deadline > 0 && runner_now() > deadline)
            break;
        uint64_t trace = run_one(w, p->seed, o);
        p->steps += w->steps;
        p->runs++;
        for (unsigned k = 0; k < MET_COUNT; k++)
            p->branches[k] += branches_met[k];
        for (unsigned k = 0; k < DISK_OPS; k++)
            p->ops[k] += ops_met[k];
        for (unsigned k = 0; k < BRANCH_COUNT; k++)
            p->reached[k] += penstock_reached[k];
        memset(penstock_reached, 0, sizeof(penstock_reached));
        memset(branches_met, 0, sizeof(branches_met));
        memset(ops_met, 0, sizeof(ops_met));
        if (o->twice_in != 0 && p->seed % o->twice_in == 0 && run_one(w, p->seed, o) != trace)
            world_fail(w, "the same seed gave another trace");
        if (o->to == o->from + 1)
            (void)printf("seed %" PRIu64 " held: %" PRIu64 " steps, %" PRIu64 " disk calls, trace %016" PRIx64
                         "\n",
                         w->seed, w->steps, w->calls, trace);
    }
}

#define BRANCH_TEXT(name, text) text,
static const char *const branch_texts[BRANCH_COUNT] = {BRANCHES(BRANCH_TEXT)};

static void print_stats(const struct progress *p, unsigned threads)
{
    for (unsigned k = 0; k < BRANCH_COUNT; k++) {
        uint64_t sum = 0;
        for (unsigned t = 0; t < threads; t++)
            sum += p[t].reached[k];
        (void)printf("%-45s %" PRIu64 "\n", branch_texts[k], sum);
    }
    for (unsigned k = 0; k < MET_COUNT; k++) {
        uint64_t sum = 0;
        for (unsigned t = 0; t < threads; t++)
            sum += p[t].branches[k];
        (void)printf("%-16s %" PRIu64 "\n", branch_names[k], sum);
    }
    for (unsigned k = 0; k < DISK_OPS; k++) {
        uint64_t sum = 0;
        for (unsigned t = 0; t < threads; t++)
            sum += p[t].ops[k];
        (void)printf("call %-11s %" PRIu64 "\n", disk_op_names[k], sum);
    }
}

static pid_t start_child(const struct run_options *o, struct progress *p, unsigned stride, double deadline)
{
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    run_share(o, p, stride, deadline);
    exit(0); /* not _exit(): coverage counters are written on the way */
}

int run_seeds(const struct run_options *o)
{
    unsigned threads = o->threads == 0 ? 1 : o->threads > 16 ? 16 : o->threads;
    struct progress *p =
        mmap(NULL, threads * sizeof(*p), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pids[16];
    if (p == MAP_FAILED)
        return 70;
    double begin = runner_now(), deadline = o->seconds == 0 ? 0 : begin + (double)o->seconds;
    for (unsigned t = 0; t < threads; t++) {
        p[t].seed = o->from + t;
        pids[t] = start_child(o, &p[t], threads, deadline);
    }
    for (unsigned t = 0; t < threads; t++) {
        int status = 0;
        while (waitpid(pids[t], &status, 0) == pids[t] && status != 0) {
            p[t].failures++;
            p[t].seed += threads;
            if (!o->keep_going)
                break;
            pids[t] = start_child(o, &p[t], threads, deadline);
        }
    }
    uint64_t runs = 0, steps = 0, failures = 0;
    for (unsigned t = 0; t < threads; t++)
        runs += p[t].runs, steps += p[t].steps, failures += p[t].failures;
    if (o->stats)
        print_stats(p, threads);
    double took = runner_now() - begin;
    (void)printf("%" PRIu64 " runs held, %" PRIu64 " failed; %" PRIu64
                 " steps in %.1f s on %u cores: %.0f steps/s/core\n",
                 runs, failures, steps, took, threads, (double)steps / took / threads);
    return failures == 0 ? 0 : 1;
}

int run_replay(const struct run_options *o)
{
    uint64_t seed = 0, steps = 0;
    uint32_t *made = NULL;
    size_t count = 0;
    if (!stream_load(o->replay, &seed, &steps, &made, &count))
        return 70;
    if (o->bug != 0)
        penstock_bug = o->bug;
    struct world *w = runner_world();
    w->verbose = o->verbose;
    runner_watch(w, NULL);
    runner_prepare(w, seed, steps);
    decisions_from_stream(&w->luck, made, count);
    free(made);
    runner_limit(SEED_SECONDS_MAX);
    world_run(w);
    (void)printf("%s held: %" PRIu64 " steps, trace %016" PRIx64 "\n", o->replay, w->steps, w->trace);
    return 0;
}
