/* runner: many seeds, one run again, a run made smaller, every crash of a script.
 *
 *   sim_delivery [--seed N | --seeds A..B] [--steps N] [--threads N] [--time-limit S] [--keep-going] [--bug
 * N]
 *                [--verbose] [--stats] [--save FILE]
 *   sim_delivery --replay FILE | --shrink FILE | --exhaustive [--every N]
 *
 * A run that fails prints its seed and step, saves its decisions, and ends its process: memory may be in any
 * state by then. So many seeds run in children, one per --threads. */
#include "tests/sim/delivery/world.h"

#include "lib/spool/branches.h"

#include <ctype.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SEED_SECONDS_MAX 30
#define THREADS_MAX 8

unsigned penstock_bug;
uint64_t penstock_reached[BRANCH_COUNT];

struct options {
    uint64_t from, to, steps, seconds, every;
    unsigned threads, bug;
    bool verbose, stats, keep_going, exhaustive;
    const char *replay, *shrink, *save;
};

struct progress { /* of one child, in shared memory */
    uint64_t seed, runs, steps, failures;
    uint64_t branches[MET_COUNT];
};

static double now_s(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static struct world *the_world(void)
{
    static struct world *w;
    if (w == NULL && ((w = calloc(1, sizeof *w)) == NULL || (w->disk = disk_new()) == NULL))
        abort();
    return w;
}

/* All but the decisions. */
static void prepare(struct world *w, uint64_t seed, uint64_t steps)
{
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

static void limit(unsigned seconds) /* of the processor's time: a busy machine makes no run fail */
{
    struct itimerval t = {.it_value = {.tv_sec = (time_t)seconds}};
    (void)setitimer(ITIMER_PROF, &t, NULL);
}

/* --- a stream in a file: # why / seed / steps / bug, then numbers; zK is K zeros in a row --------------- */

static bool stream_save(const char *path, const struct world *w, const char *why)
{
    FILE *f = fopen(path, "w");
    if (f == NULL)
        return false;
    size_t used = w->luck.replaying ? w->luck.next : w->luck.count;
    (void)fprintf(f, "# %s\nseed %" PRIu64 "\nsteps %" PRIu64 "\nbug %u\n", why, w->seed, w->steps_max,
                  penstock_bug);
    for (size_t k = 0, on_line = 0; k < used; on_line++) {
        size_t zeros = 0;
        while (k + zeros < used && w->luck.made[k + zeros] == 0)
            zeros++;
        if (zeros > 1)
            (void)fprintf(f, "z%zu", zeros);
        else
            (void)fprintf(f, "%" PRIu32, w->luck.made[k]);
        k += zeros > 1 ? zeros : 1;
        (void)fputc(on_line % 24 == 23 ? '\n' : ' ', f);
    }
    (void)fputc('\n', f);
    return fclose(f) == 0;
}

struct stream {
    uint64_t seed, steps;
    uint32_t *made;
    size_t count;
};

static bool load_numbers(FILE *f, struct stream *s)
{
    char word[32];
    size_t cap = 0;
    while (fscanf(f, "%31s", word) == 1) {
        uint64_t value = 0, times = 1;
        bool zeros = word[0] == 'z';
        if (!span_u64(span_str(word + zeros), zeros ? &times : &value) || times > (UINT64_C(1) << 26))
            return false;
        if (s->count + times > cap) {
            cap = (s->count + times) * 2;
            s->made = realloc(s->made, cap * sizeof *s->made);
            if (s->made == NULL)
                abort();
        }
        for (; times > 0; times--)
            s->made[s->count++] = (uint32_t)value;
    }
    return true;
}

static bool stream_load(const char *path, struct stream *s)
{
    char line[1024];
    FILE *f = fopen(path, "r");
    *s = (struct stream){0};
    bool good =
        f != NULL && fgets(line, sizeof line, f) != NULL && line[0] == '#' &&
        fscanf(f, "seed %" SCNu64 "\nsteps %" SCNu64 "\nbug %u\n", &s->seed, &s->steps, &penstock_bug) == 3 &&
        load_numbers(f, s);
    if (f != NULL)
        (void)fclose(f);
    if (!good)
        (void)fprintf(stderr, "sim_delivery: %s is not a saved run\n", path);
    return good;
}

/* --- failures ----------------------------------------------------------------------------------------- */

static struct world *watched;
static const char *watched_save;

static void on_fail(struct world *w, const char *why)
{
    const struct knobs *k = &w->knobs;
    (void)fflush(stdout);
    (void)fprintf(stderr, "FAILED seed %" PRIu64 " step %" PRIu64 ": %s\n", w->seed, w->steps, why);
    (void)fprintf(stderr, "  %s, durability %d, when_full %d, concurrency %u%s\n",
                  k->output.api.api == NULL ? "?" : k->output.api.api->name, k->spool.durability,
                  k->spool.when_full, k->output.concurrency, k->faults ? ", faults" : "");
    if (w->script != NULL)
        (void)fprintf(stderr, "  script %s, point %" PRIu64 "\n", w->script->name, w->points);
    if (watched_save != NULL && stream_save(watched_save, w, why))
        (void)fprintf(stderr, "  saved as %s\n", watched_save);
    _exit(1);
}

static void on_signal(int number)
{
    (void)signal(number, SIG_DFL);
    world_on_fail(watched, number == SIGPROF   ? "does not come to an end"
                           : number == SIGABRT ? "an assertion"
                                               : "a crash");
    _exit(1);
}

static void watch(struct world *w, const char *save)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGABRT, SIGPROF};
    static uint8_t stack[65536];
    stack_t alternative = {.ss_sp = stack, .ss_size = sizeof stack};
    watched = w;
    watched_save = save;
    world_on_fail = on_fail;
    (void)sigaltstack(&alternative, NULL);
    for (unsigned k = 0; k < sizeof signals / sizeof *signals; k++) {
        struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK | SA_NODEFER};
        (void)sigaction(signals[k], &action, NULL);
    }
}

