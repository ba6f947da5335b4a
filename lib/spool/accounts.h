/* accounts: what is known about every sequence number, and the ledger that follows from it.
 *
 * A seq is settled, a member of exactly one open batch, or unassigned. Everything <= low_water is settled;
 * above it an interval set says which are. Accounts change only by applying ops (ops.h) and by noting stored
 * events, with the same code while running, while recovering and while verifying, so that what a restart
 * finds is what the last process knew. A counter moves only by the number of seqs that an op settles newly,
 * hence applying an op over a state that has it already changes nothing.
 *
 *   accepted = next_seq - base_seq + shed + adopted - replayed
 *   pending  = next_seq - 1 - low_water - |settled|            from structure, not counted
 *   dead     = sum of dead_total + adopted - replayed - letters_dropped  the letters that are there now
 *   accepted = pending + delivered + dead + sum of dropped     accounts_balanced() */
#ifndef PENSTOCK_SPOOL_ACCOUNTS_H
#define PENSTOCK_SPOOL_ACCOUNTS_H

#include "lib/base/bytes.h"
#include "lib/spool/intervals.h"
#include "lib/spool/ops.h"
#include "lib/spool/spool.h"

/* An open batch. */
struct batch {
    uint64_t no, epoch;
    uint64_t count;     /* members at assignment */
    uint64_t unsettled; /* members still to be settled */
    struct spool_run *runs;
    unsigned run_count;
    struct span partition; /* owned, behind the runs */
    uint32_t raw_len, raw_crc32c, envelope_version;
    uint64_t envelope_hash;
    uint8_t codec, level;
    bool broken;    /* members were lost: the identity cannot be kept */
    bool recovered; /* assigned by an earlier process */
    bool durable;
    bool settling;   /* its end waits for dead letters */
    uint64_t ticket; /* of the commit that carries the ASSIGN */
    size_t op_bytes; /* of its ASSIGN in STATE */
};

struct accounts {
    uint64_t next_seq, base_seq, low_water, epoch, next_batch_no, next_letter;
    uint64_t refused, delivered, replayed, letters_dropped, identity_broken, torn_bytes, gaps;
    uint64_t adopted; /* letters that were found without an account of them */
    uint64_t dropped[OP_DROP_SLOTS];
    uint64_t dead_total[SPOOL_DEAD_REASONS];
    struct intervals settled; /* above low_water */
    struct intervals taken;   /* settled or in an open batch, above low_water */
    struct intervals marks;   /* letters that are gone, which their files may not say yet */
    struct batch **batches;   /* by ascending no */
    size_t batch_count, batch_cap;
    size_t batch_bytes; /* of all op_bytes */
    uint8_t user[SPOOL_USER_MAX];
    size_t user_len;
    uint32_t name_hash; /* of the output's name, for whoever looks at the files */
    bool sweep;               /* while ops are applied: batches may have lost their last member */
    bool clean;         /* the last op was CLEAN */
    /* A batch that a policy or damage has closed or changed; may be NULL. The batch is still whole. */
    void (*lost)(void *ctx, struct batch *batch);
    void *lost_ctx;
};

void accounts_init(struct accounts *a);
void accounts_deinit(struct accounts *a);

/* Applies a frame's ops. False when one is malformed or contradicts itself: those before it have been
 * applied. */
MUST_USE bool accounts_apply(struct accounts *a, struct span ops);
/* `count` events are stored from `seq` on. What is known already changes nothing. */
void accounts_stored(struct accounts *a, uint64_t seq, uint64_t count);
/* Stored events turned out to be lost to damage; those not yet settled are dropped as corrupt. */
void accounts_lost(struct accounts *a, uint64_t first, uint64_t count);
/* Starts over with everything from base_seq on unassigned: no STATE could be read. Keeps the letters' count
 * at 0. */
void accounts_reset(struct accounts *a, uint64_t base_seq);
/* Letters of these ids went back into the log as events (the extension of a DATA frame). */
void accounts_replayed(struct accounts *a, struct op_runs letters);
struct spool_assignment accounts_assignment(const struct batch *b); /* spans into it */
/* Appends STATE and all that belongs to it, as if next_seq were `next_seq` and `replayed_later` fewer
 * replayed. */
MUST_USE enum err accounts_put_state(const struct accounts *a, uint64_t next_seq, uint64_t replayed_later,
                                     struct bytes *to);

struct batch *accounts_batch(const struct accounts *a, uint64_t no); /* NULL: not open */
struct batch *accounts_batch_after(const struct accounts *a, uint64_t no);
/* Members of the batch that are not settled. */
uint64_t accounts_unsettled(const struct accounts *a, const struct batch *b);
uint64_t accounts_pending(const struct accounts *a);
uint64_t accounts_accepted(const struct accounts *a);
uint64_t accounts_dead(const struct accounts *a);
/* The part of the ledger that follows from the accounts; the rest is left at 0. */
void accounts_ledger(const struct accounts *a, struct spool_ledger *ret);
bool accounts_balanced(const struct accounts *a);

#endif
