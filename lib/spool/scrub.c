/* scrub: while nothing else reads, what waits on disk is read again at a gentle pace, so that damage is found
 * while there may still be a copy elsewhere, and not on the day when the upstream comes back.
 *
 * It is one more reader (read.c), whose chunks are thrown away: damage is recorded, counted and quarantined
 * as if the events had been wanted. A pass goes from the oldest pending event to the first one that the tail
 * still holds in memory; then it rests. */
#include "lib/spool/internal.h"

#include "lib/spool/scan.h"

#define SCRUB_FIRST_US (10 * US_PER_S) /* after the start, which has enough to read */
#define SCRUB_REST_US (3600 * US_PER_S)

void scrub_init(struct spool *s)
{
    s->scrub.at_us = now_us(s) + SCRUB_FIRST_US;
}

/* The next event that is pending, durable and only on disk; 0: none. */
static uint64_t next_seq(const struct spool *s)
{
    uint64_t seq = s->scrub.seq > s->accounts.low_water ? s->scrub.seq : s->accounts.low_water + 1;
    seq = intervals_next_free(&s->accounts.settled, seq);
    return seq <= s->acked_seq && seq < tail_first_seq(&s->tail) ? seq : 0;
}

static bool may_read(const struct spool *s)
{
    return s->config.scrub_bytes_s > 0 && running(s) && !s->closing && !s->read_busy && !s->commit_busy &&
           s->loaders == NULL && s->read_retry_at_us <= now_us(s);
}

uint64_t scrub_deadline(const struct spool *s)
{
    bool something = s->scrub.seq > 0 || next_seq(s) > 0;
    return may_read(s) && something ? s->scrub.at_us : UINT64_MAX;
}

void scrub_pump(struct spool *s, uint64_t now)
{
    if (!may_read(s) || now < s->scrub.at_us)
        return;
    uint64_t seq = next_seq(s);
    if (seq == 0 && s->scrub.seq > 0) {
        s->scrub.seq = 0;
        s->scrub.at_us = now + SCRUB_REST_US;
    } else if (seq > 0 && segment_of(s, seq) != NULL) {
        read_submit(s, &s->scrub.cursor, seq);
    }
}

void scrub_done(struct spool *s)
{
    const struct read_job *r = &s->read;
    struct scrub *scrub = &s->scrub;
    const struct chunk *c = scrub->cursor.cold;
    uint64_t bytes = r->next_offset > r->offset ? r->next_offset - r->offset : SCAN_BUFFER_BYTES;
    if (s->config.scrub_bytes_s > 0) /* else it was switched off meanwhile */
        scrub->at_us = now_us(s) + bytes * US_PER_S / s->config.scrub_bytes_s + 1;
    if (r->err != 0)
        return;
    if (r->damage_bytes > 0 && r->lost_count == 0)
        spool_warn(s, "segment %llu is damaged at byte %llu; no event is lost by it",
                   (unsigned long long)r->header.id, (unsigned long long)r->damage_at);
    if (c != NULL)
        scrub->seq = c->end_seq;
    else
        scrub->seq = r->lost_count > 0 ? r->lost_first + r->lost_count : r->next_seq;
    cursor_drop_chunk(&scrub->cursor);
}
