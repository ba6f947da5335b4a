/* sink_respond: the grammar of misbehaviour, and which rule a request falls under.
 *
 * A specification is split at commas; each item is KEY or KEY=VALUE and is carried out by one row of a table.
 * `body` takes all that is left, commas included, so that JSON can be written as it is. */
#include "agent/sink_respond.h"

#include <stdio.h>
#include <stdlib.h>

const char sink_respond_help[] =
    "A rule is KEY[=VALUE] items with commas between; the first rule that matches a request decides.\n"
    "Which requests:\n"
    "  path=PREFIX, api=NAME   only those\n"
    "  after=N                 lets the first N pass\n"
    "  every=N                 each Nth\n"
    "  times=N                 N times, then never again\n"
    "  chance=PERCENT          by lot\n"
    "What they get:\n"
    "  status=CODE             this status, and nothing is counted as taken unless it is 2xx\n"
    "  retry-after=SECONDS     the header; date:SECONDS sends it as a date so far ahead\n"
    "  header=NAME: VALUE      a further header\n"
    "  event=I:status=CODE     this result for event I of the request (from 0; * for all), where the api has\n"
    "                          results per event\n"
    "  results=N               results for the first N events only\n"
    "  legacy=removed          langfuse: refuses all but scores and sdk-log, as newer servers do\n"
    "  delay=DURATION          so long before the answer (ms, s, m)\n"
    "  drip=DURATION           the answer byte by byte, so long apart\n"
    "  hangup=body             hangs up when the header is there, the body unread\n"
    "  hangup=before|in|after  hangs up before, in or after the answer; the request counts as taken\n"
    "  truncate                the body of the answer is cut in half, with the length of what is sent\n"
    "  garbage                 the body of the answer is noise; garbage=http: all of it is\n"
    "  store=yes|no            whether the events count as taken, whatever the answer says\n"
    "  type=MEDIA/TYPE         of the body that follows\n"
    "  body=TEXT, body=@FILE   this body; takes the rest of the rule, commas included\n";

void sink_rules_init(struct sink_rules *r, uint64_t seed)
{
    *r = (struct sink_rules){0};
    rng_seed(&r->rng, seed);
}

static void rule_free(struct sink_rule *rule)
{
    bytes_deinit(&rule->file);
    free(rule->text);
    free(rule);
}

void sink_rules_clear(struct sink_rules *r)
{
    for (unsigned i = 0; i < r->count; i++)
        rule_free(r->rules[i]);
    r->count = 0;
}

/* --- items -------------------------------------------------------------------------------------------- */

static bool parse_duration_ms(struct span value, uint64_t *ret)
{
    static const struct {
        const char *unit;
        uint64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}};
    size_t digits = 0;
    uint64_t n;
    while (digits < value.len && value.at[digits] >= '0' && value.at[digits] <= '9')
        digits++;
    if (!span_u64(span_of(value.at, digits), &n) || n > 86400000)
        return false;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (span_is(span_of(value.at + digits, value.len - digits), units[i].unit)) {
            *ret = n * units[i].ms;
            return true;
        }
    }
    return false;
}

static bool parse_status(struct span value, unsigned *ret)
{
    uint64_t n;
    if (!span_u64(value, &n) || n < 100 || n > 599)
        return false;
    *ret = (unsigned)n;
    return true;
}

static bool item_path(struct sink_rule *rule, struct span value)
{
    rule->path = value;
    return value.len > 0;
}

static bool item_api(struct sink_rule *rule, struct span value)
{
    rule->api = value;
    return value.len > 0;
}

static bool item_times(struct sink_rule *rule, struct span value)
{
    return span_u64(value, &rule->times) && rule->times > 0;
}

static bool item_every(struct sink_rule *rule, struct span value)
{
    return span_u64(value, &rule->every) && rule->every > 0;
}

static bool item_after(struct sink_rule *rule, struct span value)
{
    return span_u64(value, &rule->after);
}

static bool item_chance(struct sink_rule *rule, struct span value)
{
    uint64_t n;
    if (!span_u64(value, &n) || n < 1 || n > 100)
        return false;
    rule->chance = (unsigned)n;
    return true;
}

static bool item_status(struct sink_rule *rule, struct span value)
{
    return parse_status(value, &rule->status);
}

