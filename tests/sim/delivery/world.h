/* world: one output of the agent on a simulated machine, with senders before it and an upstream behind it.
 *
 * The production output (lib/output with an api's upstream half) stands on the production spool, and that on
 * the simulated disk (tests/sim/disk.h). What is simulated is the shell around them: time, jobs, the way of a
 * request to the upstream and of its answer back, as bytes of HTTP through the production parser. The process
 * can die at any disk call and between any two events; requests on the wire, the upstream, the disk and the
 * oracle stay. Everything is drawn from one stream of decisions, so a run is a function of its seed.
 *
 *   world.c     the queue of events in virtual time; a run from its first start to its quiet end
 *   knobs.c     what kind of run a seed is
 *   process.c   the spool's host: jobs, timers, notes; birth and death
 *   shell.c     the output's wishes carried out: encodings, requests, probes, answers
 *   upstream.c  the service: what it takes, what it answers
 *   senders.c   events that are offered, letters that are listed, purged and replayed, whims of an operator
 *   oracle.c    what must hold
 *   subject.c   what the runner asks for (tests/sim/runner.h), and every crash of a script
 */
#ifndef PENSTOCK_SIM_DELIVERY_WORLD_H
#define PENSTOCK_SIM_DELIVERY_WORLD_H

#include "lib/output/output.h"
#include "lib/spool/bugs.h"
#include "tests/sim/decisions.h"
#include "tests/sim/disk.h"
#include "tests/sim/heap.h"
#include "tests/sim/jobs.h"
#include "tests/sim/queue.h"

#include <stdbool.h>
#include <stdint.h>

#define EVENTS_MAX 6000
#define BATCHES_MAX 16384
#define FLIGHTS_MAX 128
#define PARTITIONS_MAX 4
#define RATE_MAX 256

/* "one_in" 0 means never. */
struct knobs {
    struct spool_config spool;
    struct output_config output;
    bool per_event; /* the api answers event by event */
    unsigned partitions;
    bool faults; /* the disk fails now and then */
    uint32_t one_in_kill, one_in_power, one_in_rest, one_in_write_back, one_in_fault, one_in_squeeze;
    uint32_t one_in_stop, one_in_wall_jump, one_in_whim, one_in_envelope;
    bool aimed; /* crashes follow sends and answers closely */
    uint32_t job_us, produce_us, latency_us, pool_us;
    uint32_t body_max, append_max;
    uint32_t one_in_bad, one_in_same_id;
    /* the upstream and the way to it */
    uint32_t one_in_refused, one_in_lost, one_in_answer_lost, one_in_torn, one_in_slow;
    uint32_t one_in_busy, one_in_error, one_in_page, one_in_row_later, one_in_short;
    uint32_t one_in_outage, one_in_unauthorized, one_in_no_partition, one_in_certificate;
    uint32_t too_large; /* bytes; 0: nothing is */
    bool no_codec, no_batches, days;
    /* of some seeds only: see knobs.c */
    bool wide;
    uint32_t one_in_rot, one_in_skip, one_in_mismatch, one_in_extra, one_in_gone, one_in_turned_away;
    bool webhook;
    uint32_t one_in_no_consent;
    uint32_t consent_per_minute; /* 0: as much as we like */
};

/* A short run for the exhaustive mode. */
struct script {
    const char *name, *api;
    const char *actions; /* what the first requests meet: d nothing, 5 taken and answered 503, 3 429, 9 413, r
                          * the first event is to come again, l the answer is lost, t torn, c no connection */
    unsigned bad;        /* this event is refused */
};
extern const struct script scripts[];
extern const unsigned script_count;

enum happening {
    EV_START,
    EV_RUN_JOB,
    EV_JOB_DONE,
    EV_TIMER,
    EV_WAKE,
    EV_PRODUCE,
    EV_ENCODED,
    EV_ARRIVE,
    EV_ANSWER,
    EV_BREAK,
    EV_PROBED,
    EV_HEAL_DISK,
    EV_HEAL_UPSTREAM,
    EV_KINDS
};

