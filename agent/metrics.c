/* metrics: see metrics.h. One function per family; each asks the cores for their present figures. */
#include "agent/metrics.h"

#include "agent/agent.h"
#include "agent/input.h"
#include "agent/output_host.h"
#include "lib/config/config.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static const char *const drop_names[SPOOL_DROP_REASONS] = {
    [SPOOL_DROP_QUOTA] = "quota",     [SPOOL_DROP_SHED] = "shed",     [SPOOL_DROP_EXPIRED] = "expired",
    [SPOOL_DROP_CORRUPT] = "corrupt", [SPOOL_DROP_PURGED] = "purged",
};

/* The snapshot of one output, taken once for all families, so that the ledger balances within one answer. */
struct view {
    const char *name;
    const struct output_host *host;
    struct output_status s;
};

struct page {
    struct bytes *b;
    enum err err; /* the first one */
};

static void put(struct page *p, const char *format, ...) PRINTF_LIKE(2, 3);
static void put(struct page *p, const char *format, ...)
{
    char line[512];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (p->err == OK)
        p->err = n < 0 || (size_t)n >= sizeof line ? ERR_TOO_BIG : bytes_append(p->b, span_of(line, (size_t)n));
}

static void family(struct page *p, const char *name, const char *type, const char *help)
{
    put(p, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

#define ULL(x) ((unsigned long long)(x))

static void inputs(struct page *p, const struct agent *a)
{
    const struct list *node;
#define EACH_INPUT(in) \
    for (node = a->inputs.next; \
         node != &a->inputs && ((in) = CONTAINER_OF(node, const struct input, node)) != NULL; node = node->next)
    const struct input *in;
    family(p, "penstock_events_received_total", "counter", "Events offered to an input, whatever became of them.");
    EACH_INPUT(in)
        put(p, "penstock_events_received_total{input=\"%s\"} %llu\n", in->config->name, ULL(in->counters.received));
    family(p, "penstock_events_rejected_total", "counter", "Events that an input refused, by reason.");
    EACH_INPUT(in)
        for (unsigned r = 0; r < REJECT_REASONS; r++)
            put(p, "penstock_events_rejected_total{input=\"%s\",reason=\"%s\"} %llu\n", in->config->name,
                api_reject_names[r], ULL(in->counters.rejected[r]));
    family(p, "penstock_events_sampled_total", "counter", "Events left out by a route's sampling.");
    EACH_INPUT(in)
        put(p, "penstock_events_sampled_total{input=\"%s\"} %llu\n", in->config->name, ULL(in->counters.sampled));
    family(p, "penstock_bytes_in_total", "counter", "Bytes of bodies and datagrams that an input received.");
    EACH_INPUT(in)
        put(p, "penstock_bytes_in_total{input=\"%s\"} %llu\n", in->config->name, ULL(in->counters.bytes_in));
    family(p, "penstock_events_duplicate_total", "counter",
           "Events that came again within 5 minutes and were stored once.");
    EACH_INPUT(in)
        put(p, "penstock_events_duplicate_total{input=\"%s\"} %llu\n", in->config->name, ULL(in->counters.duplicates));
    family(p, "penstock_input_paused_total", "counter",
           "Times that a connection was not read since too much was under way already.");
    EACH_INPUT(in)
        put(p, "penstock_input_paused_total{input=\"%s\"} %llu\n", in->config->name, ULL(in->counters.paused));
#undef EACH_INPUT
}

#define EACH_OUTPUT(v) for (const struct view *v = views; v < views + count; v++)

static void ledger(struct page *p, const struct view *views, unsigned count)
{
    family(p, "penstock_events_accepted_total", "counter", "Events answered for: pending + delivered + dead + dropped.");
    EACH_OUTPUT(v)
        put(p, "penstock_events_accepted_total{output=\"%s\"} %llu\n", v->name, ULL(v->s.ledger.accepted));
    family(p, "penstock_events_pending", "gauge", "Accepted events that are not settled yet.");
    EACH_OUTPUT(v)
        put(p, "penstock_events_pending{output=\"%s\"} %llu\n", v->name, ULL(v->s.ledger.pending));
    family(p, "penstock_events_delivered_total", "counter", "Events that the upstream took.");
    EACH_OUTPUT(v)
        put(p, "penstock_events_delivered_total{output=\"%s\"} %llu\n", v->name, ULL(v->s.ledger.delivered));
    family(p, "penstock_events_dead", "gauge", "Dead letters now.");
    EACH_OUTPUT(v)
        put(p, "penstock_events_dead{output=\"%s\"} %llu\n", v->name, ULL(v->s.ledger.dead));
    family(p, "penstock_events_dropped_total", "counter", "Accepted events dropped, by reason.");
    EACH_OUTPUT(v)
        for (unsigned r = 0; r < SPOOL_DROP_REASONS; r++)
            put(p, "penstock_events_dropped_total{output=\"%s\",reason=\"%s\"} %llu\n", v->name, drop_names[r],
                ULL(v->s.ledger.dropped[r]));
    family(p, "penstock_events_dead_total", "counter", "Events dead-lettered ever, by reason.");
    EACH_OUTPUT(v)
        for (unsigned r = 0; r < DEAD_REASONS; r++)
            put(p, "penstock_events_dead_total{output=\"%s\",reason=\"%s\"} %llu\n", v->name, api_dead_names[r],
                ULL(v->s.ledger.dead_total[r]));
    family(p, "penstock_events_repeated_total", "counter",
           "Events sent again after an unknown outcome: the upper bound of repeats upstream.");
    EACH_OUTPUT(v)
        put(p, "penstock_events_repeated_total{output=\"%s\"} %llu\n", v->name, ULL(v->s.repeated));
}

static void spools(struct page *p, const struct agent *a, const struct view *views, unsigned count)
{
    uint64_t now = clock_wall_ns(&a->clock);
    family(p, "penstock_spool_bytes", "gauge", "Bytes on disk of an output's directory.");
    EACH_OUTPUT(v)
        put(p, "penstock_spool_bytes{output=\"%s\"} %llu\n", v->name, ULL(v->s.ledger.allocated_bytes));
    family(p, "penstock_spool_oldest_seconds", "gauge", "Age of the oldest pending event; 0 when none is.");
    EACH_OUTPUT(v) {
        uint64_t oldest = v->s.ledger.oldest_wall_ns;
        put(p, "penstock_spool_oldest_seconds{output=\"%s\"} %.3f\n", v->name,
            oldest == 0 || oldest > now ? 0.0 : (double)(now - oldest) / 1e9);
    }
}

static void histogram(struct page *p, const char *name, const char *output, const struct output_histogram *h)
{
    uint64_t cumulative = 0;
    for (unsigned i = 0; i + 1 < OUTPUT_HISTOGRAM_BUCKETS; i++) {
        cumulative += h->buckets[i];
        put(p, "%s_bucket{output=\"%s\",le=\"%g\"} %llu\n", name, output, output_histogram_bounds_s[i],
            ULL(cumulative));
    }
    put(p, "%s_bucket{output=\"%s\",le=\"+Inf\"} %llu\n", name, output, ULL(h->count));
    put(p, "%s_sum{output=\"%s\"} %.6f\n%s_count{output=\"%s\"} %llu\n", name, output, h->sum_s, name, output,
        ULL(h->count));
}

static void delivery(struct page *p, const struct view *views, unsigned count)
{
    family(p, "penstock_batches_total", "counter", "Batches by what became of a send.");
    EACH_OUTPUT(v)
        for (unsigned i = 0; i < sizeof v->s.batches / sizeof v->s.batches[0] && v->s.batches[i].result != NULL; i++)
            put(p, "penstock_batches_total{output=\"%s\",result=\"%s\"} %llu\n", v->name, v->s.batches[i].result,
                ULL(v->s.batches[i].count));
    family(p, "penstock_retries_total", "counter", "Requests that sent a batch again.");
    EACH_OUTPUT(v)
        put(p, "penstock_retries_total{output=\"%s\"} %llu\n", v->name, ULL(v->s.retries));
    family(p, "penstock_bytes_out_total", "counter", "Bytes of request bodies sent, as compressed.");
    EACH_OUTPUT(v)
        put(p, "penstock_bytes_out_total{output=\"%s\"} %llu\n", v->name, ULL(v->s.bytes_out));
    family(p, "penstock_request_seconds", "histogram", "Time from the start of a send to its outcome.");
    EACH_OUTPUT(v)
        histogram(p, "penstock_request_seconds", v->name, &v->s.request_seconds);
    family(p, "penstock_commit_seconds", "histogram", "Time of one write and sync of the spool.");
    EACH_OUTPUT(v)
        histogram(p, "penstock_commit_seconds", v->name, &v->s.commit_seconds);
    family(p, "penstock_output_state", "gauge", "1 for the state that an output is in.");
    EACH_OUTPUT(v)
        for (unsigned s = 0; s < OUT_STATES; s++)
            put(p, "penstock_output_state{output=\"%s\",state=\"%s\"} %d\n", v->name, output_state_names[s],
                v->s.state == (enum output_state)s);
}

static void certificates(struct page *p, const struct view *views, unsigned count)
{
    family(p, "penstock_tls_not_after_seconds", "gauge",
           "Unix time at which the upstream's certificate ends, as last seen; 0: none was seen.");
    EACH_OUTPUT(v)
        put(p, "penstock_tls_not_after_seconds{output=\"%s\"} %lld\n", v->name,
            (long long)upstream_peer_not_after(v->host->upstream));
    family(p, "penstock_tls_own_not_after_seconds", "gauge",
           "Unix time at which the certificate that the output shows ends; 0: it shows none.");
    EACH_OUTPUT(v)
        put(p, "penstock_tls_own_not_after_seconds{output=\"%s\"} %lld\n", v->name,
            (long long)upstream_own_not_after(v->host->upstream));
}

enum err metrics_render(const struct agent *a, struct bytes *into)
{
    struct page page = {.b = into};
    struct page *p = &page;
    struct view *views = must_alloc((a->output_count + 1) * sizeof *views);
    unsigned count = a->output_count;
    for (unsigned i = 0; i < count; i++) {
        views[i] = (struct view){.name = a->outputs[i]->name, .host = a->outputs[i]};
        output_host_status(a->outputs[i], &views[i].s);
    }
    inputs(p, a);
    ledger(p, views, count);
    spools(p, a, views, count);
    delivery(p, views, count);
    certificates(p, views, count);
    family(p, "penstock_build_info", "gauge", "Always 1.");
    put(p, "penstock_build_info{version=\"%s\"} 1\n", PENSTOCK_VERSION);
    free(views);
    return page.err;
}
