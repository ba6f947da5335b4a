#include "lib/tls/digest.h"

#include <criterion/criterion.h>

static void expect_hex(const uint8_t *digest, size_t len, const char *want)
{
    char hex[2 * DIGEST_SHA512_LEN + 1];
    digest_hex(digest, len, hex);
    cr_expect_str_eq(hex, want);
}

/* "abc" is the example of FIPS 180-4; the HMAC is RFC 4231's test case 2. */
Test(digest, agrees_with_the_standards)
{
    const struct span parts[] = {SPAN("a"), SPAN(""), SPAN("bc")};
    uint8_t d[DIGEST_SHA512_LEN];
    digest_sha256(parts, 3, d);
    expect_hex(d, 32, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    digest_sha512(parts, 3, d);
    expect_hex(d, 64,
               "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
               "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f");
    const struct span text[] = {SPAN("what do ya want "), SPAN("for nothing?")};
    digest_hmac_sha256(SPAN("Jefe"), text, 2, d);
    expect_hex(d, 32, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    digest_sha256(NULL, 0, d);
    expect_hex(d, 32, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

Test(digest, compares_bytes)
{
    cr_expect(digest_equal(SPAN("abc"), SPAN("abc")));
    cr_expect_not(digest_equal(SPAN("abc"), SPAN("abd")));
    cr_expect_not(digest_equal(SPAN("abc"), SPAN("bbc")));
    cr_expect_not(digest_equal(SPAN("abc"), SPAN("ab")));
    cr_expect(digest_equal((struct span){0}, SPAN("")));
}
