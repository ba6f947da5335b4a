/* http_decode: see http_decode.h. */
#include "agent/http_decode.h"

#include "agent/agent.h"

/* A body of events shrinks to a tenth, of very dull ones to a fiftieth; a bomb to a thousandth. */
#define INFLATE_RATIO_MAX 200
#define INFLATE_RATIO_FREE_BYTES (1024 * 1024)
#define INFLATE_AT_ONCE_BYTES (1024 * 1024) /* what becomes more than that claims its memory first */

static enum err decode(struct http_exchange *e, size_t bytes_max)
{
    const struct decode_limits limits = {
        .bytes_max = bytes_max, .ratio_max = INFLATE_RATIO_MAX, .ratio_free_bytes = INFLATE_RATIO_FREE_BYTES};
    struct fault why;
    bytes_clear(&e->body);
    return decoder_decode(e->input->input.agent->decoder, e->coding, e->request.body_encoded, &limits,
                          &e->body, &why);
}

/* What was claimed for the worst case becomes what it is. */
static void settle_claims(struct http_exchange *e)
{
    struct agent *a = e->input->input.agent;
    if (e->request.body.at == e->body.at && e->body.len > 0 && !e->x.path->opaque) {
        bytes_deinit(&e->wire); /* nobody asks for it any more */
        e->request.body_encoded = (struct span){0};
    }
    if (e->wire_claim.budget == &a->large_bodies)
        budget_resize(&e->wire_claim, e->wire.len + e->body.len);
    else if (e->wire_claim.budget != NULL)
        budget_resize(&e->wire_claim, e->wire.len);
    if (e->body_claim.budget != NULL)
        budget_resize(&e->body_claim, e->body.len);
}

static void bad_body(struct http_exchange *e, enum err err)
{
    if (err == ERR_TOO_BIG)
        http_exchange_refuse(e, COND_TOO_LARGE, REJECT_TOO_LARGE,
                             "the body inflates to more than max_body, or far more than events do");
    else
        http_exchange_refuse(e, COND_BAD_COMPRESSION, REJECT_BAD_COMPRESSION,
                             "the body is not what its Content-Encoding says");
}

static void take_decoded(struct http_exchange *e, enum err err)
{
    if (err != OK) {
        bad_body(e, err);
        return;
    }
    e->request.body = bytes_span(&e->body);
    settle_claims(e);
    e->decoded(e);
}

static void on_served(struct flusher *flusher)
{
    struct http_exchange *e = CONTAINER_OF(flusher, struct http_exchange, served);
    e->x.settings = agent_settings_of(e->input->input.agent, e->x.api);
    take_decoded(e, decode(e, e->body.max));
}

static void on_body_served(struct budget_claim *claim)
{
    struct http_exchange *e = CONTAINER_OF(claim, struct http_exchange, body_claim);
    flush_soon(&e->input->input.agent->flushes, &e->served);
}

/* Does it have the memory for what a body of ratio_max becomes? If not it waits for it. */
static bool claim_decoded(struct http_exchange *e)
{
    struct agent *a = e->input->input.agent;
    uint64_t most = e->request.body_encoded.len * INFLATE_RATIO_MAX + INFLATE_RATIO_FREE_BYTES;
    bytes_deinit(&e->body); /* of the first try */
    flusher_init(&e->served, on_served);
    e->body_claim.served = on_body_served;
    return budget_claim(&a->large_bodies, &e->body_claim, most < e->body.max ? most : e->body.max);
}

void http_decode(struct http_exchange *e, void (*decoded)(struct http_exchange *e))
{
    struct span encoding = span_trim(e->request.content_encoding);
    e->decoded = decoded;
    if (encoding.len == 0 || span_equal_nocase(encoding, SPAN("identity"))) {
        settle_claims(e);
        e->decoded(e);
        return;
    }
    if (!encoding_parse(encoding, &e->coding)) {
        http_exchange_refuse(e, COND_BAD_ENCODING, REJECT_BAD_COMPRESSION,
                             "Content-Encoding: gzip, deflate and zstd are taken");
        return;
    }
    size_t most = e->body.max, at_once = most < INFLATE_AT_ONCE_BYTES ? most : INFLATE_AT_ONCE_BYTES;
    bool claimed = e->wire_claim.budget == &e->input->input.agent->large_bodies;
    enum err err = decode(e, claimed ? most : at_once);
    if (err != ERR_TOO_BIG || claimed || most == at_once)
        take_decoded(e, err);
    else if (!http_exchange_own(e))
        http_exchange_refuse(e, COND_TOO_LARGE, REJECT_TOO_LARGE, "the request is too large");
    else if (claim_decoded(e))
        take_decoded(e, decode(e, most));
}
