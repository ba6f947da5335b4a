/* dead_request: list, replay and purge dead letters. One request at a time; letters are read 256 KiB at a
 * time.
 *
 * Replay appends the letter's event as a new one, in a frame of its own whose extension names the letter: the
 * frame is there or not, so a crash leaves either the letter or the pending event. Purge writes LETTERS.
 * Either way the letter does not count from then on, and its file is told later (dead.c, marks). */
#include "lib/spool/branches.h"
#include "lib/spool/internal.h"
#include "lib/spool/scan.h"

#include <errno.h>
#include <stdlib.h>

/* --- reading letters --------------------------------------------------------------------------------------
 */

static void collect(struct dead_job *j, struct scan *scan)
{
    struct frame f;
    const uint8_t *payload;
    for (;;) {
        enum scan_result result = scan_next(scan, &f, &payload);
        if (result == SCAN_BAD && scan_resync(scan))
            continue;
        if (result != SCAN_FRAME)
            break;
        uint32_t bytes = (uint32_t)frame_bytes(f.payload_len);
        if (f.type != FRAME_DATA || f.seq < j->read_to || f.seq >= j->end)
            continue;
        if (j->chunk == NULL)
            j->chunk = chunk_new(bytes > SCAN_BUFFER_BYTES ? bytes : SCAN_BUFFER_BYTES);
        if (j->chunk->cap - j->chunk->used < bytes)
            return;
        uint8_t *at = j->chunk->data + j->chunk->used;
        frame_begin(at, FRAME_DATA, f.count, f.payload_len, f.seq);
        memcpy(at + FRAME_HEADER_BYTES, payload, f.payload_len);
        j->chunk->used += bytes;
        j->read_to = f.seq + 1;
    }
    j->read_to = j->end;
}

/* All that can be read from j->want on, in an open file; returns how many blocks of it cannot. */
static unsigned read_letters(struct dead_job *j, const struct spool_vfs *vfs, int fd, uint64_t size)
{
    uint8_t area[SEGMENT_HEADER_AREA];
    struct segment_header header;
    struct fault why;
    unsigned unreadable = 0;
    size_t n = scan_pread(vfs, fd, area, sizeof area, 0, &unreadable);
    if (segment_header_decode(span_of(area, n), &header, &why) != SEGMENT_VALID) {
        j->read_to = j->end;
        return unreadable;
    }
    struct scan scan;
    scan_init(&scan, vfs, fd, &header, size);
    collect(j, &scan);
    unreadable += scan.unreadable;
    scan_deinit(&scan);
    return unreadable;
}

void dead_run_read(struct dead_job *j, const struct spool_vfs *vfs)
{
    char name[SEGMENT_NAME_MAX];
    struct spool_stat st;
    dead_name(j->file_id, name);
    j->chunk = NULL;
    j->read_to = j->want;
    int fd = vfs->open(vfs->ctx, name, VFS_RDONLY);
    int err = fd < 0 ? fd : vfs->stat(vfs->ctx, name, &st);
    if (err >= 0 && read_letters(j, vfs, fd, st.size) > 0 && !scan_answers(vfs, fd, st.size)) {
        free(j->chunk);
        j->chunk = NULL;
        err = -EIO;
    }
    if (fd >= 0)
        (void)vfs->close(vfs->ctx, fd); /* Nothing was written. */
    j->err = err < 0 ? -err : 0;
}

/* Letters that should have stood in [first, end) and did not: damage took them. */
static void lose_letters(struct spool *s, uint64_t first, uint64_t end)
{
    struct intervals *gone = &s->dead.letters.gone;
    while ((first = intervals_next_free(gone, first)) < end) {
        size_t i = intervals_find(gone, first);
        uint64_t to = i < gone->len && gone->at[i].first < end ? gone->at[i].first : end;
        struct spool_run run = {first, to - first};
        size_t start = ctrl_start(s);
        enum err err = op_put_drop(&s->ctrl, OP_LETTERS, SPOOL_DROP_CORRUPT, 0, &run, 1);
        ensure(err == OK);
        ctrl_apply(s, start, true);
        dead_marks_changed(s);
        (void)intervals_add(gone, first, to - 1); /* All new. */
        REACHED(LETTERS_PASSED);
        spool_warn(s, "%llu dead letters are lost to damage", (unsigned long long)run.count);
        first = to;
    }
}

