/* replay: what the segments say, folded into accounts. See recover.h.
 *
 * Torn or corrupt: proven(k) is where the next header says that k ends, or else the largest durable16 in any
 * good frame of k. Bad bytes at or beyond it were never answered for: a torn tail, discarded. Bad bytes
 * before it were once durable: corruption; the next good frame tells exactly how many events are lost, and
 * the rest is kept. */
#include "lib/base/ensure.h"
#include "lib/spool/branches.h"
#include "lib/spool/bugs.h"
#include "lib/spool/recover.h"

#include <errno.h>
#include <stdlib.h>

int recovery_open(struct recovery *r, const struct found *f)
{
    char name[SEGMENT_NAME_MAX];
    segment_name(f->id, name);
    int fd = r->vfs.open(r->vfs.ctx, name, VFS_RDONLY);
    if (fd < 0)
        (void)fault_sys(&r->fault, fd, "open %s", name); /* The caller looks at it, as at the next one. */
    return fd;
}

void recovery_scanned(struct recovery *r, const struct found *f, int fd, struct scan *scan)
{
    char name[SEGMENT_NAME_MAX];
    segment_name(f->id, name);
    if (scan->unreadable > 0 && !scan_answers(&r->vfs, fd, f->size))
        (void)fault_sys(&r->fault, EIO, "read %s", name);
    scan_deinit(scan);
    (void)r->vfs.close(r->vfs.ctx, fd); /* Nothing was written. */
}

static bool is_state(const struct frame *f, const uint8_t *payload)
{
    return f->type == FRAME_CTRL && f->payload_len > 0 && payload[0] == OP_STATE;
}

/* Does a segment begin with a STATE that can be used? Both copies are tried; nothing else stands before
 * events. */
static bool begins_with_state(struct recovery *r, const struct found *found)
{
    struct scan scan;
    struct frame f;
    const uint8_t *payload;
    bool good = false, first_bad = false;
    int fd = recovery_open(r, found);
    if (fd < 0)
        return false;
    scan_init(&scan, &r->vfs, fd, &found->header, found->end);
    for (;;) {
        enum scan_result result = scan_next(&scan, &f, &payload);
        if (result == SCAN_END || (result == SCAN_BAD && !scan_resync(&scan)))
            break;
        first_bad = first_bad || result == SCAN_BAD;
        if (result == SCAN_BAD)
            continue;
        if (is_state(&f, payload)) {
            struct accounts trial;
            accounts_init(&trial);
            good = accounts_apply(&trial, span_of(payload, f.payload_len));
            accounts_deinit(&trial);
            first_bad = first_bad || !good;
        }
        if (good || f.type == FRAME_DATA)
            break;
    }
    recovery_scanned(r, found, fd, &scan);
    if (good && first_bad)
        REACHED(STATE_SECOND);
    return good;
}

/* Seqs that should stand before `seq` and do not. */
static void reach(struct recovery *r, uint64_t seq)
{
    if (seq <= r->expected)
        return;
    REACHED(GAP);
    recovery_warn(r, "%llu events are lost to damage (from number %llu on)",
                  (unsigned long long)(seq - r->expected), (unsigned long long)r->expected);
    accounts_lost(&r->accounts, r->expected, seq - r->expected);
    r->expected = seq;
}

static void keep(struct recovery *r, const struct frame *f, uint64_t offset)
{
    if (r->kept_count == r->kept_cap) {
        r->kept_cap = r->kept_cap == 0 ? 64 : r->kept_cap * 2;
        r->kept = must_realloc(r->kept, r->kept_cap * sizeof *r->kept);
    }
    r->kept[r->kept_count++] = (struct kept_frame){offset, f->payload_len, f->count, f->seq};
    r->kept_bytes += frame_bytes(f->payload_len);
}

bool recovery_read_kept(const struct recovery *r, int fd, const struct segment_header *header,
                        const struct kept_frame *k, uint8_t *into, struct frame *ret)
{
    size_t len = FRAME_HEADER_BYTES + (size_t)k->payload_len;
    uint32_t tag = segment_tag(header->salt);
    unsigned unreadable = 0;
    return scan_pread(&r->vfs, fd, into, len, k->offset, &unreadable) == len &&
           frame_parse(into, k->offset, tag, k->payload_len, ret) &&
           frame_payload_good(ret, tag, into + FRAME_HEADER_BYTES);
}

