/* sink_cert: see the header. P-256 keys, SHA-256, X.509 version 3 (RFC 5280).
 *
 * One source for mbedTLS 2.28 and 3: 2.28 has no call for subjectAltName, so its DER is written here, which also
 * works with 3. GeneralName's tags are context-specific: [2] dNSName, [7] iPAddress. */
#include "agent/sink_cert.h"

#include "lib/base/bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <mbedtls/asn1.h>
#include <mbedtls/ctr_drbg.h>
#include <mbedtls/ecp.h>
#include <mbedtls/entropy.h>
#include <mbedtls/oid.h>
#include <mbedtls/pk.h>
#include <mbedtls/x509_crt.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct maker {
    mbedtls_entropy_context entropy;
    mbedtls_ctr_drbg_context rng;
    mbedtls_pk_context ca_key, key;
    char begin[15], end[15];
};

static enum err refused(struct fault *why, const char *what, int rc)
{
    return fault_set(why, ERR_CONFIG, "%s: TLS library error -0x%04x", what, (unsigned)-rc);
}

static int make_key(struct maker *m, mbedtls_pk_context *key)
{
    int rc = mbedtls_pk_setup(key, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY));
    if (rc != 0)
        return rc;
    return mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(*key), mbedtls_ctr_drbg_random, &m->rng);
}

/* Unique per certificate: two authorities of the same name and serial confuse some clients. */
static int set_serial(struct maker *m, mbedtls_x509write_cert *cert)
{
    mbedtls_mpi serial;
    mbedtls_mpi_init(&serial);
    int rc = mbedtls_mpi_fill_random(&serial, 15, mbedtls_ctr_drbg_random, &m->rng);
    if (rc == 0)
        rc = mbedtls_x509write_crt_set_serial(cert, &serial);
    mbedtls_mpi_free(&serial);
    return rc;
}

static void der_append(struct bytes *der, uint8_t tag, struct span value)
{
    (void)!bytes_append_byte(der, tag);
    if (value.len >= 128)
        (void)!bytes_append_byte(der, 0x81);
    (void)!bytes_append_byte(der, (uint8_t)value.len);
    (void)!bytes_append(der, value);
}

/* The names must stay below 256 bytes in all: a host's name has at most 64. */
static int set_names(mbedtls_x509write_cert *cert)
{
    static const uint8_t ip4[4] = {127, 0, 0, 1}, ip6[16] = {[15] = 1};
    char host[65] = "";
    struct bytes names, der;
    bytes_init(&names, 255);
    bytes_init(&der, 300);
    der_append(&names, 0x82, SPAN("localhost"));
    der_append(&names, 0x87, span_of(ip4, sizeof ip4));
    der_append(&names, 0x87, span_of(ip6, sizeof ip6));
    if (gethostname(host, sizeof host - 1) == 0 && host[0] != '\0')
        der_append(&names, 0x82, span_str(host));
    der_append(&der, MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE, bytes_span(&names));
    int rc = mbedtls_x509write_crt_set_extension(cert, MBEDTLS_OID_SUBJECT_ALT_NAME,
                                                 MBEDTLS_OID_SIZE(MBEDTLS_OID_SUBJECT_ALT_NAME), 0, der.at, der.len);
    bytes_deinit(&names);
    bytes_deinit(&der);
    return rc;
}

static int describe(struct maker *m, mbedtls_x509write_cert *cert, bool is_ca)
{
    static const char issuer[] = "CN=penstock sink authority,O=for development only";
    mbedtls_x509write_crt_set_version(cert, MBEDTLS_X509_CRT_VERSION_3);
    mbedtls_x509write_crt_set_md_alg(cert, MBEDTLS_MD_SHA256);
    mbedtls_x509write_crt_set_issuer_key(cert, &m->ca_key);
    mbedtls_x509write_crt_set_subject_key(cert, is_ca ? &m->ca_key : &m->key);
    int rc = mbedtls_x509write_crt_set_issuer_name(cert, issuer);
    if (rc == 0)
        rc = mbedtls_x509write_crt_set_subject_name(cert, is_ca ? issuer : "CN=localhost,O=penstock sink");
    if (rc == 0)
        rc = mbedtls_x509write_crt_set_validity(cert, m->begin, m->end);
    if (rc == 0)
        rc = set_serial(m, cert);
    if (rc == 0)
        rc = mbedtls_x509write_crt_set_basic_constraints(cert, is_ca, is_ca ? 0 : -1);
    if (rc == 0)
        rc = mbedtls_x509write_crt_set_subject_key_identifier(cert);
    if (rc == 0)
        rc = mbedtls_x509write_crt_set_authority_key_identifier(cert);
    if (rc == 0 && is_ca)
        rc = mbedtls_x509write_crt_set_key_usage(cert, MBEDTLS_X509_KU_KEY_CERT_SIGN | MBEDTLS_X509_KU_CRL_SIGN);
    if (rc == 0 && !is_ca)
        rc = set_names(cert);
    return rc;
}

