/* hash: its values are on disk, so they may never change; and every byte and every cut counts. */
#include "lib/base/hash.h"

#include <criterion/criterion.h>

Test(hash, values_never_change)
{
    cr_expect_eq(hash64(SPAN(""), 0), hash64(span_of(NULL, 0), 0));
    cr_expect_eq(hash64(SPAN("a"), 0), UINT64_C(0x78cb5c919ca3d504), "%lx", hash64(SPAN("a"), 0));
    cr_expect_eq(hash64(SPAN("o-19"), 7), UINT64_C(0x0e6661df4d6102f1), "%lx", hash64(SPAN("o-19"), 7));
    cr_expect_eq(hash64(SPAN("0123456789abcdef0123456789abcdef0123456789abcdef"), 0),
                 UINT64_C(0x2bdda8142179c22b), "%lx",
                 hash64(SPAN("0123456789abcdef0123456789abcdef0123456789abcdef"), 0));
}

Test(hash, each_byte_of_each_length_counts)
{
    uint8_t text[80];
    for (size_t len = 1; len <= sizeof text; len++) {
        memset(text, 'x', sizeof text);
        uint64_t plain = hash64(span_of(text, len), 0);
        cr_expect_neq(plain, hash64(span_of(text, len - 1), 0), "length %zu", len);
        cr_expect_neq(plain, hash64(span_of(text, len), 1), "seed, length %zu", len);
        for (size_t i = 0; i < len; i++) {
            text[i] = 'y';
            cr_expect_neq(plain, hash64(span_of(text, len), 0), "length %zu, byte %zu", len, i);
            text[i] = 'x';
        }
    }
}

Test(hash, chained_spans_keep_their_borders)
{
    cr_expect_neq(hash64(SPAN("bc"), hash64(SPAN("a"), 0)), hash64(SPAN("c"), hash64(SPAN("ab"), 0)));
}
