/* digest: SHA-2, HMAC and comparison without a clock's leak, for handshakes that are no TLS (the forward
 * protocol's) and for secrets that are compared. */
#ifndef PENSTOCK_TLS_DIGEST_H
#define PENSTOCK_TLS_DIGEST_H

#include "lib/base/bytes.h"

#define DIGEST_SHA256_LEN 32
#define DIGEST_SHA512_LEN 64

/* The digest of the parts behind each other. */
void digest_sha256(const struct span *parts, size_t count, uint8_t ret[DIGEST_SHA256_LEN]);
void digest_sha512(const struct span *parts, size_t count, uint8_t ret[DIGEST_SHA512_LEN]);

/* HMAC (RFC 2104) with SHA-256 over the parts behind each other. */
void digest_hmac_sha256(struct span key, const struct span *parts, size_t count,
                        uint8_t ret[DIGEST_SHA256_LEN]);

/* Writes 2 * len lower-case digits and a NUL. */
void digest_hex(const uint8_t *digest, size_t len, char *ret);

/* Takes the same time wherever the bytes differ; lengths are no secret. */
bool digest_equal(struct span a, struct span b);

#endif
