/* http_answer: the bytes of one answer (RFC 9112): status line, Date, headers, framing, body. */
#ifndef PENSTOCK_HTTP_HTTP_ANSWER_H
#define PENSTOCK_HTTP_HTTP_ANSWER_H

#include "lib/base/http_date.h"
#include "lib/http/http_request.h"

struct http_answer {
    unsigned status;
    struct span content_type; /* .at NULL: no Content-Type */
    struct span body;
    const struct http_field *fields; /* further headers, borrowed for the call */
    unsigned field_count;
    uint64_t retry_after_s; /* 0: no Retry-After */
    bool close;             /* the connection ends after this answer */
};

/* How the answer must be framed, given the request. */
enum http_framing {
    HTTP_FRAMED_LENGTH = 0,  /* Content-Length and body */
    HTTP_FRAMED_CHUNKED,     /* a stream of unknown length to HTTP/1.1 */
    HTTP_FRAMED_UNTIL_CLOSE, /* the same to HTTP/1.0 */
};

struct http_answer_way {
    const char *date; /* HTTP_DATE_LEN characters, or "" for none */
    enum http_framing framing;
    bool head_only;      /* answer to HEAD: Content-Length as if, no body */
    bool say_close;      /* Connection: close */
    bool say_keep_alive; /* Connection: keep-alive, which HTTP/1.0 needs to be told */
};

/* Appends the whole answer, or nothing: ERR_TOO_BIG when `out` has no room for it, ERR_MALFORMED when a
 * header's name or value holds what would begin another header (CR, LF, NUL). With a framing other than
 * HTTP_FRAMED_LENGTH only the head is written. 204 and 304 carry neither length nor body. */
MUST_USE enum err http_answer_write(struct bytes *out, const struct http_answer *a,
                                    const struct http_answer_way *way);

/* "Not Found"; "Unknown" for codes without a registered phrase. */
const char *http_reason(unsigned status);

/* True when name and value can stand in a header line: the name a token, the value without control
 * characters other than tab (RFC 9110 5.5). */
bool http_field_is_clean(const struct http_field *f);

/* Appends `n` in decimal. `b` must have 20 bytes reserved. */
void http_put_number(struct bytes *b, uint64_t n);

/* Appends bytes for which room has been reserved. */
static inline void http_put(struct bytes *b, struct span s)
{
    if (s.len > 0)
        memcpy(b->at + b->len, s.at, s.len);
    b->len += s.len;
}

#endif
