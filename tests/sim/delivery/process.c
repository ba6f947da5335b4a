/* process: the program as the simulator hosts it: its jobs, its timer, its notes, its birth and its death.
 *
 * A job runs in a fiber. Before and after each of its disk calls the process may die, the call may fail, or
 * the job rests while the rest of the world goes on. */
#include "tests/sim/delivery/world.h"

#include "lib/base/clock.h"
#include "lib/codec/compress.h"
#include "lib/output/batch.h"
#include "tests/sim/fiber.h"
#include "tests/sim/heap.h"

#include <errno.h>
#include <inttypes.h>

/* --- the gate ----------------------------------------------------------------------------------------- */

/* The spool's own simulator is thorough about faults; here they are what the output must live with. */
static int draw_fault(struct world *w, const struct disk_call *call)
{
    static const int errors[] = {-ENOSPC, -EIO, -EDQUOT};
    if (!jobs_call_writes(call))
        return DISK_GO;
    uint32_t kind = decide(&w->luck, 6);
    if (call->op == DISK_PWRITEV && kind == 1)
        return DISK_SHORT;
    if (kind < 4) {
        w->stall_us = 100000 + decide(&w->luck, 5000000);
        return DISK_GO;
    }
    int error = errors[decide(&w->luck, 3)];
    if (decide(&w->luck, 4) == 1) { /* it lasts */
        w->disk_error = error;
        world_at(w, 1000 + decide(&w->luck, 5000000), EV_HEAL_DISK, 0, 0, 0);
    }
    return error;
}

static int gate_enter(void *ctx, const struct disk_call *call)
{
    struct world *w = ctx;
    w->steps++;
    world_trace(w, (uint64_t)call->op << 48 ^ call->offset << 16 ^ call->len);
    if (!fiber_inside())
        return DISK_GO;
    world_point(w);
    if (w->quiet)
        return DISK_GO;
    if (decide_rarely(&w->luck, w->knobs.one_in_rest))
        fiber_rest();
    if (decide_rarely(&w->luck, w->knobs.one_in_write_back))
        disk_write_back(w->disk, &w->luck);
    if (w->disk_error != 0 && jobs_call_writes(call))
        return w->disk_error;
    return decide_rarely(&w->luck, w->knobs.one_in_fault) ? draw_fault(w, call) : DISK_GO;
}

static void gate_leave(void *ctx, const struct disk_call *call, int64_t result)
{
    struct world *w = ctx;
    world_trace(w, (uint64_t)result ^ (uint64_t)call->op << 56);
    if (fiber_inside())
        world_point(w);
}

struct disk_gate process_gate(struct world *w)
{
    return (struct disk_gate){w, gate_enter, gate_leave};
}

/* --- the host ----------------------------------------------------------------------------------------- */

static uint64_t some_time(struct world *w)
{
    uint64_t us = 1 + decide(&w->luck, w->knobs.job_us) + w->stall_us;
    w->stall_us = 0;
    return us;
}

static void host_submit(void *ctx, struct spool_job *job)
{
    struct world *w = ctx;
    unsigned which = jobs_submit(&w->jobs, w->disk, job);
    if (which == JOBS_MAX)
        world_fail(w, "more than %u jobs at once", JOBS_MAX);
    world_at(w, some_time(w), EV_RUN_JOB, w->life, which, 0);
}

static uint64_t host_mono(void *ctx)
{
    return ((struct world *)ctx)->now_us;
}

static uint64_t host_wall(void *ctx)
{
    return world_wall_ns(ctx);
}

static uint64_t host_random(void *ctx)
{
    struct world *w = ctx;
    /* Not from the stream: a salt must differ even when the stream is cut. */
    return w->trace * UINT64_C(0x9E3779B97F4A7C15) ^ ++w->order * UINT64_C(0xD1342543DE82EF95);
}

static void host_timer(void *ctx, uint64_t at_us)
{
    ((struct world *)ctx)->timer_at_us = at_us;
}

static void on_opened(struct world *w)
{
    uint64_t key, content, wall_ns;
    w->opened = true;
    w->starts_crashed = 0;
    while (output_recent_next(w->output, &key, &content, &wall_ns))
        world_trace(w, key);
    oracle_opened(w);
}

