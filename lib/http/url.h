/* url: absolute http and https URLs as configuration and command lines give them, and the percent
 * encoding of path segments (RFC 3986).
 *
 * Strict on purpose: no user information (secrets belong elsewhere and would end up in messages), no
 * fragment, no control or non-ASCII characters; a name must be one that DNS can carry. */
#ifndef PENSTOCK_HTTP_URL_H
#define PENSTOCK_HTTP_URL_H

#include "lib/base/bytes.h"

#define URL_BYTES_MAX 8192

/* All spans point into the parsed text. */
struct url {
    bool tls;          /* https */
    struct span host;  /* a name or an address, without brackets, case as given */
    bool host_is_ip;   /* an IPv4 or IPv6 address */
    bool host_is_v6;   /* stood in brackets */
    uint16_t port;     /* the scheme's own if none was given */
    struct span path;  /* as given: empty or "/…" */
    struct span query; /* without '?'; .at NULL when there is none */
};

/* ERR_MALFORMED with a text that says what is wrong (it never repeats user information). */
MUST_USE enum err url_parse(struct span text, struct url *ret, struct fault *why);

/* Appends "host", "host:port" or "[v6]:port", the port only when it is not the scheme's own: the value of
 * a Host header. With `always_port` it is there in any case: the target of a CONNECT. */
MUST_USE enum err url_write_authority(struct bytes *b, const struct url *u, bool always_port);

/* Appends `segment`, everything but RFC 3986's unreserved characters as %XX; so '/' and '?' stay data. */
MUST_USE enum err url_encode_segment(struct bytes *b, struct span segment);

/* Appends the decoded bytes. '+' is itself. ERR_MALFORMED for a '%' without two hexadecimal digits. */
MUST_USE enum err url_decode(struct bytes *b, struct span encoded);

/* Splits "path?query" at the first '?'. ret_query->at is NULL when there is no '?'. */
void url_split_target(struct span target, struct span *ret_path, struct span *ret_query);

/* Takes the next segment off a path: "/a/b" yields "a", then "b"; "/a/" yields "a", then "". False at the
 * end. *rest must begin with '/' or be empty. */
bool url_next_segment(struct span *rest, struct span *ret_segment);

/* The raw value of the first `name=value` in a query; true with an empty value for a bare `name`. */
bool url_query_value(struct span query, const char *name, struct span *ret_value);

#endif
