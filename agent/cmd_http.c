/* cmd_http: see cmd_http.h. */
#include "agent/cmd_http.h"

#include "agent/config_load.h"
#include "agent/dial.h"
#include "agent/exit.h"
#include "agent/json_pick.h"
#include "lib/config/config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define ANSWER_SECONDS 60
#define BODY_BYTES_MAX (64u << 20)
#define TOKEN_BYTES_MAX 8192

static enum err set_address(struct cmd_http *c, const char *admin, struct fault *why)
{
    bool named = strstr(admin, "://") != NULL || strncmp(admin, "unix:", 5) == 0;
    int n = snprintf(c->text, sizeof c->text, "%s%s", named ? "" : "http://", admin);
    if (n < 0 || (size_t)n >= sizeof c->text)
        return fault_set(why, ERR_CONFIG, "the address is too long");
    if (strncmp(c->text, "unix:", 5) == 0) {
        n = snprintf(c->unix_path, sizeof c->unix_path, "%s", c->text + 5);
        if (n <= 0 || (size_t)n >= sizeof c->unix_path)
            return fault_set(why, ERR_CONFIG, "%s: a socket's path has 1 to 107 bytes", c->text);
        return bytes_append(&c->authority, SPAN("localhost"));
    }
    enum err err = url_parse(span_str(c->text), &c->url, why);
    if (err != OK)
        return why->err = ERR_CONFIG;
    if (c->url.tls)
        return fault_set(why, ERR_CONFIG, "the admin speaks no https");
    return url_write_authority(&c->authority, &c->url, false);
}

enum err cmd_http_init(struct cmd_http *c, const char *admin, const struct config *config, struct fault *why)
{
    *c = (struct cmd_http){.fd = -1};
    bytes_init(&c->token, TOKEN_BYTES_MAX);
    bytes_init(&c->head, 64 << 10);
    bytes_init(&c->authority, 1024);
    http_client_init(&c->http, BODY_BYTES_MAX);
    struct span token = span_str(getenv("PENSTOCK_ADMIN_TOKEN"));
    if (config != NULL && config->admin.auth.token.template != NULL)
        token = config->admin.auth.token.value;
    if (bytes_append(&c->token, token) != OK)
        return fault_set(why, ERR_CONFIG, "the admin's token is too long");
    if (admin == NULL && config != NULL && config->admin.listen.kind == CONFIG_LISTEN_OFF)
        return fault_set(why, ERR_CONFIG, "admin is switched off in this configuration");
    if (admin == NULL)
        admin = config != NULL ? config->admin.listen.text : CMD_HTTP_ADMIN_DEFAULT;
    return set_address(c, admin, why);
}

static void hang_up(struct cmd_http *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
}

void cmd_http_deinit(struct cmd_http *c)
{
    hang_up(c);
    http_client_deinit(&c->http);
    bytes_deinit(&c->token);
    bytes_deinit(&c->head);
    bytes_deinit(&c->authority);
}

static enum err call(struct cmd_http *c, const char *method, const char *target, struct span body, struct fault *why)
{
    char text[300];
    struct bytes bearer;
    hang_up(c);
    c->fd = c->unix_path[0] != '\0' ? dial_unix(c->unix_path) : dial_url(&c->url, text, sizeof text);
    if (c->fd < 0)
        return fault_set(why, ERR_NOT_FOUND, "%s", c->unix_path[0] != '\0' ? strerror(errno) : text);
    if (!dial_timeout(c->fd, ANSWER_SECONDS))
        return fault_sys(why, errno, "setting a timeout");
    struct http_field fields[] = {{SPAN("User-Agent"), SPAN("penstock/" PENSTOCK_VERSION)},
                                  {SPAN("Content-Type"), SPAN("application/json")},
                                  {SPAN("Authorization"), {0}}};
    struct http_request_head head = {.method = span_str(method),
                                     .target = span_str(target),
                                     .authority = bytes_span(&c->authority),
                                     .fields = fields,
                                     .field_count = c->token.len > 0 ? 3 : 2,
                                     .has_body = strcmp(method, "GET") != 0,
                                     .content_length = body.len,
                                     .close = true};
    bytes_init(&bearer, TOKEN_BYTES_MAX + 16);
    enum err err = bytes_printf(&bearer, "Bearer %.*s", SPAN_FMT(bytes_span(&c->token)));
    fields[2].value = bytes_span(&bearer);
    bytes_clear(&c->head);
    if (err == OK)
        err = http_request_head_write(&c->head, &head);
    bytes_deinit(&bearer);
    if (err != OK)
        return fault_set(why, ERR_CONFIG, "the request cannot be written");
    if (!dial_write(c->fd, bytes_span(&c->head)) || !dial_write(c->fd, body))
        return fault_sys(why, errno, "sending");
    http_client_begin(&c->http, HTTP_CLIENT_PLAIN);
    return OK;
}

