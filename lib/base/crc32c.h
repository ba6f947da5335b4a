/* crc32c: the Castagnoli CRC (polynomial 0x1EDC6F41, reflected), as in RFC 3720 appendix B.4.
 *
 * Uses the CPU's instruction where there is one (SSE4.2, ARMv8 CRC), tables otherwise. */
#ifndef PENSTOCK_BASE_CRC32C_H
#define PENSTOCK_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Continues `crc` over `len` bytes; begin with 0, or with a seed of the caller's.
 * crc32c(crc32c(0, a), b) == crc32c(0, a followed by b). */
uint32_t crc32c(uint32_t crc, const void *at, size_t len);

/* The same by tables alone: what crc32c() falls back to, and what tests compare it with. */
uint32_t crc32c_by_table(uint32_t crc, const void *at, size_t len);

#endif
