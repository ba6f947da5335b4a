/* intake_pieces: see intake_pieces.h. */
#include "agent/intake_pieces.h"

#include "agent/agent.h"
#include "agent/intake_place.h"
#include "agent/output_host.h"
#include "agent/tally_store.h"
#include "agent/tap.h"
#include "lib/base/ensure.h"

#define PIECE_ITEMS 512

/* --- reading -------------------------------------------------------------------------------------------- */

static void forget_reading(struct intake_offer *o)
{
    struct api_exchange *x = o->x;
    x->events = NULL;
    x->event_count = 0;
    x->items = NULL;
    x->item_count = 0;
    x->more = false;
    o->item_at = 0;
}

static void from_the_beginning(struct intake *in, struct intake_offer *o, bool again)
{
    struct api_exchange *x = o->x;
    forget_reading(o);
    x->piece_bytes = INTAKE_PIECE_BYTES;
    x->reading = NULL;
    x->again = again;
    x->offered = 0;
    x->more = true;
    list_append(&in->large, &o->node);
    agent_wake(in->agent);
}

/* What an api reads in pieces lies in the scratch arena and is used up at once; what it reads in one go is kept, and
 * handed out in pieces. */
static void read_on(struct intake *in, struct intake_offer *o)
{
    struct api_exchange *x = o->x;
    forget_reading(o);
    x->arena = x->path->pieces ? &in->scratch : x->keep;
    x->settings = agent_settings_of(in->agent, x->api);
    x->api->read(x);
}

static void clear_parts(struct intake_offer *o)
{
    for (unsigned i = 0; i < o->part_count; i++) {
        o->parts[i].count = 0;
        if (o->x->path->pieces) /* they lay in the scratch arena */
            o->parts[i].items = NULL;
    }
}

/* The next of what was read, into the parts of its outputs. False: there is no more of it. */
static bool place_next(struct intake *in, struct intake_offer *o)
{
    struct api_exchange *x = o->x;
    clear_parts(o);
    if (x->events != NULL) {
        bool some = o->item_at < x->event_count;
        o->item_at = x->event_count;
        if (some)
            intake_place_events(in, o);
        return some;
    }
    unsigned count = 0;
    uint64_t bytes = 0;
    for (; o->item_at + count < x->item_count && count < PIECE_ITEMS && bytes < INTAKE_PIECE_BYTES; count++)
        bytes += x->items[o->item_at + count].body.len;
    if (count == 0)
        return false;
    o->placed |= intake_place_items(in, o, x->items + o->item_at, count);
    o->homeless |= !o->placed;
    o->item_at += count;
    return true;
}

/* --- look ----------------------------------------------------------------------------------------------- */

void intake_pieces_look(struct intake *in, struct intake_offer *o)
{
    ensure(o->x->keep != NULL);
    o->state = OFFER_LOOKS;
    o->seen = in->generation;
    o->part_count = 0;
    o->accepted = o->sampled = 0;
    o->placed = o->homeless = o->conflict = false;
    o->x->rejection_count = 0;
    from_the_beginning(in, o, false);
}

bool intake_pieces_stale(const struct intake *in, const struct intake_offer *o)
{
    return o->seen != in->generation;
}

/* The api has the answer without anything being stored, or the request is for the upstream alone. */
static void answered_by_api(struct intake_offer *o)
{
    list_remove(&o->node);
    o->state = OFFER_DONE;
    o->done(o, COND_STORED, NULL);
}

static void looked_through(struct intake *in, struct intake_offer *o)
{
    clear_parts(o);
    list_remove(&o->node);
    intake_placed(in, o);
}

static void look_step(struct intake *in, struct intake_offer *o)
{
    struct api_exchange *x = o->x;
    if (intake_pieces_stale(in, o)) {
        list_remove(&o->node);
        intake_pieces_look(in, o);
    }
    arena_reset(&in->scratch);
    read_on(in, o);
    if (x->answer.status != 0 || x->pass_on) {
        answered_by_api(o);
        return;
    }
    while (place_next(in, o)) {
        o->conflict |= x->api->repeat == REPEAT_REFUSE && intake_conflicts(in, o);
        for (unsigned i = 0; i < o->part_count; i++)
            o->parts[i].whole_count += o->parts[i].count;
    }
    if (o->too_large || !x->more)
        looked_through(in, o);
}

