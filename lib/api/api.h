/* api: the vocabulary of one upstream service, in both directions. Steps 3 and 11 of the straight line.
 *
 * One `struct api` per service, one file each; adding a service adds a file and a line in api_all().
 *   local half:    a request on one of its paths -> items to store, or an answer at once;
 *                  what was done with them -> the answer that this vendor's own clients survive.
 *   neutral:       a CloudEvent -> the bytes that go on the wire (one element in the service's shape).
 *   upstream half: limits as data; request line, headers and envelope of a batch; the answer -> a verdict.
 *
 * An api does no I/O, keeps no state between calls, and allocates only from the arena it is given. */
#ifndef PENSTOCK_API_API_H
#define PENSTOCK_API_API_H

#include "lib/base/bytes.h"
#include "lib/base/clock.h"
#include "lib/base/rng.h"
#include "lib/event/event.h"

struct api;
struct uuid_source; /* lib/codec/uuid7.h */

/* --- settings: what configuration says about one output, as far as its api cares ---------------- */

enum api_codec { API_IDENTITY, API_GZIP, API_ZSTD };
#define API_CODEC_BIT(codec) (1u << (codec))

struct api_limits {
    uint64_t event_bytes;       /* one rendered element */
    uint64_t batch_events;
    uint64_t batch_raw_bytes;   /* envelope included */
    uint64_t batch_sent_bytes;  /* after compression; 0: not counted */
    uint64_t local_events;      /* elements taken in one local request */
};

struct api_batch_defaults {
    uint64_t max_events, max_bytes, max_wait_us;
    unsigned concurrency;
    uint64_t rate_requests, rate_per_us; /* 0: none */
};

struct api_option {
    const char *name; /* "map.subject", "honeycomb.id_field", … as in the configuration; the api's own name before it may be left out */
    struct span value;
};

enum api_mode { API_MODE_BATCH, API_MODE_STRUCTURED, API_MODE_BINARY, API_MODES };

struct api_settings {
    const struct api *api;
    const char *output_name;
    const char *agent_name;
    struct span base_path;        /* path of the endpoint: a prefix, or the whole target for http and cloudevents */
    struct span base_query;       /* "?…" of the endpoint or empty */
    struct span partition;        /* for events that name none */
    const struct api_option *options;
    unsigned option_count;
    struct api_limits limits;
    /* Credentials, re-read from time to time; by the contract's names: api_key, public_key, secret_key,
     * access_token, sdk_key, bearer. .at NULL: not configured. */
    struct span api_key, public_key, secret_key, access_token, sdk_key, bearer;
    struct span webhook_origin;   /* cloudevents; .at NULL: no handshake */
    bool sessions_off;            /* segops: session: off */
    bool ndjson;                  /* http: format: ndjson */
    enum api_mode mode;           /* cloudevents */
};
const struct span *api_option(const struct api_settings *s, const char *name); /* NULL: not set */

/* --- local half --------------------------------------------------------------------------------- */

struct api_request {
    struct span method;
    struct span path;         /* as on the request line, without the query */
    struct span query;        /* without '?' */
    struct span content_type; /* .at NULL: none */
    struct span content_encoding; /* as it came; the body below is decoded */
    struct span body;
    struct span body_encoded; /* as it came, for opaque paths (OTLP) */
    struct span (*header)(const void *ctx, const char *name); /* .at NULL: absent; name in any case */
    /* The next header from *cursor (0 first) whose name begins with prefix; false at the end. */
    bool (*header_next)(const void *ctx, const char *prefix, unsigned *cursor, struct span *ret_name, struct span *ret_value);
    const void *header_ctx;
    uint64_t wall_ns;         /* of arrival */
};

/* One thing to store. */
struct api_item {
    struct span body;         /* the bytes that go on the wire */
    struct span partition;
    struct span id;           /* what the upstream half needs again: Langfuse event id, Monk key, payload id; may be empty */
    uint64_t key_hash;        /* of the identity that the memory of recent ids goes by; 0: not remembered */
    uint64_t content_hash;    /* of the content as the sender gave it */
    uint64_t expires_ns;      /* Unix time: not sent any more after this (dropped as expired); 0: never */
    uint32_t weight;          /* events it stands for in the input's counts: 1, or the elements of an opaque request */
    uint32_t index;           /* position in the request */
};

enum api_reject { /* the names of the metric's reasons */
    REJECT_MALFORMED, REJECT_TOO_LARGE, REJECT_TRUNCATED, REJECT_KERNEL_DROPPED, REJECT_FULL, REJECT_NO_ROUTE,
    REJECT_UNRENDERABLE, REJECT_UNAUTHORIZED, REJECT_BAD_COMPRESSION, REJECT_UNSUPPORTED_SIGNAL, REJECT_REASONS };
