/* deadbox: the spool's dead letters while it runs. Part of struct spool; see internal.h.
 *
 * One job at a time (write, read, unlink), in this order of urgency:
 *   - deaths: spool_settle() with dead events makes a task; its events are read again (from the tail or from
 * disk), written as letters and synced; only then the ops that end the batch are written. A crash in between
 * leaves letters that no DEAD names: they do not count, and are marked as gone at the next start.
 *   - marks: letters that were replayed or purged are gone as soon as the log says so durably. The log
 * remembers them (accounts.marks) until their files say so as well, or are deleted.
 *   - requests: list, replay, purge. */
#ifndef PENSTOCK_SPOOL_DEADBOX_H
#define PENSTOCK_SPOOL_DEADBOX_H

#include "lib/spool/frame.h"
#include "lib/spool/letters.h"
#include "lib/spool/spool.h"

/* A settlement that waits for its letters. */
struct death_task {
    struct death_task *next;
    uint64_t batch_no, first_next_no;
    struct spool_outcome outcome; /* a copy; pointers into this allocation */
    unsigned gathered;            /* deaths that have been looked at */
    uint64_t *letters;            /* per death: the letter's id, 0: none */
    bool *over_quota;             /* per death: no letter, for want of room */
};

enum dead_work { DEAD_IDLE, DEAD_WRITE_LETTERS, DEAD_WRITE_MARKS, DEAD_READ, DEAD_UNLINK };
#define DEAD_UNLINK_MAX 16
#define REPLAYED_MAX 256

struct dead_job {
    struct spool_job job;
    enum dead_work work;
    /* Write: prefix and frames at an offset of a file, which may have to be made. */
    struct bytes prefix, frames;
    bool create, make_dir;
    uint64_t file_id, first; /* first: letter of a file to be made */
    int fd;
    uint64_t offset, bytes;
    uint32_t align; /* where each write to this file begins */
    struct frame_place place;
    /* Read: letters want .. end - 1 of a file, as many as fit a chunk. */
    uint64_t want, end;
    struct chunk *chunk;
    uint64_t read_to; /* all before it has been looked at */
    uint8_t uuid[16];
    /* Unlink. */
    uint64_t unlink[DEAD_UNLINK_MAX];
    unsigned unlink_count;
    /* Results. */
    int err;
    bool sync_failed;
    bool left; /* a file that could not be made could not be deleted either */
    uint64_t allocated;
};

struct deadbox {
    struct letters letters;
    struct dead_job job;
    bool busy, look; /* look: a file may have become empty */
    bool retry;      /* the write in job is to be done again */
    uint64_t retry_at_us;
    unsigned failures;
    /* The file that this process writes; fd -1: none yet. */
    int fd;
    uint64_t file_id, end, salt;
    uint32_t hcrc, commit;
    bool dir_made;
    struct death_task *tasks;
    uint64_t marks_ticket;     /* of the commit that makes accounts.marks durable */
    struct intervals flushing; /* marks that the write under way carries */
    /* Letters that are events again, which are not written yet; ascending seqs. */
    struct replayed {
        uint64_t seq, letter;
    } replayed[REPLAYED_MAX];
    unsigned replayed_count;
    /* The request under way. */
    struct spool_dead_request *request;
    uint64_t next_id, count, wait_seq, wait_ticket;
    bool read_all, request_new;
    struct chunk *chunk; /* letters to be handed on */
    uint32_t chunk_at;
    uint64_t chunk_end; /* first id beyond it */
};

#endif
