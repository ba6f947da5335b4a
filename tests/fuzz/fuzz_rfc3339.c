/* fuzz_rfc3339: any bytes as a point in time, an id, a base64 text, a pattern. What is read can be written
 * and reads back the same. */
#include "lib/base/ensure.h"
#include "lib/codec/base64.h"
#include "lib/codec/glob.h"
#include "lib/codec/rfc3339.h"
#include "lib/codec/uuid7.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_instant(struct instant t)
{
    char text[RFC3339_TEXT + 1];
    struct instant back;
    size_t n = rfc3339_format(t, text);
    ensure(n <= RFC3339_TEXT && rfc3339_parse(span_of(text, n), &back) && instant_compare(t, back) == 0);
    n = rfc3339_format_ms(t, text);
    ensure(n == 24 && rfc3339_parse(span_of(text, n), &back) && instant_ms(t) == instant_ms(back));
}

static void check_base64(struct span text)
{
    uint8_t *data = malloc(base64_room(text.len));
    size_t n, m;
    if (base64_decode(text, data, &n)) {
        struct bytes out;
        bytes_init(&out, text.len * 2 + 64);
        ensure(base64_append(&out, span_of(data, n)) == OK);
        uint8_t *again = malloc(base64_room(out.len));
        ensure(base64_decode(bytes_span(&out), again, &m) && span_equal(span_of(data, n), span_of(again, m)));
        free(again);
        bytes_deinit(&out);
    }
    free(data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span text = span_of(data, size);
    struct instant t, u;
    struct uuid id;
    bool local = true;
    if (rfc3339_parse(text, &t)) {
        check_instant(t);
        ensure(iso8601_parse(text, &u, &local) && instant_compare(t, u) == 0 && !local);
    }
    if (iso8601_parse(text, &t, &local))
        check_instant(t);
    if (epoch_parse(text, &t))
        check_instant(t);
    if (uuid_parse(text, &id)) {
        char form[UUID_TEXT + 1];
        uuid_format(&id, form);
        ensure(span_equal_nocase(text, span_str(form)));
    }
    check_base64(text);
    if (size > 0) {
        size_t cut = data[0] % size;
        (void)glob_match(span_of(data + 1, cut), span_of(data + 1 + cut, size - 1 - cut));
        ensure(glob_match(SPAN("*"), text));
    }
    return 0;
}