/* --- room ----------------------------------------------------------------------------------------------- */

static void unreserve(struct intake_part *p)
{
    if (p->reserved > 0)
        output_unreserve(p->output->core, p->reserved);
    p->reserved = 0;
}

enum err intake_pieces_reserve(struct intake_offer *o, const char **ret_text)
{
    for (unsigned i = 0; i < o->part_count; i++) {
        struct intake_part *p = &o->parts[i];
        if (p->whole_count == 0)
            continue;
        enum err err = output_host_reserve(p->output, p->whole_count, p->bytes, &p->reserved, ret_text);
        if (err == OK)
            continue;
        while (i-- > 0)
            unreserve(&o->parts[i]);
        output_host_touch(p->output); /* it owes us news of room */
        return err;
    }
    return OK;
}

/* --- take ----------------------------------------------------------------------------------------------- */

void intake_pieces_take(struct intake *in, struct intake_offer *o)
{
    o->state = OFFER_TAKES;
    o->blocked = false;
    o->part_at = o->part_count;
    for (unsigned i = 0; i < o->part_count; i++)
        o->parts[i].seq = 0;
    if (o->x->path->pieces) {
        from_the_beginning(in, o, true);
        return;
    }
    o->x->again = true; /* what was read is still there */
    o->item_at = 0;
    list_append(&in->large, &o->node);
    agent_wake(in->agent);
}

static void taken(struct intake *in, struct intake_offer *o)
{
    list_remove(&o->node);
    o->state = OFFER_WAITS_COMMIT;
    clear_parts(o);
    for (unsigned i = 0; i < o->part_count; i++) {
        struct intake_part *p = &o->parts[i];
        unreserve(p);
        if (p->whole_count == 0)
            continue;
        if (p->seq == 0) /* only repeats: durable when what they repeat is */
            p->seq = output_mark(p->output->core);
        intake_await_part(p);
    }
    if (o->parts_waiting == 0)
        intake_answer_later(in, o, COND_STORED, NULL);
}

static void take_repeats_out(struct intake *in, struct intake_offer *o)
{
    for (unsigned i = 0; i < o->part_count; i++)
        intake_leave_out_repeats(in, &o->parts[i], i == 0);
}

/* An event that is more than a piece goes to one output after the other, each when the one before has written it: a copy
 * for each would be too much at once. What lies in the scratch arena cannot wait. */
static bool goes_alone(const struct intake_offer *o, const struct intake_part *p)
{
    return p->count == 1 && p->items[0].body.len > INTAKE_PIECE_BYTES && !o->x->path->pieces;
}

/* False: it was answered, since storage failed. */
static bool append_parts(struct intake *in, struct intake_offer *o)
{
    uint64_t wall_ns = o->x->request->wall_ns;
    const struct intake_part *last = NULL;
    while (o->part_at < o->part_count && (last == NULL || !goes_alone(o, last))) {
        struct intake_part *p = &o->parts[o->part_at++];
        if (p->count == 0)
            continue;
        enum err err =
            output_offer_reserved(p->output->core, p->items, p->count, wall_ns, &p->reserved, &p->seq);
        output_host_touch(p->output);
        if (err != OK) {
            intake_answer_later(in, o, COND_FAILED, "storage failed");
            return false;
        }
        last = p;
    }
    if (o->part_at < o->part_count)
        return true;
    tally_store_count(in->agent->tally, o, wall_ns);
    if (in->agent->tap != NULL)
        tap_show(in->agent, o);
    return true;
}

