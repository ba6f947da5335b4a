/* http_request: one request as the server side saw it, and how to look into it.
 *
 * A request is a view: its head is one piece of raw bytes (in the caller's read buffer or in the
 * connection's own memory), its header table holds offsets into it, its body is a span. It is good until
 * the next http_server_next() on any connection of the same shared state; who needs it longer (waiting for
 * room) copies it with http_request_copy(). */
#ifndef PENSTOCK_HTTP_HTTP_REQUEST_H
#define PENSTOCK_HTTP_HTTP_REQUEST_H

#include "lib/base/bytes.h"

enum http_method {
    HTTP_METHOD_OTHER = 0,
    HTTP_METHOD_GET,
    HTTP_METHOD_HEAD,
    HTTP_METHOD_POST,
    HTTP_METHOD_PUT,
    HTTP_METHOD_DELETE,
    HTTP_METHOD_OPTIONS,
};

/* Headers that are found while parsing, so that looking them up costs nothing. */
enum http_known {
    HTTP_KNOWN_NONE = 0,
    HTTP_KNOWN_HOST,
    HTTP_KNOWN_CONTENT_TYPE,
    HTTP_KNOWN_CONTENT_ENCODING,
    HTTP_KNOWN_CONTENT_LENGTH,
    HTTP_KNOWN_TRANSFER_ENCODING,
    HTTP_KNOWN_AUTHORIZATION,
    HTTP_KNOWN_EXPECT,
    HTTP_KNOWN_ORIGIN,
    HTTP_KNOWN_USER_AGENT,
    HTTP_KNOWN_COUNT,
};

/* A header as a caller gives or gets it. */
struct http_field {
    struct span name, value;
};

/* A header in the table: offsets into the head's raw bytes. The value is without outer white space. */
struct http_header {
    uint32_t name_at, value_at, value_len;
    uint16_t name_len;
    uint16_t known; /* enum http_known */
};

struct http_request {
    uint64_t handle; /* what http_server_respond() wants; never 0 */
    enum http_method method;
    bool http_1_0;
    bool keep_alive;   /* the sender means to go on after this one */
    bool body_follows; /* HTTP_SERVER_EXPECT and _REFUSED only: `body` has not been read */
    struct span method_name;
    struct span target; /* as on the request line */
    struct span path,
        query; /* of the target, not decoded; query.at is NULL without '?'; path is "*" for OPTIONS * */
    struct span body;
    struct span head; /* raw, from the method to the empty line */
    const struct http_header *headers;
    unsigned header_count;
    uint8_t known[HTTP_KNOWN_COUNT]; /* 1 + index into headers of the first one with that name, or 0 */
};

#define HTTP_HEADERS_MAX 128

/* The i-th header, i < header_count. */
static inline struct http_field http_request_field(const struct http_request *r, unsigned i)
{
    const struct http_header *h = &r->headers[i];
    return (struct http_field){{r->head.at + h->name_at, h->name_len},
                               {r->head.at + h->value_at, h->value_len}};
}

/* .at is NULL when the header is absent; the first one when it is repeated. */
static inline struct span http_request_known(const struct http_request *r, enum http_known id)
{
    return r->known[id] == 0 ? (struct span){0} : http_request_field(r, r->known[id] - 1U).value;
}

/* Any header by name, in any case; .at is NULL when absent. */
struct span http_request_header(const struct http_request *r, struct span name);

/* The same with a void pointer to the request and a C string, for tables of functions. */
struct span http_request_lookup(const void *request, const char *name);

/* The next header from *cursor (0 first) whose name begins with `prefix` in any case; false at the end. */
bool http_request_next(const void *request, const char *prefix, unsigned *cursor, struct span *ret_name,
                       struct span *ret_value);

/* Deep copy into the arena. NULL when the arena's maximum would be passed. */
struct http_request *http_request_copy(const struct http_request *r, struct arena *arena);

/* Which known header `name` is, in any case. */
enum http_known http_known_of(struct span name);

#endif
