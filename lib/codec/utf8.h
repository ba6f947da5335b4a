/* utf8: is this well-formed UTF-8 (RFC 3629)? Overlong forms, surrogates and anything above U+10FFFF are
 * not. Everything here is small and inline, because the JSON and msgpack scanners call it per character
 * of text that is not ASCII. */
#ifndef PENSTOCK_CODEC_UTF8_H
#define PENSTOCK_CODEC_UTF8_H

#include "lib/base/bytes.h"

static inline bool utf8_continues(uint8_t c)
{
    return (c & 0xc0) == 0x80;
}

/* The length (1 to 4) of the character at `at`, or 0 when the bytes up to `end` do not begin with a whole
 * well-formed one. `at < end`. */
static inline size_t utf8_length(const uint8_t *at, const uint8_t *end)
{
    uint8_t c = at[0];
    size_t left = (size_t)(end - at);
    if (c < 0x80)
        return 1;
    if (c < 0xe0)
        return c >= 0xc2 && left >= 2 && utf8_continues(at[1]) ? 2 : 0;
    if (c < 0xf0) {
        if (left < 3 || !utf8_continues(at[1]) || !utf8_continues(at[2]))
            return 0;
        if ((c == 0xe0 && at[1] < 0xa0) || (c == 0xed && at[1] > 0x9f))
            return 0; /* overlong; surrogate */
        return 3;
    }
    if (c > 0xf4 || left < 4 || !utf8_continues(at[1]) || !utf8_continues(at[2]) || !utf8_continues(at[3]))
        return 0;
    if ((c == 0xf0 && at[1] < 0x90) || (c == 0xf4 && at[1] > 0x8f))
        return 0; /* overlong; beyond U+10FFFF */
    return 4;
}

static inline bool utf8_valid(struct span s)
{
    for (size_t i = 0; i < s.len;) {
        size_t n = utf8_length(s.at + i, s.at + s.len);
        if (n == 0)
            return false;
        i += n;
    }
    return true;
}

/* Writes the UTF-8 form of a code point that is no surrogate and at most U+10FFFF; returns its length. */
static inline size_t utf8_encode(uint32_t code, uint8_t into[4])
{
    if (code < 0x80) {
        into[0] = (uint8_t)code;
        return 1;
    }
    if (code < 0x800) {
        into[0] = (uint8_t)(0xc0 | code >> 6);
        into[1] = (uint8_t)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        into[0] = (uint8_t)(0xe0 | code >> 12);
        into[1] = (uint8_t)(0x80 | (code >> 6 & 0x3f));
        into[2] = (uint8_t)(0x80 | (code & 0x3f));
        return 3;
    }
    into[0] = (uint8_t)(0xf0 | code >> 18);
    into[1] = (uint8_t)(0x80 | (code >> 12 & 0x3f));
    into[2] = (uint8_t)(0x80 | (code >> 6 & 0x3f));
    into[3] = (uint8_t)(0x80 | (code & 0x3f));
    return 4;
}

#endif