/* --- what the oracle knows ---------------------------------------------------------------------------- */

struct sent_event {
    char *body;
    uint32_t len;
    uint32_t id; /* number in the id */
    uint8_t partition;
    bool bad;     /* the upstream refuses it for ever */
    bool acked;   /* its sender was answered */
    bool shed;    /* answered, and not taken: the spool had no room */
    bool skipped; /* the upstream said that it took it, or not, without saying which */
    bool turned_away; /* an answer was the end of its batch, and it was not taken: a letter, to be replayed perhaps */
    bool excused; /* an answer left open whether it was taken: it may come again in another batch, or die */
    bool letter;  /* there is a dead letter of it now */
    uint64_t acked_us;
    uint64_t seq; /* in this life of the process; 0: not known */
    unsigned life;
    unsigned accepts, later;    /* times the upstream took it, or said later to it alone */
    uint32_t taken_in, sent_in; /* batches, 0: none */
};

enum standing { /* of a batch, as far as answers have told */
                STAND_FLYING,
                STAND_UNKNOWN,
                STAND_AGAIN, /* definitely not taken, and to be sent again */
                STAND_ENDED, /* definitely taken, or its composition changes */
};

struct known_batch {
    char id[40];
    uint64_t hash; /* of its payload */
    enum standing standing;
    unsigned life, sends;
    uint64_t ended_us;
    uint32_t *members;
    unsigned count;
    uint8_t partition;
    bool processed;
    bool open;   /* an earlier send may have been taken */
    char *fates; /* of a processed one, a letter per member: t taken, x refused, r later, u not said, s
                    skipped */
};

/* --- the shell ------------------------------------------------------------------------------------------ */

struct flight { /* a request, and its answer */
    bool used;
    unsigned life;       /* of its sender */
    unsigned number;     /* counts the sends of this life */
    uint32_t batch;      /* in known[] */
    struct batch *carry; /* the output's; NULL when it has been told */
    uint64_t serial;
    bool reused, encoded, structured; /* structured: an event alone, outside batch mode */
    bool on_the_wire;                 /* it will arrive, whatever becomes of its sender */
    enum output_break broke;
    char action; /* the script's */
    uint64_t raw_len;
    char *answer;
    size_t answer_len, answer_cut; /* bytes that come back */
    enum standing meaning;         /* of the answer, when it is read in full */
    bool clear, success;           /* the answer speaks plainly of the upstream as a whole */
    bool gone, too_large;          /* the answer ends all requests; or says what is too large */
    uint64_t floor_us, asked_us;   /* Retry-After; as a date only the second */
};

enum branch {
    MET_KILL,
    MET_POWER,
    MET_CRASH_IN_START,
    MET_STOP,
    MET_STORAGE_FAILED,
    MET_FULL,
    MET_SEND,
    MET_SEND_AGAIN,
    MET_SEND_RECOVERED,
    MET_DELIVERED,
    MET_ROWS,
    MET_SPLIT,
    MET_TOO_LARGE,
    MET_BUSY,
    MET_RETRY_AFTER,
    MET_RETRY_DAYS,
    MET_SERVER_ERROR,
    MET_PAGE,
    MET_SHORT,
    MET_HOLD,
    MET_HOLD_PARTITION,
    MET_PROBE,
    MET_REFUSED,
    MET_LOST,
    MET_ANSWER_LOST,
    MET_TORN,
    MET_TIMEOUT,
    MET_REUSED,
    MET_CANCEL,
    MET_CERTIFICATE,
    MET_OUTAGE,
    MET_LONG_OUTAGE,
    MET_LETTER,
    MET_GAVE_UP,
    MET_REPLAY,
    MET_PURGE,
    MET_DROPPED,
    MET_EXPIRED,
    MET_PAUSE,
    MET_RECONFIGURE,
    MET_ENCODE,
    MET_PLAIN,
    MET_STRUCTURED,
    MET_TRUE_REPEAT,
    MET_ROT,
    MET_SKIPPED,
    MET_MISMATCH,
    MET_EXTRA,
    MET_GONE,
    MET_TURNED_AWAY,
    MET_NO_CONSENT,
    MET_CONSENT,
    MET_QUOTA,
    MET_COUNT
};
extern uint64_t branches_met[MET_COUNT];

