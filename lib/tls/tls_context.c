/* tls_context: trust anchors and what all sessions of one listener or output have in common: see tls.h. */
#include "lib/tls/tls_private.h"

#include "lib/base/ensure.h"
#include "lib/tls/tls_error.h"

#include <mbedtls/error.h>
#include <mbedtls/platform_util.h>
#include <stdlib.h>

#if TLS_MBEDTLS_3
#include <psa/crypto.h>
#endif

/* Tickets that we hand out as a server are good for this long. */
#define TICKET_LIFETIME_S 86400

const char *tls_library_version(void)
{
    return MBEDTLS_VERSION_STRING_FULL;
}

char *tls_pem_copy(struct span pem)
{
    return must_strndup(pem);
}

void tls_pem_free(char *pem)
{
    if (pem != NULL)
        mbedtls_platform_zeroize(pem, strlen(pem));
    free(pem);
}

int tls_parse_key(mbedtls_pk_context *key, struct span pem, mbedtls_ctr_drbg_context *rng)
{
    char *copy = tls_pem_copy(pem);
#if TLS_MBEDTLS_3
    int code =
        mbedtls_pk_parse_key(key, (const uint8_t *)copy, pem.len + 1, NULL, 0, mbedtls_ctr_drbg_random, rng);
#else
    (void)rng;
    int code = mbedtls_pk_parse_key(key, (const uint8_t *)copy, pem.len + 1, NULL, 0);
#endif
    tls_pem_free(copy);
    return code;
}

bool tls_rng_init(mbedtls_ctr_drbg_context *rng, mbedtls_entropy_context *entropy)
{
    static const char purpose[] = "penstock tls";
    mbedtls_entropy_init(entropy);
    mbedtls_ctr_drbg_init(rng);
#if TLS_MBEDTLS_3
    if (psa_crypto_init() != PSA_SUCCESS) /* TLS 1.3 is built on it */
        return false;
#endif
    return mbedtls_ctr_drbg_seed(rng, mbedtls_entropy_func, entropy, (const uint8_t *)purpose,
                                 sizeof purpose) == 0;
}

/* --- trust anchors ---------------------------------------------------------------------------------- */

static unsigned chain_length(const mbedtls_x509_crt *chain)
{
    unsigned n = 0;
    for (; chain != NULL && chain->raw.len > 0; chain = chain->next)
        n++;
    return n;
}

/* The library's count of certificates that it could not read, or a negative code. */
static int parse_chain(mbedtls_x509_crt *chain, struct span pem)
{
    char *copy = tls_pem_copy(pem);
    int code = mbedtls_x509_crt_parse(chain, (const uint8_t *)copy, pem.len + 1);
    free(copy);
    return code;
}

enum err tls_roots_new(struct span pem, struct tls_roots **ret, struct fault *why)
{
    struct tls_roots *roots = must_alloc(sizeof *roots);
    roots->holders = 1;
    mbedtls_x509_crt_init(&roots->chain);
    int code = parse_chain(&roots->chain, pem);
    roots->count = chain_length(&roots->chain);
    if (roots->count == 0) {
        tls_roots_free(roots);
        (void)tls_fault_of_code(code < 0 ? code : MBEDTLS_ERR_X509_CERT_UNKNOWN_FORMAT,
                                "no certificate could be read", why);
        if (why != NULL)
            why->err = ERR_CONFIG;
        return ERR_CONFIG;
    }
    *ret = roots;
    return OK;
}

void tls_roots_free(struct tls_roots *roots)
{
    if (roots == NULL || --roots->holders > 0)
        return;
    mbedtls_x509_crt_free(&roots->chain);
    free(roots);
}

unsigned tls_roots_count(const struct tls_roots *roots)
{
    return roots->count;
}

/* --- contexts --------------------------------------------------------------------------------------- */

static enum err config_fault(struct fault *why, int code, const char *doing)
{
    (void)tls_fault_of_code(code, doing, why);
    if (why != NULL)
        why->err = ERR_CONFIG;
    return ERR_CONFIG;
}

static int check_pair(struct tls_context *c)
{
#if TLS_MBEDTLS_3
    return mbedtls_pk_check_pair(&c->chain.pk, &c->key, mbedtls_ctr_drbg_random, &c->rng);
#else
    return mbedtls_pk_check_pair(&c->chain.pk, &c->key);
#endif
}

static enum err load_own(struct tls_context *c, const struct tls_settings *settings, struct fault *why)
{
    if (settings->cert_pem.len == 0 && settings->key_pem.len == 0) {
        if (settings->server)
            return fault_set(why, ERR_CONFIG, "a TLS server needs a certificate and its key");
        return OK;
    }
    int code = parse_chain(&c->chain, settings->cert_pem);
    if (code != 0)
        return config_fault(why, code < 0 ? code : MBEDTLS_ERR_X509_INVALID_FORMAT, "certificate");
    code = tls_parse_key(&c->key, settings->key_pem, &c->rng);
    if (code != 0)
        return config_fault(why, code, "private key");
    if (check_pair(c) != 0)
        return fault_set(why, ERR_CONFIG, "the private key does not belong to the certificate");
    for (const mbedtls_x509_crt *crt = &c->chain; crt != NULL; crt = crt->next) {
        uint64_t end = tls_unix_time(&crt->valid_to);
        if (c->not_after_s == 0 || end < c->not_after_s)
            c->not_after_s = end;
    }
    code = mbedtls_ssl_conf_own_cert(&c->config, &c->chain, &c->key);
    return code == 0 ? OK : config_fault(why, code, "certificate and key");
}

