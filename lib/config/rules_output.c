/* rules_output: contradictions within one output. A function per concern, all run from one list.
 *
 * Where a default would contradict what was written (a lowered limit below the default batch), the default
 * gives way silently; two written values that contradict each other are a fault. */
#include "lib/config/judge.h"

#include "lib/base/ensure.h"

#include <stdio.h>
#include <strings.h>

#define BIT(type) (1u << (type))
#define VENDORS \
    (BIT(CONFIG_OUTPUT_HONEYCOMB) | BIT(CONFIG_OUTPUT_LANGFUSE) | BIT(CONFIG_OUTPUT_LAUNCHDARKLY) | \
     BIT(CONFIG_OUTPUT_MONK) | BIT(CONFIG_OUTPUT_SEGOPS))

typedef void output_rule(struct judge *j, struct config_output *o, const struct yaml_node *node);

static bool given(const struct yaml_node *node, const char *dotted)
{
    return judge_find(node, dotted) != NULL;
}

static void rule_endpoint(struct judge *j, struct config_output *o, const struct yaml_node *node)
{
    if (!given(node, "endpoint") && o->endpoint.text == NULL)
        judge_fault_at(j, node->key_pos, "endpoint", "required for type %s: expected the full URL to send to",
                       config_output_type_names[o->type]);
    bool keys = given(node, "credentials") || o->type == CONFIG_OUTPUT_HONEYCOMB;
    if (o->endpoint.text != NULL && !o->endpoint.tls && !o->endpoint.loopback && keys)
        judge_say(j, CONFIG_WARNING, judge_pos(node, "endpoint"),
                  "credentials and events cross the network in clear; expected https://");
}

static void require(struct judge *j, const struct config_output *o, const struct yaml_node *node,
                    const char *dotted)
{
    if (!given(node, dotted))
        judge_fault_at(j, judge_pos(node, "credentials"), dotted,
                       "required for type %s: expected a secret such as "
                       "${env:NAME} or ${file:PATH}",
                       config_output_type_names[o->type]);
}

static void rule_credentials(struct judge *j, struct config_output *o, const struct yaml_node *node)
{
    switch (o->type) {
    case CONFIG_OUTPUT_HONEYCOMB:
    case CONFIG_OUTPUT_MONK:
    case CONFIG_OUTPUT_SEGOPS:
        require(j, o, node, "credentials.api_key");
        break;
    case CONFIG_OUTPUT_LANGFUSE:
        require(j, o, node, "credentials.public_key");
        require(j, o, node, "credentials.secret_key");
        break;
    case CONFIG_OUTPUT_LAUNCHDARKLY:
        if (!given(node, "credentials.access_token") && !given(node, "credentials.sdk_key"))
            judge_fault_at(j, judge_pos(node, "credentials"), "credentials",
                           "expected access_token (metric import), sdk_key (events of its SDKs), or both");
        else if (!given(node, "credentials.access_token"))
            judge_say(
                j, CONFIG_NOTE, judge_pos(node, "credentials"),
                "without access_token the metric import and neutral events are held by LaunchDarkly's 401");
        break;
    default:
        break;
    }
}

static void rule_partition(struct judge *j, struct config_output *o, const struct yaml_node *node)
{
    if (o->partition == NULL)
        return;
    struct yaml_pos pos = judge_pos(node, "partition");
    const char *slash = strchr(o->partition, '/');
    if (o->type == CONFIG_OUTPUT_HONEYCOMB && slash != NULL)
        judge_fault_at(j, pos, "partition", "expected a dataset's name without a slash");
    if (o->type == CONFIG_OUTPUT_LAUNCHDARKLY &&
        (slash == NULL || slash == o->partition || slash[1] == '\0' || strchr(slash + 1, '/') != NULL))
        judge_fault_at(j, pos, "partition", "expected project/environment, not \"%.60s\"", o->partition);
}

/* --- headers -------------------------------------------------------------------------------------------- */

struct reserved {
    const char *name;
    unsigned types; /* 0: all */
    const char *why;
};

