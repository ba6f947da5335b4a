/* upstream: the service behind the output, as each api's own would answer.
 *
 * It remembers every batch by its id: one that it has processed gets the same answer again, for ever. So
 * "same id, same bytes" and "no event in a second batch" are judged here. */
#include "tests/sim/delivery/world.h"

#include "lib/base/clock.h"
#include "lib/base/http_date.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define ANSWER_MAX (1u << 20)
#define NEVER UINT64_MAX

static bool api_is(const struct world *w, const char *name)
{
    return strcmp(w->knobs.output.api.api->name, name) == 0;
}

bool upstream_unreachable(const struct world *w)
{
    return w->down;
}

/* --- the state of the service ------------------------------------------------------------------------- */

void upstream_mischief(struct world *w)
{
    const struct knobs *k = &w->knobs;
    if (decide_rarely(&w->luck, k->one_in_outage) && !w->down) {
        static const uint32_t lengths_s[] = {5, 60, 400, 1200};
        uint64_t us = lengths_s[decide(&w->luck, 4)] * US_PER_S;
        world_met(us > 300 * US_PER_S ? MET_LONG_OUTAGE : MET_OUTAGE);
        w->down = true;
        w->idle_connections = 0;
        world_at(w, us, EV_HEAL_UPSTREAM, 0, 0, 0);
    }
    uint64_t until = w->now_us + 30 * US_PER_S;
    if (decide_rarely(&w->luck, k->one_in_unauthorized))
        w->unauthorized_until_us = until;
    if (decide_rarely(&w->luck, k->one_in_certificate))
        w->certificate_until_us = until;
    if (decide_rarely(&w->luck, k->one_in_no_partition))
        w->no_partition_until_us[decide(&w->luck, k->partitions)] = until;
    if (decide_rarely(&w->luck, k->one_in_gone))
        w->gone_until_us = until;
    if (decide_rarely(&w->luck, k->one_in_no_consent))
        w->no_consent_until_us = until;
    if (decide_rarely(&w->luck, k->one_in_turned_away)) {
        static const unsigned codes[] = {307, 301, 302, 308, 402, 405, 406, 421, 431, 451};
        w->turned_away_until_us = until;
        w->turned_away = codes[decide(&w->luck, 10)];
    }
}

unsigned upstream_probe_status(struct world *w)
{
    if (w->down || w->now_us < w->certificate_until_us)
        return 0;
    return w->now_us < w->unauthorized_until_us ? 401 : 200;
}

void upstream_consent(struct world *w, struct api_reply *ret)
{
    static const unsigned trouble[] = {405, 403, 200, 503, 429, 0};
    static char rate[16];
    *ret = (struct api_reply){.status = 200, .wall_ns = world_wall_ns(w)};
    if (w->down || w->now_us < w->certificate_until_us) {
        ret->status = 0;
        return;
    }
    if (w->now_us < w->no_consent_until_us) {
        world_met(MET_NO_CONSENT);
        ret->status = trouble[decide(&w->luck, 6)];
        ret->webhook_origin = SPAN("other.example");
        return;
    }
    world_met(MET_CONSENT);
    ret->webhook_origin = decide(&w->luck, 2) == 0 ? SPAN("*") : SPAN(" Agent.Example ");
    if (w->knobs.consent_per_minute != 0) {
        int n = snprintf(rate, sizeof rate, "%u", w->knobs.consent_per_minute);
        ret->webhook_rate = span_of(rate, (size_t)n);
    }
}

/* --- writing answers ---------------------------------------------------------------------------------- */

static char body_text[ANSWER_MAX];
static size_t body_len;

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(body_text + body_len, sizeof body_text - body_len, format, args);
    va_end(args);
    body_len += (size_t)n;
    if (body_len >= sizeof body_text)
        abort();
}

/* Framed by length or in chunks. */
static void answer(struct world *w, struct flight *f, unsigned status, const char *more)
{
    unsigned framing = decide(&w->luck, 3);
    size_t cap = body_len + 512;
    f->answer = malloc(cap);
    if (f->answer == NULL)
        abort();
    int n;
    if (framing == 2)
        n = snprintf(f->answer, cap, "HTTP/1.1 %u Whatever\r\n%sTransfer-Encoding: chunked\r\n\r\n", status,
                     more);
    else if (framing == 1)
        n = snprintf(f->answer, cap,
                     "HTTP/1.1 %u Whatever\r\n%sConnection: close\r\nContent-Length: %zu\r\n\r\n", status,
                     more, body_len);
    else
        n = snprintf(f->answer, cap, "HTTP/1.1 %u Whatever\r\n%sContent-Length: %zu\r\n\r\n", status, more,
                     body_len);
    f->answer_len = (size_t)n;
    if (framing == 2 && body_len > 0)
        f->answer_len +=
            (size_t)snprintf(f->answer + f->answer_len, cap - f->answer_len, "%zx\r\n", body_len);
    memcpy(f->answer + f->answer_len, body_text, body_len);
    f->answer_len += body_len;
    if (framing == 2)
        f->answer_len += (size_t)snprintf(f->answer + f->answer_len, cap - f->answer_len, "%s0\r\n\r\n",
                                          body_len > 0 ? "\r\n" : "");
    body_len = 0;
}

