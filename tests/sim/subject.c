/* subject: the spool's simulator as the runner sees it. */
#include "tests/sim/runner.h"
#include "tests/sim/world.h"

#include <inttypes.h>
#include <stdlib.h>

static const struct met mets[MET_COUNT + DISK_OPS] = {
    {"kill", true},
    {"power_loss", true},
    {"crash_in_start", true},
    {"start", false},
    {"recovered_batch", false},
    {"reopened_batch", false},
    {"lost_tail", false},
    {"ENOSPC", true},
    {"EDQUOT", true},
    {"EIO", true},
    {"EROFS", true},
    {"short_write", true},
    {"sync_unknown", true},
    {"sync_refused", true},
    {"stall", true},
    {"rot", true},
    {"vandal", true},
    {"lying", true},
    {"squeeze", true},
    {"full", false},
    {"degraded", false},
    {"failed", false},
    {"dropped", false},
    {"shed", false},
    {"split", false},
    {"dead", false},
    {"reply_lost", true},
    {"repeated", false},
    {"load", false},
    {"stop", true},
    {"lost_note", false},
    {"identity_broken", false},
    {"replay", false},
    {"purge", false},
    {"rewind", false},
    {"corrupt", false},
    {"torn", false},
    {"wall_jump", true},
    {"replay_undone", false},
    {"new_policy", true},
    {"expired", false},
    {"recent_pending", false},
    {"recent_settled", false},
    {"moved", true},
    {"moved_refused", false},
    {"strict_kept", false},
    {"mute", true},
    {"call open", false},
    {"call close", false},
    {"call pread", false},
    {"call pwritev", false},
    {"call fdatasync", false},
    {"call fallocate", false},
    {"call ftruncate", false},
    {"call rename", false},
    {"call unlink", false},
    {"call mkdir", false},
    {"call list", false},
    {"call fsync_dir", false},
    {"call stat", false},
    {"call fsinfo", false},
    {"call dont_need", false},
};

struct world *subject_world(void)
{
    static struct world *w;
    if (w == NULL && ((w = calloc(1, sizeof *w)) == NULL || (w->disk = disk_new()) == NULL))
        abort();
    return w;
}

void subject_prepare(uint64_t seed, uint64_t steps)
{
    struct world *w = subject_world();
    struct world fresh = {.seed = seed,
                          .steps_max = steps,
                          .luck = w->luck,
                          .disk = w->disk,
                          .model = w->model,
                          .verbose = w->verbose};
    *w = fresh;
}

static void run(void)
{
    world_run(subject_world());
}

static struct run_view view(void)
{
    struct world *w = subject_world();
    return (struct run_view){w->seed, w->steps, w->steps_max, w->trace, &w->luck};
}

static void verbose(bool on)
{
    subject_world()->verbose = on;
}

static void held(FILE *f)
{
    (void)fprintf(f, "%" PRIu64 " disk calls", subject_world()->calls);
}

static void describe(FILE *f)
{
    const struct knobs *k = &subject_world()->knobs;
    (void)fprintf(f,
                  "  durability %d, when_full %d, segments %" PRIu64 ", quota %" PRIu64 ", loose %d%s%s%s%s\n",
                  k->spool.durability, k->spool.when_full, k->spool.segment_bytes, k->spool.max_bytes,
                  subject_world()->model.loose, k->faults ? ", faults" : "", k->rot ? ", rot" : "",
                  k->vandal ? ", vandal" : "", k->lying ? ", lying" : "");
}

const struct subject subject = {.name = "sim",
                                .steps = 20000,
                                .twice_in = 100,
                                .mets = mets,
                                .counts = branches_met,
                                .met_count = MET_COUNT + DISK_OPS,
                                .prepare = subject_prepare,
                                .run = run,
                                .view = view,
                                .verbose = verbose,
                                .held = held,
                                .describe = describe,
                                .exhaustive = exhaustive_run};
