/* tail: see tail.h. */
#include "lib/spool/tail.h"

#include "lib/base/ensure.h"
#include "lib/spool/varint.h"

#include <stdlib.h>

#define CHUNK_BYTES (128 * 1024)
#define SPARE_MAX 2

void tail_init(struct tail *t)
{
    *t = (struct tail){0};
}

static void free_chunks(struct chunk *c)
{
    while (c != NULL) {
        struct chunk *next = c->next;
        free(c);
        c = next;
    }
}

void tail_deinit(struct tail *t)
{
    free_chunks(t->first);
    free_chunks(t->spare);
    tail_init(t);
}

struct chunk *chunk_new(uint32_t cap)
{
    struct chunk *c = malloc(sizeof *c + cap);
    ensure(c != NULL && "out of memory");
    *c = (struct chunk){.cap = cap};
    return c;
}

static struct chunk *take_chunk(struct tail *t, uint64_t need)
{
    struct chunk *c = t->spare;
    if (need > CHUNK_BYTES || c == NULL) {
        c = chunk_new(need > CHUNK_BYTES ? (uint32_t)need : CHUNK_BYTES);
    } else {
        t->spare = c->next;
        t->spare_count--;
        *c = (struct chunk){.cap = c->cap};
    }
    t->bytes += c->cap;
    return c;
}

static void give_chunk(struct tail *t, struct chunk *c)
{
    t->bytes -= c->cap;
    t->generation++;
    if (c->cap != CHUNK_BYTES || t->spare_count >= SPARE_MAX) {
        free(c);
        return;
    }
    c->next = t->spare;
    t->spare = c;
    t->spare_count++;
}

uint64_t tail_bound(unsigned count, uint64_t bytes)
{
    /* Each event may stand alone in its frame when partitions and api versions alternate; a partition's name
     * is in `bytes` once per event. */
    return bytes +
           (uint64_t)count * (EVENT_OVERHEAD + FRAME_HEADER_BYTES + DATA_HEAD_BYTES + FRAME_ALIGN + 4);
}

/* --- building --------------------------------------------------------------------------------------------
 */

static uint8_t *open_payload(const struct tail *t)
{
    return t->open + FRAME_HEADER_BYTES;
}

static uint32_t chunk_room(const struct tail *t)
{
    const struct chunk *c = t->last;
    return t->open == NULL ? c->cap - c->used
                           : c->cap - (uint32_t)(open_payload(t) + t->payload_len - c->data);
}

static void open_frame(struct tail *t, const struct spool_record *r, uint16_t api_version, uint64_t seq,
                       size_t extra)
{
    uint64_t need = FRAME_HEADER_BYTES + DATA_HEAD_BYTES + r->partition.len + r->id.len + r->body.len +
                    EVENT_OVERHEAD + FRAME_ALIGN + extra;
    if (t->last == NULL || chunk_room(t) < need) {
        struct chunk *c = take_chunk(t, need);
        if (t->last == NULL)
            t->first = c;
        else
            t->last->next = c;
        t->last = c;
        c->first_seq = c->end_seq = seq;
    }
    t->open = t->last->data + t->last->used;
    t->open_seq = seq;
    t->count = 0;
    t->api_version = api_version;
    t->base_wall_ns = r->wall_ns;
    t->partition_count = 0;
    t->partition_last = 0;
    uint8_t *payload = open_payload(t);
    le64_put(payload, r->wall_ns);
    le16_put(payload + 8, 0);
    le16_put(payload + 10, api_version);
    le16_put(payload + 12, 0);
    le16_put(payload + 14, 0);
    t->payload_len = t->events_at = DATA_HEAD_BYTES;
    t->fill_bytes += frame_bytes(t->payload_len);
}

/* The number of a name in the open frame, or partition_count when it is not there. */
static unsigned find_partition(const struct tail *t, struct span name)
{
    const uint8_t *payload = open_payload(t);
    for (unsigned k = 0; k < t->partition_count; k++) {
        unsigned i = (t->partition_last + k) % t->partition_count;
        if (t->partitions[i].len == name.len && memcmp(payload + t->partitions[i].at, name.at, name.len) == 0)
            return i;
    }
    return t->partition_count;
}

