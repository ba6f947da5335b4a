/* msgpack: tokens, frames and rendering, with msgpack-c as the peer that writes. */
#include "lib/codec/msgpack.h"

#include "lib/base/rng.h"
#include "lib/codec/json.h"

#include <criterion/criterion.h>
#include <math.h>
#include <msgpack.h>
#include <stdlib.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static enum err render(enum msgpack_times times, struct span in, struct bytes *out, uint64_t *replaced)
{
    struct msgpack_renderer r;
    struct span rest = in;
    msgpack_renderer_init(&r, times);
    enum err err = msgpack_render(&r, &rest, out, NULL);
    if (err == OK)
        cr_expect_eq(rest.len, 0);
    else
        cr_expect(rest.at == in.at && out->len == 0);
    if (replaced != NULL)
        *replaced = r.replaced;
    msgpack_renderer_deinit(&r);
    return err;
}

static void expect_json(struct span in, const char *json)
{
    struct bytes out;
    bytes_init(&out, 1 << 20);
    cr_expect_eq(render(MSGPACK_TIMES_FLUENT, in, &out, NULL), OK, "%s", json);
    cr_expect(span_is(bytes_span(&out), json), "%.*s instead of %s", SPAN_FMT(bytes_span(&out)), json);
    cr_expect_eq(json_check(bytes_span(&out), NULL, NULL), OK);
    bytes_deinit(&out);
}

static void expect_refused(struct span in, enum err expected)
{
    struct bytes out;
    bytes_init(&out, 1 << 20);
    cr_expect_eq(render(MSGPACK_TIMES_FLUENT, in, &out, NULL), expected, "%02x %02x", in.at[0],
                 in.len > 1 ? in.at[1] : 0);
    bytes_deinit(&out);
}

Test(msgpack, every_form_renders)
{
    expect_json(SPAN("\xc0"), "null");
    expect_json(SPAN("\xc2"), "false");
    expect_json(SPAN("\xc3"), "true");
    expect_json(SPAN("\x00"), "0");
    expect_json(SPAN("\x7f"), "127");
    expect_json(SPAN("\xe0"), "-32");
    expect_json(SPAN("\xff"), "-1");
    expect_json(SPAN("\xcc\xff"), "255");
    expect_json(SPAN("\xcd\xff\xff"), "65535");
    expect_json(SPAN("\xce\xff\xff\xff\xff"), "4294967295");
    expect_json(SPAN("\xcf\xff\xff\xff\xff\xff\xff\xff\xff"), "18446744073709551615");
    expect_json(SPAN("\xd0\x80"), "-128");
    expect_json(SPAN("\xd0\x05"), "5");
    expect_json(SPAN("\xd1\x80\x00"), "-32768");
    expect_json(SPAN("\xd2\x80\x00\x00\x00"), "-2147483648");
    expect_json(SPAN("\xd3\x80\x00\x00\x00\x00\x00\x00\x00"), "-9223372036854775808");
    expect_json(SPAN("\xca\x3f\xc0\x00\x00"), "1.5");
    expect_json(SPAN("\xca\x3d\xcc\xcc\xcd"), "0.1");
    expect_json(SPAN("\xcb\x3f\xb9\x99\x99\x99\x99\x99\x9a"), "0.1");
    expect_json(SPAN("\xcb\x40\x00\x00\x00\x00\x00\x00\x00"), "2.0");
    expect_json(SPAN("\xcb\x7f\xef\xff\xff\xff\xff\xff\xff"), "1.7976931348623157e+308");
    expect_json(SPAN("\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00"), "null");
    expect_json(SPAN("\xcb\xff\xf0\x00\x00\x00\x00\x00\x00"), "null");
    expect_json(SPAN("\xca\x7f\x80\x00\x00"), "null");
    expect_json(SPAN("\xa0"), "\"\"");
    expect_json(SPAN("\xa3"
                     "a\"\n"),
                "\"a\\\"\\n\"");
    expect_json(SPAN("\xd9\x01"
                     "x"),
                "\"x\"");
    expect_json(SPAN("\xda\x00\x01x"), "\"x\"");
    expect_json(SPAN("\xdb\x00\x00\x00\x01x"), "\"x\"");
    expect_json(SPAN("\xc4\x02\xc3\xa9"), "\"\xc3\xa9\"");
    expect_json(SPAN("\xc5\x00\x02\xff\xfe"), "{\"$base64\":\"//4=\"}");
    expect_json(SPAN("\xc6\x00\x00\x00\x01\x80"), "{\"$base64\":\"gA==\"}");
    expect_json(SPAN("\x90"), "[]");
    expect_json(SPAN("\x93\x01\x90\x80"), "[1,[],{}]");
    expect_json(SPAN("\xdc\x00\x02\xc0\xc0"), "[null,null]");
    expect_json(SPAN("\xdd\x00\x00\x00\x01\x81\xa1"
                     "a\x91\x80"),
                "[{\"a\":[{}]}]");
    expect_json(SPAN("\xde\x00\x02\xa1"
                     "a\x01\xa1"
                     "b\x82\xa1"
                     "c\x03\xa1"
                     "d\x90"),
                "{\"a\":1,\"b\":{\"c\":3,\"d\":[]}}");
    expect_json(SPAN("\xdf\x00\x00\x00\x00"), "{}");
    expect_json(
        SPAN("\x86\x01\x01\xff\x02\xc3\x03\xc0\x04\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00\x05\xc4\x01k\x06"),
        "{\"1\":1,\"-1\":2,\"true\":3,\"null\":4,\"1.5\":5,\"k\":6}");
    expect_json(SPAN("\xd7\x00\x69\xf8\x63\x01\x00\x3d\x09\x00"), "\"2026-05-04T09:12:33.004Z\"");
    expect_json(SPAN("\xc7\x08\x00\x69\xf8\x63\x01\x3b\x9a\xca\x00"), "\"2026-05-04T09:12:34Z\"");
}

