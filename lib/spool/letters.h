/* letters: the dead letters' files.
 *
 * dead/dlq-<id>.wal has a segment's header (flag 4) and frames. A letter is a DATA frame of one event whose
 * seq is the letter's id, with this extension behind the event: u64 wall_ns of death | u64 seq | u64 epoch |
 * u64 batch_no | u32 status | u32 attempts | u8 reason | u8 zero | u16 answer_len | u32 zero | answer Ids are
 * dense: those of a file run from its header's first_seq to before the next file's. Which of them no longer
 * count (replayed, purged, or written just before a crash that came before their DEAD) is said by MARKS ops:
 * each new file begins with all that matter (twice), later ones follow as they come. A file without living
 * letters is deleted. Each process begins files of its own; none is ever rewritten. */
#ifndef PENSTOCK_SPOOL_LETTERS_H
#define PENSTOCK_SPOOL_LETTERS_H

#include "lib/spool/format.h"
#include "lib/spool/frame.h"
#include "lib/spool/intervals.h"
#include "lib/spool/tail.h"
#include "lib/spool/vfs.h"

#define LETTER_ANSWER_MAX 1024
#define LETTERS_UNUSABLE 8
#define DEAD_FILE_CAPACITY \
    (UINT64_C(4) * FRAME_PAYLOAD_MAX) /* allows letters of any event; files end far earlier */

struct dead_file {
    uint64_t id;
    uint64_t first, next; /* letters first .. next - 1 */
    uint64_t allocated;
};

struct letters {
    struct dead_file *files; /* by id; and so by letters */
    size_t file_count, file_cap;
    uint64_t next_file;
    uint64_t next_letter;
    struct intervals gone; /* letters in these files that do not count */
    uint64_t marks_from;   /* the newest file that surely begins with all marks; 0: none does */
    unsigned damaged;      /* files that could not be used; the first of them: */
    struct {
        uint64_t id;
        bool empty; /* nothing was ever in it: a power loss while it was made */
    } unusable[LETTERS_UNUSABLE];
};

void letters_deinit(struct letters *l);
/* Reads what there is, in a job. Damaged files are left out and counted; `why` is filled for the last of
 * them. OK, or ERR_UNSUPPORTED, or ERR_IO. */
MUST_USE enum err letters_scan(struct letters *l, const struct spool_vfs *vfs, const uint8_t uuid[16],
                               struct fault *why);
uint64_t letters_living(const struct letters *l);
uint64_t letters_living_in(const struct letters *l, const struct dead_file *f);
uint64_t letters_allocated(const struct letters *l);
void letters_add_file(struct letters *l, const struct dead_file *f);
void letters_remove_file(struct letters *l, uint64_t id);
/* The file that a letter >= id may be in first; NULL when there is none. */
const struct dead_file *letters_file_from(const struct letters *l, uint64_t id);

/* Appends an unsealed frame with one letter. */
void letter_put(struct bytes *to, uint64_t letter_id, const struct spool_item *item,
                const struct spool_death *death, const struct spool_batch_id *batch, uint64_t wall_ns);
/* From a frame; spans into it. False when it is no letter. */
MUST_USE bool letter_get(const uint8_t *frame, struct spool_letter *ret, uint16_t *ret_api_version);
/* Appends an unsealed frame of MARKS. */
void letters_put_marks(struct bytes *to, const struct intervals *marks, uint64_t next_letter);

#endif
