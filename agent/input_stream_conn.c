/* input_stream_conn: one connection of the Unix stream input: reading, its batches, its answers, its end. See
 * input_stream.h. */
#include "agent/agent.h"
#include "agent/input_stream.h"
#include "lib/base/ensure.h"
#include "lib/codec/json.h"
#include "lib/config/config.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define SPARE_MAX 64
#define SPARE_LARGE_BYTES (32 * 1024) /* what an emptied batch took before, and keeps */
#define SPARE_LARGE_MAX 8
#define LINGER_US (2 * US_PER_S)
#define REPLY_MAX (1024 * 1024)
#define OUT_MAX (4 * 1024 * 1024)
#define REPEAT_LOG_US (10 * US_PER_S)

static void conn_settle(struct stream_conn *c);
static void offer_open(struct stream_conn *c);
static void on_ready(uv_poll_t *poll, int status, int events);

/* --- batches -------------------------------------------------------------------------------------------- */

struct stream_batch *stream_open(struct stream_conn *c)
{
    struct input_stream *in = c->input;
    if (c->open != NULL)
        return c->open;
    struct stream_batch *b;
    struct list *spare = list_first(&in->spare);
    if (spare != NULL) {
        list_remove(spare);
        in->spare_count--;
        b = CONTAINER_OF(spare, struct stream_batch, node);
    } else {
        const struct config_input *config = in->input.config;
        uint64_t largest = config->max_event > config->max_body ? config->max_event : config->max_body;
        b = must_alloc(sizeof *b);
        list_init(&b->node);
        list_init(&b->waiter);
        /* A message may inflate, and is rendered once per output. */
        event_batch_init(&b->events, (size_t)largest * 8 + (64u << 20));
        bytes_init(&b->reply, REPLY_MAX);
    }
    event_batch_begin(&b->events, in->input.agent);
    event_batch_expect(&b->events, c->block == NULL ? 0 : c->block->len - c->block->used);
    b->conn = c;
    b->serial = ++in->serial;
    b->bytes = 0;
    b->done = b->failed = b->dead = b->ack = b->waits_chunk = false;
    b->lines = NULL;
    b->line_room = 0;
    b->chunks = NULL;
    c->open = b;
    return b;
}

void stream_split(struct stream_conn *c)
{
    if (c->open != NULL && c->open->events.x.offered > 0)
        offer_open(c);
}

void stream_batch_free(struct stream_batch *b)
{
    event_batch_deinit(&b->events);
    bytes_deinit(&b->reply);
    free(b);
}

static void batch_release(struct stream_batch *b)
{
    struct stream_conn *c = b->conn;
    struct input_stream *in = c->input;
    list_remove(&b->node);
    list_remove(&b->waiter);
    in->underway_bytes -= b->bytes;
    c->underway_bytes -= b->bytes;
    bool large = b->events.arena.used > SPARE_LARGE_BYTES;
    if (in->spare_count >= (large ? SPARE_LARGE_MAX : SPARE_MAX) || b->reply.cap > 4096) {
        stream_batch_free(b);
        return;
    }
    arena_reset(&b->events.arena);
    bytes_clear(&b->reply);
    list_append(&in->spare, &b->node);
    in->spare_count++;
}

static void unblock(struct stream_conn *c)
{
    if (c->blocked == NULL)
        return;
    c->blocked = NULL;
    c->input->blocked_count--;
}

static void on_offer_done(struct intake_offer *offer, enum api_condition condition, const char *text)
{
    struct stream_batch *b = offer->ctx;
    struct stream_conn *c = b->conn;
    (void)text;
    b->done = true;
    b->dead = condition == COND_TOO_LARGE;
    b->failed = condition != COND_STORED && !b->dead;
    if (c->blocked == b)
        unblock(c);
    conn_settle(c);
}

