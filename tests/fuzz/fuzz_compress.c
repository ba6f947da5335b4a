/* fuzz_compress: any bytes as a compressed body. Bounds hold in memory as well as in length, and what one of
 * our encoders makes of the same bytes reads back. The first byte chooses the coding. */
#include "lib/base/ensure.h"
#include "lib/codec/compress.h"
#include "lib/codec/ndjson.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { OUT_MAX = 100000 };

static void check_decode(struct decoder *d, enum encoding encoding, struct span body, size_t max)
{
    const struct decode_limits limits = {.bytes_max = max, .ratio_max = 50, .ratio_free_bytes = 1000};
    struct bytes out;
    struct fault why;
    bytes_init(&out, OUT_MAX);
    enum err err = decoder_decode(d, encoding, body, &limits, &out, &why);
    ensure(out.len <= max && out.cap <= OUT_MAX);
    ensure(err == OK || out.len == 0);
    ensure(err != OK || out.len <= 1000 || out.len <= body.len * 50);
    bytes_deinit(&out);
}

static void check_round_trip(struct encoder *e, struct decoder *d, enum encoding encoding, struct span text)
{
    const struct decode_limits limits = {.bytes_max = text.len};
    struct bytes packed, back;
    struct span parts[] = {span_of(text.at, text.len / 3),
                           span_of(text.at + text.len / 3, text.len - text.len / 3)};
    bytes_init(&packed, text.len * 2 + 1000);
    bytes_init(&back, text.len + 1);
    ensure(encoder_encode(e, encoding, parts, 2, &packed, NULL) == OK);
    ensure(decoder_decode(d, encoding, bytes_span(&packed), &limits, &back, NULL) == OK);
    ensure(span_equal(bytes_span(&back), text));
    bytes_deinit(&packed);
    bytes_deinit(&back);
}

/* The lines of a stream do not depend on its pieces. */
static uint64_t lines_of(struct span stream, size_t step)
{
    struct ndjson n;
    struct span line;
    uint64_t sum = 0;
    ndjson_init(&n, 50);
    for (size_t at = 0; at < stream.len; at += step) {
        struct span piece = span_of(stream.at + at, stream.len - at < step ? stream.len - at : step);
        enum err err;
        while ((err = ndjson_next(&n, &piece, &line)) != ERR_AGAIN) {
            ensure(err == OK || err == ERR_TOO_BIG);
            ensure(err != OK || (line.len > 0 && line.len <= 50 && memchr(line.at, '\n', line.len) == NULL));
            sum = sum * 31 + (err == OK ? line.len * 256 + line.at[0] : 1);
        }
    }
    if (ndjson_finish(&n, &line) == OK)
        sum = sum * 31 + line.len;
    ndjson_deinit(&n);
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct encoder *e = encoder_new();
    struct decoder *d = decoder_new();
    struct span body = span_of(data + 1, size - 1);
    enum encoding encoding = (enum encoding)(data[0] % 4);
    check_decode(d, encoding, body, data[0] < 128 ? OUT_MAX : data[0] * 10U);
    if (encoding != ENCODING_DEFLATE)
        check_round_trip(e, d, encoding, body);
    ensure(lines_of(body, body.len) == lines_of(body, 1 + data[0] % 16U));
    encoder_free(e);
    decoder_free(d);
    return 0;
}
