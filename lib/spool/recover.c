/* recover: see recover.h. This file finds out what is there: identity, segments, their order. */
#include "lib/spool/recover.h"

#include "lib/base/ensure.h"
#include "lib/base/list.h"
#include "lib/spool/branches.h"
#include "lib/spool/internal.h"
#include "lib/spool/place.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct recovery *recovery_new(const struct spool_vfs *vfs)
{
    struct recovery *r = must_alloc(sizeof *r);
    r->vfs = *vfs;
    r->fresh_fd = -1;
    accounts_init(&r->accounts);
    return r;
}

void recovery_free(struct recovery *r)
{
    if (r == NULL)
        return;
    if (r->fresh_fd >= 0)
        (void)r->vfs.close(r->vfs.ctx, r->fresh_fd); /* Not handed over: opening failed, and that was said. */
    accounts_deinit(&r->accounts);
    letters_deinit(&r->letters);
    bytes_deinit(&r->recent);
    free(r->found);
    free(r->valid);
    free(r->kept);
    free(r);
}

void recovery_warn(struct recovery *r, const char *format, ...)
{
    if (r->warning_count == RECOVERY_WARNINGS)
        return;
    struct fault *w = &r->warnings[r->warning_count++];
    w->err = ERR_CORRUPT;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(w->text, sizeof w->text, format, args);
    va_end(args);
}

/* --- identity ---------------------------------------------------------------------------------------------
 */

static enum err read_format(struct recovery *r, struct format_id *ret)
{
    uint8_t raw[FORMAT_BYTES];
    unsigned unreadable = 0;
    int fd = r->vfs.open(r->vfs.ctx, FORMAT_FILE, VFS_RDONLY);
    if (fd == -ENOENT)
        return fault_set(&r->fault, ERR_NOT_FOUND, "%s is missing", FORMAT_FILE);
    if (fd < 0)
        return fault_sys(&r->fault, fd, "open %s", FORMAT_FILE);
    size_t n = scan_pread(&r->vfs, fd, raw, sizeof raw, 0, &unreadable);
    (void)r->vfs.close(r->vfs.ctx, fd); /* Nothing was written. */
    return format_decode(span_of(raw, n), ret, &r->fault);
}

static enum err write_format(struct recovery *r)
{
    struct format_id id = {.major = SPOOL_FORMAT_MAJOR, .minor = SPOOL_FORMAT_MINOR, .wall_ns = r->wall_ns};
    uint8_t raw[FORMAT_BYTES];
    const struct spool_vfs *vfs = &r->vfs;
    memcpy(id.uuid, r->uuid, sizeof id.uuid);
    format_encode(&id, raw);
    (void)vfs->unlink(vfs->ctx, FORMAT_TMP); /* Usually there is none. */
    int fd = vfs->open(vfs->ctx, FORMAT_TMP, VFS_RDWR | VFS_CREATE | VFS_EXCL);
    if (fd < 0)
        return fault_sys(&r->fault, fd, "create %s", FORMAT_TMP);
    int err = -write_fully(vfs, fd, &(struct iovec){.iov_base = raw, .iov_len = sizeof raw}, 1, 0);
    if (err == 0)
        err = -sync_fully(vfs, fd);
    int closed = vfs->close(vfs->ctx, fd);
    if (err >= 0)
        err = closed;
    if (err >= 0)
        err = vfs->rename(vfs->ctx, FORMAT_TMP, FORMAT_FILE);
    if (err >= 0)
        err = vfs->fsync_dir(vfs->ctx, ".");
    return err < 0 ? fault_sys(&r->fault, err, "write %s", FORMAT_FILE) : OK;
}

/* --- files ------------------------------------------------------------------------------------------------
 */

static int note_name(void *arg, const char *name)
{
    struct recovery *r = arg;
    static const char *const known[] = {FORMAT_FILE, FORMAT_TMP, DEAD_DIR, QUARANTINE_DIR, "LOCK", ".", ".."};
    uint64_t id;
    if (segment_name_parse(name, "seg-", &id)) {
        if (r->found_count == r->found_cap) {
            r->found_cap = r->found_cap == 0 ? 16 : r->found_cap * 2;
            r->found = must_realloc(r->found, r->found_cap * sizeof *r->found);
        }
        r->found[r->found_count++] = (struct found){.id = id};
        if (id > r->id_max)
            r->id_max = id;
        return 0;
    }
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(name, known[i]) == 0)
            return 0;
    if (!r->other_names && !r->read_only)
        recovery_warn(r, "unknown file %.64s in the spool's directory: left alone", name);
    r->other_names = true;
    return 0;
}

