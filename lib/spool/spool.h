/* spool: the durable log between intake and one upstream. Steps 6 and 8 of the straight line.
 *
 * Opaque records in, the same records out: the spool knows sequence numbers, batches and a ledger, never
 * what an event is. Sans-I/O: blocking disk calls happen in jobs that the host runs off the loop, time and
 * randomness come from the host, news go to the host as notes. No call below blocks, and no note is
 * delivered inside a call: notes come from spool_job_done() and spool_tick() only.
 *
 * A record's life: spool_append() gives it a sequence number ("seq", dense, from 1); when spool_acked()
 * has reached that seq its sender may be answered; spool_next() hands it to the one reader, in order;
 * spool_assign() makes it a member of exactly one batch, whose identity is on disk before NOTE_BATCH says
 * that it may be sent; spool_settle() ends it: delivered, dead, dropped, or a member of a following batch.
 *
 * At every moment accepted == pending + delivered + dead + dropped (struct spool_ledger), with pending
 * computed from structure, not counted. */
#ifndef PENSTOCK_SPOOL_SPOOL_H
#define PENSTOCK_SPOOL_SPOOL_H

#include "lib/base/bytes.h"
#include "lib/base/fault.h"
#include "lib/spool/vfs.h"

#include <stdbool.h>
#include <stdint.h>

struct spool;

enum spool_durability { SPOOL_FSYNC, SPOOL_INTERVAL, SPOOL_NO_SYNC };
enum spool_when_full { SPOOL_BLOCK, SPOOL_DROP_OLDEST, SPOOL_DROP_NEWEST };
enum spool_state { SPOOL_OPENING, SPOOL_OK, SPOOL_FULL, SPOOL_DEGRADED, SPOOL_FAILED, SPOOL_CLOSED };

/* Why an accepted event was dropped; the names are the metric's reason labels. */
enum spool_drop { SPOOL_DROP_QUOTA, SPOOL_DROP_SHED, SPOOL_DROP_EXPIRED, SPOOL_DROP_CORRUPT, SPOOL_DROP_PURGED,
                  SPOOL_DROP_REASONS };
#define SPOOL_DEAD_REASONS 16 /* reasons of death are the caller's small numbers below this */
#define SPOOL_USER_MAX 2048   /* bytes of the caller's own counters kept in each STATE */

struct spool_config {
    const char *name;        /* for notes; copied */
    uint64_t max_bytes;      /* quota: allocated bytes of all segments, the prepared one included */
    uint64_t segment_bytes;
    uint64_t min_free;       /* treat the disk as full below this many free bytes */
    uint64_t max_age_us;     /* 0: never */
    uint64_t dead_max_bytes; /* quota of dead letters, apart from max_bytes */
    bool dead_drop_newest;   /* dead letters full: count as dropped; else spool_settle() answers ERR_FULL */
    enum spool_durability durability;
    enum spool_when_full when_full;
    uint32_t commit_align;   /* 0: 4096 */
    uint32_t window_seqs;    /* read-ahead bound beyond low_water; 0: 65,536 */
    uint64_t window_bytes;   /* 0: 16 MiB */
    uint64_t cache_bytes;    /* tail cache, allocated on use; 0: 4 MiB */
    uint16_t api_version;    /* stamped on the records appended from now on */
    uint64_t recent_us;      /* spool_recent() reaches this far back; released segments are kept for it */
    uint32_t recent_max;     /* and at most this many records */
    bool strict_identity;    /* the weaker modes: a batch's identity is synced all the same before it is sent */
    bool wipe_recycled;      /* files are filled with zeros before they are used again */
    bool require_local_fs;   /* refuse to open where the file system cannot keep the promises */
    uint64_t scrub_bytes_s;  /* read what waits again at this pace while idle, to find damage early; 0: never */
};

/* --- the host --------------------------------------------------------------------------------------- */

/* What a job is for, so that a host with several spools can share out its threads. */
enum spool_job_kind {
    SPOOL_JOB_COMMIT, /* senders wait for it */
    SPOOL_JOB_READ,
    SPOOL_JOB_HOUSE, /* opening, files in the background, dead letters */
    SPOOL_JOB_KINDS
};

