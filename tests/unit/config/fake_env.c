/* fake_env: see fake_env.h. */
#include "tests/unit/config/fake_env.h"

#include <criterion/criterion.h>
#include <stdio.h>

const char *fake_rotated;

static const char *variable(void *ctx, const char *name)
{
    static char value[300];
    (void)ctx;
    if (strcmp(name, "EMPTY") == 0)
        return "";
    if (strcmp(name, "LINES") == 0)
        return "one\r\nX-Evil: two";
    if (strcmp(name, "PORT") == 0)
        return "4444";
    if (strncmp(name, "SET_", 4) != 0)
        return NULL;
    (void)snprintf(value, sizeof value, "value-of-%s", name);
    return value;
}

static enum err read_file(void *ctx, const char *path, struct bytes *into, struct fault *why)
{
    (void)ctx;
    if (strncmp(path, "/there/", 7) != 0 && strcmp(path, "/etc/penstock/token") != 0)
        return fault_sys(why, 2, "%s", path);
    if (fake_rotated != NULL)
        return bytes_append(into, span_str(fake_rotated));
    return bytes_printf(into, "content-of-%s\n", path);
}

static enum err file_readable(void *ctx, const char *path, struct fault *why)
{
    (void)ctx;
    return strncmp(path, "/there/", 7) == 0 ? OK : fault_set(why, ERR_IO, "No such file or directory");
}

static enum err tls_usable(void *ctx, bool server, const char *ca_file, const char *cert_file, const char *key_file,
                           struct fault *why)
{
    (void)ctx, (void)server, (void)key_file;
    bool junk = (cert_file != NULL && strcmp(cert_file, "/there/junk") == 0) ||
                (ca_file != NULL && strcmp(ca_file, "/there/junk") == 0);
    return junk ? fault_set(why, ERR_CONFIG, "not a certificate") : OK;
}

static bool known_id(void *ctx, const char *name, uint32_t *ret)
{
    (void)ctx;
    if (strcmp(name, "root") != 0 && strcmp(name, "penstock") != 0)
        return false;
    *ret = strcmp(name, "root") == 0 ? 0 : 997;
    return true;
}

const struct config_env fake_env = {
    .variable = variable,
    .read_file = read_file,
    .file_readable = file_readable,
    .tls_usable = tls_usable,
    .user_id = known_id,
    .group_id = known_id,
    .host_name = "test-host",
    .tls_1_3 = false,
};

struct config *fake_parse(const char *text, struct config_report *report)
{
    config_report_init(report);
    return config_parse(span_str(text), "test.yaml", &fake_env, report);
}

static void show(const struct config_report *r)
{
    char line[600];
    for (unsigned i = 0; i < r->count; i++) {
        config_message_print(&r->messages[i], "test.yaml", line, sizeof line);
        (void)fprintf(stderr, "  %s\n", line);
    }
}

struct config *good(const char *text)
{
    struct config_report r;
    struct config *c = fake_parse(text, &r);
    if (c == NULL)
        show(&r);
    cr_assert(c != NULL, "must be accepted:\n%s", text);
    config_report_deinit(&r);
    return c;
}

static bool has(const struct config_report *r, enum config_severity severity, unsigned line, unsigned column,
                const char *words)
{
    for (unsigned i = 0; i < r->count; i++) {
        const struct config_message *m = &r->messages[i];
        if (m->severity == severity && m->line == line && m->column == column &&
            strstr(m->text, words) != NULL)
            return true;
    }
    return false;
}

void bad(const char *text, unsigned line, unsigned column, const char *words)
{
    struct config_report r;
    struct config *c = fake_parse(text, &r);
    if (c != NULL || !has(&r, CONFIG_FAULT, line, column, words)) {
        show(&r);
        cr_assert_fail("expected a fault at %u:%u with \"%s\" in:\n%s", line, column, words, text);
    }
    cr_assert(r.faults > 0);
    config_report_deinit(&r);
}

void says(const char *text, enum config_severity severity, unsigned line, unsigned column, const char *words)
{
    struct config_report r;
    struct config *c = fake_parse(text, &r);
    if (c == NULL || !has(&r, severity, line, column, words)) {
        show(&r);
        cr_assert_fail("expected a message at %u:%u with \"%s\" in:\n%s", line, column, words, text);
    }
    config_free(c);
    config_report_deinit(&r);
}
