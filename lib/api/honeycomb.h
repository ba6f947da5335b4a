/* honeycomb: what its files share, and the check of one event for whoever plays the vendor. */
#ifndef PENSTOCK_API_HONEYCOMB_H
#define PENSTOCK_API_HONEYCOMB_H

#include "lib/api/common.h"

enum honeycomb_tag { HONEYCOMB_BATCH, HONEYCOMB_EVENT, HONEYCOMB_AUTH, HONEYCOMB_NOT_OURS };

#define HONEYCOMB_COLUMNS_MAX 2000

/* One element of a batch as read. */
struct honeycomb_event {
    struct span text;    /* the element as it came */
    struct span data;    /* the object */
    struct span time;    /* its string, unescaped; .at NULL: none, or null */
    bool time_named;     /* the element has a member of that name */
    uint64_t samplerate; /* 1 when absent or 0 */
};

/* Reads the element at the reader. OK; ERR_UNSUPPORTED: this event is refused, `why` in the vendor's words where
 * they are known, and the reader stands behind it; ERR_MALFORMED: no JSON from here on; ERR_TOO_BIG: arena. */
MUST_USE enum err honeycomb_read_event(struct json_reader *r, struct arena *arena, struct honeycomb_event *ret,
                                       struct fault *why);

/* Any of the forms that `time` may have: RFC 3339, or epoch time in decimal text. */
bool honeycomb_time_ok(struct span time);

void honeycomb_read(struct api_exchange *x);
/* The answer to GET /1/auth where the service gives none. */
void honeycomb_not_passed(struct api_exchange *x, struct api_answer *ret);
void honeycomb_answer(struct api_exchange *x, enum api_condition condition, struct span text,
                      struct api_answer *ret);
MUST_USE enum err honeycomb_render(const struct api_settings *s, const struct event *e, struct arena *arena,
                                   struct api_item *ret, struct fault *why);

#endif
