/* house: segment files in the background, one job at a time, so that the way to an answer never contains a
 * create, an allocation or a directory sync.
 *
 * Prepare: the next segment's file is made, allocated to its full size, synced, and its directory synced, as
 * soon as the active one is half full; its header area of zeros says that it holds nothing. Release: a
 * segment whose events are all settled is unlinked, oldest first, once a later STATE and the ops that settled
 * them are durable; nothing needs to be read for it, so damage cannot block it, and a file that survives a
 * crash is found and deleted at the next start. */
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
        /* Left by an attempt that failed half way: it holds nothing. */
        (void)vfs->unlink(vfs->ctx, name);
        fd = vfs->open(vfs->ctx, name, VFS_RDWR | VFS_CREATE | VFS_EXCL);
    }
    if (fd < 0)
        return fd;
    int err = allocate(vfs, fd, bytes, no_fallocate);
    if (err >= 0)
        err = vfs->fdatasync(vfs->ctx, fd);
    if (err >= 0 && !BUG(3))
        err = vfs->fsync_dir(vfs->ctx, ".");
    if (err >= 0)
        return fd;
    (void)vfs->close(vfs->ctx, fd); /* The file is thrown away. */
    (void)vfs->unlink(vfs->ctx, name);
    return err;
}

static void run_prepare(struct house_job *h, const struct spool_vfs *vfs)
{
    char name[SEGMENT_NAME_MAX];
    segment_name(h->prepare_id, name);
    h->prepare_fd = house_create(vfs, name, h->prepare_bytes, &h->unsupported_fallocate);
    h->prepare_err = h->prepare_fd < 0 ? -h->prepare_fd : 0;
    h->prepare_allocated = h->prepare_bytes;
    struct spool_stat st;
    if (h->prepare_fd >= 0 && vfs->stat(vfs->ctx, name, &st) >= 0)
        h->prepare_allocated = st.allocated;
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
 * chain (each start leaves one behind) need not wait for those before it. */
static bool released(const struct spool *s, size_t i, bool oldest)
{
    const struct segment *seg = s->segments[i];
    uint64_t settled = BUG(6) ? s->accounts.low_water : s->durable_low_water;
    if (oldest)
        return seg->next_seq <= settled + 1 || seg->next_seq == seg->header.first_seq;
    return seg->next_seq == seg->header.first_seq && s->segments[i + 1]->header.prev_id != seg->header.id;
}

static unsigned find_released(struct spool *s, uint64_t ret[RELEASE_MAX])
{
    unsigned count = 0;
    while (s->unlink_count > 0 && count < RELEASE_MAX)
        ret[count++] = s->unlink_ids[--s->unlink_count];
    /* The active segment must have a durable STATE, else those before it are still needed. */
    if (s->active.durable <= SEGMENT_HEADER_AREA)
        return count;
    bool oldest = true;
    for (size_t i = 0; i + 1 < s->segment_count && count < RELEASE_MAX; i++) {
        if (released(s, i, oldest))
            ret[count++] = s->segments[i]->header.id;
        else
            oldest = false;
    }
    return count;
}

static bool quota_allows(const struct spool *s)
{
    return spool_allocated(s) + s->capacity <= s->config.max_bytes;
}

static bool prepare_wanted(const struct spool *s, uint64_t now)
{
    const struct segment *seg = active_segment(s);
    return s->prepared.fd < 0 && (!s->closing || s->commit_blocked) && now >= s->prepared.retry_at_us &&
           (s->commit_blocked ||
            (quota_allows(s) && (s->active.end + s->tail.fill_bytes) * 2 >= seg->header.capacity));
}

uint64_t house_deadline(const struct spool *s)
{
    uint64_t at = UINT64_MAX, now = now_us(s);
    if (!running(s) || s->house_busy)
        return at;
    if (s->prepared.fd < 0 && s->prepared.retry_at_us > now)
        at = s->prepared.retry_at_us;
    if (s->release_retry_at_us > now && s->release_retry_at_us < at)
        at = s->release_retry_at_us;
    return at;
}

void house_pump(struct spool *s, uint64_t now)
{
    struct house_job *h = &s->house;
    if (!running(s) || s->house_busy)
        return;
    h->tasks = 0;
    h->release_count = now < s->release_retry_at_us ? 0 : find_released(s, h->release);
    if (h->release_count > 0)
        h->tasks |= HOUSE_RELEASE;
    if (prepare_wanted(s, now)) {
        h->tasks |= HOUSE_PREPARE;
        h->prepare_id = active_segment(s)->header.id + 1;
        h->prepare_bytes = s->capacity;
        h->unsupported_fallocate = s->no_fallocate;
    }
    if (h->tasks == 0)
        return;
    h->job.run = run_house;
    h->job.spool = s;
    s->house_busy = true;
    s->host.submit(s->host.ctx, &h->job);
}

static void prepare_done(struct spool *s)
{
    const struct house_job *h = &s->house;
    if (h->unsupported_fallocate && !s->no_fallocate) {
        s->no_fallocate = true;
        spool_warn(s, "the file system cannot allocate files ahead; they are filled with zeros instead");
    }
    if (h->prepare_err != 0) {
        s->prepared.retry_at_us = now_us(s) + RETRY_US;
        if (!s->prepared.no_space)
            spool_warn(s, "cannot prepare the next segment (error %d); trying again every second",
                       h->prepare_err);
        s->prepared.no_space = true;
        return;
    }
    s->prepared.no_space = false;
    s->prepared.retry_at_us = 0;
    s->prepared.fd = h->prepare_fd;
    s->prepared.id = h->prepare_id;
    s->prepared.capacity = h->prepare_bytes;
    s->prepared.allocated = h->prepare_allocated;
}

static void forget_segment(struct spool *s, uint64_t id)
{
    for (size_t i = 0; i + 1 < s->segment_count; i++) {
        if (s->segments[i]->header.id != id)
            continue;
        segment_free(s->segments[i]);
        s->segment_count--;
        memmove(s->segments + i, s->segments + i + 1, (s->segment_count - i) * sizeof *s->segments);
        return;
    }
}

void house_done(struct spool *s)
{
    const struct house_job *h = &s->house;
    s->house_busy = false;
    if ((h->tasks & HOUSE_RELEASE) != 0) {
        for (unsigned i = 0; i < h->released; i++)
            forget_segment(s, h->release[i]);
        if (h->release_err != 0)
            s->release_retry_at_us = now_us(s) + RETRY_US;
        if (h->release_err != 0)
            spool_warn(s, "cannot delete a finished segment (error %d)", h->release_err);
    }
    if ((h->tasks & HOUSE_PREPARE) != 0)
        prepare_done(s);
    append_check_room(s);
}
