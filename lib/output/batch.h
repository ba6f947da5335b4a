/* batch: events of one partition that travel together. Step 8.
 *
 * A batch is filled while it is open: each event's body is copied once, from the spool's cache into `raw`,
 * with the envelope's bytes around and between, so that `raw` is the uncompressed payload from the start and
 * members are offsets into it. Closing it fixes its members, and the length and checksum of its payload; the
 * spool writes them down before the first send (spool_assign), and from then on the batch never changes: a
 * retry, also after a crash, sends the same bytes under the same id. What may be let go is the memory:
 * spool_load() brings the members back, and the checksum proves that they make the same payload.
 *
 * Batches and their buffers are recycled; nothing here allocates per event. */
#ifndef PENSTOCK_OUTPUT_BATCH_H
#define PENSTOCK_OUTPUT_BATCH_H

#include "lib/api/api.h"
#include "lib/base/list.h"
#include "lib/output/partition.h"
#include "lib/output/record_id.h"
#include "lib/output/verdict.h"
#include "lib/spool/spool.h"

struct encoder;
struct output;

#define BATCH_RAW_MAX (32u << 20) /* a record is at most 16 MiB; this is a bound, not a goal */
#define BATCH_PLAIN_BELOW 1024    /* smaller payloads are not worth compressing */
#define BATCH_ID_TEXT 37

enum batch_state {
    BATCH_OPEN,    /* being filled */
    BATCH_CLOSED,  /* its members are fixed; not yet handed to the spool */
    BATCH_WAITING, /* assigned; to be sent, or sent again */
    BATCH_FLIGHT,
    BATCH_DECIDED,  /* the outcome is known; not yet handed to the spool */
    BATCH_SETTLING, /* the spool is writing the outcome */
    BATCH_LOST,     /* the spool closed it by policy; only an encoding or a send in progress keeps it */
    BATCH_STATES
};

enum batch_payload {
    PAYLOAD_NONE,     /* let go, or never built since the start */
    PAYLOAD_LOADING,  /* the spool is reading the members */
    PAYLOAD_RAW,      /* built, to be encoded */
    PAYLOAD_ENCODING, /* off the loop: nothing of it may be touched */
    PAYLOAD_READY,
};

struct batch_member {
    uint64_t seq;
    uint64_t expires_ns;        /* Unix time; 0: never */
    uint32_t body_at, body_len; /* in raw */
    uint32_t id_at, id_len;     /* in ids */
};

/* What of the settings shapes a payload's bytes. A batch keeps its own until its end, whatever is configured or learnt
 * meanwhile. */
struct batch_form {
    enum api_mode mode;
    bool ndjson;
};

struct batch {
    struct list link; /* in the output's order, or its free list */
    struct output *output;
    struct partition *partition;
    enum batch_state state;
    enum batch_payload payload;

    /* Identity; fixed when closed. */
    struct spool_batch_id id;
    char payload_id[BATCH_ID_TEXT];
    struct spool_run *runs;
    unsigned run_count, run_cap;
    uint64_t count;
    uint32_t raw_len, raw_crc32c;
    uint32_t envelope_version;
    uint64_t envelope_hash;
    struct batch_form form;
    enum api_codec codec; /* wanted; a small payload goes plain all the same */

    /* Payload. */
    struct api_envelope envelope; /* of the settings in force when it was opened */
    struct bytes raw, ids, encoded;
    struct batch_member *members;
    unsigned member_count, member_cap;
    uint32_t *id_slots; /* open addressing: member index + 1 by hash of its id; NULL until an id comes */
    unsigned id_slot_count;
    struct encoder *encoder; /* lent by the output while PAYLOAD_ENCODING */
    bool use_encoded;
    enum err encode_err;

