/* input: a place where the agent listens. What all kinds share: a name, counters, and one life:
 *   bind()   takes the address before any spool is touched, so that an address in use changes nothing;
 *   start()  begins to listen, once the spools can take events;
 *   stop()   takes nothing new: closes listeners and idle senders, answers those that wait;
 *   close()  closes what is left; gone() runs once, when the last handle is closed.
 * Each kind embeds a `struct input` and brings its table of functions. */
#ifndef PENSTOCK_AGENT_INPUT_H
#define PENSTOCK_AGENT_INPUT_H

#include "agent/intake.h"
#include "agent/reread.h"
#include "lib/base/list.h"
#include "lib/base/log.h"

struct agent;
struct bytes;
struct config_edition;
struct config_input;
struct input;
struct listener;

/* Who sends how much: over a connection that is open now, or in datagrams since the input began. */
struct input_sender {
    char who[80]; /* "pid 4711 of uid 1000", "192.0.2.7:51234" */
    uint64_t bytes;
};

struct input_kind {
    /* Allocates the input and takes its address. ERR_IN_USE, ERR_DENIED, ERR_IO. */
    enum err (*bind)(struct agent *a, const struct config_input *config, struct input **ret, struct fault *why);
    enum err (*start)(struct input *in, struct fault *why);
    void (*stop)(struct input *in);
    void (*close)(struct input *in);
    void (*free)(struct input *in); /* after gone */
    /* Where it listens, so that a reload which changes its settings can keep the address served. */
    struct listener *(*listener)(struct input *in);
    void (*second)(struct input *in);  /* once a second; NULL: nothing to do */
    void (*refresh)(struct input *in); /* brings the counters up to date; NULL: they always are */
    void (*reread)(struct input *in); /* secrets and certificates may have changed; every few seconds. NULL: has none */
    unsigned (*connections)(const struct input *in);
    /* The senders of most bytes, loudest first; how many. */
    unsigned (*loudest)(const struct input *in, struct input_sender *into, unsigned room);
};

/* For loudest(): keeps the list sorted. The new one, whose `who` is the caller's to write; NULL: too quiet. */
struct input_sender *input_sender_place(struct input_sender *list, unsigned *count, unsigned room, uint64_t bytes);

struct input {
    const struct input_kind *kind;
    struct agent *agent;
    const struct config_input *config;
    char subject[80];            /* "input http", for diagnostics */
    struct input_counters counters;
    uint64_t since_wall_ns;      /* when the counters began: at the start, or with the reload that brought the input */
    uint64_t last_wall_ns;       /* when something was last offered, to the second; 0: never */
    uint64_t received_seen;      /* the counter of then */
    struct list node;            /* in agent->inputs, or agent->inputs_going */
    struct config_edition *edition; /* what `config` is part of */
    uint64_t going_until_us;     /* a reload put it away: closed then at the latest, or when its last sender is gone */
    struct reread reread;        /* secrets and certificates */
    bool stopping, closing, closed;
};

extern const struct input_kind input_http_kind;
extern const struct input_kind input_stream_kind;
extern const struct input_kind input_dgram_kind;

/* `config` is part of `edition`, which the input takes. */
MUST_USE enum err input_bind(struct agent *a, struct config_edition *edition, const struct config_input *config,
                             struct input **ret, struct fault *why);
void input_stop(struct input *in);
void input_close(struct input *in); /* may be called twice */
void input_free(struct input *in);  /* after gone */
/* For kinds: the common part of bind(). */
void input_init(struct input *in, const struct input_kind *kind, struct agent *a, const struct config_input *config);
/* For kinds: has the secrets read again, and the certificates (NULL: none) when they look different from `looks`. */
void input_reread(struct input *in, void (*done)(struct reread *r, bool secrets_changed, const struct tls_files *tls),
                  const struct config_tls_server *tls, uint64_t looks);
/* For kinds: all handles are closed. Tells the agent. */
void input_gone(struct input *in);

#endif
