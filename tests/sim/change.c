/* change: a configuration that changes, while the process lives (a reload) or between two lives.
 *
 * What has been promised under an earlier one stays: so the world remembers what was ever allowed. */
#include "tests/sim/world.h"

#include <inttypes.h>

static uint32_t one_of(struct world *w, const uint32_t *from, uint32_t count)
{
    return from[decide(&w->luck, count)];
}
#define ONE_OF(w, ...) \
    one_of(w, (const uint32_t[]){__VA_ARGS__}, \
           (uint32_t)(sizeof((const uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t)))

#define MIB (UINT64_C(1) << 20)

/* Both a refusal and a policy leave open which of them ended an event: such runs say more without policies.
 */
static bool may_get_policies(const struct world *w)
{
    return w->knobs.one_in_bad_event == 0;
}

void change_note(struct world *w)
{
    const struct spool_config *c = &w->knobs.spool;
    w->allowed.drop_oldest = w->allowed.drop_oldest || c->when_full == SPOOL_DROP_OLDEST;
    w->allowed.drop_newest = w->allowed.drop_newest || c->when_full == SPOOL_DROP_NEWEST;
    if (c->max_age_us != 0 && (w->allowed.least_age_us == 0 || c->max_age_us < w->allowed.least_age_us))
        w->allowed.least_age_us = c->max_age_us;
    /* No quota is smaller than four segments, and no segment smaller than a mebibyte. */
    uint64_t quota = c->max_bytes < 4 * MIB ? 4 * MIB : c->max_bytes;
    uint64_t segment = c->segment_bytes < quota / 16 ? c->segment_bytes : quota / 16;
    if (quota > w->allowed.max_bytes)
        w->allowed.max_bytes = quota;
    if (segment < MIB)
        segment = MIB;
    if (segment > w->allowed.segment_bytes)
        w->allowed.segment_bytes = segment;
    if (c->dead_max_bytes > w->allowed.dead_max_bytes)
        w->allowed.dead_max_bytes = c->dead_max_bytes;
    w->allowed.weak = w->allowed.weak || c->durability != SPOOL_FSYNC;
    w->weak_life = w->weak_life || c->durability != SPOOL_FSYNC;
}

bool change_may_drop(const struct world *w)
{
    return w->allowed.drop_oldest || w->allowed.least_age_us != 0;
}

static void change_policies(struct world *w)
{
    struct spool_config *c = &w->knobs.spool;
    c->when_full = may_get_policies(w) ? ONE_OF(w, SPOOL_BLOCK, SPOOL_DROP_OLDEST, SPOOL_DROP_NEWEST)
                                       : ONE_OF(w, SPOOL_BLOCK, SPOOL_DROP_NEWEST);
    c->max_age_us = may_get_policies(w) ? ONE_OF(w, 0, 0, 300000, 5000000) : 0;
    c->durability = ONE_OF(w, SPOOL_FSYNC, SPOOL_FSYNC, SPOOL_INTERVAL, SPOOL_NO_SYNC);
    c->max_bytes = c->segment_bytes * ONE_OF(w, 16, 6, 8, 32);
    c->dead_max_bytes = ONE_OF(w, 64 << 20, 1 << 16, 1 << 18);
    c->recent_us = ONE_OF(w, 0, 1000000, 5000000);
    c->strict_identity = decide(&w->luck, 2) == 1;
    c->wipe_recycled = w->calls % 3 == 1; /* not drawn: what a seed does stays the same */
    c->scrub_bytes_s = w->calls % 2 == 1 ? 1 << 20 : 0;
    w->spacious = false;
    world_met(w, MET_NEW_POLICY);
}

/* A reload. Sizes change more often than policies. */
void change_live(struct world *w)
{
    static const uint32_t seqs[] = {0, 16, 256, 1024}, bytes[] = {0, 4096, 65536, 1 << 20};
    struct spool_config *c = &w->knobs.spool;
    c->window_seqs = seqs[decide(&w->luck, 4)];
    c->window_bytes = bytes[decide(&w->luck, 4)];
    c->cache_bytes = bytes[decide(&w->luck, 4)];
    if (decide(&w->luck, 3) == 1)
        change_policies(w);
    change_note(w);
    if (w->verbose)
        world_say(w,
                  "reconfigure: window %u seqs, %" PRIu64 " bytes, cache %" PRIu64
                  ", durability %d, when_full %d, quota %" PRIu64 ", age %" PRIu64,
                  c->window_seqs, c->window_bytes, c->cache_bytes, c->durability, c->when_full, c->max_bytes,
                  c->max_age_us);
    spool_reconfigure(w->spool, c);
}

/* Between two lives. */
void change_at_start(struct world *w)
{
    struct spool_config *c = &w->knobs.spool;
    if (decide_rarely(&w->luck, w->knobs.one_in_new_config) && !w->quiet) {
        c->segment_bytes = ONE_OF(w, 1 << 16, 1 << 17, 1 << 18, 1 << 20, 1 << 21);
        c->commit_align = ONE_OF(w, 0, 0, 512, 4096);
        change_policies(w);
    }
    change_note(w);
    /* A weaker mode keeps what stands behind a torn place, whoever wrote it, and counts the hole. */
    if (w->power_lost && c->durability != SPOOL_FSYNC)
        w->model.loose = true;
}
