/* bytes: spans that are compared without regard to case. */
#include "lib/base/bytes.h"

#include <criterion/criterion.h>

static uint8_t lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
}

Test(bytes, case_is_ignored_in_letters_alone_at_every_place)
{
    char a[24], b[24];
    for (size_t len = 1; len <= 20; len++)
        for (size_t at = 0; at < len; at++)
            for (unsigned x = 0; x < 256; x++)
                for (unsigned y = 0; y < 256; y += x % 3 == 0 ? 1 : 32) {
                    memset(a, 'K', len);
                    memset(b, 'k', len);
                    a[at] = (char)x;
                    b[at] = (char)((x + y) & 255);
                    bool same = lower((uint8_t)a[at]) == lower((uint8_t)b[at]);
                    cr_assert_eq(span_equal_nocase(span_of(a, len), span_of(b, len)), same, "%zu %zu %u %u", len, at,
                                 x, y);
                }
    cr_expect(!span_equal_nocase(SPAN("abc"), SPAN("abcd")));
    cr_expect(span_equal_nocase(SPAN(""), (struct span){0}));
}
