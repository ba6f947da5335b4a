/* ops: see ops.h. Encoders write the body behind a head that op_end() completes; decoders check the length of
 * the fixed part first and then read it by offset. */
#include "lib/spool/ops.h"

#include "lib/base/ensure.h"
#include "lib/base/le.h"
#include "lib/spool/format.h"
#include "lib/spool/varint.h"

#define OP_HEAD_BYTES 8
#define OP_VERSION 1
#define STATE_BODY_BYTES (24 + 8 + 8 + 88 + 8 * OP_DROP_SLOTS + 8 * SPOOL_DEAD_REASONS)
#define ASSIGN_FIXED_BYTES 64

/* --- writing ---------------------------------------------------------------------------------------------
 */

struct writer {
    struct bytes *to;
    size_t start;
    enum err err;
};

static void put(struct writer *w, const void *at, size_t len)
{
    if (w->err == OK)
        w->err = bytes_append(w->to, span_of(at, len));
}

static void put32(struct writer *w, uint32_t v)
{
    uint8_t raw[4];
    le32_put(raw, v);
    put(w, raw, sizeof raw);
}

static void put64(struct writer *w, uint64_t v)
{
    uint8_t raw[8];
    le64_put(raw, v);
    put(w, raw, sizeof raw);
}

static void put_varint(struct writer *w, uint64_t v)
{
    uint8_t raw[VARINT_MAX];
    put(w, raw, (size_t)(varint_put(raw, v) - raw));
}

static struct writer op_begin(struct bytes *to, enum op_code code)
{
    struct writer w = {.to = to, .start = to->len};
    const uint8_t head[OP_HEAD_BYTES] = {(uint8_t)code, OP_VERSION};
    put(&w, head, sizeof head);
    return w;
}

static enum err op_end(struct writer *w)
{
    static const uint8_t zeros[8];
    size_t body = w->to->len - w->start - OP_HEAD_BYTES;
    if (w->err == OK && body % 8 != 0)
        put(w, zeros, 8 - body % 8);
    body = (body + 7) / 8;
    if (w->err == OK && body > UINT16_MAX)
        w->err = ERR_TOO_BIG;
    if (w->err != OK) {
        w->to->len = w->start;
        return w->err;
    }
    le16_put(w->to->at + w->start + 2, (uint16_t)body);
    return OK;
}

/* The varint part of a run list. */
static void put_run_tail(struct writer *w, uint64_t base, const struct spool_run *runs, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        ensure(runs[i].count > 0);
        ensure(runs[i].first >= base);
        put_varint(w, runs[i].first - base);
        put_varint(w, runs[i].count);
        base = runs[i].first + runs[i].count;
    }
}

static void put_runs(struct writer *w, const struct spool_run *runs, unsigned count)
{
    uint64_t first = count == 0 ? 0 : runs[0].first;
    put32(w, count);
    put32(w, 0);
    put64(w, first);
    put_run_tail(w, first, runs, count);
}

enum err op_put_state(struct bytes *to, const struct op_state *s)
{
    struct writer w = op_begin(to, OP_STATE);
    put64(&w, s->next_seq);
    put64(&w, s->epoch);
    put64(&w, s->refused);
    put32(&w, 1);
    put32(&w, 0);
    put32(&w, 0);
    put32(&w, s->name_hash);
    const uint64_t fields[] = {s->base_seq,   s->low_water, s->next_batch_no,   s->next_letter,
                               s->delivered,  s->replayed,  s->letters_dropped, s->identity_broken,
                               s->torn_bytes, s->gaps,      s->adopted};
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
        put64(&w, fields[i]);
    for (size_t i = 0; i < OP_DROP_SLOTS; i++)
        put64(&w, s->dropped[i]);
    for (size_t i = 0; i < SPOOL_DEAD_REASONS; i++)
        put64(&w, s->dead_total[i]);
    return op_end(&w);
}

