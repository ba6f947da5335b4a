/* disk_uv: see disk_uv.h. */
#include "agent/disk_uv.h"

#include "lib/base/bytes.h"
#include "lib/base/ensure.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

/* --- vfs: ctx is a pointer to the directory's descriptor ------------------------------------------------ */

static int dir_of(void *ctx)
{
    return *(int *)ctx;
}

static int vfs_open(void *ctx, const char *name, unsigned flags)
{
    int f = O_CLOEXEC | O_NOFOLLOW | ((flags & VFS_RDWR) ? O_RDWR : O_RDONLY);
    if (flags & VFS_CREATE)
        f |= O_CREAT;
    if (flags & VFS_EXCL)
        f |= O_EXCL;
    int fd = openat(dir_of(ctx), name, f, 0600);
    return fd < 0 ? -errno : fd;
}

static int vfs_close(void *ctx, int fd)
{
    (void)ctx;
    return close(fd) < 0 ? -errno : 0;
}

static ssize_t vfs_pread(void *ctx, int fd, void *into, size_t len, uint64_t offset)
{
    (void)ctx;
    ssize_t n = pread(fd, into, len, (off_t)offset);
    return n < 0 ? -errno : n;
}

static ssize_t vfs_pwritev(void *ctx, int fd, const struct iovec *iov, int n, uint64_t offset)
{
    (void)ctx;
    ssize_t written = pwritev(fd, iov, n, (off_t)offset);
    return written < 0 ? -errno : written;
}

static int vfs_fdatasync(void *ctx, int fd)
{
    (void)ctx;
    return fdatasync(fd) < 0 ? -errno : 0;
}

static int vfs_fallocate(void *ctx, int fd, uint64_t offset, uint64_t len)
{
    (void)ctx;
    return fallocate(fd, 0, (off_t)offset, (off_t)len) < 0 ? -errno : 0;
}

static int vfs_ftruncate(void *ctx, int fd, uint64_t len)
{
    (void)ctx;
    return ftruncate(fd, (off_t)len) < 0 ? -errno : 0;
}

static int vfs_rename(void *ctx, const char *from, const char *to)
{
    int dir = dir_of(ctx);
    return renameat(dir, from, dir, to) < 0 ? -errno : 0;
}

static int vfs_unlink(void *ctx, const char *name)
{
    return unlinkat(dir_of(ctx), name, 0) < 0 ? -errno : 0;
}

