/* base64: see base64.h. */
#include "lib/codec/base64.h"

static const char standard[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char for_urls[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static enum err append(struct bytes *out, struct span data, const char *alphabet, bool padded)
{
    if (data.len > SIZE_MAX / 2)
        return ERR_TOO_BIG;
    size_t tail = data.len % 3;
    size_t len = data.len / 3 * 4 + (tail == 0 ? 0 : padded ? 4 : tail + 1);
    enum err err = bytes_reserve(out, len);
    if (err != OK || len == 0)
        return err;
    uint8_t *to = out->at + out->len;
    for (size_t i = 0; i < data.len; i += 3) {
        size_t here = data.len - i < 3 ? data.len - i : 3;
        uint32_t bits = (uint32_t)data.at[i] << 16;
        if (here > 1)
            bits |= (uint32_t)data.at[i + 1] << 8;
        if (here > 2)
            bits |= data.at[i + 2];
        for (size_t k = 0; k <= here; k++)
            *to++ = (uint8_t)alphabet[bits >> (18 - 6 * k) & 63];
        for (size_t k = here; padded && k < 3; k++)
            *to++ = '=';
    }
    out->len += len;
    return OK;
}

enum err base64_append(struct bytes *out, struct span data)
{
    return append(out, data, standard, true);
}

enum err base64url_append(struct bytes *out, struct span data)
{
    return append(out, data, for_urls, false);
}

static int value_of(uint8_t c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '+' || c == '-')
        return 62;
    return c == '/' || c == '_' ? 63 : -1;
}

bool base64_decode(struct span text, uint8_t *into, size_t *ret_len)
{
    size_t len = text.len, made = 0;
    if (len > 0 && len % 4 == 0) /* padding only completes a group of four */
        for (int i = 0; i < 2 && text.at[len - 1] == '='; i++)
            len--;
    if (len % 4 == 1)
        return false;
    uint32_t bits = 0;
    for (size_t i = 0; i < len; i++) {
        int value = value_of(text.at[i]);
        if (value < 0)
            return false;
        bits = bits << 6 | (uint32_t)value;
        if (i % 4 == 0)
            continue;
        into[made++] = (uint8_t)(bits >> (6 - 2 * (i % 4)));
    }
    *ret_len = made;
    return true;
}
