/* tls_files: see tls_files.h. */
#include "agent/tls_files.h"

#include "lib/base/hash.h"
#include "lib/config/config.h"
#include "lib/tls/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum err tls_file_read(const char *path, struct bytes *into, struct fault *why)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fault_sys(why, errno, "cannot open %s", path);
    enum err err = OK;
    for (;;) {
        err = bytes_reserve(into, 16 * 1024);
        if (err != OK) {
            err = fault_set(why, ERR_TOO_BIG, "%s is too large for certificates", path);
            break;
        }
        ssize_t n = read(fd, into->at + into->len, 16 * 1024);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            err = fault_sys(why, errno, "cannot read %s", path);
        if (n <= 0)
            break;
        into->len += (size_t)n;
    }
    (void)close(fd);
    return err;
}

uint64_t tls_files_looks(const char *const *paths, unsigned count)
{
    uint64_t looks = 1;
    for (unsigned i = 0; i < count; i++) {
        struct stat st;
        if (paths[i] == NULL)
            continue;
        uint64_t parts[6] = {looks, i};
        if (stat(paths[i], &st) == 0) {
            parts[2] = st.st_ino;
            parts[3] = (uint64_t)st.st_size;
            parts[4] = (uint64_t)st.st_mtim.tv_sec;
            parts[5] = (uint64_t)st.st_mtim.tv_nsec;
        }
        looks = hash64(span_of(parts, sizeof parts), 0);
    }
    return looks;
}

static enum err server_context(const struct config_tls_server *config, struct tls_context **ret, struct fault *why)
{
    struct tls_settings settings = {.server = true, .tls_1_3_only = config->min_version == 13};
    struct bytes cert, key, ca;
    bytes_init(&cert, TLS_FILE_BYTES_MAX);
    bytes_init(&key, TLS_FILE_BYTES_MAX);
    bytes_init(&ca, TLS_FILE_BYTES_MAX);
    enum err err = tls_file_read(config->cert_file, &cert, why);
    if (err == OK)
        err = tls_file_read(config->key_file, &key, why);
    if (err == OK && config->client_ca_file != NULL) {
        err = tls_file_read(config->client_ca_file, &ca, why);
        if (err == OK)
            err = tls_roots_new(bytes_span(&ca), &settings.roots, why);
    }
    settings.cert_pem = bytes_span(&cert);
    settings.key_pem = bytes_span(&key);
    if (err == OK)
        err = tls_context_new(&settings, ret, why);
    tls_roots_free(settings.roots);
    if (key.len > 0)
        explicit_bzero(key.at, key.len);
    bytes_deinit(&cert);
    bytes_deinit(&key);
    bytes_deinit(&ca);
    return err;
}

enum err tls_server_load(const struct config_tls_server *config, struct tls_context **context, uint64_t *looks,
                         struct fault *why)
{
    const char *const files[] = {config->cert_file, config->key_file, config->client_ca_file};
    struct tls_context *fresh;
    if (config->cert_file == NULL)
        return OK;
    uint64_t now = tls_files_looks(files, 3);
    if (*context != NULL && now == *looks)
        return OK;
    enum err err = server_context(config, &fresh, why);
    if (err != OK)
        return err;
    tls_context_free(*context); /* sessions in use keep what they need of it */
    *context = fresh;
    *looks = now;
    return OK;
}

/* --- towards upstreams, and of commands ------------------------------------------------------------------------- */

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

enum err tls_client_load(const struct config_tls_client *tls, struct tls_context **ret, struct fault *why)
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