static void judge_header(struct found *f, struct span area, bool all_read)
{
    f->kind = segment_header_decode(area, &f->header, &f->why);
    f->zero_header = f->kind == SEGMENT_PREPARED && all_read;
    if (f->kind == SEGMENT_PREPARED && !all_read)
        f->kind = SEGMENT_DAMAGED;
    if (f->kind == SEGMENT_PREPARED)
        REACHED(FILE_PREPARED);
    if (f->kind == SEGMENT_VALID && f->header.id != f->id) {
        REACHED(RECYCLE_CUT);
        f->kind = SEGMENT_PREPARED;
    }
}

static enum err read_header(struct recovery *r, struct found *f)
{
    uint8_t area[SEGMENT_HEADER_AREA];
    char name[SEGMENT_NAME_MAX];
    struct spool_stat st = {0};
    unsigned unreadable = 0;
    segment_name(f->id, name);
    int fd = r->vfs.open(r->vfs.ctx, name, VFS_RDONLY);
    int err = fd < 0 ? fd : r->vfs.stat(r->vfs.ctx, name, &st);
    if (err >= 0) {
        f->size = st.size;
        f->allocated = st.allocated;
        size_t n = scan_pread(&r->vfs, fd, area, sizeof area, 0, &unreadable);
        judge_header(f, span_of(area, n), unreadable == 0);
        if (unreadable > 0 && !scan_answers(&r->vfs, fd, f->size))
            err = -EIO;
    }
    if (fd >= 0)
        (void)r->vfs.close(r->vfs.ctx, fd); /* Nothing was written. */
    if (err < 0)
        return fault_sys(&r->fault, err, "read %s", name);
    if (f->kind == SEGMENT_UNSUPPORTED) {
        r->fault = f->why;
        return fault_context(&r->fault, "%s", name);
    }
    return OK;
}

static int by_id(const void *a, const void *b)
{
    const struct found *x = a, *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}

static enum err read_headers(struct recovery *r)
{
    int err = r->vfs.list(r->vfs.ctx, ".", note_name, r);
    if (err < 0)
        return fault_sys(&r->fault, err, "list the spool's directory");
    if (r->found_count > 1)
        qsort(r->found, r->found_count, sizeof *r->found, by_id);
    for (size_t i = 0; i < r->found_count; i++) {
        enum err e = read_header(r, &r->found[i]);
        if (e != OK)
            return e;
    }
    return OK;
}

/* The uuid of the newest good header stands in for a lost FORMAT. */
static bool uuid_from_headers(struct recovery *r)
{
    for (size_t i = r->found_count; i-- > 0;)
        if (r->found[i].kind == SEGMENT_VALID) {
            memcpy(r->uuid, r->found[i].header.uuid, sizeof r->uuid);
            return true;
        }
    return false;
}

/* Does any segment speak for this uuid, or at least none for another one? */
static bool headers_agree(const struct recovery *r, const uint8_t uuid[16])
{
    bool valid = false;
    for (size_t i = 0; i < r->found_count; i++) {
        valid = valid || r->found[i].kind == SEGMENT_VALID;
        if (r->found[i].kind == SEGMENT_VALID && memcmp(r->found[i].header.uuid, uuid, sizeof r->uuid) == 0)
            return true;
    }
    return !valid;
}

static enum err settle_identity(struct recovery *r)
{
    struct format_id id;
    enum err err = read_format(r, &id);
    if (err == ERR_UNSUPPORTED || err == ERR_IO)
        return err;
    bool any = false;
    r->have_format = err == OK;
    for (size_t i = 0; i < r->found_count; i++)
        any = any || r->found[i].kind != SEGMENT_PREPARED;
    if (err == OK && !headers_agree(r, id.uuid)) {
        REACHED(FORMAT_FOREIGN);
        /* Put here by somebody: it must not send all segments into quarantine. */
        err = fault_set(&r->fault, ERR_CORRUPT, "%s belongs to another spool", FORMAT_FILE);
        r->have_format = false;
    }
    if (err == OK && any) {
        memcpy(r->uuid, id.uuid, sizeof r->uuid);
        return OK;
    }
    /* No segments: epochs begin again, hence a uuid of its own, so that no batch id can come twice. */
    if (uuid_from_headers(r) && !r->have_format) {
        REACHED(FORMAT_REBUILT);
        recovery_warn(r, "%s; made again from the segments' headers", r->fault.text);
    }
    return r->read_only ? OK : write_format(r);
}

