/* scan: reads a segment file frame by frame, as recovery, cold reads and verification do. Runs inside jobs.
 *
 * A frame is good when its header is one of ours at its own place, it carries on the chain, its payload's
 * checksum holds and its events are well formed. At anything else the scan stops with SCAN_BAD; scan_resync()
 * then looks for the next good header. Sectors that cannot be read twice count as zeros, that is as damage.
 */
#ifndef PENSTOCK_SPOOL_SCAN_H
#define PENSTOCK_SPOOL_SCAN_H

#include "lib/spool/format.h"
#include "lib/spool/frame.h"
#include "lib/spool/tail.h"
#include "lib/spool/vfs.h"

#define SCAN_BUFFER_BYTES (256 * 1024)

struct scan {
    const struct spool_vfs *vfs;
    int fd;
    struct segment_header header;
    uint32_t tag;
    uint64_t payload_max;
    uint64_t at;  /* of the next frame */
    uint64_t end; /* nothing from here on is looked at */
    uint32_t prev_hcrc;
    bool chained;        /* prev_hcrc is known */
    bool bad_payload;    /* after SCAN_BAD: the header there is good */
    uint32_t bad_bytes;  /* and the frame this long */
    unsigned unreadable; /* blocks that pread failed on */
    unsigned doubts;     /* bad bytes that have been read twice */
    /* All of it has been synced with success: the page cache may be told to forget it. Else it may hold what
     * the disk has not got, and never will have after a failed sync. Set behind scan_init(). */
    bool synced;
    struct chunk *buffer; /* its data; the rest of it is for who takes it */
    size_t buffer_len;
    uint64_t buffer_at;
};

/* From the first frame of the segment on. scan_deinit() leaves the fd open: it is the caller's. */
void scan_init(struct scan *s, const struct spool_vfs *vfs, int fd, const struct segment_header *header,
               uint64_t end);
/* From a frame boundary in the middle: the chain is taken up there. */
void scan_seek(struct scan *s, uint64_t at);
void scan_deinit(struct scan *s);

enum scan_result { SCAN_FRAME, SCAN_BAD, SCAN_END };
/* SCAN_FRAME: *ret and *ret_payload (good until the next call), and s->at is behind it.
 * SCAN_BAD: s->at is where the bad bytes begin. */
enum scan_result scan_next(struct scan *s, struct frame *ret, const uint8_t **ret_payload);
/* After SCAN_FRAME: the buffer, which is the caller's from now on, if it begins with that frame; else NULL. */
struct chunk *scan_take(struct scan *s, const uint8_t *payload);
/* After SCAN_BAD: moves s->at to the next good header; false when there is none before the end. */
bool scan_resync(struct scan *s);

/* Reads `len` bytes unless the file ends before; returns how many. Interrupted and short reads go on; what
 * cannot be read twice is zeros, and counted. */
size_t scan_pread(const struct spool_vfs *vfs, int fd, void *into, size_t len, uint64_t offset,
                  unsigned *unreadable);

/* For a file some of which could not be read: are those places damage? Else nothing that was looked at all over the file
 * can be read either, and so it is the disk that does not answer: whatever is there may be read another time. In a small
 * file a few bad sectors may be most of it, and must not refuse every start for ever. */
bool scan_answers(const struct spool_vfs *vfs, int fd, uint64_t size);

#endif