static bool item_retry_after(struct sink_rule *rule, struct span value)
{
    uint64_t seconds;
    rule->retry_after_date = span_starts(value, SPAN("date:"));
    rule->retry_after = rule->retry_after_date ? span_of(value.at + 5, value.len - 5) : value;
    return rule->retry_after.len > 0 && (!rule->retry_after_date || span_u64(rule->retry_after, &seconds));
}

static bool item_header(struct sink_rule *rule, struct span value)
{
    if (rule->header_count == SINK_RULE_HEADERS_MAX || memchr(value.at, ':', value.len) == NULL ||
        memchr(value.at, '\r', value.len) != NULL || memchr(value.at, '\n', value.len) != NULL)
        return false;
    rule->headers[rule->header_count++] = value;
    return true;
}

/* I:status=CODE */
static bool item_event(struct sink_rule *rule, struct span value)
{
    const uint8_t *colon = value.len > 0 ? memchr(value.at, ':', value.len) : NULL;
    if (colon == NULL || rule->event_count == SINK_RULE_EVENTS_MAX)
        return false;
    struct span index = span_of(value.at, (size_t)(colon - value.at));
    struct span rest = span_of(colon + 1, value.len - index.len - 1);
    struct sink_rule_event *e = &rule->events[rule->event_count];
    uint64_t n = UINT32_MAX;
    if (!span_is(index, "*") && (!span_u64(index, &n) || n >= UINT32_MAX))
        return false;
    e->index = (uint32_t)n;
    if (!span_starts(rest, SPAN("status=")) || !parse_status(span_of(rest.at + 7, rest.len - 7), &e->status))
        return false;
    rule->event_count++;
    return true;
}

static bool item_results(struct sink_rule *rule, struct span value)
{
    return span_u64(value, &rule->results_max);
}

static bool item_legacy(struct sink_rule *rule, struct span value)
{
    rule->legacy_removed = true;
    return span_is(value, "removed");
}

static bool item_delay(struct sink_rule *rule, struct span value)
{
    return parse_duration_ms(value, &rule->delay_ms);
}

static bool item_drip(struct sink_rule *rule, struct span value)
{
    return parse_duration_ms(value, &rule->drip_ms) && rule->drip_ms > 0;
}

static bool item_hangup(struct sink_rule *rule, struct span value)
{
    static const char *const names[] = {"", "body", "before", "in", "after"};
    for (unsigned i = 1; i < sizeof names / sizeof *names; i++) {
        if (span_is(value, names[i])) {
            rule->hangup = (enum sink_hangup)i;
            return true;
        }
    }
    return false;
}

static bool item_truncate(struct sink_rule *rule, struct span value)
{
    rule->truncate = true;
    return value.at == NULL;
}

static bool item_garbage(struct sink_rule *rule, struct span value)
{
    rule->garbage = value.at == NULL;
    rule->garbage_http = span_is(value, "http");
    return rule->garbage || rule->garbage_http;
}

static bool item_store(struct sink_rule *rule, struct span value)
{
    rule->store = span_is(value, "yes") ? STORE_YES : STORE_NO;
    return span_is(value, "yes") || span_is(value, "no");
}

static bool item_type(struct sink_rule *rule, struct span value)
{
    rule->type = value;
    return value.len > 0;
}

static bool item_body(struct sink_rule *rule, struct span value)
{
    char name[4096], chunk[4096];
    if (value.len == 0 || value.at[0] != '@') {
        rule->body = value.at == NULL ? SPAN("") : value;
        return true;
    }
    snprintf(name, sizeof name, "%.*s", (int)value.len - 1, (const char *)value.at + 1);
    FILE *f = fopen(name, "re");
    if (f == NULL)
        return false;
    bytes_init(&rule->file, 1 << 20);
    bool good = true;
    for (size_t n; good && (n = fread(chunk, 1, sizeof chunk, f)) > 0;)
        good = bytes_append(&rule->file, span_of(chunk, n)) == OK;
    good = good && !ferror(f);
    fclose(f);
    rule->body = rule->file.len > 0 ? bytes_span(&rule->file) : SPAN("");
    return good;
}

