/* world: the simulated machine and its surroundings.
 *
 * One queue of events in virtual time drives everything: the process under test (a spool with its jobs and
 * timer), the producers, the client that batches and sends, the upstream. The process can die at any disk
 * call and between any two events; what is outside of it (disk, upstream, requests on the wire, the model)
 * stays. Everything is drawn from one stream of decisions, so that a run is a function of its seed. */
#ifndef PENSTOCK_SIM_WORLD_H
#define PENSTOCK_SIM_WORLD_H

#include "lib/spool/spool.h"
#include "tests/sim/decisions.h"
#include "tests/sim/disk.h"
#include "tests/sim/jobs.h"
#include "tests/sim/model.h"
#include "tests/sim/queue.h"

#include <stdbool.h>
#include <stdint.h>

/* What a run is like: drawn from the seed before its first step. "one_in" 0 means never. */
struct knobs {
    struct spool_config spool;
    bool faults, rot, vandal, lying; /* which kinds of damage the run may do */
    uint32_t one_in_kill, one_in_power, one_in_fault, one_in_rest, one_in_write_back, one_in_rot;
    uint32_t one_in_stop, one_in_squeeze, one_in_outage, one_in_wall_jump, one_in_request_lost,
        one_in_reply_lost;
    uint32_t one_in_busy, one_in_bad_event, one_in_partial_retry, one_in_rewind, one_in_drop,
        one_in_dead_request;
    uint32_t one_in_reconfigure, one_in_new_config, one_in_let_go;
    uint32_t one_in_moved; /* starts that find another file system in the place of theirs */
    uint32_t one_in_mute;  /* starts whose disk stops to answer reads */
    uint32_t job_us, produce_us, latency_us;
    uint32_t body_max, append_max, big_one_in;
    uint32_t partitions, batch_events, batch_bytes, too_many, concurrency;
    bool whole_batch_refusals; /* a bad event spoils its batch (400) instead of being named */
    uint32_t rots_max;
    bool aimed; /* crashes follow acks and sends closely */
};

enum happening {
    EV_START,
    EV_RUN_JOB,
    EV_JOB_DONE,
    EV_TIMER,
    EV_PRODUCE,
    EV_CLIENT,
    EV_ARRIVE,
    EV_REPLY,
    EV_GIVE_UP_WAITING,
    EV_HEAL_DISK,
    EV_HEAL_UPSTREAM,
    EV_KINDS
};

#define FLIGHTS_MAX 2048
#define PARTITIONS_MAX 4
#define FILLING_MAX 128
#define GIVE_UP_US 250000 /* after a request whose answer will not come */

/* A batch as the client sees it. */
struct flight {
    bool used, loading, sent, settling, durable, doomed;
    unsigned batch;             /* in the model */
    unsigned attempts, sending; /* the number of this try: a late answer of an earlier one is told apart */
    uint64_t hash;
    bool have_payload, broken, whole; /* whole: all that is left of a broken one was loaded */
    uint8_t verdict;                  /* to be settled; V_NONE: none yet */
    uint64_t not_before_us;
    unsigned loaded; /* members that came back so far */
    struct world *world;
    struct spool_loader loader;
};

/* Records read and not yet assigned, of one partition. */
struct filling {
    uint64_t seqs[FILLING_MAX];
    unsigned count;
    uint64_t bytes, since_us;
};

