/* diag: where diagnostics go: standard error, as text or JSON, with the priority prefixes that journald
 * understands when standard error is its socket. A write that would block is dropped and counted, so that a
 * stuck reader of our diagnostics cannot stop the loop. */
#ifndef PENSTOCK_AGENT_DIAG_H
#define PENSTOCK_AGENT_DIAG_H

#include "lib/base/log.h"

#include <stdbool.h>

void diag_init(enum log_level level, bool json);

#endif