static enum err write_file(const char *path, mode_t mode, const char *text, struct fault *why)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    if (fd < 0)
        return fault_sys(why, errno, "create %s", path);
    size_t len = strlen(text);
    ssize_t n = write(fd, text, len);
    int sys = n < 0 ? errno : 0;
    close(fd);
    return n == (ssize_t)len ? OK : fault_sys(why, sys != 0 ? sys : ENOSPC, "write %s", path);
}

static enum err make_cert(struct maker *m, bool is_ca, const char *path, struct fault *why)
{
    char pem[4096];
    mbedtls_x509write_cert cert;
    mbedtls_x509write_crt_init(&cert);
    int rc = describe(m, &cert, is_ca);
    if (rc == 0)
        rc = mbedtls_x509write_crt_pem(&cert, (unsigned char *)pem, sizeof pem, mbedtls_ctr_drbg_random, &m->rng);
    mbedtls_x509write_crt_free(&cert);
    return rc != 0 ? refused(why, "make a certificate", rc) : write_file(path, 0644, pem, why); /* an agent that runs as somebody else reads it */
}

static enum err make_all(struct maker *m, const struct sink_cert *paths, struct fault *why)
{
    char pem[4096];
    int rc = mbedtls_ctr_drbg_seed(&m->rng, mbedtls_entropy_func, &m->entropy, NULL, 0);
    if (rc == 0)
        rc = make_key(m, &m->ca_key);
    if (rc == 0)
        rc = make_key(m, &m->key);
    if (rc == 0)
        rc = mbedtls_pk_write_key_pem(&m->key, (unsigned char *)pem, sizeof pem);
    if (rc != 0)
        return refused(why, "make keys", rc);
    enum err err = make_cert(m, true, paths->ca, why);
    if (err == OK)
        err = make_cert(m, false, paths->cert, why);
    /* The key comes last: three files that are all there are a whole set. */
    return err != OK ? err : write_file(paths->key, 0600, pem, why);
}

static void set_validity(struct maker *m)
{
    time_t now = time(NULL);
    struct tm tm;
    time_t begin = now - 86400, end = now + (time_t)3650 * 86400;
    strftime(m->begin, sizeof m->begin, "%Y%m%d%H%M%S", gmtime_r(&begin, &tm));
    strftime(m->end, sizeof m->end, "%Y%m%d%H%M%S", gmtime_r(&end, &tm));
}

enum err sink_cert_prepare(const char *dir, struct sink_cert *ret, struct fault *why)
{
    if (snprintf(ret->ca, sizeof ret->ca, "%s/ca.pem", dir) >= (int)sizeof ret->ca ||
        snprintf(ret->cert, sizeof ret->cert, "%s/cert.pem", dir) >= (int)sizeof ret->cert ||
        snprintf(ret->key, sizeof ret->key, "%s/key.pem", dir) >= (int)sizeof ret->key)
        return fault_set(why, ERR_CONFIG, "the directory's name is too long");
    if (mkdir(dir, 0700) != 0 && errno != EEXIST)
        return fault_sys(why, errno, "create %s", dir);
    if (access(ret->ca, R_OK) == 0 && access(ret->cert, R_OK) == 0 && access(ret->key, R_OK) == 0)
        return OK;
    struct maker m = {0};
    mbedtls_entropy_init(&m.entropy);
    mbedtls_ctr_drbg_init(&m.rng);
    mbedtls_pk_init(&m.ca_key);
    mbedtls_pk_init(&m.key);
    set_validity(&m);
    enum err err = make_all(&m, ret, why);
    mbedtls_pk_free(&m.key);
    mbedtls_pk_free(&m.ca_key);
    mbedtls_ctr_drbg_free(&m.rng);
    mbedtls_entropy_free(&m.entropy);
    return err;
}
