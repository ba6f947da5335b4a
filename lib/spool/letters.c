/* letters: see letters.h. */
#include "lib/spool/letters.h"

#include "lib/base/ensure.h"
#include "lib/spool/ops.h"
#include "lib/spool/scan.h"
#include "lib/spool/varint.h"

#include <errno.h>
#include <stdlib.h>

#define EXTENSION_BYTES 48

void letters_deinit(struct letters *l)
{
    free(l->files);
    intervals_deinit(&l->gone);
    *l = (struct letters){0};
}

/* --- files ------------------------------------------------------------------------------------------------
 */

void letters_add_file(struct letters *l, const struct dead_file *f)
{
    if (l->file_count == l->file_cap) {
        l->file_cap = l->file_cap == 0 ? 8 : l->file_cap * 2;
        l->files = must_realloc(l->files, l->file_cap * sizeof *l->files);
    }
    l->files[l->file_count++] = *f;
}

void letters_remove_file(struct letters *l, uint64_t id)
{
    for (size_t i = 0; i < l->file_count; i++) {
        const struct dead_file *f = &l->files[i];
        if (f->id != id)
            continue;
        /* As a start will see it: the file before it seems to reach up to the one behind it, so what was in
         * between must stay marked as gone. */
        if (i > 0)
            l->files[i - 1].next = f->next;
        else if (f->next > f->first)
            (void)intervals_remove(&l->gone, f->first, f->next - 1); /* They left with the file. */
        l->file_count--;
        memmove(l->files + i, l->files + i + 1, (l->file_count - i) * sizeof *l->files);
        return;
    }
}

const struct dead_file *letters_file_from(const struct letters *l, uint64_t id)
{
    for (size_t i = 0; i < l->file_count; i++)
        if (l->files[i].next > id && l->files[i].next > l->files[i].first)
            return &l->files[i];
    return NULL;
}

uint64_t letters_living_in(const struct letters *l, const struct dead_file *f)
{
    if (f->next == f->first)
        return 0;
    return f->next - f->first - intervals_count(&l->gone, f->first, f->next - 1);
}

uint64_t letters_living(const struct letters *l)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < l->file_count; i++)
        sum += letters_living_in(l, &l->files[i]);
    return sum;
}

uint64_t letters_allocated(const struct letters *l)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < l->file_count; i++)
        sum += l->files[i].allocated;
    return sum;
}

/* --- frames -----------------------------------------------------------------------------------------------
 */

static void append(struct bytes *to, const void *at, size_t len)
{
    enum err err = bytes_append(to, span_of(at, len));
    ensure(err == OK); /* Bounded by what a batch can hold. */
}

static void finish_frame(struct bytes *to, size_t start, uint8_t type, uint16_t count, uint64_t seq)
{
    static const uint8_t zeros[FRAME_ALIGN];
    size_t payload = to->len - start - FRAME_HEADER_BYTES;
    append(to, zeros, (size_t)frame_bytes((uint32_t)payload) - FRAME_HEADER_BYTES - payload);
    frame_begin(to->at + start, type, count, (uint32_t)payload, seq);
}

void letter_put(struct bytes *to, uint64_t letter_id, const struct spool_item *item,
                const struct spool_death *death, const struct spool_batch_id *batch, uint64_t wall_ns)
{
    size_t start = to->len;
    uint8_t raw[FRAME_HEADER_BYTES + DATA_HEAD_BYTES + VARINT_MAX] = {0};
    uint8_t *head = raw + FRAME_HEADER_BYTES;
    le64_put(head, item->wall_ns);
    le16_put(head + 10, item->api_version);
    bool named = item->partition.len > 0;
    le16_put(head + 12, named ? 1 : 0);
    uint8_t *at = head + DATA_HEAD_BYTES;
    if (named)
        at = varint_put(at, item->partition.len);
    append(to, raw, (size_t)(at - raw));
    append(to, item->partition.at, item->partition.len);
    uint8_t lengths[4 * VARINT_MAX];
    at = varint_put(lengths, item->body.len);
    at = varint_put(at, 0);
    at = varint_put(at, named ? 1 : 0);
    at = varint_put(at, item->id.len);
    append(to, lengths, (size_t)(at - lengths));
    append(to, item->id.at, item->id.len);
    append(to, item->body.at, item->body.len);
    size_t answer = death->answer.len < LETTER_ANSWER_MAX ? death->answer.len : LETTER_ANSWER_MAX;
    uint8_t extension[EXTENSION_BYTES] = {0};
    le64_put(extension, wall_ns);
    le64_put(extension + 8, item->seq);
    le64_put(extension + 16, batch->epoch);
    le64_put(extension + 24, batch->batch_no);
    le32_put(extension + 32, death->status);
    le32_put(extension + 36, death->attempts);
    extension[40] = death->reason;
    le16_put(extension + 42, (uint16_t)answer);
    append(to, extension, sizeof extension);
    append(to, death->answer.at, answer);
    finish_frame(to, start, FRAME_DATA, 1, letter_id);
}

