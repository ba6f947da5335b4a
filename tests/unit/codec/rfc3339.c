/* rfc3339: every form that is read, every form that is refused, and the way back. */
#include "lib/codec/rfc3339.h"

#include "lib/base/rng.h"

#include <criterion/criterion.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

struct reading {
    const char *text;
    int64_t sec;
    uint32_t nsec;
};

Test(rfc3339, reads_every_legal_form)
{
    static const struct reading cases[] = {
        {"1970-01-01T00:00:00Z", 0, 0},
        {"2026-05-04T09:12:33.004Z", 1777885953, 4000000},
        {"2026-05-04t09:12:33.004z", 1777885953, 4000000},
        {"2026-05-04T11:12:33.004+02:00", 1777885953, 4000000},
        {"2026-05-04T03:42:33-05:30", 1777885953, 0},
        {"2026-05-04T09:12:33-00:00", 1777885953, 0},
        {"2026-05-04T09:12:33.9Z", 1777885953, 900000000},
        {"2026-05-04T09:12:33.123456789Z", 1777885953, 123456789},
        {"2026-05-04T09:12:33.1234567899999999999999999Z", 1777885953, 123456789},
        {"1985-04-12T23:20:50.52Z", 482196050, 520000000},
        {"1990-12-31T23:59:60Z", 662687999, 999999999},
        {"1990-12-31T15:59:60.5-08:00", 662687999, 999999999},
        {"1937-01-01T12:00:27.87+00:20", -1041337173, 870000000},
        {"2024-02-29T00:00:00Z", 1709164800, 0},
        {"2000-02-29T23:59:59Z", 951868799, 0},
        {"1969-12-31T23:59:59.5Z", -1, 500000000},
        {"0000-01-01T00:00:00Z", INSTANT_SEC_MIN, 0},
        {"9999-12-31T23:59:59.999999999Z", INSTANT_SEC_MAX, 999999999},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct instant t = {-7, 7};
        cr_expect(rfc3339_parse(span_str(cases[i].text), &t), "%s", cases[i].text);
        cr_expect_eq(t.sec, cases[i].sec, "%s: %lld", cases[i].text, (long long)t.sec);
        cr_expect_eq(t.nsec, cases[i].nsec, "%s", cases[i].text);
    }
}

Test(rfc3339, refuses_everything_else)
{
    static const char *const cases[] = {
        "",
        "2026-05-04",
        "2026-05-04T09:12Z",
        "2026-05-04T09:12:33",
        "2026-05-04 09:12:33Z",
        "2026-05-04T09:12:33.Z",
        "2026-05-04T09:12:33,5Z",
        "2026-05-04T09:12:33+0200",
        "2026-05-04T09:12:33+02",
        "2026-05-04T09:12:33+24:00",
        "2026-05-04T09:12:33+02:60",
        "2026-05-04T09:12:33Z ",
        " 2026-05-04T09:12:33Z",
        "2026-13-04T09:12:33Z",
        "2026-00-04T09:12:33Z",
        "2026-05-00T09:12:33Z",
        "2026-04-31T09:12:33Z",
        "2026-02-29T09:12:33Z",
        "1900-02-29T09:12:33Z",
        "2026-05-04T24:00:00Z",
        "2026-05-04T09:60:33Z",
        "2026-05-04T09:12:61Z",
        "2026-5-4T09:12:33Z",
        "26-05-04T09:12:33Z",
        "+2026-05-04T09:12:33Z",
        "2026-05-04T09:12:3\xd9\xa3Z",
        "0000-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "1777885953",
        "2026-05-04T09:12:33ZZ",
    };
    struct instant t;
    for (size_t i = 0; i < COUNT(cases); i++)
        cr_expect(!rfc3339_parse(span_str(cases[i]), &t), "%s", cases[i]);
    cr_expect(!rfc3339_parse(SPAN("2026-05-04T09:12:33\0Z"), &t));
    cr_expect(!rfc3339_parse((struct span){0}, &t));
}

Test(rfc3339, every_prefix_is_refused)
{
    struct instant t;
    struct span whole = SPAN("2026-05-04T11:12:33.004+02:00");
    for (size_t n = 0; n < whole.len; n++)
        cr_expect(!rfc3339_parse(span_of(whole.at, n), &t), "%zu", n);
}

Test(rfc3339, every_place_takes_its_own_bytes_only)
{
    const char whole[] = "2026-05-04T09:12:33Z";
    for (size_t i = 0; i < strlen("2026-05-04T09:12:33"); i++)
        for (int c = 0; c < 256; c++) {
            char text[sizeof whole];
            struct instant t;
            bool digit = c >= '0' && c <= '9', place_of_digit = whole[i] >= '0' && whole[i] <= '9';
            memcpy(text, whole, sizeof text);
            text[i] = (char)c;
            bool taken = rfc3339_parse(span_of(text, sizeof text - 1), &t);
            if (text[i] == whole[i] || (i == 10 && c == 't'))
                cr_expect(taken, "%s", text);
            else
                cr_expect(!taken || (digit && place_of_digit), "byte %d at %zu", c, i);
        }
}

