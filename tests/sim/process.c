/* process: the program under test as the simulator hosts it: its jobs, its timer, its notes, and its death.
 *
 * A job runs in a fiber. Before and after each of its disk calls the gate may let the process die, fail the
 * call, or let the job rest while the rest of the world goes on. */
#include "tests/sim/fiber.h"
#include "tests/sim/heap.h"
#include "tests/sim/world.h"

#include "lib/base/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define WALL_START_NS (UINT64_C(1700000000) * NS_PER_S)

/* --- the gate --------------------------------------------------------------------------------------- */

static int draw_fault(struct world *w, const struct disk_call *call)
{
    static const struct {
        int error;
        enum branch met;
    } faults[] = {{-ENOSPC, MET_ENOSPC}, {-EDQUOT, MET_EDQUOT}, {-EIO, MET_EIO}, {-EROFS, MET_EROFS}};
    if (call->op == DISK_CLOSE || call->op == DISK_DONT_NEED || call->op == DISK_FSINFO ||
        call->op == DISK_STAT)
        return DISK_GO;
    if (!jobs_call_writes(call)) {
        /* A read that fails again when it is repeated is damage, and those runs are others. */
        if (w->calls < w->read_fault_call + 16 || decide(&w->luck, 4) != 0)
            return DISK_GO;
        w->read_fault_call = w->calls;
        world_met(w, MET_EIO);
        return call->op == DISK_OPEN && decide(&w->luck, 2) == 1 ? -EMFILE : -EIO;
    }
    uint32_t kind = decide(&w->luck, 8);
    if (call->op == DISK_PWRITEV && kind < 2) {
        world_met(w, MET_SHORT_WRITE);
        return DISK_SHORT;
    }
    if (call->op == DISK_FDATASYNC && kind < 5) {
        world_met(w, MET_SYNC_UNKNOWN);
        return DISK_SYNC_UNKNOWN;
    }
    if (kind == 5) { /* a stall: nothing fails, but nothing ends either */
        world_met(w, MET_STALL);
        w->stall_us = 1000000 + decide(&w->luck, 20000000);
        return DISK_GO;
    }
    unsigned which = decide(&w->luck, 4);
    if (call->op == DISK_FDATASYNC)
        world_met(w, MET_SYNC_REFUSED);
    world_met(w, faults[which].met);
    if (decide(&w->luck, 4) == 1) { /* it lasts */
        w->disk_error = faults[which].error;
        world_at(w, 1000 + decide(&w->luck, 5000000), EV_HEAL_DISK, 0, 0, 0, 0);
    }
    return faults[which].error;
}

static void die_here(struct world *w, bool power)
{
    w->dying = power ? DIE_BY_POWER : DIE_BY_KILL;
    fiber_rest(); /* and never comes back */
}

static void maybe_die(struct world *w)
{
    if (w->die_at_call != 0 && w->calls == w->die_at_call)
        die_here(w, !w->die_by_kill);
    if (w->quiet)
        return;
    uint32_t more = w->opened ? 1 : 4; /* starts are worth dying in */
    if (w->starts_crashed < 5 && decide_rarely(&w->luck, w->knobs.one_in_kill / more))
        die_here(w, false);
    if (w->starts_crashed < 5 && decide_rarely(&w->luck, w->knobs.one_in_power / more))
        die_here(w, true);
}

