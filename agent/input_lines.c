/* input_lines: NDJSON on a stream socket. See input_stream.h.
 *
 * One neutral event per line. The line {"penstock":"ack"} asks for a line that counts every line before it on
 * this connection, sent when those that were taken are durable:
 *     {"accepted":N,"rejected":M}   and with M > 0 also   "first_error":"line 7: type: required"
 * A malformed line is counted and the connection goes on; a line over the limit is answered with an error
 * line, and ends it. */
#include "agent/agent.h"
#include "agent/input_stream.h"
#include "lib/base/ensure.h"
#include "lib/codec/json.h"

#include <stdio.h>
#include <stdlib.h>

#define ACK_LINE_MAX 64
#define ERROR_TEXT_MAX 320

/* {"penstock":"ack"}, with white space between its tokens or without. */
static bool is_ack(struct span line)
{
    struct json_member member;
    struct json_value whole;
    size_t count;
    if (line.len > ACK_LINE_MAX || memchr(line.at, 'p', line.len) == NULL)
        return false;
    return json_check_object(line, &member, 1, &count, &whole, NULL) == OK && count == 1 &&
           json_key_is(&member.key, "penstock") && member.value.type == JSON_STRING &&
           json_string_is(&member.value, "ack");
}

static bool note_line(struct stream_batch *b, uint64_t number)
{
    unsigned at = b->events.x.offered;
    if (at == b->line_room) {
        unsigned room = at == 0 ? 16 : at * 2;
        uint64_t *bigger = arena_alloc(&b->events.arena, room * sizeof *bigger);
        if (bigger == NULL)
            return false;
        if (at > 0)
            memcpy(bigger, b->lines, at * sizeof *bigger);
        b->lines = bigger;
        b->line_room = room;
    }
    b->lines[at] = number;
    return true;
}

/* `kept`: the line lies in the block, which stays as long as the batch needs it. */
static void take_line(struct stream_conn *c, struct span line, bool kept)
{
    struct stream_batch *b = stream_open(c);
    struct span own = kept ? line : arena_copy(&b->events.arena, line);
    if (own.at != NULL && note_line(b, c->lines.lines) && event_batch_line(&b->events, own) == OK)
        return;
    /* The batch is full long before its arena is: this one line was too much for it. */
    stream_reject(c, REJECT_TOO_LARGE, 1);
    c->rejected++;
}

static void over_limit(struct stream_conn *c)
{
    char text[96];
    (void)snprintf(text, sizeof text, "a line is longer than max_event, %zu bytes", c->lines.line_bytes_max);
    stream_reject(c, REJECT_TOO_LARGE, 1);
    stream_complain(c, LOG_WARN, text);
    stream_farewell(c, "too_large", text);
}

enum stream_step lines_take(struct stream_conn *c, struct span *piece)
{
    const struct span whole = *piece;
    struct span line;
    for (;;) {
        enum err err = ndjson_next(&c->lines, piece, &line);
        if (err == ERR_AGAIN)
            return STREAM_MORE;
        if (err != OK) {
            over_limit(c);
            return STREAM_END;
        }
        if (is_ack(line)) {
            stream_open(c)->ack = true;
            return STREAM_OFFER;
        }
        bool large = line.len >= STREAM_LARGE_BYTES;
        if (large)
            stream_split(c);
        take_line(c, line, line.at >= whole.at && line.at < whole.at + whole.len);
        ndjson_release(&c->lines);
        if (large)
            return STREAM_OFFER;
        if (c->open != NULL && c->open->events.arena.used > STREAM_BATCH_BYTES)
            return STREAM_OFFER;
    }
}

void lines_eof(struct stream_conn *c)
{
    struct span line;
    enum err err = ndjson_finish(&c->lines, &line);
    if (err == ERR_TOO_BIG)
        over_limit(c);
    else if (err == OK && is_ack(line))
        stream_open(c)->ack = true;
    else if (err == OK)
        take_line(c, line, false); /* after the end of the stream nothing is open: it is a batch of its own */
}

static void note_first_error(struct stream_conn *c, const struct stream_batch *b)
{
    const struct api_exchange *x = &b->events.x;
    const struct api_rejection *first = NULL;
    char text[ERROR_TEXT_MAX];
    for (unsigned i = 0; i < x->rejection_count; i++)
        if (first == NULL || x->rejections[i].index < first->index)
            first = &x->rejections[i];
    if (first == NULL && !b->dead)
        return;
    (void)snprintf(text, sizeof text, "line %llu: %.*s",
                   (unsigned long long)b->lines[first == NULL ? 0 : first->index],
                   first == NULL ? 22 : (int)first->text.len,
                   first == NULL ? "larger than can be kept" : (const char *)first->text.at);
    stream_complain(c, LOG_INFO, text);
    if (c->first_error == NULL)
        c->first_error = must_strdup(text);
}

static void append_ack(struct stream_conn *c)
{
    struct bytes *out = &c->out;
    size_t before = out->len;
    enum err err = bytes_printf(out, "{\"accepted\":%llu,\"rejected\":%llu", (unsigned long long)c->accepted,
                                (unsigned long long)c->rejected);
    if (err == OK && c->rejected > 0) {
        err = bytes_append(out, SPAN(",\"first_error\":"));
        if (err == OK)
            err = json_append_string_lossy(
                out, span_str(c->first_error == NULL ? "a line is too large to be kept" : c->first_error),
                NULL);
    }
    if (err == OK)
        err = bytes_append(out, SPAN("}\n"));
    if (err != OK)
        out->len = before; /* not reached: a peer that does not read is not read */
    flush_soon(&c->input->input.agent->flushes, &c->flusher);
}

void lines_done(struct stream_conn *c, struct stream_batch *b)
{
    if (b->failed)
        return;
    if (b->dead) {
        c->rejected += b->events.x.offered;
    } else {
        c->accepted += b->events.offer.accepted;
        c->rejected += b->events.x.rejection_count;
    }
    if (b->events.x.offered > 0)
        note_first_error(c, b);
    if (b->ack)
        append_ack(c);
}
