/* headline: one line on what the agent is doing, for `systemctl status` (STATUS= of sd_notify(3)): what comes in, what
 * waits, and each output that is not as it should be, with its reason in the upstream's words. Told every few seconds at
 * most, and only when it is another line than the last; figures are rounded, so that steady traffic is one line. */
#ifndef PENSTOCK_AGENT_HEADLINE_H
#define PENSTOCK_AGENT_HEADLINE_H

#include "lib/base/bytes.h"

struct agent;

/* What was seen when the last line was made; zero at first. */
struct headline {
    uint64_t received, at_us;
};

/* Once a second. While the agent starts or stops, it also asks the manager for patience: both take as long as the spools
 * and `drain_timeout` say, and the loop turns all the while. */
void headline_second(struct agent *a);

#endif
