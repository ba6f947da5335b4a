/* intake_place: see intake_place.h. */
#include "agent/intake_place.h"

#include "agent/agent.h"
#include "agent/output_host.h"
#include "lib/config/config.h"
#include "lib/event/recent.h"
#include "lib/event/route.h"

#include <string.h>

#define FATES_FIRST 1024
#define PART_ROOM 16 /* items, at first */
#define FETCH_AHEAD 16
#define NAME_BYTES_MAX 1024 /* of a partition, and of an id: what a record of the spool has room for */

/* --- outputs and rendering ------------------------------------------------------------------------------ */

static void refuse(struct intake_offer *o, unsigned index, enum api_reject reason, const char *text)
{
    o->too_large |= !api_reject(o->x, index, reason, text);
}

static struct arena *arena_of(struct intake *in, const struct intake_offer *o)
{
    return o->in_pieces && o->x->path->pieces ? &in->scratch : o->x->arena;
}

static struct intake_part *part_for(struct intake *in, struct intake_offer *o, struct output_host *h, unsigned room)
{
    struct intake_part *p = NULL;
    for (unsigned i = 0; i < o->part_count && p == NULL; i++)
        if (o->parts[i].output == h)
            p = &o->parts[i];
    if (p == NULL) {
        p = &o->parts[o->part_count++];
        *p = (struct intake_part){.offer = o, .output = h};
        list_init(&p->node);
    }
    if (p->items == NULL) {
        p->items = arena_alloc(arena_of(in, o), room * sizeof *p->items);
        p->room = room;
    }
    return p->items == NULL ? NULL : p;
}

/* False: the arena is full. */
static bool part_add(struct intake *in, struct intake_part *p, const struct api_item *item)
{
    if (p->count == p->room) {
        struct api_item *bigger = arena_alloc(arena_of(in, p->offer), 2 * (size_t)p->room * sizeof *bigger);
        if (bigger == NULL)
            return false;
        memcpy(bigger, p->items, p->count * sizeof *bigger);
        p->items = bigger;
        p->room *= 2;
    }
    p->items[p->count++] = *item;
    p->bytes += item->body.len + item->id.len + item->partition.len + 32;
    return true;
}

/* What became of an event when the request was first read: its route, or one of these. */
enum { FATE_REFUSED, FATE_SAMPLED, FATE_ROUTES };

static void set_fate(struct intake_offer *o, unsigned index, uint32_t fate)
{
    if (!o->in_pieces)
        return;
    while (index >= o->fate_room) {
        unsigned room = o->fate_room == 0 ? FATES_FIRST : o->fate_room * 2;
        uint32_t *bigger = arena_alloc(api_keep(o->x), room * sizeof *bigger);
        if (bigger == NULL) {
            o->too_large = true;
            return;
        }
        memset(bigger, 0, room * sizeof *bigger);
        if (o->fate_room > 0)
            memcpy(bigger, o->fates, o->fate_room * sizeof *bigger);
        o->fates = bigger;
        o->fate_room = room;
    }
    o->fates[index] = fate;
}

/* Sampling throws its dice once: when the request is read again they lie as they fell. */
static const struct route *route_again(const struct agent *a, const struct intake_offer *o, struct event *e)
{
    uint32_t fate = e->index < o->fate_room ? o->fates[e->index] : FATE_REFUSED;
    if (fate < FATE_ROUTES || fate - FATE_ROUTES >= a->routes.table.count)
        return NULL;
    const struct route *route = &a->routes.table.routes[fate - FATE_ROUTES];
    if (route->sample > 1)
        event_multiply_sampledrate(e, route->sample);
    return route;
}

static const struct route *route_of(struct agent *a, struct intake_offer *o, struct event *e)
{
    const struct route *route;
    if (o->x->again)
        return route_again(a, o, e);
    switch (route_event(&a->routes.table, e, span_str(o->input_name), &route)) {
    case ROUTE_SAMPLED:
        o->sampled++;
        o->accepted++;
        set_fate(o, e->index, FATE_SAMPLED);
        return NULL;
    case ROUTE_NONE:
        refuse(o, e->index, REJECT_NO_ROUTE, "no_route: no output is meant for this event; see `routes` in the configuration");
        return NULL;
    case ROUTE_TO:
        set_fate(o, e->index, FATE_ROUTES + (uint32_t)(route - a->routes.table.routes));
        return route;
    }
    return NULL;
}

/* Why a spool whose records may have `bytes_max` cannot take the item; NULL: it can. */
static const char *item_fault(const struct api_item *item, uint64_t bytes_max)
{
    if (item->id.len > NAME_BYTES_MAX)
        return "id: longer than 1024 bytes";
    if (item->partition.len > NAME_BYTES_MAX)
        return "partition: longer than 1024 bytes";
    return item->body.len > bytes_max ? "larger than the spool can take (a quarter of spool.segment_bytes)" : NULL;
}

