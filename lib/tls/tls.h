/* tls: TLS 1.2 and 1.3 over byte queues (step 10 of an event's way, and the HTTP input's listener). Bytes
 * from the wire in, bytes for the wire out; no sockets, no files: PEM texts come in as spans. mbedTLS 2.28
 * (TLS 1.2) and 3.6 (both) build from the same source.
 *
 * The peer's name is always checked when `verify` is on: names by the library, addresses
 * (https://10.0.0.1) against iPAddress entries of the certificate by our own code, since the library
 * compares names only.
 *
 * Errors: ERR_DENIED is a matter of certificates (ours or theirs, found by us or by the peer): it will not
 * pass by itself and holds the output. ERR_MALFORMED is any other failure of the protocol or the handshake,
 * ERR_CLOSED an orderly end, ERR_IO an end without close_notify. After a failure output() may still hold an
 * alert that the peer should get before the connection closes. */
#ifndef PENSTOCK_TLS_TLS_H
#define PENSTOCK_TLS_TLS_H

#include "lib/base/bytes.h"

/* Most of one session's output that waits to be sent, and of input that waits to be decrypted. */
#define TLS_OUT_BYTES_MAX (256 * 1024)
#define TLS_IN_BYTES_MAX (512 * 1024)

/* --- trust anchors ---------------------------------------------------------------------------------- */

/* Parsed once, shared by contexts: the system's bundle is some 150 certificates and half a MiB. */
struct tls_roots;

/* All certificates of a PEM bundle; those of kinds that the library does not know are skipped, none at all is
 * ERR_CONFIG. Every holder calls tls_roots_free() once; contexts hold on by themselves. */
MUST_USE enum err tls_roots_new(struct span pem, struct tls_roots **ret, struct fault *why);
void tls_roots_free(struct tls_roots *roots);
unsigned tls_roots_count(const struct tls_roots *roots);

/* --- contexts --------------------------------------------------------------------------------------- */

struct tls_settings {
    bool server;
    struct tls_roots *roots; /* client: who may sign the upstream's certificate, may be NULL without verify.
                              * server: who may sign clients' certificates; NULL asks for none */
    struct span cert_pem;    /* own chain, own first; a server needs it, a client may have it */
    struct span key_pem;     /* its private key, not encrypted */
    bool verify;             /* client; false only where the user wrote that it is unsafe */
    bool tls_1_3_only;       /* min_version "1.3"; ERR_UNSUPPORTED where the library has no TLS 1.3 */
};

struct tls_context;

/* ERR_CONFIG: certificate, key or the two together are unusable; why->text says which (never key bytes).
 * What the spans held is copied or parsed: they may go. */
MUST_USE enum err tls_context_new(const struct tls_settings *settings, struct tls_context **ret,
                                  struct fault *why);

/* Sessions keep what they need of it: a reload may free the context while they go on. */
void tls_context_free(struct tls_context *c);

/* Unix time at which the own certificate (or the first of its chain to do so) ends; 0: there is none. */
uint64_t tls_context_not_after(const struct tls_context *c);

/* "mbed TLS 2.28.3". */
const char *tls_library_version(void);

/* --- sessions --------------------------------------------------------------------------------------- */

struct tls_session;

/* `name`: client: the upstream's host name or address, checked and (a name) sent as SNI; must be given.
 * `resume`: client: what tls_session_save() gave for the same server and context, or empty; unusable bytes
 * are ignored. */
MUST_USE enum err tls_session_new(struct tls_context *c, struct span name, struct span resume,
                                  struct tls_session **ret, struct fault *why);
void tls_session_free(struct tls_session *s);

/* Bytes from the wire; copied. ERR_FULL beyond TLS_IN_BYTES_MAX: read() first. */
MUST_USE enum err tls_session_give(struct tls_session *s, struct span ciphertext);
/* The wire ended: without close_notify before it, read() says ERR_IO once all that came is read. */
void tls_session_eof(struct tls_session *s);

/* Goes on with the handshake: OK when it is done, ERR_AGAIN when more bytes are needed (after sending
 * output()). read() and write() do it themselves, too. */
MUST_USE enum err tls_session_handshake(struct tls_session *s, struct fault *why);

/* Plaintext into the caller's memory, at least one byte with OK; ERR_AGAIN: more bytes are needed. */
MUST_USE enum err tls_session_read(struct tls_session *s, uint8_t *into, size_t size, size_t *ret_len,
                                   struct fault *why);

/* Encrypts straight from the caller's memory, record by record, as long as the output queue has room.
 * *ret_len bytes were taken (also with ERR_AGAIN: come again with the rest when output was sent, or when the
 * handshake is done). */
MUST_USE enum err tls_session_write(struct tls_session *s, struct span plaintext, size_t *ret_len,
                                    struct fault *why);

/* Queues close_notify; nothing can be written any more. */
void tls_session_close(struct tls_session *s);

/* What is to be sent. Good until the next call; sent() drops the first n bytes, take_output() moves all into
 * `into`, which must be empty. */
struct span tls_session_output(const struct tls_session *s);
void tls_session_sent(struct tls_session *s, size_t n);
void tls_session_take_output(struct tls_session *s, struct bytes *into);

bool tls_session_open(const struct tls_session *s);    /* the handshake is done and nothing has failed */
bool tls_session_resumed(const struct tls_session *s); /* client: without a full handshake */
/* Unix time at which the peer's certificate ends; 0: none seen. */
uint64_t tls_session_peer_not_after(const struct tls_session *s);
/* "TLSv1.2", "TLS-ECDHE-…". Static text. */
const char *tls_session_version(const struct tls_session *s);
const char *tls_session_cipher(const struct tls_session *s);

/* Client, after the handshake (TLS 1.3: after the first read): appends what resumes this session later.
 * ERR_NOT_FOUND: the server gave nothing to resume (yet). The bytes are secret. */
MUST_USE enum err tls_session_save(struct tls_session *s, struct bytes *into);

#endif