#define OURS "Penstock sets this header itself"
#define A_KEY "expected the key under credentials"
static const struct reserved reserved[] = {
    {"Host", 0, "it follows from the endpoint"},
    {"Content-Length", 0, OURS},
    {"Content-Type", 0, OURS},
    {"Content-Encoding", 0, "expected the key \"compression\" instead"},
    {"Transfer-Encoding", 0, OURS},
    {"Connection", 0, OURS},
    {"Keep-Alive", 0, OURS},
    {"Upgrade", 0, OURS},
    {"Expect", 0, OURS},
    {"TE", 0, OURS},
    {"Trailer", 0, OURS},
    {"User-Agent", 0, OURS},
    {"Accept-Encoding", 0, OURS},
    {"Proxy-Authorization", 0, "expected http://user:password@host in \"proxy\" instead"},
    {"Authorization", VENDORS, A_KEY},
    {"X-Honeycomb-Team", BIT(CONFIG_OUTPUT_HONEYCOMB), A_KEY},
    {"X-Hny-Team", BIT(CONFIG_OUTPUT_HONEYCOMB), A_KEY},
    {"X-LaunchDarkly-Event-Schema", BIT(CONFIG_OUTPUT_LAUNCHDARKLY), OURS},
    {"X-LaunchDarkly-Payload-ID", BIT(CONFIG_OUTPUT_LAUNCHDARKLY), OURS},
    {"Idempotency-Key", BIT(CONFIG_OUTPUT_HTTP), OURS},
    {NULL, 0, NULL},
};

static const char *why_reserved(const struct config_output *o, const char *name)
{
    for (const struct reserved *r = reserved; r->name != NULL; r++)
        if (strcasecmp(r->name, name) == 0 && (r->types == 0 || (r->types & BIT(o->type)) != 0))
            return r->why;
    if (o->type == CONFIG_OUTPUT_CLOUDEVENTS && strncasecmp(name, "ce-", 3) == 0)
        return "headers that begin with ce- are the event's own attributes";
    return NULL;
}

static void rule_header(struct judge *j, const struct config_output *o, const char *below,
                        const struct yaml_node *n)
{
    char path[160];
    (void)snprintf(path, sizeof path, "%s.%.90s", below, n->key);
    const char *why = why_reserved(o, n->key);
    if (why != NULL)
        judge_fault_at(j, n->key_pos, path, "%s", why);
    else if (strcasecmp(n->key, "Authorization") == 0 && o->credentials.bearer.template != NULL)
        judge_fault_at(j, n->key_pos, path, "expected either this header or credentials.bearer, not both");
}

static void rule_headers(struct judge *j, struct config_output *o, const struct yaml_node *node)
{
    static const char *const places[] = {"headers", "credentials.headers"};
    for (unsigned i = 0; i < 2; i++) {
        const struct yaml_node *map = judge_find(node, places[i]);
        for (const struct yaml_node *n = map != NULL && map->kind == YAML_MAP ? map->first : NULL; n != NULL;
             n = n->next)
            rule_header(j, o, places[i], n);
    }
}

/* Moves a header with its secret, which is linked into the output's chain. */
static void move_header(struct config_output *o, struct config_header *from, struct config_header *to)
{
    *to = *from;
    for (struct config_secret **p = &o->secrets; *p != NULL; p = &(*p)->next) {
        if (*p == &from->value) {
            *p = &to->value;
            return;
        }
    }
}

/* The headers of credentials join the others; no name may be there twice. */
static void rule_merge_headers(struct judge *j, struct config_output *o, const struct yaml_node *node)
{
    unsigned own = o->header_count, count = own + o->credentials.header_count;
    struct config_header *all = judge_alloc(j, (count + 1) * sizeof *all);
    for (unsigned i = 0; i < count; i++) {
        move_header(o, i < own ? &o->headers[i] : &o->credentials.headers[i - own], &all[i]);
        for (unsigned k = 0; k < i; k++)
            if (strcasecmp(all[i].name, all[k].name) == 0)
                judge_fault_at(j, judge_pos(node, i < own ? "headers" : "credentials.headers"), "headers",
                               "\"%.60s\" is here twice; case makes no difference in headers", all[i].name);
    }
    o->headers = all;
    o->header_count = count;
    o->credentials.headers = all + own;
}

/* --- batches and limits --------------------------------------------------------------------------------- */

/* What each api takes besides none, and what `auto` means; the first two of enum config_compression apart. */
static const struct {
    unsigned takes;
    enum config_compression usual;
} compression_of[CONFIG_OUTPUT_TYPES] = {
    [CONFIG_OUTPUT_CLOUDEVENTS] = {BIT(CONFIG_COMPRESSION_GZIP), CONFIG_COMPRESSION_NONE},
    [CONFIG_OUTPUT_HONEYCOMB] = {BIT(CONFIG_COMPRESSION_GZIP) | BIT(CONFIG_COMPRESSION_ZSTD),
                                 CONFIG_COMPRESSION_ZSTD},
    [CONFIG_OUTPUT_LANGFUSE] = {BIT(CONFIG_COMPRESSION_GZIP), CONFIG_COMPRESSION_GZIP}, /* its OTLP path */
    [CONFIG_OUTPUT_LAUNCHDARKLY] = {BIT(CONFIG_COMPRESSION_GZIP), CONFIG_COMPRESSION_GZIP},
    [CONFIG_OUTPUT_MONK] = {0, CONFIG_COMPRESSION_NONE},
    [CONFIG_OUTPUT_SEGOPS] = {0, CONFIG_COMPRESSION_NONE},
    [CONFIG_OUTPUT_OTLP] = {0, CONFIG_COMPRESSION_NONE},
    [CONFIG_OUTPUT_HTTP] = {BIT(CONFIG_COMPRESSION_GZIP) | BIT(CONFIG_COMPRESSION_ZSTD),
                            CONFIG_COMPRESSION_GZIP},
};

