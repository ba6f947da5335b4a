/* input_http: the HTTP input. Step 1 of the straight line, and step 3's caller: an http_front hands over
 * requests, the api that owns the path reads them into events, intake stores those, and the api words the
 * answer. */
#ifndef PENSTOCK_AGENT_INPUT_HTTP_H
#define PENSTOCK_AGENT_INPUT_HTTP_H

#include "agent/http_front.h"
#include "agent/input.h"

#define HTTP_ARRIVING_BYTES \
    (12 * 1024 * 1024) /* requests that are still arriving, all connections of an input */
#define HTTP_ANSWERING_BYTES (12 * 1024 * 1024) /* requests that wait for their answer, all inputs */
#define HTTP_ANSWERING_FACTOR 3 /* a body, what is known of its events, and what they are rendered into */

struct http_exchange;

struct input_http {
    struct input input;
    struct http_front front;
    struct list spare; /* struct http_exchange, for reuse */
    unsigned spare_count;
    uint64_t tls_looks; /* of the certificate files, see tls_files.h */
};

#endif
