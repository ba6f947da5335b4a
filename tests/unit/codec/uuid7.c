/* uuid7: layout, order and the published vectors. */
#include "lib/codec/uuid7.h"

#include "lib/codec/sha1.h"

#include <criterion/criterion.h>
#include <stdio.h>

static unsigned fills;

static void counting_fill(void *ctx, void *into, size_t len)
{
    fills++;
    uint8_t *p = into;
    struct rng *rng = ctx;
    for (size_t i = 0; i < len; i++)
        p[i] = (uint8_t)rng_next(rng);
}

static void ones_fill(void *ctx, void *into, size_t len)
{
    (void)ctx;
    memset(into, 0xff, len);
}

Test(uuid7, carries_clock_version_and_variant)
{
    struct rng rng;
    struct uuid_source s;
    char text[UUID_TEXT + 1];
    rng_seed(&rng, 1);
    uuid_source_init(&s, (struct entropy){&rng, counting_fill});
    struct uuid u = uuid7_make(&s, UINT64_C(0x017f22e279b0)); /* the time of RFC 9562's example */
    uuid_format(&u, text);
    cr_expect_eq(strlen(text), UUID_TEXT);
    cr_expect_eq(strncmp(text, "017f22e2-79b0-7", 15), 0, "%s", text);
    cr_expect(strchr("89ab", text[19]) != NULL, "%s", text);
}

Test(uuid7, grows_within_a_millisecond_and_through_small_steps_back)
{
    struct rng rng;
    struct uuid_source s;
    rng_seed(&rng, 2);
    uuid_source_init(&s, (struct entropy){&rng, counting_fill});
    uint64_t now = UINT64_C(1777885953004);
    struct uuid last = uuid7_make(&s, now);
    for (int i = 0; i < 20000; i++) {
        if (i % 7 == 0)
            now++;
        if (i % 1000 == 999)
            now -= 500;
        struct uuid u = uuid7_make(&s, now);
        cr_assert_lt(memcmp(&last, &u, sizeof u), 0, "%d", i);
        last = u;
    }
    /* 20,000 ids drew little: one pool of 4 KiB serves about a thousand within a millisecond. */
    cr_expect_lt(fills, 60);
}

Test(uuid7, counter_overflow_borrows_the_next_millisecond)
{
    struct uuid_source s;
    uuid_source_init(&s, (struct entropy){NULL, ones_fill});
    struct uuid a = uuid7_make(&s, 1000);
    s.counter = (UINT64_C(1) << 42) - 1;
    struct uuid b = uuid7_make(&s, 1000);
    struct uuid c = uuid7_make(&s, 1001);
    cr_expect_lt(memcmp(&a, &b, sizeof a), 0);
    cr_expect_lt(memcmp(&b, &c, sizeof a), 0);
    cr_expect_eq(b.bytes[5], 1001 & 0xff);
}

Test(uuid7, a_large_step_back_is_followed)
{
    struct uuid_source s;
    uuid_source_init(&s, (struct entropy){NULL, ones_fill});
    (void)uuid7_make(&s, UINT64_C(4000000000000));
    struct uuid u = uuid7_make(&s, 0x0102);
    cr_expect(u.bytes[4] == 1 && u.bytes[5] == 2 && u.bytes[0] == 0);
}

Test(uuid7, version_4_is_random)
{
    struct rng rng;
    struct uuid_source s;
    rng_seed(&rng, 3);
    uuid_source_init(&s, (struct entropy){&rng, counting_fill});
    struct uuid a = uuid4_make(&s), b = uuid4_make(&s);
    cr_expect_neq(memcmp(&a, &b, sizeof a), 0);
    cr_expect_eq(a.bytes[6] >> 4, 4);
    cr_expect_eq(a.bytes[8] >> 6, 2);
}

Test(uuid7, version_5_matches_the_rfc)
{
    /* RFC 9562 appendix A.4: the DNS name space and www.example.com. */
    struct uuid dns;
    char text[UUID_TEXT + 1];
    cr_assert(uuid_parse(SPAN("6BA7B810-9dad-11d1-80b4-00c04fd430c8"), &dns));
    struct span parts[] = {SPAN("www."), SPAN("example"), SPAN(".com")};
    struct uuid u = uuid5_make(&dns, parts, 3);
    uuid_format(&u, text);
    cr_expect_str_eq(text, "2ed6657d-e927-568b-95e1-2665a8aea6a2");
}

Test(uuid7, text_that_is_no_uuid_is_refused)
{
    struct uuid u;
    cr_expect(!uuid_parse(SPAN(""), &u));
    cr_expect(!uuid_parse(SPAN("2ed6657de927568b95e12665a8aea6a2"), &u));
    cr_expect(!uuid_parse(SPAN("2ed6657d-e927-568b-95e1-2665a8aea6a"), &u));
    cr_expect(!uuid_parse(SPAN("2ed6657d-e927-568b-95e1-2665a8aea6ag"), &u));
    cr_expect(!uuid_parse(SPAN("2ed6657d-e927-568b-95e112665a8aea6a2"), &u));
    cr_expect(!uuid_parse(SPAN("2ed6657d-e927-568b-95e1-2665a8aea6a2 "), &u));
}

static void expect_sha1(struct span part, size_t times, const char *expected)
{
    struct sha1 s;
    uint8_t digest[SHA1_BYTES];
    char text[2 * SHA1_BYTES + 1];
    sha1_init(&s);
    for (size_t i = 0; i < times; i++)
        sha1_update(&s, part);
    sha1_finish(&s, digest);
    for (size_t i = 0; i < SHA1_BYTES; i++)
        (void)snprintf(text + 2 * i, 3, "%02x", digest[i]);
    cr_expect_str_eq(text, expected);
}

Test(sha1, matches_fips_180_vectors)
{
    expect_sha1(SPAN("abc"), 1, "a9993e364706816aba3e25717850c26c9cd0d89d");
    expect_sha1(SPAN(""), 1, "da39a3ee5e6b4b0d3255bfef95601890afd80709");
    expect_sha1(SPAN("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"), 1,
                "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
    expect_sha1(SPAN("a"), 1000000, "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
}
