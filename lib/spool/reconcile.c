/* reconcile: the parts of a start beyond the segments themselves: dead letters, the ids of the last minutes,
 * and damaged files out of the way. See recover.h. */
#include "lib/base/ensure.h"
#include "lib/spool/branches.h"
#include "lib/spool/quarantine.h"
#include "lib/spool/recover.h"

#include <errno.h>
#include <stdlib.h>

#define RECENT_SCAN_BYTES (UINT64_C(64) << 20)
#define RECENT_BYTES_MAX (UINT64_C(8) << 20) /* of ids that are remembered, the newest ones */

/* --- dead letters -----------------------------------------------------------------------------------------
 */

/* Letters that were written just before a crash that came before their DEAD: nobody counted them. */
static void mark_orphans(struct recovery *r)
{
    struct letters *l = &r->letters;
    for (size_t i = 0; i < l->file_count; i++) {
        uint64_t first = l->files[i].first, next = l->files[i].next;
        if (first < r->accounts.next_letter)
            first = r->accounts.next_letter;
        if (first >= next)
            continue;
        REACHED(LETTERS_ORPHANED);
        (void)intervals_add(&l->gone, first, next - 1); /* Counted by file. */
        (void)intervals_add(&r->accounts.marks, first, next - 1);
    }
}

/* The next file begins with the next letter, and the newest one will seem to reach up to it: ids in between
 * that it does not hold (damage at its end) are gone. */
static void reach_next_letter(struct letters *l)
{
    if (l->file_count == 0)
        return;
    struct dead_file *newest = &l->files[l->file_count - 1];
    if (newest->next >= l->next_letter)
        return;
    (void)intervals_add(&l->gone, newest->next, l->next_letter - 1); /* All new. */
    newest->next = l->next_letter;
}

enum err recovery_letters(struct recovery *r)
{
    struct accounts *a = &r->accounts;
    struct letters *l = &r->letters;
    struct fault why = {0};
    /* What an earlier process deleted without being told that it is durable must not come back later, when
     * nothing remembers it. */
    int synced = r->read_only ? 0 : r->vfs.fsync_dir(r->vfs.ctx, DEAD_DIR);
    if (synced < 0 && synced != -ENOENT)
        return fault_sys(&r->fault, synced, "sync %s", DEAD_DIR);
    enum err err = letters_scan(l, &r->vfs, r->uuid, &why);
    if (err != OK) {
        r->fault = why;
        return err;
    }
    if (l->damaged > 0) {
        REACHED(LETTERS_UNUSABLE_FILE);
        recovery_warn(r, "%u files of dead letters cannot be used: %s", l->damaged, why.text);
    }
    for (size_t i = 0; i < a->marks.len; i++)
        (void)intervals_add(&l->gone, a->marks.at[i].first, a->marks.at[i].last); /* Counted by file. */
    if (!r->accounts_were_reset)
        mark_orphans(r);
    if (l->next_letter > a->next_letter)
        a->next_letter = l->next_letter;
    l->next_letter = a->next_letter;
    reach_next_letter(l);
    uint64_t living = letters_living(l), dead = accounts_dead(a);
    if (living < dead) {
        REACHED(LETTERS_LOST);
        recovery_warn(r, "%llu dead letters are lost", (unsigned long long)(dead - living));
        a->letters_dropped += dead - living;
        a->dropped[SPOOL_DROP_CORRUPT] += dead - living;
    } else if (living > dead) {
        REACHED(LETTERS_ADOPTED);
        a->adopted += living - dead;
    }
    return OK;
}

/* --- the ids of the last minutes --------------------------------------------------------------------------
 */

static void remember(struct recovery *r, const struct spool_item *item)
{
    uint8_t head[10];
    if (item->id.len == 0 || item->id.len > UINT16_MAX || item->wall_ns + r->recent_ns < r->wall_ns)
        return;
    le64_put(head, item->wall_ns);
    le16_put(head + 8, (uint16_t)item->id.len);
    if (bytes_append(&r->recent, span_of(head, sizeof head)) != OK ||
        bytes_append(&r->recent, item->id) != OK)
        return;
    r->recent_count++;
    while (r->recent_count > r->recent_max || r->recent.len - r->recent_at > RECENT_BYTES_MAX) {
        /* The oldest makes room; its bytes go when half of the buffer is of that kind. */
        r->recent_at += sizeof head + le16_get(r->recent.at + r->recent_at + 8);
        r->recent_count--;
        if (r->recent_at > r->recent.len / 2) {
            bytes_consume(&r->recent, r->recent_at);
            r->recent_at = 0;
        }
    }
}

