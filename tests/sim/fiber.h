/* fiber: a spool job that can be stopped between any two of its disk calls.
 *
 * A job is a straight list of blocking calls. Each runs on a stack of its own, so that the simulator may
 * let it rest in the middle, run other things, go on later, or never go on because the process died. */
#ifndef PENSTOCK_SIM_FIBER_H
#define PENSTOCK_SIM_FIBER_H

#include <stdbool.h>

struct fiber;

/* Stacks are kept for the next one. */
struct fiber *fiber_new(void (*run)(void *arg), void *arg);
bool fiber_resume(struct fiber *f); /* runs it until it rests or ends; true when it has ended */
void fiber_rest(void);              /* called inside a fiber: back to whoever resumed it */
bool fiber_inside(void);            /* are we running in one? */
void fiber_drop(struct fiber *f);   /* ended, or never to be resumed */

#endif
