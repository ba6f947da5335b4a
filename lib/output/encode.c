/* encode: the part of step 8 that runs off the loop. It touches nothing but the batch and the encoder it is
 * given, which nobody else touches until output_encoded(). */
#include "lib/output/batch.h"
#include "lib/output/output.h"

#include "lib/codec/compress.h"

#include <stdlib.h>

static enum encoding encoding_of(enum api_codec codec)
{
    switch (codec) {
    case API_GZIP:
        return ENCODING_GZIP;
    case API_ZSTD:
        return ENCODING_ZSTD;
    case API_IDENTITY:
        break;
    }
    return ENCODING_IDENTITY;
}

void batch_encode_run(struct batch *b)
{
    struct span raw = bytes_span(&b->raw);
    bytes_clear(&b->encoded);
    b->encode_err = encoder_encode(b->encoder, encoding_of(b->codec), &raw, 1, &b->encoded, NULL);
    /* Encoders reserve for the worst case; what is kept through an outage should be no larger than it is. */
    if (b->encode_err == OK && b->encoded.cap > 2 * b->encoded.len + 4096) {
        b->encoded.at = must_realloc(b->encoded.at, b->encoded.len + 64);
        b->encoded.cap = b->encoded.len + 64;
    }
}