/* --- seeds -------------------------------------------------------------------------------------------- */

static uint64_t run_seed(struct world *w, uint64_t seed, uint64_t steps)
{
    prepare(w, seed, steps);
    decisions_from_seed(&w->luck, seed);
    limit(SEED_SECONDS_MAX);
    world_run(w);
    limit(0);
    return w->trace;
}

static void run_share(const struct options *o, struct progress *p, double deadline)
{
    struct world *w = the_world();
    w->verbose = o->verbose;
    penstock_bug = o->bug;
    watch(w, o->save);
    for (; p->seed < o->to; p->seed += o->threads) {
        if (deadline > 0 && now_s() > deadline)
            break;
        uint64_t trace = run_seed(w, p->seed, o->steps);
        p->steps += w->steps;
        p->runs++;
        if (p->seed % 50 == 0 && o->bug == 0 && run_seed(w, p->seed, o->steps) != trace)
            world_fail(w, "the same seed gave another trace");
        memcpy(p->branches, branches_met, sizeof branches_met);
        if (o->to == o->from + 1)
            (void)printf("seed %" PRIu64 " held: %" PRIu64 " steps, %u events, %u batches, trace %016" PRIx64
                         "\n",
                         w->seed, w->steps, w->event_count, w->known_count, trace);
    }
}

static pid_t start_child(const struct options *o, struct progress *p, double deadline)
{
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    run_share(o, p, deadline);
    exit(0); /* and counters of coverage are written */
}

