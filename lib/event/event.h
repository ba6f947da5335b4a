/* event: one neutral event, that is a CloudEvent 1.0 as parsed from any of the forms in which it can arrive
 * (cloudevents.h reads them). Everything here is borrowed from the request's body or its arena, and lives
 * as long as they do. Apis render it into their own shape (api.h). */
#ifndef PENSTOCK_EVENT_EVENT_H
#define PENSTOCK_EVENT_EVENT_H

#include "lib/base/bytes.h"
#include "lib/codec/rfc3339.h"

#include <stdbool.h>
#include <stdint.h>

#define EVENT_EXTENSIONS_MAX 64
#define EVENT_ATTRIBUTE_MAX 8192 /* bytes of one attribute's value */

enum event_data {
    EVENT_DATA_NONE,   /* no member, or no body */
    EVENT_DATA_NULL,   /* an explicit null */
    EVENT_DATA_OBJECT, /* data is the raw JSON text in these five */
    EVENT_DATA_ARRAY,
    EVENT_DATA_STRING, /* with its quotes and escapes */
    EVENT_DATA_NUMBER,
    EVENT_DATA_BOOL,
    EVENT_DATA_BASE64, /* data is the base64 text without quotes */
};

enum event_ext_type { EVENT_EXT_STRING, EVENT_EXT_INTEGER, EVENT_EXT_BOOL };

struct event_ext {
    struct span name;
    struct span value; /* decoded text; for integers and booleans the JSON token */
    enum event_ext_type type;
};

struct event {
    /* Decoded text without escapes. id, source, type are never empty once accepted. */
    struct span id, source, type;
    struct span subject; /* .at NULL: absent, as for all below */
    struct span datacontenttype, dataschema;
    struct span time;       /* RFC 3339 as given, or as made at acceptance */
    struct instant time_at; /* the same as an instant */
    bool id_given, time_given, source_given, specversion_given;
    uint32_t sampledrate; /* 1 when absent */
    bool sampledrate_given;
    bool sampledrate_named; /* raw has a member of that name, maybe null */
    bool sampledrate_made;  /* by us: it stands before raw's own members */
    enum event_data data_kind;
    struct span data;
    /* Everything else by name, also the extensions that apis know (traceparent, severitynumber, dataset,
     * project, environment, expirytime, …) but not sampledrate. */
    const struct event_ext *ext;
    unsigned ext_count;
    struct span raw;   /* the object's JSON text as it came; .at NULL in binary mode */
    bool raw_complete; /* raw alone is a whole CloudEvent: specversion, id, source, type and time are in it */
    bool raw_open;     /* raw lacks only members that may be put behind its opening brace */
    bool raw_spaced;   /* raw has white space between its tokens: it may span lines */
    bool data_spaced;  /* so has data */
    bool tallied;      /* the intake's: counted in the statistics */
    uint64_t key_hash; /* of (source, id) if the sender gave the id; else 0 */
    uint64_t content_hash; /* of the bytes as the sender gave them */
    uint64_t received_ns;  /* Unix time of arrival */
    unsigned index;        /* position in its request */
};

/* The extension of that name, or NULL. */
const struct event_ext *event_ext_find(const struct event *e, const char *name);

/* Sampling left this one of `times` events: says so in sampledrate, at most 2^31 - 1. */
void event_multiply_sampledrate(struct event *e, uint32_t times);

/* Unix time in nanoseconds of the expirytime extension, rounded up; 0 when there is none. */
uint64_t event_expires_ns(const struct event *e);

/* An upper bound of what event_append_json() writes. */
size_t event_json_bound(const struct event *e);

/* The event in CloudEvents JSON form, whole: as the sender wrote it where that is complete, with the members
 * that he left to us put in front otherwise, or written anew (binary mode, nulls). `one_line` takes the line
 * breaks and spaces between tokens out. ERR_TOO_BIG when `out` has no room. */
MUST_USE enum err event_append_json(struct bytes *out, const struct event *e, bool one_line);

#endif
