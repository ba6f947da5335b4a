/* append: events in. Step 5 to 6 of the straight line.
 *
 * An append is taken whole or not at all, so all questions are asked first: is the spool open, can this ever
 * fit, is there room under the quota and on the disk, is there room in the fill buffer. The reserve stays
 * free for control ops, so that acks, drops and deletion make progress when the spool is full: a prepared
 * segment (or the right to one) and a part of the active one.
 *
 * What makes the reserve last: while FULL, plain results gather for a second and commits keep to sectors (commit.c), and
 * a segment of nothing but ops is deleted as soon as the next one has taken its place, so that at the quota the reserve
 * renews itself, however small the batches are. Nothing is asked of a batch's size: nothing comes in to make a small one
 * larger, so to wait for that would be to wait for ever. Nor is anybody preferred who needs the oldest segment: a spool
 * has one reader, who always does. Where the file system has no room for another segment, a small one takes the ops
 * (house.c); where it has no room for that either, what is full waits for room on the disk, and nothing is lost.
 *
 * A group of appends that is too large for the fill buffer reserves its room first (spool_reserve()). What is reserved
 * counts as used for everybody else, and so the group never finds the spool full half way. */
#include "lib/spool/internal.h"

static uint64_t reserve_bytes(const struct spool *s)
{
    uint64_t quarter = active_segment(s)->header.capacity / 4;
    return quarter < 1024 * 1024 ? quarter : 1024 * 1024;
}

/* What header, STATE and alignment take of a fresh segment, at most. */
static uint64_t overhead_bytes(const struct spool *s)
{
    return SEGMENT_HEADER_AREA + 2 * ctrl_max(s) + 8192;
}

uint64_t append_space(const struct spool *s)
{
    const struct segment *seg = active_segment(s);
    uint64_t allocated = spool_quota_used(s);
    bool prepared = s->prepared.fd >= 0 && !s->flight_rotates;
    if (s->prepared.no_space && (prepared || seg->header.capacity < s->capacity))
        return 0; /* A small segment (house.c) is for ops alone. */
    if (!prepared) {
        if (s->prepared.no_space || allocated + s->capacity > s->config.max_bytes)
            return 0;
        allocated += s->capacity;
    }
    uint64_t end = s->flight_rotates ? 0 : s->active.end;
    uint64_t used = end + s->commit_align + reserve_bytes(s) + (s->commit_busy ? s->commit.bytes : 0);
    uint64_t space = used < seg->header.capacity ? seg->header.capacity - used : 0;
    /* Into the next one only when there will be a reserve behind it again. */
    if (allocated + s->capacity <= s->config.max_bytes && !s->prepared.no_space &&
        s->capacity > overhead_bytes(s))
        space += s->capacity - overhead_bytes(s);
    return space;
}

/* So far from the quota that only the pace of commits and of preparing segments can be in the way. */
static bool quota_is_far(const struct spool *s, uint64_t need)
{
    return !s->prepared.no_space &&
           spool_quota_used(s) + 2 * s->capacity + s->tail.fill_bytes + s->reserved + need <= s->config.max_bytes;
}

/* Dropping the oldest makes room by itself, as long as there is something to drop. */
static bool room_is_coming(const struct spool *s)
{
    return s->config.when_full == SPOOL_DROP_OLDEST && s->segment_count > 1 && !s->commit_retry;
}

/* Would it be taken into so much space, the fill buffer aside? Far from the quota nobody counts it. */
static enum err check_space(const struct spool *s, uint64_t need, uint64_t (*space)(const struct spool *s))
{
    if (!running(s) || s->closing)
        return ERR_CLOSED;
    if (s->state == SPOOL_FULL || s->disk_low ||
        (!quota_is_far(s, need) && s->tail.fill_bytes + s->reserved + need > space(s)))
        return room_is_coming(s) ? ERR_AGAIN : ERR_FULL;
    return OK;
}

enum err append_room(const struct spool *s, unsigned count, uint64_t bytes)
{
    uint64_t need = tail_bound(count, bytes);
    uint64_t largest = s->capacity / 4 < FRAME_PAYLOAD_MAX ? s->capacity / 4 : FRAME_PAYLOAD_MAX;
    if (!running(s) || s->closing)
        return ERR_CLOSED;
    if ((count == 1 && bytes + DATA_HEAD_BYTES + 64 > largest) || need > FRAME_PAYLOAD_MAX)
        return ERR_TOO_BIG;
    enum err err = check_space(s, need, append_space);
    if (err != OK)
        return err;
    if (s->stalled || (s->tail.fill_events > 0 && s->tail.fill_bytes + need > FILL_BYTES_MAX))
        return ERR_AGAIN;
    return OK;
}