static int run_seeds(const struct options *o)
{
    struct progress *p =
        mmap(NULL, o->threads * sizeof *p, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pids[THREADS_MAX];
    if (p == MAP_FAILED)
        return 70;
    double begin = now_s(), deadline = o->seconds == 0 ? 0 : begin + (double)o->seconds;
    for (unsigned t = 0; t < o->threads; t++) {
        p[t].seed = o->from + t;
        pids[t] = start_child(o, &p[t], deadline);
    }
    uint64_t runs = 0, steps = 0, failures = 0;
    for (unsigned t = 0; t < o->threads; t++) {
        int status = 0;
        while (waitpid(pids[t], &status, 0) == pids[t] && status != 0) {
            p[t].failures++;
            p[t].seed += o->threads;
            if (!o->keep_going)
                break;
            pids[t] = start_child(o, &p[t], deadline);
        }
        runs += p[t].runs, steps += p[t].steps, failures += p[t].failures;
    }
    for (unsigned k = 0; o->stats && k < MET_COUNT; k++) {
        uint64_t sum = 0;
        for (unsigned t = 0; t < o->threads; t++)
            sum += p[t].branches[k];
        (void)printf("%-16s %" PRIu64 "\n", branch_names[k], sum);
    }
    (void)printf("%" PRIu64 " runs held, %" PRIu64 " failed; %" PRIu64 " steps in %.1f s\n", runs, failures,
                 steps, now_s() - begin);
    return failures == 0 ? 0 : 1;
}

static int run_replay(const struct options *o)
{
    struct stream s;
    if (!stream_load(o->replay, &s))
        return 70;
    if (o->bug != 0)
        penstock_bug = o->bug;
    struct world *w = the_world();
    w->verbose = o->verbose;
    watch(w, NULL);
    prepare(w, s.seed, s.steps);
    decisions_from_stream(&w->luck, s.made, s.count);
    free(s.made);
    limit(SEED_SECONDS_MAX);
    world_run(w);
    (void)printf("%s held: %" PRIu64 " steps, trace %016" PRIx64 "\n", o->replay, w->steps, w->trace);
    return 0;
}

/* --- smaller ------------------------------------------------------------------------------------------ */

struct attempt {
    char why[512];
    uint64_t steps;
    size_t used; /* decisions */
};
static struct attempt *shared;

static void on_attempt_fail(struct world *w, const char *why)
{
    (void)snprintf(shared->why, sizeof shared->why, "%s", why);
    shared->steps = w->steps;
    shared->used = w->luck.next;
    _exit(1);
}

/* What failed, without numbers and ids. */
static void kind_of(const char *why, char *into, size_t cap)
{
    size_t n = 0;
    for (; *why != 0 && n + 1 < cap; why++)
        if (!isxdigit((unsigned char)*why))
            into[n++] = *why;
    into[n] = 0;
}

static bool fails(const struct stream *s, const char *kind)
{
    char now[512];
    *shared = (struct attempt){0};
    pid_t pid = fork();
    if (pid == 0) {
        struct world *w = the_world();
        if (freopen("/dev/null", "w", stderr) == NULL)
            _exit(0);
        watch(w, NULL);
        world_on_fail = on_attempt_fail;
        prepare(w, s->seed, s->steps);
        decisions_from_stream(&w->luck, s->made, s->count);
        limit(20);
        world_run(w);
        _exit(0);
    }
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status == 0)
        return false;
    kind_of(shared->why, now, sizeof now);
    return kind == NULL || strcmp(now, kind) == 0;
}

/* Leaves out `len` decisions, or makes them 0. */
static bool try_change(struct stream *s, size_t at, size_t len, bool without, const char *kind)
{
    struct stream t = *s;
    t.made = malloc((s->count + 1) * sizeof *t.made);
    if (t.made == NULL)
        abort();
    memcpy(t.made, s->made, s->count * sizeof *t.made);
    if (without) {
        memmove(t.made + at, t.made + at + len, (s->count - at - len) * sizeof *t.made);
        t.count -= len;
    } else {
        memset(t.made + at, 0, len * sizeof *t.made);
    }
    bool good = (without || memcmp(t.made, s->made, s->count * sizeof *t.made) != 0) && fails(&t, kind);
    free(good ? s->made : t.made);
    if (good)
        *s = t;
    return good;
}

static void cut(struct stream *s, const char *kind)
{
    for (unsigned k = 0; k < 8 && fails(s, kind); k++) {
        struct stream shorter = *s;
        bool less = shared->used < s->count || shared->steps + 1 < s->steps;
        shorter.count = shared->used < s->count ? shared->used : s->count;
        shorter.steps = shared->steps + 1 < s->steps ? shared->steps + 1 : s->steps;
        if (!less || !fails(&shorter, kind))
            break;
        *s = shorter;
    }
    for (struct stream shorter = *s; shorter.steps > 16; *s = shorter) {
        shorter.steps = shorter.steps * 3 / 4;
        if (!fails(&shorter, kind))
            break;
    }
}

static int run_shrink(const struct options *o)
{
    struct stream s;
    char kind[512], path[512];
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED || !stream_load(o->shrink, &s))
        return 70;
    if (!fails(&s, NULL)) {
        (void)fprintf(stderr, "sim_delivery: %s does not fail\n", o->shrink);
        return 65;
    }
    kind_of(shared->why, kind, sizeof kind);
    size_t before = s.count;
    double deadline = now_s() + (o->seconds == 0 ? 60 : (double)o->seconds);
    cut(&s, kind);
    for (bool better = true; better && now_s() < deadline;) {
        better = false;
        for (size_t len = s.count / 2; len > 0; len /= 2)
            for (size_t at = 0; at + len <= s.count && now_s() < deadline;) {
                bool gone = try_change(&s, at, len, true, kind);
                better = gone || try_change(&s, at, len, false, kind) || better;
                at += gone ? 0 : len;
            }
        cut(&s, kind);
    }
    bool still = fails(&s, kind);
    struct world *w = the_world();
    prepare(w, s.seed, s.steps);
    decisions_from_stream(&w->luck, s.made, s.count);
    w->luck.next = s.count;
    (void)snprintf(path, sizeof path, "%s.small", o->shrink);
    (void)printf("%zu decisions became %zu, %" PRIu64 " steps: %s\n%s%s\n", before, s.count, s.steps,
                 shared->why, stream_save(path, w, shared->why) ? "saved as " : "could not save ", path);
    return still ? 0 : 70;
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
    prepare(w, script, SCRIPT_STEPS);
    decisions_from_stream(&w->luck, NULL, 0);
    w->script = &scripts[script];
    w->die_at_point = point;
    w->die_by_kill = deaths[death].kill;
    w->die_fate = (struct disk_fate){deaths[death].fate, 0};
    w->die_again_after = again;
    w->die_again_by_kill = !deaths[death].kill;
    limit(SEED_SECONDS_MAX);
    world_run(w);
    limit(0);
    return w->script_points;
}

