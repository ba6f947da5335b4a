/* route: see route.h. */
#include "lib/event/route.h"

#include "lib/codec/glob.h"

static bool matches(struct span glob, struct span text)
{
    return glob.at == NULL || (text.at != NULL && glob_match(glob, text));
}

/* Neutral events came by the cloudevents api, which a route may name, but need not. */
static bool route_takes(const struct route *r, const struct event *e, struct span input)
{
    return matches(r->api, SPAN("cloudevents")) && matches(r->type, e->type) && matches(r->input, input) &&
           matches(r->source, e->source) && matches(r->subject, e->subject);
}

/* One of each block of N, wherever in it. */
static bool keep(struct route *r, struct rng *rng)
{
    if (r->block_left == 0) {
        r->block_left = r->sample;
        r->block_pick = (uint32_t)rng_below(rng, r->sample) + 1;
    }
    return r->block_left-- == r->block_pick;
}

enum route_answer route_event(struct route_table *t, struct event *e, struct span input,
                              const struct route **ret_route)
{
    for (unsigned i = 0; i < t->count; i++) {
        struct route *r = &t->routes[i];
        if (!route_takes(r, e, input))
            continue;
        if (r->sample > 1) {
            if (!keep(r, t->rng))
                return ROUTE_SAMPLED;
            event_multiply_sampledrate(e, r->sample);
        }
        *ret_route = r;
        return ROUTE_TO;
    }
    return ROUTE_NONE;
}

const struct route *route_vendor(const struct route_table *t, struct span api, struct span input)
{
    for (unsigned i = 0; i < t->count; i++) {
        const struct route *r = &t->routes[i];
        if (r->api.at == NULL || r->type.at != NULL || r->source.at != NULL || r->subject.at != NULL)
            continue;
        if (matches(r->api, api) && matches(r->input, input))
            return r;
    }
    return NULL;
}
