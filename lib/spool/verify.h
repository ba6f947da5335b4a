/* verify: reads a spool offline, without changing a byte: is it sound, what does its ledger say, what is in it.
 *
 * Uses the decoding, replay and damage rules of a start (recover.h), then goes further than a start does: it
 * reads every frame of every segment and every dead letter, and finds each pending event once. The caller holds
 * the lock of the directory. Calls of the vfs block: this is for the command line, not for the loop. */
#ifndef PENSTOCK_SPOOL_VERIFY_H
#define PENSTOCK_SPOOL_VERIFY_H

#include "lib/spool/spool.h"

struct spool_verify {
    void *ctx;
    bool ledger_only; /* as a start reads it: what the ledger says, without a look at every frame; `found` stay 0 */
    /* Each damaged thing once: file, place, and what it means. May be NULL. */
    void (*damage)(void *ctx, const struct fault *what);
    /* Each pending event that can be read, in seq order; good until it returns. NULL: not wanted. */
    void (*pending)(void *ctx, const struct spool_item *item);
    /* Each dead letter that counts, in id order. NULL: not wanted. */
    void (*letter)(void *ctx, const struct spool_letter *letter);
};

struct spool_verdict {
    uint8_t uuid[16];
    uint64_t epoch;             /* of the last process that wrote it */
    bool clean;                 /* that one stopped in order */
    struct spool_ledger ledger; /* as the next start will find it, before it looks at what is damaged */
    uint64_t pending_found;     /* pending events that could be read */
    uint64_t letters_found;
    uint64_t open_batches;
    uint64_t torn_bytes;        /* an unfinished commit at the end: no damage, nobody was answered for it */
    unsigned damages;           /* 0: sound */
};

/* OK whether sound or damaged (ret->damages tells); ERR_NOT_FOUND: no spool here; ERR_UNSUPPORTED: a newer version;
 * ERR_IO. `why` is filled unless OK. */
MUST_USE enum err spool_verify(const struct spool_vfs *vfs, const struct spool_verify *v, struct spool_verdict *ret,
                               struct fault *why);

#endif
