/* upstream_tls: an upstream's TLS configuration, from the files that the configuration names. They are small and local,
 * and read at start, on reload, before a probe of a held output, and when their looks have changed. */
#include "agent/agent.h"
#include "agent/output_host.h"
#include "agent/tls_files.h"
#include "agent/upstream.h"
#include "lib/config/config.h"

enum err upstream_load_tls(struct upstream *u, struct fault *why)
{
    const struct config_tls_client *tls = &u->owner->config->tls;
    const struct tls_paths paths = {tls->verify ? tls->ca_file : NULL, tls->cert_file, tls->key_file};
    struct tls_context *fresh;
    if (!u->owner->config->endpoint.tls)
        return OK;
    uint64_t looks = tls_paths_looks(&paths);
    if (u->tls != NULL && looks == u->tls_files)
        return OK;
    enum err err = tls_client_load(tls, &fresh, why);
    if (err != OK)
        return err;
    /* Sessions in use keep what they need of the old one. */
    tls_context_free(u->tls);
    u->tls = fresh;
    u->tls_files = looks;
    bytes_clear(&u->session);
    return OK;
}
