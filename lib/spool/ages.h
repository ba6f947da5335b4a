/* ages: when the event with a sequence number was received, roughly, for all that is pending.
 *
 * A note is kept where the time differs by a second from the one before, a bounded number of them: when there
 * are too many, those of settled events go, then always the one whose neighbours are the closest. The error is a
 * second, or for a long backlog some fortieth of its age. */
#ifndef PENSTOCK_SPOOL_AGES_H
#define PENSTOCK_SPOOL_AGES_H

#include <stdint.h>

#define AGES_MAX 128

struct ages {
    struct age {
        uint64_t seq, wall_ns;
    } at[AGES_MAX]; /* ascending seq */
    unsigned len;
};

/* The event `seq` was received then. What was noted for it before is forgotten. Everything before `pending`
 * is settled. */
void ages_note(struct ages *a, uint64_t seq, uint64_t wall_ns, uint64_t pending);
/* 0: not known. */
uint64_t ages_of(const struct ages *a, uint64_t seq);

#endif
