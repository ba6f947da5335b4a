/* msgpack: reading MessagePack without trees, and rendering it as JSON.
 *
 * A length in a header is a claim by whoever sent it. Nothing here allocates by one: a token is handed out
 * when all of its bytes are at hand, a value's end is found by walking its tokens, and what has to be
 * remembered is a stack of counters of fixed depth. Three layers:
 *
 *   msgpack_next()    one token: a header with its number, or with the bytes of a str, bin or ext.
 *   struct msgpack_frame   how far does this value go? Fed with pieces of a stream, it looks at every header
 *                     byte once and at payload bytes never, so finding the end of a message that comes in
 * thousands of pieces stays linear. msgpack_render()  a whole value as JSON text, by the table beside it.
 *
 * Format: https://github.com/msgpack/msgpack/blob/master/spec.md. Writing is left to msgpack-c, see
 * msgpack_write() at the end. */
#ifndef PENSTOCK_CODEC_MSGPACK_H
#define PENSTOCK_CODEC_MSGPACK_H

#include "lib/codec/rfc3339.h"

/* Containers inside one another: how many a record may have, and how many can be walked over. */
enum { MSGPACK_DEPTH_MAX = 64, MSGPACK_DEPTH_READABLE = 512 };

enum msgpack_type {
    MSGPACK_NIL,
    MSGPACK_BOOL,
    MSGPACK_UINT,  /* >= 0, whatever form it was written in */
    MSGPACK_INT,   /* < 0 */
    MSGPACK_FLOAT, /* 32 or 64 bits */
    MSGPACK_STR,
    MSGPACK_BIN,
    MSGPACK_EXT,
    MSGPACK_ARRAY,
    MSGPACK_MAP,
};

/* Only what the type has is set. */
struct msgpack_token {
    enum msgpack_type type;
    bool truth;        /* BOOL */
    bool single;       /* FLOAT: was written in 32 bits */
    int8_t ext_type;   /* EXT */
    uint32_t count;    /* ARRAY: elements; MAP: pairs */
    uint64_t u;        /* UINT */
    int64_t i;         /* INT */
    double f;          /* FLOAT */
    struct span bytes; /* STR, BIN, EXT: borrowed from the input */
};

/* Takes one token off the front of *in. Containers give their count alone; their elements are the tokens that
 * follow. ERR_AGAIN: the input ends inside the token (*in stays). ERR_MALFORMED: the byte c1. */
MUST_USE enum err msgpack_next(struct span *in, struct msgpack_token *ret);

/* Takes one whole value, however deep, off the front of *in; *ret (may be NULL) are its bytes. ERR_AGAIN: it is not
 * whole. ERR_MALFORMED: the byte c1 is in it. On errors *in stays. */
MUST_USE enum err msgpack_skip(struct span *in, struct span *ret);

struct msgpack_frame {
    uint32_t left[MSGPACK_DEPTH_READABLE]; /* values still to come, per open container */
    unsigned depth;
    uint64_t bytes; /* of this value, taken so far */
    uint64_t skip;  /* payload bytes still to come */
    uint8_t header[6];
    unsigned header_len; /* 0: at the start of a token */
    bool done;
};

void msgpack_frame_init(struct msgpack_frame *f);
/* Moves *piece on to the end of the value. OK: it ends there, and f->bytes is its length. ERR_AGAIN: the
 * piece is used up. ERR_TOO_BIG: too deep, or a header claims more than `bytes_max` for the whole value,
 * which is told without waiting for the bytes. ERR_MALFORMED: the byte c1. After anything but ERR_AGAIN,
 * initialise again. */
MUST_USE enum err msgpack_frame_feed(struct msgpack_frame *f, struct span *piece, uint64_t bytes_max);

/* --- points in time ---------------------------------------------------------------------------------- */

/* Fluentd's EventTime: type 0, seconds and nanoseconds as 32-bit big-endian numbers; nanoseconds from 10^9 up
 * are carried into the seconds. */
MUST_USE bool msgpack_read_event_time(const struct msgpack_token *ext, struct instant *ret);
/* MessagePack's own timestamp: type -1, 4, 8 or 12 bytes. False also outside the years 0 to 9999. */
MUST_USE bool msgpack_read_timestamp(const struct msgpack_token *ext, struct instant *ret);

/* --- as JSON ----------------------------------------------------------------------------------------- */

/* Which ext becomes a time: EventTime in records of the forward protocol, timestamp in Honeycomb's events. */
enum msgpack_times { MSGPACK_TIMES_FLUENT, MSGPACK_TIMES_STANDARD };

/* A renderer keeps its working memory from call to call. Its owner may read `replaced`, and may ask whether there
 * was a map key `wanted` (in plain ASCII) by clearing `found`. */
struct msgpack_renderer {
    enum msgpack_times times;
    struct span wanted;
    bool found;
    uint64_t replaced;  /* bytes of text that were not UTF-8 and became U+FFFD, over all calls */
    struct bytes pairs; /* struct pair (msgpack_json.c): the members of the maps that are open */
};

void msgpack_renderer_init(struct msgpack_renderer *r, enum msgpack_times times);
void msgpack_renderer_deinit(struct msgpack_renderer *r);

/* Appends the value at the front of *in as compact JSON and moves *in behind it.
 *
 *     str                 string; each byte that is not UTF-8 becomes U+FFFD and is counted
 *     bin                 string if it is UTF-8, else {"$base64":"…"}
 *     integers            all digits;  floats  shortest digits that read back the same;  NaN, ±Inf  null
 *     map keys            str and bin as str above; nil, bool, numbers as the text of their JSON; others
 * refused a key twice         the last one wins ext                 the one of `times` as an RFC 3339 string;
 * others refused
 *
 * ERR_UNSUPPORTED: refused by the table. ERR_TOO_BIG: deeper than MSGPACK_DEPTH_MAX, more than 65,536 members
 * in the maps that are open at once, or beyond out's maximum. ERR_AGAIN, ERR_MALFORMED: the value is not
 * whole, or broken. On errors `out` and *in are as they were. `why` may be NULL. */
MUST_USE enum err msgpack_render(struct msgpack_renderer *r, struct span *in, struct bytes *out,
                                 struct fault *why);

/* --- writing ----------------------------------------------------------------------------------------- */

/* For msgpack_packer_init(&packer, out, msgpack_write): appends to the struct bytes. A packer's functions
 * return non-zero when it is full. */
int msgpack_write(void *out, const char *at, size_t len);

#endif
