/* read: events out, to the one reader and to whoever loads a batch again. Step 8 of the straight line.
 *
 * A reader in step with intake reads from the tail and never touches the disk. One that is behind has a job
 * read 256 KiB of a segment, which checks every frame and brings the good ones as a chunk of the same shape
 * as the tail's. Where a frame does not check out, the job brings what lies before it first; the next one
 * finds the next good frame, and the seqs between are recorded as lost (GAP). */
#include "lib/spool/branches.h"
#include "lib/spool/internal.h"

#include "lib/spool/quarantine.h"
#include "lib/spool/scan.h"

#include <errno.h>
#include <stdlib.h>

void cursor_reset(struct cursor *c)
{
    free(c->cold);
    *c = (struct cursor){0};
}

void cursor_drop_chunk(struct cursor *c)
{
    if (c->reader.chunk == c->cold)
        c->reader.chunk = NULL;
    free(c->cold);
    c->cold = NULL;
}

/* --- the job ----------------------------------------------------------------------------------------------
 */

/* A frame that fills a buffer of its own stays where it was read: it may be 16 MiB long. */
static void keep_frame(struct read_job *r, struct scan *scan, const struct frame *f, const uint8_t *payload)
{
    uint32_t bytes = (uint32_t)frame_bytes(f->payload_len);
    struct chunk *c = r->chunk;
    if (c == NULL) {
        if (bytes > SCAN_BUFFER_BYTES)
            c = scan_take(scan, payload);
        if (c == NULL)
            c = chunk_new(bytes > SCAN_BUFFER_BYTES ? bytes : SCAN_BUFFER_BYTES);
        r->chunk = c;
        c->first_seq = f->seq;
    }
    uint8_t *at = c->data + c->used;
    frame_begin(at, FRAME_DATA, f->count, f->payload_len, f->seq);
    if (payload != at + FRAME_HEADER_BYTES)
        memcpy(at + FRAME_HEADER_BYTES, payload, f->payload_len);
    c->used += bytes;
    c->end_seq = f->seq + f->count;
}

static bool room_for(const struct read_job *r, const struct frame *f)
{
    return r->chunk == NULL || r->chunk->cap - r->chunk->used >= frame_bytes(f->payload_len);
}

/* Events in [want, seq) should have come before what stands at `seq`. */
static void note_lost(struct read_job *r, uint64_t seq)
{
    if (r->chunk != NULL || seq <= r->want)
        return;
    r->lost_first = r->want;
    r->lost_count = seq - r->want;
}

/* Reads until the chunk is full, the segment ends, or something has to be reported first. */
static void read_frames(struct read_job *r, struct scan *scan)
{
    struct frame f;
    const uint8_t *payload;
    for (;;) {
        uint64_t at = scan->at;
        enum scan_result result = scan_next(scan, &f, &payload);
        r->next_offset = at;
        if (result == SCAN_BAD && r->end_known) {
            if (r->chunk != NULL)
                return;
            REACHED(DAMAGE_PASSED);
            if (r->damage_bytes == 0)
                r->damage_at = scan->at;
            bool more = scan_resync(scan);
            r->damage_bytes = scan->at - r->damage_at;
            if (more)
                continue;
            result = SCAN_END;
        }
        if (result != SCAN_FRAME) {
            note_lost(r, r->next_seq);
            return;
        }
        if (f.type != FRAME_DATA || f.seq + f.count <= r->want)
            continue;
        /* No frame of this segment goes beyond it, however good its checksum: it is damage, too. */
        bool beyond = f.seq >= r->next_seq;
        note_lost(r, beyond ? r->next_seq : f.seq);
        if (beyond || r->lost_count > 0)
            return;
        if (r->chunk != NULL && f.seq != r->chunk->end_seq)
            return;
        if (!room_for(r, &f))
            return;
        keep_frame(r, scan, &f, payload);
        r->next_offset = scan->at;
    }
}

/* What has been read is in the chunk, and nobody is behind this reader: the page cache need not keep it. What
 * follows is fetched while the chunk is worked on. */
static void advise(const struct read_job *r, const struct spool_vfs *vfs, int fd)
{
    uint64_t done = r->next_offset > r->offset ? r->next_offset - r->offset : 0;
    uint64_t left = r->end > r->next_offset ? r->end - r->next_offset : 0;
    if (done > 0 && r->synced)
        (void)vfs->dont_need(vfs->ctx, fd, r->offset, done); /* Only advice, as the next one. */
    if (left > 0 && r->ahead)
        (void)vfs->will_need(vfs->ctx, fd, r->next_offset,
                             left < SCAN_BUFFER_BYTES ? left : SCAN_BUFFER_BYTES);
}

