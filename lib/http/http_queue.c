/* http_queue: see http_queue.h. */
#include "lib/http/http_queue.h"

#include "lib/base/ensure.h"

#include <stdlib.h>

/* An emptied `out` of at most this size stays for the next answer. */
#define OUT_KEPT_BYTES 1024
/* Kept free for what must never fail: interim answers and the ends of streams. */
#define OUT_RESERVE_BYTES 1024
#define CHUNK_FRAME_BYTES 20

void http_queue_init(struct http_queue *q, size_t out_bytes_max)
{
    *q = (struct http_queue){.out_bytes_max = out_bytes_max, .first = 1, .next = 1};
    bytes_init(&q->out, out_bytes_max + OUT_RESERVE_BYTES);
}

static struct http_slot *slot_of(struct http_queue *q, uint64_t handle)
{
    return &q->slots[handle % HTTP_QUEUE_SLOTS];
}

static void slot_clear(struct http_slot *slot)
{
    if (slot->early != NULL) {
        bytes_deinit(slot->early);
        free(slot->early);
    }
    *slot = (struct http_slot){0};
}

static void drop_open(struct http_queue *q)
{
    for (; q->first < q->next; q->first++)
        slot_clear(slot_of(q, q->first));
    q->early_bytes = 0;
}

void http_queue_deinit(struct http_queue *q)
{
    drop_open(q);
    bytes_deinit(&q->out);
}

uint64_t http_queue_take(struct http_queue *q)
{
    ensure(http_queue_open(q) < HTTP_QUEUE_SLOTS && !q->closed);
    *slot_of(q, q->next) = (struct http_slot){0};
    return q->next++;
}

void http_queue_describe(struct http_queue *q, uint64_t handle, unsigned flags)
{
    const unsigned mine = HTTP_SLOT_HEAD | HTTP_SLOT_1_0 | HTTP_SLOT_CLOSE;
    ensure(handle >= q->first && handle < q->next);
    struct http_slot *slot = slot_of(q, handle);
    slot->flags = (uint8_t)((slot->flags & ~mine) | (flags & mine));
}

bool http_queue_waits(const struct http_queue *q, uint64_t handle)
{
    return handle >= q->first && handle < q->next &&
           !(q->slots[handle % HTTP_QUEUE_SLOTS].flags & HTTP_SLOT_ANSWERED);
}

/* Where bytes for this handle go: `out` when its turn has come, else its own memory. */
static struct bytes *target_of(struct http_queue *q, uint64_t handle)
{
    if (handle == q->first)
        return &q->out;
    struct http_slot *slot = slot_of(q, handle);
    if (slot->early == NULL) {
        slot->early = must_alloc(sizeof *slot->early);
        bytes_init(slot->early, q->out.max);
    }
    return slot->early;
}

static void early_to_out(struct http_queue *q, struct http_slot *slot)
{
    if (slot->early == NULL)
        return;
    q->early_bytes -= slot->early->len;
    if (q->out.len == 0) {
        bytes_deinit(&q->out);
        q->out = *slot->early;
        *slot->early = (struct bytes){0};
    } else {
        enum err err = bytes_append(&q->out, bytes_span(slot->early));
        ensure(err == OK); /* both together were within the bound when the bytes came */
    }
    bytes_deinit(slot->early);
    free(slot->early);
    slot->early = NULL;
}

/* After the oldest was answered: everybody whose turn has come moves up. */
static void advance(struct http_queue *q)
{
    while (q->first < q->next) {
        struct http_slot *slot = slot_of(q, q->first);
        early_to_out(q, slot);
        if (!(slot->flags & HTTP_SLOT_ANSWERED))
            return;
        bool close = slot->flags & HTTP_SLOT_CLOSE;
        slot_clear(slot);
        q->first++;
        if (close) {
            drop_open(q);
            q->closed = true;
        }
    }
}

/* True when `more` bytes fit into what may be queued in all. */
static bool has_room(const struct http_queue *q, size_t more, size_t bound)
{
    size_t queued = q->out.len + q->early_bytes;
    return queued <= bound && more <= bound - queued;
}

static void count_early(struct http_queue *q, uint64_t handle, size_t before, const struct bytes *target)
{
    if (handle != q->first)
        q->early_bytes += target->len - before;
}

