/* routes: see routes.h. */
#include "agent/routes.h"

#include "lib/base/bytes.h"
#include "lib/config/config.h"

#include <stdlib.h>

static struct span glob(const char *text)
{
    return text == NULL ? (struct span){0} : span_str(text);
}

static void implied_route(struct agent_routes *r, const struct config *config)
{
    const struct config_output *only = config_neutral_output(config);
    if (only == NULL)
        return;
    r->only = (unsigned)(only - config->outputs);
    r->table.routes[0] = (struct route){.to = &r->only, .to_count = 1};
    r->table.count = 1;
}

void agent_routes_init(struct agent_routes *r, const struct config *config, struct rng *rng)
{
    *r = (struct agent_routes){.table = {.rng = rng}};
    r->table.routes = must_alloc(sizeof(struct route) * (config->route_count + 1));
    for (unsigned i = 0; i < config->route_count; i++) {
        const struct config_route *c = &config->routes[i];
        r->table.routes[r->table.count++] = (struct route){
            .type = glob(c->when.type),
            .source = glob(c->when.source),
            .subject = glob(c->when.subject),
            .input = glob(c->when.input),
            .api = c->when.api_set ? span_str(config_output_type_names[c->when.api]) : (struct span){0},
            .sample = c->sample,
            .to = c->to_index,
            .to_count = c->to_count,
        };
    }
    if (config->route_count == 0)
        implied_route(r, config);
}

void agent_routes_deinit(struct agent_routes *r)
{
    free(r->table.routes);
    *r = (struct agent_routes){0};
}
