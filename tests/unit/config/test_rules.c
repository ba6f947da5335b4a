/* rules: each contradiction at its line and column, and each remark. */
#include "tests/unit/config/fake_env.h"

#include <criterion/criterion.h>
#include <stdio.h>

struct fault_case {
    const char *text;
    unsigned line, column;
    const char *words;
};

static void all_bad(const struct fault_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++)
        bad(cases[i].text, cases[i].line, cases[i].column, cases[i].words);
}
#define ALL_BAD(table) all_bad(table, sizeof table / sizeof table[0])

#define SINK "outputs: { o: { type: http, endpoint: https://h/ } }\n"
#define LINE64 "0123456789012345678901234567890123456789012345678901234567890123"

Test(rules, a_file_without_outputs_is_refused)
{
    static const struct fault_case table[] = {
        {"", 1, 1, "empty"},
        {"agent: { name: a }\n", 1, 1, "at least one output"},
        {"outputs:\n", 1, 1, "at least one output"},
        {"outputs: {}\n", 1, 10, "at least one"},
        {"outputs: [a]\n", 1, 10, "mapping of names"},
        {"- a\n", 1, 1, "expected a mapping"},
        {"outputs: { a: }\n", 1, 12, "type: required"},
        {"outputs: { a: { type: nonesuch } }\n", 1, 23, "one of cloudevents, honeycomb"},
    };
    ALL_BAD(table);
}

Test(rules, names_are_short_and_plain)
{
    static const struct fault_case table[] = {
        {"outputs:\n  .a: { type: otlp }\n", 2, 3, "expected a name of at most 63"},
        {"outputs:\n  a/b: { type: otlp }\n", 2, 3, "expected a name"},
        {"outputs:\n  " LINE64 ": { type: otlp }\n", 2, 3, "expected a name"},
        {"inputs: { \"a b\": { type: udp } }\n" SINK, 1, 11, "expected a name"},
    };
    ALL_BAD(table);
    config_free(good("outputs: { 0aZ_.-9: { type: otlp } }\n"));
}

Test(rules, listeners_beyond_loopback_need_a_token_or_the_unsafe_line)
{
    static const struct fault_case table[] = {
        {"inputs: { a: { listen: 0.0.0.0:4380 } }\n" SINK, 1, 24, "i_know_this_is_unsafe"},
        {"inputs: { a: { listen: \"[::]:4380\" } }\n" SINK, 1, 24, "i_know_this_is_unsafe"},
        {"inputs: { a: { listen: 10.0.0.1:4380, auth: { token: } } }\n" SINK, 1, 24, "i_know_this_is_unsafe"},
        {"inputs: { a: { listen: 0.0.0.0:4380, i_know_this_is_unsafe: false } }\n" SINK, 1, 24,
         "beyond loopback"},
        {"inputs: { a: { type: udp, listen: 0.0.0.0:4380 } }\n" SINK, 1, 35, "i_know_this_is_unsafe"},
        {"admin: { listen: 0.0.0.0:4390 }\n" SINK, 1, 18, "auth: { token }"},
    };
    ALL_BAD(table);
    config_free(good("inputs: { a: { listen: 0.0.0.0:4380, i_know_this_is_unsafe: true } }\n" SINK));
    config_free(good("inputs: { a: { listen: 0.0.0.0:4380, auth: { token: t } } }\n" SINK));
    config_free(good("inputs: { a: { listen: 127.9.8.7:4380 }, b: { listen: \"[::1]:4380\" }, c: { listen: "
                     "localhost:1 } }\n" SINK));
    config_free(good("inputs: { a: { type: udp, listen: 0.0.0.0:1, i_know_this_is_unsafe: true } }\n" SINK));
    config_free(good("admin: { listen: 0.0.0.0:4390, auth: { token: t } }\n" SINK));
    config_free(good("admin: { listen: 0.0.0.0:4390, i_know_this_is_unsafe: true }\n" SINK));
    config_free(good("admin: { listen: false }\n" SINK));
    config_free(good("admin: { listen: unix:/run/a.sock, mode: \"0600\", group: penstock }\n" SINK));
}