static void apply_data(struct recovery *r, const struct frame *f, const uint8_t *payload)
{
    struct span rest;
    bool news = f->seq >= r->accounts.next_seq;
    accounts_stored(&r->accounts, f->seq, f->count);
    if (!news || !frame_events_check(span_of(payload, f->payload_len), f->seq, f->count, &rest) ||
        rest.len == 0)
        return;
    struct op op;
    if (op_next(&rest, &op) && op.code == OP_MARKS)
        accounts_replayed(&r->accounts, op.runs);
}

static void apply_ctrl(struct recovery *r, const struct frame *f, const uint8_t *payload)
{
    if (!r->state_seen && !is_state(f, payload))
        return; /* Ops mean nothing without what they change. */
    r->state_seen = true;
    if (accounts_apply(&r->accounts, span_of(payload, f->payload_len)) && r->accounts.next_seq >= r->expected)
        return;
    REACHED(OPS_CONTRADICT);
    recovery_warn(r, "control records contradict each other: everything stored counts as undelivered again");
    accounts_reset(&r->accounts, r->valid[0]->header.first_seq);
    r->accounts_were_reset = true;
    accounts_stored(&r->accounts, r->accounts.base_seq, r->expected - r->accounts.base_seq);
}

/* One good frame. */
static void apply(struct recovery *r, const struct frame *f, const uint8_t *payload, bool events_only)
{
    if (f->type == FRAME_DATA) {
        if (f->seq + f->count <= r->expected && f->count > 0)
            return; /* Twice: not ours to judge, the first one counts. */
        reach(r, f->seq);
        apply_data(r, f, payload);
        r->expected = f->seq + f->count;
    } else if (!events_only) {
        reach(r, f->seq);
        if (f->type == FRAME_CTRL)
            apply_ctrl(r, f, payload);
    }
}

/* Bytes that were once good. */
static void note_damage(struct recovery *r, const struct found *f, uint64_t from, uint64_t to)
{
    if (r->read_only)
        return; /* Verification looks for itself. */
    recovery_warn(r, "segment %llu is damaged from byte %llu to %llu", (unsigned long long)f->id,
                  (unsigned long long)from, (unsigned long long)to);
    if (r->damage_count < RECOVERY_DAMAGE) {
        r->damage[r->damage_count].segment = f->id;
        r->damage[r->damage_count].at = from;
        r->damage[r->damage_count++].len = to - from;
    }
}

static void replay_sealed(struct recovery *r, struct found *found, const struct found *next)
{
    struct scan scan;
    struct frame f;
    const uint8_t *payload;
    int fd = recovery_open(r, found);
    r->expected = found->header.first_seq;
    if (fd >= 0) {
        scan_init(&scan, &r->vfs, fd, &found->header, found->end);
        for (;;) {
            enum scan_result result = scan_next(&scan, &f, &payload);
            if (result == SCAN_FRAME) {
                apply(r, &f, payload, false);
                continue;
            }
            uint64_t from = scan.at;
            bool more = result == SCAN_BAD && scan_resync(&scan);
            if (result == SCAN_BAD && found->sealed) {
                REACHED(DAMAGE_SEALED);
                note_damage(r, found, from, scan.at);
            }
            if (!more)
                break;
        }
        recovery_scanned(r, found, fd, &scan);
    }
    reach(r, next->header.first_seq);
}

/* The newest segment, first pass: how much of it is proven, by its own frames. The first commit of a segment
 * that a start or a failure began says that it is durable itself, which was so when the header was written;
 * but that the header is durable too only a later commit attests: the page cache may show one whose sync
 * failed. */
static void survey(struct recovery *r, struct scan *scan)
{
    struct frame f;
    const uint8_t *payload;
    r->proven = r->attested = SEGMENT_HEADER_AREA;
    for (;;) {
        enum scan_result result = scan_next(scan, &f, &payload);
        if (result == SCAN_FRAME) {
            uint64_t durable = (uint64_t)f.durable16 * 16;
            if (durable > r->proven)
                r->proven = durable;
            if (durable > r->attested && f.commit > 0)
                r->attested = durable;
        } else if (result == SCAN_END || !scan_resync(scan)) {
            break;
        }
    }
    if (r->proven > scan->at)
        r->proven = scan->at;
    if (r->attested > scan->at)
        r->attested = scan->at;
}

