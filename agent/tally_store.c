/* tally_store: see tally_store.h. */
#include "agent/tally_store.h"

#include "agent/agent.h"
#include "lib/api/api.h"
#include "lib/base/ensure.h"
#include "lib/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define FILE_NAME ".tally"
#define FILE_NEW ".tally.new"
#define SAVE_S 60

struct tally_store {
    struct agent *agent;
    struct tally tally;
    bool loaded;           /* the directory is ours: may be saved */
    uint64_t saved_total;  /* tally.kept.total as last saved */
    struct log_limit limit;
    uv_work_t work;        /* .data == this */
    bool busy;
    /* the job's, while it is out */
    uint8_t blob[TALLY_BLOB_BYTES];
    int dir_fd, sys;
};

struct tally_store *tally_store_new(struct agent *a)
{
    struct tally_store *s = must_alloc(sizeof *s);
    s->agent = a;
    s->work.data = s;
    tally_init(&s->tally);
    return s;
}

void tally_store_free(struct tally_store *s)
{
    free(s);
}

const struct tally *tally_store_read(const struct tally_store *s)
{
    return &s->tally;
}

/* --- the file ------------------------------------------------------------------------------------------- */

/* All of it, or -1 with errno; a file of another length comes back as that length or one byte more than ours. */
static ssize_t read_blob(int dir_fd, uint8_t *into, size_t room)
{
    int fd = openat(dir_fd, FILE_NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -1;
    size_t have = 0;
    ssize_t n = 0;
    while (have < room && ((n = read(fd, into + have, room - have)) > 0 || (n < 0 && errno == EINTR)))
        have += n > 0 ? (size_t)n : 0;
    int sys = errno;
    (void)close(fd);
    errno = sys;
    return n < 0 ? -1 : (ssize_t)have;
}

void tally_store_load(struct tally_store *s)
{
    struct fault why;
    uint8_t *blob = must_alloc(TALLY_BLOB_BYTES + 1);
    s->loaded = true;
    ssize_t n = read_blob(s->agent->data_dir_fd, blob, TALLY_BLOB_BYTES + 1);
    enum err err = OK;
    if (n >= 0)
        err = tally_load(&s->tally, span_of(blob, (size_t)n), &why);
    else if (errno != ENOENT)
        err = fault_sys(&why, errno, "read");
    if (err != OK)
        log_warn(NULL, "%s/" FILE_NAME ": %s: the statistics of the admin page begin anew", s->agent->data_dir, why.text);
    s->saved_total = s->tally.kept.total;
    free(blob);
}

/* Returns an errno, or 0. */
static int write_blob(int dir_fd, const uint8_t *blob, size_t len)
{
    int fd = openat(dir_fd, FILE_NEW, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return errno;
    int sys = 0;
    while (len > 0 && sys == 0) {
        ssize_t n = write(fd, blob, len);
        if (n > 0) {
            blob += n;
            len -= (size_t)n;
        } else if (n == 0 || errno != EINTR) {
            sys = n == 0 ? EIO : errno;
        }
    }
    if (sys == 0 && fdatasync(fd) != 0)
        sys = errno;
    if (close(fd) != 0 && sys == 0)
        sys = errno;
    if (sys == 0 && renameat(dir_fd, FILE_NEW, dir_fd, FILE_NAME) != 0)
        sys = errno;
    if (sys != 0)
        (void)unlinkat(dir_fd, FILE_NEW, 0); /* whatever became of it, the old file is still whole */
    return sys;
}

static void prepare(struct tally_store *s)
{
    tally_save(&s->tally, s->blob);
    s->saved_total = s->tally.kept.total;
    s->dir_fd = s->agent->data_dir_fd;
}

static void write_it(uv_work_t *work)
{
    struct tally_store *s = work->data;
    s->sys = write_blob(s->dir_fd, s->blob, sizeof s->blob);
}

/* A disk that cannot take this has its outputs complain; statistics alone are worth a line of information. */
static void report(struct tally_store *s)
{
    if (s->sys == 0)
        return;
    s->saved_total = UINT64_MAX; /* differs from any: tried again */
    log_every(&s->limit, clock_mono_us(&s->agent->clock), 600 * US_PER_S, LOG_INFO, NULL,
              "the statistics of the admin page were not saved: %s", strerror(s->sys));
}

static void on_written(uv_work_t *work, int status)
{
    struct tally_store *s = work->data;
    (void)status; /* never cancelled */
    s->busy = false;
    report(s);
}

void tally_store_second(struct tally_store *s)
{
    struct agent *a = s->agent;
    if (!s->loaded || s->busy || a->seconds % SAVE_S != 0 || s->saved_total == s->tally.kept.total)
        return;
    prepare(s);
    s->busy = true;
    int r = uv_queue_work(a->loop, &s->work, write_it, on_written);
    ensure(r == 0);
}

void tally_store_save_last(struct tally_store *s)
{
    ensure(!s->busy); /* the loop does not end before its jobs */
    if (!s->loaded || s->saved_total == s->tally.kept.total)
        return;
    prepare(s);
    write_it(&s->work);
    report(s);
}

/* --- counting ------------------------------------------------------------------------------------------- */

/* An event may go to several outputs, and one of them may have it already: it counts once, with the first part that
 * keeps it. Parts hold their items in the order of the events. */
static void count_events(struct tally_store *s, const struct intake_offer *o, uint64_t now_s)
{
    struct api_exchange *x = o->x;
    struct tally_turn turn;
    tally_begin(&s->tally, now_s, &turn);
    for (unsigned p = 0; p < o->part_count; p++) {
        const struct api_item *item = o->parts[p].items, *items_end = item + o->parts[p].count;
        struct event *e = x->events, *events_end = e + x->event_count;
        for (; item < items_end; item++, e++) {
            while (e < events_end && e->index != item->index)
                e++;
            if (e == events_end)
                break;
            if (e->tallied)
                continue;
            e->tallied = true;
            tally_count(&turn, e->type, e->subject, 1);
        }
    }
    tally_end(&turn);
}

/* What came in a vendor's own form has no type here: it counts under the api's name. */
static void count_items(struct tally_store *s, const struct intake_offer *o, uint64_t now_s)
{
    uint32_t count = 0;
    if (o->part_count == 0)
        return;
    for (unsigned i = 0; i < o->parts[0].count; i++)
        count += o->parts[0].items[i].weight;
    if (count > 0)
        tally_add(&s->tally, span_str(o->x->api->name), (struct span){0}, count, now_s);
}

void tally_store_count(struct tally_store *s, const struct intake_offer *o, uint64_t wall_ns)
{
    uint64_t now_s = wall_ns / NS_PER_S;
    if (o->x->events != NULL)
        count_events(s, o, now_s);
    else
        count_items(s, o, now_s);
}
