/* fresh: the segment that every start begins with. See recover.h.
 *
 * First STATE with everything folded in and copies of the events that were found but not attested, from the
 * end of the header area on; sync; directory sync; only then the header; sync. A header first could seal away
 * answered events whose copies are not on disk yet. Until the header is there, the file is one that holds
 * nothing and the old segment stays in force, so a crash here only means doing it again. */
#include "lib/base/ensure.h"
#include "lib/spool/branches.h"
#include "lib/spool/bugs.h"
#include "lib/spool/internal.h"
#include "lib/spool/recover.h"

#include <errno.h>
#include <stdlib.h>

#define COPY_BYTES (256 * 1024)
#define OPS_BYTES (UINT64_C(512) << 10) /* room for the first ops of a life, so that what is full can be emptied */

struct fresh_writer {
    struct recovery *r;
    int fd, source_fd;
    struct bytes buffer;
    uint64_t buffer_at; /* where the buffer's first byte goes */
    struct frame_place place;
};

static int flush(struct fresh_writer *w)
{
    struct iovec iov = {.iov_base = w->buffer.at, .iov_len = w->buffer.len};
    /* Nothing is left when the copies went out in full and end where the next commit begins. */
    int err = w->buffer.len == 0 ? 0 : write_fully(&w->r->vfs, w->fd, &iov, 1, w->buffer_at);
    w->buffer_at += w->buffer.len;
    bytes_clear(&w->buffer);
    return err;
}

/* Reads a frame again and checks it again: what is sealed anew must be what was found. */
static int copy_frame(struct fresh_writer *w, const struct kept_frame *k, const struct segment_header *source)
{
    size_t whole = (size_t)frame_bytes(k->payload_len), at = w->buffer.len;
    struct frame f;
    enum err err = bytes_reserve(&w->buffer, whole);
    ensure(err == OK);
    uint8_t *header = w->buffer.at + at;
    memset(header, 0, whole);
    if (!recovery_read_kept(w->r, w->source_fd, source, k, header, &f))
        return EIO;
    frame_begin(header, FRAME_DATA, k->count, k->payload_len, k->seq);
    w->buffer.len += whole;
    frames_seal(header, whole, &w->place);
    return 0;
}

static int copy_frames(struct fresh_writer *w)
{
    struct recovery *r = w->r;
    if (r->kept_count == 0) {
        REACHED(COPIED_NONE);
        return 0;
    }
    REACHED(COPIED);
    char name[SEGMENT_NAME_MAX];
    const struct found *source = r->valid[r->valid_count - 1];
    segment_name(source->id, name);
    w->source_fd = r->vfs.open(r->vfs.ctx, name, VFS_RDONLY);
    if (w->source_fd < 0)
        return -w->source_fd;
    int err = 0;
    for (size_t i = 0; i < r->kept_count && err == 0; i++) {
        err = copy_frame(w, &r->kept[i], &source->header);
        if (err == 0 && w->buffer.len >= COPY_BYTES)
            err = flush(w);
    }
    (void)r->vfs.close(r->vfs.ctx, w->source_fd); /* Nothing was written to it. */
    return err;
}

/* Zeros up to where the first commit will stand. The file may be one that an earlier start wrote to and then
 * died: its bytes in the gap would hide all that follows from the next recovery. */
static void fill_gap(struct fresh_writer *w)
{
    uint64_t end = w->buffer_at + w->buffer.len;
    size_t len = (size_t)(align_up(end, w->r->commit_align) - end);
    enum err err = bytes_reserve(&w->buffer, len);
    ensure(err == OK);
    memset(w->buffer.at + w->buffer.len, 0, len);
    w->buffer.len += len;
}

