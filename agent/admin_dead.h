/* admin_dead: dead letters over the admin:
 *
 *   GET  /outputs/NAME/dead[?after=ID&limit=N]   NDJSON, one letter a line, oldest first; more may follow the last one
 *   GET  /outputs/NAME/dead/ID                   that one
 *   POST /outputs/NAME/dead/replay, …/purge      {"ids":[N,…]} or {"all":true}; answers {"replayed":N} or {"purged":N}
 *
 * One request per output at a time; another is told to come back. */
#ifndef PENSTOCK_AGENT_ADMIN_DEAD_H
#define PENSTOCK_AGENT_ADMIN_DEAD_H

#include "agent/http_front.h"

struct agent;
struct output_host;

/* `rest` is what follows "/outputs/NAME/dead": "", "/ID", "/replay", "/purge". */
void admin_dead_begin(struct output_host *h, struct span rest, struct http_conn *c, const struct http_request *r);
/* The connection is gone: nobody waits for the answer any more. */
void admin_dead_forget(struct agent *a, const struct http_conn *c);
/* The output goes, and with it what it was asked. */
void admin_dead_drop(struct output_host *h);

#endif
