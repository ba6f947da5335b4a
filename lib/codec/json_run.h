/* json_run: how far does plain text go? The inner loop of everything that reads or writes JSON strings.
 *
 * Plain is a byte that stands for itself inside a JSON string and needs no second look, not even by those who refuse
 * control characters: ASCII from space up, except the quote, the backslash and DEL. With SSE2 sixteen bytes are judged at a time; elsewhere, and in
 * the last bytes of a text, eight at a time in one 64-bit word. Neither reads a byte at or past `end`.
 * Private to lib/codec; both forms are visible so that a test can hold them against each other. */
#ifndef PENSTOCK_CODEC_JSON_RUN_H
#define PENSTOCK_CODEC_JSON_RUN_H

#include <stdint.h>
#include <string.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

static inline int json_plain(uint8_t c)
{
    return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

/* The first byte in [at, end) that is not plain, or end. */
static inline const uint8_t *json_run_portable(const uint8_t *at, const uint8_t *end)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), highs = ones << 7;
    while (end - at >= 8) {
        uint64_t v;
        memcpy(&v, at, sizeof v);
        uint64_t quote = v ^ ones * '"', slash = v ^ ones * '\\';
        /* (x - 1) & ~x has its high bit set in the lowest zero byte of x, (x - 0x20) & ~x in the lowest byte below
         * 0x20, and x + 1 in the lowest that is DEL; bytes above those may be marked by a borrow or a carry, which
         * only costs the slow loop. */
        uint64_t odd = (v | (v + ones) | ((quote - ones) & ~quote) | ((slash - ones) & ~slash) | ((v - ones * 0x20) & ~v));
        if ((odd & highs) != 0)
            break;
        at += 8;
    }
    while (at < end && json_plain(*at))
        at++;
    return at;
}

#if defined(__SSE2__)
/* A bit for each of sixteen bytes that is not plain, the lowest for the first. */
static inline __attribute__((always_inline)) unsigned json_odd_mask(__m128i v)
{
    const __m128i quote = _mm_set1_epi8('"'), slash = _mm_set1_epi8('\\');
    __m128i odd = _mm_or_si128(_mm_cmpeq_epi8(v, quote), _mm_cmpeq_epi8(v, slash));
    /* One more than each, as a signed byte: DEL and what is not ASCII are negative then, or 0. */
    __m128i low = _mm_cmplt_epi8(_mm_add_epi8(v, _mm_set1_epi8(1)), _mm_set1_epi8(0x21));
    return (unsigned)_mm_movemask_epi8(_mm_or_si128(odd, low));
}

/* The same for the quote and the backslash alone. */
static inline __attribute__((always_inline)) unsigned json_marked_mask(__m128i v)
{
    const __m128i quote = _mm_set1_epi8('"'), slash = _mm_set1_epi8('\\');
    return (unsigned)_mm_movemask_epi8(_mm_or_si128(_mm_cmpeq_epi8(v, quote), _mm_cmpeq_epi8(v, slash)));
}

static inline __attribute__((always_inline)) const uint8_t *json_run(const uint8_t *at, const uint8_t *end)
{
    while (end - at >= 16) {
        unsigned mask = json_odd_mask(_mm_loadu_si128((const __m128i *)(const void *)at));
        if (mask != 0)
            return at + __builtin_ctz(mask);
        at += 16;
    }
    return json_run_portable(at, end);
}
#else
static inline const uint8_t *json_run(const uint8_t *at, const uint8_t *end)
{
    return json_run_portable(at, end);
}
#endif

#endif
