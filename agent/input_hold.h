/* input_hold: the memory of stream messages that have begun and are not used up, over all connections of all Unix
 * stream inputs together. Part of step 1 of the straight line, see input_stream.h.
 *
 * A line or a forward message may come in any number of pieces, and one connection may hold as much as max_event
 * or max_body allows. What all of them hold has a bound of its own, and beyond it reading stops, which loses
 * nothing: a sender then waits in the kernel.
 *
 *   below HOLD_BYTES     everybody reads.
 *   from there on        whoever holds little reads on; of those that hold much one, the favoured, reads on to the end of
 *                        its message, so that somebody always gets done; then the next.
 *   with HOLD_PARKED of it in messages that came whole, and wait for the disk or for room in an output, or have
 *                        inflated: nobody but the favoured.
 *
 * So halves hold HOLD_BYTES and one message, besides the little that each connection may. A favoured sender that sends
 * next to nothing for HOLD_STALL while others wait is cut off: its half of a message would stop them for ever. */
#ifndef PENSTOCK_AGENT_INPUT_HOLD_H
#define PENSTOCK_AGENT_INPUT_HOLD_H

#include "lib/base/clock.h"
#include "lib/base/list.h"

#define HOLD_BYTES (4 * 1024 * 1024)
#define HOLD_PARKED (8 * 1024 * 1024)
#define HOLD_LITTLE (8 * 1024)
#define HOLD_STALL_US (30 * US_PER_S)
#define HOLD_PROGRESS 4096 /* bytes of a read that count as more than nothing */

struct stream_conn;

/* The agent's. */
struct input_hold {
    uint64_t bytes;  /* by all connections */
    uint64_t parked; /* by those of them whose message came whole */
    struct stream_conn *favoured;
    uint64_t progress_us; /* when it was chosen, or last sent more than a little */
    uint64_t tickets;     /* drawn so far */
    struct list waiting;  /* connections, by `paused`, that are not read; longest waiting first */
};

void input_hold_init(struct input_hold *h);
/* May it read now? If not it stands in the waiting list, and is counted. */
bool input_hold_may_read(struct stream_conn *c);
/* So many bytes were read from it. */
void input_hold_progress(struct stream_conn *c, size_t bytes);
/* Counts anew what it holds, after every piece of news about it, and lets others read if there is room now. */
void input_hold_count(struct stream_conn *c);
/* It is closing. */
void input_hold_leave(struct stream_conn *c);
/* Once a second: has the favoured one gone silent? Then it is to be closed. */
bool input_hold_stalled(const struct stream_conn *c);

#endif
