/* input_stream: the Unix stream input. Step 1 of the straight line; step 4, agent/intake.c, is next.
 *
 * Each connection speaks NDJSON (input_lines.c) or Fluentd's forward protocol (input_forward.c); its first
 * byte says which. Here is what both share:
 *
 * Reading. One read of up to STREAM_READ_BYTES per connection and turn, so that a loud sender takes no more
 * of the loop than a quiet one. What a read brought is cut into events, and those become batches, usually one
 * per read; a batch is one offer to intake.
 *
 * Gathering. A connection that sends many small writes, and no questions, is not read at each of them but every
 * few milliseconds: gather.h.
 *
 * Order. A connection's batches stand in a list in the order of arrival and are answered for in that order,
 * each when its events are durable: an NDJSON ack counts what came before it, a forward ack follows its
 * chunk.
 *
 * Backpressure. Nothing that was read is dropped. An offer that finds no room waits as long as it takes, and
 * so does its connection, which keeps the bytes of that one read and is not read meanwhile; its sender then
 * waits in the kernel. Further reasons not to read: the peer does not read its answers, too much of this
 * connection or of the input as a whole is on its way to the disk, or too many connections wait already. All
 * of these are bounds in bytes or numbers below. Halves of messages have a bound over all inputs, input_hold.h.
 *
 * End. When the peer ends its stream, or the agent stops, what was read whole is committed and answered, and
 * then the connection closes. After a fault of the peer that is answered with words, our side is shut and
 * what still comes is read and thrown away for a moment, so that the words are not lost in a reset. */
#ifndef PENSTOCK_AGENT_INPUT_STREAM_H
#define PENSTOCK_AGENT_INPUT_STREAM_H

#include "agent/chunk_memory.h"
#include "agent/event_batch.h"
#include "agent/flusher.h"
#include "agent/gather.h"
#include "agent/input.h"
#include "agent/listener.h"
#include "lib/base/log.h"
#include "lib/codec/forward.h"
#include "lib/codec/ndjson.h"

#define STREAM_READ_BYTES (64 * 1024)
#define STREAM_LARGE_BYTES (64 * 1024)               /* a line or record of this size is a batch of its own */
#define STREAM_BATCH_BYTES (256 * 1024)              /* of an arena; then the batch is offered */
#define STREAM_UNREAD_BYTES (64 * 1024)              /* answers that the peer has not taken */
#define STREAM_CONN_UNDERWAY_BYTES (2 * 1024 * 1024) /* arenas of a connection's batches */
#define STREAM_UNDERWAY_BYTES (6 * 1024 * 1024)      /* and of all connections' */
#define STREAM_INFLATED_BYTES (32u << 20) /* what a compressed forward message may become */
#define STREAM_BLOCKED_MAX 32 /* connections that wait for room and keep what they read */

struct stream_conn;

struct stream_chunk {
    struct stream_chunk *next;
    struct chunk_key key;
};

/* One offer on its way. */
struct stream_batch {
    struct event_batch events;
    struct list node; /* in its connection's batches, or spare */
    struct stream_conn *conn;
    uint32_t serial;
    size_t bytes;            /* as counted in underway_bytes */
    bool done, failed, dead; /* dead: never stored, since too large */
    /* NDJSON */
    bool ack;        /* `{"penstock":"ack"}` stood behind these events */
    uint64_t *lines; /* the number of each offered line, in the arena */
    unsigned line_room;
    /* forward */
    struct bytes reply;          /* acknowledgements, written when the batch is done */
    struct stream_chunk *chunks; /* remembered when it is done; in the arena */
    bool waits_chunk;            /* answered only when this chunk of another batch is known */
    struct chunk_key wanted;
    struct list waiter; /* in input->waiters, with waits_chunk */
};

enum stream_protocol { STREAM_NEW, STREAM_LINES, STREAM_FORWARD };

/* What a protocol says of the bytes that it was given. */
enum stream_step {
    STREAM_MORE,  /* all used */
    STREAM_OFFER, /* offer the open batch, then come again */
    STREAM_END,   /* offer it; nothing behind this point is read */
};

struct stream_block {
    size_t len, used;
    uint8_t at[STREAM_READ_BYTES];
};

