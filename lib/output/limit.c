/* limit: see limit.h. Asked by fill.c and dispatch.c (steps 8 and 9). */
#include "lib/output/limit.h"

#include "lib/base/clock.h"

#define NS_PER_US UINT64_C(1000)
#define MINUTE_US (60 * US_PER_S)

/* --- rate --- */

void limit_rate_set(struct limit_rate *l, uint64_t requests, uint64_t per_us)
{
    if (requests == 0 || per_us == 0) {
        l->interval_ns = l->slack_ns = 0;
        return;
    }
    uint64_t burst = requests / 10 == 0 ? 1 : requests / 10;
    l->interval_ns = per_us * NS_PER_US / (requests - burst + 1);
    if (l->interval_ns == 0)
        l->interval_ns = 1;
    l->slack_ns = (burst - 1) * l->interval_ns;
}

uint64_t limit_rate_at_us(const struct limit_rate *l)
{
    if (l->interval_ns == 0 || l->due_ns <= l->slack_ns)
        return 0;
    return (l->due_ns - l->slack_ns + NS_PER_US - 1) / NS_PER_US;
}

unsigned limit_rate_tokens(const struct limit_rate *l, uint64_t now_us, unsigned most)
{
    if (l->interval_ns == 0)
        return most;
    uint64_t now_ns = now_us * NS_PER_US;
    if (now_ns + l->slack_ns < l->due_ns)
        return 0;
    uint64_t since = l->due_ns > now_ns ? now_ns + l->slack_ns - l->due_ns : l->slack_ns;
    uint64_t tokens = since / l->interval_ns + 1;
    return tokens < most ? (unsigned)tokens : most;
}

void limit_rate_take(struct limit_rate *l, uint64_t now_us)
{
    uint64_t now_ns = now_us * NS_PER_US;
    if (l->due_ns < now_ns)
        l->due_ns = now_ns;
    l->due_ns += l->interval_ns;
}

/* --- pace after an outage --- */

#define PACE_FROM_US (5 * MINUTE_US) /* shorter outages are caught up at full speed */
#define PACE_CHECK_US (20 * US_PER_S)
#define PACE_MIN_PER_MINUTE 60    /* one request a second, however quiet it was before */
#define PACE_MAX_PER_MINUTE 60000 /* beyond this there is nothing left to hold back */

static void pace_set(struct limit_pace *p, uint64_t per_minute)
{
    p->per_minute = per_minute;
    limit_rate_set(&p->rate, per_minute, MINUTE_US);
    p->rate.slack_ns = 0; /* no burst: this is what it is for */
}

void limit_pace_sent(struct limit_pace *p, uint64_t now_us, bool normal)
{
    if (p->on)
        limit_rate_take(&p->rate, now_us);
    if (!normal || p->on) {
        p->minute_start_us = 0;
        return;
    }
    if (p->minute_start_us == 0 || now_us - p->minute_start_us > 10 * MINUTE_US) {
        p->minute_start_us = now_us;
        p->minute_count = 0;
    }
    p->minute_count++;
    if (now_us - p->minute_start_us >= MINUTE_US) {
        p->steady_per_minute = p->minute_count * MINUTE_US / (now_us - p->minute_start_us);
        p->minute_start_us = now_us;
        p->minute_count = 0;
    }
}

void limit_pace_begin(struct limit_pace *p, uint64_t failing_us, uint64_t now_us, uint64_t pending)
{
    if (failing_us == 0 || now_us - failing_us < PACE_FROM_US)
        return;
    uint64_t per_minute = 2 * p->steady_per_minute;
    p->on = true;
    p->check_us = now_us + PACE_CHECK_US;
    p->check_pending = pending;
    pace_set(p, per_minute < PACE_MIN_PER_MINUTE ? PACE_MIN_PER_MINUTE : per_minute);
}

void limit_pace_check(struct limit_pace *p, uint64_t now_us, uint64_t pending, bool drained)
{
    if (!p->on || now_us < p->check_us)
        return;
    p->check_us = now_us + PACE_CHECK_US;
    if (drained || p->per_minute >= PACE_MAX_PER_MINUTE) {
        p->on = false;
        limit_rate_set(&p->rate, 0, 0);
        return;
    }
    if (pending >= p->check_pending)
        pace_set(p, p->per_minute * 2);
    p->check_pending = pending;
}

/* --- learned size --- */

#define LEARNED_FOR_US (10 * MINUTE_US)

void limit_learned_refused(struct limit_learned *l, uint64_t refused_bytes, uint64_t now_us)
{
    uint64_t half = refused_bytes / 2 == 0 ? 1 : refused_bytes / 2;
    if (l->bytes == 0 || half < l->bytes)
        l->bytes = half;
    l->since_us = now_us;
}

uint64_t limit_learned_max(struct limit_learned *l, uint64_t configured, uint64_t now_us)
{
    while (l->bytes != 0 && now_us - l->since_us >= LEARNED_FOR_US) {
        l->bytes *= 2;
        l->since_us += LEARNED_FOR_US;
        if (l->bytes >= configured)
            l->bytes = 0;
    }
    return l->bytes != 0 && l->bytes < configured ? l->bytes : configured;
}

/* --- concurrency: auto --- */

#define ADAPT_FLOOR_US (20 * US_PER_MS) /* round trips below this are noise */

void limit_adapt_set(struct limit_adapt *a, bool on, unsigned ceiling)
{
    a->on = on;
    a->ceiling = ceiling == 0 ? 1 : ceiling;
    if (a->level < 1.0)
        a->level = 1.0;
    if (a->level > a->ceiling)
        a->level = a->ceiling;
}

unsigned limit_adapt_level(const struct limit_adapt *a)
{
    return a->on ? (unsigned)a->level : a->ceiling;
}

static void cut(struct limit_adapt *a, double factor, uint64_t sends)
{
    a->level = a->level * factor < 1.0 ? 1.0 : a->level * factor;
    a->cut_mark = sends;
}

void limit_adapt_answered(struct limit_adapt *a, uint64_t rtt_us, bool busy, uint64_t send_no, uint64_t sends)
{
    if (!a->on)
        return;
    a->smooth_us = a->smooth_us == 0 ? rtt_us : (3 * a->smooth_us + rtt_us) / 4;
    if (a->best_us == 0 || rtt_us < a->best_us)
        a->best_us = rtt_us;
    else
        a->best_us += a->best_us / 1024 + 1; /* forget slowly: paths change */
    uint64_t bound = 2 * a->best_us + ADAPT_FLOOR_US;
    if (a->smooth_us > bound) {
        if (send_no > a->cut_mark)
            cut(a, 0.9, sends);
    } else if (busy) {
        a->level += 1.0 / a->level;
        if (a->level > a->ceiling)
            a->level = a->ceiling;
    }
}

void limit_adapt_pushed_back(struct limit_adapt *a, uint64_t send_no, uint64_t sends)
{
    if (a->on && send_no > a->cut_mark)
        cut(a, 0.5, sends);
}