/* A straight list of vfs calls. Embedded by the spool, which owns all memory it touches. */
struct spool_job {
    void (*run)(struct spool_job *job, const struct spool_vfs *vfs); /* off the loop */
    struct spool *spool;
    enum spool_job_kind kind;
    void *host; /* the host's, e.g. its uv_work_t */
};

enum spool_note_kind {
    NOTE_OPENED,   /* recovery is done; appends and reads may begin */
    NOTE_ACKED,    /* spool_acked() moved */
    NOTE_READABLE, /* spool_next() may have more after ERR_AGAIN */
    NOTE_ROOM,     /* spool_append() may take again after ERR_FULL or ERR_AGAIN */
    NOTE_BATCH,    /* batch_no: its assignment is durable; it may be sent */
    NOTE_SETTLED,  /* batch_no: the outcome is applied (dead letters written); the batch is gone */
    NOTE_LOST,     /* batch_no: a later policy (drop_oldest, corruption) closed or changed this open batch */
    NOTE_SAVED,    /* what spool_save_user() asked for is done */
    NOTE_STATE,    /* spool_state() changed; fault says why */
    NOTE_WARNING,  /* something a person should read; fault.text */
    NOTE_FAILED,   /* opening failed, or storage did: fault.err ERR_UNSUPPORTED (exit 78), ERR_IO (74), … */
    NOTE_CLOSED,   /* spool_close() is complete; spool_free() may follow */
};

struct spool_note {
    enum spool_note_kind kind;
    uint64_t batch_no;
    const struct fault *fault;
};

struct spool_host {
    void *ctx;
    void (*submit)(void *ctx, struct spool_job *job); /* run it off the loop, then spool_job_done() on the loop */
    uint64_t (*mono_us)(void *ctx);
    uint64_t (*wall_ns)(void *ctx);
    uint64_t (*random64)(void *ctx);
    void (*timer)(void *ctx, uint64_t at_mono_us); /* one timer: spool_tick() then; 0 disarms it */
    void (*note)(void *ctx, const struct spool_note *note);
};

void spool_job_done(struct spool_job *job);
void spool_tick(struct spool *s);

/* --- life ------------------------------------------------------------------------------------------- */

/* The vfs and host are copied (their ctx stay the caller's and must outlive the spool). */
struct spool *spool_new(const struct spool_config *config, const struct spool_vfs *vfs, const struct spool_host *host);
void spool_open(struct spool *s);  /* starts recovery; NOTE_OPENED or NOTE_FAILED follows */
void spool_close(struct spool *s); /* refuses appends, finishes what is in flight, writes CLEAN; NOTE_CLOSED follows */
void spool_free(struct spool *s);  /* only before spool_open(), after NOTE_CLOSED, or after a NOTE_FAILED with no job out */
/* For tests and simulators, where the process "dies": frees all memory at any moment, with jobs out that will
 * never be run or reported; touches no file. */
void spool_abandon(struct spool *s);
enum spool_state spool_state(const struct spool *s);
void spool_reconfigure(struct spool *s, const struct spool_config *config); /* sizes and policies take effect from now on */

/* --- in --------------------------------------------------------------------------------------------- */

struct spool_record {
    struct span partition; /* at most 1 KiB */
    struct span id;        /* at most 1,100 bytes; opaque */
    struct span body;
    uint64_t wall_ns;      /* when it was received */
};

/* Would spool_append() take these many records and bytes of partition, id and body now? Used to make sure of room
 * in every output before appending to any. Answers OK, ERR_FULL (quota, min_free or disk; NOTE_ROOM follows),
 * ERR_AGAIN (the fill buffer is full; NOTE_ROOM follows), ERR_TOO_BIG (can never fit) or ERR_CLOSED. */
enum err spool_room(const struct spool *s, unsigned count, uint64_t bytes);

/* All or nothing. Copies. *ret_seq is the seq of the last record: the sender may be answered when
 * spool_acked() >= *ret_seq. With drop_newest and no room the records are counted as shed, and *ret_seq is
 * spool_acked() already. Errors as spool_room(). */
MUST_USE enum err spool_append(struct spool *s, const struct spool_record *records, unsigned count, uint64_t *ret_seq);