/* Dies at every point (or every so many) of every script, then again at every third point of the start that
 * follows. */
static int run_exhaustive(const struct options *o)
{
    struct world *w = the_world();
    uint64_t runs = 0;
    double begin = now_s(), deadline = o->seconds == 0 ? 0 : begin + (double)o->seconds;
    w->verbose = o->verbose;
    penstock_bug = o->bug;
    watch(w, NULL);
    for (unsigned again = 0; again <= 60; again += 3) {
        for (unsigned script = 0; script < script_count; script++) {
            uint64_t points = run_script(w, script, 0, 0, 0);
            for (uint64_t point = 1 + script % o->every; point <= points; point += again == 0 ? o->every : 7)
                for (unsigned death = 0; death < 3; death++) {
                    if (deadline > 0 && now_s() > deadline)
                        goto done;
                    (void)run_script(w, script, point, death, again);
                    runs++;
                }
        }
    }
done:
    (void)printf("%" PRIu64 " crashes of %u scripts held in %.1f s\n", runs, script_count, now_s() - begin);
    return 0;
}

/* --- the command -------------------------------------------------------------------------------------- */

static bool number(const char *text, uint64_t *ret)
{
    return text != NULL && span_u64(span_str(text), ret);
}

static bool parse(int argc, char **argv, struct options *o)
{
    for (int k = 1; k < argc; k++) {
        const char *name = argv[k], *value = k + 1 < argc ? argv[k + 1] : NULL;
        bool *flag = strcmp(name, "--verbose") == 0      ? &o->verbose
                     : strcmp(name, "--stats") == 0      ? &o->stats
                     : strcmp(name, "--keep-going") == 0 ? &o->keep_going
                     : strcmp(name, "--exhaustive") == 0 ? &o->exhaustive
                                                         : NULL;
        const char **text = strcmp(name, "--replay") == 0   ? &o->replay
                            : strcmp(name, "--shrink") == 0 ? &o->shrink
                            : strcmp(name, "--save") == 0   ? &o->save
                                                            : NULL;
        uint64_t n = 0;
        if (flag != NULL) {
            *flag = true;
            continue;
        }
        k++;
        const char *dots = value == NULL ? NULL : strstr(value, "..");
        if (value != NULL && text != NULL)
            *text = value;
        else if (strcmp(name, "--seeds") == 0 && dots != NULL &&
                 span_u64(span_of(value, (size_t)(dots - value)), &o->from) && number(dots + 2, &o->to))
            o->to++;
        else if (!number(value, &n))
            return false;
        else if (strcmp(name, "--seed") == 0)
            o->from = n, o->to = n + 1;
        else if (strcmp(name, "--steps") == 0)
            o->steps = n;
        else if (strcmp(name, "--threads") == 0)
            o->threads = n < 1 ? 1 : n > THREADS_MAX ? THREADS_MAX : (unsigned)n;
        else if (strcmp(name, "--time-limit") == 0)
            o->seconds = n;
        else if (strcmp(name, "--every") == 0 && n > 0)
            o->every = n;
        else if (strcmp(name, "--bug") == 0)
            o->bug = (unsigned)n;
        else
            return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    struct options o = {
        .from = 1, .to = 2, .steps = 6000, .every = 1, .threads = 1, .save = "sim-failure.txt"};
    if (!parse(argc, argv, &o)) {
        (void)fputs("usage: sim_delivery [--seed N | --seeds A..B | --replay FILE | --shrink FILE]\n"
                    "                    [--exhaustive [--every N]] [--steps N] [--threads N] [--time-limit "
                    "S] [--keep-going] [--bug N]\n"
                    "                    [--verbose] [--stats] [--save FILE]\n",
                    stderr);
        return 64;
    }
    if (o.replay != NULL)
        return run_replay(&o);
    if (o.shrink != NULL)
        return run_shrink(&o);
    return o.exhaustive ? run_exhaustive(&o) : run_seeds(&o);
}
