/* admin_answer: how the admin's handlers answer, shared by admin.c and the files that serve single paths. */
#ifndef PENSTOCK_AGENT_ADMIN_ANSWER_H
#define PENSTOCK_AGENT_ADMIN_ANSWER_H

#include "agent/http_front.h"

void admin_respond(struct http_conn *c, uint64_t handle, unsigned status, struct span type, struct span body);
void admin_respond_text(struct http_conn *c, uint64_t handle, unsigned status, const char *text);
/* {"error":{"code":"…","message":"…"}}; both are plain ASCII without quotes. */
void admin_respond_error(struct http_conn *c, uint64_t handle, unsigned status, const char *code, const char *message);

#endif
