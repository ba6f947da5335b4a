/* main: the command of both simulators; what it takes is in usage().
 *
 * A run that fails prints its seed and step, saves its stream of decisions, and ends its process: memory may
 * be in any state by then. Many seeds are therefore run in children, one per --threads, and a child that
 * fails is followed by another from the next seed on when --keep-going asks for it. */
#include "tests/sim/runner.h"

#include "lib/base/bytes.h"

#include <inttypes.h>
#include <string.h>
#include <sys/random.h>

static int usage(void)
{
    (void)fprintf(
        stderr,
        "usage: %s [--seed N | --seeds A..B | --fresh | --replay FILE | --shrink FILE | --exhaustive]\n"
        "           [--steps N] [--threads N] [--time-limit S] [--keep-going] [--verbose] [--stats]\n"
        "           [--depth N] [--every N] [--script NAME] [--bug N] [--save FILE] [--twice-in N]\n"
        "  --fresh   seeds that nobody has run before, until the time is over\n"
        "  --together N   N outputs in one process, each as it is alone (deliveries only)\n"
                  "  --stats   the table of what was met at the end\n",
        subject.name);
    return 64;
}

static bool number(const char *text, uint64_t *ret)
{
    return text != NULL && span_u64(span_str(text), ret);
}

static bool range(const char *text, uint64_t *ret_from, uint64_t *ret_to)
{
    const char *dots = text == NULL ? NULL : strstr(text, "..");
    return dots != NULL && span_u64(span_of(text, (size_t)(dots - text)), ret_from) &&
           number(dots + 2, ret_to) && ++*ret_to != 0;
}

static bool fresh(struct run_options *o)
{
    if (getrandom(&o->from, sizeof o->from, 0) != (ssize_t)sizeof o->from)
        return false;
    o->from >>= 16; /* far from where the numbers end */
    o->to = UINT64_MAX;
    (void)printf("new seeds, from %" PRIu64 "\n", o->from);
    return true;
}

static bool flag(const char *name, struct run_options *o)
{
    bool *set = strcmp(name, "--verbose") == 0      ? &o->verbose
                : strcmp(name, "--stats") == 0      ? &o->stats
                : strcmp(name, "--keep-going") == 0 ? &o->keep_going
                : strcmp(name, "--exhaustive") == 0 ? &o->exhaustive
                                                    : NULL;
    if (set != NULL)
        *set = true;
    return set != NULL;
}

static bool with_text(const char *name, const char *value, struct run_options *o)
{
    const char **set = strcmp(name, "--replay") == 0   ? &o->replay
                       : strcmp(name, "--shrink") == 0 ? &o->shrink
                       : strcmp(name, "--save") == 0   ? &o->save
                       : strcmp(name, "--script") == 0 ? &o->script
                                                       : NULL;
    if (set != NULL)
        *set = value;
    return set != NULL && value != NULL;
}

static bool with_number(const char *name, const char *value, struct run_options *o)
{
    uint64_t n;
    if (!number(value, &n))
        return false;
    if (strcmp(name, "--seed") == 0)
        o->from = n, o->to = n + 1;
    else if (strcmp(name, "--steps") == 0)
        o->steps = n;
    else if (strcmp(name, "--threads") == 0)
        o->threads = n < 1 ? 1 : (unsigned)n;
    else if (strcmp(name, "--time-limit") == 0)
        o->seconds = n;
    else if (strcmp(name, "--depth") == 0)
        o->depth = (unsigned)n;
    else if (strcmp(name, "--every") == 0)
        o->every = n < 1 ? 1 : n;
    else if (strcmp(name, "--together") == 0 && subject.together != NULL)
        o->together = (unsigned)n;
    else if (strcmp(name, "--bug") == 0)
        o->bug = (unsigned)n;
    else if (strcmp(name, "--twice-in") == 0)
        o->twice_in = n;
    else
        return false;
    return true;
}

static bool parse(int argc, char **argv, struct run_options *o)
{
    for (int k = 1; k < argc; k++) {
        const char *name = argv[k];
        if (flag(name, o) || (strcmp(name, "--fresh") == 0 && fresh(o)))
            continue;
        const char *value = ++k < argc ? argv[k] : NULL;
        if (strcmp(name, "--seeds") == 0 ? !range(value, &o->from, &o->to)
                                         : !with_text(name, value, o) && !with_number(name, value, o))
            return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    struct run_options o = {.from = 1,
                            .to = 2,
                            .steps = subject.steps,
                            .threads = 1,
                            .depth = 1,
                            .every = 1,
                            .twice_in = subject.twice_in,
                            .save = "sim-failure.txt"};
    if (!parse(argc, argv, &o))
        return usage();
    if (o.replay != NULL)
        return run_replay(&o);
    if (o.shrink != NULL)
        return run_shrink(&o);
    if (o.together != 0)
        return subject.together(&o);
    return o.exhaustive ? subject.exhaustive(&o) : run_seeds(&o);
}
