/* admin: the agent's own HTTP server: health, readiness, metrics, status, flush, reload, pause, resume. It opens with
 * the process and stays open until the process ends, so that a person can see why an agent does not start or stop. */
#ifndef PENSTOCK_AGENT_ADMIN_H
#define PENSTOCK_AGENT_ADMIN_H

#include "lib/base/fault.h"

#include <stdbool.h>

struct admin;
struct agent;

/* *ret is NULL when the configuration switches it off. */
MUST_USE enum err admin_bind(struct agent *a, struct admin **ret, struct fault *why);
MUST_USE enum err admin_start(struct admin *ad, struct fault *why); /* all of these take NULL */
void admin_second(struct admin *ad);
void admin_reread(struct admin *ad); /* the token may have changed; every few seconds */
void admin_turn(struct admin *ad); /* answers flushes that are settled; once per turn */
/* A reload has replaced outputs; called before the old ones are freed. */
void admin_outputs_changed(struct admin *ad);
void admin_close(struct admin *ad);
bool admin_closed(const struct admin *ad);
void admin_free(struct admin *ad);

#endif
