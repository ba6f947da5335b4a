/* orphans: directories below data_dir that are no output's: an output was removed or renamed and has left events behind.
 * They are looked for at the start and after each reload, in the pool since it reads directories; each is said once in
 * the log and listed by `status`. Nothing in them is touched. */
#ifndef PENSTOCK_AGENT_ORPHANS_H
#define PENSTOCK_AGENT_ORPHANS_H

#include <stdbool.h>
#include <stdint.h>

struct agent;
struct orphans;

struct orphan {
    char name[64];
    uint64_t bytes;          /* allocated on disk */
    uint64_t oldest_wall_ns; /* when its oldest file was last written */
    bool counted;            /* its ledger could be read: the next two hold */
    uint64_t pending, dead;  /* events that wait, dead letters */
};

struct orphans *orphans_new(struct agent *a);
void orphans_free(struct orphans *o); /* when the loop is done */
/* Looks again, for what is configured now. */
void orphans_look(struct orphans *o);
unsigned orphans_count(const struct orphans *o);
const struct orphan *orphans_at(const struct orphans *o, unsigned i);

#endif
