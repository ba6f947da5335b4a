/* world: the run from its first start to its quiet end. See world.h. */
#include "tests/sim/world.h"

#include "tests/sim/heap.h"
#include "tests/sim/runner.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint64_t branches_met[MET_COUNT + DISK_OPS];

void world_met(struct world *w, enum branch what)
{
    (void)w;
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
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    w->failed = true;
    run_fail(text);
}

void world_say(struct world *w, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)printf("%9" PRIu64 " %12" PRIu64 " ", w->steps, w->now_us);
    (void)vprintf(format, args);
    (void)putchar('\n');
    va_end(args);
}

bool world_open(const struct world *w)
{
    return w->spool != NULL && w->opened && !w->stopping && !w->storage_failed;
}

void world_at(struct world *w, uint64_t in_us, enum happening kind, unsigned life, uint64_t a, uint64_t b,
              uint64_t c)
{
    struct due due = {w->now_us + in_us, ++w->order, (int)kind, life, a, b, c};
    if (!queue_put(&w->queue, &due))
        world_fail(w, "the simulator's queue is full: event %d", kind);
}

/* --- after every event ------------------------------------------------------------------------------ */

static void on_opened(struct world *w)
{
    if (w->moved && w->knobs.spool.require_local_fs)
        world_fail(w, "opened on a file system that require_local_fs refuses");
    w->opened = true;
    w->starts_crashed = 0;
    w->opened_us = w->now_us;
    if (w->verbose)
        world_say(w, "opened, acked %" PRIu64, spool_acked(w->spool));
    for (unsigned k = 0; k < w->note_count && change_may_drop(w); k++)
        if (w->notes[k].kind == NOTE_LOST)
            model_dropped_at_start(w, w->notes[k].batch_no);
    model_opened(w);
    client_opened(w);
    floor_opened(w);
    w->power_lost = false;
    w->weak_life = w->knobs.spool.durability != SPOOL_FSYNC; /* what was written is synced now */
    recent_check(w);
    struct span user = spool_user(w->spool);
    uint64_t counter = 0;
    if (user.len != 0 && user.len != 24)
        world_fail(w, "the user's counters came back with %zu bytes", user.len);
    if (user.len == 24)
        memcpy(&counter, user.at, sizeof(counter));
    if (counter > w->user_counter && !w->model.loose)
        world_fail(w, "the user's counters were never %" PRIu64, counter);
    world_trace(w, counter);
}

static void take_notes(struct world *w)
{
    /* Handling one may not bring more: notes come from job_done and tick only. */
    for (unsigned k = 0; k < w->note_count; k++) {
        const struct spool_note *note = &w->notes[k];
        world_trace(w, (uint64_t)note->kind << 32 ^ note->batch_no);
        w->steps++;
        if (note->kind == NOTE_OPENED)
            on_opened(w);
        else if (note->kind == NOTE_CLOSED)
            w->closed = true;
        else
            client_note(w, note);
    }
    w->note_count = 0;
}

static void look_at_state(struct world *w)
{
    enum spool_state state = spool_state(w->spool);
    uint64_t acked = spool_acked(w->spool);
    if (state == SPOOL_FULL)
        world_met(w, MET_FULL);
    if (state == SPOOL_DEGRADED)
        world_met(w, MET_DEGRADED);
    if (w->storage_failed && acked != w->acked && w->opened)
        world_fail(w, "acked moved from %" PRIu64 " to %" PRIu64 " after storage had failed", w->acked,
                   acked);
    if (acked < w->acked && w->opened)
        world_fail(w, "acked went back from %" PRIu64 " to %" PRIu64, w->acked, acked);
    if (acked > w->acked && w->opened) {
        if (w->acked != 0)
            model_acked(w, acked);
        if (w->knobs.aimed && !w->quiet && decide_rarely(&w->luck, 64))
            w->dying = DIE_BY_POWER; /* the sender has just been answered */
    }
    w->acked = acked;
    if (disk_resyncs(w->disk) != 0)
        world_fail(w, "a file whose sync had failed was synced again");
}

static void check_space(struct world *w)
{
    const struct allowed *a = &w->allowed;
    /* Each start begins a segment before it deletes those of starts that ended at once. */
    if (w->now_us > w->opened_us + 300000 + 16 * (uint64_t)w->knobs.job_us)
        w->short_lives = 0;
    uint64_t most = a->max_bytes + a->dead_max_bytes + (1 + w->short_lives) * a->segment_bytes + 64 * 1024;
    /* What is damaged is put aside, and counts for nobody. */
    uint64_t used = disk_used(w->disk) - disk_used_by(w->disk, "quarantine/");
    if (used > most && !w->knobs.faults && !w->knobs.vandal && !w->knobs.lying)
        world_fail(w, "%" PRIu64 " bytes are allocated, the quota is %" PRIu64, used,
                   a->max_bytes);
}

