/* Drives one server connection over given bytes and writes down what happened, one line per event, so that
 * tests compare texts: "POST /events 5:hello" or "refused 400". Every request is answered at once. */
#ifndef PENSTOCK_TESTS_SERVER_DRIVER_H
#define PENSTOCK_TESTS_SERVER_DRIVER_H

#include "lib/http/http_server.h"

#define HOST "Host: h\r\n"

struct driver {
    struct http_server_shared shared;
    struct http_server server;
    struct bytes log; /* of events */
    struct bytes out; /* what the peer would read */
    bool answer;      /* answer requests at once (default) */
    uint64_t handles[64];
    unsigned handle_count;
    unsigned paused;
};

void driver_init(struct driver *d, const struct http_limits *limits);
void driver_deinit(struct driver *d);
/* Gives the bytes in reads of at most `step` and handles all events; collects the output. */
void driver_feed(struct driver *d, struct span in, size_t step);
/* Handles events without new bytes. */
void driver_pump(struct driver *d);
void driver_answer(struct driver *d, uint64_t handle, unsigned status, const char *body);

/* How often the text stands in it. */
unsigned driver_count(const struct bytes *b, const char *text);

/* The event log of these bytes read in steps, as a NUL-terminated text that the caller frees. */
char *driver_run(const struct http_limits *limits, struct span in, size_t step);

#endif
