/* tls_session: one connection's TLS over two byte queues: see tls.h.
 *
 * The library reads from `in` and writes to `out` through two callbacks that copy; it never sees a socket.
 * Plaintext is encrypted only while a whole record finds room in `out`, so that a write never has to be
 * repeated with the same arguments, which is what the library would want after a full queue. */
#include "lib/tls/tls_private.h"

#include "lib/base/ensure.h"
#include "lib/base/ip.h"
#include "lib/tls/san.h"
#include "lib/tls/tls_error.h"

#include <stdlib.h>

#define RECORD_PLAINTEXT_MAX (16 * 1024)
/* Whatever a cipher adds to a record. */
#define RECORD_OVERHEAD_MAX 1024
#define RECORD_BYTES_MAX (RECORD_PLAINTEXT_MAX + RECORD_OVERHEAD_MAX)
/* An emptied queue of at most this size stays. */
#define QUEUE_KEPT_BYTES (4 * 1024)
#define NAME_BYTES_MAX 253
#define SAVED_BYTES_MAX (64 * 1024)

enum session_state { SESSION_HANDSHAKE, SESSION_OPEN, SESSION_CLOSING, SESSION_ENDED };

struct tls_session {
    struct tls_context *context;
    enum session_state state;
    bool eof;
    bool opened; /* the handshake was done at some time */
    bool ticket_signalled;
    bool resuming;    /* client: the handshake began with a saved session */
    struct fault end; /* ENDED: what every call from now on says */
    struct bytes in, out;
    size_t in_at; /* of `in`, read by the library so far */
    char name[NAME_BYTES_MAX + 1];
    uint8_t address[16];
    size_t address_len; /* 0: the name is no address */
    struct tls_verdict verdict;
    struct bytes ticket; /* TLS 1.3: the last one that came, saved */
    mbedtls_ssl_context ssl;
};

/* --- the queues ------------------------------------------------------------------------------------- */

static int on_send(void *ctx, const unsigned char *at, size_t len)
{
    struct tls_session *s = ctx;
    size_t room = s->out.max - s->out.len;
    if (room == 0)
        return MBEDTLS_ERR_SSL_WANT_WRITE;
    if (len > room)
        len = room;
    enum err err = bytes_append(&s->out, span_of(at, len));
    ensure(err == OK);
    return (int)len;
}

static int on_receive(void *ctx, unsigned char *into, size_t size)
{
    struct tls_session *s = ctx;
    size_t have = s->in.len - s->in_at;
    if (have == 0)
        return s->eof ? 0 : MBEDTLS_ERR_SSL_WANT_READ;
    if (size > have)
        size = have;
    memcpy(into, s->in.at + s->in_at, size);
    s->in_at += size;
    return (int)size;
}

static void queue_emptied(struct bytes *b)
{
    bytes_clear(b);
    if (b->cap > QUEUE_KEPT_BYTES)
        bytes_deinit(b);
}

enum err tls_session_give(struct tls_session *s, struct span ciphertext)
{
    if (s->in_at > 0) {
        bytes_consume(&s->in, s->in_at);
        s->in_at = 0;
    }
    return bytes_append(&s->in, ciphertext) == OK ? OK : ERR_FULL;
}

void tls_session_eof(struct tls_session *s)
{
    s->eof = true;
}

struct span tls_session_output(const struct tls_session *s)
{
    return bytes_span(&s->out);
}

void tls_session_sent(struct tls_session *s, size_t n)
{
    bytes_consume(&s->out, n);
    if (s->out.len == 0)
        queue_emptied(&s->out);
}

void tls_session_take_output(struct tls_session *s, struct bytes *into)
{
    ensure(into->len == 0);
    bytes_deinit(into);
    *into = s->out;
    bytes_init(&s->out, TLS_OUT_BYTES_MAX);
}

/* --- verification ----------------------------------------------------------------------------------- */

