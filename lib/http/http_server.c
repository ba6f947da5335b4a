/* http_server: see http_server.h. This file is the order of things: what is done with bytes in each state.
 * The head's notes and its judgement are http_head.c's, memory for requests in pieces http_spill.c's, the
 * answers http_queue.c's. */
#include "lib/http/http_server.h"

#include "lib/base/ensure.h"
#include "lib/http/http_head.h"
#include "lib/http/http_spill.h"

#include <stdio.h>

/* A request line may be this much longer than its target: method, spaces, version, and the first byte of
 * what follows, by which we know that it ended. */
#define REQUEST_LINE_EXTRA 32

const struct http_limits http_limits_default = {
    .header_bytes_max = 64 * 1024,
    .header_count_max = HTTP_HEADERS_MAX,
    .url_bytes_max = 8 * 1024,
    .body_bytes_max = 10 * 1024 * 1024,
    .pipeline_max = HTTP_PIPELINE_MAX,
    .out_bytes_pause = 256 * 1024,
    .out_bytes_max = 4 * 1024 * 1024,
    .held_bytes_max = 24 * 1024 * 1024,
};

/* What a step returns when the next state can go on with the bytes at hand. */
#define GO_ON ((enum http_server_event)0)

void http_server_init(struct http_server *s, struct http_server_shared *shared)
{
    *s = (struct http_server){.shared = shared, .headers = shared->headers};
    http_queue_init(&s->queue, shared->limits.out_bytes_max);
    bytes_init(&s->backlog, (size_t)2 * HTTP_GIVE_BYTES_MAX);
}

static void drop_spill(struct http_server *s)
{
    if (s->spill != NULL)
        http_spill_give_back(s->shared, s->spill);
    s->spill = NULL;
}

static void drop_backlog(struct http_server *s)
{
    s->shared->held_bytes -= s->backlog.cap;
    bytes_deinit(&s->backlog);
    s->in_backlog = false;
}

void http_server_deinit(struct http_server *s)
{
    budget_release(&s->gate);
    drop_spill(s);
    drop_backlog(s);
    http_queue_deinit(&s->queue);
}

enum err http_server_give(struct http_server *s, struct span in)
{
    ensure(in.len <= HTTP_GIVE_BYTES_MAX);
    if (s->backlog.len > 0)
        return http_spill_append(s->shared, &s->backlog, in);
    ensure(s->in.len == 0);
    s->in = in;
    return OK;
}

/* --- the input span --------------------------------------------------------------------------------- */

static void in_skip(struct http_server *s, size_t n)
{
    s->in = span_of(s->in.at + n, s->in.len - n);
}

static void in_drop(struct http_server *s)
{
    s->in = (struct span){0};
    if (s->in_backlog)
        drop_backlog(s);
}

/* What was kept while it was paused comes before what is read next. */
static void in_refill(struct http_server *s)
{
    if (s->in.len > 0 || s->backlog.len == 0 || s->in_backlog)
        return;
    s->in = bytes_span(&s->backlog);
    s->in_backlog = true;
}

/* Everything given has been used. */
static enum http_server_event in_used_up(struct http_server *s)
{
    in_drop(s);
    return HTTP_SERVER_MORE;
}

/* Keeps the unparsed rest for the time when requests are wanted again. */
static enum http_server_event in_keep(struct http_server *s)
{
    if (s->in_backlog) {
        bytes_consume(&s->backlog, s->backlog.len - s->in.len);
    } else if (http_spill_append(s->shared, &s->backlog, s->in) != OK) {
        /* No memory for the rest: it is as if the peer had stopped after the requests already taken. */
        s->state = HTTP_AT_END;
        s->eof = true;
        in_drop(s);
        return HTTP_SERVER_DONE;
    }
    s->in = (struct span){0};
    s->in_backlog = false;
    return HTTP_SERVER_PAUSED;
}

/* --- refusals and the end --------------------------------------------------------------------------- */

static enum http_server_event refuse(struct http_server *s, unsigned status, const char *code,
                                     const char *message)
{
    http_head_refuse(s, status, code, message);
    s->state = HTTP_AT_REFUSAL;
    return GO_ON;
}

static enum http_server_event refuse_busy(struct http_server *s)
{
    return refuse(s, 503, "busy", "too many large requests at once");
}