/* One read. *ret_end is set when the connection ended. */
static enum err hear(struct cmd_http *c, struct fault *why)
{
    uint8_t buffer[64 * 1024];
    ssize_t n = dial_read(c->fd, buffer, sizeof buffer);
    if (n < 0)
        return fault_sys(why, errno, "waiting for the answer");
    if (n == 0)
        http_client_eof(&c->http, true);
    else
        (void)http_client_feed(&c->http, span_of(buffer, (size_t)n));
    return OK;
}

static enum err judge(struct cmd_http *c, struct fault *why)
{
    hang_up(c);
    if (c->http.state == HTTP_CLIENT_COMPLETE)
        return OK;
    return fault_set(why, ERR_IO, "%s",
                     c->http.state == HTTP_CLIENT_MALFORMED ? "this is no HTTP" : "the connection ended before the answer did");
}

enum err cmd_http_ask(struct cmd_http *c, const char *method, const char *target, struct span body, struct fault *why)
{
    enum err err = call(c, method, target, body, why);
    while (err == OK && c->http.state == HTTP_CLIENT_READING)
        err = hear(c, why);
    return err == OK ? judge(c, why) : err;
}

enum err cmd_http_stream(struct cmd_http *c, const char *target, bool (*piece)(void *ctx, struct span bytes), void *ctx,
                         struct fault *why)
{
    bool more = true;
    enum err err = call(c, "GET", target, (struct span){0}, why);
    if (err == OK && !dial_timeout(c->fd, 0))
        err = fault_sys(why, errno, "setting a timeout");
    while (err == OK && more && c->http.state == HTTP_CLIENT_READING) {
        err = hear(c, why);
        if (c->http.status == 200 && c->http.body.len > 0) {
            more = piece(ctx, bytes_span(&c->http.body));
            bytes_clear(&c->http.body);
        }
    }
    if (!more) {
        hang_up(c);
        return OK;
    }
    return err == OK ? judge(c, why) : err;
}

struct config *cmd_load_config(const char *path)
{
    struct config_report report;
    config_report_init(&report);
    struct config *config = config_load(path, &report);
    config_load_print(&report, path, config == NULL ? stderr : NULL, NULL);
    config_report_deinit(&report);
    return config;
}

bool cmd_http_option(struct cmd_http_where *where, int key, const char *value)
{
    if (key == CMD_HTTP_OPTION_ADMIN)
        where->admin = value;
    else if (key == 'c')
        where->config = value;
    else
        return false;
    return true;
}

int cmd_http_find(const struct command *command, struct cmd_http *c, const struct cmd_http_where *where,
                  struct config **ret_config)
{
    struct fault why;
    *c = (struct cmd_http){.fd = -1};
    *ret_config = NULL;
    if (where->config != NULL && (*ret_config = cmd_load_config(where->config)) == NULL)
        return EXIT_BAD_CONFIG;
    if (cmd_http_init(c, where->admin, *ret_config, &why) == OK)
        return 0;
    if (*ret_config == NULL || where->admin != NULL)
        return command_mistake(command, "--admin: %s", why.text);
    (void)fprintf(stderr, "penstock %s: %s\n", command->name, why.text);
    return EXIT_UNREACHABLE;
}

int cmd_http_unreachable(const char *command, const struct cmd_http *c, const struct fault *why)
{
    fprintf(stderr, "penstock %s: cannot reach the agent at %s: %s\n", command, c->text, why->text);
    return EXIT_UNREACHABLE;
}

int cmd_http_refused(const char *command, const struct cmd_http *c)
{
    char message[400] = "";
    struct span body = bytes_span(&c->http.body);
    if (!pick_string(body, "error.message", message, sizeof message))
        snprintf(message, sizeof message, "%.*s", (int)(body.len < 300 ? body.len : 300), (const char *)body.at);
    fprintf(stderr, "penstock %s: the agent at %s answers %u: %s\n", command, c->text, c->http.status, message);
    return c->http.status == 401 ? EXIT_NO_PERMISSION : EXIT_UNREACHABLE;
}