/* While one waits for room the next stays open, so that it cannot overtake. */
static void offer_open(struct stream_conn *c)
{
    struct stream_batch *b = c->open;
    struct input_stream *in = c->input;
    if (b == NULL || c->blocked != NULL)
        return;
    c->open = NULL;
    list_append(&c->batches, &b->node);
    c->look_events += b->events.x.offered;
    c->look_asked |= b->ack || b->reply.len > 0;
    if (b->events.x.offered == 0)
        b->done = true; /* only an answer, in its turn */
    else
        event_batch_offer(&b->events, &in->input, INTAKE_WAIT_LONG, on_offer_done, b);
    b->bytes = b->events.arena.used;
    in->underway_bytes += b->bytes;
    c->underway_bytes += b->bytes;
    if (!b->done && b->events.offer.state == OFFER_WAITS_ROOM) {
        c->blocked = b;
        in->blocked_count++;
    }
}

/* --- what was read -------------------------------------------------------------------------------------- */

static void block_release(struct stream_conn *c)
{
    struct input_stream *in = c->input;
    if (c->block == NULL)
        return;
    if (in->spare_block == NULL)
        in->spare_block = c->block;
    else
        free(c->block);
    c->block = NULL;
}

static enum stream_step take(struct stream_conn *c, struct span *piece)
{
    return c->protocol == STREAM_LINES ? lines_take(c, piece) : forward_take(c, piece);
}

static bool sniff(struct stream_conn *c, uint8_t first)
{
    enum forward_protocol p = forward_sniff(first);
    c->json = p == FORWARD_IS_JSON;
    if (p == FORWARD_IS_UNKNOWN) {
        stream_reject(c, REJECT_MALFORMED, 1);
        stream_complain(c, LOG_INFO, "speaks neither NDJSON nor the forward protocol");
        stream_farewell(c, "bad_protocol", "expected NDJSON or the Fluentd forward protocol");
        return false;
    }
    c->protocol = p == FORWARD_IS_NDJSON ? STREAM_LINES : STREAM_FORWARD;
    return true;
}

static bool has_more(const struct stream_conn *c)
{
    return c->in_message || (c->block != NULL && c->block->used < c->block->len);
}

/* Cuts what was read into batches until it is used up, or a batch has to wait for room: its events point into
 * the block, and those behind it must not overtake it. */
static void take_block(struct stream_conn *c)
{
    offer_open(c);
    while (has_more(c) && c->blocked == NULL && !c->finishing &&
           c->underway_bytes < STREAM_CONN_UNDERWAY_BYTES) {
        struct span piece = span_of(c->block->at + c->block->used, c->block->len - c->block->used);
        if (c->protocol == STREAM_NEW && !sniff(c, piece.at[0]))
            break;
        enum stream_step step = take(c, &piece);
        c->block->used = c->block->len - piece.len;
        offer_open(c);
        if (step == STREAM_END)
            c->finishing = true;
    }
    if (c->block != NULL && c->blocked == NULL && (c->finishing || !has_more(c)))
        block_release(c);
}

static void take_eof(struct stream_conn *c)
{
    if (c->protocol == STREAM_LINES)
        lines_eof(c);
    else if (c->protocol == STREAM_FORWARD)
        forward_eof(c);
    offer_open(c);
    c->finishing = true;
}

