/* intake: see intake.h. */
#include "agent/intake.h"

#include "agent/intake_pieces.h"
#include "agent/intake_place.h"

#include "agent/agent.h"
#include "agent/output_host.h"
#include "agent/tally_store.h"
#include "agent/tap.h"
#include "lib/base/ensure.h"

/* Room is told of, but a spool that has some room may have too little for the offer that waits, and then knows of
 * nothing to tell: it is asked again now and then. */
#define ROOM_RETRY_MS 100
#define SCRATCH_BLOCK_BYTES (64 * 1024)
#define SCRATCH_BYTES_MAX (64 * 1024 * 1024) /* a single event can be as large as a body, and is rendered for each output */

/* --- 5. answers ----------------------------------------------------------------------------------------- */

static void leave_room_queue(struct intake *in, struct intake_offer *o)
{
    if (o->state != OFFER_WAITS_ROOM)
        return;
    list_remove(&o->node);
    if (o->wait == INTAKE_WAIT_BRIEFLY)
        in->room_waiting--;
}

static void leave_parts(struct intake_offer *o)
{
    list_remove(&o->node);
    for (unsigned i = 0; i < o->part_count; i++)
        list_remove(&o->parts[i].node);
    intake_pieces_leave(o);
}

void intake_answer_later(struct intake *in, struct intake_offer *o, enum api_condition condition, const char *text)
{
    ensure(o->state != OFFER_ANSWERING && o->state != OFFER_DONE);
    leave_room_queue(in, o);
    leave_parts(o);
    o->state = OFFER_ANSWERING;
    o->condition = condition;
    o->text = text;
    list_append(&in->answers, &o->node);
}

/* What was not rejected by itself shares the fate of the whole. Failing storage and the end of the agent are not
 * counted where the sender hears of them and comes again; nobody sends a datagram twice. */
static void count_refused_whole(const struct intake_offer *o)
{
    uint64_t left = o->x->offered - o->x->rejection_count - o->sampled;
    if (o->condition == COND_TOO_LARGE)
        o->counters->rejected[REJECT_TOO_LARGE] += left;
    else if (o->condition == COND_NO_OUTPUT)
        o->counters->rejected[REJECT_NO_ROUTE] += left;
    else if (o->condition == COND_CONFLICT)
        o->counters->rejected[REJECT_MALFORMED] += left;
    else if (o->condition == COND_FULL || (o->condition != COND_STORED && o->wait == INTAKE_WAIT_DISK))
        o->counters->rejected[REJECT_FULL] += left;
}

