/* commit: group commit. Step 6 of the straight line.
 *
 * Exactly one commit is in flight. What arrives meanwhile gathers in the tail (events) and in ctrl (ops) and
 * is the next commit: one CTRL frame with all ops, then the DATA frames, one pwritev, one fdatasync, one trip
 * to the pool. Ops name only what was durable before, so they may stand first, and any prefix is consistent.
 *
 * A commit starts when something waits and 500 µs have passed since the last start, or 256 KiB are pending: a
 * lone sender sees no delay, a busy spool is paced, and a disk slower than that paces itself.
 *
 * When a commit does not fit the active segment k, it becomes the first one of k+1: header, STATE twice,
 * frames, into a file that housekeeping has prepared. STATE says what the ops would have said, so these are
 * left out. The header of k+1 seals k, hence in the weaker modes k is synced first. */
#include "lib/spool/internal.h"

#include "lib/spool/branches.h"
#include "lib/spool/bugs.h"

#include <errno.h>
#include <stdlib.h>

static const uint8_t zeros[4096];

static void run_commit(struct spool_job *job, const struct spool_vfs *vfs);

void commit_init(struct spool *s)
{
    s->commit.job.run = run_commit;
    s->commit.job.kind = SPOOL_JOB_COMMIT;
    s->commit.job.spool = s;
    bytes_init(&s->ctrl, SIZE_MAX);
    bytes_init(&s->ctrl_flight, SIZE_MAX);
    s->ticket = 1;
}

/* --- ops on their way -------------------------------------------------------------------------------------
 */

size_t ctrl_max(const struct spool *s)
{
    uint64_t eighth = active_segment(s)->header.capacity / 8;
    return eighth < 256 * 1024 ? (size_t)eighth : 256 * 1024;
}

static bool ctrl_waiting(const struct spool *s)
{
    return s->ctrl.len > FRAME_HEADER_BYTES;
}

size_t ctrl_start(struct spool *s)
{
    static const uint8_t head[FRAME_HEADER_BYTES];
    if (s->ctrl.len == 0) {
        enum err err = bytes_append(&s->ctrl, span_of(head, sizeof head));
        ensure(err == OK);
    }
    return s->ctrl.len;
}

void ctrl_apply(struct spool *s, size_t start, bool forced)
{
    bool good = accounts_apply(&s->accounts, span_of(s->ctrl.at + start, s->ctrl.len - start));
    ensure(good);
    if (forced)
        s->forced = true;
    else if (s->lazy_since_us == 0)
        s->lazy_since_us = now_us(s) + (s->state == SPOOL_FULL ? FULL_LAZY_OPS_US : LAZY_OPS_US);
    spool_check(s);
}

/* A CTRL frame around the ops that begin at `start`, zero-padded to 16. */
static void finish_ctrl(struct bytes *b, size_t start, uint64_t frame_seq)
{
    size_t payload = b->len - start - FRAME_HEADER_BYTES;
    size_t whole = (size_t)frame_bytes((uint32_t)payload);
    enum err err = bytes_append(b, span_of(zeros, whole - payload - FRAME_HEADER_BYTES));
    ensure(err == OK);
    frame_begin(b->at + start, FRAME_CTRL, 0, (uint32_t)payload, frame_seq);
}

/* A PAD frame that ends on a multiple of 4096 of the file. */
static void put_pad(struct bytes *b, uint64_t offset, uint64_t frame_seq)
{
    uint64_t len = align_up(offset + FRAME_HEADER_BYTES, 4096) - offset - FRAME_HEADER_BYTES;
    size_t start = b->len;
    enum err err = bytes_append(b, span_of(zeros, FRAME_HEADER_BYTES));
    ensure(err == OK);
    err = bytes_append(b, span_of(zeros, len));
    ensure(err == OK);
    frame_begin(b->at + start, FRAME_PAD, 0, (uint32_t)len, frame_seq);
}

