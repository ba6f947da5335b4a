/* house: segment files in the background, one job at a time, so that the way to an answer never contains a
 * create, an allocation or a directory sync.
 *
 * Prepare: the next segment's file is made, allocated to its full size, synced, and its directory synced, as
 * soon as the active one is half full; its header area of zeros says that it holds nothing. Release: a
 * segment whose events are all settled is unlinked, oldest first, once a later STATE and the ops that settled
 * them are durable; nothing needs to be read for it, so damage cannot block it, and a file that survives a
 * crash is found and deleted at the next start.
 *
 * On a disk without room for a whole segment a small one will do for the ops that a full spool is emptied by: it takes no
 * events, and is deleted as soon as the next one has taken its place. */
#include "lib/spool/branches.h"
#include "lib/spool/internal.h"

#include "lib/spool/bugs.h"

#include <errno.h>
#include <stdlib.h>

/* --- the job ----------------------------------------------------------------------------------------------
 */

static int fill_with_zeros(const struct spool_vfs *vfs, int fd, uint64_t bytes)
{
    enum { PIECE = 64 * 1024 };
    uint8_t *zeros = must_alloc(PIECE);
    int err = 0;
    for (uint64_t at = 0; at < bytes && err == 0; at += PIECE) {
        struct iovec iov = {.iov_base = zeros, .iov_len = bytes - at < PIECE ? (size_t)(bytes - at) : PIECE};
        err = write_fully(vfs, fd, &iov, 1, at);
    }
    free(zeros);
    return -err;
}

static int allocate(const struct spool_vfs *vfs, int fd, uint64_t bytes, bool *no_fallocate)
{
    int err = *no_fallocate ? -EOPNOTSUPP : vfs->fallocate(vfs->ctx, fd, 0, bytes);
    if (err == -EOPNOTSUPP || err == -ENOSYS) {
        *no_fallocate = true;
        err = fill_with_zeros(vfs, fd, bytes);
    }
    return err;
}

int house_create(const struct spool_vfs *vfs, const char *name, uint64_t bytes, bool *no_fallocate)
{
    int fd = vfs->open(vfs->ctx, name, VFS_RDWR | VFS_CREATE | VFS_EXCL);
    if (fd == -EEXIST) {
        /* Left by an attempt that failed half way, or given up: it holds nothing that counts. */
        int gone = vfs->unlink(vfs->ctx, name);
        fd = gone < 0 ? gone : vfs->open(vfs->ctx, name, VFS_RDWR | VFS_CREATE | VFS_EXCL);
    }
    if (fd < 0)
        return fd;
    int err = allocate(vfs, fd, bytes, no_fallocate);
    if (err >= 0)
        err = -sync_fully(vfs, fd);
    if (err >= 0 && !BUG(3))
        err = vfs->fsync_dir(vfs->ctx, ".");
    if (err >= 0)
        return fd;
    (void)vfs->close(vfs->ctx, fd); /* The file is thrown away. */
    (void)vfs->unlink(vfs->ctx, name);
    return err;
}

/* A finished segment's file under the next name, its header area (or, to be wiped, all of it) zeroed: its
 * blocks are written already, so that syncs over them need no journal commit of the file system. In this
 * order a crash leaves either the old name, whose segment was released, or a header under another name, which
 * counts as nothing. */
static int recycle(const struct spool_vfs *vfs, uint64_t old_id, const char *name, uint64_t bytes,
                   uint64_t zeroed)
{
    char old_name[SEGMENT_NAME_MAX];
    segment_name(old_id, old_name);
    int err = vfs->rename(vfs->ctx, old_name, name);
    if (err < 0)
        return err;
    int fd = vfs->open(vfs->ctx, name, VFS_RDWR);
    if (fd < 0)
        return fd;
    err = fill_with_zeros(vfs, fd, zeroed);
    if (err >= 0)
        err = -sync_fully(vfs, fd);
    if (err >= 0)
        err = vfs->fsync_dir(vfs->ctx, ".");
    if (err >= 0) {
        /* Nobody reads what it holds, and a small write into one of the large pieces of it that a kernel caches costs
         * more than one beside them. Only advice. */
        (void)vfs->dont_need(vfs->ctx, fd, 0, bytes);
        return fd;
    }
    (void)vfs->close(vfs->ctx, fd); /* The file is thrown away. */
    (void)vfs->unlink(vfs->ctx, name);
    return err;
}

