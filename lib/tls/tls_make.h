/* tls_make: certificates of our own making, for `penstock sink --tls-self-signed` and for tests. */
#ifndef PENSTOCK_TLS_TLS_MAKE_H
#define PENSTOCK_TLS_TLS_MAKE_H

#include "lib/base/bytes.h"

struct tls_make {
    const char *common_name;                     /* letters, digits, spaces, dots and dashes */
    const struct span *names;                    /* subjectAltName: host names, and addresses as text */
    unsigned name_count;                         /* at most TLS_MAKE_NAMES_MAX */
    uint64_t not_before_s, not_after_s;          /* Unix time */
    bool authority;                              /* may sign others */
    struct span issuer_cert_pem, issuer_key_pem; /* empty: signed by itself */
};

#define TLS_MAKE_NAMES_MAX 16

/* Appends PEM texts: a certificate with a fresh P-256 key. ERR_CONFIG: the issuer's PEM is unusable, or a
 * name is too long. */
MUST_USE enum err tls_make_certificate(const struct tls_make *m, struct bytes *ret_cert_pem,
                                       struct bytes *ret_key_pem, struct fault *why);

#endif
