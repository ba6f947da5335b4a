/* tail: the newest part of the log in memory. Frames are built in place here, written from here, and read
 * from here by a reader that keeps up, so that an event is copied once on its way in.
 *
 * A list of chunks of DATA frames, each frame as it goes to disk (header, payload, rounded to 16), in the
 * order of their seqs:
 *
 *     [ forgotten | kept for the reader | launched, commit in flight | closed frames | open frame ]
 *
 * The open frame grows with each event; tail_take() closes it and hands out ranges of whole frames, which
 * from then on only the commit job touches until it is done. Chunks are recycled: steady traffic allocates
 * nothing. */
#ifndef PENSTOCK_SPOOL_TAIL_H
#define PENSTOCK_SPOOL_TAIL_H

#include "lib/spool/frame.h"

struct chunk {
    struct chunk *next;
    uint64_t first_seq, end_seq; /* of its closed frames: [first, end) */
    uint32_t cap, used;          /* bytes; used covers closed frames only */
    _Alignas(16) uint8_t data[];
};

/* A place between two frames. */
struct tail_mark {
    struct chunk *chunk; /* NULL: before everything */
    uint32_t at;
};

struct tail_range {
    uint8_t *at;
    uint32_t len;
};

struct tail {
    struct chunk *first, *last, *spare;
    unsigned spare_count;
    size_t bytes;        /* of all chunks in the list */
    uint64_t generation; /* moves when a chunk is let go: pointers into chunks must be looked up again */
    struct tail_mark launched; /* frames before it were handed out */
    struct tail_mark
        settled;         /* frames before it are safe on disk: the failure path writes from here on again */
    uint64_t fill_bytes; /* of frames behind `launched`, the open one included */
    uint64_t fill_events;

    uint8_t *open; /* header of the open frame, NULL: none */
    uint32_t payload_len, events_at;
    uint16_t count, api_version;
    uint64_t open_seq, base_wall_ns;
    unsigned partition_count, partition_last;
    struct {
        uint32_t at, len; /* in the payload */
    } partitions[FRAME_PARTITIONS];
};

void tail_init(struct tail *t);
void tail_deinit(struct tail *t);

#define EVENT_OVERHEAD 24 /* varints of one event: 4 + 10 + 1 + 2, and some */

/* Bytes that these records can take in frames at most. */
uint64_t tail_bound(unsigned count, uint64_t bytes);
void tail_append(struct tail *t, const struct spool_record *r, uint16_t api_version, uint64_t seq);
/* In a frame of its own, with this extension behind the event. */
void tail_append_alone(struct tail *t, const struct spool_record *r, uint16_t api_version, uint64_t seq,
                       struct span extension);
void tail_close_frame(struct tail *t); /* when one is open */

/* Hands out closed frames behind `launched`, at most max_bytes and max_ranges; returns the number of ranges.
 * *ret_first and *ret_end are the seqs covered: [first, end). */
unsigned tail_take(struct tail *t, uint64_t max_bytes, unsigned max_ranges, struct tail_range *ranges,
                   uint64_t *ret_first, uint64_t *ret_end);
/* What was handed out is safe: it may be forgotten. */
void tail_settle(struct tail *t);
/* What was handed out must be written again: tail_take() begins behind `settled`. */
void tail_unlaunch(struct tail *t);
/* Lets go of the oldest chunks beyond keep_bytes, and of those that end at or before done_seq; never of what
 * is not settled. */
void tail_forget(struct tail *t, size_t keep_bytes, uint64_t done_seq);

/* The chunk that holds seq; NULL when it is not in memory. */
struct chunk *tail_find(const struct tail *t, uint64_t seq);
uint64_t tail_first_seq(const struct tail *t); /* UINT64_MAX when empty */

struct chunk *chunk_new(uint32_t cap);

/* Reads the events of a chunk in order. */
struct chunk_reader {
    const struct chunk *chunk;
    uint32_t at;
    bool in_frame;
    struct frame_events events;
};
void chunk_reader_init(struct chunk_reader *r, const struct chunk *c);
/* The next event with a seq >= `seq` and < `end`; false when the chunk has none. */
bool chunk_reader_next(struct chunk_reader *r, uint64_t seq, uint64_t end, struct spool_item *ret);

#endif
