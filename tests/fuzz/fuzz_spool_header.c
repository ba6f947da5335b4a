/* fuzz_spool_header: the first bytes of a segment file and of FORMAT, as they are and with their checksums
 * made good. */
#include "lib/base/crc32c.h"
#include "lib/base/ensure.h"
#include "lib/base/le.h"
#include "lib/spool/format.h"

static void decode(const uint8_t *at, size_t size)
{
    struct segment_header h;
    struct format_id id;
    struct fault why = {0};
    uint64_t number;
    enum segment_kind kind = segment_header_decode(span_of(at, size), &h, &why);
    if (kind == SEGMENT_VALID) {
        ensure(h.commit_align == 16 || h.commit_align == 512 || h.commit_align == 4096);
        ensure(h.first_seq > 0 && h.first_seq <= SEQ_MAX);
        ensure(h.capacity >= SEGMENT_HEADER_AREA);
    } else if (kind != SEGMENT_PREPARED) {
        ensure(why.text[0] != '\0');
    }
    enum err err = format_decode(span_of(at, size), &id, &why);
    ensure(err == OK || err == ERR_CORRUPT || err == ERR_UNSUPPORTED);
    char name[64] = {0};
    memcpy(name, at, size < 63 ? size : 63);
    (void)segment_name_parse(name, "seg-", &number); /* Either is fine. */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t area[SEGMENT_HEADER_AREA];
    decode(data, size);
    if (size < FORMAT_BYTES)
        return 0;
    memset(area, 0, sizeof area);
    memcpy(area, data, size < sizeof area ? size : sizeof area);
    le32_put(area + 60, crc32c(0, area, 60));
    decode(area, FORMAT_BYTES);
    le32_put(area + 124, crc32c(0, area, 124));
    decode(area, sizeof area);
    return 0;
}
