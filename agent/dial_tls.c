/* dial_tls: see dial_tls.h. The session keeps queues of bytes; here they go to the socket and come from it. */
#include "agent/dial_tls.h"

#include "agent/dial.h"

#include <errno.h>
#include <stdio.h>

static bool send_output(struct tls_session *s, int fd)
{
    struct span out = tls_session_output(s);
    if (out.len == 0)
        return true;
    if (!dial_write(fd, out))
        return false;
    tls_session_sent(s, out.len);
    return true;
}

/* More ciphertext. False at an error or when the session takes no more. */
static bool hear(struct tls_session *s, int fd)
{
    uint8_t cipher[16 * 1024];
    ssize_t n = dial_read(fd, cipher, sizeof cipher);
    if (n < 0)
        return false;
    if (n == 0)
        tls_session_eof(s);
    else if (tls_session_give(s, span_of(cipher, (size_t)n)) != OK)
        return errno = EPROTO, false;
    return true;
}

struct tls_session *dial_tls(int fd, struct tls_context *context, struct span host, char *text, size_t text_max)
{
    struct tls_session *s = NULL;
    struct fault why;
    enum err err = tls_session_new(context, host, (struct span){0}, &s, &why);
    if (err != OK) {
        (void)snprintf(text, text_max, "%s", why.text);
        return NULL;
    }
    while ((err = tls_session_handshake(s, &why)) == ERR_AGAIN)
        if (!send_output(s, fd) || !hear(s, fd)) {
            (void)fault_sys(&why, errno, "TLS handshake");
            break;
        }
    (void)send_output(s, fd); /* the last of the handshake, or the alert that says why not */
    if (err == OK)
        return s;
    (void)snprintf(text, text_max, "%s", why.text);
    tls_session_free(s);
    return NULL;
}

bool dial_tls_write(struct tls_session *s, int fd, struct span data)
{
    struct fault why;
    while (data.len > 0) {
        size_t n = 0;
        enum err err = tls_session_write(s, data, &n, &why);
        data = span_of(data.at + n, data.len - n);
        if (err != OK && err != ERR_AGAIN)
            return errno = EPROTO, false;
        if (!send_output(s, fd))
            return false;
    }
    return true;
}

ssize_t dial_tls_read(struct tls_session *s, int fd, void *into, size_t max)
{
    struct fault why;
    for (;;) {
        size_t n = 0;
        enum err err = tls_session_read(s, into, max, &n, &why);
        if (err == OK)
            return (ssize_t)n;
        if (err == ERR_CLOSED)
            return 0;
        if (err != ERR_AGAIN)
            return errno = err == ERR_IO ? ECONNRESET : EPROTO, -1;
        if (!send_output(s, fd) || !hear(s, fd))
            return -1;
    }
}