extern const char *const api_reject_names[REJECT_REASONS];

struct api_rejection {
    uint32_t index;
    enum api_reject reason;
    struct span text; /* "events[1]: …" in words for the sender */
};

struct api_header {
    struct span name, value;
};

struct api_answer {
    unsigned status; /* 0: none yet */
    struct api_header headers[8]; /* besides Content-Length, Date, Connection */
    unsigned header_count;
    struct span content_type; /* .at NULL: no body */
    struct span body;         /* in the arena or static */
};

/* What became of a request as a whole. */
enum api_condition {
    COND_STORED,        /* everything in items is durable, or known already */
    COND_FULL,          /* an output has no room */
    COND_STOPPING,
    COND_FAILED,        /* storage failed */
    COND_NO_OUTPUT,     /* no output of this type, or no route */
    COND_UNAUTHORIZED,  /* auth.token missing or wrong */
    COND_TOO_LARGE,     /* body over max_body, or more events than a request may have */
    COND_BAD_ENCODING,  /* unknown Content-Encoding */
    COND_BAD_COMPRESSION, /* does not decode, or inflates beyond the bound (then COND_TOO_LARGE) */
    COND_BAD_METHOD,    /* 405 with Allow where this api's clients survive that */
    COND_BUSY,          /* passing: too many requests wait already */
    COND_CONFLICT,      /* an id came again with other content, and the api refuses that (REPEAT_REFUSE) */
};

/* One request on one of an api's paths, from reading to the answer. Lives in the connection's request slot. */
struct api_exchange {
    const struct api *api;
    const struct api_path *path;
    const struct api_request *request;
    struct arena *arena;
    struct arena *keep;       /* NULL: `arena`; else what must last to the answer goes here, while `arena` is emptied
                                 between the pieces of a large request */
    size_t piece_bytes;       /* 0: read() reads all of the body; else about so many bytes of it in each call */
    bool again;               /* read() was through the whole body before: its rejections are known */
    const char *agent_name;
    struct uuid_source *uuids;
    const struct api_settings *settings; /* of the output concerned where there is exactly one; else NULL */
    struct span cors_origin;  /* the input's; .at NULL: "*" */
    bool webhook;             /* the input's `webhook: true`: OPTIONS /events is answered */
    unsigned events_max;      /* more events than this in one request: COND_TOO_LARGE; 0: 10,000 */
    /* out of read(): */
    struct api_item *items;
    unsigned item_count;
    struct api_rejection *rejections; /* in any order; add with api_reject() */
    unsigned rejection_count, rejection_room;
    unsigned offered;         /* events offered in all, for the counters and answers */
    struct event *events;     /* neutral path: to be routed and rendered by intake; then items stay NULL */
    unsigned event_count;
    unsigned warnings;        /* accepted, but a person should know (binary-mode headers in Latin-1) */
    struct api_answer answer; /* status != 0: final, nothing is stored (refused whole, or GET) */
    uint64_t pass_keep_us;    /* with pass_on: the upstream's 200 may be given again for so long; 0: never */
    bool pass_on;             /* not for us: to be sent to the upstream as api->pass_on() says while the sender waits, and
                                 its answer given back; where that cannot be, answer(COND_FAILED) */
    void *state;              /* the api's own, kept: what answer() needs to know again */
    bool more;                /* there is more in the body: read() again, with items and events emptied. An api that
                                 knows no pieces never says so */
    void *reading;            /* the api's own, kept: where the next piece begins. NULL: at the beginning */
};

static inline struct arena *api_keep(const struct api_exchange *x)
{
    return x->keep == NULL ? x->arena : x->keep;
}

/* Refuses one event of the exchange; intake calls it too, for routes and rendering. The text is copied. False only
 * when the arena is full: answer COND_TOO_LARGE then. */
MUST_USE bool api_reject(struct api_exchange *x, uint32_t index, enum api_reject reason, const char *text);

enum api_auth { /* how a sender presents auth.token on this path (contract section 3) */
    AUTH_NONE,             /* health checks */
    AUTH_BEARER,           /* Authorization: Bearer T */
    AUTH_HONEYCOMB,        /* X-Honeycomb-Team: T (or X-Hny-Team) */
    AUTH_BASIC_SECRET,     /* Basic, T as the password; Bearer T also taken */
    AUTH_BARE,             /* Authorization: T */
    AUTH_APIKEY,           /* Authorization: ApiKey T */
    AUTH_IMPOSSIBLE,       /* clients cannot present one: the path is off while auth.token is set */
};

