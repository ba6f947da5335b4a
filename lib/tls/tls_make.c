/* tls_make: see tls_make.h. */
#include "lib/tls/tls_make.h"

#include "lib/base/calendar.h"
#include "lib/base/ensure.h"
#include "lib/base/ip.h"
#include "lib/tls/san.h"
#include "lib/tls/tls_error.h"
#include "lib/tls/tls_private.h"

#include <mbedtls/asn1.h>
#include <mbedtls/bignum.h>
#include <mbedtls/ecp.h>
#include <mbedtls/pk.h>
#include <mbedtls/platform_util.h>
#include <stdio.h>

#define PEM_BYTES_MAX 8192
#define SERIAL_BYTES 16

struct maker {
    mbedtls_entropy_context entropy;
    mbedtls_ctr_drbg_context rng;
    mbedtls_pk_context key, issuer_key;
    mbedtls_x509_crt issuer;
    mbedtls_x509write_cert cert;
};

/* "20240501120000" */
static void put_time(uint64_t unix_s, char ret[16])
{
    struct calendar_date d = calendar_date_of(unix_s / 86400);
    unsigned s = (unsigned)(unix_s % 86400);
    char text[32];
    (void)snprintf(text, sizeof text, "%04u%02u%02u%02u%02u%02u", (unsigned)(d.year % 10000), d.month, d.day,
                   s / 3600, s / 60 % 60, s % 60);
    memcpy(ret, text, 14);
    ret[14] = '\0';
}

static bool put_element(struct bytes *b, uint8_t tag, struct span content)
{
    ensure(content.len < 65536);
    const uint8_t small[] = {tag, (uint8_t)content.len};
    const uint8_t large[] = {tag, 0x82, (uint8_t)(content.len >> 8), (uint8_t)content.len};
    struct span head = content.len < 128 ? span_of(small, 2) : span_of(large, 4);
    return bytes_append(b, head) == OK && bytes_append(b, content) == OK;
}

/* By hand, since 2.28 cannot write this extension. */
static int set_names(struct maker *w, const struct tls_make *m)
{
    struct bytes names, extension;
    bytes_init(&names, 4096);
    bytes_init(&extension, 4096 + 8);
    bool fits = m->name_count <= TLS_MAKE_NAMES_MAX;
    for (unsigned i = 0; i < m->name_count && fits; i++) {
        uint8_t address[16];
        size_t len = ip_parse(m->names[i], address);
        struct span content = len > 0 ? span_of(address, len) : m->names[i];
        fits = content.len <= 253 &&
               put_element(&names, (uint8_t)(0x80 | (len > 0 ? SAN_IP : SAN_DNS)), content);
    }
    int code =
        fits && put_element(&extension, 0x30, bytes_span(&names)) ? 0 : MBEDTLS_ERR_X509_BAD_INPUT_DATA;
    if (code == 0 && m->name_count > 0)
        code =
            mbedtls_x509write_crt_set_extension(&w->cert, "\x55\x1d\x11", 3, 0, extension.at, extension.len);
    bytes_deinit(&names);
    bytes_deinit(&extension);
    return code;
}

static int set_serial(struct maker *w)
{
    uint8_t serial[SERIAL_BYTES];
    int code = mbedtls_ctr_drbg_random(&w->rng, serial, sizeof serial);
    serial[0] &= 0x7f; /* positive */
    serial[0] |= 0x40; /* and of full length */
    if (code != 0)
        return code;
#if MBEDTLS_VERSION_NUMBER >= 0x03040000
    return mbedtls_x509write_crt_set_serial_raw(&w->cert, serial, sizeof serial);
#else
    mbedtls_mpi number;
    mbedtls_mpi_init(&number);
    code = mbedtls_mpi_read_binary(&number, serial, sizeof serial);
    if (code == 0)
        code = mbedtls_x509write_crt_set_serial(&w->cert, &number);
    mbedtls_mpi_free(&number);
    return code;
#endif
}

static int make_key(struct maker *w)
{
    int code = mbedtls_pk_setup(&w->key, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY));
    if (code == 0)
        code = mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(w->key), mbedtls_ctr_drbg_random,
                                   &w->rng);
    return code;
}

static int set_names_of_both(struct maker *w, const struct tls_make *m)
{
    char subject[128], issuer[256];
    (void)snprintf(subject, sizeof subject, "CN=%s", m->common_name);
    (void)snprintf(issuer, sizeof issuer, "%s", subject);
    if (m->issuer_cert_pem.len > 0 && mbedtls_x509_dn_gets(issuer, sizeof issuer, &w->issuer.subject) < 0)
        return MBEDTLS_ERR_X509_BAD_INPUT_DATA;
    int code = mbedtls_x509write_crt_set_subject_name(&w->cert, subject);
    return code != 0 ? code : mbedtls_x509write_crt_set_issuer_name(&w->cert, issuer);
}

