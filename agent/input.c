/* input: see input.h. */
#include "agent/input.h"

#include "agent/agent.h"
#include "agent/edition.h"
#include "lib/base/ensure.h"
#include "lib/config/config.h"

#include <stdio.h>
#include <string.h>

static const struct input_kind *const kinds[CONFIG_INPUT_TYPES] = {
    [CONFIG_INPUT_HTTP] = &input_http_kind,
    [CONFIG_INPUT_UNIX] = &input_stream_kind,
    [CONFIG_INPUT_UNIX_DGRAM] = &input_dgram_kind,
    [CONFIG_INPUT_UDP] = &input_dgram_kind,
};

void input_init(struct input *in, const struct input_kind *kind, struct agent *a, const struct config_input *config)
{
    *in = (struct input){.kind = kind, .agent = a, .config = config, .since_wall_ns = clock_wall_ns(&a->clock)};
    (void)snprintf(in->subject, sizeof in->subject, "input %s", config->name);
    list_init(&in->node);
}

enum err input_bind(struct agent *a, struct config_edition *edition, const struct config_input *config,
                    struct input **ret, struct fault *why)
{
    const struct input_kind *kind = kinds[config->type];
    if (kind == NULL)
        return fault_set(why, ERR_UNSUPPORTED, "input %s: inputs of type %s are not built in", config->name,
                         config_input_type_names[config->type]);
    enum err err = kind->bind(a, config, ret, why);
    if (err != OK)
        return fault_context(why, "input %s", config->name);
    (*ret)->edition = edition_take(edition);
    return OK;
}

void input_stop(struct input *in)
{
    in->stopping = true;
    in->kind->stop(in);
}

void input_close(struct input *in)
{
    if (in->closing)
        return;
    in->closing = true;
    in->kind->close(in);
}

void input_free(struct input *in)
{
    struct config_edition *edition = in->edition;
    reread_abandon(&in->reread);
    in->kind->free(in);
    edition_drop(edition);
}

void input_reread(struct input *in, void (*done)(struct reread *r, bool secrets_changed, const struct tls_files *tls),
                  const struct config_tls_server *tls, uint64_t looks)
{
    struct reread_what what = {.edition = in->edition, .secrets = in->config->secrets, .tls = tls != NULL, .looks = looks};
    if (tls != NULL)
        what.paths = tls_server_paths(tls);
    if (in->reread.subject == NULL)
        reread_init(&in->reread, in->subject, done);
    if (tls != NULL || config_secrets_refer(what.secrets))
        reread_start(&in->reread, in->agent->loop, &what);
}

void input_gone(struct input *in)
{
    ensure(!in->closed);
    in->closed = true;
    agent_input_gone(in->agent, in);
}

struct input_sender *input_sender_place(struct input_sender *list, unsigned *count, unsigned room, uint64_t bytes)
{
    unsigned at = *count;
    while (at > 0 && list[at - 1].bytes < bytes)
        at--;
    if (at == room || bytes == 0)
        return NULL;
    if (*count < room)
        ++*count;
    memmove(&list[at + 1], &list[at], (*count - 1 - at) * sizeof list[0]);
    list[at] = (struct input_sender){.bytes = bytes};
    return &list[at];
}
