/* json_write: writing strings, and taking the white space out of checked text. See json.h. */
#include "lib/codec/json.h"

#include "lib/base/ensure.h"
#include "lib/codec/json_run.h"
#include "lib/codec/utf8.h"

#if defined(__x86_64__)
#include <tmmintrin.h>
#endif

/* Writes the escape of one ASCII byte that cannot stand for itself; returns its length, at most 6. */
static size_t escape_byte(uint8_t c, uint8_t *into)
{
    static const char digits[] = "0123456789abcdef";
    uint8_t letter = 0;
    switch (c) {
    case '"':
    case '\\':
        letter = c;
        break;
    case '\b':
        letter = 'b';
        break;
    case '\f':
        letter = 'f';
        break;
    case '\n':
        letter = 'n';
        break;
    case '\r':
        letter = 'r';
        break;
    case '\t':
        letter = 't';
        break;
    default:
        memcpy(into, "\\u00", 4);
        into[4] = (uint8_t)digits[c >> 4];
        into[5] = (uint8_t)digits[c & 15];
        return 6;
    }
    into[0] = '\\';
    into[1] = letter;
    return 2;
}

/* Appends whatever stands at *at, which json_run() did not pass, and moves behind it. */
static enum err append_special(struct bytes *out, const uint8_t **at, const uint8_t *end, uint64_t *replaced)
{
    uint8_t escape[8];
    if (**at < 0x7f) {
        size_t n = escape_byte(**at, escape);
        *at += 1;
        return bytes_append(out, span_of(escape, n));
    }
    const uint8_t *from = *at;
    while (*at < end && **at >= 0x7f) {
        size_t n = utf8_length(*at, end);
        if (n == 0)
            break;
        *at += n;
    }
    if (*at > from)
        return bytes_append(out, span_of(from, (size_t)(*at - from)));
    *at += 1;
    *replaced += 1;
    return bytes_append(out, SPAN("\xef\xbf\xbd"));
}

static enum err append_inside(struct bytes *out, struct span text, uint64_t *replaced)
{
    if (text.len == 0)
        return OK;
    const uint8_t *at = text.at, *end = text.at + text.len;
    while (at < end) {
        const uint8_t *stop = json_run(at, end);
        enum err err = bytes_append(out, span_of(at, (size_t)(stop - at)));
        if (err != OK)
            return err;
        at = stop;
        if (at < end && (err = append_special(out, &at, end, replaced)) != OK)
            return err;
    }
    return OK;
}

#if defined(__SSE2__)
static inline void copy16(uint8_t *to, const uint8_t *from)
{
    _mm_storeu_si128((__m128i *)(void *)to, _mm_loadu_si128((const __m128i *)(const void *)from));
}

/* Sixteen bytes, of which quotes and backslashes get their backslash: text in text, such as a line of JSON in a
 * field, is full of them. At an odd byte of another kind it stops, and returns false. Thirty-two bytes can be read. */
static inline bool write_block(uint8_t **ref_to, const uint8_t **ref_at)
{
    const uint8_t *at = *ref_at;
    uint8_t *to = *ref_to;
    __m128i v = _mm_loadu_si128((const __m128i *)(const void *)at);
    unsigned odd = json_odd_mask(v), marked = json_marked_mask(v);
    unsigned from = 0, end = odd == marked ? 16 : (unsigned)__builtin_ctz(odd ^ marked);
    for (marked &= (1U << end) - 1; marked != 0; marked &= marked - 1) {
        unsigned mark = (unsigned)__builtin_ctz(marked);
        copy16(to, at + from); /* what is too much is written over */
        to += mark - from;
        *to++ = '\\';
        *to++ = at[mark];
        from = mark + 1;
    }
    copy16(to, at + from);
    *ref_to = to + (end - from);
    *ref_at = at + end;
    return end == 16;
}

#if defined(__x86_64__)
/* For each choice of marked bytes among eight: where each of the sixteen bytes that come of them comes from, one of the
 * eight or, as number 8, the backslash behind them. Made before main() runs. */
static uint8_t spreads[256][16];

__attribute__((constructor)) static void make_spreads(void)
{
    for (unsigned marked = 0; marked < 256; marked++) {
        unsigned to = 0;
        for (uint8_t i = 0; i < 8; i++) {
            if ((marked >> i & 1) != 0)
                spreads[marked][to++] = 8;
            spreads[marked][to++] = i;
        }
    }
}

