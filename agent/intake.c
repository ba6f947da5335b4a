/* intake: see intake.h. */
#include "agent/intake.h"

#include "agent/agent.h"
#include "agent/output_host.h"
#include "agent/tally_store.h"
#include "agent/tap.h"
#include "lib/base/ensure.h"
#include "lib/event/recent.h"
#include "lib/event/route.h"

#include <stdio.h>
#include <string.h>

/* Room is told of, but a spool that has some room may have too little for the offer that waits, and then knows of
 * nothing to tell: it is asked again now and then. */
#define ROOM_RETRY_MS 100
#define PART_ROOM 16 /* items, at first */
#define FETCH_AHEAD 16

/* --- 1. outputs and rendering --------------------------------------------------------------------------- */

static void refuse(struct intake_offer *o, unsigned index, enum api_reject reason, const char *text)
{
    o->counters->rejected[reason]++;
    o->too_large |= !api_reject(o->x, index, reason, text);
}

static struct intake_part *part_for(struct intake_offer *o, struct output_host *h, unsigned room)
{
    for (unsigned i = 0; i < o->part_count; i++)
        if (o->parts[i].output == h)
            return &o->parts[i];
    struct intake_part *p = &o->parts[o->part_count];
    struct api_item *items = arena_alloc(o->x->arena, room * sizeof *items);
    if (items == NULL)
        return NULL;
    *p = (struct intake_part){.offer = o, .output = h, .items = items, .room = room};
    list_init(&p->node);
    o->part_count++;
    return p;
}

