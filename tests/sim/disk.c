/* disk: the calls. See disk.h; losses and damage are in disk_fate.c. */
#include "tests/sim/disk_inner.h"

#include "lib/base/ensure.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const disk_op_names[DISK_OPS] = {"open",      "close",     "pread",  "pwritev", "fdatasync",
                                             "fallocate", "ftruncate", "rename", "unlink",  "mkdir",
                                             "list",      "fsync_dir", "stat",   "fsinfo",  "dont_need"};

/* --- names ------------------------------------------------------------------------------------------ */

struct name *names_find(struct names *n, const char *text)
{
    for (unsigned k = 0; k < n->count; k++)
        if (strcmp(n->at[k].text, text) == 0)
            return &n->at[k];
    return NULL;
}

static unsigned *links(struct disk *d, struct names *n, int inode)
{
    return n == &d->cache ? &d->inodes[inode].cache_links : &d->inodes[inode].platter_links;
}

void names_drop(struct disk *d, struct names *n, const char *text)
{
    struct name *found = names_find(n, text);
    if (found == NULL)
        return;
    int inode = found->inode;
    memmove(found, found + 1, (size_t)(&n->at[n->count] - (found + 1)) * sizeof(*found));
    n->count--;
    if (inode < 0)
        return;
    --*links(d, n, inode);
    inode_drop_if_unused(d, &d->inodes[inode]);
}

void names_put(struct disk *d, struct names *n, const char *text, int inode)
{
    if (inode >= 0)
        ++*links(d, n, inode); /* first: the inode may be what the old name held */
    names_drop(d, n, text);
    ensure(n->count < NAMES_MAX);
    struct name *entry = &n->at[n->count++];
    (void)snprintf(entry->text, sizeof(entry->text), "%s", text);
    entry->inode = inode;
}

/* "dead/x" lies in "dead", "x" in ".". */
bool name_in(const char *name, const char *dir)
{
    const char *slash = strrchr(name, '/');
    if (slash == NULL)
        return strcmp(dir, ".") == 0;
    size_t len = (size_t)(slash - name);
    return strlen(dir) == len && memcmp(dir, name, len) == 0;
}

static bool dir_exists(struct disk *d, const char *name)
{
    const char *slash = strrchr(name, '/');
    if (slash == NULL)
        return true;
    char dir[DISK_NAME_MAX];
    (void)snprintf(dir, sizeof(dir), "%.*s", (int)(slash - name), name);
    struct name *found = names_find(&d->cache, dir);
    return found != NULL && found->inode < 0;
}

void dirop_apply(struct disk *d, struct names *n, const struct dirop *op)
{
    /* The inode may have gone when an earlier operation of the same pair was not kept. */
    if (op->inode >= 0 && !d->inodes[op->inode].used)
        return;
    if (op->kind != DIROP_LINK)
        names_drop(d, n, op->from);
    if (op->kind != DIROP_UNLINK)
        names_put(d, n, op->to, op->inode);
}

static int dirop_add(struct disk *d, int kind, const char *from, const char *to, int inode)
{
    ensure(d->dirop_count < DIROPS_MAX);
    struct dirop *op = &d->dirops[d->dirop_count++];
    op->kind = kind;
    op->inode = inode;
    (void)snprintf(op->from, sizeof(op->from), "%s", from);
    (void)snprintf(op->to, sizeof(op->to), "%s", to);
    if (inode >= 0)
        d->inodes[inode].platter_links++; /* a pending operation keeps it from being freed */
    return 0;
}

/* --- inodes ----------------------------------------------------------------------------------------- */

void inode_drop_if_unused(struct disk *d, struct inode *i)
{
    if (!i->used || i->cache_links != 0 || i->platter_links != 0 || i->opens != 0)
        return;
    for (size_t k = 0; k < i->page_cap; k++) {
        if (i->pages[k] == NULL)
            continue;
        i->pages[k]->spare = d->spares;
        d->spares = i->pages[k];
        i->pages[k] = NULL;
    }
    if (i->page_cap > 0)
        memset(i->allocated, 0, (i->page_cap + 63) / 64 * sizeof(*i->allocated));
    d->pages_used -= i->allocated_pages;
    i->allocated_pages = i->size = i->platter_size = 0;
    i->touched_count = 0;
    i->sync_failed = false;
    i->used = false;
}

