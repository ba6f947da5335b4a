/* decompress: the decoders of compress.h.
 *
 * gzip and deflate go through libdeflate, which works on whole buffers and fails cleanly when the output does
 * not fit: so a member is tried with a likely size first, and with twice as much until it fits or the bound
 * is reached. The work repeated is less than the work itself. zstd streams. */
#include "lib/codec/compress.h"

#include "lib/base/ensure.h"

#include <libdeflate.h>
#include <stdlib.h>
#include <zstd.h>
#include <zstd_errors.h>

enum {
    ZSTD_WINDOW_LOG_MAX = 23,
    GZIP_MEMBER_MIN = 18,
    GUESS_RATIO = 4,
    GUESS_RATIO_MAX = 64,
    GUESS_MIN = 4096
};

struct decoder {
    struct libdeflate_decompressor *deflate;
    ZSTD_DCtx *zstd;
};

struct decoder *decoder_new(void)
{
    return must_alloc(sizeof(struct decoder));
}

void decoder_free(struct decoder *d)
{
    if (d == NULL)
        return;
    if (d->deflate != NULL)
        libdeflate_free_decompressor(d->deflate);
    ZSTD_freeDCtx(d->zstd);
    free(d);
}

/* How many bytes `out` may grow by. */
static size_t allowed(struct span body, const struct decode_limits *limits, const struct bytes *out)
{
    size_t most = limits->bytes_max, by_ratio;
    if (limits->ratio_max > 0 && !__builtin_mul_overflow(body.len, (size_t)limits->ratio_max, &by_ratio)) {
        if (by_ratio < limits->ratio_free_bytes)
            by_ratio = limits->ratio_free_bytes;
        if (by_ratio < most)
            most = by_ratio;
    }
    size_t room = out->max - out->len;
    return most < room ? most : room;
}

typedef enum libdeflate_result inflate_fn(struct libdeflate_decompressor *d, const void *in, size_t in_len,
                                          void *out, size_t room, size_t *ret_taken, size_t *ret_made);

/* A gzip member ends with its size modulo 2^32: a hint, believed only as far as it is likely. With several
 * members it speaks of the last one only, and the growing of inflate_one() does the rest. */
static size_t likely_size(struct span in, bool gzip)
{
    size_t guess = in.len < SIZE_MAX / GUESS_RATIO_MAX ? in.len * GUESS_RATIO : in.len;
    if (gzip && in.len >= GZIP_MEMBER_MIN) {
        const uint8_t *end = in.at + in.len;
        size_t hint = (size_t)end[-4] | (size_t)end[-3] << 8 | (size_t)end[-2] << 16 | (size_t)end[-1] << 24;
        if (hint / GUESS_RATIO_MAX <= in.len)
            guess = hint;
    }
    return guess < GUESS_MIN ? GUESS_MIN : guess;
}

/* Decodes what begins `in`, into at most *left bytes, and moves both on. */
static enum err inflate_one(struct decoder *d, inflate_fn *inflate, struct span *in, bool gzip, size_t *left,
                            struct bytes *out)
{
    size_t room = likely_size(*in, gzip), taken, made;
    for (;; room *= 2) {
        if (room > *left)
            room = *left;
        enum err err = bytes_reserve(out, room);
        if (err != OK)
            return err;
        uint8_t none;
        switch (inflate(d->deflate, in->at, in->len, room == 0 ? &none : out->at + out->len, room, &taken,
                        &made)) {
        case LIBDEFLATE_SUCCESS:
            ensure(made <= room && taken <= in->len && taken > 0);
            out->len += made;
            *left -= made;
            *in = span_of(in->at + taken, in->len - taken);
            return OK;
        case LIBDEFLATE_INSUFFICIENT_SPACE:
            if (room == *left)
                return ERR_TOO_BIG;
            break;
        case LIBDEFLATE_BAD_DATA:
        case LIBDEFLATE_SHORT_OUTPUT:
        default:
            return ERR_MALFORMED;
        }
    }
}

static void want_inflater(struct decoder *d)
{
    if (d->deflate == NULL)
        d->deflate = libdeflate_alloc_decompressor();
    ensure(d->deflate != NULL && "out of memory");
}