bool letter_get(const uint8_t *frame, struct spool_letter *ret, uint16_t *ret_api_version)
{
    struct frame_events events;
    struct spool_item item;
    struct span payload = span_of(frame + FRAME_HEADER_BYTES, frame_payload_len(frame));
    if (frame_count(frame) != 1 || !frame_events_open(&events, payload, frame_seq(frame), 1) ||
        !frame_events_next(&events, &item))
        return false;
    const uint8_t *at = events.at;
    if (events.end - at < EXTENSION_BYTES || events.end - at - EXTENSION_BYTES < le16_get(at + 42) ||
        at[40] >= SPOOL_DEAD_REASONS)
        return false;
    *ret = (struct spool_letter){.letter_id = frame_seq(frame),
                                 .seq = le64_get(at + 8),
                                 .wall_ns = le64_get(at),
                                 .received_wall_ns = item.wall_ns,
                                 .batch = {.epoch = le64_get(at + 16), .batch_no = le64_get(at + 24)},
                                 .reason = at[40],
                                 .status = le32_get(at + 32),
                                 .attempts = le32_get(at + 36),
                                 .answer = span_of(at + EXTENSION_BYTES, le16_get(at + 42)),
                                 .partition = item.partition,
                                 .id = item.id,
                                 .body = item.body};
    *ret_api_version = item.api_version;
    return true;
}

void letters_put_marks(struct bytes *to, const struct intervals *marks, uint64_t next_letter)
{
    static const uint8_t head[FRAME_HEADER_BYTES];
    struct spool_run runs[256];
    size_t start = to->len;
    append(to, head, sizeof head);
    for (size_t i = 0; i < marks->len;) {
        unsigned n = 0;
        for (; n < 256 && i < marks->len; i++, n++)
            runs[n] = (struct spool_run){marks->at[i].first, marks->at[i].last - marks->at[i].first + 1};
        enum err err = op_put_runs(to, OP_MARKS, runs, n);
        ensure(err == OK);
    }
    finish_frame(to, start, FRAME_CTRL, 0, next_letter);
}

/* --- finding them again -----------------------------------------------------------------------------------
 */

struct scan_state {
    struct letters *l;
    const struct spool_vfs *vfs;
    const uint8_t *uuid;
    struct fault *why;
};

static int note_file(void *arg, const char *name)
{
    struct letters *l = arg;
    uint64_t id;
    if (!segment_name_parse(name, "dlq-", &id))
        return 0;
    letters_add_file(l, &(struct dead_file){.id = id});
    if (id >= l->next_file)
        l->next_file = id + 1;
    return 0;
}

static int by_id(const void *a, const void *b)
{
    const struct dead_file *x = a, *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}

static void apply_marks(struct letters *l, struct span ops)
{
    struct op op;
    struct spool_run run;
    while (ops.len > 0 && op_next(&ops, &op))
        while (op.code == OP_MARKS && op_run_next(&op.runs, &run))
            (void)intervals_add(&l->gone, run.first, run.first + run.count - 1); /* Counted by file. */
}

/* All of a file: where its letters end (of the newest; of the others their successors tell), and what it says
 * about which letters count. Returns whether that is all: when the marks that it began with are torn, its
 * elders' are needed as well. */