Test(msgpack, the_last_of_a_repeated_key_wins)
{
    expect_json(SPAN("\x82\xa1"
                     "a\x01\xa1"
                     "a\x02"),
                "{\"a\":2}");
    expect_json(SPAN("\x83\xa1"
                     "a\x01\xa1"
                     "b\x02\xa1"
                     "a\x03"),
                "{\"b\":2,\"a\":3}");
    expect_json(SPAN("\x83\xa1"
                     "a\x01\xa1"
                     "a\x02\xa1"
                     "a\x03"),
                "{\"a\":3}");
    expect_json(SPAN("\x82\x01\x01\xa1"
                     "1\x02"),
                "{\"1\":2}");
    expect_json(SPAN("\x82\xa1"
                     "a\x82\xa1"
                     "x\x01\xa1"
                     "x\x02\xa1"
                     "b\x91\x82\xa1"
                     "y\xa1"
                     "p\xa1"
                     "y\xa1"
                     "q"),
                "{\"a\":{\"x\":2},\"b\":[{\"y\":\"q\"}]}");
    expect_json(SPAN("\x82\xa1"
                     "a\x82\xa1"
                     "x\x01\xa1"
                     "x\x02\xa1"
                     "a\x90"),
                "{\"a\":[]}");
}

Test(msgpack, repeated_keys_are_found_in_wide_maps)
{
    for (int width = 10; width < 2000; width = width * 3 / 2) {
        struct bytes in, out;
        msgpack_packer p;
        bytes_init(&in, 1 << 20);
        bytes_init(&out, 1 << 20);
        msgpack_packer_init(&p, &in, msgpack_write);
        msgpack_pack_map(&p, (size_t)width * 2);
        for (int i = 0; i < width * 2; i++) {
            msgpack_pack_int(&p, i % width * 7);
            msgpack_pack_int(&p, i);
        }
        cr_assert_eq(render(MSGPACK_TIMES_FLUENT, bytes_span(&in), &out, NULL), OK);
        static struct json_member m[4096];
        struct json_value v;
        size_t count;
        cr_assert_eq(json_check_object(bytes_span(&out), m, COUNT(m), &count, &v, NULL), OK);
        cr_expect_eq(count, (size_t)width);
        cr_expect(!json_repeated_key(m, count, NULL));
        int64_t first;
        cr_expect(json_int64(m[0].value.text, &first) && first == width);
        bytes_deinit(&in);
        bytes_deinit(&out);
    }
}

