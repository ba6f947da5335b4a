/* json against jansson: two readers that share no code must agree on generated and mutated texts. jansson
 * cannot hold numbers that overflow its own types, nor NUL in a member name; such texts are left out. */
#include "json_peer.h"
#include "lib/base/rng.h"
#include "lib/codec/json.h"

#include <criterion/criterion.h>

static void generate(struct rng *rng, struct bytes *out, unsigned depth);

static void put(struct bytes *out, const char *text)
{
    cr_assert_eq(bytes_append(out, span_str(text)), OK);
}

static void spaces(struct rng *rng, struct bytes *out)
{
    static const char *const kinds[] = {"", "", "", "", " ", "\n", "\r\n\t "};
    put(out, kinds[rng_below(rng, 7)]);
}

static void string(struct rng *rng, struct bytes *out, bool key)
{
    static const char *const pieces[] = {
        "\\u0000", /* the first, since jansson takes none in keys */
        "a",
        "key",
        "0123456789abcdef",
        "\\n",
        "\\\"",
        "\\u00e9",
        "\\\\",
        "\\/",
        "\xc3\xa9",
        " ",
        "\\ud83d\\ude00",
        "\xe2\x82\xac",
        "longer text than one load",
        "\xf0\x9f\x98\x80",
        "}",
        "]",
        ",",
        ":",
    };
    enum { PIECES = sizeof pieces / sizeof pieces[0] };
    put(out, "\"");
    for (uint64_t n = rng_below(rng, 6); n > 0; n--)
        put(out, pieces[key ? 1 + rng_below(rng, PIECES - 1) : rng_below(rng, PIECES)]);
    put(out, "\"");
}

static void container(struct rng *rng, struct bytes *out, unsigned depth, bool object)
{
    put(out, object ? "{" : "[");
    spaces(rng, out);
    for (uint64_t n = rng_below(rng, 5), i = 0; i < n; i++) {
        if (i > 0)
            put(out, ",");
        spaces(rng, out);
        if (object) {
            string(rng, out, true);
            spaces(rng, out);
            put(out, ":");
        }
        spaces(rng, out);
        generate(rng, out, depth + 1);
        spaces(rng, out);
    }
    put(out, object ? "}" : "]");
}

static void generate(struct rng *rng, struct bytes *out, unsigned depth)
{
    static const char *const scalars[] = {"0",     "-0",   "1",     "-12.5", "1e3", "1E-2", "0.25",
                                          "12345", "true", "false", "null",  "7",   "-1",   "3.14159"};
    switch (rng_below(rng, depth > 6 ? 2 : 4)) {
    case 0:
        put(out, scalars[rng_below(rng, sizeof scalars / sizeof scalars[0])]);
        break;
    case 1:
        string(rng, out, false);
        break;
    case 2:
        container(rng, out, depth, false);
        break;
    default:
        container(rng, out, depth, true);
    }
}

static void mutate(struct rng *rng, struct bytes *text)
{
    static const char odd[] = "\"\\{}[],:0123456789.-+eEtfnul \n\x01\x7f\x80\xc3\xa9\xe2\xed\xf0\xf4\xff";
    for (uint64_t n = 1 + rng_below(rng, 3); n > 0 && text->len > 0; n--) {
        size_t at = rng_below(rng, text->len);
        switch (rng_below(rng, 4)) {
        case 0:
            text->at[at] = (uint8_t)odd[rng_below(rng, sizeof odd - 1)];
            break;
        case 1: /* drop a byte */
            memmove(text->at + at, text->at + at + 1, text->len - at - 1);
            text->len--;
            break;
        case 2: /* double a byte */
            cr_assert_eq(bytes_append_byte(text, 0), OK);
            memmove(text->at + at + 1, text->at + at, text->len - at - 1);
            break;
        default:
            text->len = at;
        }
    }
}

static void compare(struct span text, uint64_t round)
{
    const char *theirs = "";
    enum json_peer_says peer = json_peer_check(text, &theirs);
    if (peer == PEER_CANNOT_TELL)
        return;
    struct fault why = {0};
    enum err err = json_check(text, NULL, &why);
    cr_assert_eq(err == OK, peer == PEER_VALID, "round %llu: %.*s\nours: %s\njansson: %s",
                 (unsigned long long)round, SPAN_FMT(text), why.text, theirs);
}

Test(json_oracle, agrees_with_jansson_on_generated_and_mutated_texts, .timeout = 60)
{
    struct rng rng;
    struct bytes text;
    rng_seed(&rng, 20260504);
    bytes_init(&text, 1 << 20);
    for (uint64_t round = 0; round < 12000; round++) {
        bytes_clear(&text);
        spaces(&rng, &text);
        generate(&rng, &text, 0);
        spaces(&rng, &text);
        if (round % 4 != 0)
            mutate(&rng, &text);
        compare(bytes_span(&text), round);
    }
    bytes_deinit(&text);
}

Test(json_oracle, compact_text_means_the_same, .timeout = 60)
{
    struct rng rng;
    struct bytes text, packed;
    rng_seed(&rng, 99);
    bytes_init(&text, 1 << 20);
    bytes_init(&packed, 1 << 20);
    for (int round = 0; round < 3000; round++) {
        bytes_clear(&text);
        bytes_clear(&packed);
        generate(&rng, &text, 0);
        cr_assert_eq(json_compact(&packed, bytes_span(&text)), OK);
        cr_assert(json_peer_same(bytes_span(&text), bytes_span(&packed)));
    }
    bytes_deinit(&text);
    bytes_deinit(&packed);
}

Test(json_oracle, strings_are_unescaped_and_written_alike, .timeout = 60)
{
    struct rng rng;
    struct bytes text, again;
    struct arena arena;
    rng_seed(&rng, 5);
    bytes_init(&text, 1 << 16);
    bytes_init(&again, 1 << 16);
    arena_init(&arena, 4096, 1 << 16);
    for (int round = 0; round < 5000; round++) {
        struct json_value v;
        struct span ours;
        bytes_clear(&text);
        bytes_clear(&again);
        arena_reset(&arena);
        string(&rng, &text, false);
        cr_assert_eq(json_check(bytes_span(&text), &v, NULL), OK);
        cr_assert_eq(json_decode_string(&arena, &v, &ours), OK);
        cr_assert(json_peer_is_string(bytes_span(&text), ours));
        cr_assert_eq(json_append_string(&again, ours), OK);
        cr_assert(json_peer_is_string(bytes_span(&again), ours));
    }
    bytes_deinit(&text);
    bytes_deinit(&again);
    arena_deinit(&arena);
}
