/* intervals: a set of sequence numbers as sorted, disjoint, non-touching closed ranges.
 *
 * Made for sets that are few ranges near the end: adding at the end and dropping from the front are
 * cheap, the rest is a binary search and a move. */
#ifndef PENSTOCK_SPOOL_INTERVALS_H
#define PENSTOCK_SPOOL_INTERVALS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct interval {
    uint64_t first, last;
};

struct intervals {
    struct interval *at;
    size_t len, cap;
    uint64_t count; /* members */
};

void intervals_deinit(struct intervals *s); /* leaves an empty set */
void intervals_clear(struct intervals *s);  /* keeps the memory */
/* Adds first..last; returns how many of them are new. */
uint64_t intervals_add(struct intervals *s, uint64_t first, uint64_t last);
/* Takes first..last out; returns how many were in. */
uint64_t intervals_remove(struct intervals *s, uint64_t first, uint64_t last);
/* How many of first..last are in. */
uint64_t intervals_count(const struct intervals *s, uint64_t first, uint64_t last);
bool intervals_has(const struct intervals *s, uint64_t seq);
/* The lowest number >= seq that is not in. */
uint64_t intervals_next_free(const struct intervals *s, uint64_t seq);
/* The index of the first range that ends at or after seq; s->len when there is none. */
size_t intervals_find(const struct intervals *s, uint64_t seq);
/* Forgets all members <= seq. */
void intervals_drop_to(struct intervals *s, uint64_t seq);

#endif