/* Called for each certificate of the chain, from the top down to the peer's own. */
int tls_on_verify(void *ctx, mbedtls_x509_crt *crt, int depth, uint32_t *flags)
{
    struct tls_session *s = ((struct tls_context *)ctx)->at_work;
    if (NEVER(s == NULL))
        return MBEDTLS_ERR_X509_FATAL_ERROR; /* a handshake that nobody asked for */
    struct span extensions = span_of(crt->v3_ext.p, crt->v3_ext.len);
    if (depth == 0 && s->address_len > 0 && !san_has_ip(extensions, s->address, s->address_len))
        *flags |= MBEDTLS_X509_BADCERT_CN_MISMATCH;
    tls_verdict_note(&s->verdict, crt, depth, *flags);
    if (!s->context->verify)
        *flags = 0;
    return 0;
}

/* An address is checked by tls_on_verify() and must not be sent as SNI (RFC 6066 3). The library is told that
 * there is deliberately no name for it to check; 3.6 refuses to go on otherwise. */
static enum err set_name(struct tls_session *s, struct span name, struct fault *why)
{
    if (name.len > 0 && name.at[name.len - 1] == '.') /* a fully qualified name; certificates do not end so */
        name.len--;
    if (name.len == 0 || name.len > NAME_BYTES_MAX || memchr(name.at, '\0', name.len) != NULL)
        return fault_set(why, ERR_CONFIG, "no name to check the certificate against");
    memcpy(s->name, name.at, name.len);
    s->address_len = ip_parse(name, s->address);
    int code = mbedtls_ssl_set_hostname(&s->ssl, s->address_len > 0 ? NULL : s->name);
    return code == 0 ? OK : tls_fault_of_code(code, "server name", why);
}

/* --- life ------------------------------------------------------------------------------------------- */

/* What cannot be loaded costs a full handshake, nothing else. */
static void try_resume(struct tls_session *s, struct span saved)
{
    mbedtls_ssl_session session;
    mbedtls_ssl_session_init(&session);
    if (saved.len > 0 && mbedtls_ssl_session_load(&session, saved.at, saved.len) == 0)
        s->resuming = mbedtls_ssl_set_session(&s->ssl, &session) == 0;
    mbedtls_ssl_session_free(&session);
}

enum err tls_session_new(struct tls_context *c, struct span name, struct span resume,
                         struct tls_session **ret, struct fault *why)
{
    struct tls_session *s = must_alloc(sizeof *s);
    s->context = c;
    c->holders++;
    bytes_init(&s->in, TLS_IN_BYTES_MAX);
    bytes_init(&s->out, TLS_OUT_BYTES_MAX);
    bytes_init(&s->ticket, SAVED_BYTES_MAX);
    mbedtls_ssl_init(&s->ssl);
    enum err err = OK;
    int code = mbedtls_ssl_setup(&s->ssl, &c->config);
    if (code != 0)
        err = tls_fault_of_code(code, "TLS session", why);
    if (err == OK && !c->server)
        err = set_name(s, name, why);
    if (err != OK) {
        tls_session_free(s);
        return err;
    }
    mbedtls_ssl_set_bio(&s->ssl, s, on_send, on_receive, NULL);
    if (!c->server)
        try_resume(s, resume);
    *ret = s;
    return OK;
}

void tls_session_free(struct tls_session *s)
{
    if (s == NULL)
        return;
    mbedtls_ssl_free(&s->ssl);
    bytes_deinit(&s->in);
    bytes_deinit(&s->out);
    bytes_deinit(&s->ticket);
    tls_context_free(s->context);
    free(s);
}

/* --- errors ----------------------------------------------------------------------------------------- */

static enum err report(const struct tls_session *s, struct fault *why)
{
    if (why != NULL)
        *why = s->end;
    return s->end.err;
}

/* The server asked for a certificate and we have none. TLS 1.2 has no alert of its own for that. */
static bool lacks_certificate(const struct tls_session *s)
{
    return !s->context->server && s->context->not_after_s == 0 && TLS_WAS_ASKED(&s->ssl);
}