Test(msgpack, what_the_table_refuses_is_refused)
{
    expect_refused(SPAN("\x81\x90\x01"), ERR_UNSUPPORTED);
    expect_refused(SPAN("\x81\x80\x01"), ERR_UNSUPPORTED);
    expect_refused(SPAN("\x81\xd4\x00\x00\x01"), ERR_UNSUPPORTED);
    expect_refused(SPAN("\xd4\x05\x00"), ERR_UNSUPPORTED);
    expect_refused(SPAN("\xd6\x00\x00\x00\x00\x00"), ERR_UNSUPPORTED);
    expect_refused(SPAN("\xd6\xff\x00\x00\x00\x00"), ERR_UNSUPPORTED);
    expect_refused(SPAN("\xc1"), ERR_MALFORMED);
    expect_refused(SPAN("\x91\xc1"), ERR_MALFORMED);
    expect_refused(SPAN("\x91"), ERR_AGAIN);
    expect_refused(SPAN("\xdd\x08\x00\x00\x00"), ERR_AGAIN);
    expect_refused(SPAN("\xdb\xff\xff\xff\xff"
                        "abc"),
                   ERR_AGAIN);
    expect_refused(SPAN("\xdf\xff\xff\xff\xff\xa1"), ERR_AGAIN);
}

Test(msgpack, text_that_is_not_utf8_is_repaired_and_counted)
{
    struct bytes out;
    uint64_t replaced;
    bytes_init(&out, 1024);
    cr_expect_eq(render(MSGPACK_TIMES_FLUENT, SPAN("\x81\xa2k\xff\xa4\xc3(\x80z"), &out, &replaced), OK);
    cr_expect(span_is(bytes_span(&out), "{\"k\xef\xbf\xbd\":\"\xef\xbf\xbd(\xef\xbf\xbdz\"}"));
    cr_expect_eq(replaced, 3);
    bytes_deinit(&out);
}

Test(msgpack, standard_timestamps)
{
    static const struct {
        struct span in;
        const char *json;
    } cases[] = {
        {SPAN("\xd6\xff\x69\xf8\x63\x01"), "\"2026-05-04T09:12:33Z\""},
        {SPAN("\xd7\xff\x00\xf4\x24\x00\x69\xf8\x63\x01"), "\"2026-05-04T09:12:33.004Z\""},
        {SPAN("\xc7\x0c\xff\x00\x3d\x09\x00\x00\x00\x00\x00\x69\xf8\x63\x01"),
         "\"2026-05-04T09:12:33.004Z\""},
        {SPAN("\xc7\x0c\xff\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff"), "\"1969-12-31T23:59:59Z\""},
        {SPAN("\xc7\x0c\xff\x3b\x9a\xca\x00\x00\x00\x00\x00\x00\x00\x00\x00"), NULL},
        {SPAN("\xc7\x0c\xff\x00\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff"), NULL},
        {SPAN("\xd7\xff\xff\xff\xff\xff\x00\x00\x00\x00"), NULL},
        {SPAN("\xd5\xff\x00\x00"), NULL},
        {SPAN("\xd7\x00\x69\xf8\x63\x01\x00\x3d\x09\x00"), NULL},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct bytes out;
        bytes_init(&out, 1024);
        enum err err = render(MSGPACK_TIMES_STANDARD, cases[i].in, &out, NULL);
        cr_expect_eq(err, cases[i].json == NULL ? ERR_UNSUPPORTED : OK, "%zu", i);
        cr_expect(cases[i].json == NULL || span_is(bytes_span(&out), cases[i].json), "%.*s",
                  SPAN_FMT(bytes_span(&out)));
        bytes_deinit(&out);
    }
}

