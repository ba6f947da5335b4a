/* fuzz_api_judge: an upstream's answer is input too. First byte: which api; second and third: status; then
 * Retry-After up to a LF, the partition's kind by the next byte, and the body. The verdict must be complete.
 */
#include "lib/api/api.h"
#include "lib/base/ensure.h"

static void check_verdict(const struct api_verdict *v, unsigned count)
{
    ensure(v->action <= ACT_PER_EVENT);
    ensure(v->result != NULL);
    ensure(v->reason < DEAD_REASONS);
    ensure(v->noted <= count);
    ensure(v->action != ACT_PER_EVENT || v->events != NULL);
    for (unsigned i = 0; v->action == ACT_PER_EVENT && i < count; i++) {
        enum api_action a = v->events[i].action;
        ensure(a == ACT_DELIVERED || a == ACT_RETRY || a == ACT_DEAD);
        ensure(v->events[i].reason < DEAD_REASONS);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct api_member members[] = {
        {.id = {(const uint8_t *)"e0", 2}, .body = {(const uint8_t *)"{\"type\":\"sdk-log\"}", 18}},
        {.id = {(const uint8_t *)"e1", 2}, .body = {(const uint8_t *)"{}", 2}},
        {.id = {(const uint8_t *)"e2", 2}, .body = {(const uint8_t *)"{}", 2}},
    };
    if (size < 4)
        return 0;
    unsigned count = 0, api_count = 0;
    while (api_all()[api_count] != NULL)
        api_count++;
    const struct api *api = api_all()[data[0] % api_count];
    struct api_reply reply = {.status = 100 * (data[1] % 7) + data[2] % 100,
                              .wall_ns = UINT64_C(1777885953004000000)};
    bool opaque = data[3] & 1;
    count = opaque ? 1 : 3;
    struct span rest = span_of(data + 4, size - 4);
    const uint8_t *lf = rest.len == 0 ? NULL : memchr(rest.at, '\n', rest.len);
    if (lf != NULL) {
        reply.retry_after = reply.ratelimit = span_of(rest.at, (size_t)(lf - rest.at));
        rest = span_of(lf + 1, rest.len - reply.retry_after.len - 1);
    }
    reply.body = rest;
    reply.body_cut = data[3] & 2;
    reply.content_type = data[3] & 4 ? SPAN("application/msgpack") : SPAN("application/json");
    struct arena arena;
    arena_init(&arena, 4096, 32 << 20);
    struct api_settings s = {.api = api, .output_name = "out", .agent_name = "fuzz", .limits = api->limits};
    struct api_batch b = {.members = members,
                          .count = count,
                          .attempts = data[3] >> 4,
                          .payload_id = SPAN("id"),
                          .partition = opaque ? SPAN("POST /diagnostic\n") : SPAN("a/b")};
    struct api_verdict v = {.unknown_max = 0};
    api->judge(&s, &b, &reply, &arena, &v);
    check_verdict(&v, count);
    arena_deinit(&arena);
    return 0;
}
