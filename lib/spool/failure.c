/* failure: what the spool does when the disk says no.
 *
 * No space: nothing that was being written has been answered for; the same range is written again when space
 * is back, and meanwhile the spool is FULL.
 *
 * A failed sync, or an I/O error: after a failed fdatasync Linux may mark the pages clean, so that a second
 * one would report success for data that is gone. That inode is therefore never synced again. Everything
 * since its last good sync is still in memory: STATE and these events go to the prepared segment, another
 * inode, behind its header area; sync; only then its header, which says how far the old one is good; sync.
 * Then the waiting are answered. When that fails too, the spool has FAILED: nobody is answered any more, and
 * a restart recovers what is there. */
#include "lib/spool/branches.h"
#include "lib/spool/internal.h"

#include <errno.h>

bool failure_is_final(int err)
{
    return err == EROFS || err == ENOENT || err == ENODEV || err == EBADF;
}

bool failure_of_space(int err)
{
    return err == ENOSPC || err == EDQUOT;
}

/* The file for the next segment has been written to in vain, and its header with it: a start would take it for a
 * segment. So the next file gets its name, which cannot be made before this one is gone. */
static void drop_prepared(struct spool *s)
{
    REACHED(PREPARED_DROPPED);
    house_drop_fd(s, s->prepared.fd);
    s->next_segment_id = s->prepared.id;
    s->prepared.fd = -1;
}

void failure_of_commit(struct spool *s, uint64_t now)
{
    const struct commit_job *c = &s->commit;
    struct fault why;
    (void)fault_sys(&why, c->err,
                    c->sync_failed ? "sync the log" : "write to the log"); /* Handed on below. */
    if (!c->sync_failed && !s->abandoning && failure_of_space(c->err)) {
        REACHED(NO_SPACE_RETRY);
        s->commit_retry = true;
        s->retry_at_us = now + RETRY_US;
        spool_set_state(s, SPOOL_FULL, &why);
        return;
    }
    s->commit_busy = false;
    segment_free(s->flight_segment);
    s->flight_segment = NULL;
    if (s->abandoning || failure_is_final(c->err) || s->config.durability == SPOOL_NO_SYNC || s->unpinned) {
        REACHED(STORAGE_FAILED);
        spool_fail(s, &why);
        return;
    }
    REACHED(SYNC_SWITCH);
    if (s->flight_rotates && c->wrote)
        drop_prepared(s);
    s->flight_rotates = false;
    tail_unlaunch(&s->tail);
    s->written_seq = s->synced_seq;
    s->abandoning = true;
    spool_set_state(s, SPOOL_DEGRADED, &why);
}

void failure_rewrite(struct spool *s, uint64_t now)
{
    struct commit_job *c = &s->commit;
    if (s->prepared.fd < 0) {
        s->commit_blocked = true;
        return;
    }
    struct segment *seg = commit_new_segment(s);
    dead_replays_durable(s, UINT64_MAX); /* They will be when this is, */
    s->dead.marks_ticket = s->ticket;    /* and no file may say so before. */
    *c = (struct commit_job){.job = c->job,
                             .fd = s->prepared.fd,
                             .seal_fd = -1,
                             .close_fd = s->active.fd,
                             .offset = SEGMENT_HEADER_AREA,
                             .sync = true};
    /* All ops are in STATE: those of the failed commit and those that came since. */
    bytes_clear(&s->ctrl);
    bytes_clear(&s->ctrl_flight);
    enum err err = bytes_reserve(&s->ctrl_flight, SEGMENT_HEADER_AREA);
    ensure(err == OK);
    s->ctrl_flight.len = SEGMENT_HEADER_AREA;
    err = state_frames(&s->accounts, s->accounts.next_seq, 0, commit_position(s), 0, true, &s->ctrl_flight);
    ensure(err == OK);
    s->flight_rotates = s->flight_state = true;
    s->flight_pad = false;
    s->flight_segment = seg;
    s->flight_end_seq = commit_position(s);
    s->flight_ctrl_bytes = s->ctrl_flight.len - SEGMENT_HEADER_AREA;
    commit_add_frames(c, s->ctrl_flight.at + SEGMENT_HEADER_AREA, s->ctrl_flight.len - SEGMENT_HEADER_AREA);
    commit_add_events(s, UINT64_C(1) << 40);
    uint64_t frames_end = SEGMENT_HEADER_AREA;
    for (unsigned i = 0; i < c->frame_ranges; i++)
        frames_end += c->frames[i].len;
    ensure(s->flight_end_seq == s->accounts.next_seq);
    uint64_t end = align_up(c->offset + c->bytes, 4096);
    seg->header.prev_end = s->active.durable;
    seg->header.prev_last_hcrc = 0; /* of a frame that may not be there */
    seg->header.prev_flags = SEGMENT_PREV_IO_ERROR;
    if (seg->header.capacity < end)
        seg->header.capacity = end;
    segment_header_encode(&seg->header, s->ctrl_flight.at);
    c->header_last = s->ctrl_flight.at;
    /* All of it is durable before the header is, and so its frames say; that the header is durable too, only
     * the next commit attests, and until then a start copies them again. */
    c->place = (struct frame_place){.offset = SEGMENT_HEADER_AREA,
                                    .durable = frames_end,
                                    .tag = segment_tag(seg->header.salt),
                                    .prev_hcrc = seg->header.hcrc};
    commit_submit(s, now);
}

void failure_recovered(struct spool *s)
{
    REACHED(SYNC_SWITCH_DONE);
    s->abandoning = false;
    spool_warn(s,
               "%s: everything not yet durable was written to another file, segment %llu; look at the disk",
               s->fault.text, (unsigned long long)active_segment(s)->header.id);
    spool_set_state(s, SPOOL_OK, NULL);
}
