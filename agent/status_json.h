/* status_json: GET /status: everything that `penstock status` shows, as one JSON object. What is wrong comes
 * first: a person reads `problems` and knows. */
#ifndef PENSTOCK_AGENT_STATUS_JSON_H
#define PENSTOCK_AGENT_STATUS_JSON_H

#include "lib/base/bytes.h"

struct agent;

MUST_USE enum err status_json_render(const struct agent *a, struct bytes *into);

#endif
