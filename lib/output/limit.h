/* limit: how fast and how large. Part of steps 8 and 9.
 *
 *   limit_rate     `rate_limit: N/period`: a token bucket kept as one deadline. Its burst is a tenth of N (at
 * least one) and its refill is slowed by as much, so that no window of one period holds more than N.
 *   limit_pace     after a long outage: many agents that come back to one upstream must not send their
 * backlog all at once. Requests are paced at twice the rate of the time before, and faster only while the
 *                  backlog does not shrink.
 *   limit_learned  after a 413: batches of at most half the refused size for a while; doubles back.
 *   limit_adapt    `concurrency: auto`: additive increase on success, multiplicative decrease on push-back
 * and on round trips that grow well beyond the best one seen.
 *
 * All times are monotonic. */
#ifndef PENSTOCK_OUTPUT_LIMIT_H
#define PENSTOCK_OUTPUT_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

struct limit_rate {
    uint64_t interval_ns, slack_ns; /* interval 0: no limit */
    uint64_t due_ns;                /* when the bucket would be full again, in GCRA's terms */
};
void limit_rate_set(struct limit_rate *l, uint64_t requests, uint64_t per_us); /* keeps what was used */
/* When the next request may go; <= now: now. */
uint64_t limit_rate_at_us(const struct limit_rate *l);
/* Whole tokens there are now, at most `most`. */
unsigned limit_rate_tokens(const struct limit_rate *l, uint64_t now_us, unsigned most);
void limit_rate_take(struct limit_rate *l, uint64_t now_us);

struct limit_pace {
    bool on;
    struct limit_rate rate;
    uint64_t per_minute;        /* requests: present pace, when on */
    uint64_t steady_per_minute; /* requests of the last whole minute of normal running */
    uint64_t minute_start_us, minute_count;
    uint64_t check_us, check_pending;
};
/* A request goes out; normal: the output runs without failures. */
void limit_pace_sent(struct limit_pace *p, uint64_t now_us, bool normal);
/* An outage that began at failing_us ended: begins pacing if it was long. */
void limit_pace_begin(struct limit_pace *p, uint64_t failing_us, uint64_t now_us, uint64_t pending);
/* Called now and then while on: raises the pace when `pending` does not shrink, ends it when the backlog is
 * gone. */
void limit_pace_check(struct limit_pace *p, uint64_t now_us, uint64_t pending, bool drained);

struct limit_learned {
    uint64_t bytes; /* 0: nothing learned */
    uint64_t since_us;
};
void limit_learned_refused(struct limit_learned *l, uint64_t refused_bytes, uint64_t now_us);
/* `configured`, or less for a while. */
uint64_t limit_learned_max(struct limit_learned *l, uint64_t configured, uint64_t now_us);

struct limit_adapt {
    bool on;
    unsigned ceiling;
    double level;
    uint64_t best_us; /* shortest round trip of late; decays upwards */
    uint64_t smooth_us;
    uint64_t cut_mark; /* sends up to this number were already paid for by a cut */
};
void limit_adapt_set(struct limit_adapt *a, bool on, unsigned ceiling);
unsigned limit_adapt_level(const struct limit_adapt *a);
/* An answer that took rtt_us came; `busy`: as many were in flight as allowed. sends: number of the latest
 * send. */
void limit_adapt_answered(struct limit_adapt *a, uint64_t rtt_us, bool busy, uint64_t send_no,
                          uint64_t sends);
void limit_adapt_pushed_back(struct limit_adapt *a, uint64_t send_no, uint64_t sends);

#endif