Test(rules, addresses_are_addresses)
{
    static const struct fault_case table[] = {
        {"inputs: { a: { listen: 4380 } }\n" SINK, 1, 24, "address and a port"},
        {"inputs: { a: { listen: \"127.0.0.1\" } }\n" SINK, 1, 24, "address and a port"},
        {"inputs: { a: { listen: 127.0.0.1:65536 } }\n" SINK, 1, 24, "address and a port"},
        {"inputs: { a: { listen: 127.0.0.1:x } }\n" SINK, 1, 24, "address and a port"},
        {"inputs: { a: { listen: somewhere:80 } }\n" SINK, 1, 24, "address and a port"},
        {"inputs: { a: { listen: \"::1:80\" } }\n" SINK, 1, 24, "address and a port"},
        {"inputs: { a: { listen: \"[127.0.0.1]:80\" } }\n" SINK, 1, 24, "address and a port"},
        {"inputs: { a: { listen: \"unix:/x\" } }\n" SINK, 1, 24, "address and a port"},
        {"inputs: { a: { listen: false } }\n" SINK, 1, 24, "address and a port"},
        {"admin: { listen: \"unix:\" }\n" SINK, 1, 18, "path after unix:"},
    };
    ALL_BAD(table);
    struct config *c = good("inputs: { a: { listen: \"127.0.0.1:${env:PORT}\" } }\n" SINK);
    cr_expect_eq(c->inputs[0].listen.port, 4444);
    config_free(c);
}

Test(rules, an_address_is_given_once)
{
    static const struct fault_case table[] = {
        {"inputs: { a: { listen: 127.0.0.1:1 }, b: { listen: 127.0.0.1:1 } }\n" SINK, 1, 52,
         "taken by inputs.a.listen"},
        {"inputs: { a: { listen: localhost:1 }, b: { listen: 127.0.0.1:1 } }\n" SINK, 1, 52,
         "taken by inputs.a.listen"},
        {"inputs: { a: { listen: 127.0.0.1:4390 } }\n" SINK, 1, 24, "taken by admin.listen"},
        {"inputs: { a: {}, b: {} }\n" SINK, 1, 18, "taken by inputs.a.listen"},
        {"inputs:\n  a: { listen: 127.0.0.1:1 }\n  b: { listen: 0.0.0.0:1, i_know_this_is_unsafe: true "
         "}\n" SINK,
         3, 16, "taken by inputs.a.listen"},
        {"inputs: { a: { type: unix, path: /x }, b: { type: unix_dgram, path: /x } }\n" SINK, 1, 69,
         "/x is taken"},
        {"admin: { listen: unix:/x }\ninputs: { a: { type: unix, path: /x } }\n" SINK, 2, 34,
         "taken by admin.listen"},
    };
    ALL_BAD(table);
    /* TCP and UDP ports are different things; port 0 is another one each time. */
    config_free(good("inputs: { a: { listen: 127.0.0.1:1 }, b: { type: udp, listen: 127.0.0.1:1 } }\n" SINK));
    config_free(good("inputs: { a: { listen: 127.0.0.1:0 }, b: { listen: 127.0.0.1:0 } }\n" SINK));
    config_free(good("inputs: { a: { listen: 127.0.0.1:1 }, b: { listen: 127.0.0.2:1 } }\n" SINK));
}

Test(rules, sockets_have_a_short_path_a_mode_and_known_owners)
{
    char text[400], path[120];
    memset(path, 'p', sizeof path);
    path[0] = '/';
    path[107] = '\0';
    (void)snprintf(text, sizeof text, "inputs: { a: { type: unix, path: %s } }\n" SINK, path);
    config_free(good(text));
    path[107] = 'p';
    path[108] = '\0';
    (void)snprintf(text, sizeof text, "inputs: { a: { type: unix, path: %s } }\n" SINK, path);
    bad(text, 1, 34, "at most 107 bytes");
    (void)snprintf(text, sizeof text, "admin: { listen: unix:%s }\n" SINK, path);
    bad(text, 1, 18, "at most 107 bytes");
    static const struct fault_case table[] = {
        {"inputs: { a: { type: unix, mode: \"0888\" } }\n" SINK, 1, 34, "permissions in octal"},
        {"inputs: { a: { type: unix, mode: \"1777\" } }\n" SINK, 1, 34, "permissions in octal"},
        {"inputs: { a: { type: unix, mode: rw } }\n" SINK, 1, 34, "permissions in octal"},
        {"inputs: { a: { type: unix, group: nobodys } }\n" SINK, 1, 35, "group that exists"},
        {"inputs: { a: { type: unix_dgram, user: nobodys } }\n" SINK, 1, 40, "user that exists"},
        {"admin: { mode: \"0600\" }\n" SINK, 1, 16, "unix:PATH"},
    };
    ALL_BAD(table);
    struct config *c = good("inputs: { a: { type: unix, mode: 0600, user: root } }\n" SINK);
    cr_expect_eq(c->inputs[0].socket.mode, 0600);
    cr_expect_str_eq(c->inputs[0].socket.user, "root");
    config_free(c);
}

