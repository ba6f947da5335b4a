/* compress: names and encoders. See compress.h; decompress.c is the way back. */
#include "lib/codec/compress.h"

#include "lib/base/ensure.h"

#include <libdeflate.h>
#include <stdlib.h>
#include <zstd.h>
#ifdef PENSTOCK_HAVE_ISAL
#include <isa-l/igzip_lib.h>
#endif

enum { GZIP_LEVEL = 1, ZSTD_LEVEL = 1, OUT_STEP_MIN = 4096 };

struct encoder {
    ZSTD_CCtx *zstd;
#ifdef PENSTOCK_HAVE_ISAL
    struct isal_zstream *isal;
    uint8_t *isal_level_buffer;
#else
    struct libdeflate_compressor *deflate;
    struct bytes joined; /* libdeflate wants its input in one piece */
#endif
};

static const char *const names[] = {
    [ENCODING_IDENTITY] = "identity",
    [ENCODING_GZIP] = "gzip",
    [ENCODING_DEFLATE] = "deflate",
    [ENCODING_ZSTD] = "zstd",
};

const char *encoding_name(enum encoding encoding)
{
    ensure((size_t)encoding < sizeof names / sizeof names[0]);
    return names[encoding];
}

bool encoding_parse(struct span name, enum encoding *ret)
{
    if (name.len == 0) {
        *ret = ENCODING_IDENTITY;
        return true;
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (span_equal_nocase(name, span_str(names[i]))) {
            *ret = (enum encoding)i;
            return true;
        }
    if (!span_equal_nocase(name, SPAN("x-gzip")))
        return false;
    *ret = ENCODING_GZIP;
    return true;
}

enum encoding encoding_sniff(struct span body)
{
    if (span_starts(body, SPAN("\x1f\x8b")))
        return ENCODING_GZIP;
    if (span_starts(body, SPAN("\x28\xb5\x2f\xfd")))
        return ENCODING_ZSTD;
    return ENCODING_IDENTITY;
}

struct encoder *encoder_new(void)
{
    struct encoder *e = must_alloc(sizeof *e);
#ifndef PENSTOCK_HAVE_ISAL
    bytes_init(&e->joined, SIZE_MAX / 2);
#endif
    return e;
}

void encoder_free(struct encoder *e)
{
    if (e == NULL)
        return;
    ZSTD_freeCCtx(e->zstd);
#ifdef PENSTOCK_HAVE_ISAL
    free(e->isal);
    free(e->isal_level_buffer);
#else
    if (e->deflate != NULL)
        libdeflate_free_compressor(e->deflate);
    bytes_deinit(&e->joined);
#endif
    free(e);
}

static size_t total_len(const struct span *parts, size_t count)
{
    size_t total = 0;
    for (size_t i = 0; i < count; i++)
        ensure(!__builtin_add_overflow(total, parts[i].len, &total));
    return total;
}

/* Makes some room behind out->len: all that is left of the maximum when `want` is more than that. */
static enum err make_room(struct bytes *out, size_t want)
{
    size_t left = out->max - out->len;
    if (left == 0)
        return ERR_TOO_BIG;
    return bytes_reserve(out, want < left ? want : left);
}

static enum err store(const struct span *parts, size_t count, struct bytes *out)
{
    enum err err = bytes_reserve(out, total_len(parts, count));
    for (size_t i = 0; err == OK && i < count; i++)
        err = bytes_append(out, parts[i]);
    return err;
}

#ifdef PENSTOCK_HAVE_ISAL
static void isal_begin(struct encoder *e)
{
    if (e->isal == NULL) {
        e->isal = must_alloc(sizeof *e->isal);
        e->isal_level_buffer = must_alloc(ISAL_DEF_LVL1_DEFAULT);
    }
    isal_deflate_init(e->isal);
    e->isal->level = GZIP_LEVEL;
    e->isal->level_buf = e->isal_level_buffer;
    e->isal->level_buf_size = ISAL_DEF_LVL1_DEFAULT;
    e->isal->gzip_flag = IGZIP_GZIP;
    e->isal->flush = NO_FLUSH;
}

/* Feeds one piece of at most 4 GiB; with `last`, also ends the stream. */
static enum err isal_feed(struct isal_zstream *z, struct span piece, bool last, struct bytes *out)
{
    z->next_in = (uint8_t *)(uintptr_t)piece.at; /* only read */
    z->avail_in = (uint32_t)piece.len;
    z->end_of_stream = last;
    for (;;) {
        enum err err = make_room(out, OUT_STEP_MIN + z->avail_in / 4);
        if (err != OK)
            return err;
        size_t room = out->cap - out->len;
        z->next_out = out->at + out->len;
        z->avail_out = room > UINT32_MAX ? UINT32_MAX : (uint32_t)room;
        uint32_t before = z->avail_out;
        ensure(isal_deflate(z) == COMP_OK);
        out->len += before - z->avail_out;
        if (last ? z->internal_state.state == ZSTATE_END : z->avail_in == 0)
            return OK;
    }
}

static enum err gzip(struct encoder *e, const struct span *parts, size_t count, struct bytes *out)
{
    const size_t piece_max = UINT32_MAX;
    isal_begin(e);
    for (size_t i = 0; i < count; i++)
        for (size_t at = 0; at < parts[i].len;) {
            size_t n = parts[i].len - at < piece_max ? parts[i].len - at : piece_max;
            enum err err = isal_feed(e->isal, span_of(parts[i].at + at, n), false, out);
            if (err != OK)
                return err;
            at += n;
        }
    return isal_feed(e->isal, (struct span){0}, true, out);
}
#else
static enum err gzip(struct encoder *e, const struct span *parts, size_t count, struct bytes *out)
{
    struct span whole = {0};
    if (count == 1) {
        whole = parts[0];
    } else if (count > 1) {
        bytes_clear(&e->joined);
        ensure(store(parts, count, &e->joined) == OK);
        whole = bytes_span(&e->joined);
    }
    if (e->deflate == NULL) {
        e->deflate = libdeflate_alloc_compressor(GZIP_LEVEL);
        ensure(e->deflate != NULL && "out of memory");
    }
    /* The bound is a little more than the input: take it if it fits, else what is left; failing then tells.
     */
    enum err err = make_room(out, libdeflate_gzip_compress_bound(e->deflate, whole.len));
    if (err != OK)
        return err;
    size_t n = libdeflate_gzip_compress(e->deflate, whole.len == 0 ? (const void *)"" : whole.at, whole.len,
                                        out->at + out->len, out->cap - out->len);
    if (n == 0)
        return ERR_TOO_BIG;
    out->len += n;
    return OK;
}
#endif

static enum err zstd_feed(ZSTD_CCtx *z, struct span piece, bool last, struct bytes *out)
{
    ZSTD_inBuffer in = {.src = piece.at, .size = piece.len};
    for (;;) {
        enum err err = make_room(out, OUT_STEP_MIN + piece.len / 4);
        if (err != OK)
            return err;
        ZSTD_outBuffer to = {.dst = out->at + out->len, .size = out->cap - out->len};
        size_t left = ZSTD_compressStream2(z, &to, &in, last ? ZSTD_e_end : ZSTD_e_continue);
        ensure(!ZSTD_isError(left));
        out->len += to.pos;
        if (last ? left == 0 : in.pos == in.size)
            return OK;
    }
}

static enum err zstd(struct encoder *e, const struct span *parts, size_t count, struct bytes *out)
{
    if (e->zstd == NULL) {
        e->zstd = ZSTD_createCCtx();
        ensure(e->zstd != NULL && "out of memory");
    }
    ensure(!ZSTD_isError(ZSTD_CCtx_reset(e->zstd, ZSTD_reset_session_and_parameters)));
    ensure(!ZSTD_isError(ZSTD_CCtx_setParameter(e->zstd, ZSTD_c_compressionLevel, ZSTD_LEVEL)));
    /* Knowing the size, the encoder keeps its tables and the frame's window small. */
    ensure(!ZSTD_isError(ZSTD_CCtx_setPledgedSrcSize(e->zstd, total_len(parts, count))));
    for (size_t i = 0; i < count; i++) {
        enum err err = parts[i].len == 0 ? OK : zstd_feed(e->zstd, parts[i], false, out);
        if (err != OK)
            return err;
    }
    return zstd_feed(e->zstd, (struct span){0}, true, out);
}

enum err encoder_encode(struct encoder *e, enum encoding encoding, const struct span *parts, size_t count,
                        struct bytes *out, struct fault *why)
{
    size_t before = out->len;
    enum err err = ERR_UNSUPPORTED;
    switch (encoding) {
    case ENCODING_IDENTITY:
        err = store(parts, count, out);
        break;
    case ENCODING_GZIP:
        err = gzip(e, parts, count, out);
        break;
    case ENCODING_ZSTD:
        err = zstd(e, parts, count, out);
        break;
    case ENCODING_DEFLATE:
        break;
    }
    if (err == OK)
        return OK;
    out->len = before;
    if (err == ERR_UNSUPPORTED)
        return fault_set(why, err, "%s is not written", encoding_name(encoding));
    return fault_set(why, err, "%s: larger than %zu bytes", encoding_name(encoding), out->max);
}
