/* status_json: see status_json.h. */
#include "agent/status_json.h"

#include "agent/agent.h"
#include "agent/input.h"
#include "agent/listener.h"
#include "agent/orphans.h"
#include "agent/output_host.h"
#include "lib/codec/json.h"
#include "lib/codec/rfc3339.h"
#include "lib/config/config.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Writes members one after another and sets the commas. */
struct writer {
    struct bytes *b;
    enum err err; /* the first one */
    bool comma;
};

static void raw(struct writer *w, const char *text)
{
    if (w->err == OK)
        w->err = bytes_append(w->b, span_str(text));
}

static void key(struct writer *w, const char *name)
{
    if (w->comma)
        raw(w, ",");
    w->comma = true;
    if (name == NULL)
        return;
    if (w->err == OK)
        w->err = bytes_printf(w->b, "\"%s\":", name);
}

static void open_(struct writer *w, const char *name, const char *bracket)
{
    key(w, name);
    raw(w, bracket);
    w->comma = false;
}

static void close_(struct writer *w, const char *bracket)
{
    raw(w, bracket);
    w->comma = true;
}

static void text(struct writer *w, const char *name, const char *value)
{
    key(w, name);
    if (w->err == OK)
        w->err = json_append_string(w->b, span_str(value));
}

static void number(struct writer *w, const char *name, uint64_t value)
{
    key(w, name);
    if (w->err == OK)
        w->err = bytes_printf(w->b, "%llu", (unsigned long long)value);
}

static void seconds(struct writer *w, const char *name, double value)
{
    key(w, name);
    if (w->err == OK)
        w->err = bytes_printf(w->b, "%.3f", value);
}

static void flag(struct writer *w, const char *name, bool value)
{
    key(w, name);
    raw(w, value ? "true" : "false");
}

/* A moment, or null when there was none. */
static void moment(struct writer *w, const char *name, uint64_t wall_ns)
{
    char when[RFC3339_TEXT + 1];
    key(w, name);
    if (wall_ns == 0) {
        raw(w, "null");
        return;
    }
    size_t n = rfc3339_format_ms(instant_of_ns(wall_ns), when);
    raw(w, "\"");
    if (w->err == OK)
        w->err = bytes_append(w->b, span_of(when, n));
    raw(w, "\"");
}

/* --- parts ---------------------------------------------------------------------------------------------- */

static void agent_part(struct writer *w, const struct agent *a)
{
    static const char *const phases[] = {"starting", "running", "stopping", "stopped"};
    uint64_t now = clock_mono_us(&a->clock);
    open_(w, "agent", "{");
    text(w, "name", a->name);
    text(w, "version", PENSTOCK_VERSION);
    number(w, "pid", (uint64_t)getpid());
    text(w, "phase", phases[a->phase]);
    moment(w, "started", a->started_wall_ns);
    seconds(w, "uptime_seconds", (double)(now - a->started_us) / 1e6);
    text(w, "data_dir", a->data_dir);
    close_(w, "}");
}

#define LOUDEST_MAX 5 /* senders named per input */

static void input_part(struct writer *w, const struct agent *a, struct input *in)
{
    uint64_t now = clock_wall_ns(&a->clock);
    const struct input_counters *c = &in->counters;
    const struct listener *l = in->kind->listener(in);
    open_(w, NULL, "{");
    text(w, "name", in->config->name);
    text(w, "type", config_input_type_names[in->config->type]);
    text(w, "listen", l->path != NULL ? l->path : l->text); /* the port that the kernel chose, the socket that was handed over */
    number(w, "connections", in->kind->connections == NULL ? 0 : in->kind->connections(in));
    moment(w, "since", in->since_wall_ns);
    moment(w, "last_received", in->last_wall_ns);
    seconds(w, "last_received_seconds",
            in->last_wall_ns == 0 || in->last_wall_ns > now ? 0 : (double)(now - in->last_wall_ns) / 1e9);
    number(w, "received", c->received);
    open_(w, "loudest", "[");
    struct input_sender loudest[LOUDEST_MAX];
    unsigned count = in->kind->loudest(in, loudest, LOUDEST_MAX);
    for (unsigned i = 0; i < count; i++) {
        open_(w, NULL, "{");
        text(w, "who", loudest[i].who);
        number(w, "bytes", loudest[i].bytes);
        close_(w, "}");
    }
    close_(w, "]");
    number(w, "sampled", c->sampled);
    number(w, "duplicates", c->duplicates);
    number(w, "bytes_in", c->bytes_in);
    number(w, "paused", c->paused);
    open_(w, "rejected", "{");
    for (unsigned r = 0; r < REJECT_REASONS; r++)
        number(w, api_reject_names[r], c->rejected[r]);
    close_(w, "}");
    close_(w, "}");
}

