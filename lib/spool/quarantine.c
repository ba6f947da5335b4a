/* quarantine: see quarantine.h. */
#include "lib/spool/quarantine.h"

#include "lib/base/bytes.h"
#include "lib/spool/format.h"
#include "lib/spool/scan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_BYTES 80

static int count_entry(void *arg, const char *name)
{
    unsigned *count = arg;
    (void)name;
    (*count)++;
    return 0;
}

static bool has_room(const struct spool_vfs *vfs)
{
    unsigned count = 0;
    if (vfs->mkdir(vfs->ctx, QUARANTINE_DIR) < 0)
        return false;
    return vfs->list(vfs->ctx, QUARANTINE_DIR, count_entry, &count) >= 0 && count < QUARANTINE_FILES_MAX;
}

void quarantine_range(const struct spool_vfs *vfs, int fd, uint64_t segment, uint64_t offset, uint64_t len)
{
    char name[NAME_MAX_BYTES];
    (void)snprintf(name, sizeof name, QUARANTINE_DIR "/%016llx-%llx-%llx.bad", (unsigned long long)segment,
                   (unsigned long long)offset, (unsigned long long)len);
    if (len == 0 || !has_room(vfs))
        return;
    if (len > QUARANTINE_BYTES_MAX)
        len = QUARANTINE_BYTES_MAX;
    int to = vfs->open(vfs->ctx, name, VFS_RDWR | VFS_CREATE | VFS_EXCL);
    if (to < 0)
        return; /* Usually because it is there already. */
    unsigned unreadable = 0;
    uint8_t *copy = must_alloc((size_t)len);
    size_t n = scan_pread(vfs, fd, copy, (size_t)len, offset, &unreadable);
    (void)vfs->pwritev(vfs->ctx, to, &(struct iovec){.iov_base = copy, .iov_len = n}, 1,
                       0); /* As said: best effort. */
    (void)vfs->fdatasync(vfs->ctx, to);
    (void)vfs->close(vfs->ctx, to);
    (void)vfs->fsync_dir(vfs->ctx, QUARANTINE_DIR);
    free(copy);
}

void quarantine_file(const struct spool_vfs *vfs, const char *name)
{
    char to[NAME_MAX_BYTES];
    const char *slash = strrchr(name, '/');
    (void)snprintf(to, sizeof to, QUARANTINE_DIR "/%.60s", slash == NULL ? name : slash + 1);
    if (!has_room(vfs) || vfs->rename(vfs->ctx, name, to) < 0)
        return;
    (void)vfs->fsync_dir(vfs->ctx, QUARANTINE_DIR); /* Found and moved again at the next start otherwise. */
    (void)vfs->fsync_dir(vfs->ctx, ".");
}