Test(rules, certificates_come_with_their_keys_and_exist)
{
    static const struct fault_case table[] = {
        {"inputs: { a: { tls: { cert_file: /there/c } } }\n" SINK, 1, 34, "key_file beside it"},
        {"inputs: { a: { tls: { key_file: /there/k } } }\n" SINK, 1, 33, "cert_file beside it"},
        {"inputs: { a: { tls: { client_ca_file: /there/ca } } }\n" SINK, 1, 39, "cert_file and key_file"},
        {"inputs: { a: { tls: { cert_file: /not/c, key_file: /there/k } } }\n" SINK, 1, 34, "No such file"},
        {"inputs: { a: { tls: { cert_file: /there/junk, key_file: /there/k } } }\n" SINK, 1, 21, "not a certificate"},
        {"outputs: { LOCK: { type: http, endpoint: 'http://x/' } }\n", 1, 12, "the name of a file"},
        {HONEYCOMB("    tls: { cert_file: /there/c }\n"), 5, 23, "key_file beside it"},
        {HONEYCOMB("    tls: { key_file: /there/c }\n"), 5, 22, "cert_file beside it"},
        {HONEYCOMB("    tls: { ca_file: /not/there }\n"), 5, 21, "can be read"},
        {HONEYCOMB("    tls: { min_version: \"1.1\" }\n"), 5, 25, "older versions"},
        {HONEYCOMB("    tls: { min_version: 1.0 }\n"), 5, 25, "older versions"},
        {HONEYCOMB("    tls: { min_version: \"1.3\" }\n"), 5, 25, "does not speak 1.3"},
        {HONEYCOMB("    tls: { verify: false }\n"), 5, 20, "i_know_this_is_unsafe"},
        {HONEYCOMB("    tls: { verify: \"false\" }\n"), 5, 20, "true or false"},
    };
    ALL_BAD(table);
    config_free(good(HONEYCOMB("    tls: { verify: false, i_know_this_is_unsafe: true }\n")));
    config_free(good(HONEYCOMB("    tls: { verify: false }\n    i_know_this_is_unsafe: true\n")));
    config_free(good(HONEYCOMB("    tls: { cert_file: /there/c, key_file: /there/k }\n")));
}

Test(rules, credentials_are_those_of_the_type)
{
    static const struct fault_case table[] = {
        {"outputs: { a: { type: honeycomb } }\n", 1, 12, "credentials.api_key: required"},
        {"outputs: { a: { type: honeycomb, credentials: { } } }\n", 1, 47, "credentials.api_key: required"},
        {"outputs: { a: { type: honeycomb, credentials: { api_key: } } }\n", 1, 47,
         "credentials.api_key: required"},
        {"outputs: { a: { type: monk } }\n", 1, 12, "credentials.api_key: required"},
        {"outputs: { a: { type: segops } }\n", 1, 12, "credentials.api_key: required"},
        {"outputs: { a: { type: langfuse, credentials: { public_key: p } } }\n", 1, 46,
         "secret_key: required"},
        {"outputs: { a: { type: langfuse, credentials: { secret_key: p } } }\n", 1, 46,
         "public_key: required"},
        {"outputs: { a: { type: launchdarkly } }\n", 1, 12, "access_token"},
        {"outputs: { a: { type: monk, credentials: { bearer: x } } }\n", 1, 44, "has no key \"bearer\""},
        {"outputs: { a: { type: http, endpoint: https://h, credentials: { api_key: x } } }\n", 1, 65,
         "has no key"},
        {HONEYCOMB("    partition: a/b\n"), 5, 16, "without a slash"},
    };
    ALL_BAD(table);
    config_free(good("outputs: { a: { type: launchdarkly, credentials: { sdk_key: s } } }\n"));
    config_free(good("outputs: { a: { type: otlp } }\n"));
}

Test(rules, secrets_resolve_or_say_which_reference_does_not)
{
    static const struct fault_case table[] = {
        {"outputs: { a: { type: monk, credentials: { api_key: \"${env:NOT_SET}\" } } }\n", 1, 53,
         "NOT_SET is not set"},
        {"outputs: { a: { type: monk, credentials: { api_key: \"${env:EMPTY}\" } } }\n", 1, 53, "empty"},
        {"outputs: { a: { type: monk, credentials: { api_key: \"${env:LINES}\" } } }\n", 1, 53,
         "control character"},
        {"outputs: { a: { type: monk, credentials: { api_key: \"${file:/not}\" } } }\n", 1, 53,
         "/not: No such file"},
        {"outputs: { a: { type: monk, credentials: { api_key: \"${vault:x}\" } } }\n", 1, 53,
         "${env:NAME} or ${file:PATH}"},
        {"outputs: { a: { type: monk, credentials: { api_key: \"${env:A\" } } }\n", 1, 53, "closing brace"},
        {"outputs: { a: { type: monk, credentials: { api_key: \"\" } } }\n", 1, 53, "empty"},
        {"agent: { data_dir: \"${env:NOT_SET}/x\" }\n" SINK, 1, 20, "NOT_SET is not set"},
    };
    ALL_BAD(table);
}

