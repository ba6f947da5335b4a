/* langfuse: what its files share, and the check of one event for whoever plays the vendor. */
#ifndef PENSTOCK_API_LANGFUSE_H
#define PENSTOCK_API_LANGFUSE_H

#include "lib/api/common.h"

enum langfuse_tag {
    LANGFUSE_INGESTION,
    LANGFUSE_OTEL,
    LANGFUSE_SCORES,
    LANGFUSE_HEALTH,
    LANGFUSE_PROJECTS,
    LANGFUSE_NOT_OURS
};

enum langfuse_kind { LANGFUSE_TRACE, LANGFUSE_OBSERVATION, LANGFUSE_SCORE, LANGFUSE_SDK_LOG };

struct langfuse_type {
    const char *name;
    enum langfuse_kind kind;
    bool update; /* body.id must be given */
};

/* The type of that name, or NULL. */
const struct langfuse_type *langfuse_type_find(struct span name);

enum { LANGFUSE_ID_MAX = 800 /* characters */ };
bool langfuse_id_ok(struct span id); /* unescaped: 1 to 800 characters, no CR */

struct langfuse_event {
    struct span text; /* as it came */
    struct span id;   /* unescaped */
    struct span body; /* the object */
    const struct langfuse_type *type;
    bool body_id;      /* body.id is given */
    bool body_id_null; /* it is there, and null */
};

/* Reads the event at the reader. OK; ERR_UNSUPPORTED: refused with the reason, ret->id is filled if it could
 * be read, and the reader stands behind the event; ERR_MALFORMED: no JSON from here on; ERR_TOO_BIG: the
 * arena is full. */
MUST_USE enum err langfuse_read_event(struct json_reader *r, struct arena *arena, struct langfuse_event *ret,
                                      struct fault *why);
/* Checks a body by its type's table. *ret_id, *ret_id_null (may be NULL): is body.id given, is it null. */
MUST_USE enum err langfuse_check_body(const struct langfuse_type *type, struct span body, bool *ret_id,
                                      bool *ret_id_null, struct fault *why);

void langfuse_read(struct api_exchange *x);
void langfuse_answer(struct api_exchange *x, enum api_condition condition, struct span text,
                     struct api_answer *ret);
MUST_USE enum err langfuse_render(const struct api_settings *s, const struct event *e, struct arena *arena,
                                  struct api_item *ret, struct fault *why);
void langfuse_judge(const struct api_settings *s, const struct api_batch *b, const struct api_reply *reply,
                    struct arena *arena, struct api_verdict *ret);

#endif
