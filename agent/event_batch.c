/* event_batch: see event_batch.h. */
#include "agent/event_batch.h"

#include "agent/agent.h"
#include "agent/input.h"
#include "lib/base/ensure.h"
#include "lib/config/config.h"

#define ARENA_BLOCK_BYTES (8 * 1024)
#define EVENTS_FIRST 8
#define EVENT_BYTES_LIKELY 256 /* at least; what is smaller costs a copy of the list as it grows */
#define EVENTS_EXPECTED_MAX 256

void event_batch_init(struct event_batch *b, size_t arena_bytes_max)
{
    *b = (struct event_batch){0};
    arena_init(&b->arena, ARENA_BLOCK_BYTES, arena_bytes_max);
}

void event_batch_deinit(struct event_batch *b)
{
    arena_deinit(&b->arena);
}

void event_batch_begin(struct event_batch *b, struct agent *a)
{
    static const struct api *neutral;
    if (neutral == NULL)
        neutral = api_find(SPAN("cloudevents"));
    ensure(neutral != NULL);
    arena_reset(&b->arena);
    b->event_room = 0;
    b->events_first = EVENTS_FIRST;
    b->x = (struct api_exchange){
        .api = neutral, .arena = &b->arena, .agent_name = a->config->agent.name, .uuids = a->uuids};
    b->offer = (struct intake_offer){0};
    b->reading = (struct event_reading){.agent_name = span_str(a->config->agent.name),
                                        .wall_ns = clock_wall_ns(&a->clock),
                                        .uuids = a->uuids,
                                        .arena = &b->arena};
}

void event_batch_expect(struct event_batch *b, size_t bytes)
{
    size_t events = bytes / EVENT_BYTES_LIKELY + 1;
    if (events > EVENTS_FIRST)
        b->events_first = events > EVENTS_EXPECTED_MAX ? EVENTS_EXPECTED_MAX : (unsigned)events;
}

struct event *event_batch_next(struct event_batch *b)
{
    struct api_exchange *x = &b->x;
    if (x->event_count == b->event_room) {
        unsigned room = b->event_room == 0 ? b->events_first : b->event_room * 2;
        struct event *bigger = arena_alloc(&b->arena, room * sizeof *bigger);
        if (bigger == NULL)
            return NULL;
        if (x->event_count > 0)
            memcpy(bigger, x->events, x->event_count * sizeof *bigger);
        x->events = bigger;
        b->event_room = room;
    }
    return &x->events[x->event_count];
}

void event_batch_keep(struct event_batch *b)
{
    ensure(b->x.event_count < b->event_room);
    b->x.events[b->x.event_count++].index = b->x.offered++;
}

enum err event_batch_line(struct event_batch *b, struct span line)
{
    struct fault why;
    struct event *e = event_batch_next(b);
    if (e == NULL)
        return ERR_TOO_BIG;
    enum err err = event_read_line(&b->reading, line, e, &why);
    if (err == OK) {
        event_batch_keep(b);
        return OK;
    }
    if (err == ERR_TOO_BIG || !api_reject(&b->x, b->x.offered, REJECT_MALFORMED, why.text))
        return ERR_TOO_BIG;
    b->x.offered++;
    return OK;
}

void event_batch_offer(struct event_batch *b, struct input *in, enum intake_wait wait,
                       void (*done)(struct intake_offer *offer, enum api_condition condition,
                                    const char *text),
                       void *ctx)
{
    b->offer = (struct intake_offer){.x = &b->x,
                                     .counters = &in->counters,
                                     .input_name = in->config->name,
                                     .wait = wait,
                                     .done = done,
                                     .ctx = ctx};
    intake_offer(&in->agent->intake, &b->offer);
}
