/* msgpack: tokens, frames and times. See msgpack.h; msgpack_json.c renders. */
#include "lib/codec/msgpack.h"

#include "lib/base/ensure.h"

#include <endian.h>

/* Of 1, 2, 4 or 8 bytes: there are no others. */
static inline uint64_t big_endian(const uint8_t *at, size_t len)
{
    uint16_t v2;
    uint32_t v4;
    uint64_t v8;
    switch (len) {
    case 1:
        return at[0];
    case 2:
        memcpy(&v2, at, sizeof v2);
        return be16toh(v2);
    case 4:
        memcpy(&v4, at, sizeof v4);
        return be32toh(v4);
    default:
        memcpy(&v8, at, sizeof v8);
        return be64toh(v8);
    }
}

/* What a first byte says. `extra` bytes of header follow it: a value, length or count, and for an ext the
 * type as the last one. A fixed one has its number in itself: value | (byte & mask). */
struct head {
    uint8_t type; /* enum msgpack_type */
    uint8_t extra;
    bool fixed;
    bool is_signed;
    uint8_t value, mask;
};

enum { NEVER_USED = 0xc1 };

_Static_assert(MSGPACK_FLOAT < MSGPACK_STR && MSGPACK_STR < MSGPACK_BIN && MSGPACK_BIN < MSGPACK_EXT &&
                   MSGPACK_EXT < MSGPACK_ARRAY && MSGPACK_ARRAY < MSGPACK_MAP,
               "from str on a header has a length or a count");

#define FIXED(t, v, m) \
    { \
        .type = MSGPACK_##t, .fixed = true, .value = (v), .mask = (m) \
    }
#define SIZED(t, n) \
    { \
        .type = MSGPACK_##t, .extra = (n) \
    }
#define SIGNED(n) \
    { \
        .type = MSGPACK_INT, .extra = (n), .is_signed = true \
    }
#define FIXEXT(len) \
    { \
        .type = MSGPACK_EXT, .extra = 1, .fixed = true, .value = (len) \
    }

static const struct head heads[256] = {
    [0x00 ... 0x7f] = FIXED(UINT, 0, 0x7f),
    [0x80 ... 0x8f] = FIXED(MAP, 0, 0x0f),
    [0x90 ... 0x9f] = FIXED(ARRAY, 0, 0x0f),
    [0xa0 ... 0xbf] = FIXED(STR, 0, 0x1f),
    [0xc0] = FIXED(NIL, 0, 0),
    [0xc2 ... 0xc3] = FIXED(BOOL, 0, 1),
    [0xc4] = SIZED(BIN, 1),
    [0xc5] = SIZED(BIN, 2),
    [0xc6] = SIZED(BIN, 4),
    [0xc7] = SIZED(EXT, 2),
    [0xc8] = SIZED(EXT, 3),
    [0xc9] = SIZED(EXT, 5),
    [0xca] = SIZED(FLOAT, 4),
    [0xcb] = SIZED(FLOAT, 8),
    [0xcc] = SIZED(UINT, 1),
    [0xcd] = SIZED(UINT, 2),
    [0xce] = SIZED(UINT, 4),
    [0xcf] = SIZED(UINT, 8),
    [0xd0] = SIGNED(1),
    [0xd1] = SIGNED(2),
    [0xd2] = SIGNED(4),
    [0xd3] = SIGNED(8),
    [0xd4] = FIXEXT(1),
    [0xd5] = FIXEXT(2),
    [0xd6] = FIXEXT(4),
    [0xd7] = FIXEXT(8),
    [0xd8] = FIXEXT(16),
    [0xd9] = SIZED(STR, 1),
    [0xda] = SIZED(STR, 2),
    [0xdb] = SIZED(STR, 4),
    [0xdc] = SIZED(ARRAY, 2),
    [0xdd] = SIZED(ARRAY, 4),
    [0xde] = SIZED(MAP, 2),
    [0xdf] = SIZED(MAP, 4),
    [0xe0 ... 0xff] = FIXED(INT, 0, 0xff),
};

/* The length or count in the header of a str, bin, ext, array or map. */
static inline __attribute__((always_inline)) uint32_t head_number(const struct head *h, const uint8_t *header)
{
    if (h->fixed)
        return h->value | (header[0] & h->mask);
    return (uint32_t)big_endian(header + 1, h->type == MSGPACK_EXT ? h->extra - 1U : h->extra);
}

static void read_integer(const struct head *h, const uint8_t *header, struct msgpack_token *t)
{
    t->i = 0;
    if (h->fixed) {
        t->u = header[0];
        t->i = (int8_t)header[0];
        return;
    }
    t->u = big_endian(header + 1, h->extra);
    if (!h->is_signed)
        return;
    unsigned unused = 64 - 8U * h->extra;
    t->i = (int64_t)(t->u << unused) >> unused;
    if (t->i >= 0)
        t->type = MSGPACK_UINT;
}

static void read_float(const struct head *h, const uint8_t *header, struct msgpack_token *t)
{
    uint64_t wide = big_endian(header + 1, h->extra);
    if (h->extra == 4) {
        uint32_t bits = (uint32_t)wide;
        float f;
        memcpy(&f, &bits, sizeof f);
        t->f = (double)f;
        t->single = true;
    } else {
        t->single = false;
        memcpy(&t->f, &wide, sizeof t->f);
    }
}

