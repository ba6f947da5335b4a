/* memfs: see memfs.h. */
#include "tests/unit/spool/memfs.h"

#include "lib/base/bytes.h"
#include "lib/base/ensure.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct memfs_inode {
    struct memfs_inode *next;
    uint8_t *cache, *platter;
    size_t size, platter_size, cap, platter_cap;
    bool never_sync_again;
};

static struct memfs_inode *inode_new(struct memfs *fs)
{
    struct memfs_inode *i = must_alloc(sizeof *i);
    i->next = fs->inodes;
    fs->inodes = i;
    return i;
}

static void resize(uint8_t **at, size_t *cap, size_t *size, size_t want)
{
    if (want > *cap) {
        size_t new_cap = want + want / 4;
        *at = must_realloc(*at, new_cap);
        *cap = new_cap;
    }
    if (want > *size)
        memset(*at + *size, 0, want - *size);
    *size = want;
}

void memfs_init(struct memfs *fs)
{
    *fs = (struct memfs){.free_bytes = UINT64_C(1) << 40, .power_left = -1};
}

void memfs_deinit(struct memfs *fs)
{
    while (fs->inodes != NULL) {
        struct memfs_inode *i = fs->inodes;
        fs->inodes = i->next;
        free(i->cache);
        free(i->platter);
        free(i);
    }
    memfs_init(fs);
}

/* --- faults -----------------------------------------------------------------------------------------------
 */

/* 0, or the negative errno that this call must answer. */
static int fault(struct memfs *fs, enum memfs_call call)
{
    fs->calls[call]++;
    if (fs->power_left == 0)
        fs->dead = true;
    if (fs->dead)
        return -EIO;
    if (fs->power_left > 0)
        fs->power_left--;
    if (call != fs->fail_call || fs->fail_at == 0)
        return 0;
    if (fs->fail_at > 1) {
        fs->fail_at--;
        return 0;
    }
    fs->failed++;
    if (fs->fail_more > 0)
        fs->fail_more--;
    else if (!fs->fail_forever)
        fs->fail_at = 0;
    return fs->fail_errno == 0 ? -1000 : -fs->fail_errno;
}

/* --- entries ----------------------------------------------------------------------------------------------
 */

static struct memfs_entry *find(struct memfs *fs, const char *name)
{
    for (size_t i = 0; i < fs->cache_count; i++)
        if (strcmp(fs->cache[i].name, name) == 0)
            return &fs->cache[i];
    return NULL;
}

static void remove_entry(struct memfs *fs, struct memfs_entry *e)
{
    *e = fs->cache[--fs->cache_count];
}

static struct memfs_entry *add_entry(struct memfs *fs, const char *name, struct memfs_inode *inode)
{
    ensure(fs->cache_count < 512 && strlen(name) < 64);
    struct memfs_entry *e = &fs->cache[fs->cache_count++];
    memcpy(e->name, name, strlen(name) + 1);
    e->inode = inode;
    return e;
}

/* "." holds the names without a slash. */
static bool in_dir(const char *name, const char *dir)
{
    const char *slash = strchr(name, '/');
    if (strcmp(dir, ".") == 0)
        return slash == NULL;
    return slash != NULL && (size_t)(slash - name) == strlen(dir) && strncmp(name, dir, strlen(dir)) == 0;
}

static int fs_open(void *ctx, const char *name, unsigned flags)
{
    struct memfs *fs = ctx;
    int err = fault(fs, MEMFS_OPEN);
    if (err < 0)
        return err;
    struct memfs_entry *e = find(fs, name);
    if (e != NULL && (flags & VFS_CREATE) != 0 && (flags & VFS_EXCL) != 0)
        return -EEXIST;
    if (e == NULL && (flags & VFS_CREATE) == 0)
        return -ENOENT;
    if (e == NULL)
        e = add_entry(fs, name, inode_new(fs));
    for (int fd = 3; fd < 256; fd++)
        if (fs->fds[fd] == NULL) {
            fs->fds[fd] = e->inode;
            return fd;
        }
    return -EMFILE;
}

static int fs_close(void *ctx, int fd)
{
    struct memfs *fs = ctx;
    if (fd < 3 || fd > 255 || fs->fds[fd] == NULL)
        return -EBADF;
    fs->fds[fd] = NULL;
    return 0;
}

static ssize_t fs_pread(void *ctx, int fd, void *into, size_t len, uint64_t offset)
{
    struct memfs *fs = ctx;
    int err = fault(fs, MEMFS_PREAD);
    if (err < 0)
        return err;
    struct memfs_inode *i = fs->fds[fd];
    if (offset >= i->size)
        return 0;
    size_t n = i->size - offset < len ? i->size - (size_t)offset : len;
    memcpy(into, i->cache + offset, n);
    if (fs->flip_read > 0 && --fs->flip_read == 0)
        ((unsigned char *)into)[n / 2] ^= 4;
    return (ssize_t)n;
}

