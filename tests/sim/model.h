/* model: what must be true, kept apart from the code under test.
 *
 * It knows each event that was offered, which sequence number it got, whether its sender was answered; each
 * batch with its members and what was sent for it; and what the upstream has processed. It never looks inside
 * the spool: it is told what the spool said through its interface, and compares.
 *
 * Where a run may lose things (weaker durability, decay, a lying disk) the model is told so and excuses
 * exactly that: an excused loss must still be in the spool's own counters. */
#ifndef PENSTOCK_SIM_MODEL_H
#define PENSTOCK_SIM_MODEL_H

#include "lib/spool/spool.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct world;

#define BODY_HEAD 16

struct m_event {
    uint32_t len;
    uint8_t partition;
    bool bad;          /* the upstream refuses it */
    bool replayed;     /* it was a letter: it has had more than one seq */
    uint64_t seq;      /* as it was appended; 0: refused */
    uint16_t received; /* times the upstream processed it, each under another batch */
};

enum m_state { SEQ_PENDING, SEQ_ASSIGNED, SEQ_DELIVERED, SEQ_DEAD, SEQ_DROPPED, SEQ_GONE };

struct m_seq {
    uint32_t event;
    uint32_t batch; /* when assigned or settled by one; index, 0 none */
    uint8_t state;  /* enum m_state */
    bool acked, handed;
    bool maybe_dropped; /* dropped before a crash: either way is right */
    bool died;          /* became a letter, in this life or an earlier one */
    bool doubtful;      /* answered for, but not synced when the power went */
    bool replayed;      /* appended as the replay of a letter */
    bool mended;        /* and the reason of its refusal was removed before */
    uint64_t wall_ns;   /* when it was received */
};

enum m_batch_state { B_ASSIGNING, B_OPEN, B_SETTLING, B_SETTLED, B_GONE };

struct m_batch {
    struct spool_batch_id id;
    uint8_t state; /* enum m_batch_state */
    uint8_t partition;
    bool sent, broken;
    bool firm;             /* its end is on disk: it may not come back */
    bool lost;             /* a policy or damage ended it, which may not be on disk yet */
    bool strict;           /* its identity was synced, whatever the mode */
    uint32_t first, count; /* members */
    uint32_t raw_len, raw_crc;
    uint32_t parent; /* settled into this one among others; 0 none */
    uint64_t hash;   /* of the payload at its first sending */
    /* The upstream: what it did with this id. */
    bool processed;
    uint8_t verdict; /* enum verdict */
    /* The outcome that was asked for. */
    uint32_t dead; /* how many members died */
};

enum verdict { V_NONE, V_DELIVERED, V_PARTIAL, V_TOO_LARGE, V_REFUSED, V_SOME_LATER, V_BUSY };

struct model {
    struct m_event *events; /* from 1 */
    size_t event_count, event_cap;
    struct m_seq *seqs;                /* index is the seq, from 1 */
    size_t last_seq, seq_cap, max_seq; /* max_seq: ever given out */
    struct m_batch *batches;           /* from 1 */
    size_t batch_count, batch_cap;
    uint64_t *members;
    uint8_t *fates; /* beside members: how the outcome ends each (enum m_state) */
    size_t member_count, member_cap;
    uint32_t *letters; /* events that are dead letters now */
    uint64_t shed, delivered, dead_total, replayed, purged, dropped;
    uint64_t dropped_seen; /* by the ledger */
    uint64_t forgotten;    /* of these, counts that decay has taken with the STATE */
    uint64_t never_counted; /* events that stood before the first one when the accounts began again */
    uint64_t acked_seq, oldest_unacked;
    uint64_t old_seq;         /* up to here all have been older than the least age */
    uint64_t lost_with_batch; /* younger ones that ended with their batch */
    uint64_t last_user;
    bool loose_tail; /* the newest part may be lost: weaker modes after a power loss, decay, lying */
    bool loose;      /* decay of control data: counters and identities may differ, contents may not */
    bool tail_was_lost;
    bool purge_open; /* asked for, not yet answered */
};

void model_reset(struct model *m);
void model_free(struct model *m);

/* Contents of events, made from their number alone. */
void model_body(uint32_t event, uint32_t len, uint8_t *into);
uint64_t model_event_hash(uint32_t event, uint32_t len);

uint32_t model_offer(struct model *m, uint32_t len, uint8_t partition, bool bad);
void model_appended(struct world *w, uint32_t first_event, unsigned count, uint64_t last_seq);
void model_acked(struct world *w, uint64_t seq);
/* The letter of this seq is an event again, with the next seq. */
void model_replayed(struct world *w, uint64_t letter_seq);
/* Does the upstream refuse it? */
bool model_bad(const struct model *m, uint64_t seq);
/* A record came back from the spool, by spool_next() or spool_load(): is it what was put in? */
void model_read(struct world *w, const struct spool_item *item, bool by_load);

unsigned model_assign(struct world *w, const struct spool_batch_id *id, const struct spool_assignment *a,
                      unsigned parent);
void model_durable(struct world *w, unsigned batch);
void model_settle(struct world *w, unsigned batch, bool applied); /* as fates[] of its members say */
void model_settled(struct world *w, unsigned batch);
void model_lost(struct world *w, unsigned batch); /* closed by a policy or by damage */
unsigned model_find(const struct model *m, const struct spool_batch_id *id); /* 0: unknown */

/* Before model_opened(): this batch was recovered, and a policy closed it before anybody could look. */
void model_dropped_at_start(struct world *w, uint64_t batch_no);
void model_died(struct world *w, bool power);
/* The spool is open again: what it says now against what it may say. */
void model_opened(struct world *w);
void model_check(struct world *w);     /* after every event */
void model_check_end(struct world *w); /* after everything has drained */

#endif