static void run_read(struct spool_job *job, const struct spool_vfs *vfs)
{
    struct read_job *r = CONTAINER_OF(job, struct read_job, job);
    char name[SEGMENT_NAME_MAX];
    segment_name(r->header.id, name);
    int fd = vfs->open(vfs->ctx, name, VFS_RDONLY);
    if (fd < 0) {
        r->err = -fd;
        return;
    }
    struct scan scan;
    scan_init(&scan, vfs, fd, &r->header, r->end);
    scan.synced = r->synced;
    if (r->offset > SEGMENT_HEADER_AREA)
        scan_seek(&scan, r->offset);
    read_frames(r, &scan);
    if (scan.unreadable > 0 && !scan_answers(vfs, fd, r->end)) {
        r->err = EIO;
        r->lost_count = r->damage_bytes = 0;
        r->next_offset = r->chunk == NULL ? r->offset : r->next_offset;
    }
    advise(r, vfs, fd);
    quarantine_range(vfs, fd, r->header.id, r->damage_at, r->damage_bytes);
    scan_deinit(&scan);
    (void)vfs->close(vfs->ctx, fd); /* Nothing was written. */
}

/* --- asking for it ----------------------------------------------------------------------------------------
 */

static uint64_t offset_before(const struct segment *seg, const struct cursor *c, uint64_t seq)
{
    uint64_t at = SEGMENT_HEADER_AREA;
    if (c->next_segment == seg->header.id && c->next_seq <= seq)
        at = c->next_offset;
    for (unsigned i = 0; i < seg->index_len && seg->index[i].seq <= seq; i++)
        if (seg->index[i].offset > at)
            at = seg->index[i].offset;
    return at;
}

void read_submit(struct spool *s, struct cursor *c, uint64_t seq)
{
    struct read_job *r = &s->read;
    const struct segment *seg = segment_of(s, seq);
    ensure(seg != NULL);
    bool active = seg == active_segment(s);
    *r = (struct read_job){.job = {.run = run_read, .spool = s, .kind = SPOOL_JOB_READ},
                           .cursor = c,
                           .header = seg->header,
                           .offset = offset_before(seg, c, seq),
                           .end = active ? s->active.end : seg->end,
                           .want = seq,
                           .next_seq = seg->next_seq,
                           .end_known = seg->end_known,
                           .ahead = c == &s->reader,
                           .synced = !active || s->unsynced_since_us == 0};
    c->waiting = true;
    s->read_busy = true;
    s->host.submit(s->host.ctx, &r->job);
}

/* Seqs that no segment holds any more. */
static void lose_range(struct spool *s, const struct op_gap *gap)
{
    REACHED(DAMAGE_READ);
    size_t start = ctrl_start(s);
    enum err err = op_put_gap(&s->ctrl, gap);
    ensure(err == OK);
    ctrl_apply(s, start, true);
    spool_warn(s, "segment %llu is damaged at byte %llu: %llu events are lost (from number %llu on)",
               (unsigned long long)gap->segment, (unsigned long long)gap->offset,
               (unsigned long long)gap->count, (unsigned long long)gap->first);
}

static void lose_unstored(struct spool *s, uint64_t seq)
{
    uint64_t end = s->acked_seq + 1;
    for (size_t i = 0; i < s->segment_count; i++)
        if (s->segments[i]->header.first_seq > seq) {
            end = s->segments[i]->header.first_seq;
            break;
        }
    if (end > seq)
        lose_range(s, &(struct op_gap){.first = seq, .count = end - seq});
}

