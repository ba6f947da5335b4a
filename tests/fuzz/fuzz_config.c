/* fuzz_config: any text is a configuration or a list of faults, with positions inside the text, and what was
 * accepted can be compared, refreshed, summed up and freed. References resolve to the empty, the long and
 * the control character, so that what comes in through them is looked at too. */
#include "lib/base/ensure.h"
#include "lib/config/bounds.h"
#include "lib/config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *variable(void *ctx, const char *name)
{
    (void)ctx;
    static const char *const values[] = {"", "value", "a\nb", "127.0.0.1:1", "true", NULL};
    return values[(unsigned char)name[0] % 6];
}

static enum err read_file(void *ctx, const char *path, struct bytes *into, struct fault *why)
{
    (void)ctx;
    if (path[0] == 'x')
        return fault_sys(why, 2, "%s", path);
    return bytes_append(into, span_str(path));
}

static enum err file_readable(void *ctx, const char *path, struct fault *why)
{
    (void)ctx;
    return path[0] == 'x' ? fault_sys(why, 2, "%s", path) : OK;
}

static bool known_id(void *ctx, const char *name, uint32_t *ret)
{
    (void)ctx;
    *ret = 1;
    return name[0] != 'x';
}

static const struct config_env env = {.variable = variable,
                                      .read_file = read_file,
                                      .file_readable = file_readable,
                                      .user_id = known_id,
                                      .group_id = known_id,
                                      .host_name = "host",
                                      .tls_1_3 = true};

static void use(struct config *c, struct config *again)
{
    static const struct bounds_costs costs = {.process_bytes = 1, .connection_bytes = 1, .spool_bytes = 1};
    struct bounds b = bounds_of(c, &costs);
    ensure(b.memory_bytes > 0);
    ensure(config_agent_same(&c->agent, &again->agent));
    ensure(config_admin_same(&c->admin, &again->admin));
    ensure(config_routes_same(c, again));
    for (unsigned i = 0; i < c->input_count; i++)
        ensure(config_input_same(&c->inputs[i], &again->inputs[i]));
    for (unsigned i = 0; i < c->output_count; i++) {
        struct fault why;
        bool changed;
        ensure(config_output_same(&c->outputs[i], &again->outputs[i]));
        ensure(config_secrets_refresh(c->outputs[i].secrets, &env, &changed, &why) == OK);
        ensure(!changed);
        ensure(config_find_output(c, c->outputs[i].name) == &c->outputs[i]);
    }
    for (unsigned i = 0; i < c->route_count; i++)
        for (unsigned k = 0; k < c->routes[i].to_count; k++)
            ensure(c->routes[i].to_index[k] < c->output_count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config_report report;
    config_report_init(&report);
    struct config *c = config_parse(span_of(data, size), "fuzz.yaml", &env, &report);
    ensure((c == NULL) == (report.faults > 0));
    for (unsigned i = 0; i < report.count; i++) {
        ensure(report.messages[i].line >= 1);
        ensure(report.messages[i].column >= 1);
        ensure(report.messages[i].column <= size + 1);
        ensure(report.messages[i].text[0] != '\0');
    }
    if (c != NULL) {
        struct config *again = config_parse(span_of(data, size), "fuzz.yaml", &env, &report);
        ensure(again != NULL);
        use(c, again);
        config_free(again);
    }
    config_free(c);
    config_report_deinit(&report);
    return 0;
}
