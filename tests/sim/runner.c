/* runner: see runner.h. Seeds are shared out to children, which end at their first failure: memory may be in
 * any state by then. */
#include "tests/sim/runner.h"

#include "lib/spool/branches.h"

#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SEED_SECONDS_MAX 30
#define THREADS_MAX 16

unsigned penstock_bug, penstock_bug_uses;
uint64_t penstock_reached[BRANCH_COUNT];
void (*run_on_fail)(const char *why);

/* One per child, in shared memory. */
struct progress {
    uint64_t seed, runs, steps, failures;
    uint64_t reached[BRANCH_COUNT];
    uint64_t counts[]; /* of the subject's mets */
};

double runner_now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* --- failures ------------------------------------------------------------------------------------------- */

static const char *watched_save;
static bool save_each;

_Noreturn void run_fail(const char *why)
{
    if (run_on_fail != NULL)
        run_on_fail(why);
    abort();
}

static void on_fail(const char *why)
{
    struct run_view v = subject.view();
    char path[512];
    (void)fflush(stdout);
    (void)fprintf(stderr, "FAILED seed %" PRIu64 " step %" PRIu64 " version " PENSTOCK_VERSION ": %s\n",
                  v.seed, v.steps, why);
    subject.describe(stderr);
    if (watched_save != NULL) {
        (void)snprintf(path, sizeof path, "%s", watched_save);
        if (save_each)
            (void)snprintf(path, sizeof path, "%s.%" PRIu64, watched_save, v.seed);
        if (stream_save(path, why))
            (void)fprintf(stderr, "  saved as %s\n", path);
    }
    _exit(1);
}

static void on_signal(int number)
{
    (void)signal(number, SIG_DFL);
    run_fail(number == SIGPROF ? "does not come to an end" : number == SIGABRT ? "an assertion" : "a crash");
}

void runner_watch(const char *save)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGABRT, SIGPROF};
    static uint8_t stack[65536];
    stack_t alternative = {.ss_sp = stack, .ss_size = sizeof stack};
    watched_save = save;
    run_on_fail = on_fail;
    (void)sigaltstack(&alternative, NULL);
    for (unsigned k = 0; k < sizeof signals / sizeof *signals; k++) {
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

/* --- seeds ------------------------------------------------------------------------------------------------
 */

static void add_counts(struct progress *sum, const uint64_t *reached, const uint64_t *counts)
{
    for (unsigned k = 0; k < BRANCH_COUNT; k++)
        sum->reached[k] += reached[k];
    for (unsigned k = 0; k < subject.met_count; k++)
        sum->counts[k] += counts[k];
}

static void forget_counts(void)
{
    memset(penstock_reached, 0, sizeof penstock_reached);
    memset(subject.counts, 0, subject.met_count * sizeof *subject.counts);
}

static uint64_t run_one(uint64_t seed, const struct run_options *o)
{
    subject.prepare(seed, o->steps);
    decisions_from_seed(subject.view().luck, seed);
    runner_limit(SEED_SECONDS_MAX);
    subject.run();
    runner_limit(0);
    return subject.view().trace;
}

static void run_share(const struct run_options *o, struct progress *p, double deadline)
{
    subject.verbose(o->verbose);
    penstock_bug = o->bug;
    save_each = o->keep_going;
    runner_watch(o->save);
    for (; p->seed < o->to; p->seed += o->threads) {
        if (deadline > 0 && runner_now() > deadline)
            break;
        forget_counts();
        uint64_t trace = run_one(p->seed, o);
        p->steps += subject.view().steps;
        p->runs++;
        add_counts(p, penstock_reached, subject.counts);
        if (o->to == o->from + 1) {
            (void)printf("seed %" PRIu64 " held: %" PRIu64 " steps, ", p->seed, subject.view().steps);
            subject.held(stdout);
            (void)printf(", trace %016" PRIx64 "\n", trace);
        }
        if (o->twice_in != 0 && o->bug == 0 && p->seed % o->twice_in == 0 && run_one(p->seed, o) != trace)
            run_fail("the same seed gave another trace");
    }
}

static pid_t start_child(const struct run_options *o, struct progress *p, double deadline)
{
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    run_share(o, p, deadline);
    exit(0); /* not _exit(): coverage counters are written on the way */
}

#define BRANCH_TEXT(name, text) text,
static const char *const branch_texts[BRANCH_COUNT] = {BRANCHES(BRANCH_TEXT)};

static void print_line(const char *name, uint64_t count)
{
    (void)printf("  %-56s %14" PRIu64 "\n", name, count);
}

static void print_table(const struct progress *sum)
{
    for (int faults = 1; faults >= 0; faults--) {
        (void)printf(faults ? "faults injected\n" : "what followed\n");
        for (unsigned k = 0; k < subject.met_count; k++)
            if (subject.mets[k].fault == (faults != 0))
                print_line(subject.mets[k].name, sum->counts[k]);
    }
    (void)printf("recovery branches\n");
    for (unsigned k = 0; k < BRANCH_COUNT; k++)
        print_line(branch_texts[k], sum->reached[k]);
}

int run_seeds(const struct run_options *o)
{
    size_t size = sizeof(struct progress) + subject.met_count * sizeof(uint64_t);
    char *shared =
        mmap(NULL, (o->threads + 1) * size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pids[THREADS_MAX];
    if (shared == MAP_FAILED || o->threads > THREADS_MAX)
        return 70;
    double begin = runner_now(), deadline = o->seconds == 0 ? 0 : begin + (double)o->seconds;
    struct progress *all = (void *)(shared + o->threads * size); /* the sum */
    for (unsigned t = 0; t < o->threads; t++) {
        struct progress *p = (void *)(shared + t * size);
        p->seed = o->from + t;
        pids[t] = start_child(o, p, deadline);
    }
    for (unsigned t = 0; t < o->threads; t++) {
        struct progress *p = (void *)(shared + t * size);
        int status = 0;
        while (waitpid(pids[t], &status, 0) == pids[t] && status != 0) {
            p->failures++;
            p->seed += o->threads;
            if (!o->keep_going)
                break;
            pids[t] = start_child(o, p, deadline);
        }
        all->runs += p->runs, all->steps += p->steps, all->failures += p->failures;
        add_counts(all, p->reached, p->counts);
    }
    if (o->stats)
        print_table(all);
    double took = runner_now() - begin;
    (void)printf("%" PRIu64 " runs held, %" PRIu64 " failed; %" PRIu64
                 " steps in %.1f s on %u cores: %.0f steps/s/core\n",
                 all->runs, all->failures, all->steps, took, o->threads,
                 (double)all->steps / took / o->threads);
    return all->failures == 0 ? 0 : 1;
}

void runner_replay(const struct stream *s, unsigned seconds)
{
    subject.prepare(s->seed, s->steps);
    decisions_from_stream(subject.view().luck, s->made, s->count);
    runner_limit(seconds);
    subject.run();
    runner_limit(0);
}

int run_replay(const struct run_options *o)
{
    struct stream s;
    if (!stream_load(o->replay, &s))
        return 70;
    if (o->bug != 0)
        penstock_bug = o->bug;
    subject.verbose(o->verbose);
    runner_watch(NULL);
    runner_replay(&s, SEED_SECONDS_MAX);
    free(s.made);
    (void)printf("%s held: %" PRIu64 " steps, trace %016" PRIx64 "\n", o->replay, subject.view().steps,
                 subject.view().trace);
    return 0;
}
