/* common: what the apis share: answers built from a table, verdicts by status, Retry-After, tokens, segments
 * of a path. Private to lib/api. */
#ifndef PENSTOCK_API_COMMON_H
#define PENSTOCK_API_COMMON_H

#include "lib/api/api.h"
#include "lib/codec/json.h"

#define COND_COUNT (COND_CONFLICT + 1)
#define EVENTS_MAX_DEFAULT 10000

/* --- answers ------------------------------------------------------------------------------------ */

/* One row per condition: what an api's clients survive. */
struct answer_row {
    uint16_t status;
    uint8_t retry_after_s; /* 0: no Retry-After */
    const char *code;      /* the word for programs */
    const char *text;      /* for people, where the caller has none */
};

/* How an api words an error: the JSON around code and text (already JSON strings with their quotes). */
typedef struct span answer_shape(struct arena *arena, unsigned status, struct span code, struct span text);
answer_shape shape_code_message; /* {"error":{"code":C,"message":M}} */
answer_shape shape_message_code; /* {"error":{"message":M,"code":C}} */
answer_shape shape_error;        /* {"error":M} */
answer_shape shape_message;      /* {"message":M} */
answer_shape shape_detail;       /* {"detail":M} */

/* The answer of `rows` for the condition, with Retry-After and, for 405, Allow. */
void answer_condition(const struct api_exchange *x, const struct answer_row *rows, answer_shape *shape,
                      enum api_condition condition, struct span text, struct api_answer *ret);

/* An error that read() found: final, nothing is stored. */
void answer_error(struct api_exchange *x, answer_shape *shape, unsigned status, const char *code,
                  const char *format, ...) PRINTF_LIKE(5, 6);

void answer_header(struct api_answer *ret, struct span name, struct span value);
void answer_json(struct api_answer *ret, unsigned status, struct span body);
/* The body by printf, at most 1 KiB. */
void answer_printf(struct arena *arena, struct api_answer *ret, unsigned status, const char *format, ...)
    PRINTF_LIKE(4, 5);

/* `text` as a JSON string with quotes, in the arena; "" when that is full. */
struct span json_text(struct arena *arena, struct span text);
/* printf into the arena, at most 1 KiB; empty when that is full. */
struct span arena_printf(struct arena *arena, const char *format, ...) PRINTF_LIKE(2, 3);

/* Rejections in the order of their index. */
void sort_rejections(struct api_exchange *x);

/* --- requests ----------------------------------------------------------------------------------- */

/* The media type without parameters and white space. */
struct span media_type(struct span content_type);
/* Is the charset parameter absent, or one that is UTF-8? */
bool media_is_utf8(struct span content_type);
/* JSON by its media type; or no type, or curl's default one, and the body begins with { or [. */
bool body_is_json(const struct api_request *r);

/* One segment's or rest's percent-decoding, once; in the arena if there is anything to decode. False when a %
 * has no two digits, when it decodes to a control character or to bytes that are no UTF-8, or when the arena
 * is full. */
bool path_decode(struct arena *arena, struct span raw, struct span *ret);
/* Percent-encodes as one path segment (RFC 3986 unreserved characters stay). */
MUST_USE enum err path_encode(struct bytes *out, struct span segment);
/* What follows the first `count` segments of the path, without the slash at its end. */
struct span path_rest(struct span path, unsigned count);
/* Segment `index`, counted from 0; empty when there is none. */
struct span path_segment(struct span path, unsigned index);

/* Bodies that wrap their events: {"NAME":[…]}, and one further member `also` of any value (NULL: none).
 * wrapper_open() goes to the array and into it; after the elements wrapper_close() reads what follows.
 * ERR_UNSUPPORTED: valid so far, but not that shape, with the reason; ERR_MALFORMED: no JSON. */
MUST_USE enum err wrapper_open(struct json_reader *r, const char *name, const char *also, struct fault *why);
MUST_USE enum err wrapper_close(struct json_reader *r, const char *name, const char *also, struct fault *why);

/* The hash of who sent this: ids are told apart per sender. The credential itself goes nowhere else. */
uint64_t sender_hash(const struct api_exchange *x);
/* The key of an id for the memory of recent ids. */
uint64_t id_hash(const struct api_exchange *x, struct span id);

/* --- items and rendering ------------------------------------------------------------------------ */

/* The item for a neutral event that was rendered to `body`; expires as the event says. */
struct api_item item_of_event(const struct event *e, struct span body);
MUST_USE enum err render_too_big(struct fault *why, uint64_t limit);
MUST_USE enum err render_refuse(struct fault *why, const char *format, ...) PRINTF_LIKE(2, 3);

/* Room for `count` items. NULL when the arena is full. */
struct api_item *items_new(struct api_exchange *x, unsigned count);

/* "option" is on: true, yes, on. */
bool option_on(const struct api_settings *s, const char *name);
bool option_is(const struct api_settings *s, const char *name, const char *value);

unsigned events_max(const struct api_exchange *x);      /* in a request */
uint64_t event_bytes_max(const struct api_exchange *x);

/* --- upstream ----------------------------------------------------------------------------------- */

/* Request line target: base path, `rest` without a second slash between them, then the base query. */
struct span target_join(const struct api_settings *s, struct arena *arena, struct span rest);
void send_header(struct api_send *ret, const char *name, struct span value);
/* "PREFIX TOKEN" in the arena. */
struct span token_header(struct arena *arena, const char *prefix, struct span token);

/* Microseconds from now; 0 when the header is absent or unreadable. Whole or decimal seconds, or an HTTP
 * date. */
uint64_t retry_after_us(const struct api_reply *reply);

/* The verdict that the status alone gives, by the contract's table: 2xx delivered; 400, 422 and what is like
 * them: split; 413: split, too large; 401, 403, 404, 405, 406, 3xx and what else speaks of the endpoint:
 * hold; 415: plain retry; 408, 425, 429, 5xx: retry. Text and Retry-After are filled. */
void judge_status(const struct api_reply *reply, struct arena *arena, struct api_verdict *ret);
void verdict_set(struct api_verdict *ret, enum api_action action, enum api_dead reason);
/* Does the answer's body contain `words` (ASCII, without case)? */
bool reply_says(const struct api_reply *reply, const char *words);
/* One verdict per event, all with this action; NULL when the arena is full. */
struct api_event_verdict *verdict_per_event(struct api_verdict *ret, const struct api_batch *b,
                                            struct arena *arena, enum api_action action, unsigned status);

extern const struct api cloudevents_api, honeycomb_api, langfuse_api, launchdarkly_api, monk_api, segops_api,
    otlp_api, plain_http_api;

#endif
