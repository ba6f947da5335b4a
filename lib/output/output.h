/* output: one configured upstream: its spool, batches, schedule and settlements. Steps 5, 8, 9, 12.
 *
 * Sans-I/O. Events come in by output_offer(); spool notes come in by output_note(); the shell asks
 * output_step() what to do next, carries the wish out and reports back. Callbacks only note what happened;
 * output_step() decides. Outputs never wait for each other.
 *
 * How a batch lives: filling (open, one per partition) -> closed: ASSIGN is handed to the spool and
 * WISH_ENCODE to the pool, side by side -> ready: assignment durable and payload encoded -> WISH_SEND when
 * the schedule allows -> in flight -> a reply or a failure -> settled, or waiting for its retry.
 * The schedule (schedule.h) is a state machine of its own: ok, retrying (one probe, then ramp-up), held,
 * paused, quota, failed. */
#ifndef PENSTOCK_OUTPUT_OUTPUT_H
#define PENSTOCK_OUTPUT_OUTPUT_H

#include "lib/api/api.h"
#include "lib/base/bytes.h"
#include "lib/base/clock.h"
#include "lib/base/rng.h"
#include "lib/spool/spool.h"

struct output;
struct batch;

struct output_config {
    struct api_settings api;      /* spans and options stay the caller's and good until output_reconfigure() */
    uint64_t batch_events_max, batch_bytes_max, batch_wait_us;
    enum api_codec codec;         /* resolved from `compression` */
    unsigned concurrency;
    bool concurrency_auto;        /* `concurrency` is then the ceiling */
    uint64_t retry_initial_us, retry_max_us, give_up_after_us; /* 0: never */
    uint64_t request_timeout_us;
    uint64_t rate_requests, rate_per_us;                       /* 0: no limit */
    uint64_t payload_budget_bytes; /* encoded and raw payloads kept in memory; 0: 4 MiB */
};

/* `spool` is the caller's; it is opened and closed by the caller, and read and settled only by this output. */
struct output *output_new(const struct output_config *config, struct spool *spool, const struct clock *clock,
                          uint64_t seed);
void output_free(struct output *o);
void output_reconfigure(struct output *o, const struct output_config *config);
/* Credentials in the api settings were re-read by the shell: the next send uses them. */
struct api_settings *output_api_settings(struct output *o);

/* --- in ----------------------------------------------------------------------------------------------- */

/* Would these be taken? See spool_room(). */
enum err output_room(const struct output *o, unsigned count, uint64_t bytes);
/* All or nothing. *ret_seq: the sender may be answered when output_acked() >= *ret_seq. */
MUST_USE enum err output_offer(struct output *o, const struct api_item *items, unsigned count, uint64_t wall_ns,
                               uint64_t *ret_seq);
/* Offers that belong together: see spool_reserve() and its sisters. */
MUST_USE enum err output_reserve(struct output *o, unsigned count, uint64_t bytes, uint64_t *ret_reserved);
void output_unreserve(struct output *o, uint64_t reserved);
enum err output_room_reserved(struct output *o);
MUST_USE enum err output_offer_reserved(struct output *o, const struct api_item *items, unsigned count, uint64_t wall_ns,
                                        uint64_t *reserved, uint64_t *ret_seq);
uint64_t output_acked(const struct output *o);

/* The key and content hash of each record that the spool still knows from the last minutes; call after
 * NOTE_OPENED until false (feeds the memory of recent ids). */
bool output_recent_next(struct output *o, uint64_t *ret_key_hash, uint64_t *ret_content_hash, uint64_t *ret_wall_ns);

/* Every note of the spool is handed in. */
void output_note(struct output *o, const struct spool_note *note);

/* --- out ---------------------------------------------------------------------------------------------- */

enum output_wish_kind {
    WISH_NOTHING,
    WISH_ENCODE,  /* compress off the loop: batch_encode_run() there, output_encoded() back on the loop */
    WISH_SEND,    /* send it; output_replied() or output_broke() follows, within request_timeout of the shell's own clock */
    WISH_PROBE,   /* a request without a batch (api->probe); output_probed() follows */
    WISH_CANCEL,  /* stop sending this batch (it was dropped meanwhile); output_broke() follows all the same */
    WISH_SECRETS, /* re-read secrets: something is held, and its probe waits for output_secrets_read() */
    WISH_REBUILD, /* nothing moved for too long: close all connections of this output */
};
struct output_wish {
    enum output_wish_kind kind;
    struct batch *batch;
};
/* Call until it answers WISH_NOTHING, after every report and at output_wake_us(). */
struct output_wish output_step(struct output *o);
uint64_t output_wake_us(const struct output *o); /* monotonic time of the next step at the latest; 0: only on news */

