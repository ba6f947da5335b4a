/* world: the run from its first start to its quiet end. See world.h. */
#include "tests/sim/delivery/world.h"

#include "lib/base/clock.h"
#include "tests/sim/fiber.h"
#include "tests/sim/runner.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define WALL_START_NS (UINT64_C(1700000000) * NS_PER_S)

uint64_t branches_met[MET_COUNT];

void world_met(enum branch what)
{
    branches_met[what]++;
}

void world_trace(struct world *w, uint64_t x)
{
    w->trace = (w->trace ^ x) * UINT64_C(0x9FB21C651E98DF25);
    w->trace ^= w->trace >> 29;
}

_Noreturn void world_fail(struct world *w, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    (void)w;
    run_fail(text);
}

void world_say(struct world *w, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)printf("%7" PRIu64 " %14.6f ", w->steps, (double)w->now_us / 1e6);
    (void)vprintf(format, args);
    (void)putchar('\n');
    va_end(args);
}

bool world_open(const struct world *w)
{
    return w->output != NULL && w->opened && !w->stopping && !w->storage_failed && w->dying == ALIVE;
}

uint64_t world_wall_ns(const struct world *w)
{
    return WALL_START_NS + w->now_us * 1000 + w->wall_offset_ns;
}

void world_at(struct world *w, uint64_t in_us, enum happening kind, unsigned life, uint64_t a, uint64_t b)
{
    struct due due = {w->now_us + in_us, ++w->order, (int)kind, life, a, b, 0};
    if (!queue_put(&w->queue, &due))
        world_fail(w, "the simulator's queue is full: event %d", kind);
}

/* --- death -------------------------------------------------------------------------------------------- */

static struct disk_fate draw_fate(struct world *w)
{
    static const int kinds[] = {FATE_LOST, FATE_RANDOM, FATE_KEPT, FATE_RANDOM, FATE_ONE_LOST, FATE_ONE_KEPT};
    struct disk_fate fate = {.kind = kinds[decide(&w->luck, 6)]};
    unsigned pending = disk_pending(w->disk);
    fate.one = pending == 0 ? 0 : decide(&w->luck, pending);
    return fate;
}

/* Starts are worth dying in, and so are the moments that matter. */
static void maybe_die(struct world *w, uint32_t more)
{
    const struct knobs *k = &w->knobs;
    if (w->quiet || w->dying != ALIVE || w->output == NULL || w->starts_crashed >= 5)
        return;
    if (decide_rarely(&w->luck, k->one_in_kill == 0 ? 0 : 1 + k->one_in_kill / more))
        w->dying = DIE_BY_KILL;
    else if (decide_rarely(&w->luck, k->one_in_power == 0 ? 0 : 1 + k->one_in_power / more))
        w->dying = DIE_BY_POWER;
}

void world_point(struct world *w)
{
    w->points++;
    if (w->die_at_point != 0 && w->points >= w->die_at_point && w->output != NULL && !w->quiet)
        w->dying = w->die_by_kill ? DIE_BY_KILL : DIE_BY_POWER;
    maybe_die(w, w->opened ? 1 : 4);
    if (w->dying != ALIVE && fiber_inside())
        fiber_rest(); /* and never comes back */
}

static void die(struct world *w)
{
    struct disk_fate fate = {FATE_RANDOM, 0};
    bool power = w->dying == DIE_BY_POWER;
    w->dying = ALIVE;
    if (w->output == NULL)
        return;
    if (w->die_at_point != 0) {
        fate = w->die_fate;
        w->die_at_point = w->die_again_after == 0 ? 0 : w->points + w->die_again_after;
        w->die_by_kill = w->die_again_by_kill;
        w->die_again_after = 0;
    } else if (power) {
        fate = draw_fate(w);
    }
    process_die(w, power, fate);
    world_at(w, 1 + decide(&w->luck, decide(&w->luck, 4) == 1 ? 3000000 : 1000), EV_START, 0, 0, 0);
}

/* --- from outside ------------------------------------------------------------------------------------- */

static void heal_disk(struct world *w)
{
    w->disk_error = 0;
    w->squeezed = 0;
    disk_set_capacity(w->disk, UINT64_C(1) << 40);
}

static void mischief(struct world *w)
{
    const struct knobs *k = &w->knobs;
    upstream_mischief(w);
    if (decide_rarely(&w->luck, k->one_in_wall_jump)) {
        static const int64_t jumps_s[] = {3600, -3600, 1, -1, 20 * 365 * 86400};
        w->wall_offset_ns += (uint64_t)(jumps_s[decide(&w->luck, 5)] * (int64_t)NS_PER_S);
    }
    if (decide_rarely(&w->luck, k->one_in_squeeze) && w->squeezed == 0) {
        w->squeezed = disk_used(w->disk) + decide(&w->luck, 65536);
        disk_set_capacity(w->disk, w->squeezed);
        world_at(w, 1000 + decide(&w->luck, 10000000), EV_HEAL_DISK, 0, 0, 0);
    }
    if (decide_rarely(&w->luck, k->one_in_rot)) {
        world_met(MET_ROT);
        oracle_rotten(w, disk_rot(w->disk, "", decide(&w->luck, ROT_KINDS), &w->luck));
    }
    if (world_open(w) && decide_rarely(&w->luck, k->one_in_whim))
        senders_whim(w);
    if (world_open(w) && decide_rarely(&w->luck, k->one_in_stop))
        process_stop(w);
}

