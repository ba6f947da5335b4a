/* internal: the spool's own state, shared by its source files and by nobody else.
 *
 *   spool.c     life, the pump that decides what happens next, notes, the ledger
 *   append.c    events in: room, quota, when_full
 *   commit.c    group commit and pacing: one pwritev and one fdatasync for everybody who waits
 *   house.c     segment files in the background: prepare, recycle, release
 *   open.c      start: recovery's result becomes the running state
 *   read.c      events out: the tail in memory, cold segments on disk
 *   settle.c    batches: assign, settle, drop
 *   deaths.c    batches of whose events some die
 *   dead.c      dead letters: written and forgotten; dead_request.c: listed, replayed, purged
 *   scrub.c     what waits on disk is read again while nothing else is to do
 *   policy.c    drop_oldest, max_age
 *   failure.c   what happens when the disk says no
 *
 * All of it runs on the host's loop, but for the run() functions of jobs, which touch only what their job
 * owns. */
#ifndef PENSTOCK_SPOOL_INTERNAL_H
#define PENSTOCK_SPOOL_INTERNAL_H

#include "lib/base/clock.h"
#include "lib/base/ensure.h"
#include "lib/base/list.h"
#include "lib/spool/accounts.h"
#include "lib/spool/ages.h"
#include "lib/spool/deadbox.h"
#include "lib/spool/format.h"
#include "lib/spool/frame.h"
#include "lib/spool/spool.h"
#include "lib/spool/tail.h"

#define COMMIT_INTERVAL_US 500
#define COMMIT_PENDING_BYTES (256 * 1024) /* beyond it pacing does not wait */
#define FILL_BYTES_MAX (1024 * 1024)
#define LAZY_OPS_US (200 * US_PER_MS)
#define PAD_SILENCE_US US_PER_S
#define INTERVAL_SYNC_US US_PER_S
#define INTERVAL_SYNC_BYTES (8 * 1024 * 1024) /* frames stay in memory until synced */
#define RETRY_US US_PER_S
#define FULL_LAZY_OPS_US US_PER_S /* a full spool gathers its ops longer */
#define FULL_ALIGN 512            /* and packs its commits closer */
#define STALLED_US (5 * US_PER_S) /* a commit that takes longer means a stuck disk */
#define STATE_EVERY_BYTES (4 * 1024 * 1024)
#define COMMIT_IOV_MAX 160
#define RELEASE_MAX 16 /* files per housekeeping job */
#define CACHED_BYTES_MAX (UINT64_C(256) << 20) /* of a backlog that the page cache may keep for the reader */
#define SMALL_SEGMENT_BYTES (128 * 1024)       /* for ops alone, where the disk has no room for a whole one */
#define DROP_FDS_MAX 16
#define INDEX_GRAIN_BYTES (256 * 1024)
#define PARTITION_MAX 1024
#define ID_MAX 1100

/* A place to start reading at. */
struct index_entry {
    uint64_t seq, offset;
};

/* A segment in force. The last one of the table is active. */
struct segment {
    struct segment_header header;
    uint64_t end;       /* valid bytes */
    uint64_t next_seq;  /* seqs in it are first_seq .. next_seq - 1 */
    uint64_t allocated; /* bytes on disk */
    uint64_t sealed_us; /* when its successor began, on the monotonic clock; 0: long ago */
    bool end_known;     /* else its successor is missing, and a scan will tell */
    bool sound;         /* all its syncs in this process went well: the file may be used again */
    struct index_entry *index;
    unsigned index_len, index_cap;
};

struct commit_job {
    struct spool_job job;
    int fd, seal_fd; /* seal_fd: synced first, -1: none */
    struct iovec iov[COMMIT_IOV_MAX];
    int iov_count;
    uint64_t offset, bytes;                   /* of the whole write */
    struct tail_range frames[COMMIT_IOV_MAX]; /* to be sealed, in the order of the file */
    unsigned frame_ranges;
    struct frame_place place; /* of the first frame; afterwards of what would follow */
    bool sync;
    const uint8_t
        *header_last; /* not NULL: the header area, written when the rest has been synced, and synced too */
    int close_fd;     /* closed when all went well, -1: none */
    /* Results. */
    int err; /* 0 or a positive errno */
    bool sync_failed, wrote;
};