/* Only advice. */
static void run_forget(const struct house_job *h, const struct spool_vfs *vfs)
{
    char name[SEGMENT_NAME_MAX];
    segment_name(h->forget_id, name);
    int fd = vfs->open(vfs->ctx, name, VFS_RDONLY);
    if (fd < 0)
        return;
    REACHED(BACKLOG_FORGOTTEN);
    (void)vfs->dont_need(vfs->ctx, fd, 0, h->forget_bytes);
    (void)vfs->close(vfs->ctx, fd); /* Nothing was written. */
}

static void run_prepare(struct house_job *h, const struct spool_vfs *vfs)
{
    char name[SEGMENT_NAME_MAX];
    segment_name(h->prepare_id, name);
    h->recycled = h->small = false;
    h->prepare_fd = -1;
    if (h->recycle_id != 0) {
        h->prepare_fd = recycle(vfs, h->recycle_id, name, h->prepare_bytes,
                                h->wipe ? h->prepare_bytes : SEGMENT_HEADER_AREA);
        h->recycled = h->prepare_fd >= 0;
    }
    if (h->prepare_fd < 0)
        h->prepare_fd = house_create(vfs, name, h->prepare_bytes, &h->unsupported_fallocate);
    if (failure_of_space(-h->prepare_fd) && h->small_bytes != 0) {
        REACHED(SMALL_SEGMENT);
        h->small = true;
        h->prepare_bytes = h->small_bytes;
        h->prepare_fd = house_create(vfs, name, h->prepare_bytes, &h->unsupported_fallocate);
    }
    h->prepare_err = h->prepare_fd < 0 ? -h->prepare_fd : 0;
    h->prepare_allocated = h->prepare_bytes;
    struct spool_stat st;
    if (h->prepare_fd >= 0 && vfs->stat(vfs->ctx, name, &st) >= 0)
        h->prepare_allocated = st.allocated;
    if (h->forget_id != 0)
        run_forget(h, vfs);
}

static void run_release(struct house_job *h, const struct spool_vfs *vfs)
{
    h->released = 0;
    h->release_err = 0;
    for (unsigned i = 0; i < h->release_count; i++) {
        char name[SEGMENT_NAME_MAX];
        segment_name(h->release[i], name);
        int err = vfs->unlink(vfs->ctx, name);
        if (err < 0 && err != -ENOENT) {
            h->release_err = -err;
            break;
        }
        h->released++;
    }
    if (h->released > 0)
        (void)vfs->fsync_dir(vfs->ctx, "."); /* A file that comes back is deleted at the next start. */
}

static void run_house(struct spool_job *job, const struct spool_vfs *vfs)
{
    struct house_job *h = CONTAINER_OF(job, struct house_job, job);
    for (unsigned i = 0; i < h->close_count; i++)
        (void)vfs->close(vfs->ctx, h->close_fds[i]); /* Synced, or given up: nothing is left to report. */
    if ((h->tasks & HOUSE_RELEASE) != 0)
        run_release(h, vfs);
    if ((h->tasks & HOUSE_PREPARE) != 0)
        run_prepare(h, vfs);
    if ((h->tasks & HOUSE_SPACE) != 0) {
        struct spool_fsinfo info = {0};
        h->space_err = -vfs->fsinfo(vfs->ctx, &info);
        h->free_bytes = info.free_bytes;
    }
}

/* --- what is to be done -----------------------------------------------------------------------------------
 */

/* Everything in it is settled for good, and a later STATE says so. One without events that is no link of the
 * chain (starts leave them behind, and backlogs that are settled slowly) need not wait for those before it. */
static bool released(const struct spool *s, size_t i, bool oldest)
{
    const struct segment *seg = s->segments[i];
    uint64_t settled = BUG(6) ? s->accounts.low_water : s->durable_low_water;
    if (oldest)
        return seg->next_seq <= settled + 1 || seg->next_seq == seg->header.first_seq;
    return seg->next_seq == seg->header.first_seq && s->segments[i + 1]->header.prev_id != seg->header.id;
}

