/* upstream_tls: an upstream's TLS configuration, from the files that the configuration names. They are read at start and on
 * reload, and again off the loop (reread.c) every few seconds and before a probe of what is held. */
#include "agent/agent.h"
#include "agent/output_host.h"
#include "agent/tls_files.h"
#include "agent/upstream.h"
#include "lib/config/config.h"

enum err upstream_use_tls(struct upstream *u, const struct tls_files *files, struct fault *why)
{
    struct tls_context *fresh;
    enum err err = tls_client_make(&u->owner->config->tls, files, &fresh, why);
    if (err != OK)
        return err;
    /* Sessions in use keep what they need of the old one. */
    tls_context_free(u->tls);
    u->tls = fresh;
    u->tls_files = files->looks;
    bytes_clear(&u->session);
    return OK;
}

enum err upstream_load_tls(struct upstream *u, struct fault *why)
{
    const struct config_tls_client *tls = &u->owner->config->tls;
    const struct tls_paths paths = tls_client_paths(tls);
    struct tls_files files;
    if (!u->owner->config->endpoint.tls)
        return OK;
    tls_files_read(&paths, tls_client_wants_system_roots(tls), &files);
    enum err err = upstream_use_tls(u, &files, why);
    tls_files_deinit(&files);
    return err;
}
