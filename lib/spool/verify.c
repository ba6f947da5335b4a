/* verify: see verify.h. */
#include "lib/spool/verify.h"

#include "lib/spool/internal.h"
#include "lib/spool/recover.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct walk {
    const struct spool_verify *v;
    struct recovery *r;
    struct spool_verdict *verdict;
    uint64_t next; /* the lowest pending seq that has not been met */
    /* What the last STATE said: none of it may ever go back. */
    uint64_t low_water, delivered, epoch;
};

static void damage(struct walk *w, const char *format, ...) PRINTF_LIKE(2, 3);
static void damage(struct walk *w, const char *format, ...)
{
    struct fault what = {.err = ERR_CORRUPT};
    va_list args;
    va_start(args, format);
    (void)vsnprintf(what.text, sizeof what.text, format, args);
    va_end(args);
    w->verdict->damages++;
    if (w->v->damage != NULL)
        w->v->damage(w->v->ctx, &what);
}

/* Pending events up to `seq` that nothing held. */
static void missing_to(struct walk *w, uint64_t seq)
{
    const struct accounts *a = &w->r->accounts;
    uint64_t first = 0, count = 0;
    for (; w->next < seq; w->next = intervals_next_free(&a->settled, w->next + 1)) {
        first = first == 0 ? w->next : first;
        count++;
    }
    if (count > 0)
        damage(w, "%llu pending events are missing (from number %llu on)", (unsigned long long)count,
               (unsigned long long)first);
}

static void see_events(struct walk *w, const struct frame *f, const uint8_t *payload)
{
    const struct accounts *a = &w->r->accounts;
    struct frame_events events;
    struct spool_item item;
    bool good = frame_events_open(&events, span_of(payload, f->payload_len), f->seq, f->count);
    ensure(good); /* The scan has looked at each of them. */
    while (frame_events_next(&events, &item)) {
        if (item.seq < w->next || item.seq >= a->next_seq || intervals_has(&a->settled, item.seq))
            continue;
        missing_to(w, item.seq);
        w->verdict->pending_found++;
        if (w->v->pending != NULL)
            w->v->pending(w->v->ctx, &item);
        w->next = intervals_next_free(&a->settled, item.seq + 1);
    }
}

/* A later STATE never knows less than an earlier one. */
static void see_state(struct walk *w, const struct found *found, struct span ops)
{
    struct op op;
    if (!op_next(&ops, &op) || op.code != OP_STATE)
        return;
    if (op.state.low_water < w->low_water || op.state.delivered < w->delivered || op.state.epoch < w->epoch)
        damage(w, "segment %llu: its state record contradicts an earlier one", (unsigned long long)found->id);
    w->low_water = op.state.low_water;
    w->delivered = op.state.delivered;
    w->epoch = op.state.epoch;
}

static void see_segment(struct walk *w, const struct found *found)
{
    char name[SEGMENT_NAME_MAX];
    struct scan scan;
    struct frame f;
    const uint8_t *payload;
    segment_name(found->id, name);
    int fd = w->r->vfs.open(w->r->vfs.ctx, name, VFS_RDONLY);
    if (fd < 0) {
        damage(w, "%s: cannot be opened", name);
        return;
    }
    scan_init(&scan, &w->r->vfs, fd, &found->header, found->end);
    for (;;) {
        enum scan_result result = scan_next(&scan, &f, &payload);
        if (result == SCAN_FRAME && f.type == FRAME_DATA)
            see_events(w, &f, payload);
        else if (result == SCAN_FRAME && f.type == FRAME_CTRL)
            see_state(w, found, span_of(payload, f.payload_len));
        if (result == SCAN_FRAME)
            continue;
        uint64_t from = scan.at;
        bool more = result == SCAN_BAD && scan_resync(&scan);
        /* Where the end is not known, bad bytes behind the last good frame are no news. */
        if (result == SCAN_BAD && (found->sealed || more))
            damage(w, "%s: damaged from byte %llu to %llu", name, (unsigned long long)from,
                   (unsigned long long)scan.at);
        if (!more)
            break;
    }
    scan_deinit(&scan);
    (void)w->r->vfs.close(w->r->vfs.ctx, fd); /* Nothing was written. */
}