static void take_slot(struct http_server *s, bool close)
{
    if (s->handle == 0)
        s->handle = http_queue_take(&s->queue);
    unsigned flags = close ? HTTP_SLOT_CLOSE : 0;
    if (s->parser.method == HTTP_HEAD && s->url_len > 0)
        flags |= HTTP_SLOT_HEAD;
    if (s->parser.http_minor == 0 && s->parser.http_major == 1)
        flags |= HTTP_SLOT_1_0;
    http_queue_describe(&s->queue, s->handle, flags);
}

static enum http_server_event step_refusal(struct http_server *s)
{
    take_slot(s, true);
    if (s->head_whole)
        http_head_show(s, (struct span){0});
    else
        s->shared->request = (struct http_request){.handle = s->handle};
    s->shared->request.body_follows = true;
    s->shared->refusal = s->refusal;
    s->state = HTTP_AT_END;
    return HTTP_SERVER_REFUSED;
}

static enum http_server_event step_end(struct http_server *s)
{
    drop_spill(s);
    in_drop(s);
    return HTTP_SERVER_DONE;
}

void http_server_refuse(struct http_server *s, unsigned status, const char *code, const char *message)
{
    if (s->state == HTTP_AT_END || s->state == HTTP_AT_REFUSAL || s->queue.closed)
        return;
    if (s->state == HTTP_AT_START || s->state == HTTP_AT_DELIVERED) {
        s->handle = 0;
        http_head_begin(s);
    }
    (void)refuse(s, status, code, message);
}

/* --- one step per state ----------------------------------------------------------------------------- */

static void on_gate(struct budget_claim *c)
{
    struct http_server *s = CONTAINER_OF(c, struct http_server, gate);
    s->shared->go_on(s);
}

/* Where memory is short a request is not begun, so that what has begun gets done; unless even what was read of it would
 * be too much to keep. */
static bool gate_is_shut(struct http_server *s)
{
    if (!s->in_backlog && s->shared->held_bytes + s->in.len > s->shared->limits.held_bytes_max) {
        budget_release(&s->gate);
        return false;
    }
    if (s->gate.budget != NULL && s->gate.waiting)
        return true;
    if (s->gate.budget != NULL) /* its turn has come */
        budget_release(&s->gate);
    else if (s->shared->working != NULL && budget_short(s->shared->working)) {
        s->gate.served = on_gate;
        if (!budget_claim(s->shared->working, &s->gate, 1))
            return true;
        budget_release(&s->gate);
    }
    return false;
}

static bool must_pause(struct http_server *s)
{
    const struct http_limits *l = &s->shared->limits;
    size_t queued = s->queue.out.len + s->queue.early_bytes;
    unsigned open = http_queue_open(&s->queue);
    if (s->paused)
        s->paused = open > l->pipeline_max / 2 || queued > l->out_bytes_pause / 2;
    else
        s->paused = open >= l->pipeline_max || queued > l->out_bytes_pause;
    return s->paused;
}

static enum http_server_event step_start(struct http_server *s)
{
    in_refill(s);
    /* Empty lines before a request are to be skipped (RFC 9112 2.2). */
    size_t blank = 0;
    while (blank < s->in.len && (s->in.at[blank] == '\r' || s->in.at[blank] == '\n'))
        blank++;
    if (blank == s->in.len)
        return in_used_up(s);
    in_skip(s, blank);
    if (must_pause(s))
        return in_keep(s);
    s->waits = gate_is_shut(s);
    if (s->waits)
        return in_keep(s);
    http_head_begin(s);
    s->handle = 0;
    s->message++;
    s->head = s->in.at;
    s->state = HTTP_AT_HEAD;
    return GO_ON;
}

static enum http_server_event refuse_malformed(struct http_server *s)
{
    const char *reason = llhttp_get_error_reason(&s->parser);
    return refuse(s, 400, "bad_request", reason != NULL ? reason : "malformed request");
}

/* `n` bytes of the head were parsed: they are counted, and appended when the head is being collected. */
static bool head_took(struct http_server *s, size_t n)
{
    bool kept = true;
    if (s->spill != NULL)
        kept = http_spill_append(s->shared, &s->spill->head, span_of(s->in.at, n)) == OK;
    s->head_len += (uint32_t)n;
    in_skip(s, n);
    return kept;
}

static enum http_server_event head_done(struct http_server *s);