Test(rules, headers_hold_one_line_and_are_not_ours)
{
    static const struct fault_case table[] = {
        {HONEYCOMB("    headers: { X-A: \"a\\r\\nX-B: c\" }\n"), 5, 21, "line break"},
        {HONEYCOMB("    headers: { X-A: \"a\\nb\" }\n"), 5, 21, "line break"},
        {HONEYCOMB("    headers: { X-A: \"${env:LINES}\" }\n"), 5, 21, "line break"},
        {HONEYCOMB("    headers: { \"X-A\\r\": b }\n"), 5, 16, "name of a header"},
        {HONEYCOMB("    headers: { X A: b }\n"), 5, 16, "name of a header"},
        {HONEYCOMB("    headers: { content-length: 1 }\n"), 5, 16, "sets this header itself"},
        {HONEYCOMB("    headers: { Host: h }\n"), 5, 16, "endpoint"},
        {HONEYCOMB("    headers: { x-honeycomb-team: k }\n"), 5, 16, "under credentials"},
        {HONEYCOMB("    headers: { Authorization: k }\n"), 5, 16, "under credentials"},
        {HONEYCOMB("    headers: { X-A: 1, x-a: 2 }\n"), 5, 14, "here twice"},
        {HONEYCOMB("    headers: { X-A: }\n"), 5, 21, "header's value"},
        {HONEYCOMB("    headers: { X-A: [1] }\n"), 5, 21, "header's value"},
        {"outputs:\n  a:\n    type: http\n    endpoint: https://h/\n    credentials: { bearer: b }\n"
         "    headers: { authorization: x }\n",
         6, 16, "not both"},
        {"outputs:\n  a:\n    type: cloudevents\n    endpoint: https://h/\n    headers: { ce-id: x }\n", 5,
         16, "ce-"},
    };
    ALL_BAD(table);
}

Test(rules, credentials_may_be_headers)
{
    struct config *c = good(
        "outputs: { a: { type: otlp, headers: { X-A: a }, credentials: { headers: { X-Key: \"${env:SET_K}\", "
        "X-Other: o } } } }\n");
    const struct config_output *o = &c->outputs[0];
    cr_assert_eq(o->header_count, 3);
    cr_expect_str_eq(o->headers[1].name, "X-Key");
    cr_expect(span_is(o->headers[1].value.value, "value-of-SET_K"));
    unsigned chained = 0;
    for (const struct config_secret *s = o->secrets; s != NULL; s = s->next) {
        chained++;
        cr_expect(s == &o->headers[0].value || s == &o->headers[1].value || s == &o->headers[2].value);
    }
    cr_expect_eq(chained, 3);
    config_free(c);
}

Test(rules, compression_is_one_that_the_api_takes)
{
    static const struct fault_case table[] = {
        {"outputs: { a: { type: segops, compression: gzip, credentials: { api_key: k } } }\n", 1, 44,
         "takes no gzip"},
        {"outputs: { a: { type: monk, compression: zstd, credentials: { api_key: k } } }\n", 1, 42,
         "takes no zstd"},
        {"outputs: { a: { type: launchdarkly, compression: zstd, credentials: { sdk_key: k } } }\n", 1, 50,
         "takes no zstd"},
        {"outputs: { a: { type: langfuse, compression: zstd } }\n", 1, 46, "takes no zstd"},
        {"outputs: { a: { type: monk, compression: gzip } }\n", 1, 42, "takes no gzip"},
        {"outputs: { a: { type: otlp, compression: gzip } }\n", 1, 42, "takes no gzip"},
        {HONEYCOMB("    compression: deflate\n"), 5, 18, "one of auto, none, gzip or zstd"},
    };
    ALL_BAD(table);
    says("outputs: { a: { type: langfuse, compression: gzip, credentials: { public_key: p, secret_key: s } } "
         "}\n",
         CONFIG_WARNING, 1, 46, "uncompressed");
    struct config *c = good(HONEYCOMB("    compression: none\n"));
    cr_expect_eq(c->outputs[0].compression, CONFIG_COMPRESSION_NONE);
    config_free(c);
}

