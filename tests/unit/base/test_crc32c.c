/* The vectors are those of RFC 3720, appendix B.4 (its CRCs are printed there in byte order). */
#include "lib/base/crc32c.h"

#include "lib/base/rng.h"

#include <criterion/criterion.h>
#include <string.h>

static void both_give(const void *at, size_t len, uint32_t expected)
{
    cr_assert_eq(crc32c(0, at, len), expected);
    cr_assert_eq(crc32c_by_table(0, at, len), expected);
}

Test(crc32c, matches_the_vectors_of_rfc_3720)
{
    uint8_t block[32];
    memset(block, 0, sizeof block);
    both_give(block, sizeof block, 0x8A9136AA);
    memset(block, 0xFF, sizeof block);
    both_give(block, sizeof block, 0x62A8AB43);
    for (uint8_t i = 0; i < 32; i++)
        block[i] = i;
    both_give(block, sizeof block, 0x46DD794E);
    for (uint8_t i = 0; i < 32; i++)
        block[i] = (uint8_t)(31 - i);
    both_give(block, sizeof block, 0x113FDB5C);
    static const uint8_t iscsi_read[48] = {0x01, 0xC0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,    0, 0, 0, 0,
                                           0x14, 0,    0, 0, 0, 0, 4, 0, 0, 0, 0, 0x14, 0, 0, 0, 0x18,
                                           0x28, 0,    0, 0, 0, 0, 0, 0, 2, 0, 0, 0,    0, 0, 0, 0};
    both_give(iscsi_read, sizeof iscsi_read, 0xD9963A56);
    both_give("123456789", 9, 0xE3069283);
    both_give("", 0, 0);
}

Test(crc32c, instruction_and_table_agree_at_every_length_and_alignment)
{
    uint8_t block[300];
    struct rng rng;
    rng_seed(&rng, 7);
    for (size_t i = 0; i < sizeof block; i++)
        block[i] = (uint8_t)rng_next(&rng);
    for (size_t from = 0; from < 16; from++)
        for (size_t len = 0; len + from <= sizeof block; len++)
            cr_assert_eq(crc32c(77, block + from, len), crc32c_by_table(77, block + from, len));
}

Test(crc32c, continues_over_pieces)
{
    static const char text[] = "the quick brown fox jumps over the lazy dog";
    uint32_t whole = crc32c(5, text, sizeof text);
    for (size_t cut = 0; cut <= sizeof text; cut++)
        cr_assert_eq(crc32c(crc32c(5, text, cut), text + cut, sizeof text - cut), whole);
}