/* --- the loop ----------------------------------------------------------------------------------------- */

static void dispatch(struct world *w, const struct due *e)
{
    switch (e->kind) {
    case EV_START:
        if (w->output == NULL)
            process_start(w);
        break;
    case EV_RUN_JOB:
    case EV_JOB_DONE:
    case EV_TIMER:
        process_event(w, e);
        break;
    case EV_WAKE:
    case EV_ENCODED:
    case EV_ARRIVE:
    case EV_ANSWER:
    case EV_BREAK:
    case EV_PROBED:
        shell_event(w, e);
        break;
    case EV_PRODUCE:
        if (!w->quiet)
            senders_turn(w);
        break;
    case EV_HEAL_DISK:
        heal_disk(w);
        break;
    case EV_HEAL_UPSTREAM:
        w->down = false;
        break;
    case EV_KINDS:
        break;
    }
}

static void after_event(struct world *w)
{
    if (w->output == NULL)
        return;
    if (world_open(w)) {
        if (w->dirty)
            shell_step(w);
        senders_note_acked(w);
        oracle_check(w);
    }
    if (w->storage_failed) { /* the supervisor starts it again */
        world_met(MET_STORAGE_FAILED);
        w->starts_crashed = 0;
        w->dying = DIE_BY_KILL;
    }
}

/* The two timers are not in the queue: they are set anew all the time. */
static struct due next_happening(struct world *w)
{
    uint64_t at = w->queue.count == 0 ? UINT64_MAX : w->queue.heap[0].at_us;
    struct due timer = {.at_us = w->timer_at_us, .kind = EV_TIMER, .life = w->life};
    struct due wake = {.at_us = w->wake_at_us, .kind = EV_WAKE, .life = w->life};
    if (w->timer_at_us != 0 && w->timer_at_us <= at &&
        (w->wake_at_us == 0 || w->timer_at_us <= w->wake_at_us)) {
        w->timer_at_us = 0;
        return timer;
    }
    if (w->wake_at_us != 0 && w->wake_at_us <= at) {
        w->wake_at_us = 0;
        return wake;
    }
    if (w->queue.count == 0)
        world_fail(w, "nothing will ever happen again: opened %d, stopping %d", w->opened, w->stopping);
    return queue_take(&w->queue);
}

static void step(struct world *w)
{
    struct due e = next_happening(w);
    if (e.life != 0 && e.life != w->life)
        return;
    w->now_us = e.at_us > w->now_us ? e.at_us : w->now_us;
    w->steps++;
    world_trace(w, e.at_us ^ (uint64_t)e.kind << 56);
    dispatch(w, &e);
    if (w->dying == ALIVE)
        after_event(w);
    if (!w->quiet && w->dying == ALIVE && w->script == NULL)
        mischief(w);
    if (w->dying == ALIVE)
        world_point(w);
    if (w->knobs.aimed && (e.kind == EV_ARRIVE || e.kind == EV_ANSWER || e.kind == EV_BREAK))
        maybe_die(w, 64);
    if (w->dying != ALIVE)
        die(w);
    if (w->closed) {
        process_stopped(w);
        world_at(w, 1 + decide(&w->luck, 100000), EV_START, 0, 0, 0);
    }
}

/* --- the whole run ------------------------------------------------------------------------------------ */

static bool drained(struct world *w)
{
    struct spool_ledger l;
    if (!world_open(w) || !output_idle(w->output))
        return false;
    spool_ledger(w->spool, &l);
    return l.pending == 0;
}

/* The bounds count from the end of what an upstream asked for. Until then a spool with a max_age looks once a second. */
static void drain_bounds(struct world *w)
{
    if (w->asked_until_us <= w->phase_from_us)
        return;
    w->phase_deadline_us += w->asked_until_us - w->phase_from_us;
    w->phase_steps_end += 2 * (w->asked_until_us - w->phase_from_us) / US_PER_S;
    w->phase_from_us = w->asked_until_us;
}

static void drain_begin(struct world *w)
{
    w->phase_from_us = w->now_us;
    w->phase_deadline_us = w->now_us + UINT64_C(4) * 3600 * US_PER_S;
    w->phase_steps_end = w->steps + 400000;
    w->phase_turn = 1;
    drain_bounds(w);
}

