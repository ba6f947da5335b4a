/* json_write: writing strings, and taking the white space out of checked text. See json.h. */
#include "lib/codec/json.h"

#include "lib/base/ensure.h"
#include "lib/codec/json_run.h"
#include "lib/codec/utf8.h"

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
    if (**at < 0x80) {
        size_t n = escape_byte(**at, escape);
        *at += 1;
        return bytes_append(out, span_of(escape, n));
    }
    const uint8_t *from = *at;
    while (*at < end && **at >= 0x80) {
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
#endif

/* The same into room that was made sure of: takes the text up to `stop` and maybe some bytes more, but none
 * beyond `end`; what lies before `readable` may be looked at. Returns the end of what was written. */
static uint8_t *write_inside(uint8_t *to, const uint8_t **from, const uint8_t *stop, const uint8_t *end,
                             const uint8_t *readable, uint64_t *replaced)
{
    const uint8_t *at = *from;
    while (at < stop) {
#if defined(__SSE2__)
        if (readable - at >= 32 && write_block(&to, &at))
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
        } else if (*at < 0x80) {
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

/* The last bytes are moved to where more can be read behind them: NUL, at which blocks stop. */
static uint8_t *write_tail(uint8_t *to, struct span text, uint64_t *replaced)
{
    uint8_t tail[2 * TAIL] = {0};
    const uint8_t *at = tail, *end = tail + text.len;
    ensure(text.len < TAIL);
    memcpy(tail, text.at, text.len);
    return write_inside(to, &at, end, end, tail + sizeof tail, replaced);
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

enum err json_append_string_lossy(struct bytes *out, struct span text, uint64_t *replaced)
{
    size_t before = out->len;
    uint64_t bad = 0;
    enum err err = bytes_reserve(out, text.len + 2);
    if (err != OK)
        return err;
    const uint8_t *stop = text.len == 0 ? text.at : json_run(text.at, text.at + text.len);
    size_t plain = (size_t)(stop - text.at);
    uint8_t *to = out->at + out->len;
    to[0] = '"';
    if (plain > 0)
        memcpy(to + 1, text.at, plain);
    if (plain == text.len) { /* the usual case: it stands for itself */
        to[plain + 1] = '"';
        out->len += plain + 2;
        return OK;
    }
    out->len += plain + 1;
    err = append_text(out, span_of(stop, text.len - plain), &bad);
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

enum err json_append_string(struct bytes *out, struct span text)
{
    return json_append_string_lossy(out, text, NULL);
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
