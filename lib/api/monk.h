/* monk: what its files share, and the check of one event for whoever plays the vendor. */
#ifndef PENSTOCK_API_MONK_H
#define PENSTOCK_API_MONK_H

#include "lib/api/common.h"

enum monk_tag { MONK_BATCH, MONK_SINGLE };

enum { MONK_KEY_MAX = 255 };
#define MONK_FUTURE_MAX_S 3600 /* how far ahead a timestamp may lie */

struct monk_event {
    struct span text;
    struct span key; /* the sender's idempotencyKey, unescaped; .at NULL: none */
    bool has_time; /* in RFC 3339, which is what Monk is sent */
    bool has_other_time; /* in ISO 8601 otherwise; in UTC if no offset says else */
    struct instant time; /* either; else undefined */
    bool has_null; /* a member is null, which is the same as absent */
};

/* Reads the event at the reader. OK; ERR_UNSUPPORTED: refused with the reason, and the reader stands behind
 * it; ERR_MALFORMED: no JSON from here on; ERR_TOO_BIG: the arena is full. */
MUST_USE enum err monk_read_event(struct json_reader *r, struct arena *arena, uint64_t wall_ns,
                                  struct monk_event *ret, struct fault *why);

void monk_read(struct api_exchange *x);
void monk_answer(struct api_exchange *x, enum api_condition condition, struct span text,
                 struct api_answer *ret);
MUST_USE enum err monk_render(const struct api_settings *s, const struct event *e, struct arena *arena,
                              struct api_item *ret, struct fault *why);

#endif
