/* cmd_http: how commands talk to a running agent's admin: blocking, one request at a time. */
#ifndef PENSTOCK_AGENT_CMD_HTTP_H
#define PENSTOCK_AGENT_CMD_HTTP_H

#include "agent/command.h"
#include "lib/http/http_client.h"
#include "lib/http/url.h"

#define CMD_HTTP_ADMIN_DEFAULT "http://127.0.0.1:4390"

struct config;

/* Where the admin listens and what it asks for. */
struct cmd_http {
    char text[300];       /* for messages: "http://127.0.0.1:4390" */
    char unix_path[108];  /* "" when it is a URL */
    struct url url;       /* spans point into text */
    struct bytes token;   /* empty: none */
    struct bytes head, authority;
    struct http_client http; /* status and body of the last answer */
    int fd;
};

/* `admin` is http://HOST:PORT, HOST:PORT, unix:/PATH, or NULL for what `config` says (NULL: the default address). The
 * token comes from the configuration, else from $PENSTOCK_ADMIN_TOKEN. ERR_CONFIG: not an address, or admin is off. */
MUST_USE enum err cmd_http_init(struct cmd_http *c, const char *admin, const struct config *config, struct fault *why);
void cmd_http_deinit(struct cmd_http *c);

/* One exchange on a connection of its own. ERR_NOT_FOUND: nobody answers there; ERR_IO: the answer broke off. */
MUST_USE enum err cmd_http_ask(struct cmd_http *c, const char *method, const char *target, struct span body,
                               struct fault *why);
/* The same for an answer without an end: piece() is told of its bytes as they come, and says whether to go on. With
 * another status than 200 it is read whole instead. ERR_IO only when it broke off before it was whole. */
MUST_USE enum err cmd_http_stream(struct cmd_http *c, const char *target, bool (*piece)(void *ctx, struct span bytes),
                                  void *ctx, struct fault *why);

/* Options of the commands that talk to an agent, for their tables. */
#define CMD_HTTP_OPTION_ADMIN (COMMAND_LONG + 100)
#define CMD_HTTP_OPTIONS \
    {'c', "config", "FILE", NULL, "take the address, and the token if there is one, from this configuration"}, \
    { \
        CMD_HTTP_OPTION_ADMIN, "admin", "URL", CMD_HTTP_ADMIN_DEFAULT, \
            "where the agent's admin listens: http://HOST:PORT or unix:/PATH" \
    }
#define CMD_HTTP_MORE "An admin's token is taken from the configuration, or from the variable PENSTOCK_ADMIN_TOKEN."

/* What they said; NULL where they were not given. */
struct cmd_http_where {
    const char *admin, *config;
};
/* Takes one of CMD_HTTP_OPTIONS. False: it is an option of the command's own. */
bool cmd_http_option(struct cmd_http_where *where, int key, const char *value);

/* The agent that they name. 0, or an exit code when it was said what is wrong; cmd_http_deinit() and config_free()
 * either way. */
int cmd_http_find(const struct command *command, struct cmd_http *c, const struct cmd_http_where *where,
                  struct config **ret_config);
/* Reads the configuration, with its faults on standard error. NULL: exit 78. */
struct config *cmd_load_config(const char *path);
/* Says what went wrong, in the admin's words where it has some; returns the exit code. */
int cmd_http_unreachable(const char *command, const struct cmd_http *c, const struct fault *why);
int cmd_http_refused(const char *command, const struct cmd_http *c);

#endif
