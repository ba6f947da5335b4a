/* tap: shows events to a person as they are accepted. Beside step 4 of the straight line, never in its way: what a
 * listener does not read in time is left out and counted, and where nobody listens intake pays one look at a pointer.
 *
 * GET /tap answers with NDJSON without end:
 *   {"time":"…","input":"http","api":"cloudevents","outputs":["a","b"],"type":"…","event":{…}}
 * `event` is a neutral event whole, or a vendor's element as it goes on the wire; what is no JSON text comes as
 * {"base64":"…"}. {"tap":{"left_out":N}} says how many events this listener was too slow for.
 * Query: output=NAME, type=GLOB, limit=N. */
#ifndef PENSTOCK_AGENT_TAP_H
#define PENSTOCK_AGENT_TAP_H

#include "agent/http_front.h"

struct agent;
struct intake_offer;
struct tap;

/* Begins an answer to GET /tap. */
void tap_begin(struct agent *a, struct http_conn *c, const struct http_request *r);
/* These events have just been appended to their outputs. Only with agent->tap != NULL. */
void tap_show(struct agent *a, const struct intake_offer *o);
void tap_forget(struct agent *a, const struct http_conn *c); /* the connection is gone */
void tap_second(struct agent *a);                            /* once a second: drops listeners that hung up */
void tap_end(struct agent *a);                               /* the agent stops: ends the answers */

#endif
