/* page: GET / and GET /page.json of the admin listener.
 *
 * The page (agent/page.html, built into the program) is one text without resources from elsewhere: it fetches
 * /status and /page.json every few seconds and draws. It holds no data, so it is served without the admin's token;
 * when a token is set the page asks for it and keeps it in its memory only. Its scripts and styles carry a nonce
 * that is new with each answer, and the Content-Security-Policy allows nothing else. */
#ifndef PENSTOCK_AGENT_PAGE_H
#define PENSTOCK_AGENT_PAGE_H

#include "lib/base/bytes.h"

struct agent;
struct http_conn;
struct http_request;

/* `scratch` is the admin's: overwritten. */
void page_get(struct agent *a, struct bytes *scratch, struct http_conn *c, const struct http_request *r);
/* {"now":S,"total":N,"began":S,"minutes":[1440, oldest first],"hours":[168],"types":{"since":S,"top":[{"type":T,
 *  "count":N,"over":N}]},"subjects":{"day":N,"week":N}}; S are Unix seconds. */
void page_get_json(struct agent *a, struct bytes *scratch, struct http_conn *c, const struct http_request *r);

#endif
