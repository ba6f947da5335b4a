/* reread: secrets, certificates and keys are read again, off the loop.
 *
 * Whoever has any (an input, an output, admin) embeds a `struct reread` and asks every few seconds. The files are read on
 * libuv's pool: a file system that hangs must not stop the loop. What was read is handed back on the loop, where the owner
 * puts it in place. One reading of an owner is under way at a time; its configuration stays alive as long. */
#ifndef PENSTOCK_AGENT_REREAD_H
#define PENSTOCK_AGENT_REREAD_H

#include "agent/tls_files.h"
#include "lib/base/log.h"

#include <uv.h>

struct config_edition;
struct config_secret;
struct reread;
struct reread_job;

/* What is to be read. */
struct reread_what {
    struct config_edition *edition; /* what `secrets` and `paths` are part of */
    struct config_secret *secrets;
    struct tls_paths paths;
    bool tls, system_roots;
    uint64_t looks; /* of the TLS files in use: they are read only when they look different. 0: in any case */
};

struct reread {
    struct reread_job *job; /* NULL: none is under way */
    const char *subject;
    struct log_limit secret_limit, tls_limit;
    /* The secrets are in place. tls NULL: the files look as before. Called on the loop, never from within reread_start().
     * NULL: nothing else is to be done. */
    void (*done)(struct reread *r, bool secrets_changed, const struct tls_files *tls);
};

void reread_init(struct reread *r, const char *subject,
                 void (*done)(struct reread *r, bool secrets_changed, const struct tls_files *tls));
/* Begins, unless it is under way already. done() follows either way, also when there is nothing to read. */
void reread_start(struct reread *r, uv_loop_t *loop, const struct reread_what *what);
/* done() is not called any more. */
void reread_abandon(struct reread *r);

#endif