/* What the files take once the next one is there, too: at this figure a file that is to go is used again for it. */
static uint64_t used_next(const struct spool *s)
{
    return spool_quota_used(s) + (s->prepared.fd < 0 ? s->capacity : 0);
}

/* Memory of ids (spool_recent_next) reaches into segments that are finished: they stay while young, as long
 * as there is plenty of room with `used` bytes. */
static bool kept_as_recent(const struct spool *s, const struct segment *seg, uint64_t used, uint64_t now)
{
    uint64_t plenty = s->config.max_bytes / 8 > 4 * s->capacity ? s->config.max_bytes / 8 : 4 * s->capacity;
    if (s->config.recent_us == 0 || s->config.recent_max == 0 || seg->next_seq == seg->header.first_seq)
        return false;
    return seg->sealed_us != 0 && seg->sealed_us + s->config.recent_us > now && used <= plenty &&
           used <= s->config.max_bytes / 2 && !s->room_wanted && s->group_wanted == 0 && s->state == SPOOL_OK;
}

/* One finished file waits to be used again, unless room is short. */
static bool kept_for_recycling(const struct spool *s, const struct segment *seg)
{
    return seg->sound && seg->header.capacity == s->capacity && seg->allocated >= s->capacity &&
           s->group_wanted == 0 && s->state == SPOOL_OK && spool_quota_used(s) <= s->config.max_bytes / 2;
}

/* The active segment must have a durable STATE, else those before it are still needed. */
static bool may_release(const struct spool *s)
{
    return s->active.durable > SEGMENT_HEADER_AREA && !s->abandoning;
}

/* Those behind the oldest are still needed, as memory of ids or otherwise: so it is the one that waits. */
static bool next_stays(const struct spool *s, size_t i, uint64_t used, uint64_t now)
{
    return i + 2 == s->segment_count || !released(s, i + 1, true) ||
           kept_as_recent(s, s->segments[i + 1], used - s->segments[i]->allocated, now);
}

static unsigned find_released(struct spool *s, uint64_t now, uint64_t ret[RELEASE_MAX])
{
    unsigned count = 0;
    uint64_t used = used_next(s);
    bool oldest = true;
    while (s->unlink_count > 0 && count < RELEASE_MAX)
        ret[count++] = s->unlink_ids[--s->unlink_count];
    if (!may_release(s))
        return count;
    for (size_t i = 0; i + 1 < s->segment_count && count < RELEASE_MAX; i++) {
        const struct segment *seg = s->segments[i];
        if (!released(s, i, oldest) || (oldest && kept_as_recent(s, seg, used, now))) {
            oldest = false;
        } else if (oldest && next_stays(s, i, used, now) && kept_for_recycling(s, seg)) {
            oldest = false;
        } else {
            ret[count++] = seg->header.id;
            used -= seg->allocated;
        }
    }
    return count;
}

/* The oldest segment, when it can be the next one; 0: none. */
static uint64_t find_recyclable(const struct spool *s, uint64_t now)
{
    const struct segment *seg = s->segments[0];
    if (s->segment_count < 2 || !seg->sound || !may_release(s) || !released(s, 0, true) ||
        kept_as_recent(s, seg, used_next(s), now) || seg->header.capacity != s->capacity || seg->allocated < s->capacity)
        return 0;
    /* A file whose sync failed is never synced again, under no name. */
    if ((s->segments[1]->header.prev_flags & SEGMENT_PREV_IO_ERROR) != 0)
        return 0;
    for (unsigned i = 0; i < s->house.release_count; i++)
        if (s->house.release[i] == seg->header.id)
            return 0;
    return seg->header.id;
}

/* The segment that was finished last, when so much stands before it that nobody reads it soon: a long backlog must not
 * fill the machine's page cache. After a failed sync the cache may be all that has its bytes. */
static const struct segment *find_forgettable(const struct spool *s)
{
    uint64_t cached = 0, most = s->config.max_bytes / 4;
    most = most < CACHED_BYTES_MAX ? most : CACHED_BYTES_MAX;
    const struct segment *last = s->segment_count < 2 ? NULL : s->segments[s->segment_count - 2];
    if (last == NULL || !last->sound)
        return NULL;
    for (size_t i = s->segment_count - 2; i-- > 0 && s->segments[i]->next_seq > s->read_seq && cached < most;)
        cached += s->segments[i]->allocated;
    return cached < most ? NULL : last;
}