/* A Retry-After now and then, in seconds or as a date; sometimes of days. */
static void passing(struct world *w, struct flight *f, unsigned status)
{
    char more[80] = "";
    uint64_t seconds = decide(&w->luck, 3) == 1 ? 1 + decide(&w->luck, 20) : 0;
    if (w->knobs.days && decide(&w->luck, 20) == 1) {
        seconds = 86400 * (1 + decide(&w->luck, 20));
        world_met(MET_RETRY_DAYS);
        if (api_is(w, "segops") && status == 429)
            world_met(MET_QUOTA);
    }
    if (seconds > 0) {
        world_met(MET_RETRY_AFTER);
        f->floor_us = f->asked_us = seconds * US_PER_S;
        char date[HTTP_DATE_LEN + 1];
        http_date_write(world_wall_ns(w) / NS_PER_S + seconds, date);
        if (decide(&w->luck, 2) == 1) {
            (void)snprintf(more, sizeof more, "Retry-After: %s\r\n", date);
            f->floor_us = 0; /* by the receiver's clock, which may jump: only looked at in seconds */
        } else {
            (void)snprintf(more, sizeof more, "Retry-After: %" PRIu64 "\r\n", seconds);
        }
    }
    say("{\"error\":\"come again\"}");
    answer(w, f, status, more);
}

static void refuse(struct world *w, struct flight *f, unsigned status, enum standing meaning,
                   const char *words)
{
    f->meaning = meaning;
    f->clear = f->success = status == 400 || status == 413; /* it speaks to us, only not of these events */
    say("{\"error\":\"%s\"}", words);
    answer(w, f, status, "Content-Type: application/json\r\n");
}

/* --- processing --------------------------------------------------------------------------------------- */

static bool any_bad(const struct world *w, const struct known_batch *k)
{
    for (unsigned i = 0; i < k->count; i++)
        if (w->events[k->members[i]].bad)
            return true;
    return false;
}

/* An answer that counts: some of it may be missing, and it does not say which. */
static void leave_out(struct world *w, struct known_batch *k)
{
    bool short_count = api_is(w, "monk") && decide_rarely(&w->luck, w->knobs.one_in_mismatch);
    if (short_count) {
        world_met(MET_MISMATCH);
        k->fates[decide(&w->luck, k->count)] = 'u';
        for (unsigned i = 0; i < k->count; i++)
            w->events[k->members[i]].excused = true; /* they come one by one, later, with their own keys */
    } else if (api_is(w, "segops") && decide_rarely(&w->luck, w->knobs.one_in_skip)) {
        world_met(MET_SKIPPED);
        k->fates[decide(&w->luck, k->count)] = 's';
    }
}

/* A letter for each member, the first time a batch is processed. */
static void judge_members(struct world *w, struct known_batch *k, char action)
{
    unsigned said = k->count;
    if (k->count > 1 && w->knobs.per_event && decide_rarely(&w->luck, w->knobs.one_in_short)) {
        said = decide(&w->luck, k->count);
        world_met(MET_SHORT);
    }
    for (unsigned i = 0; i < k->count; i++) {
        struct sent_event *e = &w->events[k->members[i]];
        k->fates[i] = 't';
        if (action == 'r' && i == 0 && w->knobs.per_event)
            k->fates[i] = 'r';
        if (e->bad)
            k->fates[i] = 'x';
        else if (w->knobs.per_event && decide_rarely(&w->luck, w->knobs.one_in_row_later))
            k->fates[i] = 'r';
        if (i >= said) {
            e->excused = true;
            k->fates[i] = e->bad || decide(&w->luck, 2) == 1 ? 'u' : 'U'; /* U: taken without a word */
        }
        e->later += k->fates[i] == 'r';
    }
    leave_out(w, k);
}