/* With plenty of room finished segments stay for the ids in them: an eighth of the quota, or four segments. The segment
 * that comes next counts as there, since a file that is to go becomes it; whether it is there already cannot be seen. */
static void watch_room(struct world *w)
{
    const struct spool_config *c = &w->knobs.spool;
    uint64_t quota = c->max_bytes, eighth = quota / 8, four = 4 * c->segment_bytes;
    uint64_t plenty = eighth > four ? eighth : four;
    struct spool_ledger l;
    if (!w->spacious)
        return;
    spool_ledger(w->spool, &l);
    uint64_t used = l.allocated_bytes + w->allowed.segment_bytes;
    if (spool_state(w->spool) != SPOOL_OK || used > plenty || used > quota / 2)
        w->spacious = false;
}

static void after_event(struct world *w)
{
    if (w->spool == NULL)
        return;
    take_notes(w);
    if (w->opened && w->acked == 0)
        w->acked = spool_acked(w->spool);
    look_at_state(w);
    if (w->opened) {
        model_check(w);
        watch_room(w);
        floor_check(w);
        if (w->steps % 16 == 0)
            check_space(w);
    }
    if (w->storage_failed) { /* the supervisor starts it again */
        world_met(w, MET_FAILED);
        if (w->verbose)
            world_say(w, "storage failed: restart");
        process_die(w, false, (struct disk_fate){0});
        w->starts_crashed = 0;
        world_at(w, 100000 + decide(&w->luck, 2000000), EV_START, 0, 0, 0, 0);
    }
}

static void start_later(struct world *w)
{
    if (w->knobs.vandal && !w->quiet && decide(&w->luck, 4) == 1) {
        w->model.loose = w->model.loose_tail = true;
        world_met(w, MET_VANDAL);
        (void)disk_vandalise(w->disk, "", &w->luck);
    }
    world_at(w, 1 + decide(&w->luck, 100000), EV_START, 0, 0, 0, 0);
}

static void die_if_due(struct world *w)
{
    if (!w->quiet && w->spool != NULL && w->dying == ALIVE && w->die_at_call == 0) {
        if (decide_rarely(&w->luck, w->knobs.one_in_kill))
            w->dying = DIE_BY_KILL;
        else if (decide_rarely(&w->luck, w->knobs.one_in_power))
            w->dying = DIE_BY_POWER;
    }
    if (w->dying == ALIVE)
        return;
    if (w->spool == NULL) {
        w->dying = ALIVE;
        return;
    }
    struct disk_fate fate = {FATE_RANDOM, 0};
    if (w->die_at_call != 0) {
        fate = w->die_fate;
        w->die_at_call = w->die_again_at_call == 0 ? 0 : w->calls + w->die_again_at_call;
        w->die_fate = w->die_again_fate;
        w->die_again_at_call = 0;
    } else if (w->dying == DIE_BY_POWER) {
        static const int kinds[] = {FATE_LOST,     FATE_RANDOM,   FATE_RANDOM,     FATE_KEPT,
                                    FATE_ONE_LOST, FATE_ONE_KEPT, FATE_ONE_GARBAGE};
        fate.kind = kinds[decide(&w->luck, 7)];
        unsigned pending = disk_pending(w->disk);
        fate.one = pending == 0 ? 0 : decide(&w->luck, pending);
    }
    process_die(w, w->dying == DIE_BY_POWER, fate);
    w->script_over = true;
    start_later(w);
}

/* --- mischief from outside -------------------------------------------------------------------------- */