Test(rules, batches_stay_within_the_limits_of_the_service)
{
    static const struct fault_case table[] = {
        {HONEYCOMB("    batch: { max_bytes: 6MB }\n"), 5, 25, "at most 5MB"},
        {HONEYCOMB("    batch: { max_events: 0 }\n"), 5, 26, "at least 1"},
        {"outputs: { a: { type: segops, batch: { max_events: 501 }, credentials: { api_key: k } } }\n", 1, 52,
         "at most 500"},
        {"outputs: { a: { type: monk, batch: { max_events: 10001 }, credentials: { api_key: k } } }\n", 1, 50,
         "at most 10000"},
        {"outputs: { a: { type: launchdarkly, batch: { max_bytes: 10MB }, credentials: { sdk_key: k } } }\n",
         1, 57, "at most 9999999B"},
        {"outputs: { a: { type: langfuse, batch: { max_bytes: 4MB } } }\n", 1, 53, "at most 3500KB"},
        {"outputs: { a: { type: otlp, batch: { max_events: 2 } } }\n", 1, 50, "at most 1,"},
        {HONEYCOMB("    limits: { batch_bytes: 2MB }\n    batch: { max_bytes: 3MB }\n"), 6, 25,
         "limits.batch_bytes"},
        {HONEYCOMB("    limits: { event_bytes: 6MB }\n"), 5, 28, "at most 5MB"},
        {"outputs:\n  a: { type: cloudevents, endpoint: https://h/, mode: binary, batch: { max_events: 5 } "
         "}\n",
         2, 84, "mode is not batch"},
    };
    ALL_BAD(table);
    /* A raised limit raises the roof; a lowered one lowers the default. */
    struct config *c = good(HONEYCOMB("    limits: { batch_bytes: 8MB }\n    batch: { max_bytes: 6MB }\n"));
    cr_expect_eq(c->outputs[0].batch.max_bytes, 6000000);
    config_free(c);
    c = good(HONEYCOMB("    limits: { batch_events: 10, batch_bytes: 500KB }\n"));
    cr_expect_eq(c->outputs[0].batch.max_events, 10);
    cr_expect_eq(c->outputs[0].batch.max_bytes, 500000);
    cr_expect_eq(c->outputs[0].limits.event_bytes, 500000);
    config_free(c);
}

Test(rules, durations_sizes_and_counts_have_units_and_bounds)
{
    static const struct fault_case table[] = {
        {HONEYCOMB("    batch: { max_wait: 5 }\n"), 5, 24, "a duration such as"},
        {HONEYCOMB("    batch: { max_wait: 1.5s }\n"), 5, 24, "a duration such as"},
        {HONEYCOMB("    batch: { max_wait: -1s }\n"), 5, 24, "a duration such as"},
        {HONEYCOMB("    batch: { max_wait: never }\n"), 5, 24, "a duration such as"},
        {HONEYCOMB("    batch: { max_wait: 2h }\n"), 5, 24, "at most 1h"},
        {HONEYCOMB("    batch: { max_wait: 99999999999999999999d }\n"), 5, 24, "a duration such as"},
        {HONEYCOMB("    batch: { max_wait: 1 s }\n"), 5, 24, "a duration such as"},
        {HONEYCOMB("    retry: { give_up_after: 0s }\n"), 5, 29, "at least 1s"},
        {HONEYCOMB("    retry: { initial: 10s, max: 5s }\n"), 5, 33, "no longer than retry.max"},
        {HONEYCOMB("    retry: { initial: 2m }\n"), 5, 23, "no longer than retry.max"},
        {HONEYCOMB("    spool: { max_bytes: 8 }\n"), 5, 25, "a size such as"},
        {HONEYCOMB("    spool: { max_bytes: 8gib }\n"), 5, 25, "a size such as"},
        {HONEYCOMB("    spool: { max_bytes: 4095KiB }\n"), 5, 25, "at least 4MiB"},
        {HONEYCOMB("    spool: { max_bytes: 0 }\n"), 5, 25, "at least 4MiB"},
        {HONEYCOMB("    spool: { max_bytes: 8MiB, segment_bytes: 9MiB }\n"), 5, 46, "at most 8MiB, which is spool.max_bytes"},
        {HONEYCOMB("    concurrency: 0\n"), 5, 18, "at least 1"},
        {HONEYCOMB("    concurrency: 65\n"), 5, 18, "at most 64"},
        {HONEYCOMB("    concurrency: \"4\"\n"), 5, 18, "a whole number or auto"},
        {HONEYCOMB("    rate_limit: { requests: 60 }\n"), 5, 29, "a rate such as"},
        {HONEYCOMB("    rate_limit: { requests: 0/1m }\n"), 5, 29, "from 1 to 1000000"},
        {HONEYCOMB("    batch: { max_events: \"5\" }\n"), 5, 26, "a whole number"},
        {"agent: { min_free: 5 }\n" SINK, 1, 20, "a size such as"},
    };
    ALL_BAD(table);
    struct config *c =
        good("agent: { min_free: 0, drain_timeout: 0s }\n"
             "inputs: { a: { idle_timeout: never } }\n" HONEYCOMB(
                 "    retry: { give_up_after: 7d, max: 100ms }\n    spool: { max_bytes: 4MiB, max_age: 1h }\n"
                 "    concurrency: auto\n    rate_limit: { requests: 300/1m }\n"));
    const struct config_output *o = &c->outputs[0];
    cr_expect_eq(c->agent.min_free, 0);
    cr_expect_eq(c->agent.drain_timeout_us, 0);
    cr_expect_eq(c->inputs[0].idle_timeout_us, 0);
    cr_expect_eq(o->retry.give_up_after_us, UINT64_C(604800000000));
    cr_expect_eq(o->retry.initial_us, 100000); /* the default gave way */
    cr_expect_eq(o->spool.max_bytes, 4 << 20);
    cr_expect_eq(o->spool.segment_bytes, 4 << 20);
    cr_expect(o->concurrency_auto);
    cr_expect_eq(o->concurrency, 4);
    cr_expect_eq(o->rate_limit.requests.requests, 300);
    config_free(c);
}

