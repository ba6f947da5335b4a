/* durable: what follows when a commit has come back. Step 7 of the straight line begins here.
 *
 * Good: the log's end moves, those who waited are answered, batches may be sent, segments may be released.
 * Not good: what was written without being synced is worth nothing; failure.c decides. */
#include "lib/spool/internal.h"

#include <errno.h>

/* The weaker modes answer for what was written; only a sync makes it durable. */
static bool answers_when_written(const struct spool *s)
{
    return s->config.durability != SPOOL_FSYNC;
}

static void begin_segment(struct spool *s)
{
    struct segment *old = active_segment(s);
    if (s->flight_segment->header.prev_id == old->header.id) {
        old->end = s->flight_segment->header.prev_end;
        old->next_seq = s->flight_segment->header.prev_next_seq;
    }
    old->sealed_us = s->flight_at_us;
    old->sound = !s->abandoning; /* an inode whose sync failed is never synced again */
    segments_append(s, s->flight_segment);
    s->flight_segment = NULL;
    s->active.fd = s->prepared.fd;
    s->prepared.fd = -1;
    s->prepared.retry_at_us = 0;
    s->rotate_wanted = false;
    s->active.durable = SEGMENT_HEADER_AREA;
    s->unsynced_bytes = 0; /* The seal synced them. */
    s->unsynced_since_us = 0;
}

static void move_end(struct spool *s)
{
    const struct commit_job *c = &s->commit;
    struct segment *seg = active_segment(s);
    s->active.end = c->place.offset;
    s->active.hcrc = c->place.prev_hcrc;
    s->active.commit = c->place.commit;
    if (s->flight_state)
        s->active.state_at = c->offset;
    seg->end = s->active.end;
    if (s->flight_end_seq > s->written_seq + 1)
        segment_index(seg, s->written_seq + 1, c->offset);
    seg->next_seq = s->flight_end_seq;
    s->written_seq = s->flight_end_seq - 1;
    s->commits++;
    s->commit_bytes += c->bytes;
}

static void note_durable_batches(struct spool *s)
{
    for (size_t i = s->accounts.batch_count; i-- > 0;) {
        struct batch *b = s->accounts.batches[i];
        if (!b->durable && b->ticket <= s->done_ticket) {
            b->durable = true;
            spool_note(s, NOTE_BATCH, b->no);
        }
    }
}

/* Everything written so far survives a power failure now. */
static void all_synced(struct spool *s)
{
    s->active.durable = s->active.end;
    s->synced_seq = s->written_seq;
    s->house_look = s->house_look || s->durable_low_water != s->flight_low_water;
    s->durable_low_water = s->flight_low_water;
    s->unsynced_bytes = 0;
    s->unsynced_since_us = 0;
    s->unpinned = false;
    tail_settle(&s->tail);
}

static void count_unsynced(struct spool *s, uint64_t now)
{
    s->unsynced_bytes += s->commit.bytes;
    if (s->unsynced_since_us == 0)
        s->unsynced_since_us = now;
    if (s->config.durability == SPOOL_NO_SYNC) {
        tail_settle(&s->tail);
        s->unpinned = true;
    }
}

static void commit_good(struct spool *s, uint64_t now)
{
    if (s->flight_rotates)
        begin_segment(s);
    s->flight_rotates = false;
    move_end(s);
    dead_replays_durable(s, s->written_seq);
    if (s->abandoning)
        failure_recovered(s);
    s->commit_us = now - s->flight_at_us;
    s->commit_done_us = now;
    if (s->commit.sync)
        all_synced(s);
    else
        count_unsynced(s, now);
    s->pad_due = s->config.durability == SPOOL_FSYNC && !s->flight_pad;
    s->done_ticket = s->ticket - 1;
    uint64_t acked = answers_when_written(s) ? s->written_seq : s->synced_seq;
    if (acked > s->acked_seq) { /* It may lie behind when the mode has just become stricter. */
        s->acked_seq = acked;
        s->note_acked = true;
        if (s->read_wanted)
            s->note_readable = true;
    }
    note_durable_batches(s);
    if (s->user_ticket != 0) {
        spool_note(s, NOTE_SAVED, 0); /* who asked before the last one did has waited for this */
        if (s->user_ticket <= s->done_ticket)
            s->user_ticket = 0;
    }
    if (s->room_wanted)
        append_check_room(s);
    tail_forget(&s->tail, s->config.cache_bytes, s->accounts.low_water);
}

void commit_done(struct spool *s)
{
    uint64_t now = now_us(s);
    if (s->commit.err == 0) {
        s->commit_busy = false;
        s->stalled = false;
        commit_good(s, now);
        return;
    }
    failure_of_commit(s, now);
}