/* Of one for the ops alone that wait: STATE is a small part of it, so that the bounds that hold for ops are not in the
 * way. 0: it must be a whole one. */
static uint64_t small_capacity(const struct spool *s)
{
    const struct accounts *a = &s->accounts;
    uint64_t state = a->batch_bytes + a->settled.len * 8 + a->marks.len * 20;
    uint64_t bytes = align_up(SMALL_SEGMENT_BYTES + 16 * state, 4096);
    bool ops_alone = s->commit_blocked && !s->abandoning && s->tail.fill_events == 0 && s->reserved == 0;
    return ops_alone && bytes < s->capacity ? bytes : 0;
}

static bool quota_allows(const struct spool *s, uint64_t now)
{
    return spool_quota_used(s) + s->capacity <= s->config.max_bytes || find_recyclable(s, now) != 0;
}

/* Free space is looked at while it can matter: when min_free is set, once a second while commits are made. */
static bool space_wanted(const struct spool *s, uint64_t now)
{
    return s->config.min_free > 0 && now >= s->space_at_us && (s->space_commits != s->commits || s->disk_low);
}

static bool prepare_wanted(const struct spool *s, uint64_t now)
{
    const struct segment *seg = active_segment(s);
    return s->prepared.fd < 0 && (!s->closing || s->commit_blocked) && now >= s->prepared.retry_at_us &&
           (s->commit_blocked ||
            (quota_allows(s, now) &&
             (s->rotate_wanted || s->prepared.no_space ||
              (s->active.end + s->tail.fill_bytes) * 2 >= seg->header.capacity)));
}

uint64_t house_deadline(const struct spool *s)
{
    uint64_t at = UINT64_MAX, now = now_us(s);
    if (!running(s) || s->house_busy)
        return at;
    if (s->prepared.fd < 0 && s->prepared.retry_at_us > now)
        at = s->prepared.retry_at_us;
    if (s->config.min_free > 0 && (s->space_commits != s->commits || s->disk_low) && s->space_at_us < at)
        at = s->space_at_us;
    const struct segment *oldest = s->segments[0];
    if (s->segment_count > 1 && oldest->next_seq <= s->durable_low_water + 1 && oldest->sealed_us != 0 &&
        oldest->sealed_us + s->config.recent_us > now && oldest->sealed_us + s->config.recent_us < at)
        at = oldest->sealed_us + s->config.recent_us;
    if (s->release_retry_at_us > now && s->release_retry_at_us < at)
        at = s->release_retry_at_us;
    return at;
}

static void submit(struct spool *s)
{
    struct house_job *h = &s->house;
    h->job.run = run_house;
    h->job.kind = SPOOL_JOB_HOUSE;
    h->job.spool = s;
    s->house_busy = true;
    s->host.submit(s->host.ctx, &h->job);
}

static void take_dropped_fds(struct spool *s)
{
    struct house_job *h = &s->house;
    h->close_count = s->drop_fd_count;
    memcpy(h->close_fds, s->drop_fds, sizeof h->close_fds);
    s->drop_fd_count = 0;
    if (h->close_count > 0)
        h->tasks |= HOUSE_CLOSE;
}

void house_drop_fd(struct spool *s, int fd)
{
    ensure(s->drop_fd_count < DROP_FDS_MAX);
    s->drop_fds[s->drop_fd_count++] = fd;
}

/* Half of the places are for those who cannot wait. */
bool house_may_drop_fd(const struct spool *s)
{
    return s->drop_fd_count < DROP_FDS_MAX / 2;
}

void house_close_files(struct spool *s)
{
    s->house.tasks = 0;
    s->house.release_count = 0;
    if (s->active.fd >= 0)
        house_drop_fd(s, s->active.fd);
    if (s->prepared.fd >= 0)
        house_drop_fd(s, s->prepared.fd);
    s->active.fd = s->prepared.fd = -1;
    s->files_closed = true;
    take_dropped_fds(s);
    if (s->house.tasks != 0)
        submit(s);
}

