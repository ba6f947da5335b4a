/* dead: files of dead letters are written, told what is gone, and deleted. See deadbox.h for the order of things. */
#include "lib/spool/branches.h"
#include "lib/spool/internal.h"
#include <errno.h>
#include <stdlib.h>

#define FILE_BYTES_MAX (UINT64_C(1) << 20)
#define FILE_BYTES_MIN (4 * SEGMENT_HEADER_AREA)
#define SMALL_QUOTA (UINT64_C(16) << 20)
#define FAILURES_MAX 2

static const uint8_t zeros[4096];

void dead_init(struct spool *s)
{
    s->dead.fd = -1;
    s->dead.job.fd = -1;
    bytes_init(&s->dead.job.prefix, SIZE_MAX);
    bytes_init(&s->dead.job.frames, SIZE_MAX);
}

void dead_deinit(struct spool *s)
{
    struct deadbox *d = &s->dead;
    while (d->tasks != NULL) {
        struct death_task *t = d->tasks;
        d->tasks = t->next;
        free(t);
    }
    bytes_deinit(&d->job.prefix);
    bytes_deinit(&d->job.frames);
    free(d->job.chunk);
    free(d->chunk);
    letters_deinit(&d->letters);
    intervals_deinit(&d->flushing);
}

bool dead_full(const struct spool *s)
{
    return s->dead_allocated >= s->config.dead_max_bytes;
}

/* Letters often come one at a time, and each write begins on a boundary of its own. A large quota can afford
 * whole blocks, which no later write touches again; a small one would be full of zeros. */
static uint32_t write_align(const struct spool *s)
{
    return s->config.dead_max_bytes < SMALL_QUOTA ? 512 : 4096;
}

/* A file goes when its last letter goes, so there are several; but its header area must not be most of it. */
static uint64_t file_limit(const struct spool *s)
{
    uint64_t eighth = s->config.dead_max_bytes / 8;
    return eighth < FILE_BYTES_MIN ? FILE_BYTES_MIN : eighth < FILE_BYTES_MAX ? eighth : FILE_BYTES_MAX;
}

static void recount(struct spool *s)
{
    s->dead_allocated = letters_allocated(&s->dead.letters);
}

/* --- the job ----------------------------------------------------------------------------------------------
 */

static int make_file(struct dead_job *j, const struct spool_vfs *vfs, const char *name)
{
    if (j->make_dir) {
        int err = vfs->mkdir(vfs->ctx, DEAD_DIR);
        if (err >= 0)
            err = vfs->fsync_dir(vfs->ctx, ".");
        if (err < 0)
            return err;
    }
    int fd = vfs->open(vfs->ctx, name, VFS_RDWR | VFS_CREATE | VFS_EXCL);
    if (fd != -EEXIST)
        return fd;
    (void)vfs->unlink(vfs->ctx, name); /* Left by an attempt that failed: nobody counted on it. */
    return vfs->open(vfs->ctx, name, VFS_RDWR | VFS_CREATE | VFS_EXCL);
}

static void run_write(struct dead_job *j, const struct spool_vfs *vfs)
{
    char name[SEGMENT_NAME_MAX];
    struct spool_stat st;
    dead_name(j->file_id, name);
    if (j->create) {
        j->fd = make_file(j, vfs, name);
        if (j->fd < 0) {
            j->err = -j->fd;
            return;
        }
    }
    if (j->create)
        frames_seal(j->prefix.at + SEGMENT_HEADER_AREA, j->prefix.len - SEGMENT_HEADER_AREA, &j->place);
    frames_seal(j->frames.at, j->frames.len, &j->place);
    size_t len = j->prefix.len + j->frames.len;
    size_t pad = (size_t)(align_up(j->offset + len, j->align) - j->offset - len);
    struct iovec iov[3];
    int n = 0;
    if (j->prefix.len > 0)
        iov[n++] = (struct iovec){.iov_base = j->prefix.at, .iov_len = j->prefix.len};
    iov[n++] = (struct iovec){.iov_base = j->frames.at, .iov_len = j->frames.len};
    if (pad > 0)
        iov[n++] = (struct iovec){.iov_base = (void *)(uintptr_t)zeros, .iov_len = pad};
    j->err = write_fully(vfs, j->fd, iov, n, j->offset);
    if (j->err == 0) {
        j->err = sync_fully(vfs, j->fd);
        j->sync_failed = j->err != 0;
    }
    if (j->err == 0 && j->create)
        j->err = -vfs->fsync_dir(vfs->ctx, DEAD_DIR);
    if (j->err == 0 && vfs->stat(vfs->ctx, name, &st) >= 0)
        j->allocated = st.allocated;
    if (j->err != 0 && j->create) {
        (void)vfs->close(vfs->ctx, j->fd); /* The file is thrown away. */
        int gone = vfs->unlink(vfs->ctx, name);
        j->left = gone < 0 && gone != -ENOENT;
        j->fd = -1;
    }
}

