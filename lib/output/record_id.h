/* record_id: what an output keeps as the id of a spool record.
 *
 * The spool stores one opaque id per record. Ours holds the api's id of the event, which its upstream half
 * needs again; where the event takes part in the memory of recent ids, the two hashes of that memory; and
 * where it has one, the time after which it is not to be sent any more:
 *
 *   empty                                              none of these
 *   u8 flags | [u64 key hash | u64 content hash] | [u64 expiry, Unix ns] | api's id
 *              flags: 1 the hashes are there, 2 the expiry is
 *
 * Integers are little-endian. The format is on disk: other flags are reserved and make an id unreadable. */
#ifndef PENSTOCK_OUTPUT_RECORD_ID_H
#define PENSTOCK_OUTPUT_RECORD_ID_H

#include "lib/base/bytes.h"

#define RECORD_ID_HEAD_MAX 25

struct record_id {
    uint64_t key_hash, content_hash; /* key_hash 0: not remembered */
    uint64_t expires_ns;             /* Unix time; 0: never */
    struct span id;                  /* the api's; borrowed */
};

/* Length of the encoded form. */
size_t record_id_len(const struct record_id *r);
/* Writes exactly record_id_len() bytes. */
void record_id_put(const struct record_id *r, uint8_t *into);
/* ERR_MALFORMED when the bytes are not ours; *ret is then an empty id. */
MUST_USE enum err record_id_get(struct span encoded, struct record_id *ret);

#endif