struct world {
    uint64_t seed;
    struct decisions luck;
    struct knobs knobs;
    struct disk *disk;

    struct queue queue;
    uint64_t order, now_us, steps, steps_max, trace;
    uint64_t wall_offset_ns;
    bool quiet, verbose;
    enum { RUNNING, DRAINING, LISTING, RESTARTING, DRAINING_AGAIN, LISTING_AGAIN, OVER } phase;
    uint64_t phase_from_us, phase_deadline_us, phase_steps_end;
    unsigned phase_turn, phase_life;
    struct heap heap;

    /* The process. life 0: there is none. */
    unsigned life, lives, starts_crashed;
    struct spool *spool;
    struct jobs jobs;
    struct output *output;
    struct clock clock;
    bool opened, stopping, closed, storage_failed, may_note, dirty, stepping;
    enum { ALIVE, DIE_BY_KILL, DIE_BY_POWER } dying;
    uint64_t timer_at_us, wake_at_us; /* the spool's and the output's; 0: not set */
    uint64_t acked, unacked_from;     /* events before this one are settled with their senders */
    uint32_t stall_us;
    int disk_error;
    uint64_t squeezed;
    struct batch *encodings[64];
    bool probe_out, paused;
    unsigned idle_connections;
    unsigned envelope; /* the present configuration's */

    /* Exhaustive: die at this point. 0: never. */
    uint64_t points, script_points, die_at_point, die_again_after;
    bool die_by_kill, die_again_by_kill;
    struct disk_fate die_fate;
    const struct script *script; /* NULL: none */
    unsigned scripted;

    struct flight flights[FLIGHTS_MAX];
    bool down; /* nobody answers there */
    uint64_t unauthorized_until_us, no_partition_until_us[PARTITIONS_MAX], certificate_until_us;
    uint64_t gone_until_us, turned_away_until_us, no_consent_until_us;
    unsigned turned_away; /* the status that says so */

    /* The oracle. */
    unsigned event_count, known_count;
    uint64_t taken;           /* different events that the upstream took */
    uint64_t repeats_in_life; /* that the upstream took again, sent by this life */
    uint64_t repeated_base;   /* the output's own count when the life began */
    unsigned sends;           /* of this life */
    uint64_t floor_us, asked_until_us;
    bool outage, murky;
    unsigned outage_mark, murky_mark,
        returns; /* returns: successes since an outage; UINT_MAX: there was none of late */
    uint64_t rate_at[RATE_MAX];
    unsigned rate_count;
    uint64_t rate_requests, rate_per_us; /* of now: the configuration's, or what a webhook allows */
    bool stopped, consented, asking;    /* no request any more; a webhook's consent was given; is asked for */
    uint64_t learned_bytes, learned_us; /* after a 413, for what is offered from then on */
    unsigned learned_from;              /* events up to this one may be in larger batches */
    uint64_t events_most, bytes_most;   /* of a batch, as configured at any time */
    unsigned concurrency, concurrency_most; /* as configured now, and at any time */
    uint64_t failed_us, gave_up;        /* the first failure of this life; letters of what was given up */
    uint64_t quota_until_us;            /* a Retry-After of more than an hour has a state of its own */
    bool gave_up_known;
    unsigned rots;
    uint64_t latest;                   /* events answered for just before the last death */
    bool replayed;                     /* letters, at any time */
    uint64_t rot_excused;              /* events that a death may have taken, as their proof had rotted */
    uint64_t order_at[PARTITIONS_MAX]; /* the event that was last taken for the first time */
    struct spool_dead_request dead;
    bool dead_busy, letters_known;
    bool loose; /* letters of given up events, which may have been taken, were put back */
    uint64_t letters_after;
    unsigned letters_counted;

