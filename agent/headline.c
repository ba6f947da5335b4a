/* headline: see headline.h. Beside the straight line, as the status page is. */
#include "agent/headline.h"

#include "agent/agent.h"
#include "agent/input.h"
#include "agent/output_host.h"
#include "agent/systemd.h"
#include "lib/base/clock.h"

#include <stdarg.h>
#include <stdio.h>

#define EVERY_S 5
#define LINE_BYTES 700
#define REASON_BYTES 160 /* of one output; the whole is in `penstock status` */
#define PATIENCE_US (30 * US_PER_S)

struct line {
    char text[LINE_BYTES];
    size_t len;
};

/* What does not fit is left out. */
static void add(struct line *l, const char *format, ...) PRINTF_LIKE(2, 3);
static void add(struct line *l, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(l->text + l->len, sizeof l->text - l->len, format, args);
    va_end(args);
    if (n > 0)
        l->len = l->len + (size_t)n < sizeof l->text ? l->len + (size_t)n : sizeof l->text - 1;
}

/* Two digits are enough to see by. */
static unsigned long long roundly(uint64_t n)
{
    uint64_t unit = 1;
    while (n / unit >= 100)
        unit *= 10;
    return (n + unit / 2) / unit * unit;
}

/* Events a second since the last line; the sum falls when a reload takes an input away. */
static uint64_t rate_in(struct agent *a)
{
    uint64_t received = 0, now_us = clock_mono_us(&a->clock), rate = 0;
    struct headline *h = &a->headline;
    for (const struct list *node = a->inputs.next; node != &a->inputs; node = node->next)
        received += CONTAINER_OF(node, const struct input, node)->counters.received;
    if (h->at_us != 0 && now_us > h->at_us && received > h->received)
        rate = (received - h->received) * US_PER_S / (now_us - h->at_us);
    h->received = received;
    h->at_us = now_us;
    return rate;
}

static void add_output(struct line *l, const struct output_host *h, const struct output_status *s)
{
    if (h->phase == HOST_OPENING) {
        add(l, "; output %s is being opened", h->name);
    } else if (s->state != OUT_OK) {
        add(l, "; output %s is %s", h->name, output_state_names[s->state]);
        if (s->error[0] != '\0' && s->error_status != 0)
            add(l, ": %u %.*s", s->error_status, REASON_BYTES, s->error);
        else if (s->error[0] != '\0')
            add(l, ": %.*s", REASON_BYTES, s->error);
    } else if (s->held_count > 0) {
        add(l, "; output %s holds partition %.60s: %.*s", h->name, s->held[0].partition, REASON_BYTES, s->held[0].text);
    }
}

static void tell(struct agent *a)
{
    static const char *const doing[] = {"starting: ", "", "stopping: ", "stopping: "};
    struct line figures = {.len = 0}, outputs = {.len = 0};
    uint64_t pending = 0, dead = 0;
    for (unsigned i = 0; i < a->output_count; i++) {
        struct output_status s;
        output_host_status(a->outputs[i], &s);
        pending += s.ledger.pending;
        dead += s.ledger.dead;
        add_output(&outputs, a->outputs[i], &s);
    }
    uint64_t rate = rate_in(a);
    add(&figures, "%s", doing[a->phase]);
    if (a->phase == AGENT_RUNNING)
        add(&figures, "%llu events/s in, ", roundly(rate));
    add(&figures, "%llu pending", roundly(pending));
    if (dead > 0)
        add(&figures, ", %llu dead", (unsigned long long)dead);
    systemd_status("%s%s", figures.text, outputs.text);
}

void headline_second(struct agent *a)
{
    if (a->seconds % EVERY_S != 0 || !systemd_listens())
        return;
    tell(a);
    if (a->phase != AGENT_RUNNING)
        systemd_notify("EXTEND_TIMEOUT_USEC=%llu", (unsigned long long)PATIENCE_US);
}
