/* routes: the configuration's routes as the table that lib/event/route.h decides by. Without `routes:` the neutral events
 * go to the only output that takes them, if there is exactly one. */
#ifndef PENSTOCK_AGENT_ROUTES_H
#define PENSTOCK_AGENT_ROUTES_H

#include "lib/event/route.h"

struct config;

struct agent_routes {
    struct route_table table;
    unsigned only; /* what the implied route points to */
};

/* Spans and indexes are the configuration's. */
void agent_routes_init(struct agent_routes *r, const struct config *config, struct rng *rng);
void agent_routes_deinit(struct agent_routes *r);

#endif
