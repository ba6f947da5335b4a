/* orphans: see orphans.h. */
#include "agent/orphans.h"

#include "agent/agent.h"
#include "agent/disk_uv.h"
#include "agent/output_host.h"
#include "lib/base/bytes.h"
#include "lib/base/ensure.h"
#include "lib/base/log.h"
#include "lib/spool/verify.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ORPHANS_MAX 256

struct orphans {
    struct agent *agent;
    uv_work_t work;               /* .data == this */
    bool busy, again;
    /* the job's, while it is out */
    char (*served)[64];
    unsigned served_count;
    struct orphan *found;
    unsigned found_count;
    /* the loop's */
    struct orphan *list;
    unsigned count;
};

/* --- in the pool ---------------------------------------------------------------------------------------- */

/* A name that an output can have: the rest (lost+found, a dot) is no business of ours. */
static bool could_be_output(const char *name)
{
    size_t n = strlen(name);
    if (n == 0 || n > 63 || !isalnum((unsigned char)name[0]))
        return false;
    return strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-") == n;
}

static bool is_served(const struct orphans *o, const char *name)
{
    for (unsigned i = 0; i < o->served_count; i++)
        if (strcmp(o->served[i], name) == 0)
            return true;
    return false;
}

/* How much is in it, by its ledger. A directory that is no spool of ours, or a damaged one, is listed without. */
static void count(int fd, struct orphan *o)
{
    const struct spool_verify verify = {.ledger_only = true};
    struct spool_verdict verdict;
    struct fault why;
    struct spool_vfs vfs = disk_uv_vfs_for(&fd);
    if (spool_verify(&vfs, &verify, &verdict, &why) != OK)
        return;
    o->counted = true;
    o->pending = verdict.ledger.pending;
    o->dead = verdict.ledger.dead;
}

/* Adds up the files of one directory. False when there are none, or it is no directory. */
static bool measure(int parent, const char *name, struct orphan *ret)
{
    bool any = false;
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (dir == NULL) {
        if (fd >= 0)
            (void)close(fd); /* only looked at */
        return false;
    }
    *ret = (struct orphan){0};
    (void)snprintf(ret->name, sizeof ret->name, "%s", name);
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        struct stat st;
        if (fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
            continue;
        uint64_t written_ns = (uint64_t)st.st_mtim.tv_sec * NS_PER_S + (uint64_t)st.st_mtim.tv_nsec;
        if (ret->oldest_wall_ns == 0 || written_ns < ret->oldest_wall_ns)
            ret->oldest_wall_ns = written_ns;
        ret->bytes += (uint64_t)st.st_blocks * 512;
        any = true;
    }
    if (any)
        count(fd, ret);
    (void)closedir(dir);
    return any;
}

static void on_look(uv_work_t *work)
{
    struct orphans *o = work->data;
    int fd = openat(o->agent->data_dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (dir == NULL) {
        if (fd >= 0)
            (void)close(fd); /* only looked at */
        return;
    }
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL && o->found_count < ORPHANS_MAX;) {
        if (!could_be_output(entry->d_name) || is_served(o, entry->d_name))
            continue;
        if (measure(fd, entry->d_name, &o->found[o->found_count]))
            o->found_count++;
    }
    (void)closedir(dir);
}

/* --- on the loop ---------------------------------------------------------------------------------------- */

static bool known(const struct orphans *o, const char *name)
{
    for (unsigned i = 0; i < o->count; i++)
        if (strcmp(o->list[i].name, name) == 0)
            return true;
    return false;
}

static void warn_of(const struct orphans *o, const struct orphan *found)
{
    char what[100] = "not readable as a spool";
    if (found->counted)
        (void)snprintf(what, sizeof what, "%llu pending events, %llu dead letters", (unsigned long long)found->pending,
                       (unsigned long long)found->dead);
    log_warn(NULL,
             "orphaned: %s/%s (%s, %llu bytes) belongs to no configured output; give an output this name to deliver it, "
             "read it with `penstock spool dump %s/%s`, or remove the directory to give it up",
             o->agent->data_dir, found->name, what, (unsigned long long)found->bytes, o->agent->data_dir, found->name);
}

static void on_looked(uv_work_t *work, int status)
{
    struct orphans *o = work->data;
    ensure(status == 0);
    for (unsigned i = 0; i < o->found_count; i++)
        if (!known(o, o->found[i].name))
            warn_of(o, &o->found[i]);
    free(o->list);
    free(o->served);
    o->list = o->found;
    o->count = o->found_count;
    o->found = NULL;
    o->served = NULL;
    o->busy = false;
    if (o->again)
        orphans_look(o);
}

void orphans_look(struct orphans *o)
{
    struct agent *a = o->agent;
    o->again = o->busy;
    if (o->busy || a->phase >= AGENT_STOPPING)
        return;
    o->busy = true;
    o->found = must_alloc(ORPHANS_MAX * sizeof *o->found);
    o->found_count = 0;
    o->served = must_alloc((a->output_count + 1) * sizeof *o->served);
    o->served_count = a->output_count;
    for (unsigned i = 0; i < a->output_count; i++)
        (void)snprintf(o->served[i], sizeof o->served[i], "%s", a->outputs[i]->name);
    o->work.data = o;
    int r = uv_queue_work(a->loop, &o->work, on_look, on_looked);
    ensure(r == 0);
}

unsigned orphans_count(const struct orphans *o)
{
    return o->count;
}

const struct orphan *orphans_at(const struct orphans *o, unsigned i)
{
    return &o->list[i];
}

struct orphans *orphans_new(struct agent *a)
{
    struct orphans *o = must_alloc(sizeof *o);
    o->agent = a;
    return o;
}

void orphans_free(struct orphans *o)
{
    free(o->list);
    free(o->found);
    free(o->served);
    free(o);
}