/* False: the arena is full. */
static bool part_add(struct intake_part *p, const struct api_item *item)
{
    if (p->count == p->room) {
        struct api_item *bigger = arena_alloc(p->offer->x->arena, 2 * (size_t)p->room * sizeof *bigger);
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

/* Renders one event for all of its outputs or for none. */
static void place_event(struct intake *in, struct intake_offer *o, struct event *e)
{
    struct agent *a = in->agent;
    struct api_item rendered[OUTPUTS_MAX];
    struct fault why;
    const struct route *route;
    e->tallied = false;
    switch (route_event(&a->routes.table, e, span_str(o->input_name), &route)) {
    case ROUTE_SAMPLED:
        o->counters->sampled++;
        o->accepted++;
        return;
    case ROUTE_NONE:
        refuse(o, e->index, REJECT_NO_ROUTE, "no route takes this event: see `routes` in the configuration");
        return;
    case ROUTE_TO:
        break;
    }
    for (unsigned i = 0; i < route->to_count; i++) {
        struct output_host *h = a->outputs[route->to[i]];
        enum err err = h->settings->api->render(h->settings, e, o->x->arena, &rendered[i], &why);
        if (err != OK) {
            refuse(o, e->index, err == ERR_TOO_BIG ? REJECT_TOO_LARGE : REJECT_UNRENDERABLE, why.text);
            return;
        }
    }
    /* Where the first one goes the others may well go, too; an output that comes later has few. */
    unsigned room = o->part_count == 0 || o->x->event_count < PART_ROOM ? o->x->event_count : PART_ROOM;
    for (unsigned i = 0; i < route->to_count; i++) {
        struct intake_part *p = part_for(o, a->outputs[route->to[i]], room);
        rendered[i].index = e->index;
        if (p == NULL || !part_add(p, &rendered[i])) {
            o->too_large = true;
            return;
        }
    }
    o->accepted++;
}

static bool place_items(struct intake *in, struct intake_offer *o)
{
    struct agent *a = in->agent;
    struct api_exchange *x = o->x;
    const struct route *route = route_vendor(&a->routes.table, span_str(x->api->name), span_str(o->input_name));
    unsigned count = route != NULL ? route->to_count : a->output_count;
    bool any = false;
    for (unsigned i = 0; i < count; i++) {
        struct output_host *h = a->outputs[route != NULL ? route->to[i] : i];
        if (h->settings->api != x->api)
            continue;
        struct intake_part *p = part_for(o, h, x->item_count);
        if (p == NULL) {
            o->too_large = true;
            return true;
        }
        any = true;
        for (unsigned k = 0; k < x->item_count; k++)
            o->too_large |= !part_add(p, &x->items[k]);
    }
    for (unsigned k = 0; k < x->item_count; k++)
        o->accepted += x->items[k].weight;
    return any;
}

/* --- 5. answers ----------------------------------------------------------------------------------------- */

static void leave_room_queue(struct intake *in, struct intake_offer *o)
{
    if (o->state != OFFER_WAITS_ROOM)
        return;
    list_remove(&o->node);
    if (o->wait == INTAKE_WAIT_BRIEFLY)
        in->room_waiting--;
}

static void answer_later(struct intake *in, struct intake_offer *o, enum api_condition condition, const char *text)
{
    ensure(o->state != OFFER_ANSWERING && o->state != OFFER_DONE);
    leave_room_queue(in, o);
    for (unsigned i = 0; i < o->part_count; i++)
        list_remove(&o->parts[i].node);
    o->state = OFFER_ANSWERING;
    o->condition = condition;
    o->text = text;
    list_append(&in->answers, &o->node);
}

void intake_turn(struct intake *in)
{
    struct list *node;
    while ((node = list_first(&in->answers)) != NULL) {
        struct intake_offer *o = CONTAINER_OF(node, struct intake_offer, node);
        list_remove(node);
        o->state = OFFER_DONE;
        o->done(o, o->condition, o->text);
    }
}

/* --- 3. repeats ----------------------------------------------------------------------------------------- */

/* Each output has stored what it has stored: after a crash between two outputs' commits a repeat must reach the one
 * that lacks it. So the memory goes by output and id. */
static uint64_t key_in(const struct output_host *h, const struct api_item *item)
{
    uint64_t key = item->key_hash ^ h->name_hash;
    return key == 0 ? 1 : key;
}

/* Leaves out what this output has already. The memory learns what is new at once, since after this nothing can refuse
 * it, and so repeats within one request are seen as well. */
static void leave_out_repeats(struct intake *in, struct intake_part *p, bool count)
{
    struct recent *memory = &in->agent->recent;
    uint64_t now_us = clock_mono_us(&in->agent->clock);
    unsigned kept = 0;
    for (unsigned i = 0; i < p->count; i++) {
        const struct api_item *item = &p->items[i];
        if (i + FETCH_AHEAD < p->count)
            recent_fetch(memory, key_in(p->output, item + FETCH_AHEAD));
        if (item->key_hash != 0) {
            uint64_t key = key_in(p->output, item);
            if (recent_look(memory, key, item->content_hash, now_us) == RECENT_SAME) {
                p->offer->counters->duplicates += count;
                continue;
            }
            recent_put(memory, key, item->content_hash, now_us, now_us);
        }
        p->items[kept++] = *item;
    }
    p->count = kept;
}

/* Does an item carry an id that was used for other content? */
static bool conflicts(struct intake *in, const struct intake_offer *o)
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

/* --- 2. and 4. room, append, wait ----------------------------------------------------------------------- */

static enum err room_everywhere(const struct intake_offer *o, const char **ret_text)
{
    for (unsigned i = 0; i < o->part_count; i++) {
        const struct intake_part *p = &o->parts[i];
        enum err err = output_host_room(p->output, p->count, p->bytes, ret_text);
        if (err == OK)
            continue;
        /* Its spool owes us news of room now, perhaps at once: have it read. */
        output_host_touch(p->output);
        return err;
    }
    return OK;
}

static void append_part(struct intake *in, struct intake_part *p, uint64_t wall_ns)
{
    struct output_host *h = p->output;
    if (p->count > 0) {
        enum err err = output_offer(h->core, p->items, p->count, wall_ns, &p->seq);
        ensure(err == OK); /* room was made sure of in this same turn */
    } else {
        p->seq = output_mark(h->core); /* only repeats: durable when what they repeat is */
    }
    if (output_acked(h->core) >= p->seq)
        return;
    p->offer->parts_waiting++;
    list_append(&h->waiting, &p->node);
    output_host_touch(h);
    (void)in;
}

static void append_all(struct intake *in, struct intake_offer *o)
{
    uint64_t wall_ns = o->x->request != NULL ? o->x->request->wall_ns : clock_wall_ns(&in->agent->clock);
    leave_room_queue(in, o);
    o->state = OFFER_WAITS_COMMIT;
    for (unsigned i = 0; i < o->part_count; i++)
        leave_out_repeats(in, &o->parts[i], i == 0);
    for (unsigned i = 0; i < o->part_count; i++)
        append_part(in, &o->parts[i], wall_ns);
    tally_store_count(in->agent->tally, o, wall_ns);
    if (in->agent->tap != NULL)
        tap_show(in->agent, o);
    if (o->parts_waiting == 0)
        answer_later(in, o, COND_STORED, NULL);
}

static void on_room_timer(uv_timer_t *timer);

/* The oldest of those whose patience ends. */
static struct intake_offer *first_brief(struct intake *in)
{
    for (struct list *node = in->room_queue.next; node != &in->room_queue; node = node->next) {
        struct intake_offer *o = CONTAINER_OF(node, struct intake_offer, node);
        if (o->wait == INTAKE_WAIT_BRIEFLY)
            return o;
    }
    return NULL;
}

static void arm_room_timer(struct intake *in)
{
    if (list_empty(&in->room_queue) || in->timer_armed)
        return;
    uint64_t now = clock_mono_us(&in->agent->clock);
    uint64_t at = now + ROOM_RETRY_MS * US_PER_MS;
    const struct intake_offer *brief = first_brief(in);
    if (brief != NULL && brief->room_deadline_us < at)
        at = brief->room_deadline_us;
    int r = uv_timer_start(&in->room_timer, on_room_timer, at <= now ? 0 : (at - now) / 1000 + 1, 0);
    ensure(r == 0);
    in->timer_armed = true;
}

static bool may_wait(const struct intake *in, const struct intake_offer *o, enum err err)
{
    switch (o->wait) {
    case INTAKE_WAIT_NOT:
        return false;
    case INTAKE_WAIT_BRIEFLY:
        return o->state == OFFER_WAITS_ROOM || in->room_waiting < INTAKE_ROOM_WAITERS;
    case INTAKE_WAIT_DISK:
        return err == ERR_AGAIN;
    case INTAKE_WAIT_LONG:
        return true;
    }
    return false;
}

/* True when it waits no longer. */
static bool wait_for_room(struct intake *in, struct intake_offer *o, enum err err, const char *text)
{
    if (!may_wait(in, o, err)) {
        answer_later(in, o, COND_FULL, text);
        return true;
    }
    o->text = text;
    if (o->state == OFFER_WAITS_ROOM)
        return false;
    o->state = OFFER_WAITS_ROOM;
    list_append(&in->room_queue, &o->node);
    if (o->wait == INTAKE_WAIT_BRIEFLY) {
        o->room_deadline_us = clock_mono_us(&in->agent->clock) + INTAKE_ROOM_WAIT_MS * US_PER_MS;
        in->room_waiting++;
    }
    arm_room_timer(in);
    return false;
}

/* True when the offer left the state it was in. */
static bool try_append(struct intake *in, struct intake_offer *o)
{
    const char *text = NULL;
    enum err err = room_everywhere(o, &text);
    switch (err) {
    case OK:
        append_all(in, o);
        return true;
    case ERR_AGAIN:
    case ERR_FULL:
        return wait_for_room(in, o, err, text);
    case ERR_TOO_BIG:
        answer_later(in, o, COND_TOO_LARGE, text);
        return true;
    default:
        answer_later(in, o, COND_FAILED, text);
        return true;
    }
}

void intake_room(struct intake *in)
{
    struct list *node = in->room_queue.next;
    while (node != &in->room_queue) {
        struct list *next = node->next;
        (void)try_append(in, CONTAINER_OF(node, struct intake_offer, node));
        node = next;
    }
}

static void on_room_timer(uv_timer_t *timer)
{
    struct intake *in = timer->data;
    in->timer_armed = false;
    uint64_t now = clock_mono_us(&in->agent->clock);
    struct intake_offer *o;
    while ((o = first_brief(in)) != NULL && o->room_deadline_us <= now)
        answer_later(in, o, COND_FULL, o->text);
    intake_room(in);
    arm_room_timer(in);
}

void intake_offer(struct intake *in, struct intake_offer *o)
{
    struct api_exchange *x = o->x;
    ensure(o->state == OFFER_NEW);
    list_init(&o->node);
    o->accepted = 0;
    o->part_count = 0;
    o->parts_waiting = 0;
    o->parts = arena_alloc(x->arena, in->agent->output_count * sizeof *o->parts);
    if (o->parts == NULL) {
        answer_later(in, o, COND_TOO_LARGE, "the request is too large to be rendered");
        return;
    }
    o->counters->received += x->offered;
    for (unsigned i = 0; i < x->rejection_count; i++)
        o->counters->rejected[x->rejections[i].reason]++;
    if (in->agent->phase == AGENT_STOPPING) {
        answer_later(in, o, COND_STOPPING, "the agent is stopping");
        return;
    }
    if (x->events != NULL) {
        for (unsigned i = 0; i < x->event_count; i++)
            place_event(in, o, &x->events[i]);
    } else if (x->item_count > 0 && !place_items(in, o)) {
        answer_later(in, o, COND_NO_OUTPUT, "no output of this type is configured");
        return;
    }
    if (o->too_large) {
        answer_later(in, o, COND_TOO_LARGE, "the request is too large to be rendered");
        return;
    }
    if (x->api->repeat == REPEAT_REFUSE && conflicts(in, o)) {
        answer_later(in, o, COND_CONFLICT, "this id was used for other content");
        return;
    }
    (void)try_append(in, o);
}

bool intake_tight(const struct intake *in, uint64_t bytes)
{
    const char *text;
    const struct agent *a = in->agent;
    /* Rendering adds to what came; twice the body is more than any api makes of it, but for very small ones. */
    for (unsigned i = 0; i < a->output_count; i++)
        if (output_host_room(a->outputs[i], 1, 2 * bytes + 4096, &text) != OK)
            return true;
    return !list_empty(&in->room_queue);
}

void intake_count_refused(struct input_counters *n, const struct api_exchange *x)
{
    n->received += x->offered;
    for (unsigned i = 0; i < x->rejection_count; i++)
        n->rejected[x->rejections[i].reason]++;
    if (x->rejection_count < x->offered)
        n->rejected[x->answer.status == 413 ? REJECT_TOO_LARGE : REJECT_MALFORMED] += x->offered - x->rejection_count;
}

void intake_acked(struct intake *in, struct output_host *h)
{
    uint64_t acked = output_acked(h->core);
    struct list *node;
    while ((node = list_first(&h->waiting)) != NULL) {
        struct intake_part *p = CONTAINER_OF(node, struct intake_part, node);
        if (p->seq > acked)
            break;
        list_remove(node);
        if (--p->offer->parts_waiting == 0)
            answer_later(in, p->offer, COND_STORED, NULL);
    }
}

void intake_fail(struct intake *in, struct output_host *h, enum api_condition condition, const char *text)
{
    if (h != NULL) {
        struct list *node;
        while ((node = list_first(&h->waiting)) != NULL)
            answer_later(in, CONTAINER_OF(node, struct intake_part, node)->offer, condition, text);
    }
    intake_fail_room(in, h, condition, text);
}

void intake_fail_room(struct intake *in, struct output_host *h, enum api_condition condition, const char *text)
{
    struct list *node = in->room_queue.next;
    while (node != &in->room_queue) {
        struct list *next = node->next;
        struct intake_offer *o = CONTAINER_OF(node, struct intake_offer, node);
        bool concerned = h == NULL;
        for (unsigned i = 0; i < o->part_count; i++)
            concerned |= o->parts[i].output == h;
        if (concerned)
            answer_later(in, o, condition, text);
        node = next;
    }
}

void intake_forget(struct intake *in, struct intake_offer *o)
{
    if (o->state == OFFER_NEW || o->state == OFFER_DONE)
        return;
    leave_room_queue(in, o);
    list_remove(&o->node);
    for (unsigned i = 0; i < o->part_count; i++)
        list_remove(&o->parts[i].node);
    o->state = OFFER_DONE;
}

void intake_init(struct intake *in, struct agent *agent)
{
    *in = (struct intake){.agent = agent};
    list_init(&in->room_queue);
    list_init(&in->answers);
    int r = uv_timer_init(agent->loop, &in->room_timer);
    ensure(r == 0);
    in->room_timer.data = in;
}

void intake_close(struct intake *in)
{
    if (!uv_is_closing((uv_handle_t *)&in->room_timer))
        uv_close((uv_handle_t *)&in->room_timer, NULL);
}