enum house_task { HOUSE_PREPARE = 1, HOUSE_RELEASE = 2, HOUSE_SPACE = 4, HOUSE_CLOSE = 8 };
struct house_job {
    struct spool_job job;
    unsigned tasks;
    uint64_t prepare_id, prepare_bytes;
    uint64_t small_bytes; /* what will do where there is no room for that; 0: nothing less will */
    uint64_t forget_id, forget_bytes; /* a finished segment that the page cache need not keep; 0: none */
    bool unsupported_fallocate;
    uint64_t recycle_id; /* a released segment whose file is used again; 0: a new one */
    bool wipe;           /* all of it, not just its header */
    uint64_t release[RELEASE_MAX];
    unsigned release_count;
    int close_fds[DROP_FDS_MAX];
    unsigned close_count;
    /* Results. */
    int prepare_err, prepare_fd;
    bool recycled, small;
    uint64_t prepare_allocated;
    int release_err;
    unsigned released;
    int space_err;
    uint64_t free_bytes;
};

/* A place in the log that somebody reads from. */
struct cursor {
    struct chunk_reader reader; /* over a chunk of the tail or over `cold` */
    uint64_t tail_generation;   /* of the tail when `reader` was set on it */
    bool reading_tail;
    struct chunk *cold;                           /* what the last cold read brought */
    uint64_t next_segment, next_offset, next_seq; /* where the read after it would go on */
    bool waiting;                                 /* for the read job */
};

/* A reader that only wants to know whether it could read. */
struct scrub {
    struct cursor cursor;
    uint64_t seq;   /* where the pass stands; 0: at rest */
    uint64_t at_us; /* not before */
};

struct read_job {
    struct spool_job job;
    struct cursor *cursor;
    struct segment_header header;
    uint64_t offset, end, want, next_seq; /* next_seq: of the segment */
    bool end_known;
    bool ahead;  /* more will be wanted soon */
    bool synced; /* all of it is on disk */
    /* Results. */
    int err;
    struct chunk *chunk;
    uint64_t lost_first, lost_count, damage_at, damage_bytes;
    uint64_t next_offset;
};

/* How many bytes were handed out beyond low_water, to a grain of 1/16 of the window. */
struct window {
    uint64_t bytes; /* ever */
    struct {
        uint64_t seq, bytes; /* handed out before seq */
    } marks[32];             /* a ring, oldest first */
    unsigned first, count;
};

struct note_queue {
    struct spool_note *at;
    unsigned len, cap;
};

struct recovery;

struct spool {
    struct spool_config config;
    char *name;
    struct spool_vfs vfs;
    struct spool_host host;
    enum spool_state state;
    struct fault fault; /* of FAILED and DEGRADED */
    bool closing, close_written;
    bool files_closed; /* nothing is written any more */
    bool just_opened;  /* the caller has not seen the open batches yet: no policy may end one */

    uint8_t uuid[16];
    struct accounts accounts;
    struct tail tail;
    struct ages ages;
    uint64_t capacity; /* of segments to come */
    uint32_t commit_align;

    struct segment **segments;
    size_t segment_count, segment_cap;
    uint64_t segments_allocated, dead_allocated; /* bytes on disk */
    struct {
        int fd;
        uint64_t end;      /* of the last frame written */
        uint64_t durable;  /* of the last frame synced */
        uint64_t state_at; /* where the newest STATE begins */
        uint32_t hcrc, commit;
    } active;
    struct {
        int fd; /* -1: none */
        uint64_t id, capacity, allocated;
        bool recycled;
        uint64_t retry_at_us; /* after a failure */
        bool no_space;        /* for a whole one */
    } prepared;

    /* Control ops on their way; both have room for a frame header in front. */
    struct bytes ctrl, ctrl_flight;
    bool forced, flush;                    /* commit without waiting for events; without pacing */
    bool strict;                           /* an identity waits that must be synced, whatever the mode */
    uint64_t lazy_since_us;                /* 0: no lazy op waits */
    uint64_t counts_shed;                  /* shed as last written */
    bool user_changed, user_due;           /* since they were written; to be written now */
    uint64_t user_written_us, user_ticket; /* ticket of what spool_save_user() asked for; 0: told */

    struct commit_job commit;
    bool commit_busy, commit_retry, stalled;
    bool rotate_wanted;  /* the active segment is to be closed by its age */
    bool abandoning;     /* the active segment failed: what is not durable goes to another inode */
    bool commit_blocked; /* nothing fits before the next segment is prepared */
    bool flight_rotates, flight_state, flight_pad;
    uint64_t flight_end_seq, flight_low_water, flight_at_us, flight_ctrl_bytes;
    struct segment *flight_segment; /* being started */
    uint64_t ticket, done_ticket;   /* of the next launch; of the last one that is safe */
    uint64_t commit_started_us, commit_done_us, commit_us;
    uint64_t commits, commit_bytes;
    bool pad_due; /* the newest commit is not attested yet */
    uint64_t written_seq, synced_seq, acked_seq;
    uint64_t unsynced_bytes, unsynced_since_us;
    bool unpinned; /* some of them are not in memory any more: they cannot be written again */
    uint64_t durable_low_water;
    uint64_t retry_at_us;