static void rule_compression(struct judge *j, struct config_output *o, const struct yaml_node *node)
{
    unsigned takes = compression_of[o->type].takes;
    if (o->compression == CONFIG_COMPRESSION_AUTO)
        o->compression = compression_of[o->type].usual;
    if (o->compression <= CONFIG_COMPRESSION_NONE || !given(node, "compression"))
        return;
    struct yaml_pos pos = judge_pos(node, "compression");
    if ((takes & BIT(o->compression)) == 0)
        judge_fault_at(j, pos, "compression", "expected %s for type %s, whose service takes no %s",
                       takes != 0 ? "auto, none or gzip" : "auto or none", config_output_type_names[o->type],
                       o->compression == CONFIG_COMPRESSION_ZSTD ? "zstd" : "gzip");
    else if (o->type == CONFIG_OUTPUT_LANGFUSE)
        judge_say(j, CONFIG_WARNING, pos,
                  "Langfuse's /ingestion inflates nothing: batches go uncompressed all the same");
}

/* Keeps a batch setting within its limit: a written one above it is a fault, a default gives way. */
static void keep_within(struct judge *j, const struct yaml_node *node, const char *what, uint64_t *value,
                        const char *whose, uint64_t limit, bool bytes)
{
    if (limit == 0 || *value <= limit)
        return;
    if (given(node, what)) {
        char text[48];
        if (bytes)
            value_size_text(limit, text, sizeof text);
        else
            (void)snprintf(text, sizeof text, "%llu", (unsigned long long)limit);
        judge_fault_at(j, judge_pos(node, what), what, "expected at most %s, %s", text, whose);
    }
    *value = limit;
}

static void rule_limits(struct judge *j, struct config_output *o, const struct yaml_node *node)
{
    if (o->type == CONFIG_OUTPUT_CLOUDEVENTS && o->mode != CONFIG_MODE_BATCH) {
        o->limits.batch_events = 1;
        keep_within(j, node, "batch.max_events", &o->batch.max_events, "since mode is not batch", 1, false);
    }
    keep_within(j, node, "batch.max_events", &o->batch.max_events,
                "the service's own limit (limits.batch_events)", o->limits.batch_events, false);
    keep_within(j, node, "batch.max_bytes", &o->batch.max_bytes,
                "the service's own limit (limits.batch_bytes)", o->limits.batch_bytes, true);
    keep_within(j, node, "limits.event_bytes", &o->limits.event_bytes,
                "the service's own limit (limits.batch_bytes)", o->limits.batch_bytes, true);
}

static void rule_retry(struct judge *j, struct config_output *o, const struct yaml_node *node)
{
    if (o->retry.initial_us <= o->retry.max_us)
        return;
    const char *what = given(node, "retry.max") ? "retry.max" : "retry.initial";
    if (given(node, "retry.initial"))
        judge_fault_at(j, judge_pos(node, what), what,
                       "expected retry.initial to be no longer than retry.max");
    else
        o->retry.initial_us = o->retry.max_us;
}

/* --- TLS, spool, options -------------------------------------------------------------------------------- */

static void rule_tls(struct judge *j, struct config_output *o, const struct yaml_node *node)
{
    if (given(node, "tls.cert_file") && !given(node, "tls.key_file"))
        judge_fault_at(j, judge_pos(node, "tls.cert_file"), "tls.cert_file", "expected key_file beside it");
    if (given(node, "tls.key_file") && !given(node, "tls.cert_file"))
        judge_fault_at(j, judge_pos(node, "tls.key_file"), "tls.key_file", "expected cert_file beside it");
    if (!o->tls.verify && !o->tls.unsafe && !o->unsafe && given(node, "tls.verify"))
        judge_fault_at(j, judge_pos(node, "tls.verify"), "tls.verify",
                       "false lets anybody take the events and the key; expected true, or the line "
                       "\"i_know_this_is_unsafe: true\" beside it");
    /* No fault: files are often put in place after us, and what is accepted meanwhile waits in the spool. */
    struct fault why;
    if ((o->tls.ca_file != NULL || (o->tls.cert_file != NULL && o->tls.key_file != NULL)) &&
        j->env->tls_usable != NULL &&
        j->env->tls_usable(j->env->ctx, false, o->tls.ca_file, o->tls.cert_file, o->tls.key_file, &why) != OK)
        judge_say(j, CONFIG_WARNING, judge_pos(node, "tls"), "%s; nothing is sent until this is mended", why.text);
    static const char *const files[] = {"tls.ca_file", "tls.cert_file", "tls.server_name"};
    for (unsigned i = 0; i < 3; i++)
        if (o->endpoint.text != NULL && !o->endpoint.tls && given(node, files[i]))
            judge_say(j, CONFIG_WARNING, judge_pos(node, files[i]),
                      "%s has no effect: the endpoint is http://", files[i]);
}