/* What stands behind the attested part of the newest segment, and would be copied by a start. */
static void see_kept(struct walk *w)
{
    struct recovery *r = w->r;
    if (r->kept_count == 0)
        return;
    const struct found *newest = r->valid[r->valid_count - 1];
    char name[SEGMENT_NAME_MAX];
    segment_name(newest->id, name);
    int fd = r->vfs.open(r->vfs.ctx, name, VFS_RDONLY);
    for (size_t i = 0; fd >= 0 && i < r->kept_count; i++) {
        const struct kept_frame *k = &r->kept[i];
        uint8_t *copy = must_alloc(FRAME_HEADER_BYTES + (size_t)k->payload_len);
        struct frame f;
        if (recovery_read_kept(r, fd, &newest->header, k, copy, &f))
            see_events(w, &f, copy + FRAME_HEADER_BYTES);
        free(copy);
    }
    if (fd >= 0)
        (void)r->vfs.close(r->vfs.ctx, fd); /* Nothing was written. */
}

/* --- dead letters -----------------------------------------------------------------------------------------
 */

static void see_letters(struct walk *w, const struct dead_file *file)
{
    struct recovery *r = w->r;
    struct dead_job job = {.file_id = file->id, .want = file->first, .end = file->next};
    uint64_t expected = file->first;
    while (job.want < job.end) {
        dead_run_read(&job, &r->vfs);
        for (uint32_t at = 0; job.chunk != NULL && at < job.chunk->used;) {
            const uint8_t *frame = job.chunk->data + at;
            struct spool_letter letter;
            uint16_t api_version;
            uint64_t id = frame_seq(frame);
            at += (uint32_t)frame_bytes(frame_payload_len(frame));
            bool counts = !intervals_has(&r->letters.gone, id) && letter_get(frame, &letter, &api_version);
            if (!counts)
                continue;
            w->verdict->letters_found++;
            memcpy(letter.batch.uuid, r->uuid, sizeof r->uuid);
            if (w->v->letter != NULL)
                w->v->letter(w->v->ctx, &letter);
        }
        free(job.chunk);
        expected = job.read_to > expected ? job.read_to : job.end;
        job.want = job.err != 0 ? job.end : expected;
    }
}

static void see_all_letters(struct walk *w)
{
    const struct letters *l = &w->r->letters;
    for (size_t i = 0; i < l->file_count; i++)
        see_letters(w, &l->files[i]);
    uint64_t dead = accounts_dead(&w->r->accounts);
    if (w->verdict->letters_found != dead)
        damage(w, "%llu dead letters can be read of %llu that count",
               (unsigned long long)w->verdict->letters_found, (unsigned long long)dead);
}

/* --- the whole --------------------------------------------------------------------------------------------
 */

static void fill_verdict(struct walk *w)
{
    const struct recovery *r = w->r;
    const struct accounts *a = &r->accounts;
    struct spool_verdict *verdict = w->verdict;
    memcpy(verdict->uuid, r->uuid, sizeof verdict->uuid);
    verdict->epoch = r->epoch_max;
    verdict->clean = a->clean;
    verdict->open_batches = a->batch_count;
    verdict->torn_bytes = r->torn_bytes;
    accounts_ledger(a, &verdict->ledger);
    verdict->ledger.segments = r->valid_count;
    verdict->ledger.dead_bytes = letters_allocated(&r->letters);
    verdict->ledger.allocated_bytes = verdict->ledger.dead_bytes;
    for (size_t i = 0; i < r->found_count; i++)
        verdict->ledger.allocated_bytes += r->found[i].allocated;
}

static void walk_all(struct walk *w)
{
    struct recovery *r = w->r;
    /* What a start would warn of, but for what the walk finds by itself. */
    for (unsigned i = 0; i < r->warning_count; i++)
        damage(w, "%s", r->warnings[i].text);
    w->next = intervals_next_free(&r->accounts.settled, r->accounts.low_water + 1);
    for (size_t i = 0; i < r->valid_count; i++)
        see_segment(w, r->valid[i]);
    see_kept(w);
    missing_to(w, r->accounts.next_seq);
    see_all_letters(w);
}

enum err spool_verify(const struct spool_vfs *vfs, const struct spool_verify *v, struct spool_verdict *ret,
                      struct fault *why)
{
    struct recovery *r = recovery_new(vfs);
    struct walk w = {.v = v, .r = r, .verdict = ret};
    *ret = (struct spool_verdict){0};
    r->read_only = true;
    enum err err = recovery_read(r);
    if (err == OK && r->valid_count == 0 && !r->have_format && r->found_count == 0)
        err = fault_set(&r->fault, ERR_NOT_FOUND, "no spool here: neither %s nor segments", FORMAT_FILE);
    if (err == OK) {
        if (!v->ledger_only)
            walk_all(&w);
        fill_verdict(&w);
    } else {
        *why = r->fault;
        why->err = err;
    }
    recovery_free(r);
    return err;
}