static void run_unlink(struct dead_job *j, const struct spool_vfs *vfs)
{
    char name[SEGMENT_NAME_MAX];
    for (unsigned i = 0; i < j->unlink_count && j->err == 0; i++) {
        dead_name(j->unlink[i], name);
        int err = vfs->unlink(vfs->ctx, name);
        j->err = err < 0 && err != -ENOENT ? -err : 0;
    }
    if (j->err == 0)
        j->err = -vfs->fsync_dir(vfs->ctx, DEAD_DIR);
}

static void run_dead(struct spool_job *job, const struct spool_vfs *vfs)
{
    struct dead_job *j = CONTAINER_OF(job, struct dead_job, job);
    j->err = 0;
    j->sync_failed = j->left = false;
    if (j->work == DEAD_UNLINK)
        run_unlink(j, vfs);
    else if (j->work == DEAD_READ)
        dead_run_read(j, vfs);
    else
        run_write(j, vfs);
}

void dead_submit(struct spool *s, enum dead_work work)
{
    struct dead_job *j = &s->dead.job;
    j->work = work;
    j->job.run = run_dead;
    j->job.kind = work == DEAD_READ ? SPOOL_JOB_READ : SPOOL_JOB_HOUSE;
    j->job.spool = s;
    memcpy(j->uuid, s->uuid, sizeof j->uuid);
    s->dead.busy = true;
    s->dead.retry = false;
    s->host.submit(s->host.ctx, &j->job);
}

/* --- writing ----------------------------------------------------------------------------------------------
 */

/* A file of this process, of this size at most; it begins with all marks that matter, twice, and its header
 * says whether there are any: else a crash that took just these would bring letters back. */
static void begin_file(struct spool *s, uint64_t first)
{
    struct deadbox *d = &s->dead;
    struct dead_job *j = &d->job;
    j->create = true;
    j->make_dir = !d->dir_made;
    j->file_id = d->letters.next_file++;
    j->first = first;
    j->offset = 0;
    j->align = write_align(s);
    struct segment_header header = {.major = SPOOL_FORMAT_MAJOR,
                                    .minor = SPOOL_FORMAT_MINOR,
                                    .id = j->file_id,
                                    .salt = s->host.random64(s->host.ctx),
                                    .first_seq = first,
                                    .epoch = s->accounts.epoch,
                                    .commit_align = j->align,
                                    .capacity = DEAD_FILE_CAPACITY,
                                    .wall_ns = s->host.wall_ns(s->host.ctx),
                                    .flags = SEGMENT_DEAD_LETTERS |
                                             (d->letters.gone.count > 0 ? SEGMENT_MARKS_FIRST : 0)};
    memcpy(header.uuid, s->uuid, sizeof s->uuid);
    bytes_clear(&j->prefix);
    enum err err = bytes_reserve(&j->prefix, SEGMENT_HEADER_AREA);
    ensure(err == OK);
    segment_header_encode(&header, j->prefix.at);
    j->prefix.len = SEGMENT_HEADER_AREA;
    for (int copy = 0; copy < 2 && d->letters.gone.count > 0; copy++)
        letters_put_marks(&j->prefix, &d->letters.gone, first);
    d->salt = header.salt;
    j->place = (struct frame_place){.offset = SEGMENT_HEADER_AREA,
                                    .durable = SEGMENT_HEADER_AREA,
                                    .tag = segment_tag(header.salt),
                                    .prev_hcrc = header.hcrc};
}

/* What is gone is gone in the log as well, durably: files may say so. */
static bool gone_is_durable(const struct spool *s)
{
    return s->done_ticket >= s->dead.marks_ticket && s->dead.replayed_count == 0;
}

