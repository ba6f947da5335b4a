/* core: an output's insides, shared by the files that share its work.
 *
 *   output.c    life, offers, notes, steering; output_step() in its order: the straight line
 *   fill.c      spool -> open batches -> closed -> assigned                       (step 8)
 *   payload.c   payloads read again, encoded, let go                              (step 8)
 *   dispatch.c  which batch is sent next, and how                                 (steps 9, 10)
 *   answer.c    replies and breaks                                                (step 11)
 *   settle.c    outcomes to the spool: delivered, dead, dropped, following ones   (step 12)
 *   sight.c     status, state, news
 *
 * Callbacks (notes, replies, breaks, loads) only note what happened, in the batch or in a flag; output_step()
 * acts. That is also what keeps the spool from being called inside its own callbacks. */
#ifndef PENSTOCK_OUTPUT_CORE_H
#define PENSTOCK_OUTPUT_CORE_H

#include "lib/output/batch.h"
#include "lib/output/limit.h"
#include "lib/output/news.h"
#include "lib/output/output.h"
#include "lib/output/partition.h"
#include "lib/output/schedule.h"
#include "lib/output/stats.h"
#include "lib/output/transport.h"
#include "lib/spool/branches.h"
#include "lib/spool/bugs.h"

#define PAYLOAD_BUDGET_DEFAULT (4u << 20)
#define AHEAD 2            /* batches assigned beyond those that can be in flight */
#define OPEN_MAX 256       /* batches being filled, one per partition */
#define READ_PER_STEP 4096 /* records */
#define OVERTAKEN_AFTER 5 /* tries of what remains of per-event answers */
#define OVERTAKEN_MAX 64  /* such batches that do not count as ahead */
#define LOADS_MAX 2
#define ENCODERS_MAX 4 /* compressions at the same time */
#define RETRY_SPOOL_US US_PER_S
#define STALL_US (120 * US_PER_S)

struct output {
    struct output_config config;
    struct spool *spool;
    struct clock clock;
    struct rng rng;
    const struct transport *transport;
    uint64_t now_us; /* of the present step or report */

    struct schedule schedule;
    struct limit_rate rate;
    struct limit_pace pace;
    struct limit_learned learned;
    struct limit_adapt adapt;
    struct stats stats;
    struct news news;
    struct partition_table partitions;

    struct list opens;    /* being filled, oldest first */
    struct list order;    /* closed and later, in the order in which they are to be sent */
    struct list settling; /* handed to the spool */
    struct list lost;     /* gone from the spool, but still encoding or loading */
    struct list free;
    unsigned free_count, open_count;
    unsigned unassigned; /* CLOSED */
    unsigned in_flight, encoding, loading, held_partitions;
    size_t memory; /* of payloads, as of this step */

    bool opened;   /* the spool is */
    bool failed;   /* storage is */
    bool readable; /* spool_next() may have something */
    bool room;     /* the spool may take what it refused */
    bool rewind;   /* unassigned records are to be read again */
    bool draining;
    bool plain;      /* the upstream takes no compression */
    bool structured; /* nor batch mode, though it is configured */
    bool decided;    /* some batch is BATCH_DECIDED */
    bool dead_full;  /* dead letters are full and block */
    bool probe_out;
    bool consent;  /* of a webhook: given, or none is needed */
    bool asking;   /* the probe that is out asks for it */
    bool secrets_read; /* for the probe that comes next */
    bool secrets_out;  /* they are being read: that probe waits */
    bool rebuild;
    bool more; /* the step stopped at a bound of its own */
    bool window_told;
    uint64_t probe_no;
    uint64_t last_read, last_offered, flush_mark;
    uint64_t stalled_us; /* since when reading is stuck though there is something; 0: it is not */
    uint64_t spool_retry_us;
    uint64_t progress_us; /* something last moved */
    bool waits;           /* the last step ended in a wait that is meant: backoff, hold, quota, pause, full letters */
    uint64_t wake_us;
    uint64_t scan;
    uint64_t idle_us;
    uint64_t skipped_events, skipped_told_us;