/* Second pass. */
static void replay_newest(struct recovery *r, struct found *found)
{
    struct scan scan;
    struct frame f;
    const uint8_t *payload;
    bool torn = false;
    int fd = recovery_open(r, found);
    r->expected = found->header.first_seq;
    r->attested_next_seq = r->expected;
    r->attested_hcrc = found->header.hcrc;
    r->proven = r->attested = SEGMENT_HEADER_AREA;
    if (fd < 0)
        return;
    scan_init(&scan, &r->vfs, fd, &found->header, found->size);
    survey(r, &scan);
    scan_seek(&scan, SEGMENT_HEADER_AREA);
    for (;;) {
        enum scan_result result = scan_next(&scan, &f, &payload);
        if (result == SCAN_FRAME) {
            uint64_t offset = scan.at - frame_bytes(f.payload_len);
            found->used = scan.at;
            bool news = f.type == FRAME_DATA && f.seq + f.count > r->expected;
            apply(r, &f, payload, torn);
            if (BUG(9))
                r->attested = scan.at;
            if (offset >= r->attested && news)
                keep(r, &f, offset);
            if (offset < r->attested) {
                r->attested_next_seq = r->expected;
                r->attested_hcrc = f.hcrc;
            }
            continue;
        }
        if (result == SCAN_END)
            break;
        if (scan.at >= r->proven && !torn) {
            torn = true;
            if (scan.bad_payload) {
                REACHED(TORN);
                r->torn_bytes = scan.bad_bytes;
            } else {
                REACHED(TAIL_EMPTY);
            }
            if (!r->weak)
                break;
            REACHED(TORN_KEPT_BEHIND);
        }
        uint64_t from = scan.at;
        bool more = scan_resync(&scan);
        if (from < r->proven) {
            REACHED(DAMAGE_PROVEN);
            note_damage(r, found, from, scan.at);
        }
        if (!more)
            break;
    }
    recovery_scanned(r, found, fd, &scan);
}

/* From segment i on; false when the STATE that it began with a moment ago could not be read again. */
static bool replay_from(struct recovery *r, size_t i, bool need_state)
{
    size_t last = r->valid_count - 1;
    accounts_reset(&r->accounts, r->valid[0]->header.first_seq);
    r->state_seen = !need_state;
    r->kept_count = 0;
    r->kept_bytes = 0;
    for (; i < last; i++)
        replay_sealed(r, r->valid[i], r->valid[i + 1]);
    replay_newest(r, r->valid[last]);
    return r->state_seen;
}

/* From the newest STATE that is any good, or without one from the first segment. */
static void replay_all(struct recovery *r)
{
    for (size_t i = r->valid_count; i-- > 0;) {
        bool good = begins_with_state(r, r->valid[i]) && replay_from(r, i, true);
        if (r->fault.err != OK)
            return;
        if (!good)
            continue;
        if (i + 1 == r->valid_count)
            REACHED(STATE_NEWEST);
        else
            REACHED(STATE_EARLIER);
        return;
    }
    REACHED(STATE_NONE);
    r->accounts_were_reset = true;
    if (r->valid_count > 1 || r->valid[0]->header.first_seq > 1)
        recovery_warn(r, "no usable state record: everything stored counts as undelivered again");
    (void)replay_from(r, 0, false); /* Takes what is there. */
}

enum err recovery_replay(struct recovery *r)
{
    if (r->valid_count == 0) {
        REACHED(START_OF_NOTHING);
        return OK;
    }
    struct accounts *a = &r->accounts;
    size_t last = r->valid_count - 1;
    replay_all(r);
    if (r->fault.err != OK)
        return r->fault.err;
    /* STATE of a settled segment knows of events whose copies stood here. */
    reach(r, a->next_seq);
    a->torn_bytes += r->read_only ? 0 : r->torn_bytes;
    struct found *newest = r->valid[last];
    newest->end = r->attested;
    newest->next_seq = r->attested_next_seq;
    newest->sealed = true;
    /* Pending events of segments that are no longer there. */
    if (a->low_water + 1 < r->valid[0]->header.first_seq) {
        uint64_t first = a->low_water + 1, end = r->valid[0]->header.first_seq;
        if (intervals_count(&a->settled, first, end - 1) < end - first) {
            REACHED(SEGMENTS_MISSING);
            recovery_warn(r, "segments are missing: events before number %llu are lost",
                          (unsigned long long)end);
            accounts_lost(a, first, end - first);
        }
    }
    if (a->epoch > r->epoch_max)
        r->epoch_max = a->epoch;
    if (a->clean)
        REACHED(START_CLEAN);
    else
        REACHED(START_UNCLEAN);
    for (size_t i = 0; i < a->batch_count; i++)
        a->batches[i]->recovered = a->batches[i]->durable = true;
    return OK;
}
