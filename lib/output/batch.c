/* batch: see batch.h. Step 8: fill.c fills and closes, dispatch.c sends, settle.c carves. */
#include "lib/output/batch.h"

#include "lib/base/crc32c.h"
#include "lib/base/ensure.h"
#include "lib/base/hash.h"

#include <stdlib.h>

#define IDS_MAX (64u << 20)
#define KEEP_BYTES (2u << 20) /* a recycled batch keeps buffers up to this size */

struct batch *batch_new(void)
{
    struct batch *b = must_alloc(sizeof *b);
    list_init(&b->link);
    bytes_init(&b->raw, BATCH_RAW_MAX);
    bytes_init(&b->ids, IDS_MAX);
    bytes_init(&b->encoded, BATCH_RAW_MAX + BATCH_RAW_MAX / 8);
    outcome_init(&b->outcome);
    return b;
}

void batch_free(struct batch *b)
{
    ensure(b->payload != PAYLOAD_ENCODING && b->payload != PAYLOAD_LOADING);
    list_remove(&b->link);
    bytes_deinit(&b->raw);
    bytes_deinit(&b->ids);
    bytes_deinit(&b->encoded);
    outcome_deinit(&b->outcome);
    free(b->runs);
    free(b->members);
    free(b->id_slots);
    free(b);
}

static void clear(struct bytes *b, bool trim)
{
    if (trim || b->cap > KEEP_BYTES)
        bytes_deinit(b);
    bytes_clear(b);
}

void batch_reset(struct batch *b, bool trim)
{
    struct batch kept = *b;
    outcome_clear(&kept.outcome);
    clear(&kept.raw, trim);
    clear(&kept.ids, trim);
    clear(&kept.encoded, trim);
    *b = (struct batch){
        .raw = kept.raw,
        .ids = kept.ids,
        .encoded = kept.encoded,
        .runs = kept.runs,
        .run_cap = kept.run_cap,
        .members = kept.members,
        .member_cap = kept.member_cap,
        .id_slots = kept.id_slots,
        .id_slot_count = kept.id_slot_count,
        .outcome = kept.outcome,
    };
    b->raw.max = BATCH_RAW_MAX;
    list_init(&b->link);
}

size_t batch_memory(const struct batch *b)
{
    return b->raw.cap + b->ids.cap + b->encoded.cap;
}

/* --- ids: an event's id must not be twice in one batch --- */

struct span batch_member_id(const struct batch *b, unsigned i)
{
    const struct batch_member *m = &b->members[i];
    return m->id_len == 0 ? (struct span){0} : span_of(b->ids.at + m->id_at, m->id_len);
}

/* The slot of this id, or the free one where it would go. */
static uint32_t *id_slot(const struct batch *b, struct span id)
{
    uint64_t h = hash64(id, 1);
    for (;; h++) {
        uint32_t *slot = &b->id_slots[h & (b->id_slot_count - 1)];
        if (*slot == 0 || span_equal(batch_member_id(b, *slot - 1), id))
            return slot;
    }
}

static void id_slots_grow(struct batch *b)
{
    unsigned need = 64;
    while (need < 2 * (b->member_count + 1))
        need *= 2;
    if (need > b->id_slot_count) {
        b->id_slots = must_realloc(b->id_slots, need * sizeof *b->id_slots);
        b->id_slot_count = need;
    }
    memset(b->id_slots, 0, b->id_slot_count * sizeof *b->id_slots);
    for (unsigned i = 0; i < b->member_count; i++)
        if (b->members[i].id_len > 0)
            *id_slot(b, batch_member_id(b, i)) = i + 1;
}

bool batch_has_id(const struct batch *b, struct span id)
{
    if (b->member_count == 0 || b->ids.len == 0 || id.len == 0)
        return false;
    return *id_slot(b, id) != 0;
}

bool batch_shares_id(const struct batch *a, const struct batch *b)
{
    if (a->ids.len == 0 || b->ids.len == 0)
        return false;
    for (unsigned i = 0; i < a->member_count; i++)
        if (batch_has_id(b, batch_member_id(a, i)))
            return true;
    return false;
}

static enum err add_id(struct batch *b, struct span id)
{
    enum err err = bytes_append(&b->ids, id);
    if (err != OK)
        return err;
    b->members[b->member_count].id_at = (uint32_t)(b->ids.len - id.len);
    b->members[b->member_count].id_len = (uint32_t)id.len;
    if (b->ids.len == id.len || b->id_slot_count < 2 * (b->member_count + 1))
        id_slots_grow(b); /* the first id, or no room: made anew from the members before this one */
    *id_slot(b, id) = b->member_count + 1;
    return OK;
}

/* --- filling --- */

