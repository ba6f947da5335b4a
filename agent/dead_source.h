/* dead_source: where `penstock dead` finds an output's letters: a running agent's admin, or, when no agent runs, the spool
 * itself under the data directory's lock, opened by the same core that an agent would use. */
#ifndef PENSTOCK_AGENT_DEAD_SOURCE_H
#define PENSTOCK_AGENT_DEAD_SOURCE_H

#include "lib/base/bytes.h"
#include "lib/base/fault.h"

#include <stdbool.h>
#include <stdint.h>

struct cmd_http;
struct config;
struct dead_offline;

struct dead_source {
    struct cmd_http *http;        /* NULL: offline */
    struct dead_offline *offline;
    const char *output;
    int code;                     /* the exit code for what went wrong, which was said */
};

/* Letters beyond `after`, oldest first, as lines (letter_json.h) appended to `lines`; none: there are no more. */
MUST_USE bool dead_source_list(struct dead_source *s, uint64_t after, struct bytes *lines);
/* One letter's line; nothing appended when there is none of this id. */
MUST_USE bool dead_source_show(struct dead_source *s, uint64_t id, struct bytes *lines);
/* Replays or purges these, or all with ids == NULL. */
MUST_USE bool dead_source_act(struct dead_source *s, bool replay, const uint64_t *ids, unsigned count, uint64_t *ret_done);

/* Takes the lock and opens the output's spool. ERR_IN_USE: an agent runs; ERR_NOT_FOUND: no spool of this name. */
MUST_USE enum err dead_offline_open(const struct config *config, const char *output, struct dead_offline **ret,
                                    struct fault *why);
void dead_offline_close(struct dead_offline *o); /* NULL is taken */
/* limit 0: all. kind is the spool's DEAD_LIST, DEAD_REPLAY or DEAD_PURGE. */
MUST_USE enum err dead_offline_ask(struct dead_offline *o, int kind, const uint64_t *ids, unsigned count, uint64_t after,
                                   unsigned limit, struct bytes *lines, uint64_t *ret_count, struct fault *why);

#endif