static void enter_full(struct spool *s)
{
    struct fault why;
    if (s->state != SPOOL_OK)
        return;
    if (s->disk_low)
        (void)fault_set(&why, ERR_FULL, "the file system has only %llu bytes left",
                        (unsigned long long)s->free_bytes); /* The state carries it, as below. */
    else
        (void)fault_set(&why, ERR_FULL, "the spool is full: %llu of %llu bytes",
                        (unsigned long long)spool_quota_used(s), (unsigned long long)s->config.max_bytes);
    spool_set_state(s, SPOOL_FULL, &why);
}

static enum err want_room(struct spool *s, enum err err)
{
    if (err == ERR_FULL || err == ERR_AGAIN)
        s->room_wanted = true;
    if (err == ERR_FULL)
        enter_full(s);
    if (err == ERR_FULL || err == ERR_AGAIN)
        spool_pump(s);
    return err;
}

/* Asking changes nothing that the caller knows of, but a no is remembered: NOTE_ROOM is owed for it. */
enum err spool_room(const struct spool *s, unsigned count, uint64_t bytes)
{
    enum err err = append_room(s, count, bytes);
    if (err == ERR_FULL && s->config.when_full == SPOOL_DROP_NEWEST)
        return OK;
    return want_room((struct spool *)(uintptr_t)s, err);
}

/* Each record for itself can be kept. *ret_bytes: of all of them. */
static bool records_fit(const struct spool *s, const struct spool_record *records, unsigned count, uint64_t *ret_bytes)
{
    uint64_t bytes = 0;
    ensure(count > 0);
    for (unsigned i = 0; i < count; i++) {
        if (records[i].partition.len > PARTITION_MAX || records[i].id.len > ID_MAX)
            return false;
        bytes += records[i].partition.len + records[i].id.len + records[i].body.len;
        if (records[i].body.len + ID_MAX + PARTITION_MAX + 64 > s->capacity / 4)
            return false;
    }
    *ret_bytes = bytes;
    return true;
}

static void append(struct spool *s, const struct spool_record *records, unsigned count, uint64_t *ret_seq)
{
    uint64_t seq = s->accounts.next_seq;
    ages_note(&s->ages, seq, records[0].wall_ns, s->accounts.low_water + 1);
    for (unsigned i = 0; i < count; i++)
        tail_append(&s->tail, &records[i], s->config.api_version, seq++);
    accounts_stored(&s->accounts, s->accounts.next_seq, count);
    ensure(s->accounts.next_seq == seq);
    *ret_seq = seq - 1;
    spool_check(s);
    spool_pump(s);
}

enum err spool_append(struct spool *s, const struct spool_record *records, unsigned count, uint64_t *ret_seq)
{
    uint64_t bytes;
    if (!records_fit(s, records, count, &bytes))
        return ERR_TOO_BIG;
    enum err err = append_room(s, count, bytes);
    if (err == ERR_FULL && s->config.when_full == SPOOL_DROP_NEWEST) {
        s->accounts.dropped[SPOOL_DROP_SHED] += count;
        if (s->lazy_since_us == 0)
            s->lazy_since_us = now_us(s) + US_PER_S;
        *ret_seq = s->acked_seq;
        (void)want_room(s, err); /* For the state; the caller has been served. */
        spool_pump(s);
        return OK;
    }
    if (err != OK)
        return want_room(s, err);
    append(s, records, count, ret_seq);
    return OK;
}

/* --- groups of appends ---------------------------------------------------------------------------------- */

/* What a group takes in frames at most. A frame ends when it has 32 KiB or sixteen partitions; its appends share commits
 * with others or have some of their own, each of which ends a frame and begins at a block. */
static uint64_t group_bound(const struct spool *s, unsigned count, uint64_t bytes)
{
    uint64_t content = bytes + (uint64_t)count * EVENT_OVERHEAD;
    uint64_t commits = content / (64 * 1024) + count / 256 + 4;
    uint64_t frames = 2 * content / FRAME_CLOSE_BYTES + count / FRAME_PARTITIONS + commits;
    return content + frames * (FRAME_HEADER_BYTES + DATA_HEAD_BYTES + FRAME_ALIGN) + commits * s->commit_align;
}

/* Bytes of frames that a group may take, where `at_once` could be appended now and `used` bytes of the quota are gone: it
 * may go on into as many segments as the quota allows, one of them left as the reserve, and at the end of each as much
 * may stay empty as was waiting just then. What could be appended at once can always be so. */
static uint64_t group_space(const struct spool *s, uint64_t at_once, uint64_t used)
{
    uint64_t space = at_once, left = s->capacity / 2 < FILL_BYTES_MAX ? s->capacity / 2 : FILL_BYTES_MAX;
    if (at_once == 0 || s->capacity <= overhead_bytes(s) + left)
        return at_once;
    uint64_t segments = used < s->config.max_bytes ? (s->config.max_bytes - used) / s->capacity : 0;
    if (segments > 1)
        space += (segments - 1) * (s->capacity - overhead_bytes(s) - left);
    return space > at_once + left ? space - left : at_once;
}

