/* json: what must be accepted, what must be refused, and what the reader says about what it accepts. */
#include "lib/codec/json.h"
#include "lib/codec/json_run.h"
#include "lib/codec/utf8.h"

#include "lib/base/rng.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* A copy of exactly that size on the heap, so that a sanitizer sees a read past the end. */
static struct span heap_copy(struct span s)
{
    uint8_t *copy = malloc(s.len == 0 ? 1 : s.len);
    if (s.len > 0)
        memcpy(copy, s.at, s.len);
    return span_of(copy, s.len);
}

static enum err check(struct span s, struct fault *why)
{
    struct span copy = heap_copy(s);
    struct json_value v;
    struct json_member members[8];
    size_t count;
    enum err err = json_check(copy, &v, why);
    /* Both ways of reading agree. */
    enum err as_object = json_check_object(copy, members, COUNT(members), &count, &v, NULL);
    cr_assert(as_object == err || (as_object == ERR_TOO_BIG && err == OK));
    free((void *)(uintptr_t)copy.at);
    return err;
}

static const struct span accepted[] = {
    SPAN("{}"),
    SPAN("[]"),
    SPAN("0"),
    SPAN("-0"),
    SPAN("-0.0e-0"),
    SPAN("1"),
    SPAN("123456789012345678901234567890"),
    SPAN("1e400"),
    SPAN("1E+2"),
    SPAN("0.5e-7"),
    SPAN("true"),
    SPAN("false"),
    SPAN("null"),
    SPAN("\"\""),
    SPAN(" \t\r\n1 \t\r\n"),
    SPAN("[1,2,3]"),
    SPAN("[ 1 , 2 , 3 ]"),
    SPAN("[[],[[]],{}]"),
    SPAN("{\"a\":1,\"a\":2}"),
    SPAN("{\"\":0}"),
    SPAN("{ \"a\" : { \"b\" : [ true , false , null ] } }"),
    SPAN("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\uD834\\udd1e\""),
    SPAN("\"\\u0000\""),
    SPAN("\"\\uFFFF\\ufdd0\""),
    SPAN("\"\x7f\""),
    SPAN("\"\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf"
         "\""),
    SPAN("\"\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e and \xc3\xa9 and 0123456789abcdef\""),
    SPAN("\"\xef\xbb\xbf\""),
    SPAN("\"012345678901234\""),
    SPAN("\"0123456789012345\""),
    SPAN("\"01234567890123456789012345678901\\n\""),
    SPAN("{\"k\":\"0123456789abcdef0123456789abcdef\",\"n\":-12.5e3}"),
    SPAN("[-1,0.1,1e1,1e-1,1e+1]"),
};

