/* compress: the content codings of HTTP and of the forward protocol, whole bodies at a time.
 *
 * An encoder makes one gzip member or zstd frame of a list of spans, at level 1, which is where the
 * throughput lies: ISA-L's igzip where it was built in, else libdeflate, and libzstd. A decoder takes gzip
 * (RFC 1952, any number of members), deflate (RFC 9110: zlib's format, or raw as some clients send it) and
 * zstd (RFC 8878, any number of frames, windows up to 8 MiB), and never makes more than the caller allows:
 * the bound holds before memory is taken, not after.
 *
 * Both are contexts worth keeping (an encoder is some 300 KiB), made when first needed, and each is used by
 * one thread at a time; a pool job owns its own. Nothing here is global. */
#ifndef PENSTOCK_CODEC_COMPRESS_H
#define PENSTOCK_CODEC_COMPRESS_H

#include "lib/base/bytes.h"

enum encoding { ENCODING_IDENTITY, ENCODING_GZIP, ENCODING_DEFLATE, ENCODING_ZSTD };

/* The word in Content-Encoding: "identity", "gzip", "deflate", "zstd". */
const char *encoding_name(enum encoding encoding);
/* Takes these words without regard to case, also "x-gzip", and empty text as identity. */
MUST_USE bool encoding_parse(struct span name, enum encoding *ret);
/* What the first bytes say; identity when they are no magic number of gzip or zstd. */
enum encoding encoding_sniff(struct span body);

struct encoder;
struct encoder *encoder_new(void);
void encoder_free(struct encoder *e);

/* Appends the encoded concatenation of `parts` to `out`. ERR_TOO_BIG when it does not fit out->max, and
 * ERR_UNSUPPORTED for deflate, which nobody should be sent; `out` is then as it was. `why` may be NULL. */
MUST_USE enum err encoder_encode(struct encoder *e, enum encoding encoding, const struct span *parts,
                                 size_t count, struct bytes *out, struct fault *why);

/* What an encoded body may become. The ratio keeps a small body from costing the time and memory that the
 * size alone would allow; up to `ratio_free_bytes` it does not count, since small bodies may repeat
 * themselves a lot. */
struct decode_limits {
    size_t bytes_max;
    unsigned ratio_max; /* 0: no limit */
    size_t ratio_free_bytes;
};

struct decoder;
struct decoder *decoder_new(void);
void decoder_free(struct decoder *d);

/* Appends the decoded `body` to `out`, which must have been born with a maximum of at least what it should
 * take; the smaller of that and `limits` holds. ERR_TOO_BIG when it would become larger, ERR_MALFORMED when
 * it is damaged or cut short or followed by something else, ERR_UNSUPPORTED when it needs a dictionary or a
 * larger window. On any error `out` is as long as it was. Never allocates beyond its limits. */
MUST_USE enum err decoder_decode(struct decoder *d, enum encoding encoding, struct span body,
                                 const struct decode_limits *limits, struct bytes *out, struct fault *why);

#endif