/* `v` has eight bytes of text, and backslashes behind them. */
static inline __attribute__((target("ssse3,popcnt"))) uint8_t *spread8(uint8_t *to, __m128i v, unsigned marked)
{
    __m128i from = _mm_loadu_si128((const __m128i *)(const void *)spreads[marked]);
    _mm_storeu_si128((__m128i *)(void *)to, _mm_shuffle_epi8(v, from));
    return to + 8 + __builtin_popcount(marked);
}

/* Blocks of sixteen bytes that have nothing odd but quotes and backslashes, eight bytes at a time without a branch.
 * Stops where another odd byte or fewer than 32 readable bytes are left. */
static __attribute__((target("ssse3,popcnt"))) uint8_t *write_blocks(uint8_t *to, const uint8_t **ref_at,
                                                                     const uint8_t *stop, const uint8_t *readable)
{
    const __m128i slashes = _mm_set1_epi8('\\');
    const uint8_t *at = *ref_at;
    if (readable - at < 32)
        return to;
    if (stop > readable - 31)
        stop = readable - 31;
    for (; at < stop; at += 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)at);
        unsigned odd = json_odd_mask(v), marked = json_marked_mask(v);
        if (odd != marked)
            break;
        if (marked == 0) {
            copy16(to, at);
            to += 16;
            continue;
        }
        to = spread8(to, _mm_unpacklo_epi64(v, slashes), marked & 0xff);
        to = spread8(to, _mm_unpackhi_epi64(v, slashes), marked >> 8);
    }
    *ref_at = at;
    return to;
}
#endif
#endif

/* The same into room that was made sure of: takes the text up to `stop` and maybe some bytes more, but none
 * beyond `end`; what lies before `readable` may be looked at. Returns the end of what was written. */
static uint8_t *write_inside(uint8_t *to, const uint8_t **from, const uint8_t *stop, const uint8_t *end,
                             const uint8_t *readable, uint64_t *replaced)
{
    const uint8_t *at = *from;
    while (at < stop) {
#if defined(__x86_64__)
        if (__builtin_cpu_supports("ssse3") && __builtin_cpu_supports("popcnt"))
            to = write_blocks(to, &at, stop, readable);
#endif
#if defined(__SSE2__)
        if (at < stop && readable - at >= 32 && write_block(&to, &at))
            continue;
        if (at >= stop)
            break;
#endif
        size_t n = 1;
        if (*at == '"' || *at == '\\') {
            *to++ = '\\';
            *to++ = *at;
        } else if (json_plain(*at)) {
            *to++ = *at;
        } else if (*at < 0x7f) {
            to += escape_byte(*at, to);
        } else if ((n = utf8_length(at, end)) > 0) {
            memcpy(to, at, n);
            to += n;
        } else {
            memcpy(to, "\xef\xbf\xbd", 3);
            to += 3;
            n = 1;
            *replaced += 1;
        }
        at += n;
    }
    *from = at;
    (void)readable;
    return to;
}

/* How much text is written between two looks at the room for it; what is shorter than two blocks. */
enum { PIECE = 1024, TAIL = 32 };

/* What that many bytes of text may need: six bytes for each, and for those of the last block of sixteen. */
static size_t room_for(size_t text_len)
{
    return 6 * (text_len + 16) + 16;
}

/* The last bytes are moved to where more can be read behind them: spaces, of which those that
 * the last block took along are taken off again. */
static uint8_t *write_tail(uint8_t *to, struct span text, uint64_t *replaced)
{
    uint8_t tail[2 * TAIL];
    const uint8_t *at = tail, *end = tail + text.len;
    ensure(text.len < TAIL);
    memset(tail, ' ', sizeof tail);
    memcpy(tail, text.at, text.len);
    to = write_inside(to, &at, end, end, tail + sizeof tail, replaced);
    return to - (at - end);
}

static enum err append_text(struct bytes *out, struct span text, uint64_t *replaced)
{
    const uint8_t *at = text.at, *end = text.at + text.len;
    while (at < end) {
        size_t left = (size_t)(end - at), piece = left < PIECE ? left : PIECE;
        if (bytes_reserve(out, room_for(piece)) != OK)
            return append_inside(out, span_of(at, left), replaced); /* each byte counts there */
        uint8_t *to = out->at + out->len;
        if (left < TAIL) {
            to = write_tail(to, span_of(at, left), replaced);
            at = end;
        } else {
            const uint8_t *stop = left - (TAIL - 1) < piece ? end - (TAIL - 1) : at + piece;
            to = write_inside(to, &at, stop, end, end, replaced);
        }
        out->len = (size_t)(to - out->at);
    }
    return OK;
}