static int inode_make(struct disk *d)
{
    unsigned k = 0;
    while (k < d->inode_count && d->inodes[k].used)
        k++;
    ensure(k < INODES_MAX);
    if (k == d->inode_count)
        d->inode_count++;
    d->inodes[k].used = true;
    return (int)k;
}

void inode_reach(struct inode *i, uint64_t pages)
{
    if (pages <= i->page_cap)
        return;
    size_t cap = i->page_cap == 0 ? 64 : i->page_cap;
    while (cap < pages)
        cap *= 2;
    i->pages = realloc(i->pages, cap * sizeof(*i->pages));
    i->allocated = realloc(i->allocated, (cap + 63) / 64 * sizeof(*i->allocated));
    if (i->pages == NULL || i->allocated == NULL)
        abort();
    memset(i->pages + i->page_cap, 0, (cap - i->page_cap) * sizeof(*i->pages));
    size_t had = (i->page_cap + 63) / 64, have = (cap + 63) / 64;
    memset(i->allocated + had, 0, (have - had) * sizeof(*i->allocated));
    i->page_cap = cap;
}

struct page *inode_page(struct disk *d, struct inode *i, uint64_t index)
{
    inode_reach(i, index + 1);
    if (i->pages[index] != NULL)
        return i->pages[index];
    struct page *p = d->spares;
    if (p != NULL) {
        d->spares = p->spare;
        memset(p, 0, sizeof(*p));
    } else if ((p = calloc(1, sizeof(*p))) == NULL) {
        abort();
    }
    return i->pages[index] = p;
}

void inode_touch(struct inode *i, struct page *p, uint64_t index)
{
    if (p->listed)
        return;
    if (i->touched_count == i->touched_cap) {
        i->touched_cap = i->touched_cap == 0 ? 64 : i->touched_cap * 2;
        if ((i->touched = realloc(i->touched, i->touched_cap * sizeof(*i->touched))) == NULL)
            abort();
    }
    i->touched[i->touched_count++] = (uint32_t)index;
    p->listed = true;
}

static bool allocate(struct disk *d, struct inode *i, uint64_t offset, uint64_t len)
{
    uint64_t first = offset / DISK_PAGE, end = (offset + len + DISK_PAGE - 1) / DISK_PAGE, more = 0;
    inode_reach(i, end);
    for (uint64_t k = first; k < end; k++)
        more += !(i->allocated[k / 64] >> (k % 64) & 1);
    if (more == 0)
        return true;
    if ((d->pages_used + more) * DISK_PAGE > d->capacity)
        return false;
    for (uint64_t k = first; k < end; k++)
        i->allocated[k / 64] |= UINT64_C(1) << (k % 64);
    i->allocated_pages += more;
    d->pages_used += more;
    return true;
}

/* After a change of size from outside the calls: what is allocated ends with the file. */
void inode_count_pages(struct disk *d, struct inode *i)
{
    uint64_t end = (i->size + DISK_PAGE - 1) / DISK_PAGE, count = 0;
    for (uint64_t k = 0; k < i->page_cap; k++) {
        if (k >= end)
            i->allocated[k / 64] &= ~(UINT64_C(1) << (k % 64));
        count += i->allocated[k / 64] >> (k % 64) & 1;
    }
    d->pages_used += count - i->allocated_pages;
    i->allocated_pages = count;
}

/* --- the calls -------------------------------------------------------------------------------------- */

static int enter(struct disk *d, const struct disk_call *call)
{
    return d->gate.enter == NULL ? DISK_GO : d->gate.enter(d->gate.ctx, call);
}

static int64_t leave(struct disk *d, const struct disk_call *call, int64_t result)
{
    if (d->gate.leave != NULL)
        d->gate.leave(d->gate.ctx, call, result);
    return result;
}

/* A copy: the names move while a call rests, and it is told of twice. */
static const char *fd_name(struct disk *d, int fd)
{
    char *copy = d->fds[fd].name;
    copy[0] = '\0';
    for (unsigned k = 0; k < d->cache.count && copy[0] == '\0'; k++)
        if (d->cache.at[k].inode == d->fds[fd].inode)
            memcpy(copy, d->cache.at[k].text, DISK_NAME_MAX);
    return copy;
}

