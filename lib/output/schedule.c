/* schedule: see schedule.h. Asked by dispatch.c before each send (step 9), told by it what became of it. */
#include "lib/output/schedule.h"

#include "lib/base/clock.h"
#include "lib/base/ensure.h"
#include "lib/spool/bugs.h"

#define HOLD_MIN_US US_PER_S
#define QUOTA_FROM_US (3600 * US_PER_S)
/* A longer Retry-After than this is taken for this long: a limit on nonsense, not on the upstream. */
#define FLOOR_MAX_US (400 * UINT64_C(86400) * US_PER_S)
#define BUDGET_MAX 100 /* ten immediate retries */
#define BUDGET_RETRY 10
#define BUDGET_SEND 1

void schedule_init(struct schedule *s, uint64_t initial_us, uint64_t max_us, unsigned concurrency)
{
    *s = (struct schedule){.phase = SCHEDULE_OK, .budget = BUDGET_MAX};
    schedule_limits(s, initial_us, max_us, concurrency);
}

void schedule_limits(struct schedule *s, uint64_t initial_us, uint64_t max_us, unsigned concurrency)
{
    s->initial_us = initial_us == 0 ? US_PER_MS : initial_us;
    s->max_us = max_us < s->initial_us ? s->initial_us : max_us;
    s->concurrency = concurrency == 0 ? 1 : concurrency;
}

static uint64_t doubled(uint64_t initial_us, unsigned times, uint64_t max_us)
{
    uint64_t v = initial_us;
    while (times-- > 0 && v < max_us)
        v *= 2;
    return v < max_us ? v : max_us;
}

uint64_t schedule_jitter_us(const struct schedule *s, unsigned tries, struct rng *rng)
{
    return rng_below(rng, doubled(s->initial_us, tries, s->max_us) + 1);
}

static uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

unsigned schedule_slots(const struct schedule *s, uint64_t now_us, unsigned in_flight)
{
    if (s->paused || now_us < s->floor_us)
        return 0;
    unsigned bound = s->concurrency;
    switch (s->phase) {
    case SCHEDULE_OK:
        if (s->ramp != 0 && s->ramp < bound)
            bound = s->ramp;
        return bound > in_flight ? bound - in_flight : 0;
    case SCHEDULE_RETRYING:
    case SCHEDULE_HELD:
        if (in_flight >= bound) /* of before it failed, or before there were fewer allowed */
            return 0;
        return (s->probing && !BUG(109)) || now_us < s->next_us ? 0 : 1;
    case SCHEDULE_STOPPED:
        return 0;
    }
    return 0;
}

uint64_t schedule_wake_us(const struct schedule *s, uint64_t now_us)
{
    if (s->paused || s->phase == SCHEDULE_STOPPED)
        return 0;
    uint64_t at = s->floor_us;
    if (s->phase != SCHEDULE_OK) {
        if (s->probing)
            return 0;
        at = later(at, s->next_us);
    }
    return at > now_us ? at : 0;
}

bool schedule_is_hold_probe(const struct schedule *s)
{
    return s->phase == SCHEDULE_HELD;
}

uint64_t schedule_sent(struct schedule *s)
{
    s->sends++;
    if (s->phase != SCHEDULE_OK) {
        s->probing = true;
        s->probe_no = s->sends;
    }
    if (s->budget < BUDGET_MAX)
        s->budget += BUDGET_SEND;
    return s->sends;
}

/* The probe, if it was this one, is back. */
static void back(struct schedule *s, uint64_t send_no)
{
    if (s->probing && send_no == s->probe_no)
        s->probing = false;
}

void schedule_forgotten(struct schedule *s, uint64_t send_no)
{
    back(s, send_no);
}

void schedule_succeeded(struct schedule *s, uint64_t send_no, uint64_t now_us)
{
    back(s, send_no);
    /* With a floor ahead it was sent before that was set: what was asked for since is the later word. */
    if (send_no <= s->mark || (now_us < s->floor_us && !BUG(108)))
        return;
    if (s->phase != SCHEDULE_OK)
        s->ramp = BUG(110) ? 0 : 1;
    s->phase = SCHEDULE_OK;
    s->probing = false;
    s->quota = false;
    s->failures = s->holds = 0;
    s->failing_us = 0;
    s->next_us = 0;
    s->floor_us = BUG(108) ? 0 : s->floor_us;
    if (s->ramp != 0 && ++s->ramp >= s->concurrency)
        s->ramp = 0;
}