static void host_note(void *ctx, const struct spool_note *note)
{
    struct world *w = ctx;
    if (!w->may_note)
        world_fail(w, "note %d came from inside a call", note->kind);
    world_trace(w, (uint64_t)note->kind << 32 ^ note->batch_no);
    if (w->verbose)
        world_say(w, "  note %d batch %" PRIu64 " %s", note->kind, note->batch_no,
                  note->fault == NULL ? "" : note->fault->text);
    output_note(w->output, note);
    w->dirty = true;
    if (note->kind == NOTE_OPENED)
        on_opened(w);
    else if (note->kind == NOTE_FAILED)
        w->storage_failed = true;
    else if (note->kind == NOTE_CLOSED)
        w->closed = true;
}

/* --- life and death ----------------------------------------------------------------------------------- */

void process_start(struct world *w)
{
    struct spool_vfs vfs = disk_vfs(w->disk);
    struct spool_host host = {w, host_submit, host_mono, host_wall, host_random, host_timer, host_note};
    w->life = ++w->lives;
    w->opened = w->stopping = w->closed = w->storage_failed = w->dirty = false;
    w->acked = 0;
    w->idle_connections = 0;
    w->clock = (struct clock){w, host_mono, host_wall};
    if (!w->quiet && w->lives > 1 && decide_rarely(&w->luck, w->knobs.one_in_envelope)) {
        w->envelope ^= 1;
        w->knobs.output.api.ndjson = w->envelope != 0;
    }
    if (w->verbose)
        world_say(w, "start %u", w->life);
    w->spool = spool_new(&w->knobs.spool, &vfs, &host);
    w->output = output_new(&w->knobs.output, w->spool, &w->clock, host_random(w));
    oracle_configured(w);
    spool_open(w->spool);
}

static void gone(struct world *w)
{
    oracle_life_ended(w);
    shell_forget(w);
    w->spool = NULL;
    w->output = NULL;
    w->life = 0;
    w->opened = w->stopping = w->closed = w->storage_failed = w->dirty = w->paused = false;
    w->probe_out = w->dead_busy = false;
    w->stall_us = 0;
    w->timer_at_us = w->wake_at_us = 0;
}

void process_die(struct world *w, bool power, struct disk_fate fate)
{
    jobs_drop(&w->jobs);
    world_met(power ? MET_POWER : MET_KILL);
    if (!w->opened)
        world_met(MET_CRASH_IN_START);
    w->starts_crashed = w->opened ? 0 : w->starts_crashed + 1;
    if (w->verbose)
        world_say(w, "%s", power ? "power loss" : "kill");
    /* What libraries allocated is not on the simulated heap: the output gives it back. */
    for (unsigned k = 0; k < sizeof w->encodings / sizeof *w->encodings; k++)
        if (w->encodings[k] != NULL) {
            encoder_free(w->encodings[k]->encoder);
            w->encodings[k] = NULL;
        }
    output_free(w->output);
    heap_drop();
    gone(w);
    if (power)
        disk_power_loss(w->disk, fate, &w->luck);
    else
        disk_kill(w->disk);
}

void process_stop(struct world *w)
{
    world_met(MET_STOP);
    if (w->verbose)
        world_say(w, "stop");
    shell_break_all(w);
    shell_end_encodings(w);
    w->stopping = true;
    spool_close(w->spool);
}

void process_stopped(struct world *w)
{
    output_free(w->output);
    spool_free(w->spool);
    gone(w);
    if (heap_blocks() != 0)
        world_fail(w, "an orderly stop left %zu blocks of memory (%zu bytes)", heap_blocks(), heap_bytes());
    if (disk_descriptors(w->disk) != 0)
        world_fail(w, "an orderly stop left %u files open", disk_descriptors(w->disk));
    disk_kill(w->disk);
}

void process_event(struct world *w, const struct due *e)
{
    unsigned which = (unsigned)e->a % JOBS_MAX;
    switch (e->kind) {
    case EV_RUN_JOB:
        if (!jobs_run(&w->jobs, which)) {
            if (w->dying == ALIVE)
                world_at(w, some_time(w), EV_RUN_JOB, w->life, e->a, 0);
            return;
        }
        world_at(w, some_time(w), EV_JOB_DONE, w->life, e->a, 0);
        return;
    case EV_JOB_DONE:
        w->may_note = true;
        jobs_end(&w->jobs, which);
        w->may_note = false;
        return;
    case EV_TIMER:
        w->may_note = true;
        spool_tick(w->spool);
        w->may_note = false;
        return;
    default:
        return;
    }
}
