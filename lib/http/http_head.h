/* http_head: the head of a request: what llhttp's callbacks note down, and the judgement once it is whole
 * (part of http_server). */
#ifndef PENSTOCK_HTTP_HTTP_HEAD_H
#define PENSTOCK_HTTP_HTTP_HEAD_H

#include "lib/http/http_server.h"

/* Callbacks for `s->parser`, whose `data` is the connection. */
const llhttp_settings_t *http_head_settings(void);

/* Readies the connection's notes and its parser for the next head. */
void http_head_begin(struct http_server *s);

/* Judges the whole head, head_len bytes at http_head_bytes(). Trims values, marks known headers, sets
 * keep_alive. False: s->refusal says why not. */
MUST_USE bool http_head_judge(struct http_server *s);

/* The head's bytes so far: the spill's, or the caller's. */
const uint8_t *http_head_bytes(const struct http_server *s);

/* The read ends inside a request: what came of the head and its notes move into memory of our own. ERR_FULL:
 * no memory for it. Does nothing when that has been done. */
MUST_USE enum err http_head_keep(struct http_server *s);

/* Fills shared->request from a judged head. */
void http_head_show(struct http_server *s, struct span body);

/* Notes why, for whoever returns next; the first reason stays. */
void http_head_refuse(struct http_server *s, unsigned status, const char *code, const char *message);

#endif
