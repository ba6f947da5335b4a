/* http_pass: requests that only the upstream can answer, such as a query of the SDK's own settings: passed on
 * through the output of their api, as connections allow, and some answers kept for a while. For input_http; beside the
 * straight line, since no event is in them: from step 3 to step 10 and back. */
#ifndef PENSTOCK_AGENT_HTTP_PASS_H
#define PENSTOCK_AGENT_HTTP_PASS_H

#include "agent/http_exchange.h"

/* The answer follows, now or later; it is the upstream's, or the api's for a request that could not be passed
 * on. */
void http_pass_on(struct http_exchange *e);
/* Its sender is gone. */
void http_pass_forget(struct http_exchange *e);

#endif