    struct house_job house;
    bool house_busy, no_fallocate;
    bool house_look; /* something may have become releasable */
    uint64_t release_retry_at_us;
    uint64_t free_bytes, space_at_us; /* when to look again */
    uint64_t space_commits;           /* commits when last looked */
    bool disk_low;                    /* less than min_free */
    uint64_t expire_at_us;
    uint64_t next_segment_id;
    uint64_t unlink_ids[64]; /* leftovers that recovery found, and files that could not be used again */
    unsigned unlink_count;
    int drop_fds[DROP_FDS_MAX]; /* of files given up, to be closed */
    unsigned drop_fd_count;

    struct read_job read;
    bool read_busy;
    struct cursor reader, loader_cursor, dead_cursor;
    struct scrub scrub;
    uint64_t read_seq; /* next to hand out */
    struct window window;
    struct spool_loader *loaders;
    bool loaders_new, loading;
    uint64_t read_retry_at_us;

    struct deadbox dead;
    uint64_t group_wanted; /* bytes of frames that a group found no room for; 0: none */
    bool room_wanted, read_wanted;
    uint64_t reserved; /* bytes of frames put aside for appends that are still to come */

    struct note_queue notes;
    bool note_acked, note_readable, note_room, noting;
    uint64_t timer_at_us;

    struct recovery *recovery;
    struct bytes recent; /* what spool_recent_next() still has to give */
    size_t recent_at;
    uint32_t recent_left;
};

static inline uint64_t now_us(const struct spool *s)
{
    return s->host.mono_us(s->host.ctx);
}

static inline uint64_t align_up(uint64_t v, uint64_t to)
{
    return (v + to - 1) / to * to;
}

static inline struct segment *active_segment(const struct spool *s)
{
    return s->segments[s->segment_count - 1];
}

static inline bool running(const struct spool *s)
{
    return s->state == SPOOL_OK || s->state == SPOOL_FULL || s->state == SPOOL_DEGRADED;
}

/* spool.c */
void spool_pump(struct spool *s); /* starts whatever can be started, arms the timer; from every public call */
void spool_note(struct spool *s, enum spool_note_kind kind, uint64_t batch_no);
void spool_deliver_notes(struct spool *s); /* calls back */
void spool_warn(struct spool *s, const char *format, ...) PRINTF_LIKE(2, 3);
void spool_set_state(struct spool *s, enum spool_state state, const struct fault *why);
void spool_fail(struct spool *s, const struct fault *why);
void spool_check(struct spool *s); /* the ledger balances */
void segments_append(struct spool *s, struct segment *seg);
void segments_remove(struct spool *s, size_t i);
struct segment *segment_of(const struct spool *s, uint64_t seq); /* NULL: none has it */
void segment_free(struct segment *seg);
void segment_index(struct segment *seg, uint64_t seq, uint64_t offset);
uint64_t spool_allocated(const struct spool *s);  /* of the directory */
uint64_t spool_quota_used(const struct spool *s); /* of max_bytes: dead letters have a quota of their own */

/* append.c */
uint64_t append_space(const struct spool *s); /* bytes of frames that events may still take */
MUST_USE enum err append_room(const struct spool *s, unsigned count, uint64_t bytes); /* without drop_newest */
void append_check_room(struct spool *s); /* leaves FULL when space is back */

/* commit.c */
void commit_pump(struct spool *s, uint64_t now);
uint64_t commit_deadline(const struct spool *s);
void commit_done(struct spool *s);
void commit_init(struct spool *s);
/* Ops go to the end of s->ctrl; ctrl_apply() makes those from `start` on part of the accounts. */
size_t ctrl_start(struct spool *s);
void ctrl_apply(struct spool *s, size_t start, bool forced);
size_t ctrl_max(const struct spool *s);
/* Appends STATE twice, in blocks of their own, to an empty buffer, for frames that begin at `offset`. */
MUST_USE enum err state_frames(const struct accounts *a, uint64_t next_seq, uint64_t replayed_later,
                               uint64_t frame_seq, uint64_t offset, bool twice, struct bytes *to);