static void payload_begin(struct batch *b, const struct api_envelope *envelope)
{
    b->envelope = *envelope;
    bytes_clear(&b->raw);
    bytes_clear(&b->ids);
    bytes_clear(&b->encoded);
    b->use_encoded = false;
    b->member_count = 0;
    b->expires_ns = 0;
}

uint64_t batch_envelope_hash(const struct api_envelope *envelope)
{
    return hash64(envelope->after, hash64(envelope->between, hash64(envelope->before, 0)));
}

void batch_open(struct batch *b, struct partition *p, const struct api_envelope *envelope)
{
    b->partition = p;
    b->state = BATCH_OPEN;
    b->payload = PAYLOAD_RAW;
    b->envelope_version = envelope->version;
    b->envelope_hash = batch_envelope_hash(envelope);
    payload_begin(b, envelope);
}

static void add_run(struct batch *b, uint64_t seq)
{
    if (b->run_count > 0) {
        struct spool_run *last = &b->runs[b->run_count - 1];
        ensure(seq >= last->first + last->count);
        if (seq == last->first + last->count) {
            last->count++;
            return;
        }
    }
    if (b->run_count == b->run_cap) {
        b->run_cap = b->run_cap == 0 ? 4 : 2 * b->run_cap;
        b->runs = must_realloc(b->runs, b->run_cap * sizeof *b->runs);
    }
    b->runs[b->run_count++] = (struct spool_run){seq, 1};
}

/* Into room that was reserved. */
static inline void put(struct batch *b, struct span s)
{
    ensure(s.len <= b->raw.cap - b->raw.len);
    if (s.len == 1)
        b->raw.at[b->raw.len] = s.at[0]; /* a comma: one of each event's two pieces */
    else if (s.len > 0)
        memcpy(b->raw.at + b->raw.len, s.at, s.len);
    b->raw.len += s.len;
}

/* Only the payload: the runs are known already when a batch is loaded again. */
static enum err add_member(struct batch *b, uint64_t seq, struct span id, struct span body,
                           uint64_t expires_ns)
{
    if (b->member_count == b->member_cap) {
        b->member_cap = b->member_cap == 0 ? 64 : 2 * b->member_cap;
        b->members = must_realloc(b->members, b->member_cap * sizeof *b->members);
    }
    struct span glue = b->member_count == 0 ? b->envelope.before : b->envelope.between;
    enum err err = bytes_reserve(&b->raw, glue.len + body.len + b->envelope.after.len);
    if (err != OK)
        return err;
    struct batch_member *m = &b->members[b->member_count];
    *m = (struct batch_member){.seq = seq, .expires_ns = expires_ns, .body_len = (uint32_t)body.len};
    if (id.len > 0 && (err = add_id(b, id)) != OK)
        return err;
    put(b, glue);
    m->body_at = (uint32_t)b->raw.len;
    put(b, body);
    b->member_count++;
    if (expires_ns != 0 && (b->expires_ns == 0 || expires_ns < b->expires_ns))
        b->expires_ns = expires_ns;
    return OK;
}

enum err batch_add(struct batch *b, uint64_t seq, struct span id, struct span body, uint64_t expires_ns)
{
    enum err err = add_member(b, seq, id, body, expires_ns);
    if (err == OK && b->state == BATCH_OPEN) {
        add_run(b, seq);
        b->count++;
    }
    return err;
}

void batch_close(struct batch *b)
{
    ensure(b->member_count > 0);
    put(b, b->envelope.after); /* reserved with each member */
    b->raw_len = (uint32_t)b->raw.len;
    b->raw_crc32c = crc32c(0, b->raw.at, b->raw.len);
}

/* --- again --- */

void batch_release(struct batch *b)
{
    ensure(b->payload == PAYLOAD_RAW || b->payload == PAYLOAD_READY || b->payload == PAYLOAD_NONE);
    bytes_deinit(&b->raw);
    bytes_deinit(&b->ids);
    bytes_deinit(&b->encoded);
    b->member_count = 0;
    b->use_encoded = false;
    b->payload = PAYLOAD_NONE;
}

void batch_set_runs(struct batch *b, const struct spool_run *runs, unsigned count)
{
    b->count = 0;
    for (unsigned i = 0; i < count; i++)
        b->count += runs[i].count;
    if (b->run_cap < count) {
        b->runs = must_realloc(b->runs, count * sizeof *b->runs);
        b->run_cap = count;
    }
    memcpy(b->runs, runs, count * sizeof *runs);
    b->run_count = count;
}

