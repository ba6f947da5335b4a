/* uuid7: identities for events and batches (RFC 9562).
 *
 * Version 7 (48 bits of Unix milliseconds, then randomness) names what we name ourselves: it sorts by time,
 * and ids made by one source within a millisecond keep their order. Version 4 is pure randomness; version 5
 * derives the same id from the same name every time. Randomness comes from a `struct entropy` through a
 * pool of 4 KiB, so that an id does not cost a system call. */
#ifndef PENSTOCK_CODEC_UUID7_H
#define PENSTOCK_CODEC_UUID7_H

#include "lib/base/bytes.h"
#include "lib/base/rng.h"

enum { UUID_TEXT = 36, UUID_POOL = 4096 };

struct uuid {
    uint8_t bytes[16];
};

/* Owned and embedded by whoever makes ids; one per thread. */
struct uuid_source {
    struct entropy entropy;
    size_t pool_at; /* UUID_POOL: empty */
    uint64_t last_ms;
    uint64_t counter; /* 42 bits: what orders the ids of one millisecond */
    uint8_t pool[UUID_POOL];
};

void uuid_source_init(struct uuid_source *s, struct entropy entropy);

/* `wall_ms` is Unix time. Each id is greater than the one before as long as the clock does not go back by
 * more than a minute; a larger step back is followed, so that a clock set right does not leave ids dated
 * in the future for ever. */
struct uuid uuid7_make(struct uuid_source *s, uint64_t wall_ms);
struct uuid uuid4_make(struct uuid_source *s);

/* Version 5 of the parts' concatenation in a name space. */
struct uuid uuid5_make(const struct uuid *space, const struct span *parts, size_t count);

/* Lower-case text, 36 characters and a NUL. */
void uuid_format(const struct uuid *u, char ret[UUID_TEXT + 1]);
/* Takes either case, no braces, no "urn:uuid:". */
MUST_USE bool uuid_parse(struct span text, struct uuid *ret);

#endif
