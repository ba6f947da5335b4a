/* letter_json: stored events and dead letters as lines for people and scripts, the same from a running agent (admin) and
 * from a spool that nobody serves. */
#ifndef PENSTOCK_AGENT_LETTER_JSON_H
#define PENSTOCK_AGENT_LETTER_JSON_H

#include "lib/base/bytes.h"
#include "lib/spool/spool.h"

/* The stored bytes as one line of JSON; what is no JSON text becomes {"base64":"…"}. */
MUST_USE enum err body_json_append(struct bytes *b, struct span body);
/* {"id":N,"time":"…","reason":"…","status":N,"answer":"…","partition":"…","attempts":N,"event":…} and a line end. On an
 * error `b` is as it was. */
MUST_USE enum err letter_json_append(struct bytes *b, const struct spool_letter *letter);
/* {"output":"…","seq":N,"time":"…","partition":"…","id":"…","event":…} and a line end. */
MUST_USE enum err item_json_append(struct bytes *b, const char *output, const struct spool_item *item);

#endif