Test(rfc3339, writes_what_it_reads)
{
    static const struct {
        struct instant t;
        const char *ms, *full;
    } cases[] = {
        {{0, 0}, "1970-01-01T00:00:00.000Z", "1970-01-01T00:00:00Z"},
        {{1777885953, 4000000}, "2026-05-04T09:12:33.004Z", "2026-05-04T09:12:33.004Z"},
        {{1777885953, 4999999}, "2026-05-04T09:12:33.004Z", "2026-05-04T09:12:33.004999999Z"},
        {{1777885953, 900000000}, "2026-05-04T09:12:33.900Z", "2026-05-04T09:12:33.9Z"},
        {{-1, 999999999}, "1969-12-31T23:59:59.999Z", "1969-12-31T23:59:59.999999999Z"},
        {{INSTANT_SEC_MIN, 0}, "0000-01-01T00:00:00.000Z", "0000-01-01T00:00:00Z"},
        {{INSTANT_SEC_MAX, 1}, "9999-12-31T23:59:59.000Z", "9999-12-31T23:59:59.000000001Z"},
        {{951782400, 0}, "2000-02-29T00:00:00.000Z", "2000-02-29T00:00:00Z"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char text[RFC3339_TEXT + 1];
        cr_expect_eq(rfc3339_format_ms(cases[i].t, text), strlen(text));
        cr_expect_str_eq(text, cases[i].ms);
        cr_expect_eq(rfc3339_format(cases[i].t, text), strlen(text));
        cr_expect_str_eq(text, cases[i].full);
    }
}

Test(rfc3339, all_times_survive_the_way_through_text)
{
    struct rng rng;
    rng_seed(&rng, 11);
    for (int i = 0; i < 50000; i++) {
        struct instant t, back;
        char text[RFC3339_TEXT + 1];
        t.sec = INSTANT_SEC_MIN + (int64_t)rng_below(&rng, (uint64_t)(INSTANT_SEC_MAX - INSTANT_SEC_MIN) + 1);
        t.nsec = (uint32_t)rng_below(&rng, 1000000000);
        size_t n = rfc3339_format(t, text);
        cr_assert(rfc3339_parse(span_of(text, n), &back), "%s", text);
        cr_assert_eq(instant_compare(t, back), 0, "%s", text);
    }
}

Test(rfc3339, iso_8601_takes_looser_forms_and_tells_local_time)
{
    static const struct {
        const char *text;
        int64_t sec;
        uint32_t nsec;
        bool local;
    } cases[] = {
        {"2026-05-04T09:12:33.004Z", 1777885953, 4000000, false},
        {"2026-05-04 09:12:33Z", 1777885953, 0, false},
        {"2026-05-04T09:12:33,25Z", 1777885953, 250000000, false},
        {"2026-05-04T11:12:33+0200", 1777885953, 0, false},
        {"2026-05-04T11:12:33+02", 1777885953, 0, false},
        {"2026-05-04T11:12:33.5+02:00", 1777885953, 500000000, false},
        {"2026-05-04T09:12:33.123456", 1777885953, 123456000, true},
        {"2026-05-04T09:12", 1777885920, 0, true},
        {"2026-05-04T09:12Z", 1777885920, 0, false},
        {"2026-05-04", 1777852800, 0, true},
    };
    struct instant t;
    bool local;
    for (size_t i = 0; i < COUNT(cases); i++) {
        cr_expect(iso8601_parse(span_str(cases[i].text), &t, &local), "%s", cases[i].text);
        cr_expect(t.sec == cases[i].sec && t.nsec == cases[i].nsec && local == cases[i].local, "%s",
                  cases[i].text);
    }
    static const char *const bad[] = {"",
                                      "2026",
                                      "2026-05",
                                      "20260504T091233Z",
                                      "2026-05-04T",
                                      "2026-05-04T09",
                                      "2026-05-04T09:12:",
                                      "2026-05-04T09:12:33+2",
                                      "2026-05-04T09:12:33+02:",
                                      "2026-05-04T09:12:33+020",
                                      "2026-05-04T09:12:33 +02:00",
                                      "2026-05-04Z",
                                      "2026-W19-1"};
    for (size_t i = 0; i < COUNT(bad); i++)
        cr_expect(!iso8601_parse(span_str(bad[i]), &t, &local), "%s", bad[i]);
}

Test(rfc3339, epoch_forms)
{
    static const struct reading cases[] = {
        {"1777885953", 1777885953, 0},
        {"1777885953004", 1777885953, 4000000},
        {"1777885953004005", 1777885953, 4005000},
        {"1777885953004005006", 1777885953, 4005006},
        {"1535589382.641", 1535589382, 641000000},
        {"12.5", 12, 500000000},
    };
    struct instant t;
    for (size_t i = 0; i < COUNT(cases); i++) {
        cr_expect(epoch_parse(span_str(cases[i].text), &t), "%s", cases[i].text);
        cr_expect(t.sec == cases[i].sec && t.nsec == cases[i].nsec, "%s", cases[i].text);
    }
    static const char *const bad[] = {"",
                                      "-1777885953",
                                      "177788595",
                                      "17778859530",
                                      "177788595300",
                                      "1777885953.",
                                      "1777885953 ",
                                      "1777885953e1",
                                      "0x10",
                                      ".5",
                                      "17778859530040050061",
                                      "17778859530.5",
                                      "1777885953004.5"};
    for (size_t i = 0; i < COUNT(bad); i++)
        cr_expect(!epoch_parse(span_str(bad[i]), &t), "%s", bad[i]);
}
