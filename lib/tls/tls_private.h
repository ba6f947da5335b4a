/* tls_private: what tls_context.c and tls_session.c share. */
#ifndef PENSTOCK_TLS_TLS_PRIVATE_H
#define PENSTOCK_TLS_TLS_PRIVATE_H

#include "lib/tls/tls.h"

#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/ssl.h>
#include <mbedtls/ssl_ticket.h>
#include <mbedtls/version.h>
#include <mbedtls/x509_crt.h>

#define TLS_MBEDTLS_3 (MBEDTLS_VERSION_NUMBER >= 0x03000000)

/* What has no accessor: the alert that the peer sent, and whether the server asked us for a certificate. 3.x
 * marks members as private, and keeps the latter where it cannot be seen. */
#if TLS_MBEDTLS_3
#define TLS_ALERT_OF(ssl) ((ssl)->MBEDTLS_PRIVATE(in_msg)[1])
#define TLS_WAS_ASKED(ssl) ((void)(ssl), false)
#else
#define TLS_ALERT_OF(ssl) ((ssl)->in_msg[1])
#define TLS_WAS_ASKED(ssl) ((ssl)->client_auth != 0)
#endif

/* Both are held by several owners who live as long as they like: contexts share roots, and after a reload
 * sessions go on with the context that nobody else has any more. Everything is on one thread. */
struct tls_roots {
    unsigned holders;
    unsigned count;
    mbedtls_x509_crt chain;
};

struct tls_context {
    unsigned holders;
    bool server;
    bool verify;
    uint64_t not_after_s;
    struct tls_roots *roots;
    mbedtls_entropy_context entropy;
    mbedtls_ctr_drbg_context rng;
    mbedtls_ssl_config config;
    mbedtls_x509_crt chain;
    mbedtls_pk_context key;
    mbedtls_ssl_ticket_context tickets;
    struct tls_session *at_work; /* whose handshake the library is in, for tls_on_verify() */
};

/* The library's callback for each certificate of a peer's chain; `ctx` is the context. It is set for the
 * configuration as a whole, since some 3.6 releases call only that one in TLS 1.3. */
int tls_on_verify(void *ctx, mbedtls_x509_crt *crt, int depth, uint32_t *flags);

/* A NUL-terminated copy of a PEM text, as the library wants it; wiped when freed. */
char *tls_pem_copy(struct span pem);
void tls_pem_free(char *pem);

/* Parses a private key that is not encrypted. */
int tls_parse_key(mbedtls_pk_context *key, struct span pem, mbedtls_ctr_drbg_context *rng);

/* Seeds a generator from the system's entropy. False: there is none. */
bool tls_rng_init(mbedtls_ctr_drbg_context *rng, mbedtls_entropy_context *entropy);

#endif