static void mischief(struct world *w)
{
    const struct knobs *k = &w->knobs;
    if (decide_rarely(&w->luck, k->one_in_outage) && !w->upstream_down) {
        w->upstream_down = true;
        world_at(w, 1000 + decide(&w->luck, 30000000), EV_HEAL_UPSTREAM, 0, 0, 0, 0);
    }
    if (decide_rarely(&w->luck, k->one_in_wall_jump)) {
        world_met(w, MET_WALL_JUMP);
        w->wall_offset_ns +=
            decide(&w->luck, 2) == 0 ? UINT64_C(50) * 365 * 86400 * 1000000000 : (uint64_t)-1000000000 * 3600;
    }
    if (decide_rarely(&w->luck, k->one_in_squeeze) && w->squeezed == 0) {
        world_met(w, MET_SQUEEZE);
        w->squeezed = disk_used(w->disk) + UINT64_C(8) * decide(&w->luck, 65536); /* some take a small segment */
        disk_set_capacity(w->disk, w->squeezed);
        world_at(w, 1000 + decide(&w->luck, 10000000), EV_HEAL_DISK, 0, 0, 0, 0);
    }
    /* Not while letters are replayed: what that appends is followed by their number, which rot makes uncertain. */
    if (k->rot && w->rots < k->rots_max && decide_rarely(&w->luck, k->one_in_rot) && !w->letters.going) {
        w->model.loose = w->model.loose_tail = true;
        world_met(w, MET_ROT);
        w->rots += disk_rot(w->disk, "", decide(&w->luck, ROT_KINDS), &w->luck);
    }
    if (world_open(w) && decide_rarely(&w->luck, 512)) {
        uint64_t blob[3] = {++w->user_counter, 0, 0};
        spool_set_user(w->spool, span_of(blob, sizeof(blob)));
    }
    if (world_open(w) && decide_rarely(&w->luck, k->one_in_reconfigure))
        change_live(w);
    if (world_open(w) && decide_rarely(&w->luck, k->one_in_dead_request))
        letters_list(w);
    if (world_open(w) && decide_rarely(&w->luck, 4 * k->one_in_dead_request))
        letters_purge(w);
    if (world_open(w) && decide_rarely(&w->luck, 2 * k->one_in_dead_request))
        letters_replay(w);
    if (world_open(w))
        letters_turn(w);
    if (world_open(w) && decide_rarely(&w->luck, k->one_in_stop)) {
        w->stopping = true;
        world_met(w, MET_STOP);
        if (w->verbose)
            world_say(w, "stop");
        spool_close(w->spool);
    }
}

/* --- dispatch --------------------------------------------------------------------------------------- */

static void finish_stop(struct world *w)
{
    spool_free(w->spool);
    w->spool = NULL;
    w->life = 0;
    w->dead_busy = false;
    w->letters = (struct letter_book){0};
    w->opened = w->stopping = w->closed = false;
    if (heap_blocks() != 0)
        world_fail(w, "an orderly stop left %zu blocks of memory (%zu bytes)", heap_blocks(), heap_bytes());
    if (disk_descriptors(w->disk) != 0)
        world_fail(w, "an orderly stop left %u files open", disk_descriptors(w->disk));
    disk_kill(w->disk);
    model_died(w, false);
}

static void heal_disk(struct world *w)
{
    w->disk_error = 0;
    w->squeezed = 0;
    disk_set_capacity(w->disk, UINT64_C(1) << 40);
}

static void dispatch(struct world *w, const struct due *e)
{
    switch (e->kind) {
    case EV_START:
        if (w->spool == NULL)
            process_start(w);
        break;
    case EV_RUN_JOB:
    case EV_JOB_DONE:
    case EV_TIMER:
        process_event(w, e);
        break;
    case EV_PRODUCE:
        if (w->script != NULL)
            script_turn(w);
        else if (!w->quiet)
            producer_turn(w);
        break;
    case EV_CLIENT:
        if (e->a == w->client_wake_us)
            w->client_wake_us = 0;
        else if (w->queue.count > QUEUE_MAX / 2)
            break; /* Overtaken by an earlier one: a turn that nobody needs, and each brings new ones. */
        client_turn(w);
        break;
    case EV_ARRIVE:
        upstream_arrive(w, e);
        break;
    case EV_REPLY:
        if (world_open(w))
            client_reply(w, e);
        break;
    case EV_GIVE_UP_WAITING:
        if (world_open(w))
            client_no_reply(w, e);
        break;
    case EV_HEAL_DISK:
        heal_disk(w);
        break;
    case EV_HEAL_UPSTREAM:
        w->upstream_down = false;
        break;
    case EV_KINDS:
        break;
    }
}

static void step(struct world *w)
{
    if (w->queue.count == 0)
        world_fail(
            w,
            "nothing will ever happen again: state %d, opened %d, stopping %d, %u batches, acked %" PRIu64
            " of %zu",
            w->spool == NULL ? -1 : (int)spool_state(w->spool), w->opened, w->stopping, w->flight_count,
            w->acked, w->model.last_seq);
    struct due e = queue_take(&w->queue);
    if (e.life != 0 && e.life != w->life)
        return;
    w->now_us = e.at_us > w->now_us ? e.at_us : w->now_us;
    w->steps++;
    world_trace(w, e.at_us ^ (uint64_t)e.kind << 56);
    if (w->verbose && e.kind != EV_PRODUCE)
        world_say(w, " event %d", e.kind);
    dispatch(w, &e);
    if (w->dying == ALIVE)
        after_event(w);
    if (!w->quiet && w->dying == ALIVE && w->script == NULL)
        mischief(w);
    die_if_due(w);
    if (w->closed) {
        finish_stop(w);
        start_later(w);
    }
}