static ssize_t fs_pwritev(void *ctx, int fd, const struct iovec *iov, int n, uint64_t offset)
{
    struct memfs *fs = ctx;
    int err = fault(fs, MEMFS_PWRITEV);
    if (err < 0 && err != -1000)
        return err;
    struct memfs_inode *inode = fs->fds[fd];
    size_t total = 0;
    for (int i = 0; i < n; i++) {
        size_t len = iov[i].iov_len;
        if (err == -1000)
            len = (len + 1) / 2;
        if (len == 0)
            continue;
        if (offset + len > inode->size)
            resize(&inode->cache, &inode->cap, &inode->size, (size_t)offset + len);
        memcpy(inode->cache + offset, iov[i].iov_base, len);
        offset += len;
        total += len;
        if (err == -1000)
            break;
    }
    return (ssize_t)total;
}

static int fs_fdatasync(void *ctx, int fd)
{
    struct memfs *fs = ctx;
    struct memfs_inode *i = fs->fds[fd];
    int err = fault(fs, MEMFS_FDATASYNC);
    if (i->never_sync_again)
        fs->syncs_after_failure++;
    if (err < 0) {
        if (!fs->dead && err != -EINTR) {
            fs->sync_failed = true;
            i->never_sync_again = true;
        }
        return err;
    }
    if (i->never_sync_again)
        return 0; /* The pages were marked clean: nothing reaches the platter. */
    resize(&i->platter, &i->platter_cap, &i->platter_size, i->size);
    if (i->size > 0)
        memcpy(i->platter, i->cache, i->size);
    return 0;
}

static int fs_fallocate(void *ctx, int fd, uint64_t offset, uint64_t len)
{
    struct memfs *fs = ctx;
    int err = fault(fs, MEMFS_FALLOCATE);
    struct memfs_inode *i = fs->fds[fd];
    if (err < 0)
        return err;
    if (offset + len > i->size) {
        if (memfs_allocated(fs) + offset + len - i->size > fs->free_bytes)
            return -ENOSPC;
        resize(&i->cache, &i->cap, &i->size, (size_t)(offset + len));
    }
    if (memfs_allocated(fs) > fs->allocated_max)
        fs->allocated_max = memfs_allocated(fs);
    return 0;
}

static int fs_ftruncate(void *ctx, int fd, uint64_t len)
{
    struct memfs *fs = ctx;
    struct memfs_inode *i = fs->fds[fd];
    resize(&i->cache, &i->cap, &i->size, (size_t)len);
    return 0;
}

static int fs_rename(void *ctx, const char *from, const char *to)
{
    struct memfs *fs = ctx;
    int err = fault(fs, MEMFS_RENAME);
    if (err < 0)
        return err;
    struct memfs_entry *e = find(fs, from);
    if (e == NULL)
        return -ENOENT;
    struct memfs_inode *inode = e->inode;
    remove_entry(fs, e);
    e = find(fs, to);
    if (e != NULL)
        remove_entry(fs, e);
    (void)add_entry(fs, to, inode);
    return 0;
}

static int fs_unlink(void *ctx, const char *name)
{
    struct memfs *fs = ctx;
    int err = fault(fs, MEMFS_UNLINK);
    if (err < 0)
        return err;
    struct memfs_entry *e = find(fs, name);
    if (e == NULL)
        return -ENOENT;
    remove_entry(fs, e);
    return 0;
}

static int fs_mkdir(void *ctx, const char *name)
{
    (void)name; /* Directories are there when somebody puts a file in. */
    return fault(ctx, MEMFS_MKDIR);
}

static int fs_list(void *ctx, const char *dir, int (*each)(void *arg, const char *name), void *arg)
{
    struct memfs *fs = ctx;
    int err = fault(fs, MEMFS_LIST);
    if (err < 0)
        return err;
    for (size_t i = 0; i < fs->cache_count; i++)
        if (in_dir(fs->cache[i].name, dir)) {
            const char *slash = strchr(fs->cache[i].name, '/');
            (void)each(arg, slash == NULL ? fs->cache[i].name : slash + 1);
        }
    return 0;
}

static int fs_fsync_dir(void *ctx, const char *dir)
{
    struct memfs *fs = ctx;
    int err = fault(fs, MEMFS_FSYNC_DIR);
    if (err < 0)
        return err;
    size_t kept = 0;
    for (size_t i = 0; i < fs->platter_count; i++)
        if (!in_dir(fs->platter[i].name, dir))
            fs->platter[kept++] = fs->platter[i];
    for (size_t i = 0; i < fs->cache_count; i++)
        if (in_dir(fs->cache[i].name, dir))
            fs->platter[kept++] = fs->cache[i];
    fs->platter_count = kept;
    return 0;
}

