/* base64: RFC 4648, in both alphabets. */
#ifndef PENSTOCK_CODEC_BASE64_H
#define PENSTOCK_CODEC_BASE64_H

#include "lib/base/bytes.h"

/* Appends the standard alphabet with padding. ERR_TOO_BIG leaves `out` as it was. */
MUST_USE enum err base64_append(struct bytes *out, struct span data);
/* The alphabet for URLs and file names, without padding. */
MUST_USE enum err base64url_append(struct bytes *out, struct span data);

/* Room for what `text_len` characters decode to. */
static inline size_t base64_room(size_t text_len)
{
    return text_len / 4 * 3 + 3;
}

/* Takes either alphabet, padded or not; nothing else, no white space. `into` has base64_room(text.len) bytes.
 */
MUST_USE bool base64_decode(struct span text, uint8_t *into, size_t *ret_len);

#endif