/* Appends that belong together and are too large to be made at once, taken whole or not at all all the same: room for
 * all of them is put aside first, where nobody else takes it. `count` and `bytes` are of all of their records. Answers
 * as spool_room(), but never ERR_AGAIN for the sake of the fill buffer; *ret_reserved is what was put aside, to be handed to
 * the appends, which count it down, and given back at the end. With drop_newest and no room it is 0, and the appends are
 * shed. A reservation is memory only: it ends with the process. */
MUST_USE enum err spool_reserve(struct spool *s, unsigned count, uint64_t bytes, uint64_t *ret_reserved);
void spool_unreserve(struct spool *s, uint64_t reserved);
/* May the next of them be made now? ERR_AGAIN: the fill buffer has enough; NOTE_ROOM follows. */
enum err spool_room_reserved(struct spool *s);
/* As spool_append(), within a reservation. */
MUST_USE enum err spool_append_reserved(struct spool *s, const struct spool_record *records, unsigned count,
                                        uint64_t *reserved, uint64_t *ret_seq);

uint64_t spool_acked(const struct spool *s);
void spool_flush(struct spool *s); /* start the next commit without pacing */

/* --- out: the one reader ------------------------------------------------------------------------------ */

struct spool_item {
    uint64_t seq;
    uint64_t wall_ns;
    uint16_t api_version;
    struct span partition, id, body; /* good until the next call of any spool function */
};

/* The next record that was never handed out since opening and is neither settled nor in an open batch.
 * ERR_AGAIN: nothing durable, the window is full, or a cold read is under way; NOTE_READABLE follows. */
MUST_USE enum err spool_next(struct spool *s, struct spool_item *ret);

struct spool_run {
    uint64_t first, count; /* seqs */
};

/* What is fixed on disk before a batch is first sent. */
struct spool_assignment {
    struct span partition;
    const struct spool_run *runs; /* ascending, disjoint */
    unsigned run_count;
    uint32_t raw_len, raw_crc32c; /* of the whole uncompressed payload */
    uint32_t envelope_version;
    uint64_t envelope_hash;
    uint8_t codec, level;
};

struct spool_batch_id {
    uint8_t uuid[16];
    uint64_t epoch;
    uint64_t batch_no;
};

/* Makes records that spool_next() handed out (or nobody yet settled or assigned) members of a new batch.
 * NOTE_BATCH follows when it is durable. ERR_FULL while control space is short; ERR_CLOSED; ERR_NOT_FOUND: a policy
 * or damage has ended some of them since they were read: forget what was read, spool_rewind(), read again. */
MUST_USE enum err spool_assign(struct spool *s, const struct spool_assignment *a,
                               struct spool_batch_id *ret_id);

/* Forgets that unassigned records were handed out by spool_next(): they come again, in order. */
void spool_rewind(struct spool *s);

/* Unassigned records that end here (expired on the way). */
MUST_USE enum err spool_drop(struct spool *s, struct spool_run run, enum spool_drop reason);

/* Open batches, as after recovery: those that may have been sent before. Ascending batch_no. The spans and
 * runs are good until the next call. */
struct spool_open_batch {
    struct spool_batch_id id;
    struct spool_assignment assignment;
    uint64_t count;       /* members */
    bool durable;
    bool recovered;       /* assigned by an earlier process: may have been sent */
    bool identity_broken; /* members were lost; must be settled into a new batch */
};
bool spool_open_batch_next(const struct spool *s, uint64_t after_batch_no, struct spool_open_batch *ret);

/* Reads a batch's members again, in seq order, for sending after a restart or when the payload was let go.
 * item() and done() run from spool_job_done() or spool_tick(), a NOTE_READABLE follows done(). The loader is the caller's and stays put
 * until done(). err OK, or ERR_CORRUPT with the batch changed (NOTE_LOST), or ERR_NOT_FOUND: it is gone. */
struct spool_loader {
    void *ctx;
    void (*item)(void *ctx, const struct spool_item *item);
    void (*done)(void *ctx, enum err err);
    uint64_t batch_no, seq; /* the spool's own, as the following */
    uint64_t members;
    struct spool_loader *next;
};
void spool_load(struct spool *s, uint64_t batch_no, struct spool_loader *loader);

struct spool_death {
    uint64_t seq;
    uint8_t reason;      /* below SPOOL_DEAD_REASONS */
    uint32_t status;     /* HTTP status or 0 */
    uint32_t attempts;
    struct span answer;  /* the upstream's words, at most 1 KiB kept */
};

