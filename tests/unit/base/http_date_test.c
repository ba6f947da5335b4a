#include "lib/base/http_date.h"

#include <criterion/criterion.h>

Test(http_date, writes_what_it_reads)
{
    /* 1994-11-06 08:49:37 is RFC 9110's own example. */
    char text[HTTP_DATE_LEN + 1];
    http_date_write(784111777, text);
    cr_expect_str_eq(text, "Sun, 06 Nov 1994 08:49:37 GMT");
    http_date_write(0, text);
    cr_expect_str_eq(text, "Thu, 01 Jan 1970 00:00:00 GMT");
    http_date_write(951782400, text);
    cr_expect_str_eq(text, "Tue, 29 Feb 2000 00:00:00 GMT");
    for (uint64_t t = 0; t < UINT64_C(8000000000); t += 86400 * 13 + 4711) {
        uint64_t back;
        http_date_write(t, text);
        cr_assert(http_date_parse(span_str(text), &back), "%s", text);
        cr_assert_eq(back, t, "%s", text);
    }
}

Test(http_date, reads_the_three_forms)
{
    static const char *const forms[] = {"Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT",
                                        "Sun Nov  6 08:49:37 1994"};
    for (size_t i = 0; i < 3; i++) {
        uint64_t t = 0;
        cr_expect(http_date_parse(span_str(forms[i]), &t), "%s", forms[i]);
        cr_expect_eq(t, 784111777, "%s", forms[i]);
    }
}

Test(http_date, refuses_what_is_no_date)
{
    static const char *const bad[] = {
        "",
        "Sun",
        "Sun,",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 29 Feb 1900 00:00:00 GMT",
        "Sun, 06 Nov 1969 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 CET",
        "Sun, 06 Nov 1994 08:49:37 GMT x",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 06 Foo 1994 08:49:37 GMT",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        uint64_t t;
        cr_expect_not(http_date_parse(span_str(bad[i]), &t), "%s", bad[i]);
    }
}

Test(http_date, retry_after_is_seconds_or_a_date)
{
    uint64_t s = 99;
    cr_expect(http_retry_after(SPAN("120"), 5, &s) && s == 120);
    cr_expect(http_retry_after(SPAN(" 0 "), 5, &s) && s == 0);
    cr_expect(http_retry_after(SPAN("99999999999999999999999"), 5, &s) && s == UINT64_MAX);
    cr_expect(http_retry_after(SPAN("Sun, 06 Nov 1994 08:49:37 GMT"), 784111700, &s) && s == 77);
    cr_expect(http_retry_after(SPAN("Sun, 06 Nov 1994 08:49:37 GMT"), 784111800, &s) && s == 0);
    cr_expect_not(http_retry_after(SPAN("-1"), 5, &s));
    cr_expect_not(http_retry_after(SPAN("1.5"), 5, &s));
    cr_expect_not(http_retry_after(SPAN("soon"), 5, &s));
    cr_expect_not(http_retry_after(SPAN(""), 5, &s));
}