void dead_read_done(struct spool *s)
{
    struct deadbox *d = &s->dead;
    struct dead_job *j = &d->job;
    free(d->chunk);
    d->chunk = j->chunk;
    j->chunk = NULL;
    d->chunk_at = 0;
    d->chunk_end = j->read_to;
    if (j->err != 0) {
        d->retry_at_us = now_us(s) + RETRY_US;
        d->chunk_end = j->want;
        spool_warn(s, "cannot read dead letters (error %d); trying again every second", j->err);
        return;
    }
    uint64_t expected = j->want;
    for (uint32_t at = 0; d->chunk != NULL && at < d->chunk->used;) {
        const uint8_t *frame = d->chunk->data + at;
        lose_letters(s, expected, frame_seq(frame));
        expected = frame_seq(frame) + 1;
        at += (uint32_t)frame_bytes(frame_payload_len(frame));
    }
    lose_letters(s, expected, d->chunk_end);
}

/* --- the request ------------------------------------------------------------------------------------------
 */

static bool selected(const struct spool_dead_request *r, uint64_t id)
{
    if (r->ids == NULL)
        return true;
    for (unsigned i = 0; i < r->id_count; i++)
        if (r->ids[i] == id)
            return true;
    return false;
}

static void finish(struct spool *s, enum err err, const struct fault *why)
{
    struct deadbox *d = &s->dead;
    struct spool_dead_request *r = d->request;
    d->request = NULL;
    free(d->chunk);
    d->chunk = NULL;
    r->done(r->ctx, err, d->count, why);
}

/* ERR_AGAIN: no room now. */
static enum err replay(struct spool *s, const struct spool_letter *letter, uint16_t api_version)
{
    struct deadbox *d = &s->dead;
    struct spool_record record = {.partition = letter->partition,
                                  .id = letter->id,
                                  .body = letter->body,
                                  .wall_ns = letter->received_wall_ns};
    if (d->replayed_count == REPLAYED_MAX)
        return ERR_AGAIN;
    enum err err = append_room(s, 1, letter->partition.len + letter->id.len + letter->body.len + 64);
    if (err != OK)
        return err;
    struct bytes extension;
    bytes_init(&extension, 256);
    err = op_put_runs(&extension, OP_MARKS, &(struct spool_run){letter->letter_id, 1}, 1);
    ensure(err == OK);
    uint64_t seq = s->accounts.next_seq;
    tail_append_alone(&s->tail, &record, api_version, seq, bytes_span(&extension));
    bytes_deinit(&extension);
    accounts_stored(&s->accounts, seq, 1);
    ages_note(&s->ages, seq, record.wall_ns, s->accounts.low_water + 1);
    s->accounts.replayed++;
    d->replayed[d->replayed_count++] = (struct replayed){seq, letter->letter_id};
    (void)intervals_add(&d->letters.gone, letter->letter_id, letter->letter_id); /* New. */
    d->wait_seq = seq;
    spool_check(s);
    return OK;
}

/* Since the chunk was read its file may have been deleted, and with it the memory of who is gone. */
static bool living(const struct letters *l, uint64_t id)
{
    const struct dead_file *f = letters_file_from(l, id);
    return f != NULL && f->first <= id && !intervals_has(&l->gone, id);
}

/* Hands on the letters of the chunk; ERR_AGAIN when it has to wait, OK when the chunk is used up. */
static enum err use_chunk(struct spool *s)
{
    struct deadbox *d = &s->dead;
    while (d->chunk_at < d->chunk->used) {
        const uint8_t *frame = d->chunk->data + d->chunk_at;
        struct spool_dead_request *r = d->request;
        struct spool_letter letter;
        uint16_t api_version;
        uint64_t id = frame_seq(frame);
        if (living(&d->letters, id) && selected(r, id) &&
            letter_get(frame, &letter, &api_version)) {
            if (r->kind == DEAD_REPLAY) {
                enum err err = replay(s, &letter, api_version);
                if (err != OK)
                    return err;
                d->count++;
            } else if (d->count < r->limit || r->limit == 0) {
                memcpy(letter.batch.uuid, s->uuid, sizeof s->uuid);
                d->count++;
                r->letter(r->ctx, &letter);
            }
        }
        d->chunk_at += (uint32_t)frame_bytes(frame_payload_len(frame));
        d->next_id = id + 1;
    }
    d->next_id = d->chunk_end > d->next_id ? d->chunk_end : d->next_id;
    free(d->chunk);
    d->chunk = NULL;
    return OK;
}

