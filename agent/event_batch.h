/* event_batch: neutral events that came together by a socket, and the one offer that is made of them. Between
 * steps 1 and 4 of the straight line: the stream and datagram inputs fill a batch, intake takes it.
 *
 * A batch is one arena and everything that lies in it. Its events point into the arena or into the bytes that
 * they were read from; those have to stay only until intake has room for the offer, which is at once unless
 * the offer's state says OFFER_WAITS_ROOM. */
#ifndef PENSTOCK_AGENT_EVENT_BATCH_H
#define PENSTOCK_AGENT_EVENT_BATCH_H

#include "agent/intake.h"
#include "lib/event/cloudevents.h"

struct agent;
struct input;

struct event_batch {
    struct arena arena;
    struct api_exchange x;
    struct intake_offer offer;
    struct event_reading reading;
    unsigned event_room, events_first;
};

void event_batch_init(struct event_batch *b, size_t arena_bytes_max);
void event_batch_deinit(struct event_batch *b);
/* Empties it for the next use. */
void event_batch_begin(struct event_batch *b, struct agent *a);
/* So many bytes were read and will become events: spares copying them as their number grows. */
void event_batch_expect(struct event_batch *b, size_t bytes);
/* Room for one more event, good until the next call; NULL when the arena is full. */
struct event *event_batch_next(struct event_batch *b);
/* The event in that room is part of the batch. */
void event_batch_keep(struct event_batch *b);
/* One line, as an event or as a rejection. ERR_TOO_BIG, and nothing is added, when the arena is full. */
MUST_USE enum err event_batch_line(struct event_batch *b, struct span line);
/* Hands it to intake; done() follows with ctx in offer->ctx. */
void event_batch_offer(struct event_batch *b, struct input *in, enum intake_wait wait,
                       void (*done)(struct intake_offer *offer, enum api_condition condition,
                                    const char *text),
                       void *ctx);

#endif
