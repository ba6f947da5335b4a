/* compress: there and back, in every coding and shape, and never beyond a bound. */
#include "lib/codec/compress.h"

#include "lib/base/rng.h"

#include <criterion/criterion.h>
#include <libdeflate.h>
#include <stdlib.h>
#include <zstd.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const enum encoding written[] = {ENCODING_IDENTITY, ENCODING_GZIP, ENCODING_ZSTD};
static const struct decode_limits generous = {.bytes_max = 64 << 20};

/* Events look like this to a compressor: repetitive, but not trivially so. */
static void fill(struct bytes *b, size_t len, bool repetitive)
{
    struct rng rng;
    rng_seed(&rng, len);
    while (b->len < len) {
        uint64_t v = rng_next(&rng);
        if (repetitive)
            cr_assert_eq(bytes_printf(b, "{\"id\":%llu,\"name\":\"checkout\",\"ok\":true},",
                                      (unsigned long long)(v % 1000)),
                         OK);
        else
            cr_assert_eq(bytes_append(b, span_of(&v, sizeof v)), OK);
    }
    b->len = len;
}

static void round_trip(enum encoding encoding, struct encoder *e, struct decoder *d, struct span whole,
                       size_t parts)
{
    struct span list[16];
    struct bytes packed, back;
    struct fault why = {0};
    for (size_t i = 0; i < parts; i++) {
        size_t from = whole.len * i / parts, to = whole.len * (i + 1) / parts;
        list[i] = from < to ? span_of(whole.at + from, to - from) : (struct span){0};
    }
    bytes_init(&packed, 16 << 20);
    bytes_init(&back, 16 << 20);
    cr_assert_eq(bytes_append(&packed, SPAN("keep")), OK);
    cr_assert_eq(bytes_append(&back, SPAN("this")), OK);
    cr_assert_eq(encoder_encode(e, encoding, list, parts, &packed, &why), OK, "%s", why.text);
    struct span body = span_of(packed.at + 4, packed.len - 4);
    if (encoding != ENCODING_IDENTITY)
        cr_expect_eq(encoding_sniff(body), encoding);
    cr_assert_eq(decoder_decode(d, encoding, body, &generous, &back, &why), OK, "%s", why.text);
    cr_assert_eq(back.len, whole.len + 4);
    cr_assert(whole.len == 0 || memcmp(back.at + 4, whole.at, whole.len) == 0);
    bytes_deinit(&packed);
    bytes_deinit(&back);
}

Test(compress, what_goes_in_comes_out)
{
    static const size_t sizes[] = {0, 1, 100, 4096, 65535, 65536, 300000, 3000000};
    struct encoder *e = encoder_new();
    struct decoder *d = decoder_new();
    for (size_t s = 0; s < COUNT(sizes); s++)
        for (int repetitive = 0; repetitive < 2; repetitive++) {
            struct bytes whole;
            bytes_init(&whole, 8 << 20);
            fill(&whole, sizes[s], repetitive);
            for (size_t c = 0; c < COUNT(written); c++)
                for (size_t parts = 0; parts <= 16; parts += 5)
                    if (parts > 0 || sizes[s] == 0)
                        round_trip(written[c], e, d, bytes_span(&whole), parts);
            bytes_deinit(&whole);
        }
    encoder_free(e);
    decoder_free(d);
}

Test(compress, the_maximum_holds_when_writing)
{
    struct encoder *e = encoder_new();
    struct bytes whole, packed;
    bytes_init(&whole, 1 << 20);
    fill(&whole, 100000, false);
    struct span part = bytes_span(&whole);
    for (size_t c = 0; c < COUNT(written); c++)
        for (size_t max = 5; max < 100000; max = max * 3 + 1) {
            bytes_init(&packed, max);
            cr_assert_eq(bytes_append(&packed, SPAN("keep")), OK);
            cr_expect_eq(encoder_encode(e, written[c], &part, 1, &packed, NULL), ERR_TOO_BIG);
            cr_expect(span_is(bytes_span(&packed), "keep"));
            cr_expect_leq(packed.cap, max);
            bytes_deinit(&packed);
        }
    bytes_init(&packed, 1 << 20);
    cr_expect_eq(encoder_encode(e, ENCODING_DEFLATE, &part, 1, &packed, NULL), ERR_UNSUPPORTED);
    bytes_deinit(&packed);
    bytes_deinit(&whole);
    encoder_free(e);
}

/* With libdeflate's own calls, so that peers of other make are read too. */
static size_t deflate_by(int form, int level, struct span in, uint8_t *out, size_t room)
{
    struct libdeflate_compressor *c = libdeflate_alloc_compressor(level);
    size_t n = form == 0   ? libdeflate_gzip_compress(c, in.at, in.len, out, room)
               : form == 1 ? libdeflate_zlib_compress(c, in.at, in.len, out, room)
                           : libdeflate_deflate_compress(c, in.at, in.len, out, room);
    libdeflate_free_compressor(c);
    cr_assert_gt(n, 0);
    return n;
}