    /* Large, and reset as far as they were used. */
    struct sent_event events[EVENTS_MAX];
    struct known_batch known[BATCHES_MAX];
    uint32_t known_slots[2 * BATCHES_MAX];
};

/* --- world.c ----------------------------------------------------------------------------------------------
 */
void world_run(struct world *w); /* returns when all held, else world_fail() */
/* The same in small steps, so that several worlds can take turns. */
void world_begin(struct world *w);
bool world_turn(struct world *w); /* false: it is over */
void world_at(struct world *w, uint64_t in_us, enum happening kind, unsigned life, uint64_t a, uint64_t b);
void world_met(enum branch what);
void world_trace(struct world *w, uint64_t x);
_Noreturn void world_fail(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
void world_say(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool world_open(const struct world *w); /* the output takes calls */
/* A place where the process may die; power: the machine with it. */
void world_point(struct world *w);
uint64_t world_wall_ns(const struct world *w);

/* --- knobs.c ----------------------------------------------------------------------------------------------
 */
void knobs_draw(struct world *w);
void knobs_script(struct world *w);

/* --- process.c --------------------------------------------------------------------------------------------
 */
struct disk_gate process_gate(struct world *w);
void process_event(struct world *w, const struct due *e);
void process_start(struct world *w);
void process_die(struct world *w, bool power, struct disk_fate fate);
void process_stop(struct world *w);
void process_stopped(struct world *w);

/* --- shell.c ----------------------------------------------------------------------------------------------
 */
void shell_step(struct world *w); /* carries out wishes until there are none */
void shell_event(struct world *w, const struct due *e);
void shell_forget(struct world *w);    /* the process is gone */
void shell_break_all(struct world *w); /* an orderly stop */
void shell_end_encodings(struct world *w);
struct flight *shell_free_flight(struct world *w);

/* --- upstream.c -------------------------------------------------------------------------------------------
 */
/* The request arrives: what is taken is noted, and the answer written into the flight. */
void upstream_arrive(struct world *w, struct flight *f);
bool upstream_unreachable(const struct world *w);
/* The answer to the question whether a webhook may be sent to. */
void upstream_consent(struct world *w, struct api_reply *ret);
unsigned upstream_probe_status(struct world *w);
void upstream_mischief(struct world *w);

/* --- senders.c --------------------------------------------------------------------------------------------
 */
void senders_turn(struct world *w);
void senders_note_acked(struct world *w);
void senders_whim(struct world *w);
void senders_list_letters(struct world *w);
void senders_purge(struct world *w, bool replay);

/* --- oracle.c ---------------------------------------------------------------------------------------------
 */
void oracle_reset(struct world *w);
void oracle_opened(struct world *w);
void oracle_life_ended(struct world *w);
/* A request is about to leave; returns its batch in known[]. */
uint32_t oracle_send(struct world *w, const struct batch *b, const char *payload_id, const uint8_t *raw,
                     size_t len, uint64_t sent_len);
void oracle_configured(struct world *w); /* the output has this configuration from now on */
void oracle_consented(struct world *w);
void oracle_resumed(struct world *w); /* by an operator */
void oracle_rotten(struct world *w, bool damaged);
void oracle_probe(struct world *w);
void oracle_answer(struct world *w, const struct flight *f, bool whole, enum output_break what);
void oracle_taken(struct world *w, struct known_batch *k, unsigned member, unsigned life);
void oracle_check(struct world *w); /* after every event */
void oracle_check_end(struct world *w);

#endif