/* How much of the head may come before we give up on it. The bound on the request line counts from the
 * head's first byte, so it does not depend on how the bytes were cut. */
static size_t head_room(const struct http_server *s)
{
    const struct http_limits *l = &s->shared->limits;
    size_t bound = s->header_count > 0 ? l->header_bytes_max : l->url_bytes_max + REQUEST_LINE_EXTRA;
    return bound > s->head_len ? bound - s->head_len : 0;
}

static enum http_server_event step_head(struct http_server *s)
{
    if (s->in.len == 0) {
        if (http_head_keep(s) != OK)
            return refuse_busy(s);
        return in_used_up(s);
    }
    size_t room = head_room(s);
    if (room == 0 && s->header_count > 0)
        return refuse(s, 431, "headers_too_large", "the headers are too long");
    if (room == 0)
        return refuse(s, 414, "uri_too_long", "the request target is too long");
    size_t n = s->in.len < room ? s->in.len : room;
    s->slice = s->in.at;
    s->slice_offset = s->head_len;
    switch (llhttp_execute(&s->parser, (const char *)s->in.at, n)) {
    case HPE_OK:
        return head_took(s, n) ? GO_ON : refuse_busy(s);
    case HPE_PAUSED:
        n = (size_t)((const uint8_t *)llhttp_get_error_pos(&s->parser) - s->slice);
        return head_took(s, n) ? head_done(s) : refuse_busy(s);
    default:
        return refuse_malformed(s);
    }
}

static enum http_server_event body_begin(struct http_server *s)
{
    if (s->parser.flags & F_TRANSFER_ENCODING) {
        s->state = HTTP_AT_CHUNKS;
        llhttp_resume(&s->parser);
        /* "Upgrade" and "Connection: upgrade" may be ignored (RFC 9110 7.8): we stay with HTTP/1.1. */
        s->parser.upgrade = 0;
        return GO_ON;
    }
    s->body_left = s->parser.content_length;
    s->state = HTTP_AT_BODY;
    return GO_ON;
}

static enum http_server_event head_done(struct http_server *s)
{
    if (!http_head_judge(s)) {
        s->state = HTTP_AT_REFUSAL;
        return GO_ON;
    }
    struct span expect = {0};
    for (unsigned i = 0; i < s->header_count; i++)
        if (s->headers[i].known == HTTP_KNOWN_EXPECT)
            expect = span_of(http_head_bytes(s) + s->headers[i].value_at, s->headers[i].value_len);
    if (expect.at == NULL || s->parser.http_minor == 0)
        return body_begin(s);
    if (!span_equal_nocase(expect, SPAN("100-continue")))
        return refuse(s, 417, "expectation_failed", "100-continue is the only expectation taken");
    if (s->parser.content_length == 0 && !(s->parser.flags & F_TRANSFER_ENCODING))
        return body_begin(s);
    take_slot(s, true);
    http_head_show(s, (struct span){0});
    s->shared->request.body_follows = true;
    s->state = HTTP_AT_EXPECT;
    return HTTP_SERVER_EXPECT;
}

/* The caller has seen the head and decided. */
static enum http_server_event step_expect(struct http_server *s)
{
    if (!http_queue_waits(&s->queue, s->handle)) {
        s->state = HTTP_AT_END;
        return GO_ON;
    }
    take_slot(s, false);
    http_queue_continue(&s->queue, s->handle);
    return body_begin(s);
}

static enum http_server_event deliver(struct http_server *s, struct span body)
{
    take_slot(s, !s->keep_alive);
    http_head_show(s, body);
    s->state = HTTP_AT_DELIVERED;
    return HTTP_SERVER_REQUEST;
}

static bool body_collect(struct http_server *s, struct span piece)
{
    if (http_head_keep(s) != OK)
        return false;
    return http_spill_body(s->shared, s->spill, piece) == OK;
}

static bool is_encoded(const struct http_server *s)
{
    for (unsigned i = 0; i < s->header_count; i++)
        if (s->headers[i].known == HTTP_KNOWN_CONTENT_ENCODING)
            return true;
    return false;
}