enum err state_frames(const struct accounts *a, uint64_t next_seq, uint64_t replayed_later,
                      uint64_t frame_seq, uint64_t offset, bool twice, struct bytes *to)
{
    for (int copy = 0; copy < (twice ? 2 : 1); copy++) {
        size_t start = to->len;
        enum err err = bytes_append(to, span_of(zeros, FRAME_HEADER_BYTES));
        if (err == OK)
            err = accounts_put_state(a, next_seq, replayed_later, to);
        if (err != OK)
            return err;
        finish_ctrl(to, start, frame_seq);
        if (twice && copy == 0)
            put_pad(to, offset + to->len, frame_seq);
    }
    return OK;
}

/* --- launching --------------------------------------------------------------------------------------------
 */

static bool weak(const struct spool *s)
{
    return s->config.durability != SPOOL_FSYNC;
}

/* A segment could go, but what permits it is not synced yet. */
static bool release_waits(const struct spool *s)
{
    const struct segment *oldest = s->segments[0];
    return s->segment_count > 1 && oldest->next_seq <= s->accounts.low_water + 1 &&
           oldest->next_seq > s->durable_low_water + 1;
}

static bool sync_due(const struct spool *s, uint64_t now)
{
    if (weak(s) && release_waits(s))
        return true;
    if (!weak(s) && s->unsynced_since_us != 0) /* The mode has just become stricter. */
        return true;
    if (s->config.durability != SPOOL_INTERVAL)
        return false;
    return s->unsynced_bytes > INTERVAL_SYNC_BYTES ||
           (s->unsynced_since_us != 0 && now >= s->unsynced_since_us + INTERVAL_SYNC_US);
}

static bool rotation_due(const struct spool *s)
{
    return s->rotate_wanted && s->prepared.fd >= 0;
}

/* The caller's counters, which nothing else may come to take along; but the reserve of a full spool is not for them. */
static bool user_may_wait(const struct spool *s)
{
    return s->user_changed && s->state != SPOOL_FULL;
}

static bool user_waits(const struct spool *s, uint64_t now)
{
    return user_may_wait(s) && now >= s->user_written_us + US_PER_S;
}

static bool more_than_pad(const struct spool *s, uint64_t now)
{
    return s->tail.fill_events > 0 || user_waits(s, now) || s->forced || rotation_due(s) ||
           (s->lazy_since_us != 0 && now >= s->lazy_since_us) || sync_due(s, now) ||
           (s->closing && !s->close_written);
}

static bool something_waits(const struct spool *s, uint64_t now)
{
    return more_than_pad(s, now) || (s->pad_due && now >= s->commit_done_us + PAD_SILENCE_US);
}

