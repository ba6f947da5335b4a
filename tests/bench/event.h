/* event: the event that every benchmark sends: a whole CloudEvent with an id of its own. */
#ifndef PENSTOCK_BENCH_EVENT_H
#define PENSTOCK_BENCH_EVENT_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct event_shape {
    uint64_t seed;  /* of the run; part of the id */
    uint64_t bytes; /* about the length */
    uint64_t types; /* that many types in turn */
};

/* Nothing but what an event must have, where more would be longer than asked for. */
static inline size_t put_small_event(char *out, uint64_t n, const struct event_shape *shape)
{
    int len = snprintf(out, 400, "{\"specversion\":\"1.0\",\"id\":\"%llu-%llu\",\"source\":\"/b\",\"type\":\"bench.request.%llu\"",
                       (unsigned long long)shape->seed, (unsigned long long)n,
                       (unsigned long long)(n % shape->types));
    len += snprintf(out + len, 40, ",\"data\":%llu}", (unsigned long long)(n * 31 % 900));
    return (size_t)len;
}

/* Writes event `n` and returns its length; `out` has room for bytes + 400. Its fields are of the kind that
 * programs send, its padding compresses about as well as text does. */
static inline size_t put_event(char *out, uint64_t n, const struct event_shape *shape)
{
    static const char *const paths[] = {"/cart", "/pay", "/search", "/login", "/item/91"};
    if (shape->bytes < 250)
        return put_small_event(out, n, shape);
    int len = snprintf(
        out, 400,
        "{\"specversion\":\"1.0\",\"id\":\"%llu-%llu\",\"source\":\"/bench\",\"type\":\"bench.request.%llu\","
        "\"subject\":\"user-%llu\",\"time\":\"2026-05-04T09:12:33.%03lluZ\",\"data\":{\"path\":\"%s\","
        "\"ms\":%llu.%llu,\"ok\":%s,\"host\":\"web-%llu\",\"pad\":\"",
        (unsigned long long)shape->seed, (unsigned long long)n, (unsigned long long)(n % shape->types),
        (unsigned long long)(n * 7919 % 5000), (unsigned long long)(n % 1000), paths[n % 5],
        (unsigned long long)(n * 31 % 900), (unsigned long long)(n % 10), n % 17 == 0 ? "false" : "true",
        (unsigned long long)(n % 40));
    uint64_t x = n * UINT64_C(0x9e3779b97f4a7c15) + 1;
    while ((uint64_t)len + 3 < shape->bytes) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        out[len++] = "etaoinshrdlucmfw"[x & 15];
    }
    memcpy(out + len, "\"}}", 3);
    return (size_t)len + 3;
}

#endif
