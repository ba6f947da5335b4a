/* sha1: FIPS 180-4, for name-based UUIDs alone (RFC 9562 section 5.5), where it need not resist anyone. */
#ifndef PENSTOCK_CODEC_SHA1_H
#define PENSTOCK_CODEC_SHA1_H

#include "lib/base/bytes.h"

enum { SHA1_BYTES = 20 };

struct sha1 {
    uint32_t state[5];
    uint64_t len; /* bytes taken so far */
    uint8_t block[64];
};

void sha1_init(struct sha1 *s);
void sha1_update(struct sha1 *s, struct span data);
/* Ends the computation; `s` must be initialised again before further use. */
void sha1_finish(struct sha1 *s, uint8_t ret[SHA1_BYTES]);

#endif
