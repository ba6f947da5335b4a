/* open: recovery's result becomes the running state. */
#include "lib/spool/internal.h"
#include "lib/spool/recover.h"

#include <stdlib.h>

/* FNV-1a of the output's name: information for whoever looks at the files. */
static uint32_t hash_name(const char *name)
{
    uint32_t hash = 2166136261u;
    for (; *name != '\0'; name++)
        hash = (hash ^ (uint8_t)*name) * 16777619u;
    return hash;
}

static void make_uuid(struct spool *s, uint8_t uuid[16])
{
    uint64_t random[2] = {s->host.random64(s->host.ctx), s->host.random64(s->host.ctx)};
    memcpy(uuid, random, 16);
    uuid[6] = (uint8_t)((uuid[6] & 0x0F) | 0x40); /* version 4, RFC 9562 */
    uuid[8] = (uint8_t)((uuid[8] & 0x3F) | 0x80);
}

void open_start(struct spool *s)
{
    struct recovery *r = recovery_new(&s->vfs);
    make_uuid(s, r->uuid);
    r->salt = s->host.random64(s->host.ctx);
    r->wall_ns = s->host.wall_ns(s->host.ctx);
    r->capacity = s->capacity;
    r->commit_align = s->config.commit_align;
    r->weak = s->config.durability != SPOOL_FSYNC;
    r->require_local_fs = s->config.require_local_fs;
    r->min_free = s->config.min_free;
    r->recent_ns = s->config.recent_us * 1000;
    r->recent_max = s->config.recent_max;
    r->name_hash = hash_name(s->name);
    r->job.run = recovery_run;
    r->job.kind = SPOOL_JOB_HOUSE;
    r->job.spool = s;
    s->recovery = r;
    s->host.submit(s->host.ctx, &r->job);
}

/* The reader looks: the batch is gone, or there with identity_broken. */
static void batch_lost(void *ctx, struct batch *b)
{
    struct spool *s = ctx;
    if (!b->settling) /* else NOTE_SETTLED follows */
        spool_note(s, NOTE_LOST, b->no);
}

/* When a segment's successor began, on this process's clock; 0: long ago. */
static uint64_t sealed_at(const struct spool *s, uint64_t successor_ns, uint64_t wall_ns)
{
    uint64_t age_us = successor_ns < wall_ns ? (wall_ns - successor_ns) / 1000 : 0;
    if (age_us >= s->config.recent_us)
        return 0;
    return now_us(s) > age_us ? now_us(s) - age_us : 1;
}

static void take_segments(struct spool *s, const struct recovery *r)
{
    for (size_t i = 0; i < r->valid_count; i++) {
        const struct found *f = r->valid[i];
        struct segment *seg = must_alloc(sizeof *seg);
        seg->header = f->header;
        seg->end = f->end;
        seg->next_seq = f->next_seq;
        seg->allocated = f->allocated;
        seg->end_known = f->sealed;
        seg->sealed_us =
            sealed_at(s, i + 1 < r->valid_count ? r->valid[i + 1]->header.wall_ns : r->wall_ns, r->wall_ns);
        segments_append(s, seg);
        if (seg->next_seq > seg->header.first_seq) /* Not later than this; the first read will tell better. */
            ages_note(&s->ages, seg->header.first_seq, seg->header.wall_ns, s->accounts.low_water + 1);
    }
    struct segment *fresh = must_alloc(sizeof *fresh);
    fresh->header = r->fresh;
    fresh->end = r->fresh_end;
    fresh->next_seq = s->accounts.next_seq;
    fresh->allocated = r->fresh_allocated;
    fresh->end_known = true;
    segments_append(s, fresh);
    for (size_t i = 0; i < r->found_count; i++)
        if (r->found[i].kind == SEGMENT_PREPARED &&
            s->unlink_count < sizeof s->unlink_ids / sizeof s->unlink_ids[0])
            s->unlink_ids[s->unlink_count++] = r->found[i].id;
}

static void take_recovery(struct spool *s, struct recovery *r)
{
    memcpy(s->uuid, r->uuid, sizeof s->uuid);
    accounts_deinit(&s->accounts);
    s->accounts = r->accounts;
    s->accounts.lost = batch_lost;
    s->accounts.lost_ctx = s;
    accounts_init(&r->accounts);
    take_segments(s, r);
    s->dead.letters = r->letters;
    r->letters = (struct letters){0};
    s->dead_allocated = letters_allocated(&s->dead.letters);
    s->dead.look = s->dead.letters.file_count > 0;
    s->recent = r->recent;
    s->recent_at = r->recent_at;
    s->recent_left = r->recent_count;
    bytes_init(&r->recent, 0);
    s->active.fd = r->fresh_fd;
    r->fresh_fd = -1;
    s->active.end = s->active.durable = r->fresh_end;
    s->active.hcrc = r->fresh_hcrc;
    s->active.commit = 1;
    s->active.state_at = SEGMENT_HEADER_AREA;
    s->commit_align = r->fresh.commit_align;
    s->written_seq = s->synced_seq = s->acked_seq = s->accounts.next_seq - 1;
    s->durable_low_water = s->accounts.low_water;
    s->read_seq = s->accounts.low_water + 1;
    s->counts_shed = s->accounts.dropped[SPOOL_DROP_SHED];
    s->no_fallocate = r->no_fallocate;
    s->free_bytes = r->free_bytes;
    s->disk_low = r->free_bytes < r->min_free;
    s->next_segment_id = r->fresh.id + 1;
    scrub_init(s);
}

void open_done(struct spool *s)
{
    struct recovery *r = s->recovery;
    s->recovery = NULL;
    for (unsigned i = 0; i < r->warning_count; i++)
        spool_warn(s, "%s", r->warnings[i].text);
    if (r->fault.err != OK) {
        spool_fail(s, &r->fault);
    } else {
        take_recovery(s, r);
        s->just_opened = true;
        spool_set_state(s, SPOOL_OK, NULL);
        spool_note(s, NOTE_OPENED, 0);
        spool_check(s);
    }
    recovery_free(r);
}

bool spool_recent_next(struct spool *s, struct span *ret_id, uint64_t *ret_wall_ns)
{
    if (s->recent_left == 0) {
        bytes_deinit(&s->recent);
        return false;
    }
    const uint8_t *at = s->recent.at + s->recent_at;
    *ret_wall_ns = le64_get(at);
    *ret_id = span_of(at + 10, le16_get(at + 8));
    s->recent_at += 10 + ret_id->len;
    s->recent_left--;
    return true;
}