static void ledger_part(struct writer *w, const struct spool_ledger *l)
{
    static const char *const drops[SPOOL_DROP_REASONS] = {"quota", "shed", "expired", "corrupt", "purged"};
    number(w, "accepted", l->accepted);
    number(w, "pending", l->pending);
    number(w, "delivered", l->delivered);
    number(w, "dead", l->dead);
    open_(w, "dropped", "{");
    for (unsigned r = 0; r < SPOOL_DROP_REASONS; r++)
        number(w, drops[r], l->dropped[r]);
    close_(w, "}");
    open_(w, "dead_total", "{");
    for (unsigned r = 0; r < DEAD_REASONS; r++)
        number(w, api_dead_names[r], l->dead_total[r]);
    close_(w, "}");
}

static void spool_part(struct writer *w, const struct agent *a, const struct output_host *h,
                       const struct spool_ledger *l)
{
    uint64_t now = clock_wall_ns(&a->clock);
    open_(w, "spool", "{");
    number(w, "bytes", l->allocated_bytes);
    number(w, "max_bytes", h->config->spool.max_bytes);
    number(w, "segments", l->segments);
    seconds(w, "oldest_seconds",
            l->oldest_wall_ns == 0 || l->oldest_wall_ns > now ? 0 : (double)(now - l->oldest_wall_ns) / 1e9);
    number(w, "dead_bytes", l->dead_bytes);
    number(w, "gaps", l->gaps);
    number(w, "torn_bytes", l->torn_bytes);
    number(w, "identity_broken", l->identity_broken);
    number(w, "commits", l->commits);
    number(w, "commit_bytes", l->commit_bytes);
    close_(w, "}");
}

static void delivery_part(struct writer *w, const struct agent *a, const struct output_status *s)
{
    uint64_t now = clock_mono_us(&a->clock);
    moment(w, "since", s->since_wall_ns);
    moment(w, "last_success", s->success_wall_ns);
    seconds(w, "next_try_seconds", s->next_try_us <= now ? 0 : (double)(s->next_try_us - now) / 1e6);
    if (s->error[0] != '\0') {
        open_(w, "last_error", "{");
        text(w, "text", s->error);
        number(w, "status", s->error_status);
        moment(w, "time", s->error_wall_ns);
        close_(w, "}");
    }
    number(w, "in_flight", s->in_flight);
    number(w, "waiting", s->waiting);
    number(w, "open_batches", s->open_batches);
    number(w, "concurrency_now", s->concurrency_now);
    number(w, "requests", s->requests);
    number(w, "retries", s->retries);
    number(w, "repeated", s->repeated);
    number(w, "bytes_out", s->bytes_out);
    open_(w, "batches", "{");
    for (unsigned i = 0; i < sizeof s->batches / sizeof s->batches[0] && s->batches[i].result != NULL; i++)
        number(w, s->batches[i].result, s->batches[i].count);
    close_(w, "}");
    open_(w, "held_partitions", "[");
    for (unsigned i = 0; i < s->held_count && i < sizeof s->held / sizeof s->held[0]; i++) {
        open_(w, NULL, "{");
        text(w, "partition", s->held[i].partition);
        text(w, "reason", s->held[i].text);
        moment(w, "since", s->held[i].since_wall_ns);
        close_(w, "}");
    }
    close_(w, "]");
}

static void output_part(struct writer *w, const struct agent *a, const struct output_host *h)
{
    struct output_status s;
    output_host_status(h, &s);
    open_(w, NULL, "{");
    text(w, "name", h->name);
    text(w, "type", config_output_type_names[h->config->type]);
    text(w, "endpoint", h->config->endpoint.shown);
    text(w, "state", output_state_names[s.state]);
    delivery_part(w, a, &s);
    ledger_part(w, &s.ledger);
    spool_part(w, a, h, &s.ledger);
    close_(w, "}");
}

/* --- what is wrong -------------------------------------------------------------------------------------- */

#define CERTIFICATE_WARN_S (14 * 86400)

static void problem(struct writer *w, const char *format, ...) PRINTF_LIKE(2, 3);
static void problem(struct writer *w, const char *format, ...)
{
    char line[1000];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(line, sizeof line, format, args);
    va_end(args);
    text(w, NULL, line);
}

/* "3 s", "5 min", "2 days" since then. */
static const char *ago(const struct agent *a, uint64_t wall_ns, char *into, size_t size)
{
    uint64_t now = clock_wall_ns(&a->clock), s = wall_ns > now ? 0 : (now - wall_ns) / NS_PER_S;
    static const struct {
        uint64_t seconds;
        const char *unit;
    } units[] = {{2 * 86400, "days"}, {2 * 3600, "hours"}, {120, "min"}, {0, "s"}};
    static const uint64_t lengths[] = {86400, 3600, 60, 1};
    unsigned u = 0;
    while (s < units[u].seconds)
        u++;
    (void)snprintf(into, size, "%llu %s", (unsigned long long)(s / lengths[u]), units[u].unit);
    return into;
}

static void certificate_problem(struct writer *w, const struct agent *a, const char *output, const char *whose,
                                int64_t not_after)
{
    int64_t now = (int64_t)(clock_wall_ns(&a->clock) / NS_PER_S);
    if (not_after == 0 || not_after > now + CERTIFICATE_WARN_S)
        return;
    if (not_after <= now)
        problem(w, "output %s: %s certificate has ended", output, whose);
    else
        problem(w, "output %s: %s certificate ends in %lld days", output, whose, (long long)((not_after - now) / 86400));
}

