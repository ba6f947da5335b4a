/* scan: see scan.h. */
#include "lib/spool/scan.h"

#include "lib/base/ensure.h"
#include "lib/spool/branches.h"
#include "lib/spool/bugs.h"

#include <errno.h>
#include <stdlib.h>

#define READ_RETRY_BYTES 4096
#define DOUBTS_MAX 8
#define PROBES 16

static ssize_t pread_fully(const struct spool_vfs *vfs, int fd, uint8_t *into, size_t len, uint64_t offset)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = vfs->pread(vfs->ctx, fd, into + done, len - done, offset + done);
        if (n == -EINTR)
            continue;
        if (n < 0)
            return n;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

size_t scan_pread(const struct spool_vfs *vfs, int fd, void *into, size_t len, uint64_t offset,
                  unsigned *unreadable)
{
    ssize_t n = pread_fully(vfs, fd, into, len, offset);
    if (n < 0) {
        REACHED(READ_REPEATED);
        n = pread_fully(vfs, fd, into, len, offset);
    }
    if (n >= 0)
        return (size_t)n;
    /* Some block in there is bad: take the others. */
    size_t done = 0;
    while (done < len) {
        size_t part = READ_RETRY_BYTES - (offset + done) % READ_RETRY_BYTES;
        if (part > len - done)
            part = len - done;
        n = pread_fully(vfs, fd, (uint8_t *)into + done, part, offset + done);
        if (n < 0) {
            REACHED(BLOCK_UNREADABLE);
            memset((uint8_t *)into + done, 0, part);
            (*unreadable)++;
        } else if ((size_t)n < part) {
            return done + (size_t)n;
        }
        done += part;
    }
    return done;
}

bool scan_answers(const struct spool_vfs *vfs, int fd, uint64_t size)
{
    uint8_t sector[512];
    for (unsigned i = 0; i < PROBES; i++)
        if (pread_fully(vfs, fd, sector, sizeof sector, size / PROBES * i) >= 0)
            return true;
    return false;
}

void scan_init(struct scan *s, const struct spool_vfs *vfs, int fd, const struct segment_header *header,
               uint64_t end)
{
    *s = (struct scan){.vfs = vfs,
                       .fd = fd,
                       .header = *header,
                       .tag = segment_tag(header->salt),
                       .payload_max = header->capacity,
                       .at = SEGMENT_HEADER_AREA,
                       .end = end,
                       .prev_hcrc = header->hcrc,
                       .chained = true};
}

void scan_seek(struct scan *s, uint64_t at)
{
    s->at = at;
    s->chained = at == SEGMENT_HEADER_AREA;
    s->prev_hcrc = s->header.hcrc;
}

void scan_deinit(struct scan *s)
{
    free(s->buffer);
    s->buffer = NULL;
    s->buffer_len = 0;
}

struct chunk *scan_take(struct scan *s, const uint8_t *payload)
{
    struct chunk *taken = s->buffer;
    if (payload != taken->data + FRAME_HEADER_BYTES)
        return NULL;
    s->buffer = NULL;
    s->buffer_len = 0;
    return taken;
}

/* Bytes at an offset, `want` of them if they are there; NULL when fewer than `need` are. */
static const uint8_t *window(struct scan *s, uint64_t at, size_t need)
{
    if (at + need > s->end)
        return NULL;
    if (at >= s->buffer_at && at + need <= s->buffer_at + s->buffer_len)
        return s->buffer->data + (at - s->buffer_at);
    size_t cap = need > SCAN_BUFFER_BYTES ? (size_t)frame_bytes((uint32_t)need) : SCAN_BUFFER_BYTES;
    if (s->buffer == NULL || cap > s->buffer->cap) {
        free(s->buffer);
        s->buffer = chunk_new((uint32_t)cap);
    }
    size_t len = s->end - at < cap ? (size_t)(s->end - at) : cap;
    s->buffer_at = at;
    s->buffer_len = scan_pread(s->vfs, s->fd, s->buffer->data, len, at, &s->unreadable);
    return s->buffer_len >= need ? s->buffer->data : NULL;
}

static bool zero_at(struct scan *s, uint64_t at)
{
    const uint8_t *p = window(s, at, 4);
    return p == NULL || le32_get(p) == 0;
}

