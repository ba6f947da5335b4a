/* launchdarkly: metric import and SDK events of LaunchDarkly, towards the service.
 *
 * Two protocols on one host. A, the import: arrays of custom events to
 * /v2/event-data-import/{project}/{environment}, partition "project/environment", batched by us. B, what the
 * SDKs send: whole requests (opaque.h), sent alone with the SDK's own payload id, so that SDK, agent and
 * service deduplicate end to end. Both are deduplicated by X-LaunchDarkly-Payload-ID, per request: the same
 * on every retry of the same bytes. A 400 on A means that nothing was taken, so splitting is safe.
 * Diagnostics of B are worth an hour and no letter. Facts: launchdarkly.com/docs (import metric events),
 * launchdarkly/go-sdk-events, ld-relay, js-core. */
#include "lib/api/launchdarkly.h"
#include "lib/api/opaque.h"

static const struct api_path paths[] = {
    {.method = "POST", .pattern = "/v2/event-data-import/*/*", .auth = AUTH_BARE, .tag = LD_IMPORT},
    {.method = "POST", .pattern = "/bulk", .auth = AUTH_BARE, .tag = LD_EVENTS},
    {.method = "POST", .pattern = "/diagnostic", .auth = AUTH_BARE, .tag = LD_DIAGNOSTIC},
    {.method = "POST", .pattern = "/mobile", .auth = AUTH_BARE, .tag = LD_EVENTS},
    {.method = "POST", .pattern = "/mobile/events", .auth = AUTH_BARE, .tag = LD_EVENTS},
    {.method = "POST", .pattern = "/mobile/events/bulk", .auth = AUTH_BARE, .tag = LD_EVENTS},
    {.method = "POST", .pattern = "/mobile/events/diagnostic", .auth = AUTH_BARE, .tag = LD_DIAGNOSTIC},
    {.method = "POST", .pattern = "/events/bulk/*", .auth = AUTH_IMPOSSIBLE, .tag = LD_BROWSER_EVENTS},
    {.method = "OPTIONS", .pattern = "/events/bulk/*", .auth = AUTH_NONE, .tag = LD_PREFLIGHT},
    {.method = "POST",
     .pattern = "/events/diagnostic/*",
     .auth = AUTH_IMPOSSIBLE,
     .tag = LD_BROWSER_DIAGNOSTIC},
    {.method = "OPTIONS", .pattern = "/events/diagnostic/*", .auth = AUTH_NONE, .tag = LD_PREFLIGHT},
    {.method = "GET", .pattern = "/a/*", .auth = AUTH_IMPOSSIBLE, .tag = LD_PIXEL},
    {.method = "OPTIONS", .pattern = "/a/*", .auth = AUTH_NONE, .tag = LD_PIXEL_PREFLIGHT},
};

static bool is_diagnostic(struct span partition)
{
    struct span target = opaque_target(partition);
    const struct span word = SPAN("/diagnostic");
    for (size_t i = 0; i + word.len <= target.len; i++)
        if (span_equal(span_of(target.at + i, word.len), word))
            return true;
    return false;
}

static bool alone(const struct api_settings *s, struct span partition)
{
    (void)s;
    return opaque_is(partition);
}

static uint64_t expires_us(struct span partition)
{
    return opaque_is(partition) && is_diagnostic(partition) ? 3600 * US_PER_S : 0;
}

static void envelope(const struct api_settings *s, struct span partition, struct api_envelope *ret)
{
    (void)s;
    if (opaque_is(partition))
        *ret =
            (struct api_envelope){.before = SPAN(""), .between = SPAN(""), .after = SPAN(""), .version = 2};
    else
        *ret = (struct api_envelope){
            .before = SPAN("["), .between = SPAN(","), .after = SPAN("]"), .version = 1};
}

bool ld_split_partition(struct span partition, struct span *ret_project, struct span *ret_environment)
{
    const uint8_t *slash = partition.len == 0 ? NULL : memchr(partition.at, '/', partition.len);
    if (slash == NULL)
        return false;
    *ret_project = span_of(partition.at, (size_t)(slash - partition.at));
    *ret_environment = span_of(slash + 1, partition.len - ret_project->len - 1);
    return ret_project->len > 0 && ret_environment->len > 0 &&
           memchr(ret_environment->at, '/', ret_environment->len) == NULL;
}

static enum err import_target(const struct api_settings *s, struct span partition, struct arena *arena,
                              struct span *ret)
{
    struct bytes path;
    struct span project = SPAN(""), environment = SPAN("");
    (void)ld_split_partition(partition, &project, &environment);
    if (!bytes_init_arena(&path, arena, 3 * partition.len + 32) ||
        bytes_append(&path, SPAN("/v2/event-data-import/")) != OK || path_encode(&path, project) != OK ||
        bytes_append_byte(&path, '/') != OK || path_encode(&path, environment) != OK)
        return ERR_TOO_BIG;
    *ret = target_join(s, arena, bytes_finish_arena(&path, arena));
    return OK;
}

