/* sink_respond: how the development upstream is told to misbehave.
 *
 * A rule is one line of comma-separated items, given by --respond or POST /_sink/respond: which requests it
 * is for, and what they get instead of the vendor's usual answer. The first rule that matches a request
 * decides; a rule that has done its `times` is passed over. The grammar is sink_respond_help. */
#ifndef PENSTOCK_AGENT_SINK_RESPOND_H
#define PENSTOCK_AGENT_SINK_RESPOND_H

#include "lib/base/bytes.h"
#include "lib/base/rng.h"

#define SINK_RULE_EVENTS_MAX 16
#define SINK_RULE_HEADERS_MAX 8
#define SINK_RULES_MAX 64

enum sink_hangup {
    HANGUP_NONE,
    HANGUP_BODY,   /* as soon as the header is there: the body is not read */
    HANGUP_BEFORE, /* the request was taken whole; not a byte of an answer */
    HANGUP_IN,     /* in the middle of the answer */
    HANGUP_AFTER,  /* right after the answer, without saying Connection: close */
};

struct sink_rule_event {
    uint32_t index; /* UINT32_MAX: every event */
    unsigned status;
};

struct sink_rule {
    /* which requests */
    struct span path, api; /* prefix, name; .at NULL: any */
    uint64_t times;        /* 0: for ever */
    uint64_t every;        /* each Nth request that matches; 0 and 1: each */
    uint64_t after;        /* lets the first so many pass */
    unsigned chance;       /* percent; 0: always */
    /* what they get */
    unsigned status; /* 0: the vendor's */
    struct span retry_after;
    bool retry_after_date; /* retry_after is seconds, to be sent as a date */
    struct span headers[SINK_RULE_HEADERS_MAX]; /* whole lines */
    unsigned header_count;
    struct span body, type;
    struct sink_rule_event events[SINK_RULE_EVENTS_MAX];
    unsigned event_count;
    uint64_t results_max; /* per-event results: no more than so many; UINT64_MAX: all */
    uint64_t delay_ms, drip_ms;
    enum sink_hangup hangup;
    bool truncate, garbage, garbage_http, legacy_removed;
    enum { STORE_BY_STATUS, STORE_YES, STORE_NO } store;
    /* so far */
    uint64_t seen, used;
    char *text; /* what the spans above point into; owned */
    struct bytes file; /* body=@FILE */
};

struct sink_rules {
    struct sink_rule *rules[SINK_RULES_MAX];
    unsigned count;
    struct rng rng;
};

extern const char sink_respond_help[];

void sink_rules_init(struct sink_rules *r, uint64_t seed);
void sink_rules_clear(struct sink_rules *r);
/* Adds the rule that `spec` says, after those that are there. */
MUST_USE enum err sink_rules_add(struct sink_rules *r, struct span spec, struct fault *why);
/* The rule for this request, counted as used, or NULL. Good until the next clear. */
struct sink_rule *sink_rules_find(struct sink_rules *r, struct span path, struct span api);
/* A request has begun whose body is not here yet: does a rule with hangup=body want it gone? Counts it as used. Such a
 * rule cannot be bound to a path or an api then, since neither is known. */
bool sink_rules_hangup_early(struct sink_rules *r);
/* What the rule says of the event at `index`, or 0. */
unsigned sink_rule_event_status(const struct sink_rule *r, uint32_t index);

#endif
