/* route: which outputs a neutral event goes to. Step 4 of the straight line: the first route that matches
 * decides.
 *
 * Pure data in, indexes out; names are turned into indexes by whoever builds the table. A route may keep one
 * in N of what it matches: of each N events in a row exactly one, at a random place among them, so that
 * nothing that beats in time with N is favoured. The event then says so in its sampledrate. */
#ifndef PENSTOCK_EVENT_ROUTE_H
#define PENSTOCK_EVENT_ROUTE_H

#include "lib/base/rng.h"
#include "lib/event/event.h"

struct route {
    struct span type, source, subject; /* globs; .at NULL: any. An absent subject matches no glob */
    struct span input;                 /* glob over the input's name */
    struct span api;    /* glob over the api's name whose path it came by; .at NULL: neutral events only */
    uint32_t sample;    /* keeps 1 in so many; 0 and 1: all */
    const unsigned *to; /* indexes of outputs; the owner's */
    unsigned to_count;
    /* What sampling remembers; zero at first. */
    uint32_t block_left, block_pick;
};

struct route_table {
    struct route *routes;
    unsigned count;
    struct rng *rng; /* for sampling */
};

enum route_answer {
    ROUTE_NONE,    /* nothing matches: no_route */
    ROUTE_TO,      /* goes to *ret_route's outputs */
    ROUTE_SAMPLED, /* left out by sampling: counts as accepted towards the sender */
};

/* Where a neutral event goes; `input` is the input's name. On ROUTE_TO from a sampling route the event's
 * sampledrate has been multiplied. */
enum route_answer route_event(struct route_table *t, struct event *e, struct span input,
                              const struct route **ret_route);

/* The first route that narrows what came by a vendor's own path, or NULL: then it goes to every output of
 * that type. Only routes that name an api are asked, and none that asks for type, source or subject, which
 * such events lack. */
const struct route *route_vendor(const struct route_table *t, struct span api, struct span input);

#endif
