/* What happens to a configuration after it was read: secrets that change, reloads, bounds, the shipped files.
 */
#include "lib/config/bounds.h"
#include "lib/config/config.h"

#include "tests/unit/config/fake_env.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

/* --- secrets ----------------------------------------------------------------------------------------------
 */

Test(secret, a_changed_file_takes_effect_and_a_broken_one_does_not)
{
    struct config *c =
        good("outputs: { a: { type: monk, credentials: { api_key: \"x-${file:/there/key}-$${y}\" } } }\n");
    struct config_output *o = &c->outputs[0];
    struct config_secret *key = &o->credentials.api_key;
    struct fault why;
    bool changed = true;
    cr_expect(span_is(key->value, "x-content-of-/there/key-${y}"));
    cr_expect_eq(config_secrets_refresh(o->secrets, &fake_env, &changed, &why), OK);
    cr_expect_not(changed);
    fake_rotated = "new\r\n\n";
    cr_expect_eq(config_secrets_refresh(o->secrets, &fake_env, &changed, &why), OK);
    cr_expect(changed);
    cr_expect(span_is(key->value, "x-new-${y}"));
    fake_rotated = "two\nlines";
    cr_expect_neq(config_secret_refresh(key, &fake_env, &changed, &why), OK);
    cr_expect_not(changed);
    cr_expect(span_is(key->value, "x-new-${y}"));
    cr_expect(strstr(why.text, "two") == NULL, "the fault shows the secret");
    fake_rotated = NULL;
    config_free(c);
}

Test(secret, an_empty_file_keeps_the_old_value)
{
    struct config *c =
        good("outputs: { a: { type: monk, credentials: { api_key: \"${file:/there/key}\" } } }\n");
    struct fault why;
    bool changed;
    fake_rotated = "\n";
    cr_expect_neq(config_secret_refresh(&c->outputs[0].credentials.api_key, &fake_env, &changed, &why), OK);
    cr_expect(span_is(c->outputs[0].credentials.api_key.value, "content-of-/there/key"));
    fake_rotated = NULL;
    config_free(c);
}

Test(secret, no_message_ever_shows_one)
{
    /* Each of these is wrong in its own way; the marked value must appear nowhere. */
    static const char *const table[] = {
        "outputs: { a: { type: monk, credentials: { api_key: \"MARKED\\n\" } } }\n",
        "outputs: { a: { type: nonesuch, credentials: { api_key: MARKED, bearer: MARKED } } }\n",
        "outputs: { a: { type: monk, credentials: { apikey: MARKED } } }\n",
        "outputs: { a: { type: http, endpoint: https://h, headers: { A: \"MARKED\\r\" } } }\n",
        "outputs: { a: { type: otlp, proxy: \"http://u:MARKED@p:x\" } }\n",
        "outputs: { a: { type: otlp, proxy: \"u:MARKED@p\" } }\n",
        "outputs: { a: { type: otlp, endpoint: \"https://u:MARKED@h\" } }\n",
        "inputs: { a: { auth: { token: \"MARKED\\t\" } } }\noutputs: { a: { type: otlp } }\n",
        "inputs: { a: { type: unix, forward: { shared_key: \"MARKED\\t\", users: { u: \"MARKED\\n\" } } } }\n"
        "outputs: { a: { type: otlp } }\n",
        "agent: { min_free: \"${file:/there/key}\" }\noutputs: { a: { type: otlp } }\n",
        "outputs: { a: { type: otlp, concurrency: \"${file:/there/key}\", endpoint: \"${file:/there/key}\" } "
        "}\n",
    };
    fake_rotated = "MARKED";
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct config_report r;
        struct config *c = fake_parse(table[i], &r);
        cr_expect(c == NULL, "%s", table[i]);
        for (unsigned k = 0; k < r.count; k++)
            cr_expect(strstr(r.messages[k].text, "MARKED") == NULL, "%s", r.messages[k].text);
        config_free(c);
        config_report_deinit(&r);
    }
    fake_rotated = NULL;
}

Test(secret, references_cannot_bring_in_without_end)
{
    static char big[60001];
    memset(big, 'x', sizeof big - 1);
    fake_rotated = big;
    char *text = malloc(20000);
    cr_assert(text != NULL);
    size_t len = (size_t)snprintf(text, 20000, "outputs:\n  a:\n    type: otlp\n    headers:\n");
    for (unsigned i = 0; i < 60; i++)
        len += (size_t)snprintf(text + len, 20000 - len, "      h%u: \"${file:/there/a}\"\n", i);
    config_free(good(text)); /* 3.6 MB */
    for (unsigned i = 0; i < 60; i++)
        len += (size_t)snprintf(text + len, 20000 - len,
                                "  b%u: { type: otlp, credentials: { bearer: \"${file:/there/a}\" } }\n", i);
    struct config_report r;
    cr_expect(fake_parse(text, &r) == NULL);
    cr_expect(r.count > 0 && strstr(r.messages[0].text, "4MiB") != NULL);
    config_report_deinit(&r);
    fake_rotated = NULL;
    free(text);
}