static int vfs_mkdir(void *ctx, const char *name)
{
    return mkdirat(dir_of(ctx), name, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

static bool is_dot_entry(const char *name)
{
    return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

static int vfs_list(void *ctx, const char *dir, int (*each)(void *arg, const char *name), void *arg)
{
    int fd = openat(dir_of(ctx), dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    DIR *d = fdopendir(fd);
    if (d == NULL) {
        int e = errno;
        close(fd);
        return -e;
    }
    int r = 0;
    while (r == 0) {
        errno = 0;
        struct dirent *entry = readdir(d);
        if (entry == NULL) {
            r = -errno;
            break;
        }
        if (!is_dot_entry(entry->d_name))
            r = each(arg, entry->d_name);
    }
    closedir(d);
    return r;
}

static int vfs_fsync_dir(void *ctx, const char *dir)
{
    int fd = openat(dir_of(ctx), dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int r = fsync(fd) < 0 ? -errno : 0;
    close(fd);
    return r;
}

static int vfs_stat(void *ctx, const char *name, struct spool_stat *ret)
{
    struct stat st;
    if (fstatat(dir_of(ctx), name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    *ret = (struct spool_stat){.size = (uint64_t)st.st_size, .allocated = (uint64_t)st.st_blocks * 512};
    return 0;
}

static int vfs_fsinfo(void *ctx, struct spool_fsinfo *ret)
{
    struct statfs fs;
    if (fstatfs(dir_of(ctx), &fs) < 0)
        return -errno;
    *ret = (struct spool_fsinfo){.free_bytes = (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize,
                                 .type = (uint64_t)fs.f_type};
    return 0;
}

static int vfs_dont_need(void *ctx, int fd, uint64_t offset, uint64_t len)
{
    (void)ctx;
    return -posix_fadvise(fd, (off_t)offset, (off_t)len, POSIX_FADV_DONTNEED);
}

static int vfs_will_need(void *ctx, int fd, uint64_t offset, uint64_t len)
{
    (void)ctx;
    return -posix_fadvise(fd, (off_t)offset, (off_t)len, POSIX_FADV_WILLNEED);
}

struct spool_vfs disk_uv_vfs_for(int *dir_fd)
{
    return (struct spool_vfs){
        .ctx = dir_fd,
        .open = vfs_open,
        .close = vfs_close,
        .pread = vfs_pread,
        .pwritev = vfs_pwritev,
        .fdatasync = vfs_fdatasync,
        .fallocate = vfs_fallocate,
        .ftruncate = vfs_ftruncate,
        .rename = vfs_rename,
        .unlink = vfs_unlink,
        .mkdir = vfs_mkdir,
        .list = vfs_list,
        .fsync_dir = vfs_fsync_dir,
        .stat = vfs_stat,
        .fsinfo = vfs_fsinfo,
        .dont_need = vfs_dont_need,
        .will_need = vfs_will_need,
    };
}

struct spool_vfs disk_uv_vfs(struct disk_uv *d)
{
    return disk_uv_vfs_for(&d->dir_fd);
}

/* --- host ----------------------------------------------------------------------------------------------- */

/* One trip to the pool; kept for reuse, since a busy spool makes two thousand a second. */
struct disk_work {
    uv_work_t req; /* .data == this work */
    struct list node;
    struct disk_uv *disk;
    struct spool_job *job;
    struct spool_vfs vfs;
};

static void on_work(uv_work_t *req)
{
    struct disk_work *w = req->data;
    w->job->run(w->job, &w->vfs);
}

static void on_work_done(uv_work_t *req, int status);

static void start(struct disk_work *w)
{
    int r = uv_queue_work(w->disk->loop, &w->req, on_work, on_work_done);
    ensure(r == 0); /* fails only without a work callback */
}

static void on_work_done(uv_work_t *req, int status)
{
    struct disk_work *w = req->data;
    struct disk_uv *d = w->disk;
    struct spool_job *job = w->job;
    ensure(status == 0); /* nobody cancels disk work */
    struct list *next = d->lanes == NULL ? NULL : disk_lanes_leave(d->lanes, job->kind);
    if (next != NULL)
        start(CONTAINER_OF(next, struct disk_work, node)); /* perhaps another output's */
    w->job = NULL;
    d->jobs_out--;
    list_append(&d->work_free, &w->node);
    spool_job_done(job);
}

static void host_submit(void *ctx, struct spool_job *job)
{
    struct disk_uv *d = ctx;
    struct disk_work *w;
    struct list *idle = list_first(&d->work_free);
    if (idle != NULL) {
        list_remove(idle);
        w = CONTAINER_OF(idle, struct disk_work, node);
    } else {
        w = must_alloc(sizeof *w);
        list_init(&w->node);
        w->req.data = w;
        w->disk = d;
    }
    w->job = job;
    w->vfs = disk_uv_vfs(d);
    d->jobs_out++;
    if (d->lanes == NULL || disk_lanes_enter(d->lanes, job->kind, &w->node))
        start(w);
}

static uint64_t host_mono_us(void *ctx)
{
    struct disk_uv *d = ctx;
    return clock_mono_us(&d->clock);
}

static uint64_t host_wall_ns(void *ctx)
{
    struct disk_uv *d = ctx;
    return clock_wall_ns(&d->clock);
}

static uint64_t host_random64(void *ctx)
{
    struct disk_uv *d = ctx;
    uint64_t x;
    entropy_fill(&d->entropy, &x, sizeof x);
    return x;
}

static void on_timer(uv_timer_t *timer)
{
    struct disk_uv *d = timer->data;
    if (d->closing)
        return;
    spool_tick(d->spool);
}

static void host_timer(void *ctx, uint64_t at_mono_us)
{
    struct disk_uv *d = ctx;
    if (d->closing)
        return;
    if (at_mono_us == 0) {
        (void)uv_timer_stop(&d->timer);
        return;
    }
    uint64_t now = clock_mono_us(&d->clock);
    uint64_t delay_ms = at_mono_us <= now ? 0 : (at_mono_us - now + 999) / 1000;
    /* libuv counts from the start of this turn of the loop, which may be a while ago. */
    uv_update_time(d->loop);
    int r = uv_timer_start(&d->timer, on_timer, delay_ms, 0);
    ensure(r == 0);
}

static void host_note(void *ctx, const struct spool_note *note)
{
    struct disk_uv *d = ctx;
    d->note(d->ctx, note);
}

struct spool_host disk_uv_host(struct disk_uv *d)
{
    return (struct spool_host){
        .ctx = d,
        .submit = host_submit,
        .mono_us = host_mono_us,
        .wall_ns = host_wall_ns,
        .random64 = host_random64,
        .timer = host_timer,
        .note = host_note,
    };
}

enum err disk_uv_init(struct disk_uv *d, uv_loop_t *loop, int data_dir_fd, const char *name,
                      const struct clock *clock, const struct entropy *entropy, struct fault *why)
{
    *d = (struct disk_uv){.loop = loop, .dir_fd = -1, .clock = *clock, .entropy = *entropy};
    list_init(&d->work_free);
    if (mkdirat(data_dir_fd, name, 0700) < 0 && errno != EEXIST)
        return fault_sys(why, errno, "cannot make directory %s", name);
    d->dir_fd = openat(data_dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (d->dir_fd < 0)
        return fault_sys(why, errno, "cannot open directory %s", name);
    /* The new directory's own entry must survive power failure before anything in it is answered for. */
    if (fsync(data_dir_fd) < 0) {
        int e = errno;
        close(d->dir_fd);
        d->dir_fd = -1;
        return fault_sys(why, e, "cannot sync the data directory");
    }
    int r = uv_timer_init(loop, &d->timer);
    ensure(r == 0);
    d->timer.data = d;
    return OK;
}

static void on_closed(uv_handle_t *handle)
{
    struct disk_uv *d = handle->data;
    struct list *idle;
    while ((idle = list_first(&d->work_free)) != NULL) {
        list_remove(idle);
        free(CONTAINER_OF(idle, struct disk_work, node));
    }
    if (d->dir_fd >= 0)
        (void)close(d->dir_fd);
    d->dir_fd = -1;
    d->gone(d->ctx);
}

void disk_uv_close(struct disk_uv *d)
{
    ensure(d->jobs_out == 0);
    if (d->closing)
        return;
    d->closing = true;
    uv_close((uv_handle_t *)&d->timer, on_closed);
}