enum branch { /* what a run met: the coverage that a gate asks for */
              MET_KILL,
              MET_POWER_LOSS,
              MET_CRASH_IN_START,
              MET_START,
              MET_RECOVERED_BATCH,
              MET_REOPENED_BATCH,
              MET_LOST_TAIL,
              MET_ENOSPC,
              MET_EDQUOT,
              MET_EIO,
              MET_EROFS,
              MET_SHORT_WRITE,
              MET_SYNC_UNKNOWN,
              MET_SYNC_REFUSED,
              MET_STALL,
              MET_ROT,
              MET_VANDAL,
              MET_LYING,
              MET_SQUEEZE,
              MET_FULL,
              MET_DEGRADED,
              MET_FAILED,
              MET_DROPPED,
              MET_SHED,
              MET_SPLIT,
              MET_DEAD,
              MET_REPLY_LOST,
              MET_REPEATED,
              MET_LOAD,
              MET_STOP,
              MET_LOST_NOTE,
              MET_IDENTITY_BROKEN,
              MET_REPLAY,
              MET_PURGE,
              MET_REWIND,
              MET_CORRUPT,
              MET_TORN,
              MET_WALL_JUMP,
              MET_REPLAY_UNDONE,
              MET_NEW_POLICY,
              MET_EXPIRED,
              MET_RECENT_PENDING,
              MET_RECENT_SETTLED,
              MET_MOVED,
              MET_MOVED_REFUSED,
              MET_STRICT_KEPT,
              MET_MUTE,
              MET_COUNT
};
extern uint64_t branches_met[MET_COUNT + DISK_OPS]; /* and the disk's calls, behind them */

struct world {
    uint64_t seed;
    struct decisions luck;
    struct knobs knobs;
    struct disk *disk;
    struct model model;

    struct queue queue;
    uint64_t order, now_us, wall_offset_ns, steps, steps_max, calls;
    uint64_t trace;
    bool deep_trace, quiet, verbose, failed;

    /* The process. life 0: there is none. */
    unsigned life, lives;
    struct spool *spool;
    struct jobs jobs;
    bool opened, stopping, closed, storage_failed, in_spool, may_note;
    unsigned starts_crashed, short_lives;
    uint64_t opened_us;
    enum { ALIVE, DIE_BY_KILL, DIE_BY_POWER } dying;
    uint64_t timer_token;
    struct spool_note notes[8192];
    unsigned note_count;
    uint64_t acked;
    uint32_t stall_us;
    int disk_error;    /* every writing call answers this until EV_HEAL_DISK */
    uint64_t squeezed; /* capacity is held down */
    uint64_t user_counter;
    unsigned rots;          /* places damaged so far */
    uint64_t start_wall_ns; /* when the process began to open the spool */
    bool spacious;          /* there has been plenty of room at all times */
    bool power_lost;        /* since it was last open */
    uint64_t mute_from;     /* until the spool is open, no read is answered from this call on; 0: all are */
    bool moved;             /* the directory is on a file system of another machine, or says so */
    bool weak_life;  /* something may have been answered for in a mode weaker than fsync, and not synced */
    struct allowed { /* at any time so far */
        bool drop_oldest, drop_newest, weak;
        uint64_t least_age_us; /* 0: nothing expires */
        uint64_t max_bytes, segment_bytes, dead_max_bytes;
    } allowed;
    struct log_floor {
        char name[DISK_NAME_MAX]; /* of the newest file of the log */
        bool headed;
        char syncing[DISK_NAME_MAX]; /* the file of the log whose sync is under way; empty: none */
        uint64_t seq, next;                   /* everything up to seq is on the platter */
        uint64_t behind_since_us, behind_seq; /* answered for, but not there yet */
    } floor;

    /* The exhaustive mode: die at this call with this fate. 0: never. */
    uint64_t die_at_call, die_again_at_call;
    struct disk_fate die_fate, die_again_fate;
    bool die_by_kill;
    unsigned first_pending, first_sectors; /* things that the first death found pending */
    uint64_t script_calls;                 /* up to the quiet end */
    uint32_t body_extra;                   /* added to the next bodies */
    struct decisions fate_luck;
    const struct script *script; /* what happens instead of random traffic */
    unsigned script_at;
    bool script_over;
    int fail_next_sync;
    uint64_t read_fault_call;

