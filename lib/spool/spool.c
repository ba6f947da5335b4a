/* spool: life, notes, and the pump. Step 6 of the straight line; see spool.h for the promises.
 *
 * Every public call changes state and then pumps: whatever can be started is started (a commit, housekeeping,
 * a cold read), and the timer is armed for what has to wait. News for the caller are queued, and delivered
 * only from spool_job_done() and spool_tick(), never inside a call. */
#include "lib/spool/spool.h"

#include "lib/spool/internal.h"
#include "lib/spool/recover.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* --- segments ---------------------------------------------------------------------------------------------
 */

void segments_append(struct spool *s, struct segment *seg)
{
    if (s->segment_count == s->segment_cap) {
        s->segment_cap = s->segment_cap == 0 ? 16 : s->segment_cap * 2;
        s->segments = must_realloc(s->segments, s->segment_cap * sizeof *s->segments);
    }
    s->segments[s->segment_count++] = seg;
    s->segments_allocated += seg->allocated;
    s->house_look = true;
}

void segments_remove(struct spool *s, size_t i)
{
    ensure(i + 1 < s->segment_count);
    s->segments_allocated -= s->segments[i]->allocated;
    segment_free(s->segments[i]);
    s->segment_count--;
    memmove(s->segments + i, s->segments + i + 1, (s->segment_count - i) * sizeof *s->segments);
}

void segment_free(struct segment *seg)
{
    if (seg == NULL)
        return;
    free(seg->index);
    free(seg);
}

struct segment *segment_of(const struct spool *s, uint64_t seq)
{
    size_t low = 0, high = s->segment_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (s->segments[middle]->next_seq <= seq)
            low = middle + 1;
        else
            high = middle;
    }
    return low < s->segment_count && s->segments[low]->header.first_seq <= seq ? s->segments[low] : NULL;
}

void segment_index(struct segment *seg, uint64_t seq, uint64_t offset)
{
    uint64_t last = seg->index_len == 0 ? 0 : seg->index[seg->index_len - 1].offset;
    if (offset < last + INDEX_GRAIN_BYTES)
        return;
    if (seg->index_len == seg->index_cap) {
        seg->index_cap = seg->index_cap == 0 ? 8 : seg->index_cap * 2;
        seg->index = must_realloc(seg->index, seg->index_cap * sizeof *seg->index);
    }
    seg->index[seg->index_len++] = (struct index_entry){seq, offset};
}

uint64_t spool_quota_used(const struct spool *s)
{
    return s->segments_allocated + (s->prepared.fd >= 0 ? s->prepared.allocated : 0);
}

uint64_t spool_allocated(const struct spool *s)
{
    return spool_quota_used(s) + s->dead_allocated;
}

/* --- notes ------------------------------------------------------------------------------------------------
 */

void spool_note(struct spool *s, enum spool_note_kind kind, uint64_t batch_no)
{
    struct note_queue *q = &s->notes;
    if (q->len == q->cap) {
        q->cap = q->cap == 0 ? 16 : q->cap * 2;
        q->at = must_realloc(q->at, q->cap * sizeof *q->at);
    }
    q->at[q->len++] = (struct spool_note){.kind = kind, .batch_no = batch_no};
}

/* The fault is copied: it is the note's until it has been delivered. */
static void note_with_fault(struct spool *s, enum spool_note_kind kind, const struct fault *fault)
{
    struct fault *copy = must_alloc(sizeof *copy);
    if (fault != NULL)
        *copy = *fault;
    spool_note(s, kind, 0);
    s->notes.at[s->notes.len - 1].fault = copy;
}

void spool_warn(struct spool *s, const char *format, ...)
{
    struct fault fault = {.err = ERR_IO};
    va_list args;
    va_start(args, format);
    (void)vsnprintf(fault.text, sizeof fault.text, format, args);
    va_end(args);
    note_with_fault(s, NOTE_WARNING, &fault);
}

void spool_set_state(struct spool *s, enum spool_state state, const struct fault *why)
{
    if (s->state == state || s->state == SPOOL_FAILED)
        return;
    s->state = state;
    s->house_look = true;
    if (why != NULL)
        s->fault = *why;
    note_with_fault(s, NOTE_STATE, why);
}

void spool_fail(struct spool *s, const struct fault *why)
{
    if (s->state == SPOOL_FAILED)
        return;
    spool_set_state(s, SPOOL_FAILED, why);
    note_with_fault(s, NOTE_FAILED, why);
}

static void deliver(struct spool *s, const struct spool_note *note)
{
    s->host.note(s->host.ctx, note);
    free((void *)(uintptr_t)note->fault);
}

static bool take_flag(bool *flag)
{
    bool was = *flag;
    *flag = false;
    return was;
}

