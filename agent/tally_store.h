/* tally_store: the statistics of accepted events (lib/event/tally.h) and their file, data_dir/.tally, so that they
 * survive restarts. Beside the straight line: the intake adds, the admin page reads.
 *
 * The file is written whole under another name and renamed, once a minute by a job in the pool, and once more when
 * the loop has ended. Losing a minute of statistics to a crash is accepted; events are never lost with them. The
 * name begins with a dot because no output's directory can. */
#ifndef PENSTOCK_AGENT_TALLY_STORE_H
#define PENSTOCK_AGENT_TALLY_STORE_H

#include "lib/event/tally.h"

struct agent;
struct intake_offer;
struct intake_part;
struct tally_store;

struct tally_store *tally_store_new(struct agent *a);
/* Reads the file, once the data directory is locked. A damaged one is reported and forgotten. */
void tally_store_load(struct tally_store *s);
void tally_store_second(struct tally_store *s); /* once a second: saves when it is time */
void tally_store_save_last(struct tally_store *s); /* after the loop: saves at once */
void tally_store_free(struct tally_store *s);

const struct tally *tally_store_read(const struct tally_store *s);
/* Counts what an offer has just appended, without what its outputs had already. */
void tally_store_count(struct tally_store *s, const struct intake_offer *o, uint64_t wall_ns);

#endif
