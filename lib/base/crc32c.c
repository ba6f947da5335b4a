/* crc32c: see crc32c.h. The table method is "slicing by 8": eight tables let eight bytes be folded in
 * with eight independent look-ups instead of a chain of eight. */
#include "lib/base/crc32c.h"

#include "lib/base/le.h"

#include <stdbool.h>
#include <threads.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
#elif defined(__aarch64__)
#include <arm_acle.h>
#include <sys/auxv.h>
#endif

#define POLYNOMIAL_REFLECTED 0x82F63B78u

static uint32_t tables[8][256];
static once_flag tables_made = ONCE_FLAG_INIT;

static void make_tables(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ ((crc & 1) != 0 ? POLYNOMIAL_REFLECTED : 0);
        tables[0][byte] = crc;
    }
    for (uint32_t byte = 0; byte < 256; byte++)
        for (int k = 1; k < 8; k++)
            tables[k][byte] = (tables[k - 1][byte] >> 8) ^ tables[0][tables[k - 1][byte] & 0xFF];
}

uint32_t crc32c_by_table(uint32_t crc, const void *at, size_t len)
{
    const uint8_t *p = at;
    call_once(&tables_made, make_tables);
    crc = ~crc;
    for (; len >= 8; len -= 8, p += 8) {
        uint32_t low = le32_get(p) ^ crc;
        uint32_t high = le32_get(p + 4);
        crc = tables[7][low & 0xFF] ^ tables[6][(low >> 8) & 0xFF] ^ tables[5][(low >> 16) & 0xFF] ^
              tables[4][low >> 24] ^ tables[3][high & 0xFF] ^ tables[2][(high >> 8) & 0xFF] ^
              tables[1][(high >> 16) & 0xFF] ^ tables[0][high >> 24];
    }
    for (; len > 0; len--, p++)
        crc = (crc >> 8) ^ tables[0][(crc ^ *p) & 0xFF];
    return ~crc;
}

#if defined(__x86_64__)

static bool have_instruction(void)
{
    return __builtin_cpu_supports("sse4.2");
}

__attribute__((target("sse4.2"))) static uint32_t by_instruction(uint32_t crc, const uint8_t *p, size_t len)
{
    uint64_t wide = ~crc;
    for (; len >= 32; len -= 32, p += 32) {
        wide = _mm_crc32_u64(wide, le64_get(p));
        wide = _mm_crc32_u64(wide, le64_get(p + 8));
        wide = _mm_crc32_u64(wide, le64_get(p + 16));
        wide = _mm_crc32_u64(wide, le64_get(p + 24));
    }
    for (; len >= 8; len -= 8, p += 8)
        wide = _mm_crc32_u64(wide, le64_get(p));
    uint32_t narrow = (uint32_t)wide;
    for (; len > 0; len--, p++)
        narrow = _mm_crc32_u8(narrow, *p);
    return ~narrow;
}

#elif defined(__aarch64__)

static bool have_instruction(void)
{
    const unsigned long hwcap_crc32 = 1UL << 7; /* HWCAP_CRC32 of the arm64 kernel ABI */
    return (getauxval(AT_HWCAP) & hwcap_crc32) != 0;
}

__attribute__((target("+crc"))) static uint32_t by_instruction(uint32_t crc, const uint8_t *p, size_t len)
{
    crc = ~crc;
    for (; len >= 8; len -= 8, p += 8)
        crc = __crc32cd(crc, le64_get(p));
    for (; len > 0; len--, p++)
        crc = __crc32cb(crc, *p);
    return ~crc;
}

#else

static bool have_instruction(void)
{
    return false;
}

static uint32_t by_instruction(uint32_t crc, const uint8_t *p, size_t len)
{
    return crc32c_by_table(crc, p, len);
}

#endif

uint32_t crc32c(uint32_t crc, const void *at, size_t len)
{
    return have_instruction() ? by_instruction(crc, at, len) : crc32c_by_table(crc, at, len);
}
