/* http_decode: the body of an HTTP request as its Content-Encoding says. Step 2 of the straight line, for
 * input_http.
 *
 * Most compressed bodies are small ones, and are decoded at once; one that becomes large first claims the
 * memory for the most that it may become, and waits for it among the large. */
#ifndef PENSTOCK_AGENT_HTTP_DECODE_H
#define PENSTOCK_AGENT_HTTP_DECODE_H

#include "agent/http_exchange.h"

/* decoded() follows when e->request.body is there, now or later; or the request is refused, and that was its
 * end. */
void http_decode(struct http_exchange *e, void (*decoded)(struct http_exchange *e));

#endif