static const struct span refused[] = {
    SPAN(""),
    SPAN(" "),
    SPAN("{"),
    SPAN("["),
    SPAN("}"),
    SPAN("]"),
    SPAN("[1,]"),
    SPAN("[,1]"),
    SPAN("[1 2]"),
    SPAN("[1}"),
    SPAN("{\"a\":1]"),
    SPAN("{\"a\":1,}"),
    SPAN("{,\"a\":1}"),
    SPAN("{\"a\"}"),
    SPAN("{\"a\":}"),
    SPAN("{\"a\" 1}"),
    SPAN("{\"a\":1 \"b\":2}"),
    SPAN("{a:1}"),
    SPAN("{1:1}"),
    SPAN("{'a':1}"),
    SPAN("{\"a\":1}}"),
    SPAN("1 2"),
    SPAN("[]x"),
    SPAN("01"),
    SPAN("-01"),
    SPAN("-"),
    SPAN("+1"),
    SPAN(".5"),
    SPAN("1."),
    SPAN("1.e1"),
    SPAN("1e"),
    SPAN("1e+"),
    SPAN("1e1.5"),
    SPAN("0x10"),
    SPAN("1_000"),
    SPAN("NaN"),
    SPAN("Infinity"),
    SPAN("-Infinity"),
    SPAN("nul"),
    SPAN("nulll"),
    SPAN("True"),
    SPAN("tru"),
    SPAN("undefined"),
    SPAN("\""),
    SPAN("\"abc"),
    SPAN("\"\\"),
    SPAN("\"\\\""),
    SPAN("\"\\x41\""),
    SPAN("\"\\'\""),
    SPAN("\"\\U0041\""),
    SPAN("\"\\u12\""),
    SPAN("\"\\u12g4\""),
    SPAN("\"\\u"),
    SPAN("\"\\ud800\""),
    SPAN("\"\\udc00\""),
    SPAN("\"\\ud800\\u0041\""),
    SPAN("\"\\ud800\\ud800\""),
    SPAN("\"\\ud800\\n\""),
    SPAN("\"\\ud800 \\udc00\""),
    SPAN("\"\\ud800\\udc0\""),
    SPAN("\"\\ud800\\"),
    SPAN("\"\n\""),
    SPAN("\"\t\""),
    SPAN("\"\x00\""),
    SPAN("\"\x1f\""),
    SPAN("\"0123456789abcde\x01\""),
    SPAN("\"0123456789abcdef\x1f and more than sixteen\""),
    SPAN("\"\x80\""),
    SPAN("\"\xc0\xaf\""),
    SPAN("\"\xc1\xbf\""),
    SPAN("\"\xc3\""),
    SPAN("\"\xe0\x9f\xbf\""),
    SPAN("\"\xed\xa0\x80\""),
    SPAN("\"\xed\xbf\xbf\""),
    SPAN("\"\xf0\x8f\xbf\xbf\""),
    SPAN("\"\xf4\x90\x80\x80\""),
    SPAN("\"\xf5\x80\x80\x80\""),
    SPAN("\"\xff\""),
    SPAN("\"\xe6\x97\""),
    SPAN("\"\xf0\x9f\x98\""),
    SPAN("\"0123456789abcdef\xff\""),
    SPAN("\xef\xbb\xbf{}"),
    SPAN("\xef\xbb\xbf"),
    SPAN("[1]\x00"),
    SPAN("\x00"),
    SPAN("[\x0b]"),
    SPAN("[\x0c"
         "1]"),
    SPAN("\xc2\xa0[]"),
    SPAN("// c\n1"),
    SPAN("/* c */1"),
    SPAN("[\"a\":1]"),
    SPAN("{\"a\":1,2}"),
    SPAN("{\"a\":tru}"),
    SPAN("[1,\n2"),
    SPAN("[\"a\","),
    SPAN("{\"a\":\"b\","),
};

Test(json, accepts_every_valid_text)
{
    struct fault why;
    for (size_t i = 0; i < COUNT(accepted); i++)
        cr_expect_eq(check(accepted[i], &why), OK, "%.*s: %s", SPAN_FMT(accepted[i]), why.text);
}

Test(json, refuses_every_invalid_text)
{
    struct fault why;
    for (size_t i = 0; i < COUNT(refused); i++)
        cr_expect_eq(check(refused[i], &why), ERR_MALFORMED, "%zu: %.*s", i, SPAN_FMT(refused[i]));
}

Test(json, refuses_every_prefix_of_an_object)
{
    struct span text =
        SPAN("{\"id\":\"a\\u00e9\\ud834\\udd1e\",\"n\":[-1.5e3,true,null],\"t\":\"\xf0\x9f\x98\x80\"}");
    for (size_t n = 0; n < text.len; n++)
        cr_expect_eq(check(span_of(text.at, n), NULL), ERR_MALFORMED, "%zu", n);
    cr_expect_eq(check(text, NULL), OK);
}