/* Has it the memory for a body of so many bytes, and for what becomes of it? If not it waits, with what is at hand. */
static bool body_admitted(struct http_server *s, uint64_t bytes)
{
    if (http_head_keep(s) != OK)
        return true; /* the next step finds no memory either, and says so */
    s->spill->server = s;
    if (bytes > HTTP_SMALL_BODY && is_encoded(s))
        bytes += s->shared->limits.decoded_bytes_max;
    s->waits = !http_spill_admit(s->shared, s->spill, bytes);
    return !s->waits;
}

static enum http_server_event body_waits(struct http_server *s)
{
    if (s->in.len == 0) {
        in_drop(s);
        return HTTP_SERVER_PAUSED;
    }
    if (!s->in_backlog && s->shared->held_bytes + s->in.len > s->shared->limits.held_bytes_max)
        return refuse_busy(s);
    return in_keep(s);
}

/* A body of known length gets its memory at once, of which only what is used costs any. */
static bool body_begin_collecting(struct http_server *s)
{
    if (http_head_keep(s) != OK)
        return false;
    s->spill->body.max = s->body_left;
    return s->shared->large == NULL || bytes_reserve(&s->spill->body, s->body_left) == OK;
}

static enum http_server_event step_body(struct http_server *s)
{
    in_refill(s);
    if (s->body_len == 0 && s->in.len < s->body_left && !body_admitted(s, s->body_left))
        return body_waits(s);
    size_t n = s->in.len < s->body_left ? s->in.len : (size_t)s->body_left;
    struct span piece = span_of(s->in.at, n);
    if (n == s->body_left && s->body_len == 0) { /* whole, where it lies */
        in_skip(s, n);
        return deliver(s, piece);
    }
    if (s->body_len == 0 && !body_begin_collecting(s))
        return refuse_busy(s);
    if (!body_collect(s, piece))
        return refuse_busy(s);
    in_skip(s, n);
    s->body_len += n;
    s->body_left -= n;
    if (s->body_left == 0)
        return deliver(s, bytes_span(&s->spill->body));
    return in_used_up(s);
}

static enum http_server_event step_chunks(struct http_server *s)
{
    static const char nothing[1];
    in_refill(s);
    size_t kept = s->spill == NULL ? 0 : s->spill->body.len;
    if (kept > 0 && !body_admitted(s, kept + s->in.len <= HTTP_SMALL_BODY ? HTTP_SMALL_BODY : s->shared->limits.body_bytes_max))
        return body_waits(s);
    const char *at = s->in.len > 0 ? (const char *)s->in.at : nothing;
    enum llhttp_errno result = llhttp_execute(&s->parser, at, s->in.len);
    if (result == HPE_OK) {
        if (http_head_keep(s) != OK || (s->body.len > 0 && !body_collect(s, s->body)))
            return refuse_busy(s);
        s->body = (struct span){0};
        return in_used_up(s);
    }
    if (result != HPE_PAUSED)
        return refuse_malformed(s);
    in_skip(s, (size_t)(llhttp_get_error_pos(&s->parser) - at));
    bool borrowed = s->spill == NULL || s->spill->body.len == 0;
    return deliver(s, borrowed ? s->body : bytes_span(&s->spill->body));
}

static enum http_server_event step_delivered(struct http_server *s)
{
    drop_spill(s);
    s->handle = 0;
    s->state = s->keep_alive ? HTTP_AT_START : HTTP_AT_END;
    return GO_ON;
}

static enum http_server_event step(struct http_server *s)
{
    switch ((enum http_server_state)s->state) {
    case HTTP_AT_START:
        return step_start(s);
    case HTTP_AT_HEAD:
        return step_head(s);
    case HTTP_AT_EXPECT:
        return step_expect(s);
    case HTTP_AT_BODY:
        return step_body(s);
    case HTTP_AT_CHUNKS:
        return step_chunks(s);
    case HTTP_AT_DELIVERED:
        return step_delivered(s);
    case HTTP_AT_REFUSAL:
        return step_refusal(s);
    case HTTP_AT_END:
        return step_end(s);
    }
    ensure(!"a state of enum http_server_state");
    return HTTP_SERVER_DONE;
}

enum http_server_event http_server_next(struct http_server *s, const struct http_request **ret_request)
{
    enum http_server_event event;
    do {
        if (s->queue.closed) /* an answer ended the connection while later bytes were being read */
            s->state = HTTP_AT_END;
        event = step(s);
    } while (event == GO_ON);
    *ret_request = &s->shared->request;
    return event;
}