static struct inode *fd_inode(struct disk *d, int fd)
{
    ensure(fd >= 0 && fd < FDS_MAX);
    ensure(d->fds[fd].open);
    return &d->inodes[d->fds[fd].inode];
}

static int64_t do_open(struct disk *d, const char *name, unsigned flags)
{
    struct name *found = names_find(&d->cache, name);
    if (found != NULL && found->inode < 0)
        return -EISDIR;
    if (found != NULL && (flags & VFS_EXCL) != 0)
        return -EEXIST;
    if (found == NULL && (flags & VFS_CREATE) == 0)
        return -ENOENT;
    if (!dir_exists(d, name))
        return -ENOENT;
    ensure(strlen(name) < DISK_NAME_MAX);
    int fd = 0;
    while (fd < FDS_MAX && d->fds[fd].open)
        fd++;
    if (fd == FDS_MAX)
        return -EMFILE;
    int inode = found != NULL ? found->inode : inode_make(d);
    if (found == NULL) {
        names_put(d, &d->cache, name, inode);
        dirop_add(d, DIROP_LINK, "", name, inode);
    }
    d->fds[fd].open = true;
    d->fds[fd].writable = (flags & VFS_RDWR) != 0;
    d->fds[fd].inode = inode;
    d->inodes[inode].opens++;
    return fd;
}

static int disk_open(void *ctx, const char *name, unsigned flags)
{
    struct disk *d = ctx;
    struct disk_call call = {DISK_OPEN, name, "", flags, 0, false};
    int verdict = enter(d, &call);
    return (int)leave(d, &call, verdict < 0 ? verdict : do_open(d, name, flags));
}

static int disk_close(void *ctx, int fd)
{
    struct disk *d = ctx;
    struct inode *i = fd_inode(d, fd);
    struct disk_call call = {DISK_CLOSE, fd_name(d, fd), "", 0, 0, false};
    int verdict = enter(d, &call);
    d->fds[fd].open = false;
    i->opens--;
    inode_drop_if_unused(d, i);
    return (int)leave(d, &call, verdict < 0 ? verdict : 0);
}

static int64_t do_pread(struct inode *i, uint8_t *into, size_t len, uint64_t offset)
{
    if (offset >= i->size)
        return 0;
    if (len > i->size - offset)
        len = i->size - offset;
    for (size_t at = 0; at < len;) {
        uint64_t index = (offset + at) / DISK_PAGE;
        size_t in = (size_t)((offset + at) % DISK_PAGE), part = DISK_PAGE - in;
        if (part > len - at)
            part = len - at;
        struct page *p = index < i->page_cap ? i->pages[index] : NULL;
        if (p != NULL && p->unreadable != 0)
            for (size_t s = in / DISK_SECTOR; s <= (in + part - 1) / DISK_SECTOR; s++)
                if (p->unreadable >> s & 1)
                    return at > 0 ? (int64_t)at : -EIO;
        if (p != NULL)
            memcpy(into + at, p->cache + in, part);
        else
            memset(into + at, 0, part);
        at += part;
    }
    return (int64_t)len;
}

static ssize_t disk_pread(void *ctx, int fd, void *into, size_t len, uint64_t offset)
{
    struct disk *d = ctx;
    struct inode *i = fd_inode(d, fd);
    struct disk_call call = {DISK_PREAD, fd_name(d, fd), "", offset, len, false};
    int verdict = enter(d, &call);
    return (ssize_t)leave(d, &call, verdict < 0 ? verdict : do_pread(i, into, len, offset));
}

static void write_part(struct disk *d, struct inode *i, const uint8_t *from, size_t len, uint64_t offset)
{
    while (len > 0) {
        uint64_t index = offset / DISK_PAGE;
        size_t in = (size_t)(offset % DISK_PAGE), part = DISK_PAGE - in < len ? DISK_PAGE - in : len;
        struct page *p = inode_page(d, i, index);
        memcpy(p->cache + in, from, part);
        unsigned first = (unsigned)(in / DISK_SECTOR), last = (unsigned)((in + part - 1) / DISK_SECTOR);
        uint8_t mask = (uint8_t)((0xFFu << first) & (0xFFu >> (SECTORS - 1 - last)));
        p->pending |= mask;
        p->written |= mask;
        p->unreadable &= (uint8_t)~mask;
        /* The kernel writes whole pages: what a failed sync left behind goes along. */
        p->pending |= p->strayed;
        p->strayed = 0;
        inode_touch(i, p, index);
        from += part;
        offset += part;
        len -= part;
    }
}