Test(msgpack, depth_has_a_limit_and_a_cliff)
{
    uint8_t deep[MSGPACK_DEPTH_READABLE + 2];
    struct bytes out;
    bytes_init(&out, 4096);
    memset(deep, 0x91, sizeof deep);
    for (size_t depth = 1; depth <= MSGPACK_DEPTH_READABLE + 1; depth++) {
        deep[depth] = 0x01;
        struct span in = span_of(deep, depth + 1), rest = in, piece = in;
        struct msgpack_frame f;
        bytes_clear(&out);
        cr_expect_eq(render(MSGPACK_TIMES_FLUENT, in, &out, NULL),
                     depth <= MSGPACK_DEPTH_MAX ? OK : ERR_TOO_BIG);
        msgpack_frame_init(&f);
        cr_expect_eq(msgpack_frame_feed(&f, &piece, sizeof deep),
                     depth <= MSGPACK_DEPTH_READABLE ? OK : ERR_TOO_BIG, "%zu", depth);
        cr_expect_eq(msgpack_skip(&rest, NULL), OK, "%zu", depth);
        deep[depth] = 0x91;
    }
    bytes_deinit(&out);
}

Test(msgpack, output_maximum_is_kept)
{
    struct span in = SPAN("\x82\xa1"
                          "a\xc4\x02\xff\xff\xa1"
                          "b\x93\x01\x02\xd7\x00\x69\xf8\x63\x01\x00\x3d\x09\x00");
    for (size_t max = 1; max < 70; max++) {
        struct bytes out;
        bytes_init(&out, max);
        enum err err = render(MSGPACK_TIMES_FLUENT, in, &out, NULL);
        cr_expect_eq(err, max < 61 ? ERR_TOO_BIG : OK, "%zu: %zu", max, out.len);
        bytes_deinit(&out);
    }
}

/* A random value, by msgpack-c. */
static void pack_any(struct rng *rng, msgpack_packer *p, unsigned depth)
{
    static const char text[] =
        "some text with \xc3\xa9 and more of it, up to sixty-odd bytes in all, so there";
    uint64_t n;
    switch (rng_below(rng, depth > 5 ? 8 : 11)) {
    case 0:
        msgpack_pack_nil(p);
        break;
    case 1:
        msgpack_pack_true(p);
        break;
    case 2:
        msgpack_pack_uint64(p, rng_next(rng) >> rng_below(rng, 64));
        break;
    case 3:
        msgpack_pack_int64(p, (int64_t)rng_next(rng) >> rng_below(rng, 64));
        break;
    case 4:
        msgpack_pack_double(p, (double)rng_next(rng) / 3);
        break;
    case 5:
        msgpack_pack_float(p, (float)rng_next(rng) / 7);
        break;
    case 6:
        n = rng_below(rng, sizeof text);
        msgpack_pack_str_with_body(p, text, n);
        break;
    case 7:
        n = rng_below(rng, sizeof text);
        msgpack_pack_bin_with_body(p, text, n);
        break;
    case 8:
        n = rng_below(rng, 5);
        msgpack_pack_array(p, n);
        for (; n > 0; n--)
            pack_any(rng, p, depth + 1);
        break;
    default:
        n = rng_below(rng, 20);
        msgpack_pack_map(p, n);
        for (uint64_t i = 0; i < n; i++) {
            msgpack_pack_str_with_body(p, text, rng_below(rng, 12));
            pack_any(rng, p, depth + 1);
        }
    }
}

