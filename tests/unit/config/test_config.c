/* config: the contract's example, defaults, references, reload. */
#include "lib/config/config.h"

#include "tests/unit/config/fake_env.h"

#include <criterion/criterion.h>
#include <stdio.h>

#define MIB (UINT64_C(1) << 20)
#define SECOND UINT64_C(1000000)

/* The manual's whole example, with the output that its routes also name. */
static const char example[] =
    "agent:\n"
    "  name: web-1                  # default: host name\n"
    "  data_dir: /var/lib/penstock  # spools, dead letters, statistics\n"
    "  min_free: 256MiB             # stop accepting before the file system is full\n"
    "  drain_timeout: 10s\n"
    "  log: { level: info, format: text }       # error|warn|info|debug, text|json\n"
    "\n"
    "admin:\n"
    "  listen: 127.0.0.1:4390       # or unix:/run/penstock/admin.sock; false switches it off\n"
    "\n"
    "inputs:\n"
    "  http: { type: http, listen: 127.0.0.1:4380, max_body: 10MiB, max_connections: 1024, idle_timeout: "
    "60s, "
    "request_timeout: 30s,\n"
    "          auth: { token: \"${file:/etc/penstock/token}\" },            # auth: optional on loopback\n"
    "          tls: { cert_file: , key_file: , client_ca_file: } }        # tls: optional\n"
    "  app:  { type: unix, path: /run/penstock/penstock.sock, mode: \"0660\", group: penstock, max_event: "
    "1MiB, "
    "max_body: 10MiB }\n"
    "  dgram: { type: unix_dgram, path: /run/penstock/penstock.dgram, mode: \"0660\" }\n"
    "  udp:  { type: udp, listen: 127.0.0.1:4381, receive_buffer: 4MiB }\n"
    "\n"
    "outputs:\n"
    "  telemetry:\n"
    "    type: honeycomb            # an api of section 1\n"
    "    endpoint: https://api.honeycomb.io     # each api has its vendor's default; a path prefix is kept\n"
    "    credentials: { api_key: \"${env:SET_HONEYCOMB_API_KEY}\" }\n"
    "    partition: my-dataset\n"
    "    headers: { X-Extra: value }\n"
    "    compression: auto\n"
    "    batch:  { max_events: 1000, max_bytes: 1MB, max_wait: 1s }     # defaults per api\n"
    "    limits: { event_bytes: 1MB }\n"
    "    concurrency: 4\n"
    "    timeout: { connect: 5s, request: 30s, idle: 60s }\n"
    "    retry:  { initial: 500ms, max: 60s, give_up_after: never }\n"
    "    rate_limit: { requests: 60/1m }\n"
    "    tls:    { ca_file: , cert_file: , key_file: , server_name: , min_version: \"1.2\", verify: true }\n"
    "    proxy:  http://proxy:3128\n"
    "    spool:  { max_bytes: 8GiB, segment_bytes: 16MiB, durability: fsync, when_full: block, max_age: "
    "never }\n"
    "    dead_letter: { max_bytes: 256MiB, when_full: block }\n"
    "  billing: { type: monk, credentials: { api_key: \"${env:SET_MONK}\" } }\n"
    "\n"
    "routes:\n"
    "  - { when: { type: \"billing.*\", input: udp }, to: [billing, telemetry] }\n"
    "  - { when: { type: \"debug.*\" }, sample: 10, to: [telemetry] }\n"
    "  - { to: [telemetry] }\n";

static void check_example_inputs(const struct config *c)
{
    cr_assert_eq(c->input_count, 4);
    const struct config_input *http = &c->inputs[0], *app = &c->inputs[1], *udp = &c->inputs[3];
    cr_expect_eq(http->type, CONFIG_INPUT_HTTP);
    cr_expect_str_eq(http->listen.host, "127.0.0.1");
    cr_expect_eq(http->listen.port, 4380);
    cr_expect_eq(http->max_body, 10 * MIB);
    cr_expect_eq(http->max_connections, 1024);
    cr_expect_eq(http->idle_timeout_us, 60 * SECOND);
    cr_expect(span_is(http->auth.token.value, "content-of-/etc/penstock/token"));
    cr_expect(http->tls.cert_file == NULL);
    cr_expect_eq(app->type, CONFIG_INPUT_UNIX);
    cr_expect_str_eq(app->listen.path, "/run/penstock/penstock.sock");
    cr_expect_eq(app->socket.mode, 0660);
    cr_expect_str_eq(app->socket.group, "penstock");
    cr_expect_eq(app->socket.gid, 997);
    cr_expect(app->socket.user == NULL);
    cr_expect_eq(app->max_event, MIB);
    cr_expect_eq(udp->type, CONFIG_INPUT_UDP);
    cr_expect_eq(udp->receive_buffer, 4 * MIB);
}