#if defined(__SSE2__)
/* Two pieces of `n` bytes, 4 or 8, that may overlap and together are the text. */
static inline __attribute__((always_inline)) bool copy_two(uint8_t *to, struct span text, size_t n)
{
    uint64_t first = 0, last = 0;
    const uint64_t filler = n == 8 ? 0 : UINT64_C(0x2020202000000000); /* is plain */
    memcpy(&first, text.at, n);
    memcpy(&last, text.at + text.len - n, n);
    if (json_odd_mask(_mm_set_epi64x((long long)(first | filler), (long long)(last | filler))) != 0)
        return false;
    memcpy(to, &first, n);
    memcpy(to + text.len - n, &last, n);
    return true;
}
#endif

/* Copies text as far as it is plain, and returns how far that is known: either all of it, or less. */
static inline __attribute__((always_inline)) size_t copy_plain(uint8_t *to, struct span text)
{
    size_t at = 0;
#if defined(__SSE2__)
    if (text.len < 16 && text.len >= 4)
        return (text.len >= 8 ? copy_two(to, text, 8) : copy_two(to, text, 4)) ? text.len : 0;
    for (; text.len - at >= 16; at += 16) {
        if (json_odd_mask(_mm_loadu_si128((const __m128i *)(const void *)(text.at + at))) != 0)
            return at;
        copy16(to + at, text.at + at);
    }
    if (at > 0 && at < text.len) { /* the last sixteen may overlap those before */
        at = text.len - 16;
        if (json_odd_mask(_mm_loadu_si128((const __m128i *)(const void *)(text.at + at))) != 0)
            return at;
        copy16(to + at, text.at + at);
        return text.len;
    }
#endif
    if (at == text.len)
        return at;
    size_t plain = (size_t)(json_run_portable(text.at + at, text.at + text.len) - text.at);
    memcpy(to + at, text.at + at, plain - at);
    return plain;
}

/* The rest of a string whose quote and first `plain` bytes are written. Apart, so that those that have no rest do not
 * pay for its frame. */
static __attribute__((noinline)) enum err append_rest(struct bytes *out, struct span text, size_t plain,
                                                      uint64_t *replaced)
{
    size_t before = out->len;
    uint64_t bad = 0;
    out->len += plain + 1;
    enum err err = append_text(out, span_of(text.at + plain, text.len - plain), &bad);
    if (err == OK)
        err = bytes_append_byte(out, '"');
    if (err != OK) {
        out->len = before;
        return err;
    }
    if (replaced != NULL)
        *replaced += bad;
    return OK;
}

static inline __attribute__((always_inline)) enum err append_string(struct bytes *out, struct span text,
                                                                    uint64_t *replaced)
{
    if (text.len + 2 > out->cap - out->len && bytes_reserve(out, text.len + 2) != OK)
        return ERR_TOO_BIG;
    uint8_t *to = out->at + out->len;
    to[0] = '"';
    size_t plain = copy_plain(to + 1, text);
    if (plain < text.len)
        return append_rest(out, text, plain, replaced);
    to[plain + 1] = '"'; /* the usual case: it stands for itself */
    out->len += plain + 2;
    return OK;
}

enum err json_append_string_lossy(struct bytes *out, struct span text, uint64_t *replaced)
{
    return append_string(out, text, replaced);
}

enum err json_append_string(struct bytes *out, struct span text)
{
    return append_string(out, text, NULL);
}

/* Behind the closing quote of the string whose opening quote is at `at`. */
static const uint8_t *string_end(const uint8_t *at, const uint8_t *end)
{
    for (at++; at < end; at++) {
        at = json_run(at, end);
        if (at >= end || *at == '"')
            break;
        if (*at == '\\')
            at++;
    }
    return at < end ? at + 1 : end;
}

enum err json_compact(struct bytes *out, struct span checked)
{
    const uint8_t *at = checked.at, *end = checked.at + checked.len;
    size_t before = out->len;
    while (at < end) {
        const uint8_t *from = at;
        while (at<end && * at> ' ')
            at = *at == '"' ? string_end(at, end) : at + 1;
        if (bytes_append(out, span_of(from, (size_t)(at - from))) != OK) {
            out->len = before;
            return ERR_TOO_BIG;
        }
        while (at < end && *at <= ' ')
            at++;
    }
    return OK;
}

enum err json_append_compact(struct bytes *out, const struct json_value *v)
{
    return v->spaced ? json_compact(out, v->text) : bytes_append(out, v->text);
}
