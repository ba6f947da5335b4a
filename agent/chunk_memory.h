/* chunk_memory: which chunks of the forward protocol were stored lately, so that a sender that saw no
 * acknowledgement may send one again without its events being stored twice.
 *
 * A chunk is known by its tag and id, or rather by 128 bits of hash over both. It is remembered for ten
 * minutes, and at most CHUNKS_MAX of them: then the oldest goes. The table is allocated with the first chunk.
 */
#ifndef PENSTOCK_AGENT_CHUNK_MEMORY_H
#define PENSTOCK_AGENT_CHUNK_MEMORY_H

#include "lib/base/bytes.h"

#define CHUNKS_MAX 65536
#define CHUNK_WINDOW_US (UINT64_C(600) * 1000 * 1000)

struct chunk_key {
    uint64_t high, low;
};

enum chunk_state { CHUNK_UNKNOWN, CHUNK_PENDING, CHUNK_STORED };

struct chunk_entry;

struct chunk_memory {
    struct chunk_entry *entries; /* a ring in the order of arrival */
    uint32_t *buckets;           /* heads of chains; index + 1, 0: none */
    uint32_t begin, count;
    uint64_t seed;
};

/* `seed` is drawn at random, so that nobody can make up chunks that look alike. */
void chunk_memory_init(struct chunk_memory *m, uint64_t seed);
void chunk_memory_deinit(struct chunk_memory *m);
struct chunk_key chunk_key_of(const struct chunk_memory *m, struct span tag, struct span chunk);
/* What is known of it; *ret_owner is what chunk_memory_add() was given, with CHUNK_PENDING. */
enum chunk_state chunk_memory_look(struct chunk_memory *m, struct chunk_key key, uint64_t now_us,
                                   uint32_t *ret_owner);
/* It is on its way to the disk, in the owner's hands. It must not be known yet. */
void chunk_memory_add(struct chunk_memory *m, struct chunk_key key, uint64_t now_us, uint32_t owner);
/* It is durable; or it is not, and never will be by this attempt, so that its repeat is a first again.
 * Unknown keys are passed over: the memory may have been full. */
void chunk_memory_settle(struct chunk_memory *m, struct chunk_key key, bool stored);

#endif