static void floor_set(struct schedule *s, uint64_t now_us, uint64_t retry_after_us, bool quota)
{
    if (retry_after_us > FLOOR_MAX_US)
        retry_after_us = FLOOR_MAX_US;
    if (BUG(124) && retry_after_us > s->max_us)
        retry_after_us = s->max_us;
    if (retry_after_us > 0)
        s->floor_us = later(s->floor_us, now_us + retry_after_us);
    if ((quota || retry_after_us > QUOTA_FROM_US) && !BUG(128))
        s->quota = true;
}

void schedule_floor(struct schedule *s, uint64_t now_us, uint64_t retry_after_us)
{
    floor_set(s, now_us, retry_after_us, false);
}

static void hold_delay(struct schedule *s, uint64_t now_us, struct rng *rng)
{
    uint64_t first = later(s->initial_us, HOLD_MIN_US);
    uint64_t max = later(s->max_us, first);
    uint64_t delay = doubled(first, s->holds, max);
    if (s->holds > 0) /* spread out, but never before the first delay */
        delay = later(first, delay - rng_below(rng, delay / 4 + 1));
    s->holds++;
    s->mark = s->sends;
    s->next_us = later(now_us + delay, s->floor_us);
}

void schedule_failed(struct schedule *s, uint64_t send_no, uint64_t now_us, uint64_t retry_after_us,
                     bool quota, struct rng *rng)
{
    back(s, send_no);
    floor_set(s, now_us, retry_after_us, quota);
    if (s->failing_us == 0)
        s->failing_us = now_us;
    if (s->phase == SCHEDULE_STOPPED)
        return;
    if (s->phase == SCHEDULE_HELD) {
        /* What held us may still be there: an outage on top of it does not end the hold. */
        if (send_no > s->mark)
            hold_delay(s, now_us, rng);
        return;
    }
    if (send_no > s->mark || s->phase == SCHEDULE_OK) {
        s->phase = SCHEDULE_RETRYING;
        s->mark = s->sends;
        s->next_us = now_us + schedule_jitter_us(s, s->failures, rng);
        s->failures++;
    }
    /* Everybody who was told the same floor comes back spread out behind it. */
    if (s->floor_us > now_us)
        s->next_us =
            later(s->next_us, s->floor_us + schedule_jitter_us(s, s->failures - (s->failures > 0), rng));
}

void schedule_held(struct schedule *s, uint64_t send_no, uint64_t now_us, uint64_t retry_after_us,
                   bool forever, struct rng *rng)
{
    back(s, send_no);
    floor_set(s, now_us, retry_after_us, false);
    if (s->failing_us == 0)
        s->failing_us = now_us;
    if (s->phase == SCHEDULE_STOPPED)
        return;
    bool news = send_no > s->mark || s->phase != SCHEDULE_HELD;
    s->phase = forever && !BUG(119) ? SCHEDULE_STOPPED : SCHEDULE_HELD;
    if (news)
        hold_delay(s, now_us, rng);
}

void schedule_probe_welcome(struct schedule *s, uint64_t send_no, uint64_t now_us)
{
    back(s, send_no);
    if (s->phase != SCHEDULE_HELD)
        return;
    s->phase = SCHEDULE_RETRYING;
    s->failing_us = now_us; /* time on hold is not time of failing */
    s->next_us = now_us;
}

bool schedule_take_retry(struct schedule *s)
{
    if (s->phase != SCHEDULE_OK || s->budget < BUDGET_RETRY || (BUG(127) && BUG_USES() > 3))
        return false;
    s->budget -= BUDGET_RETRY;
    return true;
}

void schedule_pause(struct schedule *s)
{
    s->paused = true;
}

void schedule_resume(struct schedule *s, uint64_t now_us)
{
    s->paused = false;
    s->quota = false;
    s->floor_us = 0;
    s->failures = s->holds = 0;
    if (s->phase == SCHEDULE_STOPPED)
        s->phase = SCHEDULE_HELD;
    if (s->phase != SCHEDULE_OK)
        s->next_us = now_us;
}
