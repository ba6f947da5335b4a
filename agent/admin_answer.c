/* admin_answer: see admin_answer.h. */
#include "agent/admin_answer.h"

#include <stdio.h>

void admin_respond(struct http_conn *c, uint64_t handle, unsigned status, struct span type, struct span body)
{
    struct http_answer answer = {.status = status, .content_type = type, .body = body};
    http_conn_answer(c, handle, &answer);
}

void admin_respond_text(struct http_conn *c, uint64_t handle, unsigned status, const char *text)
{
    admin_respond(c, handle, status, SPAN("text/plain; charset=utf-8"), span_str(text));
}

void admin_respond_error(struct http_conn *c, uint64_t handle, unsigned status, const char *code, const char *message)
{
    char body[512];
    (void)snprintf(body, sizeof body, "{\"error\":{\"code\":\"%s\",\"message\":\"%s\"}}\n", code, message);
    admin_respond(c, handle, status, SPAN("application/json"), span_str(body));
}
