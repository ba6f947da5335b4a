/* msgpack: tokens, frames and times. See msgpack.h; msgpack_json.c renders. */
#include "lib/codec/msgpack.h"

#include "lib/base/ensure.h"

static uint64_t big_endian(const uint8_t *at, size_t len)
{
    uint64_t v = 0;
    for (size_t i = 0; i < len; i++)
        v = v << 8 | at[i];
    return v;
}

/* What a first byte says. `extra` bytes belong to the header behind it; of those, `number` hold a length, a
 * count or a value. */
struct head {
    enum msgpack_type type;
    uint8_t extra;
    bool fixed;     /* the number is in the first byte: `value` */
    bool is_signed; /* UINT or INT by sign */
    uint32_t value; /* fixed: the number, length or count */
};

static struct head fixed_head(uint8_t c)
{
    if (c < 0x80)
        return (struct head){.type = MSGPACK_UINT, .fixed = true, .value = c};
    if (c < 0x90)
        return (struct head){.type = MSGPACK_MAP, .fixed = true, .value = c & 0x0f};
    if (c < 0xa0)
        return (struct head){.type = MSGPACK_ARRAY, .fixed = true, .value = c & 0x0f};
    if (c < 0xc0)
        return (struct head){.type = MSGPACK_STR, .fixed = true, .value = c & 0x1f};
    return (struct head){.type = MSGPACK_INT, .fixed = true, .value = c};
}

/* c0 to df. An ext's header has its type byte last; fixext lengths are 1, 2, 4, 8, 16. */
static const struct head heads[32] = {
    [0x00] = {MSGPACK_NIL, 0, true, false, 0},    [0x02] = {MSGPACK_BOOL, 0, true, false, 0},
    [0x03] = {MSGPACK_BOOL, 0, true, false, 1},   [0x04] = {MSGPACK_BIN, 1, false, false, 0},
    [0x05] = {MSGPACK_BIN, 2, false, false, 0},   [0x06] = {MSGPACK_BIN, 4, false, false, 0},
    [0x07] = {MSGPACK_EXT, 2, false, false, 0},   [0x08] = {MSGPACK_EXT, 3, false, false, 0},
    [0x09] = {MSGPACK_EXT, 5, false, false, 0},   [0x0a] = {MSGPACK_FLOAT, 4, false, false, 0},
    [0x0b] = {MSGPACK_FLOAT, 8, false, false, 0}, [0x0c] = {MSGPACK_UINT, 1, false, false, 0},
    [0x0d] = {MSGPACK_UINT, 2, false, false, 0},  [0x0e] = {MSGPACK_UINT, 4, false, false, 0},
    [0x0f] = {MSGPACK_UINT, 8, false, false, 0},  [0x10] = {MSGPACK_INT, 1, false, true, 0},
    [0x11] = {MSGPACK_INT, 2, false, true, 0},    [0x12] = {MSGPACK_INT, 4, false, true, 0},
    [0x13] = {MSGPACK_INT, 8, false, true, 0},    [0x14] = {MSGPACK_EXT, 1, true, false, 1},
    [0x15] = {MSGPACK_EXT, 1, true, false, 2},    [0x16] = {MSGPACK_EXT, 1, true, false, 4},
    [0x17] = {MSGPACK_EXT, 1, true, false, 8},    [0x18] = {MSGPACK_EXT, 1, true, false, 16},
    [0x19] = {MSGPACK_STR, 1, false, false, 0},   [0x1a] = {MSGPACK_STR, 2, false, false, 0},
    [0x1b] = {MSGPACK_STR, 4, false, false, 0},   [0x1c] = {MSGPACK_ARRAY, 2, false, false, 0},
    [0x1d] = {MSGPACK_ARRAY, 4, false, false, 0}, [0x1e] = {MSGPACK_MAP, 2, false, false, 0},
    [0x1f] = {MSGPACK_MAP, 4, false, false, 0},
};

enum { NEVER_USED = 0xc1 };

static struct head head_of(uint8_t c)
{
    return c >= 0xc0 && c <= 0xdf ? heads[c - 0xc0] : fixed_head(c);
}

