/* otlp: what OTLP/HTTP requests have in common, whoever they go to. Private to lib/api. */
#ifndef PENSTOCK_API_OTLP_H
#define PENSTOCK_API_OTLP_H

#include "lib/api/opaque.h"

/* Reads an export request as one opaque item for `target`; `kept` are the further headers that go with it
 * (ended by NULL). Sets x->answer when it cannot be taken. */
void otlp_read_to(struct api_exchange *x, struct span target, const char *const *kept);
void otlp_answer(struct api_exchange *x, enum api_condition condition, struct span text,
                 struct api_answer *ret);
/* The verdict on the answer to one export request. */
void otlp_judge(const struct api_reply *reply, struct arena *arena, struct api_verdict *ret);

#endif
