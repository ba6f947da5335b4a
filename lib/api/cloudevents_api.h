/* cloudevents_api: what of the neutral form other apis use too. Private to lib/api. */
#ifndef PENSTOCK_API_CLOUDEVENTS_API_H
#define PENSTOCK_API_CLOUDEVENTS_API_H

#include "lib/api/common.h"

/* The event whole in CloudEvents JSON form; one_line where a line break would end it (NDJSON). */
MUST_USE enum err cloudevents_render(const struct api_settings *s, const struct event *e, struct arena *arena,
                                     bool one_line, struct api_item *ret, struct fault *why);

/* Turns one stored event in JSON form into a binary-mode request: headers and body of its own. */
MUST_USE enum err cloudevents_binary_send(struct span event, struct arena *arena, struct api_send *ret);

#endif