static bool scan_content(struct scan_state *s, int fd, const struct segment_header *header, uint64_t size,
                         struct dead_file *f, unsigned *unreadable)
{
    struct scan scan;
    struct frame frame;
    const uint8_t *payload;
    bool letters = false, whole = (header->flags & SEGMENT_MARKS_FIRST) == 0;
    scan_init(&scan, s->vfs, fd, header, size);
    for (;;) {
        enum scan_result result = scan_next(&scan, &frame, &payload);
        if (result == SCAN_END || (result == SCAN_BAD && !scan_resync(&scan)))
            break;
        if (result == SCAN_BAD)
            continue;
        letters = letters || frame.type == FRAME_DATA;
        whole = whole || (frame.type == FRAME_CTRL && !letters);
        if (frame.type == FRAME_DATA && frame.seq >= f->next)
            f->next = frame.seq + frame.count;
        else if (frame.type == FRAME_CTRL)
            apply_marks(s->l, span_of(payload, frame.payload_len));
    }
    *unreadable += scan.unreadable;
    scan_deinit(&scan);
    return whole;
}

/* Header, size, and for the newest ones the content. *ret_good is false when the file cannot be used. One that cannot be
 * read at all fails the start: its letters would count as lost. */
static enum err scan_file(struct scan_state *s, struct dead_file *f, bool *ret_good, bool *ret_empty)
{
    uint8_t area[SEGMENT_HEADER_AREA];
    char name[SEGMENT_NAME_MAX];
    struct segment_header header;
    struct spool_stat st = {0};
    enum segment_kind kind = SEGMENT_DAMAGED;
    unsigned unreadable = 0;
    dead_name(f->id, name);
    int fd = s->vfs->open(s->vfs->ctx, name, VFS_RDONLY);
    int err = fd < 0 ? fd : s->vfs->stat(s->vfs->ctx, name, &st);
    if (err >= 0) {
        size_t n = scan_pread(s->vfs, fd, area, sizeof area, 0, &unreadable);
        kind = segment_header_decode(span_of(area, n), &header, s->why);
    }
    *ret_empty = kind == SEGMENT_PREPARED && unreadable == 0;
    *ret_good = kind == SEGMENT_VALID && memcmp(header.uuid, s->uuid, sizeof header.uuid) == 0 && header.id == f->id;
    if (*ret_good) {
        f->first = f->next = header.first_seq;
        f->allocated = st.allocated;
        /* No file before one that begins with all marks has to say anything more. */
        if (s->l->marks_from == 0 && scan_content(s, fd, &header, st.size, f, &unreadable))
            s->l->marks_from = f->id;
    }
    if (unreadable > 0 && !scan_answers(s->vfs, fd, st.size))
        err = -EIO;
    if (fd >= 0)
        (void)s->vfs->close(s->vfs->ctx, fd); /* Nothing was written. */
    if (err < 0)
        return fault_sys(s->why, err, "read %s", name);
    return kind == SEGMENT_UNSUPPORTED ? fault_context(s->why, "%s", name) : OK;
}

enum err letters_scan(struct letters *l, const struct spool_vfs *vfs, const uint8_t uuid[16],
                      struct fault *why)
{
    struct scan_state s = {.l = l, .vfs = vfs, .uuid = uuid, .why = why};
    l->next_file = 1;
    int err = vfs->list(vfs->ctx, DEAD_DIR, note_file, l);
    if (err == -ENOENT)
        return OK;
    if (err < 0)
        return fault_sys(why, err, "list %s", DEAD_DIR);
    if (l->file_count > 1)
        qsort(l->files, l->file_count, sizeof *l->files, by_id);
    /* From the newest back: each file's letters end where the next one's begin. */
    size_t kept = l->file_count;
    uint64_t next_first = 0;
    for (size_t i = l->file_count; i-- > 0;) {
        struct dead_file f = l->files[i];
        bool good, empty = false;
        enum err e = scan_file(&s, &f, &good, &empty);
        if (e != OK)
            return e;
        if (good && next_first != 0 && f.first > next_first)
            good = false;
        if (!good) {
            if (l->damaged < LETTERS_UNUSABLE) {
                l->unusable[l->damaged].id = f.id;
                l->unusable[l->damaged].empty = empty;
            }
            l->damaged++;
            continue;
        }
        if (next_first != 0)
            f.next = next_first;
        next_first = f.first;
        if (f.next > l->next_letter)
            l->next_letter = f.next;
        l->files[--kept] = f;
    }
    l->file_count -= kept;
    if (l->file_count > 0)
        memmove(l->files, l->files + kept, l->file_count * sizeof *l->files);
    return OK;
}
