/* json_write: writing strings, and taking the white space out of checked text. See json.h. */
#include "lib/codec/json.h"
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

enum err json_append_string_lossy(struct bytes *out, struct span text, uint64_t *replaced)
{
    size_t before = out->len;
    uint64_t bad = 0;
    enum err err = bytes_reserve(out, text.len + 2);
    if (err == OK && text.len > 0 && json_run(text.at, text.at + text.len) == text.at + text.len) {
        /* The usual case: it stands for itself. */
        uint8_t *to = out->at + out->len;
        to[0] = '"';
        memcpy(to + 1, text.at, text.len);
        to[text.len + 1] = '"';
        out->len += text.len + 2;
        return OK;
    }
    if (err == OK)
        err = bytes_append_byte(out, '"');
    if (err == OK)
        err = append_inside(out, text, &bad);
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
