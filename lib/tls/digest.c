/* digest: see digest.h. */
#include "lib/tls/digest.h"

#include "lib/base/ensure.h"

#include <mbedtls/md.h>

/* These fail only for want of memory or of a digest that every build has. */
static void digest(mbedtls_md_type_t type, const struct span *key, const struct span *parts, size_t count,
                   uint8_t *ret)
{
    mbedtls_md_context_t md;
    mbedtls_md_init(&md);
    int bad = mbedtls_md_setup(&md, mbedtls_md_info_from_type(type), key != NULL);
    bad |= key != NULL ? mbedtls_md_hmac_starts(&md, key->at, key->len) : mbedtls_md_starts(&md);
    for (size_t i = 0; i < count && bad == 0; i++) {
        if (parts[i].len == 0)
            continue;
        bad = key != NULL ? mbedtls_md_hmac_update(&md, parts[i].at, parts[i].len)
                          : mbedtls_md_update(&md, parts[i].at, parts[i].len);
    }
    bad |= key != NULL ? mbedtls_md_hmac_finish(&md, ret) : mbedtls_md_finish(&md, ret);
    mbedtls_md_free(&md);
    ensure(bad == 0);
}

void digest_sha256(const struct span *parts, size_t count, uint8_t ret[DIGEST_SHA256_LEN])
{
    digest(MBEDTLS_MD_SHA256, NULL, parts, count, ret);
}

void digest_sha512(const struct span *parts, size_t count, uint8_t ret[DIGEST_SHA512_LEN])
{
    digest(MBEDTLS_MD_SHA512, NULL, parts, count, ret);
}

void digest_hmac_sha256(struct span key, const struct span *parts, size_t count,
                        uint8_t ret[DIGEST_SHA256_LEN])
{
    static const uint8_t nothing[1];
    if (key.at == NULL)
        key = span_of(nothing, 0);
    digest(MBEDTLS_MD_SHA256, &key, parts, count, ret);
}

void digest_hex(const uint8_t *bytes, size_t len, char *ret)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < len; i++) {
        ret[2 * i] = digits[bytes[i] >> 4];
        ret[2 * i + 1] = digits[bytes[i] & 15];
    }
    ret[2 * len] = '\0';
}

bool digest_equal(struct span a, struct span b)
{
    if (a.len != b.len)
        return false;
    volatile uint8_t different = 0;
    for (size_t i = 0; i < a.len; i++)
        different |= (uint8_t)(a.at[i] ^ b.at[i]);
    return different == 0;
}