static int load_issuer(struct maker *w, const struct tls_make *m)
{
    if (m->issuer_cert_pem.len == 0)
        return 0;
    char *pem = tls_pem_copy(m->issuer_cert_pem);
    int code = mbedtls_x509_crt_parse(&w->issuer, (const uint8_t *)pem, m->issuer_cert_pem.len + 1);
    tls_pem_free(pem);
    return code != 0 ? code : tls_parse_key(&w->issuer_key, m->issuer_key_pem, &w->rng);
}

static int describe(struct maker *w, const struct tls_make *m)
{
    char from[16], to[16];
    put_time(m->not_before_s, from);
    put_time(m->not_after_s, to);
    unsigned usage = MBEDTLS_X509_KU_DIGITAL_SIGNATURE;
    if (m->authority)
        usage |= MBEDTLS_X509_KU_KEY_CERT_SIGN;
    mbedtls_x509write_crt_set_version(&w->cert, MBEDTLS_X509_CRT_VERSION_3);
    mbedtls_x509write_crt_set_md_alg(&w->cert, MBEDTLS_MD_SHA256);
    mbedtls_x509write_crt_set_subject_key(&w->cert, &w->key);
    mbedtls_x509write_crt_set_issuer_key(&w->cert, m->issuer_cert_pem.len > 0 ? &w->issuer_key : &w->key);
    int code = set_names_of_both(w, m);
    if (code == 0)
        code = set_serial(w);
    if (code == 0)
        code = mbedtls_x509write_crt_set_validity(&w->cert, from, to);
    if (code == 0)
        code = mbedtls_x509write_crt_set_basic_constraints(&w->cert, m->authority, -1);
    if (code == 0)
        code = mbedtls_x509write_crt_set_key_usage(&w->cert, usage);
    if (code == 0)
        code = mbedtls_x509write_crt_set_subject_key_identifier(&w->cert);
    if (code == 0)
        code = mbedtls_x509write_crt_set_authority_key_identifier(&w->cert);
    return code != 0 ? code : set_names(w, m);
}

static int write_pem(struct maker *w, struct bytes *ret_cert_pem, struct bytes *ret_key_pem)
{
    uint8_t text[PEM_BYTES_MAX];
    int code = mbedtls_x509write_crt_pem(&w->cert, text, sizeof text, mbedtls_ctr_drbg_random, &w->rng);
    if (code == 0 && bytes_append(ret_cert_pem, span_str((const char *)text)) != OK)
        code = MBEDTLS_ERR_X509_BUFFER_TOO_SMALL;
    if (code == 0)
        code = mbedtls_pk_write_key_pem(&w->key, text, sizeof text);
    if (code == 0 && bytes_append(ret_key_pem, span_str((const char *)text)) != OK)
        code = MBEDTLS_ERR_X509_BUFFER_TOO_SMALL;
    mbedtls_platform_zeroize(text, sizeof text);
    return code;
}

enum err tls_make_certificate(const struct tls_make *m, struct bytes *ret_cert_pem, struct bytes *ret_key_pem,
                              struct fault *why)
{
    struct maker w;
    bool random = tls_rng_init(&w.rng, &w.entropy);
    mbedtls_pk_init(&w.key);
    mbedtls_pk_init(&w.issuer_key);
    mbedtls_x509_crt_init(&w.issuer);
    mbedtls_x509write_crt_init(&w.cert);
    int code = random ? load_issuer(&w, m) : MBEDTLS_ERR_ENTROPY_SOURCE_FAILED;
    if (code == 0)
        code = make_key(&w);
    if (code == 0)
        code = describe(&w, m);
    if (code == 0)
        code = write_pem(&w, ret_cert_pem, ret_key_pem);
    mbedtls_x509write_crt_free(&w.cert);
    mbedtls_x509_crt_free(&w.issuer);
    mbedtls_pk_free(&w.issuer_key);
    mbedtls_pk_free(&w.key);
    mbedtls_ctr_drbg_free(&w.rng);
    mbedtls_entropy_free(&w.entropy);
    if (code == 0)
        return OK;
    (void)tls_fault_of_code(code, "making a certificate", why);
    if (why != NULL)
        why->err = ERR_CONFIG;
    return ERR_CONFIG;
}