static enum err describe(struct tls_session *s, int code)
{
    struct fault *end = &s->end;
    switch (code) {
    case MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY:
        return fault_set(end, ERR_CLOSED, "the peer closed the TLS session");
    case MBEDTLS_ERR_SSL_CONN_EOF:
    case 0:
        return fault_set(end, ERR_IO, "the connection ended within the TLS session%s",
                         s->state == SESSION_HANDSHAKE ? ", during the handshake" : "");
    case MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE:
        if (TLS_ALERT_OF(&s->ssl) == MBEDTLS_SSL_ALERT_MSG_HANDSHAKE_FAILURE && lacks_certificate(s))
            return fault_set(end, ERR_DENIED,
                             "the peer refused the TLS session: it wants a certificate of ours");
        return tls_fault_of_alert(TLS_ALERT_OF(&s->ssl), end);
    case MBEDTLS_ERR_SSL_NO_CLIENT_CERTIFICATE:
#if !TLS_MBEDTLS_3 /* 2.28 says nothing to the client; handshake_failure is RFC 5246 7.4.6's word for it */
        (void)mbedtls_ssl_send_alert_message(&s->ssl, MBEDTLS_SSL_ALERT_LEVEL_FATAL,
                                             MBEDTLS_SSL_ALERT_MSG_HANDSHAKE_FAILURE);
#endif
        return fault_set(end, ERR_DENIED, "the client sent no certificate");
    default:
        break;
    }
    uint32_t result = mbedtls_ssl_get_verify_result(&s->ssl);
    if (result != UINT32_MAX)
        s->verdict.flags |= result;
    if (code == MBEDTLS_ERR_X509_CERT_VERIFY_FAILED ||
        (s->state == SESSION_HANDSHAKE && s->context->verify && s->verdict.flags != 0))
        return tls_fault_of_verdict(&s->verdict, span_str(s->name), end);
    return tls_fault_of_code(code, s->state == SESSION_HANDSHAKE ? "TLS handshake" : "TLS", end);
}

/* A code that ends the session, or ERR_AGAIN for one that does not. */
static enum err outcome(struct tls_session *s, int code, struct fault *why)
{
    if (code == MBEDTLS_ERR_SSL_WANT_READ || code == MBEDTLS_ERR_SSL_WANT_WRITE)
        return ERR_AGAIN;
    (void)describe(s, code);
    s->state = SESSION_ENDED;
    return report(s, why);
}

/* --- work ------------------------------------------------------------------------------------------- */

enum err tls_session_handshake(struct tls_session *s, struct fault *why)
{
    if (s->state == SESSION_ENDED)
        return report(s, why);
    if (s->state != SESSION_HANDSHAKE)
        return OK;
    s->context->at_work = s;
    int code = mbedtls_ssl_handshake(&s->ssl);
    s->context->at_work = NULL;
    if (code != 0)
        return outcome(s, code, why);
    /* Without a session to resume there was a certificate, and it must have been looked at. */
    if (s->context->verify && !s->verdict.called && !s->resuming && !s->context->server) {
        s->state = SESSION_ENDED;
        (void)fault_set(&s->end, ERR_DENIED, "the certificate of the peer was not verified");
        return report(s, why);
    }
    s->state = SESSION_OPEN;
    s->opened = true;
    return OK;
}

static enum err save_session(struct tls_session *s, struct bytes *into)
{
    mbedtls_ssl_session session;
    mbedtls_ssl_session_init(&session);
    size_t need = 0;
    enum err err = ERR_NOT_FOUND;
    if (mbedtls_ssl_get_session(&s->ssl, &session) == 0 &&
        mbedtls_ssl_session_save(&session, NULL, 0, &need) == MBEDTLS_ERR_SSL_BUFFER_TOO_SMALL &&
        bytes_reserve(into, need) == OK &&
        mbedtls_ssl_session_save(&session, into->at + into->len, need, &need) == 0) {
        into->len += need;
        err = OK;
    }
    mbedtls_ssl_session_free(&session);
    return err;
}

#if TLS_MBEDTLS_3 && defined(MBEDTLS_SSL_PROTO_TLS1_3)
static bool is_tls_1_3(const struct tls_session *s)
{
    return mbedtls_ssl_get_version_number(&s->ssl) == MBEDTLS_SSL_VERSION_TLS1_3;
}
/* In TLS 1.3 tickets come after the handshake; the last one counts. */
static bool took_ticket(struct tls_session *s, int code)
{
    if (code != MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET)
        return false;
    bytes_clear(&s->ticket);
    s->ticket_signalled = save_session(s, &s->ticket) == OK;
    return true;
}
#else
static bool is_tls_1_3(const struct tls_session *s)
{
    (void)s;
    return false;
}
static bool took_ticket(struct tls_session *s, int code)
{
    (void)s;
    (void)code;
    return false;
}
#endif

