/* Record ids come back from disk: whatever stands there is read within its bounds, and what is read is
 * written the same way again. */
#include "lib/base/ensure.h"
#include "lib/output/record_id.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 2048)
        return 0;
    struct record_id id;
    if (record_id_get(span_of(data, size), &id) != OK)
        return 0;
    uint8_t again[2048 + RECORD_ID_HEAD_MAX];
    size_t len = record_id_len(&id);
    ensure(len <= size);
    record_id_put(&id, again);
    struct record_id twice;
    ensure(record_id_get(span_of(again, len), &twice) == OK);
    ensure(twice.key_hash == id.key_hash && twice.expires_ns == id.expires_ns && span_equal(twice.id, id.id));
    return 0;
}