Test(rules, an_event_that_no_file_of_the_spool_can_hold_is_too_large_from_the_start)
{
    struct config *c = good(HONEYCOMB("    spool: { max_bytes: 4MiB }\n"));
    cr_expect_eq(c->outputs[0].limits.event_bytes, (1 << 18) - 4096);
    config_free(c);
    c = good(HONEYCOMB("    spool: { max_bytes: 160MiB, segment_bytes: 8MiB }\n"));
    cr_expect_eq(c->outputs[0].limits.event_bytes, 1000000);
    config_free(c);
    says(HONEYCOMB("    spool: { max_bytes: 4MiB }\n"), CONFIG_NOTE, 5, 25, "events over 252KiB are refused");
    says(HONEYCOMB("    spool: { segment_bytes: 1MiB }\n"), CONFIG_NOTE, 5, 29,
         "events over 252KiB are refused");
    c = good("outputs: { o: { type: otlp } }\n");
    cr_expect_eq(c->outputs[0].limits.event_bytes, 10 << 20);
    config_free(c);
}

Test(rules, endpoints_are_urls)
{
    static const struct fault_case table[] = {
        {"outputs: { a: { type: http } }\n", 1, 12, "endpoint: required"},
        {"outputs: { a: { type: cloudevents } }\n", 1, 12, "endpoint: required"},
        {HONEYCOMB("    endpoint: api.honeycomb.io\n"), 5, 15, "https://"},
        {HONEYCOMB("    endpoint: https://\n"), 5, 15, "expected a host"},
        {HONEYCOMB("    endpoint: https://h:0\n"), 5, 15, "a port from 1"},
        {HONEYCOMB("    endpoint: https://h:99999\n"), 5, 15, "a port from 1"},
        {HONEYCOMB("    endpoint: https://u:p@h\n"), 5, 15, "without user and password"},
        {HONEYCOMB("    endpoint: https://h/a?b=c\n"), 5, 15, "a query has no place"},
        {HONEYCOMB("    endpoint: \"https://h/a b\"\n"), 5, 15, "visible ASCII"},
        {HONEYCOMB("    endpoint: https://h_%\n"), 5, 15, "host name or an address"},
        {HONEYCOMB("    proxy: https://p:1\n"), 5, 12, "http://"},
        {HONEYCOMB("    proxy: http://p:1/path\n"), 5, 12, "without a path"},
    };
    ALL_BAD(table);
    struct config *c = good("outputs:\n  a: { type: honeycomb, credentials: { api_key: k }, endpoint: "
                            "\"http://[::1]:81/pre/fix//\", "
                            "proxy: \"http://u%40x:%%2${env:SET_P}%3a@px\" }\n"
                            "  b: { type: http, endpoint: \"https://10.0.0.1/x/?q=1\" }\n");
    const struct config_output *a = &c->outputs[0], *b = &c->outputs[1];
    cr_expect(!a->endpoint.tls && a->endpoint.host_is_ip && a->endpoint.ipv6 && a->endpoint.loopback);
    cr_expect_str_eq(a->endpoint.host, "::1");
    cr_expect_str_eq(a->endpoint.authority, "[::1]:81");
    cr_expect_str_eq(a->endpoint.path, "/pre/fix");
    cr_expect_str_eq(a->proxy.host, "px");
    cr_expect_eq(a->proxy.port, 80);
    cr_expect(span_is(a->proxy_auth.value, "u@x:%%2value-of-SET_P:"));
    cr_expect_str_eq(b->endpoint.path, "/x/");
    cr_expect_str_eq(b->endpoint.query, "?q=1");
    cr_expect_str_eq(b->endpoint.authority, "10.0.0.1");
    config_free(c);
}