/* The length or count that a header of a str, bin, ext, array or map carries. */
static uint32_t head_number(struct head h, const uint8_t *extra)
{
    if (h.fixed)
        return h.value;
    return (uint32_t)big_endian(extra, h.type == MSGPACK_EXT ? h.extra - 1U : h.extra);
}

static void read_integer(struct head h, const uint8_t *extra, struct msgpack_token *t)
{
    if (h.fixed) {
        t->u = h.value;
        t->i = (int8_t)h.value;
        return;
    }
    t->u = big_endian(extra, h.extra);
    if (!h.is_signed)
        return;
    unsigned unused = 64 - 8U * h.extra;
    t->i = (int64_t)(t->u << unused) >> unused;
    if (t->i >= 0)
        t->type = MSGPACK_UINT;
}

static void read_float(struct head h, const uint8_t *extra, struct msgpack_token *t)
{
    uint64_t wide = big_endian(extra, h.extra);
    if (h.extra == 4) {
        uint32_t bits = (uint32_t)wide;
        float f;
        memcpy(&f, &bits, sizeof f);
        t->f = (double)f;
        t->single = true;
    } else {
        memcpy(&t->f, &wide, sizeof t->f);
    }
}

enum err msgpack_next(struct span *in, struct msgpack_token *ret)
{
    if (in->len == 0)
        return ERR_AGAIN;
    uint8_t c = in->at[0];
    if (c == NEVER_USED)
        return ERR_MALFORMED;
    struct head h = head_of(c);
    if (in->len - 1 < h.extra)
        return ERR_AGAIN;
    const uint8_t *extra = in->at + 1;
    size_t used = 1 + (size_t)h.extra;
    struct msgpack_token t = {.type = h.type};
    switch (h.type) {
    case MSGPACK_NIL:
        break;
    case MSGPACK_BOOL:
        t.truth = h.value != 0;
        break;
    case MSGPACK_UINT:
    case MSGPACK_INT:
        read_integer(h, extra, &t);
        break;
    case MSGPACK_FLOAT:
        read_float(h, extra, &t);
        break;
    case MSGPACK_ARRAY:
    case MSGPACK_MAP:
        t.count = head_number(h, extra);
        break;
    case MSGPACK_STR:
    case MSGPACK_BIN:
    case MSGPACK_EXT:
        t.bytes = span_of(in->at + used, head_number(h, extra));
        if (in->len - used < t.bytes.len)
            return ERR_AGAIN;
        used += t.bytes.len;
        if (h.type == MSGPACK_EXT)
            t.ext_type = (int8_t)extra[h.extra - 1];
        break;
    }
    *in = span_of(in->at + used, in->len - used);
    *ret = t;
    return OK;
}

void msgpack_frame_init(struct msgpack_frame *f)
{
    /* The stack needs no clearing: what is above depth is never read. */
    f->depth = 0;
    f->bytes = f->skip = 0;
    f->header_len = f->header_want = 0;
    f->done = false;
}

/* A value is complete: so may be the containers that it was the last of. */
static void count_value(struct msgpack_frame *f)
{
    while (f->depth > 0) {
        if (--f->left[f->depth - 1] > 0)
            return;
        f->depth--;
    }
    f->done = true;
}

/* The header of a token is whole. */
static enum err take_header(struct msgpack_frame *f, uint64_t bytes_max)
{
    struct head h = head_of(f->header[0]);
    f->header_len = 0;
    switch (h.type) {
    case MSGPACK_NIL:
    case MSGPACK_BOOL:
    case MSGPACK_UINT:
    case MSGPACK_INT:
    case MSGPACK_FLOAT:
        count_value(f);
        return OK;
    case MSGPACK_STR:
    case MSGPACK_BIN:
    case MSGPACK_EXT:
        f->skip = head_number(h, f->header + 1);
        if (f->skip == 0)
            count_value(f);
        return f->bytes + f->skip > bytes_max ? ERR_TOO_BIG : OK;
    case MSGPACK_ARRAY:
    case MSGPACK_MAP:
        break;
    }
    uint64_t values = (uint64_t)head_number(h, f->header + 1) * (h.type == MSGPACK_MAP ? 2 : 1);
    if (values == 0) {
        count_value(f);
        return OK;
    }
    /* Every value takes a byte at least. */
    if (f->bytes + values > bytes_max || values > UINT32_MAX || f->depth == MSGPACK_DEPTH_READABLE)
        return ERR_TOO_BIG;
    f->left[f->depth++] = (uint32_t)values;
    return OK;
}

