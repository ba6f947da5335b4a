/* hash: see hash.h. */
#include "lib/base/hash.h"

/* Odd constants with half of their bits set; any such would do, but these are part of the format. */
#define HASH_A UINT64_C(0x9e3779b97f4a7c15)
#define HASH_B UINT64_C(0xd1b54a32d192ed03)
#define HASH_C UINT64_C(0x8cb92ba72f3d8dd7)

static uint64_t mix(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t load8(const uint8_t *at)
{
    uint64_t v;
    memcpy(&v, at, sizeof v);
    return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? v : __builtin_bswap64(v);
}

static inline uint64_t load4(const uint8_t *at)
{
    uint32_t v;
    memcpy(&v, at, sizeof v);
    return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? v : __builtin_bswap32(v);
}

/* The last 0 to 16 bytes as words that may overlap; together with the length they say it all. */
static void load_tail(struct span s, size_t left, uint64_t *ret_a, uint64_t *ret_b)
{
    const uint8_t *at = s.at + s.len - left, *end = s.at + s.len;
    if (left >= 8) {
        *ret_a = load8(at);
        *ret_b = load8(end - 8);
    } else if (left >= 4) {
        *ret_a = load4(at);
        *ret_b = load4(end - 4);
    } else if (left > 0) {
        *ret_a = (uint64_t)at[0] << 16 | (uint64_t)at[left / 2] << 8 | end[-1];
        *ret_b = 0;
    } else {
        *ret_a = *ret_b = 0;
    }
}

uint64_t hash64(struct span s, uint64_t seed)
{
    static const uint8_t nothing[1];
    if (s.len == 0)
        s.at = nothing; /* an empty span may be NULL, and NULL has no offsets */
    const uint8_t *at = s.at;
    size_t left = s.len;
    uint64_t h = seed ^ HASH_A, g = ~seed, a, b;
    while (left > 32) {
        h = mix(load8(at) ^ HASH_B, load8(at + 8) ^ h);
        g = mix(load8(at + 16) ^ HASH_C, load8(at + 24) ^ g);
        at += 32;
        left -= 32;
    }
    if (left > 16) {
        h = mix(load8(at) ^ HASH_B, load8(at + 8) ^ h);
        left -= 16;
    }
    load_tail(s, left, &a, &b);
    h = mix(a ^ HASH_B ^ g, b ^ h ^ HASH_C);
    h = mix(h ^ (uint64_t)s.len, HASH_A ^ g);
    return h == 0 ? HASH_C : h;
}
