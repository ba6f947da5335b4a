/* reread: see reread.h. */
#include "agent/reread.h"

#include "agent/config_load.h"
#include "agent/edition.h"
#include "lib/base/clock.h"
#include "lib/base/ensure.h"
#include "lib/config/config.h"

#include <stdlib.h>

#define LOG_US (60 * US_PER_S)

struct reread_job {
    uv_work_t req; /* .data == this job */
    struct reread *owner; /* NULL: abandoned */
    struct reread_what what;
    struct config_secrets_fresh *fresh;
    struct tls_files files;
    bool files_read;
};

static void on_read(uv_work_t *req)
{
    struct reread_job *j = req->data;
    j->fresh = config_secrets_read(j->what.secrets, config_load_env());
    if (!j->what.tls || (j->what.looks != 0 && tls_paths_looks(&j->what.paths) == j->what.looks))
        return;
    tls_files_read(&j->what.paths, j->what.system_roots, &j->files);
    j->files_read = true;
}

/* Puts the secrets in place, and says so; what fails keeps its old value. */
static bool adopt(struct reread *r, struct reread_job *j, uint64_t now_us)
{
    struct fault why;
    bool changed = false;
    enum err err = config_secrets_adopt(j->what.secrets, j->fresh, &changed, &why);
    j->fresh = NULL;
    if (err != OK)
        log_every(&r->secret_limit, now_us, LOG_US, LOG_WARN, r->subject,
                  "cannot read a secret again: %s; the old one stays", why.text);
    if (changed)
        log_info(r->subject, "a secret changed and is used from now on");
    return changed;
}

static void on_done(uv_work_t *req, int status)
{
    struct reread_job *j = req->data;
    struct reread *r = j->owner;
    ensure(status == 0); /* nobody cancels it */
    if (r != NULL) {
        r->job = NULL;
        bool changed = adopt(r, j, uv_hrtime() / 1000);
        if (r->done != NULL)
            r->done(r, changed, j->files_read ? &j->files : NULL);
    }
    config_secrets_forget(j->fresh);
    if (j->files_read)
        tls_files_deinit(&j->files);
    edition_drop(j->what.edition);
    free(j);
}

void reread_init(struct reread *r, const char *subject,
                 void (*done)(struct reread *r, bool secrets_changed, const struct tls_files *tls))
{
    *r = (struct reread){.subject = subject, .done = done};
}

void reread_start(struct reread *r, uv_loop_t *loop, const struct reread_what *what)
{
    if (r->job != NULL)
        return;
    struct reread_job *j = must_alloc(sizeof *j);
    j->req.data = j;
    j->owner = r;
    j->what = *what;
    edition_take(what->edition);
    r->job = j;
    int e = uv_queue_work(loop, &j->req, on_read, on_done);
    ensure(e == 0);
}

void reread_abandon(struct reread *r)
{
    if (r->job != NULL)
        r->job->owner = NULL;
    r->job = NULL;
}
