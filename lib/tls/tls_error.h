/* tls_error: what went wrong, in words (part of tls). */
#ifndef PENSTOCK_TLS_TLS_ERROR_H
#define PENSTOCK_TLS_TLS_ERROR_H

#include "lib/base/bytes.h"

#include <mbedtls/ssl.h>
#include <mbedtls/x509_crt.h>

/* What the verification of a chain found out, noted while it ran. */
struct tls_verdict {
    bool called;          /* a certificate was looked at: this was a full handshake */
    uint32_t flags;       /* MBEDTLS_X509_BADCERT_*, over all certificates of the chain */
    uint64_t not_after_s; /* of the peer's own certificate */
    char names[120];      /* for whom it was made */
    char ends[40];        /* "2024-05-01 12:00:00 UTC" of the certificate that has expired */
    char issuer[120];     /* of the topmost certificate seen */
};

/* Notes one certificate; `depth` 0 is the peer's own. */
void tls_verdict_note(struct tls_verdict *v, const mbedtls_x509_crt *crt, int depth, uint32_t flags);

/* ERR_DENIED with the most telling reason: "certificate has expired on …", "name mismatch: wanted X,
 * certificate has Y", "certificate is signed by an unknown authority: …". */
enum err tls_fault_of_verdict(const struct tls_verdict *v, struct span wanted, struct fault *why);

/* A fatal alert of the peer: ERR_DENIED when it is about certificates. */
enum err tls_fault_of_alert(uint8_t alert, struct fault *why);

/* Any other code of the library: ERR_MALFORMED with its text. */
enum err tls_fault_of_code(int code, const char *doing, struct fault *why);

/* Unix seconds. */
uint64_t tls_unix_time(const mbedtls_x509_time *t);

#endif