/* Everything but the header. */
static int write_content(struct fresh_writer *w, uint64_t first_seq)
{
    struct recovery *r = w->r;
    bytes_init(&w->buffer, SIZE_MAX);
    enum err err = state_frames(&r->accounts, r->accounts.next_seq, 0, first_seq, 0, true, &w->buffer);
    ensure(err == OK);
    w->buffer_at = SEGMENT_HEADER_AREA;
    /* All of it is durable before the header is, and so its frames say. That the header is durable too, only
     * a later commit attests: the next start may see it in the page cache without its sync having succeeded.
     */
    w->place.durable = SEGMENT_HEADER_AREA + w->buffer.len + r->kept_bytes;
    frames_seal(w->buffer.at, w->buffer.len, &w->place);
    int e = copy_frames(w);
    fill_gap(w);
    if (e == 0)
        e = flush(w);
    bytes_deinit(&w->buffer);
    return e;
}

/* The header area, synced; without a header it says that the file holds nothing. */
static int write_header(const struct recovery *r, int fd, struct segment_header *h)
{
    uint8_t area[SEGMENT_HEADER_AREA] = {0};
    struct iovec iov = {.iov_base = area, .iov_len = sizeof area};
    if (h != NULL)
        segment_header_encode(h, area);
    int err = write_fully(&r->vfs, fd, &iov, 1, 0);
    return err != 0 ? err : sync_fully(&r->vfs, fd);
}

/* On a full disk what the old files do not need must do: all that is written now, and for the ops to come what there is
 * (`need` counts room for those generously). The capacity stays what it would be: later commits may find room. */
static int create_small(struct recovery *r, const char *name, uint64_t need)
{
    int fd = -ENOSPC;
    REACHED(SMALL_FILE);
    recovery_give_back(r);
    for (uint64_t less = 0; fd < 0 && less < OPS_BYTES; less += OPS_BYTES / 4)
        fd = house_create(&r->vfs, name, need - less, &r->no_fallocate);
    return fd;
}

/* A whole segment would take more than min_free leaves: a process that is started again and again must not eat up what
 * was to stay free. */
static bool disk_low(const struct recovery *r, uint64_t bytes)
{
    return r->min_free > 0 && (r->free_bytes < bytes || r->free_bytes - bytes < r->min_free);
}

/* A prepared file that is the next in line is there for this moment; on a full disk it is the only one. An earlier
 * process may have failed to sync it, and nobody knows: all that is relied on of it is written now. */
static int open_fresh(struct recovery *r, uint64_t need, uint64_t *ret_id, uint64_t *ret_capacity)
{
    char name[SEGMENT_NAME_MAX];
    uint64_t newest = r->valid_count == 0 ? 0 : r->valid[r->valid_count - 1]->id;
    for (size_t i = 0; i < r->found_count; i++) {
        struct found *f = &r->found[i];
        if (f->kind != SEGMENT_PREPARED || f->id <= newest || f->id != r->id_max || f->size < need ||
            f->size > (UINT64_C(1) << 40))
            continue;
        segment_name(f->id, name);
        int fd = r->vfs.open(r->vfs.ctx, name, VFS_RDWR);
        if (fd < 0)
            continue;
        if (f->zero_header || write_header(r, fd, NULL) == 0) {
            REACHED(PREPARED_USED);
            f->kind = SEGMENT_VALID; /* No longer one to be deleted. */
            *ret_id = f->id;
            *ret_capacity = f->size / 4096 * 4096;
            return fd;
        }
        (void)r->vfs.close(r->vfs.ctx, fd); /* Not used. */
    }
    *ret_id = r->id_max + 1;
    *ret_capacity = r->capacity > need ? r->capacity : need;
    segment_name(*ret_id, name);
    if (disk_low(r, *ret_capacity))
        return create_small(r, name, need);
    int fd = house_create(&r->vfs, name, *ret_capacity, &r->no_fallocate);
    return failure_of_space(-fd) ? create_small(r, name, need) : fd;
}

/* No two processes may ever share an epoch. Each start begins a segment with a higher number, so an epoch
 * that is no lower than its segment's number passes over those whose headers cannot be read: their names
 * still count. */