#define TWO \
    "outputs:\n  h: { type: honeycomb, credentials: { api_key: k } }\n  o: { type: otlp }\n" \
    "  m: { type: monk, credentials: { api_key: k } }\n"

Test(rules, routes_lead_somewhere)
{
    static const struct fault_case table[] = {
        {TWO "routes:\n  - { to: [hh] }\n", 6, 12, "nearest known name is \"h\""},
        {TWO "routes:\n  - { to: [h, h] }\n", 6, 15, "here twice"},
        {TWO "routes:\n  - { to: [] }\n", 6, 11, "at least one name"},
        {TWO "routes:\n  - { to: h }\n", 6, 11, "a list of names"},
        {TWO "routes:\n  - { when: { type: a } }\n", 6, 5, "to: required"},
        {TWO "routes:\n  - h\n", 6, 5, "expected a mapping"},
        {TWO "routes: { to: [h] }\n", 5, 9, "expected a list"},
        {TWO "routes:\n  - { when: { input: htp }, to: [h] }\n", 6, 22, "nearest known name is \"http\""},
        {TWO "routes:\n  - { when: { source: [a] }, to: [h] }\n", 6, 23, "expected"},
        {TWO "routes:\n  - { when: { api: nonesuch }, to: [h] }\n", 6, 20, "one of cloudevents"},
        {TWO "routes:\n  - { to: [h, o] }\n", 6, 15, "cannot go to the otlp output"},
        {TWO "routes:\n  - { when: { api: cloudevents }, to: [o] }\n", 6, 40, "cannot go to the otlp output"},
        {TWO "routes:\n  - { when: { api: honeycomb }, to: [o] }\n", 6, 38, "an output of type honeycomb"},
        {TWO "routes:\n  - { when: { api: http }, to: [h] }\n", 6, 20, "no local path speaks http"},
        {TWO "routes:\n  - { sample: 10, to: [m] }\n", 6, 24, "refuses sampled events"},
        {TWO "routes:\n  - { sample: 0, to: [h] }\n", 6, 15, "at least 1"},
    };
    ALL_BAD(table);
    config_free(good(TWO "routes:\n  - { when: { api: otlp }, to: [o] }\n  - { to: [h] }\n"));
    struct config *c = good(TWO "routes:\n  - { when: { source: \"/a*\", subject: \"u?\", input: \"ht*\" }, to: [h] }\n"
                                "  - { to: [m] }\n");
    cr_expect_str_eq(c->routes[0].when.source, "/a*");
    cr_expect_str_eq(c->routes[0].when.subject, "u?");
    cr_expect_str_eq(c->routes[0].when.input, "ht*");
    config_free(c);
    says(TWO "routes:\n  - { to: [h] }\n  - { when: { type: a }, to: [m] }\n", CONFIG_WARNING, 7, 5,
         "never matches");
}

Test(rules, users_and_groups_that_may_connect)
{
    static const struct fault_case table[] = {
        {"inputs: { a: { type: unix, allow: { uid: nobodys } } }\n" SINK, 1, 42, "a user that exists"},
        {"inputs: { a: { type: unix, allow: { gid: [0, nobodys] } } }\n" SINK, 1, 46, "a group that exists"},
        {"inputs: { a: { type: unix, allow: { uid: [] } } }\n" SINK, 1, 42, "a user that exists"},
        {"inputs: { a: { type: udp, allow: { uid: 0 } } }\n" SINK, 1, 27, "unix"},
    };
    ALL_BAD(table);
    struct config *c = good("inputs: { a: { type: unix, allow: { uid: [root, 1000], gid: penstock } } }\n" SINK);
    struct config *d = good("inputs: { a: { type: unix, allow: { uid: [root, 1001], gid: penstock } } }\n" SINK);
    cr_expect_eq(c->inputs[0].allow.uid_count, 2);
    cr_expect_eq(c->inputs[0].allow.uids[0], 0);
    cr_expect_eq(c->inputs[0].allow.uids[1], 1000);
    cr_expect_eq(c->inputs[0].allow.gid_count, 1);
    cr_expect_eq(c->inputs[0].allow.gids[0], 997);
    cr_expect(config_input_same(&c->inputs[0], &c->inputs[0]));
    cr_expect_not(config_input_same(&c->inputs[0], &d->inputs[0]));
    config_free(c);
    config_free(d);
}

