/* cloudevents: reads neutral events from every form in which they can arrive. Step 3 of the straight line.
 *
 * Forms (CloudEvents 1.0 spec.md, formats/json-format.md, bindings/http-protocol-binding.md):
 *   EVENTS_ONE     one JSON object that says it is a CloudEvent (application/cloudevents+json)
 *   EVENTS_BATCH   an array of them (application/cloudevents-batch+json)
 *   EVENTS_BARE    plain JSON: an object, or an array of objects; `specversion` may be left out
 *   EVENTS_LINES   NDJSON: bare objects, one per line, each of which stands alone
 *   EVENTS_LOOSE   no media type was given: as BARE, but more lines may follow the first object
 *   binary mode    attributes in ce- headers, data in the body: event_read_binary()
 *
 * What a bare object leaves out is made here and then is as fixed as if it had been given: specversion 1.0,
 * id a UUIDv7, source the agent's name, time now. In the declared forms only time is made.
 *
 * Strict, because a misspelt attribute must not vanish unnoticed: duplicate members, wrong types and names
 * that no attribute can have refuse the event. One event's fault refuses that event; a body that is not JSON
 * as a whole refuses all of it, lines excepted.
 *
 * One pass over the bytes, nothing from the heap: spans point into the body, what must be made or unescaped
 * goes to the arena. */
#ifndef PENSTOCK_EVENT_CLOUDEVENTS_H
#define PENSTOCK_EVENT_CLOUDEVENTS_H

#include "lib/base/bytes.h"
#include "lib/codec/json.h"
#include "lib/codec/uuid7.h"
#include "lib/event/event.h"

/* What completes events, and where they are put. */
struct event_reading {
    struct span agent_name;
    uint64_t wall_ns;
    struct uuid_source *uuids;
    struct arena *arena;
    /* Private; zero at first. */
    struct span now_text;     /* wall_ns as text, made once */
    uint64_t agent_hash;      /* agent_name's, made once; it is never 0 */
    struct rfc3339_last last; /* many events name the same second */
    struct span last_type;    /* a whole message's, which event_make() has checked, */
    uint64_t last_type_hash;  /* and hashed */
};

enum event_form { EVENTS_ONE, EVENTS_BATCH, EVENTS_BARE, EVENTS_LINES, EVENTS_LOOSE };

struct event_refusal {
    uint32_t index;
    struct span text; /* a NUL follows */
};

struct event_list {
    struct event *events;
    unsigned count, room;
    struct event_refusal *refusals;
    unsigned refusal_count, refusal_room;
    unsigned offered; /* good and bad */
    unsigned max;     /* more than this many: ERR_TOO_BIG */
};

/* Reads a whole body; list->max is the caller's, the rest starts as zero. OK: every event is in the list, as
 * read or as refused. ERR_MALFORMED: nothing may be taken; `why` names index and byte, *ret_index the index.
 * ERR_TOO_BIG: more than list->max events, or the arena is full. */
MUST_USE enum err event_read_body(struct event_reading *in, enum event_form form, struct span body,
                                  struct event_list *list, uint32_t *ret_index, struct fault *why);

/* The same in pieces, for a body whose events together would take too much memory. Zero at first but for body, form and
 * piece_bytes. Each call reads on until it has passed so many bytes of the body; the list then holds the events of
 * this piece alone, if the caller has emptied it: events, count and room, and the refusals likewise; `offered` goes on.
 * `more`: call again. The arena may be reset between the calls. */
struct event_body {
    struct span body;
    enum event_form form;
    size_t piece_bytes; /* 0: all in one */
    bool more;
    /* Private. */
    enum { EVENT_BODY_NEW, EVENT_BODY_ARRAY, EVENT_BODY_LINES } state;
    struct json_reader reader; /* in the array */
    struct span rest;          /* lines */
};
MUST_USE enum err event_body_next(struct event_reading *in, struct event_body *b, struct event_list *list,
                                  uint32_t *ret_index, struct fault *why);

/* Reads one NDJSON line (without its LF) or one datagram's line. ERR_MALFORMED with the reason; ERR_TOO_BIG
 * when the arena is full. The spans of `ret` point into `line` and the arena. */
MUST_USE enum err event_read_line(struct event_reading *in, struct span line, struct event *ret,
                                  struct fault *why);

/* The next line of *rest that is not blank, without LF, CR and white space around it; false at the end. */
bool event_next_line(struct span *rest, struct span *ret_line);

/* Drops a UTF-8 byte order mark. */
struct span event_skip_mark(struct span text);

/* Headers of a binary-mode request, as the HTTP input can walk them (api.h has the same shape). */
struct event_headers {
    bool (*next)(const void *ctx, const char *prefix, unsigned *cursor, struct span *ret_name,
                 struct span *ret_value);
    const void *ctx;
};

/* One event in binary mode. content_type .at NULL: none. Adds to *warnings for each value that was no UTF-8
 * and was taken as Latin-1 (JavaScript's SDK sends such). Errors as event_read_line(). */
MUST_USE enum err event_read_binary(struct event_reading *in, const struct event_headers *headers,
                                    struct span content_type, struct span body, struct event *ret,
                                    unsigned *warnings, struct fault *why);

/* An event from parts that another protocol brought (the forward protocol: tag, record, time). `id` .at NULL: one is
 * made; else it is known to be good. `type` is UTF-8, and stays where and as it is while `in` is used; `data` is JSON
 * that was checked before, without white space between its tokens. `time` NULL: now. Errors as event_read_line(). */
MUST_USE enum err event_make(struct event_reading *in, struct span id, struct span type, struct span data,
                             const struct instant *time, struct event *ret, struct fault *why);

#endif
