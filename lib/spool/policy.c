/* policy: events that end without delivery, by rules that the user chose: drop_oldest and max_age. Both work
 * on whole segments, the grain of deletion: a DROP settles what is unsettled in the oldest one (open batches
 * with members in it are closed whole), and once that is durable the file is released like any other. */
#include "lib/spool/internal.h"

/* Expiry moves by whole segments, so looking once a second is enough; a short age is looked at more closely.
 */
static uint64_t expiry_every_us(const struct spool *s)
{
    uint64_t us = s->config.max_age_us / 16;
    if (us < 10 * US_PER_MS)
        return 10 * US_PER_MS;
    return us > US_PER_S ? US_PER_S : us;
}

static void drop_segment(struct spool *s, const struct segment *seg, enum spool_drop reason)
{
    struct spool_run run = {.first = s->accounts.low_water + 1};
    if (seg->next_seq <= run.first)
        return;
    run.count = seg->next_seq - run.first;
    size_t start = ctrl_start(s);
    enum err err = op_put_drop(&s->ctrl, OP_DROP, reason, OP_FLAG_WHOLE_BATCHES, &run, 1);
    ensure(err == OK);
    ctrl_apply(s, start, true);
    if (s->read_wanted)
        s->note_readable = true;
}

/* The oldest sealed segment; NULL when it waits to be deleted already, or when there is none. */
static const struct segment *oldest_pending(const struct spool *s)
{
    if (s->segment_count < 2 || s->segments[0]->next_seq <= s->accounts.low_water + 1)
        return NULL;
    return s->segments[0];
}

static bool short_of_room(const struct spool *s)
{
    return s->disk_low || s->prepared.no_space || append_space(s) < s->capacity / 2;
}

static void drop_oldest(struct spool *s)
{
    const struct segment *seg = oldest_pending(s);
    if (s->config.when_full != SPOOL_DROP_OLDEST || seg == NULL || !short_of_room(s))
        return;
    uint64_t before = s->accounts.dropped[SPOOL_DROP_QUOTA];
    drop_segment(s, seg, SPOOL_DROP_QUOTA);
    spool_warn(s, "the spool is full: the oldest %llu events are dropped",
               (unsigned long long)(s->accounts.dropped[SPOOL_DROP_QUOTA] - before));
}

static bool older_than(uint64_t wall_ns, uint64_t now_ns, uint64_t age_us)
{
    return wall_ns < now_ns && (now_ns - wall_ns) / 1000 > age_us;
}

/* With little traffic a segment takes long to fill, and nothing in it would expire before its successor is
 * old too: one that holds pending events is closed after an eighth of the age, as long as that does not eat
 * up the quota with half-empty files. */
static bool closes_by_age(const struct spool *s, uint64_t wall_ns)
{
    const struct segment *seg = active_segment(s);
    return seg->next_seq > seg->header.first_seq && seg->next_seq > s->accounts.low_water + 1 &&
           older_than(seg->header.wall_ns, wall_ns, s->config.max_age_us / 8) &&
           spool_quota_used(s) + 2 * s->capacity <= s->config.max_bytes / 2;
}

/* The successor must be old as well, so that one jump of the clock cannot empty the spool. */
static void expire(struct spool *s, uint64_t now)
{
    if (s->config.max_age_us == 0 || now < s->expire_at_us)
        return;
    s->expire_at_us = now + expiry_every_us(s);
    uint64_t wall_ns = s->host.wall_ns(s->host.ctx);
    s->rotate_wanted = s->rotate_wanted || closes_by_age(s, wall_ns);
    for (size_t i = 0; i + 1 < s->segment_count; i++) {
        const struct segment *seg = s->segments[i];
        if (!older_than(seg->header.wall_ns, wall_ns, s->config.max_age_us) ||
            !older_than(s->segments[i + 1]->header.wall_ns, wall_ns, s->config.max_age_us))
            return;
        drop_segment(s, seg, SPOOL_DROP_EXPIRED);
    }
}

static bool at_rest(const struct spool *s)
{
    return !running(s) || s->closing || s->abandoning || s->just_opened;
}

uint64_t policy_deadline(const struct spool *s)
{
    if (at_rest(s) || s->config.max_age_us == 0 || accounts_pending(&s->accounts) == 0)
        return UINT64_MAX;
    return s->expire_at_us;
}

void policy_pump(struct spool *s, uint64_t now)
{
    if (at_rest(s))
        return;
    drop_oldest(s);
    expire(s, now);
}