static int fs_stat(void *ctx, const char *name, struct spool_stat *ret)
{
    struct memfs *fs = ctx;
    int err = fault(fs, MEMFS_STAT);
    if (err < 0)
        return err;
    struct memfs_entry *e = find(fs, name);
    if (e == NULL)
        return -ENOENT;
    *ret = (struct spool_stat){e->inode->size, e->inode->size};
    return 0;
}

static int fs_fsinfo(void *ctx, struct spool_fsinfo *ret)
{
    struct memfs *fs = ctx;
    int err = fault(fs, MEMFS_FSINFO);
    if (err < 0)
        return err;
    uint64_t used = memfs_allocated(fs);
    *ret = (struct spool_fsinfo){.free_bytes = fs->free_bytes > used ? fs->free_bytes - used : 0,
                                 .type = fs->type};
    return 0;
}

static int fs_dont_need(void *ctx, int fd, uint64_t offset, uint64_t len)
{
    struct memfs *fs = ctx;
    ensure(fs->fds[fd] != NULL);
    fs->dont_need_bytes += len;
    fs->dont_need_end = offset + len;
    return 0;
}

static int fs_will_need(void *ctx, int fd, uint64_t offset, uint64_t len)
{
    struct memfs *fs = ctx;
    ensure(fs->fds[fd] != NULL);
    (void)offset; /* a file that was cut short ends before what is asked for, which is harmless */
    fs->will_need_bytes += len;
    return 0;
}

struct spool_vfs memfs_vfs(struct memfs *fs)
{
    return (struct spool_vfs){.ctx = fs,
                              .open = fs_open,
                              .close = fs_close,
                              .pread = fs_pread,
                              .pwritev = fs_pwritev,
                              .fdatasync = fs_fdatasync,
                              .fallocate = fs_fallocate,
                              .ftruncate = fs_ftruncate,
                              .rename = fs_rename,
                              .unlink = fs_unlink,
                              .mkdir = fs_mkdir,
                              .list = fs_list,
                              .fsync_dir = fs_fsync_dir,
                              .stat = fs_stat,
                              .fsinfo = fs_fsinfo,
                              .dont_need = fs_dont_need,
                              .will_need = fs_will_need};
}

/* --- the test's hand --------------------------------------------------------------------------------------
 */

void memfs_kill(struct memfs *fs)
{
    memset(fs->fds, 0, sizeof fs->fds);
    fs->fail_at = 0;
    fs->dead = false;
    fs->power_left = -1;
}

void memfs_crash(struct memfs *fs)
{
    memfs_kill(fs);
    memcpy(fs->cache, fs->platter, sizeof fs->cache);
    fs->cache_count = fs->platter_count;
    for (struct memfs_inode *i = fs->inodes; i != NULL; i = i->next) {
        resize(&i->cache, &i->cap, &i->size, i->platter_size);
        if (i->platter_size > 0)
            memcpy(i->cache, i->platter, i->platter_size);
        i->never_sync_again = false;
    }
}

unsigned char *memfs_file(struct memfs *fs, const char *name, size_t *ret_size)
{
    struct memfs_entry *e = find(fs, name);
    if (e == NULL)
        return NULL;
    *ret_size = e->inode->size;
    return e->inode->cache;
}

void memfs_put(struct memfs *fs, const char *name, const void *at, size_t size)
{
    struct memfs_entry *e = find(fs, name);
    if (e == NULL)
        e = add_entry(fs, name, inode_new(fs));
    resize(&e->inode->cache, &e->inode->cap, &e->inode->size, size);
    if (size > 0)
        memcpy(e->inode->cache, at, size);
}

void memfs_truncate(struct memfs *fs, const char *name, size_t size)
{
    struct memfs_entry *e = find(fs, name);
    ensure(e != NULL);
    resize(&e->inode->cache, &e->inode->cap, &e->inode->size, size);
}

void memfs_remove(struct memfs *fs, const char *name)
{
    struct memfs_entry *e = find(fs, name);
    ensure(e != NULL);
    remove_entry(fs, e);
}

uint64_t memfs_allocated(const struct memfs *fs)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < fs->cache_count; i++)
        sum += fs->cache[i].inode->size;
    return sum;
}

unsigned memfs_open_files(const struct memfs *fs)
{
    unsigned count = 0;
    for (int fd = 0; fd < 256; fd++)
        count += fs->fds[fd] != NULL;
    return count;
}

void memfs_copy(struct memfs *to, const struct memfs *from)
{
    for (size_t i = 0; i < from->cache_count; i++)
        memfs_put(to, from->cache[i].name, from->cache[i].inode->cache, from->cache[i].inode->size);
    (void)fs_fsync_dir(to, ".");
    (void)fs_fsync_dir(to, "dead");
    (void)fs_fsync_dir(to, "quarantine");
    for (struct memfs_inode *i = to->inodes; i != NULL; i = i->next) {
        resize(&i->platter, &i->platter_cap, &i->platter_size, i->size);
        if (i->size > 0)
            memcpy(i->platter, i->cache, i->size);
    }
}