enum err tls_session_read(struct tls_session *s, uint8_t *into, size_t size, size_t *ret_len,
                          struct fault *why)
{
    ensure(size > 0);
    enum err err = tls_session_handshake(s, why);
    if (err != OK)
        return err;
    /* After a ticket the library may want bytes although there are some: it is asked as long as it takes any.
     */
    int code;
    size_t before;
    do {
        before = s->in_at;
        code = mbedtls_ssl_read(&s->ssl, into, size);
    } while (took_ticket(s, code) ||
             (code == MBEDTLS_ERR_SSL_WANT_READ && s->in_at > before && s->in_at < s->in.len));
    if (s->in_at == s->in.len) {
        s->in_at = 0;
        queue_emptied(&s->in);
    }
    if (code <= 0)
        return outcome(s, code, why);
    *ret_len = (size_t)code;
    return OK;
}

/* Room for all of it, as far as there may be: growing by the record, the queue would be copied each time. */
static void make_room(struct tls_session *s, size_t plaintext)
{
    size_t want = plaintext + (plaintext / RECORD_PLAINTEXT_MAX + 1) * RECORD_OVERHEAD_MAX;
    size_t left = s->out.max - s->out.len;
    enum err err = bytes_reserve(&s->out, want < left ? want : left);
    ensure(err == OK);
}

enum err tls_session_write(struct tls_session *s, struct span plaintext, size_t *ret_len, struct fault *why)
{
    *ret_len = 0;
    if (s->state == SESSION_CLOSING)
        return fault_set(why, ERR_CLOSED, "the TLS session is closing");
    enum err err = tls_session_handshake(s, why);
    if (err == OK)
        make_room(s, plaintext.len);
    while (err == OK && *ret_len < plaintext.len) {
        if (s->out.max - s->out.len < RECORD_BYTES_MAX)
            return ERR_AGAIN;
        int code = mbedtls_ssl_write(&s->ssl, plaintext.at + *ret_len, plaintext.len - *ret_len);
        if (code <= 0)
            return outcome(s, code < 0 ? code : MBEDTLS_ERR_SSL_WANT_WRITE, why);
        *ret_len += (size_t)code;
    }
    return err;
}

void tls_session_close(struct tls_session *s)
{
    if (s->state != SESSION_OPEN)
        return;
    (void)mbedtls_ssl_close_notify(
        &s->ssl); /* an alert of 2 bytes: it fits, or the peer does not read anyway */
    s->state = SESSION_CLOSING;
}

/* --- questions -------------------------------------------------------------------------------------- */

bool tls_session_open(const struct tls_session *s)
{
    return s->state == SESSION_OPEN;
}

/* Only a full handshake shows certificates. TLS 1.2 and 1.3 alike. */
bool tls_session_resumed(const struct tls_session *s)
{
    return !s->context->server && s->opened && !s->verdict.called;
}

uint64_t tls_session_peer_not_after(const struct tls_session *s)
{
    if (s->verdict.called || !s->opened)
        return s->verdict.not_after_s;
    const mbedtls_x509_crt *crt = mbedtls_ssl_get_peer_cert(&s->ssl); /* of a resumed session */
    return crt == NULL ? 0 : tls_unix_time(&crt->valid_to);
}

const char *tls_session_version(const struct tls_session *s)
{
    return mbedtls_ssl_get_version(&s->ssl);
}

const char *tls_session_cipher(const struct tls_session *s)
{
    const char *name = mbedtls_ssl_get_ciphersuite(&s->ssl);
    return name == NULL ? "none" : name;
}

enum err tls_session_save(struct tls_session *s, struct bytes *into)
{
    bool orderly = s->state != SESSION_ENDED || s->end.err == ERR_CLOSED || s->end.err == ERR_IO;
    if (s->context->server || !s->opened || !orderly)
        return ERR_NOT_FOUND;
    if (!is_tls_1_3(s))
        return save_session(s, into);
    if (!s->ticket_signalled)
        return ERR_NOT_FOUND;
    return bytes_append(into, bytes_span(&s->ticket));
}
