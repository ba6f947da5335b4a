/* fuzz_msgpack: any bytes as msgpack. A value ends at the same place however it is walked and in whatever
 * pieces it comes; what is rendered is valid JSON without repeated keys. */
#include "lib/base/ensure.h"
#include "lib/codec/json.h"
#include "lib/codec/msgpack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MEMBERS_MAX = 1000 };

static void check_frames(struct span in, enum err expected, size_t expected_len)
{
    struct msgpack_frame f;
    size_t step = 1 + (in.len > 0 ? in.at[in.len - 1] % 9U : 0);
    enum err err = ERR_AGAIN;
    size_t taken = 0;
    msgpack_frame_init(&f);
    for (size_t at = 0; at < in.len && err == ERR_AGAIN; at += step) {
        struct span piece = span_of(in.at + at, in.len - at < step ? in.len - at : step);
        size_t before = piece.len;
        err = msgpack_frame_feed(&f, &piece, UINT64_MAX);
        taken += before - piece.len;
    }
    /* A frame does not walk as deep, and hears of what is wrong when it comes to it. */
    ensure(err == expected || err == ERR_TOO_BIG || (expected == ERR_AGAIN && err == ERR_MALFORMED));
    ensure(err != OK || taken == expected_len);
}

static void check_render(enum msgpack_times times, struct span in, enum err framed, struct span value)
{
    static struct json_member members[MEMBERS_MAX];
    struct msgpack_renderer r;
    struct bytes out;
    struct fault why;
    struct span rest = in;
    msgpack_renderer_init(&r, times);
    bytes_init(&out, 1 << 20);
    enum err err = msgpack_render(&r, &rest, &out, &why);
    if (err == OK) {
        struct json_value v;
        size_t count;
        ensure(framed == OK && rest.at == value.at + value.len);
        enum err checked = json_check_object(bytes_span(&out), members, MEMBERS_MAX, &count, &v, &why);
        ensure(checked == OK || checked == ERR_TOO_BIG);
        ensure(!v.spaced && !json_repeated_key(members, count, NULL));
    } else {
        ensure(out.len == 0 && rest.at == in.at && rest.len == in.len && r.replaced == 0);
    }
    bytes_deinit(&out);
    msgpack_renderer_deinit(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span in = span_of(data, size), rest = in, value = {0};
    enum err err = msgpack_skip(&rest, &value);
    ensure(err == OK ? value.at == in.at && value.len + rest.len == in.len : rest.at == in.at);
    check_frames(in, err, value.len);
    check_render(MSGPACK_TIMES_FLUENT, in, err, value);
    check_render(MSGPACK_TIMES_STANDARD, in, err, value);
    return 0;
}