/* All of it, also when a signal interrupts; 0 or a positive errno. */
int write_fully(const struct spool_vfs *vfs, int fd, struct iovec *iov, int n, uint64_t offset);
int sync_fully(const struct spool_vfs *vfs, int fd);

/* The parts of launching that failure.c needs as well. */
void commit_add_iov(struct commit_job *c, const void *at, size_t len);
void commit_add_frames(struct commit_job *c, uint8_t *at, size_t len);
void commit_add_events(struct spool *s, uint64_t capacity);
void commit_take_ctrl(struct spool *s);
void commit_submit(struct spool *s, uint64_t now);
uint64_t commit_position(const struct spool *s); /* seq of the first event that is not written */
struct segment *commit_new_segment(struct spool *s);

/* failure.c */
bool failure_is_final(int err);    /* the directory is gone or read-only: no retry will help */
bool failure_of_space(int err);    /* the disk or the user's share of it is full: a retry may help */
void failure_of_commit(struct spool *s, uint64_t now);
void failure_rewrite(struct spool *s, uint64_t now); /* with the next segment prepared; else asks for it */
void failure_recovered(struct spool *s);

/* house.c */
void house_pump(struct spool *s, uint64_t now);
uint64_t house_deadline(const struct spool *s);
void house_done(struct spool *s);
void house_close_files(struct spool *s);
void house_drop_fd(struct spool *s, int fd);   /* to be closed in the background */
bool house_may_drop_fd(const struct spool *s); /* else whoever can waits: the disk is stuck */
/* Makes a file of `bytes` and reserves them; returns an fd or a negative errno. */
int house_create(const struct spool_vfs *vfs, const char *name, uint64_t bytes, bool *no_fallocate);

/* open.c */
void open_start(struct spool *s);
void open_done(struct spool *s);

/* settle.c */
/* The ops of an outcome but for its deaths, behind s->ctrl; following batches are numbered from
 * first_next_no. */
void settle_put_outcome(struct spool *s, const struct batch *b, const struct spool_outcome *o,
                        uint64_t first_next_no);
void settle_applied(struct spool *s, uint64_t first_next_no); /* what follows when its ops are applied */

/* dead.c */
void dead_init(struct spool *s);
void dead_deinit(struct spool *s);
bool dead_full(const struct spool *s);
void dead_submit(struct spool *s, enum dead_work work);
/* Writes the frames in the job. `first` is the first letter among them, or the next to come. A new file has to wait for
 * the commit that makes durable what it would say: dead_pump() tries again. */
void dead_write(struct spool *s, enum dead_work work, uint64_t first);
void dead_marks_changed(struct spool *s);
void dead_replays_durable(struct spool *s, uint64_t seq);         /* replayed events up to seq are written */
uint64_t dead_replayed_from(const struct spool *s, uint64_t seq); /* how many are not, from seq on */
uint64_t dead_deadline(const struct spool *s);
void dead_pump(struct spool *s, uint64_t now);
void dead_done(struct spool *s);

/* deaths.c */
void deaths_settle(struct spool *s, struct batch *b, const struct spool_outcome *o, uint64_t first_next_no);
void deaths_step(struct spool *s); /* of the first task that waits */

/* dead_request.c */
void dead_run_read(struct dead_job *j, const struct spool_vfs *vfs);
void dead_read_done(struct spool *s);
void dead_request_pump(struct spool *s); /* calls back */

/* policy.c */
void policy_pump(struct spool *s, uint64_t now);
uint64_t policy_deadline(const struct spool *s);

/* read.c */
void read_pump(struct spool *s, uint64_t now, bool may_call);
uint64_t read_deadline(const struct spool *s);
void read_done(struct spool *s);
void cursor_reset(struct cursor *c);
void cursor_drop_chunk(struct cursor *c); /* the place is kept */
/* Reads what stands at seq, which some segment has, unless another read is under way. */
void read_submit(struct spool *s, struct cursor *c, uint64_t seq);
/* The item with exactly this seq. ERR_AGAIN: a read was asked for, or another one is under way; ERR_CORRUPT:
 * it is lost, and that has been recorded. */
MUST_USE enum err cursor_get(struct spool *s, struct cursor *c, uint64_t seq, struct spool_item *ret);

/* scrub.c */
void scrub_init(struct spool *s);
void scrub_pump(struct spool *s, uint64_t now);
uint64_t scrub_deadline(const struct spool *s);
void scrub_done(struct spool *s);

#endif