static uint64_t next_epoch(const struct recovery *r, uint64_t segment_id)
{
    if (BUG(13) && r->epoch_max > 0)
        return r->epoch_max;
    return r->epoch_max + 1 > segment_id ? r->epoch_max + 1 : segment_id;
}

static void fill_header(struct recovery *r, uint64_t id, uint64_t capacity)
{
    const struct found *old = r->valid_count == 0 ? NULL : r->valid[r->valid_count - 1];
    r->fresh = (struct segment_header){.major = SPOOL_FORMAT_MAJOR,
                                       .minor = SPOOL_FORMAT_MINOR,
                                       .id = id,
                                       .salt = r->salt,
                                       .first_seq = old == NULL ? r->accounts.next_seq : r->attested_next_seq,
                                       .epoch = r->accounts.epoch,
                                       .commit_align = r->commit_align,
                                       .capacity = capacity,
                                       .wall_ns = r->wall_ns,
                                       .flags = r->accounts.clean ? 0 : SEGMENT_AFTER_UNCLEAN};
    memcpy(r->fresh.uuid, r->uuid, sizeof r->uuid);
    if (old != NULL && r->attested_next_seq == old->header.first_seq) {
        REACHED(PLACE_TAKEN);
        /* It has no event of its own: take its place in the chain, so that it can go at once. */
        r->fresh.prev_id = old->header.prev_id;
        r->fresh.prev_end = old->header.prev_end;
        r->fresh.prev_next_seq = old->header.prev_next_seq;
        r->fresh.prev_last_hcrc = old->header.prev_last_hcrc;
        r->fresh.prev_flags = old->header.prev_flags;
    } else if (old != NULL) {
        r->fresh.prev_id = old->id;
        r->fresh.prev_end = r->attested;
        r->fresh.prev_next_seq = r->attested_next_seq;
        r->fresh.prev_last_hcrc = r->attested_hcrc;
    }
}

enum err recovery_settle(struct recovery *r)
{
    struct fresh_writer w = {.r = r};
    uint64_t id, capacity;
    char name[SEGMENT_NAME_MAX];
    struct spool_stat st;
    r->accounts.name_hash = r->name_hash;
    uint64_t need = SEGMENT_HEADER_AREA + r->kept_bytes + 2 * r->accounts.batch_bytes +
                    2 * 24 * (r->accounts.settled.len + r->accounts.marks.len) + OPS_BYTES;
    need = align_up(need, 4096);
    w.fd = open_fresh(r, need, &id, &capacity);
    if (w.fd < 0)
        return fault_sys(&r->fault, w.fd, "create segment %llu", (unsigned long long)id);
    r->fresh_fd = w.fd;
    r->accounts.epoch = next_epoch(r, id);
    fill_header(r, id, capacity);
    uint8_t area[SEGMENT_HEADER_AREA];
    segment_header_encode(&r->fresh, area); /* for its checksum, which the frames carry on */
    w.place = (struct frame_place){
        .offset = SEGMENT_HEADER_AREA, .tag = segment_tag(r->salt), .prev_hcrc = r->fresh.hcrc};
    int err = 0;
    if (BUG(8)) {
        err = write_header(r, w.fd, &r->fresh);
        if (err == 0)
            err = -r->vfs.fsync_dir(r->vfs.ctx, ".");
    }
    if (!BUG(8) || err == 0)
        err = write_content(&w, r->fresh.first_seq);
    if (err == 0)
        err = sync_fully(&r->vfs, w.fd);
    if (err == 0)
        err = -r->vfs.fsync_dir(r->vfs.ctx, ".");
    if (err == 0)
        err = write_header(r, w.fd, &r->fresh);
    if (err != 0) {
        REACHED(SETTLE_FAILED);
        return fault_sys(&r->fault, err, "write segment %llu", (unsigned long long)id);
    }
    r->fresh_end = w.place.offset;
    r->fresh_hcrc = w.place.prev_hcrc;
    segment_name(id, name);
    r->fresh_allocated = r->vfs.stat(r->vfs.ctx, name, &st) >= 0 ? st.allocated : capacity;
    return OK;
}
