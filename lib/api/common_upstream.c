/* common_upstream: requests to and verdicts on answers of an upstream, as far as they are the same for all;
 * see common.h. Each api's judge() begins with judge_status() and then says where its service differs. */
#include "lib/api/common.h"

#include "lib/base/http_date.h"

struct span target_join(const struct api_settings *s, struct arena *arena, struct span rest)
{
    struct bytes out;
    struct span base = s->base_path;
    while (rest.len > 0 && base.len > 0 && base.at[base.len - 1] == '/')
        base.len--;
    if (!bytes_init_arena(&out, arena, base.len + rest.len + s->base_query.len + 2))
        return SPAN("/");
    enum err err = bytes_append(&out, base);
    if (err == OK)
        err = bytes_append(&out, rest);
    if (err == OK && out.len == 0)
        err = bytes_append_byte(&out, '/');
    if (err == OK && s->base_query.len > 0 && s->base_query.at[0] != '?')
        err = bytes_append_byte(&out, '?');
    if (err == OK)
        err = bytes_append(&out, s->base_query);
    return err == OK ? bytes_finish_arena(&out, arena) : SPAN("/");
}

void send_header(struct api_send *ret, const char *name, struct span value)
{
    if (value.at != NULL && ret->header_count < sizeof ret->headers / sizeof ret->headers[0])
        ret->headers[ret->header_count++] = (struct api_header){.name = span_str(name), .value = value};
}

struct span token_header(struct arena *arena, const char *prefix, struct span token)
{
    struct bytes out;
    struct span before = span_str(prefix);
    if (token.at == NULL || !bytes_init_arena(&out, arena, before.len + token.len))
        return (struct span){0};
    if (bytes_append(&out, before) != OK || bytes_append(&out, token) != OK)
        return (struct span){0};
    return bytes_finish_arena(&out, arena);
}

/* --- Retry-After -------------------------------------------------------------------------------- */

#define RETRY_AFTER_MAX_US (UINT64_C(3650) * 86400 * US_PER_S) /* ten years: what a person could mean */

/* Digits, maybe a point and more digits. */
static bool decimal_us(struct span text, uint64_t *ret)
{
    size_t whole = 0;
    uint64_t seconds, us = 0, unit = US_PER_S / 10;
    while (whole < text.len && text.at[whole] != '.')
        whole++;
    if (!span_u64(span_of(text.at, whole), &seconds)) {
        bool digits = whole > 0;
        for (size_t i = 0; i < whole; i++)
            digits = digits && text.at[i] >= '0' && text.at[i] <= '9';
        if (!digits)
            return false;
        seconds = UINT64_MAX; /* more than a machine word: for ever */
    }
    for (size_t i = whole + 1; i < text.len; i++) {
        if (text.at[i] < '0' || text.at[i] > '9')
            return false;
        us += (uint64_t)(text.at[i] - '0') * unit;
        unit /= 10;
    }
    *ret = seconds > RETRY_AFTER_MAX_US / US_PER_S ? RETRY_AFTER_MAX_US : seconds * US_PER_S + us;
    return true;
}

uint64_t retry_after_us(const struct api_reply *reply)
{
    struct span text = span_trim(reply->retry_after);
    uint64_t us;
    uint64_t date, now = reply->wall_ns / NS_PER_S;
    if (text.at == NULL || text.len == 0)
        return 0;
    if (decimal_us(text, &us))
        return us;
    if (!http_date_parse(text, &date) || date <= now)
        return 0;
    uint64_t seconds = date - now;
    return seconds > RETRY_AFTER_MAX_US / US_PER_S ? RETRY_AFTER_MAX_US : seconds * US_PER_S;
}

/* --- verdicts ----------------------------------------------------------------------------------- */

void verdict_set(struct api_verdict *ret, enum api_action action, enum api_dead reason)
{
    static const char *const labels[] = {
        [ACT_DELIVERED] = "delivered", [ACT_RETRY] = "retry",       [ACT_SPLIT] = "split",
        [ACT_SPLIT_SINGLES] = "split", [ACT_DEAD] = "dead",         [ACT_HOLD] = "hold",
        [ACT_HOLD_PARTITION] = "hold", [ACT_PLAIN_RETRY] = "retry", [ACT_MODE_RETRY] = "retry",
        [ACT_HOLD_FOREVER] = "hold",   [ACT_PER_EVENT] = "partial",
    };
    ret->action = action;
    ret->reason = reason;
    ret->result = labels[action];
    ret->unknown = ret->backoff = false;
}

