/* ip: see ip.h. */
#include "lib/base/ip.h"

#include "lib/base/hex.h"

static size_t parse_v4(struct span text, uint8_t ret[4])
{
    size_t at = 0;
    for (unsigned part = 0; part < 4; part++) {
        if (part > 0 && (at >= text.len || text.at[at++] != '.'))
            return 0;
        size_t start = at;
        unsigned value = 0;
        while (at < text.len && at - start < 3 && text.at[at] >= '0' && text.at[at] <= '9')
            value = value * 10 + (text.at[at++] - (unsigned)'0');
        if (at == start || value > 255 || (at - start > 1 && text.at[start] == '0'))
            return 0;
        ret[part] = (uint8_t)value;
    }
    return at == text.len ? 4 : 0;
}

/* One group of up to four hexadecimal digits; the number of digits read. */
static size_t parse_group(struct span rest, uint8_t ret[2])
{
    unsigned value = 0;
    size_t n = 0;
    while (n < rest.len && n < 4 && hex_digit(rest.at[n]) >= 0)
        value = value << 4 | (unsigned)hex_digit(rest.at[n++]);
    ret[0] = (uint8_t)(value >> 8);
    ret[1] = (uint8_t)value;
    return n;
}

static size_t parse_v6(struct span text, uint8_t ret[16])
{
    size_t at = 0, filled = 0, gap = SIZE_MAX; /* gap: where "::" stands */
    if (text.len >= 2 && text.at[0] == ':' && text.at[1] == ':') {
        gap = 0;
        at = 2;
    }
    while (at < text.len && filled < 16) {
        struct span rest = span_of(text.at + at, text.len - at);
        if (filled <= 12 && parse_v4(rest, ret + filled) == 4) {
            filled += 4;
            at = text.len;
            break;
        }
        size_t digits = parse_group(rest, ret + filled);
        if (digits == 0)
            return 0;
        filled += 2;
        at += digits;
        if (at == text.len)
            break;
        if (text.at[at++] != ':' || at == text.len)
            return 0;
        if (text.at[at] == ':') {
            if (gap != SIZE_MAX)
                return 0;
            gap = filled;
            at++;
        }
    }
    if (at != text.len || (gap == SIZE_MAX && filled != 16) || (gap != SIZE_MAX && filled == 16))
        return 0;
    if (gap != SIZE_MAX) {
        size_t tail = filled - gap;
        memmove(ret + 16 - tail, ret + gap, tail);
        memset(ret + gap, 0, 16 - filled);
    }
    return 16;
}

size_t ip_parse(struct span text, uint8_t ret[16])
{
    uint8_t parsed[16] = {0};
    size_t len = parse_v4(text, parsed);
    if (len == 0)
        len = parse_v6(text, parsed);
    if (len > 0)
        memcpy(ret, parsed, len);
    return len;
}

bool ip_is_loopback(const uint8_t *address, size_t len)
{
    static const uint8_t one[16] = {[15] = 1};
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (len == 4)
        return address[0] == 127;
    return memcmp(address, one, 16) == 0 || (memcmp(address, mapped, 12) == 0 && address[12] == 127);
}
