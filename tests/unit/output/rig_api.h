/* rig_api: an api that is scripted by status codes. Its judge reads the answer:
 *   2xx delivered; 207 one letter per event: d delivered, r retry, x dead, u no result (at most 3 sends);
 *   299 unreadable (again, at most 3 sends, then dead bad_response); 429 back off; 5xx back off, outcome
 * unknown; 400 split, 413 split as too large, 422 singles, 409 dead, 401 hold, 404 hold the partition, 410
 * stop, 415 without compression, 406 out of batch mode. */
#ifndef PENSTOCK_TESTS_OUTPUT_RIG_API_H
#define PENSTOCK_TESTS_OUTPUT_RIG_API_H

#include "lib/api/api.h"

extern struct api rig_api;
extern bool rig_has_probe;

#endif