void spool_deliver_notes(struct spool *s)
{
    static const struct spool_note acked = {.kind = NOTE_ACKED}, readable = {.kind = NOTE_READABLE},
                                   room = {.kind = NOTE_ROOM};
    if (s->noting)
        return;
    s->noting = true;
    for (bool more = true; more;) {
        struct note_queue q = s->notes;
        s->notes = (struct note_queue){0};
        more = q.len > 0;
        for (unsigned i = 0; i < q.len; i++)
            deliver(s, &q.at[i]);
        free(q.at);
        if (take_flag(&s->note_acked)) {
            more = true;
            deliver(s, &acked);
        }
        if (take_flag(&s->note_room)) {
            more = true;
            deliver(s, &room);
        }
        if (take_flag(&s->note_readable)) {
            more = true;
            s->read_wanted = false;
            deliver(s, &readable);
        }
    }
    s->noting = false;
}

static bool notes_wait(const struct spool *s)
{
    return s->notes.len > 0 || s->note_acked || s->note_readable || s->note_room;
}

/* --- the pump ---------------------------------------------------------------------------------------------
 */

static void arm_timer(struct spool *s)
{
    uint64_t at = commit_deadline(s), other = house_deadline(s);
    at = other < at ? other : at;
    other = read_deadline(s);
    at = other < at ? other : at;
    other = scrub_deadline(s);
    at = other < at ? other : at;
    other = policy_deadline(s);
    at = other < at ? other : at;
    other = dead_deadline(s);
    at = other < at ? other : at;
    if ((notes_wait(s) || s->dead.request_new || s->just_opened) && !s->noting)
        at = 1; /* at once, but not inside this call */
    if (at == UINT64_MAX)
        at = 0;
    if (at == s->timer_at_us)
        return;
    s->timer_at_us = at;
    s->host.timer(s->host.ctx, at);
}

static bool jobs_out(const struct spool *s)
{
    return (s->commit_busy && !s->commit_retry) || s->house_busy || s->read_busy || s->dead.busy;
}

static void finish_close(struct spool *s)
{
    /* What comes up once the files are closed (damage that a last read met) is found again at the next start.
     */
    bool written = s->state == SPOOL_FAILED || s->commit_retry || s->files_closed ||
                   (s->close_written && !s->commit_busy && !s->forced && s->tail.fill_events == 0);
    if (!s->closing || s->state == SPOOL_CLOSED || s->state == SPOOL_OPENING || !written || jobs_out(s))
        return;
    if (s->dead.fd >= 0)
        house_drop_fd(s, s->dead.fd);
    s->dead.fd = -1;
    if (s->active.fd >= 0 || s->prepared.fd >= 0 || s->drop_fd_count > 0) {
        house_close_files(s);
        return;
    }
    s->state = SPOOL_CLOSED;
    spool_note(s, NOTE_CLOSED, 0);
}

void spool_pump(struct spool *s)
{
    uint64_t now = now_us(s);
    policy_pump(s, now);
    commit_pump(s, now);
    house_pump(s, now); /* A commit may wait for the next segment. */
    dead_pump(s, now);
    read_pump(s, now, false);
    scrub_pump(s, now);
    finish_close(s);
    arm_timer(s);
}

void spool_tick(struct spool *s)
{
    s->timer_at_us = 0;
    s->just_opened = false;
    s->house_look = true;
    append_check_room(s);
    spool_pump(s);
    spool_deliver_notes(s);
    read_pump(s, now_us(s), true);
    dead_request_pump(s);
    spool_deliver_notes(s);
    spool_pump(s);
}

void spool_job_done(struct spool_job *job)
{
    struct spool *s = job->spool;
    s->just_opened = false;
    if (job == &s->commit.job)
        commit_done(s);
    else if (job == &s->house.job)
        house_done(s);
    else if (job == &s->read.job)
        read_done(s);
    else if (job == &s->dead.job.job)
        dead_done(s);
    else
        open_done(s);
    spool_pump(s);
    spool_deliver_notes(s);
    read_pump(s, now_us(s), true);
    dead_request_pump(s);
    spool_deliver_notes(s);
    if (s->state != SPOOL_CLOSED)
        spool_pump(s);
}

/* --- life -------------------------------------------------------------------------------------------------
 */

static void take_config(struct spool *s, const struct spool_config *config)
{
    s->config = *config;
    struct spool_config *c = &s->config;
    c->name = s->name;
    if (c->window_seqs == 0)
        c->window_seqs = 65536;
    if (c->window_bytes == 0)
        c->window_bytes = 16 * 1024 * 1024;
    if (c->cache_bytes == 0)
        c->cache_bytes = 4 * 1024 * 1024;
    if (c->max_bytes < 4 * SEGMENT_CAPACITY_MIN)
        c->max_bytes = 4 * SEGMENT_CAPACITY_MIN;
    if (c->commit_align != 16 && c->commit_align != 512)
        c->commit_align = 4096;
    s->capacity = c->segment_bytes < c->max_bytes / 16 ? c->segment_bytes : c->max_bytes / 16;
    if (s->capacity < SEGMENT_CAPACITY_MIN)
        s->capacity = SEGMENT_CAPACITY_MIN;
    s->capacity = s->capacity / 4096 * 4096;
    /* STATE must stay small beside the smallest segment. */
    if (c->window_seqs > s->capacity / 64)
        c->window_seqs = (uint32_t)(s->capacity / 64);
}

