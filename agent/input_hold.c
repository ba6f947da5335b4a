/* input_hold: see input_hold.h. */
#include "agent/input_hold.h"

#include "agent/agent.h"
#include "agent/input_stream.h"
#include "lib/base/ensure.h"

static struct input_hold *hold_of(const struct stream_conn *c)
{
    return &c->input->input.agent->hold;
}

void input_hold_init(struct input_hold *h)
{
    *h = (struct input_hold){0};
    list_init(&h->waiting);
}

static size_t held_by(const struct stream_conn *c)
{
    return c->lines.held.len + (c->forward == NULL ? 0 : forward_held(c->forward));
}

/* What came whole is out of its sender's hands: reading more does not free it. */
static bool is_parked(const struct stream_conn *c)
{
    return c->in_message || c->blocked != NULL;
}

static bool allows(struct input_hold *h, struct stream_conn *c)
{
    if (h->bytes < HOLD_BYTES || h->favoured == c)
        return true;
    /* Whoever got done now would only be parked as well. */
    if (h->parked >= HOLD_PARKED)
        return false;
    if (c->held < HOLD_LITTLE)
        return true;
    if (h->favoured != NULL)
        return false;
    h->favoured = c;
    h->progress_us = clock_mono_us(&c->input->input.agent->clock);
    return true;
}

/* `without`: it is being taken care of by its own caller. */
static void let_read(struct input_hold *h, const struct stream_conn *without)
{
    struct list *node = h->waiting.next;
    while (node != &h->waiting) {
        struct stream_conn *c = CONTAINER_OF(node, struct stream_conn, paused);
        node = node->next;
        if (!allows(h, c))
            continue;
        list_remove(&c->paused);
        if (c != without)
            stream_watch(c);
    }
}

/* Who was let go and found the room taken before it could read keeps its place: else the unlucky wait for ever. */
static void wait_in_turn(struct input_hold *h, struct stream_conn *c)
{
    if (c->hold_ticket == 0)
        c->hold_ticket = ++h->tickets;
    struct list *node = h->waiting.prev;
    while (node != &h->waiting && CONTAINER_OF(node, struct stream_conn, paused)->hold_ticket > c->hold_ticket)
        node = node->prev;
    list_insert_before(node->next, &c->paused);
}

bool input_hold_may_read(struct stream_conn *c)
{
    struct input_hold *h = hold_of(c);
    if (allows(h, c)) {
        c->hold_ticket = 0;
        return true;
    }
    c->input->input.counters.paused++;
    wait_in_turn(h, c);
    return false;
}

void input_hold_progress(struct stream_conn *c, size_t bytes)
{
    struct input_hold *h = hold_of(c);
    if (h->favoured == c && bytes >= HOLD_PROGRESS)
        h->progress_us = clock_mono_us(&c->input->input.agent->clock);
}

static void set_held(struct input_hold *h, struct stream_conn *c, size_t held, bool parked)
{
    ensure(h->bytes >= c->held && h->parked >= (c->held_parked ? c->held : 0));
    h->bytes += held - c->held;
    h->parked -= c->held_parked ? c->held : 0;
    h->parked += parked ? held : 0;
    c->held = held;
    c->held_parked = parked;
}

void input_hold_count(struct stream_conn *c)
{
    struct input_hold *h = hold_of(c);
    size_t held = held_by(c), before = c->held;
    bool parked = is_parked(c);
    if (held == before && parked == c->held_parked)
        return;
    set_held(h, c, held, parked);
    bool got_done = h->favoured == c && (parked || held < before);
    if (got_done)
        h->favoured = NULL;
    if (held < before || got_done)
        let_read(h, c);
}

void input_hold_leave(struct stream_conn *c)
{
    struct input_hold *h = hold_of(c);
    list_remove(&c->paused);
    set_held(h, c, 0, false);
    if (h->favoured == c)
        h->favoured = NULL;
    let_read(h, c);
}

bool input_hold_stalled(const struct stream_conn *c)
{
    const struct input_hold *h = hold_of(c);
    return h->favoured == c && !is_parked(c) && !list_empty(&h->waiting) &&
           clock_mono_us(&c->input->input.agent->clock) >= h->progress_us + HOLD_STALL_US;
}
