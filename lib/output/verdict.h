/* verdict: what an api's verdict means for the members of a batch. Step 11 to 12.
 *
 * A pure function from verdict and history to an outcome, the one place where "split", "dead" and "again" are
 * told apart. What holds:
 *   - After an unknown outcome nothing is cut: the same batch goes again, with its id and its bytes.
 *   - A definite answer that changes the composition ends the batch; what remains are new batches.
 *   - What was delivered is never sent again.
 *   - A refusal of a batch of one is that event's own: it dies with the upstream's words. */
#ifndef PENSTOCK_OUTPUT_VERDICT_H
#define PENSTOCK_OUTPUT_VERDICT_H

#include "lib/api/api.h"
#include "lib/spool/spool.h"

enum outcome_kind {
    OUTCOME_NONE,
    OUTCOME_AGAIN,     /* the same batch, the same id, later */
    OUTCOME_DELIVERED, /* all of it */
    OUTCOME_CUT,       /* per member, see fates; the batch ends */
};

enum fate {
    FATE_DELIVERED,
    FATE_REMAINS,
    FATE_DEAD,
    FATE_DROPPED,
    FATE_GONE /* the spool lost it meanwhile */
};

/* What the answer says about the output as a whole. */
enum outcome_effect {
    EFFECT_NONE,    /* nothing learnt */
    EFFECT_SUCCESS, /* the upstream takes us */
    EFFECT_BACKOFF,
    EFFECT_HOLD,
    EFFECT_STOP,           /* hold without probing */
    EFFECT_HOLD_PARTITION, /* the upstream takes us, but not this partition */
};

struct outcome_death {
    uint32_t member; /* index in the batch */
    uint32_t status;
    uint32_t answer_at, answer_len; /* in text */
    uint8_t reason;
};

struct outcome {
    enum outcome_kind kind;
    enum outcome_effect effect;
    bool unknown;    /* this send may have delivered */
    bool definite;   /* an answer says so, and leaves nothing open */
    bool counted;    /* it used up one of unknown_max */
    bool plain;      /* send without compression from now on */
    bool structured; /* leave batch mode from now on */
    bool too_large;  /* learn from the size */
    enum spool_drop drop_reason;
    unsigned pieces; /* what remains becomes so many batches (never more than what remains) */
    bool later;      /* what remains waits for a delay of its own */
    bool singles;    /* and these are to be taken apart further, down to one event each */
    unsigned death_count, delivered_count, remain_count, drop_count;
    /* OUTCOME_CUT: owned, recycled. */
    uint8_t *fates;
    struct outcome_death *deaths;
    unsigned fate_cap, death_cap;
    struct bytes text;
};

void outcome_init(struct outcome *o);
void outcome_clear(struct outcome *o); /* keeps small memory */
void outcome_deinit(struct outcome *o);

/* What is known about the batch that was judged. */
struct verdict_case {
    unsigned count;         /* members */
    unsigned status;        /* of the answer; 0: there was none */
    unsigned unknown_sends; /* earlier sends that used up unknown_max */
    bool sent_plain;        /* this send was not compressed */
    bool batch_mode;        /* ACT_MODE_RETRY can do something about it */
    bool give_up;           /* retry.give_up_after has passed */
};

#define VERDICT_PIECES_MAX 16

/* Fills `ret` (initialised; what it held before is forgotten). */
void verdict_apply(const struct api_verdict *v, const struct verdict_case *c, struct outcome *ret);

/* All members share one fate: dead with this reason, or dropped. Used for give-up and expiry. */
void outcome_all_dead(struct outcome *o, unsigned count, enum api_dead reason, unsigned status,
                      struct span answer);
void outcome_all_dropped(struct outcome *o, unsigned count, enum spool_drop reason);
/* The deaths of `from`, in their order, as those of a batch that has just these members. */
void outcome_take_deaths(struct outcome *ret, const struct outcome *from);
/* One of the remaining members is dropped instead. */
void outcome_drop(struct outcome *o, unsigned member, enum spool_drop reason);
/* All remain, in `pieces` new batches. */
void outcome_all_remain(struct outcome *o, unsigned count, unsigned pieces, bool singles);

#endif
