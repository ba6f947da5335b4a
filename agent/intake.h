/* intake: from parsed events to durable ones. Steps 4 and 7 of the straight line: after an api's read()
 * (lib/api), before output_offer() (lib/output); and again when the disk has answered, to answer the sender.
 *
 * An input hands over an offer: either the neutral events of a request (routed here, rendered here by each
 * output's api) or the items of a vendor's request (they go to the outputs of that type). Then
 *   1. each event finds its outputs; what cannot go or cannot be rendered becomes a rejection;
 *   2. room is made sure of in every output before anything is appended to any; where there is none the
 *      offer waits a short, bounded time, in bounded company;
 *   3. what was stored within the last minutes under the same id with the same content is left out;
 *   4. the rest is appended, and the offer waits until every output's commit is durable;
 *   5. done() is called, never inside intake_offer().
 *
 * A large request goes the same way in pieces, intake_pieces.c, so that what is made of it never lies in memory
 * as a whole. */
#ifndef PENSTOCK_AGENT_INTAKE_H
#define PENSTOCK_AGENT_INTAKE_H

#include "lib/api/api.h"
#include "lib/base/list.h"

#include <uv.h>

struct agent;
struct output_host;

#define INTAKE_ROOM_WAIT_MS 250 /* how long a request waits for room */
#define INTAKE_ROOM_WAITERS 256 /* and how many may */
#define OUTPUTS_MAX 64          /* outputs that one event can go to */

/* What an input counts; the names are the metrics'. */
struct input_counters {
    uint64_t received, sampled, bytes_in, duplicates;
    uint64_t paused; /* times that a connection was not read since too much was under way already */
    uint64_t rejected[REJECT_REASONS];
};

/* The part of an offer that goes to one output. */
struct intake_part {
    struct list node;          /* in the output's waiting list, by seq */
    struct intake_offer *offer;
    struct output_host *output;
    struct api_item *items;    /* of a large request: of the present piece */
    unsigned count, room;
    uint64_t bytes;            /* of ids, partitions and bodies */
    uint64_t seq;              /* durable up to here: this part is done */
    unsigned whole_count;      /* in pieces: of all of them */
    uint64_t reserved;         /* in pieces: of the output's room, what is left of it */
};

enum offer_state {
    OFFER_NEW,
    OFFER_LOOKS, /* in pieces: read through once, to know that all of it can be taken and what it takes */
    OFFER_WAITS_ROOM,
    OFFER_TAKES, /* in pieces: read again and appended */
    OFFER_WAITS_COMMIT,
    OFFER_ANSWERING,
    OFFER_DONE
};

/* What an offer does when an output has no room. */
enum intake_wait {
    INTAKE_WAIT_NOT,     /* COND_FULL at once */
    INTAKE_WAIT_BRIEFLY, /* a request: at most INTAKE_ROOM_WAIT_MS, with at most INTAKE_ROOM_WAITERS others */
    INTAKE_WAIT_DISK,    /* datagrams: as long as the disk is only behind; a full output is COND_FULL at once */
    INTAKE_WAIT_LONG,    /* a stream: as long as it takes. Its sender is not read meanwhile, which is the bound */
};

struct intake_offer {
    /* in: filled by the input, good until done() */
    struct api_exchange *x;        /* arena, items or events, rejections */
    struct input_counters *counters;
    const char *input_name;
    enum intake_wait wait;         /* for room; what waits must own the memory that its events point into */
    void (*done)(struct intake_offer *offer, enum api_condition condition, const char *text);
    void *ctx;
    bool in_pieces;                /* x has not been read: intake does so, piece by piece, with x->keep and request its own.
                                      done() with COND_STORED may then find x->answer or x->pass_on set */
    bool may_retry;                /* where the arena is too small for all at once: intake_offer() says so */
    /* out, for the answer */
    unsigned accepted;             /* events taken, known repeats and sampled-out ones included */
    /* the intake's own */
    enum offer_state state;
    struct intake_part *parts;
    unsigned part_count, parts_waiting;
    bool too_large;                /* the arena ran out */
    struct list node;              /* in the room queue, the answer queue, or among the large ones */
    uint32_t *fates;               /* in pieces: what became of each event */
    unsigned fate_room, item_at;   /* item_at: of x->items, handed out so far */
    unsigned part_at;              /* in pieces: the part that is appended next */
    unsigned sampled;
    bool blocked;                  /* the outputs' fill buffers have enough */
    bool conflict, placed, homeless; /* homeless: items came, and no output of their type is there */
    uint64_t seen;                 /* intake->generation when it was looked at */
    uint64_t room_deadline_us;
    enum api_condition condition;
    const char *text;
};

struct intake {
    struct agent *agent;
    struct list large;             /* offers in pieces that look or take */
    struct arena scratch;          /* of the piece at hand */
    bool held;                     /* no large offer is looked at now */
    uint64_t generation;           /* of the configuration */
    struct list room_queue;        /* offers that wait for room, oldest first */
    unsigned room_waiting;         /* those of them that wait briefly */
    struct list answers;           /* offers whose done() is due */
    uv_timer_t room_timer;         /* .data == this intake */
    bool timer_armed;
};

void intake_init(struct intake *in, struct agent *agent);
/* Is there an output that might not take a request of so many bytes at once? Then the offer's memory must be able
 * to outlive the request, and it may wait. */
bool intake_tight(const struct intake *in, uint64_t bytes);
/* Counts a request that the api answered itself. One that could not be read counts as one event. */
void intake_count_refused(struct input_counters *n, const struct api_exchange *x);
/* done() follows, from intake_turn() or later. False, and nothing was done nor counted: it needs more memory than its
 * arena has (may_retry). */
bool intake_offer(struct intake *in, struct intake_offer *offer);
/* The sender is gone: done() will not be called; what was appended stays. */
void intake_forget(struct intake *in, struct intake_offer *offer);
/* News from an output: its durable position moved, or it has room again. */
void intake_acked(struct intake *in, struct output_host *output);
void intake_room(struct intake *in);
/* Storage failed or the agent stops: every offer that waits on this output (NULL: any) is answered so. */
void intake_fail(struct intake *in, struct output_host *output, enum api_condition condition, const char *text);
/* Only those that wait for room in this output. */
void intake_fail_room(struct intake *in, struct output_host *output, enum api_condition condition, const char *text);
/* Calls done() for everything that is due; once per turn of the loop. */
void intake_turn(struct intake *in);
/* A piece of each large offer; once per turn of the loop. */
void intake_step(struct intake *in);
/* Is there a piece to be taken now? */
bool intake_steps(const struct intake *in);
/* Is some large offer half taken? The outputs must stay what they are until it is whole. */
bool intake_taking(const struct intake *in);
/* No more of them begin meanwhile. */
void intake_hold(struct intake *in, bool on);
void intake_close(struct intake *in);
void intake_deinit(struct intake *in);

#endif
