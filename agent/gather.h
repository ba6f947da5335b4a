/* gather: when it pays to wait for a sender's next writes before reading.
 *
 * A sender that writes its events one by one, some ten thousand a second, wakes the loop for each of them, and each
 * wake-up reads one event and may commit it alone: at such a rate an event costs several times as much as at full
 * speed, where events pile up by themselves. So an input that sees this stops waiting for readiness and looks every
 * few milliseconds instead; one look then takes many events, and one commit. The price is that much latency.
 *
 * Nobody who asks often pays it. A look that brought a question (an ack line, a chunk) ends the gathering and begins
 * the measure anew, and it takes GATHER_LOOKS looks within GATHER_WITHIN_US without a question to begin: so neither a
 * sender that asks after each few events nor a slow one is ever delayed.
 *
 * Nor is a fast one. A sender on a Unix socket can have only so much underway, and what counts is the number of its
 * writes more than their length: with Linux's default of 208 KiB these are 278 writes of 100 bytes, 167 of 300, 93 of
 * 1,000. So the faster it sends the sooner the next look is, and when even a millisecond is too long there is none. */
#ifndef PENSTOCK_AGENT_GATHER_H
#define PENSTOCK_AGENT_GATHER_H

#include "lib/base/clock.h"

#include <stdbool.h>
#include <stddef.h>

#define GATHER_MS_MAX 4
#define GATHER_WITHIN_US (4 * US_PER_MS)
#define GATHER_LOOKS 8
#define GATHER_EVENTS 96         /* in one look, as the measure lets expect; half as much more ends the gathering */
#define GATHER_BYTES (32 * 1024) /* likewise */

/* What one look brought. */
struct gather_look {
    uint64_t at_us;
    uint64_t events, bytes;
    bool asked; /* somebody waits for an answer to it */
};

/* One stream's rate. All zero at first. */
struct gather {
    uint64_t since_us; /* what is measured began then */
    uint64_t events, bytes;
    unsigned looks;
    unsigned wait_ms; /* 0: it is read as soon as there is something */
};

/* After each look: in how many milliseconds the next one should come; 0: as soon as there is something. */
unsigned gather_wait_ms(struct gather *g, const struct gather_look *look);

#endif
