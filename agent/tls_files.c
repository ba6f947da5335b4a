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

/* --- what they hold ------------------------------------------------------------------------------------- */

static const char *const system_bundles[] = {
    "/etc/ssl/certs/ca-certificates.crt", /* Debian, Alpine */
    "/etc/pki/tls/certs/ca-bundle.crt",   /* Fedora, RHEL */
    "/etc/ssl/ca-bundle.pem",             /* SUSE */
};

/* What the distribution trusts. */
static enum err read_system_bundle(struct bytes *into, struct fault *why)
{
    enum err err = ERR_NOT_FOUND;
    for (size_t i = 0; i < sizeof system_bundles / sizeof system_bundles[0] && err != OK; i++)
        err = tls_file_read(system_bundles[i], into, why);
    if (err != OK)
        err = fault_set(why, ERR_CONFIG,
                        "no system bundle of certificate authorities is installed (package ca-certificates), and "
                        "tls.ca_file is not set");
    return err;
}

void tls_files_read(const struct tls_paths *paths, bool system_roots, struct tls_files *ret)
{
    struct bytes *const into[] = {&ret->ca, &ret->cert, &ret->key};
    const char *const names[] = {paths->ca_file, paths->cert_file, paths->key_file};
    /* Looked at first: what changes while it is read looks different the next time. */
    *ret = (struct tls_files){.looks = tls_paths_looks(paths), .authorities = paths->ca_file != NULL || system_roots};
    for (unsigned i = 0; i < 3; i++)
        bytes_init(into[i], TLS_FILE_BYTES_MAX);
    for (unsigned i = 0; i < 3 && ret->err == OK; i++)
        if (names[i] != NULL)
            ret->err = tls_file_read(names[i], into[i], &ret->why);
    if (ret->err == OK && paths->ca_file == NULL && system_roots)
        ret->err = read_system_bundle(&ret->ca, &ret->why);
}

void tls_files_deinit(struct tls_files *files)
{
    if (files->key.at != NULL)
        explicit_bzero(files->key.at, files->key.cap);
    bytes_deinit(&files->ca);
    bytes_deinit(&files->cert);
    bytes_deinit(&files->key);
}

/* The files as a context: `settings` says the rest. */
static enum err make_context(const struct tls_files *files, struct tls_settings *settings, struct tls_context **ret,
                             struct fault *why)
{
    if (files->err != OK) {
        *why = files->why;
        return files->err;
    }
    enum err err = files->authorities ? tls_roots_new(bytes_span(&files->ca), &settings->roots, why) : OK;
    settings->cert_pem = bytes_span(&files->cert);
    settings->key_pem = bytes_span(&files->key);
    if (err == OK)
        err = tls_context_new(settings, ret, why);
    tls_roots_free(settings->roots);
    return err;
}

/* --- of listeners --------------------------------------------------------------------------------------- */

struct tls_paths tls_server_paths(const struct config_tls_server *config)
{
    return (struct tls_paths){config->client_ca_file, config->cert_file, config->key_file};
}

enum err tls_server_make(const struct config_tls_server *config, const struct tls_files *files, struct tls_context **ret,
                         struct fault *why)
{
    struct tls_settings settings = {.server = true, .tls_1_3_only = config->min_version == 13};
    return make_context(files, &settings, ret, why);
}

enum err tls_server_load(const struct config_tls_server *config, struct tls_context **ret, uint64_t *ret_looks,
                         struct fault *why)
{
    const struct tls_paths paths = tls_server_paths(config);
    struct tls_files files;
    *ret = NULL;
    if (config->cert_file == NULL)
        return OK;
    tls_files_read(&paths, false, &files);
    *ret_looks = files.looks;
    enum err err = tls_server_make(config, &files, ret, why);
    tls_files_deinit(&files);
    return err;
}

/* --- towards upstreams, and of commands ----------------------------------------------------------------- */

struct tls_paths tls_client_paths(const struct config_tls_client *tls)
{
    return (struct tls_paths){tls->verify ? tls->ca_file : NULL, tls->cert_file, tls->key_file};
}

bool tls_client_wants_system_roots(const struct config_tls_client *tls)
{
    return tls->verify && tls->ca_file == NULL;
}

enum err tls_client_make(const struct config_tls_client *tls, const struct tls_files *files, struct tls_context **ret,
                         struct fault *why)
{
    struct tls_settings settings = {.verify = tls->verify, .tls_1_3_only = tls->min_version == 13};
    return make_context(files, &settings, ret, why);
}

enum err tls_client_load(const struct config_tls_client *tls, struct tls_context **ret, struct fault *why)
{
    const struct tls_paths paths = tls_client_paths(tls);
    struct tls_files files;
    tls_files_read(&paths, tls_client_wants_system_roots(tls), &files);
    enum err err = tls_client_make(tls, &files, ret, why);
    tls_files_deinit(&files);
    return err;
}
