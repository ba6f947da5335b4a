/* dead_offline: an output's spool opened without an agent, for `penstock dead`. See dead_source.h. */
#include "agent/dead_source.h"

#include "agent/disk_uv.h"
#include "agent/letter_json.h"
#include "agent/output_config.h"
#include "agent/system.h"
#include "lib/base/ensure.h"
#include "lib/config/config.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct dead_offline {
    uv_loop_t loop;
    int dir_fd, lock_fd;
    struct disk_uv disk;
    struct spool *spool;
    bool opened, failed, closed, gone, done;
    struct fault fault;
    /* one request */
    struct bytes *lines;
    enum err err;
    uint64_t count;
};

static void on_note(void *ctx, const struct spool_note *note)
{
    struct dead_offline *o = ctx;
    uv_stop(&o->loop); /* what happens within a timer must not wait for the next one */
    switch (note->kind) {
    case NOTE_OPENED:
        o->opened = true;
        return;
    case NOTE_FAILED:
        o->failed = true;
        o->fault = *note->fault;
        return;
    case NOTE_CLOSED:
        o->closed = true;
        return;
    case NOTE_WARNING:
        (void)fprintf(stderr, "penstock dead: %s\n", note->fault->text);
        return;
    default:
        return;
    }
}

static void on_gone(void *ctx)
{
    struct dead_offline *o = ctx;
    o->gone = true;
    uv_stop(&o->loop);
}

static void run_until(struct dead_offline *o, const bool *this, const bool *or_that)
{
    while (!*this && !*or_that)
        if (uv_run(&o->loop, UV_RUN_ONCE) == 0 && !*this && !*or_that)
            return;
}

static void let_go(struct dead_offline *o)
{
    if (o->lock_fd >= 0)
        (void)close(o->lock_fd); /* lets go of the lock */
    if (o->dir_fd >= 0)
        (void)close(o->dir_fd); /* only looked through */
    free(o);
}

static enum err start(struct dead_offline *o, const struct config *config, const struct config_output *output,
                      struct fault *why)
{
    struct clock clock = system_clock();
    struct entropy entropy = system_entropy();
    struct spool_config spool_config;
    struct stat st;
    if (fstatat(o->dir_fd, output->name, &st, 0) < 0 || !S_ISDIR(st.st_mode))
        return fault_set(why, ERR_NOT_FOUND, "there is no spool of output %s in %s", output->name,
                         config->agent.data_dir);
    int r = uv_loop_init(&o->loop);
    ensure(r == 0);
    enum err err = disk_uv_init(&o->disk, &o->loop, o->dir_fd, output->name, &clock, &entropy, why);
    if (err != OK) {
        r = uv_loop_close(&o->loop);
        ensure(r == 0);
        return err;
    }
    o->disk.note = on_note;
    o->disk.gone = on_gone;
    o->disk.ctx = o;
    output_config_spool(output, config->agent.min_free, &spool_config);
    struct spool_vfs vfs = disk_uv_vfs(&o->disk);
    struct spool_host host = disk_uv_host(&o->disk);
    o->spool = spool_new(&spool_config, &vfs, &host);
    o->disk.spool = o->spool;
    spool_open(o->spool);
    run_until(o, &o->opened, &o->failed);
    if (o->opened)
        return OK;
    *why = o->fault;
    return why->err;
}

enum err dead_offline_open(const struct config *config, const char *output, struct dead_offline **ret, struct fault *why)
{
    const struct config_output *found = config_find_output(config, output);
    if (found == NULL)
        return fault_set(why, ERR_CONFIG, "the configuration has no output %s", output);
    struct dead_offline *o = must_alloc(sizeof *o);
    o->dir_fd = o->lock_fd = -1;
    enum err err = system_lock_data_dir(config->agent.data_dir, false, &o->dir_fd, &o->lock_fd, why);
    if (err == OK)
        err = start(o, config, found, why);
    if (err == OK) {
        *ret = o;
        return OK;
    }
    if (o->spool != NULL)
        dead_offline_close(o);
    else
        let_go(o);
    return err;
}

void dead_offline_close(struct dead_offline *o)
{
    if (o == NULL)
        return;
    if (!o->closed)
        spool_close(o->spool);
    run_until(o, &o->closed, &o->closed);
    while (o->disk.jobs_out > 0 && uv_run(&o->loop, UV_RUN_ONCE) != 0)
        ;
    disk_uv_close(&o->disk);
    run_until(o, &o->gone, &o->gone);
    spool_free(o->spool);
    int r = uv_loop_close(&o->loop);
    ensure(r == 0);
    let_go(o);
}

static void on_letter(void *ctx, const struct spool_letter *letter)
{
    struct dead_offline *o = ctx;
    if (letter_json_append(o->lines, letter) != OK)
        (void)fprintf(stderr, "penstock dead: letter %llu is too large to be shown\n",
                      (unsigned long long)letter->letter_id);
}

static void on_done(void *ctx, enum err err, uint64_t count, const struct fault *why)
{
    struct dead_offline *o = ctx;
    o->err = err;
    o->count = count;
    if (err != OK && why != NULL)
        o->fault = *why;
    o->done = true;
    uv_stop(&o->loop);
}

enum err dead_offline_ask(struct dead_offline *o, int kind, const uint64_t *ids, unsigned count, uint64_t after,
                          unsigned limit, struct bytes *lines, uint64_t *ret_count, struct fault *why)
{
    struct spool_dead_request request = {.ctx = o,
                                         .ids = ids,
                                         .id_count = count,
                                         .after_id = after,
                                         .limit = limit,
                                         .letter = on_letter,
                                         .done = on_done};
    request.kind = kind == DEAD_REPLAY ? DEAD_REPLAY : kind == DEAD_PURGE ? DEAD_PURGE : DEAD_LIST;
    o->lines = lines;
    o->done = false;
    enum err err = spool_dead(o->spool, &request);
    if (err != OK)
        return fault_set(why, err, "the spool cannot be asked: %s", err_name(err));
    run_until(o, &o->done, &o->done);
    ensure(o->done); /* the spool answers every request */
    if (o->err != OK)
        *why = o->fault;
    *ret_count = o->count;
    return o->err;
}
