/* transport_http: a batch becomes an HTTP request of its api, an HTTP answer becomes its api's verdict.
 * Steps 10 and 11 lie behind it: agent/upstream.c carries the request, lib/api/<name>.c judges the answer. */
#include "lib/output/transport.h"

#include "lib/spool/bugs.h"

#include <stdio.h>

static enum err http_request(const struct api_settings *s, const struct api_batch *b, struct arena *arena,
                             struct api_send *ret)
{
    return s->api->request(s, b, arena, ret);
}

static bool http_probe(const struct api_settings *s, struct arena *arena, struct api_send *ret)
{
    return s->api->probe != NULL && s->api->probe(s, arena, ret);
}

static bool http_handshake(const struct api_settings *s, struct arena *arena, struct api_send *ret)
{
    return s->api->handshake != NULL && s->api->handshake(s, arena, ret);
}

static bool http_consents(const struct api_settings *s, const struct api_reply *reply, uint64_t *ret_per_minute)
{
    return s->api->consents(s, reply, ret_per_minute);
}

static void http_judge(const struct api_settings *s, const struct api_batch *b, const struct api_reply *reply,
                       struct arena *arena, struct api_verdict *ret)
{
    *ret = (struct api_verdict){0};
    s->api->judge(s, b, reply, arena, ret);
}

static void http_broke(enum output_break what, const char *text, struct api_verdict *ret)
{
    *ret = (struct api_verdict){
        .action = what == BREAK_DENIED ? ACT_HOLD : ACT_RETRY,
        .backoff = what != BREAK_CANCELLED,
        .unknown = what == BREAK_UNKNOWN || what == BREAK_REUSED || what == BREAK_CANCELLED,
        .result = what == BREAK_DENIED ? "hold" : "unreachable",
        .text = span_str(text),
    };
    if (BUG(114) && what == BREAK_UNKNOWN) /* a torn answer taken for one */
        ret->action = ACT_DELIVERED;
    if (ret->unknown)
        ret->result = what == BREAK_CANCELLED ? "cancelled" : "unknown";
}

static void http_judge_probe(const struct api_reply *reply, struct arena *arena, struct api_verdict *ret)
{
    *ret = (struct api_verdict){.action = ACT_HOLD, .result = "hold"};
    if (reply->status >= 200 && reply->status < 300)
        ret->action = ACT_DELIVERED;
    else if (reply->status == 404 || reply->status == 405 || reply->status == 501)
        ret->action = ACT_SPLIT; /* a service that speaks the api without its probe */
    char text[160];
    size_t shown = reply->body.len < 120 ? reply->body.len : 120;
    int n = snprintf(text, sizeof text, "probe answered %u %.*s", reply->status, (int)shown,
                     reply->body.at == NULL ? "" : (const char *)reply->body.at);
    ret->text = arena_copy(arena, span_of(text, n < (int)sizeof text ? (size_t)n : sizeof text - 1));
}

const struct transport transport_http = {
    .name = "http",
    .request = http_request,
    .probe = http_probe,
    .handshake = http_handshake,
    .consents = http_consents,
    .judge = http_judge,
    .broke = http_broke,
    .judge_probe = http_judge_probe,
};