static enum err write_answer(struct http_queue *q, uint64_t handle, const struct http_answer *a,
                             struct http_answer_way way)
{
    struct http_slot *slot = slot_of(q, handle);
    way.head_only = slot->flags & HTTP_SLOT_HEAD;
    way.say_close = (slot->flags & HTTP_SLOT_CLOSE) || a->close || way.framing == HTTP_FRAMED_UNTIL_CLOSE;
    way.say_keep_alive = slot->flags & HTTP_SLOT_1_0;
    if (!has_room(q, a->body.len, q->out_bytes_max))
        return ERR_TOO_BIG;
    struct bytes *target = target_of(q, handle);
    size_t before = target->len;
    enum err err = http_answer_write(target, a, &way);
    if (err != OK)
        return err;
    /* Headers are bounded by their writer, not here: take the answer back when they passed the bound. */
    if (!has_room(q, handle == q->first ? 0 : target->len - before, q->out_bytes_max)) {
        target->len = before;
        return ERR_TOO_BIG;
    }
    count_early(q, handle, before, target);
    if (way.say_close)
        slot->flags |= HTTP_SLOT_CLOSE;
    return OK;
}

enum err http_queue_answer(struct http_queue *q, uint64_t handle, const struct http_answer *a,
                           const char *date)
{
    if (!http_queue_waits(q, handle))
        return ERR_CLOSED;
    struct http_slot *slot = slot_of(q, handle);
    ensure(!(slot->flags & HTTP_SLOT_STREAMING));
    enum err err = write_answer(q, handle, a, (struct http_answer_way){.date = date});
    if (err != OK)
        return err;
    slot->flags |= HTTP_SLOT_ANSWERED;
    if (handle == q->first)
        advance(q);
    return OK;
}

void http_queue_abandon(struct http_queue *q, uint64_t handle)
{
    if (!http_queue_waits(q, handle))
        return;
    ensure(handle + 1 == q->next);
    struct http_slot *slot = slot_of(q, handle);
    if (slot->early != NULL)
        q->early_bytes -= slot->early->len;
    slot_clear(slot);
    q->next--;
}

static void put_small(struct http_queue *q, uint64_t handle, struct span text)
{
    struct bytes *target = target_of(q, handle);
    size_t before = target->len;
    enum err err = bytes_append(target, text);
    ensure(err == OK); /* OUT_RESERVE_BYTES is for this */
    count_early(q, handle, before, target);
}

void http_queue_continue(struct http_queue *q, uint64_t handle)
{
    if (http_queue_waits(q, handle))
        put_small(q, handle, SPAN("HTTP/1.1 100 Continue\r\n\r\n"));
}

enum err http_queue_stream_begin(struct http_queue *q, uint64_t handle, const struct http_answer *a,
                                 const char *date)
{
    if (!http_queue_waits(q, handle))
        return ERR_CLOSED;
    struct http_slot *slot = slot_of(q, handle);
    ensure(!(slot->flags & HTTP_SLOT_STREAMING));
    bool chunked = !(slot->flags & HTTP_SLOT_1_0);
    struct http_answer_way way = {.date = date,
                                  .framing = chunked ? HTTP_FRAMED_CHUNKED : HTTP_FRAMED_UNTIL_CLOSE};
    enum err err = write_answer(q, handle, a, way);
    if (err == OK)
        slot->flags |= (uint8_t)(HTTP_SLOT_STREAMING | (chunked ? HTTP_SLOT_CHUNKED : 0));
    return err;
}

enum err http_queue_stream(struct http_queue *q, uint64_t handle, struct span piece)
{
    if (!http_queue_waits(q, handle))
        return ERR_CLOSED;
    struct http_slot *slot = slot_of(q, handle);
    ensure(slot->flags & HTTP_SLOT_STREAMING);
    if (piece.len == 0 || (slot->flags & HTTP_SLOT_HEAD)) /* an empty chunk would end the stream */
        return OK;
    if (!has_room(q, piece.len + CHUNK_FRAME_BYTES, q->out_bytes_max))
        return ERR_FULL;
    struct bytes *target = target_of(q, handle);
    size_t before = target->len;
    enum err err = bytes_reserve(target, piece.len + CHUNK_FRAME_BYTES);
    ensure(err == OK);
    if (slot->flags & HTTP_SLOT_CHUNKED)
        err = bytes_printf(target, "%zx\r\n", piece.len);
    http_put(target, piece);
    if (slot->flags & HTTP_SLOT_CHUNKED)
        http_put(target, SPAN("\r\n"));
    ensure(err == OK);
    count_early(q, handle, before, target);
    return OK;
}

void http_queue_stream_end(struct http_queue *q, uint64_t handle)
{
    if (!http_queue_waits(q, handle))
        return;
    struct http_slot *slot = slot_of(q, handle);
    ensure(slot->flags & HTTP_SLOT_STREAMING);
    if ((slot->flags & HTTP_SLOT_CHUNKED) && !(slot->flags & HTTP_SLOT_HEAD))
        put_small(q, handle, SPAN("0\r\n\r\n"));
    slot->flags |= HTTP_SLOT_ANSWERED;
    if (handle == q->first)
        advance(q);
}

void http_queue_sent(struct http_queue *q, size_t n)
{
    bytes_consume(&q->out, n);
    if (q->out.len == 0 && q->out.cap > OUT_KEPT_BYTES)
        bytes_deinit(&q->out);
}