static bool begins_with_zeros(const struct iovec *iov, int n)
{
    const uint8_t *at = n > 0 ? iov[0].iov_base : NULL;
    for (size_t k = 0; n > 0 && k < iov[0].iov_len && k < 16; k++)
        if (at[k] != 0)
            return false;
    return n > 0 && iov[0].iov_len > 0;
}

static ssize_t disk_pwritev(void *ctx, int fd, const struct iovec *iov, int n, uint64_t offset)
{
    struct disk *d = ctx;
    struct inode *i = fd_inode(d, fd);
    uint64_t total = 0;
    for (int k = 0; k < n; k++)
        total += iov[k].iov_len;
    struct disk_call call = {DISK_PWRITEV, fd_name(d, fd), "", offset, total, begins_with_zeros(iov, n)};
    int verdict = enter(d, &call);
    if (verdict < 0)
        return (ssize_t)leave(d, &call, verdict);
    ensure(d->fds[fd].writable);
    uint64_t want = verdict == DISK_SHORT && total > 1 ? (total * 3 / 5 > 0 ? total * 3 / 5 : 1) : total;
    /* A full disk takes the blocks that there are; none at all is the error. */
    while (want > 0 && !allocate(d, i, offset, want)) {
        uint64_t shorter = (offset + want - 1) / DISK_PAGE * DISK_PAGE;
        want = shorter > offset ? shorter - offset : 0;
    }
    if (want == 0 && total > 0)
        return (ssize_t)leave(d, &call, -ENOSPC);
    uint64_t at = 0;
    for (int k = 0; k < n && at < want; k++) {
        uint64_t part = iov[k].iov_len < want - at ? iov[k].iov_len : want - at;
        write_part(d, i, iov[k].iov_base, part, offset + at);
        at += part;
    }
    if (offset + at > i->size)
        i->size = offset + at;
    return (ssize_t)leave(d, &call, (int64_t)at);
}

static void sync_inode(struct inode *i)
{
    for (size_t k = 0; k < i->touched_count; k++) {
        struct page *p = i->pages[i->touched[k]];
        if (p == NULL)
            continue;
        for (unsigned s = 0; s < SECTORS; s++)
            if (p->pending >> s & 1)
                memcpy(p->platter + s * DISK_SECTOR, p->cache + s * DISK_SECTOR, DISK_SECTOR);
        p->pending = 0;
        p->listed = false;
    }
    size_t kept = 0;
    for (size_t k = 0; k < i->touched_count; k++) {
        struct page *p = i->pages[i->touched[k]];
        if (p == NULL || p->strayed == 0 || p->listed)
            continue;
        p->listed = true;
        i->touched[kept++] = i->touched[k];
    }
    i->touched_count = kept;
    i->platter_size = i->size;
}

/* Each other sector reaches the platter; none is pending any more, so a second sync finds nothing to do. */
static void fail_sync(struct inode *i)
{
    for (size_t k = 0; k < i->touched_count; k++) {
        struct page *p = i->pages[i->touched[k]];
        for (unsigned s = 0; p != NULL && s < SECTORS; s++) {
            if (!(p->pending >> s & 1))
                continue;
            if ((i->touched[k] + s) % 2 == 0)
                memcpy(p->platter + s * DISK_SECTOR, p->cache + s * DISK_SECTOR, DISK_SECTOR);
            else
                p->strayed |= (uint8_t)(1u << s);
        }
        if (p != NULL)
            p->pending = 0;
    }
    i->sync_failed = true;
}

static int disk_fdatasync(void *ctx, int fd)
{
    struct disk *d = ctx;
    struct inode *i = fd_inode(d, fd);
    struct disk_call call = {DISK_FDATASYNC, fd_name(d, fd), "", 0, 0, false};
    d->resyncs += i->sync_failed;
    int verdict = enter(d, &call);
    if (verdict == DISK_SYNC_UNKNOWN) {
        fail_sync(i);
        verdict = -EIO;
    }
    if (verdict == DISK_GO && !d->lying)
        sync_inode(i);
    if (verdict < 0)
        i->sync_failed = true;
    return (int)leave(d, &call, verdict);
}

