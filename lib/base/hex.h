/* hex: hexadecimal digits, and the %XX of URLs (RFC 3986, section 2.1). */
#ifndef PENSTOCK_BASE_HEX_H
#define PENSTOCK_BASE_HEX_H

#include "lib/base/bytes.h"

/* The digit's value in either case, or -1. */
static inline int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte that the three characters at `at` stand for, or -1 if no %XX is there. */
static inline int hex_escaped(struct span text, size_t at)
{
    if (text.len < 3 || at > text.len - 3 || text.at[at] != '%')
        return -1;
    int high = hex_digit(text.at[at + 1]), low = hex_digit(text.at[at + 2]);
    return high < 0 || low < 0 ? -1 : high << 4 | low;
}

#endif