    struct flight flights[FLIGHTS_MAX];
    unsigned flight_count;
    struct filling filling[PARTITIONS_MAX];
    uint64_t client_wake_us;
    bool upstream_down;
    struct spool_dead_request dead;
    bool dead_busy;
    struct letter_book {
        uint64_t ids[64], seqs[64]; /* of letters that were listed, to be replayed */
        unsigned count, done;       /* done: they are events again */
        bool wanted, listed, going, ended;
        uint64_t reported, dead_before;
    } letters;
    uint64_t last_dead; /* as last said with --verbose */
};

/* --- world.c: time, process, death ------------------------------------------------------------------ */
void world_run(struct world *w); /* the whole run; returns when it held, else world_fail() */
void world_at(struct world *w, uint64_t in_us, enum happening kind, unsigned life, uint64_t a, uint64_t b,
              uint64_t c);
void world_met(struct world *w, enum branch what);
void world_trace(struct world *w, uint64_t x);
_Noreturn void world_fail(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
void world_say(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
void world_start(struct world *w);
bool world_open(const struct world *w);                         /* the spool takes calls */

/* --- process.c: the spool's host, the gate before each disk call ------------------------------------ */
struct spool_host process_host(struct world *w);
struct disk_gate process_gate(struct world *w);
void process_event(struct world *w, const struct due *e);
void process_die(struct world *w, bool power, struct disk_fate fate);
void process_start(struct world *w);

/* --- knobs.c ---------------------------------------------------------------------------------------- */
void knobs_draw(struct world *w);

/* --- script.c: short scenarios for the exhaustive mode ----------------------------------------------- */
void script_begin(struct world *w); /* sets the knobs */
void script_turn(struct world *w);

/* --- client.c: reads, batches, sends, settles ------------------------------------------------------- */
void client_reset(struct world *w);
void client_opened(struct world *w);
void client_note(struct world *w, const struct spool_note *note);
void client_turn(struct world *w);
void client_whim(struct world *w, bool drop); /* drops a record that was read, or rewinds */
void client_reply(struct world *w, const struct due *e);
void client_no_reply(struct world *w, const struct due *e);

/* --- recent.c: ids of the last moments, after a start -------------------------------------------------- */
void recent_check(struct world *w);

/* --- change.c: the configuration changes ---------------------------------------------------------------- */
void change_note(struct world *w);
bool change_may_drop(const struct world *w); /* a policy may end events, or might have */
void change_live(struct world *w);
void change_at_start(struct world *w);

/* --- floor.c: what must survive ------------------------------------------------------------------------- */
void floor_wrote(struct world *w, const struct disk_call *call);
void floor_removed(struct world *w, const struct disk_call *call);
void floor_sync_begins(struct world *w, const struct disk_call *call);
void floor_synced(struct world *w, const struct disk_call *call);
void floor_opened(struct world *w);
bool floor_counts(const struct world *w); /* the disk keeps what was synced */
void floor_power_lost(struct world *w);
void floor_check(struct world *w);
void floor_check_end(struct world *w, const struct spool_ledger *l);

/* --- letters.c: dead letters are listed, replayed and purged ---------------------------------------------
 */
void letters_purge(struct world *w);
void letters_list(struct world *w);
void letters_replay(struct world *w); /* lists some first */
void letters_turn(struct world *w);
void letters_follow(struct world *w, const struct spool_ledger *l); /* what a replay has done so far */

/* --- producer.c ------------------------------------------------------------------------------------- */
void producer_turn(struct world *w);
bool producer_append(struct world *w, unsigned count, uint32_t body_max);

/* --- subject.c, exhaustive.c: what the runner asks for (runner.h) ------------------------------------------ */
struct run_options;
struct world *subject_world(void);
void subject_prepare(uint64_t seed, uint64_t steps);
int exhaustive_run(const struct run_options *o);

/* --- upstream.c ------------------------------------------------------------------------------------- */
void upstream_arrive(struct world *w, const struct due *e);

#endif
