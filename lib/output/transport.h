/* transport: the seam between an output and the way to its upstream.
 *
 * A transport takes a batch and yields a verdict; output.c knows nothing else of it. transport_http speaks
 * through struct api: one request per batch, one answer. A transport to a distributed log (NATS, Kafka) would
 * fill the same table: its "request" names a subject or topic, its "reply" an acknowledgement. */
#ifndef PENSTOCK_OUTPUT_TRANSPORT_H
#define PENSTOCK_OUTPUT_TRANSPORT_H

#include "lib/api/api.h"
#include "lib/output/output.h"

struct transport {
    const char *name;
    /* Fills ret->send. An error is our own fault: the batch is held with its text. */
    enum err (*request)(const struct api_settings *s, const struct api_batch *b, struct arena *arena,
                        struct api_send *ret);
    /* A request without events that asks whether we are welcome again; false: there is none. */
    bool (*probe)(const struct api_settings *s, struct arena *arena, struct api_send *ret);
    /* A request that asks for consent before the first delivery; false: none is needed. */
    bool (*handshake)(const struct api_settings *s, struct arena *arena, struct api_send *ret);
    bool (*consents)(const struct api_settings *s, const struct api_reply *reply, uint64_t *ret_per_minute);
    /* A whole answer came. */
    void (*judge)(const struct api_settings *s, const struct api_batch *b, const struct api_reply *reply,
                  struct arena *arena, struct api_verdict *ret);
    /* None came. */
    void (*broke)(enum output_break what, const char *text, struct api_verdict *ret);
    /* The answer to a probe: ACT_DELIVERED welcome, ACT_SPLIT nothing learnt (ask with a batch), else
     * ACT_HOLD. */
    void (*judge_probe)(const struct api_reply *reply, struct arena *arena, struct api_verdict *ret);
};

extern const struct transport transport_http;

#endif