#if TLS_MBEDTLS_3 && defined(MBEDTLS_SSL_PROTO_TLS1_3)
static enum err set_versions(struct tls_context *c, bool tls_1_3_only, struct fault *why)
{
    (void)why;
    mbedtls_ssl_conf_min_tls_version(&c->config,
                                     tls_1_3_only ? MBEDTLS_SSL_VERSION_TLS1_3 : MBEDTLS_SSL_VERSION_TLS1_2);
#if defined(MBEDTLS_SSL_TLS1_3_SIGNAL_NEW_SESSION_TICKETS_ENABLED) && defined(MBEDTLS_SSL_SESSION_TICKETS)
    /* 3.6.0 signals without being asked, later ones do not. */
    if (!c->server)
        mbedtls_ssl_conf_tls13_enable_signal_new_session_tickets(
            &c->config, MBEDTLS_SSL_TLS1_3_SIGNAL_NEW_SESSION_TICKETS_ENABLED);
#endif
    return OK;
}
#else
static enum err set_versions(struct tls_context *c, bool tls_1_3_only, struct fault *why)
{
#if TLS_MBEDTLS_3
    mbedtls_ssl_conf_min_tls_version(&c->config, MBEDTLS_SSL_VERSION_TLS1_2);
#else
    /* 2.28 would take TLS 1.0 otherwise. */
    mbedtls_ssl_conf_min_version(&c->config, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_3);
#endif
    if (tls_1_3_only)
        return fault_set(why, ERR_UNSUPPORTED, "TLS 1.3 is not in this build's library (%s)",
                         tls_library_version());
    return OK;
}
#endif

/* Who asks whom for a certificate. Without verification the client still looks at the chain, so that its end
 * can be shown, and lets everything pass. */
static enum err set_trust(struct tls_context *c, const struct tls_settings *settings, struct fault *why)
{
    if (!settings->server && settings->verify && settings->roots == NULL)
        return fault_set(why, ERR_CONFIG, "without trust anchors no certificate can be verified");
    int mode = settings->verify ? MBEDTLS_SSL_VERIFY_REQUIRED : MBEDTLS_SSL_VERIFY_OPTIONAL;
    if (settings->server)
        mode = settings->roots != NULL ? MBEDTLS_SSL_VERIFY_REQUIRED : MBEDTLS_SSL_VERIFY_NONE;
    c->verify = mode == MBEDTLS_SSL_VERIFY_REQUIRED;
    mbedtls_ssl_conf_authmode(&c->config, mode);
    mbedtls_ssl_conf_verify(&c->config, tls_on_verify, c);
    /* Some 3.6 releases want a list of authorities even where nothing is verified: our own chain is one. */
    if (!settings->server)
        mbedtls_ssl_conf_ca_chain(&c->config, &c->chain, NULL);
    if (settings->roots != NULL) {
        c->roots = settings->roots;
        c->roots->holders++;
        mbedtls_ssl_conf_ca_chain(&c->config, &c->roots->chain, NULL);
    }
    return OK;
}

static enum err set_tickets(struct tls_context *c, struct fault *why)
{
#if defined(MBEDTLS_SSL_SESSION_TICKETS) && defined(MBEDTLS_SSL_TICKET_C)
    if (c->server) {
        int code = mbedtls_ssl_ticket_setup(&c->tickets, mbedtls_ctr_drbg_random, &c->rng,
                                            MBEDTLS_CIPHER_AES_256_GCM, TICKET_LIFETIME_S);
        if (code != 0)
            return config_fault(why, code, "session tickets");
        mbedtls_ssl_conf_session_tickets_cb(&c->config, mbedtls_ssl_ticket_write, mbedtls_ssl_ticket_parse,
                                            &c->tickets);
    }
#endif
    (void)c;
    (void)why;
    return OK;
}

enum err tls_context_new(const struct tls_settings *settings, struct tls_context **ret, struct fault *why)
{
    struct tls_context *c = must_alloc(sizeof *c);
    c->holders = 1;
    c->server = settings->server;
    bool random = tls_rng_init(&c->rng, &c->entropy);
    mbedtls_ssl_config_init(&c->config);
    mbedtls_x509_crt_init(&c->chain);
    mbedtls_pk_init(&c->key);
    mbedtls_ssl_ticket_init(&c->tickets);
    enum err err = OK;
    int code = mbedtls_ssl_config_defaults(&c->config,
                                           settings->server ? MBEDTLS_SSL_IS_SERVER : MBEDTLS_SSL_IS_CLIENT,
                                           MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT);
    if (!random || code != 0)
        err = fault_set(why, ERR_CONFIG, "TLS cannot start: %s", random ? "no defaults" : "no entropy");
    mbedtls_ssl_conf_rng(&c->config, mbedtls_ctr_drbg_random, &c->rng);
    if (err == OK)
        err = set_versions(c, settings->tls_1_3_only, why);
    if (err == OK)
        err = load_own(c, settings, why);
    if (err == OK)
        err = set_trust(c, settings, why);
    if (err == OK)
        err = set_tickets(c, why);
    if (err != OK) {
        tls_context_free(c);
        return err;
    }
    *ret = c;
    return OK;
}

void tls_context_free(struct tls_context *c)
{
    if (c == NULL || --c->holders > 0)
        return;
    mbedtls_ssl_ticket_free(&c->tickets);
    mbedtls_ssl_config_free(&c->config);
    mbedtls_x509_crt_free(&c->chain);
    mbedtls_pk_free(&c->key);
    mbedtls_ctr_drbg_free(&c->rng);
    mbedtls_entropy_free(&c->entropy);
    tls_roots_free(c->roots);
    free(c);
}

uint64_t tls_context_not_after(const struct tls_context *c)
{
    return c->not_after_s;
}