static int gate_enter(void *ctx, const struct disk_call *call)
{
    struct world *w = ctx;
    w->steps++;
    w->calls++;
    branches_met[MET_COUNT + call->op]++;
    if (w->verbose)
        world_say(w, "  call %" PRIu64 " %s %s %s @%" PRIu64 "+%" PRIu64, w->calls, disk_op_names[call->op],
                  call->name, call->to, call->offset, call->len);
    world_trace(w, (uint64_t)call->op << 48 ^ call->offset << 16 ^ call->len);
    if (!fiber_inside() && call->op == DISK_CLOSE)
        return DISK_GO; /* of files that nobody writes any more: the one call that an orderly end may make */
    if (!fiber_inside())
        world_fail(w, "a disk call (%s) outside a job", disk_op_names[call->op]);
    if (w->moved && w->knobs.spool.require_local_fs && jobs_call_writes(call))
        world_fail(w, "%s on a file system that require_local_fs refuses", disk_op_names[call->op]);
    maybe_die(w);
    if (call->op == DISK_FDATASYNC)
        floor_sync_begins(w, call);
    if (call->op == DISK_FDATASYNC && w->knobs.lying)
        world_met(w, MET_LYING);
    if (w->mute_from != 0 && w->calls > w->mute_from && !w->opened && call->op == DISK_PREAD) {
        world_met(w, MET_MUTE);
        return -EIO;
    }
    if (w->quiet)
        return DISK_GO;
    if (decide_rarely(&w->luck, w->knobs.one_in_rest))
        fiber_rest();
    if (decide_rarely(&w->luck, w->knobs.one_in_write_back))
        disk_write_back(w->disk, &w->luck);
    if (w->fail_next_sync != 0 && call->op == DISK_FDATASYNC) {
        w->fail_next_sync--;
        world_met(w, MET_SYNC_UNKNOWN);
        return DISK_SYNC_UNKNOWN;
    }
    if (w->disk_error != 0 && jobs_call_writes(call))
        return w->disk_error;
    return decide_rarely(&w->luck, w->knobs.one_in_fault) ? draw_fault(w, call) : DISK_GO;
}

static void gate_leave(void *ctx, const struct disk_call *call, int64_t result)
{
    struct world *w = ctx;
    w->calls++;
    world_trace(w, (uint64_t)result ^ (uint64_t)call->op << 56);
    if (w->verbose && result < 0)
        world_say(w, "    -> %" PRId64, result);
    if (call->op == DISK_PWRITEV && result > 0)
        floor_wrote(w, call);
    if (call->op == DISK_UNLINK && result == 0)
        floor_removed(w, call);
    if (call->op == DISK_FDATASYNC && result == 0)
        floor_synced(w, call);
    if (fiber_inside())
        maybe_die(w);
}

struct disk_gate process_gate(struct world *w)
{
    return (struct disk_gate){w, gate_enter, gate_leave};
}

/* --- the host --------------------------------------------------------------------------------------- */

static uint32_t some_time(struct world *w)
{
    uint32_t us = 1 + decide(&w->luck, w->knobs.job_us);
    uint32_t stall = w->stall_us;
    w->stall_us = 0;
    return us + stall;
}

static void host_submit(void *ctx, struct spool_job *job)
{
    struct world *w = ctx;
    unsigned which = jobs_submit(&w->jobs, w->disk, job);
    if (which == JOBS_MAX)
        world_fail(w, "more than %u jobs at once", JOBS_MAX);
    world_at(w, some_time(w), EV_RUN_JOB, w->life, which, 0, 0);
}

static uint64_t host_mono(void *ctx)
{
    return ((struct world *)ctx)->now_us;
}

static uint64_t host_wall(void *ctx)
{
    struct world *w = ctx;
    return WALL_START_NS + w->now_us * 1000 + w->wall_offset_ns;
}

static uint64_t host_random(void *ctx)
{
    struct world *w = ctx;
    /* Not from the stream: a salt must differ even when the stream is cut. */
    return w->trace * UINT64_C(0x9E3779B97F4A7C15) ^ ++w->order * UINT64_C(0xD1342543DE82EF95);
}

static void host_timer(void *ctx, uint64_t at_mono_us)
{
    struct world *w = ctx;
    w->timer_token++;
    if (at_mono_us != 0)
        world_at(w, at_mono_us > w->now_us ? at_mono_us - w->now_us : 0, EV_TIMER, w->life, w->timer_token, 0, 0);
}

