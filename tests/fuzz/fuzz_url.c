/* fuzz_url: whatever bytes, a URL that is taken can be written again and names a host; decoding undoes
 * encoding. */
#include "lib/base/ensure.h"
#include "lib/http/url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_parse(struct span in)
{
    struct url u, again;
    struct fault why;
    struct bytes text;
    if (url_parse(in, &u, &why) != OK)
        return;
    ensure(u.host.len > 0 && u.port > 0);
    ensure(u.path.len == 0 || u.path.at[0] == '/');
    bytes_init(&text, URL_BYTES_MAX + 64);
    ensure(bytes_append(&text, u.tls ? SPAN("https://") : SPAN("http://")) == OK);
    ensure(url_write_authority(&text, &u, true) == OK);
    ensure(url_parse(bytes_span(&text), &again, &why) == OK);
    ensure(span_equal(u.host, again.host) && u.port == again.port && u.host_is_ip == again.host_is_ip);
    bytes_deinit(&text);
    struct span rest = u.path, segment;
    while (url_next_segment(&rest, &segment))
        ensure(segment.len <= u.path.len);
    (void)url_query_value(u.query, "a", &segment);
}

static void check_encoding(struct span in)
{
    struct bytes encoded, decoded;
    bytes_init(&encoded, 3 * in.len + 1);
    bytes_init(&decoded, 3 * in.len + 1);
    ensure(url_encode_segment(&encoded, in) == OK);
    ensure(url_decode(&decoded, bytes_span(&encoded)) == OK);
    ensure(span_equal(bytes_span(&decoded), in));
    bytes_clear(&decoded);
    (void)url_decode(&decoded, in);
    bytes_deinit(&encoded);
    bytes_deinit(&decoded);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_parse(span_of(data, size));
    check_encoding(span_of(data, size));
    return 0;
}