Test(rules, remarks_are_no_faults)
{
    says(TWO, CONFIG_NOTE, 2, 3, "no routes");
    says("outputs: { o: { type: otlp } }\n", CONFIG_NOTE, 1, 10, "neutral events are refused");
    says("inputs: {}\n" SINK, CONFIG_NOTE, 1, 9, "no inputs");
#define MONK(more) "outputs:\n  m:\n    type: monk\n    credentials: { api_key: k }\n" more
    says(MONK("    spool: { when_full: drop_oldest }\n"), CONFIG_WARNING, 5, 25, "billed");
    says(MONK("    spool: { when_full: drop_newest }\n"), CONFIG_WARNING, 5, 25, "billed");
    says(MONK("    retry: { give_up_after: 1d }\n"), CONFIG_WARNING, 5, 29, "billed");
    says(MONK("    spool: { max_age: 1d }\n"), CONFIG_WARNING, 5, 23, "billed");
    says("inputs: { a: { listen: 0.0.0.0:1, auth: { token: t } } }\n" SINK, CONFIG_WARNING, 1, 24,
         "in clear");
    says(HONEYCOMB("    endpoint: http://honeycomb.example\n"), CONFIG_WARNING, 5, 15, "in clear");
    says(HONEYCOMB("    endpoint: http://127.0.0.1:1\n    tls: { server_name: x }\n"), CONFIG_WARNING, 6, 25,
         "no effect");
    says("outputs: { l: { type: launchdarkly, credentials: { sdk_key: s } } }\n", CONFIG_NOTE, 1, 50,
         "access_token");
}

Test(rules, options_of_an_api_are_passed_when_they_differ_from_their_default)
{
    struct config *c = good("outputs:\n  a.b:\n    type: monk\n    credentials: { api_key: k }\n"
                            "    map: { subject: customerId, extensions: off, source: src }\n"
                            "    monk: { key: source_id, lenient: true, paths: { batch: /b } }\n");
    static const char *const names[] = {"map.subject", "map.source", "map.id", "monk.lenient",
                                        "monk.paths.batch"};
    static const char *const values[] = {"customerId", "src", "source_id", "true", "/b"};
    const struct config_output *o = &c->outputs[0];
    cr_assert_eq(o->option_count, 5);
    for (unsigned i = 0; i < 5; i++) {
        cr_expect_str_eq(o->options[i].name, names[i]);
        cr_expect_str_eq(o->options[i].value, values[i]);
    }
    config_free(c);
    static const struct fault_case table[] = {
        {"outputs:\n  a: { type: monk, credentials: { api_key: k }, monk: { paths: { batch: b } } }\n", 2, 73,
         "begins with /"},
        {"outputs:\n  a: { type: monk, credentials: { api_key: k }, monk: { key: source_id }, map: { id: "
         "source_id } }\n",
         2, 62, "mean the same"},
        {"outputs:\n  a: { type: launchdarkly, credentials: { sdk_key: k }, launchdarkly: { company: A B } "
         "}\n",
         2, 82, "User-Agent"},
        {"outputs:\n  a: { type: launchdarkly, credentials: { sdk_key: k }, partition: shop }\n", 2, 68,
         "project/environment"},
        {"outputs:\n  a: { type: launchdarkly, credentials: { sdk_key: k }, partition: a/b/c }\n", 2, 68,
         "project/environment"},
        {"outputs:\n  a: { type: monk, credentials: { api_key: k }, partition: x }\n", 2, 49,
         "has no key \"partition\""},
        {"outputs:\n  a: { type: otlp, map: { flatten: true } }\n", 2, 20, "has no key \"map\""},
        {"inputs: { a: { type: unix, forward: { users: { u: p } } } }\n" SINK, 1, 46, "shared_key beside it"},
    };
    ALL_BAD(table);
}

Test(rules, says_what_has_no_effect)
{
    says("outputs:\n  a: { type: segops, credentials: { api_key: k }, segops: { paths: { single: /b } } }\n", CONFIG_WARNING, 2,
         78, "no effect");
}
