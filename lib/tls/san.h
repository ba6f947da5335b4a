/* san: the subjectAltName of a certificate (RFC 5280 4.2.1.6), read from its raw extensions. */
#ifndef PENSTOCK_TLS_SAN_H
#define PENSTOCK_TLS_SAN_H

#include "lib/base/bytes.h"

enum san_kind { SAN_DNS = 2, SAN_IP = 7 }; /* the tags of GeneralName */

/* Walks names of both kinds. `extensions` is the content of the certificate's [3] field (SEQUENCE OF
 * Extension). Zero-initialise; damaged encodings end the walk. */
struct san_walk {
    struct span names; /* of the extension's SEQUENCE, not yet walked */
};

void san_walk_begin(struct san_walk *w, struct span extensions);
bool san_walk_next(struct san_walk *w, enum san_kind *ret_kind, struct span *ret_name);

/* True when an iPAddress entry is this address (4 or 16 bytes). */
bool san_has_ip(struct span extensions, const uint8_t *address, size_t len);

/* Appends at most `max` names as text, separated by ", ", for people. */
void san_describe(struct span extensions, unsigned max, struct bytes *into);

#endif
