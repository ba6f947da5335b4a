/* metrics: GET /metrics, in the Prometheus text format 0.0.4
 * (https://prometheus.io/docs/instrumenting/exposition_formats/). Every series of a configured input or
 * output, with every reason and state, is there from the start, at 0. */
#ifndef PENSTOCK_AGENT_METRICS_H
#define PENSTOCK_AGENT_METRICS_H

#include "lib/base/bytes.h"

struct agent;

MUST_USE enum err metrics_render(const struct agent *a, struct bytes *into);

#endif