static void discard(struct stream_conn *c)
{
    static uint8_t nowhere[STREAM_READ_BYTES];
    ssize_t n = recv(c->fd, nowhere, sizeof nowhere, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        stream_conn_close(c);
}

static void on_gather(uv_timer_t *timer)
{
    stream_look(timer->data);
}

/* The most impatient one says when all of them are looked at. */
static void arm_gather(struct input_stream *in, unsigned wait_ms)
{
    uv_update_time(in->input.agent->loop); /* else what this turn took so far would be taken off */
    if (uv_is_active((uv_handle_t *)&in->gather) && uv_timer_get_due_in(&in->gather) <= wait_ms)
        return;
    int r = uv_timer_start(&in->gather, on_gather, wait_ms, 0);
    ensure(r == 0);
}

static void gather_not(struct stream_conn *c)
{
    c->gather = (struct gather){0};
    stream_watch(c);
}

/* After a look: when is the next one? */
static void plan_look(struct stream_conn *c, size_t bytes)
{
    struct input_stream *in = c->input;
    struct gather_look look = {.at_us = clock_mono_us(&in->input.agent->clock),
                               .events = c->look_events,
                               .bytes = bytes,
                               .asked = c->look_asked};
    unsigned wait_ms = gather_wait_ms(&c->gather, &look);
    c->look_events = 0;
    c->look_asked = false;
    if (c->closing)
        return;
    if (wait_ms > 0) {
        list_append(&in->gathering, &c->gathering);
        arm_gather(in, wait_ms);
    }
    stream_watch(c);
}

/* Too much of all connections' is under way, or held: it waits in a list, and is polled again when it leaves that. */
static bool must_pause(struct stream_conn *c)
{
    struct input_stream *in = c->input;
    if (in->underway_bytes < STREAM_UNDERWAY_BYTES && in->blocked_count < STREAM_BLOCKED_MAX)
        return !input_hold_may_read(c);
    in->input.counters.paused++;
    list_append(&in->paused, &c->paused);
    return true;
}

static void read_some(struct stream_conn *c)
{
    struct input_stream *in = c->input;
    if (must_pause(c)) {
        gather_not(c);
        return;
    }
    c->block = in->spare_block != NULL ? in->spare_block : malloc(sizeof *c->block);
    ensure(c->block != NULL && "out of memory");
    in->spare_block = NULL;
    c->block->len = c->block->used = 0;
    ssize_t n = recv(c->fd, c->block->at, STREAM_READ_BYTES, MSG_DONTWAIT);
    if (n > 0) {
        c->block->len = (size_t)n;
        in->input.counters.bytes_in += (uint64_t)n;
        c->bytes_in += (uint64_t)n;
        input_hold_progress(c, (size_t)n);
        list_remove(&c->node);
        list_append(&in->conns, &c->node);
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        c->eof = true; /* a peer that went away with answers unread is a reset, behind all that it sent */
    }
    conn_settle(c);
    plan_look(c, n > 0 ? (size_t)n : 0);
}

/* --- answers -------------------------------------------------------------------------------------------- */

static size_t out_left(const struct stream_conn *c)
{
    return c->out.len - c->out_sent;
}

/* The peer takes no answers any more. What it sent is stored all the same. */
static void out_drop(struct stream_conn *c)
{
    bytes_clear(&c->out);
    c->out_sent = 0;
    c->parting = false;
}

static void conn_flush(struct flusher *flusher)
{
    struct stream_conn *c = CONTAINER_OF(flusher, struct stream_conn, flusher);
    if (c->closing)
        return;
    while (out_left(c) > 0) {
        ssize_t n = send(c->fd, c->out.at + c->out_sent, out_left(c), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            if (errno != EAGAIN)
                out_drop(c);
            break;
        }
        c->out_sent += (size_t)n;
    }
    c->out_full = out_left(c) > 0;
    if (!c->out_full) {
        c->out_sent = 0;
        bytes_clear(&c->out);
        if (c->out.cap > 4096)
            bytes_deinit(&c->out);
    }
    conn_settle(c);
}

/* What the batch's protocol answers now that it is done. False: it failed, and so does the connection. */
static bool batch_answer(struct stream_conn *c, struct stream_batch *b)
{
    if (c->protocol == STREAM_LINES)
        lines_done(c, b);
    else
        forward_done(c, b);
    return !b->failed;
}

/* Answers for the batches that are done, in order. */
static void answer_done(struct stream_conn *c)
{
    struct list *node;
    while (!c->closing && (node = list_first(&c->batches)) != NULL) {
        struct stream_batch *b = CONTAINER_OF(node, struct stream_batch, node);
        if (!b->done || forward_waits(b))
            return;
        bool answered = batch_answer(c, b);
        batch_release(b);
        if (!answered) {
            stream_conn_close(c); /* there is no other way to say no */
            return;
        }
    }
}

void stream_farewell(struct stream_conn *c, const char *code, const char *message)
{
    c->finishing = true;
    bytes_clear(&c->farewell);
    if (bytes_printf(&c->farewell, "{\"error\":{\"code\":\"%s\",\"message\":", code) != OK ||
        json_append_string(&c->farewell, span_str(message)) != OK ||
        bytes_append(&c->farewell, SPAN("}}\n")) != OK)
        bytes_clear(&c->farewell);
}

/* Everything was answered: last words, then the end. */
static void end_step(struct stream_conn *c)
{
    if (!c->finishing || !list_empty(&c->batches) || c->open != NULL || c->lingering)
        return;
    if (c->farewell.len > 0) {
        c->parting = bytes_append(&c->out, bytes_span(&c->farewell)) == OK;
        bytes_deinit(&c->farewell);
        flush_soon(&c->input->input.agent->flushes, &c->flusher);
    }
    if (out_left(c) > 0)
        return;
    if (!c->parting || c->eof) {
        stream_conn_close(c);
        return;
    }
    c->lingering = true;
    c->linger_until_us = clock_mono_us(&c->input->input.agent->clock) + LINGER_US;
    (void)shutdown(c->fd, SHUT_WR);
}

/* --- what next ------------------------------------------------------------------------------------------ */

static bool wants_to_read(const struct stream_conn *c)
{
    if (c->lingering)
        return true;
    return !c->eof && !c->finishing && c->block == NULL && list_empty(&c->paused) &&
           out_left(c) <= STREAM_UNREAD_BYTES && c->underway_bytes < STREAM_CONN_UNDERWAY_BYTES;
}

void stream_watch(struct stream_conn *c)
{
    if (c->closing)
        return;
    bool readable = wants_to_read(c) && (c->lingering || c->gather.wait_ms == 0);
    int events = (readable ? UV_READABLE : 0) | (c->out_full ? UV_WRITABLE : 0);
    if (events == c->events)
        return;
    c->events = events;
    int r = events == 0 ? uv_poll_stop(&c->poll) : uv_poll_start(&c->poll, events, on_ready);
    ensure(r == 0);
}

void stream_look(struct input_stream *in)
{
    struct list now, *node;
    list_take_all(&in->gathering, &now);
    while ((node = list_first(&now)) != NULL) {
        struct stream_conn *c = CONTAINER_OF(node, struct stream_conn, gathering);
        list_remove(node);
        if (!c->lingering && wants_to_read(c))
            read_some(c); /* and it gathers again, or not */
        else
            gather_not(c); /* other reasons not to read it go before this one */
    }
}

static void resume_paused(struct input_stream *in)
{
    struct list *node;
    if (in->underway_bytes > STREAM_UNDERWAY_BYTES / 2 || in->blocked_count >= STREAM_BLOCKED_MAX)
        return;
    while ((node = list_first(&in->paused)) != NULL) {
        list_remove(node);
        stream_watch(CONTAINER_OF(node, struct stream_conn, paused));
    }
}

/* The one place that decides: called after every piece of news about the connection. */
static void conn_settle(struct stream_conn *c)
{
    struct input_stream *in = c->input;
    if (c->closing)
        return;
    take_block(c);
    if (c->eof && c->block == NULL && c->open == NULL && !c->finishing)
        take_eof(c);
    input_hold_count(c);
    answer_done(c);
    if (!c->closing)
        end_step(c);
    stream_watch(c);
    resume_paused(in);
}

static void on_ready(uv_poll_t *poll, int status, int events)
{
    struct stream_conn *c = poll->data;
    if (c->closing)
        return;
    if (status < 0) { /* the loop has stopped watching; reading says what it is */
        c->events = 0;
        events = UV_READABLE;
    }
    if ((events & UV_WRITABLE) != 0)
        flush_soon(&c->input->input.agent->flushes, &c->flusher);
    if ((events & UV_READABLE) == 0)
        return;
    if (c->lingering)
        discard(c);
    else if (wants_to_read(c))
        read_some(c);
    else
        flush_soon(&c->input->input.agent->flushes, &c->flusher);
}

void stream_reject(struct stream_conn *c, enum api_reject reason, uint64_t count)
{
    c->input->input.counters.received += count;
    c->input->input.counters.rejected[reason] += count;
}

void stream_complain(struct stream_conn *c, enum log_level level, const char *what)
{
    struct input_stream *in = c->input;
    log_every(&in->fault_limit, clock_mono_us(&in->input.agent->clock), REPEAT_LOG_US, level,
              in->input.subject, "the sender with pid %ld, uid %ld: %s", (long)c->pid, (long)c->uid, what);
}

bool stream_conn_idle(const struct stream_conn *c)
{
    uint8_t byte;
    bool quiet = list_empty(&c->batches) && c->block == NULL && out_left(c) == 0 && c->lines.held.len == 0 &&
                 (c->forward == NULL || !forward_unfinished(c->forward));
    return quiet && recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) <= 0;
}