static bool paced(const struct spool *s, uint64_t now)
{
    return !s->flush && !s->closing && s->tail.fill_bytes < COMMIT_PENDING_BYTES &&
           now < s->commit_started_us + COMMIT_INTERVAL_US;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* When the pump must look again: never before a commit could start, or the timer would spin. */
uint64_t commit_deadline(const struct spool *s)
{
    uint64_t at = UINT64_MAX, may_start = s->commit_started_us + COMMIT_INTERVAL_US;
    if (!running(s) || s->commit_blocked || s->files_closed)
        return at;
    if (s->commit_busy && !s->commit_retry)
        return s->stalled ? at : s->commit_started_us + STALLED_US;
    if (s->commit_busy)
        return s->retry_at_us;
    if (s->tail.fill_events > 0 || s->forced || rotation_due(s))
        at = may_start;
    if (s->lazy_since_us != 0)
        at = earlier(at, s->lazy_since_us);
    if (s->pad_due)
        at = earlier(at, s->commit_done_us + PAD_SILENCE_US);
    if (user_may_wait(s))
        at = earlier(at, s->user_written_us + US_PER_S);
    if (!weak(s) && s->unsynced_since_us != 0)
        at = may_start;
    if (s->config.durability == SPOOL_INTERVAL && s->unsynced_since_us != 0)
        at = earlier(at, s->unsynced_since_us + INTERVAL_SYNC_US);
    return at < may_start ? may_start : at;
}

/* Ops that every commit takes along when they have news. */
static void put_lazy_ops(struct spool *s, uint64_t now)
{
    enum err err = OK;
    if (s->counts_shed != s->accounts.dropped[SPOOL_DROP_SHED]) {
        struct op_counts counts = {.shed = s->accounts.dropped[SPOOL_DROP_SHED],
                                   .torn_bytes = s->accounts.torn_bytes,
                                   .identity_broken = s->accounts.identity_broken};
        (void)ctrl_start(s); /* Only makes room for the frame's header. */
        err = op_put_counts(&s->ctrl, &counts);
        ensure(err == OK);
        s->counts_shed = counts.shed;
    }
    if (s->user_changed && (now >= s->user_written_us + US_PER_S || s->user_due || s->closing)) {
        (void)ctrl_start(s);
        err = op_put_user(&s->ctrl, span_of(s->accounts.user, s->accounts.user_len));
        ensure(err == OK);
        s->user_changed = false;
        s->user_written_us = now;
    }
    s->user_due = false;
    if (s->closing) {
        (void)ctrl_start(s);
        err = op_put_clean(&s->ctrl);
        ensure(err == OK);
    }
}

void commit_add_iov(struct commit_job *c, const void *at, size_t len)
{
    if (len == 0)
        return;
    ensure(c->iov_count < COMMIT_IOV_MAX);
    c->iov[c->iov_count++] = (struct iovec){.iov_base = (void *)(uintptr_t)at, .iov_len = len};
    c->bytes += len;
}

void commit_add_frames(struct commit_job *c, uint8_t *at, size_t len)
{
    if (len == 0)
        return;
    commit_add_iov(c, at, len);
    c->frames[c->frame_ranges++] = (struct tail_range){at, (uint32_t)len};
}

/* A full spool keeps to sectors instead of blocks: its reserve must last for the ops that empty it. So do
 * commits behind one that is not synced; but behind a sync a block begins, so that no later write that is
 * torn can damage what was durable. */
static uint32_t align_now(const struct spool *s)
{
    bool dense = s->state == SPOOL_FULL || (weak(s) && s->active.end > s->active.durable);
    return dense && s->commit_align > FULL_ALIGN ? FULL_ALIGN : s->commit_align;
}

/* Events behind what the job holds already, up to `capacity`; then zeros up to the next commit's place. */
void commit_add_events(struct spool *s, uint64_t capacity)
{
    struct commit_job *c = &s->commit;
    struct tail_range ranges[COMMIT_IOV_MAX - 4];
    uint64_t first = 0, end = 0;
    unsigned count =
        tail_take(&s->tail, capacity - c->offset - c->bytes, COMMIT_IOV_MAX - 4, ranges, &first, &end);
    for (unsigned i = 0; i < count; i++)
        commit_add_frames(c, ranges[i].at, ranges[i].len);
    if (count > 0)
        s->flight_end_seq = end;
    uint64_t written_end = c->offset + c->bytes;
    /* The next commit may begin as far on as this; a file that is used again has old bytes there. */
    uint64_t padded = align_up(written_end, s->commit_align);
    commit_add_iov(c, zeros, padded <= capacity ? padded - written_end : 0);
}

void commit_take_ctrl(struct spool *s)
{
    struct bytes other = s->ctrl_flight;
    s->ctrl_flight = s->ctrl;
    s->ctrl = other;
    bytes_clear(&s->ctrl);
}

void commit_submit(struct spool *s, uint64_t now)
{
    struct commit_job *c = &s->commit;
    c->err = 0;
    c->sync_failed = c->wrote = false;
    s->forced = s->flush = s->strict = false;
    s->lazy_since_us = 0;
    s->flight_low_water = s->accounts.low_water;
    s->close_written = s->closing;
    s->commit_busy = true;
    s->commit_retry = false;
    s->commit_started_us = s->flight_at_us = now;
    s->ticket++;
    if (BUG(1))
        s->acked_seq = s->flight_end_seq - 1;
    s->host.submit(s->host.ctx, &c->job);
}

/* First seq of the events not yet handed out, which is where the log stands. */
uint64_t commit_position(const struct spool *s)
{
    return s->written_seq + 1;
}

static bool state_due(const struct spool *s, uint64_t start)
{
    return start >= s->active.state_at + STATE_EVERY_BYTES;
}

static void launch(struct spool *s, uint64_t now)
{
    struct segment *seg = active_segment(s);
    struct commit_job *c = &s->commit;
    uint64_t start = align_up(s->active.end, align_now(s));
    s->flight_rotates = false;
    s->flight_pad = false;
    s->flight_state = (state_due(s, start) && ctrl_waiting(s)) || s->ctrl.len > seg->header.capacity / 4;
    *c = (struct commit_job){
        .job = c->job, .fd = s->active.fd, .seal_fd = -1, .close_fd = -1, .offset = start};
    c->place = (struct frame_place){.offset = start,
                                    .durable = s->active.durable,
                                    .tag = segment_tag(seg->header.salt),
                                    .prev_hcrc = s->active.hcrc,
                                    .commit = s->active.commit};
    c->sync = !weak(s) || s->strict || sync_due(s, now) || s->closing;
    s->flight_end_seq = commit_position(s);
    commit_take_ctrl(s);
    if (s->flight_state) {
        /* STATE says what the ops say. */
        bytes_clear(&s->ctrl_flight);
        enum err err =
            state_frames(&s->accounts, commit_position(s), dead_replayed_from(s, commit_position(s)),
                         commit_position(s), start, false, &s->ctrl_flight);
        ensure(err == OK);
    } else if (s->ctrl_flight.len > 0) {
        finish_ctrl(&s->ctrl_flight, 0, commit_position(s));
    } else if (s->tail.fill_events == 0 && s->pad_due) {
        put_pad(&s->ctrl_flight, start, commit_position(s));
        s->flight_pad = true;
    }
    s->flight_ctrl_bytes = s->ctrl_flight.len;
    commit_add_frames(c, s->ctrl_flight.at, s->ctrl_flight.len);
    commit_add_events(s, seg->header.capacity);
    commit_submit(s, now);
}

/* Does all that waits fit the active segment? When not, and something can be started there, rotation is due.
 */
static bool fits(struct spool *s)
{
    const struct segment *seg = active_segment(s);
    uint64_t start = align_up(s->active.end, s->commit_align);
    uint64_t ctrl = s->ctrl.len + FRAME_ALIGN;
    if (state_due(s, start) || s->ctrl.len > seg->header.capacity / 4)
        ctrl += s->accounts.batch_bytes + s->accounts.settled.len * 8 + s->accounts.marks.len * 20 + 4096;
    uint64_t need = start + ctrl + s->tail.fill_bytes + 4096;
    return need <= seg->header.capacity && !rotation_due(s);
}

struct segment *commit_new_segment(struct spool *s)
{
    const struct segment *old = active_segment(s);
    struct segment *seg = must_alloc(sizeof *seg);
    seg->header = (struct segment_header){.major = SPOOL_FORMAT_MAJOR,
                                          .minor = SPOOL_FORMAT_MINOR,
                                          .id = s->prepared.id,
                                          .salt = BUG(10) ? old->header.salt : s->host.random64(s->host.ctx),
                                          .first_seq = commit_position(s),
                                          .epoch = s->accounts.epoch,
                                          .prev_id = old->header.id,
                                          .prev_end = s->active.end,
                                          .prev_next_seq = commit_position(s),
                                          .prev_last_hcrc = s->active.hcrc,
                                          .commit_align = s->commit_align,
                                          .capacity = s->prepared.capacity,
                                          .wall_ns = s->host.wall_ns(s->host.ctx),
                                          .flags = s->prepared.recycled ? SEGMENT_RECYCLED : 0};
    memcpy(seg->header.uuid, s->uuid, sizeof s->uuid);
    seg->end = SEGMENT_HEADER_AREA;
    seg->next_seq = commit_position(s);
    seg->allocated = s->prepared.allocated;
    seg->end_known = true;
    return seg;
}

/* A segment that got no event of its own says nothing that its successor's STATE does not say: the successor takes
 * its place in the chain, so that it goes at once, and not when the events before it are settled. Else a backlog
 * that is settled in small pieces would leave more behind than it frees, and near the quota there is no room for
 * that. */
static void take_place(struct segment_header *h, const struct segment_header *old)
{
    if (h->first_seq != old->first_seq)
        return;
    REACHED(CONTROL_SEGMENT_SKIPPED);
    h->prev_id = old->prev_id;
    h->prev_end = old->prev_end;
    h->prev_next_seq = old->prev_next_seq;
    h->prev_last_hcrc = old->prev_last_hcrc;
    h->prev_flags = old->prev_flags;
}

static void launch_rotation(struct spool *s, uint64_t now)
{
    struct commit_job *c = &s->commit;
    struct segment *seg = commit_new_segment(s);
    take_place(&seg->header, &active_segment(s)->header);
    *c = (struct commit_job){
        .job = c->job, .fd = s->prepared.fd, .seal_fd = s->active.fd, .close_fd = s->active.fd};
    commit_take_ctrl(s);
    bytes_clear(&s->ctrl_flight);
    enum err err = bytes_reserve(&s->ctrl_flight, SEGMENT_HEADER_AREA);
    ensure(err == OK);
    segment_header_encode(&seg->header, s->ctrl_flight.at);
    s->ctrl_flight.len = SEGMENT_HEADER_AREA;
    err = state_frames(&s->accounts, commit_position(s), dead_replayed_from(s, commit_position(s)),
                       commit_position(s), 0, true, &s->ctrl_flight);
    ensure(err == OK);
    c->place = (struct frame_place){.offset = SEGMENT_HEADER_AREA,
                                    .durable = SEGMENT_HEADER_AREA,
                                    .tag = segment_tag(seg->header.salt),
                                    .prev_hcrc = seg->header.hcrc};
    c->sync = true;
    s->flight_rotates = s->flight_state = true;
    s->flight_pad = false;
    s->flight_segment = seg;
    s->flight_end_seq = commit_position(s);
    s->flight_ctrl_bytes = s->ctrl_flight.len - SEGMENT_HEADER_AREA;
    commit_add_iov(c, s->ctrl_flight.at, SEGMENT_HEADER_AREA);
    commit_add_frames(c, s->ctrl_flight.at + SEGMENT_HEADER_AREA, s->ctrl_flight.len - SEGMENT_HEADER_AREA);
    commit_add_events(s, seg->header.capacity);
    commit_submit(s, now);
}

void commit_pump(struct spool *s, uint64_t now)
{
    if (!running(s) || s->files_closed)
        return;
    if (s->commit_busy && !s->commit_retry && !s->stalled && now >= s->commit_started_us + STALLED_US) {
        s->stalled = true;
        spool_warn(s, "the disk does not answer: a commit has been under way for more than %llu seconds",
                   (unsigned long long)(STALLED_US / US_PER_S));
    }
    if (s->commit_busy) {
        if (s->commit_retry && now >= s->retry_at_us) {
            s->commit_retry = false;
            s->host.submit(s->host.ctx, &s->commit.job);
        }
        return;
    }
    s->commit_blocked = false;
    if (s->abandoning) {
        failure_rewrite(s, now);
        return;
    }
    if (!something_waits(s, now) || paced(s, now))
        return;
    put_lazy_ops(s, now);
    if (fits(s))
        launch(s, now);
    else if (!more_than_pad(s, now))
        s->pad_due = false; /* Not worth a segment. */
    else if (s->prepared.fd >= 0)
        launch_rotation(s, now);
    else
        s->commit_blocked = true; /* Housekeeping prepares a segment and pumps again. */
}

/* --- the job ----------------------------------------------------------------------------------------------
 */

static void seal_frames(struct commit_job *c)
{
    struct frame_place *place = &c->place;
    for (unsigned i = 0; i < c->frame_ranges; i++) {
        for (uint32_t at = 0; at < c->frames[i].len;) {
            uint8_t *header = c->frames[i].at + at;
            uint32_t bytes = (uint32_t)frame_bytes(frame_payload_len(header));
            bool first = i == 0 && at == 0;
            bool last = i + 1 == c->frame_ranges && at + bytes == c->frames[i].len;
            place->flags = (uint8_t)((first ? FRAME_FIRST : 0) | (last ? FRAME_LAST : 0));
            place->prev_hcrc = frame_seal(header, place);
            place->offset += bytes;
            at += bytes;
        }
    }
    place->commit++;
}

int write_fully(const struct spool_vfs *vfs, int fd, struct iovec *iov, int n, uint64_t offset)
{
    while (n > 0) {
        ssize_t done = vfs->pwritev(vfs->ctx, fd, iov, n, offset);
        if (done == -EINTR)
            continue;
        if (done < 0)
            return (int)-done;
        if (done == 0)
            return ENOSPC;
        offset += (uint64_t)done;
        if (BUG(17))
            return 0;
        while (n > 0 && (size_t)done >= iov->iov_len) {
            done -= (ssize_t)iov->iov_len;
            iov++;
            n--;
        }
        if (n > 0) {
            iov->iov_base = (uint8_t *)iov->iov_base + done;
            iov->iov_len -= (size_t)done;
        }
    }
    return 0;
}

int sync_fully(const struct spool_vfs *vfs, int fd)
{
    int result;
    do
        result = vfs->fdatasync(vfs->ctx, fd);
    while (result == -EINTR || (BUG(7) && result == -EIO));
    return result < 0 ? -result : 0;
}

/* What stands behind the header is durable: now it may come into force. */
static void write_header_last(struct commit_job *c, const struct spool_vfs *vfs)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t)c->header_last, .iov_len = SEGMENT_HEADER_AREA};
    c->err = write_fully(vfs, c->fd, &iov, 1, 0);
    if (c->err != 0)
        return;
    c->err = sync_fully(vfs, c->fd);
    c->sync_failed = c->err != 0;
}

static void run_commit(struct spool_job *job, const struct spool_vfs *vfs)
{
    struct commit_job *c = CONTAINER_OF(job, struct commit_job, job);
    struct frame_place place = c->place;
    struct iovec iov[COMMIT_IOV_MAX];
    c->err = 0;
    seal_frames(c);
    if (c->seal_fd >= 0 && !c->wrote) {
        c->err = sync_fully(vfs, c->seal_fd);
        c->sync_failed = c->err != 0;
    }
    if (c->err == 0) {
        memcpy(iov, c->iov, sizeof iov);
        c->wrote = true;
        c->err = write_fully(vfs, c->fd, iov, c->iov_count, c->offset);
    }
    if (c->err == 0 && c->sync && !BUG(2)) {
        c->err = sync_fully(vfs, c->fd);
        c->sync_failed = c->err != 0;
    }
    if (c->err == 0 && c->header_last != NULL)
        write_header_last(c, vfs);
    if (c->err == 0 && c->close_fd >= 0)
        (void)vfs->close(vfs->ctx,
                         c->close_fd); /* It has been synced, or given up: nothing is left to report. */
    if (c->err != 0)
        c->place = place; /* The same frames again, should the write be repeated. */
}
