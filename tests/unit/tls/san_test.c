#include "lib/tls/san.h"

#include <criterion/criterion.h>
#include <stdlib.h>

/* Extensions with basicConstraints, then subjectAltName (critical) of a dNSName, an rfc822Name, two
 * addresses. */
static const uint8_t extensions[] = {
    0x30, 0x3e, 0x30, 0x09, 0x06, 0x03, 0x55, 0x1d, 0x13, 0x04, 0x02, 0x30, 0x00, 0x30, 0x31, 0x06,
    0x03, 0x55, 0x1d, 0x11, 0x01, 0x01, 0xff, 0x04, 0x27, 0x30, 0x25, 0x82, 0x06, 'a',  '.',  't',
    'e',  's',  't',  0x81, 0x03, 'a',  '@',  'b',  0x87, 0x04, 10,   1,    2,    3,    0x87, 0x10,
    0x20, 0x01, 0x0d, 0xb8, 0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    7,
};

Test(san, finds_names_and_addresses)
{
    struct san_walk w;
    enum san_kind kind;
    struct span name;
    san_walk_begin(&w, span_of(extensions, sizeof extensions));
    cr_assert(san_walk_next(&w, &kind, &name));
    cr_expect(kind == SAN_DNS && span_is(name, "a.test"));
    cr_assert(san_walk_next(&w, &kind, &name));
    cr_expect(kind == SAN_IP && name.len == 4);
    cr_assert(san_walk_next(&w, &kind, &name));
    cr_expect(kind == SAN_IP && name.len == 16);
    cr_expect_not(san_walk_next(&w, &kind, &name));
    struct span all = span_of(extensions, sizeof extensions);
    cr_expect(san_has_ip(all, (const uint8_t *)"\x0a\x01\x02\x03", 4));
    cr_expect_not(san_has_ip(all, (const uint8_t *)"\x0a\x01\x02\x04", 4));
    struct bytes text;
    bytes_init(&text, 200);
    san_describe(all, 9, &text);
    cr_expect(span_is(bytes_span(&text), "a.test, 10.1.2.3, 2001:db8:0:0:0:0:0:7"));
    bytes_clear(&text);
    san_describe(all, 1, &text);
    cr_expect(span_is(bytes_span(&text), "a.test, …"));
    bytes_deinit(&text);
}

Test(san, survives_every_flipped_byte_and_every_cut)
{
    struct bytes text;
    bytes_init(&text, 64);
    for (size_t i = 0; i < sizeof extensions; i++) {
        uint8_t *cut = malloc(i + 1);
        memcpy(cut, extensions, i);
        (void)san_has_ip(span_of(cut, i), (const uint8_t *)"\x0a\x01\x02\x03", 4);
        free(cut);
        for (unsigned value = 0; value < 256; value++) {
            uint8_t *flipped = malloc(sizeof extensions);
            memcpy(flipped, extensions, sizeof extensions);
            flipped[i] = (uint8_t)value;
            bytes_clear(&text);
            san_describe(span_of(flipped, sizeof extensions), 9, &text);
            free(flipped);
        }
    }
    bytes_deinit(&text);
}
