/* format: see format.h. */
#include "lib/spool/format.h"

#include "lib/base/crc32c.h"
#include "lib/base/le.h"
#include "lib/spool/branches.h"

#include <stdio.h>

static const uint8_t format_magic[8] = {'S', 'P', 'L', 'F', 'M', 'T', '1', '\n'};
static const uint8_t segment_magic[8] = {'S', 'P', 'L', 'S', 'E', 'G', '1', '\n'};

/* Same magic but for the digit: a generation of the format that we do not know. */
static bool magic_of_other_generation(const uint8_t *at, const uint8_t ours[8])
{
    return memcmp(at, ours, 6) == 0 && at[6] != ours[6] && at[7] == '\n';
}

static enum err unsupported(struct fault *why, unsigned major, unsigned minor, uint32_t incompat)
{
    return fault_set(
        why, ERR_UNSUPPORTED,
        "format version %u.%u (incompatible features 0x%x) is newer than version %d.%d of this program",
        major, minor, incompat, SPOOL_FORMAT_MAJOR, SPOOL_FORMAT_MINOR);
}

void format_encode(const struct format_id *id, uint8_t out[FORMAT_BYTES])
{
    memset(out, 0, FORMAT_BYTES);
    memcpy(out, format_magic, 8);
    le16_put(out + 8, id->major);
    le16_put(out + 10, id->minor);
    le32_put(out + 12, id->incompat);
    memcpy(out + 16, id->uuid, 16);
    le64_put(out + 32, id->wall_ns);
    le32_put(out + 40, id->compat);
    le32_put(out + 60, crc32c(0, out, 60));
}

enum err format_decode(struct span file, struct format_id *ret, struct fault *why)
{
    if (file.len < FORMAT_BYTES)
        return fault_set(why, ERR_CORRUPT, "%s is %zu bytes long, not %d", FORMAT_FILE, file.len,
                         FORMAT_BYTES);
    const uint8_t *at = file.at;
    if (le32_get(at + 60) != crc32c(0, at, 60))
        return fault_set(why, ERR_CORRUPT, "%s: bad checksum", FORMAT_FILE);
    struct format_id id = {.major = le16_get(at + 8),
                           .minor = le16_get(at + 10),
                           .incompat = le32_get(at + 12),
                           .wall_ns = le64_get(at + 32),
                           .compat = le32_get(at + 40)};
    memcpy(id.uuid, at + 16, 16);
    if (magic_of_other_generation(at, format_magic))
        return unsupported(why, id.major, id.minor, id.incompat);
    if (memcmp(at, format_magic, 8) != 0)
        return fault_set(why, ERR_CORRUPT, "%s: bad magic", FORMAT_FILE);
    if (id.major != SPOOL_FORMAT_MAJOR || id.incompat != 0)
        return unsupported(why, id.major, id.minor, id.incompat);
    *ret = id;
    return OK;
}

void segment_header_encode(struct segment_header *h, uint8_t area[SEGMENT_HEADER_AREA])
{
    uint8_t *at = area;
    memset(area, 0, SEGMENT_HEADER_AREA);
    memcpy(at, segment_magic, 8);
    le16_put(at + 8, h->major);
    le16_put(at + 10, h->minor);
    le32_put(at + 12, h->incompat);
    memcpy(at + 16, h->uuid, 16);
    le64_put(at + 32, h->id);
    le64_put(at + 40, h->salt);
    le64_put(at + 48, h->first_seq);
    le64_put(at + 56, h->epoch);
    le64_put(at + 64, h->prev_id);
    le64_put(at + 72, h->prev_end);
    le64_put(at + 80, h->prev_next_seq);
    le32_put(at + 88, h->prev_last_hcrc);
    le32_put(at + 92, h->commit_align);
    le64_put(at + 96, h->capacity);
    le64_put(at + 104, h->wall_ns);
    le32_put(at + 112, h->flags);
    le32_put(at + 116, h->prev_flags);
    h->hcrc = crc32c(0, at, 124);
    le32_put(at + 124, h->hcrc);
    memcpy(area + SEGMENT_HEADER_COPY, at, SEGMENT_HEADER_BYTES);
}

static bool all_zero(struct span s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.at[i] != 0)
            return false;
    return true;
}

