/* event_parts: what the readers of the JSON forms and of binary mode share. Private to lib/event. */
#ifndef PENSTOCK_EVENT_EVENT_PARTS_H
#define PENSTOCK_EVENT_EVENT_PARTS_H

#include "lib/codec/json.h"
#include "lib/event/cloudevents.h"

/* Reads one event at the reader. `declared`: it must say what it is. OK; ERR_UNSUPPORTED (this event is
 * refused, the reader stands behind it); ERR_MALFORMED (no JSON from here on); ERR_TOO_BIG (the arena is
 * full). */
MUST_USE enum err event_read_json(struct event_reading *in, struct json_reader *r, bool declared,
                                  struct event *e, struct fault *why);

/* Says that the arena is full. */
enum err event_arena_full(struct fault *why);

/* Makes id, source and time where they are missing, and the key's hash where the id is not. ERR_TOO_BIG when
 * the arena is full. */
MUST_USE enum err event_complete(struct event_reading *in, struct event *e, struct fault *why);

#endif