enum err msgpack_next(struct span *in, struct msgpack_token *ret)
{
    if (in->len == 0)
        return ERR_AGAIN;
    const uint8_t *header = in->at;
    const struct head *h = &heads[header[0]];
    if (header[0] == NEVER_USED)
        return ERR_MALFORMED;
    if (in->len - 1 < h->extra)
        return ERR_AGAIN;
    size_t used = 1 + (size_t)h->extra;
    /* Only what the type has is written: this runs for every value of every record. */
    ret->type = (enum msgpack_type)h->type;
    switch (ret->type) {
    case MSGPACK_NIL:
        break;
    case MSGPACK_BOOL:
        ret->truth = head_number(h, header) != 0;
        break;
    case MSGPACK_UINT:
    case MSGPACK_INT:
        read_integer(h, header, ret);
        break;
    case MSGPACK_FLOAT:
        read_float(h, header, ret);
        break;
    case MSGPACK_ARRAY:
    case MSGPACK_MAP:
        ret->count = head_number(h, header);
        break;
    case MSGPACK_STR:
    case MSGPACK_BIN:
    case MSGPACK_EXT:
        ret->bytes = span_of(header + used, head_number(h, header));
        if (in->len - used < ret->bytes.len)
            return ERR_AGAIN;
        used += ret->bytes.len;
        if (ret->type == MSGPACK_EXT)
            ret->ext_type = (int8_t)header[h->extra];
        break;
    }
    *in = span_of(header + used, in->len - used);
    return OK;
}

void msgpack_frame_init(struct msgpack_frame *f)
{
    /* The stack needs no clearing: what is above depth is never read. */
    f->depth = 0;
    f->bytes = f->skip = 0;
    f->header_len = 0;
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
static enum err take_header(struct msgpack_frame *f, const uint8_t *header, uint64_t bytes_max)
{
    const struct head *h = &heads[header[0]];
    switch ((enum msgpack_type)h->type) {
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
        f->skip = head_number(h, header);
        if (f->skip == 0)
            count_value(f);
        return f->bytes + f->skip > bytes_max ? ERR_TOO_BIG : OK;
    case MSGPACK_ARRAY:
    case MSGPACK_MAP:
        break;
    }
    uint64_t values = (uint64_t)head_number(h, header) * (h->type == MSGPACK_MAP ? 2 : 1);
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

static void take_payload(struct msgpack_frame *f, struct span *piece)
{
    size_t n = f->skip < piece->len ? (size_t)f->skip : piece->len;
    advance(f, piece, n);
    f->skip -= n;
    if (f->skip == 0)
        count_value(f);
}

/* A header may come in pieces; it is collected then. A number of 8 bytes makes it longer than what is kept,
 * but of such a header only the first byte is looked at again. */
static enum err collect_header(struct msgpack_frame *f, struct span *piece, uint64_t bytes_max)
{
    if (f->header_len < sizeof f->header)
        f->header[f->header_len] = piece->at[0];
    f->header_len++;
    advance(f, piece, 1);
    if (f->bytes > bytes_max)
        return ERR_TOO_BIG;
    if (f->header_len <= heads[f->header[0]].extra)
        return OK;
    f->header_len = 0;
    return take_header(f, f->header, bytes_max);
}

enum err msgpack_frame_feed(struct msgpack_frame *f, struct span *piece, uint64_t bytes_max)
{
    ensure(!f->done);
    while (piece->len > 0) {
        enum err err = OK;
        const uint8_t *at = piece->at;
        if (f->skip > 0) {
            take_payload(f, piece);
        } else if (f->header_len == 0 && at[0] == NEVER_USED) {
            return ERR_MALFORMED;
        } else if (f->header_len == 0 && piece->len > heads[at[0]].extra) {
            advance(f, piece, 1U + heads[at[0]].extra);
            err = f->bytes > bytes_max ? ERR_TOO_BIG : take_header(f, at, bytes_max);
        } else {
            err = collect_header(f, piece, bytes_max);
        }
        if (err != OK)
            return err;
        if (f->done)
            return OK;
    }
    return ERR_AGAIN;
}

/* One counter does for all depths: of values that are still to come. Each takes a byte at least, so it never needs
 * to be larger than what is there. */
enum err msgpack_skip(struct span *in, struct span *ret)
{
    const uint8_t *at = in->at;
    size_t left = in->len;
    uint64_t values = 1;
    while (values > 0) {
        if (values > left)
            return ERR_AGAIN;
        const struct head *h = &heads[at[0]];
        uint64_t used = 1U + h->extra;
        if (at[0] == NEVER_USED)
            return ERR_MALFORMED;
        if (used > left)
            return ERR_AGAIN;
        values--;
        if (h->type >= MSGPACK_STR) {
            uint64_t number = head_number(h, at);
            if (h->type == MSGPACK_ARRAY)
                values += number;
            else if (h->type == MSGPACK_MAP)
                values += 2 * number;
            else
                used += number;
            if (used > left)
                return ERR_AGAIN;
        }
        at += used;
        left -= (size_t)used;
    }
    if (ret != NULL)
        *ret = span_of(in->at, in->len - left);
    *in = span_of(at, left);
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