enum err cursor_get(struct spool *s, struct cursor *c, uint64_t seq, struct spool_item *ret)
{
    if (c->waiting)
        return ERR_AGAIN;
    if (c->reader.chunk != NULL && (!c->reading_tail || c->tail_generation == s->tail.generation) &&
        seq >= c->reader.chunk->first_seq && chunk_reader_next(&c->reader, seq, s->acked_seq + 1, ret)) {
        if (ret->seq == seq)
            return OK;
    }
    const struct chunk *chunk = tail_find(&s->tail, seq);
    c->reading_tail = chunk != NULL;
    c->tail_generation = s->tail.generation;
    if (c->reading_tail && c->cold != NULL && c->cold->end_seq <= seq) {
        free(c->cold); /* Caught up. */
        c->cold = NULL;
    }
    if (chunk == NULL && c->cold != NULL && seq >= c->cold->first_seq && seq < c->cold->end_seq)
        chunk = c->cold;
    if (chunk != NULL) {
        chunk_reader_init(&c->reader, chunk);
        if (chunk_reader_next(&c->reader, seq, s->acked_seq + 1, ret) && ret->seq == seq)
            return OK;
    }
    c->reader.chunk = NULL;
    if (segment_of(s, seq) == NULL) {
        lose_unstored(s, seq);
        return ERR_CORRUPT;
    }
    if (!s->read_busy && now_us(s) >= s->read_retry_at_us)
        read_submit(s, c, seq);
    return ERR_AGAIN;
}

/* The time of the first event of each frame. */
static void note_ages(struct spool *s, const struct chunk *c)
{
    for (uint32_t at = 0; c != NULL && at < c->used;) {
        const uint8_t *frame = c->data + at;
        ages_note(&s->ages, frame_seq(frame), le64_get(frame + FRAME_HEADER_BYTES),
                  s->accounts.low_water + 1);
        at += (uint32_t)frame_bytes(frame_payload_len(frame));
    }
}

void read_done(struct spool *s)
{
    struct read_job *r = &s->read;
    struct cursor *c = r->cursor;
    s->read_busy = false;
    c->waiting = false;
    const struct segment *seg = segment_of(s, r->want);
    bool same = seg != NULL && seg->header.id == r->header.id && seg->header.salt == r->header.salt;
    if (same && r->err == ENOENT) {
        REACHED(SEGMENT_REMOVED);
        r->err = 0;
        r->lost_first = r->want;
        r->lost_count = seg->next_seq - r->want;
    }
    if (r->err != 0) {
        s->read_retry_at_us = now_us(s) + RETRY_US;
        spool_warn(s, "cannot read segment %llu (error %d); trying again every second",
                   (unsigned long long)r->header.id, r->err);
    }
    if (same && r->lost_count > 0)
        lose_range(s, &(struct op_gap){.segment = r->header.id,
                                       .offset = r->damage_at,
                                       .length = r->damage_bytes,
                                       .first = r->lost_first,
                                       .count = r->lost_count});
    cursor_drop_chunk(c);
    c->cold = r->chunk;
    r->chunk = NULL;
    if (c != &s->dead_cursor)
        note_ages(s, c->cold);
    c->next_segment = r->header.id;
    c->next_offset = r->next_offset;
    c->next_seq = c->cold != NULL ? c->cold->end_seq : r->want;
    if (same && c->cold != NULL)
        segment_index((struct segment *)(uintptr_t)seg, c->next_seq, r->next_offset);
    if (c == &s->scrub.cursor)
        scrub_done(s);
    if (s->read_wanted)
        s->note_readable = true;
}

/* Bytes handed out that may still be open. */
static uint64_t window_bytes(struct spool *s)
{
    struct window *w = &s->window;
    while (w->count > 1 && w->marks[(w->first + 1) % 32].seq <= s->accounts.low_water + 1) {
        w->first = (w->first + 1) % 32;
        w->count--;
    }
    if (w->count == 0 || s->read_seq <= s->accounts.low_water + 1) {
        w->count = 0;
        return 0;
    }
    return w->bytes - w->marks[w->first].bytes;
}

static void window_add(struct spool *s, const struct spool_item *item)
{
    struct window *w = &s->window;
    uint64_t grain = s->config.window_bytes / 16;
    if (w->count == 0 ||
        (w->count < 32 && w->bytes - w->marks[(w->first + w->count - 1) % 32].bytes >= grain)) {
        unsigned at = (w->first + w->count++) % 32;
        w->marks[at].seq = item->seq;
        w->marks[at].bytes = w->bytes;
    }
    w->bytes += item->body.len + item->id.len;
}

