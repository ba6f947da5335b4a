/* input_http: the HTTP input. Step 1 of the straight line, and step 3's caller: an http_front hands over
 * requests, the api that owns the path reads them into events, intake stores those, and the api words the
 * answer.
 *
 * Memory. What all requests of all inputs take together has bounds, beyond which they wait, unread, and nobody is
 * refused. Bodies that come in pieces have two, so that the small do not wait for the large: their claim lasts until their
 * answer. A body that came compressed claims what it may become as well, and keeps what it did become.
 * A small request is read and rendered as a whole; what it takes is counted when that is known, and as long as that is
 * too much no new one is begun. A large one, or one that turns out to be made into more than its arena holds, goes
 * through intake in pieces. */
#ifndef PENSTOCK_AGENT_INPUT_HTTP_H
#define PENSTOCK_AGENT_INPUT_HTTP_H

#include "agent/http_front.h"
#include "agent/input.h"

#define HTTP_SMALL_BYTES (1536 * 1024)
#define HTTP_LARGE_BYTES (8 * 1024 * 1024)  /* one that alone needs more is served alone */
#define HTTP_WORKING_BYTES (1536 * 1024)
#define HTTP_ARENA_BYTES (1536 * 1024)      /* what a small request is made into at most */
#define HTTP_KEEP_BYTES (6 * 1024 * 1024)   /* what is kept of a large one: its head, its rejections, its answer */
#define HTTP_HELD_BYTES (3 * 1024 * 1024)   /* heads in pieces, and what was read of requests that wait, of an input */

struct input_http {
    struct input input;
    struct http_front front;
    struct list spare; /* struct http_exchange, for reuse */
    unsigned spare_count;
    uint64_t tls_looks; /* of the certificate files, see tls_files.h */
};

#endif
