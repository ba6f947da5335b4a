/* upstream_tls: an upstream's TLS configuration, from the files that the configuration names. They are small and local,
 * and read at start, on reload, before a probe of a held output, and when their looks have changed. */
#include "agent/agent.h"
#include "agent/output_host.h"
#include "agent/tls_files.h"
#include "agent/upstream.h"
#include "lib/config/config.h"

#include <string.h>

static const char *const system_bundles[] = {
    "/etc/ssl/certs/ca-certificates.crt", /* Debian, Alpine */
    "/etc/pki/tls/certs/ca-bundle.crt",   /* Fedora, RHEL */
    "/etc/ssl/ca-bundle.pem",             /* SUSE */
};

static enum err load_roots(const struct config_tls_client *tls, struct tls_roots **ret, struct fault *why)
{
    struct bytes pem;
    enum err err = ERR_NOT_FOUND;
    bytes_init(&pem, TLS_FILE_BYTES_MAX);
    if (tls->ca_file != NULL) {
        err = tls_file_read(tls->ca_file, &pem, why);
    } else {
        for (size_t i = 0; i < sizeof system_bundles / sizeof system_bundles[0] && err != OK; i++)
            err = tls_file_read(system_bundles[i], &pem, why);
        if (err != OK)
            err = fault_set(why, ERR_CONFIG,
                            "no system bundle of certificate authorities is installed (package ca-certificates), and "
                            "tls.ca_file is not set");
    }
    if (err == OK)
        err = tls_roots_new(bytes_span(&pem), ret, why);
    bytes_deinit(&pem);
    return err;
}

static enum err load_context(const struct config_tls_client *tls, struct tls_context **ret, struct fault *why)
{
    struct tls_settings settings = {.verify = tls->verify, .tls_1_3_only = tls->min_version == 13};
    struct bytes cert, key;
    enum err err = OK;
    bytes_init(&cert, TLS_FILE_BYTES_MAX);
    bytes_init(&key, TLS_FILE_BYTES_MAX);
    if (tls->verify)
        err = load_roots(tls, &settings.roots, why);
    if (err == OK && tls->cert_file != NULL)
        err = tls_file_read(tls->cert_file, &cert, why);
    if (err == OK && tls->key_file != NULL)
        err = tls_file_read(tls->key_file, &key, why);
    settings.cert_pem = bytes_span(&cert);
    settings.key_pem = bytes_span(&key);
    if (err == OK)
        err = tls_context_new(&settings, ret, why);
    tls_roots_free(settings.roots);
    if (key.len > 0)
        explicit_bzero(key.at, key.len);
    bytes_deinit(&cert);
    bytes_deinit(&key);
    return err;
}

enum err upstream_load_tls(struct upstream *u, struct fault *why)
{
    const struct config_output *config = u->owner->config;
    const char *const files[] = {config->tls.ca_file, config->tls.cert_file, config->tls.key_file};
    struct tls_context *fresh;
    if (!config->endpoint.tls)
        return OK;
    uint64_t looks = tls_files_looks(files, 3);
    if (u->tls != NULL && looks == u->tls_files)
        return OK;
    enum err err = load_context(&config->tls, &fresh, why);
    if (err != OK)
        return err;
    /* Sessions in use keep what they need of the old one. */
    tls_context_free(u->tls);
    u->tls = fresh;
    u->tls_files = looks;
    bytes_clear(&u->session);
    return OK;
}