/* Only the segment's own events, before next_seq. There may be others: copies that a later segment has as
 * well, and, behind a torn place, events that nobody was answered for and that are not kept: were their ids
 * remembered, their repetition would be answered for and never stored. */
static void remember_segment(struct recovery *r, const struct found *f, uint64_t end, uint64_t next_seq)
{
    struct scan scan;
    struct frame frame;
    const uint8_t *payload;
    int fd = recovery_open(r, f);
    if (fd < 0)
        return;
    scan_init(&scan, &r->vfs, fd, &f->header, end);
    for (;;) {
        struct frame_events events;
        struct spool_item item;
        enum scan_result result = scan_next(&scan, &frame, &payload);
        if (result == SCAN_END || (result == SCAN_BAD && !scan_resync(&scan)))
            break;
        if (result == SCAN_BAD || frame.type != FRAME_DATA)
            continue;
        bool good = frame_events_open(&events, span_of(payload, frame.payload_len), frame.seq, frame.count);
        ensure(good); /* The scan has looked at each of them. */
        while (frame_events_next(&events, &item))
            if (item.seq < next_seq)
                remember(r, &item);
    }
    recovery_scanned(r, f, fd, &scan);
}

enum err recovery_recent(struct recovery *r)
{
    uint64_t bytes = 0;
    size_t from = r->valid_count;
    if (r->recent_max == 0 || r->recent_ns == 0)
        return OK;
    bytes_init(&r->recent, 2 * RECENT_BYTES_MAX + 4 * (10 + UINT16_MAX));
    while (from > 0 && bytes < RECENT_SCAN_BYTES) {
        /* What a segment holds is no younger than its successor's beginning. */
        if (from < r->valid_count && r->valid[from]->header.wall_ns + r->recent_ns < r->wall_ns)
            break;
        from--;
        bytes += r->valid[from]->end;
    }
    for (; from < r->valid_count && r->fault.err == OK; from++) {
        const struct found *f = r->valid[from];
        bool newest = from + 1 == r->valid_count;
        remember_segment(r, f, newest ? f->size : f->end, newest ? r->accounts.next_seq : f->next_seq);
    }
    return r->fault.err;
}

/* --- damage -----------------------------------------------------------------------------------------------
 */

/* Files of dead letters that hold nothing or that nobody can read would be met at each start for ever. */
static void clear_unusable_letters(struct recovery *r)
{
    char name[SEGMENT_NAME_MAX];
    for (unsigned i = 0; i < r->letters.damaged && i < LETTERS_UNUSABLE; i++) {
        dead_name(r->letters.unusable[i].id, name);
        if (r->letters.unusable[i].empty)
            (void)r->vfs.unlink(r->vfs.ctx, name); /* Tried again at the next start. */
        else
            quarantine_file(&r->vfs, name);
    }
    if (r->letters.damaged > 0)
        (void)r->vfs.fsync_dir(r->vfs.ctx, DEAD_DIR); /* As before. */
}

void recovery_quarantine(struct recovery *r)
{
    char name[SEGMENT_NAME_MAX];
    for (unsigned i = 0; i < r->damage_count; i++) {
        segment_name(r->damage[i].segment, name);
        int fd = r->vfs.open(r->vfs.ctx, name, VFS_RDONLY);
        if (fd < 0)
            continue;
        REACHED(QUARANTINED_RANGE);
        quarantine_range(&r->vfs, fd, r->damage[i].segment, r->damage[i].at, r->damage[i].len);
        (void)r->vfs.close(r->vfs.ctx, fd); /* Nothing was written. */
    }
    for (size_t i = 0; i < r->found_count; i++) {
        if (r->found[i].kind != SEGMENT_DAMAGED)
            continue;
        /* Mostly the first commit of a segment was torn: room that was reserved for others is no evidence. */
        recovery_cut_zeros(r, &r->found[i]);
        segment_name(r->found[i].id, name);
        REACHED(QUARANTINED_FILE);
        quarantine_file(&r->vfs, name);
    }
    clear_unusable_letters(r);
}