void intake_turn(struct intake *in)
{
    struct list *node;
    while ((node = list_first(&in->answers)) != NULL) {
        struct intake_offer *o = CONTAINER_OF(node, struct intake_offer, node);
        list_remove(node);
        o->state = OFFER_DONE;
        count_refused_whole(o);
        o->done(o, o->condition, o->text);
    }
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

void intake_await_part(struct intake_part *p)
{
    struct output_host *h = p->output;
    if (output_acked(h->core) >= p->seq)
        return;
    p->offer->parts_waiting++;
    list_append(&h->waiting, &p->node);
    output_host_touch(h);
}

static void append_part(struct intake_part *p, uint64_t wall_ns)
{
    struct output_host *h = p->output;
    if (p->count > 0) {
        enum err err = output_offer(h->core, p->items, p->count, wall_ns, &p->seq);
        ensure(err == OK); /* room was made sure of in this same turn */
    } else {
        p->seq = output_mark(h->core); /* only repeats: durable when what they repeat is */
    }
    intake_await_part(p);
}

static void append_all(struct intake *in, struct intake_offer *o)
{
    uint64_t wall_ns = o->x->request != NULL ? o->x->request->wall_ns : clock_wall_ns(&in->agent->clock);
    leave_room_queue(in, o);
    o->state = OFFER_WAITS_COMMIT;
    for (unsigned i = 0; i < o->part_count; i++)
        intake_leave_out_repeats(in, &o->parts[i], i == 0);
    for (unsigned i = 0; i < o->part_count; i++)
        append_part(&o->parts[i], wall_ns);
    tally_store_count(in->agent->tally, o, wall_ns);
    if (in->agent->tap != NULL)
        tap_show(in->agent, o);
    if (o->parts_waiting == 0)
        intake_answer_later(in, o, COND_STORED, NULL);
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

void intake_arm_room_timer(struct intake *in)
{
    if ((list_empty(&in->room_queue) && list_empty(&in->large)) || in->timer_armed)
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
        intake_answer_later(in, o, COND_FULL, text);
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
    intake_arm_room_timer(in);
    return false;
}

/* True when the offer left the state it was in. */
bool intake_try(struct intake *in, struct intake_offer *o)
{
    const char *text = NULL;
    if (o->in_pieces && intake_pieces_stale(in, o)) {
        leave_room_queue(in, o);
        intake_pieces_look(in, o);
        return true;
    }
    enum err err = o->in_pieces ? intake_pieces_reserve(o, &text) : room_everywhere(o, &text);
    switch (err) {
    case OK:
        if (o->in_pieces) {
            leave_room_queue(in, o);
            intake_pieces_take(in, o);
        } else {
            append_all(in, o);
        }
        return true;
    case ERR_AGAIN:
    case ERR_FULL:
        return wait_for_room(in, o, err, text);
    case ERR_TOO_BIG:
        intake_answer_later(in, o, COND_TOO_LARGE, text);
        return true;
    default:
        intake_answer_later(in, o, COND_FAILED, text);
        return true;
    }
}

void intake_room(struct intake *in)
{
    struct list *node = in->room_queue.next;
    intake_pieces_unblock(in);
    while (node != &in->room_queue) {
        struct list *next = node->next;
        (void)intake_try(in, CONTAINER_OF(node, struct intake_offer, node));
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
        intake_answer_later(in, o, COND_FULL, o->text);
    intake_room(in);
    intake_arm_room_timer(in);
}

static void count_rejections(struct input_counters *n, const struct api_exchange *x)
{
    for (unsigned i = 0; i < x->rejection_count; i++)
        n->rejected[x->rejections[i].reason]++;
}

static void count_offered(struct intake_offer *o)
{
    o->counters->received += o->x->offered;
    o->counters->sampled += o->sampled;
    count_rejections(o->counters, o->x);
}

void intake_placed(struct intake *in, struct intake_offer *o)
{
    count_offered(o);
    if (o->too_large)
        intake_answer_later(in, o, COND_TOO_LARGE, "the request is too large to be rendered");
    else if (o->homeless)
        intake_answer_later(in, o, COND_NO_OUTPUT, "no output of this type is configured");
    else if (o->conflict)
        intake_answer_later(in, o, COND_CONFLICT, "this id was used for other content");
    else
        (void)intake_try(in, o);
}

bool intake_offer(struct intake *in, struct intake_offer *o)
{
    struct api_exchange *x = o->x;
    unsigned rejections = x->rejection_count;
    ensure(o->state == OFFER_NEW);
    list_init(&o->node);
    if (in->agent->phase == AGENT_STOPPING) {
        count_offered(o);
        intake_answer_later(in, o, COND_STOPPING, "the agent is stopping");
        return true;
    }
    o->parts = arena_alloc(api_keep(x), in->agent->output_count * sizeof *o->parts);
    o->too_large = o->parts == NULL;
    if (o->in_pieces && !o->too_large) {
        intake_pieces_look(in, o);
        return true;
    }
    if (!o->too_large && x->events != NULL)
        intake_place_events(in, o);
    else if (!o->too_large && x->item_count > 0)
        o->homeless = !intake_place_items(in, o, x->items, x->item_count);
    if (o->too_large && o->may_retry) {
        x->rejection_count = rejections;
        o->state = OFFER_DONE;
        return false;
    }
    o->conflict = x->api->repeat == REPEAT_REFUSE && intake_conflicts(in, o);
    intake_placed(in, o);
    return true;
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

static enum api_reject reason_of(unsigned status)
{
    switch (status) {
    case 413:
        return REJECT_TOO_LARGE;
    case 503: /* the output that there is does not take these */
        return REJECT_NO_ROUTE;
    default:
        return REJECT_MALFORMED;
    }
}

void intake_count_refused(struct input_counters *n, const struct api_exchange *x)
{
    unsigned status = x->answer.status, offered = x->offered;
    if (offered == 0 && status >= 400 && status != 404) /* 404: a path that no events come by */
        offered = 1;
    n->received += offered;
    count_rejections(n, x);
    if (x->rejection_count < offered)
        n->rejected[reason_of(status)] += offered - x->rejection_count;
}

void intake_acked(struct intake *in, struct output_host *h)
{
    uint64_t acked = output_acked(h->core);
    struct list *node;
    intake_pieces_unblock(in);
    while ((node = list_first(&h->waiting)) != NULL) {
        struct intake_part *p = CONTAINER_OF(node, struct intake_part, node);
        if (p->seq > acked)
            break;
        list_remove(node);
        if (--p->offer->parts_waiting == 0)
            intake_answer_later(in, p->offer, COND_STORED, NULL);
    }
}

void intake_fail(struct intake *in, struct output_host *h, enum api_condition condition, const char *text)
{
    if (h != NULL) {
        struct list *node;
        while ((node = list_first(&h->waiting)) != NULL)
            intake_answer_later(in, CONTAINER_OF(node, struct intake_part, node)->offer, condition, text);
    }
    intake_pieces_fail(in, h, condition, text);
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
            intake_answer_later(in, o, condition, text);
        node = next;
    }
}

void intake_forget(struct intake *in, struct intake_offer *o)
{
    if (o->state == OFFER_NEW || o->state == OFFER_DONE)
        return;
    leave_room_queue(in, o);
    leave_parts(o);
    o->state = OFFER_DONE;
}

void intake_init(struct intake *in, struct agent *agent)
{
    *in = (struct intake){.agent = agent};
    list_init(&in->room_queue);
    list_init(&in->answers);
    list_init(&in->large);
    arena_init(&in->scratch, SCRATCH_BLOCK_BYTES, SCRATCH_BYTES_MAX);
    int r = uv_timer_init(agent->loop, &in->room_timer);
    ensure(r == 0);
    in->room_timer.data = in;
}

void intake_close(struct intake *in)
{
    if (!uv_is_closing((uv_handle_t *)&in->room_timer))
        uv_close((uv_handle_t *)&in->room_timer, NULL);
}

void intake_deinit(struct intake *in)
{
    arena_deinit(&in->scratch);
}