static void process(struct world *w, struct flight *f, struct known_batch *k)
{
    if (!k->processed) {
        k->processed = true;
        k->fates = calloc(k->count + 1, 1);
        if (k->fates == NULL)
            abort();
        judge_members(w, k, f->action);
    }
    for (unsigned i = 0; i < k->count; i++) {
        struct sent_event *e = &w->events[k->members[i]];
        if (k->fates[i] == 't' || k->fates[i] == 'U')
            oracle_taken(w, k, i, f->carry != NULL ? f->life : 0); /* 0: a cancelled one, late */
        if (k->fates[i] != 's' || e->skipped)
            continue;
        e->skipped = true; /* it counts as taken: nothing can be done about it */
        w->taken += e->accepts == 0;
    }
}

static unsigned count_fates(const struct known_batch *k, char fate)
{
    unsigned n = 0;
    for (unsigned i = 0; i < k->count; i++)
        n += k->fates[i] == fate;
    return n;
}

static void answer_honeycomb(struct world *w, struct flight *f, const struct known_batch *k)
{
    say("[");
    for (unsigned i = 0; i < k->count && k->fates[i] != 'u' && k->fates[i] != 'U'; i++)
        say("%s{\"status\":%u%s}", i > 0 ? "," : "",
            k->fates[i] == 't'   ? 202
            : k->fates[i] == 'x' ? 400
                                 : 429,
            k->fates[i] == 't' ? "" : ",\"error\":\"no\"");
    if (count_fates(k, 'u') + count_fates(k, 'U') == 0 && decide_rarely(&w->luck, w->knobs.one_in_extra)) {
        world_met(MET_EXTRA);
        say(",{\"status\":400,\"error\":\"one that nobody sent\"}");
    }
    say("]");
    answer(w, f, 200, "Content-Type: application/json\r\n");
}

static void answer_langfuse(struct world *w, struct flight *f, const struct known_batch *k)
{
    for (unsigned errors = 0, n = 0; errors < 2; errors++, n = 0) {
        say(errors ? "],\"errors\":[" : "{\"successes\":[");
        for (unsigned i = k->count; i-- > 0;) {
            char fate = k->fates[i];
            if (fate == 'u' || fate == 'U' || (fate != 't') != errors)
                continue;
            say("%s{\"id\":\"e%u\",\"status\":%u,\"message\":\"m\"}", n++ > 0 ? "," : "",
                w->events[k->members[i]].id,
                fate == 't'   ? 201
                : fate == 'x' ? 400
                              : 500);
        }
    }
    bool unsaid = count_fates(k, 'u') + count_fates(k, 'U') > 1;
    if (decide_rarely(&w->luck, unsaid && w->knobs.one_in_extra > 2 ? 2 : w->knobs.one_in_extra)) {
        world_met(MET_EXTRA);
        say("],\"errors\":[{\"id\":\"%s\",\"status\":400,\"message\":\"m\"}",
            decide(&w->luck, 2) == 0 ? "unknown" : "nobody's");
    }
    say("]}");
    answer(w, f, 207, "Content-Type: application/json\r\n");
}

static void answer_counts(struct world *w, struct flight *f, const struct known_batch *k)
{
    unsigned missing = count_fates(k, 'u'), skipped = count_fates(k, 's');
    if (api_is(w, "monk"))
        say("{\"accepted\":true,\"count\":%u}", k->count - missing);
    else if (skipped > 0 && decide(&w->luck, 2) == 1)
        say("{\"queued\":%u}", k->count - skipped);
    else
        say("{\"queued\":%u,\"skipped\":%u}", k->count - skipped, skipped);
    if (missing > 0) { /* the same again, until it is known that it stays so */
        f->meaning = STAND_UNKNOWN;
        f->clear = false;
    }
    answer(w, f, 202, "");
}

static void answer_processed(struct world *w, struct flight *f, struct known_batch *k)
{
    bool all = count_fates(k, 't') + count_fates(k, 's') == k->count;
    f->meaning = STAND_ENDED;
    f->clear = f->success = all;
    world_met(all ? MET_DELIVERED : MET_ROWS);
    if (api_is(w, "honeycomb")) {
        answer_honeycomb(w, f, k);
    } else if (api_is(w, "langfuse")) {
        answer_langfuse(w, f, k);
    } else if (api_is(w, "monk") || api_is(w, "segops")) {
        answer_counts(w, f, k);
    } else {
        say("{}");
        answer(w, f, api_is(w, "http") ? 200 : 202, "");
    }
}

/* Some page from something in between; what is behind it may have been reached. */
static void answer_page(struct world *w, struct flight *f, struct known_batch *k)
{
    world_met(MET_PAGE);
    if (!any_bad(w, k) && decide(&w->luck, 2) == 1)
        process(w, f, k);
    for (unsigned i = 0; i < k->count; i++)
        w->events[k->members[i]].excused = true; /* after three of these they may die */
    f->meaning = STAND_UNKNOWN;
    say("<html>Welcome to our network</html>");
    answer(w, f, 200, "Content-Type: text/html\r\n");
}