static bool wants_more(const struct deadbox *d)
{
    const struct spool_dead_request *r = d->request;
    return r->kind != DEAD_LIST || r->limit == 0 || d->count < r->limit;
}

/* List and replay: chunk after chunk. */
static void step_reading(struct spool *s)
{
    struct deadbox *d = &s->dead;
    if (d->chunk != NULL) {
        enum err err = use_chunk(s);
        if (err == ERR_AGAIN) {
            s->room_wanted = true;
            return;
        }
        if (err != OK) {
            struct fault why;
            (void)fault_set(&why, err, "no room to replay more dead letters"); /* Handed on. */
            finish(s, err, &why);
            return;
        }
    } else if (d->chunk_end > d->next_id) {
        d->next_id = d->chunk_end;
    }
    const struct dead_file *f = wants_more(d) ? letters_file_from(&d->letters, d->next_id) : NULL;
    if (f == NULL) {
        d->read_all = true;
        return;
    }
    struct dead_job *j = &d->job;
    j->file_id = f->id;
    j->want = d->next_id > f->first ? d->next_id : f->first;
    j->end = f->next;
    dead_submit(s, DEAD_READ);
}

static void purge_run(struct spool *s, uint64_t first, uint64_t end)
{
    struct deadbox *d = &s->dead;
    struct intervals *gone = &d->letters.gone;
    while ((first = intervals_next_free(gone, first)) < end) {
        size_t i = intervals_find(gone, first);
        uint64_t to = i < gone->len && gone->at[i].first < end ? gone->at[i].first : end;
        struct spool_run run = {first, to - first};
        enum err err = op_put_drop(&s->ctrl, OP_LETTERS, SPOOL_DROP_PURGED, 0, &run, 1);
        ensure(err == OK);
        (void)intervals_add(gone, first, to - 1); /* All new. */
        d->count += run.count;
        first = to;
    }
}

static void purge(struct spool *s)
{
    struct deadbox *d = &s->dead;
    const struct spool_dead_request *r = d->request;
    size_t start = ctrl_start(s);
    for (size_t i = 0; i < d->letters.file_count; i++) {
        const struct dead_file *f = &d->letters.files[i];
        if (r->ids == NULL)
            purge_run(s, f->first, f->next);
        for (unsigned k = 0; r->ids != NULL && k < r->id_count; k++)
            if (r->ids[k] >= f->first && r->ids[k] < f->next)
                purge_run(s, r->ids[k], r->ids[k] + 1);
    }
    if (s->ctrl.len > start) { /* Else there is no commit to wait for, not for deaths to come either. */
        ctrl_apply(s, start, true);
        d->wait_ticket = s->ticket;
        dead_marks_changed(s);
    }
    d->read_all = true;
}

enum err spool_dead(struct spool *s, struct spool_dead_request *request)
{
    struct deadbox *d = &s->dead;
    if (!running(s) || s->closing)
        return ERR_CLOSED;
    if (d->request != NULL)
        return ERR_AGAIN;
    d->request = request;
    d->next_id = request->kind == DEAD_LIST ? request->after_id + 1 : 1;
    d->count = 0;
    d->chunk_end = 0;
    d->wait_seq = d->wait_ticket = 0;
    d->read_all = false;
    if (request->kind == DEAD_PURGE)
        purge(s);
    d->request_new = true;
    spool_pump(s);
    return OK;
}

void dead_request_pump(struct spool *s)
{
    struct deadbox *d = &s->dead;
    d->request_new = false;
    if (d->request == NULL || d->busy)
        return;
    if (!running(s) || s->closing) {
        struct fault why;
        (void)fault_set(&why, ERR_CLOSED, "the spool is closing or has failed"); /* Handed on. */
        finish(s, ERR_CLOSED, &why);
        return;
    }
    if (d->tasks != NULL || d->retry || now_us(s) < d->retry_at_us)
        return;
    if (!d->read_all)
        step_reading(s);
    if (d->request != NULL && d->read_all && s->acked_seq >= d->wait_seq && s->done_ticket >= d->wait_ticket)
        finish(s, OK, NULL);
}