static enum err gunzip(struct decoder *d, struct span in, size_t left, struct bytes *out)
{
    want_inflater(d);
    do {
        enum err err = inflate_one(d, libdeflate_gzip_decompress_ex, &in, true, &left, out);
        if (err != OK)
            return err;
    } while (in.len > 0);
    return OK;
}

/* RFC 1950: the method is 8 and both header bytes are a multiple of 31. A raw stream that looked so would
 * begin with a stored block whose padding is not zero. */
static bool looks_like_zlib(struct span in)
{
    return in.len >= 2 && (in.at[0] & 0x0f) == 8 && (in.at[0] << 8 | in.at[1]) % 31 == 0;
}

static enum err inflate_any(struct decoder *d, struct span in, size_t left, struct bytes *out)
{
    want_inflater(d);
    inflate_fn *inflate =
        looks_like_zlib(in) ? libdeflate_zlib_decompress_ex : libdeflate_deflate_decompress_ex;
    enum err err = inflate_one(d, inflate, &in, false, &left, out);
    return err == OK && in.len > 0 ? ERR_MALFORMED : err;
}

static enum err zstd_error(size_t code)
{
    switch (ZSTD_getErrorCode(code)) {
    case ZSTD_error_frameParameter_windowTooLarge:
    case ZSTD_error_dictionary_wrong:
    case ZSTD_error_version_unsupported:
        return ERR_UNSUPPORTED;
    default:
        return ERR_MALFORMED;
    }
}

static enum err unzstd(struct decoder *d, struct span body, size_t left, struct bytes *out)
{
    if (d->zstd == NULL) {
        d->zstd = ZSTD_createDCtx();
        ensure(d->zstd != NULL && "out of memory");
        ensure(!ZSTD_isError(ZSTD_DCtx_setParameter(d->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG_MAX)));
    }
    ensure(!ZSTD_isError(ZSTD_DCtx_reset(d->zstd, ZSTD_reset_session_only)));
    ZSTD_inBuffer in = {.src = body.at, .size = body.len};
    size_t step = likely_size(body, false);
    for (;;) {
        /* One byte more than is left is asked for, so that "it all fitted" and "there is more" differ. */
        uint8_t beyond;
        size_t room = step < left ? step : left;
        enum err err = bytes_reserve(out, room);
        if (err != OK)
            return err;
        ZSTD_outBuffer to = {.dst = room == 0 ? &beyond : out->at + out->len, .size = room == 0 ? 1 : room};
        size_t wants = ZSTD_decompressStream(d->zstd, &to, &in);
        if (ZSTD_isError(wants))
            return zstd_error(wants);
        if (to.pos > room)
            return ERR_TOO_BIG;
        out->len += to.pos;
        left -= to.pos;
        if (in.pos == in.size && wants == 0)
            return OK;
        if (in.pos == in.size && to.pos < to.size)
            return ERR_MALFORMED; /* the body ends inside a frame */
    }
}

enum err decoder_decode(struct decoder *d, enum encoding encoding, struct span body,
                        const struct decode_limits *limits, struct bytes *out, struct fault *why)
{
    size_t before = out->len, left = allowed(body, limits, out);
    enum err err = ERR_MALFORMED;
    switch (encoding) {
    case ENCODING_IDENTITY:
        err = body.len > left ? ERR_TOO_BIG : bytes_append(out, body);
        break;
    case ENCODING_GZIP:
        err = body.len == 0 ? ERR_MALFORMED : gunzip(d, body, left, out);
        break;
    case ENCODING_DEFLATE:
        err = body.len == 0 ? ERR_MALFORMED : inflate_any(d, body, left, out);
        break;
    case ENCODING_ZSTD:
        err = body.len == 0 ? ERR_MALFORMED : unzstd(d, body, left, out);
        break;
    }
    if (err == OK)
        return OK;
    out->len = before;
    if (err == ERR_TOO_BIG)
        return fault_set(why, err, "%s body becomes larger than %zu bytes", encoding_name(encoding), left);
    if (err == ERR_UNSUPPORTED)
        return fault_set(why, err, "zstd body needs a dictionary or a window over 8 MiB");
    return fault_set(why, err, "damaged %s body", encoding_name(encoding));
}
