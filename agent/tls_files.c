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

uint64_t tls_paths_looks(const struct tls_paths *paths)
{
    const char *const names[] = {paths->ca_file, paths->cert_file, paths->key_file};
    uint64_t looks = 1;
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct stat st;
        if (names[i] == NULL)
            continue;
        uint64_t parts[6] = {looks, i};
        if (stat(names[i], &st) == 0) {
            parts[2] = st.st_ino;
            parts[3] = (uint64_t)st.st_size;
            parts[4] = (uint64_t)st.st_mtim.tv_sec;
            parts[5] = (uint64_t)st.st_mtim.tv_nsec;
        }
        looks = hash64(span_of(parts, sizeof parts), 0);
    }
    return looks;
}

/* `into` is empty when there is no such file to read. */
static enum err read_if_named(const char *path, struct bytes *into, struct fault *why)
{
    return path == NULL ? OK : tls_file_read(path, into, why);
}

/* The files as a context: `settings` says the rest, and has roots already when ca_file is NULL and some are wanted; they
 * are let go. */
static enum err read_context(const struct tls_paths *paths, struct tls_settings *settings, struct tls_context **ret,
                             struct fault *why)
{
    struct bytes ca, cert, key;
    bytes_init(&ca, TLS_FILE_BYTES_MAX);
    bytes_init(&cert, TLS_FILE_BYTES_MAX);
    bytes_init(&key, TLS_FILE_BYTES_MAX);
    enum err err = read_if_named(paths->ca_file, &ca, why);
    if (err == OK && paths->ca_file != NULL)
        err = tls_roots_new(bytes_span(&ca), &settings->roots, why);
    if (err == OK)
        err = read_if_named(paths->cert_file, &cert, why);
    if (err == OK)
        err = read_if_named(paths->key_file, &key, why);
    settings->cert_pem = bytes_span(&cert);
    settings->key_pem = bytes_span(&key);
    if (err == OK)
        err = tls_context_new(settings, ret, why);
    tls_roots_free(settings->roots);
    settings->roots = NULL;
    if (key.len > 0)
        explicit_bzero(key.at, key.len);
    bytes_deinit(&ca);
    bytes_deinit(&cert);
    bytes_deinit(&key);
    return err;
}

enum err tls_server_load(const struct config_tls_server *config, struct tls_context **context, uint64_t *looks,
                         struct fault *why)
{
    const struct tls_paths paths = {config->client_ca_file, config->cert_file, config->key_file};
    struct tls_settings settings = {.server = true, .tls_1_3_only = config->min_version == 13};
    struct tls_context *fresh;
    if (config->cert_file == NULL)
        return OK;
    uint64_t now = tls_paths_looks(&paths);
    if (*context != NULL && now == *looks)
        return OK;
    enum err err = read_context(&paths, &settings, &fresh, why);
    if (err != OK)
        return err;
    tls_context_free(*context); /* sessions in use keep what they need of it */
    *context = fresh;
    *looks = now;
    return OK;
}

/* --- towards upstreams, and of commands ----------------------------------------------------------------- */

static const char *const system_bundles[] = {
    "/etc/ssl/certs/ca-certificates.crt", /* Debian, Alpine */
    "/etc/pki/tls/certs/ca-bundle.crt",   /* Fedora, RHEL */
    "/etc/ssl/ca-bundle.pem",             /* SUSE */
};

/* What the distribution trusts. */
static enum err load_system_roots(struct tls_roots **ret, struct fault *why)
{
    struct bytes pem;
    enum err err = ERR_NOT_FOUND;
    bytes_init(&pem, TLS_FILE_BYTES_MAX);
    for (size_t i = 0; i < sizeof system_bundles / sizeof system_bundles[0] && err != OK; i++)
        err = tls_file_read(system_bundles[i], &pem, why);
    if (err != OK)
        err = fault_set(why, ERR_CONFIG,
                        "no system bundle of certificate authorities is installed (package ca-certificates), and "
                        "tls.ca_file is not set");
    if (err == OK)
        err = tls_roots_new(bytes_span(&pem), ret, why);
    bytes_deinit(&pem);
    return err;
}

enum err tls_client_load(const struct config_tls_client *tls, struct tls_context **ret, struct fault *why)
{
    const struct tls_paths paths = {tls->verify ? tls->ca_file : NULL, tls->cert_file, tls->key_file};
    struct tls_settings settings = {.verify = tls->verify, .tls_1_3_only = tls->min_version == 13};
    enum err err = OK;
    if (tls->verify && tls->ca_file == NULL)
        err = load_system_roots(&settings.roots, why);
    return err == OK ? read_context(&paths, &settings, ret, why) : err;
}
