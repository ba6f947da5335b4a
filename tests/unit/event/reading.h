/* reading: what the tests of lib/event read events with: a fixed time, a fixed name, entropy that counts. */
#ifndef PENSTOCK_TESTS_EVENT_READING_H
#define PENSTOCK_TESTS_EVENT_READING_H

#include "lib/event/cloudevents.h"

#define WALL_NS UINT64_C(1777885953004000000) /* 2026-05-04T09:12:33.004Z */

static inline void fill_counting(void *ctx, void *into, size_t len)
{
    static uint8_t next;
    (void)ctx;
    for (size_t i = 0; i < len; i++)
        ((uint8_t *)into)[i] = next++;
}

struct reading {
    struct arena arena;
    struct uuid_source uuids;
    struct event_reading in;
};

static inline void reading_init(struct reading *r)
{
    arena_init(&r->arena, 65536, 64 << 20);
    uuid_source_init(&r->uuids, (struct entropy){.fill = fill_counting});
    r->in = (struct event_reading){
        .agent_name = SPAN("web-1"), .wall_ns = WALL_NS, .uuids = &r->uuids, .arena = &r->arena};
}

static inline void reading_deinit(struct reading *r)
{
    arena_deinit(&r->arena);
}

#endif
