/* intake_pieces: large requests, a piece at a time. Part of step 4 of the straight line, see intake.h.
 *
 * A request is answered for as a whole, and nothing of it is stored unless all of it has room in every output; but its
 * events, rendered for four outputs, would take many times its body in memory. So its body is read twice.
 *
 *   look   Each piece is read, routed and rendered as usual, and then let go. What is left is what became of each event,
 *          the rejections, and how much room it takes in each output. A body that is refused as a whole is refused here.
 *   room   All of that room is reserved in every output, or in none (spool_reserve()): here it may wait, or be told
 *          that an output is full, as any offer.
 *   take   Each piece is read and rendered again and appended, as fast as the outputs' fill buffers empty. From here on
 *          no output can be full; only failing storage, or the end of the agent, can leave a half of it, for which the
 *          sender is told that nobody knows, and of which what it repeats by id is left out.
 *
 * Each turn of the loop takes one piece of each such offer, so that a large request does not delay the small ones. A
 * reload waits while one is half taken; one that was only looked at is looked at anew. */
#ifndef PENSTOCK_AGENT_INTAKE_PIECES_H
#define PENSTOCK_AGENT_INTAKE_PIECES_H

#include "agent/intake.h"

#define INTAKE_PIECE_BYTES (256 * 1024) /* of a body */

void intake_pieces_look(struct intake *in, struct intake_offer *o); /* it begins */
/* The configuration has changed since: it is to be looked at anew. */
bool intake_pieces_stale(const struct intake *in, const struct intake_offer *o);
/* As spool_reserve(), in every output or in none. */
MUST_USE enum err intake_pieces_reserve(struct intake_offer *o, const char **ret_text);
void intake_pieces_take(struct intake *in, struct intake_offer *o); /* it has its room */
/* Some output's fill buffer has room again. */
void intake_pieces_unblock(struct intake *in);
/* It is over, one way or another: what is left of its reservations is given back. */
void intake_pieces_leave(struct intake_offer *o);
/* Answers those that have begun to be stored in this output (NULL: any), or are still looked at if the agent stops. */
void intake_pieces_fail(struct intake *in, struct output_host *h, enum api_condition condition, const char *text);

/* --- of intake.c --- */

void intake_answer_later(struct intake *in, struct intake_offer *o, enum api_condition condition, const char *text);
void intake_await_part(struct intake_part *p);
/* It is known what its events are and where they go. */
void intake_placed(struct intake *in, struct intake_offer *o);
bool intake_try(struct intake *in, struct intake_offer *o);
void intake_arm_room_timer(struct intake *in);

#endif
