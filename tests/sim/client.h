/* client: what client.c and settle.c share. */
#ifndef PENSTOCK_SIM_CLIENT_H
#define PENSTOCK_SIM_CLIENT_H

#include "tests/sim/world.h"

struct flight *client_flight(struct world *w, unsigned batch);
void client_wake(struct world *w, uint64_t in_us);
/* Length and checksum of the payload that these records make; returns its hash. */
uint64_t client_payload(struct world *w, const uint64_t *seqs, unsigned count, struct spool_assignment *a);
unsigned client_runs(const uint64_t *seqs, unsigned count, struct spool_run *runs);
bool client_batch_open(const struct world *w, uint64_t no); /* in the spool */
const uint64_t *client_loaded(const struct flight *f); /* f->loaded of them */
void client_settle(struct world *w, struct flight *f); /* as its verdict says; again later when refused */

/* The spool ended or changed this batch; legal only where something was damaged or a policy dropped. */
void client_lost(struct world *w, struct flight *f);

#endif