/* "503 " before an upstream's words; "" when it was no answer. */
static const char *status_text(unsigned status, char *into, size_t size)
{
    into[0] = '\0';
    if (status != 0)
        (void)snprintf(into, size, "%u ", status);
    return into;
}

static void output_problems(struct writer *w, const struct agent *a, const struct output_host *h)
{
    struct output_status s;
    char since[40], code[16];
    output_host_status(h, &s);
    if (s.state != OUT_OK)
        problem(w, "output %s is %s%s%s%.700s (for %s)", h->name, output_state_names[s.state],
                s.error[0] == '\0' ? "" : ": ", status_text(s.error_status, code, sizeof code), s.error,
                ago(a, s.since_wall_ns, since, sizeof since));
    for (unsigned i = 0; i < s.held_count && i < sizeof s.held / sizeof s.held[0]; i++)
        problem(w, "output %s holds partition %s: %s (for %s)", h->name, s.held[i].partition, s.held[i].text,
                ago(a, s.held[i].since_wall_ns, since, sizeof since));
    if (s.ledger.dead > 0)
        problem(w, "output %s has %llu dead %s; see `penstock dead list %s`", h->name,
                (unsigned long long)s.ledger.dead, s.ledger.dead == 1 ? "letter" : "letters", h->name);
    certificate_problem(w, a, h->name, "the upstream's", upstream_peer_not_after(h->upstream));
    certificate_problem(w, a, h->name, "our own", upstream_own_not_after(h->upstream));
}

static void orphan_problem(struct writer *w, const struct agent *a, const struct orphan *o)
{
    char what[120], since[40];
    (void)snprintf(what, sizeof what, o->counted ? "%llu pending events, %llu dead letters" : "not readable as a spool",
                   (unsigned long long)o->pending, (unsigned long long)o->dead);
    problem(w, "spool %s is orphaned, no output has this name (%s, %s old): give an output this name to deliver it, read "
               "it with `penstock spool dump %s/%s`, or remove the directory to give it up",
            o->name, what, ago(a, o->oldest_wall_ns, since, sizeof since), a->data_dir, o->name);
}

/* One sentence per thing that somebody should look at, the worst first. */
static void problems_part(struct writer *w, const struct agent *a)
{
    struct bytes reasons;
    bytes_init(&reasons, 64 << 10);
    open_(w, "problems", "[");
    bool not_ready = agent_not_ready(a, &reasons);
    for (size_t at = 0; at < reasons.len;) {
        const uint8_t *end = memchr(reasons.at + at, '\n', reasons.len - at);
        size_t len = end == NULL ? reasons.len - at : (size_t)(end - reasons.at) - at;
        problem(w, "%s: %.*s", not_ready ? "not ready" : "cannot take events", (int)len, (const char *)reasons.at + at);
        at += len + 1;
    }
    for (unsigned i = 0; i < a->output_count; i++)
        output_problems(w, a, a->outputs[i]);
    for (unsigned i = 0; i < orphans_count(a->orphans); i++)
        orphan_problem(w, a, orphans_at(a->orphans, i));
    close_(w, "]");
    flag(w, "ready", !not_ready);
    bytes_deinit(&reasons);
}

static void orphans_part(struct writer *w, const struct agent *a)
{
    uint64_t now = clock_wall_ns(&a->clock);
    open_(w, "orphaned", "[");
    for (unsigned i = 0; i < orphans_count(a->orphans); i++) {
        const struct orphan *o = orphans_at(a->orphans, i);
        open_(w, NULL, "{");
        text(w, "name", o->name);
        char path[4200];
        (void)snprintf(path, sizeof path, "%s/%s", a->data_dir, o->name);
        text(w, "path", path);
        if (o->counted) {
            number(w, "pending", o->pending);
            number(w, "dead", o->dead);
        }
        number(w, "bytes", o->bytes);
        moment(w, "oldest", o->oldest_wall_ns);
        seconds(w, "oldest_seconds", o->oldest_wall_ns > now ? 0 : (double)(now - o->oldest_wall_ns) / 1e9);
        close_(w, "}");
    }
    close_(w, "]");
}

enum err status_json_render(const struct agent *a, struct bytes *into)
{
    struct writer writer = {.b = into};
    struct writer *w = &writer;
    open_(w, NULL, "{");
    problems_part(w, a);
    agent_part(w, a);
    open_(w, "inputs", "[");
    for (const struct list *node = a->inputs.next; node != &a->inputs; node = node->next)
        input_part(w, a, CONTAINER_OF(node, struct input, node));
    close_(w, "]");
    open_(w, "outputs", "[");
    for (unsigned i = 0; i < a->output_count; i++)
        output_part(w, a, a->outputs[i]);
    close_(w, "]");
    orphans_part(w, a);
    close_(w, "}");
    raw(w, "\n");
    return w->err;
}