enum err op_put_assign(struct bytes *to, uint64_t epoch, uint64_t batch_no, uint32_t flags,
                       const struct spool_assignment *a)
{
    ensure(a->run_count > 0);
    if (a->run_count > UINT16_MAX)
        return ERR_TOO_BIG;
    uint64_t count = 0;
    for (unsigned i = 0; i < a->run_count; i++)
        count += a->runs[i].count;
    ensure(count <= UINT32_MAX);
    struct writer w = op_begin(to, OP_ASSIGN);
    put32(&w, 0);
    put32(&w, flags);
    put64(&w, epoch);
    put64(&w, batch_no);
    put64(&w, a->runs[0].first);
    put32(&w, (uint32_t)count);
    put32(&w, a->raw_len);
    put32(&w, a->raw_crc32c);
    put32(&w, a->envelope_version);
    put64(&w, a->envelope_hash);
    uint8_t tail[8] = {a->codec, a->level};
    le16_put(tail + 2, (uint16_t)a->run_count);
    put(&w, tail, sizeof tail);
    put_varint(&w, a->partition.len);
    put(&w, a->partition.at, a->partition.len);
    put_run_tail(&w, a->runs[0].first, a->runs, a->run_count);
    return op_end(&w);
}

enum err op_put_done(struct bytes *to, enum op_code code, uint64_t epoch, uint64_t batch_no, bool all,
                     const struct spool_run *delivered, unsigned count)
{
    struct writer w = op_begin(to, code);
    put32(&w, 0);
    put32(&w, all ? OP_FLAG_ALL : 0);
    put64(&w, epoch);
    put64(&w, batch_no);
    put64(&w, 0);
    put_runs(&w, delivered, count);
    return op_end(&w);
}

enum err op_put_dead(struct bytes *to, const struct op_dead *d, const struct spool_run *runs, unsigned count)
{
    struct writer w = op_begin(to, OP_DEAD);
    put32(&w, 0);
    put32(&w, d->reason);
    put64(&w, d->epoch);
    put64(&w, d->batch_no);
    put64(&w, d->letter);
    put64(&w, d->dlq_segment);
    put_runs(&w, runs, count);
    return op_end(&w);
}

enum err op_put_drop(struct bytes *to, enum op_code code, uint32_t reason, uint32_t flags,
                     const struct spool_run *runs, unsigned count)
{
    struct writer w = op_begin(to, code);
    put32(&w, 0);
    put32(&w, reason);
    put32(&w, flags);
    put32(&w, 0);
    put_runs(&w, runs, count);
    return op_end(&w);
}

enum err op_put_gap(struct bytes *to, const struct op_gap *gap)
{
    struct writer w = op_begin(to, OP_GAP);
    put64(&w, gap->segment);
    put64(&w, gap->offset);
    put64(&w, gap->length);
    put64(&w, gap->first);
    put64(&w, gap->count);
    return op_end(&w);
}

enum err op_put_counts(struct bytes *to, const struct op_counts *counts)
{
    struct writer w = op_begin(to, OP_COUNTS);
    put64(&w, counts->shed);
    put64(&w, counts->torn_bytes);
    put64(&w, counts->identity_broken);
    return op_end(&w);
}

enum err op_put_user(struct bytes *to, struct span user)
{
    ensure(user.len <= SPOOL_USER_MAX);
    struct writer w = op_begin(to, OP_USER);
    put32(&w, (uint32_t)user.len);
    put32(&w, 0);
    put(&w, user.at, user.len);
    return op_end(&w);
}

enum err op_put_runs(struct bytes *to, enum op_code code, const struct spool_run *runs, unsigned count)
{
    struct writer w = op_begin(to, code);
    put64(&w, 0);
    put_runs(&w, runs, count);
    return op_end(&w);
}

enum err op_put_clean(struct bytes *to)
{
    struct writer w = op_begin(to, OP_CLEAN);
    return op_end(&w);
}

/* --- reading ---------------------------------------------------------------------------------------------
 */

