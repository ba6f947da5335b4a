/* http_client: the client side of one HTTP/1.1 connection (step 10 of an event's way): a request head to
 * send before a body, and the answer read back.
 *
 * An answer counts only when its headers and its whole body, by its own framing, have arrived. Everything
 * else is told apart by what a retry must know: no byte of an answer (the request may or may not have been
 * acted on, a reused connection may just have been closed), a torn answer, and bytes that are no HTTP. */
#ifndef PENSTOCK_HTTP_HTTP_CLIENT_H
#define PENSTOCK_HTTP_HTTP_CLIENT_H

#include "lib/http/http_request.h"

#include <llhttp.h>

/* --- the request ------------------------------------------------------------------------------------ */

struct http_request_head {
    struct span method;              /* "POST" */
    struct span target;              /* "/path?query" */
    struct span authority;           /* the Host header: "host" or "host:port" (url_write_authority) */
    const struct http_field *fields; /* further headers, not Host, Content-Length or Connection */
    unsigned field_count;
    bool has_body; /* writes Content-Length, also for 0 */
    uint64_t content_length;
    bool close; /* "Connection: close" */
};

/* Appends the head up to and with the empty line, or nothing: ERR_MALFORMED when a part holds what would
 * break out of its place (CR, LF, NUL, a space in the target), ERR_TOO_BIG when `out` has no room. */
MUST_USE enum err http_request_head_write(struct bytes *out, const struct http_request_head *h);

/* "CONNECT host:port" for a proxy. `authority` with port (url_write_authority with always_port);
 * `proxy_authorization` may be empty. The answer is read with HTTP_CLIENT_CONNECT. */
MUST_USE enum err http_connect_write(struct bytes *out, struct span authority,
                                     struct span proxy_authorization);

/* --- the answer ------------------------------------------------------------------------------------- */

#define HTTP_CLIENT_HEADER_BYTES_MAX (64 * 1024)
#define HTTP_CLIENT_BODY_BYTES_MAX (1024 * 1024)

enum http_client_kind {
    HTTP_CLIENT_PLAIN = 0,
    HTTP_CLIENT_HEAD,    /* the answer has no body, whatever its headers say */
    HTTP_CLIENT_CONNECT, /* after a 2xx the connection is a tunnel: no body, later bytes are not ours */
};

enum http_client_state {
    HTTP_CLIENT_READING = 0,
    HTTP_CLIENT_COMPLETE,
    HTTP_CLIENT_MALFORMED, /* `error` says what is wrong */
    HTTP_CLIENT_NO_ANSWER, /* the connection ended before the first byte of an answer */
    HTTP_CLIENT_TORN,      /* it ended within the answer (interim answers count as nothing) */
};

struct http_client {
    enum http_client_state state;
    enum http_client_kind kind;
    unsigned status;
    bool reusable;       /* COMPLETE: the connection can carry another request (once ours was sent whole) */
    bool body_cut;       /* more than the bound came: `body` is its beginning */
    uint64_t body_total; /* bytes of body that came */
    struct bytes body;   /* without transfer coding; a Content-Encoding is the caller's */
    const char *error;   /* static text */
    /* The rest is for http_client.c. */
    llhttp_t parser;
    struct bytes head;  /* names and values, behind each other */
    struct bytes table; /* struct http_header */
    size_t head_bytes;  /* of all answers, interim ones included, as they came */
    bool any_byte, headers_done, until_close, in_value;
};

/* `body_bytes_max` bounds what is kept of a body. Nothing is allocated before an answer comes. */
void http_client_init(struct http_client *c, size_t body_bytes_max);
void http_client_deinit(struct http_client *c);

/* Readies it for the answer to the next request; the buffers are kept. */
void http_client_begin(struct http_client *c, enum http_client_kind kind);

/* Reads on; returns how many bytes were used. Less than all only when the answer is complete (what is left
 * was not asked for, or belongs to the tunnel) or malformed. Without a request outstanding do not call this:
 * bytes on an idle connection are a reason to close it. */
size_t http_client_feed(struct http_client *c, struct span in);

/* The connection ended. `clean`: by FIN (and close_notify under TLS), not by a reset or an error; only then
 * a body whose end is the end of the connection is whole. */
void http_client_eof(struct http_client *c, bool clean);

/* True when some byte of the final answer's head or body has come. */
bool http_client_answer_begun(const struct http_client *c);

/* A header of the (complete) answer, in any case of letters; .at is NULL when absent; the first if repeated.
 */
struct span http_client_header(const struct http_client *c, struct span name);

unsigned http_client_header_count(const struct http_client *c);
struct http_field http_client_field(const struct http_client *c, unsigned i);

/* Gives the buffers back. */
void http_client_trim(struct http_client *c);

#endif
