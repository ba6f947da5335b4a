/* knobs: what kind of run a seed is. Limits are drawn small, so that edges come often. */
#include "tests/sim/world.h"

static uint32_t one_of(struct world *w, const uint32_t *from, uint32_t count)
{
    return from[decide(&w->luck, count)];
}
#define ONE_OF(w, ...) \
    one_of(w, (const uint32_t[]){__VA_ARGS__}, \
           (uint32_t)(sizeof((const uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t)))

static void draw_spool(struct world *w)
{
    struct spool_config *c = &w->knobs.spool;
    *c = (struct spool_config){.name = "sim", .api_version = 1};
    c->segment_bytes = ONE_OF(w, 1 << 16, 1 << 17, 1 << 18, 1 << 20);
    c->max_bytes = c->segment_bytes * ONE_OF(w, 16, 6, 8, 32);
    c->dead_max_bytes = ONE_OF(w, 64 << 20, 64 << 20, 1 << 16, 1 << 18);
    c->durability =
        ONE_OF(w, SPOOL_FSYNC, SPOOL_FSYNC, SPOOL_FSYNC, SPOOL_FSYNC, SPOOL_INTERVAL, SPOOL_NO_SYNC);
    c->when_full = ONE_OF(w, SPOOL_BLOCK, SPOOL_BLOCK, SPOOL_DROP_OLDEST, SPOOL_DROP_NEWEST);
    c->commit_align = ONE_OF(w, 0, 0, 512, 4096);
    c->window_seqs = ONE_OF(w, 0, 0, 256, 1024);
    c->window_bytes = ONE_OF(w, 0, 65536, 262144);
    c->cache_bytes = ONE_OF(w, 0, 16384, 65536);
    c->recent_us = ONE_OF(w, 0, 0, 1000000);
    c->recent_max = ONE_OF(w, 100, 2000);
    c->min_free = ONE_OF(w, 0, 0, 0, 1 << 20);
    c->max_age_us = ONE_OF(w, 0, 0, 0, 0, 300000, 5000000);
    c->strict_identity = decide(&w->luck, 2) == 1;
    c->wipe_recycled = c->durability == SPOOL_FSYNC && decide(&w->luck, 8) == 1;
    c->scrub_bytes_s = ONE_OF(w, 0, 0, 1 << 20);
}

static void draw_dangers(struct world *w)
{
    struct knobs *k = &w->knobs;
    k->one_in_kill = ONE_OF(w, 0, 2000, 600, 4000);
    k->one_in_power = ONE_OF(w, 0, 2000, 600, 4000);
    k->aimed = decide(&w->luck, 3) == 1;
    uint32_t kind = decide(&w->luck, 16);
    k->faults = kind >= 6 && kind < 11;
    k->rot = kind == 11 || kind == 12;
    k->vandal = kind == 13;
    k->lying = kind == 14;
    k->one_in_fault = k->faults ? ONE_OF(w, 100, 25, 500) : 0;
    k->one_in_squeeze = k->faults || kind == 5 ? ONE_OF(w, 0, 3000) : 0;
    k->one_in_rot = k->rot ? ONE_OF(w, 2000, 10000, 400) : 0;
    k->one_in_rest = ONE_OF(w, 0, 8, 2);
    k->one_in_write_back = ONE_OF(w, 0, 16, 4);
    k->one_in_stop = ONE_OF(w, 0, 5000, 1500);
    k->one_in_wall_jump = ONE_OF(w, 0, 0, 2000);
}

static void draw_traffic(struct world *w)
{
    struct knobs *k = &w->knobs;
    k->job_us = ONE_OF(w, 300, 50, 3000, 30000);
    k->produce_us = ONE_OF(w, 1000, 200, 5000, 200000);
    k->latency_us = ONE_OF(w, 2000, 200, 50000);
    k->body_max = ONE_OF(w, 64, 300, 2000);
    k->append_max = ONE_OF(w, 4, 1, 16, 60);
    k->big_one_in = ONE_OF(w, 0, 40, 10);
    k->partitions = ONE_OF(w, 1, 1, 2, 4);
    k->batch_events = ONE_OF(w, 10, 1, 3, 100);
    k->batch_bytes = ONE_OF(w, 1 << 20, 4096, 30000);
    k->too_many = ONE_OF(w, 1000, 1000, 5, 1);
    k->concurrency = ONE_OF(w, 1, 2, 4);
    k->whole_batch_refusals = decide(&w->luck, 2) == 1;
    k->one_in_outage = ONE_OF(w, 0, 0, 2000);
    if (k->rot) {
        k->one_in_outage = ONE_OF(w, 0, 2000, 500); /* damage needs something to damage, */
        k->big_one_in = ONE_OF(w, 0, 0, 40);        /* and what it costs must be known */
        k->spool.max_age_us = 0;
        k->rots_max = ONE_OF(w, 1000, 1, 2);
    }
    k->one_in_request_lost = ONE_OF(w, 0, 20, 4);
    k->one_in_reply_lost = ONE_OF(w, 0, 20, 4);
    k->one_in_busy = ONE_OF(w, 0, 10, 3);
    k->one_in_bad_event = ONE_OF(w, 0, 0, 200, 20);
    /* Both together leave open which of them ended an event; the others say more without that. */
    if (k->spool.when_full == SPOOL_DROP_OLDEST || k->spool.max_age_us != 0)
        k->one_in_bad_event = 0;
    k->one_in_partial_retry = ONE_OF(w, 0, 0, 10);
    k->one_in_rewind = ONE_OF(w, 0, 0, 100);
    k->one_in_drop = ONE_OF(w, 0, 0, 100);
    k->one_in_dead_request = ONE_OF(w, 0, 2000);
    k->one_in_let_go = ONE_OF(w, 0, 0, 3);
}

void knobs_draw(struct world *w)
{
    w->knobs = (struct knobs){0};
    draw_spool(w);
    draw_dangers(w);
    draw_traffic(w);
    w->knobs.one_in_reconfigure = w->seed % 8 == 7 ? 1000 : 0;
    w->knobs.one_in_new_config = w->seed % 8 == 6 ? 2 : 0;
    if (w->seed / 8 % 8 == 5)
        w->knobs.spool.wipe_recycled = true;
    w->knobs.spool.require_local_fs = w->seed / 8 % 8 == 2;
    w->knobs.one_in_moved = w->seed / 8 % 8 == 2 || w->seed / 8 % 8 == 3 ? 3 : 0;
    w->knobs.one_in_mute = w->seed / 8 % 8 == 4 ? 4 : 0;
}
