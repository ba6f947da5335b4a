/* output_config: see output_config.h. */
#include "agent/output_config.h"

#include "agent/agent.h"
#include "agent/output_host.h"
#include "lib/base/ensure.h"
#include "lib/base/list.h"
#include "lib/base/log.h"
#include "lib/config/config.h"

#include <stdlib.h>

#define RECENT_US (300 * US_PER_S) /* the memory of recent ids, contract: 5 minutes */
#define RECENT_MAX 65536

static enum spool_durability durability(enum config_durability d)
{
    static const enum spool_durability to[] = {
        [CONFIG_FSYNC] = SPOOL_FSYNC, [CONFIG_INTERVAL] = SPOOL_INTERVAL, [CONFIG_NO_SYNC] = SPOOL_NO_SYNC};
    return to[d];
}

static enum spool_when_full when_full(enum config_when_full w)
{
    static const enum spool_when_full to[] = {[CONFIG_BLOCK] = SPOOL_BLOCK,
                                              [CONFIG_DROP_NEWEST] = SPOOL_DROP_NEWEST,
                                              [CONFIG_DROP_OLDEST] = SPOOL_DROP_OLDEST};
    return to[w];
}

void output_config_spool(const struct config_output *c, uint64_t min_free, struct spool_config *ret)
{
    const struct api *api = api_find(span_str(config_output_type_names[c->type]));
    ensure(api != NULL);
    *ret = (struct spool_config){
        .name = c->name,
        .max_bytes = c->spool.max_bytes,
        .segment_bytes = c->spool.segment_bytes,
        .min_free = min_free,
        .max_age_us = c->spool.max_age_us,
        .dead_max_bytes = c->dead_letter.max_bytes,
        .dead_drop_newest = c->dead_letter.when_full == CONFIG_DROP_NEWEST,
        .durability = durability(c->spool.durability),
        .when_full = when_full(c->spool.when_full),
        .api_version = api->version,
        .strict_identity = c->spool.strict_identity,
        .wipe_recycled = c->spool.wipe_recycled,
        .require_local_fs = c->spool.require_local_fs,
        .scrub_bytes_s = c->spool.scrub_bytes_s,
        .recent_us = RECENT_US,
        .recent_max = RECENT_MAX,
    };
}

static enum api_codec codec_of(enum config_compression compression)
{
    switch (compression) {
    case CONFIG_COMPRESSION_GZIP:
        return API_GZIP;
    case CONFIG_COMPRESSION_ZSTD:
        return API_ZSTD;
    default:
        return API_IDENTITY;
    }
}

static struct span optional(const char *text)
{
    return text == NULL ? (struct span){0} : span_str(text);
}

static struct span secret(const struct config_secret *s)
{
    return s->template == NULL ? (struct span){0} : s->value;
}

void output_config_credentials(const struct config_output *c, struct api_settings *settings)
{
    settings->api_key = secret(&c->credentials.api_key);
    settings->public_key = secret(&c->credentials.public_key);
    settings->secret_key = secret(&c->credentials.secret_key);
    settings->access_token = secret(&c->credentials.access_token);
    settings->sdk_key = secret(&c->credentials.sdk_key);
    settings->bearer = secret(&c->credentials.bearer);
}

void output_config_core(const struct config_output *c, const char *agent_name, struct output_config *ret)
{
    struct api_option *options = must_alloc(sizeof *options * (c->option_count + 1));
    for (unsigned i = 0; i < c->option_count; i++)
        options[i] = (struct api_option){.name = c->options[i].name, .value = span_str(c->options[i].value)};
    *ret = (struct output_config){
        .api =
            {
                .api = api_find(span_str(config_output_type_names[c->type])),
                .output_name = c->name,
                .agent_name = agent_name,
                .base_path = span_str(c->endpoint.path),
                .base_query = span_str(c->endpoint.query),
                .partition = optional(c->partition),
                .options = options,
                .option_count = c->option_count,
                .limits =
                    {
                        .event_bytes = c->limits.event_bytes,
                        .batch_events = c->limits.batch_events,
                        .batch_raw_bytes = c->limits.batch_bytes,
                        .batch_sent_bytes = c->limits.batch_sent_bytes,
                        .local_events = c->limits.local_events,
                    },
                .sessions_off = c->session == CONFIG_SESSION_OFF,
                .webhook_origin = optional(c->webhook_origin),
                .ndjson = c->format == CONFIG_FORMAT_NDJSON,
                .mode = c->mode == CONFIG_MODE_BINARY       ? API_MODE_BINARY
                        : c->mode == CONFIG_MODE_STRUCTURED ? API_MODE_STRUCTURED
                                                            : API_MODE_BATCH,
            },
        .batch_events_max = c->batch.max_events,
        .batch_bytes_max = c->batch.max_bytes,
        .batch_wait_us = c->batch.max_wait_us,
        .codec = codec_of(c->compression),
        .concurrency = c->concurrency,
        .concurrency_auto = c->concurrency_auto,
        .retry_initial_us = c->retry.initial_us,
        .retry_max_us = c->retry.max_us,
        .give_up_after_us = c->retry.give_up_after_us,
        .request_timeout_us = c->timeout.request_us,
        .rate_requests = c->rate_limit.requests.requests,
        .rate_per_us = c->rate_limit.requests.per_us,
    };
    output_config_credentials(c, &ret->api);
}

void output_config_release(struct output_config *core)
{
    free((void *)(uintptr_t)core->api.options);
    core->api.options = NULL;
    core->api.option_count = 0;
}

/* What the pool has read, put in place; the probe of what is held may go. */
static void on_reread(struct reread *r, bool secrets_changed, const struct tls_files *tls)
{
    struct output_host *h = CONTAINER_OF(r, struct output_host, reread);
    struct fault why;
    if (secrets_changed)
        output_config_credentials(h->config, output_api_settings(h->core));
    bool first = h->upstream->tls == NULL;
    if (tls != NULL && upstream_use_tls(h->upstream, tls, &why) != OK)
        log_every(&r->tls_limit, clock_mono_us(&h->agent->clock), 60 * US_PER_S, LOG_WARN, h->subject, "%s%s", why.text,
                  first ? "" : "; the old certificates stay");
    else if (tls != NULL && !first)
        log_info(h->subject, "certificates changed and are used for new connections");
    output_secrets_read(h->core);
    output_host_touch(h);
}

void output_config_reread_init(struct output_host *h)
{
    reread_init(&h->reread, h->subject, on_reread);
}

void output_config_reread(struct output_host *h)
{
    const struct config_output *c = h->config;
    if (!c->endpoint.tls && !config_secrets_refer(c->secrets)) {
        output_secrets_read(h->core);
        return;
    }
    const struct reread_what what = {
        .edition = h->edition,
        .secrets = c->secrets,
        .paths = tls_client_paths(&c->tls),
        .tls = c->endpoint.tls,
        .system_roots = tls_client_wants_system_roots(&c->tls),
        .looks = h->upstream->tls == NULL ? 0 : h->upstream->tls_files,
    };
    reread_start(&h->reread, h->agent->loop, &what);
}
