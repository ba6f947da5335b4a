/* otlp: what OTLP/HTTP requests have in common, whoever they go to. Private to lib/api. */
#ifndef PENSTOCK_API_OTLP_H
#define PENSTOCK_API_OTLP_H

#include "lib/api/opaque.h"

/* Where an export request goes, and what goes with it besides its media type and its sender's product. */
struct otlp_kept {
    struct span target;
    const char *prefixes[2]; /* of further headers; NULL: none */
    const char *except;      /* of these */
    bool gzip_only;          /* the service inflates nothing else: what came otherwise goes decoded */
};

/* Those further headers. */
void otlp_keep_headers(struct opaque *o, const struct api_request *r, const struct otlp_kept *kept);
/* Reads an export request as one opaque item. Sets x->answer when it cannot be taken. */
void otlp_read_to(struct api_exchange *x, const struct otlp_kept *kept);
void otlp_answer(struct api_exchange *x, enum api_condition condition, struct span text,
                 struct api_answer *ret);
/* The verdict on the answer to one export request. */
void otlp_judge(const struct api_batch *b, const struct api_reply *reply, struct arena *arena,
                struct api_verdict *ret);

#endif
