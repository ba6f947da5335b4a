/* fuzz_san: a certificate's extensions are chosen by whoever sends it. */
#include "lib/tls/san.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes text;
    bytes_init(&text, 200);
    san_describe(span_of(data, size), 5, &text);
    (void)san_has_ip(span_of(data, size), (const uint8_t *)"\x0a\x00\x00\x01", 4);
    bytes_deinit(&text);
    return 0;
}