Test(msgpack, agrees_with_msgpack_c_on_generated_values, .timeout = 60)
{
    struct rng rng;
    struct bytes in, out;
    rng_seed(&rng, 3);
    bytes_init(&in, 1 << 20);
    bytes_init(&out, 4 << 20);
    for (int round = 0; round < 2000; round++) {
        msgpack_packer p;
        bytes_clear(&in);
        bytes_clear(&out);
        msgpack_packer_init(&p, &in, msgpack_write);
        pack_any(&rng, &p, 0);
        size_t len = in.len;
        cr_assert_eq(bytes_append(&in, SPAN("\xc1\xc1")), OK); /* never looked at */
        struct span rest = bytes_span(&in), value;
        cr_assert_eq(msgpack_skip(&rest, &value), OK);
        cr_assert_eq(value.len, len);
        cr_assert_eq(render(MSGPACK_TIMES_FLUENT, value, &out, NULL), OK);
        cr_assert_eq(json_check(bytes_span(&out), NULL, NULL), OK, "%.*s", SPAN_FMT(bytes_span(&out)));
        for (size_t cut = 0; cut < len; cut += 1 + len / 50) {
            rest = span_of(in.at, cut);
            cr_assert_eq(msgpack_skip(&rest, NULL), ERR_AGAIN);
        }
        /* In pieces of any size the frame ends at the same place. */
        struct msgpack_frame f;
        msgpack_frame_init(&f);
        enum err err = ERR_AGAIN;
        for (size_t at = 0; err == ERR_AGAIN;) {
            struct span piece = span_of(in.at + at, 1 + rng_below(&rng, 7));
            if (piece.len > in.len - at)
                piece.len = in.len - at;
            at += piece.len;
            err = msgpack_frame_feed(&f, &piece, UINT64_MAX);
            cr_assert(err == ERR_AGAIN ? piece.len == 0 : true);
        }
        cr_assert_eq(err, OK);
        cr_assert_eq(f.bytes, len);
    }
    bytes_deinit(&in);
    bytes_deinit(&out);
}

Test(msgpack, floats_read_back_the_same)
{
    struct rng rng;
    rng_seed(&rng, 8);
    for (int i = 0; i < 5000; i++) {
        uint64_t bits = rng_next(&rng);
        double f, back;
        memcpy(&f, &bits, sizeof f);
        if (!isfinite(f))
            continue;
        struct bytes in, out;
        msgpack_packer p;
        bytes_init(&in, 16);
        bytes_init(&out, 64);
        msgpack_packer_init(&p, &in, msgpack_write);
        msgpack_pack_double(&p, f);
        cr_assert_eq(render(MSGPACK_TIMES_FLUENT, bytes_span(&in), &out, NULL), OK);
        cr_assert(json_double(bytes_span(&out), &back) && back == f, "%.*s", SPAN_FMT(bytes_span(&out)));
        bytes_deinit(&in);
        bytes_deinit(&out);
    }
}

Test(msgpack, claims_beyond_the_bound_are_refused_before_the_bytes_come)
{
    static const struct span claims[] = {
        SPAN("\xdd\x08\x00\x00\x00"),     SPAN("\xdf\x00\x00\x02\x00"), SPAN("\xdf\xff\xff\xff\xff"),
        SPAN("\xdb\x00\x00\x03\xe4"),     SPAN("\xc6\x7f\xff\xff\xff"), SPAN("\xc9\x00\x01\x00\x00\x05"),
        SPAN("\x91\xdb\x00\x00\x03\xe3"),
    };
    for (size_t i = 0; i < COUNT(claims); i++) {
        struct msgpack_frame f;
        struct span piece = claims[i];
        msgpack_frame_init(&f);
        cr_expect_eq(msgpack_frame_feed(&f, &piece, 1000), ERR_TOO_BIG, "%zu", i);
    }
    struct msgpack_frame f;
    struct span piece = SPAN("\xdb\x00\x00\x03\xe3"); /* 995 + 5 */
    msgpack_frame_init(&f);
    cr_expect_eq(msgpack_frame_feed(&f, &piece, 1000), ERR_AGAIN);
}