static void host_note(void *ctx, const struct spool_note *note)
{
    struct world *w = ctx;
    if (!w->may_note)
        world_fail(w, "note %d came from inside a call", note->kind);
    if (w->note_count == sizeof(w->notes) / sizeof(*w->notes))
        world_fail(w, "too many notes at once");
    if (w->verbose)
        world_say(w, "  note %d batch %" PRIu64 " %s", note->kind, note->batch_no,
                  note->fault == NULL ? "" : note->fault->text);
    w->notes[w->note_count++] = *note;
    if (note->kind == NOTE_FAILED)
        w->storage_failed = true;
    if (note->kind == NOTE_FAILED && note->fault->err == ERR_CONFIG) {
        if (!w->moved || !w->knobs.spool.require_local_fs)
            world_fail(w, "refused: %s", note->fault->text);
        world_met(w, MET_MOVED_REFUSED);
    }
}

struct spool_host process_host(struct world *w)
{
    return (struct spool_host){w, host_submit, host_mono, host_wall, host_random, host_timer, host_note};
}

/* --- life and death --------------------------------------------------------------------------------- */

/* Where the spool was, something else is mounted, for this start: mostly a share of another machine, or memory. What is
 * there is the same, so whoever may serve it serves it. */
static void move(struct world *w)
{
    static const uint64_t types[] = {0x6969, 0x01021994, 0x65735546};
    w->moved = !w->quiet && decide_rarely(&w->luck, w->knobs.one_in_moved);
    disk_set_type(w->disk, w->moved ? types[decide(&w->luck, 3)] : 0xEF53);
    if (w->moved)
        world_met(w, MET_MOVED);
}

void process_start(struct world *w)
{
    struct spool_vfs vfs = disk_vfs(w->disk);
    struct spool_host host = process_host(w);
    w->life = ++w->lives;
    w->opened = w->stopping = w->closed = w->storage_failed = false;
    w->note_count = 0;
    w->acked = 0;
    client_reset(w);
    world_met(w, MET_START);
    if (w->verbose)
        world_say(w, "start %u", w->life);
    w->start_wall_ns = host_wall(w);
    change_at_start(w);
    move(w);
    bool mute = !w->quiet && decide_rarely(&w->luck, w->knobs.one_in_mute);
    w->mute_from = mute ? w->calls + 1 + decide(&w->luck, 200) : 0;
    w->short_lives++;
    w->spool = spool_new(&w->knobs.spool, &vfs, &host);
    spool_open(w->spool);
}

void process_die(struct world *w, bool power, struct disk_fate fate)
{
    jobs_drop(&w->jobs);
    world_met(w, power ? MET_POWER_LOSS : MET_KILL);
    w->power_lost = w->power_lost || power;
    if (!w->opened)
        world_met(w, MET_CRASH_IN_START);
    w->starts_crashed = w->opened ? 0 : w->starts_crashed + 1;
    if (w->verbose)
        world_say(w, "%s", power ? "power loss" : "kill");
    heap_drop();
    w->spool = NULL;
    w->life = 0;
    w->opened = false;
    w->stall_us = 0;
    w->timer_token++;
    w->dead_busy = false;
    w->letters = (struct letter_book){0};
    w->dying = ALIVE;
    if (w->script != NULL && w->first_pending == 0) {
        w->first_pending = disk_pending(w->disk);
        w->first_sectors = disk_pending_sectors(w->disk);
    }
    if (power)
        disk_power_loss(w->disk, fate, w->script != NULL ? &w->fate_luck : &w->luck);
    else
        disk_kill(w->disk);
    model_died(w, power);
}

void process_event(struct world *w, const struct due *e)
{
    unsigned which = (unsigned)e->a % JOBS_MAX;
    switch (e->kind) {
    case EV_RUN_JOB:
        if (!jobs_run(&w->jobs, which)) {
            if (w->dying == ALIVE)
                world_at(w, some_time(w), EV_RUN_JOB, w->life, e->a, 0, 0);
            return;
        }
        world_at(w, some_time(w), EV_JOB_DONE, w->life, e->a, 0, 0);
        return;
    case EV_JOB_DONE:
        w->may_note = true;
        jobs_end(&w->jobs, which);
        w->may_note = false;
        return;
    case EV_TIMER:
        if (e->a != w->timer_token)
            return;
        w->may_note = true;
        spool_tick(w->spool);
        w->may_note = false;
        return;
    default:
        return;
    }
}