/* The spool gives one record at most a quarter of a file, and a file at most a sixteenth of the whole. An
 * event that could never be stored is refused as too large when it comes in, so the limit follows the spool.
 */
static void rule_event_fits(struct judge *j, struct config_output *o, const struct yaml_node *node)
{
    uint64_t file =
        o->spool.segment_bytes < o->spool.max_bytes / 16 ? o->spool.segment_bytes : o->spool.max_bytes / 16;
    uint64_t most =
        (file < (1 << 20) ? 1 << 20 : file) / 4 - 4096; /* less the record's own partition, id and frame */
    o->spool.record_bytes = most;
    if (o->limits.event_bytes <= most)
        return;
    char text[48];
    o->limits.event_bytes = most;
    judge_say(j, CONFIG_NOTE,
              judge_pos(node, given(node, "spool.max_bytes") ? "spool.max_bytes" : "spool.segment_bytes"),
              "events over %s are refused: one may take a quarter of a file of the spool, which is "
              "segment_bytes and at "
              "most a sixteenth of max_bytes",
              value_size_text(most, text, sizeof text));
}

static void rule_spool(struct judge *j, struct config_output *o, const struct yaml_node *node)
{
    keep_within(j, node, "spool.segment_bytes", &o->spool.segment_bytes, "which is spool.max_bytes",
                o->spool.max_bytes, true);
    if (o->type != CONFIG_OUTPUT_MONK)
        return;
    if (o->spool.when_full != CONFIG_BLOCK)
        judge_say(j, CONFIG_WARNING, judge_pos(node, "spool.when_full"),
                  "events of a monk output are billed: only \"block\" loses none");
    if (o->dead_letter.when_full != CONFIG_BLOCK)
        judge_say(j, CONFIG_WARNING, judge_pos(node, "dead_letter.when_full"),
                  "events of a monk output are billed: only \"block\" loses none");
    if (o->retry.give_up_after_us != 0)
        judge_say(j, CONFIG_WARNING, judge_pos(node, "retry.give_up_after"),
                  "events of a monk output are billed: only \"never\" loses none");
    if (o->spool.max_age_us != 0)
        judge_say(j, CONFIG_WARNING, judge_pos(node, "spool.max_age"),
                  "events of a monk output are billed: only \"never\" loses none");
}

static bool product_token(const char *text)
{
    for (; *text != '\0'; text++) {
        char c = *text;
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && c != '-' && c != '_' && c != '.')
            return false;
    }
    return true;
}

static void rule_options(struct judge *j, struct config_output *o, const struct yaml_node *node)
{
    for (unsigned i = 0; i < o->option_count; i++) {
        const struct config_option *option = &o->options[i];
        struct yaml_pos pos = judge_pos(node, option->name);
        if (strstr(option->name, ".paths.") != NULL && option->value[0] != '/')
            judge_fault_at(j, pos, option->name, "expected a path that begins with /");
        if (strcmp(option->name, "launchdarkly.company") == 0 && !product_token(option->value))
            judge_fault_at(j, pos, option->name,
                           "expected letters, digits, -, _ and . only, for the User-Agent");
    }
    if (given(node, "monk.key") && given(node, "map.id"))
        judge_fault_at(j, judge_pos(node, "monk.key"), "monk.key",
                       "expected either this or map.id, which mean the same");
}

/* What may be written, as the services' own clients have it, but changes nothing here. */
static void rule_unused(struct judge *j, struct config_output *o, const struct yaml_node *node)
{
    (void)o;
    if (given(node, "segops.paths.single"))
        judge_say(j, CONFIG_WARNING, judge_pos(node, "segops.paths.single"),
                  "paths.single has no effect: every request is a batch");
}

void rules_output(struct judge *j, struct config_output *out, const struct yaml_node *node)
{
    static output_rule *const rules[] = {rule_endpoint,      rule_credentials, rule_partition,  rule_headers,
                                         rule_merge_headers, rule_compression, rule_limits,     rule_retry,
                                         rule_tls,           rule_spool,       rule_event_fits, rule_options,
                                         rule_unused};
    if (node->kind != YAML_MAP)
        return;
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
        rules[i](j, out, node);
}
