/* runner: many runs, one run again, a run made smaller: what both simulators' programs do.
 *
 * A simulator brings its subject: how one run of a world is prepared and made, and what it counts. All else
 * (seeds shared out to processes, streams of decisions saved and loaded, failures, shrinking, the table of
 * what was met) is the same for both and stands in runner.c, stream.c, shrink.c and main.c. */
#ifndef PENSTOCK_SIM_RUNNER_H
#define PENSTOCK_SIM_RUNNER_H

#include "lib/spool/bugs.h"
#include "tests/sim/decisions.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct run_options {
    uint64_t from, to, steps, seconds, twice_in, every;
    unsigned threads, depth, bug, together;
    bool verbose, stats, keep_going, exhaustive;
    const char *replay, *shrink, *save, *script;
};

struct run_view { /* of the present run, or the last one */
    uint64_t seed, steps, steps_max, trace;
    struct decisions *luck;
};

struct met { /* something worth counting */
    const char *name;
    bool fault; /* done to the code under test; else something that it did */
};

struct subject {
    const char *name;
    uint64_t steps;    /* of a run, unless told otherwise */
    uint64_t twice_in; /* so often a seed is run twice, for the same trace */
    const struct met *mets;
    uint64_t *counts; /* one for each of mets */
    unsigned met_count;
    void (*prepare)(uint64_t seed, uint64_t steps); /* everything but the decisions */
    void (*run)(void);                              /* returns when all held, else run_fail() */
    struct run_view (*view)(void);
    void (*verbose)(bool on);
    void (*held)(FILE *f);     /* some words on a run that held */
    void (*describe)(FILE *f); /* a line or two on what kind of run failed */
    int (*exhaustive)(const struct run_options *o);
    int (*together)(const struct run_options *o); /* NULL: there is no such mode */
};
extern const struct subject subject; /* of this program */

/* Something failed: says so, and ends this process. */
_Noreturn void run_fail(const char *why);

int run_seeds(const struct run_options *o);
int run_replay(const struct run_options *o);
int run_shrink(const struct run_options *o);

/* Shared by them. */
extern void (*run_on_fail)(const char *why); /* does not return */
struct stream {
    uint64_t seed, steps;
    uint32_t *made;
    size_t count;
};
bool stream_save(const char *path, const char *why); /* of the present run */
bool stream_load(const char *path, struct stream *ret);
void runner_watch(const char *save);         /* failures and signals end the process with 1, saved */
void runner_limit(unsigned seconds);         /* SIGPROF after so much time of the processor; 0: none */
void runner_replay(const struct stream *s, unsigned seconds);
double runner_now(void);

#endif