void batch_adopt(struct batch *b, struct partition *p, const struct spool_open_batch *open)
{
    b->partition = p;
    b->state = BATCH_WAITING;
    b->payload = PAYLOAD_NONE;
    batch_set_runs(b, open->assignment.runs, open->assignment.run_count);
    b->raw_len = open->assignment.raw_len;
    b->raw_crc32c = open->assignment.raw_crc32c;
    b->envelope_version = open->assignment.envelope_version;
    b->envelope_hash = open->assignment.envelope_hash;
    b->codec = (enum api_codec)open->assignment.codec;
    b->durable = open->durable;
    b->recovered = open->recovered;
    b->unknown = open->recovered;
    b->broken = open->identity_broken;
    batch_set_id(b, &open->id);
}

bool batch_has_seq(const struct batch *b, uint64_t seq)
{
    unsigned low = 0, high = b->run_count;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        const struct spool_run *r = &b->runs[middle];
        if (seq < r->first)
            high = middle;
        else if (seq - r->first < r->count)
            return true;
        else
            low = middle + 1;
    }
    return false;
}

void batch_load_begin(struct batch *b, const struct api_envelope *envelope)
{
    ensure(b->state != BATCH_OPEN && b->payload == PAYLOAD_NONE);
    payload_begin(b, envelope);
    b->raw.max = BATCH_RAW_MAX;
    b->payload = PAYLOAD_LOADING;
    b->load_done = false;
    b->load_err = OK;
}

/* The likely size; with another envelope it may become larger. */
void batch_load_reserve(struct batch *b)
{
    b->load_err = bytes_reserve(&b->raw, b->raw_len);
}

bool batch_loaded(struct batch *b)
{
    if (b->member_count == 0)
        return false;
    uint32_t raw_len = b->raw_len, raw_crc32c = b->raw_crc32c;
    batch_close(b);
    bool same = b->raw_len == raw_len && b->raw_crc32c == raw_crc32c && b->member_count == b->count;
    b->raw_len = raw_len;
    b->raw_crc32c = raw_crc32c;
    return same;
}

bool batch_has_fate(const struct batch *b, enum fate fate)
{
    unsigned count = b->member_count > 0 ? b->member_count : (unsigned)b->count;
    return memchr(b->outcome.fates, (int)fate, count) != NULL;
}

void batch_carve(struct batch *child, const struct batch *parent, const struct api_envelope *envelope, enum fate fate,
                 unsigned from, unsigned to)
{
    ensure(to <= parent->member_count);
    batch_open(child, parent->partition, envelope);
    for (unsigned i = from; i < to; i++) {
        if (parent->outcome.fates[i] != fate)
            continue;
        const struct batch_member *m = &parent->members[i];
        enum err err = batch_add(child, m->seq, batch_member_id(parent, i),
                                 span_of(parent->raw.at + m->body_at, m->body_len), m->expires_ns);
        ensure(err == OK); /* a part of what fitted fits */
    }
    batch_close(child);
    child->state = BATCH_CLOSED;
    child->codec = parent->codec;
    child->unknown = parent->unknown;
    child->recovered = false;
    child->attempts = parent->attempts;
    child->unknown_sends = parent->unknown_sends;
    child->failed_us = parent->failed_us;
    child->oldest_wall_ns = parent->oldest_wall_ns;
}

/* --- identity --- */

struct spool_assignment batch_assignment(const struct batch *b)
{
    return (struct spool_assignment){
        .partition = b->partition->name,
        .runs = b->runs,
        .run_count = b->run_count,
        .raw_len = b->raw_len,
        .raw_crc32c = b->raw_crc32c,
        .envelope_version = b->envelope_version,
        .envelope_hash = b->envelope_hash,
        .codec = (uint8_t)b->codec,
        .level = b->codec == API_IDENTITY ? 0 : 1,
    };
}

void batch_id_text(const struct spool_batch_id *id, char into[BATCH_ID_TEXT])
{
    static const char digits[] = "0123456789abcdef";
    uint8_t u[16];
    memcpy(u, id->uuid, sizeof u);
    for (unsigned i = 0; i < 4; i++)
        u[i] ^= (uint8_t)(id->epoch >> (24 - 8 * i));
    for (unsigned i = 0; i < 6; i++)
        u[10 + i] ^= (uint8_t)(id->batch_no >> (40 - 8 * i));
    u[6] = (uint8_t)((u[6] & 0x0f) | 0x40); /* RFC 9562: version 4, variant 10 */
    u[8] = (uint8_t)((u[8] & 0x3f) | 0x80);
    char *at = into;
    for (unsigned i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *at++ = '-';
        *at++ = digits[u[i] >> 4];
        *at++ = digits[u[i] & 15];
    }
    *at = 0;
}

void batch_set_id(struct batch *b, const struct spool_batch_id *id)
{
    b->id = *id;
    batch_id_text(id, b->payload_id);
}