Test(compress, gzip_members_follow_one_another)
{
    static uint8_t packed[100000];
    struct decoder *d = decoder_new();
    struct bytes back;
    size_t n = 0;
    for (int i = 0; i < 50; i++)
        n += deflate_by(0, 1 + i % 9, i % 7 == 0 ? SPAN("") : SPAN("member "), packed + n, sizeof packed - n);
    bytes_init(&back, 1 << 20);
    cr_assert_eq(decoder_decode(d, ENCODING_GZIP, span_of(packed, n), &generous, &back, NULL), OK);
    cr_expect_eq(back.len, 42 * 7);
    /* The bound is on all of them together. */
    struct decode_limits tight = {.bytes_max = 42 * 7 - 1};
    bytes_clear(&back);
    cr_expect_eq(decoder_decode(d, ENCODING_GZIP, span_of(packed, n), &tight, &back, NULL), ERR_TOO_BIG);
    /* What follows must be a member. */
    memcpy(packed + n, "junk", 4);
    cr_expect_eq(decoder_decode(d, ENCODING_GZIP, span_of(packed, n + 4), &generous, &back, NULL),
                 ERR_MALFORMED);
    bytes_deinit(&back);
    decoder_free(d);
}

Test(compress, zstd_frames_follow_one_another)
{
    static uint8_t packed[10000];
    struct decoder *d = decoder_new();
    struct bytes back;
    size_t n = 0;
    for (int i = 0; i < 20; i++)
        n += ZSTD_compress(packed + n, sizeof packed - n, "frame ", i % 5 == 0 ? 0 : 6, 1 + i);
    memcpy(packed + n, "\x50\x2a\x4d\x18\x03\0\0\0abc", 11); /* a skippable frame */
    n += 11;
    bytes_init(&back, 1 << 20);
    cr_assert_eq(decoder_decode(d, ENCODING_ZSTD, span_of(packed, n), &generous, &back, NULL), OK);
    cr_expect_eq(back.len, 16 * 6);
    struct decode_limits exact = {.bytes_max = 16 * 6}, tight = {.bytes_max = 16 * 6 - 1};
    bytes_clear(&back);
    cr_expect_eq(decoder_decode(d, ENCODING_ZSTD, span_of(packed, n), &exact, &back, NULL), OK);
    bytes_clear(&back);
    cr_expect_eq(decoder_decode(d, ENCODING_ZSTD, span_of(packed, n), &tight, &back, NULL), ERR_TOO_BIG);
    cr_expect_eq(decoder_decode(d, ENCODING_ZSTD, span_of(packed, n - 1), &generous, &back, NULL),
                 ERR_MALFORMED);
    bytes_deinit(&back);
    decoder_free(d);
}

Test(compress, deflate_is_zlib_or_raw)
{
    static uint8_t packed[10000];
    struct decoder *d = decoder_new();
    struct bytes back;
    bytes_init(&back, 1 << 20);
    for (int form = 1; form < 3; form++)
        for (int level = 0; level < 10; level++) {
            size_t n = deflate_by(form, level, SPAN("text text text text"), packed, sizeof packed);
            bytes_clear(&back);
            cr_assert_eq(decoder_decode(d, ENCODING_DEFLATE, span_of(packed, n), &generous, &back, NULL), OK);
            cr_expect(span_is(bytes_span(&back), "text text text text"));
            packed[n] = 0;
            cr_expect_eq(decoder_decode(d, ENCODING_DEFLATE, span_of(packed, n + 1), &generous, &back, NULL),
                         ERR_MALFORMED);
        }
    bytes_deinit(&back);
    decoder_free(d);
}

Test(compress, bombs_stop_at_the_bound)
{
    struct encoder *e = encoder_new();
    struct decoder *d = decoder_new();
    struct bytes zeros, packed;
    bytes_init(&zeros, 32 << 20);
    cr_assert_eq(bytes_reserve(&zeros, 32 << 20), OK);
    zeros.len = 32 << 20;
    memset(zeros.at, 0, zeros.len);
    struct span part = bytes_span(&zeros);
    bytes_init(&packed, 1 << 20);
    for (size_t c = 1; c < COUNT(written); c++) {
        bytes_clear(&packed);
        cr_assert_eq(encoder_encode(e, written[c], &part, 1, &packed, NULL), OK);
        static const struct decode_limits limits[] = {
            {.bytes_max = 1 << 20},
            {.bytes_max = 64 << 20, .ratio_max = 10, .ratio_free_bytes = 100000},
            {.bytes_max = (32 << 20) - 1},
        };
        for (size_t i = 0; i < COUNT(limits); i++) {
            struct bytes back;
            bytes_init(&back, 64 << 20);
            cr_expect_eq(decoder_decode(d, written[c], bytes_span(&packed), &limits[i], &back, NULL),
                         ERR_TOO_BIG);
            cr_expect_eq(back.len, 0);
            cr_expect_leq(back.cap, limits[i].bytes_max + limits[i].bytes_max / 2);
            bytes_deinit(&back);
            bytes_init(&back, 1000); /* the buffer's own maximum holds too */
            cr_expect_eq(decoder_decode(d, written[c], bytes_span(&packed), &generous, &back, NULL),
                         ERR_TOO_BIG);
            cr_expect_leq(back.cap, 1000);
            bytes_deinit(&back);
        }
    }
    bytes_deinit(&zeros);
    bytes_deinit(&packed);
    encoder_free(e);
    decoder_free(d);
}