/* --- life ----------------------------------------------------------------------------------------------- */

void stream_conn_begin(struct input_stream *in, int fd, pid_t pid, uid_t uid)
{
    const struct config_input *config = in->input.config;
    struct stream_conn *c = must_alloc(sizeof *c);
    *c = (struct stream_conn){.input = in, .fd = fd, .pid = pid, .uid = uid};
    list_init(&c->node);
    list_init(&c->paused);
    list_init(&c->gathering);
    list_init(&c->batches);
    flusher_init(&c->flusher, conn_flush);
    bytes_init(&c->out, OUT_MAX);
    bytes_init(&c->farewell, 1024);
    ndjson_init(&c->lines, (size_t)config->max_event);
    int r = uv_poll_init(in->input.agent->loop, &c->poll, fd);
    ensure(r == 0);
    c->poll.data = c;
    list_append(&in->conns, &c->node);
    in->conn_count++;
    forward_begin(c);
    stream_watch(c);
}

void stream_conn_second(struct stream_conn *c)
{
    if (c->lingering && clock_mono_us(&c->input->input.agent->clock) >= c->linger_until_us) {
        stream_conn_close(c);
    } else if (input_hold_stalled(c)) {
        stream_reject(c, REJECT_TRUNCATED, 1);
        stream_complain(c, LOG_WARN,
                        "sent a part of a large message and then nothing, while others waited for the memory that it "
                        "takes; the connection is closed");
        stream_conn_close(c);
    }
}

