/* input_dgram: the Unix datagram and UDP inputs. Step 1 of the straight line; step 4, agent/intake.c, is
 * next.
 *
 * A datagram holds one or more NDJSON events. Its sender hears nothing, so everything that is lost is
 * counted: what the kernel dropped because its buffer was full (kernel_dropped), what was longer than our
 * room for one datagram (truncated), lines that are no events (malformed), and what an output had no room for
 * (full).
 *
 * Datagrams are read many at a time, and what one call brings is one offer. While the disk is behind, nothing
 * is read: the kernel's buffer is the queue. A turn reads a bounded number, so that a flood here leaves the
 * others their turns.
 *
 * When datagrams come one by one in quick succession, waking for each would cost more than the event itself.
 * So as soon as two wake-ups lie within GATHER_MS, the input stops waiting for readiness and looks every
 * GATHER_MS instead, until a look finds nothing. A datagram that comes alone is read at once. */
#ifndef PENSTOCK_AGENT_INPUT_DGRAM_H
#define PENSTOCK_AGENT_INPUT_DGRAM_H

#include "agent/input.h"

#endif
