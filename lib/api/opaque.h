/* opaque: requests that are stored whole and sent alone, unchanged: LaunchDarkly's SDK events, OTLP.
 *
 * Where such a request goes and the headers that belong to it are its partition, so that what is on disk is
 * the body alone, and what differs in path or headers never meets:
 *
 *   METHOD SP target LF (name ": " value LF)*        at most 1,024 bytes
 *
 * No other partition holds a LF. Headers that do not fit are left out, the last first; credentials are never
 * among them. Private to lib/api. */
#ifndef PENSTOCK_API_OPAQUE_H
#define PENSTOCK_API_OPAQUE_H

#include "lib/api/common.h"

enum { OPAQUE_PARTITION_MAX = 1024 };

struct opaque {
    struct bytes text;
    bool failed; /* not even the request line fits */
};

/* `target` is path and query below the endpoint, as received. */
void opaque_begin(struct opaque *o, struct arena *arena, const char *method, struct span target);
void opaque_header(struct opaque *o, const char *name, struct span value); /* nothing when .at is NULL */
void opaque_header_span(struct opaque *o, struct span name, struct span value);
/* Copies each of the sender's headers of these names (ended by NULL). */
void opaque_headers(struct opaque *o, const struct api_request *r, const char *const *names);
/* .at NULL: it could not be built. */
struct span opaque_partition(struct opaque *o, struct arena *arena);

bool opaque_is(struct span partition);
/* The path in an opaque partition. */
struct span opaque_target(struct span partition);
/* The value of a header in it; .at NULL: none. */
struct span opaque_header_of(struct span partition, const char *name);
/* Request line and headers of the partition; a User-Agent gets our own product behind it, or is ours alone.
 */
MUST_USE enum err opaque_request(const struct api_settings *s, struct span partition, struct arena *arena,
                                 struct api_send *ret);

#endif