struct api_path {
    const char *method;   /* "POST"; the other methods of a known pattern are COND_BAD_METHOD; "*": all, as the last resort */
    const char *pattern;  /* literal segments; "*" one segment, "**" the rest; a slash at the end is tolerated */
    enum api_auth auth;
    bool opaque;          /* the body is kept as it came: read() uses body_encoded beside body */
    bool hidden;          /* answered only when the input says so (webhook) */
    bool pieces;          /* read() knows pieces here */
    unsigned tag;         /* the api's own */
};

/* Does this request present `token` in the way of its path? Compares in constant time. True for AUTH_NONE; false for
 * AUTH_IMPOSSIBLE. Ask only when auth.token is set. */
bool api_authorized(const struct api_path *path, const struct api_request *request, struct span token);

/* What an id means that comes again within the memory of recent ids with other content. (The same content is always
 * answered as accepted and stored once.) */
enum api_repeat {
    REPEAT_STORE_COUNTED, /* stored as another event, and counted (neutral events, Monk) */
    REPEAT_STORE,         /* stored: it is an update (Langfuse) */
    REPEAT_REFUSE,        /* COND_CONFLICT for the request (LaunchDarkly payload ids) */
};

/* --- upstream half ------------------------------------------------------------------------------ */

struct api_member {
    struct span id, body;
};

struct api_batch {
    struct span partition;
    const struct api_member *members;
    unsigned count;
    struct span payload_id;   /* a UUID in text, fixed for the life of the batch */
    enum api_codec codec;     /* of the body as it will be sent */
    uint64_t sent_len;        /* of the body as it will be sent */
    unsigned attempts;        /* sends so far */
    bool probe;               /* this send asks whether a held upstream takes us again */
    bool split;               /* it is what a larger batch was cut into, sent for the first time */
};

struct api_envelope {
    struct span before, between, after; /* static, or good as long as the settings */
    uint32_t version;                   /* changes when the bytes change */
};

struct api_send {
    const char *method;
    struct span target;       /* path and query, in the arena */
    struct api_header headers[24]; /* besides Host, Content-Length, Content-Encoding, and the output's own headers */
    unsigned header_count;
    const struct api_header *more_headers; /* and these (binary mode), in the arena */
    unsigned more_header_count;
    bool own_body;            /* send `body` in place of envelope and members, without Content-Encoding of ours */
    struct span body;         /* in the arena, or borrowed from the member */
};

struct api_reply {
    unsigned status;
    struct span body;         /* as it came: no coding was asked for; at most 1 MiB */
    bool body_cut;
    struct span content_type;
    struct span retry_after;  /* raw header values; .at NULL: absent */
    struct span ratelimit;    /* "RateLimit" */
    struct span location;
    struct span webhook_origin, webhook_rate; /* "WebHook-Allowed-Origin", "-Rate" */
    uint64_t wall_ns;
};

enum api_action {
    ACT_DELIVERED,
    ACT_RETRY,           /* same batch again (per event: that event again, in a new batch) */
    ACT_SPLIT,           /* halve into new batches; a single event: dead */
    ACT_SPLIT_SINGLES,   /* into one batch per event */
    ACT_DEAD,
    ACT_HOLD,            /* the output holds and probes */
    ACT_HOLD_PARTITION,  /* only this batch's partition */
    ACT_PLAIN_RETRY,     /* same events without compression, remembered for the output; when it was plain already: hold */
    ACT_MODE_RETRY,      /* cloudevents: from now on structured instead of batch; else hold */
    ACT_HOLD_FOREVER,    /* 410: holds without probing until resumed */
    ACT_PER_EVENT,
};

enum api_dead { /* the metric's reasons; numbers are on disk: never renumber */
    DEAD_REFUSED = 0, DEAD_TOO_LARGE = 1, DEAD_GAVE_UP = 2, DEAD_BAD_RESPONSE = 3, DEAD_NO_RESULT = 4,
    DEAD_LANGFUSE_LEGACY_REMOVED = 5, DEAD_COUNT_MISMATCH = 6, DEAD_INVALID = 7, DEAD_REASONS };
extern const char *const api_dead_names[DEAD_REASONS];

struct api_event_verdict {
    enum api_action action; /* ACT_DELIVERED, ACT_RETRY, ACT_DEAD */
    enum api_dead reason;
    unsigned status;        /* the event's own, else the answer's */
    struct span answer;     /* the upstream's words for it */
    bool unknown;           /* ACT_RETRY: no result was given; at most unknown_max sends, then dead with `reason` */
};