/* --- reload --------------------------------------------------------------------------------------------- */

static const char base[] =
    "agent: { name: n }\nadmin: { listen: 127.0.0.1:1 }\n"
    "inputs: { h: { listen: 127.0.0.1:2, auth: { token: \"${file:/there/t}\" } }, u: { type: udp } }\n"
    "outputs: { a: { type: honeycomb, credentials: { api_key: k }, headers: { X: y } }, b: { type: otlp } }\n"
    "routes: [ { when: { type: x }, to: [a] } ]\n";

/* The text with its first `from` replaced. */
static struct config *edited(const char *from, const char *to)
{
    static char text[2000];
    const char *at = strstr(base, from);
    cr_assert(at != NULL);
    (void)snprintf(text, sizeof text, "%.*s%s%s", (int)(at - base), base, to, at + strlen(from));
    return good(text);
}

Test(reload, what_did_not_change_is_the_same)
{
    struct config *a = good(base), *b = good(base);
    cr_expect(config_agent_same(&a->agent, &b->agent));
    cr_expect(config_admin_same(&a->admin, &b->admin));
    cr_expect(config_input_same(&a->inputs[0], &b->inputs[0]));
    cr_expect(config_output_same(&a->outputs[0], &b->outputs[0]));
    cr_expect(config_routes_same(a, b));
    char names[100];
    cr_expect_eq(config_restart_keys(a, b, names, sizeof names), 0);
    cr_expect_str_eq(names, "");
    config_free(a);
    config_free(b);
}

Test(reload, a_new_value_of_a_secret_is_no_change_of_configuration)
{
    struct config *a = good(base);
    fake_rotated = "other";
    struct config *b = good(base);
    fake_rotated = NULL;
    cr_expect(config_input_same(&a->inputs[0], &b->inputs[0]));
    config_free(a);
    config_free(b);
}

Test(reload, every_edit_is_seen_where_it_is)
{
    static const struct {
        const char *from, *to;
        const char *changed; /* of "agent admin in0 in1 out0 out1 routes" */
    } table[] = {
        {"name: n", "name: m", "agent"},
        {"127.0.0.1:1", "127.0.0.1:9", "admin"},
        {"127.0.0.1:2", "127.0.0.1:3", "in0"},
        {"/there/t", "/there/u", "in0"},
        {"type: udp", "type: udp, receive_buffer: 1MiB", "in1"},
        {"u: {", "v: {", "in1"},
        {"api_key: k", "api_key: l", "out0"},
        {"X: y", "X: z", "out0"},
        {"X: y", "Y: y", "out0"},
        {"X: y", "X: y, Z: z", "out0"},
        {"headers:", "honeycomb: { id_field: i }, headers:", "out0"},
        {"headers:", "concurrency: auto, headers:", "out0"},
        {"headers:", "rate_limit: { requests: 1/1s }, headers:", "out0"},
        {"headers:", "proxy: \"http://a:b@p\", headers:", "out0"},
        {"headers:", "spool: { max_age: 1d }, headers:", "out0"},
        {"headers:", "endpoint: https://e, headers:", "out0"},
        {"type: otlp", "type: otlp, credentials: { bearer: b }", "out1"},
        {"when: { type: x }", "when: { type: y }", "routes"},
        {"when: { type: x }", "when: { api: cloudevents, type: x }", "routes"},
        {"to: [a]", "to: [a], sample: 2", "routes"},
    };
    struct config *a = good(base);
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct config *b = edited(table[i].from, table[i].to);
        const struct {
            const char *name;
            bool same;
        } parts[] = {
            {"agent", config_agent_same(&a->agent, &b->agent)},
            {"admin", config_admin_same(&a->admin, &b->admin)},
            {"in0", config_input_same(&a->inputs[0], &b->inputs[0])},
            {"in1", config_input_same(&a->inputs[1], &b->inputs[1])},
            {"out0", config_output_same(&a->outputs[0], &b->outputs[0])},
            {"out1", config_output_same(&a->outputs[1], &b->outputs[1])},
            {"routes", config_routes_same(a, b)},
        };
        for (size_t k = 0; k < sizeof parts / sizeof parts[0]; k++)
            cr_expect_eq(parts[k].same, strcmp(parts[k].name, table[i].changed) != 0, "%s -> %s: %s",
                         table[i].from, table[i].to, parts[k].name);
        config_free(b);
    }
    config_free(a);
}