void dead_write(struct spool *s, enum dead_work work, uint64_t first)
{
    struct deadbox *d = &s->dead;
    struct dead_job *j = &d->job;
    ensure(j->frames.len > 0);
    if (d->fd >= 0 && d->end >= file_limit(s) && house_may_drop_fd(s)) {
        house_drop_fd(s, d->fd);
        d->fd = -1;
    }
    if (d->fd < 0 && !gone_is_durable(s))
        return;
    if (d->fd < 0) {
        begin_file(s, first);
    } else {
        j->create = false;
        bytes_clear(&j->prefix);
        j->file_id = d->file_id;
        j->fd = d->fd;
        j->offset = align_up(d->end, j->align);
        j->place = (struct frame_place){.offset = j->offset,
                                        .durable = d->end,
                                        .tag = segment_tag(d->salt),
                                        .prev_hcrc = d->hcrc,
                                        .commit = d->commit};
    }
    dead_submit(s, work);
}

/* False: it failed, and what becomes of it has been decided. */
static bool write_succeeded(struct spool *s)
{
    struct deadbox *d = &s->dead;
    struct dead_job *j = &d->job;
    if (j->err == 0) {
        d->failures = 0;
        d->dir_made = true;
        return true;
    }
    REACHED(LETTERS_RETRY);
    d->retry = true;
    d->retry_at_us = now_us(s) + RETRY_US;
    if (j->left) /* It counts as a file without letters, so that it goes before those that came after it. */
        letters_add_file(&d->letters,
                         &(struct dead_file){.id = j->file_id, .first = j->first, .next = j->first});
    if (!j->sync_failed && failure_of_space(j->err)) {
        spool_warn(s, "no space for dead letters; trying again every second");
        return false;
    }
    /* Never again that inode. */
    if (d->fd >= 0)
        house_drop_fd(s, d->fd);
    d->fd = -1;
    if (++d->failures > FAILURES_MAX) {
        struct fault why;
        (void)fault_sys(&why, j->err, "write dead letters"); /* Handed on. */
        spool_fail(s, &why);
    }
    return false;
}

static void take_written(struct spool *s)
{
    struct deadbox *d = &s->dead;
    struct dead_job *j = &d->job;
    if (j->create) {
        uint64_t first = frame_seq(j->frames.at);
        letters_add_file(&d->letters, &(struct dead_file){.id = j->file_id, .first = first, .next = first});
        d->letters.marks_from = j->file_id;
        d->fd = j->fd;
        d->file_id = j->file_id;
        d->look = true;
    }
    d->end = j->place.offset;
    d->hcrc = j->place.prev_hcrc;
    d->commit = j->place.commit + 1;
    struct dead_file *f = &d->letters.files[d->letters.file_count - 1];
    ensure(f->id == j->file_id);
    f->allocated = j->allocated;
    if (j->work == DEAD_WRITE_LETTERS)
        f->next = d->letters.next_letter;
    recount(s);
}

/* --- marks ------------------------------------------------------------------------------------------------
 */

static void put_marked(struct spool *s, const struct intervals *marks)
{
    size_t start = ctrl_start(s);
    for (size_t i = 0; i < marks->len; i++) {
        struct spool_run run = {marks->at[i].first, marks->at[i].last - marks->at[i].first + 1};
        enum err err = op_put_runs(&s->ctrl, OP_MARKED, &run, 1);
        ensure(err == OK);
    }
    if (marks->len > 0)
        ctrl_apply(s, start, false);
}

/* Files without living letters. Those that know who is gone in the files before them go when there is none before them
 * any more: the newest and, when its marks are torn, its elders that have what it should. */
static bool unlink_empty(struct spool *s)
{
    struct deadbox *d = &s->dead;
    struct dead_job *j = &d->job;
    j->unlink_count = 0;
    if (d->fd >= 0 && !house_may_drop_fd(s)) {
        d->look = true;
        return false;
    }
    for (size_t i = 0; i < d->letters.file_count && j->unlink_count < DEAD_UNLINK_MAX; i++) {
        const struct dead_file *f = &d->letters.files[i];
        bool knows = f->id >= d->letters.marks_from;
        if (letters_living_in(&d->letters, f) == 0 && (!knows || i == 0))
            j->unlink[j->unlink_count++] = f->id;
    }
    if (j->unlink_count == 0)
        return false;
    if (d->fd >= 0 && j->unlink[j->unlink_count - 1] == d->file_id) {
        house_drop_fd(s, d->fd);
        d->fd = -1;
    }
    dead_submit(s, DEAD_UNLINK);
    return true;
}

