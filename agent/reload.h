/* reload: the configuration file is read again, judged whole beside the running one, and switched to in one step.
 *
 *   loading:  a pool thread reads and judges the file; nothing has changed yet
 *   judging:  new addresses are bound, new outputs made, new inputs begin to listen. Any fault: all that is undone,
 *             the old goes on untouched
 *   switch:   within one turn of the loop: the tables of outputs, inputs and routes, and the agent's settings
 *   settling: outputs that changed or went finish what is in flight and close; those that changed open again on the same
 *             spool. Their senders wait a moment, or are told to come back
 *
 * What did not change is the same object before and after, with its connections. One reload runs at a time; those asked
 * for meanwhile are one more, after it. */
#ifndef PENSTOCK_AGENT_RELOAD_H
#define PENSTOCK_AGENT_RELOAD_H

#include "lib/base/bytes.h"

#include <stdbool.h>
#include <stdint.h>

struct agent;
struct reload;

struct reload *reload_new(struct agent *a);
void reload_free(struct reload *r);
/* Asks for a reload that reads the file from now on. Answers the round that it will be. */
uint64_t reload_ask(struct reload *r);
/* Is that round over? Then what there is to answer: 200 with what changed, 422 with the faults, or 503. */
bool reload_answer(const struct reload *r, uint64_t round, unsigned *ret_status, struct span *ret_body);
void reload_step(struct reload *r); /* once per turn */

#endif
