/* sha1: see sha1.h. */
#include "lib/codec/sha1.h"

static uint32_t rotate(uint32_t x, unsigned by)
{
    return x << by | x >> (32 - by);
}

void sha1_init(struct sha1 *s)
{
    *s = (struct sha1){.state = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0}};
}

/* The round function and its constant change every twenty rounds. */
static uint32_t mix(unsigned round, uint32_t b, uint32_t c, uint32_t d)
{
    switch (round / 20) {
    case 0:
        return ((b & c) | (~b & d)) + 0x5a827999;
    case 1:
        return (b ^ c ^ d) + 0x6ed9eba1;
    case 2:
        return ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdc;
    default:
        return (b ^ c ^ d) + 0xca62c1d6;
    }
}

static void take_block(struct sha1 *s, const uint8_t *block)
{
    uint32_t w[80];
    for (unsigned i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 |
               (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
    for (unsigned i = 16; i < 80; i++)
        w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    uint32_t a = s->state[0], b = s->state[1], c = s->state[2], d = s->state[3], e = s->state[4];
    for (unsigned i = 0; i < 80; i++) {
        uint32_t next = rotate(a, 5) + mix(i, b, c, d) + e + w[i];
        e = d;
        d = c;
        c = rotate(b, 30);
        b = a;
        a = next;
    }
    s->state[0] += a;
    s->state[1] += b;
    s->state[2] += c;
    s->state[3] += d;
    s->state[4] += e;
}

void sha1_update(struct sha1 *s, struct span data)
{
    while (data.len > 0) {
        size_t at = s->len % sizeof s->block;
        size_t n = sizeof s->block - at;
        if (n > data.len)
            n = data.len;
        memcpy(s->block + at, data.at, n);
        s->len += n;
        data = span_of(data.at + n, data.len - n);
        if (s->len % sizeof s->block == 0)
            take_block(s, s->block);
    }
}

void sha1_finish(struct sha1 *s, uint8_t ret[SHA1_BYTES])
{
    uint64_t bits = s->len * 8;
    uint8_t length[8];
    sha1_update(s, SPAN("\x80"));
    while (s->len % sizeof s->block != 56)
        sha1_update(s, span_of("", 1));
    for (unsigned i = 0; i < 8; i++)
        length[i] = (uint8_t)(bits >> (56 - 8 * i));
    sha1_update(s, span_of(length, sizeof length));
    for (unsigned i = 0; i < SHA1_BYTES; i++)
        ret[i] = (uint8_t)(s->state[i / 4] >> (24 - 8 * (i % 4)));
}
