/* cloudevents_body: whole bodies of events in JSON; see cloudevents.h. One event's fault is its refusal, with
 * its index; a text that is no JSON refuses the body, lines excepted, each of which stands alone. */
#include "lib/codec/json.h"
#include "lib/event/event_parts.h"

/* Makes room for one more entry of an array in the arena; its old copy is left behind. */
static bool grow(struct arena *a, void **array, unsigned count, unsigned *room, size_t entry_bytes,
                 unsigned first)
{
    if (count < *room)
        return true;
    unsigned more = *room == 0 ? first : *room * 2;
    void *bigger = arena_alloc(a, more * entry_bytes);
    if (bigger == NULL)
        return false;
    if (count > 0)
        memcpy(bigger, *array, count * entry_bytes);
    *array = bigger;
    *room = more;
    return true;
}

static enum err list_refuse(struct event_reading *in, struct event_list *list, struct fault *why)
{
    void *array = list->refusals;
    if (!grow(in->arena, &array, list->refusal_count, &list->refusal_room, sizeof *list->refusals, 8))
        return event_arena_full(why);
    list->refusals = array;
    struct span text = arena_copy(in->arena, span_of(why->text, strlen(why->text) + 1));
    if (text.at == NULL)
        return event_arena_full(why);
    text.len--; /* the NUL stays behind it, for those who want a C string */
    list->refusals[list->refusal_count++] = (struct event_refusal){.index = list->offered, .text = text};
    list->offered++;
    return OK;
}

/* Room for the next event. Most events are over a hundred bytes, so the first guess is seldom wrong. */
static struct event *list_next(struct event_reading *in, struct event_list *list, size_t bytes)
{
    size_t guess = bytes / 128 + 1;
    void *array = list->events;
    if (!grow(in->arena, &array, list->count, &list->room, sizeof *list->events,
              guess > list->max ? list->max : (unsigned)guess))
        return NULL;
    list->events = array;
    return &list->events[list->count];
}

static enum err list_add(struct event_reading *in, struct event_list *list, enum err err, struct fault *why)
{
    if (err == ERR_UNSUPPORTED)
        return list_refuse(in, list, why);
    if (err != OK)
        return err;
    list->events[list->count++].index = list->offered++;
    return OK;
}

static enum err too_many(const struct event_list *list, struct fault *why)
{
    return fault_set(why, ERR_TOO_BIG, "more than %u events in one request", list->max);
}

static bool piece_is_full(const struct event_body *b, const uint8_t *from, const uint8_t *at)
{
    return b->piece_bytes > 0 && (size_t)(at - from) >= b->piece_bytes;
}

/* Of what is read in this piece, to guess how many events there are. */
static size_t piece_of(const struct event_body *b)
{
    return b->piece_bytes > 0 && b->piece_bytes < b->body.len ? b->piece_bytes : b->body.len;
}

static enum err read_lines(struct event_reading *in, struct event_body *b, struct event_list *list,
                           struct fault *why)
{
    const uint8_t *from = b->rest.at;
    struct span line;
    b->state = EVENT_BODY_LINES;
    while (event_next_line(&b->rest, &line)) {
        if (list->offered == list->max)
            return too_many(list, why);
        struct event *e = list_next(in, list, piece_of(b));
        if (e == NULL)
            return event_arena_full(why);
        enum err err = event_read_line(in, line, e, why);
        err = list_add(in, list, err == ERR_MALFORMED ? ERR_UNSUPPORTED : err, why);
        if (err != OK)
            return err;
        b->more = piece_is_full(b, from, b->rest.at);
        if (b->more)
            return OK;
    }
    return OK;
}