/* --- answers and the caller's questions ------------------------------------------------------------- */

enum err http_server_respond(struct http_server *s, uint64_t handle, const struct http_answer *a)
{
    return http_queue_answer(&s->queue, handle, a, s->shared->date);
}

void http_server_respond_refusal(struct http_server *s, uint64_t handle, const struct http_refusal *r)
{
    char body[256];
    int len =
        snprintf(body, sizeof body, "{\"error\":{\"code\":\"%s\",\"message\":\"%s\"}}", r->code, r->message);
    ensure(len > 0 && (size_t)len < sizeof body);
    struct http_answer answer = {
        .status = r->status,
        .content_type = SPAN("application/json"),
        .body = span_of(body, (size_t)len),
        .retry_after_s = r->status == 503 ? 1 : 0,
        .close = true,
    };
    /* An answer that finds no room behind so many unread ones is not missed by anybody. */
    if (http_server_respond(s, handle, &answer) != OK)
        s->queue.closed = true;
}

enum err http_server_stream_begin(struct http_server *s, uint64_t handle, const struct http_answer *a)
{
    return http_queue_stream_begin(&s->queue, handle, a, s->shared->date);
}

enum err http_server_stream(struct http_server *s, uint64_t handle, struct span piece)
{
    return http_queue_stream(&s->queue, handle, piece);
}

void http_server_stream_end(struct http_server *s, uint64_t handle)
{
    http_queue_stream_end(&s->queue, handle);
}

struct span http_server_output(const struct http_server *s)
{
    return bytes_span(&s->queue.out);
}

void http_server_sent(struct http_server *s, size_t n)
{
    http_queue_sent(&s->queue, n);
}

void http_server_take_output(struct http_server *s, struct bytes *into)
{
    ensure(into->len == 0);
    bytes_deinit(into);
    *into = s->queue.out;
    bytes_init(&s->queue.out, into->max);
}

bool http_server_waits(const struct http_server *s)
{
    return s->waits && ((s->gate.budget != NULL && s->gate.waiting) || (s->spill != NULL && http_spill_waits(s->spill)));
}

bool http_server_take_body(struct http_server *s, struct bytes *into, struct budget_claim *claim)
{
    ensure(s->state == HTTP_AT_DELIVERED && into->len == 0);
    if (s->spill == NULL || s->spill->body.len == 0)
        return false;
    if (s->shared->large == NULL)
        s->shared->held_bytes -= s->spill->body.cap;
    bytes_deinit(into);
    *into = s->spill->body;
    bytes_init(&s->spill->body, s->shared->limits.body_bytes_max);
    budget_move(s->spill->large.budget != NULL ? &s->spill->large : &s->spill->small, claim);
    return true;
}

bool http_server_can_read(struct http_server *s)
{
    if (s->state == HTTP_AT_END || s->queue.closed)
        return true; /* what comes is thrown away */
    if (http_server_waits(s))
        return false;
    return !s->paused || !must_pause(s);
}

static bool has_begun(const struct http_server *s)
{
    return s->state == HTTP_AT_HEAD || s->state == HTTP_AT_EXPECT || s->state == HTTP_AT_BODY ||
           s->state == HTTP_AT_CHUNKS;
}

uint64_t http_server_reading(const struct http_server *s)
{
    return has_begun(s) && !http_server_waits(s) ? s->message : 0; /* a sender is not late while it is not read */
}

bool http_server_idle(const struct http_server *s)
{
    return !has_begun(s) && http_server_open(s) == 0 && s->queue.out.len == 0 &&
           s->backlog.len == 0 && s->in.len == 0;
}

void http_server_eof(struct http_server *s)
{
    s->eof = true;
    if (!has_begun(s))
        return;
    if (s->handle != 0)
        http_queue_abandon(&s->queue, s->handle);
    s->handle = 0;
    s->state = HTTP_AT_END;
}

bool http_server_finished(const struct http_server *s)
{
    if (s->queue.out.len > 0)
        return false;
    if (s->queue.closed)
        return true;
    bool torn_or_done = s->state == HTTP_AT_END || s->eof;
    return torn_or_done && http_server_open(s) == 0 && s->backlog.len == 0;
}

void http_server_trim(struct http_server *s)
{
    if (!http_server_idle(s))
        return;
    drop_backlog(s);
    bytes_deinit(&s->queue.out);
}