    enum output_state state_told;
    uint64_t state_wall_ns;
    char error[512];
    unsigned error_status;
    uint64_t error_wall_ns, success_wall_ns;

    struct encoder *encoders[ENCODERS_MAX]; /* not lent now */
    unsigned encoder_count;

    struct arena arena;           /* one judgement or one settlement at a time */
    struct spool_record *records; /* one offer at a time */
    unsigned record_cap;
    struct bytes scratch;
};

/* --- shared --- */

struct batch *output_batch_take(struct output *o); /* from the free list or new */
void output_batch_recycle(struct output *o, struct batch *b);
void output_trim(struct output *o); /* gives back the memory of recycled batches */
/* How payloads are formed now. */
struct batch_form output_form(const struct output *o);
void output_envelope(const struct output *o, struct span partition, struct batch_form form, struct api_envelope *ret);
unsigned output_concurrency(const struct output *o);
struct partition *output_partition(struct output *o, struct span name);
/* Reads the spool's present view of an open batch; false: it is gone. */
bool output_spool_batch(const struct output *o, uint64_t batch_no, struct spool_open_batch *ret);
void output_error(struct output *o, unsigned status, const char *format, ...) PRINTF_LIKE(3, 4);
/* Has give_up_after passed for this batch? */
bool output_gives_up(const struct output *o, const struct batch *b);

/* --- fill.c --- */

void fill_adopt(struct output *o); /* open batches of the last process */
void fill_read(struct output *o);  /* records into open batches */
void fill_close_due(struct output *o);
void fill_assign(struct output *o);
void fill_rewind(struct output *o); /* puts back all that is unassigned */
/* When an event is not to be sent any more; Unix ns, 0: never. */
uint64_t fill_expiry(const struct partition *p, const struct record_id *id, uint64_t wall_ns);
uint64_t fill_wake_us(const struct output *o);
/* Requests that could start now. */
unsigned fill_slots(const struct output *o);

/* --- payload.c --- */

void payload_loads(struct output *o); /* finishes and starts loads, lets memory go */
bool payload_encode(struct output *o, struct output_wish *ret);

/* --- dispatch.c --- */

bool dispatch_cancel(struct output *o, struct output_wish *ret);
bool dispatch_send(struct output *o, struct output_wish *ret);
uint64_t dispatch_wake_us(const struct output *o);
/* The batch as its api sees it; the members are in the arena. */
void dispatch_describe(const struct output *o, const struct batch *b, struct arena *arena,
                       struct api_batch *ret);
/* The settings as they are for this batch, which keeps its form. */
struct api_settings dispatch_settings(const struct output *o, const struct batch *b);

/* --- answer.c --- */

/* A time in which it was not the upstream's failing that nothing was sent (a hold, a pause, full letters) is not counted
 * against events: retry.give_up_after begins anew. */
void answer_forgive(struct output *o);
/* Buries what retry.give_up_after says is to be given up. */
void answer_give_up(struct output *o);
/* Held partitions that have nothing to be probed with. */
void answer_held(struct output *o);
/* Storage or policy changed this batch behind our back. */
void answer_lost(struct output *o, uint64_t batch_no);

/* --- settle.c --- */

void settle_decided(struct output *o);
bool settle_may_run(
    const struct output *o); /* something is decided, and the spool is not known to refuse it */
void settle_done(struct output *o, uint64_t batch_no); /* NOTE_SETTLED */
void settle_decide(struct output *o, struct batch *b); /* b->outcome is filled: to be handed to the spool */

/* --- sight.c --- */

extern const char sight_dead_full[]; /* what a person can do about it */
enum output_state sight_state(const struct output *o);
void sight_tell(struct output *o); /* news when the state changed */

#endif