struct api_verdict {
    enum api_action action;
    enum api_dead reason;          /* where it ends as dead */
    bool unknown;                  /* the outcome is not known: the same batch must go again, nothing may be cut */
    unsigned unknown_max;          /* with unknown: after so many sends dead with `reason`; 0: never */
    bool backoff;                  /* the output backs off before it sends anything else */
    uint64_t retry_after_us;       /* floor for the whole output; 0: none */
    bool quota;                    /* state quota rather than retrying */
    bool expire_quietly;           /* ACT_DEAD of diagnostics: dropped as expired, no letter */
    struct api_event_verdict *events; /* ACT_PER_EVENT: count of the batch, in the arena */
    bool apart;                    /* ACT_PER_EVENT: what remains goes on in one batch per event */
    unsigned noted;                /* events the upstream said it skipped (SegOps) */
    bool warn;                     /* ACT_DELIVERED, and a person should read `text` all the same */
    const char *result;            /* label for penstock_batches_total: "delivered", "retry", "split", "skipped", … */
    struct span text;              /* the upstream's words, or ours, for status and log */
};

/* The single event's way of answering a whole-batch refusal is derived by the output. */

struct api {
    const char *name;                   /* contract's name of the output type */
    unsigned codecs;                    /* API_CODEC_BITs that the service takes */
    enum api_codec auto_codec;          /* what `compression: auto` means */
    uint16_t version;                   /* of its rendering; stored with each record */
    bool unique_ids;                    /* one id never twice in a batch, nor in two batches in flight (Monk, Langfuse) */
    bool neutral;                       /* takes neutral events: render is set (all but otlp) */
    enum api_repeat repeat;             /* on its own paths */
    const char *default_endpoint;       /* NULL: must be configured */
    struct api_limits limits;
    struct api_batch_defaults batch;

    /* local half; paths == NULL: none */
    const struct api_path *paths;
    unsigned path_count;
    /* Fills x's out fields. Never fails: what is wrong becomes a rejection or an answer. Of a body that comes in pieces
     * `offered` goes on counting, and the events and items are those of the piece. */
    void (*read)(struct api_exchange *x);
    /* The answer for what became of it. For conditions that arise before read() (unauthorized, too large, bad
     * encoding, …) x has only api, path, request and arena. `text` is for people. */
    void (*answer)(struct api_exchange *x, enum api_condition condition, struct span text, struct api_answer *ret);

    /* Renders a neutral event. ERR_MALFORMED or ERR_TOO_BIG with a reason for the sender. */
    enum err (*render)(const struct api_settings *s, const struct event *e, struct arena *arena, struct api_item *ret,
                       struct fault *why);

    /* upstream half */
    /* Records of this partition are never merged: each is a batch of its own. NULL: always merged. */
    bool (*alone)(const struct api_settings *s, struct span partition);
    /* Diagnostics and the like: dropped when older than this at sending; 0: never. May be NULL. */
    uint64_t (*expires_us)(struct span partition);
    void (*envelope)(const struct api_settings *s, struct span partition, struct api_envelope *ret);
    enum err (*request)(const struct api_settings *s, const struct api_batch *b, struct arena *arena, struct api_send *ret);
    /* What of `wanted` a batch of this partition is compressed with. NULL: all of it. */
    enum api_codec (*codec)(struct span partition, enum api_codec wanted);
    /* Why records of this partition are not to be sent, but dead (DEAD_INVALID) as they are; .at NULL: they are.
     * NULL: all are sent. */
    struct span (*stillborn)(struct span partition);
    /* The upstream request for an exchange with pass_on set; the body is the sender's. NULL: there are none. */
    enum err (*pass_on)(const struct api_settings *s, const struct api_exchange *x, struct api_send *ret);
    /* What the sender is told instead, when an exchange with pass_on got no 200. NULL: the upstream's answer as it is,
     * or COND_FAILED where there is none. */
    void (*not_passed)(struct api_exchange *x, struct api_answer *ret);
    /* A request that asks for consent before the first delivery; NULL or false: none is needed. */
    bool (*handshake)(const struct api_settings *s, struct arena *arena, struct api_send *ret);
    /* Is that consent? *ret_per_minute: requests that it allows, 0: it does not say. */
    bool (*consents)(const struct api_settings *s, const struct api_reply *reply, uint64_t *ret_per_minute);
    /* A request without events that asks whether we are welcome again; NULL or false: probe with the batch itself. */
    bool (*probe)(const struct api_settings *s, struct arena *arena, struct api_send *ret);
    void (*judge)(const struct api_settings *s, const struct api_batch *b, const struct api_reply *reply, struct arena *arena,
                  struct api_verdict *ret);
};

/* All apis in the contract's order, ended by NULL. The neutral path belongs to cloudevents. */
const struct api *const *api_all(void);
const struct api *api_find(struct span name);

enum api_match { MATCH_NONE, MATCH_PATH, MATCH_METHOD /* the path is known, the method is not */ };
/* Which api and path a request belongs to. */
enum api_match api_route(struct span method, struct span path, const struct api **ret_api, const struct api_path **ret_path);

#endif