enum err spool_next(struct spool *s, struct spool_item *ret)
{
    if (s->state == SPOOL_OPENING || s->state == SPOOL_CLOSED)
        return ERR_CLOSED;
    for (;;) {
        if (s->read_seq <= s->accounts.low_water)
            s->read_seq = s->accounts.low_water + 1;
        uint64_t seq = intervals_next_free(&s->accounts.taken, s->read_seq);
        enum err err = ERR_AGAIN;
        if (seq <= s->acked_seq && seq <= s->accounts.low_water + s->config.window_seqs &&
            window_bytes(s) < s->config.window_bytes)
            err = cursor_get(s, &s->reader, seq, ret);
        if (err == ERR_CORRUPT)
            continue;
        if (err != OK) {
            s->read_wanted = true;
            spool_pump(s);
            return err;
        }
        window_add(s, ret);
        s->read_seq = seq + 1;
        return OK;
    }
}

/* --- loading a batch again --------------------------------------------------------------------------------
 */

void spool_load(struct spool *s, uint64_t batch_no, struct spool_loader *loader)
{
    struct spool_loader **end = &s->loaders;
    while (*end != NULL)
        end = &(*end)->next;
    loader->batch_no = batch_no;
    loader->seq = 0;
    const struct batch *b = accounts_batch(&s->accounts, batch_no);
    loader->members = b != NULL ? b->unsettled : 0;
    loader->next = NULL;
    *end = loader;
    s->loaders_new = true;
    spool_pump(s);
}

/* The next member >= seq that is not settled; 0: none. */
static uint64_t member_from(const struct spool *s, const struct batch *b, uint64_t seq)
{
    for (unsigned i = 0; i < b->run_count; i++) {
        uint64_t first = b->runs[i].first, end = first + b->runs[i].count;
        if (first < seq)
            first = seq;
        if (first <= s->accounts.low_water)
            first = s->accounts.low_water + 1;
        if (first < end)
            first = intervals_next_free(&s->accounts.settled, first);
        if (first < end)
            return first;
    }
    return 0;
}

static void finish_loader(struct spool *s, enum err err)
{
    struct spool_loader *l = s->loaders;
    s->loaders = l->next;
    cursor_reset(&s->loader_cursor);
    spool_deliver_notes(s); /* What became of the batch is known before. */
    l->done(l->ctx, err);
    s->note_readable = true; /* done() only notes it: the reader must be asked what is next */
}

/* Hands on what is there; true when the first loader is done. */
static bool load_some(struct spool *s)
{
    struct spool_loader *l = s->loaders;
    const struct batch *b = accounts_batch(&s->accounts, l->batch_no);
    for (;;) {
        if (b == NULL) {
            finish_loader(s, ERR_NOT_FOUND);
            return true;
        }
        if (b->unsettled != l->members) {
            finish_loader(s, ERR_CORRUPT);
            return true;
        }
        uint64_t seq = member_from(s, b, l->seq);
        if (seq == 0) {
            finish_loader(s, OK);
            return true;
        }
        struct spool_item item;
        enum err err = cursor_get(s, &s->loader_cursor, seq, &item);
        if (err == ERR_AGAIN)
            return false;
        b = accounts_batch(&s->accounts, l->batch_no);
        if (err == ERR_CORRUPT)
            continue; /* Recorded: the batch is gone, or broken. */
        l->seq = seq + 1;
        l->item(l->ctx, &item);
        b = accounts_batch(&s->accounts, l->batch_no);
    }
}

uint64_t read_deadline(const struct spool *s)
{
    if (s->state == SPOOL_OPENING || s->state == SPOOL_CLOSED || s->read_busy)
        return UINT64_MAX;
    if (s->loaders_new)
        return 1;
    return (s->loaders != NULL || s->read_wanted) && s->read_retry_at_us > now_us(s) ? s->read_retry_at_us
                                                                                     : UINT64_MAX;
}

/* An event that filled a chunk of its own, and was handed out: it is where it is needed, and may be 16 MiB long. */
static void drop_large(struct spool *s)
{
    const struct chunk *c = s->reader.cold;
    if (c != NULL && c->cap > SCAN_BUFFER_BYTES && s->read_seq >= c->end_seq)
        cursor_drop_chunk(&s->reader);
}

void read_pump(struct spool *s, uint64_t now, bool may_call)
{
    drop_large(s);
    if (s->state == SPOOL_OPENING || s->state == SPOOL_CLOSED)
        return;
    if (s->read_wanted && s->read_retry_at_us != 0 && now >= s->read_retry_at_us) {
        s->read_retry_at_us = 0;
        s->note_readable = true;
    }
    if (!may_call || s->loading)
        return;
    s->loading = true;
    s->loaders_new = false;
    while (s->loaders != NULL && load_some(s))
        ;
    s->loading = false;
}