void house_pump(struct spool *s, uint64_t now)
{
    struct house_job *h = &s->house;
    if (!running(s) || s->house_busy)
        return;
    h->tasks = 0;
    take_dropped_fds(s);
    h->release_count = now < s->release_retry_at_us || !s->house_look ? 0 : find_released(s, now, h->release);
    s->house_look = s->house_look && now < s->release_retry_at_us;
    if (h->release_count > 0)
        h->tasks |= HOUSE_RELEASE;
    if (prepare_wanted(s, now)) {
        h->tasks |= HOUSE_PREPARE;
        h->prepare_id = s->next_segment_id;
        h->prepare_bytes = s->capacity;
        h->small_bytes = small_capacity(s);
        const struct segment *far = find_forgettable(s);
        h->forget_id = far == NULL ? 0 : far->header.id;
        h->forget_bytes = far == NULL ? 0 : far->end;
        h->recycle_id = find_recyclable(s, now);
        h->wipe = s->config.wipe_recycled;
        h->unsupported_fallocate = s->no_fallocate;
    }
    if (space_wanted(s, now)) {
        h->tasks |= HOUSE_SPACE;
        s->space_at_us = now + RETRY_US;
        s->space_commits = s->commits;
    }
    if (h->tasks != 0)
        submit(s);
}

static void forget_segment(struct spool *s, uint64_t id)
{
    for (size_t i = 0; i + 1 < s->segment_count; i++) {
        if (s->segments[i]->header.id != id)
            continue;
        segments_remove(s, i);
        return;
    }
}

/* Leaves disk_low only with a tenth to spare. */
static void space_done(struct spool *s)
{
    const struct house_job *h = &s->house;
    uint64_t need = s->config.min_free + (s->disk_low ? s->config.min_free / 10 : 0);
    if (h->space_err != 0)
        return;
    s->free_bytes = h->free_bytes;
    s->disk_low = h->free_bytes < need;
}

static void prepare_done(struct spool *s)
{
    const struct house_job *h = &s->house;
    if (h->recycle_id != 0) {
        forget_segment(s, h->recycle_id);
        if (!h->recycled && s->unlink_count < sizeof s->unlink_ids / sizeof s->unlink_ids[0])
            s->unlink_ids[s->unlink_count++] = h->recycle_id;
    }
    if (h->unsupported_fallocate && !s->no_fallocate) {
        s->no_fallocate = true;
        spool_warn(s, "the file system cannot allocate files ahead; they are filled with zeros instead");
    }
    if (h->prepare_err != 0) {
        REACHED(PREPARE_RETRY);
        s->prepared.retry_at_us = now_us(s) + RETRY_US;
        if (!s->prepared.no_space)
            spool_warn(s, "cannot prepare the next segment (error %d); trying again every second",
                       h->prepare_err);
        s->prepared.no_space = true;
        if (s->abandoning || failure_is_final(h->prepare_err)) {
            struct fault why;
            (void)fault_sys(&why, h->prepare_err, "create the next segment"); /* Handed on. */
            spool_fail(s, &why);
        }
        return;
    }
    s->prepared.no_space = h->small;
    s->prepared.retry_at_us = h->small ? now_us(s) + RETRY_US : 0;
    s->next_segment_id = h->prepare_id + 1;
    s->prepared.fd = h->prepare_fd;
    s->prepared.id = h->prepare_id;
    s->prepared.capacity = h->prepare_bytes;
    s->prepared.allocated = h->prepare_allocated;
    s->prepared.recycled = h->recycled;
}

void house_done(struct spool *s)
{
    const struct house_job *h = &s->house;
    s->house_busy = false;
    s->house_look = true;
    if ((h->tasks & HOUSE_RELEASE) != 0) {
        for (unsigned i = 0; i < h->released; i++)
            forget_segment(s, h->release[i]);
        if (h->released > 0)
            s->prepared.retry_at_us = 0; /* There may be room now. */
        if (h->release_err != 0) {
            REACHED(RELEASE_RETRY);
            s->release_retry_at_us = now_us(s) + RETRY_US;
            spool_warn(s, "cannot delete a finished segment (error %d)", h->release_err);
        }
    }
    if ((h->tasks & HOUSE_PREPARE) != 0)
        prepare_done(s);
    if ((h->tasks & HOUSE_SPACE) != 0)
        space_done(s);
    append_check_room(s);
}
