/* event_parts: what the readers of the JSON forms and of binary mode share. Private to lib/event. */
#ifndef PENSTOCK_EVENT_EVENT_PARTS_H
#define PENSTOCK_EVENT_EVENT_PARTS_H

#include "lib/event/cloudevents.h"

/* Makes id, source and time where they are missing, and the key's hash where the id is not. ERR_TOO_BIG when
 * the arena is full. */
MUST_USE enum err event_complete(struct event_reading *in, struct event *e, struct fault *why);

#endif