static const struct {
    const char *key;
    bool (*take)(struct sink_rule *rule, struct span value); /* .at NULL: the key stood alone */
} items[] = {
    {"path", item_path},         {"api", item_api},
    {"times", item_times},       {"every", item_every},
    {"after", item_after},       {"chance", item_chance},
    {"status", item_status},     {"retry-after", item_retry_after},
    {"header", item_header},     {"event", item_event},
    {"results", item_results},   {"legacy", item_legacy},
    {"delay", item_delay},       {"drip", item_drip},
    {"hangup", item_hangup},     {"truncate", item_truncate},
    {"garbage", item_garbage},   {"store", item_store},
    {"type", item_type},         {"body", item_body},
};

static enum err rule_take(struct sink_rule *rule, struct span item, struct fault *why)
{
    const uint8_t *equals = item.len > 0 ? memchr(item.at, '=', item.len) : NULL;
    struct span key = span_of(item.at, equals == NULL ? item.len : (size_t)(equals - item.at));
    struct span value = {0};
    if (equals != NULL)
        value = span_of(equals + 1, item.len - key.len - 1);
    for (size_t i = 0; i < sizeof items / sizeof *items; i++) {
        if (!span_is(key, items[i].key))
            continue;
        if (items[i].take(rule, value))
            return OK;
        return fault_set(why, ERR_CONFIG, "respond: bad value for '%s': '%.*s'", items[i].key, SPAN_FMT(value));
    }
    return fault_set(why, ERR_CONFIG, "respond: unknown item '%.*s'", SPAN_FMT(key));
}

/* --- rules -------------------------------------------------------------------------------------------- */

static enum err rule_parse(struct sink_rule *rule, struct span spec, struct fault *why)
{
    rule->text = must_strndup(spec);
    rule->results_max = UINT64_MAX;
    struct span rest = span_of(rule->text, spec.len);
    while (rest.len > 0) {
        const uint8_t *comma = memchr(rest.at, ',', rest.len);
        bool whole = comma == NULL || span_starts(rest, SPAN("body="));
        struct span item = whole ? rest : span_of(rest.at, (size_t)(comma - rest.at));
        rest = whole ? (struct span){0} : span_of(comma + 1, rest.len - item.len - 1);
        item = span_trim(item);
        if (item.len == 0)
            continue;
        enum err err = rule_take(rule, item, why);
        if (err != OK)
            return err;
    }
    return OK;
}

enum err sink_rules_add(struct sink_rules *r, struct span spec, struct fault *why)
{
    spec = span_trim(spec);
    if (spec.len == 0)
        return fault_set(why, ERR_CONFIG, "respond: the rule is empty");
    if (r->count == SINK_RULES_MAX)
        return fault_set(why, ERR_FULL, "respond: more than %d rules", SINK_RULES_MAX);
    struct sink_rule *rule = must_alloc(sizeof *rule);
    enum err err = rule_parse(rule, spec, why);
    if (err != OK) {
        rule_free(rule);
        return err;
    }
    r->rules[r->count++] = rule;
    return OK;
}

static bool rule_applies(struct sink_rule *rule, struct rng *rng, struct span path, struct span api)
{
    if (rule->path.at != NULL && !span_starts(path, rule->path))
        return false;
    if (rule->api.at != NULL && !span_equal(api, rule->api))
        return false;
    if (rule->times > 0 && rule->used >= rule->times)
        return false;
    rule->seen++;
    if (rule->seen <= rule->after)
        return false;
    if (rule->every > 1 && (rule->seen - rule->after) % rule->every != 0)
        return false;
    return rule->chance == 0 || rng_below(rng, 100) < rule->chance;
}

struct sink_rule *sink_rules_find(struct sink_rules *r, struct span path, struct span api)
{
    for (unsigned i = 0; i < r->count; i++) {
        if (rule_applies(r->rules[i], &r->rng, path, api)) {
            r->rules[i]->used++;
            return r->rules[i];
        }
    }
    return NULL;
}

bool sink_rules_hangup_early(struct sink_rules *r)
{
    for (unsigned i = 0; i < r->count; i++) {
        struct sink_rule *rule = r->rules[i];
        if (rule->hangup == HANGUP_BODY && rule_applies(rule, &r->rng, (struct span){0}, (struct span){0})) {
            rule->used++;
            return true;
        }
    }
    return false;
}

unsigned sink_rule_event_status(const struct sink_rule *r, uint32_t index)
{
    for (unsigned i = 0; r != NULL && i < r->event_count; i++) {
        if (r->events[i].index == index || r->events[i].index == UINT32_MAX)
            return r->events[i].status;
    }
    return 0;
}