static void unlink_done(struct spool *s)
{
    struct deadbox *d = &s->dead;
    if (d->job.err != 0) {
        REACHED(LETTERS_NOT_DELETED);
        d->retry_at_us = now_us(s) + RETRY_US;
        d->look = true;
        return;
    }
    for (unsigned i = 0; i < d->job.unlink_count; i++)
        letters_remove_file(&d->letters, d->job.unlink[i]);
    recount(s);
    d->look = true; /* The newest may be the last one now. */
    s->house_look = true;
    append_check_room(s);
    s->note_room = true;
}

/* Marks of letters whose files are gone need no mark. */
static void drop_needless_marks(struct spool *s)
{
    struct intervals needless = {0};
    const struct intervals *marks = &s->accounts.marks;
    for (size_t i = 0; i < marks->len; i++) {
        uint64_t at = marks->at[i].first, last = marks->at[i].last;
        while (at <= last) {
            const struct dead_file *f = letters_file_from(&s->dead.letters, at);
            uint64_t from = f == NULL || f->first > last ? last + 1 : f->first > at ? f->first : at;
            if (from > at)
                (void)intervals_add(&needless, at, from - 1); /* All new. */
            at = f == NULL || f->next > last ? last + 1 : f->next;
        }
    }
    put_marked(s, &needless);
    intervals_deinit(&needless);
}

static void step_marks(struct spool *s)
{
    struct deadbox *d = &s->dead;
    if (!gone_is_durable(s))
        return;
    if (d->look) {
        d->look = false;
        if (unlink_empty(s))
            return;
    }
    if (s->accounts.marks.count == 0)
        return;
    drop_needless_marks(s);
    if (s->accounts.marks.count == 0)
        return;
    intervals_clear(&d->flushing);
    for (size_t i = 0; i < s->accounts.marks.len; i++)
        (void)intervals_add(&d->flushing, s->accounts.marks.at[i].first,
                            s->accounts.marks.at[i].last); /* A copy. */
    letters_put_marks(&d->job.frames, &d->flushing, d->letters.next_letter);
    dead_write(s, DEAD_WRITE_MARKS, d->letters.next_letter);
}

void dead_marks_changed(struct spool *s)
{
    s->dead.look = true;
    s->dead.marks_ticket = s->ticket;
}

void dead_replays_durable(struct spool *s, uint64_t seq)
{
    struct deadbox *d = &s->dead;
    unsigned n = 0;
    while (n < d->replayed_count && d->replayed[n].seq <= seq) {
        (void)intervals_add(&s->accounts.marks, d->replayed[n].letter, d->replayed[n].letter); /* New. */
        n++;
    }
    if (n == 0)
        return;
    d->replayed_count -= n;
    memmove(d->replayed, d->replayed + n, d->replayed_count * sizeof *d->replayed);
    d->look = true;
}

uint64_t dead_replayed_from(const struct spool *s, uint64_t seq)
{
    uint64_t count = 0;
    for (unsigned i = 0; i < s->dead.replayed_count; i++)
        count += s->dead.replayed[i].seq >= seq;
    return count;
}

/* --- the pump ---------------------------------------------------------------------------------------------
 */

uint64_t dead_deadline(const struct spool *s)
{
    const struct deadbox *d = &s->dead;
    if (!running(s) || d->busy || d->retry_at_us <= now_us(s))
        return UINT64_MAX;
    return d->retry_at_us;
}

void dead_pump(struct spool *s, uint64_t now)
{
    struct deadbox *d = &s->dead;
    if (!running(s) || d->busy || s->files_closed || now < d->retry_at_us)
        return;
    if (d->retry) {
        dead_write(s, d->job.work, frame_seq(d->job.frames.at));
    } else if (s->closing) {
        return;
    } else if (d->tasks != NULL) {
        deaths_step(s);
    } else if (d->look || s->accounts.marks.count > 0) {
        step_marks(s);
    }
}

void dead_done(struct spool *s)
{
    struct deadbox *d = &s->dead;
    d->busy = false;
    switch (d->job.work) {
    case DEAD_UNLINK:
        unlink_done(s);
        break;
    case DEAD_READ:
        dead_read_done(s);
        break;
    default:
        if (!write_succeeded(s))
            break;
        take_written(s);
        bytes_clear(&d->job.frames);
        if (d->job.work == DEAD_WRITE_MARKS)
            put_marked(s, &d->flushing);
        break;
    }
}