static void check_example_output(const struct config_output *o)
{
    cr_expect_str_eq(o->name, "telemetry");
    cr_expect_eq(o->type, CONFIG_OUTPUT_HONEYCOMB);
    cr_expect(o->endpoint.tls);
    cr_expect_str_eq(o->endpoint.host, "api.honeycomb.io");
    cr_expect_eq(o->endpoint.port, 443);
    cr_expect_str_eq(o->endpoint.path, "");
    cr_expect_str_eq(o->credentials.api_key.template, "${env:SET_HONEYCOMB_API_KEY}");
    cr_expect(span_is(o->credentials.api_key.value, "value-of-SET_HONEYCOMB_API_KEY"));
    cr_expect_str_eq(o->partition, "my-dataset");
    cr_assert_eq(o->header_count, 1);
    cr_expect_str_eq(o->headers[0].name, "X-Extra");
    cr_expect(span_is(o->headers[0].value.value, "value"));
    cr_expect_eq(o->compression, CONFIG_COMPRESSION_ZSTD);
    cr_expect_eq(o->batch.max_bytes, 1000000);
    cr_expect_eq(o->batch.max_wait_us, SECOND);
    cr_expect_eq(o->limits.batch_sent_bytes, 1000000);
    cr_expect_eq(o->concurrency, 4);
    cr_expect_eq(o->retry.initial_us, SECOND / 2);
    cr_expect_eq(o->retry.give_up_after_us, 0);
    cr_expect_eq(o->rate_limit.requests.requests, 60);
    cr_expect_eq(o->rate_limit.requests.per_us, 60 * SECOND);
    cr_expect_eq(o->tls.min_version, 12);
    cr_expect(o->tls.verify);
    cr_expect_str_eq(o->proxy.host, "proxy");
    cr_expect_eq(o->proxy.port, 3128);
    cr_expect_eq(o->spool.max_bytes, 8192 * MIB);
    cr_expect_eq(o->dead_letter.max_bytes, 256 * MIB);
}

Test(config, takes_the_example_of_the_manual_as_it_stands)
{
    struct config *c = good(example);
    cr_expect_str_eq(c->agent.name, "web-1");
    cr_expect_eq(c->agent.min_free, 256 * MIB);
    cr_expect_eq(c->agent.drain_timeout_us, 10 * SECOND);
    cr_expect_eq(c->agent.log.level, CONFIG_LOG_INFO);
    cr_expect_eq(c->admin.listen.port, 4390);
    check_example_inputs(c);
    check_example_output(&c->outputs[0]);
    cr_assert_eq(c->route_count, 3);
    cr_expect_str_eq(c->routes[0].when.type, "billing.*");
    cr_expect_str_eq(c->routes[0].when.input, "udp");
    cr_assert_eq(c->routes[0].to_count, 2);
    cr_expect_eq(c->routes[0].to_index[0], 1);
    cr_expect_eq(c->routes[0].to_index[1], 0);
    cr_expect_eq(c->routes[1].sample, 10);
    cr_expect(c->routes[2].when.type == NULL && !c->routes[2].when.api_set);
    config_free(c);
}

Test(config, has_a_default_for_all_but_the_credentials)
{
    struct config *c = good("outputs: { t: { type: honeycomb, credentials: { api_key: k } } }\n");
    cr_expect_str_eq(c->agent.name, "test-host");
    cr_expect_str_eq(c->agent.data_dir, "/var/lib/penstock");
    cr_expect_eq(c->agent.min_free, 256 * MIB);
    cr_expect_eq(c->admin.listen.kind, CONFIG_LISTEN_INET);
    cr_expect_eq(c->admin.listen.port, 4390);
    cr_assert_eq(c->input_count, 1);
    cr_expect_str_eq(c->inputs[0].name, "http");
    cr_expect_eq(c->inputs[0].listen.port, 4380);
    cr_expect(c->inputs[0].listen.loopback);
    const struct config_output *o = &c->outputs[0];
    cr_expect_eq(o->batch.max_events, 1000);
    cr_expect_eq(o->batch.max_bytes, 5000000);
    cr_expect_eq(o->limits.event_bytes, 1000000);
    cr_expect_eq(o->spool.segment_bytes, 16 * MIB);
    cr_expect_eq(o->spool.durability, CONFIG_FSYNC);
    cr_expect(config_neutral_output(c) == o);
    config_free(c);
}

