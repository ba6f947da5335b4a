/* schedule: when an output may send. Part of step 9.
 *
 * A pure state machine over monotonic microseconds: it is told what was sent and what became of it, and
 * answers how many requests may start now, and when to ask again.
 *
 *   OK        as many as concurrency allows; after an outage `ramp` bounds it, which grows by one with each
 * success. RETRYING  one request at a time (the probe), after a delay that is random over the whole interval
 *             [0, min(retry.max, retry.initial * 2^n)]: full jitter, applied after the cap.
 *   HELD      the upstream refuses us, not the events: one probe after max(retry.initial, 1 s), doubling to
 *             retry.max. Leaves by a success.
 *   STOPPED   holds without probing until resumed.
 *
 * A Retry-After is a floor for every request of the output; retry.max never shortens it. A result of a
 * request that was sent before the latest failure says nothing about the time since: it neither ends an
 * outage nor deepens it. Only a success resets the delays. Time only ever comes from the monotonic clock, so
 * that steps of the wall clock do nothing here. */
#ifndef PENSTOCK_OUTPUT_SCHEDULE_H
#define PENSTOCK_OUTPUT_SCHEDULE_H

#include "lib/base/rng.h"

#include <stdbool.h>
#include <stdint.h>

enum schedule_phase { SCHEDULE_OK, SCHEDULE_RETRYING, SCHEDULE_HELD, SCHEDULE_STOPPED };

struct schedule {
    uint64_t initial_us, max_us;
    unsigned concurrency;
    enum schedule_phase phase;
    bool paused;
    bool quota;   /* a Retry-After of over an hour, or the api says quota: has its own name in status */
    bool probing; /* the one request of RETRYING or HELD is out */
    uint64_t probe_no;
    unsigned failures;   /* in a row */
    unsigned holds;      /* in a row */
    unsigned ramp;       /* requests in flight allowed after an outage; 0: as many as concurrency */
    uint64_t failing_us; /* when the outage or hold began; 0: none */
    uint64_t next_us;    /* no probe before */
    uint64_t floor_us;   /* no request before */
    uint64_t sends;      /* number of the latest send */
    uint64_t mark;       /* `sends` at the latest failure */
    uint32_t budget;     /* immediate retries that may still be made, in tenths */
};

void schedule_init(struct schedule *s, uint64_t initial_us, uint64_t max_us, unsigned concurrency);
void schedule_limits(struct schedule *s, uint64_t initial_us, uint64_t max_us, unsigned concurrency);

/* How many requests may start now, with `in_flight` out already. */
unsigned schedule_slots(const struct schedule *s, uint64_t now_us, unsigned in_flight);
/* When schedule_slots() may grow by time alone; 0: only by news. */
uint64_t schedule_wake_us(const struct schedule *s, uint64_t now_us);
/* Is the next request the probe of a held output? */
bool schedule_is_hold_probe(const struct schedule *s);

/* A request starts. The number names it in the reports below. */
uint64_t schedule_sent(struct schedule *s);
/* It was answered, and the answer shows that the upstream takes us. Says nothing while a floor is ahead: another
 * request's Retry-After came later than this one was sent. */
void schedule_succeeded(struct schedule *s, uint64_t send_no, uint64_t now_us);
/* It failed in a way that time may mend. retry_after_us 0: none was given. */
void schedule_failed(struct schedule *s, uint64_t send_no, uint64_t now_us, uint64_t retry_after_us,
                     bool quota, struct rng *rng);
/* The upstream refuses us. */
void schedule_held(struct schedule *s, uint64_t send_no, uint64_t now_us, uint64_t retry_after_us,
                   bool forever, struct rng *rng);
/* The probe without a batch was welcome: a batch may go at once, but the delays are not reset before it
 * succeeds. */
void schedule_probe_welcome(struct schedule *s, uint64_t send_no, uint64_t now_us);
/* Any answer may carry a Retry-After: no request of the output before it. */
void schedule_floor(struct schedule *s, uint64_t now_us, uint64_t retry_after_us);
/* It ended with nothing learnt (cancelled). */
void schedule_forgotten(struct schedule *s, uint64_t send_no);

/* May one request be repeated at once, outside any delay? Immediate retries are bounded to a tenth of the
 * requests (and a small burst), so that they cannot become a storm. Takes from the budget when true. */
bool schedule_take_retry(struct schedule *s);

void schedule_pause(struct schedule *s);
/* Also ends holds and floors: one request may go now. */
void schedule_resume(struct schedule *s, uint64_t now_us);

/* Random in [0, min(max, initial << tries)]. */
uint64_t schedule_jitter_us(const struct schedule *s, unsigned tries, struct rng *rng);

#endif
