/* recent: the bounded memory of ids that were accepted in the last minutes. Step 4 of the straight line asks
 * it.
 *
 * A sender that did not hear our answer sends again, with the same ids; what it repeats must be answered as
 * accepted and stored once. So each id leaves two hashes here, of its key and of its content, when its event
 * has been appended (never before: what was refused may come again). After a restart the owner puts back what
 * the spools still know.
 *
 * A ring in the order of arrival and a table over it: the oldest leave when they are past the window, or when
 * the maximum is reached. Memory is allocated on use, doubled up to the maximum (40 bytes per id) and given
 * back when all have left. One key may have several contents (an update, and its repeats); the last eight are
 * told apart. */
#ifndef PENSTOCK_EVENT_RECENT_H
#define PENSTOCK_EVENT_RECENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RECENT_WINDOW_US UINT64_C(300000000) /* 5 minutes */

struct recent_entry {
    uint64_t key, content, at_us;
};

/* Holds enough of the key that the ring, whose entries lie anywhere in memory, need not be asked but for a match. */
struct recent_place {
    uint32_t hash;
    uint32_t at; /* ring position + 1; 0: free */
};

/* Embedded by its owner; fields are for reading only. */
struct recent {
    struct recent_entry *ring;
    struct recent_place *table; /* twice as many places as the ring */
    size_t room;     /* of the ring, a power of two; 0: nothing allocated */
    size_t oldest, count;
    size_t entries_max;
    uint64_t window_us;
};

/* entries_max is rounded up to a power of two, at least 64 and at most 2^30. */
void recent_init(struct recent *r, size_t entries_max, uint64_t window_us);
void recent_deinit(struct recent *r);

/* The table is larger than a processor's cache, and a look waits for it. Who has many keys to look for says so some
 * keys ahead. */
void recent_fetch(const struct recent *r, uint64_t key);

enum recent_answer {
    RECENT_NEW,       /* not in memory */
    RECENT_SAME,      /* this id with this content was accepted */
    RECENT_DIFFERENT, /* this id was accepted with other content only */
};
/* `key` is not 0. `now_us` is monotonic. */
enum recent_answer recent_look(const struct recent *r, uint64_t key, uint64_t content, uint64_t now_us);

/* Remembers; true when the pair is known already, which changes nothing. `at_us` is when it was accepted (monotonic; what
 * comes from before this process's clock began is given as 0). */
bool recent_put(struct recent *r, uint64_t key, uint64_t content, uint64_t at_us, uint64_t now_us);

/* Forgets one pair: what was put for it turned out not to be stored. Unknown pairs are no mistake. */
void recent_forget(struct recent *r, uint64_t key, uint64_t content);

/* Forgets what is past the window; frees the memory when nothing is left. Call now and then. */
void recent_expire(struct recent *r, uint64_t now_us);

#endif