struct spool *spool_new(const struct spool_config *config, const struct spool_vfs *vfs,
                        const struct spool_host *host)
{
    struct spool *s = must_alloc(sizeof *s);
    s->name = must_strdup(config->name == NULL ? "" : config->name);
    take_config(s, config);
    s->commit_align = s->config.commit_align;
    s->vfs = *vfs;
    s->host = *host;
    s->state = SPOOL_OPENING;
    s->active.fd = s->prepared.fd = -1;
    accounts_init(&s->accounts);
    tail_init(&s->tail);
    commit_init(s);
    dead_init(s);
    return s;
}

void spool_open(struct spool *s)
{
    ensure(s->state == SPOOL_OPENING && s->recovery == NULL);
    open_start(s);
}

void spool_close(struct spool *s)
{
    s->closing = true;
    spool_pump(s);
}

void spool_free(struct spool *s)
{
    if (s == NULL)
        return;
    ensure(!jobs_out(s) && s->recovery == NULL);
    if (s->active.fd >= 0)
        (void)s->vfs.close(s->vfs.ctx,
                           s->active.fd); /* Only after a failure; it was never to be synced again. */
    if (s->prepared.fd >= 0)
        (void)s->vfs.close(s->vfs.ctx, s->prepared.fd); /* It holds nothing. */
    if (s->dead.fd >= 0)
        (void)s->vfs.close(s->vfs.ctx, s->dead.fd); /* Synced after each write. */
    for (unsigned i = 0; i < s->drop_fd_count; i++)
        (void)s->vfs.close(s->vfs.ctx, s->drop_fds[i]); /* Given up long ago. */
    spool_abandon(s);
}

void spool_abandon(struct spool *s)
{
    recovery_free(s->recovery);
    free(s->read.chunk);
    for (size_t i = 0; i < s->segment_count; i++)
        segment_free(s->segments[i]);
    free(s->segments);
    segment_free(s->flight_segment);
    for (unsigned i = 0; i < s->notes.len; i++)
        free((void *)(uintptr_t)s->notes.at[i].fault);
    free(s->notes.at);
    accounts_deinit(&s->accounts);
    tail_deinit(&s->tail);
    bytes_deinit(&s->ctrl);
    bytes_deinit(&s->ctrl_flight);
    cursor_reset(&s->reader);
    cursor_reset(&s->loader_cursor);
    cursor_reset(&s->dead_cursor);
    cursor_reset(&s->scrub.cursor);
    dead_deinit(s);
    bytes_deinit(&s->recent);
    free(s->name);
    free(s);
}

enum spool_state spool_state(const struct spool *s)
{
    return s->state;
}

void spool_reconfigure(struct spool *s, const struct spool_config *config)
{
    take_config(s, config);
    append_check_room(s);
    spool_pump(s);
}

/* --- accounts ---------------------------------------------------------------------------------------------
 */

void spool_check(struct spool *s)
{
    (void)s;
    ensure_slow(accounts_balanced(&s->accounts));
    ensure_slow(s->accounts.settled.count <= s->accounts.next_seq - 1 - s->accounts.low_water);
}

void spool_ledger(const struct spool *s, struct spool_ledger *ret)
{
    const struct accounts *a = &s->accounts;
    accounts_ledger(a, ret);
    ret->allocated_bytes = spool_allocated(s);
    ret->dead_bytes = s->dead_allocated;
    ret->commits = s->commits;
    ret->commit_bytes = s->commit_bytes;
    ret->segments = s->segment_count;
    if (ret->pending > 0) {
        ret->oldest_wall_ns = ages_of(&s->ages, a->low_water + 1);
        if (ret->oldest_wall_ns == 0)
            ret->oldest_wall_ns = s->host.wall_ns(s->host.ctx);
    }
}

void spool_set_user(struct spool *s, struct span blob)
{
    ensure(blob.len <= SPOOL_USER_MAX);
    if (span_equal(blob, span_of(s->accounts.user, s->accounts.user_len)))
        return;
    memcpy(s->accounts.user, blob.at, blob.len);
    s->accounts.user_len = blob.len;
    s->user_changed = true;
    arm_timer(s);
}

uint64_t spool_save_user(struct spool *s)
{
    s->user_due = s->forced = true;
    s->user_ticket = s->ticket;
    spool_pump(s);
    return s->user_ticket;
}

bool spool_saved(const struct spool *s, uint64_t number)
{
    return number <= s->done_ticket || s->state != SPOOL_OK || s->stalled || s->closing;
}

struct span spool_user(const struct spool *s)
{
    return span_of(s->accounts.user, s->accounts.user_len);
}

uint64_t spool_last_commit_us(const struct spool *s)
{
    return s->commit_us;
}
