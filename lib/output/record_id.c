/* record_id: see record_id.h. Written by output_offer() (step 5), read when batches are filled (step 8). */
#include "lib/output/record_id.h"

#include "lib/base/le.h"

enum { FLAG_HASHES = 1, FLAG_EXPIRES = 2 };

static uint8_t flags_of(const struct record_id *r)
{
    return (uint8_t)((r->key_hash != 0 ? FLAG_HASHES : 0) | (r->expires_ns != 0 ? FLAG_EXPIRES : 0));
}

static size_t head_len(uint8_t flags)
{
    return 1 + (flags & FLAG_HASHES ? 16 : 0) + (flags & FLAG_EXPIRES ? 8 : 0);
}

size_t record_id_len(const struct record_id *r)
{
    uint8_t flags = flags_of(r);
    return flags == 0 && r->id.len == 0 ? 0 : head_len(flags) + r->id.len;
}

void record_id_put(const struct record_id *r, uint8_t *into)
{
    if (record_id_len(r) == 0)
        return;
    uint8_t flags = flags_of(r);
    *into++ = flags;
    if (flags & FLAG_HASHES) {
        le64_put(into, r->key_hash);
        le64_put(into + 8, r->content_hash);
        into += 16;
    }
    if (flags & FLAG_EXPIRES) {
        le64_put(into, r->expires_ns);
        into += 8;
    }
    if (r->id.len > 0)
        memcpy(into, r->id.at, r->id.len);
}

enum err record_id_get(struct span encoded, struct record_id *ret)
{
    *ret = (struct record_id){0};
    if (encoded.len == 0)
        return OK;
    uint8_t flags = encoded.at[0];
    if ((flags & ~(FLAG_HASHES | FLAG_EXPIRES)) != 0 || encoded.len < head_len(flags))
        return ERR_MALFORMED;
    const uint8_t *at = encoded.at + 1;
    if (flags & FLAG_HASHES) {
        ret->key_hash = le64_get(at);
        ret->content_hash = le64_get(at + 8);
        at += 16;
    }
    if (flags & FLAG_EXPIRES) {
        ret->expires_ns = le64_get(at);
        at += 8;
    }
    ret->id = span_of(at, encoded.len - head_len(flags));
    return OK;
}