    /* History. */
    bool durable;    /* the assignment is */
    bool recovered;  /* assigned by an earlier process */
    bool broken;     /* members were lost: must become a new batch */
    bool unknown;    /* an earlier send may have delivered it */
    bool split;      /* part of what a larger one was cut into */
    bool singles;    /* to be taken apart before it is sent */
    bool doomed;     /* its events are to be dead letters, as soon as there is room for these */
    bool overtaken;  /* keeps failing on its own: later batches of its partition go past it */
    bool once_more;  /* was repeated at once already */
    bool cancel;     /* to be cancelled; asked of the shell once */
    bool cancel_asked;
    unsigned attempts, tries, unknown_sends;
    unsigned remainders; /* per-event answers in a row of which it is what remained */
    uint64_t opened_us, ready_us, not_before_us, sent_us, failed_us;
    uint64_t send_no;
    uint64_t counted_no; /* of spool_save_user(): the send to come is counted as a repeat; 0: not counted */
    uint64_t oldest_wall_ns;
    uint64_t expires_ns; /* the earliest of its members'; 0: none */
    unsigned reply_status;
    struct spool_loader loader;
    bool load_done;
    enum err load_err;
    struct outcome outcome;
};

struct batch *batch_new(void);
void batch_free(struct batch *b);
/* Forgets everything but memory; large buffers go too when `trim`. */
void batch_reset(struct batch *b, bool trim);
/* Bytes of payload memory that it holds. */
size_t batch_memory(const struct batch *b);
/* The id of the i-th member, in the batch's memory; empty where its event has none. */
struct span batch_member_id(const struct batch *b, unsigned i);

/* --- filling --- */

void batch_open(struct batch *b, struct partition *p, const struct api_envelope *envelope);
/* Length of the payload if an event of body_len were added. */
static inline uint64_t batch_len_with(const struct batch *b, size_t body_len)
{
    return b->raw.len + (b->member_count > 0 ? b->envelope.between.len : 0) + body_len +
           b->envelope.after.len;
}
/* Is an event with this (non-empty) id in it? */
bool batch_has_id(const struct batch *b, struct span id);
/* Do the two have an id in common? Both loaded. */
bool batch_shares_id(const struct batch *a, const struct batch *b);
/* ERR_TOO_BIG beyond BATCH_RAW_MAX. The id is the api's; expires_ns 0: never. */
MUST_USE enum err batch_add(struct batch *b, uint64_t seq, struct span id, struct span body,
                            uint64_t expires_ns);
/* Ends the payload; sets raw_len and raw_crc32c. */
void batch_close(struct batch *b);

/* --- again --- */

/* Lets payload memory go; the runs stay. */
void batch_release(struct batch *b);
/* What tells two envelopes apart on disk. */
uint64_t batch_envelope_hash(const struct api_envelope *envelope);
/* A batch that the spool knows, without its payload. */
void batch_adopt(struct batch *b, struct partition *p, const struct spool_open_batch *open);
/* Begins the payload anew; batch_add() then adds its members again, batch_loaded() ends it. */
void batch_load_begin(struct batch *b, const struct api_envelope *envelope);
/* Before the first member, which is at hand: no payload is held while the disk is waited for. */
void batch_load_reserve(struct batch *b);
/* Is the payload the one whose length and checksum were written down, with as many members? */
MUST_USE bool batch_loaded(struct batch *b);
/* The spool's present view of its members, after some were lost. */
void batch_set_runs(struct batch *b, const struct spool_run *runs, unsigned count);
bool batch_has_seq(const struct batch *b, uint64_t seq);
/* Members [from, to) of a loaded batch, those with this fate, as a new closed batch. */
void batch_carve(struct batch *child, const struct batch *parent, const struct api_envelope *envelope, enum fate fate,
                 unsigned from, unsigned to);
/* Has any member this fate? For an outcome that is OUTCOME_CUT. */
bool batch_has_fate(const struct batch *b, enum fate fate);

/* --- identity --- */

void batch_set_id(struct batch *b, const struct spool_batch_id *id);
struct spool_assignment batch_assignment(const struct batch *b);
/* The payload id is a UUID: the spool's own random one with epoch and number worked in, so that it is unique
 * and the same after each restart. */
void batch_id_text(const struct spool_batch_id *id, char into[BATCH_ID_TEXT]);

#endif