void stream_conn_finish(struct stream_conn *c)
{
    c->finishing = true;
    conn_settle(c);
}

static void on_closed(uv_handle_t *handle)
{
    struct stream_conn *c = handle->data;
    struct input_stream *in = c->input;
    ensure(c->closing && in->conn_count > 0);
    forward_free(c->forward);
    ndjson_deinit(&c->lines);
    bytes_deinit(&c->out);
    bytes_deinit(&c->farewell);
    free(c->first_error);
    free(c);
    in->conn_count--;
    stream_maybe_gone(in);
}

void stream_conn_close(struct stream_conn *c)
{
    struct input_stream *in = c->input;
    struct list *node;
    if (c->closing)
        return;
    c->closing = true;
    if (c->open != NULL) {
        list_append(&c->batches, &c->open->node); /* never offered */
        c->open = NULL;
    }
    while ((node = list_first(&c->batches)) != NULL) {
        struct stream_batch *b = CONTAINER_OF(node, struct stream_batch, node);
        intake_forget(&in->input.agent->intake, &b->events.offer);
        b->failed = true;
        forward_done(c, b);
        batch_release(b);
    }
    unblock(c);
    block_release(c);
    list_remove(&c->node);
    list_remove(&c->gathering);
    input_hold_leave(c);
    list_remove(&c->flusher.node);
    uv_close((uv_handle_t *)&c->poll, on_closed);
    (void)close(c->fd);
    stream_accept_again(in);
    resume_paused(in);
}
