/* sink_check: one request to the development upstream, held against what its vendor documents.
 *
 * sink_serve() takes a request from its first check to its answer: which api it speaks, whether this vendor
 * would take its encoding, headers and shape, what each event is, what the rules (sink_respond.h) want instead,
 * what is remembered (sink_store.h), and the answer in the vendor's own words. What the vendor would forgive or
 * lose silently, but a forwarder must not do, is a violation: counted, named, and visible in the statistics.
 * The checks read JSON on their own terms: nothing of lib/api is used here, so the two do not share mistakes. */
#ifndef PENSTOCK_AGENT_SINK_CHECK_H
#define PENSTOCK_AGENT_SINK_CHECK_H

#include "agent/sink_respond.h"
#include "agent/sink_store.h"
#include "lib/codec/json.h"

struct sink_request {
    struct span method, path, query; /* path without the query, not decoded */
    struct span body;                /* as it came, chunked coding removed */
    bool chunked;
    struct span (*header)(const void *ctx, const char *name); /* .at NULL: absent */
    /* The next header from *cursor (0 first); false at the end. */
    bool (*header_next)(const void *ctx, unsigned *cursor, struct span *ret_name, struct span *ret_value);
    const void *header_ctx;
    int64_t unix_sec; /* of arrival */
};

struct sink_event {
    struct span body; /* in the decoded request */
    struct span id;
    unsigned status; /* its own result; 0: the request's */
    const char *error;
    struct sink_hash identity, vendor;
    bool vendor_dedup, opaque;
    bool lost;    /* answered as taken, but the vendor throws it away */
    bool skipped; /* SegOps: counted as skipped */
    unsigned tag; /* the api's own */
};

struct sink_settings {
    const char *api_name;  /* --api, or NULL: recognised by path */
    struct span accept_key; /* the one credential that is taken; .at NULL: any */
    struct sink_store *store;
    struct sink_rules *rules;
};

struct decoder; /* lib/codec/compress.h */
struct sink_api;

struct sink_exchange {
    const struct sink_settings *settings;
    const struct sink_request *request;
    const struct sink_api *api;
    const struct sink_rule *rule; /* or NULL */
    struct arena *arena;
    uint64_t number;
    struct span content_type; /* media type alone, or .at NULL */
    struct span body;         /* decoded */
    struct span partition, batch;
    struct sink_event *events;
    unsigned event_count, event_capacity;
    struct decoder *decoder;
    struct json_member *members; /* room for SINK_MEMBERS_MAX; used while an element is read */
    /* the answer */
    unsigned status;             /* 0 until decided */
    struct span type;            /* .at NULL: no body */
    struct bytes reply;
    struct bytes headers;        /* whole lines, each ended by CR LF */
    bool control;                /* a request to the sink itself, not to an api */
};

enum { SINK_MEMBERS_MAX = 2100 };

struct sink_api {
    const char *name;
    /* Is this a request of this api? */
    bool (*recognise)(const struct sink_request *r);
    /* Content-Encodings that the vendor takes, as "gzip zstd"; checked before check(). */
    const char *(*encodings)(const struct sink_exchange *x);
    /* Checks all and fills events; sets status when the request is refused whole. */
    void (*check)(struct sink_exchange *x);
    /* Writes the vendor's answer for what is in events; status is 0 before. */
    void (*answer)(struct sink_exchange *x);
    /* Writes the vendor's error body for x->status. */
    void (*refuse)(struct sink_exchange *x, const char *text);
};

/* The apis in the order in which they are tried; the last one takes everything. */
extern const struct sink_api sink_cloudevents, sink_honeycomb, sink_langfuse, sink_launchdarkly, sink_monk, sink_segops,
    sink_otlp, sink_http;
extern const struct sink_api *const sink_apis[];
const struct sink_api *sink_api_find(struct span name);

/* Serves one request: fills x->status, type, reply and headers. The caller zeroes nothing between requests. */
void sink_serve(struct sink_exchange *x, const struct sink_settings *settings, const struct sink_request *request);
void sink_exchange_init(struct sink_exchange *x, struct arena *arena);
void sink_exchange_deinit(struct sink_exchange *x);

/* --- for the apis' checks ------------------------------------------------------------------------------ */

void sink_violation(struct sink_exchange *x, const char *what, const char *format, ...) PRINTF_LIKE(3, 4);
/* Refuses the request whole, in the vendor's shape; also a violation when `what` is not NULL. */
void sink_refuse(struct sink_exchange *x, unsigned status, const char *what, const char *text);

struct span sink_header(const struct sink_exchange *x, const char *name);
bool sink_type_is(const struct sink_exchange *x, const char *media_type);
/* Is `value` "PREFIX" followed by a credential that is taken? An absent one never is. */
bool sink_credential(const struct sink_exchange *x, struct span value, const char *prefix);
/* Percent-decoded, in the arena. */
struct span sink_percent_decoded(struct sink_exchange *x, struct span text);
/* What follows `prefix` in the path up to the end, or .at NULL. */
struct span sink_path_after(const struct sink_request *r, const char *prefix);
bool sink_is_uuid(struct span text);

/* A new event of these bytes; its identity is that of its bytes until the api says otherwise. */
struct sink_event *sink_event_add(struct sink_exchange *x, struct span body);
/* Its identity is `id` (and `more`), and the vendor deduplicates by it. */
void sink_event_identify(struct sink_exchange *x, struct sink_event *e, struct span id, struct span more);
/* The vendor deduplicates whole requests by x->batch. */
void sink_batch_identify(struct sink_exchange *x);

typedef void sink_each_fn(struct sink_exchange *x, struct sink_event *e, const struct json_member *members, size_t count);
/* Reads the array at the reader, adds an event for each element, and calls `each` with its members (also of what is
 * no object: then count is 0 and e->body does not begin with a brace). False when the text is malformed. */
bool sink_each_element(struct sink_exchange *x, struct json_reader *r, sink_each_fn *each);
/* The same for a body that is {"NAME":[…], …}. 0: done; else the text is malformed (400) or has no such array (422). */
int sink_each_of_member(struct sink_exchange *x, const char *name, sink_each_fn *each);

bool sink_is_object(const struct sink_event *e);
/* A member that is a string (and not empty); .at NULL otherwise. In the arena. */
struct span sink_text(struct sink_exchange *x, const struct json_member *members, size_t count, const char *name);
bool sink_member_is(const struct json_member *members, size_t count, const char *name, enum json_type type);
/* Answers. */
void sink_reply(struct sink_exchange *x, unsigned status, const char *type, const char *format, ...) PRINTF_LIKE(4, 5);
void sink_reply_more(struct sink_exchange *x, const char *format, ...) PRINTF_LIKE(2, 3);
void sink_reply_string(struct sink_exchange *x, struct span text);
/* How many events count as taken by the vendor: own status 2xx or none, not lost, not skipped. */
unsigned sink_taken(const struct sink_exchange *x);

#endif
