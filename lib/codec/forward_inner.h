/* forward_inner: what the files of forward.h share. */
#ifndef PENSTOCK_CODEC_FORWARD_INNER_H
#define PENSTOCK_CODEC_FORWARD_INNER_H

#include "lib/codec/forward.h"

/* A value that is deeper than we take is still read over: its entry is refused when it is rendered. */
static inline enum err forward_pass_json(enum err err)
{
    return err == ERR_TOO_BIG ? OK : err;
}

/* {"ack": chunk} in msgpack (forward_auth.c, which does all the writing). */
MUST_USE enum err forward_write_ack(struct span chunk, bool is_bin, struct bytes *out);

#endif
