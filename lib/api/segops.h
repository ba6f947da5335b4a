/* segops: what its files share, and the check of one event for whoever plays the vendor. */
#ifndef PENSTOCK_API_SEGOPS_H
#define PENSTOCK_API_SEGOPS_H

#include "lib/api/common.h"

enum segops_tag { SEGOPS_BATCH, SEGOPS_SINGLE, SEGOPS_SESSION };

/* What is wrong with an event, as field and words of the vendor's validation errors. */
struct segops_fault {
    char field[48];
    const char *text;
};

struct segops_event {
    struct span text; /* as it came */
    bool has_time;    /* a usable occurred_at */
    bool has_null;    /* a member is null, which is the same as absent */
};

/* Reads the event at the reader. OK; ERR_UNSUPPORTED: refused, *ret_fault says why, the reader stands behind
 * it; ERR_MALFORMED: no JSON from here on. */
MUST_USE enum err segops_read_event(struct json_reader *r, struct segops_event *ret,
                                    struct segops_fault *ret_fault);

/* com.acme.OrderPlaced -> com_acme_order_placed; the result is not longer than 2 * type.len. Returns its
 * length. */
size_t segops_event_type(struct span type, uint8_t *into);

void segops_read(struct api_exchange *x);
void segops_answer(struct api_exchange *x, enum api_condition condition, struct span text,
                   struct api_answer *ret);
MUST_USE enum err segops_render(const struct api_settings *s, const struct event *e, struct arena *arena,
                                struct api_item *ret, struct fault *why);

#endif
