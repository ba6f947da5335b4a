/* slack: room that was reserved and is not needed. See recover.h; part of step 8 of a start.
 *
 * Every start begins a segment, and leaves one behind that is mostly room reserved for commits that never came, and
 * originals of what was copied. Were they kept, a few starts in an outage would use up the quota for next to nothing.
 * So once the new segment is in force, each file gives back what stands behind its end.
 *
 * When the disk is full, there is no room for a new segment, and what the next start lives on must be given back before:
 * only what says nothing, that is files that hold nothing, and the zeros at the ends of the others, behind their last
 * frame, whose own last bytes may be zeros as well. Nothing here needs to be durable, nor in any order. */
#include "lib/base/ensure.h"
#include "lib/spool/internal.h"
#include "lib/spool/recover.h"

#include <stdlib.h>

#define LOOK_BYTES (64 * 1024)
#define BLOCK 4096

/* Bytes up to the last one that is not zero; all of them when some cannot be read. */
static uint64_t content_end(const struct recovery *r, int fd, uint64_t size, uint8_t *buffer)
{
    for (uint64_t end = size; end > 0;) {
        uint64_t from = end > LOOK_BYTES ? end - LOOK_BYTES : 0;
        unsigned unreadable = 0;
        size_t n = scan_pread(&r->vfs, fd, buffer, (size_t)(end - from), from, &unreadable);
        if (unreadable > 0 || n < end - from)
            return size;
        while (n > 0 && buffer[n - 1] == 0)
            n--;
        if (n > 0)
            return from + n;
        end = from;
    }
    return 0;
}

static void cut(const struct recovery *r, struct found *f, const char *name, int fd, uint64_t end)
{
    struct spool_stat st;
    end = align_up(end, BLOCK);
    if (end >= f->size || r->vfs.ftruncate(r->vfs.ctx, fd, end) < 0)
        return;
    f->size = end;
    if (r->vfs.stat(r->vfs.ctx, name, &st) >= 0)
        f->allocated = st.allocated;
}

void recovery_cut_zeros(const struct recovery *r, struct found *f)
{
    char name[SEGMENT_NAME_MAX];
    segment_name(f->id, name);
    int fd = r->vfs.open(r->vfs.ctx, name, VFS_RDWR);
    if (fd < 0)
        return;
    uint8_t *buffer = must_alloc(LOOK_BYTES);
    uint64_t end = content_end(r, fd, f->size, buffer), frames = f->end > f->used ? f->end : f->used;
    free(buffer);
    cut(r, f, name, fd, end > frames ? end : frames);
    (void)r->vfs.close(r->vfs.ctx, fd); /* Nothing was written. */
}

void recovery_cut_ends(const struct recovery *r)
{
    char name[SEGMENT_NAME_MAX];
    for (size_t i = 0; i < r->valid_count; i++) {
        struct found *f = r->valid[i];
        if (!f->sealed || align_up(f->end, BLOCK) >= f->size)
            continue;
        segment_name(f->id, name);
        int fd = r->vfs.open(r->vfs.ctx, name, VFS_RDWR);
        if (fd < 0)
            continue; /* The next start tries again. */
        cut(r, f, name, fd, f->end);
        (void)r->vfs.close(r->vfs.ctx, fd); /* Nothing was written. */
    }
}

void recovery_give_back(struct recovery *r)
{
    char name[SEGMENT_NAME_MAX];
    for (size_t i = 0; i < r->found_count; i++) {
        struct found *f = &r->found[i];
        if (f->kind == SEGMENT_VALID) {
            recovery_cut_zeros(r, f);
        } else if (f->kind == SEGMENT_PREPARED) {
            segment_name(f->id, name);
            (void)r->vfs.unlink(r->vfs.ctx, name); /* If not now, then once the start has been made. */
        }
    }
}