static struct span import_agent(const struct api_settings *s, struct arena *arena)
{
    const struct span *company = s->option_count == 0 ? NULL : api_option(s, "company");
    struct span name = company != NULL && company->len > 0 ? *company : SPAN("Penstock");
    return arena_printf(arena, "MetricImport-%.*s-int/penstock-" PENSTOCK_VERSION, SPAN_FMT(name));
}

static enum err request(const struct api_settings *s, const struct api_batch *b, struct arena *arena,
                        struct api_send *ret)
{
    if (opaque_is(b->partition)) {
        enum err err = opaque_request(s, b->partition, arena, ret);
        struct span id = b->count > 0 && b->members[0].id.len > 0 ? b->members[0].id : b->payload_id;
        send_header(ret, "X-LaunchDarkly-Payload-ID", id);
        if (!span_starts(opaque_target(b->partition),
                         SPAN("/events/"))) /* there the id in the path says who it is */
            send_header(ret, "Authorization", s->sdk_key);
        return err;
    }
    *ret = (struct api_send){.method = "POST"};
    enum err err = import_target(s, b->partition, arena, &ret->target);
    send_header(ret, "Authorization", s->access_token);
    send_header(ret, "Content-Type", SPAN("application/json"));
    send_header(ret, "X-LaunchDarkly-Event-Schema", SPAN("4"));
    send_header(ret, "X-LaunchDarkly-Payload-ID", b->payload_id);
    send_header(ret, "User-Agent", import_agent(s, arena));
    return err;
}

/* --- the answer --------------------------------------------------------------------------------- */

static void judge_import(const struct api_reply *reply, struct api_verdict *ret)
{
    if (reply->status == 403 || reply->status == 404)
        verdict_set(ret, ACT_HOLD_PARTITION, DEAD_REFUSED);
}

/* A summary cannot be cut, so a refused request ends; a refused credential holds what came with it. */
static void judge_sdk(const struct api_batch *b, const struct api_reply *reply, struct api_verdict *ret)
{
    unsigned status = reply->status;
    if (status == 401 || status == 403 || (status >= 300 && status < 400))
        verdict_set(ret, ACT_HOLD_PARTITION, DEAD_REFUSED);
    else if (ret->action != ACT_DELIVERED && ret->action != ACT_RETRY &&
             !(status == 415 && b->codec != API_IDENTITY))
        verdict_set(ret, ACT_DEAD, status == 413 ? DEAD_TOO_LARGE : DEAD_REFUSED);
    if (ret->action == ACT_DEAD && is_diagnostic(b->partition))
        ret->expire_quietly = true;
}

static void judge(const struct api_settings *s, const struct api_batch *b, const struct api_reply *reply,
                  struct arena *arena, struct api_verdict *ret)
{
    (void)s;
    judge_status(reply, arena, ret);
    if (opaque_is(b->partition))
        judge_sdk(b, reply, ret);
    else
        judge_import(reply, ret);
}

static void read_any(struct api_exchange *x)
{
    if (x->path->tag == LD_IMPORT)
        ld_read_import(x);
    else
        ld_read_sdk(x);
    if (x->answer.status != 0)
        x->item_count = 0;
}

static void answer_any(struct api_exchange *x, enum api_condition condition, struct span text,
                       struct api_answer *ret)
{
    if (x->path->tag == LD_IMPORT)
        ld_answer_import(x, condition, text, ret);
    else
        ld_answer_sdk(x, condition, text, ret);
}

const struct api launchdarkly_api = {
    .name = "launchdarkly",
    .codecs = API_CODEC_BIT(API_IDENTITY) | API_CODEC_BIT(API_GZIP),
    .auto_codec = API_GZIP,
    .version = 1,
    .neutral = true,
    .repeat = REPEAT_REFUSE,
    .default_endpoint = "https://events.launchdarkly.com",
    .limits = {.event_bytes = 1000000,
               .batch_events = 100000,
               .batch_raw_bytes = 9999999,
               .local_events = 10000},
    .batch = {.max_events = 10000, .max_bytes = 9000000, .max_wait_us = 10 * US_PER_S, .concurrency = 4},
    .paths = paths,
    .path_count = sizeof paths / sizeof paths[0],
    .read = read_any,
    .answer = answer_any,
    .render = ld_render,
    .alone = alone,
    .expires_us = expires_us,
    .envelope = envelope,
    .request = request,
    .judge = judge,
};