/* Renders one event for all of its outputs or for none. */
static void place_event(struct intake *in, struct intake_offer *o, struct event *e)
{
    struct agent *a = in->agent;
    struct api_item rendered[OUTPUTS_MAX];
    struct fault why;
    e->tallied = false;
    const struct route *route = route_of(a, o, e);
    if (route == NULL)
        return;
    for (unsigned i = 0; i < route->to_count; i++) {
        struct output_host *h = a->outputs[route->to[i]];
        enum err err = h->settings->api->render(h->settings, e, o->x->arena, &rendered[i], &why);
        const char *fault = err == OK ? item_fault(&rendered[i], h->config->spool.record_bytes) : NULL;
        if (fault != NULL)
            err = fault_set(&why, ERR_TOO_BIG, "%s", fault);
        if (err != OK) {
            refuse(o, e->index, err == ERR_TOO_BIG ? REJECT_TOO_LARGE : REJECT_UNRENDERABLE, why.text);
            set_fate(o, e->index, FATE_REFUSED);
            return;
        }
    }
    /* Where the first one goes the others may well go, too; an output that comes later has few. */
    unsigned room = o->part_count == 0 || o->x->event_count < PART_ROOM ? o->x->event_count : PART_ROOM;
    for (unsigned i = 0; i < route->to_count; i++) {
        struct intake_part *p = part_for(in, o, a->outputs[route->to[i]], room);
        rendered[i].index = e->index;
        if (p == NULL || !part_add(in, p, &rendered[i])) {
            o->too_large = true;
            return;
        }
    }
    o->accepted += !o->x->again;
}

void intake_place_events(struct intake *in, struct intake_offer *o)
{
    for (unsigned i = 0; i < o->x->event_count; i++)
        place_event(in, o, &o->x->events[i]);
}

/* The outputs that take a vendor's requests: the next at or behind *at, or NULL. */
static struct output_host *next_of_api(const struct agent *a, const struct route *route, const struct api *api, unsigned *at)
{
    unsigned outputs = route != NULL ? route->to_count : a->output_count;
    while (*at < outputs) {
        struct output_host *h = a->outputs[route != NULL ? route->to[*at] : *at];
        ++*at;
        if (h->settings->api == api)
            return h;
    }
    return NULL;
}

/* An item that one of them has no room for, ever, goes to none. */
static void refuse_unfit(struct intake_offer *o, const struct api_item *items, unsigned count, uint64_t bytes_max)
{
    for (unsigned k = 0; k < count; k++) {
        const char *fault = item_fault(&items[k], bytes_max);
        for (unsigned n = 0; fault != NULL && n < items[k].weight; n++)
            refuse(o, items[k].index + n, REJECT_TOO_LARGE, fault);
        if (fault == NULL && !o->x->again)
            o->accepted += items[k].weight;
    }
}

bool intake_place_items(struct intake *in, struct intake_offer *o, const struct api_item *items, unsigned count)
{
    struct agent *a = in->agent;
    struct api_exchange *x = o->x;
    const struct route *route = route_vendor(&a->routes.table, span_str(x->api->name), span_str(o->input_name));
    struct output_host *h;
    uint64_t bytes_max = UINT64_MAX;
    for (unsigned i = 0; (h = next_of_api(a, route, x->api, &i)) != NULL;)
        if (h->config->spool.record_bytes < bytes_max)
            bytes_max = h->config->spool.record_bytes;
    if (bytes_max == UINT64_MAX)
        return false;
    refuse_unfit(o, items, count, bytes_max);
    for (unsigned i = 0; (h = next_of_api(a, route, x->api, &i)) != NULL;) {
        struct intake_part *p = part_for(in, o, h, count);
        if (p == NULL) {
            o->too_large = true;
            return true;
        }
        for (unsigned k = 0; k < count; k++)
            if (item_fault(&items[k], bytes_max) == NULL)
                o->too_large |= !part_add(in, p, &items[k]);
    }
    return true;
}

/* --- repeats -------------------------------------------------------------------------------------------- */

/* Each output has stored what it has stored: after a crash between two outputs' commits a repeat must reach the one
 * that lacks it. So the memory goes by output and id. */
static uint64_t key_in(const struct output_host *h, const struct api_item *item)
{
    uint64_t key = item->key_hash ^ h->name_hash;
    return key == 0 ? 1 : key;
}

void intake_leave_out_repeats(struct intake *in, struct intake_part *p, bool count)
{
    struct recent *memory = &in->agent->recent;
    uint64_t now_us = clock_mono_us(&in->agent->clock);
    unsigned kept = 0;
    for (unsigned i = 0; i < p->count; i++) {
        const struct api_item *item = &p->items[i];
        if (i + FETCH_AHEAD < p->count)
            recent_fetch(memory, key_in(p->output, item + FETCH_AHEAD));
        if (item->key_hash != 0 &&
            recent_put(memory, key_in(p->output, item), item->content_hash, now_us, now_us)) {
            p->offer->counters->duplicates += count;
            continue;
        }
        p->items[kept++] = *item;
    }
    p->count = kept;
}

bool intake_conflicts(struct intake *in, const struct intake_offer *o)
{
    uint64_t now_us = clock_mono_us(&in->agent->clock);
    for (unsigned i = 0; i < o->part_count; i++)
        for (unsigned k = 0; k < o->parts[i].count; k++) {
            const struct api_item *item = &o->parts[i].items[k];
            if (item->key_hash != 0 && recent_look(&in->agent->recent, key_in(o->parts[i].output, item),
                                                   item->content_hash, now_us) == RECENT_DIFFERENT)
                return true;
        }
    return false;
}