Test(json, names_the_place_of_an_error)
{
    static const struct {
        struct span text;
        size_t offset;
        const char *error;
    } cases[] = {
        {SPAN("[1,2,x]"), 5, "not a JSON value"},
        {SPAN("{\"a\":\"b\x01\"}"), 7, "control character in a string"},
        {SPAN("{\"a\":01}"), 6, "number with a leading zero"},
        {SPAN("{\"a\" 1}"), 5, "expected ':' behind a member name"},
        {SPAN("[1 2]"), 3, "expected ',' or ']'"},
        {SPAN("\"ab\xff\""), 3, "invalid UTF-8"},
        {SPAN("{} {}"), 3, "something follows the value"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct json_reader r;
        struct json_value v;
        json_reader_init(&r, cases[i].text);
        enum err err = json_read_value(&r, &v);
        if (err == OK)
            err = json_finish(&r);
        cr_assert_eq(err, ERR_MALFORMED);
        cr_expect_eq(json_offset(&r), cases[i].offset, "%zu: %zu", i, json_offset(&r));
        cr_expect_str_eq(r.error, cases[i].error);
    }
}

static struct span nested(unsigned depth, bool objects)
{
    static uint8_t text[8192];
    size_t n = 0;
    for (unsigned i = 0; i < depth; i++) {
        memcpy(text + n, objects ? "{\"a\":" : "[", objects ? 5 : 1);
        n += objects ? 5 : 1;
    }
    text[n++] = '1';
    for (unsigned i = 0; i < depth; i++)
        text[n++] = objects ? '}' : ']';
    return span_of(text, n);
}

Test(json, depth_has_a_limit_and_a_cliff)
{
    for (int objects = 0; objects < 2; objects++) {
        cr_expect_eq(json_check(nested(JSON_DEPTH_MAX, objects), NULL, NULL), OK);
        cr_expect_eq(json_check(nested(JSON_DEPTH_MAX + 1, objects), NULL, NULL), ERR_TOO_BIG);
        cr_expect_eq(json_check(nested(JSON_DEPTH_READABLE, objects), NULL, NULL), ERR_TOO_BIG);
        cr_expect_eq(json_check(nested(JSON_DEPTH_READABLE + 1, objects), NULL, NULL), ERR_MALFORMED);
    }
    struct json_member m[2];
    struct json_value v;
    size_t count;
    cr_expect_eq(json_check_object(nested(JSON_DEPTH_MAX, true), m, 2, &count, &v, NULL), OK);
    cr_expect_eq(json_check_object(nested(JSON_DEPTH_MAX + 1, true), m, 2, &count, &v, NULL), ERR_TOO_BIG);
    cr_expect_eq(json_check_object(nested(JSON_DEPTH_READABLE + 1, true), m, 2, &count, &v, NULL),
                 ERR_MALFORMED);
}

Test(json, members_come_with_their_spans)
{
    struct span text =
        SPAN(" { \"a\" : 1 , \"b\\n\":\"x\\ty\",\"c\":[1, 2],\"d\":{\"e\":1},\"f\":null,\"g\":\"plain\" } ");
    struct json_member m[8];
    struct json_value v;
    size_t count;
    cr_assert_eq(json_check_object(text, m, COUNT(m), &count, &v, NULL), OK);
    cr_assert_eq(count, 6);
    cr_expect(v.type == JSON_OBJECT && v.spaced && v.text.len == text.len - 2);
    cr_expect(span_is(m[0].key.text, "a") && !m[0].key.escaped && m[0].value.type == JSON_NUMBER);
    cr_expect(span_is(m[0].value.text, "1"));
    cr_expect(m[1].key.escaped && json_key_is(&m[1].key, "b\n") && !json_key_is(&m[1].key, "b"));
    cr_expect(m[1].value.escaped && span_is(json_raw_string(&m[1].value), "x\\ty"));
    cr_expect(json_string_is(&m[1].value, "x\ty"));
    cr_expect(span_is(m[2].value.text, "[1, 2]") && m[2].value.spaced && m[2].value.type == JSON_ARRAY);
    cr_expect(span_is(m[3].value.text, "{\"e\":1}") && !m[3].value.spaced);
    cr_expect(m[4].value.type == JSON_NULL);
    cr_expect(!m[5].value.escaped && json_string_is(&m[5].value, "plain"));
    cr_expect_eq(json_find(m, count, "d"), &m[3]);
    cr_expect_null(json_find(m, count, "e"));
}

Test(json, too_many_members_still_validates_the_rest)
{
    struct json_member m[2];
    struct json_value v;
    size_t count;
    struct json_reader r;
    json_reader_init(&r, SPAN("[{\"a\":1,\"b\":2,\"c\":3},7]"));
    cr_assert_eq(json_enter_array(&r), OK);
    cr_assert_eq(json_next_element(&r), OK);
    cr_assert_eq(json_read_object(&r, m, 2, &count, &v), ERR_TOO_BIG);
    cr_expect_eq(count, 2);
    cr_expect(span_is(v.text, "{\"a\":1,\"b\":2,\"c\":3}"));
    cr_assert_eq(json_next_element(&r), OK);
    cr_assert_eq(json_read_object(&r, m, 2, &count, &v), OK);
    cr_expect(v.type == JSON_NUMBER && count == 0);
    cr_assert_eq(json_next_element(&r), ERR_NOT_FOUND);
    cr_assert_eq(json_finish(&r), OK);
    cr_expect_eq(json_check_object(SPAN("{\"a\":1,\"b\":2,\"c\":3"), m, 2, &count, &v, NULL), ERR_MALFORMED);
}

Test(json, a_lone_surrogate_costs_a_forgiving_reader_one_element)
{
    static const char *const lone[] = {"\\ud83d", "\\ude00", "\\ud83dx", "\\ud83d\\n", "\\ud83d\\ud83d", "\\ud83d\\u0041"};
    for (size_t i = 0; i < COUNT(lone); i++) {
        struct json_reader r;
        struct json_member m[2];
        struct json_value v;
        size_t count;
        char text[100];
        uint8_t plain[32];
        int n = snprintf(text, sizeof text, "[{\"a\":\"%s\"},{\"%s\":1},{\"a\":\"\\ud83d\\ude00\"}]", lone[i], lone[i]);
        json_reader_init(&r, span_of(text, (size_t)n));
        json_forgive(&r);
        cr_assert_eq(json_enter_array(&r), OK);
        for (int k = 0; k < 2; k++) {
            cr_assert_eq(json_next_element(&r), OK);
            cr_assert_eq(json_read_object(&r, m, 2, &count, &v), ERR_TOO_BIG, "%s", text);
            cr_expect(strstr(r.spoiled, "surrogate without") != NULL);
            cr_assert_eq(count, 1);
            /* What is spoiled may still be looked at. */
            struct span raw = k == 0 ? json_raw_string(&m[0].value) : m[0].key.text;
            cr_expect(memcmp(plain, "\xef\xbf\xbd", json_unescape(raw, plain) > 3 ? 3 : 0) == 0);
            cr_expect_null(json_find(m, count, "b"));
        }
        cr_assert_eq(json_next_element(&r), OK);
        cr_assert_eq(json_read_object(&r, m, 2, &count, &v), OK);
        cr_expect_null(r.spoiled);
        cr_assert_eq(json_next_element(&r), ERR_NOT_FOUND);
        cr_expect_eq(json_finish(&r), OK);
        cr_expect_eq(json_check(span_of(text, (size_t)n), NULL, NULL), ERR_MALFORMED);
    }
}

Test(json, a_broken_element_ends_the_array_after_the_good_ones)
{
    struct json_reader r;
    struct json_value v;
    size_t good = 0;
    enum err err;
    json_reader_init(&r, SPAN("[{\"a\":1}, {\"b\":2} , {\"c\":}, {\"d\":4}]"));
    cr_assert_eq(json_enter_array(&r), OK);
    while ((err = json_next_element(&r)) == OK && (err = json_read_value(&r, &v)) == OK)
        good++;
    cr_expect_eq(err, ERR_MALFORMED);
    cr_expect_eq(good, 2);
    cr_expect_eq(json_offset(&r), 25);
    cr_expect_eq(json_next_element(&r), ERR_MALFORMED);
    cr_expect_eq(json_finish(&r), ERR_MALFORMED);
}

Test(json, envelopes_are_read_in_the_same_pass)
{
    struct json_reader r;
    struct json_value v;
    struct json_key key;
    enum json_type type;
    unsigned events = 0, others = 0;
    json_reader_init(&r, SPAN("{\"meta\":{\"x\":[]},\"batch\":[{\"a\":1},[],{}],\"empty\":[],\"last\":1}"));
    cr_assert_eq(json_peek(&r, &type), OK);
    cr_assert_eq(type, JSON_OBJECT);
    cr_assert_eq(json_enter_array(&r), ERR_UNSUPPORTED);
    cr_assert_eq(json_enter_object(&r), OK);
    enum err err;
    while ((err = json_next_member(&r, &key)) == OK) {
        if (json_key_is(&key, "batch") || json_key_is(&key, "empty")) {
            cr_assert_eq(json_enter_array(&r), OK);
            while ((err = json_next_element(&r)) == OK) {
                cr_assert_eq(json_read_value(&r, &v), OK);
                events++;
            }
            cr_assert_eq(err, ERR_NOT_FOUND);
        } else {
            cr_assert_eq(json_read_value(&r, &v), OK);
            others++;
        }
    }
    cr_assert_eq(err, ERR_NOT_FOUND);
    cr_assert_eq(json_finish(&r), OK);
    cr_expect_eq(events, 3);
    cr_expect_eq(others, 2);
}

Test(json, stepping_refuses_what_reading_refuses)
{
    static const char *const texts[] = {"[,1]", "[1,,2]", "[1,]", "[1 2]", "[1",
                                        "[1,",  "[",      "[]]",  "[1}",   "[{]"};
    for (size_t i = 0; i < COUNT(texts); i++) {
        struct json_reader r;
        struct json_value v;
        enum err err;
        json_reader_init(&r, span_str(texts[i]));
        cr_assert_eq(json_enter_array(&r), OK);
        while ((err = json_next_element(&r)) == OK && (err = json_read_value(&r, &v)) == OK)
            ;
        if (err == ERR_NOT_FOUND)
            err = json_finish(&r);
        cr_expect_eq(err, ERR_MALFORMED, "%s", texts[i]);
    }
    static const char *const objects[] = {"{,}", "{\"a\":1,}",        "{\"a\":1", "{\"a\"",
                                          "{",   "{\"a\":1 \"b\":2}", "{1:2}"};
    for (size_t i = 0; i < COUNT(objects); i++) {
        struct json_reader r;
        struct json_value v;
        struct json_key key;
        enum err err;
        json_reader_init(&r, span_str(objects[i]));
        cr_assert_eq(json_enter_object(&r), OK);
        while ((err = json_next_member(&r, &key)) == OK && (err = json_read_value(&r, &v)) == OK)
            ;
        cr_expect_eq(err, ERR_MALFORMED, "%s", objects[i]);
    }
}

static bool repeats(const char *text, size_t *index)
{
    struct json_member m[1100];
    struct json_value v;
    size_t count;
    cr_assert_eq(json_check_object(span_str(text), m, COUNT(m), &count, &v, NULL), OK);
    return json_repeated_key(m, count, index);
}

Test(json, repeated_keys_are_found_after_unescaping)
{
    size_t index = 99;
    cr_expect(!repeats("{}", NULL));
    cr_expect(!repeats("{\"a\":1,\"b\":2,\"ab\":3,\"A\":4}", NULL));
    cr_expect(repeats("{\"a\":1,\"b\":2,\"a\":3}", &index));
    cr_expect_eq(index, 2);
    cr_expect(repeats("{\"a\":1,\"\\u0061\":3}", &index));
    cr_expect_eq(index, 1);
    cr_expect(repeats("{\"\\ud83d\\ude00\":1,\"\xf0\x9f\x98\x80\":3}", NULL));
    cr_expect(!repeats("{\"\\u0000\":1,\"\":3}", NULL));
    cr_expect(repeats("{\"\":1,\"\":3}", NULL));
}

Test(json, repeated_keys_are_found_among_many)
{
    static const size_t counts[] = {12, 13, 100, 128, 129, 1000};
    for (size_t c = 0; c < COUNT(counts); c++)
        for (int with_repeat = 0; with_repeat < 2; with_repeat++) {
            struct bytes text;
            size_t index = 0;
            bytes_init(&text, 1 << 16);
            (void)!bytes_append_byte(&text, '{');
            for (size_t i = 0; i < counts[c]; i++)
                (void)!bytes_printf(&text, "\"key%zu\":%zu,", i, i);
            (void)!bytes_printf(&text, with_repeat ? "\"\\u006bey%d\":0}" : "\"other%d\":0}", 7);
            (void)!bytes_append_byte(&text, '\0');
            cr_expect_eq(repeats((const char *)text.at, &index), with_repeat, "%zu", counts[c]);
            if (with_repeat)
                cr_expect_eq(index, counts[c]);
            bytes_deinit(&text);
        }
}

Test(json, strings_are_unescaped_to_utf8)
{
    struct arena arena;
    struct json_value v;
    struct span text;
    arena_init(&arena, 1024, 4096);
    cr_assert_eq(json_check(SPAN("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\u00E9\\u20ac\\ud83d\\uDE00\\u0000z\""),
                            &v, NULL),
                 OK);
    cr_assert_eq(json_decode_string(&arena, &v, &text), OK);
    cr_expect(span_equal(text, SPAN("\"\\/\b\f\n\r\tA\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\0z")));
    cr_assert_eq(json_check(SPAN("\"plain\""), &v, NULL), OK);
    struct span whole = v.text;
    cr_assert_eq(json_decode_string(&arena, &v, &text), OK);
    cr_expect(text.at == whole.at + 1 && text.len == 5);
    arena_deinit(&arena);
}

Test(json, numbers_are_exact_or_refused)
{
    static const struct {
        const char *text;
        bool is_int64;
        int64_t value;
    } cases[] = {
        {"0", true, 0},
        {"-0", true, 0},
        {"42", true, 42},
        {"-42", true, -42},
        {"9223372036854775807", true, INT64_MAX},
        {"-9223372036854775808", true, INT64_MIN},
        {"9223372036854775808", false, 0},
        {"-9223372036854775809", false, 0},
        {"1.0", true, 1},
        {"1.5", false, 0},
        {"15e-1", false, 0},
        {"150e-1", true, 15},
        {"1.5e1", true, 15},
        {"25E1", true, 250},
        {"1e18", true, 1000000000000000000},
        {"1e19", false, 0},
        {"0e999999999999999", true, 0},
        {"0.000", true, 0},
        {"1e-1", false, 0},
        {"1e999999999999999", false, 0},
        {"1e-999999999999999", false, 0},
        {"100000000000000000000000000e-20", true, 1000000},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        int64_t value = 0;
        cr_expect_eq(json_int64(span_str(cases[i].text), &value), cases[i].is_int64, "%s", cases[i].text);
        cr_expect_eq(value, cases[i].value, "%s", cases[i].text);
    }
    uint64_t u;
    cr_expect(json_uint64(SPAN("18446744073709551615"), &u) && u == UINT64_MAX);
    cr_expect(!json_uint64(SPAN("18446744073709551616"), &u));
    cr_expect(!json_uint64(SPAN("-1"), &u));
    cr_expect(json_uint64(SPAN("-0"), &u) && u == 0);
    cr_expect(json_is_integer(SPAN("-12")) && !json_is_integer(SPAN("1.0")) && !json_is_integer(SPAN("1E2")));
}

Test(json, doubles_are_finite)
{
    double d;
    char longer[400] = "0.";
    memset(longer + 2, '3', sizeof longer - 3);
    cr_expect(json_double(SPAN("81.2"), &d) && d == 81.2);
    cr_expect(json_double(SPAN("-1e-7"), &d) && d == -1e-7);
    cr_expect(json_double(SPAN("1e-400"), &d) && d == 0);
    cr_expect(!json_double(SPAN("1e400"), &d));
    cr_expect(!json_double(SPAN("-1e400"), &d));
    cr_expect(json_double(span_str(longer), &d) && fabs(d - 1.0 / 3) < 1e-15);
}

static void expect_written(struct span text, const char *expected, uint64_t expected_replaced)
{
    struct bytes out;
    uint64_t replaced = 0;
    bytes_init(&out, 4096);
    cr_assert_eq(json_append_string_lossy(&out, text, &replaced), OK);
    cr_expect(span_is(bytes_span(&out), expected), "%.*s", SPAN_FMT(bytes_span(&out)));
    cr_expect_eq(replaced, expected_replaced);
    cr_expect_eq(json_check(bytes_span(&out), NULL, NULL), OK);
    bytes_deinit(&out);
}

Test(json, strings_that_need_a_second_look_are_odd)
{
    static const struct {
        const char *text;
        bool odd, escaped;
    } cases[] = {
        {"\"\"", false, false},
        {"\"a ~ plain text of more than sixteen bytes\"", false, false},
        {"\"a\\n\"", true, true},
        {"\"\x7f\"", true, false},
        {"\"sixteen bytes and then \x7f\"", true, false},
        {"\"\xc3\xa9\"", true, false},
        {"\"\xc3\xa9\\u00e9\"", true, true},
        {"{\"\\n\":1}", false, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct json_value v;
        cr_assert_eq(json_check(span_str(cases[i].text), &v, NULL), OK);
        cr_expect_eq(v.odd, cases[i].odd, "%s", cases[i].text);
        cr_expect_eq(v.escaped, cases[i].escaped, "%s", cases[i].text);
    }
}

Test(json, del_stands_for_itself)
{
    struct bytes out;
    bytes_init(&out, 1000);
    cr_assert_eq(json_append_string(&out, SPAN("a\x7f" "b, and more than sixteen bytes \x7f\n\x7f")), OK);
    cr_expect(span_is(bytes_span(&out), "\"a\x7f" "b, and more than sixteen bytes \x7f\\n\x7f\""), "%.*s",
              SPAN_FMT(bytes_span(&out)));
    bytes_deinit(&out);
}

Test(json, strings_are_written_escaped)
{
    expect_written(SPAN(""), "\"\"", 0);
    expect_written((struct span){0}, "\"\"", 0);
    expect_written(SPAN("plain text of more than sixteen bytes"), "\"plain text of more than sixteen bytes\"",
                   0);
    expect_written(SPAN("a\"b\\c/d\b\f\n\r\t\x01\x1f\x7f"),
                   "\"a\\\"b\\\\c/d\\b\\f\\n\\r\\t\\u0001\\u001f\x7f\"", 0);
    expect_written(SPAN("\0"), "\"\\u0000\"", 0);
    expect_written(SPAN("\xc3\xa9\xf0\x9f\x98\x80"), "\"\xc3\xa9\xf0\x9f\x98\x80\"", 0);
    expect_written(SPAN("a\xff\xc3(\xe2\x82z"), "\"a\xef\xbf\xbd\xef\xbf\xbd(\xef\xbf\xbd\xef\xbf\xbdz\"", 4);
    expect_written(SPAN("\xed\xa0\x80"), "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"", 3);
}

/* Byte by byte, as slow as it is plain. */
static void write_naively(struct bytes *out, struct span text)
{
    cr_assert_eq(bytes_append_byte(out, '"'), OK);
    for (size_t i = 0; i < text.len;) {
        uint8_t c = text.at[i];
        size_t n = utf8_length(text.at + i, text.at + text.len);
        const char *letters = "\"\\\b\f\n\r\t", *named = "\"\\bfnrt";
        const char *found = c == 0 ? NULL : strchr(letters, c);
        enum err err;
        if (found != NULL)
            err = bytes_printf(out, "\\%c", named[found - letters]);
        else if (c < 0x20)
            err = bytes_printf(out, "\\u%04x", c);
        else
            err = n == 0 ? bytes_append(out, SPAN("\xef\xbf\xbd")) : bytes_append(out, span_of(text.at + i, n));
        cr_assert_eq(err, OK);
        i += n == 0 ? 1 : n;
    }
    cr_assert_eq(bytes_append_byte(out, '"'), OK);
}

Test(json, strings_of_every_length_and_mixture_are_written_as_the_plain_way_writes_them)
{
    static const char *const pieces[] = {"plain letters, sixteen+", "\"", "\\", "\n",   "\x01", "\xc3\xa9", "\xe2\x82\xac",
                                         "\xf0\x9f\x98\x80",       "\xff", "\xe2\x82", "a",    "\x7f"};
    uint64_t x = 88172645463325252;
    for (unsigned round = 0; round < 3000; round++) {
        struct bytes text, expected, got, tight;
        bytes_init(&text, 1 << 16);
        bytes_init(&expected, 1 << 19);
        bytes_init(&got, 1 << 19);
        unsigned count = round % 97 == 0 ? 1500 : round % 60;
        for (unsigned i = 0; i < count; i++) {
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            const char *piece = pieces[(x >> 20) % (sizeof pieces / sizeof pieces[0])];
            cr_assert_eq(bytes_append(&text, span_str(piece)), OK);
        }
        write_naively(&expected, bytes_span(&text));
        cr_assert_eq(json_append_string(&got, bytes_span(&text)), OK);
        cr_assert(span_equal(bytes_span(&got), bytes_span(&expected)), "round %u", round);
        bytes_init(&tight, expected.len);
        cr_assert_eq(json_append_string(&tight, bytes_span(&text)), OK, "round %u", round);
        cr_assert(span_equal(bytes_span(&tight), bytes_span(&expected)), "round %u", round);
        bytes_deinit(&tight);
        bytes_init(&tight, expected.len - 1);
        cr_assert_eq(json_append_string(&tight, bytes_span(&text)), ERR_TOO_BIG);
        cr_assert_eq(tight.len, 0);
        bytes_deinit(&tight);
        bytes_deinit(&got);
        bytes_deinit(&expected);
        bytes_deinit(&text);
    }
}

Test(json, writing_past_the_maximum_leaves_the_buffer_alone)
{
    for (size_t max = 3; max < 21; max++) {
        struct bytes out;
        bytes_init(&out, max);
        cr_assert_eq(bytes_append(&out, SPAN("abc")), OK);
        cr_expect_eq(json_append_string(&out, SPAN("x\n\n\xff\n\n1234")), ERR_TOO_BIG);
        cr_expect_eq(json_compact(&out, SPAN("[ \"aaaaaaaaaaaaaaaaaaaaaaaaaaa\" ]")), ERR_TOO_BIG);
        cr_expect(span_is(bytes_span(&out), "abc"));
        bytes_deinit(&out);
    }
}

Test(json, compact_keeps_what_is_inside_strings)
{
    struct bytes out;
    struct json_value v;
    bytes_init(&out, 4096);
    struct span text = SPAN(" { \"a b\" : [ 1 , \"x \\\" y\\\\\" , \n\t{ } ] ,\r\n \"c\":\"  \" } ");
    cr_assert_eq(json_check(text, &v, NULL), OK);
    cr_assert(v.spaced);
    cr_assert_eq(json_append_compact(&out, &v), OK);
    cr_expect(span_is(bytes_span(&out), "{\"a b\":[1,\"x \\\" y\\\\\",{}],\"c\":\"  \"}"), "%.*s",
              SPAN_FMT(bytes_span(&out)));
    cr_assert_eq(json_check(bytes_span(&out), &v, NULL), OK);
    cr_expect(!v.spaced);
    bytes_deinit(&out);
}

Test(json, run_forms_agree)
{
    struct rng rng;
    uint8_t text[64];
    rng_seed(&rng, 7);
    for (int round = 0; round < 20000; round++) {
        size_t len = rng_below(&rng, sizeof text);
        for (size_t i = 0; i < len; i++)
            text[i] = (uint8_t)(rng_below(&rng, 24) == 0 ? rng_next(&rng) : 0x20 + rng_below(&rng, 0x60));
        const uint8_t *one = text;
        while (one < text + len && json_plain(*one))
            one++;
        cr_assert_eq(json_run(text, text + len), one);
        cr_assert_eq(json_run_portable(text, text + len), one);
    }
}
