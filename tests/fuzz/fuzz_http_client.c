/* fuzz_http_client: whatever a server sends, and however it is cut, the same answer comes out. The first
 * byte seeds the cuts and chooses the kind of request and of end. */
#include "lib/base/ensure.h"
#include "lib/base/rng.h"
#include "lib/http/http_client.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_all(struct http_client *c, struct span in, size_t step, uint8_t seed)
{
    struct rng rng;
    rng_seed(&rng, seed);
    http_client_init(c, 300);
    http_client_begin(c, (enum http_client_kind)(seed % 3));
    for (size_t at = 0; at < in.len;) {
        size_t n = step > 0 ? step : 1 + (size_t)rng_below(&rng, 40);
        n = in.len - at < n ? in.len - at : n;
        uint8_t *copy = malloc(n);
        memcpy(copy, in.at + at, n);
        size_t used = http_client_feed(c, span_of(copy, n));
        ensure(used <= n);
        free(copy);
        if (used < n)
            break;
        at += n;
    }
    http_client_eof(c, seed & 0x80);
    ensure(c->state != HTTP_CLIENT_READING);
}

static void compare(const struct http_client *a, const struct http_client *b)
{
    ensure(a->state == b->state);
    if (a->state != HTTP_CLIENT_COMPLETE)
        return;
    ensure(a->status == b->status && a->body_total == b->body_total && a->body_cut == b->body_cut);
    ensure(span_equal(bytes_span(&a->body), bytes_span(&b->body)));
    ensure(http_client_header_count(a) == http_client_header_count(b));
    for (unsigned i = 0; i < http_client_header_count(a); i++) {
        struct http_field x = http_client_field(a, i), y = http_client_field(b, i);
        ensure(span_equal(x.name, y.name) && span_equal(x.value, y.value));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > 65536)
        return 0;
    struct http_client whole, cut;
    struct span in = span_of(data + 1, size - 1);
    read_all(&whole, in, in.len, data[0]);
    for (size_t step = 0; step < 2; step++) {
        read_all(&cut, in, step, data[0]);
        compare(&whole, &cut);
        http_client_deinit(&cut);
    }
    http_client_deinit(&whole);
    return 0;
}