Test(compress, small_bodies_may_repeat_themselves)
{
    struct encoder *e = encoder_new();
    struct decoder *d = decoder_new();
    struct bytes text, packed, back;
    struct decode_limits limits = {.bytes_max = 1 << 20, .ratio_max = 2, .ratio_free_bytes = 5000};
    bytes_init(&text, 1 << 20);
    bytes_init(&packed, 1 << 20);
    bytes_init(&back, 1 << 20);
    while (text.len < 5000)
        cr_assert_eq(bytes_append_byte(&text, 'x'), OK);
    struct span part = bytes_span(&text);
    cr_assert_eq(encoder_encode(e, ENCODING_GZIP, &part, 1, &packed, NULL), OK);
    cr_expect_eq(decoder_decode(d, ENCODING_GZIP, bytes_span(&packed), &limits, &back, NULL), OK);
    limits.ratio_free_bytes = 4999;
    cr_expect_eq(decoder_decode(d, ENCODING_GZIP, bytes_span(&packed), &limits, &back, NULL), ERR_TOO_BIG);
    bytes_deinit(&text);
    bytes_deinit(&packed);
    bytes_deinit(&back);
    encoder_free(e);
    decoder_free(d);
}

Test(compress, damage_is_noticed)
{
    struct encoder *e = encoder_new();
    struct decoder *d = decoder_new();
    struct bytes whole, packed, back;
    bytes_init(&whole, 1 << 20);
    bytes_init(&packed, 1 << 20);
    bytes_init(&back, 1 << 20);
    fill(&whole, 3000, true);
    struct span part = bytes_span(&whole);
    for (size_t c = 1; c < COUNT(written); c++) {
        bytes_clear(&packed);
        cr_assert_eq(encoder_encode(e, written[c], &part, 1, &packed, NULL), OK);
        for (size_t n = 0; n < packed.len; n++) {
            uint8_t *cut = malloc(n == 0 ? 1 : n);
            memcpy(cut, packed.at, n);
            cr_assert_eq(decoder_decode(d, written[c], span_of(cut, n), &generous, &back, NULL),
                         ERR_MALFORMED, "%zu", n);
            cr_assert_eq(back.len, 0);
            free(cut);
        }
        packed.at[0] ^= 1;
        cr_expect_eq(decoder_decode(d, written[c], bytes_span(&packed), &generous, &back, NULL),
                     ERR_MALFORMED);
    }
    cr_expect_eq(decoder_decode(d, ENCODING_DEFLATE, SPAN(""), &generous, &back, NULL), ERR_MALFORMED);
    bytes_deinit(&whole);
    bytes_deinit(&packed);
    bytes_deinit(&back);
    encoder_free(e);
    decoder_free(d);
}

Test(compress, wide_zstd_windows_are_refused)
{
    /* A frame header alone: no content size, window descriptor for 16 MiB, then an empty last block. */
    struct decoder *d = decoder_new();
    struct bytes back;
    bytes_init(&back, 1 << 20);
    cr_expect_eq(decoder_decode(d, ENCODING_ZSTD, SPAN("\x28\xb5\x2f\xfd\x00\x70\x01\x00\x00"), &generous,
                                &back, NULL),
                 ERR_UNSUPPORTED);
    cr_expect_eq(decoder_decode(d, ENCODING_ZSTD, SPAN("\x28\xb5\x2f\xfd\x00\x68\x01\x00\x00"), &generous,
                                &back, NULL),
                 OK);
    bytes_deinit(&back);
    decoder_free(d);
}

Test(compress, names_are_read_without_case)
{
    enum encoding e = ENCODING_DEFLATE;
    cr_expect(encoding_parse(SPAN("GZip"), &e) && e == ENCODING_GZIP);
    cr_expect(encoding_parse(SPAN("x-gzip"), &e) && e == ENCODING_GZIP);
    cr_expect(encoding_parse(SPAN("zstd"), &e) && e == ENCODING_ZSTD);
    cr_expect(encoding_parse(SPAN("deflate"), &e) && e == ENCODING_DEFLATE);
    cr_expect(encoding_parse(SPAN("identity"), &e) && e == ENCODING_IDENTITY);
    cr_expect(encoding_parse(SPAN(""), &e) && e == ENCODING_IDENTITY);
    cr_expect(!encoding_parse(SPAN("br"), &e));
    cr_expect(!encoding_parse(SPAN("gzip, gzip"), &e));
    cr_expect_str_eq(encoding_name(ENCODING_ZSTD), "zstd");
}
