/* sim: runs the simulator. See README of the options in usage() below.
 *
 * A run that fails prints its seed and step, saves its stream of decisions, and ends this process: memory may
 * be in any state by then. Many seeds are therefore run in children, one per --threads, and a child that
 * fails is followed by another from the next seed on when --keep-going asks for it. */
#include "tests/sim/runner.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int usage(void)
{
    (void)fputs("usage: sim [--seed N | --seeds A..B | --replay FILE | --shrink FILE | --exhaustive]\n"
                "           [--steps N] [--threads N] [--time-limit S] [--keep-going] [--verbose] [--stats]\n"
                "           [--depth N] [--script NAME] [--bug N] [--save FILE] [--twice-in N]\n",
                stderr);
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

static bool parse(int argc, char **argv, struct run_options *o)
{
    for (int k = 1; k < argc; k++) {
        const char *name = argv[k], *value = k + 1 < argc ? argv[k + 1] : NULL;
        uint64_t n = 0;
        bool flag = true;
        if (strcmp(name, "--verbose") == 0)
            o->verbose = true;
        else if (strcmp(name, "--stats") == 0)
            o->stats = true;
        else if (strcmp(name, "--keep-going") == 0)
            o->keep_going = true;
        else if (strcmp(name, "--exhaustive") == 0)
            o->exhaustive = true;
        else
            flag = false;
        if (flag)
            continue;
        k++;
        if (strcmp(name, "--replay") == 0 && value != NULL)
            o->replay = value;
        else if (strcmp(name, "--shrink") == 0 && value != NULL)
            o->shrink = value;
        else if (strcmp(name, "--save") == 0 && value != NULL)
            o->save = value;
        else if (strcmp(name, "--script") == 0 && value != NULL)
            o->script = value;
        else if (strcmp(name, "--seeds") == 0 && range(value, &o->from, &o->to))
            continue;
        else if (!number(value, &n))
            return false;
        else if (strcmp(name, "--seed") == 0)
            o->from = n, o->to = n + 1;
        else if (strcmp(name, "--steps") == 0)
            o->steps = n;
        else if (strcmp(name, "--threads") == 0)
            o->threads = (unsigned)n;
        else if (strcmp(name, "--time-limit") == 0)
            o->seconds = n;
        else if (strcmp(name, "--depth") == 0)
            o->depth = (unsigned)n;
        else if (strcmp(name, "--bug") == 0)
            o->bug = (unsigned)n;
        else if (strcmp(name, "--twice-in") == 0)
            o->twice_in = n;
        else
            return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    struct run_options o = {.from = 1,
                            .to = 2,
                            .steps = 20000,
                            .threads = 1,
                            .depth = 1,
                            .twice_in = 100,
                            .save = "sim-failure.txt"};
    if (!parse(argc, argv, &o))
        return usage();
    if (o.replay != NULL)
        return run_replay(&o);
    if (o.shrink != NULL)
        return run_shrink(&o);
    if (o.exhaustive)
        return run_exhaustive(&o);
    return run_seeds(&o);
}
