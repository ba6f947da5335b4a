/* render: what the renderings of a neutral event have in common; the mapping itself is each api's own.
 *
 * The table (CloudEvents attribute -> field of the service) stands in the files named *_render.c, one per
 * api. Private to lib/api. */
#ifndef PENSTOCK_API_RENDER_H
#define PENSTOCK_API_RENDER_H

#include "lib/api/common.h"
#include "lib/api/writer.h"

/* What an extension is to those apis that turn extensions into fields of their own. */
enum ext_use {
    EXT_FIELD,   /* a field of that name */
    EXT_DROPPED, /* partitionkey, sequence, authclaims, expirytime */
    EXT_SPECIAL, /* traceparent, tracestate, severity…, dataset, project, environment: the api's table says */
};
enum ext_use ext_use(struct span name);

/* The extension's value as JSON. */
void write_ext_value(struct writer *w, const struct event_ext *ext);

/* A time in UTC, quoted: the event's with as many digits as it has, or any with milliseconds. */
void write_time(struct writer *w, const struct event *e);
void write_instant_ms(struct writer *w, struct instant at);

/* The event's severity: a number wins over a text. .at NULL: neither. */
const struct event_ext *event_severity(const struct event *e);

/* The two ids of a W3C traceparent; false when it is none. */
bool event_trace(const struct event *e, struct span *ret_trace, struct span *ret_parent);

/* Does the object `data` have a member of that name at its top? */
bool data_has(struct span data, struct span name);
/* That member's value; false when there is none. */
bool data_find(struct span data, const char *name, struct json_value *ret);
/* How many members the object has at its top. */
unsigned data_count(struct span data);
/* The object's members without its braces and the white space inside them; empty for {}. */
struct span data_inside(struct span object);

/* Writes the object's members byte for byte but for those named (ended by NULL), and, with drop_null, those
 * that are null. */
void write_members(struct writer *w, struct span object, const char *const *except, bool drop_null);
/* Ends the object that is being written, and has members, with the members of this one, which has some as well: as they
 * stand, or, with `except`, as write_members() writes them without nulls. */
void write_behind(struct writer *w, struct span object, const char *const *except);

/* Refuses what no vendor can carry: data_base64. */
MUST_USE enum err render_check(const struct event *e, struct fault *why);

/* --- flattening --------------------------------------------------------------------------------- */

/* Writes the members of a JSON object with nested objects opened: {"a":{"b":1}} becomes "a.b":1. */
struct flatten {
    struct writer *w;
    bool array_as_text; /* "[1,2]" instead of [1,2] */
    bool drop_null;
    uint64_t *names; /* hashes of the names written so far, in the arena */
    unsigned count, room;
    size_t path_len;
    char path[2048]; /* the names so far, escaped as in JSON, with dots */
};
void flatten_init(struct flatten *f, struct writer *w);
/* Claims a name that stands there already, so that two meeting in one are noticed. */
void flatten_claim(struct flatten *f, struct span name);
/* ERR_MALFORMED with a reason: two paths meet in one name, or a name is too long. */
MUST_USE enum err flatten_object(struct flatten *f, struct span object, struct fault *why);
/* After the last object: did two names meet? */
MUST_USE enum err flatten_check(struct flatten *f, struct fault *why);

#endif