static int disk_fallocate(void *ctx, int fd, uint64_t offset, uint64_t len)
{
    struct disk *d = ctx;
    struct inode *i = fd_inode(d, fd);
    struct disk_call call = {DISK_FALLOCATE, fd_name(d, fd), "", offset, len, false};
    int verdict = enter(d, &call);
    if (verdict >= 0)
        verdict = allocate(d, i, offset, len) ? 0 : -ENOSPC;
    if (verdict == 0 && offset + len > i->size)
        i->size = offset + len;
    return (int)leave(d, &call, verdict);
}

static int disk_ftruncate(void *ctx, int fd, uint64_t len)
{
    static const uint8_t zeros[DISK_PAGE];
    struct disk *d = ctx;
    struct inode *i = fd_inode(d, fd);
    struct disk_call call = {DISK_FTRUNCATE, fd_name(d, fd), "", len, 0, false};
    int verdict = enter(d, &call);
    if (verdict < 0)
        return (int)leave(d, &call, verdict);
    for (uint64_t at = len; at < i->size;) {
        uint64_t index = at / DISK_PAGE, part = DISK_PAGE - at % DISK_PAGE;
        if (index < i->page_cap && i->pages[index] != NULL)
            write_part(d, i, zeros, part, at);
        at += part;
    }
    i->size = len;
    inode_count_pages(d, i);
    return (int)leave(d, &call, 0);
}

static int disk_rename(void *ctx, const char *from, const char *to)
{
    struct disk *d = ctx;
    struct disk_call call = {DISK_RENAME, from, to, 0, 0, false};
    int verdict = enter(d, &call);
    struct name *found = names_find(&d->cache, from);
    if (verdict >= 0 && (found == NULL || !dir_exists(d, to)))
        verdict = -ENOENT;
    if (verdict >= 0) {
        int inode = found->inode;
        ensure(inode >= 0);
        dirop_add(d, DIROP_RENAME, from, to, inode);
        names_put(d, &d->cache, to, inode);
        names_drop(d, &d->cache, from);
    }
    return (int)leave(d, &call, verdict < 0 ? verdict : 0);
}

static int disk_unlink(void *ctx, const char *name)
{
    struct disk *d = ctx;
    struct disk_call call = {DISK_UNLINK, name, "", 0, 0, false};
    int verdict = enter(d, &call);
    struct name *found = names_find(&d->cache, name);
    if (verdict >= 0 && (found == NULL || found->inode < 0))
        verdict = found == NULL ? -ENOENT : -EISDIR;
    if (verdict >= 0) {
        dirop_add(d, DIROP_UNLINK, name, "", found->inode);
        names_drop(d, &d->cache, name);
    }
    return (int)leave(d, &call, verdict < 0 ? verdict : 0);
}

static int disk_mkdir(void *ctx, const char *name)
{
    struct disk *d = ctx;
    struct disk_call call = {DISK_MKDIR, name, "", 0, 0, false};
    int verdict = enter(d, &call);
    if (verdict >= 0 && names_find(&d->cache, name) == NULL) {
        names_put(d, &d->cache, name, -1);
        dirop_add(d, DIROP_LINK, "", name, -1);
    }
    return (int)leave(d, &call, verdict < 0 ? verdict : 0);
}

static int disk_list(void *ctx, const char *dir, int (*each)(void *arg, const char *name), void *arg)
{
    struct disk *d = ctx;
    struct disk_call call = {DISK_LIST, dir, "", 0, 0, false};
    int verdict = enter(d, &call);
    if (verdict >= 0 && strcmp(dir, ".") != 0 && names_find(&d->cache, dir) == NULL)
        verdict = -ENOENT;
    for (unsigned k = 0; verdict >= 0 && k < d->cache.count; k++) {
        if (!name_in(d->cache.at[k].text, dir))
            continue;
        const char *slash = strrchr(d->cache.at[k].text, '/');
        int answer = each(arg, slash == NULL ? d->cache.at[k].text : slash + 1);
        if (answer != 0)
            verdict = answer < 0 ? answer : -ECANCELED;
    }
    return (int)leave(d, &call, verdict < 0 ? verdict : 0);
}