static enum err read_array(struct event_reading *in, struct event_body *b, bool declared, struct event_list *list,
                           struct fault *why)
{
    struct json_reader *r = &b->reader;
    const uint8_t *from = r->at;
    enum err err = OK;
    if (b->state == EVENT_BODY_NEW) {
        json_forgive(r);
        err = json_enter_array(r);
    }
    b->state = EVENT_BODY_ARRAY;
    while (err == OK && (err = json_next_element(r)) == OK) {
        if (list->offered == list->max)
            return too_many(list, why);
        struct event *e = list_next(in, list, piece_of(b));
        if (e == NULL)
            return event_arena_full(why);
        err = event_read_json(in, r, declared, e, why);
        if (err == ERR_MALFORMED)
            return fault_context(why, "event %u", list->offered);
        err = list_add(in, list, err, why);
        if (err != OK)
            return err;
        b->more = piece_is_full(b, from, r->at);
        if (b->more)
            return OK;
    }
    if (err == ERR_NOT_FOUND)
        err = json_finish(r);
    return err == OK ? OK : json_fault(r, err, why);
}

static enum err read_one(struct event_reading *in, struct json_reader *r, bool declared,
                         struct event_list *list, struct fault *why)
{
    struct event *e = list_next(in, list, 0);
    if (e == NULL)
        return event_arena_full(why);
    enum err err = event_read_json(in, r, declared, e, why);
    if (err != OK && err != ERR_UNSUPPORTED)
        return err;
    if (json_finish(r) != OK)
        return json_fault(r, ERR_MALFORMED, why);
    return list_add(in, list, err, why);
}

static enum err wrong_shape(enum event_form form, struct fault *why)
{
    switch (form) {
    case EVENTS_ONE:
        return fault_set(why, ERR_MALFORMED,
                         "expected one JSON object (several events: application/cloudevents-batch+json)");
    case EVENTS_BATCH:
        return fault_set(why, ERR_MALFORMED, "expected a JSON array of events");
    default:
        return fault_set(why, ERR_MALFORMED, "expected a JSON object or an array of them");
    }
}

/* The first piece says what it is. */
static enum err read_first(struct event_reading *in, struct event_body *b, struct event_list *list, struct fault *why)
{
    struct json_reader *r = &b->reader;
    enum json_type type = JSON_NULL;
    bool declared = b->form == EVENTS_ONE || b->form == EVENTS_BATCH;
    enum err err;
    b->body = b->rest = event_skip_mark(b->body);
    if (b->form == EVENTS_LINES)
        return read_lines(in, b, list, why);
    json_reader_init(r, b->body);
    if (json_peek(r, &type) != OK)
        err = json_fault(r, ERR_MALFORMED, why);
    else if (type == JSON_ARRAY && b->form != EVENTS_ONE)
        err = read_array(in, b, declared, list, why);
    else if (type == JSON_OBJECT && b->form != EVENTS_BATCH)
        err = read_one(in, r, declared, list, why);
    else
        err = wrong_shape(b->form, why);
    if (err == ERR_MALFORMED && b->form == EVENTS_LOOSE && type == JSON_OBJECT &&
        memchr(b->body.at, '\n', b->body.len) != NULL) {
        /* More behind the first object: if that one stands on a line of its own, these are lines. */
        struct span rest = b->body, line;
        if (event_next_line(&rest, &line) && rest.len > 0 && json_check(line, NULL, NULL) == OK)
            return read_lines(in, b, list, why);
    }
    return err;
}

enum err event_body_next(struct event_reading *in, struct event_body *b, struct event_list *list,
                         uint32_t *ret_index, struct fault *why)
{
    enum err err = OK;
    b->more = false;
    switch (b->state) {
    case EVENT_BODY_NEW:
        err = read_first(in, b, list, why);
        break;
    case EVENT_BODY_ARRAY:
        err = read_array(in, b, b->form == EVENTS_BATCH, list, why);
        break;
    case EVENT_BODY_LINES:
        err = read_lines(in, b, list, why);
        break;
    }
    if (err == ERR_MALFORMED)
        *ret_index = list->offered;
    return err;
}

enum err event_read_body(struct event_reading *in, enum event_form form, struct span body,
                         struct event_list *list, uint32_t *ret_index, struct fault *why)
{
    struct event_body b = {.body = body, .form = form};
    return event_body_next(in, &b, list, ret_index, why);
}