static void header_fields(const uint8_t *at, struct segment_header *h)
{
    *h = (struct segment_header){.major = le16_get(at + 8),
                                 .minor = le16_get(at + 10),
                                 .incompat = le32_get(at + 12),
                                 .id = le64_get(at + 32),
                                 .salt = le64_get(at + 40),
                                 .first_seq = le64_get(at + 48),
                                 .epoch = le64_get(at + 56),
                                 .prev_id = le64_get(at + 64),
                                 .prev_end = le64_get(at + 72),
                                 .prev_next_seq = le64_get(at + 80),
                                 .prev_last_hcrc = le32_get(at + 88),
                                 .commit_align = le32_get(at + 92),
                                 .capacity = le64_get(at + 96),
                                 .wall_ns = le64_get(at + 104),
                                 .flags = le32_get(at + 112),
                                 .prev_flags = le32_get(at + 116),
                                 .hcrc = le32_get(at + 124)};
    memcpy(h->uuid, at + 16, 16);
}

/* Fields that the rest of the code divides by or multiplies with. */
static bool header_sane(const struct segment_header *h)
{
    return (h->commit_align == 16 || h->commit_align == 512 || h->commit_align == 4096) && h->id > 0 &&
           h->capacity >= SEGMENT_HEADER_AREA && h->capacity <= (UINT64_C(1) << 40) && h->first_seq > 0 &&
           h->first_seq <= SEQ_MAX && h->prev_next_seq <= SEQ_MAX && h->epoch <= SEQ_MAX && h->id <= SEQ_MAX;
}

static enum segment_kind decode_copy(const uint8_t *at, struct segment_header *ret, struct fault *why)
{
    if (le32_get(at + 124) != crc32c(0, at, 124))
        return SEGMENT_DAMAGED;
    struct segment_header h;
    header_fields(at, &h);
    if (magic_of_other_generation(at, segment_magic) ||
        (memcmp(at, segment_magic, 8) == 0 && (h.major != SPOOL_FORMAT_MAJOR || h.incompat != 0))) {
        (void)unsupported(why, h.major, h.minor, h.incompat); /* The kind says it all; this is the text. */
        return SEGMENT_UNSUPPORTED;
    }
    if (memcmp(at, segment_magic, 8) != 0 || !header_sane(&h))
        return SEGMENT_DAMAGED;
    *ret = h;
    return SEGMENT_VALID;
}

enum segment_kind segment_header_decode(struct span area, struct segment_header *ret, struct fault *why)
{
    if (all_zero(area))
        return SEGMENT_PREPARED;
    static const size_t copies[] = {0, SEGMENT_HEADER_COPY};
    for (size_t i = 0; i < 2; i++) {
        if (area.len < copies[i] + SEGMENT_HEADER_BYTES)
            break;
        enum segment_kind kind = decode_copy(area.at + copies[i], ret, why);
        if (kind != SEGMENT_DAMAGED && i > 0)
            REACHED(HEADER_SECOND);
        if (kind != SEGMENT_DAMAGED)
            return kind;
    }
    REACHED(HEADER_DAMAGED);
    (void)fault_set(why, ERR_CORRUPT, "segment header: no valid copy"); /* The kind says it all. */
    return SEGMENT_DAMAGED;
}

void segment_name(uint64_t id, char ret[SEGMENT_NAME_MAX])
{
    (void)snprintf(ret, SEGMENT_NAME_MAX, "seg-%016llx.wal", (unsigned long long)id);
}

void dead_name(uint64_t id, char ret[SEGMENT_NAME_MAX])
{
    (void)snprintf(ret, SEGMENT_NAME_MAX, DEAD_DIR "/dlq-%016llx.wal", (unsigned long long)id);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool segment_name_parse(const char *name, const char *prefix, uint64_t *ret_id)
{
    size_t prefix_len = strlen(prefix);
    if (strlen(name) != prefix_len + 16 + 4 || strncmp(name, prefix, prefix_len) != 0 ||
        strcmp(name + prefix_len + 16, ".wal") != 0)
        return false;
    uint64_t id = 0;
    for (size_t i = 0; i < 16; i++) {
        int digit = hex_digit(name[prefix_len + i]);
        if (digit < 0)
            return false;
        id = id << 4 | (unsigned)digit;
    }
    *ret_id = id;
    return id > 0 && id <= SEQ_MAX;
}
