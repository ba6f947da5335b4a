/* runner: many runs, one run again, a run made smaller, all crashes of a script. */
#ifndef PENSTOCK_SIM_RUNNER_H
#define PENSTOCK_SIM_RUNNER_H

#include "tests/sim/world.h"

struct run_options {
    uint64_t from, to, steps, seconds, twice_in;
    unsigned threads, depth, bug;
    bool verbose, stats, keep_going, exhaustive;
    const char *replay, *shrink, *save, *script;
};

int run_seeds(const struct run_options *o);
int run_replay(const struct run_options *o);
int run_shrink(const struct run_options *o);
int run_exhaustive(const struct run_options *o);

/* Shared by them. */
struct world *runner_world(void);
void runner_prepare(struct world *w, uint64_t seed, uint64_t steps); /* everything but the decisions */
bool stream_save(const char *path, const struct world *w, const char *why);
bool stream_load(const char *path, uint64_t *ret_seed, uint64_t *ret_steps, uint32_t **ret_made,
                 size_t *ret_count);
void runner_watch(struct world *w, const char *save); /* failures and signals end the process with 1, saved */
void runner_limit(unsigned seconds); /* SIGPROF after so much time of the processor; 0: none */
double runner_now(void);
#include "lib/spool/bugs.h"

#endif
