/* recover: from whatever is in the directory to a spool that can be served. Runs as one job.
 *
 * It reads headers, takes the newest segment that begins with a good STATE, replays the ops from there on,
 * tells torn from corrupt, and settles: what is found but not proven durable is written again, with a STATE
 * that has all ops folded in, into a fresh segment of a new epoch, which comes into force only when that is
 * on disk. Old files are never appended to; what stands behind their ends is given back after that. Total: any bytes
 * lead to a served spool or to a refusal with a reason. */
#ifndef PENSTOCK_SPOOL_RECOVER_H
#define PENSTOCK_SPOOL_RECOVER_H

#include "lib/spool/accounts.h"
#include "lib/spool/format.h"
#include "lib/spool/letters.h"
#include "lib/spool/scan.h"

#define RECOVERY_WARNINGS 16
#define RECOVERY_DAMAGE 16 /* ranges that are copied to quarantine */

/* A seg-* file. */
struct found {
    uint64_t id;
    enum segment_kind kind;
    struct segment_header header; /* when VALID */
    bool zero_header;             /* PREPARED: as it should be, not a recycle cut short */
    struct fault why;             /* when DAMAGED */
    uint64_t size, allocated;
    uint64_t end;  /* of what counts */
    uint64_t used; /* of the newest: where the last good frame ends, attested or not */
    uint64_t next_seq;
    bool sealed; /* its successor says where it ends */
};

/* A frame that must be written again. */
struct kept_frame {
    uint64_t offset;
    uint32_t payload_len;
    uint16_t count;
    uint64_t seq;
};

struct recovery {
    struct spool_job job;
    struct spool_vfs vfs;
    /* From the loop. */
    uint8_t uuid[16]; /* for a new spool; afterwards the spool's */
    uint64_t salt, wall_ns, capacity;
    uint32_t commit_align, name_hash;
    uint64_t recent_ns; /* spool_recent_next() reaches this far back */
    uint32_t recent_max;
    bool weak; /* events beyond a torn place may have been answered for */
    bool require_local_fs;
    uint64_t min_free; /* below it the disk counts as full */
    /* In between. */
    struct found *found;
    size_t found_count, found_cap;
    struct found **valid; /* in force, by id */
    size_t valid_count;
    uint64_t id_max, epoch_max;
    uint64_t expected; /* next seq while replaying */
    struct kept_frame *kept;
    size_t kept_count, kept_cap;
    uint64_t kept_bytes;
    /* Of the newest segment: bad bytes before `proven` are damage; what stands before `attested` need not be
     * written again, and ends with the frame of attested_hcrc. */
    uint64_t proven, attested, attested_next_seq;
    uint32_t attested_hcrc;
    uint64_t free_bytes; /* of the file system, before anything is allocated; UINT64_MAX: not known */
    bool other_names, have_format;
    bool read_only;               /* verification: nothing is written */
    uint64_t torn_bytes;          /* of this start */
    struct {
        uint64_t segment, at, len;
    } damage[RECOVERY_DAMAGE];
    unsigned damage_count;
    bool state_seen;              /* while replaying: a STATE has been met */
    bool accounts_were_reset;
    /* For the loop. */
    struct fault fault; /* err OK: good */
    struct accounts accounts;
    struct segment_header fresh;
    int fresh_fd;
    uint64_t fresh_end, fresh_allocated;
    uint32_t fresh_hcrc;
    bool no_fallocate;
    struct letters letters;
    struct bytes recent; /* u64 wall_ns, u16 len, id; from recent_at on, recent_count of them */
    size_t recent_at;
    uint32_t recent_count;
    struct fault warnings[RECOVERY_WARNINGS];
    unsigned warning_count;
};

struct recovery *recovery_new(const struct spool_vfs *vfs);
void recovery_free(struct recovery *r);
/* Everything but writing: accounts, letters and what must be written again are known afterwards. */
MUST_USE enum err recovery_read(struct recovery *r);
void recovery_run(struct spool_job *job, const struct spool_vfs *vfs);

/* A file that was there a moment ago and cannot be opened, or not be read, holds events that were answered for: the
 * start fails (r->fault), to be tried again, rather than go on as if it were empty. But single places that cannot be
 * read are damage. recovery_scanned() ends the scan and closes the file. */
int recovery_open(struct recovery *r, const struct found *f);
void recovery_scanned(struct recovery *r, const struct found *f, int fd, struct scan *scan);
/* replay.c: steps 6 and 7, from r->valid to r->accounts, r->kept and r->attested. */
MUST_USE enum err recovery_replay(struct recovery *r);
/* Reads a frame that must be written again, and checks it again; false when it is not what it was. `into` takes its
 * header and its payload. */
bool recovery_read_kept(const struct recovery *r, int fd, const struct segment_header *header,
                        const struct kept_frame *k, uint8_t *into, struct frame *ret);
/* reconcile.c: dead letters; ids of the last minutes; damaged bytes into quarantine. */
MUST_USE enum err recovery_letters(struct recovery *r);
MUST_USE enum err recovery_recent(struct recovery *r);
void recovery_quarantine(struct recovery *r);
/* slack.c: a full disk gives back what holds nothing. */
void recovery_give_back(struct recovery *r);
void recovery_cut_zeros(const struct recovery *r, struct found *f); /* at the end of one file */
void recovery_cut_ends(const struct recovery *r);                   /* once the new segment is in force */
/* fresh.c: step 8. */
MUST_USE enum err recovery_settle(struct recovery *r);
void recovery_warn(struct recovery *r, const char *format, ...) PRINTF_LIKE(2, 3);

#endif