bool op_run_next(struct op_runs *runs, struct spool_run *ret)
{
    uint64_t gap, count;
    if (runs->left == 0)
        return false;
    if (!varint_get(&runs->at, runs->end, &gap) || !varint_get(&runs->at, runs->end, &count))
        return false;
    if (gap > SEQ_MAX || count == 0 || count > SEQ_MAX || runs->base > SEQ_MAX)
        return false;
    ret->first = runs->base + gap;
    ret->count = count;
    if (ret->first > SEQ_MAX || ret->first + count > SEQ_MAX)
        return false;
    runs->base = ret->first + count;
    runs->left--;
    return true;
}

/* Walks a copy of the list; *ret_count gets the number of members (may be NULL). */
static bool runs_good(struct op_runs runs, uint64_t *ret_count)
{
    struct spool_run run;
    uint64_t count = 0;
    while (op_run_next(&runs, &run))
        count += run.count;
    if (ret_count != NULL)
        *ret_count = count;
    return runs.left == 0;
}

static bool get_runs(struct span body, size_t at, struct op_runs *ret)
{
    if (body.len < at + 16)
        return false;
    *ret = (struct op_runs){.at = body.at + at + 16,
                            .end = body.at + body.len,
                            .base = le64_get(body.at + at + 8),
                            .left = le32_get(body.at + at)};
    return runs_good(*ret, NULL);
}

static bool get_state(struct span body, struct op_state *s)
{
    if (body.len < STATE_BODY_BYTES || le32_get(body.at + 24) != 1)
        return false;
    const uint8_t *at = body.at;
    s->next_seq = le64_get(at);
    s->epoch = le64_get(at + 8);
    s->refused = le64_get(at + 16);
    s->name_hash = le32_get(at + 36);
    uint64_t *const fields[] = {&s->base_seq,   &s->low_water, &s->next_batch_no,   &s->next_letter,
                                &s->delivered,  &s->replayed,  &s->letters_dropped, &s->identity_broken,
                                &s->torn_bytes, &s->gaps,      &s->adopted};
    at += 40;
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++, at += 8)
        *fields[i] = le64_get(at);
    for (size_t i = 0; i < OP_DROP_SLOTS; i++, at += 8)
        s->dropped[i] = le64_get(at);
    for (size_t i = 0; i < SPOOL_DEAD_REASONS; i++, at += 8)
        s->dead_total[i] = le64_get(at);
    return s->next_seq <= SEQ_MAX && s->base_seq >= 1 && s->base_seq <= s->next_seq && s->epoch <= SEQ_MAX &&
           s->low_water + 1 >= s->base_seq && s->low_water < SEQ_MAX && s->next_batch_no <= SEQ_MAX &&
           s->next_letter >= 1 && s->next_letter <= SEQ_MAX;
}

static bool get_assign(struct span body, struct op_assign *a)
{
    if (body.len < ASSIGN_FIXED_BYTES)
        return false;
    const uint8_t *at = body.at;
    *a = (struct op_assign){.flags = le32_get(at + 4),
                            .epoch = le64_get(at + 8),
                            .batch_no = le64_get(at + 16),
                            .first_seq = le64_get(at + 24),
                            .count = le32_get(at + 32),
                            .raw_len = le32_get(at + 36),
                            .raw_crc32c = le32_get(at + 40),
                            .envelope_version = le32_get(at + 44),
                            .envelope_hash = le64_get(at + 48),
                            .codec = at[56],
                            .level = at[57]};
    uint16_t runs = le16_get(at + 58);
    const uint8_t *end = body.at + body.len;
    uint64_t len, count;
    at += ASSIGN_FIXED_BYTES;
    if (!varint_get(&at, end, &len) || len > (uint64_t)(end - at))
        return false;
    a->partition = span_of(at, (size_t)len);
    a->runs = (struct op_runs){.at = at + len, .end = end, .base = a->first_seq, .left = runs};
    return runs > 0 && a->first_seq >= 1 && a->batch_no >= 1 && a->batch_no < SEQ_MAX &&
           runs_good(a->runs, &count) && count == a->count;
}

