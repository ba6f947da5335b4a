/* varint: unsigned LEB128, seven bits per byte, lowest first, and zigzag for signed values.
 * At most ten bytes; a value that would not fit 64 bits is refused. */
#ifndef PENSTOCK_SPOOL_VARINT_H
#define PENSTOCK_SPOOL_VARINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VARINT_MAX 10

static inline size_t varint_size(uint64_t v)
{
    size_t n = 1;
    while (v >= 0x80) {
        v >>= 7;
        n++;
    }
    return n;
}

/* Returns the byte after the number. */
static inline uint8_t *varint_put(uint8_t *at, uint64_t v)
{
    while (v >= 0x80) {
        *at++ = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    *at++ = (uint8_t)v;
    return at;
}

/* Moves *at past the number; false when it is cut off or too long, and then *at is left alone. */
static inline bool varint_get(const uint8_t **at, const uint8_t *end, uint64_t *ret)
{
    const uint8_t *p = *at;
    if (p < end && *p < 0x80) {
        *ret = *p;
        *at = p + 1;
        return true;
    }
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64 && p < end; shift += 7, p++) {
        uint64_t bits = *p & 0x7F;
        if (shift == 63 && bits > 1)
            return false;
        v |= bits << shift;
        if (*p < 0x80) {
            *ret = v;
            *at = p + 1;
            return true;
        }
    }
    return false;
}

static inline uint64_t zigzag(int64_t v)
{
    return ((uint64_t)v << 1) ^ (uint64_t)(v >> 63);
}

static inline int64_t unzigzag(uint64_t v)
{
    return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

#endif