/* Names stand before the events, so a new one moves those of this frame (at most 32 KiB, sixteen times). */
static void add_partition(struct tail *t, struct span name)
{
    uint8_t *payload = open_payload(t);
    uint32_t grow = (uint32_t)(varint_size(name.len) + name.len);
    memmove(payload + t->events_at + grow, payload + t->events_at, t->payload_len - t->events_at);
    uint8_t *at = varint_put(payload + t->events_at, name.len);
    memcpy(at, name.at, name.len);
    t->partitions[t->partition_count].at = (uint32_t)(at - payload);
    t->partitions[t->partition_count].len = (uint32_t)name.len;
    t->partition_count++;
    le16_put(payload + 12, (uint16_t)t->partition_count);
    t->events_at += grow;
    t->payload_len += grow;
}

static bool fits_open_frame(const struct tail *t, uint64_t need, uint16_t api_version)
{
    ensure(t->count < UINT16_MAX); /* So many do not fit into the bytes of one. */
    return t->api_version == api_version && t->payload_len + need <= FRAME_CLOSE_BYTES &&
           chunk_room(t) >= need + FRAME_ALIGN;
}

void tail_append(struct tail *t, const struct spool_record *r, uint16_t api_version, uint64_t seq)
{
    uint64_t need = r->partition.len + r->id.len + r->body.len + EVENT_OVERHEAD;
    if (t->open != NULL && !fits_open_frame(t, need, api_version))
        tail_close_frame(t);
    if (t->open == NULL)
        open_frame(t, r, api_version, seq, 0);
    unsigned partition = 0;
    uint64_t before = frame_bytes(t->payload_len);
    if (r->partition.len > 0) {
        partition = find_partition(t, r->partition);
        if (partition == FRAME_PARTITIONS) {
            tail_close_frame(t);
            open_frame(t, r, api_version, seq, 0);
            before = frame_bytes(t->payload_len);
            partition = 0;
        }
        if (partition == t->partition_count)
            add_partition(t, r->partition);
        t->partition_last = partition++;
    }
    ensure(seq == t->open_seq + t->count);
    int64_t dt_us = (int64_t)(r->wall_ns - t->base_wall_ns) / 1000;
    uint8_t *at = open_payload(t) + t->payload_len;
    at = varint_put(at, r->body.len);
    at = varint_put(at, zigzag(dt_us));
    at = varint_put(at, partition);
    at = varint_put(at, r->id.len);
    if (r->id.len > 0)
        memcpy(at, r->id.at, r->id.len);
    at += r->id.len;
    if (r->body.len > 0)
        memcpy(at, r->body.at, r->body.len);
    at += r->body.len;
    t->payload_len = (uint32_t)(at - open_payload(t));
    t->count++;
    t->fill_bytes += frame_bytes(t->payload_len) - before;
    t->fill_events++;
}

static void close_frame(struct tail *t, struct span extension)
{
    uint64_t before = frame_bytes(t->payload_len);
    if (extension.len > 0) {
        ensure(chunk_room(t) >= extension.len + FRAME_ALIGN);
        memcpy(open_payload(t) + t->payload_len, extension.at, extension.len);
        t->payload_len += (uint32_t)extension.len;
    }
    frame_begin(t->open, FRAME_DATA, t->count, t->payload_len, t->open_seq);
    uint32_t whole = (uint32_t)frame_bytes(t->payload_len);
    t->fill_bytes += whole - before;
    uint32_t used = FRAME_HEADER_BYTES + t->payload_len;
    memset(t->open + used, 0, whole - used);
    t->last->used += whole;
    ensure(t->last->used <= t->last->cap);
    t->last->end_seq = t->open_seq + t->count;
    t->open = NULL;
}

void tail_close_frame(struct tail *t)
{
    if (t->open != NULL)
        close_frame(t, (struct span){0});
}

void tail_append_alone(struct tail *t, const struct spool_record *r, uint16_t api_version, uint64_t seq,
                       struct span extension)
{
    tail_close_frame(t);
    open_frame(t, r, api_version, seq, extension.len);
    tail_append(t, r, api_version, seq);
    close_frame(t, extension);
}

/* --- handing out -----------------------------------------------------------------------------------------
 */

/* Where the frame behind a mark is; chunk NULL when there is none. */
static struct tail_mark mark_next(const struct tail *t, struct tail_mark m)
{
    if (m.chunk == NULL)
        m = (struct tail_mark){t->first, 0};
    while (m.chunk != NULL && m.at >= m.chunk->used)
        m = (struct tail_mark){m.chunk->next, 0};
    return m;
}

