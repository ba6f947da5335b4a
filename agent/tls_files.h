/* tls_files: certificate and key files, and whether they changed. */
#ifndef PENSTOCK_AGENT_TLS_FILES_H
#define PENSTOCK_AGENT_TLS_FILES_H

#include "lib/base/bytes.h"

#define TLS_FILE_BYTES_MAX (4 * 1024 * 1024)

MUST_USE enum err tls_file_read(const char *path, struct bytes *into, struct fault *why);

struct config_tls_client;
struct config_tls_server;
struct tls_context;

/* Which files a configuration is made of; NULL: none. */
struct tls_paths {
    const char *ca_file, *cert_file, *key_file;
};
/* A number that changes when one of the files does: also when a link on the way points elsewhere, and when a file
 * appears or goes. */
uint64_t tls_paths_looks(const struct tls_paths *paths);

struct tls_paths tls_server_paths(const struct config_tls_server *config);
struct tls_paths tls_client_paths(const struct config_tls_client *tls);

/* What the files hold. Reading them may happen on any thread; making a configuration of it happens on the loop. */
struct tls_files {
    uint64_t looks; /* when they were read */
    bool authorities; /* ca is meant to hold some */
    struct bytes ca, cert, key;
    enum err err;
    struct fault why;
};
/* ca_file NULL and system_roots: the system's bundle of authorities. */
void tls_files_read(const struct tls_paths *paths, bool system_roots, struct tls_files *ret);
void tls_files_deinit(struct tls_files *files); /* wipes the key */
bool tls_client_wants_system_roots(const struct config_tls_client *tls);
MUST_USE enum err tls_server_make(const struct config_tls_server *config, const struct tls_files *files,
                                  struct tls_context **ret, struct fault *why);
MUST_USE enum err tls_client_make(const struct config_tls_client *tls, const struct tls_files *files,
                                  struct tls_context **ret, struct fault *why);

/* A listener's TLS configuration from its files; NULL when it has none. */
MUST_USE enum err tls_server_load(const struct config_tls_server *config, struct tls_context **ret, uint64_t *ret_looks,
                                  struct fault *why);

/* A client's TLS configuration from its files; without ca_file the system's bundle of authorities is trusted. */
MUST_USE enum err tls_client_load(const struct config_tls_client *tls, struct tls_context **ret, struct fault *why);

#endif
