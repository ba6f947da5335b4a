/* tls_files: certificate and key files, and whether they changed. */
#ifndef PENSTOCK_AGENT_TLS_FILES_H
#define PENSTOCK_AGENT_TLS_FILES_H

#include "lib/base/bytes.h"

#define TLS_FILE_BYTES_MAX (4 * 1024 * 1024)

MUST_USE enum err tls_file_read(const char *path, struct bytes *into, struct fault *why);

struct config_tls_server;
struct tls_context;

/* Which files a configuration is made of; NULL: none. */
struct tls_paths {
    const char *ca_file, *cert_file, *key_file;
};
/* A number that changes when one of the files does: also when a link on the way points elsewhere, and when a file
 * appears or goes. */
uint64_t tls_paths_looks(const struct tls_paths *paths);

/* A listener's TLS configuration from its files. *context and *looks are replaced when the files look different from
 * *looks (0 at first); on an error both stay. */
MUST_USE enum err tls_server_load(const struct config_tls_server *config, struct tls_context **context, uint64_t *looks,
                                  struct fault *why);

struct config_tls_client;
/* A client's TLS configuration from its files; without ca_file the system's bundle of authorities is trusted. */
MUST_USE enum err tls_client_load(const struct config_tls_client *tls, struct tls_context **ret, struct fault *why);

#endif
