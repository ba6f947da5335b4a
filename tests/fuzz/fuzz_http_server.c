/* fuzz_http_server: whatever bytes, and however they are cut into reads, the same requests come out. The
 * first byte seeds the cuts. */
#include "lib/base/ensure.h"
#include "lib/base/hash.h"
#include "lib/base/rng.h"
#include "lib/http/http_server.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct run {
    struct http_server_shared shared;
    struct http_server server;
    uint64_t seen; /* a hash over all events, in order */
    unsigned events;
};

static void see(struct run *run, struct span s)
{
    run->seen = hash64(s.len > 0 ? s : SPAN(""), run->seen);
}

static void see_request(struct run *run, const struct http_request *r)
{
    see(run, r->method_name);
    see(run, r->path);
    see(run, r->query);
    see(run, r->body);
    for (unsigned i = 0; i < r->header_count; i++) {
        struct http_field f = http_request_field(r, i);
        see(run, f.name);
        see(run, f.value);
    }
}

static void answer(struct run *run, uint64_t handle)
{
    const struct http_answer a = {.status = 202, .body = SPAN("ok")};
    ensure(http_server_respond(&run->server, handle, &a) == OK);
    http_server_sent(&run->server, http_server_output(&run->server).len);
}

static bool handle_event(struct run *run)
{
    const struct http_request *r;
    enum http_server_event event = http_server_next(&run->server, &r);
    switch (event) {
    case HTTP_SERVER_REQUEST:
        see_request(run, r);
        answer(run, r->handle);
        break;
    case HTTP_SERVER_EXPECT:
        see(run, r->path);
        break;
    case HTTP_SERVER_REFUSED:
        see(run, span_of(&run->shared.refusal.status, sizeof run->shared.refusal.status));
        http_server_respond_refusal(&run->server, r->handle, &run->shared.refusal);
        http_server_sent(&run->server, http_server_output(&run->server).len);
        break;
    case HTTP_SERVER_MORE:
    case HTTP_SERVER_PAUSED:
    case HTTP_SERVER_DONE:
        return false;
    }
    run->events++;
    return true;
}

static void give(struct run *run, struct span piece)
{
    uint8_t *copy = malloc(piece.len + 1); /* so that reading beyond it or later shows */
    memcpy(copy, piece.at, piece.len);
    ensure(http_server_give(&run->server, span_of(copy, piece.len)) == OK);
    while (handle_event(run))
        ;
    http_server_sent(&run->server, http_server_output(&run->server).len);
    free(copy);
}

/* `step` 0: pieces of random length. */
static uint64_t run_in_pieces(struct span in, size_t step, uint64_t seed)
{
    struct http_limits limits = http_limits_default;
    struct run run = {.seen = 1};
    struct rng rng;
    limits.header_bytes_max = 2048;
    limits.header_count_max = 10;
    limits.url_bytes_max = 256;
    limits.body_bytes_max = 4096;
    rng_seed(&rng, seed);
    http_server_shared_init(&run.shared, &limits);
    http_server_init(&run.server, &run.shared);
    for (size_t at = 0; at < in.len;) {
        size_t n = step > 0 ? step : 1 + (size_t)rng_below(&rng, 40);
        n = in.len - at < n ? in.len - at : n;
        give(&run, span_of(in.at + at, n));
        at += n;
    }
    http_server_eof(&run.server);
    ensure(http_server_finished(&run.server));
    http_server_deinit(&run.server);
    http_server_shared_deinit(&run.shared);
    return run.seen;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > 16384)
        return 0;
    struct span in = span_of(data + 1, size - 1);
    uint64_t whole = run_in_pieces(in, in.len, 0);
    ensure(run_in_pieces(in, 1, 0) == whole);
    ensure(run_in_pieces(in, 0, data[0]) == whole);
    return 0;
}