/* --- a request ---------------------------------------------------------------------------------------- */

static bool passing_trouble(struct world *w, struct flight *f, struct known_batch *k)
{
    const struct knobs *n = &w->knobs;
    if (decide_rarely(&w->luck, n->one_in_busy)) {
        world_met(MET_BUSY);
        f->meaning = STAND_AGAIN;
        f->clear = true;
        passing(w, f, 429);
        return true;
    }
    if (decide_rarely(&w->luck, n->one_in_error)) {
        static const unsigned codes[] = {503, 500, 502, 504, 408};
        world_met(MET_SERVER_ERROR);
        if (!any_bad(w, k) && decide(&w->luck, 3) == 1)
            process(w, f, k);
        f->meaning = STAND_UNKNOWN;
        f->clear = true;
        passing(w, f, codes[decide(&w->luck, 5)]);
        return true;
    }
    bool readable = n->per_event || api_is(w, "segops");
    if (readable && decide_rarely(&w->luck, n->one_in_page)) {
        answer_page(w, f, k);
        return true;
    }
    return false;
}

/* What has nothing to do with the events. */
static bool refuses_us(struct world *w, struct flight *f, const struct known_batch *k)
{
    bool names_partitions = api_is(w, "honeycomb") || api_is(w, "launchdarkly");
    if (w->now_us < w->unauthorized_until_us) {
        world_met(MET_HOLD);
        refuse(w, f, 401, STAND_AGAIN, "unauthorized");
        return true;
    }
    bool passed_on = api_is(w, "launchdarkly") && k->partition == 3; /* such requests end instead */
    if (w->now_us < w->gone_until_us && !passed_on) {
        world_met(MET_GONE);
        refuse(w, f, 410, STAND_AGAIN, "gone");
        f->gone = api_is(w, "cloudevents");
        return true;
    }
    if (w->now_us < w->turned_away_until_us && !(passed_on && w->turned_away >= 400)) {
        world_met(MET_TURNED_AWAY);
        refuse(w, f, w->turned_away, STAND_AGAIN, "not here");
        return true;
    }
    if (names_partitions && w->now_us < w->no_partition_until_us[k->partition]) {
        world_met(MET_HOLD_PARTITION);
        refuse(w, f, passed_on ? 403 : 404, STAND_AGAIN, "not here");
        return true;
    }
    if (w->knobs.no_codec && f->encoded) {
        world_met(MET_PLAIN);
        refuse(w, f, 415, STAND_AGAIN, "plain, please");
        return true;
    }
    return false;
}

/* What ends a batch of this composition; one that was processed never meets it. */
static bool refuses_it(struct world *w, struct flight *f, const struct known_batch *k)
{
    if (w->knobs.no_batches && api_is(w, "cloudevents") && !f->structured) {
        world_met(MET_STRUCTURED);
        /* 415 may as well mean the compression: the same batch comes again without it. */
        refuse(w, f, 415, f->encoded ? STAND_AGAIN : STAND_ENDED, "one by one, please");
        return true;
    }
    if (w->knobs.too_large != 0 && f->raw_len > w->knobs.too_large && k->count > 1) {
        world_met(MET_TOO_LARGE);
        refuse(w, f, 413, STAND_ENDED, "too much at once");
        f->too_large = true;
        return true;
    }
    if (!w->knobs.per_event && any_bad(w, k)) {
        world_met(MET_SPLIT);
        refuse(w, f, 400, STAND_ENDED, "bad event");
        return true;
    }
    return false;
}

/* The exhaustive scripts say what a request meets. */
static bool scripted(struct world *w, struct flight *f, struct known_batch *k)
{
    if (f->action == '5') { /* taken, and the answer says that it may not have been */
        if (!any_bad(w, k))
            process(w, f, k);
        f->meaning = STAND_UNKNOWN;
        f->clear = true;
        say("oops");
        answer(w, f, 503, "");
        return true;
    }
    if (f->action == '3') {
        f->meaning = STAND_AGAIN;
        f->clear = true;
        f->floor_us = f->asked_us = US_PER_S;
        say("busy");
        answer(w, f, 429, "Retry-After: 1\r\n");
        return true;
    }
    if (f->action == '9' && k->count > 1 && !k->processed) {
        refuse(w, f, 413, STAND_ENDED, "too large");
        return true;
    }
    return false;
}

void upstream_arrive(struct world *w, struct flight *f)
{
    struct known_batch *k = &w->known[f->batch];
    if (scripted(w, f, k) || passing_trouble(w, f, k) || refuses_us(w, f, k) ||
        (!k->processed && refuses_it(w, f, k)))
        return;
    process(w, f, k);
    answer_processed(w, f, k);
}