/* The end of a batch. Every member is named in exactly one of the lists, or all_delivered is set. */
struct spool_outcome {
    bool all_delivered;
    const struct spool_run *delivered;
    unsigned delivered_count;
    const struct spool_death *dead;
    unsigned dead_count;
    const struct spool_run *dropped;
    unsigned dropped_count;
    enum spool_drop drop_reason;
    const struct spool_assignment *next; /* following batches: the remainder, or halves */
    unsigned next_count;
    struct spool_batch_id *ret_next_ids; /* next_count of them */
};

/* Applied to memory at once when there are no dead letters; else when they are durable: NOTE_SETTLED either way,
 * and NOTE_BATCH per following batch. One control record closes the old batch and opens the next ones.
 * ERR_FULL: no room for dead letters (dead_letter.when_full block) or control; the batch stays open.
 * ERR_NOT_FOUND: a policy or damage has ended it (NOTE_LOST). Every member that is not settled yet is named. */
MUST_USE enum err spool_settle(struct spool *s, uint64_t batch_no, const struct spool_outcome *outcome);

/* --- accounts ----------------------------------------------------------------------------------------- */

struct spool_ledger {
    uint64_t accepted, pending, delivered;
    uint64_t dead;                           /* letters now */
    uint64_t dead_total[SPOOL_DEAD_REASONS]; /* ever, by reason */
    uint64_t dropped[SPOOL_DROP_REASONS];
    uint64_t identity_broken, torn_bytes, gaps;
    uint64_t allocated_bytes;   /* of the directory */
    uint64_t dead_bytes;
    uint64_t oldest_wall_ns;    /* receive time of the oldest pending record; 0 when none */
    uint64_t commits, commit_bytes;
    uint64_t segments;
};
void spool_ledger(const struct spool *s, struct spool_ledger *ret);

/* The caller's own counters, written with every STATE and besides, once they have changed, a second after they were
 * written last: with other ops, or alone, which a full spool has no room for. A process that is killed takes no more than
 * that with it.
 * After NOTE_OPENED spool_user() gives what the last process left (empty when none). */
void spool_set_user(struct spool *s, struct span blob);
struct span spool_user(const struct spool *s);

/* Asks for them to be written with the next commit, and for one now. Returns its number; NOTE_SAVED follows once it is as
 * safe as an assignment. spool_saved() says so of that number, and also of any while the disk takes nothing: what is
 * to be delivered does not wait for counters then. */
MUST_USE uint64_t spool_save_user(struct spool *s);
bool spool_saved(const struct spool *s, uint64_t number);

/* Called by the host after each commit: seconds of pwritev + fdatasync, for the histogram. */
uint64_t spool_last_commit_us(const struct spool *s);

/* Records of the last recent_us that were found at opening, settled or not; NULL at the end. Call once after
 * NOTE_OPENED until it returns false; the memory goes with the last one. */
bool spool_recent_next(struct spool *s, struct span *ret_id, uint64_t *ret_wall_ns);

/* --- dead letters ------------------------------------------------------------------------------------- */

struct spool_letter {
    uint64_t letter_id; /* stable name of this letter: "penstock dead show OUTPUT ID" */
    uint64_t seq;
    uint64_t wall_ns;   /* of death */
    uint64_t received_wall_ns;
    struct spool_batch_id batch;
    uint8_t reason;
    uint32_t status, attempts;
    struct span answer, partition, id, body;
};

/* One request at a time; calls run in the background and end with done(). With ids == NULL: all letters. */
struct spool_dead_request {
    void *ctx;
    enum { DEAD_LIST, DEAD_REPLAY, DEAD_PURGE } kind;
    const uint64_t *ids; /* good until done() */
    unsigned id_count;
    uint64_t after_id;   /* DEAD_LIST: only letters beyond this one, at most `limit` */
    unsigned limit;
    void (*letter)(void *ctx, const struct spool_letter *letter); /* DEAD_LIST */
    void (*done)(void *ctx, enum err err, uint64_t count, const struct fault *why);
};
/* ERR_AGAIN: another request is under way. Replay appends the event as a new record and marks the letter in one
 * commit: a crash leaves either the letter or the pending event. */
MUST_USE enum err spool_dead(struct spool *s, struct spool_dead_request *request);

#endif