static bool get_done(struct span body, struct op_done *d)
{
    if (body.len < 32)
        return false;
    *d = (struct op_done){.flags = le32_get(body.at + 4),
                          .epoch = le64_get(body.at + 8),
                          .batch_no = le64_get(body.at + 16),
                          .result = le32_get(body.at + 24)};
    return get_runs(body, 32, &d->delivered);
}

static bool get_dead(struct span body, struct op_dead *d)
{
    if (body.len < 40)
        return false;
    *d = (struct op_dead){.reason = le32_get(body.at + 4),
                          .epoch = le64_get(body.at + 8),
                          .batch_no = le64_get(body.at + 16),
                          .letter = le64_get(body.at + 24),
                          .dlq_segment = le64_get(body.at + 32)};
    uint64_t count;
    return d->reason < SPOOL_DEAD_REASONS && d->letter >= 1 && d->letter < SEQ_MAX &&
           get_runs(body, 40, &d->runs) && runs_good(d->runs, &count) && count <= SEQ_MAX - d->letter;
}

static bool get_drop(struct span body, struct op_drop *d)
{
    if (body.len < 16)
        return false;
    *d = (struct op_drop){.reason = le32_get(body.at + 4), .flags = le32_get(body.at + 8)};
    return d->reason < OP_DROP_SLOTS && get_runs(body, 16, &d->runs);
}

static bool get_gap(struct span body, struct op_gap *g)
{
    if (body.len < 40)
        return false;
    *g = (struct op_gap){.segment = le64_get(body.at),
                         .offset = le64_get(body.at + 8),
                         .length = le64_get(body.at + 16),
                         .first = le64_get(body.at + 24),
                         .count = le64_get(body.at + 32)};
    return g->first <= SEQ_MAX && g->count <= SEQ_MAX && g->first + g->count <= SEQ_MAX &&
           (g->count == 0 || g->first >= 1);
}

static bool get_counts(struct span body, struct op_counts *c)
{
    if (body.len < 24)
        return false;
    *c = (struct op_counts){.shed = le64_get(body.at),
                            .torn_bytes = le64_get(body.at + 8),
                            .identity_broken = le64_get(body.at + 16)};
    return true;
}

static bool get_user(struct span body, struct span *ret)
{
    if (body.len < 8)
        return false;
    uint32_t len = le32_get(body.at);
    *ret = span_of(body.at + 8, len);
    return len <= SPOOL_USER_MAX && len <= body.len - 8;
}

static bool get_body(struct span body, struct op *op)
{
    switch (op->code) {
    case OP_STATE:
        return get_state(body, &op->state);
    case OP_ASSIGN:
        return get_assign(body, &op->assign);
    case OP_DONE:
    case OP_SPLIT:
        return get_done(body, &op->done);
    case OP_DEAD:
        return get_dead(body, &op->dead);
    case OP_DROP:
    case OP_LETTERS:
        return get_drop(body, &op->drop);
    case OP_GAP:
        return get_gap(body, &op->gap);
    case OP_COUNTS:
        return get_counts(body, &op->counts);
    case OP_USER:
        return get_user(body, &op->user);
    case OP_SETTLED:
    case OP_MARKS:
    case OP_MARKED:
        return get_runs(body, 8, &op->runs);
    case OP_CLEAN:
    case OP_UPSTREAM:
        return true;
    default:
        return (op->code & OP_IGNORABLE) != 0;
    }
}

bool op_next(struct span *rest, struct op *ret)
{
    if (rest->len < OP_HEAD_BYTES)
        return false;
    size_t body_len = (size_t)le16_get(rest->at + 2) * 8;
    if (body_len > rest->len - OP_HEAD_BYTES)
        return false;
    ret->code = rest->at[0];
    if (!get_body(span_of(rest->at + OP_HEAD_BYTES, body_len), ret))
        return false;
    rest->at += OP_HEAD_BYTES + body_len;
    rest->len -= OP_HEAD_BYTES + body_len;
    return true;
}
