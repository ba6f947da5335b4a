/* hash: a fast 64-bit hash of bytes, the same on every machine and in every version, because its values
 * reach the disk (the memory of recent ids survives restarts). Not for secrets and not against an
 * adversary: who collides two of his own ids only confuses himself.
 *
 * Built on the widening multiplication (64 x 64 -> 128 bits, high xor low): two lanes of 8 bytes per step. */
#ifndef PENSTOCK_BASE_HASH_H
#define PENSTOCK_BASE_HASH_H

#include "lib/base/bytes.h"

/* Chain calls through `seed` to hash several spans; the lengths are part of the hash, so "a","bc" and
 * "ab","c" differ. Never 0. */
uint64_t hash64(struct span s, uint64_t seed);

#endif
