/* ages: see ages.h. */
#include "lib/spool/ages.h"

#include <string.h>

#define GRAIN_NS UINT64_C(1000000000)

/* The first note beyond seq. */
static unsigned beyond(const struct ages *a, uint64_t seq)
{
    unsigned low = 0, high = a->len;
    if (high > 0 && a->at[high - 1].seq <= seq)
        return high; /* as nearly always */
    while (low < high) {
        unsigned middle = (low + high) / 2;
        if (a->at[middle].seq <= seq)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static uint64_t apart(uint64_t x, uint64_t y)
{
    return x > y ? x - y : y - x;
}

/* Settled ones go; else the one whose neighbours are the closest in time, so that what is left stays evenly spread. */
static void make_room(struct ages *a, uint64_t pending)
{
    unsigned settled = beyond(a, pending);
    if (settled > 1) { /* the last of them says how old the first pending event is */
        a->len -= settled - 1;
        memmove(a->at, a->at + settled - 1, a->len * sizeof a->at[0]);
        return;
    }
    unsigned least = 1;
    uint64_t least_ns = UINT64_MAX;
    for (unsigned i = 1; i + 1 < a->len; i++) {
        uint64_t ns = apart(a->at[i - 1].wall_ns, a->at[i + 1].wall_ns);
        if (ns < least_ns) {
            least = i;
            least_ns = ns;
        }
    }
    a->len--;
    memmove(a->at + least, a->at + least + 1, (a->len - least) * sizeof a->at[0]);
}

void ages_note(struct ages *a, uint64_t seq, uint64_t wall_ns, uint64_t pending)
{
    unsigned i = beyond(a, seq);
    if (i > 0 && a->at[i - 1].seq == seq) {
        a->at[i - 1].wall_ns = wall_ns;
        return;
    }
    if (i > 0 && apart(a->at[i - 1].wall_ns, wall_ns) < GRAIN_NS)
        return;
    if (a->len == AGES_MAX) {
        make_room(a, pending);
        i = beyond(a, seq);
    }
    memmove(a->at + i + 1, a->at + i, (a->len - i) * sizeof a->at[0]);
    a->at[i] = (struct age){seq, wall_ns};
    a->len++;
}

uint64_t ages_of(const struct ages *a, uint64_t seq)
{
    unsigned i = beyond(a, seq);
    return i == 0 ? 0 : a->at[i - 1].wall_ns;
}