struct per_api {
    const char *type, *more;
    const char *endpoint_host;
    uint64_t max_events, max_bytes, max_wait_us, event_bytes;
    unsigned concurrency;
    uint64_t rate;
    enum config_compression compression;
};

Test(config, has_the_defaults_of_each_api)
{
    static const struct per_api table[] = {
        {"cloudevents", "endpoint: https://h/p", "h", 1000, 1000000, SECOND, 2 * MIB, 4, 0,
         CONFIG_COMPRESSION_NONE},
        {"honeycomb", "credentials: { api_key: k }", "api.honeycomb.io", 1000, 5000000, SECOND, 1000000, 4, 0,
         CONFIG_COMPRESSION_ZSTD},
        {"langfuse", "credentials: { public_key: p, secret_key: s }", "cloud.langfuse.com", 1000, 2500000,
         SECOND, 1000000, 4, 0, CONFIG_COMPRESSION_GZIP},
        {"launchdarkly", "credentials: { access_token: a }", "events.launchdarkly.com", 10000, 9000000,
         10 * SECOND, 1000000, 4, 0, CONFIG_COMPRESSION_GZIP},
        {"monk", "credentials: { api_key: k }", "events-api.monk.com", 5000, 5000000, SECOND, 262144, 4, 0,
         CONFIG_COMPRESSION_NONE},
        {"segops", "credentials: { api_key: k }", "api.segops.ai", 500, 1000000, 5 * SECOND, 262144, 1, 60,
         CONFIG_COMPRESSION_NONE},
        {"otlp", "concurrency: 4", "127.0.0.1", 1, 10 * MIB, SECOND, 10 * MIB, 4, 0, CONFIG_COMPRESSION_NONE},
        {"http", "endpoint: https://h/p", "h", 1000, 1000000, SECOND, 2 * MIB, 4, 0, CONFIG_COMPRESSION_GZIP},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        const struct per_api *p = &table[i];
        char text[300];
        (void)snprintf(text, sizeof text, "outputs: { t: { type: %s, %s } }\n", p->type, p->more);
        struct config *c = good(text);
        const struct config_output *o = &c->outputs[0];
        cr_expect_str_eq(o->endpoint.host, p->endpoint_host, "%s", p->type);
        cr_expect_eq(o->batch.max_events, p->max_events, "%s", p->type);
        cr_expect_eq(o->batch.max_bytes, p->max_bytes, "%s", p->type);
        cr_expect_eq(o->batch.max_wait_us, p->max_wait_us, "%s", p->type);
        cr_expect_eq(o->limits.event_bytes, p->event_bytes, "%s", p->type);
        cr_expect_eq(o->concurrency, p->concurrency, "%s", p->type);
        cr_expect_eq(o->rate_limit.requests.requests, p->rate, "%s", p->type);
        cr_expect_eq(o->compression, p->compression, "%s", p->type);
        config_free(c);
    }
}

Test(config, shows_a_url_as_it_is_written)
{
    struct config *c = good("outputs:\n  a: { type: http, endpoint: \"https://h/${env:SET_SECRET}/x\" }\n"
                            "  b: { type: honeycomb, credentials: { api_key: k } }\n");
    cr_expect_str_eq(c->outputs[0].endpoint.shown, "https://h/${env:SET_SECRET}/x");
    cr_expect(strstr(c->outputs[0].endpoint.text, "${") == NULL, "%s", c->outputs[0].endpoint.text);
    cr_expect_str_eq(c->outputs[1].endpoint.shown, "https://api.honeycomb.io");
    config_free(c);
}

Test(config, refuses_merge_keys)
{
    bad("outputs:\n  a: { <<: { type: http }, endpoint: \"http://127.0.0.1:1/x\" }\n", 2, 8, "merge keys (<<)");
}