/* The body's first KiB without white space around it; else the bare status. Of a redirection its target: the page that
 * servers send with it says nothing. */
static struct span words_of(const struct api_reply *reply, struct arena *arena)
{
    struct span text = reply->body;
    if (reply->status >= 300 && reply->status < 400 && reply->location.len > 0)
        return arena_printf(arena, "status %u, Location: %.*s", reply->status,
                            reply->location.len > 500 ? 500 : (int)reply->location.len,
                            (const char *)reply->location.at);
    while (text.len > 0 && text.at[0] <= ' ')
        text = span_of(text.at + 1, text.len - 1);
    if (text.len > 1024)
        text.len = 1024;
    while (text.len > 0 && text.at[text.len - 1] <= ' ')
        text.len--;
    if (text.len > 0)
        return text;
    return arena_printf(arena, "status %u", reply->status);
}

static void judge_4xx(unsigned status, struct api_verdict *ret)
{
    switch (status) {
    case 408: /* the upstream gave up waiting: what it had read, it may have used */
        verdict_set(ret, ACT_RETRY, DEAD_REFUSED);
        ret->unknown = ret->backoff = true;
        return;
    case 425:
    case 429:
        verdict_set(ret, ACT_RETRY, DEAD_REFUSED);
        ret->backoff = true;
        return;
    case 413:
        verdict_set(ret, ACT_SPLIT, DEAD_TOO_LARGE);
        return;
    case 415:
        verdict_set(ret, ACT_PLAIN_RETRY, DEAD_REFUSED);
        return;
    case 401: /* the endpoint or our credentials are wrong, not the events */
    case 402:
    case 403:
    case 404:
    case 405:
    case 406:
    case 407:
    case 410:
    case 411:
    case 414:
    case 417:
    case 421:
    case 426:
    case 431:
    case 451:
        verdict_set(ret, ACT_HOLD, DEAD_REFUSED);
        return;
    default:
        verdict_set(ret, ACT_SPLIT, DEAD_REFUSED);
    }
}

void judge_status(const struct api_reply *reply, struct arena *arena, struct api_verdict *ret)
{
    *ret = (struct api_verdict){.retry_after_us = retry_after_us(reply), .text = words_of(reply, arena)};
    if (reply->status >= 200 && reply->status < 300) {
        verdict_set(ret, ACT_DELIVERED, DEAD_REFUSED);
        ret->retry_after_us = 0;
    } else if (reply->status >= 300 && reply->status < 400) {
        verdict_set(ret, ACT_HOLD, DEAD_REFUSED); /* never followed: credentials would go with it */
    } else if (reply->status >= 400 && reply->status < 500) {
        judge_4xx(reply->status, ret);
    } else { /* 5xx, and what is no status at all */
        verdict_set(ret, ACT_RETRY, DEAD_REFUSED);
        ret->unknown = ret->backoff = true;
    }
}

static uint8_t lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c | 0x20) : c;
}

bool reply_says(const struct api_reply *reply, const char *words)
{
    struct span wanted = span_str(words), body = reply->body;
    if (body.len > 16384)
        body.len = 16384;
    for (size_t i = 0; i + wanted.len <= body.len; i++)
        if (lower(body.at[i]) == lower(wanted.at[0]) &&
            span_equal_nocase(span_of(body.at + i, wanted.len), wanted))
            return true;
    return false;
}

struct api_event_verdict *verdict_per_event(struct api_verdict *ret, const struct api_batch *b,
                                            struct arena *arena, enum api_action action, unsigned status)
{
    struct api_event_verdict *events = arena_alloc(arena, (b->count == 0 ? 1 : b->count) * sizeof *events);
    if (events == NULL)
        return NULL;
    for (unsigned i = 0; i < b->count; i++)
        events[i] = (struct api_event_verdict){.action = action, .status = status};
    ret->events = events;
    return events;
}
