/* The table of configuration keys and the apis state the same facts of each service: its limits, what closes
 * a batch, its codecs, its endpoint. lib/config may not include lib/api, so this test holds them together. */
#include "lib/api/api.h"
#include "lib/config/config.h"

#include <criterion/criterion.h>
#include <stdio.h>

static const char *variable(void *ctx, const char *name)
{
    (void)ctx;
    (void)name;
    return NULL;
}

static struct config *parse(const char *type, const char *more)
{
    static const struct config_env env = {.variable = variable, .host_name = "h"};
    char text[600];
    (void)snprintf(text, sizeof text, "outputs: { o: { type: %s%s } }\n", type, more);
    struct config_report r;
    config_report_init(&r);
    struct config *c = config_parse(span_str(text), "t", &env, &r);
    config_report_deinit(&r);
    return c;
}

static const char *credentials(const char *type)
{
    if (strcmp(type, "langfuse") == 0)
        return ", credentials: { public_key: p, secret_key: s }";
    if (strcmp(type, "launchdarkly") == 0)
        return ", credentials: { access_token: a }";
    if (strcmp(type, "http") == 0 || strcmp(type, "cloudevents") == 0)
        return ", endpoint: https://h/";
    return strcmp(type, "otlp") == 0 ? "" : ", credentials: { api_key: k }";
}

Test(config_defaults, are_those_of_the_apis)
{
    for (const struct api *const *at = api_all(); *at != NULL; at++) {
        const struct api *api = *at;
        struct config *c = parse(api->name, credentials(api->name));
        cr_assert(c != NULL, "%s", api->name);
        const struct config_output *o = &c->outputs[0];
        cr_expect_eq(o->limits.event_bytes, api->limits.event_bytes, "%s event_bytes", api->name);
        cr_expect_eq(o->limits.batch_events, api->limits.batch_events, "%s batch_events", api->name);
        cr_expect_eq(o->limits.batch_bytes, api->limits.batch_raw_bytes, "%s batch_bytes", api->name);
        cr_expect_eq(o->limits.batch_sent_bytes, api->limits.batch_sent_bytes, "%s batch_sent_bytes",
                     api->name);
        cr_expect_eq(o->limits.local_events, api->limits.local_events, "%s local_events", api->name);
        cr_expect_eq(o->batch.max_events, api->batch.max_events, "%s max_events", api->name);
        cr_expect_eq(o->batch.max_bytes, api->batch.max_bytes, "%s max_bytes", api->name);
        cr_expect_eq(o->batch.max_wait_us, api->batch.max_wait_us, "%s max_wait", api->name);
        cr_expect_eq(o->concurrency, api->batch.concurrency, "%s concurrency", api->name);
        cr_expect_eq(o->rate_limit.requests.requests, api->batch.rate_requests, "%s rate", api->name);
        if (api->default_endpoint != NULL)
            cr_expect_str_eq(o->endpoint.text, api->default_endpoint);
        config_free(c);
    }
}

Test(config_defaults, compression_is_what_the_api_takes)
{
    static const struct {
        const char *name;
        enum api_codec codec;
        enum config_compression compression;
    } codecs[] = {{"gzip", API_GZIP, CONFIG_COMPRESSION_GZIP}, {"zstd", API_ZSTD, CONFIG_COMPRESSION_ZSTD}};
    for (const struct api *const *at = api_all(); *at != NULL; at++) {
        for (size_t i = 0; i < 2; i++) {
            char more[200];
            (void)snprintf(more, sizeof more, "%s, compression: %s", credentials((*at)->name),
                           codecs[i].name);
            struct config *c = parse((*at)->name, more);
            bool taken = ((*at)->codecs & API_CODEC_BIT(codecs[i].codec)) != 0;
            /* Langfuse's batches go plain whatever is written; there gzip is a warning. */
            if (strcmp((*at)->name, "langfuse") != 0)
                cr_expect_eq(c != NULL, taken, "%s %s", (*at)->name, codecs[i].name);
            config_free(c);
        }
    }
}