unsigned tail_take(struct tail *t, uint64_t max_bytes, unsigned max_ranges, struct tail_range *ranges,
                   uint64_t *ret_first, uint64_t *ret_end)
{
    unsigned count = 0;
    uint64_t total = 0;
    tail_close_frame(t);
    for (struct tail_mark m = mark_next(t, t->launched); m.chunk != NULL && count < max_ranges;
         m = mark_next(t, t->launched)) {
        struct tail_range *r = &ranges[count];
        *r = (struct tail_range){m.chunk->data + m.at, 0};
        while (m.at < m.chunk->used) {
            const uint8_t *header = m.chunk->data + m.at;
            uint32_t bytes = (uint32_t)frame_bytes(frame_payload_len(header));
            if (total + bytes > max_bytes)
                break;
            if (total == 0)
                *ret_first = frame_seq(header);
            *ret_end = frame_seq(header) + frame_count(header);
            t->fill_events -= frame_count(header);
            total += bytes;
            r->len += bytes;
            m.at += bytes;
        }
        if (r->len == 0)
            break;
        count++;
        t->launched = m;
        if (m.at < m.chunk->used)
            break;
    }
    t->fill_bytes -= total;
    return count;
}

void tail_settle(struct tail *t)
{
    t->settled = t->launched;
}

void tail_unlaunch(struct tail *t)
{
    if (t->launched.chunk == t->settled.chunk && t->launched.at == t->settled.at)
        return; /* Nothing was handed out; both may be before everything. */
    tail_close_frame(t);
    /* The end of a chunk and the beginning of the next one are the same place. */
    struct tail_mark end = mark_next(t, t->launched);
    for (struct tail_mark m = mark_next(t, t->settled);
         m.chunk != NULL && !(m.chunk == end.chunk && m.at == end.at); m = mark_next(t, m)) {
        const uint8_t *header = m.chunk->data + m.at;
        uint32_t bytes = (uint32_t)frame_bytes(frame_payload_len(header));
        t->fill_bytes += bytes;
        t->fill_events += frame_count(header);
        m.at += bytes;
    }
    t->launched = t->settled;
}

/* The only chunk is done with: all of it is safe on disk, and settled or larger than all that may be kept. */
static bool last_is_done(const struct tail *t, size_t keep_bytes, uint64_t done_seq)
{
    const struct chunk *c = t->last;
    return t->first == c && t->open == NULL && t->settled.chunk == c && t->settled.at == c->used &&
           t->launched.chunk == c && t->launched.at == c->used &&
           (t->bytes > keep_bytes || c->end_seq <= done_seq + 1);
}

void tail_forget(struct tail *t, size_t keep_bytes, uint64_t done_seq)
{
    while (t->first != NULL && t->first != t->last && t->settled.chunk != NULL &&
           t->first != t->settled.chunk && (t->bytes > keep_bytes || t->first->end_seq <= done_seq + 1)) {
        struct chunk *c = t->first;
        t->first = c->next;
        give_chunk(t, c);
    }
    if (t->last == NULL || !last_is_done(t, keep_bytes, done_seq))
        return;
    give_chunk(t, t->last);
    t->first = t->last = NULL;
    t->launched = t->settled = (struct tail_mark){0};
}

struct chunk *tail_find(const struct tail *t, uint64_t seq)
{
    if (t->first == NULL || seq < t->first->first_seq)
        return NULL;
    for (struct chunk *c = t->first; c != NULL; c = c->next)
        if (seq < c->end_seq)
            return c;
    return NULL;
}

uint64_t tail_first_seq(const struct tail *t)
{
    return t->first == NULL ? UINT64_MAX : t->first->first_seq;
}

/* --- reading ---------------------------------------------------------------------------------------------
 */

void chunk_reader_init(struct chunk_reader *r, const struct chunk *c)
{
    *r = (struct chunk_reader){.chunk = c};
}

bool chunk_reader_next(struct chunk_reader *r, uint64_t seq, uint64_t end, struct spool_item *ret)
{
    for (;;) {
        if (r->in_frame) {
            /* Not beyond `end`: the event stays for the next call. */
            while (r->events.left > 0 && r->events.seq < end) {
                bool good = frame_events_next(&r->events, ret);
                ensure(good); /* Ours, or looked at when it was read. */
                if (ret->seq >= seq)
                    return true;
            }
            if (r->events.left > 0)
                return false;
            r->in_frame = false;
        }
        if (r->at >= r->chunk->used)
            return false;
        const uint8_t *header = r->chunk->data + r->at;
        if (frame_seq(header) >= end)
            return false;
        uint32_t len = frame_payload_len(header);
        r->at += (uint32_t)frame_bytes(len);
        if (frame_seq(header) + frame_count(header) <= seq)
            continue;
        r->in_frame = frame_events_open(&r->events, span_of(header + FRAME_HEADER_BYTES, len),
                                        frame_seq(header), frame_count(header));
    }
}
