/* send_channel: how `penstock send` reaches a running agent: HTTP or a Unix stream, one batch at a time, blocking. */
#ifndef PENSTOCK_AGENT_SEND_CHANNEL_H
#define PENSTOCK_AGENT_SEND_CHANNEL_H

#include "agent/send_lines.h"
#include "lib/http/http_client.h"
#include "lib/http/url.h"

struct config_tls_client;
struct tls_context;
struct tls_session;

enum send_outcome {
    SEND_DONE,      /* answered: accepted and refused say what became of each */
    SEND_LATER,     /* not stored: the agent has no room; again after wait_ms with the same ids */
    SEND_UNKNOWN,   /* no answer, or one that says neither yes nor no; again with the same ids */
    SEND_TOO_LARGE, /* the batch as a whole: in halves */
    SEND_REFUSED,   /* the batch as a whole, and so would be every other */
};

struct send_result {
    uint64_t accepted, refused;
    uint64_t wait_ms; /* what the agent asked for; 0: nothing */
    char text[300];   /* in the agent's words, or the system's */
};

struct send_channel {
    const char *url_text;    /* --url, or NULL */
    const char *socket_path; /* --socket, or NULL */
    const char *token;       /* or NULL */
    struct url url;
    struct bytes target, authority, head;
    struct tls_context *tls;     /* https; NULL: not */
    struct tls_session *session; /* of the connection */
    int fd;             /* -1: not connected */
    bool connected_once;
    struct http_client http;
    struct bytes in;    /* Unix: bytes of answer lines */
    uint64_t accepted_before, refused_before; /* Unix: on this connection */
    /* Is told of each event that is refused; `line` may be NULL when the agent does not say which. */
    void (*on_refused)(void *ctx, const struct send_line *line, struct span text);
    void *ctx;
};

/* `url` is http:// or https:// (then `tls` says whom to trust, and may be NULL otherwise), or NULL with a socket's path.
 * All that is given stays the caller's and is needed until deinit. */
MUST_USE enum err send_channel_init(struct send_channel *c, const char *url, const char *socket_path, const char *token,
                                    const struct config_tls_client *tls, struct fault *why);
void send_channel_deinit(struct send_channel *c);

/* Sends lines [first, first + count) of the batch and waits for what becomes of them. */
enum send_outcome send_channel_post(struct send_channel *c, const struct send_batch *b, unsigned first, unsigned count,
                                    struct send_result *ret);

#endif