/* Off the loop: encodes the batch's payload; touches nothing but the batch. */
void batch_encode_run(struct batch *b);
void output_encoded(struct output *o, struct batch *b);

/* What goes on the wire. The spans are good while the batch is in flight (head: until `arena` is reset). */
struct output_request {
    struct api_send send;
    enum api_codec codec;
    struct span body[3]; /* unencoded payloads: before, events, after; encoded: one */
    unsigned body_count;
    uint64_t body_len;
    const char *payload_id;
};
void output_request(struct output *o, struct batch *b, struct arena *arena, struct output_request *ret);
MUST_USE bool output_probe_request(struct output *o, struct arena *arena, struct output_request *ret);

/* How a send can fail without a whole answer. */
enum output_break {
    BREAK_CONNECT,     /* nothing was sent: name lookup, connect, proxy, handshake */
    BREAK_DENIED,      /* the certificate check failed, or the proxy refused its credentials: holds like a 401 */
    BREAK_UNKNOWN,     /* after the request began: reset, timeout, torn answer; the outcome is unknown */
    BREAK_REUSED,      /* BREAK_UNKNOWN on a kept-alive connection before any byte of an answer: again at once, once */
    BREAK_CANCELLED,
};
void output_replied(struct output *o, struct batch *b, const struct api_reply *reply);
void output_broke(struct output *o, struct batch *b, enum output_break what, const char *text);
void output_probed(struct output *o, const struct api_reply *reply, enum output_break what, const char *text); /* reply NULL: it broke */

void output_secrets_read(struct output *o); /* they are as new as they can be; also without a wish */

/* --- steering ------------------------------------------------------------------------------------------- */

void output_pause(struct output *o);
void output_resume(struct output *o); /* also ends hold, quota and a long Retry-After */
void output_flush(struct output *o);  /* close open batches now */
void output_drain(struct output *o);  /* stopping: close batches at once, send what may be sent */
/* Accepted events not yet settled, up to the seq that was the newest at this call, are settled now? */
uint64_t output_mark(const struct output *o);
bool output_settled_to(const struct output *o, uint64_t mark);
bool output_idle(const struct output *o); /* no batch in flight or encoding: the shell may close the spool */

/* --- sight ---------------------------------------------------------------------------------------------- */

enum output_state { OUT_OK, OUT_RETRYING, OUT_HELD, OUT_FULL, OUT_PAUSED, OUT_QUOTA, OUT_FAILED, OUT_STATES };
extern const char *const output_state_names[OUT_STATES];

#define OUTPUT_HISTOGRAM_BUCKETS 14
extern const double output_histogram_bounds_s[OUTPUT_HISTOGRAM_BUCKETS - 1];
struct output_histogram {
    uint64_t buckets[OUTPUT_HISTOGRAM_BUCKETS]; /* not cumulative; the last is +Inf */
    double sum_s;
    uint64_t count;
};

struct output_held_partition {
    char partition[128];
    char text[200];
    uint64_t since_wall_ns;
};

struct output_status {
    enum output_state state;
    uint64_t since_wall_ns;        /* of the state */
    uint64_t next_try_us;          /* monotonic; 0: none scheduled */
    char error[512];               /* last error, in the upstream's words; empty: none */
    unsigned error_status;
    uint64_t error_wall_ns, success_wall_ns; /* 0: never */
    unsigned in_flight, waiting, open_batches, concurrency_now;
    uint64_t bytes_out, retries, repeated, requests;
    struct { const char *result; uint64_t count; } batches[12]; /* by result; unused: NULL */
    struct output_histogram request_seconds, commit_seconds;
    struct spool_ledger ledger;
    struct output_held_partition held[4];
    unsigned held_count;
};
void output_status(const struct output *o, struct output_status *ret);
/* Hands the counters to the spool, whose next commit keeps them. Called by itself with each send, answer and settlement;
 * once more before the spool is closed, so that nothing is counted twice or not at all over a restart. */
void output_save_stats(struct output *o);

/* A dead letter or a change of state that deserves one diagnostic line of a fixed shape; the shell logs them.
 * False when there is none. At most 64 are kept; what was left out is counted in `left_out`. */
struct output_news {
    enum {
        NEWS_DEAD,
        NEWS_STATE,    /* it is what it should be again, or a person wanted it so */
        NEWS_DEGRADED, /* a state that passes by itself */
        NEWS_HELD,     /* a state that does not: somebody must act */
        NEWS_WARNING,
        NEWS_SKIPPED
    } kind;
    char text[512];
    uint64_t left_out;
};
bool output_news_next(struct output *o, struct output_news *ret);

#endif