/* Reads and places the next piece, if there is one. */
static void take_next(struct intake *in, struct intake_offer *o)
{
    struct api_exchange *x = o->x;
    arena_reset(&in->scratch);
    bool some = !x->path->pieces && place_next(in, o);
    if (!some && x->more) {
        read_on(in, o);
        ensure(x->answer.status == 0); /* it read the same bytes before */
        some = place_next(in, o);
    }
    if (!some)
        return;
    take_repeats_out(in, o);
    o->part_at = 0;
}

/* ERR_AGAIN: some fill buffer has enough for now. */
static enum err room_for_piece(const struct intake_offer *o)
{
    for (unsigned i = 0; i < o->part_count; i++) {
        const struct intake_part *p = &o->parts[i];
        struct output_host *h = p->output;
        enum err err = p->whole_count == 0 ? OK : output_room_reserved(h->core);
        if (err == OK && i < o->part_at && goes_alone(o, p) && output_acked(h->core) < p->seq)
            err = ERR_AGAIN;
        if (err == OK)
            continue;
        output_host_touch(h);
        return err;
    }
    return OK;
}

static void take_step(struct intake *in, struct intake_offer *o)
{
    struct api_exchange *x = o->x;
    switch (room_for_piece(o)) {
    case OK:
        break;
    case ERR_AGAIN:
        o->blocked = true;
        intake_arm_room_timer(in);
        return;
    default:
        intake_answer_later(in, o, COND_FAILED, "storage failed");
        return;
    }
    if (o->part_at == o->part_count)
        take_next(in, o);
    if (o->part_at < o->part_count && !append_parts(in, o))
        return;
    if (o->part_at == o->part_count && !x->more && (x->path->pieces || o->item_at >= x->item_count))
        taken(in, o);
}

/* --- all of them ---------------------------------------------------------------------------------------- */

void intake_step(struct intake *in)
{
    struct list todo, *node;
    list_take_all(&in->large, &todo);
    while ((node = list_first(&todo)) != NULL) {
        struct intake_offer *o = CONTAINER_OF(node, struct intake_offer, node);
        list_remove(node);
        list_append(&in->large, node);
        if (o->state == OFFER_TAKES && !o->blocked)
            take_step(in, o);
        else if (o->state == OFFER_LOOKS && !in->held)
            look_step(in, o);
    }
}

bool intake_steps(const struct intake *in)
{
    for (const struct list *node = in->large.next; node != &in->large; node = node->next) {
        const struct intake_offer *o = CONTAINER_OF(node, const struct intake_offer, node);
        if (o->state == OFFER_TAKES ? !o->blocked : !in->held)
            return true;
    }
    return false;
}

bool intake_taking(const struct intake *in)
{
    for (const struct list *node = in->large.next; node != &in->large; node = node->next)
        if (CONTAINER_OF(node, const struct intake_offer, node)->state == OFFER_TAKES)
            return true;
    return false;
}

void intake_hold(struct intake *in, bool on)
{
    in->held = on;
    if (!on && !list_empty(&in->large))
        agent_wake(in->agent);
}

void intake_pieces_unblock(struct intake *in)
{
    for (struct list *node = in->large.next; node != &in->large; node = node->next)
        CONTAINER_OF(node, struct intake_offer, node)->blocked = false;
    if (!list_empty(&in->large))
        agent_wake(in->agent);
}

void intake_pieces_leave(struct intake_offer *o)
{
    for (unsigned i = 0; o->in_pieces && i < o->part_count; i++)
        unreserve(&o->parts[i]);
}

static bool is_concerned(const struct intake_offer *o, const struct output_host *h)
{
    if (o->state == OFFER_LOOKS || h == NULL)
        return o->state == OFFER_LOOKS && h == NULL;
    for (unsigned i = 0; i < o->part_count; i++)
        if (o->parts[i].output == h)
            return true;
    return false;
}

void intake_pieces_fail(struct intake *in, struct output_host *h, enum api_condition condition, const char *text)
{
    struct list *node = in->large.next;
    while (node != &in->large) {
        struct intake_offer *o = CONTAINER_OF(node, struct intake_offer, node);
        node = node->next;
        if (is_concerned(o, h))
            intake_answer_later(in, o, condition, text);
    }
}
