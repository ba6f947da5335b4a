/* knobs: what kind of run a seed is. Limits are drawn small, so that edges come often; the first choice is
 * always the plainest. */
#include "tests/sim/delivery/world.h"

/* Of eight seeds, those that try more: see draw_wide(). */
enum { KIND_WIDE = 1, KIND_ROTS = 5, KIND_TALKS = 7 };

static uint32_t one_of(struct world *w, const uint32_t *from, uint32_t count)
{
    return from[decide(&w->luck, count)];
}
#define ONE_OF(w, ...) \
    one_of(w, (const uint32_t[]){__VA_ARGS__}, \
           (uint32_t)(sizeof((const uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t)))

static void draw_spool(struct world *w)
{
    struct spool_config *c = &w->knobs.spool;
    *c = (struct spool_config){.name = "sim", .api_version = 1};
    c->segment_bytes = ONE_OF(w, 1 << 16, 1 << 17, 1 << 18);
    c->max_bytes = c->segment_bytes * ONE_OF(w, 32, 16, 64);
    c->dead_max_bytes = ONE_OF(w, 1 << 24, 1 << 24, 1 << 16);
    c->dead_drop_newest = decide(&w->luck, 4) == 1;
    c->durability = ONE_OF(w, SPOOL_FSYNC, SPOOL_FSYNC, SPOOL_FSYNC, SPOOL_FSYNC, SPOOL_INTERVAL);
    c->when_full = ONE_OF(w, SPOOL_BLOCK, SPOOL_BLOCK, SPOOL_BLOCK, SPOOL_DROP_OLDEST, SPOOL_DROP_NEWEST);
    c->window_seqs = ONE_OF(w, 0, 0, 32, 256);
    c->window_bytes = ONE_OF(w, 0, 0, 16384);
    c->cache_bytes = ONE_OF(w, 0, 0, 4096);
    c->recent_us = ONE_OF(w, 0, 1000000);
    c->recent_max = 100;
    c->max_age_us = ONE_OF(w, 0, 0, 0, 0, 60) * US_PER_S;
}

static void draw_api(struct world *w)
{
    static const char *const names[] = {"http", "honeycomb", "langfuse",    "launchdarkly",
                                        "monk", "segops",    "cloudevents", "otlp"};
    static const char *const talkative[] = {"langfuse", "langfuse",    "monk",
                                            "segops",   "cloudevents", "honeycomb"};
    struct knobs *k = &w->knobs;
    bool talks = w->seed % 8 == KIND_TALKS && w->script == NULL;
    const struct api *api =
        api_find(span_str(talks ? talkative[decide(&w->luck, 6)] : names[decide(&w->luck, 8)]));
    struct output_config *c = &k->output;
    struct span key = SPAN("key");
    c->api = (struct api_settings){.api = api,
                                   .output_name = "sim",
                                   .agent_name = "agent",
                                   .limits = api->limits,
                                   .base_path = SPAN("/base"),
                                   .base_query = SPAN(""),
                                   .partition = SPAN("p"),
                                   .api_key = key,
                                   .public_key = key,
                                   .secret_key = key,
                                   .access_token = key,
                                   .sdk_key = key,
                                   .bearer = key};
    k->per_event = span_is(span_str(api->name), "honeycomb") || span_is(span_str(api->name), "langfuse");
    enum api_codec codecs[4] = {API_IDENTITY, api->auto_codec, API_IDENTITY, API_IDENTITY};
    if (api->codecs & API_CODEC_BIT(API_GZIP))
        codecs[2] = API_GZIP;
    if (api->codecs & API_CODEC_BIT(API_ZSTD))
        codecs[3] = API_ZSTD;
    c->codec = codecs[decide(&w->luck, 4)];
    k->partitions = ONE_OF(w, 1, 1, 2, 4);
    if (span_is(span_str(api->name), "monk"))
        k->partitions = 1;
}

static void draw_output(struct world *w)
{
    struct output_config *c = &w->knobs.output;
    c->batch_events_max = ONE_OF(w, 10, 1, 3, 40);
    c->batch_bytes_max = ONE_OF(w, 1 << 20, 3000, 20000);
    c->batch_wait_us = ONE_OF(w, 200, 20, 2000) * US_PER_MS;
    c->concurrency = ONE_OF(w, 1, 1, 2, 4, 6);
    c->concurrency_auto = decide(&w->luck, 4) == 1;
    c->retry_initial_us = ONE_OF(w, 100, 20, 1000) * US_PER_MS;
    c->retry_max_us = ONE_OF(w, 2, 10, 60) * US_PER_S;
    c->give_up_after_us = ONE_OF(w, 0, 0, 0, 0, 5, 60) * US_PER_S;
    c->request_timeout_us = 10 * US_PER_S;
    c->rate_requests = ONE_OF(w, 0, 0, 0, 20, 100);
    c->rate_per_us = 10 * US_PER_S;
    c->payload_budget_bytes = ONE_OF(w, 0, 0, 3000, 20000);
}

static void draw_dangers(struct world *w)
{
    struct knobs *k = &w->knobs;
    k->one_in_kill = ONE_OF(w, 0, 1500, 400, 3000);
    k->one_in_power = ONE_OF(w, 0, 1500, 400, 3000);
    if (k->spool.durability != SPOOL_FSYNC)
        k->one_in_power = 0; /* what was answered for may be lost then, and the identity of what was sent */
    k->aimed = decide(&w->luck, 3) == 1;
    k->faults = decide(&w->luck, 8) == 1;
    k->one_in_fault = k->faults ? ONE_OF(w, 300, 100, 1000) : 0;
    k->one_in_squeeze = k->faults ? ONE_OF(w, 0, 2000) : 0;
    k->one_in_rest = ONE_OF(w, 0, 8, 2);
    k->one_in_write_back = ONE_OF(w, 0, 16, 4);
    k->one_in_stop = ONE_OF(w, 0, 3000, 1000);
    k->one_in_wall_jump = ONE_OF(w, 0, 0, 0, 1000);
    k->one_in_whim = ONE_OF(w, 0, 400, 100);
    k->one_in_envelope = ONE_OF(w, 0, 0, 0, 0, 0, 2);
}

static void draw_traffic(struct world *w)
{
    struct knobs *k = &w->knobs;
    k->job_us = ONE_OF(w, 300, 50, 3000, 30000);
    k->produce_us = ONE_OF(w, 20000, 2000, 200000);
    k->pool_us = ONE_OF(w, 300, 20000);
    k->latency_us = ONE_OF(w, 20000, 2000, 500000);
    k->body_max = ONE_OF(w, 100, 600, 2500);
    k->append_max = ONE_OF(w, 4, 1, 16);
    k->one_in_bad = ONE_OF(w, 0, 0, 100, 10);
    k->one_in_same_id = ONE_OF(w, 0, 0, 10);
}

static void draw_upstream(struct world *w)
{
    struct knobs *k = &w->knobs;
    k->one_in_refused = ONE_OF(w, 0, 0, 20, 5);
    k->one_in_lost = ONE_OF(w, 0, 0, 20, 5);
    k->one_in_answer_lost = ONE_OF(w, 0, 0, 20, 5);
    k->one_in_torn = ONE_OF(w, 0, 0, 20, 5);
    k->one_in_slow = ONE_OF(w, 0, 0, 50, 10);
    k->one_in_busy = ONE_OF(w, 0, 0, 20, 4);
    k->one_in_error = ONE_OF(w, 0, 0, 20, 4);
    k->one_in_page = ONE_OF(w, 0, 0, 0, 30);
    k->one_in_row_later = ONE_OF(w, 0, 0, 20, 4);
    k->one_in_short = ONE_OF(w, 0, 0, 0, 20);
    k->one_in_outage = ONE_OF(w, 0, 0, 2000, 500);
    k->one_in_unauthorized = ONE_OF(w, 0, 0, 2000);
    k->one_in_no_partition = ONE_OF(w, 0, 0, 1000);
    k->one_in_certificate = ONE_OF(w, 0, 0, 0, 2000);
    k->too_large = ONE_OF(w, 0, 0, 2800, 6000);
    k->no_codec = decide(&w->luck, 16) == 1;
    k->no_batches = decide(&w->luck, 16) == 1;
    k->days = decide(&w->luck, 8) == 1;
}

/* What services do now and then, disks that rot, limits that are lowered: in some runs, so that the others
 * stay what they have always been. */
static void draw_wide(struct world *w)
{
    struct knobs *k = &w->knobs;
    struct api_settings *s = &k->output.api;
    k->wide = true;
    k->days = decide(&w->luck, 3) != 1;
    k->one_in_skip = ONE_OF(w, 0, 20, 4);
    k->one_in_mismatch = ONE_OF(w, 0, 20, 4);
    k->one_in_extra = ONE_OF(w, 0, 20, 4);
    k->one_in_short = ONE_OF(w, k->one_in_short, 4, 20, 4);
    k->one_in_gone = ONE_OF(w, 0, 0, 2000, 500);
    k->one_in_turned_away = ONE_OF(w, 0, 0, 2000, 500);
    k->one_in_rot = w->seed % 8 == KIND_ROTS ? ONE_OF(w, 500, 200, 2000) : ONE_OF(w, 0, 0, 0, 2000, 500);
    if (k->spool.durability != SPOOL_FSYNC || k->faults)
        k->one_in_rot = 0;        /* one excuse at a time */
    if (w->seed % 8 == KIND_ROTS) /* damage needs open batches that wait */
        k->one_in_outage = ONE_OF(w, 500, 200, 2000);
    if (w->seed % 8 == KIND_TALKS) {
        k->one_in_short = ONE_OF(w, 3, 6, 20);
        k->one_in_extra = ONE_OF(w, 3, 6, 20);
        k->append_max = 16; /* batches of several events */
        k->output.batch_events_max = 10;
    }
    k->webhook = span_is(span_str(s->api->name), "cloudevents") && decide(&w->luck, 4) != 1;
    k->one_in_no_consent = ONE_OF(w, 0, 2000, 500);
    k->consent_per_minute = ONE_OF(w, 0, 60, 200);
    if (k->webhook)
        s->webhook_origin = SPAN("agent.example");
    s->limits.batch_events = ONE_OF(w, (uint32_t)s->limits.batch_events, 2, 20);
    s->limits.batch_raw_bytes = ONE_OF(w, (uint32_t)s->limits.batch_raw_bytes, 4000, 30000);
    s->limits.batch_sent_bytes = ONE_OF(w, (uint32_t)s->limits.batch_sent_bytes, 1000, 5000);
}

void knobs_draw(struct world *w)
{
    w->knobs = (struct knobs){0};
    draw_spool(w);
    draw_api(w);
    draw_output(w);
    draw_dangers(w);
    draw_traffic(w);
    draw_upstream(w);
    unsigned kind = w->seed % 8;
    if (w->script == NULL && (kind == KIND_WIDE || kind == KIND_ROTS || kind == KIND_TALKS))
        draw_wide(w);
    struct knobs *k = &w->knobs;
    /* With a store of letters that blocks when it is full, somebody has to look after it. */
    if (k->spool.dead_max_bytes < 1 << 20 && k->one_in_whim == 0)
        k->one_in_whim = 400;
}

const struct script scripts[] = {
    {"plain", "http", "", 0},           {"unknown", "http", "5", 0},  {"lost_answer", "http", "l5", 0},
    {"too_large", "http", "9", 0},      {"bad_event", "http", "", 3}, {"rows", "honeycomb", "rd", 2},
    {"rows_late", "langfuse", "rr", 2}, {"torn", "monk", "tt", 0},    {"busy", "launchdarkly", "35l", 0},
    {"refused", "segops", "cct", 2},
};
const unsigned script_count = sizeof scripts / sizeof *scripts;

/* For the exhaustive mode: plain all through, and small. */
void knobs_script(struct world *w)
{
    struct knobs *k = &w->knobs;
    const struct api *api = api_find(span_str(w->script->api));
    k->output.api.api = api;
    k->output.api.limits = api->limits;
    k->output.codec = API_IDENTITY;
    k->output.batch_events_max = 4;
    k->output.batch_wait_us = 20 * US_PER_MS;
    k->output.concurrency = 2;
    k->per_event =
        span_is(span_str(w->script->api), "honeycomb") || span_is(span_str(w->script->api), "langfuse");
    k->partitions = 1;
    k->append_max = 3;
}