static uint64_t group_space_now(const struct spool *s)
{
    bool prepared = s->prepared.fd >= 0 && !s->flight_rotates;
    return group_space(s, append_space(s), spool_quota_used(s) + (prepared ? 0 : s->capacity));
}

/* The same of a spool in which nothing waits, in a segment that has just begun. */
static uint64_t group_space_empty(const struct spool *s)
{
    uint64_t begun = SEGMENT_HEADER_AREA + ctrl_max(s) + s->commit_align + reserve_bytes(s);
    uint64_t at_once = s->capacity > begun ? s->capacity - begun : 0;
    if (3 * s->capacity <= s->config.max_bytes && s->capacity > overhead_bytes(s))
        at_once += s->capacity - overhead_bytes(s);
    uint64_t space = group_space(s, at_once, 2 * s->capacity);
    uint64_t far = s->config.max_bytes > 3 * s->capacity ? s->config.max_bytes - 3 * s->capacity : 0;
    return space > far ? space : far;
}

/* FULL ends well below the limit, so that a spool at its limit does not flap. */
static bool has_room_again(const struct spool *s)
{
    return !s->commit_retry && !s->prepared.no_space && !s->disk_low &&
           spool_quota_used(s) <= s->config.max_bytes / 10 * 9 && append_space(s) > s->capacity / 2;
}

void append_check_room(struct spool *s)
{
    if (s->state == SPOOL_FULL && has_room_again(s))
        spool_set_state(s, SPOOL_OK, NULL);
    if (s->group_wanted > 0 && check_space(s, s->group_wanted, group_space_now) == OK) {
        s->group_wanted = 0;
        s->note_room = true;
    }
    if (s->room_wanted && s->state == SPOOL_OK && !s->stalled && !s->disk_low &&
        s->tail.fill_bytes < FILL_BYTES_MAX / 2 &&
        (quota_is_far(s, 0) || append_space(s) > s->tail.fill_bytes + s->reserved + s->capacity / 4)) {
        s->room_wanted = false;
        s->note_room = true;
    }
}

/* Nothing waits, and yet the rest of the active segment is too little: the next one, which takes its place, is not. */
static void begin_anew(struct spool *s)
{
    if (s->accounts.low_water + 1 == s->accounts.next_seq && s->tail.fill_events == 0 &&
        s->active.end > SEGMENT_HEADER_AREA + ctrl_max(s))
        s->rotate_wanted = true;
}

enum err spool_reserve(struct spool *s, unsigned count, uint64_t bytes, uint64_t *ret_reserved)
{
    uint64_t need = group_bound(s, count, bytes);
    *ret_reserved = 0;
    if (running(s) && !s->closing && need > group_space_empty(s))
        return ERR_TOO_BIG;
    enum err err = check_space(s, need, group_space_now);
    if (err == ERR_FULL && s->config.when_full == SPOOL_DROP_NEWEST)
        return OK;
    if (err != OK) {
        /* A spool that has no room for so much need not be full. */
        s->room_wanted |= err == ERR_FULL || err == ERR_AGAIN;
        if (err == ERR_FULL && check_space(s, tail_bound(1, 1024), append_space) == ERR_FULL)
            enter_full(s);
        if (err != ERR_CLOSED) {
            s->group_wanted = need;
            begin_anew(s);
        }
        spool_pump(s);
        return err;
    }
    s->reserved += need;
    *ret_reserved = need;
    return OK;
}

void spool_unreserve(struct spool *s, uint64_t reserved)
{
    ensure(s->reserved >= reserved);
    s->reserved -= reserved;
    if (reserved > 0 && running(s))
        spool_pump(s);
}

enum err spool_room_reserved(struct spool *s)
{
    if (!running(s) || s->closing)
        return ERR_CLOSED;
    return s->stalled || s->tail.fill_bytes >= FILL_BYTES_MAX / 2 ? want_room(s, ERR_AGAIN) : OK;
}

enum err spool_append_reserved(struct spool *s, const struct spool_record *records, unsigned count,
                               uint64_t *reserved, uint64_t *ret_seq)
{
    uint64_t bytes;
    if (*reserved == 0)
        return spool_append(s, records, count, ret_seq);
    if (!running(s) || s->closing)
        return ERR_CLOSED;
    if (!records_fit(s, records, count, &bytes))
        return ERR_TOO_BIG;
    uint64_t took = group_bound(s, count, bytes);
    if (took > *reserved)
        took = *reserved;
    *reserved -= took;
    s->reserved -= took;
    append(s, records, count, ret_seq);
    return OK;
}

uint64_t spool_acked(const struct spool *s)
{
    return s->acked_seq;
}

void spool_flush(struct spool *s)
{
    s->flush = true;
    spool_pump(s);
}
