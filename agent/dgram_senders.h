/* dgram_senders: who sends most of a datagram input's bytes. There are no connections to count by, and anybody can use
 * as many addresses as they like, so this is a space-saving sketch of a fixed number of counters: a sender beyond them
 * takes over the smallest, and starts where that one stood. What a counter certainly belongs to its present sender is
 * kept apart from what it took over; only the former is shown.
 *
 * A sender is a process on a Unix socket (SCM_CREDENTIALS, see unix(7)), an address and port on loopback, and an address
 * beyond it, where ports come and go. */
#ifndef PENSTOCK_AGENT_DGRAM_SENDERS_H
#define PENSTOCK_AGENT_DGRAM_SENDERS_H

#include "agent/input.h"

#include <sys/socket.h>

#define DGRAM_SENDERS 32

struct dgram_sender {
    uint64_t key[3]; /* of a process: pid and uid; of a host: address, port and family */
    uint64_t bytes;
    uint64_t over;   /* of them, those that it took over */
};

struct dgram_senders {
    struct dgram_sender all[DGRAM_SENDERS];
    unsigned used, last; /* the last one found: datagrams come in runs */
};

/* Counts one datagram of so many bytes. `address` may be of no family that tells anything: not counted then. */
void dgram_senders_host(struct dgram_senders *s, const struct sockaddr *address, uint64_t bytes);
void dgram_senders_process(struct dgram_senders *s, const struct ucred *who, uint64_t bytes);
/* See input_kind.loudest. */
unsigned dgram_senders_loudest(const struct dgram_senders *s, struct input_sender *into, unsigned room);

#endif