/* Commits start on a boundary of their own: zeros up to the next one are no end. In a full spool, commits
 * keep to 512 instead of the usual alignment, so every such step is looked at. */
static uint64_t behind_gap(struct scan *s)
{
    uint64_t at = s->at;
    uint32_t align = s->header.commit_align;
    while (align > FRAME_ALIGN && at % align != 0 && zero_at(s, at)) {
        at = (at / 512 + 1) * 512;
        if (at >= s->end)
            return s->end;
    }
    return at;
}

static bool chain_good(const struct scan *s, const struct frame *f)
{
    return !s->chained || f->prev_hcrc == s->prev_hcrc;
}

static enum scan_result look(struct scan *s, struct frame *ret, const uint8_t **ret_payload)
{
    s->bad_payload = false;
    if (s->at + FRAME_HEADER_BYTES > s->end)
        return SCAN_END;
    uint64_t at = behind_gap(s);
    if (at + FRAME_HEADER_BYTES > s->end)
        return SCAN_END;
    struct frame f;
    const uint8_t *header = window(s, at, FRAME_HEADER_BYTES);
    if (header == NULL || !frame_parse(header, at, s->tag, s->payload_max, &f) || !chain_good(s, &f))
        return SCAN_BAD;
    const uint8_t *whole = window(s, at, FRAME_HEADER_BYTES + (size_t)f.payload_len);
    const uint8_t *payload = whole == NULL ? NULL : whole + FRAME_HEADER_BYTES;
    if (payload == NULL || !frame_payload_good(&f, s->tag, payload) ||
        (f.type == FRAME_DATA &&
         !frame_events_check(span_of(payload, f.payload_len), f.seq, f.count, NULL))) {
        s->at = at;
        s->bad_payload = true;
        s->bad_bytes = (uint32_t)frame_bytes(f.payload_len);
        s->prev_hcrc = f.hcrc;
        return SCAN_BAD;
    }
    s->at = at + frame_bytes(f.payload_len);
    s->prev_hcrc = f.hcrc;
    s->chained = true;
    *ret = f;
    *ret_payload = payload;
    return SCAN_FRAME;
}

/* A reading that does not check out is done once more before it counts as damage; from the disk, and not from
 * the page cache, when that is known to hold nothing else. A file that is bad all over is believed in the
 * end. */
enum scan_result scan_next(struct scan *s, struct frame *ret, const uint8_t **ret_payload)
{
    struct scan before = *s;
    enum scan_result result = look(s, ret, ret_payload);
    if (result != SCAN_BAD || s->buffer_len == 0 || s->doubts == DOUBTS_MAX)
        return result;
    s->doubts++;
    REACHED(DOUBT);
    if (s->synced)
        (void)s->vfs->dont_need(s->vfs->ctx, s->fd, s->buffer_at, s->buffer_len); /* Only advice. */
    s->buffer_len = 0;
    s->at = before.at;
    s->prev_hcrc = before.prev_hcrc;
    s->chained = before.chained;
    return look(s, ret, ret_payload);
}

bool scan_resync(struct scan *s)
{
    struct frame f;
    if (BUG(16)) {
        s->at = s->end;
        return false;
    }
    if (s->bad_payload) {
        /* The header tells where the next frame is, and its own CRC is the next link. */
        s->bad_payload = false;
        s->at += s->bad_bytes;
        s->chained = true;
        if (s->at + FRAME_HEADER_BYTES > s->end)
            return false;
        uint64_t at = behind_gap(s);
        const uint8_t *header = window(s, at, FRAME_HEADER_BYTES);
        if (header != NULL && frame_parse(header, at, s->tag, s->payload_max, &f) && chain_good(s, &f)) {
            REACHED(RESYNC_LINK);
            s->at = at;
            return true;
        }
    } else {
        s->at += FRAME_ALIGN;
    }
    s->chained = false;
    for (; s->at + FRAME_HEADER_BYTES <= s->end; s->at += FRAME_ALIGN) {
        const uint8_t *header = window(s, s->at, FRAME_HEADER_BYTES);
        if (header == NULL)
            break;
        if (frame_parse(header, s->at, s->tag, s->payload_max, &f)) {
            REACHED(RESYNC_SEARCH);
            return true;
        }
    }
    REACHED(RESYNC_NONE);
    s->at = s->end;
    return false;
}