/* Those that count, by id, and where each ends as its successor tells. */
static void put_in_order(struct recovery *r)
{
    r->valid = must_alloc((r->found_count + 1) * sizeof *r->valid);
    for (size_t i = 0; i < r->found_count; i++) {
        struct found *f = &r->found[i];
        if (f->kind == SEGMENT_VALID && memcmp(f->header.uuid, r->uuid, sizeof r->uuid) != 0) {
            f->kind = SEGMENT_DAMAGED;
            (void)fault_set(&f->why, ERR_CORRUPT,
                            "segment header: it belongs to another spool"); /* For the text. */
        }
        if (f->kind == SEGMENT_DAMAGED)
            recovery_warn(
                r, "segment %llu: %s%s", (unsigned long long)f->id, f->why.text,
                i + 1 < r->found_count
                    ? ""
                    : " (it is the newest: if the power failed while it was begun, nothing is missing)");
        if (f->kind != SEGMENT_VALID)
            continue;
        /* Numbers never go back: a header that says so is not to be believed. */
        if (r->valid_count > 0 && f->header.first_seq < r->valid[r->valid_count - 1]->header.first_seq) {
            REACHED(HEADER_BACKWARDS);
            f->kind = SEGMENT_DAMAGED;
            recovery_warn(r, "segment %llu: numbers before those of its predecessor",
                          (unsigned long long)f->id);
            continue;
        }
        if (f->header.epoch > r->epoch_max)
            r->epoch_max = f->header.epoch;
        r->valid[r->valid_count++] = f;
    }
    for (size_t i = 0; i < r->valid_count; i++) {
        struct found *f = r->valid[i];
        const struct found *next = i + 1 < r->valid_count ? r->valid[i + 1] : NULL;
        f->end = f->size;
        f->next_seq = next == NULL ? f->header.first_seq : next->header.first_seq;
        f->sealed =
            next != NULL && next->header.prev_id == f->id && next->header.prev_end >= SEGMENT_HEADER_AREA;
        if (f->sealed)
            f->end = next->header.prev_end;
    }
}

/* Said at each start, since only whoever runs this machine can change it. */
static enum err check_place(struct recovery *r)
{
    struct spool_fsinfo info = {0};
    r->free_bytes = UINT64_MAX;
    if (r->vfs.fsinfo(r->vfs.ctx, &info) < 0)
        return OK; /* Not known, hence nothing to say. */
    r->free_bytes = info.free_bytes;
    const struct place *place = place_of(info.type);
    if (place == NULL)
        return OK;
    if (r->require_local_fs && !place->local)
        return fault_set(&r->fault, ERR_CONFIG, "the spool is on %s, which require_local_fs refuses: %s",
                         place->name, place->lost);
    recovery_warn(r, "the spool is on %s: %s", place->name, place->lost);
    return OK;
}

enum err recovery_read(struct recovery *r)
{
    enum err err = read_headers(r);
    if (err == OK)
        err = settle_identity(r);
    if (err != OK)
        return err;
    r->fault = (struct fault){0};
    put_in_order(r);
    err = recovery_replay(r);
    return err != OK ? err : recovery_letters(r);
}

void recovery_run(struct spool_job *job, const struct spool_vfs *vfs)
{
    struct recovery *r = CONTAINER_OF(job, struct recovery, job);
    r->vfs = *vfs;
    enum err err = check_place(r);
    if (err == OK)
        err = recovery_read(r);
    if (err == OK)
        err = recovery_recent(r);
    if (err != OK)
        REACHED(START_REFUSED);
    if (err == OK)
        err = recovery_settle(r);
    if (err == OK) {
        recovery_quarantine(r);
        recovery_cut_ends(r);
    }
    r->fault.err = err;
    if (err != OK && r->fresh_fd >= 0) {
        (void)vfs->close(vfs->ctx, r->fresh_fd); /* Never to be used. */
        r->fresh_fd = -1;
    }
}