Test(reload, names_what_waits_for_the_next_start)
{
    struct config *a = good(base),
                  *b = edited("agent: { name: n }\nadmin: { listen: 127.0.0.1:1 }",
                              "agent: { name: m, data_dir: /d }\nadmin: { listen: 127.0.0.1:9 }");
    char names[100];
    cr_expect_eq(config_restart_keys(a, b, names, sizeof names), 2);
    cr_expect_str_eq(names, "agent.data_dir, admin.listen");
    config_free(a);
    config_free(b);
}

/* --- bounds --------------------------------------------------------------------------------------------- */

Test(bounds, are_the_sums_of_what_is_configured)
{
    static const struct bounds_costs costs = {.process_bytes = 1000,
                                              .threads = 2,
                                              .thread_bytes = 10,
                                              .connection_bytes = 7,
                                              .datagram_bytes = 300,
                                              .backlog_bytes = 5000,
                                              .request_bytes = 40000,
                                              .large_bytes = 3000,
                                              .underway_bytes = 600,
                                              .held_bytes = 8000,
                                              .inflated_bytes = 900,
                                              .spool_bytes = 100000,
                                              .output_bytes = 150000,
                                              .outputs_bytes = 77,
                                              .batch_bytes = 50000,
                                              .upstream_bytes = 1000000,
                                              .descriptors = 10,
                                              .spool_descriptors = 3};
    struct config *c =
        good("agent: { min_free: 1MiB }\ninputs: { h: { max_connections: 11 }, u: { type: "
             "udp, receive_buffer: 1MiB }, s: { type: unix, path: /s, max_event: 64KiB, max_body: 1MiB } }\n"
             "outputs: { a: { type: otlp, concurrency: 3, spool: { max_bytes: 5MiB }, "
             "dead_letter: { max_bytes: 1MiB } } }\n");
    struct bounds b = bounds_of(c, &costs);
    uint64_t http = 77 + 5000, answering = 40000 + 2 * (10 << 20), stream = 600, held = 8000 + (1 << 20) + 900;
    cr_expect_eq(b.intake_bytes, answering + held);
    uint64_t whole = 2 * ((1 << 20) / 4 - 4096); /* a request goes on as it came, if a quarter of a file takes it */
    cr_expect_eq(b.memory_bytes, 1000 + 20 + http + answering + stream + held + 300 + 250000 + whole + 3000000);
    cr_expect_eq(b.kernel_bytes, 1 << 20);
    cr_expect_eq(b.disk_bytes, 6 << 20);
    cr_expect_eq(b.min_free, 1 << 20);
    cr_expect_eq(b.descriptors, 10 + 12 + 1 + (1 + c->inputs[2].max_connections) + 3 + 3);
    config_free(c);
}

Test(bounds, are_printed_for_people)
{
    char text[32];
    cr_expect_str_eq(bounds_text(0, text, sizeof text), "0B");
    cr_expect_str_eq(bounds_text(1023, text, sizeof text), "1023B");
    cr_expect_str_eq(bounds_text(1536, text, sizeof text), "1.5KiB");
    cr_expect_str_eq(bounds_text(UINT64_C(8) << 30, text, sizeof text), "8GiB");
}

/* --- the files that are shipped ------------------------------------------------------------------------- */

static const char *any_variable(void *ctx, const char *name)
{
    (void)ctx;
    (void)name;
    return "/there/value";
}

static bool judge_shipped(const char *name, const struct config_env *env)
{
    char path[1024], line[600];
    static char text[65536];
    (void)snprintf(path, sizeof path, "%s/conf/%s", PENSTOCK_SOURCE_DIR, name);
    FILE *file = fopen(path, "r");
    cr_assert(file != NULL, "%s", path);
    size_t len = fread(text, 1, sizeof text, file);
    (void)fclose(file);
    struct config_report r;
    config_report_init(&r);
    struct config *c = config_parse(span_of(text, len), name, env, &r);
    for (unsigned i = 0; i < r.count; i++) {
        config_message_print(&r.messages[i], name, line, sizeof line);
        if (r.messages[i].severity != CONFIG_NOTE)
            (void)fprintf(stderr, "%s\n", line);
        cr_expect(r.messages[i].severity == CONFIG_NOTE, "%s", line);
    }
    config_report_deinit(&r);
    bool good_file = c != NULL;
    config_free(c);
    return good_file;
}

Test(shipped, every_example_is_good_and_without_a_warning)
{
    struct config_env env = fake_env;
    env.variable = any_variable;
    DIR *dir = opendir(PENSTOCK_SOURCE_DIR "/conf");
    cr_assert(dir != NULL);
    unsigned count = 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        size_t len = strlen(entry->d_name);
        if (len < 5 || strcmp(entry->d_name + len - 5, ".yaml") != 0)
            continue;
        cr_expect(judge_shipped(entry->d_name, &env), "%s", entry->d_name);
        count++;
    }
    (void)closedir(dir);
    cr_expect_geq(count, 11);
}
