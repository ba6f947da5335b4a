/* tls_error: see tls_error.h. */
#include "lib/tls/tls_error.h"

#include "lib/base/calendar.h"
#include "lib/tls/san.h"

#include <mbedtls/error.h>
#include <mbedtls/version.h>
#include <stdio.h>

uint64_t tls_unix_time(const mbedtls_x509_time *t)
{
    struct calendar_date d = {
        .year = (uint64_t)(t->year > 0 ? t->year : 0), (unsigned)t->mon, (unsigned)t->day};
    if (!calendar_exists(d))
        return 0;
    return calendar_days_of(d) * 86400 + (uint64_t)t->hour * 3600 + (uint64_t)t->min * 60 + (uint64_t)t->sec;
}

/* The library writes bytes that it cannot show as '?', so the text is safe for a log line. */
static void describe_dn(const mbedtls_x509_name *dn, char *ret, size_t size)
{
    if (mbedtls_x509_dn_gets(ret, size, dn) < 0)
        (void)snprintf(ret, size, "a name too long to show");
}

static void describe_names(const mbedtls_x509_crt *crt, char *ret, size_t size)
{
    struct bytes text;
    bytes_init(&text, size - 1);
    san_describe(span_of(crt->v3_ext.p, crt->v3_ext.len), 3, &text);
    if (text.len > 0)
        (void)snprintf(ret, size, "%.*s", SPAN_FMT(bytes_span(&text)));
    else
        describe_dn(&crt->subject, ret, size);
    bytes_deinit(&text);
}

void tls_verdict_note(struct tls_verdict *v, const mbedtls_x509_crt *crt, int depth, uint32_t flags)
{
    if (!v->called) /* the library begins at the top of the chain */
        describe_dn(&crt->issuer, v->issuer, sizeof v->issuer);
    v->called = true;
    v->flags |= flags;
    if (flags & MBEDTLS_X509_BADCERT_EXPIRED)
        (void)snprintf(v->ends, sizeof v->ends, "%04d-%02d-%02d %02d:%02d:%02d UTC",
                       crt->valid_to.year % 10000, crt->valid_to.mon % 100, crt->valid_to.day % 100,
                       crt->valid_to.hour % 100, crt->valid_to.min % 100, crt->valid_to.sec % 100);
    if (depth == 0) {
        v->not_after_s = tls_unix_time(&crt->valid_to);
        describe_names(crt, v->names, sizeof v->names);
    }
}

enum err tls_fault_of_verdict(const struct tls_verdict *v, struct span wanted, struct fault *why)
{
    if (v->flags & MBEDTLS_X509_BADCERT_EXPIRED)
        return fault_set(why, ERR_DENIED, "certificate has expired on %s", v->ends);
    if (v->flags & MBEDTLS_X509_BADCERT_FUTURE)
        return fault_set(why, ERR_DENIED, "certificate is not valid yet (is this machine's clock right?)");
    if (v->flags & MBEDTLS_X509_BADCERT_REVOKED)
        return fault_set(why, ERR_DENIED, "certificate has been revoked");
    if (v->flags & MBEDTLS_X509_BADCERT_CN_MISMATCH)
        return fault_set(why, ERR_DENIED, "name mismatch: wanted %.*s, certificate has %s",
                         (int)(wanted.len < 80 ? wanted.len : 80), (const char *)wanted.at, v->names);
    if (v->flags & MBEDTLS_X509_BADCERT_NOT_TRUSTED)
        return fault_set(why, ERR_DENIED, "certificate is signed by an unknown authority: %s", v->issuer);
    if (v->flags & (MBEDTLS_X509_BADCERT_BAD_KEY | MBEDTLS_X509_BADCERT_BAD_MD | MBEDTLS_X509_BADCERT_BAD_PK))
        return fault_set(why, ERR_DENIED, "certificate uses a key or a signature that is too weak");
    if (v->flags & MBEDTLS_X509_BADCERT_MISSING)
        return fault_set(why, ERR_DENIED, "the peer sent no certificate");
    if (v->flags & (MBEDTLS_X509_BADCERT_KEY_USAGE | MBEDTLS_X509_BADCERT_EXT_KEY_USAGE))
        return fault_set(why, ERR_DENIED, "certificate was issued for another use (its key usage does not allow this one)");
    return fault_set(why, ERR_DENIED, "certificate verification failed (flags 0x%x)", (unsigned)v->flags);
}

#if defined(MBEDTLS_SSL_PROTO_TLS1_3)
#define TLS_SPOKEN "this build speaks 1.2 and 1.3, from min_version on"
#else
#define TLS_SPOKEN "this build speaks 1.2 alone: the peer must allow it, or build with mbedTLS 3.6 for 1.3"
#endif

enum err tls_fault_of_alert(uint8_t alert, struct fault *why)
{
    static const struct {
        uint8_t alert;
        const char *words;
    } about_certificates[] = {
        {41, "it wants a certificate of ours"}, /* no_certificate, of old */
        {42, "it finds our certificate bad"},
        {43, "it does not take our kind of certificate"},
        {44, "our certificate has been revoked"},
        {45, "our certificate has expired"},
        {46, "it does not accept our certificate"},
        {48, "it does not know who signed our certificate"},
        {49, "it denies access"},
        {116, "it wants a certificate of ours"},
    };
    for (size_t i = 0; i < sizeof about_certificates / sizeof about_certificates[0]; i++)
        if (about_certificates[i].alert == alert)
            return fault_set(why, ERR_DENIED, "the peer refused the TLS session: %s (alert %u)",
                             about_certificates[i].words, (unsigned)alert);
    const char *words = alert == 40    ? "no common parameters, or it wants a certificate of ours: "
                        : alert == 70  ? "no common TLS version (" TLS_SPOKEN "): "
                        : alert == 112 ? "it does not know the name that was asked for: "
                                       : "";
    return fault_set(why, ERR_MALFORMED, "the peer ended the TLS session: %salert %u", words,
                     (unsigned)alert);
}

enum err tls_fault_of_code(int code, const char *doing, struct fault *why)
{
    char text[160];
    mbedtls_strerror(code, text, sizeof text);
    return fault_set(why, ERR_MALFORMED, "%s: %s (-0x%04x)", doing, text, (unsigned)-code);
}