static void drain_turn(struct world *w)
{
    step(w);
    if (world_open(w) && w->phase_turn % 50 == 0)
        senders_purge(w, false);       /* somebody makes room for letters */
    if (world_open(w) && w->stopped) { /* and goes on after "gone" */
        output_resume(w->output);
        oracle_resumed(w);
        w->dirty = true;
    }
    drain_bounds(w); /* an answer may have been on its way still */
    w->phase_turn++;
    if (w->now_us <= w->phase_deadline_us && w->steps <= w->phase_steps_end)
        return;
    struct output_status s = {0};
    if (w->output != NULL)
        output_status(w->output, &s);
    world_fail(w, "does not drain: %" PRIu64 " pending, %s, %u in flight, %u waiting, %u open: %s",
               s.ledger.pending, output_state_names[s.state], s.in_flight, s.waiting, s.open_batches,
               s.error);
}

static void list_begin(struct world *w)
{
    w->phase_steps_end = w->steps + 100000;
    w->letters_known = false;
    w->letters_after = 0;
}

static void list_turn(struct world *w)
{
    if (world_open(w) && !w->dead_busy)
        senders_list_letters(w);
    step(w);
    if (w->steps > w->phase_steps_end)
        world_fail(w, "a list of letters does not end");
}

static void restart_begin(struct world *w)
{
    w->phase_life = w->life;
    w->phase_steps_end = w->steps + 100000;
    process_stop(w);
}

static void restart_turn(struct world *w)
{
    step(w);
    if (w->steps > w->phase_steps_end)
        world_fail(w, "a stop and start does not end");
}

static void quieten(struct world *w)
{
    struct knobs *k = &w->knobs;
    w->quiet = w->luck.plain = true;
    w->script_points = w->points;
    heal_disk(w);
    w->down = false;
    w->unauthorized_until_us = w->certificate_until_us = 0;
    w->gone_until_us = w->turned_away_until_us = w->no_consent_until_us = 0;
    memset(w->no_partition_until_us, 0, sizeof w->no_partition_until_us);
    k->one_in_fault = k->one_in_rest = 0;
    k->one_in_refused = k->one_in_lost = k->one_in_answer_lost = k->one_in_torn = k->one_in_slow = 0;
    k->one_in_busy = k->one_in_error = k->one_in_page = k->one_in_row_later = k->one_in_short = 0;
    if (w->output == NULL)
        world_at(w, 1, EV_START, 0, 0, 0);
    if (w->paused && world_open(w)) {
        output_resume(w->output);
        oracle_resumed(w);
    }
    w->paused = false;
    w->dirty = true;
}

void world_begin(struct world *w)
{
    heap_init(&w->heap);
    heap_use(&w->heap);
    w->phase = RUNNING;
    struct disk_gate gate = process_gate(w);
    oracle_reset(w);
    disk_reset(w->disk);
    w->trace = w->seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
    w->now_us = US_PER_S;
    knobs_draw(w);
    if (w->script != NULL)
        knobs_script(w);
    disk_set_gate(w->disk, &gate);
    disk_set_ordered(w->disk, decide(&w->luck, 4) != 1);
    disk_set_lying(w->disk, false);
    disk_set_capacity(w->disk, UINT64_C(1) << 40);
    world_at(w, 1, EV_START, 0, 0, 0);
    world_at(w, 10, EV_PRODUCE, 0, 0, 0);
}

/* Does this phase go on? Then one more turn of it. */
static bool phase_goes_on(struct world *w)
{
    switch (w->phase) {
    case RUNNING:
        if (w->steps >= w->steps_max)
            return false;
        step(w);
        return true;
    case DRAINING:
    case DRAINING_AGAIN:
        if (drained(w))
            return false;
        drain_turn(w);
        return true;
    case LISTING:
    case LISTING_AGAIN:
        if (w->letters_known)
            return false;
        list_turn(w);
        return true;
    case RESTARTING:
        if (w->life != w->phase_life && world_open(w))
            return false;
        restart_turn(w);
        return true;
    case OVER:
        break;
    }
    return false;
}

bool world_turn(struct world *w)
{
    heap_use(&w->heap);
    if (w->phase == OVER || phase_goes_on(w))
        return w->phase != OVER;
    if (w->phase == RUNNING)
        quieten(w);
    else if (w->phase == LISTING || w->phase == LISTING_AGAIN)
        oracle_check_end(w);
    w->phase++;
    if (w->phase == DRAINING || w->phase == DRAINING_AGAIN)
        drain_begin(w);
    else if (w->phase == LISTING || w->phase == LISTING_AGAIN)
        list_begin(w);
    else if (w->phase == RESTARTING)
        restart_begin(w);
    if (w->phase != OVER)
        return true;
    world_trace(w, disk_hash(w->disk));
    process_die(w, false, (struct disk_fate){0});
    return false;
}

void world_run(struct world *w)
{
    world_begin(w);
    while (world_turn(w)) {
    }
}
