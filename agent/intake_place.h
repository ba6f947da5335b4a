/* intake_place: where the events of an offer go. Part of step 4 of the straight line, see intake.h: routes are asked and
 * the outputs' apis render, and what an output has stored already is left out. For intake.c and intake_pieces.c. */
#ifndef PENSTOCK_AGENT_INTAKE_PLACE_H
#define PENSTOCK_AGENT_INTAKE_PLACE_H

#include "agent/intake.h"

/* The neutral events of the exchange, each into the parts of its outputs or, refused, into none. */
void intake_place_events(struct intake *in, struct intake_offer *o);
/* Items of a vendor's request into the parts of that vendor's outputs; one that a spool could never hold is refused. False:
 * there is no such output. */
bool intake_place_items(struct intake *in, struct intake_offer *o, const struct api_item *items, unsigned count);

/* Leaves out what this output has already. The memory learns what is new at once, since after this nothing can refuse
 * it, and so repeats within one request are seen as well. */
void intake_leave_out_repeats(struct intake *in, struct intake_part *p, bool count);
/* Does an item carry an id that was used for other content? */
bool intake_conflicts(struct intake *in, const struct intake_offer *o);

#endif