/* --- the whole run ---------------------------------------------------------------------------------- */

static bool drained(struct world *w)
{
    struct spool_ledger l;
    if (!world_open(w) || w->dead_busy || w->flight_count != 0 || spool_acked(w->spool) != w->model.last_seq)
        return false;
    spool_ledger(w->spool, &l);
    return l.pending == 0;
}

static void drain(struct world *w)
{
    uint64_t deadline = w->now_us + UINT64_C(4) * 3600 * 1000000, steps_end = w->steps + 3000000;
    while (!drained(w)) {
        step(w);
        if (w->now_us > deadline || w->steps > steps_end) {
            struct spool_ledger l = {0};
            for (unsigned k = 0; w->verbose && k < FLIGHTS_MAX; k++)
                if (w->flights[k].used)
                    world_say(w,
                              "stuck: batch %" PRIu64
                              " durable %d sent %d settling %d loading %d broken %d doomed %d verdict %d",
                              w->model.batches[w->flights[k].batch].id.batch_no, w->flights[k].durable,
                              w->flights[k].sent, w->flights[k].settling, w->flights[k].loading,
                              w->flights[k].broken, w->flights[k].doomed, w->flights[k].verdict);
            if (w->spool != NULL)
                spool_ledger(w->spool, &l);
            world_fail(w,
                       "does not drain: state %d, %" PRIu64 " pending, %u batches, acked %" PRIu64
                       " of %zu after %" PRIu64 " s",
                       w->spool == NULL ? -1 : (int)spool_state(w->spool), l.pending, w->flight_count,
                       w->spool == NULL ? 0 : spool_acked(w->spool), w->model.last_seq,
                       (w->now_us + UINT64_C(4) * 3600 * 1000000 - deadline) / 1000000);
        }
    }
}

static void stop_and_start(struct world *w)
{
    unsigned life = w->life;
    uint64_t steps_end = w->steps + 100000;
    w->stopping = true;
    spool_close(w->spool);
    while (w->life == life || !world_open(w)) {
        step(w);
        if (w->steps > steps_end)
            world_fail(w, "a stop and start does not end");
    }
}

static void quieten(struct world *w)
{
    w->quiet = w->luck.plain = true;
    heal_disk(w);
    disk_set_lying(w->disk, false);
    w->upstream_down = false;
    w->fail_next_sync = 0;
    w->knobs.one_in_busy = w->knobs.one_in_reply_lost = w->knobs.one_in_request_lost =
        w->knobs.one_in_let_go = 0;
    /* A full spool settles once a second: batches of one event would take it days. */
    w->knobs.batch_events = 100;
    w->knobs.batch_bytes = 1 << 20;
    w->knobs.too_many = 1000;
    w->knobs.concurrency = 4;
    w->knobs.one_in_rewind = w->knobs.one_in_drop = 0;
    /* Nobody puts back the letters of a list that is still under way: who waited for that could not purge any more. */
    w->letters.wanted = false;
    if (w->spool == NULL)
        world_at(w, 1, EV_START, 0, 0, 0, 0);
    if (w->spool != NULL)
        client_turn(w);
}

static void begin(struct world *w)
{
    struct disk_gate gate = process_gate(w);
    model_reset(&w->model);
    disk_reset(w->disk);
    heap_drop();
    w->trace = w->seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
    knobs_draw(w);
    w->spacious = true;
    if (w->script != NULL)
        script_begin(w);
    change_note(w);
    disk_set_gate(w->disk, &gate);
    disk_set_ordered(w->disk, decide(&w->luck, 4) != 1);
    disk_set_lying(w->disk, w->knobs.lying);
    world_at(w, 1, EV_START, 0, 0, 0, 0);
    world_at(w, 10, EV_PRODUCE, 0, 0, 0, 0);
}

void world_run(struct world *w)
{
    begin(w);
    while (w->script != NULL ? !w->script_over : w->steps < w->steps_max)
        step(w);
    w->script_calls = w->calls;
    quieten(w);
    drain(w);
    model_check_end(w);
    stop_and_start(w);
    drain(w);
    model_check_end(w);
    world_trace(w, disk_hash(w->disk));
    process_die(w, false, (struct disk_fate){0});
}