struct stream_conn {
    struct input_stream *input;
    struct list node;   /* in input->conns: least recently active first */
    struct list paused; /* in input->paused, or in the agent's hold.waiting */
    struct gather gather;  /* while it has a wait, the connection is not polled */
    struct list gathering; /* but in input->gathering, and read by the input's timer */
    uint64_t look_events;  /* of the read that is being taken */
    bool look_asked;       /* and whether its sender waits for an answer */
    size_t held;        /* as counted in the agent's hold */
    bool held_parked;
    uint64_t hold_ticket; /* its place in hold.waiting; 0: none was drawn */
    uv_poll_t poll;     /* .data == this connection */
    int fd, events;     /* what is polled for */
    struct flusher flusher;
    pid_t pid;
    uid_t uid;
    uint64_t bytes_in;
    enum stream_protocol protocol;
    bool eof, finishing, parting, lingering, closing;
    bool out_full; /* the kernel takes no more answers for now */
    uint64_t linger_until_us;
    struct stream_block *block;   /* what was read and is not used up, or is still pointed into */
    struct stream_batch *open;    /* being filled */
    struct stream_batch *blocked; /* waits for room */
    struct list batches;
    size_t underway_bytes;
    struct bytes out;
    size_t out_sent;
    struct bytes farewell; /* written after everything else, before the end */
    /* NDJSON */
    struct ndjson lines;
    uint64_t accepted, rejected;
    char *first_error;
    /* forward */
    struct forward *forward;
    struct forward_handshake handshake;
    struct forward_message
        message; /* with in_message: it came whole, but is not used up; it lies in the block */
    bool in_message;
    bool json, greeted; /* greeted: the handshake is complete, or none is asked for */
};

struct input_stream {
    struct input input;
    struct listener listener;
    uv_poll_t poll;   /* of the listener; .data == this input */
    uv_timer_t retry; /* accepts again after the descriptors ran out; .data == this input */
    uv_timer_t gather; /* the next look at those that gather; .data == this input */
    bool poll_open, listening, polling, closing;
    unsigned timers_open;
    struct list conns, paused, gathering, spare, waiters;
    unsigned conn_count, blocked_count, spare_count;
    size_t underway_bytes;
    uint32_t serial;
    struct stream_block *spare_block;
    struct chunk_memory chunks;
    struct msgpack_renderer renderer;
    struct bytes scratch; /* a record as JSON */
    struct log_limit accept_limit, denied_limit, fault_limit;
};

/* --- for the two protocols (input_lines.c, input_forward.c) --------------------------------------------- */

enum stream_step lines_take(struct stream_conn *c, struct span *piece);
void lines_eof(struct stream_conn *c);
void lines_done(struct stream_conn *c, struct stream_batch *b);

void forward_begin(struct stream_conn *c); /* says HELO where a shared key is configured */
enum stream_step forward_take(struct stream_conn *c, struct span *piece);
void forward_eof(struct stream_conn *c);
void forward_done(struct stream_conn *c, struct stream_batch *b);
/* Does what this batch waits for still wait itself? */
bool forward_waits(struct stream_batch *b);

/* --- what they use (input_stream_conn.c) ---------------------------------------------------------------- */

/* The batch that is being filled. */
struct stream_batch *stream_open(struct stream_conn *c);
/* What follows goes into a batch of its own: large things do not wait for room together with others. */
void stream_split(struct stream_conn *c);
/* Words for the peer behind everything else; then the end. */
void stream_farewell(struct stream_conn *c, const char *code, const char *message);
/* Counts events of the peer that never became part of a batch. */
void stream_reject(struct stream_conn *c, enum api_reject reason, uint64_t count);
/* A fault of the peer, for a person: at most one line in a while per input. */
void stream_complain(struct stream_conn *c, enum log_level level, const char *what);

/* --- for input_stream.c --------------------------------------------------------------------------------- */

void stream_conn_begin(struct input_stream *in, int fd, pid_t pid, uid_t uid);
/* Polls for what the connection wants now. */
void stream_watch(struct stream_conn *c);
/* No more is read; it closes when what was read is answered. */
void stream_conn_finish(struct stream_conn *c);
void stream_conn_close(struct stream_conn *c);
/* The time to gather is over: reads all that gathered. */
void stream_look(struct input_stream *in);
/* Once a second: is its time over? */
void stream_conn_second(struct stream_conn *c);
/* Nothing is under way on it, and nothing waits to be read. */
bool stream_conn_idle(const struct stream_conn *c);
void stream_batch_free(struct stream_batch *b);
void stream_maybe_gone(struct input_stream *in);
/* A descriptor of ours has become free. */
void stream_accept_again(struct input_stream *in);

#endif
