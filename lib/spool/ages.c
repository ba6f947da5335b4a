/* ages: see ages.h. */
#include "lib/spool/ages.h"

#include <stdbool.h>
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

static void make_room(struct ages *a, uint64_t pending)
{
    unsigned settled = beyond(a, pending);
    if (settled > 1) { /* the last of them says how old the first pending event is */
        a->len -= settled - 1;
        memmove(a->at, a->at + settled - 1, a->len * sizeof a->at[0]);
        return;
    }
    for (unsigned i = 1; 2 * i < a->len; i++)
        a->at[i] = a->at[2 * i];
    a->len = (a->len + 1) / 2;
}

static bool alike(uint64_t x, uint64_t y)
{
    return x > y ? x - y < GRAIN_NS : y - x < GRAIN_NS;
}

void ages_note(struct ages *a, uint64_t seq, uint64_t wall_ns, uint64_t pending)
{
    unsigned i = beyond(a, seq);
    if (i > 0 && a->at[i - 1].seq == seq) {
        a->at[i - 1].wall_ns = wall_ns;
        return;
    }
    if (i > 0 && alike(a->at[i - 1].wall_ns, wall_ns))
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
