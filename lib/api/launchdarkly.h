/* launchdarkly: what its files share, and the checks for whoever plays the vendor. */
#ifndef PENSTOCK_API_LAUNCHDARKLY_H
#define PENSTOCK_API_LAUNCHDARKLY_H

#include "lib/api/common.h"

/* The paths by what they take. All but LD_IMPORT are the SDKs' own. */
enum launchdarkly_tag {
    LD_IMPORT,
    LD_EVENTS,
    LD_DIAGNOSTIC,
    LD_BROWSER_EVENTS,
    LD_BROWSER_DIAGNOSTIC,
    LD_PIXEL,
    LD_PREFLIGHT,
    LD_PIXEL_PREFLIGHT
};

struct ld_import_event {
    struct span text;
};

/* Reads one event of the metric import at the reader. OK; ERR_UNSUPPORTED: refused with the reason, the
 * reader stands behind it; ERR_MALFORMED: no JSON from here on. */
MUST_USE enum err ld_read_import_event(struct json_reader *r, struct ld_import_event *ret, struct fault *why);

/* "project/environment": its two parts, neither empty and without a further slash. */
bool ld_split_partition(struct span partition, struct span *ret_project, struct span *ret_environment);

/* The sender's payload id; .at NULL: none. */
struct span ld_payload_id(struct api_exchange *x);

/* Makes import items of the custom events in a checked array of `weight` SDK events. False: the output has no
 * partition for them, or the arena is full. */
MUST_USE bool ld_import_custom(struct api_exchange *x, uint32_t weight);

void ld_read_import(struct api_exchange *x);
void ld_answer_import(struct api_exchange *x, enum api_condition condition, struct span text,
                      struct api_answer *ret);
void ld_read_sdk(struct api_exchange *x);
void ld_answer_sdk(struct api_exchange *x, enum api_condition condition, struct span text,
                   struct api_answer *ret);
MUST_USE enum err ld_render(const struct api_settings *s, const struct event *e, struct arena *arena,
                            struct api_item *ret, struct fault *why);

#endif