static void advance(struct msgpack_frame *f, struct span *piece, size_t n)
{
    f->bytes += n;
    *piece = span_of(piece->at + n, piece->len - n);
}

/* How many bytes of a header there are to collect. A number's bytes count as header here: 9 at most, but they
 * need not be kept, and head_number() never looks at them. */
static unsigned header_want(uint8_t c)
{
    return 1U + head_of(c).extra;
}

enum err msgpack_frame_feed(struct msgpack_frame *f, struct span *piece, uint64_t bytes_max)
{
    ensure(!f->done);
    while (piece->len > 0) {
        if (f->skip > 0) {
            size_t n = f->skip < piece->len ? (size_t)f->skip : piece->len;
            advance(f, piece, n);
            f->skip -= n;
            if (f->skip == 0)
                count_value(f);
        } else {
            uint8_t c = piece->at[0];
            if (f->header_len == 0) {
                if (c == NEVER_USED)
                    return ERR_MALFORMED;
                f->header_want = header_want(c);
            }
            if (f->header_len < sizeof f->header)
                f->header[f->header_len] = c;
            f->header_len++;
            advance(f, piece, 1);
            if (f->bytes > bytes_max)
                return ERR_TOO_BIG;
            if (f->header_len < f->header_want)
                continue;
            enum err err = take_header(f, bytes_max);
            if (err != OK)
                return err;
        }
        if (f->done)
            return OK;
    }
    return ERR_AGAIN;
}

enum err msgpack_skip(struct span *in, struct span *ret)
{
    struct msgpack_frame f;
    struct span rest = *in;
    msgpack_frame_init(&f);
    enum err err = msgpack_frame_feed(&f, &rest, UINT64_MAX);
    if (err != OK)
        return err;
    if (ret != NULL)
        *ret = span_of(in->at, (size_t)(rest.at - in->at));
    *in = rest;
    return OK;
}

bool msgpack_read_event_time(const struct msgpack_token *ext, struct instant *ret)
{
    if (ext->type != MSGPACK_EXT || ext->ext_type != 0 || ext->bytes.len != 8)
        return false;
    uint64_t nsec = big_endian(ext->bytes.at + 4, 4);
    ret->sec = (int64_t)(big_endian(ext->bytes.at, 4) + nsec / 1000000000);
    ret->nsec = (uint32_t)(nsec % 1000000000);
    return true;
}

bool msgpack_read_timestamp(const struct msgpack_token *ext, struct instant *ret)
{
    struct instant t = {0};
    if (ext->type != MSGPACK_EXT || ext->ext_type != -1)
        return false;
    uint64_t v;
    switch (ext->bytes.len) {
    case 4:
        t.sec = (int64_t)big_endian(ext->bytes.at, 4);
        break;
    case 8: /* 30 bits of nanoseconds, then 34 of seconds */
        v = big_endian(ext->bytes.at, 8);
        t.nsec = (uint32_t)(v >> 34);
        t.sec = (int64_t)(v & ((UINT64_C(1) << 34) - 1));
        break;
    case 12:
        t.nsec = (uint32_t)big_endian(ext->bytes.at, 4);
        t.sec = (int64_t)big_endian(ext->bytes.at + 4, 8);
        break;
    default:
        return false;
    }
    if (t.nsec > 999999999 || t.sec < INSTANT_SEC_MIN || t.sec > INSTANT_SEC_MAX)
        return false;
    *ret = t;
    return true;
}

int msgpack_write(void *out, const char *at, size_t len)
{
    return bytes_append(out, span_of(at, len)) == OK ? 0 : -1;
}