static int disk_fsync_dir(void *ctx, const char *dir)
{
    struct disk *d = ctx;
    struct disk_call call = {DISK_FSYNC_DIR, dir, "", 0, 0, false};
    int verdict = enter(d, &call);
    if (verdict > 0)
        verdict = 0;
    unsigned kept = 0;
    for (unsigned k = 0; verdict == 0 && !d->lying && k < d->dirop_count; k++) {
        struct dirop *op = &d->dirops[k];
        if (!name_in(op->kind == DIROP_UNLINK ? op->from : op->to, dir)) {
            d->dirops[kept++] = *op;
            continue;
        }
        dirop_apply(d, &d->platter, op);
        if (op->inode >= 0) {
            d->inodes[op->inode].platter_links--;
            inode_drop_if_unused(d, &d->inodes[op->inode]);
        }
    }
    if (verdict == 0 && !d->lying)
        d->dirop_count = kept;
    return (int)leave(d, &call, verdict);
}

static int disk_stat(void *ctx, const char *name, struct spool_stat *ret)
{
    struct disk *d = ctx;
    struct disk_call call = {DISK_STAT, name, "", 0, 0, false};
    int verdict = enter(d, &call);
    struct name *found = names_find(&d->cache, name);
    if (verdict >= 0 && found == NULL)
        verdict = -ENOENT;
    if (verdict >= 0) {
        verdict = 0;
        *ret = (struct spool_stat){0};
        if (found->inode >= 0) {
            ret->size = d->inodes[found->inode].size;
            ret->allocated = d->inodes[found->inode].allocated_pages * DISK_PAGE;
        }
    }
    return (int)leave(d, &call, verdict);
}

static int disk_fsinfo(void *ctx, struct spool_fsinfo *ret)
{
    struct disk *d = ctx;
    struct disk_call call = {DISK_FSINFO, ".", "", 0, 0, false};
    int verdict = enter(d, &call);
    uint64_t used = d->pages_used * DISK_PAGE;
    if (verdict >= 0)
        *ret = (struct spool_fsinfo){.free_bytes = d->capacity > used ? d->capacity - used : 0, .type = d->type};
    return (int)leave(d, &call, verdict < 0 ? verdict : 0);
}

static int disk_will_need(void *ctx, int fd, uint64_t offset, uint64_t len)
{
    (void)ctx;
    (void)fd;
    (void)offset;
    (void)len;
    return 0; /* All reads are as fast. */
}

static int disk_dont_need(void *ctx, int fd, uint64_t offset, uint64_t len)
{
    struct disk *d = ctx;
    struct inode *i = fd_inode(d, fd);
    struct disk_call call = {DISK_DONT_NEED, fd_name(d, fd), "", offset, len, false};
    (void)enter(d, &call);
    /* Clean pages leave the cache: what a failed sync pretended to hold is seen as it is. Those beside the range stay. */
    for (size_t k = 0; k < i->touched_count; k++) {
        uint64_t at = (uint64_t)i->touched[k] * DISK_PAGE;
        struct page *p = at >= offset && at + DISK_PAGE <= offset + len ? i->pages[i->touched[k]] : NULL;
        for (unsigned s = 0; p != NULL && s < SECTORS; s++)
            if (p->strayed >> s & 1)
                memcpy(p->cache + s * DISK_SECTOR, p->platter + s * DISK_SECTOR, DISK_SECTOR);
        if (p != NULL)
            p->strayed = 0;
    }
    return (int)leave(d, &call, 0);
}

struct spool_vfs disk_vfs(struct disk *d)
{
    return (struct spool_vfs){
        .ctx = d,
        .open = disk_open,
        .close = disk_close,
        .pread = disk_pread,
        .pwritev = disk_pwritev,
        .fdatasync = disk_fdatasync,
        .fallocate = disk_fallocate,
        .ftruncate = disk_ftruncate,
        .rename = disk_rename,
        .unlink = disk_unlink,
        .mkdir = disk_mkdir,
        .list = disk_list,
        .fsync_dir = disk_fsync_dir,
        .stat = disk_stat,
        .fsinfo = disk_fsinfo,
        .dont_need = disk_dont_need,
        .will_need = disk_will_need,
    };
}
