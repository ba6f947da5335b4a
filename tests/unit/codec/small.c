/* The small codecs: base64, glob, and the line splitter. */
#include "lib/base/rng.h"
#include "lib/codec/base64.h"
#include "lib/codec/glob.h"
#include "lib/codec/ndjson.h"

#include <criterion/criterion.h>
#include <stdlib.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

Test(base64, matches_rfc_4648)
{
    static const char *const cases[][3] = {
        {"", "", ""},
        {"f", "Zg==", "Zg"},
        {"fo", "Zm8=", "Zm8"},
        {"foo", "Zm9v", "Zm9v"},
        {"foob", "Zm9vYg==", "Zm9vYg"},
        {"fooba", "Zm9vYmE=", "Zm9vYmE"},
        {"foobar", "Zm9vYmFy", "Zm9vYmFy"},
        {"\xfb\xff\xbf", "+/+/", "-_-_"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct bytes out;
        uint8_t back[64];
        size_t n;
        bytes_init(&out, 64);
        cr_assert_eq(base64_append(&out, span_str(cases[i][0])), OK);
        cr_expect(span_is(bytes_span(&out), cases[i][1]));
        bytes_clear(&out);
        cr_assert_eq(base64url_append(&out, span_str(cases[i][0])), OK);
        cr_expect(span_is(bytes_span(&out), cases[i][2]));
        for (int form = 1; form < 3; form++) {
            cr_expect(base64_decode(span_str(cases[i][form]), back, &n), "%s", cases[i][form]);
            cr_expect(span_is(span_of(back, n), cases[i][0]));
        }
        bytes_deinit(&out);
    }
}

Test(base64, refuses_what_is_not)
{
    static const char *const bad[] = {"A",     "AAAAA",    "=",    "A===",  "AA=", "AA=A",
                                      "AAA=A", "AA==AA==", "A A=", "AA\n=", "AA*="};
    uint8_t into[64];
    size_t n;
    for (size_t i = 0; i < COUNT(bad); i++)
        cr_expect(!base64_decode(span_str(bad[i]), into, &n), "%s", bad[i]);
}

Test(base64, all_bytes_survive)
{
    struct rng rng;
    rng_seed(&rng, 1);
    for (int round = 0; round < 2000; round++) {
        uint8_t data[100];
        size_t len = rng_below(&rng, sizeof data), n;
        for (size_t i = 0; i < len; i++)
            data[i] = (uint8_t)rng_next(&rng);
        struct bytes out;
        bytes_init(&out, 256);
        cr_assert_eq(base64_append(&out, span_of(data, len)), OK);
        uint8_t *back = malloc(base64_room(out.len));
        cr_assert(base64_decode(bytes_span(&out), back, &n));
        cr_assert(span_equal(span_of(back, n), span_of(data, len)));
        free(back);
        bytes_deinit(&out);
    }
}

Test(glob, matches_whole_texts)
{
    static const struct {
        const char *pattern, *text;
        bool matches;
    } cases[] = {
        {"", "", true},
        {"", "a", false},
        {"*", "", true},
        {"*", "anything", true},
        {"**", "x", true},
        {"billing.*", "billing.paid", true},
        {"billing.*", "billing.", true},
        {"billing.*", "billing", false},
        {"billing.*", "xbilling.paid", false},
        {"*.paid", "billing.paid", true},
        {"*.paid", "billing.paid.x", false},
        {"a*b*c", "a--b--b--c", true},
        {"a*b*c", "a--c--b", false},
        {"?", "a", true},
        {"?", "", false},
        {"?", "ab", false},
        {"?", "\xc3\xa9", true},
        {"??", "\xc3\xa9", false},
        {"a?c",
         "a\xe2\x82\xac"
         "c",
         true},
        {"*?", "\xe2\x82\xac", true},
        {"*\xac", "\xe2\x82\xac", false},
        {"?", "\xff", true},
        {"A", "a", false},
        {"[a]", "a", false},
        {"a.c", "abc", false},
    };
    for (size_t i = 0; i < COUNT(cases); i++)
        cr_expect_eq(glob_match(span_str(cases[i].pattern), span_str(cases[i].text)), cases[i].matches,
                     "%s ~ %s", cases[i].pattern, cases[i].text);
}

Test(glob, hostile_patterns_end, .timeout = 10)
{
    char pattern[400], text[4000];
    for (size_t i = 0; i + 2 < sizeof pattern; i += 2)
        memcpy(pattern + i, "*a", 3);
    memset(text, 'a', sizeof text);
    text[sizeof text - 1] = 'b';
    cr_expect(!glob_match(span_str(pattern), span_of(text, sizeof text)));
}

/* Runs `stream` through the splitter in pieces of `step` bytes; lines are joined with '|', '!' marks one that
 * was too long, '$' the last one without LF. */
static void split(struct span stream, size_t step, size_t line_max, struct bytes *out)
{
    struct ndjson n;
    struct span line;
    ndjson_init(&n, line_max);
    for (size_t at = 0; at < stream.len; at += step) {
        size_t len = stream.len - at < step ? stream.len - at : step;
        uint8_t *copy = malloc(len);
        memcpy(copy, stream.at + at, len);
        struct span piece = span_of(copy, len);
        enum err err;
        while ((err = ndjson_next(&n, &piece, &line)) != ERR_AGAIN) {
            cr_assert(err == OK || err == ERR_TOO_BIG);
            cr_assert_eq(bytes_append(out, err == OK ? line : SPAN("!")), OK);
            cr_assert_eq(bytes_append_byte(out, '|'), OK);
        }
        cr_assert_eq(piece.len, 0);
        cr_assert_leq(n.held.cap, line_max + 4);
        free(copy);
    }
    if (ndjson_finish(&n, &line) == OK) {
        cr_assert_eq(bytes_append(out, line), OK);
        cr_assert_eq(bytes_append_byte(out, '$'), OK);
    }
    ndjson_deinit(&n);
}

Test(ndjson, lines_are_the_same_however_they_arrive)
{
    static const struct {
        struct span stream;
        const char *lines;
    } cases[] = {
        {SPAN(""), ""},
        {SPAN("\n\n \n\r\n"), ""},
        {SPAN("a\nb\n"), "a|b|"},
        {SPAN("a\r\nb\r\nc"), "a|b|c$"},
        {SPAN("a\n\n  \n b \n"), "a| b |"},
        {SPAN("\xef\xbb\xbf"
              "a\n\xef\xbb\xbf"
              "b\n"),
         "a|\xef\xbb\xbf"
         "b|"},
        {SPAN("\xef\xbb\xbf"), ""},
        {SPAN("\xef\xbb"
              "x\n"),
         "\xef\xbb"
         "x|"},
        {SPAN("12345678\n"), "12345678|"},
        {SPAN("12345678\r\nx"), "12345678|x$"},
        {SPAN("\xef\xbb\xbf"
              "12345678\r\nx\n"),
         "12345678|x|"},
        {SPAN("123456789\nx\n"), "!|x|"},
        {SPAN("a\n0123456789012345678901234567890\nx\n"), "a|!|x|"},
        {SPAN("a\nb\r"), "a|b$"},
        {SPAN("a\rb\n"), "a\rb|"},
    };
    for (size_t i = 0; i < COUNT(cases); i++)
        for (size_t step = 1; step < 40; step++) {
            struct bytes out;
            bytes_init(&out, 1024);
            split(cases[i].stream, step, 8, &out);
            cr_expect(span_is(bytes_span(&out), cases[i].lines), "%zu, by %zu: %.*s", i, step,
                      SPAN_FMT(bytes_span(&out)));
            bytes_deinit(&out);
        }
}

Test(ndjson, a_line_within_a_piece_is_not_copied)
{
    struct ndjson n;
    struct span line, text = SPAN("first\nsecond\nthi"), piece = text;
    ndjson_init(&n, 100);
    cr_assert_eq(ndjson_next(&n, &piece, &line), OK);
    cr_expect_eq(line.at, text.at);
    cr_assert_eq(ndjson_next(&n, &piece, &line), OK);
    cr_expect_eq(line.at, text.at + 6);
    cr_expect_eq(n.held.cap, 0);
    cr_assert_eq(ndjson_next(&n, &piece, &line), ERR_AGAIN);
    piece = SPAN("rd\n");
    cr_assert_eq(ndjson_next(&n, &piece, &line), OK);
    cr_expect(span_is(line, "third"));
    ndjson_deinit(&n);
}

Test(ndjson, a_line_too_long_is_told_once_and_early)
{
    struct ndjson n;
    struct span line, piece = SPAN("aaaaaaaaaaaaaaaaaaaa");
    ndjson_init(&n, 8);
    cr_expect_eq(ndjson_next(&n, &piece, &line), ERR_TOO_BIG);
    for (int i = 0; i < 3; i++) {
        piece = SPAN("aaaaaaaaaaaaaaaaaaaa");
        cr_expect_eq(ndjson_next(&n, &piece, &line), ERR_AGAIN);
    }
    piece = SPAN("aaa\nb\n");
    cr_expect_eq(ndjson_next(&n, &piece, &line), OK);
    cr_expect(span_is(line, "b"));
    ndjson_deinit(&n);
}
